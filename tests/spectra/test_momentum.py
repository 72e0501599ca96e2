"""Collection beside the axis: conservation, resolution, dispersion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.spectra.collection import make_collection
from stemjax.spectra.kinematics import characteristic_angle, wavenumber
from stemjax.spectra.momentum import (
    make_dispersive_plasmon,
    make_displaced_collection,
    momentum_resolution,
    transfer_distribution,
)

APERTURE = make_displaced_collection(1.0, (3.0, 4.0), convergence=0.7)


def test_the_accepted_transfers_have_the_stated_area_mean_and_width():
    axis = jnp.linspace(-4.0, 10.0, 701)
    part = np.asarray(transfer_distribution(APERTURE, axis, axis))
    area = part.sum() * 0.02**2
    assert area == pytest.approx(np.pi * 1.0**2, rel=1e-3)  # the aperture, whatever the cone
    mean_y, mean_x = (part.sum(axis=a) @ np.asarray(axis) / part.sum() for a in (1, 0))
    assert (mean_y, mean_x) == pytest.approx((3.0, 4.0), abs=1e-6)
    spread = np.sqrt(part.sum(axis=1) @ (np.asarray(axis) - 3.0) ** 2 / part.sum())
    assert float(momentum_resolution(APERTURE, 200e3) / wavenumber(200e3)) * 1e3 == pytest.approx(spread, rel=1e-3)


@pytest.mark.parametrize(
    "collection",
    [APERTURE, make_displaced_collection(2.0, (0.0, 1.0), convergence=0.5), make_displaced_collection(1.0, (0.0, 6.0))],
)
def test_nodes_over_the_modulus_are_the_plane(collection):
    """The sum over nodes is ∫ p(θ) d²θ / (π (θ² + θ_E²)), here by a fine raster."""
    loss = 60.0
    theta = float(characteristic_angle(loss, 100e3))
    centre = [float(x) for x in collection.offset]
    y, x = (jnp.asarray(np.linspace(c - 3.0, c + 3.0, 1501) + 1e-4) for c in centre)
    part = transfer_distribution(collection, y, x)
    exact = float(jnp.sum(part / (y[:, None] ** 2 + x[None, :] ** 2 + theta**2)) * (6.0 / 1500) ** 2 / np.pi)
    found = jax.jit(lambda c: c.transfers(jnp.array(loss), 100e3).weight.sum())(collection)
    assert float(found) == pytest.approx(exact, rel=4e-3)


def test_close_to_the_axis_it_is_the_collection_on_the_axis():
    loss = jnp.array([15.0, 300.0])
    beside = make_displaced_collection(10.0, (0.0, 0.02), convergence=5.0)
    weight = jax.jit(lambda c: c.transfers(loss, 200e3).weight.sum(axis=-1))
    weights = [weight(c) for c in (beside, make_collection(10.0, 5.0))]
    assert np.allclose(*weights, rtol=2e-3)


def test_a_dispersing_plasmon_moves_and_another_does_not():
    loss = jnp.linspace(10.0, 30.0, 401)
    momentum = 0.08  # 1/Å, half an inverse ångström in rad/Å
    angle = float(1e3 * momentum / wavenumber(200e3))
    peaks = {}
    for dispersion in (0.0, 0.4):
        plasmon = make_dispersive_plasmon(15.0, 0.5, 500.0, dispersion=dispersion)
        seen = jax.jit(plasmon.density)(loss, 200e3, make_displaced_collection(0.1, (0.0, angle)))
        peaks[dispersion] = float(loss[jnp.argmax(seen)])
    assert peaks[0.0] == pytest.approx(15.0, abs=0.06)
    # ħ²q²/m0 = 7.62 eV Å² (q in rad/Å).
    assert peaks[0.4] - 15.0 == pytest.approx(0.4 * 7.62 * (2 * np.pi * momentum) ** 2, abs=0.06)


def test_resolution_is_bought_with_intensity():
    loss = jnp.linspace(10.0, 25.0, 301)
    plasmon = make_dispersive_plasmon(15.0, 0.5, 500.0, dispersion=0.4)
    seen = jax.jit(plasmon.density)
    spectra = [seen(loss, 200e3, make_displaced_collection(b, (0.0, 4.0))) for b in (0.2, 0.8)]
    areas = [float(jnp.trapezoid(s, loss)) for s in spectra]
    assert areas[1] / areas[0] == pytest.approx(16.0, rel=0.1)
    width = [float(areas[i] / spectra[i].max()) for i in (0, 1)]  # equivalent width: the wide aperture smears
    assert width[1] > 1.05 * width[0]
