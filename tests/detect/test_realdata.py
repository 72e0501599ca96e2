"""A measured ADF detector changes an image of SrTiO3 by what its weighted integral says."""

import jax
import numpy as np
import pytest

import stemjax as sj
from stemjax.detect.annular import check_detectors
from stemjax.detect.quantitative import active_area, detector_levels
from stemjax.detect.response_map import (
    flux_weighted_mean,
    make_measured_detector,
    make_response_map,
    read_detector_image,
    ring_geometry,
)

pytestmark = pytest.mark.realdata
ENERGY, INNER = 200e3, 37.0


@pytest.fixture(scope="module")
def image(data_folder):
    path = data_folder / "detector-adf" / "example_detector_image.hspy"
    if not path.is_file():
        pytest.skip("no image of a detector")
    return read_detector_image(path)


def strontium_titanate():
    """Two by two cells, 59 Å thick, every atom displaced by heat; a probe on nine places of a cell."""
    structure = sj.slab("SrTiO3", thickness=58.0, width=(7.8, 7.8))
    shaken = structure.positions + 0.08 * np.random.default_rng(0).normal(size=structure.positions.shape)
    structure = structure.replace(positions=shaken)
    grid = sj.cell_grid(structure, 0.033)
    depth = float(structure.cell[0])
    potential = jax.jit(lambda s: sj.project_potential(s, grid, round(depth / 1.95)))(structure)
    probe = sj.make_probe(grid, energy=ENERGY, semiangle=20.0)
    thing = sj.make_potential_object(potential.values, depth / round(depth / 1.95), grid)
    return sj.make_experiment(probe, thing, sj.make_raster((3, 3), 3.905 / 3))


def test_the_levels_and_the_ring_are_found(image):
    # By eye on a plot: 1233 in the corners, most of the ring at 40,000 to 56,000, a hole of 50 pixels across.
    levels, geometry = detector_levels(image), ring_geometry(active_area(image))
    assert abs(float(levels.dark) - image[:20, :20].mean()) < 2
    assert 45e3 < float(levels.active) < 51e3
    assert 0.05 < float(levels.spread) < 0.25
    assert 24 < geometry.inner < 29
    assert 155 < geometry.outer < 170
    assert np.hypot(geometry.centre[0] - 250, geometry.centre[1] - 250) < 3


def test_the_measured_response_changes_the_image_by_its_weighted_integral(image):
    experiment = strontium_titanate()
    grid = experiment.probe.grid
    active = active_area(image)
    geometry = ring_geometry(active)
    scale = INNER / geometry.inner
    measured = make_response_map(image, scale, samples=2)
    even = make_measured_detector(active, scale, samples=2)
    detectors = {"measured": measured, "even": even}
    check_detectors(detectors, grid, ENERGY)
    found = jax.jit(lambda e: sj.ScannedImage()(e))(experiment.replace(detectors=detectors))
    patterns = np.asarray(jax.jit(lambda e: sj.Diffraction()(e))(experiment))

    # By hand: angles of the reciprocal pixels, the four pixels of the image around each, sums in numpy.
    image = np.asarray(image, float)
    dark, full = float(detector_levels(image).dark), image[active].mean()
    sensitivity = np.where(active, (image - dark) / (full - dark), 0.0)
    y, x = (1e3 * sj.wavelength(ENERGY) * k for k in grid.frequencies())
    step = 1e3 * sj.wavelength(ENERGY) / grid.extent[0]
    weights = {"measured": 0.0, "even": 0.0}
    for part_y in (-0.25, 0.25):
        for part_x in (-0.25, 0.25):
            row = geometry.centre[0] + (y + part_y * step) / scale + 0 * x
            column = geometry.centre[1] + (x + part_x * step) / scale + 0 * y
            for name, table in (("measured", sensitivity), ("even", active.astype(float))):
                weights[name] = weights[name] + _bilinear(table, row, column) / 4
    expected = {name: (weight * patterns).sum(axis=(1, 2)) for name, weight in weights.items()}
    for name, signal in expected.items():
        np.testing.assert_allclose(found[name], signal, rtol=1e-6)
    change = np.asarray(found["measured"] / found["even"])
    print(
        f"HAADF {INNER:g} mrad: the measured response changes the signal by {100 * (change.mean() - 1):+.2f} %", end=""
    )
    print(f" (from {100 * (change.min() - 1):+.2f} to {100 * (change.max() - 1):+.2f} % over the cell)")
    # The ring is uneven by 10 % and weakest at its inner edge, where most electrons fall: it must show.
    assert 0.9 < change.mean() < 0.95
    # What it does to the mean image is the sensitivity weighted by the mean pattern.
    covered = weights["even"] > 0
    local = np.where(covered, weights["measured"] / np.where(covered, weights["even"], 1.0), 0.0)
    mean = float(flux_weighted_mean(local, weights["even"] * patterns.mean(axis=0)))
    assert abs(mean / float(found["measured"].sum() / found["even"].sum()) - 1) < 1e-6


def _bilinear(table, row, column):
    first_row, first_column = np.floor(row).astype(int), np.floor(column).astype(int)
    total = np.zeros(row.shape)
    for up in (0, 1):
        for right in (0, 1):
            r, c = first_row + up, first_column + right
            inside = (r >= 0) & (r < table.shape[0]) & (c >= 0) & (c < table.shape[1])
            value = table[np.clip(r, 0, table.shape[0] - 1), np.clip(c, 0, table.shape[1] - 1)] * inside
            total += value * np.abs(1 - up - (row - first_row)) * np.abs(1 - right - (column - first_column))
    return total
