"""A result against a known truth: what was put in comes out, what is missing is left out."""

import numpy as np
import pytest

from stemjax.inference.result import Named, Result
from stemjax.metrics.truth import against_truth, inner_box, scanned_region

PIXEL = 0.2


def blobs(shape, sampling, seed=5):
    """Random Gaussians: nothing repeats, so that a shift is unique."""
    rng = np.random.default_rng(seed)
    y, x = np.arange(shape[0])[:, None] * sampling, np.arange(shape[1])[None, :] * sampling
    image = np.zeros(shape)
    for cy, cx in rng.uniform(0, 20, (120, 2)):
        image += 0.5 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * 0.4**2))
    return image


def named(values, sampling=PIXEL):
    return Named(values, "rad", ("slice", "y", "x"), "Object phase", sampling=(2.0, sampling, sampling))


@pytest.fixture
def result():
    found = blobs((100, 100), PIXEL)
    rng = np.random.default_rng(0)
    raster = np.stack(np.meshgrid(np.arange(4, 16.1), np.arange(4, 16.1), indexing="ij"), -1).reshape(-1, 2)
    start = raster + rng.normal(scale=0.2, size=raster.shape)
    columns = {f"position_{a}": Named(raster[:, i] + 0.5, "Å", ("pattern",), "p") for i, a in enumerate("yx")}
    truth = {"object_phase": named(blobs((200, 200), 0.1)[None], 0.1)}
    truth |= {f"position_{a}": raster[:, i] for i, a in enumerate("yx")}
    initial = {f"position_{a}": start[:, i] for i, a in enumerate("yx")}
    estimate = {"object_phase": named(np.stack([0.3 * found, 0.5 * found + 1.0])), **columns}
    return Result("ptychography", estimate, diagnostics={"truth": truth, "initial": initial})


def test_slices_are_summed_and_the_truth_resampled(result):
    error = against_truth(result)["phase_error"]
    assert error["slope"] == pytest.approx(0.8, abs=2e-3)
    assert error["nrmse"] == pytest.approx(0.2, abs=2e-3)
    assert error["shift"] == pytest.approx((0.0, 0.0), abs=1e-3)


def test_positions_after_their_common_shift(result):
    error = against_truth(result)["position_error"]
    assert error["rms"] == pytest.approx(0.0, abs=1e-9)
    assert error["start_rms"] == pytest.approx(0.2 * np.sqrt(2), rel=0.1)


def test_ring_correlation_of_a_scaled_copy_is_one_where_there_is_signal(result):
    curve = against_truth(result)["ring_correlation"]
    low = curve["frequency"] < 0.8
    assert (curve["correlation"][low] > 0.998).all()


def test_resolution_is_flagged_where_the_pixels_limit_it(result):
    """White detail agrees up to the last ring; without its high frequencies it has a resolution of its own."""
    rng = np.random.default_rng(1)
    white = rng.normal(size=(100, 100))
    radius = np.hypot(*np.meshgrid(*2 * [np.fft.fftfreq(100, PIXEL)], indexing="ij"))
    blurred = np.fft.ifft2(np.fft.fft2(white) * (radius <= 1.2)).real + 0.1 * rng.normal(size=white.shape)
    truth = {**result.diagnostics["truth"], "object_phase": named(white[None])}
    measured = []
    for image in (white, blurred):
        estimate = {**result.estimate, "object_phase": named(image[None])}
        measured.append(against_truth(Result("p", estimate, diagnostics={"truth": truth}))["ring_correlation"])
    assert [m["resolution_limited_by_pixels"] for m in measured] == [True, False]
    assert measured[0]["resolution"] == pytest.approx(2 * PIXEL, rel=0.05)
    assert 1 / measured[1]["resolution"] == pytest.approx(1.2, abs=0.12)
    assert "resolution_one_seventh" not in measured[0]


def test_a_turned_scan_is_compared_inside_its_parallelogram():
    """The area is that of the turned square; the rectangle for the Fourier transform lies in it."""
    angle, side, middle = np.radians(30.0), 40.0, 50.0
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    square = np.stack(np.meshgrid(*2 * [np.linspace(-side / 2, side / 2, 21)], indexing="ij"), -1).reshape(-1, 2)
    mask = scanned_region((101, 101), (1.0, 1.0), square @ turn.T + middle)
    assert mask.sum() == pytest.approx(side**2, rel=0.03)
    box = inner_box(mask, 1.0)
    assert mask[box].all()
    # Largest centred square in a square turned by θ.
    assert mask[box].shape[0] == pytest.approx(side / (np.cos(angle) + np.sin(angle)), abs=2)


def test_a_result_that_is_not_finished_gives_what_it_can(result):
    broken = named(np.full((1, 100, 100), np.nan))
    measures = against_truth(Result("p", {**result.estimate, "object_phase": broken}, diagnostics=result.diagnostics))
    assert set(measures) == {"position_error"}
    assert against_truth(Result("p", dict(result.estimate))) == {}


def test_scanned_region_falls_back_to_the_middle():
    mask = scanned_region((40, 40), (1.0, 1.0), np.array([[-5.0, 0.0], [10.0, 10.0]]))
    assert mask.sum() == 400
    assert mask[20, 20]
