"""The reference files against a few lines of numpy that follow README.md: conventions right, nothing stale."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.physics.aberration_functions import krivanek_chi
from tests.physics.closed_forms import interaction_parameter, wavelength
from tests.reference.specimens import SPECIMENS
from tests.reference.structure_factors import projected_potential

FOLDER = Path(__file__).resolve().parent
NAMES = ["srtio3", "si110", "au", "mos2", "gan"]
ROUNDING = 2e-7


@pytest.fixture(params=NAMES)
def reference(request):
    with h5py.File(FOLDER / f"abtem_{request.param}.h5") as file:
        yield file


def grid(file):
    """Frequencies ky (ny, 1) and kx (1, nx), shape and sampling of the whole field."""
    shape, sampling = file.attrs["grid shape (y, x)"], file.attrs["sampling (y, x) (Å)"]
    ky, kx = (np.fft.fftfreq(n, d) for n, d in zip(shape, sampling, strict=True))
    return ky[:, None], kx[None, :], tuple(shape), tuple(sampling)


def central(waves, shape):
    """The middle of a transform, zero frequency at n // 2."""
    start = [n // 2 - m // 2 for n, m in zip(waves.shape, shape, strict=True)]
    return np.fft.fftshift(waves)[start[0] : start[0] + shape[0], start[1] : start[1] + shape[1]]


def probe(file, soft=True):
    """The probe at the origin in reciprocal space, by the formulas of README.md."""
    ky, kx, shape, sampling = grid(file)
    length = wavelength(file.attrs["energy (eV)"])
    alpha, phi = length * np.hypot(ky, kx), np.arctan2(ky, kx)
    cutoff = 1e-3 * file.attrs["semiangle (mrad)"]
    step_y, step_x = (length / (n * d) for n, d in zip(shape, sampling, strict=True))
    edge = np.hypot(np.cos(phi) * step_x, np.sin(phi) * step_y)
    aperture = np.clip((cutoff - alpha) / edge + 0.5, 0, 1) if soft else (alpha <= cutoff).astype(float)
    aperture[0, 0] = 1
    coefficients = {k.split()[1]: v for k, v in file.attrs.items() if k.startswith("aberration ")}
    wave = aperture * np.exp(-1j * krivanek_chi(coefficients, alpha, phi, length))
    return wave / np.linalg.norm(wave)


def transmissions(file, band):
    """Band-limited transmission functions of all slices."""
    volts = np.tile(file["potential"][:].astype(float), file.attrs["repeats of the tile (slice, y, x)"])
    phase = np.exp(1j * interaction_parameter(file.attrs["energy (eV)"]) * volts)
    return np.fft.ifft2(np.fft.fft2(phase) * band)


def exit_wave(file, position):
    """The exit wave of one probe position in reciprocal space, conventional multislice."""
    ky, kx, _, sampling = grid(file)
    band = np.hypot(ky, kx) < file.attrs["band limit (fraction of Nyquist)"] / (2 * max(sampling))
    length, thickness = wavelength(file.attrs["energy (eV)"]), file.attrs["slice thickness (Å)"]
    free = np.exp(-1j * np.pi * length * thickness * (ky**2 + kx**2)) * band
    wave = probe(file) * np.exp(-2j * np.pi * (ky * position[0] + kx * position[1]))
    for transmission in transmissions(file, band):
        wave = free * np.fft.fft2(transmission * np.fft.ifft2(wave))
    return wave


def test_the_potential_is_the_sum_of_its_atoms(reference):
    z = reference["atoms/positions"][:, 2]
    tile, (_, _, _, sampling) = reference["potential"], grid(reference)
    for i, stored in enumerate(tile):
        inside = np.floor(z / reference.attrs["slice thickness (Å)"]) == i
        atoms = reference["atoms/numbers"][:][inside], reference["atoms/positions"][:][inside, 1::-1]
        expected = projected_potential(*atoms, tile.shape[1:], sampling)
        assert np.abs(stored - expected).max() < ROUNDING * np.abs(expected).max()


@pytest.mark.parametrize(("name", "soft"), [("probe", True), ("probe_hard_edge", False)])
def test_the_probe_follows_the_conventions(reference, name, soft):
    stored = reference[name][:]
    assert np.abs(central(probe(reference, soft), stored.shape) - stored).max() < ROUNDING * np.abs(stored).max()


def test_waves_and_patterns_follow_the_conventions(reference):
    waves, patterns = reference["same_potential/exit_waves"][:], reference["same_potential/patterns"][:]
    for position, wave, pattern in zip(reference["positions"][:2], waves, patterns, strict=False):
        mine = central(exit_wave(reference, position), pattern.shape)
        assert np.abs(mine - wave).max() < ROUNDING * np.abs(wave).max()
        assert np.abs(np.abs(mine) ** 2 - pattern).max() < ROUNDING * pattern.max()


def test_detectors_follow_the_conventions(reference):
    ky, kx, _, _ = grid(reference)
    angle = 1e3 * wavelength(reference.attrs["energy (eV)"]) * np.hypot(ky, kx)
    for index in (0, 21):
        intensity = np.abs(exit_wave(reference, reference["scan"][index])) ** 2
        for name in ("bf", "abf", "haadf"):
            inner, outer = reference.attrs[f"detector {name} (mrad)"]
            value = intensity[(angle >= inner) & (angle < outer)].sum()
            assert abs(value - reference[f"same_potential/{name}"][index]) < ROUNDING


def test_from_atoms_is_within_a_percent_of_the_exact_potential(reference):
    same, own = reference["same_potential"], reference["from_atoms"]
    for pattern, other in zip(same["patterns"][:2], own["patterns"][:], strict=True):
        assert 0 < np.abs(pattern - other).max() < 0.01 * pattern.max()
    for name in ("bf", "abf", "haadf"):
        assert np.abs(own[name][:] / same[name][:] - 1).max() < 0.01


def test_files_hold_what_the_recipe_says():
    recipes = [make() for make in SPECIMENS]
    assert [s.name for s in recipes] == NAMES
    for s in recipes:
        with h5py.File(FOLDER / f"abtem_{s.name}.h5") as file:
            assert tuple(file.attrs["grid shape (y, x)"]) == s.shape
            assert file.attrs["energy (eV)"] == s.energy
            np.testing.assert_array_equal(file["atoms/positions"][:], s.positions)
    total = sum(path.stat().st_size for path in FOLDER.glob("*.h5"))
    assert total < 2e6
