"""Dielectric low loss: sum rules, Kramers-Kronig, the plasmons of aluminium, Egerton's closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.spectra.collection import make_collection
from stemjax.spectra.kinematics import characteristic_angle, effective_energy, wavenumber
from stemjax.spectra.low_loss import (
    dielectric_function,
    make_drude,
    make_low_loss,
    make_oscillators,
    surface_density,
    volume_density,
)

ALUMINIUM = make_drude(15.0, 0.5)
SEVERAL = make_oscillators([0.0, 4.0, 9.0], [8.0, 9.0, 12.0], [0.6, 1.5, 3.0])
BOHR = 0.529177210903


def fine_grid(end=400.0, points=40_001):
    return jnp.linspace(0.0, end, points)[1:]


def test_a_drude_metal_has_the_published_loss_function():
    # Egerton, 3rd ed., section 3.3.
    loss = fine_grid(40.0, 401)
    found = jnp.imag(-1 / dielectric_function(ALUMINIUM, loss))
    exact = loss * 0.5 * 15.0**2 / ((loss**2 - 15.0**2) ** 2 + (loss * 0.5) ** 2)
    assert np.allclose(found, exact, rtol=1e-9)
    assert float(loss[jnp.argmax(found)]) == pytest.approx(15.0, abs=0.1)


@pytest.mark.parametrize("oscillators", [ALUMINIUM, SEVERAL])
def test_sum_rule(oscillators):
    loss = fine_grid()
    epsilon = dielectric_function(oscillators, loss)
    strength = float(jnp.sum(oscillators.strengths**2))
    for response in (jnp.imag(-1 / epsilon), jnp.imag(epsilon)):
        # Beyond the grid the response falls as E^-3; below its first point the integrand hardly changes.
        beyond = float(loss[-1] * loss[-1] * response[-1] + loss[0] * loss[0] * response[0])
        total = float(jnp.trapezoid(loss * response, loss)) + beyond
        assert total == pytest.approx(np.pi / 2 * strength, rel=2e-3)


def test_kramers_kronig():
    loss = np.asarray(fine_grid())
    inverse = 1 / np.asarray(dielectric_function(SEVERAL, jnp.asarray(loss)))
    for place in (500, 1200, 2500):
        at = 0.5 * (loss[place] + loss[place + 1])  # between two points, where the principal value is a plain sum
        kernel = -inverse.imag * loss / (loss**2 - at**2)
        real = 1 - 2 / np.pi * np.sum(kernel) * (loss[1] - loss[0])
        assert real == pytest.approx(0.5 * (inverse.real[place] + inverse.real[place + 1]), abs=2e-3)


def test_the_volume_term_is_egertons():
    # Egerton, 3rd ed., Eq. 4.26: S = t/(π a0 m0 v²) Im(−1/ε) ln[1 + (β/θ_E)²].
    loss, beam, beta = jnp.array([10.0, 15.0, 22.0]), 200e3, 15.0
    found = jax.jit(volume_density)(SEVERAL, loss, beam, make_collection(beta))
    theta = characteristic_angle(loss, beam)
    response = jnp.imag(-1 / dielectric_function(SEVERAL, loss))
    exact = response * jnp.log1p((beta / theta) ** 2) / (np.pi * BOHR * 2 * effective_energy(beam))
    assert np.allclose(found, exact, rtol=5e-4)


def test_two_surfaces_are_egertons():
    # The same equation: [arctan(β/θ_E)/θ_E − β/(β² + θ_E²)]/(π a0 k0 T) [4 ε2/((ε1 + 1)² + ε2²) − Im(−1/ε)].
    loss, beam, beta = jnp.array([6.0, 10.6, 15.0]), 100e3, 10.0
    found = 2 * jax.jit(surface_density)(SEVERAL, loss, beam, make_collection(beta))
    theta, rad = 1e-3 * characteristic_angle(loss, beam), 1e-3 * beta
    angular = jnp.arctan(rad / theta) / theta - rad / (rad**2 + theta**2)
    epsilon = dielectric_function(SEVERAL, loss)
    response = 4 * epsilon.imag / ((epsilon.real + 1) ** 2 + epsilon.imag**2) - jnp.imag(-1 / epsilon)
    exact = response * angular / (np.pi * BOHR * 2 * np.pi * wavenumber(beam) * effective_energy(beam))
    assert np.allclose(found, exact, rtol=2e-3)


def test_aluminium_has_its_plasmons_and_mean_free_path():
    """Volume plasmon at 15 eV, surface plasmon at 15/√2; λ_p = 2 a0 m0v²/(E_p ln(1 + β²/θ_E²)) (Egerton, 3.3)."""
    loss = fine_grid(60.0, 6001)
    foil = make_low_loss(ALUMINIUM, 1000.0)
    density = jax.jit(lambda: foil.replace(faces=jnp.array(0.0)).density(loss, 100e3, make_collection(10.0)))()
    assert float(loss[jnp.argmax(density)]) == pytest.approx(15.0, abs=0.05)
    theta = float(characteristic_angle(15.0, 100e3))
    path = 2 * BOHR * 2 * float(effective_energy(100e3)) / (15.0 * np.log1p((10.0 / theta) ** 2))
    assert 1000.0 / float(jnp.trapezoid(density, loss)) == pytest.approx(path, rel=0.03)
    face = jax.jit(lambda: surface_density(ALUMINIUM, loss, 100e3, make_collection(10.0)))()
    assert float(loss[jnp.argmax(face)]) == pytest.approx(15.0 / np.sqrt(2), abs=0.1)
    assert float(face[jnp.argmin(abs(loss - 15.0))]) < 0  # what the surfaces gain, the volume loses


def test_a_cutoff_takes_large_angles_away():
    loss = jnp.array([15.0])
    density = jax.jit(lambda foil, collection: foil.density(loss, 200e3, collection)[0])
    whole, cut, small = (
        float(density(make_low_loss(ALUMINIUM, 500.0, faces=0.0, cutoff=c), make_collection(b)))
        for c, b in ((1000.0, 30.0), (8.0, 30.0), (1000.0, 8.0))
    )
    assert cut < 0.95 * whole
    assert cut == pytest.approx(small, rel=0.03)


def test_impossible_oscillators_are_refused():
    with pytest.raises(InputError, match="the shapes given"):
        make_oscillators([1.0, 2.0], [1.0], [1.0])
    with pytest.raises(InputError, match="positive width"):
        make_drude(15.0, 0.0)
