"""What a person sees while a job runs: a bar on a terminal, two lines elsewhere; the log gets every event."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager, suppress
from typing import Any, Protocol, TextIO, final

from stemjax.app.log import Log


class Reporter(Protocol):
    """What a job tells while it runs."""

    def start(self, title: str, epochs: int, done: int = 0) -> None:
        """The job begins; `done` epochs were done by an earlier run."""

    def epoch(self, number: int, loss: float, **fields: Any) -> None:
        """`number` epochs are done."""

    def message(self, text: str, **fields: Any) -> None:
        """Something that a person should know."""

    def finish(self, text: str, **fields: Any) -> None:
        """The job ends."""


@final
class LineReporter:
    """Writes the first line, messages and the last line: for files, pipes and queues."""

    def __init__(self, stream: TextIO, log: Log | None = None) -> None:
        self._stream, self._log = stream, log
        self._begin, self._epochs, self._loss = time.monotonic(), 0, float("nan")

    def start(self, title: str, epochs: int, done: int = 0) -> None:
        self._begin, self._epochs = time.monotonic(), done
        self._line(f"{title}: {epochs_text(epochs)}" + (f", {done} done before" if done else ""))
        _tell(self._log, "start", title=title, epochs=epochs, done=done)

    def epoch(self, number: int, loss: float, **fields: Any) -> None:
        self._epochs, self._loss = number, float(loss)
        _tell(self._log, "epoch", epoch=number, loss=self._loss, **fields)

    def message(self, text: str, **fields: Any) -> None:
        self._line(text)
        _tell(self._log, "message", text=text, **fields)

    def finish(self, text: str, **fields: Any) -> None:
        seconds = time.monotonic() - self._begin
        way = f"{epochs_text(self._epochs)}, loss {self._loss:.6g}, " if self._epochs else ""
        self._line(f"{text} ({way}{duration(seconds)})")
        _tell(self._log, "finish", text=text, seconds=round(seconds, 3), **fields)

    def _line(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


@final
class BarReporter:
    """Draws a bar with epoch, loss, rate and time left: for terminals."""

    def __init__(self, stream: TextIO, log: Log | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._log, self._begin, self._done = log, time.monotonic(), 0
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("epoch {task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
        )
        self._progress = Progress(*columns, console=Console(file=stream))
        self._task = self._progress.add_task("", total=1, state="", visible=False)

    def start(self, title: str, epochs: int, done: int = 0) -> None:
        self._begin, self._done, self._epochs = time.monotonic(), done, epochs
        self._progress.start()
        self._progress.update(
            self._task, description=title, total=epochs, completed=done, state="compiling", visible=True
        )
        _tell(self._log, "start", title=title, epochs=epochs, done=done)

    def epoch(self, number: int, loss: float, **fields: Any) -> None:
        seconds = (time.monotonic() - self._begin) / max(number - self._done, 1)
        held = f", held out {fields['held_out']:.6g}" if "held_out" in fields else ""
        state = (
            f"loss {float(loss):.6g}{held}, {rate_text(seconds)}, {duration(seconds * (self._epochs - number))} left"
        )
        self._progress.update(self._task, completed=number, state=state)
        _tell(self._log, "epoch", epoch=number, loss=float(loss), **fields)

    def message(self, text: str, **fields: Any) -> None:
        self._progress.console.print(text, markup=False, highlight=False)
        _tell(self._log, "message", text=text, **fields)

    def finish(self, text: str, **fields: Any) -> None:
        self._progress.stop()
        self._progress.console.print(text, markup=False, highlight=False)
        _tell(self._log, "finish", text=text, seconds=round(time.monotonic() - self._begin, 3), **fields)

    def close(self) -> None:
        """Give the terminal back, also after a failure."""
        self._progress.stop()


@final
class Reporting(AbstractContextManager[Reporter]):
    """A reporter that fits a stream, and that leaves the terminal in order whatever happens.

    Args:
        stream: Where lines or the bar go; standard error unless told.
        log: An open log that gets every event.
    """

    def __init__(self, stream: TextIO | None = None, log: Log | None = None) -> None:
        stream = sys.stderr if stream is None else stream
        self._reporter = BarReporter(stream, log) if stream.isatty() else LineReporter(stream, log)

    def __enter__(self) -> Reporter:
        return self._reporter

    def __exit__(self, *_: object) -> None:
        if isinstance(self._reporter, BarReporter):
            self._reporter.close()


def duration(seconds: float) -> str:
    """A time as a person says it.

    >>> duration(4.26), duration(75), duration(7320)
    ('4.3 s', '1 min 15 s', '2 h 2 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def epochs_text(number: int) -> str:
    """A number of epochs in words.

    >>> epochs_text(1), epochs_text(40)
    ('1 epoch', '40 epochs')
    """
    return f"{number} epoch" if number == 1 else f"{number} epochs"


def rate_text(seconds: float) -> str:
    """The pace of epochs, the way round that has no small numbers.

    >>> rate_text(2.5), rate_text(0.1)
    ('2.5 s/epoch', '10 epochs/s')
    """
    return f"{seconds:.3g} s/epoch" if seconds >= 1 else f"{1 / max(seconds, 1e-9):.3g} epochs/s"


def _tell(log: Log | None, event: str, **fields: Any) -> None:
    # A full disk shall not end a run that goes well.
    if log is not None:
        with suppress(OSError):
            log.write(event, **fields)
