"""Aberrations as other programs write them, brought to Krivanek's Cartesian coefficients [Å]."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from stemjax.optics.aberrations import HAIDER, NAMES, ORDERS

PTYRAD_FACTORS = {**{name: factor for name, (_, _, factor) in HAIDER.items()}, "B4": 4.0, "D4": 4.0}
"""PtyRAD's factors from Haider's letters to C_nm; it takes 4 for B4 and D4, where the series gives 5."""


def polar_pair(n: int, m: int, modulus: float, azimuth: float = 0.0) -> dict[str, float]:
    """C_nma and C_nmb from modulus [Å] and azimuth φ_nm [rad]; a round coefficient by itself.

    >>> {k: round(v, 6) for k, v in polar_pair(1, 2, 10.0, math.pi / 4).items()}
    {'C12a': 0.0, 'C12b': 10.0}
    """
    if m == 0:
        return {f"C{n}0": modulus}
    return {f"C{n}{m}a": modulus * math.cos(m * azimuth), f"C{n}{m}b": modulus * math.sin(m * azimuth)}


def from_ptyrad(given: Mapping[str, Any]) -> tuple[dict[str, float], list[str]]:
    """Coefficients out of PtyRAD's `probe_aberrations`, whose azimuths are degrees.

    Args:
        given: Krivanek's names (C12 with phi12, or C12a and C12b), Haider's (A1 with A1phi), defocus = −C10, Cs.

    Returns:
        Coefficients that are not zero, and the names that are not known.

    >>> from_ptyrad({"defocus": -80.0, "C12": 10.0, "phi12": 45.0, "Z": 1.0})[1]
    ['Z']
    """
    numbers = {name: float(value) for name, value in given.items() if isinstance(value, int | float)}
    found: dict[str, float] = {}
    unknown = []
    for name, value in numbers.items():
        parts = parts_of(name, value, numbers)
        if parts is None:
            unknown.append(name)
        for coefficient, part in (parts or {}).items():
            found[coefficient] = found.get(coefficient, 0.0) + part
    return {name: value for name, value in found.items() if value}, unknown


def parts_of(name: str, value: float, given: Mapping[str, float]) -> dict[str, float] | None:
    """What one of PtyRAD's names contributes; nothing for an azimuth, None where the name is not known."""
    if name in NAMES:
        return {name: value}
    if name in ("defocus", "Cs"):
        return {"C10": -value} if name == "defocus" else {"C30": value}
    if name in HAIDER:
        n, m, _ = HAIDER[name]
        return polar_pair(n, m, PTYRAD_FACTORS[name] * value, math.radians(given.get(f"{name}phi", 0.0)))
    order = re.fullmatch(r"(C|phi)(\d)(\d)", name)
    if order and (int(order[2]), int(order[3])) in ORDERS:
        n, m = int(order[2]), int(order[3])
        return {} if order[1] == "phi" else polar_pair(n, m, value, math.radians(given.get(f"phi{n}{m}", 0.0)))
    return {} if name.removesuffix("phi") in HAIDER else None


def from_py4dstem(given: Mapping[str, Any]) -> dict[str, float]:
    """Coefficients out of py4DSTEM's polar ones, whose azimuths [rad] run from the first array axis to the second.

    Args:
        given: C10, C12 with phi12, ...

    Returns:
        Coefficients that are not zero.

    >>> {k: round(v, 9) for k, v in from_py4dstem({"C10": -5.0, "C12": 10.0, "phi12": math.pi / 4}).items()}
    {'C10': -5.0, 'C12a': 0.0, 'C12b': 10.0}
    """
    numbers = {name: float(value) for name, value in given.items() if isinstance(value, int | float)}
    found: dict[str, float] = {}
    for n, m in ORDERS:
        if modulus := numbers.get(f"C{n}{m}", 0.0):
            found |= polar_pair(n, m, modulus, math.pi / 2 - numbers.get(f"phi{n}{m}", 0.0))
    return found


def to_polar(coefficients: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Modulus [Å] and azimuth [rad] of every coefficient that is not zero; a round one has its sign and no azimuth.

    >>> to_polar({"C10": -5.0, "C12b": 10.0})["C12"]
    (10.0, 0.7853981633974483)
    """
    found = {}
    for n, m in ORDERS:
        a, b = (coefficients.get(f"C{n}{m}{part}", 0.0) for part in (("a", "b") if m else ("", "b")))
        if a or b:
            found[f"C{n}{m}"] = (math.hypot(a, b), math.atan2(b, a) / m) if m else (a, 0.0)
    return found
