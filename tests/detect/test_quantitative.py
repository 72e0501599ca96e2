"""Counts and fractions of the beam: exact inversion, levels of synthetic detectors, error bars that hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.detect.quantitative import (
    active_area,
    beam_electrons,
    counts_of,
    detector_levels,
    electrons_per_count,
    fraction,
    fraction_error,
    gain,
    make_detector_levels,
)


def ring_image(seed=0, noise=5.0, dark=120.0, active=2120.0, half=60):
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    inside = (np.hypot(y - 3, x) > 15) & (np.hypot(y, x) < 45)
    return dark + (active - dark) * inside + np.random.default_rng(seed).normal(0, noise, y.shape), inside


def test_fraction_and_counts_undo_each_other():
    levels = make_detector_levels(120.0, 2120.0, beam=50.0)
    signal = jnp.linspace(-0.1, 60.0, 7)
    np.testing.assert_allclose(fraction(counts_of(signal, levels), levels), signal, atol=1e-12)
    assert float(gain(levels)) == 40.0
    # One electron more is G counts more.
    assert abs(float(jax.grad(counts_of)(1.0, levels)) - 40.0) < 1e-12


def test_levels_of_a_ring_are_found():
    image, inside = ring_image()
    np.testing.assert_array_equal(active_area(image), inside)
    levels = detector_levels(image)
    assert abs(float(levels.dark) - 120.0) < 4 * float(levels.dark_error)
    assert abs(float(levels.active) - 2120.0) < 4 * float(levels.active_error)
    assert abs(float(levels.dark_error) - 5 / np.sqrt((~inside).sum())) < 0.03 * float(levels.dark_error)
    assert abs(float(levels.spread) - 5 / 2000) < 1e-4


def test_a_halo_does_not_lift_the_dark_level():
    # Light scattered from the ring's edge, on a scan that goes well past it: the plain mean is lifted.
    image, inside = ring_image(half=120)
    y, x = np.mgrid[-120:121, -120:121]
    halo = 300.0 * np.exp(-np.abs(np.hypot(y, x) - 45) / 2) * ~inside
    levels = detector_levels(image + halo)
    assert (image + halo)[~inside].mean() > 123.0
    assert abs(float(levels.dark) - 120.0) < 0.4
    assert float(detector_levels(np.array([[2.0, 2.0, 2.0, 12.0, 12.0]])).dark) == 2.0


def test_weak_parts_belong_to_the_detector_down_to_the_threshold():
    image, inside = ring_image(noise=0.0)
    image[50:60, 80:90] = 120 + 0.35 * 2000
    np.testing.assert_array_equal(active_area(image), inside)
    assert not active_area(image, 0.5)[55, 85]


def test_the_level_that_electrons_meet_is_weighted_by_them():
    image, inside = ring_image(noise=0.0)
    y, x = np.mgrid[-60:61, -60:61]
    image = np.where(inside, image + 10.0 * x, image)
    flux = np.exp(-0.5 * ((x - 30) / 4.0) ** 2 - 0.5 * (y / 4.0) ** 2)
    levels = detector_levels(image, flux=flux)
    assert abs(float(levels.active) - (2120 + 10 * 30)) < 1.0
    assert abs(float(detector_levels(image).active) - 2120) < 1.0


def test_error_bars_hold_what_a_repetition_scatters():
    # Levels and counts drawn anew: the fractions scatter as the formula says.
    rng = np.random.default_rng(1)
    truth = {"dark": 100.0, "active": 300.0}
    for counts in (110.0, 200.0, 290.0):
        dark, active, seen = (rng.normal(m, s, 200_000) for m, s in ((100.0, 4.0), (300.0, 3.0), (counts, 2.0)))
        scatter = ((seen - dark) / (active - dark) * 7.0).std()
        levels = make_detector_levels(**truth, dark_error=4.0, active_error=3.0, beam=7.0)
        assert abs(float(fraction_error(counts, levels, 2.0)) / scatter - 1) < 0.01


def test_electrons_of_a_beam():
    # 1 pA for 1 s is 6.241509e6 electrons.
    assert abs(beam_electrons(1.0, 1e6) / 6.241509e6 - 1) < 1e-6
    levels = make_detector_levels(100.0, 1100.0)
    per_count = electrons_per_count(levels, 20.0, 5.0)
    assert abs(float(per_count) * 1000.0 - beam_electrons(20.0, 5.0)) < 1e-9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_detector_levels(10.0, 10.0), "not above the dark level"),
        (lambda: make_detector_levels(1.0, 2.0, beam=0.0), "must not be negative"),
        (lambda: active_area(np.ones((4, 4))), "one level only"),
        (lambda: active_area(np.eye(4), 1.0), "give one inside"),
        (lambda: detector_levels(np.eye(4), active=np.ones((4, 4))), "both sides"),
    ],
)
def test_impossible_levels_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
