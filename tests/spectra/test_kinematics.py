"""Kinematics against published values and the exact two-body collision."""

import jax
import numpy as np
import pytest

from stemjax.optics.electron import PLANCK_LIGHT_SPEED, REST_ENERGY, wavelength
from stemjax.spectra import kinematics


# D. B. Williams and C. B. Carter, Transmission Electron Microscopy, 2nd ed., table 1.2: E0 [keV], m/m0, v [1e8 m/s].
@pytest.mark.parametrize(("beam", "mass", "speed"), [(100, 1.196, 1.644), (200, 1.391, 2.086), (300, 1.587, 2.330)])
def test_mass_and_speed_are_those_of_the_book(beam, mass, speed):
    assert float(kinematics.lorentz_factor(1e3 * beam)) == pytest.approx(mass, abs=6e-4)
    effective = 0.5 * REST_ENERGY * (speed / 2.99792458) ** 2
    assert float(kinematics.effective_energy(1e3 * beam)) == pytest.approx(
        effective, rel=2e-3
    )  # v is given to 4 digits


def test_the_effective_energy_at_100_kev_is_egertons():
    assert float(kinematics.effective_energy(100e3)) / 1e3 == pytest.approx(76.79, abs=0.005)
    assert float(kinematics.lorentz_factor(100e3)) == pytest.approx(1.1957, abs=5e-5)


def test_the_wavenumber_is_one_over_the_wavelength():
    assert float(kinematics.wavenumber(80e3)) * wavelength(80e3) == pytest.approx(1.0, rel=1e-12)


def test_the_least_transfer_is_the_difference_of_the_wavenumbers_without_their_rounding():
    exact = kinematics.wavenumber(200e3) - kinematics.wavenumber(200e3 - 284.0)
    assert float(kinematics.least_transfer(284.0, 200e3)) == pytest.approx(float(exact), rel=1e-9)
    single = kinematics.least_transfer(np.float32(15.0), np.float32(200e3))
    assert float(single) == pytest.approx(float(kinematics.least_transfer(15.0, 200e3)), rel=1e-6)


def test_the_least_transfer_is_near_the_characteristic_angle():
    # k0 θ_E (1 + E/(2 γ ...)): the difference is of the order of E/E0.
    small = kinematics.characteristic_angle(100.0, 100e3) * 1e-3 * kinematics.wavenumber(100e3)
    assert float(kinematics.least_transfer(100.0, 100e3) / small) == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("loss", [50.0, 500.0, 5000.0])
def test_on_the_bethe_ridge_a_free_electron_takes_energy_and_momentum(loss):
    angle = kinematics.ridge_angle(loss, 200e3)
    momentum = np.sqrt(loss * (loss + 2 * REST_ENERGY)) / PLANCK_LIGHT_SPEED
    assert float(kinematics.momentum_transfer(loss, 200e3, angle)) == pytest.approx(momentum, rel=1e-10)


def test_angles_have_slopes():
    slope = jax.grad(lambda e: kinematics.momentum_transfer(e, 200e3, 5.0))(300.0)
    step = kinematics.momentum_transfer(301.0, 200e3, 5.0) - kinematics.momentum_transfer(299.0, 200e3, 5.0)
    assert float(slope) == pytest.approx(float(step) / 2, rel=1e-5)
