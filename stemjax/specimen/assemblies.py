"""Specimens made from others: dopants, vacancies, stacks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from stemjax.core.errors import InputError, nearest
from stemjax.core.typing import Annotated
from stemjax.specimen.structure import Structure, make_structure


def dope(
    structure: Structure,
    element: str,
    *,
    fraction: float | None = None,
    positions: npt.ArrayLike | None = None,
    replaces: str | None = None,
    rms_displacement: npt.ArrayLike | None = None,
    seed: int = 0,
) -> Structure:
    """The structure with some atoms exchanged for another element.

    Args:
        structure: Atoms.
        element: Symbol of the dopant.
        fraction: Part of the atoms that is exchanged at random, rounded to whole atoms.
        positions: Or points [n 3] as (z, y, x), or [n 2] as (y, x) of whole columns' nearest atom [Å]; the atom nearest
            to each is exchanged.
        replaces: Symbol of the atoms that may be exchanged; None for all.
        rms_displacement: Displacement of the dopants [Å]; None keeps that of the atoms they replace.
        seed: Seed of the choice.

    Returns:
        The structure, its atoms in the same order.

    Raises:
        InputError: Neither or both of fraction and positions are given, or there are no such atoms.

    >>> s = make_structure(np.zeros((10, 3)) + np.arange(10)[:, None], [42] * 10, [10, 10, 10])
    >>> dope(s, "Re", fraction=0.2, seed=1).numbers.count(75)
    2
    """
    chosen = _chosen(structure, fraction, positions, replaces, seed)
    numbers = np.array(structure.numbers)
    numbers[chosen] = atomic_number(element)
    u = np.array(structure.rms_displacement, float)
    if rms_displacement is not None:
        u[chosen] = np.asarray(rms_displacement, float)
    return _rebuilt(structure, np.arange(len(numbers)), numbers, u)


def vacancies(
    structure: Structure,
    *,
    fraction: float | None = None,
    positions: npt.ArrayLike | None = None,
    element: str | None = None,
    seed: int = 0,
) -> Structure:
    """The structure with some atoms taken out.

    Args:
        structure: Atoms.
        fraction: Part of the atoms that is taken out at random, rounded to whole atoms.
        positions: Or points [n 3] as (z, y, x), or [n 2] as (y, x) [Å]; the atom nearest to each is taken out.
        element: Symbol of the atoms that may go; None for all.
        seed: Seed of the choice.

    Raises:
        InputError: As `dope`, or no atom is left.

    >>> s = make_structure([[0, 0, 0], [1, 1, 1], [2, 2, 2]], [8, 38, 8], [4, 4, 4])
    >>> vacancies(s, positions=[[1.9, 2.0, 2.1]], element="O").numbers
    (8, 38)
    """
    gone = _chosen(structure, fraction, positions, element, seed)
    kept = np.setdiff1d(np.arange(len(structure.numbers)), gone)
    if not len(kept):
        raise InputError(f"all {len(gone)} atoms would be vacancies; lower the fraction")
    return _rebuilt(structure, kept, np.array(structure.numbers), np.array(structure.rms_displacement, float))


def _rebuilt(structure: Structure, kept: np.ndarray, numbers: np.ndarray, u: np.ndarray) -> Structure:
    """Some atoms of a structure, with these elements and displacements, checked again."""
    return make_structure(
        np.asarray(structure.positions, float)[kept],
        numbers[kept],
        structure.cell,
        occupancy=np.asarray(structure.occupancy, float)[kept],
        rms_displacement=u[kept],
    )


def atomic_number(symbol: str) -> int:
    """Atomic number of a chemical symbol.

    >>> atomic_number("Au")
    79
    """
    from ase.data import atomic_numbers

    if symbol not in atomic_numbers or not 1 <= atomic_numbers[symbol] <= 103:
        raise InputError(f"no element {symbol!r}; {nearest(symbol, list(atomic_numbers)[1:104])}")
    return int(atomic_numbers[symbol])


def _chosen(
    structure: Structure, fraction: float | None, positions: npt.ArrayLike | None, element: str | None, seed: int
) -> np.ndarray:
    """Indices of the atoms that a fraction or points choose among those of an element."""
    numbers = np.array(structure.numbers)
    able = np.arange(len(numbers)) if element is None else np.flatnonzero(numbers == atomic_number(element))
    if not len(able):
        raise InputError(f"the structure holds no {element}; choose an element of {_formula(numbers)}")
    if (fraction is None) == (positions is None):
        raise InputError("give either a fraction, such as 0.05, or positions of atoms in Å")
    if positions is not None:
        return _nearest(structure, able, np.asarray(positions, float))
    if not 0 <= fraction <= 1:  # type: ignore[operator]
        raise InputError(f"fraction {fraction} must lie between 0 and 1")
    count = round(float(fraction) * len(able))  # type: ignore[arg-type]
    return np.random.default_rng(seed).choice(able, count, replace=False)


def _nearest(structure: Structure, able: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Indices of the atoms nearest to points, in the shortest of their periodic images, each another one."""
    if points.ndim != 2 or points.shape[1] not in (2, 3):
        raise InputError(f"positions have shape {points.shape}; give one row (z, y, x) or (y, x) in Å for every atom")
    axes = points.shape[1]
    cell = np.asarray(structure.cell, float)[-axes:]
    offset = np.asarray(structure.positions, float)[able][None, :, -axes:] - points[:, None]
    offset -= cell * np.round(offset / cell)
    found = able[np.argmin((offset**2).sum(axis=2), axis=1)]
    if len(set(found.tolist())) != len(found):
        raise InputError(f"{len(found)} positions fall on {len(set(found.tolist()))} atoms; give points further apart")
    return found


def _formula(numbers: np.ndarray) -> str:
    """The elements of some atoms, for a message."""
    from ase.data import chemical_symbols

    return ", ".join(chemical_symbols[z] for z in np.unique(numbers))


def stacked(structures: Sequence[Structure], *, gap: Annotated[float, "Å"] = 0.0) -> Structure:
    """Structures one below the other along the beam, the first met first; cells must agree along y and x.

    Args:
        structures: At least one.
        gap: Vacuum between the cells [Å].

    Raises:
        InputError: The cells differ along y or x by more than 0.001 Å.

    >>> s = make_structure([[1, 0, 0]], [6], [2, 4, 4])
    >>> both = stacked([s, s], gap=1.0)
    >>> both.positions[:, 0].tolist(), both.cell.tolist()
    ([1.0, 4.0], [5.0, 4.0, 4.0])
    """
    if not structures:
        raise InputError("nothing to stack; give at least one structure")
    cells = np.array([np.asarray(s.cell, float) for s in structures])
    if np.abs(cells[:, 1:] - cells[0, 1:]).max() > 1e-3:
        raise InputError(
            f"the cells (y, x) {cells[:, 1:].round(3).tolist()} Å differ; make them equal, for instance with pad_cell"
        )
    tops = np.concatenate([[0.0], np.cumsum(cells[:, 0] + gap)])
    places = [np.asarray(s.positions, float) + np.array([top, 0, 0]) for s, top in zip(structures, tops, strict=False)]
    return united(structures, places, np.array([tops[-1] - gap, *cells[0, 1:]]))


def united(structures: Sequence[Structure], places: Sequence[np.ndarray], cell: np.ndarray) -> Structure:
    """All atoms of some structures at new places in one cell.

    Args:
        structures: Where elements, occupancies and displacements come from.
        places: Positions (z, y, x) of the atoms of each [Å].
        cell: Edges (z, y, x) [Å].

    >>> s = make_structure([[1, 0, 0]], [6], [2, 4, 4])
    >>> united([s, s], [np.zeros((1, 3)), np.ones((1, 3))], np.array([2, 4, 4])).numbers
    (6, 6)
    """
    u = [np.asarray(s.rms_displacement, float) for s in structures]
    if any(a.ndim == 2 for a in u):
        u = [a if a.ndim == 2 else np.repeat(a[:, None], 3, axis=1) for a in u]
    return make_structure(
        np.concatenate(list(places)),
        np.concatenate([s.numbers for s in structures]),
        cell,
        occupancy=np.concatenate([np.asarray(s.occupancy, float) for s in structures]),
        rms_displacement=np.concatenate(u),
    )
