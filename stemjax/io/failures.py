"""From whatever goes wrong inside a reader to one line for the person."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stemjax.core.errors import InputError, nearest


def one_line(error: BaseException, length: int = 160) -> str:
    """The message of an error on one line, cut to a length.

    >>> one_line(ValueError("bad\\n  header"))
    'bad header'
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= length else text[: length - 3] + "..."


def existing_file(path: str | os.PathLike, *, empty: bool = False) -> Path:
    """The path of a readable file that is not empty; else the error says what lies there instead.

    Args:
        path: The path that a person gave.
        empty: Whether a file of no bytes will do.
    """
    file = Path(path)
    if file.is_dir():
        raise InputError(f"{file} is a folder; give a file in it")
    if not file.exists():
        raise InputError(f"no file {file}; {what_is_there(file)}")
    if not os.access(file, os.R_OK):
        raise InputError(f"{file} may not be read; change its permissions")
    if not empty and file.stat().st_size == 0:
        raise InputError(f"{file} is empty (0 bytes); copy or export it again")
    return file


def what_is_there(file: Path) -> str:
    """Files of a similar name, or how far the path exists."""
    if not file.parent.is_dir():
        return f"there is no folder {file.parent}"
    beside = sorted(p.name for p in file.parent.iterdir() if p.suffix.lower() in DATA_SUFFIXES)
    close = nearest(file.name, beside)
    if close.startswith("nearest"):
        return close
    shown = ", ".join(beside[:5]) + (f" and {len(beside) - 5} more" if len(beside) > 5 else "")
    return f"data in {file.parent}: {shown or 'none'}"


DATA_SUFFIXES = (
    *(".h5", ".hdf5", ".hspy", ".zspy", ".emd", ".de5", ".nxs", ".mat", ".npy", ".npz", ".raw", ".xml", ".mib", ".hdr"),
    *(".dm3", ".dm4", ".ser", ".emi", ".blo", ".mrc", ".tvips", ".prz", ".tif", ".tiff", ".bin", ".seq"),
)
"""Extensions that files of patterns have."""


@contextmanager
def reading(path: str | os.PathLike, kind: str) -> Iterator[None]:
    """Turn every failure of a reader into an `InputError` that names the file and the format tried.

    Args:
        path: The file.
        kind: What it is read as, for the message.
    """
    try:
        yield
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{path} does not fit into memory; read it with lazy=True, or a crop of it") from error
    except ImportError as error:
        raise InputError(f"{path} needs a package that is not installed: {one_line(error)}; install it") from error
    except Exception as error:  # readers of foreign bytes raise nearly anything when the bytes are wrong
        raise InputError(
            f"{path} cannot be read as {kind}: {one_line(error)}; it may be cut short or corrupt: copy or export it "
            "again"
        ) from error
