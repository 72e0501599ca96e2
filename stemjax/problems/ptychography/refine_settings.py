"""What is solved for and from when on, and the other entries that are not one number: orientation, crop, checkpoints.

The small language of `refine`: true, false, a first epoch (`10` or "after 10": free once ten epochs are done), or
{from: 10, rate: 0.01}.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, field_serializer

from stemjax.core.errors import InputError, nearest
from stemjax.core.quantity import Degrees, Flag, Parsed, Quantity, Settings, one_of, read_flag
from stemjax.core.units import to_unit
from stemjax.problems.ptychography.aberration_settings import FREE_NAMES

UNKNOWNS = (
    "object", "probe", "aberrations", "defocus", "semiangle", "positions", "affine", "lines", "drift", "descan",
    "thickness", "tilt", "tilts",
)  # fmt: skip
"""What can be solved for."""

_FREE_KEYS = (*FREE_NAMES, "all")
_EPOCH = Quantity("1", least=0, whole=True)
_RATE = Quantity("1", above=0.0)
_HOW = "give true, false, a first epoch such as 'after 10', or {from: 10, rate: 0.01}"


@dataclass(frozen=True)
class Free:
    """A kind of unknown that is solved for.

    Args:
        start: Number of epochs that are done before it is free.
        rate: Its learning rate; None for the default.
    """

    start: int = 0
    rate: float | None = None

    def plain(self) -> Any:
        """As a person writes it."""
        if self.rate is not None:
            return {"from": self.start, "rate": self.rate}
        return f"after {self.start}" if self.start else True


def read_free(value: object) -> Free | None:
    """One entry of `refine`; None where it is not solved for.

    >>> read_free("after 10"), read_free(False)
    (Free(start=10, rate=None), None)
    """
    if isinstance(value, Free):
        return value
    if isinstance(value, Mapping):
        return _read_mapping(value)
    try:
        return Free() if read_flag(value) else None
    except InputError:
        pass
    match = re.fullmatch(r"\s*(?:after\s+)?(\d{1,9})\s*", str(value)) if isinstance(value, int | str) else None
    if match is None:
        raise InputError(f"{'no value' if value is None else repr(value)} says not when it is solved for; {_HOW}")
    return Free(start=int(match[1]))


def _read_mapping(value: Mapping[Any, Any]) -> Free:
    for key in value:
        if key not in ("from", "rate"):
            raise InputError(f"unknown key '{key}'; {nearest(str(key), ('from', 'rate'))}; {_HOW}")
    rate = value.get("rate")
    start = _read_named("from", value.get("from", 0), _EPOCH)
    return Free(start=start, rate=None if rate is None else _read_named("rate", rate, _RATE))


def _read_named(name: str, value: object, rule: Quantity) -> Any:
    try:
        return rule.read(value)
    except InputError as error:
        raise InputError(f"'{name}': {error}") from None


def read_free_aberrations(value: object) -> dict[str, Free]:
    """The aberrations that are solved for; "all" stands for those that are not named.

    >>> read_free_aberrations({"C10": True, "C12": "after 5"})
    {'C10': Free(start=0, rate=None), 'C12': Free(start=5, rate=None)}
    """
    named = isinstance(value, Mapping) and not set(value) <= {"from", "rate"}
    entries: Mapping[Any, Any] = value if named else {"all": value}  # type: ignore[assignment]
    free = {}
    for name, entry in entries.items():
        if name not in _FREE_KEYS:
            raise InputError(f"unknown aberration '{name}'; {nearest(str(name), _FREE_KEYS)}")
        free[str(name)] = read_free(entry)
    return {name: entry for name, entry in free.items() if entry is not None}


def read_rates(value: object) -> dict[str, float]:
    """Learning rates by the kind of unknown."""
    if not isinstance(value, Mapping):
        raise InputError(f"{value!r} is not a mapping; give for example {{object: 0.01, probe: 0.001}}")
    for name in value:
        if name not in UNKNOWNS:
            raise InputError(f"unknown key '{name}'; {nearest(str(name), UNKNOWNS)}")
    return {name: _read_named(name, rate, _RATE) for name, rate in value.items()}


_FREE_SCHEMA = {
    "anyOf": [
        {"type": "boolean"},
        {"type": "integer", "minimum": 0},
        {"type": "string", "pattern": "^after [0-9]+$"},
        {
            "type": "object",
            "properties": {"from": {"type": "integer", "minimum": 0}, "rate": {"type": "number"}},
            "additionalProperties": False,
        },
    ]
}
_FREE_BY_NAME = {
    "type": "object",
    "propertyNames": {"enum": list(_FREE_KEYS)},
    "additionalProperties": _FREE_SCHEMA,
}
FreeOrNot = Annotated[Free | None, Parsed(read_free, tuple(_FREE_SCHEMA.items()))]
FreeAberrations = Annotated[
    dict[str, Free], Parsed(read_free_aberrations, (("anyOf", [*_FREE_SCHEMA["anyOf"], _FREE_BY_NAME]),))
]
_RATE_SCHEMA = {"type": "number", "exclusiveMinimum": 0}
Rates = Annotated[
    dict[str, float],
    Parsed(
        read_rates,
        (
            ("type", "object"),
            ("propertyNames", {"enum": list(UNKNOWNS)}),
            ("additionalProperties", _RATE_SCHEMA),
        ),
    ),
]


class RefineSettings(Settings):
    """What is solved for: true, false, a first epoch ("after 10"), or {from: epoch, rate: learning rate}."""

    object: FreeOrNot = Free()
    """The object, in every pixel and slice."""
    probe: FreeOrNot = None
    """The probe's wave in every pixel, beyond what aberrations can say."""
    aberrations: FreeAberrations = Field(default_factory=dict)
    """The aberrations: all of them, or by name as in {C10: true, C12: after 5}."""
    defocus: FreeOrNot = None
    """The defocus alone (C10)."""
    semiangle: FreeOrNot = None
    """The convergence semi-angle, believed within 2 %."""
    positions: FreeOrNot = None
    """The scan position of every pattern."""
    affine: FreeOrNot = None
    """Scale, rotation and shear of the scan as a whole."""
    lines: FreeOrNot = None
    """A displacement of every line of the scan."""
    drift: FreeOrNot = None
    """A drift of the specimen from line to line, a random walk."""
    descan: FreeOrNot = None
    """The displacement of every pattern on the detector."""
    thickness: FreeOrNot = None
    """The thickness of the slices."""
    tilt: FreeOrNot = None
    """The tilt of the specimen against the beam, the same everywhere."""
    tilts: FreeOrNot = None
    """The tilt of the specimen at every pattern, where it is bent."""

    def rate_of(self, name: str) -> float | None:
        """The learning rate that is written beside an unknown here, if any."""
        entry = getattr(self, name)
        entries = list(entry.values()) if isinstance(entry, dict) else [entry]
        return next((free.rate for free in entries if free is not None and free.rate is not None), None)

    @field_serializer(*(name for name in UNKNOWNS if name != "aberrations"))
    def _plain(self, value: Free | None) -> Any:
        return value.plain() if value is not None else False

    @field_serializer("aberrations")
    def _plain_by_name(self, value: dict[str, Free]) -> Any:
        return {name: free.plain() for name, free in value.items()} or False


class Orientation(Settings):
    """How the scan axes lie on the detector: y and x swapped, then reversed, then turned."""

    rotation: Degrees = 0.0
    """Angle of the scan axes against the detector axes [degree]."""
    transpose: Flag = False
    """Whether the detector's axes are swapped."""
    flip_y: Flag = False
    """Whether the detector's y axis is reversed."""
    flip_x: Flag = False
    """Whether the detector's x axis is reversed."""


def orientation_kind(value: object) -> str:
    """Which of the two forms an orientation has; in angle brackets, as it is no key that a person wrote."""
    return "<mapping>" if isinstance(value, Mapping | Orientation) else "<word>"


def _read_checkpoint(value: object) -> int | float:
    """A whole number is epochs, a time has a unit; as a float of seconds and an int of epochs the two stay apart."""
    if isinstance(value, str) and re.search("[a-z]", value):
        return _read_seconds(value)
    if isinstance(value, float) and not value.is_integer():
        raise InputError(f"{value:g} is neither epochs nor a time; give a whole number of epochs or '{value:g} s'")
    return int(Quantity("1", least=1, whole=True).read(value))


def _read_seconds(value: str) -> float:
    seconds = to_unit(value, "s")
    if seconds <= 0:
        raise InputError(f"{value!r} is out of range; give a whole number of epochs >= 1 or a time such as '60 s'")
    return seconds


def _read_count(value: object) -> int | str:
    return Quantity("1", least=1, most=4096, whole=True, words=("auto",)).read(value)


def _read_passes(value: object) -> int | str:
    return Quantity("1", least=0, most=4096, whole=True, words=("auto",)).read(value)


def _read_range(value: object) -> tuple[int, int] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise InputError(f"{value!r} is not a range; give [first, end], the end not included, such as [0, 64]")
    first, end = (_EPOCH.read(entry) for entry in value)
    if end <= first:
        raise InputError(f"[{first}, {end}] is empty; give [first, end] with end > first")
    return first, end


_RANGE = Parsed(_read_range, (("type", "array"), ("items", {"type": "integer", "minimum": 0}), ("minItems", 2)))


class AxisCrop(Settings):
    """A part of the scan; an axis that is left out is kept whole."""

    y: Annotated[tuple[int, int] | None, _RANGE] = None
    """First row and the row after the last."""
    x: Annotated[tuple[int, int] | None, _RANGE] = None
    """First column and the column after the last."""


Checkpoint = Annotated[int | float, Parsed(_read_checkpoint, (("type", ["integer", "string"]),))]


def _count_schema(least: int) -> tuple[tuple[str, Any], ...]:
    return (("anyOf", [{"type": "integer", "minimum": least, "maximum": 4096}, {"enum": ["auto"]}]),)


CountOrAuto = Annotated[int | Literal["auto"], Parsed(_read_count, _count_schema(1))]
PassesOrAuto = Annotated[int | Literal["auto"], Parsed(_read_passes, _count_schema(0))]
OrientationWord = Annotated[Literal["auto", "as-is"], one_of("auto", "as-is")]
