"""Paths of the probe: coverage, adjacency, speed, density, order in time."""

import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.optics.scan import Numbers, make_raster, make_scan, probe_positions
from stemjax.optics.scan_paths import image_order, make_hilbert, make_serpentine, make_spiral
from stemjax.optics.scan_points import make_random, make_sparse, make_sunflower, spaced_pixels, uniform_pixels
from stemjax.optics.scan_series import make_pair, make_series, make_series_rotated


def lattice(positions):
    """A simple image, a function of the place."""
    y, x = np.asarray(positions).T
    return np.sin(1.3 * y + 0.4) + np.cos(0.7 * x - 0.2 * y)


def test_a_raster_without_dwell_has_the_leaves_it_always_had():
    plain = make_raster((3, 4), 0.5)
    assert plain.times is None
    assert [f for f in ("velocity", "walk", "knots", "jitter", "line", "pixel") if getattr(plain, f) is not None] == []


def test_raster_times_are_dwell_and_flyback():
    times = np.asarray(make_raster((3, 4), 0.5, dwell=2e-6, flyback=5e-6).times).reshape(3, 4)
    np.testing.assert_allclose(np.diff(times, axis=1), 2e-6, rtol=1e-9)
    np.testing.assert_allclose(np.diff(times, axis=0), 4 * 2e-6 + 5e-6, rtol=1e-9)


@pytest.mark.parametrize("rotation", [0.0, 33.0])
def test_serpentine_is_a_raster_in_another_order(rotation):
    step, origin = (0.4, 0.3), (2.0, -1.0)
    raster = make_raster((5, 4), step, rotation=rotation, origin=origin)
    snake = make_serpentine((5, 4), step, rotation=rotation, origin=origin, dwell=1e-6, turn=3e-6)
    image = lattice(snake.positions)[image_order(snake)]
    np.testing.assert_allclose(image, lattice(raster.positions).reshape(5, 4), atol=1e-12)
    assert not np.allclose(lattice(snake.positions).reshape(5, 4), image)
    walked = np.linalg.norm(np.diff(np.asarray(snake.positions), axis=0), axis=1)
    assert walked.max() < 0.4 + 1e-9  # never a step longer than from row to row
    np.testing.assert_allclose(np.diff(np.asarray(snake.times))[:4], [1e-6, 1e-6, 1e-6, 4e-6], rtol=1e-9)


def test_hilbert_curve_visits_every_pixel_once_and_never_jumps():
    scan = make_hilbert(32, 0.5, rotation=20.0, origin=(1.0, 2.0), dwell=1e-6)
    places = np.asarray(scan.positions)
    np.testing.assert_allclose(np.linalg.norm(np.diff(places, axis=0), axis=1), 0.5, atol=1e-12)
    raster = np.asarray(make_raster((32, 32), 0.5, rotation=20.0, origin=(1.0, 2.0)).positions)
    np.testing.assert_allclose(places[image_order(scan)].reshape(-1, 2), raster, atol=1e-12)


def test_hilbert_curve_is_local():
    """Points 4^k apart in time are at most a few 2^k apart in space: |Δr|² ≤ 6 |Δn| (Gotsman & Lindenbaum 1996)."""
    places = np.asarray(make_hilbert(32, 1.0).positions)
    for lag in (1, 4, 16, 64, 256):
        distance = ((places[lag:] - places[:-lag]) ** 2).sum(axis=1)
        assert distance.max() <= 6 * lag


@pytest.mark.parametrize(("side", "close"), [(3, 2), (5, 4), (7, 8), (100, 128), (0, 1)])
def test_hilbert_sides_are_powers_of_two(side, close):
    with pytest.raises(InputError, match=f"nearest is {close}$"):
        make_hilbert(side, 1.0)


def test_spiral_runs_at_constant_speed():
    """Numerical arc length between samples of the path r = aθ is the same everywhere."""
    radius, turns, points = 20.0, 6.0, 200
    places = np.asarray(make_spiral(points, radius, turns=turns, centre=(3.0, 4.0), dwell=1e-6).positions) - (3.0, 4.0)
    rho = np.linalg.norm(places, axis=1)
    theta = 2 * np.pi * turns * rho / radius
    np.testing.assert_allclose(np.exp(1j * theta[1:]), (places[1:, 1] + 1j * places[1:, 0]) / rho[1:], atol=1e-9)
    fine = np.linspace(0, theta[-1], 400001)
    y, x = radius * fine * np.sin(fine) / theta[-1], radius * fine * np.cos(fine) / theta[-1]
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(y), np.diff(x)))])
    walked = np.diff(np.interp(theta, fine, arc))
    np.testing.assert_allclose(walked, walked.mean(), rtol=1e-6)


def test_spiral_has_constant_areal_density_outside_its_first_turn():
    places = np.asarray(make_spiral(4000, 50.0).positions)
    rho = np.linalg.norm(places, axis=1)
    area = np.pi * 50.0**2 / 4000
    for inner, outer in ((10.0, 25.0), (25.0, 40.0)):
        expected = np.pi * (outer**2 - inner**2) / area
        assert abs(((rho > inner) & (rho < outer)).sum() / expected - 1) < 0.02


@pytest.mark.parametrize("points", [5, 6, 7, 10, 30, 1000])
def test_spirals_choose_turns_that_their_points_can_show(points):
    assert make_spiral(points, 10.0).positions.shape == (points, 2)


def test_spirals_of_too_few_points_are_refused_and_the_remedy_works():
    with pytest.raises(InputError, match=r"5 turns with 30 points; give at least (\d+) points") as caught:
        make_spiral(30, 10.0, turns=5.0)
    words = str(caught.value).split()
    assert make_spiral(int(words[words.index("least") + 1]), 10.0, turns=5.0)
    assert make_spiral(30, 10.0, turns=float(words[words.index("and") + 1]))
    with pytest.raises(InputError, match="give at least 5"):
        make_spiral(3, 10.0)
    with pytest.raises(InputError, match=r"of 0\.5 turns"):
        make_spiral(30, 10.0, turns=0.5)


def test_sunflower_density_is_exactly_constant():
    rho = np.linalg.norm(np.asarray(make_sunflower(1000, 30.0).positions), axis=1)
    for n in (10, 250, 800):
        assert (rho < 30.0 * np.sqrt(n / 1000)).sum() == n
    places = np.asarray(make_sunflower(1000, 30.0).positions)
    gaps = np.linalg.norm(places[:, None] - places[None], axis=-1) + 100 * np.eye(1000)
    side = np.sqrt(np.pi * 30.0**2 / 1000)  # of the square that is a point's share
    assert gaps.min() > 0.8 * side  # the golden angle lets no two points come near
    assert gaps.min(axis=1).max() < 1.4 * side


def test_random_points_fill_their_rectangle_evenly():
    places = np.asarray(make_random(20000, (10.0, 4.0), seed=1, origin=(1.0, 2.0), settle=1e-6).positions) - (1.0, 2.0)
    counts, *_ = np.histogram2d(*places.T, bins=(5, 4), range=((0, 10), (0, 4)))
    chi2 = ((counts - 1000) ** 2 / 1000).sum()
    assert chi2 < 43.8  # 0.1 % of 19 degrees of freedom
    assert counts.sum() == 20000


def test_sparse_points_are_on_the_raster():
    pixels = uniform_pixels((6, 7), 15, seed=3)
    scan = make_sparse((6, 7), (0.5, 0.4), pixels, rotation=10.0, dwell=1e-6, flyback=1e-5)
    full = np.asarray(make_raster((6, 7), (0.5, 0.4), rotation=10.0).positions)
    np.testing.assert_allclose(scan.positions, full[pixels], atol=1e-12)
    rows = np.count_nonzero(np.diff(pixels // 7))
    assert float(scan.times[-1]) == pytest.approx(14e-6 + rows * 1e-5)
    with pytest.raises(InputError, match="increasing"):
        make_sparse((2, 2), 1.0, np.array([2, 1]))


def test_poisson_disks_keep_their_distance_and_leave_no_hole():
    pixels = spaced_pixels((40, 50), 4.0, seed=2)
    places = np.stack(np.divmod(pixels, 50), axis=1)
    gap = np.linalg.norm(places[:, None] - places[None], axis=-1)
    assert gap[gap > 0].min() >= 4.0
    every = np.stack(np.divmod(np.arange(2000), 50), axis=1)
    nearest = np.linalg.norm(every[:, None] - places[None], axis=-1).min(axis=1)
    assert nearest.max() < 4.0


def test_a_series_repeats_the_frame_and_time_runs_on():
    frame = make_serpentine((3, 4), 0.5, dwell=1e-3)
    series = make_series(frame, 3, pause=0.1)
    assert series.shape == (3, 3, 4)
    order = image_order(series)
    for n in range(3):
        np.testing.assert_allclose(
            lattice(series.positions)[order[n]], lattice(frame.positions)[image_order(frame)], atol=1e-12
        )
        np.testing.assert_allclose(series.times[12 * n], n * (12e-3 + 0.1), rtol=1e-9)
    assert len(np.unique(series.line.values)) == 9


def test_rotated_frames_look_at_one_field():
    series = make_series_rotated(lambda a: make_raster((4, 6), 1.0, rotation=a, dwell=1e-3), [0.0, 30.0, 90.0])
    places = np.asarray(series.positions).reshape(3, 4, 6, 2)
    np.testing.assert_allclose(places.mean(axis=(1, 2)), np.tile(places[0].mean(axis=(0, 1)), (3, 1)), atol=1e-12)
    pair = np.asarray(make_pair(lambda a: make_raster((4, 6), 1.0, rotation=a, dwell=1e-3)).positions)
    np.testing.assert_allclose(pair.reshape(2, 4, 6, 2)[1, 0, 1] - pair.reshape(2, 4, 6, 2)[1, 0, 0], (1, 0), atol=1e-9)


def test_order_is_static_and_compared_by_content():
    numbers = Numbers(np.arange(5))
    assert numbers == Numbers(np.arange(5))
    assert numbers != Numbers(np.arange(6))
    assert hash(numbers) == hash(Numbers(np.arange(5)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_raster((2, 2), 1.0, dwell=0.0), "dwell time of 0 s"),
        (lambda: make_raster((2, 2), 1.0, dwell=1.0, flyback=-1.0), "flyback time"),
        (lambda: make_scan(np.zeros((2, 2)), times=np.array([1.0, 0.0])), "run backwards"),
        (lambda: make_scan(np.zeros((2, 2)), times=np.zeros(3)), "one a position"),
        (lambda: make_scan(np.zeros((2, 2)), (1, 2), pixel=np.array([0, 0])), "each of 0 to 1 once"),
        (lambda: make_scan(np.zeros((2, 2)), pixel=np.array([0, 1])), "without the shape"),
        (lambda: make_scan(np.zeros((2, 2)), (2,)), r"\(frame, y, x\)"),
        (lambda: image_order(make_random(4, (1.0, 1.0))), "fills no image"),
        (lambda: make_series(make_raster((2, 2), 1.0), 2), "without times"),
        (lambda: make_series(make_random(4, (1.0, 1.0)), 2), "one shape"),
        (lambda: make_series(make_raster((2, 2), 1.0, dwell=1.0), 0), "0 frames"),
        (lambda: make_serpentine((2, 2), -1.0), "a step of"),
        (lambda: uniform_pixels((2, 2), 5), "5 of 4 pixels"),
        (lambda: spaced_pixels((4, 4), 0.5), "1 or more"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_every_path_gives_its_positions_to_the_simulators():
    for scan in (make_hilbert(4, 1.0), make_spiral(20, 3.0), make_random(5, (1.0, 1.0)), make_serpentine((2, 3), 1.0)):
        np.testing.assert_allclose(probe_positions(scan), scan.positions, atol=1e-12)
        assert all(jnp.issubdtype(a.dtype, jnp.floating) for a in (scan.positions, scan.times))
