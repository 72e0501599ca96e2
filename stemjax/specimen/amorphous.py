"""Amorphous films: atoms placed at random that keep a distance."""

from __future__ import annotations

import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.typing import Annotated
from stemjax.specimen.structure import Structure, make_structure

DALTONS_PER_CUBIC_ANGSTROM = 1.66053906660
"""1 u/Å³ in g/cm³ (CODATA 2018)."""
DENSEST = 0.36
"""Part of the volume that random placing of spheres can fill in practice; it jams at 0.38, J. Feder, J. Theor. Biol. 87
(1980) 237."""
# Rounds of candidates before it is called off.
MOST_ROUNDS = 2000


def amorphous_film(
    symbol: str,
    density: Annotated[float, "g/cm³"],
    size: Annotated[tuple[float, float], "Å"],
    thickness: Annotated[float, "Å"],
    *,
    min_distance: Annotated[float, "Å"] = 1.4,
    rms_displacement: Annotated[float, "Å"] = 0.0,
    seed: int = 0,
) -> Structure:
    """An amorphous film of one element by random sequential placing, periodic along all axes.

    Every atom is placed at random and stays if it keeps its distance. That gives the density and the shortest distance
    of a glass, but no bond angles: the pair distribution is that of hard spheres.

    Args:
        symbol: Chemical symbol.
        density: Mass density, such as 2.0 for amorphous carbon [g/cm³].
        size: Width (y, x) [Å].
        thickness: Depth of the film and of its cell [Å].
        min_distance: Shortest distance of two atoms [Å].
        rms_displacement: One-dimensional rms displacement of every atom [Å].
        seed: Seed of the places.

    Returns:
        The structure; its number of atoms is the nearest to the density.

    Raises:
        InputError: The density is too high for the distance, or a size is none.

    >>> film = amorphous_film("C", 2.0, (20.0, 20.0), 10.0)
    >>> len(film.numbers)
    401
    """
    from ase.data import atomic_masses, atomic_numbers

    if symbol not in atomic_numbers or symbol == "X":
        raise InputError(f"no element {symbol!r}; give a chemical symbol, such as 'C'")
    cell = np.array([thickness, *size], float)
    if not (np.isfinite(cell).all() and cell.min() > 2.0 * min_distance >= 0 and density > 0):
        raise InputError(
            f"a film of {density:g} g/cm³ and {cell.tolist()} Å (z, y, x) must be wider than twice min_distance "
            f"({min_distance:g} Å) along every axis, with a positive density"
        )
    number = atomic_numbers[symbol]
    per_volume = density / (DALTONS_PER_CUBIC_ANGSTROM * atomic_masses[number])
    _check_packing(per_volume, min_distance, density)
    count = max(1, round(per_volume * cell.prod()))
    places = _placed(count, cell, min_distance, np.random.default_rng(seed))
    return make_structure(places, np.full(count, number), cell, rms_displacement=rms_displacement)


def _check_packing(per_volume: float, min_distance: float, density: float) -> None:
    """Refuse spheres that random placing cannot bring in."""
    packing = np.pi / 6.0 * min_distance**3 * per_volume
    if packing > DENSEST:
        largest = min_distance * (DENSEST / packing) ** (1.0 / 3.0)
        raise InputError(
            f"{density:g} g/cm³ at a distance of {min_distance:g} Å fills {packing:.2f} of the volume, random placing "
            f"at most {DENSEST}; lower min_distance to {np.floor(100 * largest) / 100:.2f} Å"
        )


def _placed(count: int, cell: np.ndarray, distance: float, rng: np.random.Generator) -> np.ndarray:
    """Random places [count 3] in a periodic cell that keep a distance, one candidate after the other."""
    from scipy.spatial import cKDTree

    placed = np.empty((0, 3))
    for _ in range(MOST_ROUNDS):
        missing = count - len(placed)
        if missing == 0:
            return placed
        # A place in single precision must not round to the far side of the cell.
        candidates = np.minimum(rng.uniform(0.0, 1.0, (max(missing, 64), 3)), 1.0 - 1e-6) * cell
        if distance > 0 and len(placed):
            near = cKDTree(placed, boxsize=cell).query(candidates, distance_upper_bound=distance)[0]
            candidates = candidates[~np.isfinite(near)]
        placed = np.concatenate([placed, _apart(candidates, cell, distance)[:missing]])
    raise InputError(
        f"only {len(placed)} of {count} atoms found a place {distance:g} Å from the others; lower min_distance"
    )


def _apart(candidates: np.ndarray, cell: np.ndarray, distance: float) -> np.ndarray:
    """The candidates that keep their distance from those before them."""
    from scipy.spatial import cKDTree

    if distance <= 0 or len(candidates) < 2:
        return candidates
    kept = np.ones(len(candidates), bool)
    pairs = cKDTree(candidates, boxsize=cell).query_pairs(distance, output_type="ndarray")
    for first, second in pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]:
        if kept[first] and kept[second]:
            kept[second] = False
    return candidates[kept]
