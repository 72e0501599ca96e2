"""Drift, walk, jitter and coils: closed forms, statistics, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.core.paths import leaves
from stemjax.optics.distortion import (
    coil_matrix,
    drift_matrix,
    line_jitter,
    random_walk,
    with_coils,
    with_drift,
    with_jitter,
    with_walk,
)
from stemjax.optics.scan import make_raster, make_scan, probe_positions
from stemjax.optics.scan_paths import make_serpentine
from stemjax.optics.scan_points import make_random
from stemjax.optics.scan_series import make_pair

DWELL, FLYBACK, STEP, SHAPE = 2e-4, 3e-3, (0.3, 0.25), (12, 16)
LINE = SHAPE[1] * DWELL + FLYBACK
VELOCITY = (1.7, -2.3)


def fitted(nominal, positions):
    """The linear map of nominal into distorted positions, and the largest residual."""
    design = np.column_stack([nominal, np.ones(len(nominal))])
    solution, *_ = np.linalg.lstsq(design, positions, rcond=None)
    return solution[:2].T, np.abs(design @ solution - positions).max()


@pytest.mark.parametrize("rotation", [0.0, 90.0, -35.0])
def test_drift_distorts_a_raster_as_theory_says(rotation):
    """Row to row the probe moves by step + v T_line, point to point by step + v τ: a linear map of the raster."""
    scan = with_drift(make_raster(SHAPE, STEP, rotation=rotation, dwell=DWELL, flyback=FLYBACK), VELOCITY)
    matrix, rest = fitted(np.asarray(scan.positions), np.asarray(probe_positions(scan)))
    assert rest < 1e-12
    expected = drift_matrix(VELOCITY, step=STEP, dwell=DWELL, line_time=LINE, rotation=rotation)
    np.testing.assert_allclose(matrix, expected, atol=1e-12)
    moved = np.asarray(probe_positions(scan)).reshape(*SHAPE, 2)
    nominal = np.asarray(scan.positions).reshape(*SHAPE, 2)
    row = nominal[1, 0] - nominal[0, 0]
    np.testing.assert_allclose(moved[1, 0] - moved[0, 0], row + np.array(VELOCITY) * LINE, atol=1e-12)


def test_a_pair_of_frames_shows_opposite_shears():
    """At 0° rows follow along +y, at 90° along -x; the slow direction feels v T/s, the fast one v τ/s.

    Drift along x shears the first frame and compresses the second; drift along y stretches the first and shears the
    second the other way round.
    """
    v, step = 3.0, 0.4
    pair = make_pair(lambda a: make_raster((10, 10), step, rotation=a, dwell=DWELL, flyback=FLYBACK))
    time = 10 * DWELL + FLYBACK
    slow, fast = v * time / step, v * DWELL / step
    for velocity, first, second in (
        ((0.0, v), [[0, 0], [slow, fast]], [[0, 0], [fast, -slow]]),
        ((v, 0.0), [[slow, fast], [0, 0]], [[fast, -slow], [0, 0]]),
    ):
        scan = with_drift(pair, velocity)
        places = np.asarray(probe_positions(scan)).reshape(2, -1, 2)
        nominal = np.asarray(scan.positions).reshape(2, -1, 2)
        for frame, expected in enumerate((first, second)):
            matrix, _ = fitted(nominal[frame], places[frame])
            np.testing.assert_allclose(matrix - np.eye(2), expected, atol=1e-10)


def test_drift_moves_the_lattice_in_the_image():
    """An image of a lattice taken with drift has the period M⁻¹a: it samples that lattice exactly."""
    scan = with_drift(make_raster(SHAPE, STEP, dwell=DWELL, flyback=FLYBACK), VELOCITY)
    wave = np.array([0.31, 0.22])  # 1/Å
    image = np.cos(2 * np.pi * np.asarray(probe_positions(scan)) @ wave)
    matrix = np.asarray(drift_matrix(VELOCITY, step=STEP, dwell=DWELL, line_time=LINE))
    expected = np.cos(2 * np.pi * np.asarray(scan.positions) @ (matrix.T @ wave))
    np.testing.assert_allclose(image, expected, atol=1e-10)


def test_brownian_variance_grows_as_2Dt():
    """⟨|w(t) - w(t')|²⟩ = d² |t - t'| along each axis, also for uneven knots; axes are independent."""
    knots = np.array([0.0, 0.1, 0.15, 0.6, 1.0, 3.0])
    walks = np.asarray(
        jax.jit(jax.vmap(lambda k: random_walk(k, knots, 0.7)))(jax.random.split(jax.random.key(1), 4000))
    )
    assert np.abs(walks[:, 0]).max() == 0.0
    for i, j in ((0, 1), (0, 5), (2, 3), (1, 5)):
        expected = 0.7**2 * (knots[j] - knots[i])
        spread = np.sqrt(2 / 4000) * 4  # four standard deviations of a variance
        np.testing.assert_allclose((walks[:, j] - walks[:, i]).var(axis=0), expected, rtol=spread)
    assert abs(np.corrcoef(walks[:, 5].T)[0, 1]) < 4 / np.sqrt(4000)


def test_walk_is_linear_between_knots():
    knots, walk = np.array([1.0, 2.0, 4.0]), np.array([[0.0, 1.0], [2.0, -1.0], [3.0, 5.0]])
    times = np.array([0.0, 1.0, 1.25, 2.0, 3.0, 4.0, 9.0])
    scan = with_walk(make_scan(np.zeros((7, 2)), times=times), walk, knots)
    for axis in (0, 1):
        np.testing.assert_allclose(probe_positions(scan)[:, axis], np.interp(times, knots, walk[:, axis]), atol=1e-12)


def test_jitter_has_its_variance_and_correlation():
    jitter = np.asarray(line_jitter(jax.random.key(0), 40000, (0.3, 0.1), 0.6))
    np.testing.assert_allclose(jitter.std(axis=0), (0.3, 0.1), rtol=0.03)
    for lag in (1, 2, 3):
        for axis in (0, 1):
            found = np.corrcoef(jitter[lag:, axis], jitter[:-lag, axis])[0, 1]
            assert abs(found - 0.6**lag) < 0.03
    first = np.asarray(jax.vmap(lambda k: line_jitter(k, 2, 0.3, 0.9))(jax.random.split(jax.random.key(3), 4000)))
    np.testing.assert_allclose(first.std(axis=0), 0.3, rtol=0.05)  # stationary from the first line on


def test_jitter_moves_whole_lines():
    jitter = np.arange(8.0).reshape(4, 2)
    for scan in (make_raster((4, 3), 1.0), make_serpentine((4, 3), 1.0)):
        moved = np.asarray(probe_positions(with_jitter(scan, jitter)) - scan.positions)
        np.testing.assert_allclose(moved, np.repeat(jitter, 3, axis=0), atol=1e-12)


def test_coil_matrix_is_made_of_its_parts():
    np.testing.assert_allclose(coil_matrix(), np.eye(2))
    matrix = np.asarray(coil_matrix((1.02, 0.97), shear=0.05, rotation=30.0))
    assert np.linalg.det(matrix) == pytest.approx(1.02 * 0.97)
    angle = np.radians(30.0)
    np.testing.assert_allclose(matrix @ (0, 1), 0.97 * np.array([np.sin(angle), np.cos(angle)]), atol=1e-12)
    raster = make_raster((2, 3), 1.0)
    turned = with_coils(raster, coil_matrix(rotation=30.0))
    same = np.asarray(make_raster((2, 3), 1.0, rotation=30.0).positions)
    found = np.asarray(probe_positions(turned))
    np.testing.assert_allclose(found - found[0], same - same[0], atol=1e-12)


def distorted():
    """A scan in which every leaf is there and matters."""
    scan = make_raster((4, 5), (0.4, 0.3), dwell=0.01, flyback=0.05)
    scan = with_coils(with_drift(scan, (0.5, -0.3)), coil_matrix((1.01, 0.98), shear=0.03, rotation=2.0))
    knots = np.array([-0.003, 0.123, 0.333])  # no pattern starts at a knot, where the walk has a kink
    scan = with_walk(scan, random_walk(jax.random.key(0), knots, 0.8), knots)
    return with_jitter(scan, line_jitter(jax.random.key(1), 4, 0.05))


def test_positions_are_differentiable_in_every_leaf():
    scan, random = distorted(), np.random.default_rng(0)
    weight = random.normal(size=scan.positions.shape)

    def score(tree):
        return jnp.sum(jnp.sin(probe_positions(tree)) * weight)

    slopes, value = jax.jit(jax.grad(score))(scan), jax.jit(score)
    assert set(leaves(scan)) == {"positions", "affine", "centre", "times", "velocity", "walk", "knots", "jitter"}
    for name, leaf in leaves(scan).items():
        direction = random.normal(size=leaf.shape)
        h = 1e-6 * 0.01
        ends = [value(scan.replace(**{name: leaf + s * h * direction})) for s in (1, -1)]
        numeric = float(ends[0] - ends[1]) / (2 * h)
        analytic = float(jnp.sum(getattr(slopes, name) * direction))
        assert abs(analytic) > 1e-3, name
        assert numeric == pytest.approx(analytic, rel=2e-5), name


def test_strengths_are_differentiable():
    def spread(values):
        diffusion, rms, correlation = values
        walk = random_walk(jax.random.key(0), np.linspace(0, 1, 5), diffusion)
        return jnp.sum(walk**2) + jnp.sum(line_jitter(jax.random.key(1), 6, rms, correlation) ** 2)

    values = jnp.array([0.3, 0.2, 0.4])
    slope, value = jax.jit(jax.grad(spread))(values), jax.jit(spread)
    for n, step in enumerate(1e-6 * np.eye(3)):
        numeric = float(value(values + step) - value(values - step)) / 2e-6
        assert numeric == pytest.approx(float(slope[n]), rel=1e-6)
    assert float(slope[0]) == pytest.approx(
        2 / 0.3 * float(jnp.sum(random_walk(jax.random.key(0), np.linspace(0, 1, 5), 0.3) ** 2))
    )


def test_distortions_add_up_and_compile_once():
    scan = distorted()
    alone = [
        probe_positions(scan.replace(velocity=None, walk=None, jitter=None)),
        probe_positions(scan.replace(affine=jnp.eye(2), walk=None, jitter=None)),
        probe_positions(scan.replace(affine=jnp.eye(2), velocity=None, jitter=None)),
        probe_positions(scan.replace(affine=jnp.eye(2), velocity=None, walk=None)),
    ]
    total = scan.positions + sum(a - scan.positions for a in alone)
    traced = []

    @jax.jit
    def found(tree):
        traced.append(1)
        return probe_positions(tree)

    np.testing.assert_allclose(found(scan), total, atol=1e-12)
    found(distorted())  # a scan built again has an equal structure
    assert len(traced) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: with_drift(make_raster((2, 2), 1.0), (0.0, 1.0)), "drifts has no times"),
        (lambda: with_drift(make_raster((2, 2), 1.0, dwell=1.0), (0.0,)), "velocity of shape"),
        (lambda: with_walk(make_raster((2, 2), 1.0, dwell=1.0), np.zeros((2, 2)), np.zeros(3)), "two knots at least"),
        (lambda: with_walk(make_raster((2, 2), 1.0, dwell=1.0), np.zeros((2, 2)), np.zeros(2)), "do not increase"),
        (lambda: with_jitter(make_raster((2, 2), 1.0), np.zeros((3, 2))), r"for 2 lines; give \(2, 2\)"),
        (lambda: with_jitter(make_random(4, (1.0, 1.0)), np.zeros((4, 2))), "without lines"),
        (lambda: with_coils(make_raster((2, 2), 1.0), np.zeros(2)), "see coil_matrix"),
        (lambda: line_jitter(jax.random.key(0), 3, 0.1, 1.0), "below 1"),
        (lambda: probe_positions(make_raster((2, 2), 1.0).replace(velocity=jnp.ones(2))), "no times"),
        (lambda: probe_positions(make_raster((2, 2), 1.0, dwell=1.0).replace(walk=jnp.ones((2, 2)))), "0 knots"),
        (lambda: probe_positions(make_raster((2, 2), 1.0).replace(jitter=jnp.ones((2, 2)))), "no line numbers"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
