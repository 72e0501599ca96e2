"""Atoms in an orthogonal cell: what a specimen is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.typing import Annotated, Array, Float, real_dtype

if TYPE_CHECKING:
    from ase import Atoms


class Structure(struct.PyTreeNode):
    """Atoms in an orthogonal periodic cell; vectors are (z, y, x), the beam travels along +z.

    Every array is a leaf that can be learned. Make one with `make_structure` or `from_ase`.
    """

    positions: Annotated[Float[Array, "atom 3"], "Å"]
    """Place of every atom (z, y, x) [Å]; outside the cell it stands for its periodic image."""
    occupancy: Annotated[Float[Array, "atom"], "1"]
    """Weight of every atom; two elements on one site are two atoms with weights that add to one."""
    rms_displacement: Annotated[Float[Array, "atom"] | Float[Array, "atom 3"], "Å"]
    """Root of the mean square displacement along one axis [atom], the same in all directions, or along each of the
    axes (z, y, x) [atom 3]; 0 for an atom at rest [Å]."""
    cell: Annotated[Float[Array, "3"], "Å"]
    """Lengths of the cell's edges (z, y, x) [Å]."""
    numbers: tuple[int, ...] = struct.field(pytree_node=False)
    """Atomic number of every atom."""
    sites: tuple[int, ...] = struct.field(pytree_node=False)
    """Class of every atom: atoms of one class share the element and, in a gridded potential, the displacement."""


def make_structure(
    positions: npt.ArrayLike,
    numbers: npt.ArrayLike,
    cell: npt.ArrayLike,
    *,
    occupancy: npt.ArrayLike = 1.0,
    rms_displacement: npt.ArrayLike = 0.0,
) -> Structure:
    """Check and make a `Structure`.

    Args:
        positions: Places [atom 3] as (z, y, x) [Å].
        numbers: Atomic numbers [atom].
        cell: Edge lengths (z, y, x) [Å].
        occupancy: Weight of every atom, or one for all.
        rms_displacement: One-dimensional rms displacement of every atom, or one for all, or one along (z, y, x) of
            every atom [atom 3] [Å].

    Returns:
        The structure, in the float type in force; atoms of the same element and displacement form a site class.

    Raises:
        InputError: A shape does not fit, a value is not finite or lies outside its range.

    >>> s = make_structure([[0, 0, 0], [1, 1, 1]], [38, 22], [2, 4, 4], rms_displacement=0.08)
    >>> s.positions.shape, s.numbers, s.sites
    ((2, 3), (38, 22), (1, 0))
    """
    places, edges = np.asarray(positions, float), np.asarray(cell, float)
    elements = np.asarray(numbers, int)
    _check_shapes(places, elements, edges)
    weight = _per_atom("occupancy", occupancy, len(elements))
    displacement = _displacements(rms_displacement, len(elements))
    return Structure(
        positions=jnp.asarray(places, real_dtype()),
        occupancy=jnp.asarray(weight, real_dtype()),
        rms_displacement=jnp.asarray(displacement, real_dtype()),
        cell=jnp.asarray(edges, real_dtype()),
        numbers=tuple(int(z) for z in elements),
        sites=site_classes(elements, displacement),
    )


def site_classes(numbers: npt.ArrayLike, rms_displacement: npt.ArrayLike) -> tuple[int, ...]:
    """Number the classes of atoms with the same element and the same displacement (to 1e-6 Å), ordered by element.

    >>> site_classes([8, 22, 8, 8], [0.1, 0.1, 0.1, 0.2])
    (0, 2, 0, 1)
    """
    keys = np.column_stack([np.asarray(numbers, float), np.round(np.asarray(rms_displacement, float), 6)])
    if not len(keys):
        return ()
    return tuple(int(i) for i in np.unique(keys, axis=0, return_inverse=True)[1].ravel())


def _check_shapes(positions: np.ndarray, numbers: np.ndarray, cell: np.ndarray) -> None:
    """Refuse arrays that do not describe atoms in a cell."""
    if positions.ndim != 2 or positions.shape[1] != 3 or not len(positions):
        raise InputError(
            f"positions have shape {positions.shape}; give one row (z, y, x) in Å for every atom, at least one"
        )
    if numbers.shape != positions.shape[:1]:
        raise InputError(f"{numbers.size} atomic numbers for {len(positions)} positions; give one for every atom")
    if numbers.min() < 1 or numbers.max() > 103:
        raise InputError(f"atomic numbers reach from {numbers.min()} to {numbers.max()}; they must lie in 1 to 103")
    if cell.shape != (3,) or not np.isfinite(cell).all() or cell.min() <= 0:
        raise InputError(f"cell {cell.tolist()} must be three positive edge lengths (z, y, x) in Å")
    if not np.isfinite(positions).all():
        atom = int(np.argwhere(~np.isfinite(positions))[0, 0])
        raise InputError(f"the position of atom {atom} is {positions[atom].tolist()}; every coordinate must be finite")


def _per_atom(name: str, value: npt.ArrayLike, count: int) -> np.ndarray:
    """One non-negative number for every atom from an array or a single number."""
    array = np.asarray(value, float)
    if array.shape not in ((), (count,)):
        raise InputError(f"{name} has shape {array.shape} for {count} atoms; give one number, or one for every atom")
    if not np.isfinite(array).all() or array.min(initial=0.0) < 0:
        raise InputError(f"{name} holds {array.min():g}; every value must be finite and not negative")
    return np.broadcast_to(array, (count,)).copy()


def _displacements(value: npt.ArrayLike, count: int) -> np.ndarray:
    """Displacements [atom], or [atom 3] where they are given along the axes."""
    array = np.asarray(value, float)
    if array.ndim != 2:
        return _per_atom("rms_displacement", array, count)
    if array.shape != (count, 3):
        raise InputError(
            f"rms_displacement has shape {array.shape} for {count} atoms; give [atom], or [atom 3] along (z, y, x)"
        )
    return _per_atom("rms_displacement", array.ravel(), 3 * count).reshape(count, 3)


def from_ase(atoms: Atoms, *, rms_displacement: npt.ArrayLike | None = None) -> Structure:
    """A structure from ase's atoms in an orthogonal cell; x, y and z stay, the order of the columns turns round.

    The arrays `occupancies` (one number an atom) and `rms_displacement` (one number, or three along ase's x, y, z) of
    the atoms are taken where they exist.

    Args:
        atoms: Any `ase.Atoms` whose cell vectors lie along x, y and z.
        rms_displacement: One-dimensional rms displacement of every atom, or one for all, or one along (z, y, x) of
            every atom [Å].

    Returns:
        The structure, its atoms wrapped into the cell.

    Raises:
        InputError: The cell is not orthogonal or has no volume.

    >>> from ase.build import bulk
    >>> [round(edge, 2) for edge in from_ase(bulk("Au", cubic=True)).cell.tolist()]
    [4.08, 4.08, 4.08]
    """
    matrix = np.asarray(atoms.cell.array, float)
    edges = np.diag(matrix)
    if abs(np.linalg.det(matrix)) < 1e-6:
        lengths = atoms.cell.lengths().round(3).tolist()
        raise InputError(f"the atoms' cell has edges {lengths} Å and no volume; give it a size along x, y and z")
    if np.abs(matrix - np.diag(edges)).max() > 1e-4 * np.abs(matrix).max() or edges.min() <= 0:
        angles = atoms.cell.angles().round(2).tolist()
        raise InputError(
            f"the cell is not orthogonal along x, y, z (angles {angles} degree); "
            "make one with stemjax.specimen.crystal.orthogonal_cell"
        )
    if rms_displacement is None:
        rms_displacement = np.asarray(atoms.arrays.get("rms_displacement", 0.0))
        rms_displacement = rms_displacement[:, ::-1] if rms_displacement.ndim == 2 else rms_displacement
    return make_structure(
        np.mod(atoms.positions, edges)[:, ::-1],
        atoms.numbers,
        edges[::-1],
        occupancy=atoms.arrays.get("occupancies", 1.0),
        rms_displacement=rms_displacement,
    )


def to_ase(structure: Structure) -> Atoms:
    """The structure as ase's periodic atoms; occupancies and displacements go into the arrays that `from_ase` takes.

    >>> to_ase(make_structure([[1, 2, 3]], [14], [4, 5, 6])).positions.tolist()
    [[3.0, 2.0, 1.0]]
    """
    from ase import Atoms

    atoms = Atoms(
        numbers=list(structure.numbers),
        positions=np.asarray(structure.positions, float)[:, ::-1],
        cell=np.asarray(structure.cell, float)[::-1],
        pbc=True,
    )
    atoms.set_array("occupancies", np.asarray(structure.occupancy, float))
    displacement = np.asarray(structure.rms_displacement, float)
    atoms.set_array("rms_displacement", displacement[:, ::-1] if displacement.ndim == 2 else displacement)
    return atoms


def with_displacement(structure: Structure, rms_displacement: npt.ArrayLike) -> Structure:
    """The structure with other thermal displacements, and the site classes that fit.

    Args:
        structure: Atoms.
        rms_displacement: One-dimensional rms displacement: one for all atoms, [atom], or [atom 3] along (z, y, x) [Å].

    >>> s = make_structure([[0, 0, 0], [1, 1, 1]], [8, 8], [2, 2, 2])
    >>> with_displacement(s, [0.05, 0.1]).sites
    (0, 1)
    """
    displacement = _displacements(rms_displacement, len(structure.numbers))
    leaf = jnp.asarray(displacement, structure.rms_displacement.dtype)
    return structure.replace(rms_displacement=leaf, sites=site_classes(structure.numbers, displacement))


def wrapped(structure: Structure) -> Structure:
    """The structure with every atom inside its cell; a periodic potential stays what it is.

    >>> wrapped(make_structure([[0.5, -1.0, 4.5]], [6], [2, 4, 4])).positions.tolist()
    [[0.5, 3.0, 0.5]]
    """
    return structure.replace(positions=jnp.mod(structure.positions, structure.cell[None, :]))


def pad_cell(structure: Structure, padding: tuple[float, float, float]) -> Structure:
    """The structure in a larger cell, with vacuum on both sides, so that its periodic images stop touching.

    Args:
        structure: Atoms, best wrapped into their cell.
        padding: Vacuum added on each side (z, y, x) [Å].

    Returns:
        The structure with its cell longer by twice the padding and its atoms moved by the padding.

    >>> pad_cell(make_structure([[0, 0, 0]], [6], [2, 2, 2]), (0, 5, 5)).cell.tolist()
    [2.0, 12.0, 12.0]
    """
    margin = jnp.asarray(padding, structure.cell.dtype)
    if min(padding) < 0:
        raise InputError(f"padding {tuple(padding)} Å must not be negative; give the vacuum on each side (z, y, x)")
    return structure.replace(positions=structure.positions + margin[None, :], cell=structure.cell + 2.0 * margin)
