"""The EMD 1.0 layout of py4DSTEM and emdfile: a data cube with a calibration beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stemjax.core.errors import InputError
from stemjax.forward.recording import Conditions, Recording
from stemjax.io.conditions import conditions_from
from stemjax.io.hdf5_bare import check_filters, lazy_dataset
from stemjax.io.hdf5_tree import attributes, dataset_at, datasets, listed, listing, open_hdf5, scalars
from stemjax.io.optics_names import FREQUENCY, UNITS, optics_from
from stemjax.io.raster import arranged

if TYPE_CHECKING:
    import h5py


def is_py4dstem(file: h5py.File) -> bool:
    """Whether an open HDF5 file says that it is EMD 1.0."""
    return "emd_group_type" in file.attrs and int(file.attrs.get("version_major", 0)) >= 1


def read_py4dstem(
    path: Path,
    *,
    key: str | None = None,
    scan_shape: tuple[int, int] | None = None,
    axes: str | None = None,
    lazy: bool = False,
) -> Recording:
    """Read a data cube `/<root>/<cube>/data` [Rx Ry Qx Qy], where Rx and Qx are the slow axes (rows).

    The calibration (`metadatabundle/calibration`: Q_pixel_size, R_pixel_size with their units, QR_rotation [rad]) goes
    into `scan_step`, `detector_sampling` and `scan_rotation`; a size in pixels is no calibration. Source: the emdfile
    1.0 specification, and files written by py4DSTEM 0.14.

    Args:
        path: The file.
        key: Path of the data cube, or of its array; may be left out where there is one.
        scan_shape: Number of scan positions (y, x) for a stack.
        axes: Order of the axes in the file, where it is another.
        lazy: Leave the counts on the disk.
    """
    with open_hdf5(path, "EMD 1.0 (py4DSTEM)") as file:
        node = cube(file, key, path)
        check_filters(node, path)
        source = lazy_dataset(path, node.name, node) if lazy and axes is None else node
        counts = arranged(source, str(path), scan_shape=scan_shape, axes=axes, lazy=lazy)
        entries = calibration(file, node)
        origin = {"path": str(path), "key": node.name, "format": "EMD 1.0 (py4DSTEM)"}
        conditions = own_conditions(node)
        fields = fields_of({k: v for k, v in entries.items() if k not in conditions.told()})
        return Recording(counts=counts, source=origin, conditions=conditions, **fields)


def cube(file: h5py.File, key: str | None, path: Path) -> h5py.Dataset:
    """The array of the data cube."""
    if key is not None:
        group = f"{key.rstrip('/')}/data"
        return dataset_at(file, group if group in file else key, path)
    found = {k: v for k, v in listing(file, 4).items() if v.parent.attrs.get("python_class") == "DataCube"}
    found = found or {k: v for k, v in listing(file, 4).items() if k.endswith("/data")}
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise InputError(f"{path} has {len(found)} data cubes; give key (data.key), one of: {listed(found)}")
    inside = listed(listing(file)) or "nothing"
    raise InputError(f"{path} is an EMD 1.0 file without a data cube; arrays in it: {inside}")


def calibration(file: h5py.File, node: h5py.Dataset) -> dict[str, Any]:
    """Entries of every metadata group of the tree that the data cube belongs to, without the group's path."""
    import h5py

    root = file[node.name.strip("/").split("/")[0]]
    entries: dict[str, Any] = {}
    for place in (root, node.parent):
        bundle = place.get("metadatabundle")
        for name in bundle if isinstance(bundle, h5py.Group) else ():
            if isinstance(bundle[name], h5py.Group):
                entries |= {k: v for k, v in scalars(bundle[name]).items() if not k.startswith("_")}
    return entries | axis_sizes(node, entries) | attributes(node)


def own_conditions(node: h5py.Dataset) -> Conditions:
    """The conditions that `stemjax.io.emd_writer` wrote beside the data cube; none of another program's file."""
    import h5py

    group = node.parent.get("metadatabundle/stemjax")
    if not isinstance(group, h5py.Group):
        return Conditions()
    entries = {k: v[()] for k, v in group.items() if isinstance(v, h5py.Dataset)}
    below = group.get("aberrations")
    if isinstance(below, h5py.Group):
        entries["aberrations"] = {k: v[()] for k, v in below.items()}
    return conditions_from(entries)


def axis_sizes(node: h5py.Dataset, entries: dict[str, Any]) -> dict[str, Any]:
    """Pixel sizes out of the axis vectors dim0 and dim2, for a file without a calibration group."""
    found: dict[str, Any] = {}
    vectors = {k.strip("/"): v for k, v in datasets(node.parent) if k.startswith("/dim")}
    for axis, label in (("dim0", "R"), ("dim2", "Q")):
        vector = vectors.get(axis)
        if f"{label}_pixel_size" not in entries and vector is not None and vector.size >= 2:
            units = vector.attrs.get("units", "pixels")
            found[f"{label}_pixel_size"] = float(np.diff(np.asarray(vector[:2], float))[0])
            found[f"{label}_pixel_units"] = str(units)
    return found


def fields_of(entries: dict[str, Any]) -> dict[str, Any]:
    """Fields of a recording out of the calibration."""
    entries = dict(entries)
    pixels = {s: pixel_size(entries.pop(f"{s}_pixel_size", None), entries.pop(f"{s}_pixel_units", None)) for s in "RQ"}
    if "QR_rotation" in entries:
        entries["rotation_rad"] = entries.pop("QR_rotation")
    fields = optics_from(entries)
    if pixels["R"] and pixels["R"][0] == "length" and "scan_step" not in fields:  # one that is not square has a pair
        fields["scan_step"] = (pixels["R"][1],) * 2
    if pixels["Q"] and pixels["Q"][0] == "angle" and "detector_sampling" not in fields:
        fields["detector_sampling"] = (pixels["Q"][1],) * 2
    if pixels["Q"] and pixels["Q"][0] == "frequency":
        fields["metadata"][FREQUENCY] = (pixels["Q"][1],) * 2
    return fields


def pixel_size(size: Any, units: Any) -> tuple[str, float] | None:
    """Kind and size of a pixel in Å, mrad or 1/Å; None where it is not calibrated.

    >>> pixel_size(0.05, "nm"), pixel_size(1, "pixels")
    (('length', 0.5), None)
    """
    unit = UNITS.get(str(units).strip().lower())
    if unit is None or not isinstance(size, int | float) or not np.isfinite(size) or size <= 0:
        return None
    return unit[0], float(size * unit[1])
