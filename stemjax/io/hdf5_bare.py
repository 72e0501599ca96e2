"""HDF5 files of any maker: one array of patterns, and attributes under the names that people use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemjax.core.errors import InputError
from stemjax.forward.recording import Recording
from stemjax.io.hdf5_tree import attributes, dataset_at, listed, listing, open_hdf5, scalars
from stemjax.io.optics_names import optics_from
from stemjax.io.raster import arranged

if TYPE_CHECKING:
    import h5py


def read_bare(
    path: Path,
    *,
    key: str | None = None,
    scan_shape: tuple[int, int] | None = None,
    axes: str | None = None,
    lazy: bool = False,
) -> Recording:
    """Read an array of patterns out of an HDF5 file that follows no layout.

    Optics are looked for in the attributes of the array, of the groups above it and of the file, and in scalars that
    lie beside it; see `stemjax.io.optics_names`.

    Args:
        path: The file.
        key: Path of the array in the file; may be left out where only one can be meant.
        scan_shape: Number of scan positions (y, x) for a stack [pattern ky kx].
        axes: Order of the axes in the file, where it is another than [scan_y scan_x ky kx].
        lazy: Leave the counts on the disk.
    """
    with open_hdf5(path) as file:
        node = dataset_at(file, key, path) if key else only_patterns(file, path)
        check_filters(node, path)
        source = lazy_dataset(path, node.name, node) if lazy and axes is None else node
        counts = arranged(source, str(path), scan_shape=scan_shape, axes=axes, lazy=lazy)
        fields = optics_from(surroundings(file, node))
        return Recording(counts=counts, source={"path": str(path), "key": node.name, "format": "HDF5"}, **fields)


def lazy_dataset(path: Path, key: str, node: h5py.Dataset) -> Any:
    """The same array through a handle of its own, which lives as long as it is used."""
    import h5py

    if node.file.filename != str(path):  # behind an external link
        return h5py.File(node.file.filename, "r")[node.name]
    return h5py.File(path, "r")[key]


def only_patterns(file: h5py.File, path: Path) -> h5py.Dataset:
    """The one array that can be meant: the only one of four axes, else the only one of three."""
    for axes in (4, 3):
        found = {k: v for k, v in listing(file, axes).items() if v.dtype.kind != "c" and min(v.shape[-2:]) > 1}
        if len(found) == 1:
            return next(iter(found.values()))
        if found:
            raise InputError(
                f"{path} has {len(found)} arrays of {axes} axes; give key (data.key), one of: {listed(found)}"
            )
    everything = listing(file)
    inside = f"arrays in it: {listed(everything)}" if everything else "it holds no arrays"
    raise InputError(f"{path} holds no 4D-STEM data [scan_y scan_x ky kx]; {inside}")


def surroundings(file: h5py.File, node: h5py.Dataset) -> dict[str, Any]:
    """Attributes and scalars from the file's root down to the array; the nearest wins."""
    entries = {**scalars(file), **attributes(file)}
    group, parts = file, node.name.strip("/").split("/")[:-1]
    for part in parts:
        group = group.get(part)
        if group is None:  # the array lies in another file
            break
        entries |= {**scalars(group), **attributes(group)}
    return entries | attributes(node)


def check_filters(node: h5py.Dataset, path: Path) -> None:
    """Refuse an array packed by a filter that this installation of HDF5 lacks."""
    import h5py

    properties = node.id.get_create_plist()
    for number in range(properties.get_nfilters()):
        code, _, _, name = properties.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            label = name.decode("utf-8", "replace") or "no name"
            raise InputError(
                f"{path}: {node.name} is packed with the HDF5 filter {code} ({label}), which is not installed; "
                "install the package hdf5plugin"
            )
