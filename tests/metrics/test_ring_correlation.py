"""Fourier ring correlation against what is known of white noise and of band-limited signals."""

import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.metrics.ring_correlation import (
    NOISE_FREE,
    ONE_SEVENTH,
    against_noise_free,
    half_bit_threshold,
    ring_correlation,
    surely_above,
)

SHAPE, SAMPLING = (192, 160), (0.1, 0.12)


def frequencies():
    ky, kx = (np.fft.fftfreq(n, s) for n, s in zip(SHAPE, SAMPLING, strict=True))
    return np.hypot(ky[:, None], kx[None, :])


def band_limited(rng, cutoff):
    return np.fft.ifft2(np.fft.fft2(rng.normal(size=SHAPE)) * (frequencies() <= cutoff)).real


def test_equal_images_correlate_and_reach_nyquist():
    image = np.random.default_rng(0).normal(size=SHAPE)
    curve = ring_correlation(image, 2.0 * image + 1.0, SAMPLING)
    assert np.allclose(curve.correlation, 1.0)
    assert curve.resolution() == pytest.approx(1 / curve.frequency[-1])
    assert curve.frequency[-1] == pytest.approx(0.5 / 0.12, rel=0.02)


@pytest.mark.parametrize("taper", [0.0, 0.5, 1.0])
def test_noise_scatters_by_one_over_root_n(taper):
    rng = np.random.default_rng(3)
    z = []
    for _ in range(40):
        curve = ring_correlation(rng.normal(size=SHAPE), rng.normal(size=SHAPE), SAMPLING, taper=taper)
        z.append((curve.correlation * np.sqrt(curve.count))[3:])
    z = np.array(z)
    assert abs(z.mean()) < 0.06
    assert z.std() == pytest.approx(1.0, abs=0.06)


def test_signal_and_noise_give_the_expected_correlation():
    """Two images of one white signal with white noise of power 1/SNR correlate by SNR / (1 + SNR) in every ring."""
    rng = np.random.default_rng(4)
    signal = rng.normal(size=SHAPE)
    snr = 0.5
    halves = [signal + rng.normal(size=SHAPE) / np.sqrt(snr) for _ in range(2)]
    curve = ring_correlation(*halves, SAMPLING)
    assert np.average(curve.correlation, weights=curve.count) == pytest.approx(snr / (1 + snr), abs=0.02)


@pytest.mark.parametrize("cutoff", [1.0, 2.0, 3.0])
def test_band_limit_is_the_resolution(cutoff):
    rng = np.random.default_rng(5)
    signal = band_limited(rng, cutoff)
    halves = [signal + 0.02 * signal.std() * rng.normal(size=SHAPE) for _ in range(2)]
    curve = ring_correlation(*halves, SAMPLING, taper=0.0)
    width = curve.frequency[1] - curve.frequency[0]
    for resolution in (curve.resolution(), curve.resolution(ONE_SEVENTH)):
        assert 1 / resolution == pytest.approx(cutoff, abs=1.5 * width)


def test_a_crystal_needs_the_last_crossing():
    """A lattice with reflections at 0.42 and 2.5 1/Å only: the first crossing stops between them."""
    rng = np.random.default_rng(6)
    y = np.arange(SHAPE[0]) * SAMPLING[0]
    signal = (np.cos(2 * np.pi * y / 2.4) + np.cos(2 * np.pi * y * 2.5))[:, None] * np.ones(SHAPE)
    curve = ring_correlation(*(signal + 0.3 * rng.normal(size=SHAPE) for _ in range(2)), SAMPLING)
    assert 1 / curve.resolution(0.5) < 1.0
    assert 1 / curve.resolution(0.5, last=True) == pytest.approx(2.5, abs=3 * curve.frequency[0])


def test_half_bit_threshold_from_the_definition_of_information():
    """Half a bit in the sum of both images is log2(1 + 2 SNR) = 1/2; for many pixels FRC = SNR/(1 + SNR)."""
    snr = (np.sqrt(2) - 1) / 2
    assert half_bit_threshold(np.array(1e16)) == pytest.approx(snr / (1 + snr), abs=1e-4)
    root = 1 / np.sqrt(50)
    expected = (snr + (2 * np.sqrt(snr) + 1) * root) / (1 + snr + 2 * np.sqrt(snr) * root)
    assert half_bit_threshold(np.array(50.0)) == pytest.approx(expected, abs=1e-4)


def test_unrelated_images_have_no_resolution():
    assert np.isnan(ring_correlation(np.zeros(SHAPE), np.zeros(SHAPE), SAMPLING).resolution())


def test_all_data_against_the_truth_correlate_as_the_halves_foretell():
    """Two halves of SNR 1/6 correlate by 1/7; their mean and the noise-free signal by 1/2."""
    rng = np.random.default_rng(7)
    foretold, seen = [], []
    for _ in range(4):
        signal = rng.normal(size=SHAPE)
        halves = [signal + np.sqrt(6.0) * rng.normal(size=SHAPE) for _ in range(2)]
        between = ring_correlation(*halves, SAMPLING)
        foretold.append(against_noise_free(np.average(between.correlation, weights=between.count)))
        curve = ring_correlation(sum(halves), signal, SAMPLING)
        seen.append(np.average(curve.correlation, weights=curve.count))
    assert np.mean(seen) == pytest.approx(NOISE_FREE, abs=0.01)
    assert np.mean(foretold) == pytest.approx(NOISE_FREE, abs=0.02)
    assert against_noise_free(ONE_SEVENTH) == pytest.approx(NOISE_FREE)


def test_three_sigma_are_three_sigma_at_the_threshold():
    """Of rings whose true correlation is 0.5 about one of a thousand is above the threshold, one of six above one σ."""
    rng = np.random.default_rng(8)
    above = {1.0: [], 3.0: []}
    for _ in range(60):
        signal = rng.normal(size=SHAPE)
        curve = ring_correlation(signal + np.sqrt(3.0) * rng.normal(size=SHAPE), signal, SAMPLING)
        for sigmas, counts in above.items():
            counts.append(curve.correlation[3:] > surely_above(0.5, curve.count, sigmas)[3:])
    assert np.mean(above[1.0]) == pytest.approx(0.159, abs=0.03)
    assert np.mean(above[3.0]) < 0.005


def test_a_curve_that_never_falls_is_limited_by_the_pixels():
    rng = np.random.default_rng(9)
    sharp, blurred = rng.normal(size=SHAPE), band_limited(rng, 2.0)
    noise = 0.02 * rng.normal(size=SHAPE)
    for image, limited in ((sharp, True), (blurred, False)):
        curve = ring_correlation(image + noise, image, SAMPLING)
        threshold = surely_above(NOISE_FREE, curve.count)
        assert curve.limited_by_pixels(threshold) is limited
        assert bool(curve.resolution(threshold, last=True) == pytest.approx(1 / curve.frequency[-1])) is limited


@pytest.mark.parametrize(("second", "words"), [(np.zeros((8, 9)), "shape"), (np.full((8, 8), np.nan), "NaN")])
def test_errors(second, words):
    with pytest.raises(InputError, match=words):
        ring_correlation(np.zeros((8, 8)), second, (1.0, 1.0))
