"""Detectors against areas, a numpy reference, and their own advice."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemjax.core.errors import InputError
from stemjax.core.grid import Grid, make_grid
from stemjax.detect.annular import annular_response, check_reach, make_annular_detector
from stemjax.detect.pixelated import PixelatedDetector, centred, cornered, make_pixelated_detector, record
from stemjax.optics.electron import wavelength

ENERGY = 80e3
LENGTH = wavelength(ENERGY)
FINE = Grid((400, 360), (0.1, 0.12))


@pytest.mark.parametrize("soft", [True, False])
@pytest.mark.parametrize("offset", [(0.0, 0.0), (5.3, -8.1)])
def test_ring_covers_its_area(soft, offset):
    for inner, outer in ((0.0, 25.0), (40.0, 90.0)):
        response = annular_response(make_annular_detector(inner, outer, offset=offset, soft=soft), FINE, ENERGY)
        area = float(response.sum()) * np.prod(FINE.angular_sampling(LENGTH))
        assert abs(area / (np.pi * (outer**2 - inner**2)) - 1) < 0.01
        assert 0 <= float(response.min()) <= float(response.max()) == 1.0


def test_ring_is_round_its_offset():
    response = np.asarray(annular_response(make_annular_detector(10, 30, offset=(20.0, -35.0)), FINE, ENERGY))
    y, x = (1e3 * LENGTH * k for k in FINE.frequencies())
    assert abs((response * y).sum() / response.sum() - 20.0) < 0.5
    assert abs((response * x).sum() / response.sum() + 35.0) < 0.5


def test_touching_rings_share_no_pixel_and_miss_none():
    # Edges on pixels: 1/extent steps of the reciprocal grid are where rounding would decide.
    step = FINE.angular_sampling(LENGTH)[0]
    edges = [0.0, 5 * step, 9 * step, 20 * step]
    rings = [annular_response(make_annular_detector(a, b), FINE, ENERGY) for a, b in itertools.pairwise(edges)]
    whole = annular_response(make_annular_detector(0.0, edges[-1]), FINE, ENERGY)
    np.testing.assert_array_equal(sum(rings), whole)


def test_soft_edges_have_a_slope_and_sharp_ones_none():
    def area(inner, soft):
        return annular_response(make_annular_detector(30.0, 60.0, soft=soft).replace(inner=inner), FINE, ENERGY).sum()

    slope = float(jax.grad(area)(jnp.asarray(30.0), True)) * np.prod(FINE.angular_sampling(LENGTH))
    assert abs(slope / (-2 * np.pi * 30.0) - 1) < 0.05
    assert float(jax.grad(area)(jnp.asarray(30.0), False)) == 0.0


@settings(max_examples=40, deadline=None)
@given(st.floats(5.0, 400.0), st.integers(16, 200), st.integers(16, 200), st.floats(0.05, 0.4), st.floats(0.7, 1.4))
def test_reach_error_recommends_what_works(outer, ny, nx, sampling, stretch):
    grid = Grid((ny, nx), (sampling, sampling * stretch))
    try:
        check_reach(outer, grid, ENERGY)
        return
    except InputError as error:
        finest, size, end = recommended(str(error))
    # What is told is rounded, and must be rounded to the safe side.
    check_reach(outer, make_grid((ny, nx), (finest, finest)), ENERGY)
    check_reach(outer, Grid(size, tuple(e / n for e, n in zip(grid.extent, size, strict=True))), ENERGY)
    check_reach(end, grid, ENERGY)
    assert end < outer
    assert finest < max(grid.sampling)


def recommended(message: str) -> tuple[float, tuple[int, int], float]:
    """Sampling, shape and angle that the message advises."""
    finest = float(re.search(r"use a sampling of ([\d.e+-]+) Å", message)[1])
    size = tuple(int(n) for n in re.search(r"\((\d+) × (\d+) pixels", message).groups())
    return finest, size, float(re.search(r"end the detector at ([\d.e+-]+) mrad", message)[1])


def test_empty_ring_is_refused():
    for inner, outer in ((20.0, 20.0), (30.0, 20.0), (-1.0, 20.0)):
        with pytest.raises(InputError, match="is empty"):
            make_annular_detector(inner, outer)


def binned(pattern, shape, bin):
    """What a camera keeps: the middle of the centred pattern, summed in blocks about or from half a block before it."""
    for axis in (0, 1):
        middle = pattern.shape[axis] // 2
        first = middle - (shape[axis] // 2) * bin[axis] - bin[axis] // 2
        rows = [
            np.take(pattern, range(first + i * bin[axis], first + (i + 1) * bin[axis]), axis, mode="wrap").sum(axis)
            for i in range(shape[axis])
        ]
        pattern = np.stack(rows, axis)
    return pattern


@settings(max_examples=25, deadline=None)
@given(st.integers(4, 17), st.integers(4, 17), st.integers(1, 4), st.integers(1, 4), st.data())
def test_record_is_crop_and_bin_of_the_centred_pattern(ny, nx, by, bx, data):
    shape = data.draw(st.tuples(st.integers(1, ny // by), st.integers(1, nx // bx)))
    detector = make_pixelated_detector(Grid((ny, nx), (0.1, 0.1)), shape=shape, bin=(by, bx))
    pattern = np.random.default_rng(ny * nx).integers(0, 100, (ny, nx)).astype(float)
    # On numpy arrays, so that no shape is compiled; test_full_detector_loses_nothing has jax's.
    found = record(detector, cornered(pattern))
    np.testing.assert_array_equal(centred(found), binned(pattern, shape, (by, bx)))


def test_full_detector_loses_nothing():
    pattern = jnp.asarray(np.random.default_rng(2).random((12, 18)))
    for bin in ((1, 1), (2, 3), (3, 2), (4, 6)):
        detector = make_pixelated_detector(Grid((12, 18), (0.1, 0.1)), bin=bin)
        assert abs(float(record(detector, pattern).sum()) - float(pattern.sum())) < 1e-12


def test_detector_larger_than_the_grid_is_refused():
    with pytest.raises(InputError, match=r"needs 34 × 32 reciprocal pixels; the grid has 32 × 32"):
        make_pixelated_detector(Grid((32, 32), (0.1, 0.1)), shape=(17, 16), bin=(2, 2))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9))
def test_centred_and_cornered_undo_each_other(ny, nx):
    pattern = np.arange(2.0 * ny * nx).reshape(2, ny, nx)
    np.testing.assert_array_equal(cornered(centred(pattern)), pattern)
    np.testing.assert_array_equal(centred(cornered(pattern)), pattern)
    assert centred(pattern)[0, ny // 2, nx // 2] == pattern[0, 0, 0]


def test_record_is_differentiable():
    detector = PixelatedDetector((2, 3), (2, 2))
    gradient = jax.grad(lambda p: jnp.sum(record(detector, p) * jnp.arange(6.0).reshape(2, 3)))(jnp.zeros((6, 7)))
    assert float(gradient.sum()) == 4 * 15.0
