"""The Gaussian at the mode: against closed forms, the Cramér-Rao bound, and the scatter of fits to noise."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.integrate
import scipy.stats
from flax import struct

import stemjax as sj
from stemjax.core.bijectors import Interval
from stemjax.forward.column_image import ColumnImage, ColumnScene
from stemjax.inference import problem as statement
from stemjax.inference.derived import Derived
from stemjax.inference.gaussian import Gaussian, LowRank
from stemjax.inference.outcome import at_point
from stemjax.inference.posteriors.laplace import laplace
from stemjax.inference.posteriors.marginals import intervals, standard_deviations
from stemjax.inference.solvers.mode import expected_curvature
from stemjax.inference.vector import layout
from stemjax.specimen.columns import make_columns
from tests.inference.test_problem import Counts, Line, X, line_problem


class Mixed:
    """A linear forward model of a picture and two numbers."""

    def __init__(self, matrix):
        self.matrix = jnp.asarray(matrix)

    def __call__(self, model, index=None):
        return self.matrix @ jnp.concatenate([model["image"].ravel(), model["pair"]])


PIXELS, RECORDS = (6, 10), 90
MIXED = Mixed(np.random.default_rng(1).normal(size=(RECORDS, 62)))


def linear_problem(spread=1.5):
    data = 5.0 * np.random.default_rng(0).normal(size=RECORDS)
    model = {"image": jnp.zeros(PIXELS), "pair": jnp.zeros(2)}
    return sj.make_problem(
        model, Counts(data), forward=MIXED, noise=sj.Gaussian(2.0, 0.0), free=["image", "pair"],
        priors={"image": sj.Normal(0.0, spread)},
    )  # fmt: skip


def linear_answer(spread=1.5):
    """Mean and covariance by normal equations; the order of the unknowns is alphabetical: image, pair."""
    M = np.asarray(MIXED.matrix)
    data = 5.0 * np.random.default_rng(0).normal(size=RECORDS)
    covariance = np.linalg.inv(M.T @ M / 4.0 + np.diag(np.r_[np.full(60, 1 / spread**2), 0.0, 0.0]))
    return covariance @ M.T @ data / 4.0, covariance


def from_guess(problem):
    """A result at the first guess, to start from."""
    return at_point(problem, statement.start(problem), "guess", "")


def vector(named):
    return np.concatenate([np.ravel(named[path].value) for path in sorted(named)])


@pytest.fixture(scope="module")
def dense():
    problem = linear_problem()
    return laplace(problem, at=from_guess(problem), draws=3000)


def test_linear_gaussian_posterior_is_exact(dense):
    mean, covariance = linear_answer()
    np.testing.assert_allclose(vector(dense.estimate), mean, rtol=0, atol=1e-8)
    np.testing.assert_allclose(vector(dense.uncertainty), np.sqrt(np.diag(covariance)), rtol=1e-8)
    np.testing.assert_allclose(dense.posterior.covariance(), covariance, rtol=0, atol=1e-8)
    np.testing.assert_allclose(dense.posterior.covariance(["pair"]), covariance[60:, 60:], rtol=0, atol=1e-8)
    swapped = dense.posterior.covariance(["pair", "image"])
    np.testing.assert_allclose(swapped[:2, 2:], covariance[60:, :60], rtol=0, atol=1e-8)
    assert dense.success
    assert dense.samples["image"].dims == ("draw", "axis0", "axis1")


def test_draws_and_density_are_those_of_scipy(dense):
    mean, covariance = linear_answer()
    draws = np.concatenate([dense.samples[p].value.reshape(3000, -1) for p in ("image", "pair")], axis=1)
    white = np.linalg.solve(np.linalg.cholesky(covariance), (draws - mean).T)
    # 3000 x 62 squares of standard normal numbers.
    assert scipy.stats.chi2(white.size).cdf(np.sum(white**2)) == pytest.approx(0.5, abs=0.499)
    scatter = white @ white.T / 3000
    assert np.abs(scatter - np.eye(62)).max() < 5.5 * np.sqrt(2 / 3000)
    z = {"image": jnp.asarray(draws[0, :60].reshape(PIXELS)), "pair": jnp.asarray(draws[0, 60:])}
    theirs = scipy.stats.multivariate_normal(mean, covariance).logpdf(draws[0])
    assert float(dense.posterior.log_prob(z)) == pytest.approx(theirs, rel=1e-9)


def test_all_directions_make_the_matrix():
    problem, (mean, covariance) = linear_problem(), linear_answer()
    found = laplace(problem, at=from_guess(problem), rank=62)
    np.testing.assert_allclose(vector(found.estimate), mean, rtol=0, atol=1e-7)
    np.testing.assert_allclose(found.posterior.covariance(), covariance, rtol=0, atol=1e-7)
    assert found.diagnostics["residual"] < 1e-7


def test_few_directions_keep_the_variances():
    problem, (_, covariance) = linear_problem(), linear_answer()
    quantity = {"sum": Derived(_sum, "1")}
    found = laplace(problem, at=from_guess(problem), rank=10, probes=200, draws=200, derived=quantity, seed=3)
    posterior = found.posterior
    assert isinstance(posterior, LowRank)
    # The small leaf is solved for: its variances, and its covariances with everything, are exact.
    np.testing.assert_allclose(posterior.covariance(["pair"]), covariance[60:, 60:], rtol=1e-6)
    np.testing.assert_allclose(
        posterior.covariance(["pair", "image"])[:2, 2:], covariance[60:, :60], atol=1e-6 * covariance[60, 60]
    )
    # Those of the picture are as good as is said, and not off in one direction.
    ratio = vector(found.uncertainty)[:60] / np.sqrt(np.diag(covariance)[:60]) - 1
    stated = np.sqrt(np.mean(found.diagnostics["error"]["image"] ** 2))
    assert np.sqrt(np.mean(ratio**2)) < 1.5 * stated < 0.05
    assert abs(ratio.mean()) < 4 * stated / np.sqrt(60)
    # What is derived goes by solves and not by the few directions.
    row = np.r_[np.ones(60), 0.0, 1.0]
    assert float(found.uncertainty["sum"].value) == pytest.approx(np.sqrt(row @ covariance @ row), rel=1e-6)
    # The draws come from the full precision: those of the sum scatter by its standard deviation.
    assert found.samples["sum"].value.std() == pytest.approx(np.sqrt(row @ covariance @ row), rel=4 / np.sqrt(400))


def _sum(model):
    return jnp.sum(model["image"]) + model["pair"][1]


FEW = Mixed(np.concatenate([30.0 * np.random.default_rng(5).choice([-1.0, 1.0], (12, 120)), np.ones((12, 2))], axis=1))


@pytest.mark.slow
def test_few_data_update_the_prior_along_as_many_directions():
    # 12 records of 120 pixels, all seen alike: the posterior differs from the prior along 12 directions, so rank 12 has
    # them all and what is left needs no draws.
    data = Counts(100.0 * np.random.default_rng(2).normal(size=12))
    model = {"image": jnp.zeros((10, 12)), "pair": jnp.zeros(2)}
    prior = {"image": sj.Normal(0.0, 2.0), "pair": sj.Normal(0.0, 1.0)}
    noise = sj.Gaussian(5.0, 0.0)
    problem = sj.make_problem(model, data, forward=FEW, noise=noise, free=["image", "pair"], priors=prior)
    found = laplace(problem, at=from_guess(problem), rank=12, probes=64)
    M = np.asarray(FEW.matrix)
    covariance = np.linalg.inv(M.T @ M / 25.0 + np.diag(np.r_[np.full(120, 0.25), 1.0, 1.0]))
    np.testing.assert_allclose(vector(found.uncertainty), np.sqrt(np.diag(covariance)), rtol=1e-8)
    rows = np.random.default_rng(3).normal(size=(5, 122))
    expected = np.sqrt(np.einsum("ki,ij,kj->k", rows, covariance, rows))
    np.testing.assert_allclose(found.posterior.deviations(jnp.asarray(rows)), expected, rtol=1e-7)
    # Along what was measured the posterior is narrow; a form that forgot that would be wide.
    measured = M / np.linalg.norm(M, axis=1, keepdims=True)
    expected = np.sqrt(np.einsum("ki,ij,kj->k", measured, covariance, measured))
    np.testing.assert_allclose(found.posterior.deviations(jnp.asarray(measured)), expected, rtol=1e-6)


def test_poisson_line_has_the_cramer_rao_bound_of_its_counts():
    problem = line_problem()
    mean = 4.0 * X + 10.0
    perfect = problem.replace(measurement=Counts(mean[:, None]))
    expected = np.linalg.inv([[np.sum(1 / mean), np.sum(X / mean)], [np.sum(X / mean), np.sum(X * X / mean)]])
    found = laplace(perfect, at=from_guess(perfect))
    assert float(found.estimate["slope"].value) == pytest.approx(4.0, rel=1e-7)
    np.testing.assert_allclose(found.posterior.covariance(["offset", "slope"]), expected, rtol=1e-6)
    # With noise the observed curvature weighs with the counts, the expected one with the fit.
    counts = np.asarray(problem.measurement.counts)[:, 0]
    for curvature, power in ((None, 2), (expected_curvature, 1)):
        found = laplace(problem, at=from_guess(problem), curvature=curvature)
        a, b = float(found.estimate["slope"].value), float(found.estimate["offset"].value)
        fit = a * X + b
        np.testing.assert_allclose([np.sum(counts / fit - 1), np.sum((counts / fit - 1) * X)], 0, atol=1e-5)
        weight = counts / fit**2 if power == 2 else 1 / fit
        precision = [[weight.sum(), (weight * X).sum()], [(weight * X).sum(), (weight * X * X).sum()]]
        np.testing.assert_allclose(found.posterior.covariance(), np.linalg.inv(precision), rtol=1e-4)


class Alone:
    """A forward model of one number that the data hardly know."""

    def __call__(self, model, index=None):
        return jnp.reshape(1e-6 * model["a"], (1,))


ALONE = Alone()


def alone(prior, guess=1.0):
    problem = sj.make_problem(
        {"a": jnp.array(guess)}, Counts(np.zeros(1)), forward=ALONE, noise=sj.Gaussian(1.0, 0.0), free=["a"],
        priors={"a": prior},
    )  # fmt: skip
    return problem, laplace(problem, at=from_guess(problem))


def test_a_log_normal_leaf_has_its_own_moments_and_stays_positive():
    problem, found = alone(sj.LogNormal(0.5, 1.2))
    # In z = log a the prior is a normal density, so the Gaussian is the posterior itself.
    assert float(found.posterior.mean["a"]) == pytest.approx(0.5, abs=1e-6)
    theirs = scipy.stats.lognorm(1.2, scale=np.exp(0.5))
    assert float(found.uncertainty["a"].value) == pytest.approx(theirs.std(), rel=1e-4)
    low, high = intervals(problem, found.posterior, 0.99)["a"]
    np.testing.assert_allclose([low, high], theirs.interval(0.99), rtol=1e-5)
    assert found.diagnostics["interval"]["low"]["a"] > 0
    assert float(found.estimate["a"].value) - 2 * float(found.uncertainty["a"].value) < 0  # as a plain one would not


class Between(struct.PyTreeNode):
    """Anything between two bounds, alike."""

    bijector: Any = struct.field(pytree_node=False, default=Interval(2.0, 5.0))

    def log_prob(self, x):
        return jnp.zeros_like(x)


def test_a_leaf_between_bounds_has_the_moments_of_the_mapped_gaussian():
    problem, found = alone(Between(), guess=3.0)
    mean, spread = float(found.posterior.mean["a"]), float(found.posterior.spread()["a"])
    density, leaf = scipy.stats.norm(mean, spread).pdf, lambda z: 2.0 + 3.0 / (1.0 + np.exp(-z))
    first, second = (
        scipy.integrate.quad(lambda z, n=n: leaf(z) ** n * density(z), mean - 9 * spread, mean + 9 * spread)[0]
        for n in (1, 2)
    )
    assert float(standard_deviations(problem, found.posterior)["a"]) == pytest.approx(
        np.sqrt(second - first**2), rel=1e-6
    )
    low, high = intervals(problem, found.posterior, 0.999999)["a"]
    assert 2.0 < float(low) < float(high) < 5.0


def test_a_narrow_bounded_leaf_is_a_straight_line():
    _, found = alone(sj.Product((sj.Positive(0.5), sj.Ridge(1e-4, centre=3.0))), guess=2.0)
    assert float(found.uncertainty["a"].value) == pytest.approx(1e-4, rel=1e-3)


class Sums:
    """A forward model that sees two of its three numbers as a sum, and one not at all."""

    def __call__(self, model, index=None):
        return (model["first"] + model["second"]) * jnp.arange(1.0, 5.0)


SUMS = Sums()


def sums(free, **priors):
    model = {"first": jnp.array(1.0), "second": jnp.array(2.0), "other": jnp.zeros(3)}
    return sj.make_problem(
        model, Counts(np.arange(4.0)), forward=SUMS, noise=sj.Gaussian(1.0, 0.0), free=free, priors=priors
    )


@pytest.mark.parametrize(
    ("free", "words"),
    [
        (["first", "second"], "'first' and 'second' trade against each other.*give one of them a prior"),
        (["first", "other"], r"neither data nor priors hold 'other\[0\]' and others"),
    ],
)
@pytest.mark.parametrize("rank", [None, 2])
def test_what_nothing_holds_is_named(free, words, rank):
    problem = sums(free)
    with pytest.raises(sj.InputError, match=words if rank is None else "hold|trade"):
        laplace(problem, at=from_guess(problem), rank=rank)


def test_without_a_start_the_most_probable_leaves_are_found_first():
    problem = line_problem(slope=1.0, offset=30.0)
    found, other = laplace(problem), laplace(problem, at=from_guess(problem))
    np.testing.assert_allclose(vector(found.estimate), vector(other.estimate), rtol=1e-6)
    np.testing.assert_allclose(vector(found.uncertainty), vector(other.uncertainty), rtol=1e-5)
    assert found.success
    assert found.diagnostics["step"] < 1e-3


def test_a_prior_holds_what_the_data_do_not():
    problem = sums(["first", "second"], second=sj.Normal(0.0, 2.0))
    found = laplace(problem, at=from_guess(problem))
    # first + second is known to 1/sqrt(30), second to its prior.
    covariance = np.linalg.inv([[30.0, 30.0], [30.0, 30.25]])
    np.testing.assert_allclose(found.posterior.covariance(), covariance, rtol=1e-8)
    assert found.diagnostics["weakest"]["unknowns"] == "first, second"


def test_a_result_of_another_problem_is_refused():
    problem = line_problem()
    with pytest.raises(sj.InputError, match="no 'offset'"):
        laplace(problem, at=from_guess(line_problem(free=("slope",))))
    with pytest.raises(sj.InputError, match=r"4 probes.*at least 16"):
        laplace(problem, at=from_guess(problem), rank=1, probes=4)
    with pytest.raises(sj.InputError, match="name of a free leaf"):
        laplace(problem, at=from_guess(problem), derived={"slope": Derived(_crossing)})


def _crossing(line: Line) -> Any:
    return -line.offset / line.slope


def _several(line: Line) -> Any:
    return line.offset + line.slope * jnp.arange(3.0)


def test_derived_quantities_by_the_delta_method_and_by_draws():
    problem = line_problem()
    wanted = {"crossing": Derived(_crossing, "Å", "where the line is dark"), "ends": Derived(_several, "electron")}
    found = laplace(problem, at=from_guess(problem), draws=4000, derived=wanted)
    a, b = float(found.estimate["slope"].value), float(found.estimate["offset"].value)
    covariance = np.asarray(found.posterior.covariance(["offset", "slope"]))
    slope = np.array([-1 / a, b / a**2])
    assert float(found.estimate["crossing"].value) == pytest.approx(-b / a)
    assert float(found.uncertainty["crossing"].value) == pytest.approx(np.sqrt(slope @ covariance @ slope), rel=1e-9)
    rows = np.stack([np.ones(3), np.arange(3.0)], axis=1)
    np.testing.assert_allclose(
        found.uncertainty["ends"].value, np.sqrt(np.einsum("ki,ij,kj->k", rows, covariance, rows)), rtol=1e-9
    )
    np.testing.assert_allclose(found.samples["ends"].value.std(axis=0), found.uncertainty["ends"].value, rtol=0.06)
    assert found.estimate["crossing"].units == "Å"
    assert found.samples["ends"].dims == ("draw", "axis0")


def test_a_quantity_with_too_many_elements_goes_along_draws(monkeypatch):
    problem = line_problem()
    exact = laplace(problem, at=from_guess(problem), derived={"ends": Derived(_several)}).uncertainty["ends"].value
    monkeypatch.setattr("stemjax.inference.derived.MOST", 1)
    along = laplace(problem, at=from_guess(problem), derived={"ends": Derived(_several)}).uncertainty["ends"].value
    # 200 draws know a standard deviation to 5 %.
    np.testing.assert_allclose(along, exact, rtol=0.2)
    assert np.abs(along / exact - 1).max() > 1e-4


class Shares:
    """A forward model of three shares that add up to one."""

    def __call__(self, model, index=None):
        return 400.0 * model["shares"]


SHARES = Shares()


def test_elements_that_are_constrained_together_have_the_scatter_of_their_draws():
    problem = sj.make_problem(
        {"shares": jnp.array([0.3, 0.3, 0.4])}, Counts(np.array([80.0, 120.0, 200.0])), forward=SHARES,
        noise=sj.Poisson(0.0), free=["shares"], priors={"shares": dist.Dirichlet(jnp.ones(3))},
    )  # fmt: skip
    found = laplace(problem, at=from_guess(problem))
    # Counts of three kinds with a flat prior: a Dirichlet density, which is nearly normal here.
    theirs = scipy.stats.dirichlet([81.0, 121.0, 201.0])
    np.testing.assert_allclose(found.uncertainty["shares"].value, np.sqrt(theirs.var()), rtol=0.08)
    low, high = (np.asarray(end) for end in intervals(problem, found.posterior)["shares"])
    np.testing.assert_allclose((high - low) / 3.92, np.sqrt(theirs.var()), rtol=0.1)
    assert np.all(low > 0)
    assert np.all(high < 1)


@pytest.mark.parametrize("how", [{}, {"rank": 1, "probes": 16}])
def test_a_second_problem_of_the_same_shape_compiles_nothing(caplog, how):
    first, second = line_problem(seed=1), line_problem(seed=2)
    wanted = {"crossing": Derived(_crossing)}
    laplace(first, at=from_guess(first), draws=4, derived=wanted, **how)
    with jax.log_compiles(), caplog.at_level("WARNING"):
        laplace(second, at=from_guess(second), draws=4, derived=wanted, **how)
    assert not [r.message for r in caplog.records if "Compiling" in r.message or "Finished XLA" in r.message]


PLACES = np.array([[2.0, 2.1], [2.2, 4.4]])
IMAGE = ColumnImage()


def column_problem(counts, scene):
    free = ["columns.positions", "columns.amplitude", "columns.width", "columns.background"]
    priors = {
        "columns.amplitude": sj.Positive(20.0), "columns.width": sj.Positive(0.1),
        "columns.background": sj.Positive(1.0),
    }  # fmt: skip
    return sj.make_problem(scene, Counts(counts), forward=IMAGE, noise=sj.Poisson(0.0), free=free, priors=priors)


def fits_to_noise(number, seed=0):
    """Scores, in units of all covariances, and of every parameter; and whether intervals hold the truth."""
    columns = make_columns(PLACES, amplitude=np.array([150.0, 250.0]), width=0.6, background=8.0)
    scene = ColumnScene(columns, sj.make_raster((20, 20), 0.33))
    mean, random = np.asarray(IMAGE(scene)), np.random.default_rng(seed)
    squares, scores, held = [], [], []
    for _ in range(number):
        problem = column_problem(random.poisson(mean).astype(float), scene)
        found, truth = laplace(problem, at=from_guess(problem)), statement.start(problem)
        shape = layout(problem)
        away = np.asarray(shape.ravel(found.posterior.mean)) - np.asarray(shape.ravel(truth))
        squares.append(np.sum(np.asarray(found.posterior.whitened(jnp.asarray(away))) ** 2))
        leaves = statement.constrained(problem, truth)
        true = np.concatenate([np.ravel(leaves[p]) for p in sorted(leaves)])
        scores.append((vector(found.estimate) - true) / vector(found.uncertainty))
        low, high = (
            np.concatenate([np.ravel(found.diagnostics["interval"][end][p]) for p in sorted(leaves)])
            for end in ("low", "high")
        )
        held.append((low < true) & (true < high))
    return np.array(squares), np.array(scores), np.array(held)


@pytest.mark.slow
def test_error_bars_of_columns_are_true():
    squares, scores, held = fits_to_noise(50)
    # 50 independent squares of 8 standard normal numbers each (positions, heights, width, background).
    shares = scipy.stats.chi2(50 * scores.shape[1]).cdf(squares.sum())
    assert 0.002 < shares < 0.998
    assert scipy.stats.kstest(squares, scipy.stats.chi2(scores.shape[1]).cdf).pvalue > 0.005
    assert scores.std() == pytest.approx(1.0, abs=4 / np.sqrt(2 * scores.size))
    assert held.mean() == pytest.approx(0.95, abs=4 * np.sqrt(0.05 * 0.95 / held.size) * 1.5)


@pytest.mark.slow
def test_error_bars_of_columns_meet_the_target():
    _, scores, held = fits_to_noise(2000, seed=7)
    for parameter in range(scores.shape[1]):
        assert 0.95 < scores[:, parameter].std() < 1.05
        assert 0.93 < held[:, parameter].mean() < 0.97


def patterns_problem():
    grid = sj.make_grid(12, 0.5)
    probe = sj.make_probe(grid, energy=80e3, semiangle=21.4, aberrations=sj.make_aberrations(C10=60.0))
    phase = 0.3 * np.random.default_rng(0).normal(size=(1, 15, 18))
    thing = sj.make_object(sj.make_grid((15, 18), 0.5), phase=phase)
    truth = sj.make_experiment(probe, thing, sj.make_raster((2, 4), 0.9, origin=(3.2, 3.2)), dose=1e5)
    forward = sj.Diffraction(limit=None)
    counts = np.random.default_rng(1).poisson(np.asarray(forward(truth))).astype(float)
    return sj.make_problem(
        truth, sj.Measurement(counts), forward=forward, noise=sj.Poisson(),
        priors={"dose": sj.Positive(50.0), "specimen.phase": sj.Ridge(0.3)},
        free=["probe.aberrations.C1*", "specimen.phase", "dose"],
    )  # fmt: skip


@pytest.mark.slow
def test_ptychography_has_the_same_aberrations_by_matrix_and_by_products():
    problem = patterns_problem()
    quick = laplace(problem, at=from_guess(problem), rank=0, probes=16)
    whole = laplace(problem, at=quick, curvature=expected_curvature)
    for path in ("probe.aberrations.C10", "probe.aberrations.C12a", "probe.aberrations.C12b", "dose"):
        spread = float(whole.uncertainty[path].value)
        assert float(quick.uncertainty[path].value) == pytest.approx(spread, rel=1e-4)
        assert abs(float(quick.estimate[path].value) - float(whole.estimate[path].value)) < 0.01 * spread
    ratio = quick.uncertainty["specimen.phase"].value / whole.uncertainty["specimen.phase"].value - 1
    stated = np.sqrt(np.mean(quick.diagnostics["error"]["specimen.phase"] ** 2))
    assert np.sqrt(np.mean(ratio**2)) == pytest.approx(stated, rel=0.5)
    assert stated < 0.15
    # The truth is where the error bars say, with all covariances counted.
    away = layout(problem).ravel(statement.start(problem)) - layout(problem).ravel(whole.posterior.mean)
    square = float(np.sum(np.asarray(whole.posterior.whitened(away)) ** 2))
    assert 0.0005 < scipy.stats.chi2(away.size).cdf(square) < 0.9995
    assert whole.uncertainty["probe.aberrations.C10"].units == "Å"


class Picture:
    """A forward model that sees every pixel and the mean level of the camera."""

    def __call__(self, model, index=None):
        return model["image"] + model["level"] * jnp.linspace(-1.0, 1.0, model["image"].shape[0])[:, None]


PICTURE = Picture()


def cosines(size):
    """Eigenvectors and eigenvalues of the differences of a line with free ends: cosines."""
    k, place = np.arange(size), (np.arange(size) + 0.5) / size
    vectors = np.sqrt(2 / size) * np.cos(np.pi * np.outer(place, k))
    vectors[:, 0] /= np.sqrt(2)
    return vectors, 4 * np.sin(np.pi * k / (2 * size)) ** 2


@pytest.mark.slow
def test_a_hundred_thousand_unknowns():
    side, noise, scale = 320, 2.0, 0.7
    data = np.random.default_rng(0).normal(size=(side, side)) * noise
    problem = sj.make_problem(
        {"image": jnp.zeros((side, side)), "level": jnp.array(0.0)}, Counts(data), forward=PICTURE,
        noise=sj.Gaussian(noise, 0.0), free=["image", "level"],
        priors={"image": sj.Smooth(scale), "level": sj.Normal(0.0, 0.5)},
    )  # fmt: skip
    found = laplace(problem, at=from_guess(problem), rank=16, probes=48, draws=8)
    # The image alone is diagonal in cosines; the level is eliminated by Schur's complement.
    V, lam = cosines(side)
    inverse = 1 / (1 / noise**2 + (lam[:, None] + lam[None, :]) / scale**2)
    ramp = np.linspace(-1.0, 1.0, side)
    seen = (V.T @ ramp)[:, None] * (V.T @ np.ones(side))[None, :] / noise**2
    level = 1 / (side * np.sum(ramp**2) / noise**2 + 4.0 - np.sum(inverse * seen**2))
    across = V @ (inverse * seen) @ V.T
    variances = (V**2) @ inverse @ (V**2).T + across**2 * level
    assert float(found.uncertainty["level"].value) == pytest.approx(np.sqrt(level), rel=1e-4)
    ratio = found.uncertainty["image"].value / np.sqrt(variances) - 1
    stated = np.sqrt(np.mean(found.diagnostics["error"]["image"] ** 2))
    assert stated < 0.08
    assert np.sqrt(np.mean(ratio**2)) == pytest.approx(stated, rel=0.3)
    assert abs(ratio.mean()) < 0.02
    assert found.samples["image"].value.shape == (8, side, side)


def test_paths_of_a_covariance_may_be_patterns(dense):
    with pytest.raises(TypeError, match="abstract"):
        Gaussian(mean={})
    posterior = dense.posterior
    both = [np.asarray(posterior.covariance(p)) for p in (["p*"], ["pair"])]
    np.testing.assert_array_equal(*both)
    with pytest.raises(sj.InputError, match="nearest: 'pair'"):
        posterior.covariance(["pai"])
    # Every pair of unknowns: the matrix is what the rows are turned into.
    rows = jnp.eye(62)[:3]
    lengths = posterior.deviations(rows)
    np.testing.assert_allclose(lengths, np.sqrt(np.diag(posterior.covariance())[:3]), rtol=1e-12)
    assert list(itertools.islice(posterior.shape.slices(), 2)) == ["image", "pair"]
