"""The checksum that ties a result to the file it was made from."""

from __future__ import annotations

import hashlib
import os

from stemjax.io.failures import existing_file, reading


def sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes, read in pieces (FIPS 180-4).

    Args:
        path: The file.

    Returns:
        64 hexadecimal digits.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     sha256(file.name)[:16]
    'e3b0c44298fc1c14'
    """
    file = existing_file(path, empty=True)
    with reading(file, "bytes"), file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
