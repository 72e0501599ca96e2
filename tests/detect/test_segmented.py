"""Segmented detectors: partition, areas, symmetry, and the deflection of a disk in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.detect.annular import annular_response, check_detectors, make_annular_detector
from stemjax.detect.segmented import (
    make_quadrant_detector,
    make_segmented_detector,
    quadrant_differences,
    segment_deflection,
    segment_directions,
    segmented_response,
)
from stemjax.optics.electron import wavelength

ENERGY = 80e3
GRID = Grid((180, 160), (0.15, 0.17))
CASES = [
    ([0.0, 25.0], 4, 0.0, (0.0, 0.0)),
    ([0.0, 20.0, 45.0, 60.0], (1, 3, 8), 17.0, (0.0, 0.0)),
    ([12.0, 30.0], 6, -200.0, (4.3, -7.7)),
]


@pytest.mark.parametrize("soft", [True, False])
@pytest.mark.parametrize(("edges", "sectors", "rotation", "offset"), CASES)
def test_sectors_divide_every_ring_without_rest(edges, sectors, rotation, offset, soft):
    detector = make_segmented_detector(edges, sectors, rotation=rotation, offset=offset, soft=soft)
    response = np.asarray(jax.jit(lambda d: segmented_response(d, GRID, ENERGY))(detector))
    first = 0
    for ring, count in enumerate(detector.sectors):
        whole = annular_response(make_annular_detector(*edges[ring : ring + 2], offset=offset, soft=soft), GRID, ENERGY)
        np.testing.assert_allclose(response[first : first + count].sum(axis=0), whole, atol=1e-12)
        share = response[first : first + count].sum(axis=(1, 2)) / whole.sum()
        # Every sector has its part of the area but for the pixels on its edges.
        np.testing.assert_allclose(share, 1 / count, rtol=0.05)
        first += count
    assert first == len(response)
    assert response.min() >= -1e-12


@pytest.mark.parametrize("soft", [True, False])
def test_sectors_lie_where_they_are_said_to_lie(soft):
    detector = make_segmented_detector([10.0, 30.0, 50.0], (3, 5), rotation=23.0, offset=(5.0, -8.0), soft=soft)
    response = np.asarray(segmented_response(detector, GRID, ENERGY))
    y, x = (1e3 * wavelength(ENERGY) * k for k in GRID.frequencies())
    total = response.sum(axis=(1, 2))
    mean_y, mean_x = (response * (y - 5.0)).sum(axis=(1, 2)) / total, (response * (x + 8.0)).sum(axis=(1, 2)) / total
    # The centroid of a sector of half-angle h between radii a and b is at 2/3 (b³ − a³)/(b² − a²) sin(h)/h.
    for channel, (a, b, n, s) in enumerate([(10, 30, 3, s) for s in range(3)] + [(30, 50, 5, s) for s in range(5)]):
        h, azimuth = np.pi / n, np.radians(23 + (s + 0.5) * 360 / n)
        radius = 2 / 3 * (b**3 - a**3) / (b**2 - a**2) * np.sin(h) / h
        assert abs(mean_y[channel] - radius * np.sin(azimuth)) < 0.4
        assert abs(mean_x[channel] - radius * np.cos(azimuth)) < 0.4
        assert np.allclose(segment_directions(detector)[channel], [np.sin(azimuth), np.cos(azimuth)])


def test_opposite_quadrants_mirror_each_other():
    # An odd grid has every pixel's opposite, so that a symmetric pattern gives no difference at all.
    grid = Grid((65, 65), (0.2, 0.2))
    a, b, c, d = np.asarray(segmented_response(make_quadrant_detector(0.0, 40.0), grid, ENERGY))
    turned = lambda r: np.roll(r[::-1, ::-1], 1, axis=(0, 1))  # noqa: E731
    np.testing.assert_array_equal(turned(a), c)
    np.testing.assert_array_equal(turned(b), d)
    assert a[0, 5] == b[5, 0] == c[0, -5] == d[-5, 0] == 1.0
    assert a[0, 0] == 0.25


def disk(grid, radius, shift):
    """An evenly filled disk that lies at `shift`, its edge smooth over several pixels, of one electron."""
    y, x = (1e3 * wavelength(ENERGY) * k for k in grid.frequencies())
    values = 1 / (1 + np.exp((np.hypot(y - shift[0], x - shift[1]) - radius) / 0.8))
    return values / values.sum()


@pytest.mark.parametrize(("sectors", "rotation"), [(4, -45.0), (3, 10.0), (8, 0.0)])
def test_deflection_is_that_of_a_shifted_disk(sectors, rotation):
    grid = Grid((480, 480), (0.1, 0.1))
    detector = make_segmented_detector([6.0, 40.0], sectors, rotation=rotation, soft=True)
    response = segmented_response(detector, grid, ENERGY)
    shift = (0.6, -0.35)
    signals = jnp.einsum("cyx,yx->c", response, jnp.asarray(disk(grid, 22.0, shift)))
    rest = jnp.einsum("cyx,yx->c", response, jnp.asarray(disk(grid, 22.0, (0.0, 0.0))))
    found = np.asarray(segment_deflection(signals - rest, detector, 22.0))
    np.testing.assert_allclose(found, shift, rtol=0.02)
    if sectors == 4:
        # A − C = 2√2 θ_x / (π α) for quadrants that look along the axes.
        slope = 2 * np.sqrt(2) / (np.pi * 22.0)
        np.testing.assert_allclose(quadrant_differences(signals - rest), slope * np.array(shift), rtol=0.02)


def test_rotating_detector_and_deflection_together_changes_nothing():
    signals = jnp.array([0.5, 0.2, 0.1, 0.2])
    straight = segment_deflection(signals, make_quadrant_detector(0.0, 40.0), 20.0)
    turned = segment_deflection(signals, make_quadrant_detector(0.0, 40.0, rotation=30.0), 20.0)
    assert abs(np.degrees(np.arctan2(*turned) - np.arctan2(*straight)) - 30.0) < 1e-9
    assert abs(float(jnp.linalg.norm(turned) / jnp.linalg.norm(straight)) - 1) < 1e-12


def test_soft_segments_have_the_slopes_of_their_borders():
    grid = Grid((200, 200), (0.15, 0.15))
    y, x = (jnp.asarray(1e3 * wavelength(ENERGY) * k) for k in grid.frequencies())
    pattern = jnp.exp(-((y - 10.0) ** 2 + (x - 14.0) ** 2) / (2 * 12.0**2))
    pixel = np.prod(grid.angular_sampling(wavelength(ENERGY)))

    def signal(edges, rotation, offset):
        made = make_segmented_detector([8.0, 40.0], 4, soft=True)
        detector = made.replace(edges=edges, rotation=rotation, offset=offset)
        return jnp.sum(segmented_response(detector, grid, ENERGY)[0] * pattern) * pixel

    offset, rotations = jnp.array([1.0, -2.0]), np.linspace(4.0, 20.0, 50)
    outer = 40.0 + 2 * np.modf(7 * np.linspace(0.0, 1.0, 50))[0]
    run = jax.jit(jax.grad(signal, argnums=(0, 1, 2)))
    # A border one pixel wide meets more or fewer pixels as it moves; the mean over some places evens that out.
    every = [run(jnp.array([8.0, b]), jnp.asarray(r), offset) for r, b in zip(rotations, outer, strict=True)]
    slopes = [np.mean([np.asarray(one[i]) for one in every], axis=0) for i in range(3)]

    # The slope with rotation is the pattern along the far border less that along the near one, in rad.
    def border(degree, outer):
        radius = np.linspace(8.0, outer, 4001)
        at_y, at_x = 1 + radius * np.sin(np.radians(degree)), -2 + radius * np.cos(np.radians(degree))
        return np.trapezoid(radius * np.exp(-((at_y - 10) ** 2 + (at_x - 14) ** 2) / (2 * 12.0**2)), radius)

    turning = np.radians(1) * np.mean([border(r + 90, b) - border(r, b) for r, b in zip(rotations, outer, strict=True)])
    assert abs(slopes[1] / turning - 1) < 0.01
    edge = np.radians(rotations[:, None] + np.linspace(0.0, 90.0, 2001)[None])
    far = outer[:, None]
    at_y, at_x = 1 + far * np.sin(edge), -2 + far * np.cos(edge)
    rim = np.trapezoid(far * np.exp(-((at_y - 10) ** 2 + (at_x - 14) ** 2) / (2 * 12.0**2)), edge, axis=1).mean()
    assert abs(slopes[0][1] / rim - 1) < 0.02
    assert np.isfinite(np.concatenate([np.ravel(s) for s in slopes])).all()


@pytest.mark.parametrize("edges", [[10.0], [10.0, 10.0], [-1.0, 5.0], [20.0, 10.0]])
def test_rings_that_do_not_ascend_are_refused(edges):
    with pytest.raises(InputError, match="do not ascend"):
        make_segmented_detector(edges)


def test_sectors_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"for 2 rings; give one positive number, or one a ring: \(4, 4\)"):
        make_segmented_detector([0.0, 10.0, 20.0], (4,))
    with pytest.raises(InputError, match="one number of sectors"):
        segment_deflection(jnp.ones(5), make_segmented_detector([0.0, 10.0, 20.0], (1, 4)), 10.0)


def test_a_detector_beyond_the_grid_is_named():
    carried = 1e3 * wavelength(ENERGY) * GRID.nyquist * 2 / 3
    detectors = {"BF": make_annular_detector(0.0, 10.0), "DPC": make_quadrant_detector(0.0, 10.0)}
    check_detectors(detectors, GRID, ENERGY)
    shifted = make_segmented_detector([0.0, carried - 5.0], offset=(4.0, 4.0))
    with pytest.raises(InputError, match="DPC reaches"):
        check_detectors({**detectors, "DPC": shifted}, GRID, ENERGY)
