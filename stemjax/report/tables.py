"""The numbers of a report: what was done, how it went, how far the result is from the truth."""

from __future__ import annotations

import math
from datetime import datetime

import numpy as np

from stemjax.inference.result import Result
from stemjax.report import contents
from stemjax.report.findings import findings
from stemjax.report.numbers import Row, duration, formatted
from stemjax.report.scans import displacements


def key_numbers(result: Result) -> list[Row]:
    """What a person looks for first: (name, value)."""
    rows: list[Row] = []
    facts = (
        ("Beam energy", ("energy",), 1e-3, "keV"),
        ("Convergence semi-angle", ("semiangle",), 1.0, "mrad"),
        ("Electrons in a pattern", ("dose", "electrons_per_pattern"), 1.0, ""),
        ("Dose", ("dose_per_area", "electrons_per_area"), 1.0, "e/Å²"),
    )
    for label, names, factor, units in facts:
        found = next((v for name in names if (v := contents.setting(result, name)) is not None), None)
        if found is not None:
            rows.append((label, formatted(factor * found, units)))
    rows += [row for make in (_grid, _patterns, findings, _defocus, _moved, _loss, _time) for row in make(result)]
    return rows


def _grid(result: Result) -> list[Row]:
    phase = result.estimate.get("object_phase")
    stack = contents.image_stack(phase)
    if stack is None:
        return []
    n, ny, nx = stack.shape
    sy, sx = contents.pixel_size(phase, (math.nan, math.nan))
    text = f"{ny} × {nx} pixels" + (f" of {sy:.4g} × {sx:.4g} Å" if math.isfinite(sy) else "")
    return [("Object", text + (f", {n} slices" if n > 1 else ""))]


def _patterns(result: Result) -> list[Row]:
    positions = contents.scan_positions(result.estimate)
    return [] if positions is None else [("Patterns", f"{len(positions)}")]


def _defocus(result: Result) -> list[Row]:
    """Defocus is −C10: what people say at the microscope."""
    found = contents.number(result.estimate.get("aberration_C10"))
    if found is None:
        return []
    sigma = contents.number(result.uncertainty.get("aberration_C10"))
    start = contents.number(contents.entry(result.diagnostics, "initial/aberration_C10"))
    true = contents.number(contents.entry(result.diagnostics, "truth/aberration_C10"))
    text = formatted(-found, "Å", sigma)
    if start is not None:
        text = f"{formatted(-start, 'Å')} → {text}"
    return [("Defocus", text + (f" (truth {formatted(-true, 'Å')})" if true is not None else ""))]


def _moved(result: Result) -> list[Row]:
    found = contents.scan_positions(result.estimate)
    start = contents.scan_positions(result.diagnostics, "initial/")
    if found is None or start is None or found.shape != start.shape:
        return []
    move = displacements(found, start)
    rms = float(np.sqrt(np.mean(np.sum(move**2, axis=1))))
    return [("Positions moved", f"{formatted(100 * rms, 'pm')} rms")] if rms > 0 else []


def _loss(result: Result) -> list[Row]:
    loss = contents.values(result.diagnostics.get("loss"))
    if loss is None:
        return []
    loss = loss.ravel()
    text = f"{formatted(float(loss[0]))} → {formatted(float(loss[-1]))}" if loss.size > 1 else formatted(float(loss[0]))
    return [("Loss (nat / pattern)", f"{text} in {loss.size} epoch{'s' * (loss.size > 1)}")]


def _time(result: Result) -> list[Row]:
    """The time of the whole run as on the terminal, and what the epochs took of it."""
    rows: list[Row] = []
    times = contents.values(result.diagnostics.get("epoch_time"))
    known = times is not None and np.isfinite(times).all()
    epochs = float(times.sum()) if times is not None and known else 0.0
    total = _elapsed(result)
    # A run that was resumed knows only when its last part began.
    if total is not None and total >= epochs - 1.0:
        rows.append(("Time from start to finish", duration(total)))
    if times is not None and known:
        rows.append(("Epochs took", f"{duration(epochs)}, {float(np.median(times)):.3g} s each (median)"))
    return rows


def _elapsed(result: Result) -> float | None:
    """Seconds from `started` to `finished` of the provenance; None where they are missing or make no sense."""
    try:
        started, finished = (datetime.fromisoformat(str(result.provenance[name])) for name in ("started", "finished"))
        seconds = (finished - started).total_seconds()
    except (KeyError, ValueError, TypeError):
        return None
    return seconds if seconds >= 0 else None


PHASE = (
    ("Phase error, rms", "phase_error/rms", 1.0, "rad"),
    ("Phase error over rms of the truth", "phase_error/nrmse", 100.0, "%"),
    ("Correlation of found and true phase", "phase_error/correlation", 1.0, ""),
    ("Found over true phase (slope)", "phase_error/slope", 1.0, ""),
)
POSITIONS = (
    ("Position error at the start, rms", "position_error/start_rms", 100.0, "pm"),
    ("Position error found, rms", "position_error/rms", 100.0, "pm"),
    ("Position error found less a linear map, rms", "position_error/rms_affine", 100.0, "pm"),
)
"""Measures against the truth: label, path below `metrics`, factor and unit."""


def against_truth(result: Result) -> list[Row]:
    """Measures against the truth, from `diagnostics["metrics"]`: (measure, value)."""
    return _measures(result, PHASE) + _resolution(result) + _measures(result, POSITIONS)


def _measures(result: Result, listed: tuple[tuple[str, str, float, str], ...]) -> list[Row]:
    rows: list[Row] = []
    for label, path, factor, units in listed:
        value = contents.number(contents.entry(result.diagnostics, f"metrics/{path}"))
        if value is not None:
            rows.append((label, formatted(factor * value, units)))
    return rows


def _resolution(result: Result) -> list[Row]:
    """Resolution against the truth; where the correlation never falls, only the limit of the pixels is known."""
    found = contents.resolution(result)
    if found is None:
        return []
    length = formatted(found[0], "Å")
    text = f"better than {length} (limit of the pixels)" if found[1] else length
    return [("Resolution, correlation with the truth above 0.5", text)]
