"""How a report writes numbers and times."""

from __future__ import annotations

import math

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


def duration(seconds: float) -> str:
    """A time as a person says it.

    >>> duration(7.25), duration(130.0), duration(7384.0)
    ('7.25 s', '2 min 10 s', '2 h 3 min')
    """
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
