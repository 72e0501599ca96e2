"""Position errors: what is injected comes out, what is gauge does not."""

import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.metrics.positions import position_error


@pytest.fixture
def raster():
    return np.stack(np.meshgrid(np.arange(30) * 0.5, np.arange(40) * 0.5, indexing="ij"), -1).reshape(-1, 2)


def test_a_shift_is_no_error(raster):
    error = position_error(raster + np.array([3.0, -2.0]), raster)
    assert error.rms < 1e-12
    assert error.shift == pytest.approx((3.0, -2.0))


def test_noise_has_the_rms_that_was_put_in(raster):
    noise = np.random.default_rng(0).normal(scale=0.1, size=raster.shape)
    # Two coordinates of 0.1 Å each: a distance of 0.1 √2, to within 5 standard errors.
    assert position_error(raster + noise, raster).rms == pytest.approx(
        0.1 * np.sqrt(2), rel=5 / np.sqrt(2 * noise.size)
    )


def test_a_linear_map_is_an_error_unless_it_is_gauge(raster):
    matrix = np.array([[1.01, 0.02], [-0.02, 0.99]])
    found = raster @ matrix.T + 1.0
    centred = raster - raster.mean(axis=0)
    expected = np.sqrt(np.mean(np.sum((centred @ (matrix - np.eye(2)).T) ** 2, axis=1)))
    assert position_error(found, raster).rms == pytest.approx(expected)
    error = position_error(found, raster, affine=True)
    assert error.rms < 1e-12
    assert np.allclose(error.matrix, matrix)


def test_one_position_has_no_error():
    assert position_error(np.array([[1.0, 2.0]]), np.array([[0.0, 0.0]])).rms == 0.0


@pytest.mark.parametrize("found", [np.zeros((3, 2)), np.zeros((4, 3)), np.full((4, 2), np.nan)])
def test_errors(found):
    with pytest.raises(InputError, match="position"):
        position_error(found, np.zeros((4, 2)))
