"""The phase error sees what is wrong with a phase and nothing of its gauge."""

import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.metrics.interpolation import resample
from stemjax.metrics.phase_error import phase_error

SAMPLING = (0.2, 0.25)
LATTICE = ((3.2, 0.0), (1.6, 2.8))


def atoms(shape, sampling, shift=(0.0, 0.0), width=0.45, missing=True):
    """Phase of Gaussian atoms on an oblique lattice, one of them missing; analytic at any pixel size and shift."""
    y, x = (np.arange(n) * s - d for n, s, d in zip(shape, sampling, shift, strict=True))
    image = np.zeros(shape)
    for i in range(-40, 40):
        for j in range(-40, 40):
            cy, cx = (i * a + j * b for a, b in zip(*LATTICE, strict=True))
            if not (missing and (i, j) == (2, 3)):
                gy, gx = (np.exp(-((u - c) ** 2) / (2 * width**2)) for u, c in ((y, cy), (x, cx)))
                image += 0.5 * gy[:, None] * gx[None, :]
    return image


def interior(shape, border=12):
    mask = np.zeros(shape, bool)
    mask[border:-border, border:-border] = True
    return mask


@pytest.fixture(scope="module")
def true():
    return atoms((96, 80), SAMPLING)


def test_offset_and_ramp_are_no_error(true):
    y, x = np.mgrid[: true.shape[0], : true.shape[1]]
    error = phase_error(true - 3.0 + 0.02 * y - 0.01 * x, true, sampling=SAMPLING)
    assert error.rms < 1e-6
    assert error.slope == pytest.approx(1.0, abs=1e-6)
    assert np.allclose(error.corrected, true, atol=1e-5)


def test_a_ramp_counts_when_it_is_no_gauge(true):
    n = true.shape[0]
    ramp = 0.3 * (np.arange(n) - (n - 1) / 2)[:, None] * np.ones(true.shape)
    error = phase_error(true + ramp, true, sampling=SAMPLING, ramp=False, max_shift=0.0)
    # The rms of 0.3 times n consecutive integers about their mean is 0.3 sqrt((n² − 1)/12).
    assert error.rms == pytest.approx(0.3 * np.sqrt((n**2 - 1) / 12), rel=1e-2)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.07, -0.11), (-1.3, 0.9), (2.6, -3.3)])
def test_a_shift_is_found_and_is_no_error(true, shift):
    found = atoms(true.shape, SAMPLING, shift) + 0.1
    error = phase_error(found, true, sampling=SAMPLING, mask=interior(true.shape, 20))
    assert error.shift == pytest.approx(shift, abs=2e-3)
    assert error.nrmse < 5e-3


def test_scale_and_noise_are_told_apart(true):
    rng = np.random.default_rng(1)
    noise = rng.normal(scale=0.05, size=true.shape)
    error = phase_error(0.4 * true + noise, true, sampling=SAMPLING, margin=1.0)
    spread = true[error.mask].std()
    n = error.mask.sum()
    assert error.slope == pytest.approx(0.4, abs=5 * 0.05 / spread / np.sqrt(n))
    assert error.rms == pytest.approx(np.hypot(0.6 * spread, 0.05), rel=0.02)
    assert error.nrmse == pytest.approx(error.rms / spread, rel=1e-2)
    assert error.correlation == pytest.approx(0.4 * spread / np.hypot(0.4 * spread, 0.05), rel=0.02)


def test_truth_of_another_pixel_size_and_field(true):
    fine = atoms((260, 240), (0.1, 0.1), shift=(1.0, 0.6))
    error = phase_error(true, fine, sampling=SAMPLING, true_sampling=(0.1, 0.1), mask=interior(true.shape))
    assert error.shift == pytest.approx((-1.0, -0.6), abs=2e-3)
    assert error.nrmse < 5e-3


def test_truth_smaller_than_the_object(true):
    small = atoms((60, 60), SAMPLING)
    error = phase_error(true, small, sampling=SAMPLING, max_shift=1.0)
    assert np.isnan(error.aligned[80, 10])
    assert error.mask.sum() == 60 * 60
    assert error.nrmse < 1e-6


def test_max_shift_keeps_a_perfect_lattice_from_hopping():
    perfect = atoms((96, 80), SAMPLING, missing=False)
    error = phase_error(perfect, perfect, sampling=SAMPLING, max_shift=1.5)
    assert error.shift == pytest.approx((0.0, 0.0), abs=1e-6)


def test_wrong_sign_and_unrelated_phases_are_seen(true):
    assert phase_error(-true, true, sampling=SAMPLING, max_shift=0.0).slope == pytest.approx(-1.0, abs=1e-6)
    noise = np.random.default_rng(2).normal(size=true.shape)
    assert abs(phase_error(noise, true, sampling=SAMPLING).correlation) < 0.1


def test_a_flat_phase_gives_nan_and_no_crash(true):
    error = phase_error(np.zeros_like(true), true, sampling=SAMPLING)
    assert np.isnan(error.correlation)
    assert error.slope == pytest.approx(0.0)
    assert error.nrmse == pytest.approx(1.0)
    assert np.isnan(phase_error(true, np.zeros_like(true), sampling=SAMPLING).nrmse)


@pytest.mark.parametrize(
    ("found", "options", "words"),
    [
        (np.zeros((2, 8, 8)), {}, "sum of slices"),
        (np.full((8, 8), np.nan), {}, "NaN"),
        (np.zeros((8, 8)), {"margin": 5.0}, "margin"),
        (np.zeros((8, 8)), {"mask": np.zeros((8, 8))}, "mask"),
    ],
)
def test_errors_say_what_is_wanted(found, options, words):
    with pytest.raises(InputError, match=words):
        phase_error(found, np.zeros((8, 8)), sampling=(1.0, 1.0), **options)


def test_resampling_equals_the_analytic_function():
    wave = np.cos(np.pi * 5 * (np.arange(32) + 0.5) / 32)[:, None] * np.ones(8)
    new = resample(wave, (0.5, 1.0), (20, 8), (0.77, 1.0), shift=(0.3, 0.0))
    y = np.arange(20) * 0.77 - 0.3
    assert np.isnan(new[0, 0])
    assert np.allclose(new[1:, 0], np.cos(np.pi * 5 * (y[1:] / 0.5 + 0.5) / 32), atol=1e-12)


def test_resampling_a_smooth_function_that_is_not_periodic():
    smooth = lambda r: np.exp(-(((r - 5.3) / 2.0) ** 2))  # noqa: E731
    image = smooth(np.arange(40) * 0.2)[:, None] * np.ones(4)
    y = np.arange(50) * 0.15
    assert np.allclose(resample(image, (0.2, 1.0), (50, 4), (0.15, 1.0))[:, 0], smooth(y), atol=3e-3)


def test_resampling_to_a_coarser_grid_removes_what_it_cannot_carry():
    wave = np.cos(np.pi * 24 * (np.arange(32) + 0.5) / 32)[:, None] * np.ones(32)
    assert np.allclose(resample(wave, (0.5, 0.5), (16, 16), (1.0, 1.0)), 0.0, atol=1e-12)
