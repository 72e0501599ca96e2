"""The first guess of a thick object."""

from pathlib import Path

import h5py
import jax
import numpy as np
import pytest

from stemjax.core.executor import plan
from stemjax.core.grid import make_grid
from stemjax.forward.experiment import make_experiment
from stemjax.forward.recording import Recording
from stemjax.inference.solvers.optimise import State
from stemjax.metrics.phase_error import phase_error
from stemjax.metrics.truth import scanned_region
from stemjax.optics.probe import make_probe
from stemjax.optics.scan import make_raster
from stemjax.problems.ptychography.gauge import scanned_area
from stemjax.problems.ptychography.lift import absorbing, lift, renewed, with_phase
from stemjax.problems.ptychography.patterns import prepare_patterns
from stemjax.problems.ptychography.settings import PtychographySettings
from stemjax.problems.ptychography.setup import make_experiment_guess, make_ptychography, propagation_steps
from stemjax.specimen.objects import make_object, make_potential_object

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "sim-sto-abtem"
WHOLE = make_grid((64, 64), (0.25, 0.25))
PROBE = make_probe(make_grid((32, 32), (0.25, 0.25)), energy=200e3, semiangle=20.0)


def settings(**object_):
    """Settings of an object."""
    return PtychographySettings.model_validate(
        {"problem": "ptychography", "data": {"file": "x"}, "orientation": "as-is", "object": object_}
    )


def scanned():
    """An experiment whose scan covers the middle of a blank object."""
    scan = make_raster((9, 9), 0.8)
    scan = scan.replace(positions=scan.positions - scan.positions.mean(axis=0)[None] + 8.0)
    return make_experiment(PROBE, make_object(WHOLE), scan, dose=1e4)


@pytest.mark.parametrize(
    ("object_", "steps"),
    [
        ({}, 1),
        ({"slices": 10, "thickness": 200.0}, 2),
        ({"slices": 10, "thickness": 100.0}, 1),
        ({"slices": 10, "thickness": 100.0, "steps": 4}, 4),
        ({"slices": 1, "thickness": 100.0}, 1),
    ],
)
def test_a_step_is_below_ten_angstroms(object_, steps):
    assert propagation_steps(settings(**object_)) == steps


def test_what_absorbs_begins_again_with_the_memory_of_it():
    start, real = scanned(), np.zeros((1, 64, 64))
    real[0, 30:35, 30:35] = -0.4
    leaves = {"specimen.real": jax.numpy.asarray(real), "specimen.imaginary": jax.numpy.zeros((1, 64, 64))}
    state = State(leaves, {"specimen.real": (jax.numpy.ones((1, 64, 64)), jax.numpy.asarray(3))})
    blank = absorbing(state, start, scanned_area(start))
    assert blank[32, 32] == 1.0
    assert blank[50, 50] == 0.0
    after = renewed(state, blank)
    assert np.abs(after.z["specimen.real"]).max() < 0.05
    assert after.memory["specimen.real"][0][0, 32, 32] == 0.0
    assert after.memory["specimen.real"][0][0, 50, 50] == 1.0
    assert after.memory["specimen.real"][1] == 3


def test_noise_of_the_modulus_is_not_taken_for_absorption():
    start, noise = scanned(), 0.2 * np.random.default_rng(1).standard_normal((1, 64, 64))
    leaves = {"specimen.real": jax.numpy.asarray(noise), "specimen.imaginary": jax.numpy.zeros((1, 64, 64))}
    assert not absorbing(State(leaves, {}), start, scanned_area(start)).any()


def test_a_phase_goes_into_objects_of_either_kind():
    phase = np.random.default_rng(2).random((2, 64, 64)) - 0.5
    plain = with_phase(scanned(), phase, positive=False)
    np.testing.assert_allclose(plain.specimen.phase, phase)
    blank = make_potential_object(np.zeros((2, 64, 64)), 10.0, WHOLE, periodic=False)
    potential = with_phase(scanned().replace(specimen=blank), phase, positive=True)
    assert float(potential.specimen.values.min()) > 0.0


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.skipif(not DATA.exists(), reason="the simulated crystal is not here")
def test_columns_of_a_thick_crystal_are_found_from_nothing():
    with h5py.File(DATA / "sto.h5") as file:
        counts, known = file["counts"][()], dict(file.attrs)
    recording = Recording(
        counts, energy=200e3, semiangle=21.4, scan_step=(0.4, 0.4), detector_sampling=(known["dk_mrad"],) * 2
    )
    choice, execution = settings(slices=20, thickness=199.0), plan(None)
    patterns = prepare_patterns(recording, choice)
    guess = make_experiment_guess(patterns, choice, C10=100.0)
    phase = lift(make_ptychography(patterns, choice, guess, execution), 9, execution).sum(axis=0)
    with h5py.File(DATA / "sto_truth.h5") as file:
        true, origin = file["phase"][()].astype(float).sum(axis=0), file.attrs["scan_origin_A"]
    sampling = guess.specimen.grid.sampling
    positions = np.asarray(guess.scan.positions) - np.asarray(guess.specimen.origin)
    near = positions.mean(axis=0) - (origin + 0.5 * 31 * 0.4)
    error = phase_error(
        phase, true, sampling=sampling, true_sampling=(0.1525390625,) * 2, near=(near[0], near[1]), max_shift=0.5,
        mask=scanned_region(phase.shape, sampling, positions),
    )  # fmt: skip
    # From a blank phase object the correlation stays below 0.5 and the slope below 0.1.
    assert error.correlation > 0.95
    assert 0.9 < error.slope < 1.1
