"""Reference files made by abTEM: the same potential propagated by another program, and its own way from the atoms.

Run in the environment of the peers from the root of the repository::

    .venv-peers/bin/python -m tests.reference.make_abtem [NAME ...]

The conventions are in README.md beside this file. Arrays are stored [y, x]: abTEM's first axis is its x, so that
every array is transposed on the way in and out, and positions are given to abTEM as (x, y).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from tests.reference.specimens import SPECIMENS, Specimen
from tests.reference.structure_factors import band, projected_potential

FOLDER = Path(__file__).resolve().parent
BAND = 0.6666666
SCAN = 6
OVERSAMPLING = 12


def configure() -> None:
    """Double precision, eager, numpy's transforms, and a sharp band limit in place of the tapered default."""
    import abtem

    abtem.config.set({"precision": "float64", "dask.lazy": False, "fft": "numpy", "antialias.cutoff": BAND,
                      "antialias.taper": 0.0, "diagnostics.progress_bar": False})  # fmt: skip


def tile_potential(s: Specimen) -> np.ndarray:
    """Potential of the tile [slice ny nx] [V Å], every atom wholly in the slice that holds its centre."""
    index = np.floor(s.positions[:, 2] / s.slice_thickness).astype(int)
    yx = s.positions[:, 1::-1]
    slices = [projected_potential(s.numbers[index == i], yx[index == i], *grid(s)) for i in range(s.slices)]
    # Rounded to what is stored, so that both programs propagate the same numbers.
    return np.stack(slices).astype(np.float32)


def grid(s: Specimen) -> tuple[tuple[int, int], tuple[float, float]]:
    """Shape and sampling of the tile, (y, x)."""
    return s.tile_shape, s.sampling


def own_tile_potential(s: Specimen, factor: int = OVERSAMPLING, projection: str = "finite") -> np.ndarray:
    """abTEM's own potential of the tile [slice ny nx] [V Å], built on a finer grid, cut to the band of the coarse one.

    Points that sample the cusp of an atom alias; at 0.01 Å that no longer matters. Of three periods along the beam
    the middle one is taken, for the tails that a finite projection leaves in the neighbouring slices.
    """
    import abtem
    from ase import Atoms

    periods = 1 if s.slices == 1 else 3
    atoms = Atoms(s.numbers, positions=s.positions, cell=s.cell, pbc=True).repeat((1, 1, periods))
    gpts = (s.tile_shape[1] * factor, s.tile_shape[0] * factor)
    potential = abtem.Potential(atoms, gpts=gpts, slice_thickness=s.slice_thickness, parametrization="lobato",
                                projection=projection)  # fmt: skip
    array = np.asarray(potential.build(lazy=False).array).swapaxes(-1, -2)
    middle = array[(periods // 2) * s.slices : (periods // 2 + 1) * s.slices]
    return cut_to_band(middle, s.tile_shape, s.sampling)


def cut_to_band(array: np.ndarray, shape: tuple[int, int], sampling: tuple[float, float]) -> np.ndarray:
    """A periodic image [... y x] on a coarser grid over the same field, without what is above 2/3 of its Nyquist."""
    iy, ix = (np.rint(np.fft.fftfreq(n, 1 / n)).astype(int) for n in shape)
    coarse = np.fft.fft2(array)[..., iy[:, None], ix] * band(shape, sampling)
    return np.fft.ifft2(coarse).real * (np.prod(shape) / np.prod(array.shape[-2:]))


def probe_positions(s: Specimen) -> np.ndarray:
    """Four probe positions (y, x) off every symmetry, near the middle of the field [pattern 2] [Å]."""
    fractions = np.array([[0.5, 0.5], [0.37, 0.61], [0.55, 0.43], [0.41, 0.29]])
    return fractions * [n * d for n, d in zip(s.shape, s.sampling, strict=True)]


def scan_positions(s: Specimen) -> np.ndarray:
    """A raster of positions (y, x) over one tile, or 4 Å of it where the tile is the specimen [pattern 2] [Å]."""
    side = np.array([min(s.cell[1], 5.6), min(s.cell[0], 5.6)])
    start = np.array([s.cell[1] * (s.repeats[1] // 2), s.cell[0] * (s.repeats[2] // 2)])
    steps = (np.arange(SCAN) + 0.2) / SCAN
    grid = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    return start + grid * side


def whole_potential(s: Specimen, tile: np.ndarray) -> Any:
    """The tile laid out over the field as an abTEM potential."""
    import abtem

    array = np.tile(tile.astype(np.float64), s.repeats).swapaxes(-1, -2)
    sampling = s.sampling[::-1]
    return abtem.PotentialArray(np.ascontiguousarray(array), slice_thickness=s.slice_thickness, sampling=sampling)


def make_probe(s: Specimen, soft: bool = True) -> Any:
    """The probe of a specimen as an abTEM object."""
    import abtem

    return abtem.Probe(energy=s.energy, semiangle_cutoff=s.semiangle, soft=soft, **s.aberrations)


def exit_waves(s: Specimen, potential: Any, positions: np.ndarray) -> np.ndarray:
    """Fourier coefficients of the exit waves [pattern ky kx], zero frequency in the corner; |ψ|² sums to 1."""
    import abtem

    waves = make_probe(s).multislice(potential, scan=abtem.CustomScan(positions[:, ::-1]), lazy=False)
    return np.fft.fft2(np.asarray(waves.array).swapaxes(-1, -2))


def probe_wave(s: Specimen, potential: Any, soft: bool = True) -> np.ndarray:
    """Fourier coefficients of the probe at the origin [ky kx], zero frequency in the corner; |ψ|² sums to 1."""
    probe = make_probe(s, soft)
    probe.grid.match(potential)
    return np.fft.fft2(np.asarray(probe.build(scan=(0.0, 0.0), lazy=False).array).T)


def detector_values(s: Specimen, potential: Any, positions: np.ndarray) -> dict[str, np.ndarray]:
    """Fraction of the beam that falls on every annulus [pattern]."""
    import abtem

    detectors = [abtem.AnnularDetector(inner=a, outer=b) for a, b in s.detectors.values()]
    scan = abtem.CustomScan(positions[:, ::-1])
    measured = make_probe(s).multislice(potential, scan=scan, detectors=detectors, lazy=False)
    return {name: np.asarray(m.array) for name, m in zip(s.detectors, measured, strict=True)}


def central(waves: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The middle of a transform [... ky kx], zero frequency at index (n // 2, n // 2) of odd sides."""
    shifted = np.fft.fftshift(waves, axes=(-2, -1))
    start = [n // 2 - m // 2 for n, m in zip(waves.shape[-2:], shape, strict=True)]
    return shifted[..., start[0] : start[0] + shape[0], start[1] : start[1] + shape[1]]


def band_shape(s: Specimen, radius: float | None = None) -> tuple[int, int]:
    """Odd sides (ky, kx) of the square about zero that holds all |k| below a radius [1/Å], or below 2/3 of Nyquist."""
    radius = 1 / (3 * max(s.sampling)) if radius is None else radius
    ny, nx = (int(radius * n * d) for n, d in zip(s.shape, s.sampling, strict=True))
    return 2 * ny + 1, 2 * nx + 1


def reference(s: Specimen) -> tuple[dict, dict]:
    """Everything that one file holds: arrays by path with (values, unit, axes), and attributes."""
    from abtem.core.energy import energy2sigma, energy2wavelength

    wavelength = energy2wavelength(s.energy)
    tile = tile_potential(s)
    given, own = whole_potential(s, tile), whole_potential(s, own_tile_potential(s))
    positions, scan = probe_positions(s), scan_positions(s)
    waves = exit_waves(s, given, positions)
    disk = band_shape(s, 1.15e-3 * s.semiangle / wavelength)
    arrays = {
        "atoms/numbers": (s.numbers, "1", "atom"),
        "atoms/positions": (s.positions, "Å", "atom xyz"),
        "atoms/cell": (np.array(s.cell), "Å", "xyz"),
        "atoms/repeats": (np.array(s.repeats[::-1]), "1", "xyz"),
        "potential": (tile, "V Å", "slice y x"),
        "probe": (central(probe_wave(s, given), disk).astype(np.complex64), "1", "ky kx"),
        "probe_hard_edge": (central(probe_wave(s, given, soft=False), disk).astype(np.complex64), "1", "ky kx"),
        "positions": (positions, "Å", "pattern yx"),
        "scan": (scan, "Å", "pattern yx"),
        "same_potential/exit_waves": (central(waves[:2], band_shape(s)).astype(np.complex64), "1", "pattern ky kx"),
        "same_potential/patterns": (pattern(s, waves), "1", "pattern ky kx"),
        "from_atoms/patterns": (pattern(s, exit_waves(s, own, positions[:2])), "1", "pattern ky kx"),
    }
    for group, potential in (("same_potential", given), ("from_atoms", own)):
        values = detector_values(s, potential, scan)
        arrays |= {f"{group}/{name}": (v.astype(np.float32), "1", "pattern") for name, v in values.items()}
    return arrays, attributes(s, wavelength, energy2sigma(s.energy))


def pattern(s: Specimen, waves: np.ndarray) -> np.ndarray:
    """Diffraction patterns inside the band of the coarse grid [pattern ky kx]; a whole pattern sums to ≤ 1."""
    return (np.abs(central(waves, band_shape(s))) ** 2).astype(np.float32)


def attributes(s: Specimen, wavelength: float, interaction: float) -> dict:
    """What a reader must know of a file, numbers with the unit in the name of the attribute."""
    import abtem

    flat: dict[str, Any] = {f"detector {k} (mrad)": np.array(v) for k, v in s.detectors.items()}
    flat |= {f"aberration {k} ({'rad' if k.startswith('phi') else 'Å'})": v for k, v in s.aberrations.items()}
    return {
        "program": f"abTEM {abtem.__version__}", "precision": "float64", "energy (eV)": s.energy,
        "wavelength (Å)": wavelength, "interaction parameter (rad/(V Å))": interaction,
        "semiangle (mrad)": s.semiangle, "grid shape (y, x)": s.shape, "sampling (y, x) (Å)": s.sampling,
        "slice thickness (Å)": s.slice_thickness, "repeats of the tile (slice, y, x)": s.repeats,
        "band limit (fraction of Nyquist)": BAND, "finer grid of from_atoms (factor)": OVERSAMPLING,
        **flat,
    }  # fmt: skip


def write(path: Path, arrays: dict, attrs: dict) -> None:
    """Write arrays with unit and axes to HDF5, compressed, without time stamps."""
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs.update(attrs)
        for name, (values, unit, axes) in arrays.items():
            packed = {"compression": "gzip", "compression_opts": 9, "shuffle": True} if values.size > 64 else {}
            dataset = file.create_dataset(name, data=values, track_times=False, **packed)
            dataset.attrs["units"], dataset.attrs["dims"] = unit, axes


def main(names: list[str]) -> None:
    """Make the named files, or all."""
    configure()
    for specimen in (make() for make in SPECIMENS):
        if names and specimen.name not in names:
            continue
        path = FOLDER / f"abtem_{specimen.name}.h5"
        arrays, attrs = reference(specimen)
        write(path, arrays, attrs)
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
