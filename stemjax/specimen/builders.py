"""Specimens that examples and tests need: a monolayer with vacancies, and slabs of well-known crystals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from stemjax.core.errors import InputError, nearest
from stemjax.specimen.crystal import orthogonal_cell
from stemjax.specimen.structure import Structure, from_ase

if TYPE_CHECKING:
    from ase import Atoms

MOS2_LATTICE = 3.16
"""Lattice constant of MoS2 [Å]; J. C. Wildervanck, F. Jellinek, Z. Anorg. Allg. Chem. 328 (1964) 309."""
MOS2_THICKNESS = 3.19
"""Distance of the two sulphur planes of MoS2 [Å], which puts Mo-S at 2.42 Å; R. G. Dickinson, L. Pauling,
J. Am. Chem. Soc. 45 (1923) 1466, give 2.41 Å for the bulk crystal."""
SRTIO3_LATTICE = 3.905
"""Lattice constant of SrTiO3 at room temperature [Å]; powder diffraction file, JCPDS card 35-734."""
GAN_LATTICE = (3.190, 5.189, 0.377)
"""GaN: a [Å], c [Å] and the internal parameter u; H. Schulz, K. H. Thiemann, Solid State Commun. 23 (1977) 815."""

CRYSTALS = ("SrTiO3", "Si", "Au", "GaN")
"""Names that `crystal` knows."""


def crystal(name: str) -> Atoms:
    """One conventional cell of a well-known crystal.

    Args:
        name: "SrTiO3", "Si", "Au" or "GaN" (wurtzite).

    Returns:
        Atoms of the cell, periodic; lattice constants at room temperature (Si 5.43 Å and Au 4.08 Å are ase's).

    >>> [len(crystal(name)) for name in CRYSTALS]
    [5, 8, 4, 4]
    """
    from ase.build import bulk
    from ase.spacegroup import crystal as from_spacegroup

    if name == "SrTiO3":
        sites = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0)]
        edges = [SRTIO3_LATTICE] * 3
        return from_spacegroup(["Sr", "Ti", "O"], sites, spacegroup=221, cellpar=[*edges, 90, 90, 90])
    if name in ("Si", "Au"):
        return bulk(name, cubic=True)
    if name == "GaN":
        a, c, u = GAN_LATTICE
        return bulk("GaN", "wurtzite", a=a, c=c, u=u)
    raise InputError(f"no crystal {name!r}; {nearest(name, CRYSTALS)}; or read your own with ase.io.read")


def slab(
    name: str,
    zone_axis: tuple[int, ...] = (0, 0, 1),
    *,
    thickness: float,
    width: tuple[float, float] = (0.0, 0.0),
    rms_displacement: float = 0.0,
) -> Structure:
    """A periodic slab of a well-known crystal with a zone axis along the beam.

    Args:
        name: As in `crystal`.
        zone_axis: Direction along the beam, [uvw] or [uvtw] of the conventional cell.
        thickness: Least thickness; whole periods [Å].
        width: Least widths (y, x); whole periods [Å].
        rms_displacement: One-dimensional rms displacement of every atom [Å].

    Returns:
        The structure.

    >>> len(slab("SrTiO3", thickness=7.0, width=(7.0, 3.0)).numbers)
    20
    """
    cell = orthogonal_cell(crystal(name), zone_axis, thickness=thickness, min_width=width)
    return from_ase(cell.atoms, rms_displacement=rms_displacement)


def mos2_monolayer(
    width: tuple[float, float],
    *,
    vacancies: Sequence[tuple[float, float]] = (),
    vacuum: float = 2.0,
    rms_displacement: float = 0.0,
) -> Structure:
    """A monolayer of MoS2 normal to the beam, periodic in y and x, with single sulphur vacancies where asked.

    The rectangular cell of the hexagonal lattice is a along x and √3 a along y.

    Args:
        width: Least widths (y, x); whole periods [Å].
        vacancies: Points (y, x) [Å]: the sulphur atom of the lower plane (larger z) nearest to each is taken out.
        vacuum: Vacuum above and below the layer [Å].
        rms_displacement: One-dimensional rms displacement of every atom [Å].

    Returns:
        The structure, the molybdenum plane in the middle of the cell.

    >>> whole, holed = mos2_monolayer((10, 10)), mos2_monolayer((10, 10), vacancies=[(5.0, 5.0)])
    >>> len(whole.numbers) - len(holed.numbers)
    1
    """
    from ase import Atoms

    a, row = MOS2_LATTICE, MOS2_LATTICE * np.sqrt(3.0)
    depth = MOS2_THICKNESS + 2.0 * vacuum
    mo, s = np.array([(0, 0), (a / 2, row / 2)]), np.array([(0, row / 3), (a / 2, 5 * row / 6)])
    sites = [(place, height) for place, height in ((mo, 0.0), (s, -0.5), (s, 0.5))]
    positions = [(x, y, depth / 2 + h * MOS2_THICKNESS) for place, h in sites for x, y in place]
    repeats = [max(1, int(np.ceil(w / edge - 1e-6))) for w, edge in zip(width[::-1], (a, row), strict=True)]
    layer = Atoms("Mo2S4", positions=positions, cell=[a, row, depth], pbc=True) * (*repeats, 1)
    del layer[_nearest_sulphur(layer, vacancies)]
    return from_ase(layer, rms_displacement=rms_displacement)


def _nearest_sulphur(layer: Atoms, points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the atoms of the lower sulphur plane that lie nearest to the points (y, x), each another one."""
    edges = np.diag(layer.cell.array)[:2]
    plane = np.flatnonzero((layer.numbers == 16) & (layer.positions[:, 2] > layer.cell[2, 2] / 2))
    taken: list[int] = []
    for y, x in points:
        offset = layer.positions[plane, :2] - (x, y)
        offset -= edges * np.round(offset / edges)
        taken.append(int(plane[np.argmin((offset**2).sum(axis=1))]))
    if len(set(taken)) != len(taken):
        raise InputError(f"{len(taken)} vacancies fall on {len(set(taken))} sulphur atoms; give points further apart")
    return taken
