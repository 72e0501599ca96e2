"""Kinds of entries that only a simulation has: crystal directions, rings, segments, values by element."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from stemjax.core.errors import InputError, nearest
from stemjax.core.quantity import Parsed, Quantity

_WHOLE = Quantity("1", least=-20, most=20, whole=True)
_COUNT = Quantity("1", least=1, most=360, whole=True)
_LENGTH = Quantity("Å")
_SIZE = Quantity("Å", least=0.0)
_AREA = Quantity("Å^2", least=0.0)
_FRACTION = Quantity("1", least=0.0, most=1.0)
_ANGLE = Quantity("mrad", least=0.0, most=1000.0)
_TURN = Quantity("degree", least=-360.0, most=360.0)
_DEPTH = Quantity("Å", above=0.0)


def read_zone_axis(value: object) -> tuple[int, int, int]:
    """Three whole numbers [u, v, w], not all zero.

    >>> read_zone_axis([1, 1, 0])
    (1, 1, 0)
    """
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise InputError(f"{value!r} is not a zone axis; give three whole numbers such as [0, 0, 1]")
    u, v, w = (_WHOLE.read(entry) for entry in value)
    if u == v == w == 0:
        raise InputError("[0, 0, 0] is no direction; give three whole numbers such as [0, 0, 1]")
    return u, v, w


def read_points(value: object) -> tuple[tuple[float, float], ...]:
    """A list of points [y, x] in Å."""
    if not isinstance(value, list | tuple) or not all(isinstance(p, list | tuple) and len(p) == 2 for p in value):
        raise InputError(f"{value!r} is not a list of points; give [[y, x], ...] in Å such as [[12.0, 8.5]]")
    return tuple(_LENGTH.pair(point) for point in value)


def read_rings(value: object) -> dict[str, tuple[float, float]]:
    """Annular detectors: name -> [inner, outer] in mrad.

    >>> read_rings({"HAADF": [60, "0.2 rad"]})
    {'HAADF': (60.0, 200.0)}
    """
    return {name: _ring(name, pair) for name, pair in _named(value, "{HAADF: [60, 200]}").items()}


def _ring(name: str, pair: object) -> tuple[float, float]:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise InputError(f"'{name}': {pair!r} is not a ring; give [inner, outer] in mrad such as [60, 200]")
    inner, outer = (_ANGLE.read(angle) for angle in pair)
    if outer <= inner:
        raise InputError(f"'{name}': [{inner:g}, {outer:g}] is empty; give [inner, outer] with outer > inner")
    return inner, outer


def read_segments(value: object) -> dict[str, dict[str, Any]]:
    """Segmented detectors: name -> {rings: edges [mrad], sectors, rotation [degree]}.

    >>> read_segments({"DPC": {"rings": [0, 20], "sectors": 4}})
    {'DPC': {'rings': (0.0, 20.0), 'sectors': 4, 'rotation': 0.0}}
    """
    example = "{DPC: {rings: [0, 20], sectors: 4}}"
    found = {}
    for name, entry in _named(value, example).items():
        if not isinstance(entry, Mapping) or "rings" not in entry:
            raise InputError(f"'{name}': {entry!r} is no segmented detector; give for example {example}")
        if unknown := sorted(set(entry) - {"rings", "sectors", "rotation"}):
            raise InputError(f"'{name}': {nearest(str(unknown[0]), ['rings', 'sectors', 'rotation'])}; give {example}")
        edges = entry["rings"]
        if not isinstance(edges, list | tuple) or len(edges) < 2:
            raise InputError(f"'{name}': rings {edges!r} are no edges; give two or more in mrad such as [0, 10, 20]")
        edges = tuple(_ANGLE.read(edge) for edge in edges)
        if any(b <= a for a, b in itertools.pairwise(edges)):
            raise InputError(f"'{name}': edges {list(edges)} do not rise; give them from the inside out")
        sectors, turn = _COUNT.read(entry.get("sectors", 4)), _TURN.read(entry.get("rotation", 0.0))
        found[name] = {"rings": edges, "sectors": sectors, "rotation": turn}
    return found


def read_masks(value: object) -> dict[str, str]:
    """Virtual detectors: name -> file of an array.

    >>> read_masks({"mine": "mask.npy"})
    {'mine': 'mask.npy'}
    """
    found = _named(value, "{mine: mask.npy}")
    for name, entry in found.items():
        if not isinstance(entry, str) or not entry.strip():
            raise InputError(f"'{name}': {entry!r} is not a file; give for example {{mine: mask.npy}}")
    return found


def by_element(unit: Quantity, example: str) -> Callable[[object], dict[str, float]]:
    """A reader of {element: value}."""

    def read(value: object) -> dict[str, float]:
        from ase.data import atomic_numbers

        found = {}
        for name, entry in _named(value, example).items():
            if name not in atomic_numbers or name == "X":
                raise InputError(f"'{name}' is no element; {nearest(name, atomic_numbers)}; give for example {example}")
            found[name] = unit.read(entry)
        return found

    return read


def read_displacement(value: object) -> float | dict[str, float]:
    """One displacement for all atoms, or one for each element [Å].

    >>> read_displacement("0.1 nm"), read_displacement({"O": 0.08})
    (1.0, {'O': 0.08})
    """
    if isinstance(value, Mapping):
        return by_element(_SIZE, "{O: 0.08}")(value)
    return _SIZE.read(value)


def read_dopants(value: object) -> dict[str, dict[str, Any]]:
    """Dopants: element -> {replaces: element, fraction}.

    >>> read_dopants({"La": {"replaces": "Sr", "fraction": 0.1}})
    {'La': {'replaces': 'Sr', 'fraction': 0.1}}
    """
    from ase.data import atomic_numbers

    example = "{La: {replaces: Sr, fraction: 0.1}}"
    found = {}
    for name, entry in _named(value, example).items():
        if not isinstance(entry, Mapping) or set(entry) != {"replaces", "fraction"}:
            raise InputError(f"'{name}': {entry!r} is no dopant; give for example {example}")
        for element in (name, entry["replaces"]):
            if element not in atomic_numbers or element == "X":
                raise InputError(f"'{element}' is no element; give for example {example}")
        found[name] = {"replaces": entry["replaces"], "fraction": _FRACTION.read(entry["fraction"])}
    return found


def read_lengths(value: object) -> tuple[float, ...]:
    """A list of lengths in Å, such as depths or defoci."""
    if not isinstance(value, list | tuple):
        raise InputError(f"{value!r} is not a list of lengths; give for example [5 nm, 10 nm]")
    return tuple(_LENGTH.read(entry) for entry in value)


def read_depths(value: object) -> tuple[float, ...]:
    """A list of depths in Å, above zero."""
    if not isinstance(value, list | tuple):
        raise InputError(f"{value!r} is not a list of depths; give for example [5 nm, 10 nm]")
    return tuple(_DEPTH.read(entry) for entry in value)


def read_turns(value: object) -> tuple[float, ...]:
    """A list of angles in degree, one a frame."""
    if not isinstance(value, list | tuple) or not value:
        raise InputError(f"{value!r} is not a list of angles; give for example [0, 90]")
    return tuple(_TURN.read(entry) for entry in value)


def read_words(value: object) -> tuple[str, ...]:
    """A list of names, such as edges."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list | tuple) or not all(isinstance(v, str) and v.strip() for v in value):
        raise InputError(f"{value!r} is not a list of names; give for example [O_K, Ti_L3]")
    return tuple(value)


def _named(value: object, example: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"{value!r} is not a mapping; give for example {example}")
    for name in value:
        if not isinstance(name, str) or not name.replace("_", "").replace("-", "").replace(" ", "").isalnum():
            raise InputError(f"{name!r} is no name; give letters, digits and '_', for example {example}")
    return dict(value)


def _listed(item: dict[str, Any], least: int = 0, unit: str = "") -> tuple[tuple[str, Any], ...]:
    extra = (("x-unit", unit),) if unit else ()
    return (("type", "array"), ("items", item), *((("minItems", least),) if least else ()), *extra)


_NUMBER_OR_TEXT = {"type": ["number", "string"]}
_RING = {"type": "array", "minItems": 2, "maxItems": 2, "items": _NUMBER_OR_TEXT}
_OBJECT = ("type", "object")
ZoneAxis = Annotated[tuple[int, int, int], Parsed(read_zone_axis, (*_listed({"type": "integer"}, 3), ("maxItems", 3)))]
Points = Annotated[tuple[tuple[float, float], ...], Parsed(read_points, (("type", "array"), ("x-unit", "Å")))]
Rings = Annotated[
    dict[str, tuple[float, float]],
    Parsed(read_rings, (_OBJECT, ("additionalProperties", _RING), ("x-unit", "mrad"))),
]
Segments = Annotated[
    dict[str, dict[str, Any]], Parsed(read_segments, (_OBJECT, ("additionalProperties", {"type": "object"})))
]
Masks = Annotated[dict[str, str], Parsed(read_masks, (_OBJECT, ("additionalProperties", {"type": "string"})))]
Displacement = Annotated[
    float | dict[str, float],
    Parsed(read_displacement, (("anyOf", [{"type": ["number", "string"]}, {"type": "object"}]), ("x-unit", "Å"))),
]
Areas = Annotated[
    dict[str, float],
    Parsed(by_element(_AREA, "{O: 0.6}"), (_OBJECT, ("additionalProperties", _NUMBER_OR_TEXT), ("x-unit", "Å^2"))),
]
Dopants = Annotated[
    dict[str, dict[str, Any]], Parsed(read_dopants, (_OBJECT, ("additionalProperties", {"type": "object"})))
]
Lengths = Annotated[tuple[float, ...], Parsed(read_lengths, _listed(_NUMBER_OR_TEXT, unit="Å"))]
Depths = Annotated[tuple[float, ...], Parsed(read_depths, _listed(_NUMBER_OR_TEXT, unit="Å"))]
Turns = Annotated[tuple[float, ...], Parsed(read_turns, _listed(_NUMBER_OR_TEXT, 1, "degree"))]
Words = Annotated[tuple[str, ...], Parsed(read_words, (("anyOf", [{"type": "array"}, {"type": "string"}]),))]
