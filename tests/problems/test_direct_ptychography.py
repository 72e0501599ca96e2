"""Phases and optics in one step, of objects and lenses that only the multislice simulator knows."""

import functools

import h5py
import jax
import numpy as np
import pytest

import stemjax as sj
from stemjax.problems.direct_ptychography import estimate, explained
from stemjax.problems.ptychography.guess import orientation_matrix

SIDE, PIXELS, STEP, SAMPLING, ENERGY, SEMIANGLE = 28, 32, 1.0, 2.4, 80e3, 21.4
GEOMETRY = {"step": (STEP, STEP), "sampling": (SAMPLING, SAMPLING), "energy": ENERGY, "semiangle": SEMIANGLE}
EXECUTION = sj.Execution(2, 32)


@functools.cache
def recorded(C10, C12a=0.0, rotation=0.0, transposed=False, dose=1e4, height=0.1, seed=0):
    """Counts [scan_y scan_x ky kx] of random positive bumps, and their phase at the scan positions."""
    grid = sj.make_grid(PIXELS, 1e3 * sj.wavelength(ENERGY) / (PIXELS * SAMPLING))
    side = int(np.ceil(1.5 * SIDE * STEP / grid.sampling[0])) + PIXELS
    whole, random = sj.make_grid(side, grid.sampling), np.random.default_rng(seed)
    y, x = whole.coordinates()
    phase = np.zeros(whole.shape)
    for a, b in random.uniform(0.0, whole.extent[0], (int(whole.extent[0] ** 2 / 12), 2)):
        phase += height * np.exp(-((y - a) ** 2 + (x - b) ** 2) / (2 * 0.8**2))
    raster = np.stack(np.mgrid[:SIDE, :SIDE], axis=-1).reshape(-1, 2) * STEP
    turned = (raster - raster.mean(axis=0)) @ orientation_matrix(rotation, transposed=transposed).T
    positions = turned + 0.5 * whole.extent[0]
    lens = sj.make_aberrations(C10=C10, C12a=C12a)
    probe = sj.make_probe(grid, energy=ENERGY, semiangle=SEMIANGLE, aberrations=lens)
    scan = sj.make_scan(positions, (SIDE, SIDE))
    made = sj.make_experiment(probe, sj.make_object(whole, phase=phase[None]), scan, dose=dose)
    mean = np.asarray(sj.Diffraction(limit=None, execution=EXECUTION)(made))
    counts = random.poisson(np.maximum(mean, 0.0)).reshape(SIDE, SIDE, PIXELS, PIXELS)
    places = np.round(positions / grid.sampling[0]).astype(int)
    return np.fft.fftshift(counts, axes=(2, 3)), phase[tuple(places.T)].reshape(SIDE, SIDE)


def bright_field(counts):
    return sj.make_bright_field(counts, centre=(PIXELS // 2, PIXELS // 2), **GEOMETRY)


@pytest.mark.parametrize(
    ("C10", "rotation", "transposed"), [(0.0, 0.0, False), (150.0, 0.0, False), (-150.0, 30.0, True)]
)
def test_phase_is_that_of_the_object_in_focus_and_out_of_it(C10, rotation, transposed):
    counts, truth = recorded(C10, 20.0, rotation, transposed)
    matrix = orientation_matrix(rotation, transposed=transposed)
    found = sj.direct_phase(bright_field(counts), {"C10": C10, "C12a": 20.0}, matrix, EXECUTION)
    inside = (slice(4, -4), slice(4, -4))  # the scan does not repeat, its spectrum does
    mine, true = (v[inside] - v[inside].mean() for v in (found.phase, truth))
    correlation = np.sum(mine * true) / np.sqrt(np.sum(mine**2) * np.sum(true**2))
    # A posterior mean of error σ correlates with the truth as √(1 − σ²/variance).
    assert abs(correlation - np.sqrt(1.0 - (found.deviation / true.std()) ** 2)) < 0.05
    assert 0.75 < np.sum(mine * true) / np.sum(true**2) < 1.0  # unknown frequencies are kept small
    assert 0.7 < (mine - true).std() / found.deviation < 1.6


def test_without_an_object_the_estimate_is_noise_of_the_stated_size():
    scores = []
    for seed in range(4):
        counts, _ = recorded(120.0, height=0.0, dose=2e3, seed=seed)
        found = jax.tree.map(np.asarray, estimate(bright_field(counts), {"C10": 120.0}, np.eye(2), EXECUTION))
        scores.append(np.abs(found.phase) ** 2 * found.information)
    scores = np.ravel(scores)  # exponential with mean one
    assert abs(scores.mean() - 1.0) < 4.0 / np.sqrt(scores.size)
    assert abs((scores > 3.0).mean() - np.exp(-3.0)) < 4.0 * np.sqrt(np.exp(-3.0) / scores.size)


def test_error_halves_with_four_times_the_electrons():
    low, high = (bright_field(recorded(120.0, dose=dose)[0]) for dose in (2.5e3, 1e4))
    few, many = (estimate(data, {"C10": 120.0}, np.eye(2), EXECUTION).information for data in (low, high))
    np.testing.assert_allclose(np.asarray(many) / np.asarray(few), 4.0, rtol=0.01)


def test_an_object_explains_most_under_the_optics_of_the_recording():
    data = bright_field(recorded(-150.0, 20.0, 30.0, True)[0])
    gain = jax.jit(functools.partial(explained, execution=EXECUTION))

    def at(C10=-150.0, C12a=20.0, rotation=30.0, transposed=True):
        return float(gain(data, {"C10": C10, "C12a": C12a}, orientation_matrix(rotation, transposed=transposed)))

    best = at()
    assert best > 5.0 * data.frequencies.shape[0]  # noise alone would be explained to one a frequency
    for name, true, step in (("C10", -150.0, 10.0), ("C12a", 20.0, 10.0), ("rotation", 30.0, 3.0)):
        for sign in (-1.0, 1.0):
            assert at(**{name: true + sign * step}) < best - 20.0, name
    assert at(transposed=False) < 0.5 * best


@pytest.mark.slow
def test_optics_are_found_from_the_images_alone():
    counts, _ = recorded(-150.0, 20.0, 30.0, True)
    found = sj.find_optics(bright_field(counts), execution=EXECUTION)
    assert found.transposed
    assert found.advantage > 100.0
    # The scan's borders add about as much to the error as counting does.
    for name, true in (("C10", -150.0), ("C12a", 20.0), ("C12b", 0.0)):
        assert abs(found.aberrations[name] - true) < 5.0 * found.deviations[name], name
        assert found.deviations[name] < 2.0
    assert abs(found.rotation - 30.0) < 1.0


def test_the_opposite_solution_explains_as_much():
    """All aberrations reversed under a half turn: exact for a weak object, so only its sign can decide."""
    data = bright_field(recorded(150.0, 20.0)[0])
    one = sj.direct_phase(data, {"C10": 150.0, "C12a": 20.0}, np.eye(2), EXECUTION)
    other = sj.direct_phase(data, {"C10": -150.0, "C12a": -20.0}, -np.eye(2), EXECUTION)
    np.testing.assert_allclose(other.phase, -one.phase, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"semiangle": 4.0}, "covers 9 pixels of 2.4 mrad; direct ptychography needs 20"),
        ({"semiangle": 60.0, "centre": (16, 16)}, "pixels of the disk saw no electron in the whole scan"),
    ],
)
def test_data_that_hold_no_disk_are_refused(change, words):
    counts, _ = recorded(120.0, height=0.0, dose=50.0)
    with pytest.raises(sj.InputError, match=words):
        sj.make_bright_field(counts, **({"centre": (16, 16)} | GEOMETRY | change))


@pytest.mark.slow
@pytest.mark.realdata
def test_optics_of_a_recorded_scan_are_near_the_published_ones(data_folder):
    """Published: defocus 13.5 um, scan turned by 126 degrees; handedness not told. Capsids scatter."""
    path = data_folder / "4dstem-rotavirus" / "sub_A_r79-118_c2-41_bin2_96.h5"
    with h5py.File(path) as file:
        counts, step, semiangle = file["data"][()], float(file["data"].parent.attrs["scan_step_A"]), 1.03
    radius = 29.75  # of the disk, in pixels of the binned detector
    data = sj.make_bright_field(counts.astype(np.float32), step=(step, step), energy=300e3, semiangle=semiangle,
                                sampling=(semiangle / radius, semiangle / radius))  # fmt: skip
    found = sj.find_optics(data, execution=EXECUTION)
    assert found.transposed
    assert found.advantage > 1e3
    assert found.sign > 10.0
    assert abs(found.aberrations["C10"]) == pytest.approx(1.3e5, rel=0.1)
    assert abs(found.rotation + 126.0) < 10.0
