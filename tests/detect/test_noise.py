"""Noise models: samples against closed-form moments, log-probabilities against scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import minimize_scalar

from stemjax.detect.noise import Amplitude, Gaussian, Poisson

DRAWS = 200_000
MODELS = [Poisson(), Poisson(0.0), Gaussian(), Gaussian(2.0, 0.0), Amplitude(), Amplitude(0.0)]
counts = st.integers(0, 10_000)
expectations = st.floats(1e-6, 1e4)


def z_score(values: np.ndarray, expected: float) -> float:
    """Distance of a mean from what it should be, in its standard errors."""
    return (values.mean() - expected) / (values.std() / np.sqrt(values.size))


@pytest.mark.parametrize("model", MODELS, ids=str)
@pytest.mark.parametrize("mean", [0.3, 4.0, 250.0])
def test_samples_have_the_mean_and_the_variance_of_the_model(model, mean):
    drawn = np.asarray(model.sample(jax.random.key(7), jnp.full(DRAWS, mean)))
    variance = model.readout**2 + model.shot * mean if isinstance(model, Gaussian) else mean
    # Fixed seed: four standard errors are passed by chance once in 16,000 seeds.
    assert abs(z_score(drawn, mean)) < 4
    assert abs(z_score((drawn - mean) ** 2, variance)) < 4


@settings(max_examples=50, deadline=None)
@given(counts, expectations, expectations)
def test_poisson_is_scipys_up_to_a_term_of_the_counts(n, first, second):
    model = Poisson(0.0)
    found = float(model.log_prob(jnp.asarray(float(n)), first) - model.log_prob(jnp.asarray(float(n)), second))
    expected = stats.poisson.logpmf(n, first) - stats.poisson.logpmf(n, second)
    assert abs(found - expected) < 1e-8 * (1 + abs(expected) + n)


def test_poisson_floor_is_a_background():
    n = jnp.arange(20.0)
    floored, shifted = Poisson(0.25).log_prob(n, jnp.full(20, 3.0)), Poisson(0.0).log_prob(n, jnp.full(20, 3.25))
    np.testing.assert_allclose(floored, shifted, rtol=1e-14)


def test_gaussian_is_scipys_up_to_a_term_of_the_counts():
    model, n, means = Gaussian(1.5, 1.0), np.array([-1.0, 0.5, 7.0, 100.0]), np.array([0.0, 3.0, 6.0, 250.0])
    found = model.log_prob(jnp.asarray(n)[:, None], jnp.asarray(means)[None])
    expected = stats.norm.logpdf(n[:, None], means, np.sqrt(1.5**2 + means))
    np.testing.assert_allclose(found - found[:, :1], expected - expected[:, :1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("readout", "shot"), [(1.0, 1.0), (0.3, 1.0), (3.0, 0.5), (2.0, 4.0)])
def test_best_expectation_of_a_normal_law_is_scipys(readout, shot):
    model = Gaussian(readout, shot)
    for n in (-3.0, 0.2, 4.0, 70.0):
        found = minimize_scalar(
            lambda mu, n=n: -stats.norm.logpdf(n, mu, np.sqrt(readout**2 + shot * mu)),
            bounds=(0.0, 200.0), method="bounded", options={"xatol": 1e-9},
        )  # fmt: skip
        best = -found.fun - stats.norm.logpdf(0.0, 0.0, readout)
        assert float(model.best(jnp.array(n))) == pytest.approx(best, abs=1e-6)
        assert float(model.residual(jnp.array(n), jnp.array(found.x + 1e-4))) >= 0.0


@pytest.mark.parametrize("mean", [0.5, 5.0, 20.0])
def test_a_flat_field_is_not_pulled_down(mean):
    # A variance that is taken from the count makes the likeliest level one electron too low.
    model, pixels = Gaussian(1.0), 200_000
    counts = model.sample(jax.random.key(11), jnp.full(pixels, mean))
    slope = jax.grad(lambda level: jnp.sum(model.log_prob(counts, level)))(jnp.asarray(mean))
    assert abs(float(slope)) < 4.0 * np.sqrt(pixels * float(model.information(jnp.asarray(mean))))


@pytest.mark.parametrize("mean", [0.05, 1.0, 30.0])
@pytest.mark.parametrize(("readout", "shot"), [(1.0, 1.0), (0.5, 2.0), (2.0, 0.0)])
def test_information_of_a_normal_law_is_the_mean_square_of_its_slope(mean, readout, shot):
    model, spread = Gaussian(readout, shot), np.sqrt(readout**2 + shot * mean)
    n = np.linspace(mean - 12 * spread, mean + 12 * spread, 4001)
    slopes = jax.vmap(jax.grad(model.log_prob, argnums=1), (0, None))(jnp.asarray(n), jnp.asarray(mean))
    expected = np.trapezoid(stats.norm.pdf(n, mean, spread) * np.asarray(slopes) ** 2, n)
    assert float(model.information(jnp.asarray(mean))) == pytest.approx(expected, rel=1e-6)


@settings(max_examples=100, deadline=None)
@given(counts, st.floats(0.0, 1e4))
def test_nothing_is_likelier_than_the_best(n, expected):
    for model in MODELS:
        if expected == 0.0 and getattr(model, "floor", 1.0) == 0.0:
            continue
        best = float(model.best(jnp.asarray(float(n))))
        assert float(model.log_prob(jnp.asarray(float(n)), jnp.asarray(expected))) <= best + 1e-9 * (1 + abs(best))


def test_the_best_is_reached_where_the_counts_are_expected():
    n = jnp.array([1.0, 5.0, 3000.0])
    for model in (Poisson(0.0), Gaussian(2.0, 0.0), Amplitude(0.0)):
        np.testing.assert_allclose(model.log_prob(n, n), model.best(n), rtol=1e-13, atol=1e-12)


@pytest.mark.parametrize("mean", [5.0, 40.0, 400.0])
def test_deviance_is_chi_square_where_counts_are_many(mean):
    # Twice the distance from the best has mean 1 + 1/(6 μ) + ... for a true Poisson model (Lawley 1956).
    n = Poisson(0.0).sample(jax.random.key(3), jnp.full(DRAWS, mean))
    deviance = 2 * np.asarray(Poisson(0.0).best(n) - Poisson(0.0).log_prob(n, mean))
    assert abs(deviance.mean() - 1 - 1 / (6 * mean)) < 4 * deviance.std() / np.sqrt(DRAWS) + 1 / mean**2


@pytest.mark.parametrize("model", [Poisson(), Gaussian(), Amplitude()], ids=str)
def test_log_probability_has_a_finite_slope_in_the_dark(model):
    slope = jax.grad(lambda mu: model.log_prob(jnp.asarray(2.0), mu))(0.0)
    assert np.isfinite(float(slope))
    assert float(slope) > 0
