"""The spreading kernel: its polynomials, its transform, its structure factors."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from stemjax.core.grid import Grid
from stemjax.specimen.gridding import WIDTH, kernel, kernel_transform, kernel_weights, spread


def test_polynomials_follow_the_kernel():
    place = np.linspace(0.0, 1.0, 101)
    distance = place[:, None] + WIDTH // 2 - 1 - np.arange(WIDTH)[None, :]
    np.testing.assert_allclose(kernel_weights(jnp.asarray(place)), kernel(distance), atol=1e-8)


def test_kernel_vanishes_smoothly_at_its_edge():
    """Value and slope are far below those in the middle."""
    edge, step = WIDTH / 2, 1e-3
    assert kernel(np.array(edge)) == pytest.approx(0.0, abs=1e-15)
    assert kernel(np.array(edge - step)) / step < 1e-6


def test_transform_by_quadrature():
    frequency = np.array([0.0, 0.1, 0.33])
    expected = [
        integrate.quad(lambda d, q=q: kernel(np.array(d)) * np.cos(2 * np.pi * q * d), -4, 4)[0] for q in frequency
    ]
    np.testing.assert_allclose(kernel_transform(frequency), expected, rtol=1e-10)


@pytest.mark.parametrize("q", [0, 3, -7, 16])
def test_spread_points_have_their_structure_factor(q):
    """48 pixels, so that q = 16 is the edge of the 2/3 band; points in, on and beyond the borders."""
    rng, grid = np.random.default_rng(2), Grid((48, 48), (0.1, 0.1))
    points = np.concatenate([rng.uniform(-5, 10, (20, 2)), [[0.0, 0.0], [4.8, 2.4], [4.75, 0.05]]])
    weights, layer = rng.uniform(0.5, 2, 23), rng.integers(0, 2, 23)
    layers = spread(jnp.asarray(points), jnp.asarray(weights), jnp.asarray(layer), 2, grid)
    spectrum = np.fft.fft2(layers)[:, q, 5]
    found = spectrum / np.prod(kernel_transform(np.array([q / 48, 5 / 48])))
    phase = np.exp(-2j * np.pi * (q * points[:, 0] + 5 * points[:, 1]) / 4.8)
    expected = [np.sum(weights[layer == i] * phase[layer == i]) for i in (0, 1)]
    np.testing.assert_allclose(found, expected, atol=2e-5 * weights.sum())
