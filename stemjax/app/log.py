"""A log as JSON lines: one event a line, on the disk as soon as it is written, readable by any program."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO, final

from stemjax.core.errors import InputError


@final
class Log:
    """An open log file; made by `open_log`."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, event: str, **fields: Any) -> None:
        """Add a line {"time": seconds since 1970, "event": event, ...fields}."""
        self._file.write(json_line({"time": round(time.time(), 3), "event": event, **fields}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.write("error", kind=type(error).__name__, message=str(error))
        self.close()


def open_log(path: str | Path) -> Log:
    """Open a log to add to; a run that is taken up again goes on in the same file."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Log(path.open("a", encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another folder with -o") from None


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """The events of a log; a last line that was cut off by a crash is left out."""
    events = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return events


def json_line(fields: Mapping[str, Any]) -> str:
    """One line of strict JSON; numbers that JSON lacks (nan, inf) become null.

    >>> json_line({"event": "epoch", "loss": float("nan")})
    '{"event": "epoch", "loss": null}'
    """
    return json.dumps(_plain(fields), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | None) else str(value)
