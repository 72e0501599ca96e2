"""Detailed balance and the thermometer that it makes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.spectra.energy_axis import make_energy_axis
from stemjax.spectra.gain_loss import BOLTZMANN, make_vibrations, occupation, temperature_from, temperature_of
from stemjax.spectra.lineshapes import FWHM_PER_SIGMA

AXIS = make_energy_axis(-0.4, 0.0005, 1601)
MODES = ([0.10, 0.16], [0.02, 0.03], [0.02, 0.05])


def broadened(temperature: float, width: float, elastic: float) -> jnp.ndarray:
    """Density of gain and loss with an elastic line, convolved with a Gaussian by quadrature over all energies."""
    loss = np.asarray(AXIS.energies())
    inside = np.asarray(make_vibrations(*MODES, temperature).density(AXIS.energies()))
    sigma = width / FWHM_PER_SIGMA
    kernel = np.exp(-0.5 * ((loss[:, None] - loss[None, :]) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    return jnp.asarray(kernel @ inside * 0.0005 + elastic * kernel[:, len(loss) // 2])


@pytest.mark.parametrize("temperature", [100.0, 300.0, 900.0])
def test_detailed_balance_holds_at_every_energy(temperature):
    energies = jnp.linspace(0.005, 0.25, 50)
    modes = make_vibrations(*MODES, temperature)
    gain, loss = modes.density(-energies), modes.density(energies)
    assert np.allclose(gain / loss, np.exp(-energies / (BOLTZMANN * temperature)), rtol=1e-9)
    assert np.allclose(temperature_from(gain, loss, energies), temperature, rtol=1e-9)


def test_loss_less_gain_does_not_know_the_temperature():
    # ∫ S(E) − S(−E) dE is the strength: one more quantum can be given than taken.
    energies = jnp.linspace(1e-4, 0.4, 4000)
    for temperature in (50.0, 800.0):
        modes = make_vibrations(*MODES, temperature)
        total = float(jnp.trapezoid(modes.density(energies) - modes.density(-energies), energies))
        assert total == pytest.approx(0.07, rel=1e-3)


def test_the_occupation_is_that_of_bose_and_einstein():
    quantum = jnp.array([0.01, 0.1])
    n = occupation(quantum, 300.0)
    assert np.allclose(n, 1 / (np.exp(quantum / (BOLTZMANN * 300.0)) - 1))
    assert np.allclose(occupation(-quantum, 300.0), -1 - n)
    slope = jax.grad(lambda t: make_vibrations(*MODES, 300.0).replace(temperature=t).density(jnp.zeros(1))[0])(300.0)
    assert np.isfinite(slope)


@pytest.mark.parametrize("temperature", [300.0, 600.0])
def test_a_broadened_spectrum_with_its_elastic_line_gives_the_temperature(temperature):
    spectrum = broadened(temperature, width=0.03, elastic=1.0)
    found = jax.jit(lambda s: temperature_of(s, AXIS, (0.07, 0.17), width=0.03))(spectrum)
    assert float(found) == pytest.approx(temperature, rel=1e-3)


def test_without_the_shift_it_is_wrong_as_foretold():
    """Resolution left out: T / {1 + (kT/E) ln[h(E + δ)/h(E − δ)]}, h(E + δ) = S(E) exp(−E/2kT)."""
    spectrum, at, width = broadened(300.0, 0.03, elastic=0.0), 0.18, 0.03
    naive = float(temperature_of(spectrum, AXIS, (at - 1e-4, at + 1e-4)))
    thermal, energies = BOLTZMANN * 300.0, np.asarray(AXIS.energies())
    delta = (width / FWHM_PER_SIGMA) ** 2 / (2 * thermal)
    even = np.log(np.asarray(spectrum)) - energies / (2 * thermal)
    # h is even, so h(E − δ) is read on the side of loss too: nothing of the gain enters the prediction.
    ratio = np.interp(at, energies, even) - np.interp(at - 2 * delta, energies, even)
    assert abs(naive / 300.0 - 1) > 0.05
    assert naive == pytest.approx(300.0 / (1 + thermal / at * ratio), rel=1e-3)
    assert float(temperature_of(spectrum, AXIS, (at - 1e-4, at + 1e-4), width=width)) == pytest.approx(300.0, rel=1e-3)


def test_the_temperature_has_a_slope_in_the_spectrum():
    spectrum = broadened(300.0, 0.03, elastic=0.5)
    tilt = AXIS.energies()
    measured = jax.jit(lambda a: temperature_of(spectrum * jnp.exp(a * tilt), AXIS, (0.07, 0.17), width=0.03))
    numeric = (measured(1e-3) - measured(-1e-3)) / 2e-3
    assert float(jax.grad(measured)(0.0)) == pytest.approx(float(numeric), rel=1e-3)


def test_a_window_without_gain_is_refused():
    with pytest.raises(InputError, match="give a window"):
        temperature_of(jnp.ones(1601), AXIS, (-0.1, 0.1))
