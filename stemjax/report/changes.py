"""What was refined, and by how much: every quantity that was free or left its start."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from stemjax.inference.result import Named, Result
from stemjax.report import contents, field
from stemjax.report.numbers import DASH, Row, formatted

UNITY = 1e-4
"""Changes of the amplitude up to this are rounding."""


def refined(result: Result) -> list[Row]:
    """What was refined: (quantity, start, found, change, truth).

    An aberration is listed where it was free or left its start, which is 0 where none is told; the object, which starts
    flat, by the change of its phase; the wave of the probe only where its pixels were free, since otherwise it changes
    with the aberrations and with nothing else.
    """
    rows: list[Row] = []
    for name, quantity in result.estimate.items():
        row = _object_row(result, name) if name.startswith("object_") else _row(result, name, quantity)
        if row is not None:
            rows.append((quantity.long_name or name, *row))
    return rows


def _row(result: Result, name: str, quantity: Named) -> Row | None:
    found = contents.values(quantity)
    start = contents.values(contents.entry(result.diagnostics, f"initial/{name}"))
    is_aberration = name.startswith("aberration_")
    if start is None and is_aberration:
        start = np.zeros(())
    if found is None or start is None or found.shape != start.shape:
        return None
    free = is_aberration and was_free(result.config, name.removeprefix("aberration_"))
    if np.array_equal(found, start) and not free:
        return None
    if name == "probe" and contents.flag(result.config, "refine/probe") is False:
        return None
    true = contents.values(contents.entry(result.diagnostics, f"truth/{name}"))
    describe: Callable[..., Row] = _number_row if found.size == 1 and not np.iscomplexobj(found) else _array_row
    units = "" if quantity.units == "1" else quantity.units
    return describe(found, start, true, units, contents.values(result.uncertainty.get(name)))


def was_free(config: Mapping[str, Any], coefficient: str) -> bool:
    """Whether an aberration coefficient was solved for, as the configuration tells.

    >>> config = {"refine": {"defocus": False, "aberrations": {"C12": "after 3", "C30": False}}}
    >>> [was_free(config, name) for name in ("C10", "C12a", "C30")]
    [False, True, False]
    """
    if coefficient == "C10" and _on(contents.entry(config, "refine/defocus")):
        return True
    entries = contents.entry(config, "refine/aberrations")
    if not isinstance(entries, Mapping) or not set(entries) - {"from", "rate"}:
        return _on(entries)
    pair = re.sub("[ab]$", "", coefficient)
    return _on(next((entries[name] for name in (coefficient, pair, "all") if name in entries), False))


def _on(entry: Any) -> bool:
    """Whether an entry of `refine` frees something: true, a first epoch or a mapping."""
    entry = entry.item() if isinstance(entry, np.generic) else entry
    return entry is not None and entry is not False and entry != "false"


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
    return DASH, _size(found, units, sigma), moved, _distance(found, true, units)


def _object_row(result: Result, name: str) -> Row | None:
    """The object by the rms of its change in the scanned field: outside it is noise. It starts flat if none is told."""
    named = result.estimate[name]
    found = contents.image_stack(named)
    if found is None or np.iscomplexobj(found):
        return None
    start = contents.image_stack(contents.entry(result.diagnostics, f"initial/{name}"))
    flat = start is None or start.shape != found.shape
    amplitude = name == "object_amplitude"
    change = found - (float(amplitude) if start is None or flat else start)
    hull = field.scan_hull(contents.scan_positions(result.estimate))
    change = change[:, field.inside(found.shape[1:], contents.pixel_size(named), hull)]
    rms = float(np.sqrt(np.mean(change**2)))
    if not rms > (UNITY if amplitude else 0.0):
        return None
    units = "" if named.units == "1" else named.units
    moved = f"{formatted(rms, units)} rms" + (" in the scanned field" if hull is not None else "")
    sigma = contents.values(result.uncertainty.get(name))
    error = contents.number(contents.entry(result.diagnostics, "metrics/phase_error/rms"))
    known = name == "object_phase" and error is not None
    true = f"off by {formatted(error, units)} rms" if known and error is not None else DASH
    return "flat" if flat else DASH, _size(found, units, sigma), moved, true


def _size(found: np.ndarray, units: str, sigma: np.ndarray | None) -> str:
    """How many values, and their typical uncertainty."""
    shape = " × ".join(str(n) for n in found.shape)
    spread = "" if sigma is None else f" ± {formatted(float(np.median(np.abs(sigma))), units)} (median)"
    return f"{shape} values{spread}"


def _distance(found: np.ndarray, true: np.ndarray | None, units: str) -> str:
    """Rms distance of an array from the truth about its mean, which is mostly gauge; a dash where they do not match."""
    if true is None or true.shape != found.shape or np.iscomplexobj(found) or np.iscomplexobj(true):
        return DASH
    return f"off by {formatted(float(np.std(found - true)), units)} rms"
