"""Trying a file out in another process.

The HDF5 library, and some readers of makers' formats, can crash or run for ever on damaged bytes; no exception can be
caught then. A child process takes the blow.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from stemjax.core.errors import InputError
from stemjax.io.failures import existing_file


def probe(path: str | os.PathLike, *, seconds: float = 30.0) -> None:
    """Make sure that a file can be looked into without a crash and in bounded time; costs about a second.

    For a program that must not die of its input (the command line, a notebook). A file that merely cannot be read
    passes: reading it raises the proper `InputError`.

    Args:
        path: The file.
        seconds: Time after which it counts as hanging [s].

    Raises:
        InputError: There is no such file, or looking into it crashes or hangs.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "a.h5"
    ...     _ = file.write_bytes(b"not HDF5")
    ...     probe(file)
    """
    run_child([sys.executable, "-m", "stemjax.io.probe"], existing_file(path), seconds)


def run_child(command: Sequence[str], path: Path, seconds: float) -> None:
    """Run a command on a file; a signal or the end of the time is an error, an exit code is not."""
    try:
        done = subprocess.run(
            [*command, str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"{path} was still being looked into after {seconds:g} s; it is corrupt: copy or export it again"
        ) from error
    if done.returncode < 0:
        raise InputError(
            f"{path} crashes its reader (signal {-done.returncode}); it is corrupt: copy or export it again"
        )


def main() -> int:
    """What the child does: describe the file; 3 where that is refused."""
    from stemjax.io.describe import describe_file

    try:
        describe_file(sys.argv[1])
    except InputError:
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
