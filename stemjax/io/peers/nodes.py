"""Entries of another program's HDF5 file, each with an error that names what is missing or of the wrong kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stemjax.core.errors import InputError
from stemjax.io.hdf5_tree import plain

if TYPE_CHECKING:
    import h5py


def node_at(group: h5py.Group, path: str) -> h5py.Dataset:
    """The dataset at a path; the error lists what lies beside it."""
    import h5py

    node = group.get(path)
    if isinstance(node, h5py.Dataset) and node.shape is not None:
        return node
    above = group.get(path.rpartition("/")[0] or "/") if "/" in path else group
    beside = ", ".join(list(above)[:8]) if isinstance(above, h5py.Group) else ""
    raise InputError(
        f"{group.file.filename} has no array {path!r}{f' (beside it: {beside})' if beside else ''}; it is not whole, or of "  # noqa: E501
        "a version that is not known here: save it again"
    )


def array(group: h5py.Group, path: str, axes: tuple[int, ...], *, kind: str = "biufc") -> np.ndarray:
    """Numbers at a path.

    Args:
        group: Where to look.
        path: Path of the dataset.
        axes: Numbers of axes that it may have.
        kind: Kinds of numbers that it may be of (numpy's letters).

    Raises:
        InputError: It is missing, or of another kind.
    """
    node = node_at(group, path)
    found = complex_of(node[()]) if node.dtype.kind == "V" else np.asarray(node[()])
    if found.dtype.kind not in kind or found.ndim not in axes or 0 in found.shape:
        wanted = "complex numbers" if kind == "c" else "numbers"
        raise InputError(
            f"{group.file.filename}: {path!r} holds {found.dtype} of shape {found.shape}; wanted {wanted} with "
            f"{' or '.join(str(n) for n in axes)} axes"
        )
    return found


def complex_of(values: Any) -> np.ndarray:
    """Complex numbers from pairs named real and imag, as MATLAB writes them; other records as they are."""
    values = np.asarray(values)
    if set(values.dtype.names or ()) != {"real", "imag"}:
        return values
    return values["real"] + 1j * values["imag"]


def number(group: h5py.Group, path: str) -> float:
    """A single number at a path; the error says what stands there instead."""
    value = plain(node_at(group, path)[()])
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{group.file.filename}: {path!r} is {value!r}; wanted a number")
    return float(value)


def entry(group: h5py.Group, path: str, default: Any = None) -> Any:
    """A number, text or short list at a path, or a default where there is none."""
    import h5py

    node = group.get(path)
    if not isinstance(node, h5py.Dataset) or node.shape is None:
        return default
    value = plain(node[()])
    return default if value is None else value


def entries(group: h5py.Group, path: str) -> dict[str, Any]:
    """Every number, text or short list in a group, by name; nothing where there is no such group."""
    import h5py

    below = group.get(path)
    if not isinstance(below, h5py.Group):
        return {}
    found = {name: entry(below, name) for name in below}
    return {name: value for name, value in found.items() if value is not None}
