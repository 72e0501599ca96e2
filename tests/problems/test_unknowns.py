"""Unknowns of a reconstruction, found together: tilt, descan, lines, drift, semi-angle, aberrations, positions."""

import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.core.executor import plan
from stemjax.core.grid import make_grid
from stemjax.forward.diffraction import Diffraction
from stemjax.forward.experiment import make_experiment
from stemjax.forward.recording import Recording
from stemjax.inference.solvers.optimise import optimise
from stemjax.optics.aberrations import make_aberrations
from stemjax.optics.electron import wavelength
from stemjax.optics.probe import make_probe
from stemjax.optics.scan import make_raster, make_scan
from stemjax.problems.ptychography.leaves import free_leaves, priors
from stemjax.problems.ptychography.outcome import make_result
from stemjax.problems.ptychography.patterns import prepare_patterns
from stemjax.problems.ptychography.settings import PtychographySettings
from stemjax.problems.ptychography.setup import make_experiment_guess, make_ptychography
from stemjax.problems.ptychography.solve import make_plan
from stemjax.specimen.objects import make_object

ENERGY, ALPHA, SIDE, STEP = 100e3, 20.0, 10, 0.6
GRID, WHOLE = make_grid((32, 32), (0.35, 0.35)), make_grid((56, 56), (0.35, 0.35))
PIXEL = float(GRID.angular_sampling(wavelength(ENERGY))[0])


def settings(refine, **more):
    """A configuration whose first guess is near."""
    return PtychographySettings.model_validate(
        {
            "problem": "ptychography",
            "data": {"file": "x"},
            "orientation": "as-is",
            "probe": {"defocus": -60.0},
            "refine": refine,
            "solver": {"epochs": 150, "batch": 25, "held_out": 0, "dtype": "float64"},
            **more,
        }
    )


def recorded(*, descan=None, jitter=None, walk=None, semiangle=ALPHA, C10=60.0, dose=1e5, seed=0):
    """Counts of a specimen of smooth random phase, as a file would hold them."""
    random = np.random.default_rng(seed)
    ky, kx = WHOLE.frequencies()
    spectrum = np.fft.fft2(random.standard_normal(WHOLE.shape)) * np.exp(-1.5 * (ky**2 + kx**2))
    phase = np.fft.ifft2(spectrum).real
    raster = make_raster((SIDE, SIDE), STEP)
    line = np.repeat(np.arange(SIDE), SIDE)
    places = np.asarray(raster.positions) + 7.0
    places = places + (0.0 if jitter is None else jitter[line]) + (0.0 if walk is None else walk[line])
    scan = make_scan(places, (SIDE, SIDE))
    scan = scan if descan is None else scan.replace(descan=np.asarray(descan))
    probe = make_probe(GRID, energy=ENERGY, semiangle=semiangle, aberrations=make_aberrations({"C10": C10}))
    experiment = make_experiment(probe, make_object(WHOLE, phase=0.4 * phase[None] / phase.std()), scan, dose=dose)
    counts = random.poisson(np.asarray(Diffraction(limit=None)(experiment)))
    return Recording(
        np.fft.fftshift(counts, axes=(1, 2)).reshape(SIDE, SIDE, 32, 32), energy=ENERGY, semiangle=ALPHA,
        scan_step=(STEP, STEP), detector_sampling=(PIXEL, PIXEL),
    )  # fmt: skip


def found(choice, recording):
    """What a reconstruction finds, by name."""
    execution = plan(None)
    patterns = prepare_patterns(recording, choice)
    guess = make_experiment_guess(patterns, choice, C10=60.0)
    problem = make_ptychography(patterns, choice, guess, execution)
    result = optimise(problem, make_plan(choice, guess, execution), choice.solver.epochs)
    return make_result(problem, result.value, status="done").estimate


def correlated(values, truth):
    """Correlation of two sets of values."""
    return float(np.corrcoef(np.ravel(values), np.ravel(truth))[0, 1])


def test_every_key_frees_its_leaf_with_a_belief_and_a_rate():
    refine = dict.fromkeys(
        ("defocus", "semiangle", "positions", "affine", "lines", "drift", "descan", "tilts", "probe"), True
    )
    choice = settings(refine, object={"slices": 2, "thickness": 40.0})
    patterns = prepare_patterns(recorded(), choice)
    guess = make_experiment_guess(patterns, choice, C10=60.0)
    free = free_leaves(choice)
    assert {"scan.jitter", "scan.walk", "scan.descan", "tilt", "probe.semiangle", "specimen.phase"} <= set(free)
    assert {"scan.jitter", "scan.walk", "scan.descan", "tilt", "probe.semiangle"} <= set(priors(choice, guess))
    rates = make_plan(choice, guess, plan(None)).rates
    assert set(rates) == set(free)
    assert all(rate(0) > 0 for rate in rates.values())
    assert guess.tilt.shape == guess.scan.descan.shape == (SIDE * SIDE, 2)


def test_one_tilt_and_one_for_each_do_not_go_together():
    with pytest.raises(ValueError, match=r"drop refine\.tilt"):
        settings({"tilt": True, "tilts": True}, object={"slices": 2, "thickness": 40.0})


def test_descan_and_lines_are_found_together():
    random = np.random.default_rng(4)
    descan, jitter = 0.4 * PIXEL * random.standard_normal((SIDE**2, 2)), 0.15 * random.standard_normal((SIDE, 2))
    choice = settings({"descan": "after 5", "lines": "after 5"}, prior={"position_std": 0.15})
    estimate = found(choice, recorded(descan=descan, jitter=jitter))
    for axis, letter in enumerate("yx"):
        assert correlated(estimate[f"descan_{letter}"].value, descan[:, axis]) > 0.999
        error = estimate[f"line_shift_{letter}"].value - jitter[:, axis]
        assert (error - error.mean()).std() < 0.05 * jitter[:, axis].std()


@pytest.mark.slow
def test_seven_unknowns_are_found_in_one_run():
    random = np.random.default_rng(5)
    walk = np.cumsum(0.06 * random.standard_normal((SIDE, 2)), axis=0)
    descan = 0.3 * PIXEL * random.standard_normal((SIDE**2, 2))
    refine = {
        "defocus": True, "semiangle": "after 5", "drift": "after 5", "descan": "after 5", "affine": "after 8",
        "probe": "after 20", "aberrations": {"C12": "after 5"},
    }  # fmt: skip
    choice = settings(refine, prior={"drift_step": 0.06}, solver={"epochs": 80, "batch": 50, "held_out": 0})
    estimate = found(choice, recorded(descan=descan, walk=walk, semiangle=19.8, C10=66.0))
    assert abs(float(estimate["aberration_C10"].value) - 66.0) < 3.0
    assert abs(float(estimate["semiangle"].value) - 19.8) < 0.1
    for axis, letter in enumerate("yx"):
        assert correlated(estimate[f"descan_{letter}"].value, descan[:, axis]) > 0.95


def test_a_beam_stop_and_a_hot_pixel_are_left_out_and_the_dose_is_found():
    recording = recorded()
    counts, mask = recording.counts.copy(), np.ones((32, 32), np.float32)
    mask[14:18, :17], mask[5, 25] = 0.0, 0.0
    counts[:, :, 14:18, :17], counts[:, :, 5, 25] = 0, 50_000
    choice = settings({"defocus": True}, data={"file": "x", "mask": "m.npy"})
    execution = plan(None)
    patterns = prepare_patterns(Recording(**{**vars(recording), "counts": counts}), choice, mask)
    assert patterns.mask is not None
    assert patterns.mask[0, 0] == 0.0
    guess = make_experiment_guess(patterns, choice, C10=55.0)
    problem = make_ptychography(patterns, choice, guess, execution)
    assert "dose" in problem.free
    result = optimise(problem, make_plan(choice, guess, execution), 40)
    estimate = make_result(problem, result.value, status="done").estimate
    assert abs(float(estimate["dose"].value) / 1e5 - 1.0) < 0.01
    assert abs(float(estimate["aberration_C10"].value) - 60.0) < 2.0
    # Half the deviance of a right model, of the pixels that are used.
    assert result.history["loss"][-1] < 1.3 * 0.5 * 32 * 32


def test_a_mask_that_hides_the_disk_is_refused():
    mask = np.ones((32, 32), np.float32)
    mask[8:24, 8:24] = 0.0
    choice = settings({}, data={"file": "x", "mask": "m.npy"})
    with pytest.raises(InputError, match="mask hides"):
        make_experiment_guess(prepare_patterns(recorded(), choice, mask), choice, C10=60.0)
