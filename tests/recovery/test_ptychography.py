"""The truth found again: first guesses in every orientation, distorted scans, modes, potentials, slices."""

from dataclasses import replace

import jax
import numpy as np
import pytest

import stemjax as sj
from stemjax.forward.recording import Recording
from stemjax.inference.solvers.optimise import optimise
from stemjax.metrics.phase_error import phase_error
from stemjax.problems.ptychography.gauge import fix_gauge, scanned_area, skewness
from stemjax.problems.ptychography.guess import bright_field_disk, orientation_matrix, scan_orientation
from stemjax.problems.ptychography.patterns import prepare_patterns
from stemjax.problems.ptychography.settings import PtychographySettings
from stemjax.problems.ptychography.setup import make_ptychography
from stemjax.problems.ptychography.sign import sign_of_phase
from stemjax.problems.ptychography.solve import first_guess, make_plan

ENERGY, SEMIANGLE, SIDE, STEP = 80e3, 21.4, 14, 0.7
PIXELS = 48


def atoms_phase(grid, seed=0, area=7.0, height=0.6, width=0.55):
    """Positive bumps at random places, one in every `area` [Å²]: a thin specimen without symmetry."""
    random = np.random.default_rng(seed)
    count = int(np.prod(grid.extent) / area)
    y, x = grid.coordinates()
    phase = np.zeros(grid.shape)
    for py, px in random.uniform(0, 1, (count, 2)) * np.array(grid.extent):
        phase += height * np.exp(-((y - py) ** 2 + (x - px) ** 2) / (2 * width**2))
    return phase


def scene(C10=90.0, slices=1, thickness=0.0, phases=None, positions=None, aberrations=None):
    """A true experiment, its object wide enough for the scan."""
    window = sj.make_grid(PIXELS, 1e3 * sj.wavelength(ENERGY) / (PIXELS * 1.8))
    grid = sj.make_grid(PIXELS + 60, window.sampling)
    if phases is None:
        phases = np.stack([atoms_phase(grid, seed=s) for s in range(slices)])
    middle = 0.5 * np.array(grid.extent) - 0.5 * STEP * (SIDE - 1)
    scan = sj.make_raster((SIDE, SIDE), STEP, origin=tuple(middle))
    if positions is not None:
        scan = sj.make_scan(positions(np.asarray(scan.positions)), (SIDE, SIDE))
    probe = sj.make_probe(
        window, energy=ENERGY, semiangle=SEMIANGLE, aberrations=sj.make_aberrations({"C10": C10, **(aberrations or {})})
    )
    return sj.make_experiment(probe, sj.make_object(grid, phase=phases, thickness=thickness), scan)


def recorded(experiment, electrons=1e5, seed=0):
    """Poisson counts [scan_y scan_x ky kx], zero frequency in the centre."""
    forward = sj.Diffraction(limit=1.0)
    mean = np.asarray(jax.jit(lambda e: forward(e))(experiment))
    counts = np.random.default_rng(seed).poisson(electrons * mean)
    return np.fft.fftshift(counts, axes=(1, 2)).reshape(SIDE, SIDE, *counts.shape[1:])


def recording(counts):
    return Recording(counts, energy=ENERGY, scan_step=(STEP, STEP), detector_sampling=(1.8, 1.8), semiangle=SEMIANGLE)


def settings(**sections):
    return PtychographySettings.model_validate({"problem": "ptychography", "data": {"file": "none.h5"}, **sections})


def solve(counts, choice, execution=sj.Execution(2, 1)):
    patterns = prepare_patterns(recording(counts), choice)
    patterns, guess = first_guess(patterns, choice, execution)
    problem = make_ptychography(patterns, choice, guess, execution)
    found = optimise(problem, make_plan(choice, guess, execution), choice.solver.epochs)
    assert found.success, found.status
    return patterns, guess, found


def compared(found, truth, turn=None):
    """Gauge-free comparison of the summed phase with the truth inside the scan."""
    fixed = fix_gauge(found, found)
    phase, true = (np.asarray(e.specimen.phase).sum(axis=0) for e in (fixed, truth))
    sampling = truth.specimen.grid.sampling
    offset = np.asarray(found.scan.positions).mean(axis=0) - np.asarray(found.specimen.origin)
    offset = offset - (np.asarray(truth.scan.positions).mean(axis=0) - np.asarray(truth.specimen.origin))
    return phase_error(
        phase, true, sampling=sampling, mask=scanned_area(fixed), near=tuple(offset), max_shift=1.0, ramp=False
    )


FLIPS = {
    "as it is": lambda c: c,
    "flipped y": lambda c: c[:, :, ::-1],
    "flipped x": lambda c: c[:, :, :, ::-1],
    "half turn": lambda c: c[:, :, ::-1, ::-1],
    "transposed": lambda c: c.swapaxes(2, 3),
    "quarter turn": lambda c: np.rot90(c, 1, axes=(2, 3)),
    "three quarters": lambda c: np.rot90(c, 3, axes=(2, 3)),
    "other diagonal": lambda c: np.rot90(c, 2, axes=(2, 3)).swapaxes(2, 3),
}


@pytest.fixture(scope="module")
def thin():
    truth = scene()
    return truth, recorded(truth)


OFTEN = ("other diagonal",)
"""Flips of the quick form: this one mirrors and turns."""

EVERY = [name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in FLIPS]


@pytest.mark.parametrize("name", EVERY)
def test_first_guess_finds_orientation_and_defocus_of_every_flip(thin, name):
    _, counts = thin
    flipped = np.ascontiguousarray(FLIPS[name](counts))
    choice = settings()
    patterns, guess = first_guess(prepare_patterns(recording(flipped), choice), choice, sj.Execution(2, 1))
    assert abs(float(guess.probe.aberrations.C10) - 90.0) < 15.0
    # The right matrix is the one that the flip of the detector does to the scan.
    marker = np.zeros((1, 1, 9, 9))
    marker[0, 0, 4 + 3, 4 + 1] = 1.0
    y, x = np.argwhere(FLIPS[name](marker)[0, 0])[0] - 4
    np.testing.assert_allclose(patterns.matrix @ [3.0, 1.0], [y, x], atol=0.3)


@pytest.mark.parametrize(("rotation", "transposed"), [(30.0, False), (-50.0, False), (20.0, True), (75.0, True)])
def test_curl_finds_any_rotation(rotation, transposed):
    matrix = orientation_matrix(rotation, transposed=transposed)
    y, x = np.mgrid[:24, :24] * 0.5
    bumps = sum(np.exp(-((y - a) ** 2 + (x - b) ** 2) / 2) for a, b in ((3, 4), (6, 9), (9, 3)))
    field = np.stack(np.gradient(bumps, 0.5), axis=2) @ matrix.T
    found = scan_orientation(field, (0.5, 0.5))
    assert found.transposed == transposed
    assert abs((found.rotation - rotation + 90.0) % 180.0 - 90.0) < 1e-6
    assert found.curl < 0.2 * found.other_curl


@pytest.mark.parametrize("centre", [(20.3, 25.6), (24.0, 24.0), (27.5, 21.1)])
def test_disk_is_found_to_a_fraction_of_a_pixel(centre):
    y, x = np.mgrid[:48, :48]
    disk = np.clip(12.0 - np.hypot(y - centre[0], x - centre[1]) + 0.5, 0, 1) ** 2
    mean = np.random.default_rng(0).poisson(200 * disk + 0.5 * np.exp(-np.hypot(y - 24, x - 24) / 30)) / 1.0
    found = bright_field_disk(mean)
    np.testing.assert_allclose(found.centre, centre, atol=0.1)
    assert abs(found.radius - 12.0) < 0.3


@pytest.mark.slow
def test_off_centre_disk_leaves_no_ramp(thin):
    truth, _ = thin
    shifted = truth.replace(probe=truth.probe.replace(centre=np.array([0.7, -0.5])))
    counts = np.roll(recorded(shifted), (2, -3), axis=(2, 3))
    choice = settings(orientation="as-is", probe={"defocus": -90.0}, solver={"epochs": 30, "batch": 32})
    patterns, _, found = solve(counts, choice)
    np.testing.assert_allclose(patterns.centre, (0.7, -0.5), atol=0.2)
    assert compared(found.value, truth).correlation > 0.98


@pytest.mark.slow
def test_affine_distortion_is_found(thin):
    wrong = np.array([[1.02, 0.015], [-0.01, 0.985]])
    truth = scene(positions=lambda p: (p - p.mean(axis=0)) @ wrong.T + p.mean(axis=0))
    choice = settings(
        orientation="as-is",
        probe={"defocus": -90.0},
        refine={"affine": "after 4", "object": True},
        solver={"epochs": 80, "batch": 32},
    )
    _, _, found = solve(recorded(truth), choice)
    reach = 0.5 * STEP * (SIDE - 1)
    # What counts is where the corners of the scan end up: within a twentieth of a pixel.
    assert reach * np.abs(wrong - np.eye(2)).max() > 0.09
    assert reach * np.abs(np.asarray(found.value.scan.affine) - wrong).max() < 0.035


@pytest.mark.slow
def test_free_positions_beat_the_raster():
    random = np.random.default_rng(5)
    truth = scene(positions=lambda p: p + 0.2 * random.standard_normal(p.shape))
    choice = settings(
        orientation="as-is",
        probe={"defocus": -80.0},
        refine={"defocus": True, "positions": "after 5"},
        solver={"epochs": 50, "batch": 32},
    )
    _, guess, found = solve(recorded(truth), choice)
    true = np.asarray(truth.scan.positions)

    def error(scan):
        moved = np.asarray(scan.positions) - true
        return np.sqrt(np.mean((moved - moved.mean(axis=0)) ** 2))

    assert error(guess.scan) > 0.15
    assert error(found.value.scan) < 0.04
    assert abs(float(found.value.probe.aberrations.C10) - 90.0) < 2.0


@pytest.mark.slow
def test_second_mode_explains_a_finite_source(thin):
    truth, _ = thin
    blurred = 0.0
    shifts = np.array([[0.0, 0.0], [0.5, 0.0], [-0.5, 0.0], [0.0, 0.5], [0.0, -0.5]])
    forward = sj.Diffraction(limit=1.0)
    simulate = jax.jit(lambda e: forward(e))
    for shift in shifts:
        moved = truth.scan.replace(positions=truth.scan.positions + shift[None])
        blurred = blurred + np.asarray(simulate(truth.replace(scan=moved))) / len(shifts)
    counts = np.random.default_rng(1).poisson(2e5 * blurred)
    counts = np.fft.fftshift(counts, axes=(1, 2)).reshape(SIDE, SIDE, PIXELS, PIXELS)
    losses = {}
    for modes in (1, 3):
        refine = {"probe": "after 3"} if modes > 1 else {}
        choice = settings(
            orientation="as-is",
            probe={"defocus": -90.0, "modes": modes},
            refine=refine,
            solver={"epochs": 30, "batch": 32},
        )
        _, _, found = solve(counts, choice)
        losses[modes] = found.history["loss"][-1]
    assert losses[3] < 0.9 * losses[1]


@pytest.mark.slow
def test_potential_with_positivity_gives_the_same_phase(thin):
    truth, counts = thin
    choice = settings(
        orientation="as-is",
        probe={"defocus": -90.0},
        object={"kind": "potential"},
        prior={"positivity": True},
        solver={"epochs": 40, "batch": 32},
    )
    _, _, found = solve(counts, choice)
    values = np.asarray(found.value.specimen.values)
    assert values.min() >= 0
    phase = sj.interaction_parameter(ENERGY) * values[0]
    shift = np.asarray(found.value.specimen.origin)
    offset = -shift
    error = phase_error(
        phase,
        np.asarray(truth.specimen.phase)[0],
        sampling=truth.specimen.grid.sampling,
        mask=scanned_area(found.value),
        near=tuple(offset - (np.asarray(truth.scan.positions)[0])),
        max_shift=1.0,
    )
    assert error.correlation > 0.98
    assert 0.85 < error.slope < 1.15


@pytest.mark.slow
def test_two_slices_are_told_apart():
    grid = sj.make_grid(PIXELS + 60, 1e3 * sj.wavelength(ENERGY) / (PIXELS * 1.8))
    phases = np.stack([atoms_phase(grid, seed=s, area=10.0, height=0.5) for s in (1, 2)])
    truth = scene(C10=60.0, thickness=120.0, phases=phases)
    choice = settings(
        orientation="as-is",
        probe={"defocus": -60.0},
        object={"slices": 2, "thickness": 240.0},
        solver={"epochs": 60, "batch": 32},
    )
    _, _, found = solve(recorded(truth, electrons=1e6), choice)
    fixed = fix_gauge(found.value, found.value)
    area = scanned_area(fixed)
    correlations = np.zeros((2, 2))
    for i in range(2):
        for j in range(2):
            near = np.asarray(truth.specimen.origin) - np.asarray(fixed.specimen.origin)
            near = near - np.asarray(truth.scan.positions)[0]
            error = phase_error(
                np.asarray(fixed.specimen.phase)[i],
                phases[j],
                sampling=grid.sampling,
                mask=area,
                near=tuple(near),
                max_shift=0.5,
            )
            correlations[i, j] = error.correlation
    assert min(correlations[0, 0], correlations[1, 1]) > 0.9
    assert max(correlations[0, 1], correlations[1, 0]) < 0.5


def test_gauge_fixing_changes_no_pattern(thin):
    truth, _ = thin
    moved = truth.replace(
        scan=truth.scan.replace(positions=truth.scan.positions + np.array([[0.3, -0.2]])),
        specimen=truth.specimen.replace(phase=truth.specimen.phase + 0.7),
    )
    fixed = fix_gauge(moved, truth)
    forward = jax.jit(lambda e: sj.Diffraction(limit=1.0)(e))
    np.testing.assert_allclose(np.asarray(forward(fixed)), np.asarray(forward(moved)), atol=1e-12)
    np.testing.assert_allclose(
        np.asarray(fixed.scan.positions).mean(axis=0), np.asarray(truth.scan.positions).mean(axis=0), atol=1e-12
    )


def test_negative_and_missing_counts_are_refused():
    counts = np.ones((4, 4, 32, 32), np.float32)
    counts[..., 10:22, 10:22] = 50.0
    base = recording(counts)
    choice = settings(orientation="as-is")
    broken = counts.copy()
    broken[0, 0, 0, 0] = np.nan
    with pytest.raises(sj.InputError, match=r"data\.replace_by"):
        prepare_patterns(replace(base, counts=broken), choice)
    broken[0, 0, 0, 0] = -3.0
    with pytest.raises(sj.InputError, match=r"data\.offset"):
        prepare_patterns(replace(base, counts=broken), choice)


def honeycomb(grid, width=0.3, height=0.3, bond=1.42):
    """Graphene-like: light atoms around dark hexagons."""
    a, (y, x), phase = bond * np.sqrt(3), grid.coordinates(), np.zeros(grid.shape)
    sites = [(0.0, 0.0), (bond, 0.0), (1.5 * bond, a / 2), (2.5 * bond, a / 2)]
    for i in range(-2, int(grid.extent[1] / a) + 3):
        for j in range(-2, int(grid.extent[0] / (3 * bond)) + 3):
            for sy, sx in sites:
                phase += height * np.exp(-((y - 3 * j * bond - sy) ** 2 + (x - i * a - sx) ** 2) / (2 * width**2))
    return phase


def test_dark_field_decides_the_sign_where_skewness_misleads():
    grid = sj.make_grid(PIXELS + 60, 1e3 * sj.wavelength(ENERGY) / (PIXELS * 1.8))
    phase = honeycomb(grid)
    truth = scene(C10=60.0, phases=phase[None])
    patterns = prepare_patterns(recording(recorded(truth)), settings(orientation="as-is"))
    # What a short trial sees: the lattice at low resolution, where the dark hexagons stand out and not the atoms.
    ky, kx = grid.frequencies()
    blurred = np.fft.ifft2(np.fft.fft2(phase) * (np.hypot(ky, kx) < 0.55)).real
    for sign in (1.0, -1.0):
        trial = truth.replace(specimen=truth.specimen.replace(phase=sign * blurred[None]))
        assert sign * skewness(trial) < -0.3
        found, evidence = sign_of_phase(patterns, trial)
        assert found == sign
        assert "scattered electrons follow" in evidence


@pytest.mark.parametrize("turned", [pytest.param(False, marks=pytest.mark.slow), True])
def test_known_defocus_is_kept_and_decides_the_half_turn(thin, turned):
    _, counts = thin
    flipped = np.ascontiguousarray(counts[:, :, ::-1, ::-1]) if turned else counts
    choice = settings(probe={"defocus": -90.0})
    patterns, guess = first_guess(prepare_patterns(recording(flipped), choice), choice, sj.Execution(2, 1))
    assert float(guess.probe.aberrations.C10) == 90.0
    np.testing.assert_allclose(patterns.matrix, -np.eye(2) if turned else np.eye(2), atol=0.1)


@pytest.mark.slow
def test_given_aberrations_decide_the_half_turn():
    truth = scene(C10=60.0, aberrations={"C12a": 50.0, "C21a": 3000.0})
    counts = np.ascontiguousarray(recorded(truth)[:, :, ::-1, ::-1])
    choice = settings(probe={"aberrations": {"C12a": 50.0, "C21a": 3000.0}})
    # Seen on a detector turned by 180° the odd aberration has the other sign: the scan must be turned, not the lens.
    patterns, guess = first_guess(prepare_patterns(recording(counts), choice), choice, sj.Execution(2, 1))
    matrix = patterns.matrix
    losses = {}
    for sign in (1.0, -1.0):
        trial = replace(patterns, matrix=sign * matrix)
        problem = make_ptychography(
            trial,
            choice,
            guess.replace(
                scan=guess.scan.replace(
                    positions=sign * (guess.scan.positions - guess.scan.centre[None]) + guess.scan.centre[None]
                )
            ),
            sj.Execution(2, 1),
        )
        losses[sign] = optimise(problem, make_plan(choice, guess, sj.Execution(2, 1)), 8).history["loss"][-1]
    assert losses[1.0] < losses[-1.0]


@pytest.mark.parametrize(("side", "radius"), [(256, 8.0), (256, 10.0), (128, 5.0)])
def test_small_disk_in_a_wide_halo_is_found(side, radius):
    y, x = np.mgrid[:side, :side]
    centre = (side / 2 + 6.0, side / 2)
    disk = np.clip(radius - np.hypot(y - centre[0], x - centre[1]) + 0.5, 0, 1)
    halo = np.exp(-((y - side / 2) ** 2 + (x - side / 2) ** 2) / (2 * (3 * radius) ** 2))
    mean = disk / disk.sum() + 0.02 * halo / halo.sum()
    found = bright_field_disk(mean, expected=radius)
    np.testing.assert_allclose(found.centre, centre, atol=0.3)
    assert abs(found.radius - radius) < 0.5


def test_fractions_of_the_beam_are_not_taken_for_electrons(thin):
    _, counts = thin
    with pytest.raises(sj.InputError, match="fractions of the beam"):
        prepare_patterns(recording(counts / counts.sum(axis=(2, 3), keepdims=True)), settings(orientation="as-is"))


def test_scan_beside_the_specimen_is_refused():
    truth = scene()
    with pytest.raises(sj.InputError, match="beside the specimen"):
        sj.make_experiment(truth.probe, truth.specimen, sj.make_scan(np.array([[-5.0, 3.0]])))
