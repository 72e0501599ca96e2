"""The five reference specimens and the optics that they are seen with; data only, no microscope program."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Specimen:
    """A crystal given by one lateral tile, and the probe that looks at it.

    Args:
        name: Name of the file.
        numbers: Atomic numbers in the tile [atom].
        positions: Positions (x, y, z) in the tile, z along the beam, downstream positive [atom 3] [Å].
        cell: Sides of the tile (x, y, z) [Å].
        tile_shape: Pixels of the tile (ny, nx).
        slices: Slices in the tile.
        repeats: How often the tile is laid (z, y, x).
        energy: Kinetic energy of the beam [eV].
        semiangle: Convergence semi-angle [mrad].
        aberrations: Krivanek coefficients, polar: Cnm [Å], phinm [rad].
        detectors: Annuli, name to (inner, outer) [mrad].
    """

    name: str
    numbers: np.ndarray
    positions: np.ndarray
    cell: tuple[float, float, float]
    tile_shape: tuple[int, int]
    slices: int
    repeats: tuple[int, int, int]
    energy: float
    semiangle: float
    aberrations: dict[str, float]
    detectors: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def sampling(self) -> tuple[float, float]:
        """Size of a pixel (y, x) [Å]."""
        return self.cell[1] / self.tile_shape[0], self.cell[0] / self.tile_shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels of the whole grid (ny, nx)."""
        return self.tile_shape[0] * self.repeats[1], self.tile_shape[1] * self.repeats[2]

    @property
    def slice_thickness(self) -> float:
        """Thickness of one slice [Å]."""
        return self.cell[2] / self.slices


def crystal(numbers: list[int], fractions: list[tuple[float, float, float]], cell: tuple[float, float, float]) -> dict:
    """The fields of a `Specimen` that say where the atoms are, from fractional coordinates."""
    return {"numbers": np.array(numbers), "positions": np.array(fractions) * np.array(cell), "cell": cell}


def srtio3() -> Specimen:
    """SrTiO3 [001], 31 Å, 200 keV, underfocused with twofold astigmatism and spherical aberration.

    >>> srtio3().shape, round(8 * srtio3().cell[2], 2)
    ((128, 128), 31.24)
    """
    sites = [(0.0, 0.0, 0.25), (0.5, 0.5, 0.75), (0.5, 0.0, 0.75), (0.0, 0.5, 0.75), (0.5, 0.5, 0.25)]
    return Specimen(
        "srtio3", **crystal([38, 22, 8, 8, 8], sites, (3.905, 3.905, 3.905)), tile_shape=(32, 32), slices=2,
        repeats=(8, 4, 4), energy=200e3, semiangle=21.4,
        aberrations={"C10": -40.0, "C12": 15.0, "phi12": 0.4, "C30": 2.0e4},
        detectors={"bf": (0.0, 10.0), "abf": (10.0, 21.0), "haadf": (42.0, 68.0)},
    )  # fmt: skip


def silicon110() -> Specimen:
    """Si [110], 61 Å, 100 keV, overfocused with axial coma."""
    a = 5.431
    # Seen along [110] the cell is (x, y, z) = ([-110]/2, [001], [110]/2), and dumbbells of a/4 stand along y.
    sites = [(0.0, 0.0, 0.25), (0.5, 0.75, 0.25), (0.5, 0.5, 0.75), (0.0, 0.25, 0.75)]
    return Specimen(
        "si110", **crystal([14] * 4, sites, (a / np.sqrt(2), a, a / np.sqrt(2))), tile_shape=(45, 31), slices=2,
        repeats=(16, 3, 4), energy=100e3, semiangle=18.0,
        aberrations={"C10": 30.0, "C21": 300.0, "phi21": -1.1, "C30": -1.0e4},
        detectors={"bf": (0.0, 9.0), "abf": (9.0, 18.0), "haadf": (50.0, 94.0)},
    )  # fmt: skip


def gold() -> Specimen:
    """Au [001], 41 Å, 300 keV, threefold astigmatism and a round probe otherwise."""
    sites = [(0.0, 0.0, 0.25), (0.5, 0.5, 0.25), (0.5, 0.0, 0.75), (0.0, 0.5, 0.75)]
    return Specimen(
        "au", **crystal([79] * 4, sites, (4.078, 4.078, 4.078)), tile_shape=(34, 34), slices=2,
        repeats=(10, 4, 4), energy=300e3, semiangle=20.3,
        aberrations={"C10": 10.0, "C23": 400.0, "phi23": 0.7, "C30": 5.0e3, "C34": 8.0e3, "phi34": 0.2},
        detectors={"bf": (0.0, 10.0), "abf": (10.0, 20.0), "haadf": (36.0, 54.0)},
    )  # fmt: skip


def molybdenum_disulphide() -> Specimen:
    """Monolayer MoS2 with a vacancy of one sulphur pair's upper atom, one slice, 60 keV, aberrations to fifth order."""
    a, c = 3.16, 6.5
    sites = [(0.0, 0.0, 0.0), (0.5, 0.5, 0.0)]
    layers = [(42, 0.0, 0.0), (16, 1 / 3, 1.56 / c), (16, 1 / 3, -1.56 / c)]
    unit = [(z, (x, y + shift, 0.5 + dz)) for x, y, _ in sites for z, shift, dz in layers]
    nx, ny = 5, 3
    numbers, fractions = [], []
    for j in range(ny):
        for i in range(nx):
            numbers += [z for z, _ in unit]
            fractions += [((x + i) / nx, (y + j) / ny, z) for _, (x, y, z) in unit]
    vacancy = len(unit) * (nx * 1 + 2) + 1
    del numbers[vacancy], fractions[vacancy]
    return Specimen(
        "mos2", **crystal(numbers, fractions, (nx * a, ny * a * np.sqrt(3), c)), tile_shape=(128, 124), slices=1,
        repeats=(1, 1, 1), energy=60e3, semiangle=31.0,
        aberrations={
            "C10": -25.0, "C12": 8.0, "phi12": -0.9, "C21": 120.0, "phi21": 0.3, "C23": 90.0, "phi23": 1.0,
            "C30": -8.0e3, "C32": 3.0e3, "phi32": 0.5, "C34": 2.0e3, "phi34": -0.3, "C41": 3.0e4, "phi41": 2.0,
            "C43": 2.0e4, "phi43": -0.6, "C45": 4.0e4, "phi45": 0.2, "C50": 3.0e6, "C52": 1.0e6, "phi52": 0.8,
            "C54": 1.0e6, "phi54": -0.2, "C56": 2.0e6, "phi56": 0.1,
        },
        detectors={"bf": (0.0, 15.0), "abf": (15.0, 31.0), "haadf": (60.0, 122.0)},
    )  # fmt: skip


def gallium_nitride() -> Specimen:
    """GaN [0001], 26 Å, 120 keV, star aberration and twofold astigmatism; a rectangular grid."""
    a, c, u = 3.189, 5.185, 0.376
    # Heights chosen so that the close pair of a nitrogen and a gallium plane stands in the middle of a slice.
    up = [(7, 1 / 3, 0.188), (31, 2 / 3, 0.688 - u), (7, 2 / 3, 0.688), (31, 1 / 3, 1.188 - u)]
    sites = [(z, (x, (y + s) % 1.0, h)) for x, s in ((0.0, 0.0), (0.5, 0.5)) for z, y, h in up]
    return Specimen(
        "gan", **crystal([z for z, _ in sites], [p for _, p in sites], (a, a * np.sqrt(3), c)),
        tile_shape=(46, 26), slices=2, repeats=(5, 3, 5), energy=120e3, semiangle=24.0,
        aberrations={"C10": -30.0, "C12": 12.0, "phi12": 1.2, "C30": 1.0e4, "C32": 5.0e3, "phi32": -0.4},
        detectors={"bf": (0.0, 12.0), "abf": (12.0, 24.0), "haadf": (50.0, 90.0)},
    )  # fmt: skip


SPECIMENS = (srtio3, silicon110, gold, molybdenum_disulphide, gallium_nitride)
