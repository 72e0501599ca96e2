"""A problem as a statement: paths, priors, supports, and the contract with any solver."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.optimize
import scipy.stats
from flax import struct
from hypothesis import given
from hypothesis import strategies as st

import stemjax as sj
from stemjax.core.bijectors import Exponential, Interval, Softplus, bijector_of
from stemjax.inference.priors.images import Positive, Product, Ridge, SliceSmooth, Smooth, TotalVariation


class Line(struct.PyTreeNode):
    """A straight line, the smallest model with two leaves."""

    slope: Any
    offset: Any
    name: str = struct.field(pytree_node=False, default="line")


class Counts(struct.PyTreeNode):
    counts: Any
    mask: Any = None


X = np.linspace(1.0, 5.0, 40)


class Straight:
    """Forward model of a line, one record a point."""

    def __call__(self, model, index=None):
        x = jnp.asarray(X)
        values = model.slope * x + model.offset
        return (values if index is None else values[index])[:, None]

    def total(self, model, score, data, index, weight):
        lanes = index.shape[0]
        number = jnp.minimum(index * lanes + jnp.arange(lanes)[:, None], len(X) - 1)
        expected = self(model)[number]
        records = data[jnp.arange(lanes)[:, None], index]
        return jnp.sum(weight * jax.vmap(jax.vmap(score))(expected, records))


FORWARD = Straight()


def line_problem(noise=None, priors=None, free=("slope", "offset"), slope=2.0, offset=3.0, seed=0):
    truth = Line(jnp.array(4.0), jnp.array(10.0))
    counts = np.random.default_rng(seed).poisson(np.asarray(FORWARD(truth))).astype(float)
    guess = Line(jnp.array(slope), jnp.array(offset))
    noise = sj.Poisson(0.0) if noise is None else noise
    return sj.make_problem(guess, Counts(counts), forward=FORWARD, noise=noise, free=free, priors=priors)


def test_log_density_is_the_poisson_likelihood_of_scipy():
    problem = line_problem()
    at = [{"slope": jnp.array(a), "offset": jnp.array(b)} for a, b in ((2.0, 3.0), (4.5, 9.0))]
    ours = [float(sj.log_density(problem, z)) for z in at]
    expected = [float(z["slope"]) * X[:, None] + float(z["offset"]) for z in at]
    theirs = [scipy.stats.poisson.logpmf(problem.measurement.counts, m).sum() for m in expected]
    assert ours[0] - ours[1] == pytest.approx(theirs[0] - theirs[1], rel=1e-10)


def test_numpyro_prior_enters_with_its_own_density_and_support():
    prior = dist.LogNormal(1.0, 0.3)
    with_prior = line_problem(priors={"slope": prior})
    without = line_problem()
    z = {"slope": jnp.log(4.0), "offset": jnp.array(9.0)}
    plain = {"slope": jnp.array(4.0), "offset": jnp.array(9.0)}
    # In z = log(slope) the density gains the slope of the map.
    expected = float(prior.log_prob(4.0)) + np.log(4.0)
    assert float(sj.log_density(with_prior, z) - sj.log_density(without, plain)) == pytest.approx(expected, rel=1e-10)


def test_any_solver_takes_three_lines():
    problem = line_problem()
    names = list(problem.free)
    value = jax.jit(jax.value_and_grad(lambda x: -sj.log_density(problem, dict(zip(names, x, strict=True)))))
    found = scipy.optimize.minimize(lambda x: tuple(map(np.asarray, value(jnp.asarray(x)))), [2.0, 3.0], jac=True)
    # The maximum-likelihood line is the root of the score, found here by Newton's method in numpy.
    a, b = 4.0, 10.0
    counts = np.asarray(problem.measurement.counts)[:, 0]
    for _ in range(50):
        mean = a * X + b
        score = np.array([((counts / mean - 1) * X).sum(), (counts / mean - 1).sum()])
        weight = counts / mean**2
        information = np.array([[(weight * X * X).sum(), (weight * X).sum()], [(weight * X).sum(), weight.sum()]])
        a, b = np.array([a, b]) + np.linalg.solve(information, score)
    np.testing.assert_allclose(found.x, [a, b] if names[0] == "slope" else [b, a], rtol=1e-4)


@pytest.mark.parametrize("noise", [sj.Poisson(0.0), sj.Poisson(0.1), sj.Gaussian(2.0, 1.0), sj.Amplitude(0.0)])
def test_residuals_are_the_likelihood(noise):
    problem = line_problem(noise=noise)
    z = {"slope": jnp.array(4.0), "offset": jnp.array(10.0)}
    likelihood = sj.log_density(problem, z)
    assert -0.5 * float(jnp.sum(sj.residual(problem, z) ** 2)) == pytest.approx(float(likelihood), rel=1e-6)
    gradient = jax.grad(lambda z: -0.5 * jnp.sum(sj.residual(problem, z) ** 2))(z)
    for name, value in jax.grad(lambda z: sj.log_density(problem, z))(z).items():
        assert float(gradient[name]) == pytest.approx(float(value), rel=1e-4)


def test_poisson_residual_is_smooth_where_the_model_is_right():
    noise = sj.Poisson(0.0)
    for count in (0.0, 1.0, 50.0):
        expected = jnp.linspace(max(0.9 * count, 0.05), 1.1 * count + 0.1, 201)
        values = jax.vmap(lambda m, n=count: noise.residual(jnp.array(n), m))(expected)
        slopes = jax.vmap(jax.grad(lambda m, n=count: noise.residual(jnp.array(n), m)))(expected)
        np.testing.assert_allclose(slopes[1:-1], np.gradient(values, expected)[1:-1], rtol=2e-3)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: line_problem(free=("slop",)), "nearest: 'slope'"),
        (lambda: line_problem(priors={"offse": dist.Normal(0.0, 1.0)}), "nearest: 'offset'"),
        (lambda: line_problem(free=("slope",), priors={"offset": dist.Normal(0.0, 1.0)}), "not free"),
        (lambda: line_problem(priors={"slope": dist.LogNormal(0.0, 1.0)}, slope=-1.0), "outside the support"),
    ],
)
def test_wrong_statements_are_refused(call, words):
    with pytest.raises(sj.InputError, match=words):
        call()


@given(st.floats(-8, 8))
def test_bijectors_invert_and_tell_their_slope(x):
    for bijector in (Exponential(0.5), Softplus(0.7), Interval(-1.0, 3.0)):
        x_ = jnp.array(x)
        y = bijector.forward(x_)
        assert float(bijector.inverse(y)) == pytest.approx(x, abs=1e-6)
        slope = jax.grad(bijector.forward)(x_)
        assert float(bijector.log_slope(x_)) == pytest.approx(float(jnp.log(slope)), abs=1e-9)


@pytest.mark.parametrize(
    ("prior", "bijector"),
    [
        (dist.Normal(0.0, 1.0), "Identity"),
        (dist.HalfNormal(1.0), "Exponential"),
        (dist.Uniform(2.0, 5.0), "Interval"),
        (dist.Gamma(2.0, 1.0), "Exponential"),
        (Positive(0.1), "Softplus"),
    ],
)
def test_support_of_a_prior_decides_the_bijector(prior, bijector):
    found = bijector_of(prior)
    assert type(found).__name__ == bijector
    inside = {"Identity": -3.0, "Exponential": 0.7, "Softplus": 0.7, "Interval": 3.0}[bijector]
    assert float(found.forward(found.inverse(jnp.array(inside)))) == pytest.approx(inside, rel=1e-6)


@pytest.mark.parametrize("prior", [TotalVariation(0.3, 0.01), Smooth(0.3), SliceSmooth(0.3), Ridge(0.3, 0.1)])
def test_regularisers_are_log_densities_of_their_formula(prior):
    u = np.random.default_rng(1).normal(size=(2, 5, 6))
    dy, dx = np.zeros_like(u), np.zeros_like(u)
    dy[:, :-1], dx[:, :, :-1] = np.diff(u, axis=1), np.diff(u, axis=2)
    by_hand = {
        "TotalVariation": lambda: -(np.sqrt(dy**2 + dx**2 + 1e-4) - 0.01).sum() / 0.3,
        "Smooth": lambda: -0.5 * ((dy**2).sum() + (dx**2).sum()) / 0.09,
        "SliceSmooth": lambda: -0.5 * (np.diff(u, axis=0) ** 2).sum() / 0.09,
        "Ridge": lambda: -0.5 * ((u - 0.1) ** 2).sum() / 0.09,
    }[type(prior).__name__]()
    assert float(prior.log_prob(jnp.asarray(u))) == pytest.approx(by_hand, rel=1e-9)


def test_product_of_priors_adds_and_constrains_once():
    both = Product((Positive(), Ridge(1.0)))
    assert type(both.bijector).__name__ == "Softplus"
    assert float(both.log_prob(jnp.array([2.0]))) == pytest.approx(-2.0)


def test_path_of_an_inner_node_frees_all_below_it():
    probe = sj.make_probe(sj.make_grid(16, 0.3), energy=80e3, semiangle=20.0)
    free = sj.select(probe, ["aberrations"])
    assert len(free) == 25
