"""The specimens of tests/reference as experiments of stemjax, built through its public functions only."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from stemjax.core.grid import make_grid
from stemjax.detect.annular import make_annular_detector
from stemjax.forward.diffraction import Diffraction
from stemjax.forward.experiment import Experiment, make_experiment
from stemjax.optics.aberrations import make_aberrations
from stemjax.optics.probe import Probe, make_probe
from stemjax.optics.scan import make_scan
from stemjax.specimen.objects import make_potential_object
from stemjax.specimen.structure import Structure, make_structure

FOLDER = Path(__file__).resolve().parents[1] / "reference"
NAMES = ("srtio3", "si110", "au", "mos2", "gan")
DETECTORS = ("bf", "abf", "haadf")
# abTEM's own number for two thirds; the files are made with it, and no frequency of their grids lies in between.
DIFFRACTION = Diffraction(limit=0.6666666, limit_transmission=True)


def open_reference(name: str) -> h5py.File:
    """One reference file, opened to read."""
    return h5py.File(FOLDER / f"abtem_{name}.h5")


def reference_probe(file: h5py.File, *, soft: bool = True) -> Probe:
    """The probe of a reference file from the polar names of its aberrations."""
    grid = make_grid(
        tuple(int(n) for n in file.attrs["grid shape (y, x)"]), tuple(map(float, file.attrs["sampling (y, x) (Å)"]))
    )
    coefficients = {key.split()[1]: float(v) for key, v in file.attrs.items() if key.startswith("aberration ")}
    return make_probe(
        grid,
        energy=float(file.attrs["energy (eV)"]),
        semiangle=float(file.attrs["semiangle (mrad)"]),
        aberrations=make_aberrations(coefficients),
        soft=soft,
    )


def reference_structure(file: h5py.File) -> Structure:
    """The tile of atoms of a reference file; vectors turn from (x, y, z) to (z, y, x)."""
    atoms = file["atoms"]
    return make_structure(atoms["positions"][:][:, ::-1], atoms["numbers"][:], atoms["cell"][:][::-1])


def reference_experiment(file: h5py.File, tile: np.ndarray, positions: np.ndarray) -> Experiment:
    """The experiment of a reference file with a potential of the tile [slice y x] [V Å] and some positions [Å]."""
    probe = reference_probe(file)
    values = np.tile(np.asarray(tile, float), file.attrs["repeats of the tile (slice, y, x)"])
    specimen = make_potential_object(values, float(file.attrs["slice thickness (Å)"]), probe.grid)
    detectors = {name: make_annular_detector(*map(float, file.attrs[f"detector {name} (mrad)"])) for name in DETECTORS}
    return make_experiment(probe, specimen, make_scan(positions), detectors=detectors)


def middle(waves: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The middle [... ky kx] of transforms with zero frequency in the corner, as the files hold it."""
    centred = np.fft.fftshift(np.asarray(waves), axes=(-2, -1))
    first = [n // 2 - m // 2 for n, m in zip(centred.shape[-2:], shape, strict=True)]
    return centred[..., first[0] : first[0] + shape[0], first[1] : first[1] + shape[1]]
