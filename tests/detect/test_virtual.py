"""Virtual detectors and re-binning: sums kept, files read in blocks, errors that help."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.detect.annular import make_annular_detector
from stemjax.detect.pixelated import centred
from stemjax.detect.virtual import make_virtual_detector, pattern_grid, rebin, virtual_image
from stemjax.optics.electron import wavelength


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(1, 3))
def test_every_count_survives_binning(by, bx, ny, nx, scans):
    patterns = np.random.default_rng(ny + 10 * nx).integers(0, 255, (scans, 2, ny * by, nx * bx), dtype=np.uint8)
    found = rebin(patterns, (by, bx))
    assert found.shape == (scans, 2, ny, nx)
    np.testing.assert_array_equal(found.sum(axis=(2, 3)), patterns.sum(axis=(2, 3), dtype=np.int64))
    assert found[0, 0, 0, 0] == patterns[0, 0, :by, :bx].sum(dtype=np.int64)


def test_an_uneven_bin_is_refused_with_a_crop_that_works():
    patterns = np.ones((1, 10, 13))
    with pytest.raises(InputError, match=r"crop them to 9 × 12 first: patterns\[..., :9, :12\]"):
        rebin(patterns, 3)
    assert rebin(patterns[..., :9, :12], 3).shape == (1, 3, 4)
    with pytest.raises(InputError, match="whole numbers from 1"):
        rebin(patterns, 0)


@pytest.mark.parametrize("size", [1, 1000, 2**24])
def test_image_is_the_weighted_sum_whatever_the_blocks(size):
    rng = np.random.default_rng(3)
    patterns, weights = rng.integers(0, 9, (5, 3, 6, 8), dtype=np.uint16), rng.normal(size=(2, 6, 8))
    expected = np.einsum("cyx,ijyx->cij", weights, patterns)
    np.testing.assert_allclose(virtual_image(patterns, weights, size=size), expected, rtol=1e-12)
    np.testing.assert_allclose(virtual_image(patterns, weights[0], size=size), expected[0], rtol=1e-12)
    np.testing.assert_allclose(virtual_image(patterns[0, 0], weights), expected[:, 0, 0], rtol=1e-12)


def test_files_are_read_in_blocks(tmp_path):
    import h5py

    patterns = np.random.default_rng(4).integers(0, 9, (6, 4, 8, 8), dtype=np.uint16)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["counts"] = patterns
    np.save(tmp_path / "a.npy", patterns)
    weights = np.random.default_rng(5).random((8, 8))
    expected = virtual_image(patterns, weights)
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(virtual_image(file["counts"], weights, size=600), expected)
    lazy = np.load(tmp_path / "a.npy", mmap_mode="r")
    np.testing.assert_array_equal(virtual_image(lazy, weights, size=600), expected)


def test_a_recorded_pattern_has_the_angles_of_its_grid():
    grid = pattern_grid((40, 60), (1.5, 1.0), 80e3)
    np.testing.assert_allclose(grid.angular_sampling(wavelength(80e3)), (1.5, 1.0), rtol=1e-12)
    ring = centred(make_annular_detector(5.0, 12.0).response(grid, 80e3))
    y, x = np.mgrid[-20:20, -30:30]
    alpha = np.hypot(1.5 * y, 1.0 * x)
    np.testing.assert_array_equal(ring, (alpha >= 5.0 - 1e-5) & (alpha < 12.0 - 1e-5))


def test_weights_are_a_leaf_and_must_fit():
    grid = Grid((4, 6), (0.2, 0.2))
    detector = make_virtual_detector(np.random.default_rng(0).random((3, 4, 6)))
    assert detector.response(grid, 80e3).shape == (3, 4, 6)
    slope = jax.grad(lambda d: (d.response(grid, 80e3) ** 2).sum())(detector)
    np.testing.assert_allclose(slope.weights, 2 * detector.weights)
    with pytest.raises(InputError, match="for a reciprocal grid of"):
        detector.response(Grid((6, 4), (0.2, 0.2)), 80e3)
    with pytest.raises(InputError, match="not finite"):
        make_virtual_detector(np.full((2, 2), np.nan))
    with pytest.raises(InputError, match="give \\[ny nx\\]"):
        make_virtual_detector(np.ones(3))
    with pytest.raises(InputError, match="in the layout of the patterns"):
        virtual_image(np.ones((2, 4, 4)), np.ones((4, 5)))
    with pytest.raises(InputError, match="positive size"):
        pattern_grid((4, 4), 0.0, 80e3)
