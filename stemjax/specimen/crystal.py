"""An oriented orthogonal cell of any crystal: the zone axis along the beam, whole periods along every edge."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING, Annotated

import numpy as np

from stemjax.core.errors import InputError

if TYPE_CHECKING:
    from ase import Atoms

# Lengths up to which lattice vectors are searched [Å], one after the other until one gives a cell.
SEARCH_LENGTHS = (10.0, 20.0, 40.0, 80.0)
# Of the candidates at one length only the shortest are paired, so that the search stays below a second.
MOST_CANDIDATES = 400
# Number of atoms up to which a cell is searched for translations of its own [atoms].
LARGEST_CONVENTIONAL = 200


@dataclass(frozen=True)
class OrthogonalCell:
    """An oriented orthogonal supercell and how it was made.

    Args:
        atoms: The atoms, periodic, cell edges along x, y and z.
        edges: The edges x, y, z, one a row [3 3], in the crystal's own cell vectors; fractions occur where
            those vectors are not primitive.
        strain: Largest principal strain that made the cell orthogonal; 0 where the crystal fits as it is.
    """

    atoms: Atoms
    edges: tuple[tuple[float, float, float], ...]
    strain: float


def orthogonal_cell(
    atoms: Atoms,
    zone_axis: tuple[int, ...] = (0, 0, 1),
    *,
    thickness: float | None = None,
    min_width: tuple[float, float] = (0.0, 0.0),
    tolerance: float = 5e-3,
) -> OrthogonalCell:
    """The orthogonal cell of smallest cross-section that has a zone axis along +z, repeated to a size.

    Lattice vectors normal to the zone axis, or nearly so, are searched up to 80 Å. What is missing to right angles is
    strained away and reported. The beam travels along +z, from the first atoms of [uvw] to the last.

    Args:
        atoms: A crystal: any cell with a volume, periodic in all directions.
        zone_axis: Direction [uvw] in the crystal's cell vectors, or [uvtw] (four indices, hexagonal).
        thickness: Least length along z [Å]; whole periods; None for one period.
        min_width: Least widths (y, x) [Å]; whole periods.
        tolerance: Largest principal strain allowed.

    Returns:
        The cell, the lattice indices of its edges and the strain.

    Raises:
        InputError: The zone axis is no direction, or no cell up to 80 Å stays under the tolerance.

    >>> from ase.build import bulk
    >>> found = orthogonal_cell(bulk("Si"), (0, 1, 0), thickness=10.0)
    >>> len(found.atoms), round(found.strain, 9)
    (12, 0.0)
    """
    lattice = np.asarray(atoms.cell.array, float)
    if abs(np.linalg.det(lattice)) < 1e-6:
        raise InputError(
            "the crystal's cell has no volume; give it three cell vectors (atoms.center(vacuum=5, axis=2))"
        )
    if np.ndim(atoms.arrays.get("rms_displacement", 0.0)) > 1:
        raise InputError(
            "displacements along axes do not turn with a crystal; take the array `rms_displacement` off the atoms and "
            "set it on the structure with with_displacement"
        )
    centring = _translations(atoms)
    along = _shortest_along(_direction(zone_axis), centring)
    edges = _smallest_edges(lattice, centring, along, tolerance)
    wanted = (min_width[1], min_width[0], 0.0 if thickness is None else thickness)
    lengths = np.linalg.norm(edges @ lattice, axis=1)
    repeats = [max(1, int(np.ceil(w / length - 1e-6))) for w, length in zip(wanted, lengths, strict=True)]
    edges = edges * np.array(repeats)[:, None]
    return _oriented(atoms, edges)


def turned_cell(
    atoms: Atoms,
    zone_axis: tuple[int, ...],
    angle: Annotated[float, "degree"],
    *,
    slack: Annotated[float, "degree"] = 0.5,
    tolerance: float = 5e-3,
) -> tuple[OrthogonalCell, float]:
    """The smallest orthogonal cell of a crystal that is turned about its zone axis, which stays along +z.

    Args:
        atoms: As in `orthogonal_cell`.
        zone_axis: As in `orthogonal_cell`.
        angle: Turn of the crystal from x towards y, against the cell of `orthogonal_cell` [degree].
        slack: How far the angle may be off, so that edges are lattice vectors [degree].
        tolerance: Largest principal strain allowed.

    Returns:
        The cell, and the turn it has [degree].

    Raises:
        InputError: No cell up to 80 Å lies within the slack and the tolerance.

    >>> from ase.build import bulk
    >>> cell, turn = turned_cell(bulk("Cu", cubic=True), (0, 0, 1), 36.9)
    >>> len(cell.atoms), round(turn, 2)
    (50, 36.87)
    """
    reference = np.asarray(orthogonal_cell(atoms, zone_axis, tolerance=tolerance).edges)
    lattice, centring = np.asarray(atoms.cell.array, float), _translations(atoms)
    for longest in SEARCH_LENGTHS:
        candidates = _candidates(lattice, centring, reference[2], longest, tolerance)
        pairs = _ranked_pairs(candidates @ lattice, tolerance)
        either = np.stack([pairs, pairs[:, ::-1]], axis=1).reshape(-1, 2)
        off = _turns(candidates[either[:, 0]] @ lattice, reference @ lattice) - angle
        # Of a vector and its negative only one is a candidate.
        sign = np.where(np.cos(np.radians(off)) < 0, -1.0, 1.0)
        off = np.mod(off + np.where(sign < 0, 180.0, 0.0) + 180.0, 360.0) - 180.0
        for i in np.flatnonzero(np.abs(off) <= slack):
            edges = np.array([sign[i] * candidates[either[i, 0]], candidates[either[i, 1]], reference[2]])
            if np.linalg.det(edges @ lattice) < 0:
                edges[1] *= -1
            if _strain(edges @ lattice) <= tolerance:
                return _oriented(atoms, edges), angle + float(off[i])
    raise InputError(
        f"no orthogonal cell up to {SEARCH_LENGTHS[-1]:.0f} Å for zone axis {zone_axis} turned by {angle:g} degree; "
        f"raise slack ({slack:g} degree) or tolerance ({tolerance:g})"
    )


def _turns(vectors: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Turn of the crystal [degree] that brings each vector where the reference's x edge was."""
    x, y = (edge / np.linalg.norm(edge) for edge in reference[:2])
    return -np.degrees(np.arctan2(vectors @ y, vectors @ x))


def _oriented(atoms: Atoms, edges: np.ndarray) -> OrthogonalCell:
    """The cell with these edges, in cell vectors."""
    indices = tuple((float(u), float(v), float(w)) for u, v, w in edges.round(9) + 0.0)
    return OrthogonalCell(_cut(atoms, edges), indices, _strain(edges @ np.asarray(atoms.cell.array, float)))


def _direction(zone_axis: tuple[int, ...]) -> np.ndarray:
    """[uvw] without a common factor, from three indices or from four of the hexagonal system."""
    indices = [int(i) for i in zone_axis]
    if list(zone_axis) != indices or len(indices) not in (3, 4) or not any(indices):
        raise InputError(f"zone axis {zone_axis} must be three whole numbers [uvw], or four [uvtw], not all zero")
    if len(indices) == 4:
        u, v, t, w = indices
        if u + v + t:
            raise InputError(f"zone axis {zone_axis}: the first three of four indices must add up to zero")
        indices = [u - t, v - t, w]
    return np.array(indices) // gcd(*indices)


def _translations(atoms: Atoms) -> np.ndarray:
    """Translations within the cell that leave the crystal as it is, in cell vectors [n 3]; the first is none.

    A conventional cell has some beside its own vectors. A large cell is taken as primitive.
    """
    fractions = atoms.get_scaled_positions(wrap=True)
    known = [
        atoms.numbers,
        *(atoms.arrays[name] for name in ("occupancies", "rms_displacement") if name in atoms.arrays),
    ]
    kind = np.unique(np.stack(known, axis=1), axis=0, return_inverse=True)[1].ravel()
    if len(atoms) > LARGEST_CONVENTIONAL:
        return np.zeros((1, 3))
    rarest = np.flatnonzero(kind == np.argmin(np.bincount(kind)))
    steps = np.mod(fractions[rarest] - fractions[rarest[0]] + 1e-6, 1.0) - 1e-6
    return np.array([step for step in steps if _is_translation(step, fractions, kind, np.asarray(atoms.cell.array))])


def _is_translation(step: np.ndarray, fractions: np.ndarray, kind: np.ndarray, lattice: np.ndarray) -> bool:
    """Whether every atom, moved, lies within 0.001 Å of one of its kind."""
    offset = (fractions + step)[:, None, :] - fractions[None, :, :]
    distance = np.linalg.norm((offset - np.round(offset)) @ lattice, axis=-1)
    return bool((np.where(kind[:, None] == kind[None, :], distance, np.inf).min(axis=1) < 1e-3).all())


def _shortest_along(direction: np.ndarray, centring: np.ndarray) -> np.ndarray:
    """The shortest lattice vector along a direction, in cell vectors."""
    for parts in range(len(centring), 1, -1):
        offset = direction / parts - centring
        if (np.abs(offset - np.round(offset)).max(axis=1) < 1e-4).any():
            return direction / parts
    return direction.astype(float)


def _smallest_edges(lattice: np.ndarray, centring: np.ndarray, along: np.ndarray, tolerance: float) -> np.ndarray:
    """Edges x, y, z of the smallest cell within the strain allowed, in cell vectors, right-handed [3 3]."""
    best = np.inf
    for longest in SEARCH_LENGTHS:
        candidates = _candidates(lattice, centring, along, longest, tolerance)
        for first, second in _ranked_pairs(candidates @ lattice, tolerance):
            edges = np.array([candidates[first], candidates[second], along])
            if np.linalg.det(edges @ lattice) < 0:
                edges[1] *= -1
            strain = _strain(edges @ lattice)
            if strain <= tolerance:
                return edges
            best = min(best, strain)
    found = "none was found" if np.isinf(best) else f"the best has {best:.4f}"
    raise InputError(
        f"no orthogonal cell up to {SEARCH_LENGTHS[-1]:.0f} Å with a strain under {tolerance:g} for zone axis "
        f"{along.tolist()}: {found}; raise tolerance or choose another zone axis"
    )


def _candidates(
    lattice: np.ndarray, centring: np.ndarray, along: np.ndarray, longest: float, tolerance: float
) -> np.ndarray:
    """Lattice vectors up to a length that are normal to the zone axis within the tolerance, shortest first [n 3].

    Of a vector and its negative only one is kept, the one whose last index that is not zero is positive.
    """
    reach = np.floor(longest * np.linalg.norm(np.linalg.inv(lattice), axis=0)).astype(int) + 1
    whole = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), axis=-1).reshape(-1, 1, 3)
    indices = (whole + centring[None, :, :]).reshape(-1, 3)
    base = 4.0 * len(centring) * (reach.max() + 2)
    indices = indices[indices @ np.array([1.0, base, base**2]) > 1e-4]
    vectors = indices @ lattice
    length = np.linalg.norm(vectors, axis=1)
    axis = along @ lattice / np.linalg.norm(along @ lattice)
    normal = (length <= longest) & (np.abs(vectors @ axis) <= 2.0 * tolerance * length + 1e-6)
    indices, length = indices[normal], length[normal]
    return indices[np.lexsort((*indices.T[::-1], length.round(6)))[:MOST_CANDIDATES]]


def _ranked_pairs(vectors: np.ndarray, tolerance: float) -> np.ndarray:
    """Pairs of nearly perpendicular vectors, by area, then by the longer side [n 2]; the shorter one is x."""
    if not len(vectors):
        return np.empty((0, 2), int)
    length = np.linalg.norm(vectors, axis=1)
    cosine = np.abs(vectors @ vectors.T) / np.outer(length, length)
    first, second = np.nonzero(np.triu(cosine <= 2.0 * tolerance + 1e-9, 1))
    order = np.lexsort((length[second].round(6), (length[first] * length[second]).round(6)))
    return np.stack([first[order], second[order]], axis=1)


def _strain(vectors: np.ndarray) -> float:
    """Largest principal strain that turns three vectors into perpendicular ones of the same lengths."""
    box = np.diag(np.linalg.norm(vectors, axis=1))
    stretches = np.linalg.svd(np.linalg.solve(vectors, box), compute_uv=False)
    return float(np.abs(stretches - 1.0).max())


def _cut(atoms: Atoms, edges: np.ndarray) -> Atoms:
    """The atoms of the supercell with these edges, turned and strained into an orthogonal cell."""
    corners = np.stack(np.meshgrid(*[[0, 1]] * 3), axis=-1).reshape(-1, 3) @ edges
    low, high = np.floor(corners.min(axis=0)).astype(int) - 1, np.ceil(corners.max(axis=0)).astype(int) + 1
    cells = np.stack(np.meshgrid(*map(np.arange, low, high), indexing="ij"), axis=-1).reshape(-1, 1, 3)
    images = (cells + atoms.get_scaled_positions(wrap=True)[None]).reshape(-1, 3) @ np.linalg.inv(edges)
    # Rounding must not count an atom on the lower face again on the upper one.
    inside = np.flatnonzero(((images >= -1e-7) & (images < 1.0 - 1e-7)).all(axis=1))
    box = atoms[inside % len(atoms)]
    box.set_cell(np.diag(np.linalg.norm(edges @ np.asarray(atoms.cell.array, float), axis=1)), scale_atoms=False)
    box.set_scaled_positions(images[inside])
    box.pbc = True
    return box
