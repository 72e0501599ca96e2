"""The numbers of a report: what was done, what was refined and by how much, how far it is from the truth."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from stemjax.inference.result import Result
from stemjax.report import contents
from stemjax.report.scans import displacements

Row = tuple[str, ...]
"""The cells of a row, as text."""

DASH = "–"


def formatted(value: float, units: str = "", sigma: float | None = None) -> str:
    """A number as a person writes it: to two digits of its uncertainty, or to four digits.

    >>> formatted(-103.237, "Å", 0.41), formatted(0.0251234), formatted(1.2e7, "Å"), formatted(float("nan"), "Å")
    ('−103.24 ± 0.41 Å', '0.02512', '1.2e+07 Å', 'not a number')
    """
    if not math.isfinite(value):
        return "not a number"
    unit = "" if units in ("", "1") else f" {units}"
    if sigma is not None and math.isfinite(sigma) and sigma > 0:
        digits = 1 - math.floor(math.log10(sigma))
        if digits >= 0 and abs(value) < 1e9:
            text = f"{value:.{digits}f} ± {sigma:.{digits}f}"
        else:
            text = f"{value:.4g} ± {sigma:.2g}"
    else:
        text = f"{value:.4g}" if abs(value) < 1e4 or abs(value) >= 1e6 else f"{value:.0f}"
    return text.replace("-", "−", 1) + unit if text.startswith("-") else text + unit


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
    rows += [row for make in (_grid, _patterns, _defocus, _moved, _loss, _time) for row in make(result)]
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
    times = contents.values(result.diagnostics.get("epoch_time"))
    if times is None or not np.isfinite(times).all():
        return []
    return [("Time", f"{duration(float(times.sum()))}, {float(np.median(times)):.3g} s an epoch")]


def duration(seconds: float) -> str:
    """A time as a person says it.

    >>> duration(7.25), duration(130.0), duration(7384.0)
    ('7.25 s', '2 min 10 s', '2 h 3 min')
    """
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def refined(result: Result) -> list[Row]:
    """What was refined: (quantity, start, found, change, truth), for every quantity that left its start."""
    rows: list[Row] = []
    for name, quantity in result.estimate.items():
        found = contents.values(quantity)
        start = contents.values(contents.entry(result.diagnostics, f"initial/{name}"))
        if found is None or start is None or found.shape != start.shape or np.array_equal(found, start):
            continue
        true = contents.values(contents.entry(result.diagnostics, f"truth/{name}"))
        describe: Callable[..., Row] = _number_row if found.size == 1 and not np.iscomplexobj(found) else _array_row
        units = "" if quantity.units == "1" else quantity.units
        cells = describe(found, start, true, units, contents.values(result.uncertainty.get(name)))
        rows.append((quantity.long_name or name, *cells))
    return rows


def _number_row(
    found: np.ndarray, start: np.ndarray, true: np.ndarray | None, units: str, sigma: np.ndarray | None
) -> Row:
    value, first = float(found.ravel()[0]), float(start.ravel()[0])
    truth = formatted(float(true.ravel()[0]), units) if true is not None and true.size == 1 else DASH
    error = contents.number(sigma)
    return formatted(first, units), formatted(value, units, error), formatted(value - first, units), truth


def _array_row(
    found: np.ndarray, start: np.ndarray, true: np.ndarray | None, units: str, sigma: np.ndarray | None
) -> Row:
    """Arrays by their size and the rms of their change; complex ones (waves) relative to the start."""
    change = np.sqrt(np.mean(np.abs(found - start) ** 2))
    if np.iscomplexobj(found):
        size = np.sqrt(np.mean(np.abs(start) ** 2))
        moved = f"{100 * change / size:.3g} % rms" if size > 0 else DASH
    else:
        moved = f"{formatted(float(change), units)} rms"
    shape = " × ".join(str(n) for n in found.shape)
    spread = "" if sigma is None else f" ± {formatted(float(np.median(np.abs(sigma))), units)} (median)"
    return DASH, f"{shape} values{spread}", moved, _distance(found, true, units)


def _distance(found: np.ndarray, true: np.ndarray | None, units: str) -> str:
    """Rms distance of an array from the truth about its mean, which is mostly gauge; a dash where they do not match."""
    if true is None or true.shape != found.shape or np.iscomplexobj(found) or np.iscomplexobj(true):
        return DASH
    difference = found - true
    return f"off by {formatted(float(np.std(difference)), units)} rms"


def against_truth(result: Result) -> list[Row]:
    """Measures against the truth, from `diagnostics["metrics"]`: (measure, value)."""
    metrics: Any = lambda path: contents.number(contents.entry(result.diagnostics, f"metrics/{path}"))  # noqa: E731
    listed = (
        ("Phase error, rms", "phase_error/rms", 1.0, "rad"),
        ("Phase error over rms of the truth", "phase_error/nrmse", 100.0, "%"),
        ("Correlation of found and true phase", "phase_error/correlation", 1.0, ""),
        ("Found over true phase (slope)", "phase_error/slope", 1.0, ""),
        ("Resolution, half bit", "ring_correlation/resolution", 1.0, "Å"),
        ("Resolution, 1/7", "ring_correlation/resolution_one_seventh", 1.0, "Å"),
        ("Position error at the start, rms", "position_error/start_rms", 100.0, "pm"),
        ("Position error found, rms", "position_error/rms", 100.0, "pm"),
        ("Position error found less a linear map, rms", "position_error/rms_affine", 100.0, "pm"),
    )
    return [(label, formatted(k * v, units)) for label, path, k, units in listed if (v := metrics(path)) is not None]
