"""Probe positions: rasters, rotation and distortion."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemjax.core.errors import InputError
from stemjax.optics.scan import make_raster, make_scan, probe_positions

numbers = st.floats(-3.0, 3.0)


@settings(max_examples=30, deadline=None)
@given(st.floats(-180.0, 180.0), st.floats(0.1, 2.0), st.floats(0.1, 2.0))
def test_rotation_turns_x_towards_y(angle, step_y, step_x):
    scan = make_raster((3, 4), (step_y, step_x), rotation=angle, origin=(5.0, -2.0))
    r = np.asarray(probe_positions(scan)).reshape(3, 4, 2)
    np.testing.assert_allclose(r[0, 0], (5.0, -2.0), atol=1e-12)
    along_x, along_y = r[0, 1] - r[0, 0], r[1, 0] - r[0, 0]
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    np.testing.assert_allclose(along_x, (s * step_x, c * step_x), atol=1e-12)
    np.testing.assert_allclose(along_y, (c * step_y, -s * step_y), atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.lists(numbers, min_size=4, max_size=4), st.integers(0, 1000))
def test_distortion_is_linear_about_the_centre(matrix, seed):
    points = np.random.default_rng(seed).normal(size=(7, 2))
    affine = np.reshape(matrix, (2, 2))
    found = probe_positions(make_scan(points).replace(affine=jnp.asarray(affine)))
    expected = points.mean(0) + (points - points.mean(0)) @ affine.T
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("positions", "shape", "message"),
    [
        (np.zeros((4, 3)), None, r"shape \(4, 3\)"),
        (np.zeros((0, 2)), None, "shape"),
        (np.full((2, 2), np.nan), None, "4 scan coordinates are not finite"),
        (np.zeros((5, 2)), (2, 3), "holds 6 points, but 5 positions"),
    ],
)
def test_scans_that_cannot_be_are_refused(positions, shape, message):
    with pytest.raises(InputError, match=message):
        make_scan(positions, shape)
