"""The accepted part of an incident cone against closed forms and chance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.spectra.collection import Retarded, cone_overlap, make_collection
from stemjax.spectra.kinematics import characteristic_angle, lorentz_factor


@jax.jit
def weight_of(collection, loss):
    """∫ p(θ) d ln q² at 200 keV."""
    return collection.transfers(loss, 200e3).weight.sum(axis=-1)


def test_a_parallel_beam_gives_the_logarithm():
    weight = weight_of(make_collection(20.0), jnp.array([15.0, 300.0]))
    theta = np.asarray(characteristic_angle(np.array([15.0, 300.0]), 200e3))
    assert np.allclose(weight, np.log1p((20.0 / theta) ** 2), rtol=2e-3)  # θ_E is q_min to E/E0, and sine to angle²


@pytest.mark.parametrize(("alpha", "beta"), [(10.0, 10.0), (5.0, 10.0), (20.0, 10.0), (30.0, 33.0)])
def test_a_cone_gives_the_convolution_of_scheinfein_and_isaacson(alpha, beta):
    """Dipole scattering of a uniform cone into an aperture, ∫ I(θ) over it with their closed form of I(θ).

    I(θ) = ln[(ψ² + √(ψ⁴ + 4 θ² θ_E²)) / (2 θ_E²)] / α², ψ² = α² + θ_E² − θ² (Egerton, 3rd ed., section 4.5.3).
    """
    loss = 100.0
    wide = float(characteristic_angle(loss, 200e3))
    x, w = np.polynomial.legendre.leggauss(120)
    theta, w = beta * 0.25 * (x + 1) ** 2, beta * 0.5 * (x + 1) * w  # dense at the axis
    psi = alpha**2 + wide**2 - theta**2
    intensity = np.log((psi + np.sqrt(psi**2 + 4 * theta**2 * wide**2)) / (2 * wide**2)) / alpha**2
    exact = 2 * np.sum(w * theta * intensity)
    found = weight_of(make_collection(beta, alpha), jnp.array(loss))
    assert float(found) == pytest.approx(exact, rel=1e-3)


def test_the_overlap_of_two_disks_is_that_of_chance():
    rng = np.random.default_rng(1)
    radius, angle = np.sqrt(rng.random(400_000)), 2 * np.pi * rng.random(400_000)
    for rho, alpha, beta in [(8.0, 10.0, 10.0), (5.0, 4.0, 7.0), (12.0, 9.0, 5.0), (2.0, 9.0, 5.0), (2.0, 1.0, 5.0)]:
        u = np.stack([alpha * radius * np.cos(angle) - rho, alpha * radius * np.sin(angle)])
        chance = np.mean(np.hypot(*u) < beta)
        found = float(cone_overlap(jnp.array(rho), alpha, beta))
        assert found == pytest.approx(chance, abs=3e-3), (rho, alpha, beta)


def test_a_narrow_cone_is_a_parallel_beam():
    one, two = (weight_of(make_collection(10.0, a), jnp.array(300.0)) for a in (0.0, 1e-3))
    assert float(one) == pytest.approx(float(two), rel=1e-6)


def test_angles_have_slopes_even_where_the_two_are_equal():
    total = jax.jit(lambda a, b: make_one(a, b).transfers(jnp.array(300.0), 200e3).weight.sum())
    slope = jax.jit(jax.grad(total, argnums=(0, 1)))
    for alpha, beta in [(4.0, 10.0), (15.0, 10.0), (10.0, 10.0), (0.0, 10.0)]:
        assert np.isfinite(slope(alpha, beta)).all(), (alpha, beta)
    found = slope(4.0, 10.0)
    numeric = (total(4.01, 10.0) - total(3.99, 10.0)) / 0.02, (total(4.0, 10.01) - total(4.0, 9.99)) / 0.02
    assert np.allclose(found, numeric, rtol=1e-3)


def make_one(alpha, beta):
    return make_collection(1.0).replace(semiangle=beta, convergence=alpha)


@pytest.mark.parametrize("beam", [100e3, 300e3])
def test_retardation_adds_fanos_logarithm(beam):
    # Over all angles −ln(1 − v²/c²) − v²/c²; an aperture of 100 θ_E holds nearly all of it.
    wide = make_collection(float(100 * characteristic_angle(300.0, beam)))
    weight = jax.jit(lambda c: c.transfers(jnp.array(300.0), beam).weight.sum())
    speed = 1 - float(lorentz_factor(beam)) ** -2
    assert float(weight(Retarded(wide)) - weight(wide)) == pytest.approx(-np.log1p(-speed) - speed, rel=0.01)


@pytest.mark.parametrize("angles", [(0.0, 10.0), (-3.0, 0.0), (20.0, -1.0), (2e4, 0.0)])
def test_an_impossible_collection_is_refused(angles):
    with pytest.raises(InputError):
        make_collection(*angles)
