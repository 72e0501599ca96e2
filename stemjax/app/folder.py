"""The folder of a run: one process writes to it at a time, and a refused run leaves none behind."""

from __future__ import annotations

import json
import os
import platform
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stemjax.core.errors import InputError

LOCK = ".lock"
"""Name of the file that a running job keeps in its folder; it holds process and host."""

LOG = "log.jsonl"
"""Name of the log of a run."""


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Make a folder and keep other processes out of it.

    The lock is a file that only one process can create (O_EXCL). One that a dead process of this host left behind is
    taken over; this process may claim the same folder again inside. An `InputError` inside removes folders that were
    made here, if nothing but an empty run's log lies in them.

    Args:
        folder: Folder of the results.

    Raises:
        InputError: Another process writes to it, or it cannot be made.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as base, claimed(Path(base) / "run"):
    ...     (Path(base) / "run" / LOCK).exists()
    True
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    logged = (folder / LOG).exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        owner = _take(folder / LOCK)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}; choose another folder with -o") from None
    refused = False
    try:
        yield
    except InputError:
        refused = True
        raise
    finally:
        if owner:
            (folder / LOCK).unlink(missing_ok=True)
            if refused:
                _remove_empty(folder, made, logged=logged)


def _take(lock: Path) -> bool:
    """Create the lock; False where this process holds it already."""
    text = json.dumps({"process": os.getpid(), "host": platform.node()})
    for _ in range(3):
        try:
            descriptor = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            process, host = _holder(lock)
            if (process, host) == (os.getpid(), platform.node()):
                return False
            if host != platform.node() or _alive(process):
                raise InputError(
                    f"another run (process {process} on {host}) writes to {lock.parent}; wait for it, choose another "
                    f"folder with -o, or remove {lock} if there is no such run"
                ) from None
            _discard(lock, process)
            continue
        with os.fdopen(descriptor, "w") as file, suppress(OSError):  # a full disk: an empty lock still locks
            file.write(text)
        return True
    raise InputError(f"another run writes to {lock.parent}; wait for it, or choose another folder with -o")


def _holder(lock: Path) -> tuple[int, str]:
    """Process and host in a lock; (0, this host) for an unreadable one, which nobody can be asked about."""
    try:
        entry = json.loads(lock.read_text())
        return int(entry["process"]), str(entry["host"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0, platform.node()


def _alive(process: int) -> bool:
    """Whether a process of this host runs; where that cannot be asked without harm, True."""
    if process <= 0:
        return False
    if os.name == "nt":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _discard(lock: Path, process: int) -> None:
    """Remove a stale lock by renaming it, so that of two that try one does it; a fresh one goes back."""
    aside = lock.with_name(f"{lock.name}.{secrets.token_hex(4)}")
    with suppress(FileNotFoundError):
        lock.rename(aside)
        if _holder(aside)[0] != process:
            with suppress(OSError):
                os.link(aside, lock)
        aside.unlink()


def _remove_empty(folder: Path, made: list[Path], *, logged: bool) -> None:
    """Remove what a refused run made: its log where nothing else was written, and its folders, the innermost first."""
    with suppress(OSError):
        if not logged and [entry.name for entry in folder.iterdir()] == [LOG]:
            (folder / LOG).unlink()
        for path in made:
            path.rmdir()
