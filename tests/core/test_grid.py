"""Grids: the two spaces fit together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemjax.core.errors import InputError
from stemjax.core.grid import Grid, make_grid

sides, pixels = st.integers(1, 40), st.floats(0.01, 3.0)
grids = st.builds(lambda *a: Grid(a[:2], a[2:]), sides, sides, pixels, pixels)


@given(grids)
def test_frequencies_are_those_of_the_discrete_transform(grid):
    # exp(2πi k r) of a grid frequency has its transform in that one pixel: sampling × frequency × count is whole.
    y, x = grid.coordinates()
    ky, kx = grid.frequencies()
    row, column = grid.shape[0] // 3, grid.shape[1] // 2
    wave = np.exp(2j * np.pi * (ky[row, 0] * y + kx[0, column] * x))
    spectrum = np.fft.fft2(wave) / wave.size
    expected = np.zeros(grid.shape)
    expected[row, column] = 1.0
    np.testing.assert_allclose(spectrum, expected, atol=1e-11)


@given(grids, st.floats(0.01, 0.05))
def test_samplings_are_reciprocal(grid, wavelength):
    np.testing.assert_allclose(np.multiply(grid.extent, grid.reciprocal_sampling), 1.0)
    np.testing.assert_allclose(
        grid.angular_sampling(wavelength), np.multiply(1e3 * wavelength, grid.reciprocal_sampling)
    )
    assert grid.nyquist <= 0.5 / max(grid.sampling) <= 0.5 / min(grid.sampling)
    assert hash(grid) == hash(Grid(grid.shape, grid.sampling))


@pytest.mark.parametrize(
    ("shape", "sampling"), [((0, 4), 0.1), (4, 0.0), (4, -1.0), (4, float("nan")), ((4, 4), (0.1, float("inf")))]
)
def test_grids_that_cannot_be_are_refused(shape, sampling):
    with pytest.raises(InputError, match="grid"):
        make_grid(shape, sampling)


def test_one_number_stands_for_both_axes():
    assert make_grid(8, 0.5) == make_grid((8, 8), (0.5, 0.5))
