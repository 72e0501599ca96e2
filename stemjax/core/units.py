"""Quantities as a person writes them: "80 keV", "1.2 um", "1e4 e/nm^2", or a plain number in the documented unit.

The units of the package: Å for lengths, eV for energies, mrad for angles (degree for the rotation of a scan),
electrons, electrons per Å² and seconds.
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from types import MappingProxyType

from stemjax.core.errors import InputError, nearest

Dimension = tuple[tuple[str, int], ...]
"""Exponents of the base dimensions, sorted by name and without zeros: (("electron", 1), ("length", -2))."""

_SYMBOLS: dict[str, dict[str, float]] = {
    "length": {"Å": 1.0, "A": 1.0, "Ang": 1.0, "angstrom": 1.0, "pm": 0.01, "nm": 10.0, "um": 1e4, "μm": 1e4}
    | {"micron": 1e4, "mm": 1e7, "cm": 1e8, "m": 1e10},
    "energy": {"eV": 1.0, "keV": 1e3, "MeV": 1e6, "meV": 1e-3, "V": 1.0, "kV": 1e3, "MV": 1e6},
    "angle": {"mrad": 1.0, "rad": 1e3, "urad": 1e-3, "μrad": 1e-3, "deg": math.pi / 180 * 1e3}
    | {"degree": math.pi / 180 * 1e3, "°": math.pi / 180 * 1e3},
    "electron": {"e": 1.0, "e-": 1.0, "electron": 1.0, "el": 1.0},
    "time": {"s": 1.0, "sec": 1.0, "second": 1.0, "ms": 1e-3, "us": 1e-6, "μs": 1e-6, "min": 60.0, "minute": 60.0}
    | {"h": 3600.0, "hour": 3600.0},
    "current": {"pA": 1.0, "nA": 1e3, "uA": 1e6, "μA": 1e6},
    "pixel": {"px": 1.0, "pixel": 1.0},
    "count": {"count": 1.0, "cts": 1.0, "ADU": 1.0},
}
UNITS = MappingProxyType({name: (dim, size) for dim, names in _SYMBOLS.items() for name, size in names.items()})
"""Every known symbol: its base dimension and its size in the package's unit of that dimension. An accelerating voltage
stands for the energy that it gives an electron."""

_WANTED = MappingProxyType(
    {
        "Å": ("a length", "1.2 nm"),
        "eV": ("an energy", "80 keV"),
        "mrad": ("an angle", "20 mrad"),
        "degree": ("an angle", "90 deg"),
        "electron": ("a number of electrons", "1e4 electrons"),
        "e/Å^2": ("a dose", "1e4 e/Å^2"),
        "electron/count": ("a gain", "1.5 electrons/count"),
        "s": ("a time", "60 s"),
        "Å/s": ("a speed", "0.2 Å/s"),
        "Å^2": ("an area", "0.6 Å^2"),
        "pA": ("a current", "50 pA"),
        "1": ("a number", "0.5"),
    }
)
_NUMBER = r"[+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_QUANTITY = re.compile(rf"({_NUMBER})\s*(.*)", re.DOTALL)
_FACTOR = re.compile(r"([^\W\d_]+-?|°)\s*(?:\^|\*\*)?\s*(-?\d+)?")


@dataclass(frozen=True)
class Unit:
    """A parsed unit: what it measures and its size in the package's units.

    >>> parse_unit("e/nm^2")
    Unit(dimension=(('electron', 1), ('length', -2)), size=0.01)
    """

    dimension: Dimension
    size: float


def parse_unit(text: str) -> Unit:
    """Parse a unit: symbols joined by spaces, `*` or `/`, each with an exponent where it has one.

    Args:
        text: For example "keV", "Å^-1", "e/Å²", "electrons per nm2"; empty or "1" for none.

    Returns:
        Its dimension, and its size in the package's units (Å, eV, mrad, electrons, s).

    Raises:
        InputError: A symbol is not known; the message has the nearest one.

    >>> parse_unit("um").size
    10000.0
    """
    text = _plain(text)
    exponents: dict[str, int] = {}
    size, sign = 1.0, 1
    for part in re.split(r"([/*\s]|\bper\b)", text.replace("**", "^")):
        if part in ("/", "per"):
            sign = -1
        elif part not in ("", "*", " ", "1"):
            dimension, factor, exponent = _parse_factor(part, text)
            exponents[dimension] = exponents.get(dimension, 0) + sign * exponent
            size, sign = size * factor ** (sign * exponent), 1
    return Unit(tuple(sorted((d, n) for d, n in exponents.items() if n)), size)


def to_unit(value: object, unit: str) -> float:
    """A number in a unit, from a number (taken to be in that unit) or from text with or without a unit.

    Args:
        value: For example 80e3, "80e3", "80 keV".
        unit: The unit that is wanted, for example "eV".

    Returns:
        The value in `unit`.

    Raises:
        InputError: Neither a finite number nor text that reads as one, an unknown unit, or a unit of another dimension.

    >>> to_unit("80 keV", "eV"), to_unit("1.2 um", "Å"), to_unit("90 deg", "degree"), to_unit(3, "Å")
    (80000.0, 12000.0, 90.0, 3.0)
    """
    if isinstance(value, str):
        number, symbol = _split(value, unit)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number, symbol = _finite(value, unit), ""
    else:
        given = "no value" if value is None else f"{value!r}"
        raise InputError(f"{given} is not {wanted(unit)}")
    return number if not symbol else _convert(number, symbol, unit, f"'{value}'")


def wanted(unit: str) -> str:
    """What a person should write for a quantity in a unit.

    >>> wanted("eV")
    "an energy; give a number in eV or text with a unit such as '80 keV'"
    """
    noun, example = _WANTED.get(unit, (f"a quantity in {unit}", f"1 {unit}"))
    if unit == "1":
        return f"{noun}; give a plain number such as {example}"
    return f"{noun}; give a number in {unit} or text with a unit such as '{example}'"


def _plain(text: str) -> str:
    """One spelling of what looks the same: superscripts, the two Å, the two µ, the true minus sign."""
    return unicodedata.normalize("NFKC", text).replace("\u2212", "-").strip()


def _parse_factor(part: str, text: str) -> tuple[str, float, int]:
    match = _FACTOR.fullmatch(part)
    if match is None:
        raise InputError(f"'{text}' is not a unit; write it as in 'keV', 'nm' or 'e/Å^2'")
    symbol = _known_symbol(match[1])
    exponent = int(match[2] or 1)
    if abs(exponent) > 4:
        raise InputError(f"'{text}' has the exponent {exponent}, which no unit here needs; write it as in 'e/Å^2'")
    return (*UNITS[symbol], exponent)


def _known_symbol(symbol: str) -> str:
    """The table's spelling of a symbol: plural, or another case where that leaves one meaning ("mev" has two)."""
    for name in (symbol, symbol.removesuffix("s"), symbol.removesuffix("es")):
        if name in UNITS:
            return name
        same = [known for known in UNITS if known.lower() == name.lower()]
        if same and len({UNITS[known] for known in same}) == 1:
            return same[0]
    close = nearest(symbol, UNITS)
    raise InputError(f"unknown unit '{symbol}'" + (f"; {close}" if close.startswith("nearest") else ""))


def _split(text: str, unit: str) -> tuple[float, str]:
    plain = _plain(text)
    match = _QUANTITY.fullmatch(plain)
    if match is not None and match[2].startswith(","):
        raise InputError(f"'{text}' has a comma in its number; write '{plain.replace(',', '.')}'")
    if match is None or match[2].startswith("."):
        raise InputError(f"'{text}' is not {wanted(unit)}")
    return _finite(float(match[1].replace("_", "")), unit), match[2]


def _finite(value: float, unit: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"{number} is not finite; {wanted(unit).split('; ')[1]}")
    return number


def _convert(number: float, symbol: str, unit: str, given: str) -> float:
    if unit == "1" and symbol == "%":
        return number / 100
    target = parse_unit(unit)
    try:
        source = parse_unit(symbol)
    except InputError as error:
        raise InputError(f"{given}: {error}; {wanted(unit).split('; ')[1]}") from None
    if source.dimension != target.dimension:
        raise InputError(f"{given} is {_noun(source.dimension)}, not {wanted(unit)}")
    # "90 deg" in degree must be 90 exactly, not 90 times a ratio that is one in exact arithmetic only.
    return number * source.size if target.size == 1.0 else number * (source.size / target.size)


def _noun(dimension: Dimension) -> str:
    for unit, (noun, _) in _WANTED.items():
        if parse_unit(unit).dimension == dimension:
            return noun
    return " ".join(f"{name}^{power}" if power != 1 else name for name, power in dimension)
