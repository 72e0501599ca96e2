"""Drift found again from pairs and series, with error bars, and no drift where there is none."""

import jax
import numpy as np
import pytest
import scipy.stats

import stemjax as sj
from stemjax.forward.column_image import scene_positions
from stemjax.inference.posteriors.laplace import laplace
from stemjax.inference.priors.lattice import make_known_lattice, make_straight_lattice
from stemjax.inference.solvers.least_squares import least_squares
from stemjax.problems.columns import FREE as COLUMNS
from stemjax.problems.columns import ColumnSpreads, make_columns_problem
from stemjax.problems.drift import FREE, DriftSpreads, line_knots, make_drift_problem

pytestmark = pytest.mark.slow  # until each has a quick form

PIXELS, STEP, WIDTH, APART = 27, 0.2, 0.35, 1.6  # pixel, Å
DWELL, FLYBACK, PAUSE = 1e-4, 1e-3, 0.02  # s


def frame(angle=0.0):
    return sj.make_raster((PIXELS, PIXELS), STEP, rotation=angle, dwell=DWELL, flyback=FLYBACK)


PAIR = sj.make_pair(frame, pause=PAUSE)
KNOTS = line_knots(PAIR, 6)


def columns(electrons=1e4):
    """3 × 3 columns in the middle of the field."""
    line = APART * np.arange(-1, 2) + 0.5 * (PIXELS - 1) * STEP
    places = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    peak = electrons * STEP**2 / (2 * np.pi * WIDTH**2)
    return sj.make_columns(places, amplitude=peak, width=WIDTH, background=0.02 * peak)


def recorded(scan, seed=0, offsets=None, electrons=1e4):
    """Noisy images of the columns."""
    expected = np.asarray(sj.ColumnImage()(sj.ColumnScene(columns(electrons), scan, offsets=offsets)))
    return np.random.default_rng(seed).poisson(expected).astype(float).reshape(scan.shape)


def guessed(seed=0, by=0.1):
    """Positions as one sees them by eye."""
    places = np.asarray(columns().positions)
    return places + np.random.default_rng(100 + seed).normal(0, by, places.shape)


def of(problem, images):
    """The problem with other images: what was compiled for it serves."""
    return problem.replace(measurement=sj.Measurement(images.ravel()))


def assert_chi_squared(value, count):
    """A sum of so many squares of independent standard normal numbers, but for one time in 500."""
    low, high = scipy.stats.chi2.ppf([1e-3, 1 - 1e-3], count)
    assert low < value < high, (value / count, low / count, high / count)


def probe_error(truth, model):
    """Root mean square error of the probe's place [pixel], a shift of everything aside."""
    error = np.asarray(scene_positions(model)) - np.asarray(sj.probe_positions(truth))
    return np.sqrt(np.mean((error - error.mean(axis=0)) ** 2)) / STEP


def squared(found, path, true):
    """Squared distance of a leaf from the truth in units of its error bars, all covariances counted."""
    error = (np.asarray(found.estimate[path].value) - np.asarray(true)).ravel()
    return error @ np.linalg.solve(np.asarray(found.posterior.covariance([path])), error)


def test_steady_drift_is_found_from_a_pair_and_none_where_there_is_none():
    problem = make_drift_problem(recorded(PAIR), PAIR, guessed(), free=(*COLUMNS, "scan.velocity"))
    errors, ratios = [], []
    # Å/s: two pixels a frame, far more than a good stage; and a stage that stands still.
    for seed, velocity in enumerate([(2.0, -1.5)] * 4 + [(0.0, 0.0)] * 2):
        truth = sj.with_drift(PAIR, velocity)
        found = laplace(of(problem, recorded(truth, seed)))
        errors.append(probe_error(truth, found.value))
        ratios.append(squared(found, "scan.velocity", velocity))
    assert np.median(errors) < 0.02, errors
    assert_chi_squared(sum(ratios), 2 * 6)


def walking(strength=None):
    """The problem of a walk of some strength in a pair, without its images."""
    spreads = DriftSpreads(walk=strength, columns=ColumnSpreads(position=0.5))
    return make_drift_problem(recorded(PAIR), PAIR, columns(), lines=6, spreads=spreads)


def test_a_random_walk_is_found_within_its_error_bars():
    strength, total, wandered, left = 0.4, 0.0, [], []
    problem = walking(strength)
    for seed in range(4):
        walk = sj.random_walk(jax.random.key(seed), KNOTS, strength)
        truth = sj.with_walk(PAIR, walk, KNOTS)
        found = laplace(of(problem, recorded(truth, seed)))
        total += squared(found, "scan.walk", walk)
        wandered.append(probe_error(truth, problem.experiment))
        left.append(probe_error(truth, found.value))
    assert_chi_squared(total, 4 * 2 * len(KNOTS))
    assert np.median(left) < 0.4 * np.median(wandered), (left, wandered)


@pytest.mark.slow
def test_the_strength_of_a_walk_is_found_from_the_data():
    truth = sj.with_walk(PAIR, sj.random_walk(jax.random.key(7), KNOTS, 0.6), KNOTS)
    problem = of(walking(), recorded(truth))
    found = laplace(problem)
    assert probe_error(truth, found.value) < 0.4 * probe_error(truth, problem.experiment)


@pytest.mark.slow
def test_without_drift_columns_stay_where_the_plain_fit_finds_them():
    images = recorded(PAIR)
    plain = laplace(make_columns_problem(images, PAIR, columns(), spreads=ColumnSpreads(position=0.5)))
    flexible = laplace(of(walking(), images))
    places = [np.asarray(f.value.columns.positions) for f in (plain, flexible)]
    moved = (places[1] - places[1].mean(axis=0)) - (places[0] - places[0].mean(axis=0))
    assert np.sqrt(np.mean(moved**2)) < 0.5 * np.median(plain.uncertainty["columns.positions"].value)
    true = np.asarray(columns().positions)
    residual = [np.sqrt(np.mean((p - true - (p - true).mean(axis=0)) ** 2)) for p in places]
    assert residual[1] < 1.2 * residual[0], residual


def test_a_frame_that_is_a_lattice_vector_off_is_found_in_its_own_well():
    jump = np.array([[0.1, APART - 0.1]])
    images = recorded(PAIR, offsets=jax.numpy.asarray(jump))
    problem = make_drift_problem(images, PAIR, columns(), free=(*COLUMNS, "offsets"))
    assert [w.path for w in problem.wells] == ["offsets"]
    found = least_squares(problem)
    np.testing.assert_allclose(found.value.offsets, jump, atol=0.02)
    # From nought the solver stays in the wrong well, a lattice vector off: that is why the well is stated.
    stuck = least_squares(problem.replace(wells=()))
    assert np.abs(np.asarray(stuck.value.offsets) - jump).max() > 0.5 * APART


@pytest.mark.slow
def test_a_known_object_shows_the_drift_of_a_single_frame():
    strength, one = 0.4, frame()
    knots = line_knots(one, 2)
    walk = sj.random_walk(jax.random.key(3), knots, strength) + np.array([[0.1, -0.05]])
    truth = sj.with_walk(one, walk, knots)
    free = ("columns.amplitude", "columns.width", "columns.background", "scan.walk")
    problem = make_drift_problem(
        recorded(truth), one, columns(), lines=2, free=free, spreads=DriftSpreads(walk=strength)
    )
    found = laplace(problem)
    assert_chi_squared(squared(found, "scan.walk", walk), 2 * len(knots))


@pytest.mark.slow
def test_a_straight_lattice_tells_lines_from_columns():
    # Jitter of lines moves free columns of a single frame; that they stand on a lattice is enough to find it.
    one = frame()
    jitter = np.asarray(sj.line_jitter(jax.random.key(5), PIXELS, 0.06))
    truth = sj.with_jitter(one, jitter)
    lattice = make_straight_lattice(columns().positions, APART * np.eye(2), scale=1e-3)
    problem = make_drift_problem(
        recorded(truth), one, columns(), free=(*COLUMNS, "scan.jitter"), spreads=DriftSpreads(jitter=0.06),
        priors={"columns.positions": lattice},
    )  # fmt: skip
    found = laplace(problem)
    crossed = np.abs(np.arange(PIXELS) * STEP - 0.5 * (PIXELS - 1) * STEP) < APART  # lines over columns
    error = np.asarray(found.value.scan.jitter) - jitter
    ratio = (error - error[crossed].mean(axis=0))[crossed] / np.asarray(found.uncertainty["scan.jitter"].value)[crossed]
    assert np.sqrt(np.mean(ratio**2)) < 1.3
    assert np.std(error[crossed]) < 0.5 * np.std(jitter[crossed])


def test_knots_stand_at_line_starts_and_ends_of_frames():
    knots = line_knots(PAIR, 20)
    line = PIXELS * DWELL + FLYBACK
    first = [0.0, 20 * line, PIXELS * line - FLYBACK - DWELL]
    second = PIXELS * line - FLYBACK + PAUSE
    np.testing.assert_allclose(knots, [*first, *(second + t for t in first)], atol=1e-9)


@pytest.mark.parametrize(
    ("knobs", "scan", "words"),
    [
        ({"free": (*FREE, "scan.affine")}, PAIR, "any linear distortion"),
        ({"free": (*FREE, "offsets")}, frame(), r"give a scan \(frame, y, x\)"),
        ({"lines": 0}, PAIR, "give 1 or more"),
        ({}, sj.make_raster((PIXELS, PIXELS), STEP), "no times"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(knobs, scan, words):
    with pytest.raises(sj.InputError, match=words):
        make_drift_problem(np.ones(scan.shape), scan, columns(), **knobs)


@pytest.mark.slow
def test_coils_are_found_over_a_known_lattice():
    matrix = np.asarray(sj.coil_matrix((1.01, 0.995), shear=0.01))
    one = frame()
    known = make_known_lattice(columns().positions, APART * np.eye(2), scale=1e-3)
    problem = make_drift_problem(
        recorded(sj.with_coils(one, matrix)), one, columns(), free=(*COLUMNS, "scan.affine"),
        priors={"columns.positions": known},
    )  # fmt: skip
    found = laplace(problem)
    assert_chi_squared(squared(found, "scan.affine", matrix), 4)
