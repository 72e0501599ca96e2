"""A cell cut into slices: how thick they are, and which holds an atom."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.core.typing import Array, Float, Int
from stemjax.specimen.structure import Structure

BORDER = 1e-3
"""A plane of atoms on the border of two slices belongs to the lower one, also if rounding puts it short of it [Å]."""

Slices = int | tuple[float, ...]
"""Number of equal slices, or the thickness of each from the entrance surface down [Å]."""


def checked_slices(structure: Structure, grid: Grid, slices: int | Sequence[float]) -> Slices:
    """Refuse a grid or slices that do not fill the cell; a traced cell cannot be looked at and is taken on trust.

    Args:
        structure: Atoms in their cell.
        grid: Grid that must span the cell.
        slices: Number of equal slices, or the thickness of each from the entrance surface down [Å].

    Returns:
        The slices as a number or a tuple, which `jax.jit` takes as static.

    Raises:
        InputError: The cell and the grid differ, or the slices do not add up to the cell.

    >>> from stemjax.specimen.structure import make_structure
    >>> checked_slices(make_structure([[0, 0, 0]], [6], [2, 4, 4]), Grid((8, 8), (0.5, 0.5)), [0.5, 1.5])
    (0.5, 1.5)
    """
    thickness = None if isinstance(slices, int | np.integer) else np.asarray(slices, float)
    if thickness is None and slices < 1:  # type: ignore[operator]
        raise InputError(f"{slices} slices; give at least one")
    if thickness is not None and (thickness.ndim != 1 or not thickness.min(initial=1.0) > 0 or not len(thickness)):
        raise InputError(f"slice thicknesses {thickness.tolist()} must be a list of positive lengths in Å")
    if not isinstance(structure.cell, jax.core.Tracer):
        _check_cell(np.asarray(structure.cell, float), grid, thickness)
    return int(slices) if thickness is None else tuple(thickness.tolist())  # type: ignore[arg-type]


def _check_cell(cell: np.ndarray, grid: Grid, thickness: np.ndarray | None) -> None:
    """Refuse a cell that the grid or the slices do not fill."""
    if not np.allclose(cell[1:], grid.extent, rtol=1e-4):
        given, wanted = (f"{y:.4f} x {x:.4f} Å" for y, x in (grid.extent, cell[1:]))
        raise InputError(f"the grid spans {given} (y, x) but the cell {wanted}; make it with cell_grid(structure, ...)")
    if thickness is not None and abs(thickness.sum() - cell[0]) > BORDER:
        raise InputError(f"the slices add up to {thickness.sum():.4f} Å but the cell is {cell[0]:.4f} Å deep")


def slice_of_atoms(structure: Structure, slices: Slices) -> tuple[Float[Array, "slice"], Int[Array, "atom"]]:
    """Thickness of every slice [Å] and the slice of every atom.

    >>> from stemjax.specimen.structure import make_structure
    >>> slice_of_atoms(make_structure([[0, 0, 0], [1, 0, 0]], [6, 6], [2, 4, 4]), 2)[1].tolist()
    [0, 1]
    """
    depth = structure.cell[0]
    if isinstance(slices, int):
        thickness = jnp.broadcast_to(depth / slices, (slices,))
    else:
        thickness = jnp.asarray(slices, depth.dtype)
    z = jnp.mod(structure.positions[:, 0] + BORDER, depth)
    return thickness, jnp.searchsorted(jnp.cumsum(thickness)[:-1], z, side="right").astype(jnp.int32)
