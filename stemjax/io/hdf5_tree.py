"""Looking into any HDF5 file: its arrays, their attributes, as plain Python values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stemjax.core.errors import InputError, nearest
from stemjax.io.failures import reading

if TYPE_CHECKING:
    import h5py

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MOST = 2000
"""Datasets looked at in one file; a listing of more helps nobody."""


def is_hdf5(path: Path) -> bool:
    """Whether a file starts as HDF5, behind a user block (MATLAB writes 512 bytes) if there is one."""
    with path.open("rb") as file:
        for offset in (0, 512, 1024, 2048):
            file.seek(offset)
            if file.read(8) == SIGNATURE:
                return True
    return False


@contextmanager
def open_hdf5(path: Path, kind: str = "HDF5") -> Iterator[h5py.File]:
    """An HDF5 file open for reading; every failure inside the block names the file."""
    import h5py

    with suppress(ImportError):  # brings the filters of detector makers where the person has it
        import hdf5plugin  # noqa: F401
    with reading(path, kind):
        try:
            file = h5py.File(path, "r")
        except OSError as error:
            if "truncated file" in str(error):
                raise InputError(f"{path} is cut short: {shortfall(str(error))}; copy it again") from error
            if "unable to lock" in str(error):
                raise InputError(f"{path} is being written by another program; wait until it has closed it") from error
            raise
        with file:
            yield file


def shortfall(message: str) -> str:
    """How many bytes are there and how many should be, out of the HDF5 library's words."""
    import re

    found = dict(re.findall(r"(eof|stored_eof) = (\d+)", message))
    if len(found) < 2:
        return "its end is missing"
    return f"{found['eof']} of {found['stored_eof']} bytes are there"


def datasets(
    group: h5py.Group, prefix: str = "", seen: set[tuple[int, int]] | None = None
) -> Iterator[tuple[str, h5py.Dataset]]:
    """Every array below a group with its path, once; external links are followed, broken ones are passed over.

    Args:
        group: Where to start.
        prefix: Path of the group.
        seen: Objects already visited (file, address), so that a circle of links ends.
    """
    import h5py

    seen = set() if seen is None else seen
    for name in group:
        try:
            node = group[name]
            place = h5py.h5o.get_info(node.id)
        except (KeyError, OSError, RuntimeError):  # a link to what is not there
            continue
        if (place.fileno, place.addr) in seen:
            continue
        seen.add((place.fileno, place.addr))
        if isinstance(node, h5py.Dataset):
            yield f"{prefix}/{name}", node
        elif isinstance(node, h5py.Group):
            yield from datasets(node, f"{prefix}/{name}", seen)


def listing(file: h5py.File, axes: int | None = None) -> dict[str, h5py.Dataset]:
    """Numeric arrays of a file by path; only those with a number of axes where one is given."""
    found: dict[str, h5py.Dataset] = {}
    for path, node in datasets(file):
        if node.dtype.kind in "biufc" and (axes is None or node.ndim == axes):
            found[path] = node
        if len(found) >= MOST:
            break
    return found


def listed(found: dict[str, Any], most: int = 8) -> str:
    """Arrays in a message: path, shape, type.

    >>> listed({"/a": np.zeros((2, 3), "u1")})
    '/a (2, 3) uint8'
    """
    text = ", ".join(f"{k} {tuple(v.shape)} {v.dtype}" for k, v in list(found.items())[:most])
    return text + (f", and {len(found) - most} more" if len(found) > most else "")


def dataset_at(file: h5py.File, key: str, path: Path) -> h5py.Dataset:
    """The array under a key; the error lists what there is."""
    import h5py

    found = listing(file)
    node = file.get(key)
    if not isinstance(node, h5py.Dataset):
        inside = f"arrays in it: {listed(found)}" if found else "it holds no arrays"
        near = f"; {nearest('/' + key.strip('/'), found)}" if found else ""
        raise InputError(f"{path} has no array under the key {key!r}; {inside}{near}")
    if node.dtype.kind not in "biuf":
        raise InputError(f"{path}: {key!r} holds {node.dtype}, counts are real numbers; {listed(found)}")
    return node


def attributes(node: Any) -> dict[str, Any]:
    """Attributes of a group or array as plain values; what cannot be read is left out."""
    values: dict[str, Any] = {}
    for name in node.attrs:
        with suppress(OSError, TypeError, ValueError, RuntimeError):
            value = plain(node.attrs[name])
            if value is not None:
                values[name] = value
    return values


def scalars(group: h5py.Group) -> dict[str, Any]:
    """Arrays of at most four numbers, and short texts, that lie directly in a group, as plain values."""
    import h5py

    values: dict[str, Any] = {}
    for name in list(group)[:MOST]:
        with suppress(KeyError, OSError, TypeError, ValueError, RuntimeError):
            node = group[name]
            if isinstance(node, h5py.Dataset) and node.shape is not None and node.size <= 4:
                value = plain(node[()])
                if value is not None:
                    values[name] = value
    return values


def plain(value: Any) -> Any:
    """A number, text or list from what h5py gives; None for what is neither.

    >>> plain(np.float64(2.0)), plain(b"nm"), plain(np.array([1, 2])), plain(np.array([3.0]))
    (2.0, 'nm', [1, 2], 3.0)
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, str | bool | int | float):
        return value
    array = np.asarray(value)
    if array.dtype.kind not in "biufUSO" or array.size > 1000:
        return None
    if array.size == 1:
        return plain(array.ravel()[0].item()) if array.dtype.kind != "O" else plain_object(array.ravel()[0])
    return [plain_object(v) if array.dtype.kind in "OS" else v for v in array.ravel().tolist()]


def plain_object(value: Any) -> Any:
    """Text of an entry of a list of texts; None for anything else."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str | int | float) else None
