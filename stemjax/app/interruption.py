"""SIGINT and SIGTERM during a job: what is said, and with which status the process ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """A job was told to end; the message says what is on the disk and how to go on.

    Args:
        text: The message.
        number: The signal.
    """

    def __init__(self, text: str, number: int = signal.SIGINT) -> None:
        super().__init__(text)
        self.status = 128 + number


@dataclass
class Signals:
    """What has arrived, and what is done about it.

    Args:
        advice: What a person is told: what is on the disk, how to go on.
        patient: Whether the first signal is only noted, for the job to end at the next good moment.
        told: The signal that was noted; 0 for none.
    """

    advice: str = "nothing was written"
    patient: bool = False
    told: int = 0

    def receive(self, number: int, frame: FrameType | None = None) -> None:  # noqa: ARG002 - signature of a handler
        """Note a signal, or obey it: at once where the job is not patient, and the second one always."""
        second, self.told = self.told != 0, self.told or number
        if second or not self.patient:
            self.obey()

    def obey(self) -> None:
        """End the job if a signal has arrived."""
        if self.told:
            raise Interrupted(f"interrupted; {self.advice}", self.told)

    def hasty(self, advice: str) -> None:
        """From here on signals are obeyed at once, one that was noted now."""
        self.patient, self.advice = False, advice
        self.obey()


@contextmanager
def watched(advice: str = "nothing was written") -> Iterator[Signals]:
    """Take SIGINT and SIGTERM over while it lasts.

    Args:
        advice: What a person is told at first.

    >>> with watched() as signals:
    ...     signals.told
    0
    """
    signals = Signals(advice)
    try:
        before = {number: signal.signal(number, signals.receive) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: nobody sends signals here
        yield signals
        return
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
