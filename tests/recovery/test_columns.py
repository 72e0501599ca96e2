"""Columns found again within the Cramér-Rao bound, with error bars that hold the truth as often as they say."""

import jax
import numpy as np
import pytest

import stemjax as sj
from stemjax.inference.curvature import fisher_matrix
from stemjax.inference.posteriors.laplace import laplace
from stemjax.inference.problem import start
from stemjax.inference.solvers.least_squares import least_squares
from stemjax.inference.vector import layout
from stemjax.problems.column_guess import guess_columns
from stemjax.problems.column_quantities import column_quantities
from stemjax.problems.columns import ColumnSpreads, make_columns_problem, with_own_shapes

pytestmark = pytest.mark.slow  # until each has a quick form

STEP, WIDTH = 0.15, 0.35  # Å


def scene(apart, electrons, side=4, background=1e-3, **shape):
    """side × side columns, near a square lattice, of so many electrons each; the background as a share of the peak."""
    pixels = int(np.ceil(((side - 1) * max(apart, 2.6) + 3.0) / STEP))
    middle, line = 0.5 * (pixels - 1) * STEP, apart * (np.arange(side) - 0.5 * (side - 1))
    places = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2) + middle
    places = places + np.random.default_rng(0).uniform(-0.05, 0.05, places.shape)
    peak = electrons * STEP**2 / (2 * np.pi * WIDTH**2)
    columns = sj.make_columns(places, amplitude=peak, width=WIDTH, background=background * peak, **shape)
    return sj.ColumnScene(columns, sj.make_raster((pixels, pixels), STEP))


def images(truth, count, seed=0):
    """So many noisy images of a scene [draw ny nx]."""
    expected = np.asarray(sj.ColumnImage()(truth)).reshape(truth.scan.shape)
    return np.random.default_rng(seed).poisson(expected, (count, *expected.shape)).astype(float)


def stated(truth, image, **knobs):
    """The problem as a person states it, from positions known to 0.05 Å; one spread, so that one program serves all."""
    knobs = {"spreads": ColumnSpreads(position=0.3)} | knobs
    near = np.asarray(truth.columns.positions) + np.random.default_rng(1).normal(0, 0.05, truth.columns.positions.shape)
    return make_columns_problem(image, STEP, near, **knobs)


def bounds(problem, truth):
    """Least standard deviation of every unknown at the truth by path: the Fisher information of the data, inverted."""
    at = start(problem.replace(experiment=truth.replace(near=problem.experiment.near)))
    deviations = np.sqrt(np.diag(np.linalg.inv(np.asarray(fisher_matrix(problem, at)))))
    return {path: deviations[part] for path, part in layout(problem).slices().items()}


def errors_over_bound(truth, draws, **knobs):
    """Errors of all coordinates over their bounds [draw coordinate]."""
    noisy = images(truth, draws)
    problem = stated(truth, noisy[0], **knobs)
    bound, found = bounds(problem, truth)["columns.positions"], []
    for image in noisy:
        result = least_squares(problem.replace(measurement=sj.Measurement(image.ravel())))
        assert result.success, result.status
        found.append((np.asarray(result.value.columns.positions) - np.asarray(truth.columns.positions)).ravel())
    return np.array(found) / bound


def assert_unit_spread(ratios, most=np.inf):
    """The root mean square of independent errors over their standard deviation is 1, within four of its own errors."""
    rms, count = np.sqrt(np.mean(ratios**2)), np.size(ratios)
    assert abs(rms - 1.0) < 4.0 / np.sqrt(2 * count), f"{rms:.3f} from {count} errors"
    assert rms <= most


def test_the_bound_of_a_lone_column_is_its_width_over_the_root_of_its_electrons():
    for electrons in (1e3, 1e5):
        truth = scene(3.6, electrons, side=2, background=1e-5)
        problem = stated(truth, images(truth, 1)[0], noise=sj.Poisson(1e-9))
        np.testing.assert_allclose(bounds(problem, truth)["columns.positions"], WIDTH / np.sqrt(electrons), rtol=2e-3)


@pytest.mark.parametrize("electrons", [1e3, 1e5])
def test_lone_columns_are_found_within_the_bound(electrons):
    assert_unit_spread(errors_over_bound(scene(2.6, electrons, side=3), draws=12))


@pytest.mark.parametrize("apart", [1.4, 1.0])
def test_columns_that_overlap_are_found_within_their_joint_bound(apart):
    assert_unit_spread(errors_over_bound(scene(apart, 1e4, side=3), draws=12))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("apart", "electrons", "most"),
    [(2.6, 1e3, 1.05), (2.6, 1e4, 1.05), (2.6, 1e5, 1.05), (1.4, 1e4, 1.1), (1.0, 1e4, 1.1)],
)
def test_thousands_of_columns_are_found_within_the_bound(apart, electrons, most):
    assert_unit_spread(errors_over_bound(scene(apart, electrons), draws=125), most)


def test_error_bars_of_all_leaves_and_of_what_follows_hold_the_truth():
    stretch = np.random.default_rng(5).normal(0, 0.3, (9, 2))
    truth = scene(1.4, 1e4, side=3, background=0.05, stretch=stretch)
    truth = truth.replace(columns=with_own_shapes(truth.columns))
    noisy = images(truth, 6)
    free = [f"columns.{leaf}" for leaf in ("positions", "amplitude", "width", "stretch", "background")]
    guess = with_own_shapes(guess_columns(noisy[0], STEP, truth.columns.positions))
    problem = make_columns_problem(noisy[0], STEP, guess, free=free)
    lattice = 1.4 * np.eye(2)
    derived = column_quantities(problem, lattice=lattice)
    ratios = {name: [] for name in (*free, *derived)}
    true = sj.select(truth, free) | {name: what.function(truth) for name, what in derived.items()}
    for image in noisy:
        found = laplace(problem.replace(measurement=sj.Measurement(image.ravel())), derived=derived)
        for name, value in true.items():
            error = np.asarray(found.estimate[name].value) - np.asarray(value)
            if name == "theta":  # a direction, not an arrow
                error = (error + np.pi / 2) % np.pi - np.pi / 2
            ratios[name].append(error / np.asarray(found.uncertainty[name].value))
    for name, all_of_it in ratios.items():
        ratio = np.array(all_of_it)
        # Robust, because a nearly round column has no direction that a normal error could describe.
        median = np.median(np.abs(ratio)) / 0.6745
        assert abs(median - 1.0) < 4.0 * 1.17 / np.sqrt(ratio.size) or ratio.size < 20, (name, median)
        assert name == "theta" or np.abs(ratio).max() < 5.0, (name, np.abs(ratio).max())


def test_a_guess_from_a_clean_image_is_the_truth():
    truth = scene(1.4, 1e4, background=0.1, stretch=(0.0, 0.0))
    heights = np.asarray(truth.columns.amplitude) * np.linspace(0.3, 1.0, 16)
    truth = truth.replace(columns=truth.columns.replace(amplitude=heights))
    image = np.asarray(sj.ColumnImage()(truth)).reshape(truth.scan.shape)
    found = guess_columns(image, STEP, truth.columns.positions)
    np.testing.assert_allclose(found.width, WIDTH, rtol=0.02)
    np.testing.assert_allclose(found.amplitude, heights, rtol=0.04)
    assert float(found.background) == pytest.approx(float(truth.columns.background), rel=0.05)


def test_a_column_that_is_not_there_is_guessed_at_its_standard_error():
    truth = scene(2.6, 1e3, background=0.1)
    image = images(truth, 1)[0]
    extra = np.concatenate([np.asarray(truth.columns.positions), [[0.1, 6.0]]])
    found = guess_columns(image, STEP, extra)
    assert 0 < float(found.amplitude[-1]) < 0.2 * float(found.amplitude[:-1].min())
    assert make_columns_problem(image, STEP, extra).priors["columns.amplitude"] is not None


def test_a_serpentine_gives_the_problem_of_a_raster():
    truth = scene(1.4, 1e4)
    image = np.asarray(sj.ColumnImage()(truth)).reshape(truth.scan.shape)
    snake = sj.make_serpentine(truth.scan.shape, STEP)
    problem = make_columns_problem(image, snake, truth.columns)
    np.testing.assert_allclose(sj.ColumnImage()(problem.experiment), problem.measurement.counts, atol=1e-4)


def test_spreads_have_the_units_that_they_say():
    truth = scene(1.4, 1e4)
    image = images(truth, 1)[0]
    own = stated(truth, image, spreads=ColumnSpreads()).priors
    apart = np.linalg.norm(np.diff(np.asarray(truth.columns.positions)[:2], axis=0))
    assert float(own["columns.positions"].scale[0, 0]) == pytest.approx(apart / 4, rel=0.15)
    assert float(own["columns.width"].loc) == pytest.approx(np.log(WIDTH), abs=0.1)
    given = stated(truth, image, spreads=ColumnSpreads(position=0.02, width=0.1)).priors
    assert np.asarray(given["columns.positions"].scale).ravel().tolist() == [0.02]
    assert float(given["columns.width"].scale) == 0.1


def test_every_leaf_of_the_columns_can_be_free():
    truth = scene(1.4, 1e4)
    problem = stated(truth, images(truth, 1)[0], free=["columns"])
    assert set(problem.free) == {f"columns.{n}" for n in ("positions", "amplitude", "width", "stretch", "background")}
    slope = jax.jit(jax.grad(sj.log_density, argnums=1))(problem, start(problem))
    assert all(np.isfinite(np.asarray(v)).all() and np.any(np.asarray(v) != 0) for v in slope.values())


@pytest.mark.parametrize(
    ("image", "positions", "words"),
    [
        (np.ones((20, 21)), [[1.0, 1.0], [1.0, 1.0]], "listed twice"),
        (np.ones((20, 21)), [[30.0, 30.0], [33.0, 30.0]], "no pixel lies near a column"),
        (np.full((20, 21), np.nan), [[1.0, 1.0]], "not finite"),
        (np.ones(20), [[1.0, 1.0]], "one pixel size"),
        (np.ones((20, 21)), [[1.0, 1.0], [1.0, 60.0]], r"1 of 2 columns lie where no pixel sees them \(numbers 1\)"),
    ],
)
def test_wrong_images_are_refused(image, positions, words):
    with pytest.raises(sj.InputError, match=words):
        make_columns_problem(image, STEP, positions)
    if np.ndim(image) == 2 and "finite" not in words:
        with pytest.raises(sj.InputError, match="for a scan of shape"):
            make_columns_problem(image, sj.make_raster((20, 20), STEP), positions)


def test_columns_given_too_narrow_keep_their_rims():
    shown = sj.make_columns([[4.0, 4.0]], amplitude=60.0, width=0.5, background=2.0)
    scan = sj.make_raster((40, 40), 0.2)
    image = np.random.default_rng(0).poisson(sj.ColumnImage()(sj.ColumnScene(shown, scan))).reshape(40, 40)
    found = []
    for width in (0.1, 0.5):
        given = sj.make_columns([[4.0, 4.0]], amplitude=60.0, width=width, background=2.0)
        best = sj.least_squares(sj.make_columns_problem(image, scan, given))
        found.append(float(best.estimate["columns.background"].value))
    # Only the prior of the width differs: a part of the error bar of 0.04.
    assert abs(found[0] - found[1]) < 0.01
