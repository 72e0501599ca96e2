"""Arrays that numpy wrote: `.npy` and `.npz`. Nothing in them is ever executed (`allow_pickle=False`)."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from stemjax.core.errors import InputError, nearest
from stemjax.forward.recording import Recording
from stemjax.io.failures import reading
from stemjax.io.hdf5_tree import listed, plain
from stemjax.io.optics_names import optics_from
from stemjax.io.raster import arranged

MAGIC = b"\x93NUMPY"


def read_numpy(
    path: Path,
    *,
    key: str | None = None,
    scan_shape: tuple[int, int] | None = None,
    axes: str | None = None,
    lazy: bool = False,
) -> Recording:
    """Read patterns out of `.npy` (mapped into memory with `lazy`) or `.npz` (scalars beside them are taken as optics).

    Args:
        path: The file.
        key: Name of the array in a `.npz`; may be left out where only one can be meant.
        scan_shape: Number of scan positions (y, x) for a stack [pattern ky kx].
        axes: Order of the axes in the file, where it is another than [scan_y scan_x ky kx].
        lazy: Leave the counts of a `.npy` on the disk.
    """
    zipped, entries = zipfile.is_zipfile(path), dict[str, Any]()
    with reading(path, "a numpy file"):
        if not zipped:
            array, key = open_array(path), ""
        else:
            key, array, entries = open_archive(path, key)
    counts = arranged(array, str(path), scan_shape=scan_shape, axes=axes, lazy=lazy and not zipped)
    origin = {"path": str(path), "key": key, "format": "npz" if zipped else "npy"}
    return Recording(counts=counts, source=origin, **optics_from(entries))


def open_array(path: Path) -> np.ndarray:
    """A `.npy` file mapped into memory."""
    with path.open("rb") as file:
        if file.read(6) != MAGIC:
            raise InputError(
                f"{path} does not start as a numpy file; it is corrupt, or of another format than its name"
            )
    return np.load(path, mmap_mode="r", allow_pickle=False)


def header(file: Any) -> Header:
    """Shape and type at the start of an open `.npy` file."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return Header(shape, dtype)


def open_archive(path: Path, key: str | None) -> tuple[str, np.ndarray, dict[str, Any]]:
    """Name and values of the array of patterns in a `.npz`, and the small entries beside it."""
    headers = archive_headers(path)
    name = key if key is not None else only_patterns(headers, path)
    if name not in headers:
        raise InputError(f"{path} has no array {name!r}; {nearest(name, headers)}")
    check_numeric(headers[name].dtype, f"{path}: {name}")
    with np.load(path, allow_pickle=False) as archive:
        small = [n for n, h in headers.items() if h.size <= 4 and h.dtype.kind in "biufSU"]
        return name, archive[name], {n: plain(archive[n]) for n in small if n != name}


class Header:
    """Shape and type of an array that has not been read."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.shape, self.dtype, self.ndim = shape, dtype, len(shape)
        self.size = int(np.prod(shape, dtype=object))


def archive_headers(path: Path) -> dict[str, Header]:
    """Shape and type of every array of a `.npz`, without reading the arrays."""
    found = {}
    with reading(path, "a numpy archive"), zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            if not member.endswith(".npy"):
                continue
            with archive.open(member) as file:
                found[member[:-4]] = header(file)
    return found


def only_patterns(headers: dict[str, Header], path: Path) -> str:
    """Name of the only array of four axes, else of three."""
    for axes in (4, 3):
        names = [n for n, h in headers.items() if h.ndim == axes and h.dtype.kind in "biuf"]
        if len(names) == 1:
            return names[0]
        if names:
            raise InputError(
                f"{path} has {len(names)} arrays of {axes} axes; give key (data.key), one of: {', '.join(names)}"
            )
    inside = listed(headers) or "nothing"
    raise InputError(f"{path} holds no 4D-STEM data [scan_y scan_x ky kx]; arrays in it: {inside}")


def check_numeric(dtype: np.dtype, where: str) -> None:
    """Refuse what is not real numbers."""
    if dtype.kind not in "biuf":
        raise InputError(f"{where} holds {dtype}, counts are real numbers; export the intensities")
