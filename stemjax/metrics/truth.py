"""Everything about a ptychographic result that can be compared with a known truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stemjax.core.errors import InputError
from stemjax.inference.result import Named, Result
from stemjax.metrics.phase_error import PhaseError, phase_error
from stemjax.metrics.positions import position_error
from stemjax.metrics.ring_correlation import ONE_SEVENTH, ring_correlation

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
        `ring_correlation` {frequency [1/Å], correlation, half_bit, resolution, resolution_one_seventh [Å]} and
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
        Mask (ny, nx): the rectangle around the positions; the central half of the object where they are not known, do
        not lie on it, or span fewer than four pixels.

    >>> int(scanned_region((8, 8), (1.0, 1.0), np.array([[2.0, 2.0], [5.0, 5.0]])).sum())
    16
    """
    mask = np.zeros(shape, bool)
    low, high = np.array(shape) // 4, np.array(shape) - np.array(shape) // 4
    if positions is not None and np.isfinite(positions).all():
        first = np.ceil(positions.min(axis=0) / sampling - 1e-9).astype(int)
        last = np.floor(positions.max(axis=0) / sampling + 1e-9).astype(int) + 1
        if (first >= 0).all() and (last <= shape).all() and (last - first >= 4).all():
            low, high = first, last
    mask[low[0] : high[0], low[1] : high[1]] = True
    return mask


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
    """The ring correlation of found and true phase over the compared rectangle."""
    if error is None:
        return {}
    rows, columns = np.flatnonzero(error.mask.any(axis=1)), np.flatnonzero(error.mask.any(axis=0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    found, true = error.corrected[box], error.aligned[box]
    if min(found.shape) < 8 or not np.isfinite(true).all():
        return {}
    curve = ring_correlation(found, true, sampling)
    return {
        "frequency": curve.frequency,
        "correlation": curve.correlation,
        "half_bit": curve.half_bit,
        "resolution": curve.resolution(last=True),
        "resolution_one_seventh": curve.resolution(ONE_SEVENTH, last=True),
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
