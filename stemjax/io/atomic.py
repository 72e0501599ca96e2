"""Write a file whole or not at all."""

from __future__ import annotations

import errno
import io
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemjax.core.errors import InputError

if TYPE_CHECKING:
    import h5py

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The system's words for: no more bytes will go there."""


class WholeFile(io.RawIOBase):
    """A temporary file that remembers its first failed write instead of raising it.

    The HDF5 library cannot close a file cleanly after a write has failed: it tries again when the interpreter ends. So
    the library is told that all went well, the failure is kept in `failure`, and `atomic_file` raises it at the end.
    """

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        self.descriptor = os.open(path, flags, 0o666)
        self.failure: OSError | None = None
        self.written = 0

    def readable(self) -> bool:
        """True: the HDF5 library reads back what it wrote."""
        return True

    def writable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position [byte]."""
        return os.lseek(self.descriptor, offset, whence)

    def truncate(self, size: int | None = None) -> int:
        """Set the length [byte]; the present position where none is given."""
        size = self.tell() if size is None else size
        if self.failure is None:
            self.attempt(lambda: os.ftruncate(self.descriptor, size))
        return size

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from the present position; the number of bytes read."""
        view = memoryview(buffer).cast("B")
        data = os.read(self.descriptor, len(view))
        view[: len(data)] = data
        return len(data)

    def write(self, data: Any) -> int:
        """Write all bytes, or remember why that was impossible."""
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view) and self.failure is None:
            done += self.attempt(lambda rest=view[done:]: os.write(self.descriptor, rest)) or 0
        self.written += len(view)
        return len(view)

    def attempt(self, action: Any) -> Any:
        """The value of an action on the file, or None with its error kept."""
        try:
            return action()
        except OSError as error:
            self.failure = error
            return None

    def sync(self) -> None:
        """Bring the bytes to the disk."""
        if self.failure is None:
            self.attempt(lambda: os.fsync(self.descriptor))

    def close(self) -> None:
        """Close the file once."""
        if not self.closed:
            os.close(self.descriptor)
        super().close()


@contextmanager
def atomic_file(path: str | os.PathLike, *, needed: int = 0) -> Iterator[WholeFile]:
    """Open a file for writing that appears under its name only when it is complete.

    The bytes go to a hidden file in the same folder, which is synchronised and then renamed; whatever fails, the hidden
    file is removed and an older file of that name stays as it was.

    Args:
        path: Where the file shall be. A symbolic link is followed.
        needed: Bytes that will be written at least; refused at once where the disk has less. 0 when not known.

    Returns:
        A context manager that gives a binary file object.

    Raises:
        InputError: The folder does not exist or is not writable, or the disk is full.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_file(f"{folder}/a.txt") as file:
    ...         _ = file.write(b"whole")
    ...     Path(f"{folder}/a.txt").read_text()
    'whole'
    """
    target = Path(os.path.realpath(path))
    check_target(target, needed)
    hidden = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.tmp")
    try:
        file = WholeFile(hidden)
    except OSError as error:
        raise write_error(target, error, needed) from error
    try:
        yield from finish(file, hidden, target, needed)
    finally:
        file.close()
        with suppress(FileNotFoundError):
            hidden.unlink()


def finish(file: WholeFile, hidden: Path, target: Path, needed: int) -> Iterator[WholeFile]:
    """Hand out the file, then put it in its place; any failure to write comes out as one line."""
    try:
        yield file
    except Exception as error:
        # After a failed write the library reads rubbish back; the first failure is the one that explains.
        if file.failure is None:
            raise
        raise write_error(target, file.failure, max(needed, file.written)) from error
    try:
        file.sync()
        if file.failure is None:
            file.close()
            os.replace(hidden, target)
    except OSError as error:
        file.failure = error
    if file.failure is not None:
        raise write_error(target, file.failure, max(needed, file.written)) from file.failure
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Bring the new name to the disk; systems that cannot open a folder go without."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_target(target: Path, needed: int) -> None:
    """Refuse a target that is a folder, lies in no folder, or has less space than needed."""
    if target.is_dir():
        raise InputError(f"cannot write {target}: it is a folder; give the name of a file in it")
    if not target.parent.is_dir():
        raise InputError(f"cannot write {target}: there is no folder {target.parent}; make it first")
    free = shutil.disk_usage(target.parent).free
    if needed > free:
        raise InputError(f"cannot write {target}: {size_text(needed)} needed, {size_text(free)} free; make room first")


def write_error(target: Path, error: OSError, needed: int) -> InputError:
    """The failure of a write in one line that says what to do."""
    if error.errno in FULL:
        least = f"at least {size_text(needed)} needed; " if needed else ""
        return InputError(
            f"cannot write {target}: {os.strerror(error.errno or 0)}; {least}free space or write elsewhere "
            "(nothing was changed)"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return InputError(f"cannot write {target}: no permission; choose a folder that you may write to")
    return InputError(f"cannot write {target}: {error.strerror or error}; nothing was changed")


def size_text(size: float) -> str:
    """A number of bytes as a person reads it.

    >>> size_text(137000000), size_text(512)
    ('137 MB', '512 bytes')
    """
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{int(size)} bytes"


def write_atomically(path: str | os.PathLike, content: str | bytes) -> None:
    """Write a whole text (UTF-8) or a whole sequence of bytes; see `atomic_file`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(f"{folder}/b.txt", "Å")
    ...     Path(f"{folder}/b.txt").read_bytes()
    b'\\xc3\\x85'
    """
    data = content.encode() if isinstance(content, str) else content
    with atomic_file(path, needed=len(data)) as file:
        file.write(data)


@contextmanager
def atomic_hdf5(path: str | os.PathLike, *, needed: int = 0) -> Iterator[h5py.File]:
    """Open an HDF5 file for writing that appears under its name only when it is complete; see `atomic_file`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_hdf5(f"{folder}/a.h5") as file:
    ...         file["x"] = [1.0, 2.0]
    ...     os.listdir(folder)
    ['a.h5']
    """
    import h5py

    with atomic_file(path, needed=needed) as file, h5py.File(file, "w") as hdf5:
        yield hdf5
