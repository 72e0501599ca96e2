"""Everything about a ptychographic result that can be compared with a known truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stemjax.core.errors import InputError
from stemjax.inference.result import Named, Result
from stemjax.metrics.phase_error import PhaseError, phase_error
from stemjax.metrics.positions import position_error
from stemjax.metrics.ring_correlation import NOISE_FREE, ring_correlation, surely_above

NEIGHBOURHOOD = 1.0
"""How far object and scan positions may disagree about their common shift [Å]."""


def against_truth(result: Result, *, max_shift: float | None = None) -> dict[str, Any]:
    """Measures of a result against `diagnostics["truth"]`, in the form that `diagnostics["metrics"]` takes.

    Args:
        result: A result with `truth/object_phase` and, if known, `truth/position_y` and `truth/position_x`.
        max_shift: Largest common shift of object and truth that is looked for [Å]; about that of the scan positions,
            and `NEIGHBOURHOOD` if left out, where the true ones are known.

    Returns:
        `phase_error` {rms [rad], nrmse, correlation, slope, shift [Å], aligned, corrected [rad], mask, sampling [Å]},
        `ring_correlation` {frequency [1/Å], correlation, count, threshold, resolution [Å],
        resolution_limited_by_pixels} and
        `position_error` {rms, start_rms, rms_affine, largest [Å]}; only what the truth allows, empty without one.

    >>> against_truth(Result("ptychography", {}))
    {}
    """
    truth = result.diagnostics.get("truth", {})
    found: dict[str, Any] = {}
    if "object_phase" in truth and "object_phase" in result.estimate:
        error = _compare_phase(result, truth, max_shift)
        found["phase_error"] = _phase_entries(error, _pixel(result.estimate["object_phase"]))
        found["ring_correlation"] = _rings(error, _pixel(result.estimate["object_phase"]))
    positions = _positions(result.estimate)
    true_positions = _positions(truth)
    if positions is not None and true_positions is not None and positions.shape == true_positions.shape:
        found["position_error"] = _position_entries(positions, true_positions, result.diagnostics.get("initial", {}))
    return {name: entries for name, entries in found.items() if entries}


def scanned_region(shape: tuple[int, int], sampling: tuple[float, float], positions: np.ndarray | None) -> np.ndarray:
    """The part of an object that the probe's centre went over, where alone it is well determined.

    Args:
        shape: Pixels of the object (ny, nx).
        sampling: Pixel size (y, x) [Å].
        positions: Scan positions (pattern, 2), (y, x) [Å], pixel (0, 0) of the object at the origin.

    Returns:
        Mask (ny, nx): the convex hull of the positions, a parallelogram for a turned raster; the central half of the
        object where they are not known, do not lie on it, or hold fewer than 4 × 4 pixels.

    >>> corners = np.array([[2.0, 2.0], [2.0, 5.0], [5.0, 2.0], [5.0, 5.0]])
    >>> int(scanned_region((8, 8), (1.0, 1.0), corners).sum())
    16
    """
    mask = _hull_mask(shape, sampling, positions)
    if mask is not None and mask.sum() >= 16:
        return mask
    mask = np.zeros(shape, bool)
    low, high = np.array(shape) // 4, np.array(shape) - np.array(shape) // 4
    mask[low[0] : high[0], low[1] : high[1]] = True
    return mask


def _hull_mask(
    shape: tuple[int, int], sampling: tuple[float, float], positions: np.ndarray | None
) -> np.ndarray | None:
    """Pixels in the convex hull of points; None where it has no area or reaches beyond the image."""
    from scipy.spatial import ConvexHull, Delaunay, QhullError

    if positions is None or len(positions) < 3 or not np.isfinite(positions).all():
        return None
    pixels = positions / np.asarray(sampling)
    if (pixels.min(axis=0) < -1e-9).any() or (pixels.max(axis=0) > np.array(shape) - 1 + 1e-9).any():
        return None
    try:
        hull = Delaunay(pixels[ConvexHull(pixels).vertices])
        return np.asarray(hull.find_simplex(np.indices(shape).transpose(1, 2, 0), tol=1e-9) >= 0)
    except QhullError:  # all on a line
        return None


def inner_box(mask: np.ndarray, share: float = 0.97) -> tuple[slice, slice]:
    """Rows and columns of a rectangle in a convex mask, since a Fourier transform needs one.

    Args:
        mask: The region (ny, nx).
        share: Part of the rectangle that must lie in the region; below 1, as a scan with jitter has ragged edges.

    Returns:
        The bounding box, shrunk about its centre as far as necessary.

    >>> y, x = np.mgrid[-20:21, -20:21]
    >>> inner_box(np.abs(y) + np.abs(x) <= 20, 1.0)
    (slice(10, 31, None), slice(10, 31, None))
    """
    ends = [(int(i[0]), int(i[-1]) + 1) for i in (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))]
    steps = max(end - start for start, end in ends) // 2
    for step in range(steps):
        cuts = [round(step * (end - start) / (2 * steps)) for start, end in ends]
        rows, columns = (slice(start + cut, end - cut) for (start, end), cut in zip(ends, cuts, strict=True))
        if mask[rows, columns].size and mask[rows, columns].mean() >= share:
            break
    return rows, columns


def _compare_phase(result: Result, truth: Mapping[str, Named], max_shift: float | None) -> PhaseError | None:
    """The projected phases compared over the scanned region; None where they cannot be (not finished, no overlap)."""
    found, true = result.estimate["object_phase"], truth["object_phase"]
    image, other = _projected(found.value), _projected(true.value)
    positions, true_positions = _positions(result.estimate), _positions(truth)
    near = (0.0, 0.0)
    if positions is not None and true_positions is not None and positions.shape == true_positions.shape:
        # A lattice fits itself at every unit cell; the scan tells which.
        offset = positions.mean(axis=0) - true_positions.mean(axis=0)
        near = (float(offset[0]), float(offset[1]))
        max_shift = NEIGHBOURHOOD if max_shift is None else max_shift
    mask = scanned_region((image.shape[0], image.shape[1]), _pixel(found), positions)
    try:
        return phase_error(
            image, other, sampling=_pixel(found), true_sampling=_pixel(true), mask=mask, near=near, max_shift=max_shift
        )
    except InputError:
        return None


def _phase_entries(error: PhaseError | None, sampling: tuple[float, float]) -> dict[str, Any]:
    if error is None:
        return {}
    names = ("rms", "nrmse", "correlation", "slope", "shift", "aligned", "corrected", "mask")
    return {name: getattr(error, name) for name in names} | {"sampling": sampling}


def _rings(error: PhaseError | None, sampling: tuple[float, float]) -> dict[str, Any]:
    """The ring correlation of found and true phase over a rectangle in the compared region."""
    if error is None:
        return {}
    box = inner_box(error.mask)
    found, true = error.corrected[box], error.aligned[box]
    if min(found.shape) < 8 or not np.isfinite(true).all():
        return {}
    curve = ring_correlation(found, true, sampling)
    # The truth has no noise: the thresholds for two halves of a data set would ask too little. The last crossing,
    # because a crystal has no signal between its reflections.
    threshold = surely_above(NOISE_FREE, curve.count)
    return {
        "frequency": curve.frequency,
        "correlation": curve.correlation,
        "count": curve.count,
        "threshold": threshold,
        "resolution": curve.resolution(threshold, last=True),
        "resolution_limited_by_pixels": curve.limited_by_pixels(threshold),
    }


def _position_entries(found: np.ndarray, true: np.ndarray, initial: Mapping[str, Any]) -> dict[str, float]:
    if not (np.isfinite(found).all() and np.isfinite(true).all()):
        return {}
    error = position_error(found, true)
    entries = {"rms": error.rms, "largest": error.largest}
    entries["rms_affine"] = position_error(found, true, affine=True).rms
    start = _positions(initial)
    if start is not None and start.shape == true.shape and np.isfinite(start).all():
        entries["start_rms"] = position_error(start, true).rms
    return entries


def _projected(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    return values.reshape(-1, *values.shape[-2:]).sum(axis=0)


def _pixel(image: Named) -> tuple[float, float]:
    sampling = image.sampling or (1.0, 1.0)
    return float(sampling[-2]), float(sampling[-1])


def _positions(named: Mapping[str, Any]) -> np.ndarray | None:
    """Positions (pattern, 2) of a mapping with `position_y` and `position_x`."""
    if "position_y" not in named or "position_x" not in named:
        return None
    columns = [named["position_y"], named["position_x"]]
    return np.stack([np.ravel(getattr(column, "value", column)).astype(float) for column in columns], axis=1)
