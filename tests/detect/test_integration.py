"""Integration of deflections: exact phases, both kinds of border, rotation, charge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.detect.integration import (
    charge_density,
    curl,
    divergence,
    field_along,
    integrated_phase,
    integrated_phase_periodic,
    scan_frame,
)
from stemjax.optics.electron import interaction_parameter, wavelength

ENERGY = 80e3
RADIAN = 2e-3 * np.pi / wavelength(ENERGY)  # phase gradient [rad/Å] of one mrad
SHAPE, STEP = (41, 56), (0.3, 0.22)


def raster(shape=SHAPE, step=STEP):
    return np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, step, strict=True)), indexing="ij")


def centred_error(found, phase):
    """Largest difference against the largest phase, both with mean zero."""
    phase = phase - phase.mean()
    return np.abs(found - found.mean() - phase).max() / np.abs(phase).max()


def test_a_raster_that_ends_gives_polynomials_exactly():
    y, x = raster()
    phase = 0.3 * x - 0.2 * y + 0.01 * x**2 * y - 2e-4 * x**3 * y**2 + 1e-6 * y**6 - 3e-6 * x**5
    slope_y = -0.2 + 0.01 * x**2 - 4e-4 * x**3 * y + 6e-6 * y**5
    slope_x = 0.3 + 0.02 * x * y - 6e-4 * x**2 * y**2 - 15e-6 * x**4
    found = integrated_phase(jnp.stack([slope_y, slope_x]) / RADIAN, STEP, ENERGY)
    assert centred_error(found, phase) < 1e-11
    assert abs(float(found.mean())) < 1e-12


def test_a_raster_that_ends_gives_a_smooth_phase_without_edge_artefacts():
    y, x = raster((64, 50), (0.2, 0.2))
    phase = np.exp(-((y - 11.9) ** 2 + (x - 0.3) ** 2) / 4) + 0.5 * np.sin(0.9 * x + 0.4 * y)
    bump = np.exp(-((y - 11.9) ** 2 + (x - 0.3) ** 2) / 4)
    slope_y = -(y - 11.9) / 2 * bump + 0.2 * np.cos(0.9 * x + 0.4 * y)
    slope_x = -(x - 0.3) / 2 * bump + 0.45 * np.cos(0.9 * x + 0.4 * y)
    field = jnp.stack([slope_y, slope_x]) / RADIAN
    assert centred_error(integrated_phase(field, 0.2, ENERGY), phase) < 1e-5
    # The periodic solution of a field that is not periodic is wrong, which is why there are two.
    assert centred_error(integrated_phase_periodic(field, 0.2, ENERGY), phase) > 0.1


@pytest.mark.parametrize(("order", "weak"), [(0.25, 0.0007), (0.5, 0.036)])
def test_waves_are_too_weak_by_what_is_said(order, weak):
    # A standing wave with flat borders, at a fraction of the Nyquist frequency.
    shape = (4, 96)
    x = (np.arange(96) + 0.5) * 0.2
    q = np.pi * order / 0.2
    phase = np.tile(np.cos(q * x), (4, 1))
    field = jnp.stack([jnp.zeros(shape), jnp.asarray(np.tile(-q * np.sin(q * x), (4, 1)))]) / RADIAN
    found = np.asarray(integrated_phase(field, 0.2, ENERGY))[:, 20:-20]
    ratio = (found * phase[:, 20:-20]).sum() / (phase[:, 20:-20] ** 2).sum()
    assert abs((1 - ratio) / weak - 1) < 0.1


@pytest.mark.parametrize("shape", [(32, 45), (33, 48)])
def test_a_periodic_raster_gives_resolved_waves_exactly(shape):
    step = (0.25, 0.2)
    y, x = raster(shape, step)
    qy, qx = (2 * np.pi / (n * s) for n, s in zip(shape, step, strict=True))
    phase = np.cos(3 * qy * y - 5 * qx * x + 0.3) + 0.4 * np.sin(7 * qx * x) - 0.2 * np.cos(11 * qy * y)
    slope_y = -3 * qy * np.sin(3 * qy * y - 5 * qx * x + 0.3) + 2.2 * qy * np.sin(11 * qy * y)
    slope_x = 5 * qx * np.sin(3 * qy * y - 5 * qx * x + 0.3) + 2.8 * qx * np.cos(7 * qx * x)
    field = jnp.stack([slope_y, slope_x]) / RADIAN
    assert centred_error(integrated_phase_periodic(field, step, ENERGY), phase) < 1e-12
    assert np.abs(np.asarray(curl(field, step, periodic=True))).max() < 1e-9


def test_highpass_damps_a_wave_by_its_formula():
    n, step, cut = 64, 0.5, 0.05
    x = np.arange(n) * step
    for order in (1, 4):
        q = order / (n * step)
        slope = np.tile(-2 * np.pi * q * np.sin(2 * np.pi * q * x), (n, 1))
        field = jnp.stack([jnp.zeros((n, n)), jnp.asarray(slope)]) / RADIAN
        found = np.asarray(integrated_phase_periodic(field, step, ENERGY, highpass=cut))
        np.testing.assert_allclose(found[0], np.cos(2 * np.pi * q * x) * q**2 / (q**2 + cut**2), atol=1e-12)
        ended = np.asarray(integrated_phase(field, step, ENERGY, highpass=cut))
        assert np.ptp(ended) < np.ptp(np.asarray(integrated_phase(field, step, ENERGY)))


def swirl(step):
    """A field of pure curl, zero at the border, and its curl; the gradient field of its stream makes 1 mrad Å."""
    count = round(14.4 / step)
    y, x = raster((count, count), (step, step))
    square = (y - 7.2) ** 2 + (x - 7.2) ** 2
    stream = np.exp(-square / 2.0)
    return jnp.stack([-(x - 7.2) * stream, (y - 7.2) * stream]), -(2 - square) * stream


def test_a_swirl_has_no_phase():
    field, expected = swirl(0.15)
    assert np.abs(np.asarray(integrated_phase_periodic(field, 0.15, ENERGY))).max() / RADIAN < 1e-8
    np.testing.assert_allclose(curl(field, 0.15, periodic=True), expected, atol=1e-8)
    assert np.abs(np.asarray(curl(field, 0.15)) - expected).max() < 0.02 * np.abs(expected).max()
    # The raster that ends is one of differences: what it takes for a gradient falls with the square of its step.
    left = [np.abs(np.asarray(integrated_phase(swirl(s)[0], s, ENERGY))).max() / RADIAN for s in (0.15, 0.3)]
    assert left[0] < 5e-4
    assert 3.5 < left[1] / left[0] < 4.5


def test_divergence_is_exact_for_quadratic_fields_up_to_the_border():
    y, x = raster()
    field = jnp.stack([0.3 * y**2 + x, 0.2 * x**2 - y])
    np.testing.assert_allclose(divergence(field, STEP), 0.6 * y + 0.4 * x, atol=1e-10)
    np.testing.assert_allclose(curl(field, STEP), 2.0, atol=1e-10)


def test_charge_of_a_screened_nucleus():
    # Projected potential of Z protons, spread and screened as Gaussians: V = Z e/(4 π ε₀) ... ∇²V = −ρ/ε₀ in the plane.
    n, step, narrow, wide = 128, 0.1, 0.4, 0.9
    y, x = raster((n, n), (step, step))
    square = (y - 6.4) ** 2 + (x - 6.4) ** 2
    nucleus = np.exp(-square / (2 * narrow**2)) / (2 * np.pi * narrow**2)
    cloud = np.exp(-square / (2 * wide**2)) / (2 * np.pi * wide**2)
    density = 6.0 * (nucleus - cloud)  # e/Å²
    # The radial field of a Gaussian charge: E = Q (1 − exp(−r²/2s²)) / (2 π ε₀ r); deflection = σλ/2π ∇V = −σλ/2π E.
    epsilon = 5.5263494e-3
    pull = -6.0 / (2 * np.pi * epsilon) * (np.exp(-square / (2 * wide**2)) - np.exp(-square / (2 * narrow**2)))
    scale = 1e3 * interaction_parameter(ENERGY) * wavelength(ENERGY) / (2 * np.pi)
    safe = np.where(square > 0, square, 1.0)
    field = scale * np.stack([pull * (y - 6.4) / safe, pull * (x - 6.4) / safe])
    found = np.asarray(charge_density(jnp.asarray(field), step, ENERGY, periodic=True))
    assert np.abs(found - density).max() < 1e-5 * density.max()
    assert abs(found.sum()) * step**2 < 1e-9
    assert found[64, 64] > 0


def test_the_frame_of_a_rotated_scan():
    # A phase that rises along the detector's y axis; the raster's x axis is turned by 30 degree towards y.
    field = scan_frame(jnp.array([1.0, 0.0]), 30.0)
    np.testing.assert_allclose(field, [np.cos(np.pi / 6), np.sin(np.pi / 6)], rtol=1e-12)
    angle = np.radians(30.0)
    matrix = jnp.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose(field_along(jnp.array([1.0, 0.0]), matrix), field, rtol=1e-12)


@pytest.mark.parametrize("integrate", [integrated_phase, integrated_phase_periodic])
def test_integration_is_linear_and_differentiable(integrate):
    rng = np.random.default_rng(0)
    field, direction = jnp.asarray(rng.normal(size=(2, 2, 8, 9)))
    weight = jnp.asarray(rng.normal(size=(8, 9)))
    run = jax.jit(lambda f: jnp.sum(weight * integrate(f, 0.3, ENERGY)))
    slope = jax.jit(jax.grad(run))(field)
    assert abs(float(jnp.sum(slope * direction)) - float(run(direction))) < 1e-9 * abs(float(run(direction)))


def test_too_small_rasters_are_refused():
    with pytest.raises(InputError, match="two points"):
        integrated_phase(jnp.zeros((2, 1, 5)), 0.2, ENERGY)
    with pytest.raises(InputError, match="positive steps"):
        integrated_phase(jnp.zeros((2, 5, 5)), (0.2, 0.0), ENERGY)
    with pytest.raises(InputError, match="takes three"):
        divergence(jnp.zeros((2, 2, 5)), 0.2)
