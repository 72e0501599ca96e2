"""Fourier helpers against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemjax.core.fourier import band_limit, fourier_shift, shift_ramps
from stemjax.core.grid import Grid

GRID = Grid((24, 33), (0.3, 0.2))
QUICK = settings(max_examples=20, deadline=None)
shifts = st.tuples(st.floats(-9.0, 9.0), st.floats(-9.0, 9.0))


def harmonics(y, x):
    """A real function of a few low harmonics of the cell, known everywhere."""
    ly, lx = GRID.extent
    return np.cos(2 * np.pi * (2 * y / ly + x / lx) + 0.3) + 0.5 * np.sin(2 * np.pi * (3 * x / lx - y / ly))


@QUICK
@given(shifts)
def test_shift_moves_a_function_known_everywhere(shift):
    y, x = GRID.coordinates()
    moved = fourier_shift(jnp.asarray(harmonics(y, x)), GRID, jnp.asarray(shift))
    assert not jnp.iscomplexobj(moved)
    np.testing.assert_allclose(moved, harmonics(y - shift[0], x - shift[1]), atol=1e-10)


@QUICK
@given(st.integers(-40, 40), st.integers(-40, 40))
def test_whole_pixels_are_a_roll(rows, columns):
    image = np.random.default_rng(1).normal(size=GRID.shape)
    shift = jnp.array([rows * GRID.sampling[0], columns * GRID.sampling[1]])
    np.testing.assert_allclose(fourier_shift(jnp.asarray(image), GRID, shift), np.roll(image, (rows, columns), (0, 1)),
                               atol=1e-10)  # fmt: skip


@QUICK
@given(shifts, shifts)
def test_shifts_add_and_undo(first, second):
    ramps = [jnp.multiply(*shift_ramps(GRID, jnp.asarray(s))) for s in (first, second, np.add(first, second))]
    np.testing.assert_allclose(ramps[0] * ramps[1], ramps[2], atol=1e-10)
    np.testing.assert_allclose(jnp.abs(ramps[0]), 1.0, atol=1e-12)


def test_shift_has_the_slope_of_the_image():
    y, x = GRID.coordinates()
    image = jnp.asarray(harmonics(y, x))
    slope = jax.jvp(lambda s: fourier_shift(image, GRID, s), (jnp.zeros(2),), (jnp.array([0.0, 1.0]),))[1]
    step = 1e-5
    expected = (harmonics(y, x - step) - harmonics(y, x + step)) / (2 * step)
    np.testing.assert_allclose(slope, expected, atol=1e-8)


@pytest.mark.parametrize("limit", [0.3, 2 / 3, 1.0])
def test_band_is_a_disk(limit):
    grid = Grid((200, 160), (0.1, 0.12))
    mask = band_limit(grid, limit)
    area = mask.sum() * np.prod(grid.reciprocal_sampling)
    assert abs(area / (np.pi * (limit * grid.nyquist) ** 2) - 1) < 0.02
    assert set(np.unique(mask)) <= {0.0, 1.0}
    np.testing.assert_array_equal(mask[1:, 1:], mask[1:, 1:][::-1, ::-1])


def test_two_thirds_keep_a_product_free_of_aliases():
    # The product of two functions in the band wraps around, but never back into the band. (Where 3 divides the side,
    # the frequency on the edge itself does: 2 · n/3 wraps to -n/3.)
    grid = Grid((32, 32), (0.2, 0.2))
    mask = band_limit(grid)
    rng = np.random.default_rng(4)
    parts = [np.fft.ifft2(mask * np.exp(2j * np.pi * rng.random(grid.shape))) for _ in range(2)]
    coarse = np.fft.fft2(parts[0] * parts[1])
    spectra = [np.fft.fftshift(np.fft.fft2(p)) for p in parts]
    wide = [np.fft.ifft2(np.fft.ifftshift(np.pad(s, 16))) * 4 for s in spectra]
    fine = np.fft.ifftshift(np.fft.fftshift(np.fft.fft2(wide[0] * wide[1]))[16:48, 16:48]) / 4
    np.testing.assert_allclose(coarse * mask, fine * mask, atol=1e-12)
    assert np.abs((coarse - fine) * (1 - mask)).max() > 1e-6


def test_tapered_edge_falls_inside_the_limit():
    grid = Grid((64, 64), (0.2, 0.2))
    soft, hard = band_limit(grid, 0.6, 0.2), band_limit(grid, 0.6)
    k = np.hypot(*grid.frequencies()) / grid.nyquist
    assert (soft <= hard + 1e-12).all()
    np.testing.assert_allclose(soft[k <= 0.4], 1.0, atol=1e-12)
    inside = (k > 0.4) & (k < 0.6)
    np.testing.assert_allclose(soft[inside], np.cos(np.pi / 2 * (k[inside] - 0.4) / 0.2) ** 2, atol=1e-12)
