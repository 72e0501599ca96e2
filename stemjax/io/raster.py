"""Turning what a file holds into patterns on a raster [scan_y scan_x ky kx]."""

from __future__ import annotations

from typing import Any

import numpy as np

from stemjax.core.errors import InputError
from stemjax.io.lazy_counts import LazyCounts, loaded

AXES = ("scan_y", "scan_x", "ky", "kx")


def arranged(
    source: Any, path: str, *, scan_shape: tuple[int, int] | None = None, axes: str | None = None, lazy: bool = False
) -> Any:
    """Counts [scan_y scan_x ky kx] of an array of four axes, or of three with the shape of the scan.

    Args:
        source: What can be sliced: an array, an h5py dataset, a memory map.
        path: The file, for messages.
        scan_shape: Number of scan positions (y, x); needed for a stack of patterns, checked for a raster.
        axes: Order of the axes in the file, where it is another: "ky kx scan_y scan_x", "kx ky pattern", ...
        lazy: Leave the counts on the disk.

    Returns:
        An array, or `LazyCounts`.

    >>> arranged(np.zeros((6, 4, 4)), "a.npy", scan_shape=(2, 3)).shape
    (2, 3, 4, 4)
    >>> arranged(np.zeros((4, 5, 6)), "a.npy", scan_shape=(2, 3), axes="kx ky pattern").shape
    (2, 3, 5, 4)
    """
    shape = tuple(int(n) for n in source.shape)
    if axes is not None:
        order = axis_order(axes, len(shape), path)
        permuted = np.transpose(np.asarray(source[...]), order)
        return arranged(permuted, path, scan_shape=scan_shape, lazy=lazy)
    if len(shape) not in (3, 4):
        raise InputError(
            f"{path}: an array {shape} is no 4D-STEM data; wanted [scan_y scan_x ky kx] or [pattern ky kx]"
        )
    if 0 in shape:
        raise InputError(f"{path}: an array {shape} holds no patterns; the recording may have been stopped at once")
    raster = checked_raster(shape, scan_shape, path)
    counts = LazyCounts(source, raster, path)
    return counts if lazy else loaded(counts)


def checked_raster(shape: tuple[int, ...], scan_shape: tuple[int, int] | None, path: str) -> tuple[int, int]:
    """The shape of the scan (y, x), or the error that says which shapes the data allow."""
    if len(shape) == 4:
        if scan_shape is not None and tuple(scan_shape) != shape[:2]:
            raise InputError(
                f"{path}: scan shape {tuple(scan_shape)} given, but the file has a raster {shape[:2]} of patterns "
                f"{shape[2:]}; leave scan_shape (data.scan_shape) out, or give axes (data.axes) if the order is another"
            )
        return shape[0], shape[1]
    if scan_shape is None:
        raise InputError(
            f"{path}: a stack {shape} of patterns; give scan_shape (y, x) (data.scan_shape), for example "
            f"one of {products(shape[0])}"
        )
    ny, nx = scan_shape
    if ny < 1 or nx < 1 or ny * nx != shape[0]:
        raise InputError(
            f"{path}: scan shape ({ny}, {nx}) means {ny * nx} patterns, the file has {shape[0]}; "
            f"fitting: {products(shape[0])}"
        )
    return int(ny), int(nx)


def products(count: int, most: int = 4) -> str:
    """Factorisations of a number of patterns, the squarest first.

    >>> products(4096, 2), products(7)
    ('64 x 64, 32 x 128', '1 x 7')
    """
    pairs = [(d, count // d) for d in range(int(count**0.5), 0, -1) if count % d == 0]
    return ", ".join(f"{a} x {b}" for a, b in pairs[:most]) or "none"


def axis_order(axes: str, count: int, path: str) -> tuple[int, ...]:
    """Permutation that brings named axes into the package's order.

    >>> axis_order("ky kx scan_y scan_x", 4, "a.h5")
    (2, 3, 0, 1)
    """
    names = axes.replace(",", " ").split()
    wanted = AXES if count == 4 else ("pattern", "ky", "kx")
    if sorted(names) != sorted(wanted):
        raise InputError(
            f"{path}: axes {axes!r} given for an array of {count} axes; name each once: {' '.join(wanted)}"
        )
    return tuple(names.index(w) for w in wanted)


def scan_shape_of(value: Any, path: str) -> tuple[int, int]:
    """Two positive whole numbers (y, x) of what a person or a file gave."""
    try:
        ny, nx = (int(v) for v in value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: scan shape {value!r}; give two whole numbers (y, x)") from error
    return ny, nx
