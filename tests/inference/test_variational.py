"""The fitted Gaussian: against the closed forms of Gaussian and gamma posteriors, and the evidence."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from flax import struct

import stemjax as sj
from stemjax.core.bijectors import Exponential
from stemjax.inference import problem as statement
from stemjax.inference.derived import Derived
from stemjax.inference.outcome import at_point
from stemjax.inference.posteriors.laplace import laplace
from stemjax.inference.posteriors.variational import variational
from tests.inference.test_problem import Counts, line_problem


class Mixed:
    """A linear forward model of six numbers that trade against each other."""

    def __call__(self, model, index=None):
        return jnp.asarray(MATRIX) @ jnp.concatenate([model["a"], model["b"][None]])


MATRIX = np.random.default_rng(4).normal(size=(8, 6)) + 1.5
MIXED, SPREAD = Mixed(), 2.0
DATA = np.random.default_rng(0).normal(size=8)
PRECISION = MATRIX.T @ MATRIX + np.eye(6) / SPREAD**2
MEAN = np.linalg.solve(PRECISION, MATRIX.T @ DATA)


def linear_problem(data=DATA):
    return sj.make_problem(
        {"a": jnp.zeros(5), "b": jnp.array(0.0)}, Counts(data), forward=MIXED, noise=sj.Gaussian(1.0, 0.0),
        free=["a", "b"], priors={"**": sj.Ridge(SPREAD)},
    )  # fmt: skip


def from_guess(problem, **values):
    z = statement.start(problem) | {path: jnp.asarray(value) for path, value in values.items()}
    return at_point(problem, z, "guess", "")


def log_evidence():
    """log of the integral of the density over all unknowns."""
    best = -0.5 * np.sum((MATRIX @ MEAN - DATA) ** 2) - 0.5 * np.sum(MEAN**2) / SPREAD**2
    return best + 3 * np.log(2 * np.pi) - 0.5 * np.linalg.slogdet(PRECISION)[1]


def vector(named):
    return np.concatenate([np.ravel(named[path].value) for path in sorted(named)])


def _sum(model):
    return jnp.sum(model["a"]) + model["b"]


@pytest.fixture(scope="module")
def mean_field():
    problem = linear_problem()
    return variational(problem, at=from_guess(problem), particles=8, seed=1)


@pytest.fixture(scope="module")
def low_rank():
    problem = linear_problem()
    return variational(problem, at=from_guess(problem), rank=6, seed=1, derived={"sum": Derived(_sum, "1")})


def test_mean_field_has_the_width_of_every_unknown_alone(mean_field):
    np.testing.assert_allclose(vector(mean_field.uncertainty), 1 / np.sqrt(np.diag(PRECISION)), rtol=0.02)
    # Opposite draws leave no noise in the mean of a Gaussian posterior.
    np.testing.assert_allclose(vector(mean_field.estimate), MEAN, atol=1e-5)
    # Which is far less than what is true here, and its bound is lower by the divergence between the two.
    assert np.all(vector(mean_field.uncertainty) < 0.8 * np.sqrt(np.diag(np.linalg.inv(PRECISION))))
    divergence = 0.5 * (np.sum(np.log(np.diag(PRECISION))) - np.linalg.slogdet(PRECISION)[1])
    known = mean_field.diagnostics
    assert known["elbo"] == pytest.approx(log_evidence() - divergence, abs=5 * known["elbo_error"])
    assert divergence > 1.0


def test_mean_field_says_that_it_is_not_to_be_trusted(mean_field):
    assert mean_field.diagnostics["pareto_k"] > 0.7
    assert "standard deviations may be too small; give a rank" in mean_field.status
    assert mean_field.diagnostics["effective_draws"] < 300


def test_directions_catch_what_trades(low_rank):
    covariance = np.linalg.inv(PRECISION)
    spread = np.sqrt(np.diag(covariance))
    scaled = np.asarray(low_rank.posterior.covariance()) / spread[:, None] / spread[None, :]
    np.testing.assert_allclose(scaled, covariance / spread[:, None] / spread[None, :], atol=0.02)
    assert np.abs((vector({p: low_rank.estimate[p] for p in "ab"}) - MEAN) / spread).max() < 0.02
    row = np.ones(6)
    assert float(low_rank.uncertainty["sum"].value) == pytest.approx(np.sqrt(row @ covariance @ row), rel=0.02)


def test_where_the_fit_can_be_exact_the_bound_is_the_evidence(low_rank):
    known = low_rank.diagnostics
    assert known["elbo"] == pytest.approx(log_evidence(), abs=2e-3)
    assert known["elbo_error"] < 1e-3
    assert known["pareto_k"] < 0.5
    assert known["effective_draws"] > 990
    assert low_rank.success
    assert known["pull"] < 0.01
    assert "not of this form" not in low_rank.status
    assert low_rank.history["elbo"].shape == (2000,)
    assert low_rank.samples["a"].value.shape == (1000, 5)
    assert low_rank.samples["sum"].dims == ("draw",)


class Level(struct.PyTreeNode):
    """Positive, and otherwise anything."""

    bijector: Any = struct.field(pytree_node=False, default=Exponential(0.0))

    def log_prob(self, x):
        return jnp.zeros_like(x)


class Exposure:
    def __call__(self, model, index=None):
        return jnp.reshape(2.5 * model["rate"], (1,))


EXPOSURE = Exposure()


def test_a_skewed_posterior_has_the_best_gaussian_of_its_logarithm():
    counts = 3.0
    problem = sj.make_problem(
        {"rate": jnp.array(1.0)}, Counts(np.array([counts])), forward=EXPOSURE, noise=sj.Poisson(0.0), free=["rate"],
        priors={"rate": Level()},
    )  # fmt: skip
    found = variational(problem, at=from_guess(problem), particles=32, draws=4000)
    # The density of z = log rate is that of a log-gamma number of shape k = counts + 1; the bound of N(m, s²),
    # k m − 2.5 exp(m + s²/2) + log s, is greatest at s² = 1/k, m = log(k / 2.5) − s²/2.
    k = counts + 1
    assert float(found.posterior.spread()["rate"]) == pytest.approx(1 / np.sqrt(k), rel=0.02)
    assert float(found.posterior.mean["rate"]) == pytest.approx(np.log(k / 2.5) - 0.5 / k, abs=0.02 / np.sqrt(k))
    # The mean rate is the true one, k/2.5, although the mode is not.
    assert found.samples["rate"].value.mean() == pytest.approx(k / 2.5, rel=4 / np.sqrt(k * 4000) + 0.02)
    # The density is measured against a perfect model: −(counts log counts − counts) is added to it.
    bound = k * np.log(k / 2.5) - 0.5 - k + 0.5 * np.log(2 * np.pi * np.e / k)
    bound += counts * np.log(2.5) - (counts * np.log(counts) - counts)
    assert found.diagnostics["elbo"] == pytest.approx(bound, abs=5 * found.diagnostics["elbo_error"])
    # The evidence is a gamma integral; the bound lies a little below it.
    evidence = scipy.special.gammaln(k) - k * np.log(2.5) + counts * np.log(2.5) - (counts * np.log(counts) - counts)
    assert bound < evidence < bound + 0.05


@pytest.mark.slow
def test_without_a_start_the_most_probable_leaves_are_found_first():
    problem = line_problem(slope=1.0, offset=30.0)
    found = variational(problem, rank=2, steps=400)
    exact = laplace(problem)
    # 40 counts of some 20 electrons: the posterior is Gaussian within a few per cent.
    np.testing.assert_allclose(vector(found.uncertainty), vector(exact.uncertainty), rtol=0.05)
    assert np.abs((vector(found.estimate) - vector(exact.estimate)) / vector(exact.uncertainty)).max() < 0.1
    assert found.success


def test_too_few_steps_are_told():
    problem = linear_problem()
    found = variational(problem, at=from_guess(problem, b=400.0), steps=40)
    assert not found.success
    assert "not settled" in found.status
    with pytest.raises(sj.InputError, match="at least 8 steps"):
        variational(problem, at=from_guess(problem), steps=2)


def test_a_second_fit_of_the_same_shape_compiles_nothing(caplog):
    first, second = line_problem(seed=1), line_problem(seed=2)
    guess = {"slope": 4.0, "offset": 10.0}
    variational(first, at=from_guess(first, **guess), steps=20, draws=100)
    with jax.log_compiles(), caplog.at_level("WARNING"):
        variational(second, at=from_guess(second, **guess), steps=20, draws=100)
    assert not [r.message for r in caplog.records if "Compiling" in r.message or "Finished XLA" in r.message]
