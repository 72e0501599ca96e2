"""A measured detector: place, scale, turn and norm of its map, against analytic maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.detect.annular import make_annular_detector
from stemjax.detect.quantitative import counts_of, detector_levels, fraction
from stemjax.detect.response_map import (
    flux_weighted_mean,
    make_measured_detector,
    make_response_map,
    measured_response,
    read_detector_image,
    ring_geometry,
)
from stemjax.optics.electron import wavelength

ENERGY = 200e3
GRID = Grid((90, 100), (0.1, 0.11))
Y, X = (1e3 * wavelength(ENERGY) * k for k in GRID.frequencies())


def test_a_plane_is_interpolated_exactly_wherever_it_lies():
    # Bilinear interpolation keeps a plane: S = 5 + 0.02 y' + 0.03 x' in the map's turned axes.
    rows, columns = np.mgrid[:121, :141]
    centre, scale, rotation = (57.3, 71.8), 3.1, 25.0
    values = 5 + 0.02 * (rows - centre[0]) * scale + 0.03 * (columns - centre[1]) * scale
    detector = make_measured_detector(values, scale, centre=centre, rotation=rotation)
    c, s = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
    expected = 5 + 0.02 * (c * Y - s * X) + 0.03 * (c * X + s * Y)
    for samples in (1, 3):
        found = jax.jit(lambda d: measured_response(d, GRID, ENERGY))(detector.replace(samples=samples))
        np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_the_map_turns_from_x_towards_y():
    values = np.zeros((101, 101))
    values[48:53, 83:88] = 1.0  # a spot on the map's +x axis, 35 pixels out
    detector = make_measured_detector(values, 2.0, centre=(50.0, 50.0), rotation=90.0)
    response = np.asarray(detector.response(GRID, ENERGY))
    total = response.sum()
    assert abs((response * Y).sum() / total - 70.0) < 0.5
    assert abs((response * X).sum() / total) < 0.5
    assert abs(detector.reach - 2 * np.hypot(2, 37)) < 1e-9


def ring_map(scale, inner, outer, centre=(128.0, 120.0), tilt=0.0):
    y, x = np.mgrid[:256, :240]
    r = scale * np.hypot(y - centre[0], x - centre[1])
    return 200.0 + 3000.0 * (1 + tilt * (x - centre[1]) / 100) * ((r >= inner) & (r < outer))


def test_an_even_ring_is_the_annular_detector():
    image = ring_map(1.0, 30.0, 100.0)
    detector = make_response_map(image, 1.0, samples=4)
    assert np.allclose(detector.centre, (128.0, 120.0), atol=0.1)
    assert abs(ring_geometry(image > 1000).inner - 30.0) < 0.3
    assert abs(ring_geometry(image > 1000).outer - 100.0) < 0.3
    ring = np.asarray(make_annular_detector(30.0, 100.0, soft=True).response(GRID, ENERGY))
    response = np.asarray(detector.response(GRID, ENERGY))
    assert abs(response.sum() / ring.sum() - 1) < 0.005
    # Inside and outside agree; only pixels on the edges differ by how much of them is covered.
    distance = np.hypot(Y, X)
    deep = (np.abs(distance - 30.0) > 4.5) & (np.abs(distance - 100.0) > 4.5)
    np.testing.assert_allclose(response[deep], ring[deep], atol=1e-9)


def test_sensitivity_has_mean_one_and_reproduces_recorded_counts():
    image = ring_map(1.0, 30.0, 100.0, tilt=0.2)
    levels = detector_levels(image)
    detector = make_response_map(image, 1.0)
    inside = np.asarray(detector.sensitivity) > 0
    assert abs(np.asarray(detector.sensitivity)[inside].mean() - 1) < 1e-12
    # One spot of 2 % of the beam: the counts that the detector gave there, as a fraction, are response times 2 %.
    spot = (128, 190)
    counts = 200.0 + 0.02 * (image[spot] - 200.0)
    assert abs(float(fraction(counts, levels)) - 0.02 * float(detector.sensitivity[spot])) < 1e-12
    assert abs(float(counts_of(0.02 * float(detector.sensitivity[spot]), levels)) - counts) < 1e-9


def test_flux_decides_which_part_counts():
    response = np.array([[0.0, 0.5, 1.5]])
    assert abs(float(flux_weighted_mean(response, np.array([[100.0, 9.0, 1.0]]))) - (0.5 * 9 + 1.5) / 10) < 1e-12


def test_every_leaf_has_the_slope_of_its_difference():
    y, x = np.mgrid[:61, :61]
    values = np.exp(-((y - 33.0) ** 2 + (x - 28.0) ** 2) / 200)
    detector = make_measured_detector(values, 4.0, centre=(30.2, 30.7), rotation=10.3)
    weight = jnp.asarray(np.exp(-((Y - 15) ** 2 + (X - 25) ** 2) / 1500) + 0 * X)
    signal = jax.jit(lambda d: jnp.sum(weight * measured_response(d, GRID, ENERGY)))
    slope = jax.jit(jax.grad(lambda d: jnp.sum(weight * measured_response(d, GRID, ENERGY))))(detector)
    for leaf in ("rotation", "scale"):
        ends = [signal(detector.replace(**{leaf: getattr(detector, leaf) + s})) for s in (1e-6, -1e-6)]
        assert abs((ends[0] - ends[1]) / 2e-6 / getattr(slope, leaf) - 1) < 1e-4
    for axis in (0, 1):
        step = jnp.zeros(2).at[axis].set(1e-6)
        ends = [signal(detector.replace(centre=detector.centre + s * step)) for s in (1, -1)]
        assert abs((ends[0] - ends[1]) / 2e-6 / slope.centre[axis] - 1) < 1e-4
    # The response is linear in the map.
    assert abs(float(jnp.sum(slope.sensitivity * detector.sensitivity) / signal(detector)) - 1) < 1e-12


def test_images_are_read_or_refused(tmp_path):
    import h5py

    image = np.arange(12.0).reshape(3, 4)
    np.save(tmp_path / "a.npy", image)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x/data"], file["axis"] = image[None], np.arange(3)
    for name in ("a.npy", "a.h5"):
        np.testing.assert_array_equal(read_detector_image(tmp_path / name), image)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["a"] = file["b"] = image
    with pytest.raises(InputError, match="holds 2 images"):
        read_detector_image(tmp_path / "b.h5")
    with pytest.raises(InputError, match="holds no image"):
        read_detector_image(tmp_path / "none.h5")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_measured_detector(np.ones(3), 1.0), "give an image"),
        (lambda: make_measured_detector(np.ones((3, 3)), 0.0, centre=(1.0, 1.0)), "positive size"),
        (lambda: make_measured_detector(np.ones((3, 3)), 1.0), "no hole"),
    ],
)
def test_impossible_maps_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
