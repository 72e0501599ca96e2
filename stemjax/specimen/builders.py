"""Specimens that examples and tests need: monolayers with vacancies, and slabs of well-known crystals."""

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

GRAPHENE_LATTICE = 2.461
"""Lattice constant of graphite in the layer [Å]; Y. Baskin, L. Meyer, Phys. Rev. 100 (1955) 544."""
HBN_LATTICE = 2.504
"""Lattice constant of hexagonal BN in the layer [Å]; R. S. Pease, Acta Cryst. 5 (1952) 356."""

MONOLAYERS = {
    "graphene": ("C", "C", GRAPHENE_LATTICE, 0.0),
    "hBN": ("B", "N", HBN_LATTICE, 0.0),
    "MoS2": ("Mo", "S", MOS2_LATTICE, MOS2_THICKNESS),
    "WS2": ("W", "S", 3.1532, 3.142),
    "MoSe2": ("Mo", "Se", 3.289, 3.333),
    "WSe2": ("W", "Se", 3.282, 3.341),
}
"""Elements, lattice constant and distance of the outer planes [Å] by the name that `monolayer` knows. WS2, WSe2: W. J.
Schutte, J. L. De Boer, F. Jellinek, J. Solid State Chem. 70 (1987) 207; MoSe2: K. D. Bronsema, J. L. De Boer, F.
Jellinek, Z. Anorg. Allg. Chem. 540 (1986) 15."""

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


def monolayer(
    name: str,
    width: tuple[float, float],
    *,
    vacancies: Sequence[tuple[float, float]] = (),
    vacuum: float = 2.0,
    rms_displacement: float = 0.0,
) -> Structure:
    """A hexagonal monolayer normal to the beam, periodic in y and x, with single vacancies where asked.

    The rectangular cell of the hexagonal lattice is a along x and √3 a along y.

    Args:
        name: "graphene", "hBN", "MoS2", "WS2", "MoSe2" or "WSe2".
        width: Least widths (y, x); whole periods [Å].
        vacancies: Points (y, x) [Å]: the nearest atom is taken out, of MX2 the nearest X of the lower plane (larger z).
        vacuum: Vacuum above and below the layer [Å].
        rms_displacement: One-dimensional rms displacement of every atom [Å].

    Returns:
        The structure, the layer in the middle of the cell.

    Raises:
        InputError: The name is not known, or two vacancies fall on one atom.

    >>> len(monolayer("hBN", (10, 10)).numbers), len(monolayer("WS2", (3, 3)).numbers)
    (48, 6)
    """
    from ase import Atoms

    if name not in MONOLAYERS:
        raise InputError(f"no monolayer {name!r}; {nearest(name, MONOLAYERS)}; or read your own with ase.io.read")
    first, second, a, height = MONOLAYERS[name]
    row, depth = a * np.sqrt(3.0), height + 2.0 * vacuum
    corners, hollows = [(0, 0), (a / 2, row / 2)], [(0, row / 3), (a / 2, 5 * row / 6)]
    planes = [(first, corners, 0.0)] + [(second, hollows, h) for h in ((-0.5, 0.5) if height else (0.0,))]
    sites = [(symbol, x, y, depth / 2 + h * height) for symbol, places, h in planes for x, y in places]
    cell = Atoms([site[0] for site in sites], [site[1:] for site in sites], cell=[a, row, depth], pbc=True)
    repeats = [max(1, int(np.ceil(w / edge - 1e-6))) for w, edge in zip(width[::-1], (a, row), strict=True)]
    layer = cell * (*repeats, 1)
    del layer[_nearest_atoms(layer, vacancies)]
    return from_ase(layer, rms_displacement=rms_displacement)


def mos2_monolayer(
    width: tuple[float, float],
    *,
    vacancies: Sequence[tuple[float, float]] = (),
    vacuum: float = 2.0,
    rms_displacement: float = 0.0,
) -> Structure:
    """`monolayer` of MoS2.

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
    return monolayer("MoS2", width, vacancies=vacancies, vacuum=vacuum, rms_displacement=rms_displacement)


def graphene(
    width: tuple[float, float],
    *,
    vacancies: Sequence[tuple[float, float]] = (),
    vacuum: float = 2.0,
    rms_displacement: float = 0.0,
) -> Structure:
    """`monolayer` of graphene; arguments as for `mos2_monolayer`, a vacancy takes the nearest atom out.

    >>> len(graphene((10, 10), vacancies=[(5.0, 5.0)]).numbers)
    59
    """
    return monolayer("graphene", width, vacancies=vacancies, vacuum=vacuum, rms_displacement=rms_displacement)


def _nearest_atoms(layer: Atoms, points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the atoms of the lowest plane (largest z) that lie nearest to the points (y, x), each another one."""
    edges = np.diag(layer.cell.array)[:2]
    plane = np.flatnonzero(layer.positions[:, 2] > layer.positions[:, 2].max() - 0.1)
    taken: list[int] = []
    for y, x in points:
        offset = layer.positions[plane, :2] - (x, y)
        offset -= edges * np.round(offset / edges)
        taken.append(int(plane[np.argmin((offset**2).sum(axis=1))]))
    if len(set(taken)) != len(taken):
        raise InputError(f"{len(taken)} vacancies fall on {len(set(taken))} atoms; give points further apart")
    return taken
