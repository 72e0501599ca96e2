"""Thermal absorption and detector potentials against quadrature in real space, exact means and frozen phonons."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from stemjax.core.errors import InputError
from stemjax.core.fourier import shift_ramps
from stemjax.core.grid import Grid
from stemjax.optics.electron import interaction_parameter, wavelength
from stemjax.optics.probe import make_probe, probe_waves
from stemjax.scatter.multislice import multislice
from stemjax.scatter.propagator import slice_propagators
from stemjax.specimen.absorption import (
    absorptive_factor,
    mean_wave,
    mean_wave_factors,
    thermal_detector_factor,
    thermal_detector_potential,
)
from stemjax.specimen.atomic import make_atomic_specimen
from stemjax.specimen.builders import slab
from stemjax.specimen.phase_grating import amplitude_ratio
from stemjax.specimen.potential import project_exact
from stemjax.specimen.scattering_factors import POTENTIAL_PER_SCATTERING_FACTOR, coefficients, scattering_factor
from stemjax.specimen.structure import make_structure, with_displacement

ENERGY = 100e3
SIGMA, LAMBDA = interaction_parameter(ENERGY), wavelength(ENERGY)


def quadrature(low: float, high: float, count: int):
    node, weight = np.polynomial.legendre.leggauss(count)
    return (high - low) / 2 * node + (high + low) / 2, (high - low) / 2 * weight


def real_space_variance(number: int, k: np.ndarray, u: float) -> np.ndarray:
    """⟨v²⟩ - ⟨v⟩² from the closed form in real space and two Hankel transforms; no overlap in reciprocal space."""
    t, dt = quadrature(0.0, 1.0, 900)
    # Where the potential is smooth over u, both terms are the same, and their difference ends before they do.
    r, dr = 9 * t**3, 27 * t**2 * dt
    a, b = coefficients("lobato", number)[..., None]
    s = 2 * np.pi * r / np.sqrt(b)
    terms = a * (2 * np.pi / b * special.k0(s) + 2 * np.pi**2 * r / b**1.5 * special.k1(s))
    potential = POTENTIAL_PER_SCATTERING_FACTOR * terms.sum(0)
    hankel = special.j0(2 * np.pi * np.outer(k, r)) * (2 * np.pi * r * dr)
    q, dq = quadrature(0.0, 1.3 / u, 500)
    factor = POTENTIAL_PER_SCATTERING_FACTOR * np.asarray(scattering_factor("lobato", number, q))
    blurred = special.j0(2 * np.pi * np.outer(r, q)) @ (2 * np.pi * q * dq * factor * np.exp(-2 * (np.pi * u * q) ** 2))
    return hankel @ potential**2 * np.exp(-2 * (np.pi * u * k) ** 2) - hankel @ blurred**2


@pytest.mark.parametrize("number", [6, 38])
@pytest.mark.parametrize("u", [0.05, 0.12])
def test_absorptive_factor_is_the_variance_of_the_potential(number, u):
    k = np.array([0.0, 0.13, 0.6, 1.7, 3.3])
    found = absorptive_factor(number, k, u**2)
    np.testing.assert_allclose(found, real_space_variance(number, k, u), rtol=2e-5)


@pytest.mark.parametrize("number", [14, 79])
def test_absorption_is_the_mean_over_the_vibration(number):
    """The mean of exp(iσv(r - u)) by Fourier blurring on a fine grid, amplitude and phase, for weak and strong."""
    u, grid = 0.08, Grid((480, 480), (0.01, 0.01))
    still = make_structure([[1, 2.4, 2.4]], [number], [2, 4.8, 4.8])
    moving = with_displacement(still, u)
    potential = np.asarray(project_exact(still, grid, 1, band_limit=None).values[0])
    ky, kx = grid.frequencies()
    blur = np.exp(-2 * (np.pi * u) ** 2 * (ky**2 + kx**2))
    mean = np.fft.ifft2(np.fft.fft2(np.exp(1j * SIGMA * potential)) * blur)
    potential = np.fft.ifft2(np.fft.fft2(potential) * blur).real
    loss, change = (np.asarray(a[0]) for a in jax.jit(lambda s: mean_wave(s, grid, 1, SIGMA))(moving))
    exact = np.log(mean * np.exp(-1j * SIGMA * potential))
    # The grid rounds the nucleus, and the third order feels it most; halving the pixel takes off two thirds.
    np.testing.assert_allclose(loss, exact.real, atol=3e-3 * np.abs(exact.real).max())
    np.testing.assert_allclose(change, exact.imag, atol=3e-2 * np.abs(exact.imag).max())
    lost = (1 - np.abs(mean) ** 2).sum()
    assert (1 - np.exp(2 * loss)).sum() == pytest.approx(lost, rel=5e-3)
    # The second order alone would take 55 % too much out of gold.
    second = SIGMA**2 * float(absorptive_factor(number, np.zeros(1), u**2)[0]) / 0.01**2
    assert second / lost == pytest.approx({14: 1.02, 79: 1.55}[number], abs=0.02)


@pytest.mark.parametrize("number", [6, 79])
def test_what_the_wave_loses_is_what_all_detectors_see(number):
    """1 - |⟨t⟩|² from the logarithm and the overlap of the amplitudes are two sums of the same electrons."""
    k = np.linspace(0.0, 2.0, 9)
    r, dr = quadrature(0.0, 3.0, 200)
    nodes = np.linspace(0.0, 12.0, 1500)
    loss = np.asarray(mean_wave_factors(number, nodes, 0.0064, SIGMA)[0])
    step = nodes[1]
    at_r = special.j0(2 * np.pi * np.outer(r, nodes)) @ (2 * np.pi * nodes * step * loss)
    lost = special.j0(2 * np.pi * np.outer(k, r)) @ (2 * np.pi * r * dr * (1 - np.exp(2 * at_r)))
    found = SIGMA**2 * absorptive_factor(number, k, 0.0064, interaction_parameter=SIGMA)
    np.testing.assert_allclose(found, lost, rtol=1e-3, atol=1e-4 * lost.max())


def test_scattering_amplitude_is_that_of_the_phase_grating():
    """R of gold against a Fourier transform of exp(iσv) - 1 on a fine grid."""
    grid = Grid((800, 800), (0.01, 0.01))
    values = np.asarray(project_exact(make_structure([[1, 4, 4]], [79], [2, 8, 8]), grid, 1, band_limit=None).values[0])
    values = values - values[0, 0]
    at = [2, 8, 16, 32]
    ratio = (np.fft.fft2(np.exp(1j * SIGMA * values) - 1) / (1j * SIGMA * np.fft.fft2(values)))[0, at]
    np.testing.assert_allclose(amplitude_ratio("lobato", 79, np.array(at) / 8.0, SIGMA), ratio, atol=5e-3)


@pytest.mark.parametrize("function", [0, 1])
def test_gradient_reaches_the_displacement(function):
    k = np.array([0.0, 0.7, 2.1])

    @jax.jit
    def value(u):
        if function:
            return jnp.sum(jnp.stack(mean_wave_factors(38, k, u**2, SIGMA)))
        return jnp.sum(absorptive_factor(38, k, u**2, ring=(1.0, 4.0))) * 1e-5

    h = 1e-4
    numeric = np.array([float(value(0.08 + i * h)) for i in (-2, -1, 1, 2)]) @ np.array([1, -8, 8, -1]) / (12 * h)
    assert float(jax.jit(jax.grad(value))(0.08)) == pytest.approx(numeric, rel=1e-6)


def test_rings_add_up_and_atoms_at_rest_lose_nothing():
    k = np.array([0.0, 0.5, 1.5])
    edges = [0.0, 40.0, 90.0, 250.0, np.inf]
    rings = [
        thermal_detector_factor(38, k, 0.0064, inner=a, outer=b, wavelength=LAMBDA, interaction_parameter=SIGMA)
        for a, b in itertools.pairwise(edges)
    ]
    np.testing.assert_allclose(sum(rings), absorptive_factor(38, k, 0.0064, interaction_parameter=SIGMA), rtol=1e-4)
    assert not np.asarray(absorptive_factor(38, k, 0.0)).any()
    assert not np.asarray(jnp.stack(mean_wave_factors(38, k, 0.0, SIGMA))).any()
    with pytest.raises(InputError, match="0 <= inner < outer"):
        thermal_detector_factor(38, k, 0.0064, inner=90.0, outer=40.0, wavelength=LAMBDA)
    with pytest.raises(InputError, match="fixed energy"):
        jax.jit(lambda sigma: mean_wave_factors(38, k, 0.0064, sigma))(SIGMA)


def focused_wave(grid, place, semiangle=20.0):
    """A probe in reciprocal space at a place (y, x) [Å]."""
    ramp_y, ramp_x = shift_ramps(grid, jnp.asarray(place))
    return probe_waves(make_probe(grid, energy=ENERGY, semiangle=semiangle))[0] * ramp_y * ramp_x


@pytest.mark.parametrize(("number", "tolerance"), [(14, 0.012), pytest.param(79, 0.012, marks=pytest.mark.slow)])
def test_ring_of_one_atom_against_all_its_places(number, tolerance):
    """Thermal intensity on 60-200 mrad of a probe on one atom, averaged over its places by Gauss-Hermite quadrature."""
    u, grid = 0.08, Grid((256, 256), (0.025, 0.025))
    still = make_structure([[1, 3.2, 3.2]], [number], [2, 6.4, 6.4])
    moving = with_displacement(still, u)
    field = jnp.exp(1j * SIGMA * project_exact(still, grid, 1, band_limit=None).values[0])
    ky, kx = grid.frequencies()
    ring = jnp.asarray((1e3 * LAMBDA * np.hypot(ky, kx) >= 60.0) & (1e3 * LAMBDA * np.hypot(ky, kx) < 200.0))
    wave = jnp.fft.ifft2(focused_wave(grid, (3.2, 3.2)), norm="ortho")
    node, weight = np.polynomial.hermite_e.hermegauss(7)
    weight = weight / weight.sum()

    @jax.jit
    def thermal(field):
        spectrum = jnp.fft.fft2(field)

        def one(total, case):
            moved = jnp.fft.ifft2(spectrum * jnp.exp(-2j * jnp.pi * u * (ky * case[0] + kx * case[1])))
            out = jnp.fft.fft2(wave * moved, norm="ortho")
            return (total[0] + case[2] * out, total[1] + case[2] * jnp.abs(out) ** 2), None

        places = jnp.asarray([(a, b, v * w) for a, v in zip(node, weight) for b, w in zip(node, weight)])  # noqa: B905
        mean, intensity = jax.lax.scan(one, (0j * ring, 0.0 * ring), places)[0]
        return jnp.sum(ring * (intensity - jnp.abs(mean) ** 2))

    fast = thermal_detector_potential(moving, grid, 1, SIGMA, inner=60.0, outer=200.0, wavelength=LAMBDA)[0]
    found = float(jnp.sum(jnp.abs(wave) ** 2 * fast))
    assert found == pytest.approx(float(thermal(field)), rel=tolerance)


def test_fast_image_is_that_of_frozen_phonons():
    """Silicon, one cell thick, on a column: elastic and thermal electrons on 60-150 mrad, to 4 %; and the loss."""
    crystal = slab("Si", thickness=5.0, width=(7.6, 7.6), rms_displacement=0.08)
    count, place = 64, np.asarray(crystal.positions)[0, 1:]
    moving = make_atomic_specimen(crystal, 0.08, 4, phonons=count, seed=1)
    grid = moving.grid
    absorbing = make_atomic_specimen(crystal, grid, 4, absorption=True)
    angle = 1e3 * LAMBDA * np.hypot(*grid.frequencies())
    ring = jnp.asarray((angle >= 60.0) & (angle < 150.0))
    propagators = slice_propagators(grid, moving.thickness, ENERGY, jnp.zeros(2), limit=2 / 3)
    wave = focused_wave(grid, place)

    @jax.jit
    def frozen(specimen):
        def one(_, index):
            out = multislice(wave, specimen.configuration(index).transmission(SIGMA), propagators)
            return None, jnp.sum(ring * jnp.abs(out) ** 2)

        return jnp.mean(jax.lax.scan(one, None, jnp.arange(count))[1])

    @jax.jit
    def fast(specimen):
        rings = thermal_detector_potential(
            specimen.structure, grid, 4, SIGMA, inner=60.0, outer=150.0, wavelength=LAMBDA
        )
        whole = thermal_detector_potential(
            specimen.structure, grid, 4, SIGMA, inner=0.0, outer=np.inf, wavelength=LAMBDA
        )

        def step(carry, case):
            psi, events = carry
            here = jnp.abs(jnp.fft.ifft2(psi, norm="ortho")) ** 2
            events = events + jnp.stack([jnp.sum(here * case[1]), jnp.sum(here * case[2])])
            return (propagators[0] * jnp.fft.fft2(case[0] * jnp.fft.ifft2(psi)), events), None

        out, events = jax.lax.scan(step, (wave, jnp.zeros(2)), (specimen.transmission(SIGMA), rings, whole))[0]
        return events[0] + jnp.sum(ring * jnp.abs(out) ** 2), events[1], 1.0 - jnp.sum(jnp.abs(out) ** 2)

    signal, events, lost = (float(x) for x in fast(absorbing))
    assert signal == pytest.approx(float(frozen(moving)), rel=0.04)
    assert events == pytest.approx(lost, rel=1e-3)
