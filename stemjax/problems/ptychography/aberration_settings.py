"""Aberrations as a person writes them: Krivanek's Cartesian or polar names, or Haider's.

| order | Krivanek | Haider |
| --- | --- | --- |
| 1 | C10, C12 | C1, A1 |
| 2 | C21, C23 | B2, A2 |
| 3 | C30 (also Cs), C32, C34 | C3, S3, A3 |
| 4 | C41, C43, C45 | B4, D4, A4 |
| 5 | C50, C52, C54, C56 | C5, S5, R5, A5 |

A coefficient with a direction is a Cartesian pair (C12a, C12b), a size and an angle (C12 with phi12, A1 with phiA1), or
a mapping {C: size, angle: direction}.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from stemjax.core.errors import InputError, nearest
from stemjax.core.quantity import Parsed, Quantity

ROUND = ("C10", "C30", "C50")
"""Coefficients without a direction."""

DIRECTED = ("C12", "C21", "C23", "C32", "C34", "C41", "C43", "C45", "C52", "C54", "C56")
"""Coefficients with a direction."""

_ALIASES = {"C1": "C10", "C3": "C30", "Cs": "C30", "C5": "C50"}
_HAIDER = dict(zip(("A1", "B2", "A2", "S3", "A3", "B4", "D4", "A4", "S5", "R5", "A5"), DIRECTED, strict=True))
_CARTESIAN = {name + part: name for name in DIRECTED for part in "ab"}
_ANGLE_OF = {"phi" + name[1:]: name for name in DIRECTED} | {"phi" + name: name for name in _HAIDER}
_COEFFICIENT = {name: name for name in ROUND + DIRECTED} | _ALIASES | _HAIDER | _CARTESIAN

NAMES = (*_COEFFICIENT, *_ANGLE_OF)
"""Every key that a mapping of aberrations may have."""

FREE_NAMES = (*ROUND, *DIRECTED, *_CARTESIAN)
"""Every coefficient that can be refined by itself."""

_LENGTH = Quantity("Å")
_ANGLE = Quantity("degree", least=-360.0, most=360.0)


def read_aberrations(value: object) -> dict[str, float]:
    """Check a mapping of aberrations and bring its numbers to Å and degrees.

    Args:
        value: Name -> length or direction, or name -> {C: length, angle: direction}.

    Returns:
        Name -> Å, and phi12, phiA1, ... -> degrees.

    Raises:
        InputError: A name is not known, a value is no length, or a coefficient is given twice.

    >>> read_aberrations({"C30": "1 um", "C12": {"C": "2 nm", "angle": "45 deg"}})
    {'C30': 10000.0, 'C12': 20.0, 'phi12': 45.0}
    """
    if not isinstance(value, Mapping):
        raise InputError(f"{value!r} is not a mapping of aberrations; give for example {{C30: 1 um, C12a: 2 nm}}")
    read: dict[str, float] = {}
    for name, entry in value.items():
        parts = _read_one(str(name), entry)
        if twice := [part for part in parts if part in read]:
            raise InputError(f"'{twice[0]}' is given twice; keep one")
        read |= parts
    _refuse_two_spellings(list(read))
    return read


def lens_coefficients(aberrations: Mapping[str, float]) -> dict[str, float]:
    """The mapping that `stemjax.optics.aberrations.make_aberrations` takes: Å and radians.

    >>> lens_coefficients({"C12": 20.0, "phi12": 180.0})
    {'C12': 20.0, 'phi12': 3.141592653589793}
    """
    return {name: math.radians(value) if name in _ANGLE_OF else value for name, value in aberrations.items()}


def coefficient(name: str) -> str:
    """The Krivanek coefficient that a name belongs to.

    >>> coefficient("C12a"), coefficient("phi12"), coefficient("A1"), coefficient("Cs")
    ('C12', 'C12', 'C12', 'C30')
    """
    return _COEFFICIENT[_ANGLE_OF.get(name, name)]


def _read_one(name: str, entry: object) -> dict[str, float]:
    if name == "defocus":
        raise InputError("unknown aberration 'defocus'; write probe.defocus, or C10 = -defocus here")
    if name not in NAMES:
        raise InputError(f"unknown aberration '{name}'; {nearest(name, NAMES)}")
    try:
        if isinstance(entry, Mapping):
            return _read_polar(name, entry)
        return {name: float((_ANGLE if name in _ANGLE_OF else _LENGTH).read(entry))}
    except InputError as error:
        raise InputError(f"'{name}': {error}") from None


def _read_polar(name: str, entry: Mapping[Any, Any]) -> dict[str, float]:
    if name not in DIRECTED and name not in _HAIDER:
        raise InputError("it has no size and direction of its own; give one value")
    if set(entry) - {"C", "angle"} or "C" not in entry:
        raise InputError(f"{dict(entry)!r} is not a size and a direction; give {{C: 2 nm, angle: 45 deg}}")
    angle = "phi" + (name[1:] if name in DIRECTED else name)
    return {name: float(_LENGTH.read(entry["C"])), angle: float(_ANGLE.read(entry.get("angle", 0.0)))}


def _refuse_two_spellings(names: list[str]) -> None:
    """Two spellings of one coefficient would have to be added or ranked, and nobody could tell which was meant."""
    forms: dict[str, str] = {}
    for name in names:
        owner = _ANGLE_OF.get(name, name)
        if owner not in names:
            raise InputError(f"'{name}' has no size beside it; add '{owner}: 2 nm'")
        form = "Cartesian" if owner in _CARTESIAN else owner
        if forms.setdefault(coefficient(owner), form) != form:
            same = [other for other in names if coefficient(other) == coefficient(owner)]
            raise InputError(f"{coefficient(owner)} is given in two ways ({', '.join(same)}); keep one")


Aberrations = Annotated[
    dict[str, float],
    Parsed(
        read_aberrations,
        (
            ("type", "object"),
            ("propertyNames", {"enum": list(NAMES)}),
            ("additionalProperties", {"anyOf": [{"type": ["number", "string"]}, {"type": "object"}]}),
            ("x-unit", "Å"),
        ),
    ),
]
