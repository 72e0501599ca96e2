"""The package's own file: `/counts` [scan_y scan_x ky kx] with the optics as attributes (docs/file-format.md)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stemjax.core.errors import InputError
from stemjax.forward.recording import Recording
from stemjax.io.atomic import atomic_hdf5
from stemjax.io.blocks import blocks
from stemjax.io.conditions import check_conditions, read_conditions, write_conditions
from stemjax.io.hdf5_bare import read_bare
from stemjax.io.hdf5_tree import dataset_at, open_hdf5
from stemjax.io.json_text import from_json, to_json

if TYPE_CHECKING:
    import h5py

FORMAT = "stemjax-4d"
VERSION = "1"
UNITS = {
    "energy": "eV",
    "scan_step": "Å",
    "detector_sampling": "mrad",
    "semiangle": "mrad",
    "defocus": "Å",
    "scan_rotation": "degree",
    "electrons_per_count": "electron",
}
"""Fields of a recording that become attributes, and their units."""


def read_native(
    path: Path,
    *,
    key: str | None = None,
    scan_shape: tuple[int, int] | None = None,
    axes: str | None = None,
    lazy: bool = False,
) -> Recording:
    """Read a file that `write_recording` wrote.

    Args:
        path: The file.
        key: Path of another array in the file, where somebody added one; `/counts` unless given.
        scan_shape: Number of scan positions (y, x); checked against the file's.
        axes: Order of the axes, where somebody stored them in another than [scan_y scan_x ky kx].
        lazy: Leave the counts on the disk.
    """
    with open_hdf5(path, "a stemjax 4D file") as file:
        check_version(file, str(path))
        node = dataset_at(file, key or "/counts", path)
        known, name = shared_fields(file, node), node.name
    counts = read_bare(path, key=name, scan_shape=scan_shape, axes=axes, lazy=lazy).counts
    return Recording(counts=counts, source={"path": str(path), "key": name, "format": FORMAT}, **known)


def check_version(file: h5py.File, path: str) -> None:
    """Refuse a file whose meaning this code does not know; "1.3" only adds to "1"."""
    version = str(file.attrs.get("version", "?"))
    if version.split(".")[0] != VERSION:
        raise InputError(f"{path} has version {version} of {FORMAT}; this stemjax reads {VERSION}: update stemjax")


def shared_fields(file: h5py.File, node: h5py.Dataset | None = None) -> dict[str, Any]:
    """Optics, metadata and conditions of a file, as fields of a `Recording`.

    Args:
        file: An open file.
        node: The array of counts, whose attributes win over those of the group of conditions.
    """
    entries = dict(file["conditions"].attrs) if "conditions" in file else {}
    entries |= {} if node is None else dict(node.attrs)
    metadata = from_json(file["metadata"].asstr()[()]) if "metadata" in file else {}
    known = {k: own(entries[k]) for k in UNITS if k in entries}
    return {**known, "metadata": metadata, "conditions": read_conditions(file)}


def own(value: Any) -> Any:
    """A number, or a pair of them, from an attribute."""
    array = np.asarray(value, float)
    return float(array) if array.ndim == 0 else tuple(float(v) for v in array)


def write_recording(path: str | os.PathLike, recording: Recording, *, compress: bool = True) -> None:
    """Write patterns and what is known of the optics, whole or not at all.

    Args:
        path: The file; the extension is up to the caller (`.h5`).
        recording: Counts [scan_y scan_x ky kx], which may lie on the disk or come as a `PatternStream`, the optics and
            the conditions.
        compress: Whether to pack the counts (gzip 1 with shuffle; two to five times smaller, ten times slower).

    Raises:
        InputError: The file cannot be written; nothing was changed.

    >>> import tempfile
    >>> from stemjax.io.read import read_recording
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_recording(f"{folder}/a.h5", Recording(np.ones((2, 3, 4, 4), np.uint8), energy=80e3))
    ...     read_recording(f"{folder}/a.h5").energy
    80000.0
    """
    with atomic_hdf5(path, needed=0 if compress else counts_size(recording.counts)) as file:
        write_patterns(file, recording, compress=compress)


def counts_size(counts: Any) -> int:
    """Bytes of all counts, unpacked."""
    return int(np.prod(counts.shape, dtype=object)) * np.dtype(counts.dtype).itemsize


def write_patterns(file: h5py.File, recording: Recording, *, compress: bool = True) -> None:
    """Format, counts where there are any, optics, conditions and metadata into an open, empty file."""
    check_conditions(recording)
    file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
    write_conditions(file, recording.conditions)
    holder: Any = file["conditions"]
    if counts_size(recording.counts):
        holder = write_counts(file, "counts", recording.counts, compress=compress)
        holder.attrs["units"], holder.attrs["long_name"] = "count", "Diffraction patterns"
        holder.attrs["dims"] = ["scan_y", "scan_x", "ky", "kx"]
    for name, unit in UNITS.items():
        if getattr(recording, name) is not None:
            holder.attrs[name], holder.attrs[f"{name}_units"] = getattr(recording, name), unit
    file["metadata"] = to_json(recording.metadata)


def write_counts(group: h5py.Group, name: str, counts: Any, *, compress: bool = True) -> h5py.Dataset:
    """Patterns as an array, a block at a time, packed where asked for, with a checksum."""
    packing = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if compress else {}
    chunks = chunk_shape(tuple(counts.shape), np.dtype(counts.dtype).itemsize)
    node = group.create_dataset(name, counts.shape, counts.dtype, chunks=chunks, fletcher32=True, **packing)
    start = 0
    for block in blocks(counts):
        node[start : start + len(block)] = block
        start += len(block)
    return node


def chunk_shape(shape: tuple[int, ...], itemsize: int, target: int = 2**20) -> tuple[int, ...]:
    """Whole patterns of one scan row, about a megabyte together.

    >>> chunk_shape((64, 64, 128, 128), 2)
    (1, 32, 128, 128)
    """
    pattern = max(1, shape[2] * shape[3] * itemsize)
    return 1, max(1, min(shape[1], target // pattern)), shape[2], shape[3]
