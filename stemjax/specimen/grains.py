"""Two grains of one crystal that meet in a plane along the beam."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.typing import Annotated
from stemjax.specimen.crystal import turned_cell
from stemjax.specimen.structure import Structure, from_ase

if TYPE_CHECKING:
    from ase import Atoms

# Whole periods of a grain along the boundary that are tried to make both fit.
MOST_PERIODS = 40
# How far the turn of each grain may be off [degree].
MOST_SLACK = 0.5


def grain_boundary(
    crystal: Atoms,
    zone_axis: tuple[int, ...],
    angle: Annotated[float, "degree"],
    *,
    size: Annotated[tuple[float, float], "Å"] = (0.0, 20.0),
    thickness: Annotated[float, "Å"] = 0.0,
    gap: Annotated[float, "Å"] = 0.0,
    min_distance: Annotated[float, "Å"] = 1.0,
    tolerance: float = 1e-2,
) -> Structure:
    """A tilt boundary: the same zone axis along the beam in both grains, one turned against the other about it.

    The left grain is turned by half the angle from x towards y, the right one by as much the other way, against the
    cell of `stemjax.specimen.crystal.orthogonal_cell`; so an angle of a coincidence lattice gives its symmetric
    boundary, and the angle of a twin the twin (fcc [1-10]: 70.53 or 109.47 degree, by the edge that is along x). The
    boundary is normal to x. The structure is periodic, so there is a second, reverse boundary at its border.

    Args:
        crystal: A crystal (`stemjax.specimen.builders.crystal`, `ase.build.bulk`).
        zone_axis: Direction along the beam, [uvw] or [uvtw].
        angle: Misorientation, met to a tenth of it and to a degree [degree].
        size: Least height along the boundary (y) and least width of each grain (x) [Å].
        thickness: Least length along the beam [Å].
        gap: Opened between the grains [Å].
        min_distance: Of two atoms closer than this across a boundary the one in the right grain is left out [Å].
        tolerance: Largest strain of each grain.

    Returns:
        The structure, the first boundary in the middle.

    Raises:
        InputError: No orthogonal cells at these angles, or their periods along y do not fit.

    >>> from ase.build import bulk
    >>> sigma5 = grain_boundary(bulk("Cu", cubic=True), (0, 0, 1), 36.87, size=(0.0, 15.0), min_distance=1.5)
    >>> round(float(sigma5.cell[1]) / 3.61, 3), "the height is √5 edges"
    (2.236, 'the height is √5 edges')
    """
    slack = min(MOST_SLACK, abs(angle) / 20.0)
    halves = [
        turned_cell(crystal, zone_axis, turn, slack=slack, tolerance=tolerance)[0].atoms
        for turn in (angle / 2.0, -angle / 2.0)
    ]
    periods = _common_period([float(half.cell[1, 1]) for half in halves], size[0], tolerance)
    height = float(np.mean([n * half.cell[1, 1] for n, half in zip(periods, halves, strict=True)]))
    grains = []
    for count, half in zip(periods, halves, strict=True):
        edges = half.cell.lengths()
        along_x, along_z = (max(1, int(np.ceil(w / e - 1e-6))) for w, e in ((size[1], edges[0]), (thickness, edges[2])))
        grain = half * (along_x, count, along_z)
        grain.set_cell([grain.cell[0, 0], height, grain.cell[2, 2]], scale_atoms=True)
        grains.append(grain)
    return from_ase(_joined(grains[0], grains[1], gap, min_distance))


def _common_period(periods: list[float], least: float, tolerance: float) -> tuple[int, int]:
    """Numbers of periods of both grains that have the same length within twice the strain allowed each."""
    first, second = periods
    for count in range(max(1, int(np.ceil(least / first - 1e-6))), MOST_PERIODS + int(np.ceil(least / first)) + 1):
        other = max(1, round(count * first / second))
        # Each is strained to the mean of both.
        if abs(count * first - other * second) <= tolerance * (count * first + other * second):
            return count, other
    raise InputError(
        f"periods of {first:.3f} and {second:.3f} Å along the boundary do not fit within {tolerance:g}; raise tolerance"
    )


def _joined(left: Atoms, right: Atoms, gap: float, min_distance: float) -> Atoms:
    """Both grains side by side along x, without the atoms of the right one that come too close to the left."""
    from scipy.spatial import cKDTree

    width = left.cell[0, 0]
    right = right.copy()
    right.positions[:, 0] += width + gap
    both = left + right
    both.set_cell([width + right.cell[0, 0] + 2.0 * gap, left.cell[1, 1], left.cell[2, 2]])
    both.pbc = True
    both.wrap(eps=1e-9)
    edges = both.cell.lengths()
    places = np.where(both.positions >= edges, 0.0, np.maximum(both.positions, 0.0))
    grain = np.arange(len(both)) >= len(left)
    pairs = cKDTree(places, boxsize=edges).query_pairs(min_distance, output_type="ndarray")
    across = pairs[grain[pairs[:, 0]] != grain[pairs[:, 1]]]
    del both[sorted(set(across.max(axis=1).tolist()))]
    return both
