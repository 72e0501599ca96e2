"""Moments of patterns against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.detect.annular import make_annular_detector
from stemjax.detect.moments import (
    centre_of_mass,
    deflection,
    make_moment_detector,
    moment_response,
    position_average,
    second_moments,
)
from stemjax.detect.pixelated import centred
from stemjax.detect.virtual import pattern_grid
from stemjax.optics.electron import wavelength

ENERGY = 60e3
GRID = Grid((96, 80), (0.15, 0.17))
Y, X = (1e3 * wavelength(ENERGY) * k for k in GRID.frequencies())


def gaussian(y, x, sy, sx):
    """A normal pattern, narrow against the grid and wide against its pixels."""
    return np.exp(-0.5 * ((Y - y) / sy) ** 2 - 0.5 * ((X - x) / sx) ** 2)


@pytest.mark.parametrize("outer", [None, 90.0])
def test_first_moments_are_the_centre_of_a_normal_pattern(outer):
    pattern = jnp.asarray(gaussian(7.3, -11.1, 9.0, 12.0))
    response = moment_response(make_moment_detector(outer), GRID, ENERGY)
    moments = jnp.einsum("cyx,yx->c", response, pattern)
    np.testing.assert_allclose(deflection(moments, pattern.sum()), [7.3, -11.1], rtol=1e-5)


def test_second_moments_are_the_widths_of_a_normal_pattern():
    pattern = jnp.asarray(gaussian(7.0, -10.0, 9.0, 12.0))
    response = moment_response(make_moment_detector(order=2, offset=(7.0, -10.0)), GRID, ENERGY)
    moments = jnp.einsum("cyx,yx->c", response, pattern) / pattern.sum()
    np.testing.assert_allclose(moments, [81.0, 144.0, 0.0], rtol=1e-5, atol=1e-5)


def test_the_whole_grid_has_no_side():
    # The even axis has a frequency without sign; counted, an even pattern would seem deflected.
    response = moment_response(make_moment_detector(), GRID, ENERGY)
    assert np.abs(np.asarray(response).sum(axis=(1, 2))).max() < 1e-9


def test_moments_inside_a_disk_move_with_a_uniform_disk():
    # An even disk of radius R displaced by d out of a disk of the same radius has lost a lune; its area is known.
    radius, outer = 30.0, 60.0
    disk = make_annular_detector(0.0, radius, offset=(4.0, 0.0)).response(GRID, ENERGY)
    moments = jnp.einsum("cyx,yx->c", moment_response(make_moment_detector(outer), GRID, ENERGY), disk)
    assert abs(float(deflection(moments, disk.sum())[0]) - 4.0) < 0.2


def test_recorded_patterns_give_the_same_as_the_detector():
    rng = np.random.default_rng(5)
    patterns = rng.poisson(3.0, (3, 2, 24, 30)).astype(np.uint16)
    sampling = (1.5, 2.0)
    grid = pattern_grid((24, 30), sampling, ENERGY)
    response = centred(moment_response(make_moment_detector(15.0), grid, ENERGY))
    disk = centred(make_annular_detector(0.0, 15.0).response(grid, ENERGY))
    expected = np.einsum("cyx,ijyx->cij", response, patterns) / np.einsum("yx,ijyx->ij", disk, patterns)
    np.testing.assert_allclose(centre_of_mass(patterns, sampling, mask=disk), expected, rtol=1e-10)


def test_recorded_second_moments_do_not_depend_on_the_centre():
    rng = np.random.default_rng(6)
    patterns = rng.poisson(2.0, (4, 16, 16))
    first = second_moments(patterns, 1.3)
    np.testing.assert_allclose(second_moments(patterns, 1.3, centre=(0.0, 30.0)), first, rtol=1e-9, atol=1e-9)
    y, x = np.mgrid[:16, :16] * 1.3
    for i, pattern in enumerate(patterns):
        covariance = np.cov(np.stack([y.ravel(), x.ravel()]), fweights=pattern.ravel(), ddof=0)
        np.testing.assert_allclose(first[:, i], [covariance[0, 0], covariance[1, 1], covariance[0, 1]], rtol=1e-9)


def test_an_empty_pattern_is_not_deflected():
    assert not centre_of_mass(np.zeros((2, 4, 4)), 1.0).any()
    assert not np.asarray(deflection(jnp.zeros((2, 3)), jnp.zeros(3))).any()
    slope = jax.grad(lambda n: deflection(jnp.ones((2, 3)), n).sum())(jnp.zeros(3))
    assert np.isfinite(np.asarray(slope)).all()


def test_position_average_merges_blocks_without_rounding():
    rng = np.random.default_rng(1)
    patterns = rng.poisson(1e6, (50, 40, 8, 8))
    mean, variance = position_average(patterns)
    np.testing.assert_allclose(mean, patterns.mean(axis=(0, 1)), rtol=1e-12)
    np.testing.assert_allclose(variance, patterns.var(axis=(0, 1)), rtol=1e-9)
    # Poisson: the variance is the mean; 2000 patterns tell it to √(2/2000).
    assert abs((variance / mean).mean() - 1) < 4 * np.sqrt(2 / 2000 / 64)


def test_wrong_moments_are_refused():
    with pytest.raises(InputError, match="order 3"):
        make_moment_detector(order=3)
    with pytest.raises(InputError, match="is empty"):
        make_moment_detector(0.0)
    with pytest.raises(InputError, match="mask of"):
        centre_of_mass(np.ones((2, 4, 4)), 1.0, mask=np.ones((3, 4)))
    assert make_moment_detector().reach == 0.0
    assert make_moment_detector(30.0, offset=(3.0, 4.0)).reach == 35.0
