"""T2: waves, patterns and detector values of five specimens against abTEM (recipe in tests/reference/README.md)."""

import functools

import h5py
import jax
import numpy as np
import pytest

from stemjax.core.grid import Grid
from stemjax.forward.diffraction import exit_waves
from stemjax.forward.image import ScannedImage
from stemjax.optics.probe import probe_waves
from stemjax.specimen.potential import project_exact, project_gridded
from tests.forward.reference_experiments import (
    DETECTORS,
    DIFFRACTION,
    NAMES,
    middle,
    open_reference,
    reference_experiment,
    reference_probe,
    reference_structure,
)

# The files are rounded to single precision; what is left is that and the seventh digit of the physical constants.
ROUNDING = 1e-6
TARGET = 1e-4


@pytest.fixture(params=NAMES)
def reference(request):
    with open_reference(request.param) as file:
        yield file


@functools.partial(jax.jit, static_argnums=0)
def simulated(simulator, experiment):
    """One compiled program for a whole simulation; run piece by piece, most of the time would go into compiling."""
    return simulator(experiment)


def error(found, expected: np.ndarray) -> float:
    """Largest difference as a part of the largest expected modulus."""
    return float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())


def patterns(file: h5py.File, tile: np.ndarray, count: int) -> np.ndarray:
    """Diffraction patterns at the first positions of a file, cut as there."""
    found = simulated(DIFFRACTION, reference_experiment(file, tile, file["positions"][:count]))
    return middle(found, file["same_potential/patterns"].shape[1:])


def detector_values(file: h5py.File, tile: np.ndarray) -> dict[str, np.ndarray]:
    """Values of all detectors along the scan of a file."""
    return simulated(ScannedImage(DIFFRACTION), reference_experiment(file, tile, file["scan"][:]))


@pytest.mark.parametrize(("name", "soft"), [("probe", True), ("probe_hard_edge", False)])
def test_probe(reference, name, soft):
    stored = reference[name][:]
    waves = probe_waves(reference_probe(reference, soft=soft))
    assert error(middle(waves[0], stored.shape), stored) < ROUNDING


def test_exit_waves_of_the_same_potential(reference):
    stored = reference["same_potential/exit_waves"][:]
    experiment = reference_experiment(reference, reference["potential"][:], reference["positions"][:2])
    shared, field, shifts, _ = DIFFRACTION.prepare(experiment)
    for shift, wave in zip(shifts, stored, strict=True):
        found = exit_waves(shared, field, shift, experiment.probe.grid)[0]
        assert error(middle(found, wave.shape), wave) < ROUNDING


def test_patterns_of_the_same_potential(reference):
    stored = reference["same_potential/patterns"][:]
    found = patterns(reference, reference["potential"][:], len(stored))
    for mine, pattern in zip(found, stored, strict=True):
        assert error(mine, pattern) < ROUNDING


def test_detectors_of_the_same_potential(reference):
    found = detector_values(reference, reference["potential"][:])
    for name in DETECTORS:
        expected = reference[f"same_potential/{name}"][:]
        assert error(found[name], expected) < ROUNDING, name
        # An image that did not vary would be matched by any constant.
        assert np.ptp(expected) > 1e-2 * expected.max()


def test_single_precision_keeps_the_target(reference):
    with jax.enable_x64(False):
        found = patterns(reference, reference["potential"][:], 2)
        values = detector_values(reference, reference["potential"][:])
    assert found.dtype == np.float32
    assert values["bf"].dtype == np.float32
    for mine, pattern in zip(found, reference["same_potential/patterns"][:], strict=False):
        assert error(mine, pattern) < TARGET
    for name in DETECTORS:
        assert error(values[name], reference[f"same_potential/{name}"][:]) < TARGET, name


def own_potential(file: h5py.File, method) -> np.ndarray:
    """Potential of the tile [slice y x] from its atoms."""
    shape, cell = file["potential"].shape, file["atoms/cell"][:]
    grid = Grid(shape[1:], (cell[1] / shape[1], cell[0] / shape[2]))
    return np.asarray(method(reference_structure(file), grid, shape[0]).values)


@pytest.mark.parametrize("method", [project_gridded, project_exact])
def test_potential_of_the_atoms_is_the_reference_potential(reference, method):
    stored = reference["potential"][:]
    assert error(own_potential(reference, method), stored) < 1e-5


@pytest.mark.parametrize("method", [project_gridded, project_exact])
def test_patterns_from_atoms(reference, method):
    stored = reference["from_atoms/patterns"][:]
    for mine, pattern in zip(patterns(reference, own_potential(reference, method), 2), stored, strict=True):
        assert error(mine, pattern) < 0.01


def test_detectors_from_atoms(reference):
    found = detector_values(reference, own_potential(reference, project_gridded))
    for name in DETECTORS:
        expected = reference[f"from_atoms/{name}"][:]
        assert np.abs(np.asarray(found[name]) / expected - 1).max() < 0.01, name
