"""Bijectors: onto the support, back again, and with the right slope."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemjax.core.bijectors import Exponential, Identity, Interval, bijector_of

BIJECTORS = [Identity(), Exponential(), Exponential(-3.0), Interval(-2.0, 5.0)]
SUPPORTS = {Identity(): (-np.inf, np.inf), Exponential(): (0.0, np.inf), Exponential(-3.0): (-3.0, np.inf),
            Interval(-2.0, 5.0): (-2.0, 5.0)}  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(st.floats(-12.0, 12.0))
def test_maps_into_the_support_and_back_with_its_slope(x):
    for bijector in BIJECTORS:
        lower, upper = SUPPORTS[bijector]
        y = bijector.forward(jnp.asarray(x))
        assert lower < float(y) < upper
        assert abs(float(bijector.inverse(y)) - x) < 1e-8
        slope = jax.grad(lambda v, b=bijector: b.forward(v))(x)
        assert abs(float(bijector.log_slope(jnp.asarray(x)) - jnp.log(slope))) < 1e-9


@pytest.mark.parametrize(
    ("prior", "expected"),
    [
        (dist.Normal(1.0, 2.0), Identity()),
        (dist.Normal(jnp.zeros(3), 1.0).to_event(1), Identity()),
        (dist.Uniform(-1.0, 4.0), Interval(-1.0, 4.0)),
        (dist.HalfNormal(2.0), Exponential(0.0)),
        (dist.LogNormal(0.0, 1.0), Exponential(0.0)),
        (dist.Beta(2.0, 3.0), Interval(0.0, 1.0)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_support_of_a_prior_chooses_the_bijector(prior, expected):
    assert bijector_of(prior) == expected


def test_draws_of_a_prior_come_through_its_bijector():
    for prior in (dist.TruncatedNormal(0.0, 1.0, low=-0.5, high=2.0), dist.HalfNormal(2.0), dist.VonMises(0.0, 1.0)):
        bijector, draws = bijector_of(prior), prior.sample(jax.random.key(0), (50,))
        np.testing.assert_allclose(bijector.forward(bijector.inverse(draws)), draws, rtol=1e-9, atol=1e-9)
        assert bool(jnp.isfinite(bijector.log_slope(bijector.inverse(draws))).all())


def test_change_of_variables_keeps_probability():
    # ∫ p(forward(x)) |dy/dx| dx = 1 over all x.
    x = jnp.linspace(-30.0, 30.0, 20_001)
    for prior in (dist.Gamma(2.0, 1.0), dist.HalfNormal(2.0), dist.Uniform(-1.0, 4.0)):
        bijector = bijector_of(prior)
        density = jnp.exp(prior.log_prob(bijector.forward(x)) + bijector.log_slope(x))
        density = jnp.where(jnp.isfinite(density), density, 0.0)
        assert abs(float(jnp.trapezoid(density, x)) - 1) < 1e-6


def test_a_prior_may_bring_its_own_bijector():
    class Prior:
        bijector = Interval(1.0, 2.0)

    assert bijector_of(Prior()) == Interval(1.0, 2.0)
