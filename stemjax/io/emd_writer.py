"""Files for py4DSTEM and emdfile: EMD 1.0, a data cube with its calibration, images and spectra beside it.

The layout is that of the emdfile 1.0 specification and of files written by py4DSTEM 0.14. Rows come first in both
programs: Rx and Qx are y, and QR_rotation is the angle that stemjax calls `scan_rotation`.
"""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stemjax.core.errors import InputError
from stemjax.forward.recording import CONDITION_UNITS, Dataset, Recording
from stemjax.io.atomic import atomic_hdf5
from stemjax.io.conditions import check_conditions, plain_conditions
from stemjax.io.dataset import axes_of, check_signals
from stemjax.io.hdf5_native import UNITS, counts_size, write_counts
from stemjax.io.tree import escaped, write_array
from stemjax.optics.electron import wavelength

if TYPE_CHECKING:
    import h5py

Axis = tuple[str, float, float, str]
"""Name, step, value at index 0 and unit of an axis."""

UNIT_NAMES = {"Å": "A", "": "pixels"}
"""Units as py4DSTEM spells them."""

AXIS_NAMES = {"y": "Rx", "x": "Ry"}
"""Axes as py4DSTEM names them; rows first."""


def write_emd(path: str | os.PathLike, dataset: Dataset, *, compress: bool = True) -> None:
    """Write an EMD 1.0 file that py4DSTEM and emdfile open, whole or not at all.

    The data cube is `/datacube_root/datacube`; images and spectra are arrays below it under their names. Optics and
    conditions, in the units of stemjax, are its metadata `stemjax`. A detector is calibrated in 1/Å
    where the energy is known, else in mrad. Pixels that are not square have their mean size in the calibration, which
    holds one number, and their own in the metadata.

    Args:
        path: The file (`.h5` or `.emd`).
        dataset: What was recorded; counts may be a `PatternStream`.
        compress: Whether to pack the counts.

    Raises:
        InputError: There are no counts, conditions cannot be, or the file cannot be written; nothing was changed.

    >>> import tempfile
    >>> from stemjax.io.read import read_recording
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_emd(f"{folder}/a.h5", Dataset(Recording(np.ones((2, 3, 4, 4), np.uint8), scan_step=(0.5, 0.5))))
    ...     read_recording(f"{folder}/a.h5").scan_step
    (0.5, 0.5)
    """
    recording = dataset.recording
    if not counts_size(recording.counts):
        raise InputError("no patterns for a data cube; write images and spectra with write_dataset or write_hyperspy")
    check_conditions(recording)
    check_signals(dataset)
    with atomic_hdf5(path, needed=0 if compress else counts_size(recording.counts)) as file:
        file.attrs.update({"emd_group_type": "file", "version_major": 1, "version_minor": 0})
        file.attrs.update({"authoring_program": "stemjax", "authoring_user": "", "UUID": str(uuid.uuid4())})
        root = group_of(file, "datacube_root", "root", "Root")
        cube = group_of(root, "datacube", "array", "DataCube")
        write_counts(cube, "data", recording.counts, compress=compress).attrs["units"] = "count"
        write_axes(cube, cube_axes(recording), recording.counts.shape)
        write_calibration(root, recording)
        bundle = group_of(cube, "metadatabundle", "metadatabundle")
        write_items(group_of(bundle, "stemjax", "metadata", "Metadata"), metadata_of(recording))
        write_arrays(cube, dataset)


def group_of(parent: h5py.Group, name: str, kind: str, python_class: str = "") -> h5py.Group:
    """A group that says what it is."""
    group = parent.create_group(name)
    group.attrs["emd_group_type"] = kind
    if python_class:
        group.attrs["python_class"] = python_class
    return group


def cube_axes(recording: Recording) -> list[Axis]:
    """The axes of the data cube: scan in Å, detector in 1/Å or mrad, pixels where nothing is known."""
    step, (sampling, unit) = recording.scan_step, detector_calibration(recording)
    scan = [("Rx" if n == 0 else "Ry", step[n] if step else 1.0, 0.0, "A" if step else "pixels") for n in (0, 1)]
    return scan + [("Qx" if n == 0 else "Qy", sampling[n], 0.0, unit) for n in (0, 1)]


def detector_calibration(recording: Recording) -> tuple[tuple[float, float], str]:
    """Size of a detector pixel (y, x) and its unit."""
    if recording.detector_sampling is None:
        return (1.0, 1.0), "pixels"
    y, x = recording.detector_sampling
    if recording.energy is None:
        return (y, x), "mrad"
    factor = 1e3 * wavelength(recording.energy)
    return (y / factor, x / factor), "A^-1"


def write_axes(group: h5py.Group, axes: Sequence[Axis], shape: Sequence[int]) -> None:
    """Vectors dim0, dim1, ...: the first two values of each axis, which a linear axis is made of."""
    for n, ((name, step, offset, unit), length) in enumerate(zip(axes, shape, strict=True)):
        node = group.create_dataset(f"dim{n}", data=offset + step * np.arange(min(2, length), dtype=float))
        node.attrs["name"], node.attrs["units"] = name, unit


def write_calibration(root: h5py.Group, recording: Recording) -> None:
    """The calibration of the tree, which py4DSTEM reads its pixel sizes from."""
    bundle = group_of(root, "metadatabundle", "metadatabundle")
    (qy, qx), unit = detector_calibration(recording)
    entries: dict[str, Any] = {"Q_pixel_size": math.sqrt(qy * qx), "Q_pixel_units": unit}
    step = recording.scan_step
    entries |= {
        "R_pixel_size": math.sqrt(step[0] * step[1]) if step else 1.0,
        "R_pixel_units": "A" if step else "pixels",
    }
    if recording.scan_rotation is not None:
        entries |= {"QR_rotation": math.radians(recording.scan_rotation), "QR_flip": False}
        entries["QR_rotation_degrees"] = recording.scan_rotation
    if recording.semiangle is not None:
        entries["probe_convergence_semiangle_mrad"] = recording.semiangle
    entries |= {"_root_treepath": "", "_target_paths": ["/datacube"]}
    write_items(group_of(bundle, "calibration", "metadata", "Calibration"), entries)


def metadata_of(recording: Recording) -> dict[str, Any]:
    """Optics and conditions in the units of stemjax; what the calibration already has exactly is left to it."""
    entries: dict[str, Any] = {}
    for name in UNITS:
        value = getattr(recording, name)
        square = isinstance(value, tuple) and value[0] == value[1]
        if value is not None and not square and name != "scan_rotation":
            entries[name] = value
    entries |= plain_conditions(recording.conditions)
    units = {k: UNITS.get(k) or CONDITION_UNITS[k] for k in entries}
    return entries | {"units": {k: v for k, v in units.items() if v}}


def write_arrays(cube: h5py.Group, dataset: Dataset) -> None:
    """Images and spectra as arrays below the data cube; a name that is taken gets its kind before it."""
    for kind, signals in (("image", dataset.images), ("spectrum", dataset.spectra)):
        for name, signal in signals.items():
            node = escaped(name)
            group = group_of(cube, node if node not in cube else f"{kind}_{node}", "array", "Array")
            write_array(group, "data", np.asarray(signal.values))
            group["data"].attrs["units"] = signal.units
            axes = [(AXIS_NAMES.get(n, n), step, start, UNIT_NAMES.get(u, u)) for n, step, start, u in axes_of(signal)]
            write_axes(group, axes, np.shape(signal.values))
            entries = {
                k: v for k in ("detector", "collection_semiangle") if (v := getattr(signal, k, None)) is not None
            }
            if entries:
                bundle = group_of(group, "metadatabundle", "metadatabundle")
                write_items(group_of(bundle, "stemjax", "metadata", "Metadata"), {**entries, "units": "mrad"})


def write_items(group: h5py.Group, entries: Mapping[str, Any]) -> None:
    """Metadata, each entry with the attribute `type` that emdfile reads it by."""
    for name, value in entries.items():
        if isinstance(value, Mapping):
            below = group.create_group(name)
            below.attrs["type"] = "dict"
            write_items(below, value)
        elif isinstance(value, list):  # of texts
            below = group.create_group(name)
            below.attrs["type"], below.attrs["length"] = "list_of_strings", len(value)
            for number, text in enumerate(value):
                below[str(number)] = text.encode()
        else:
            group[name] = value.encode() if isinstance(value, str) else np.asarray(value)
            group[name].attrs["type"] = item_type(value)


def item_type(value: Any) -> str:
    """The word of emdfile for a kind of value.

    >>> item_type(1.0), item_type(True), item_type("a"), item_type((1.0, 2.0)), item_type(np.zeros(2))
    ('number', 'bool', 'string', 'tuple', 'array')
    """
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, tuple):
        return "tuple"
    return "number" if np.ndim(value) == 0 else "array"
