"""Types for pydantic models: numbers with a unit that a person writes, checked and converted at the door.

A field ``energy: Energy`` takes ``80e3``, ``"80e3"`` or ``"80 keV"``; what is stored is the number in the package's
unit. The refusals say what is wanted, and the JSON schema tells an editor the unit and the range.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema, core_schema

from stemjax.core.errors import InputError, nearest
from stemjax.core.units import to_unit, wanted

_YES = ("true", "yes", "on")
_NO = ("false", "no", "off")


class Settings(BaseModel):
    """What a person may write in one mapping: frozen, no unknown keys; a field's docstring is its documentation."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _empty_section(cls, value: Any) -> Any:
        """A section with every line commented out is null in YAML; it means the defaults."""
        return {} if value is None else value


@dataclass(frozen=True)
class Quantity:
    """The rule of one number: its unit, its range, whether it is whole, and the words that may stand in its place.

    Args:
        unit: The unit in which plain numbers are taken and the value is kept; "1" for none.
        above: The value must be larger than this [unit].
        least: The smallest value allowed [unit].
        most: The largest value allowed [unit].
        whole: Whether it must be a whole number.
        words: Words that are allowed as they are, such as "auto".

    >>> Quantity("eV", least=1e3).read("80 keV")
    80000.0
    """

    unit: str
    above: float | None = None
    least: float | None = None
    most: float | None = None
    whole: bool = False
    words: tuple[str, ...] = ()

    def read(self, value: object) -> Any:
        """The value in `unit`, or one of `words`; an `InputError` says what would be right."""
        if isinstance(value, str) and value in self.words:
            return value
        try:
            number = to_unit(value, self.unit)
        except InputError as error:
            plain = str(error).partition("; ")[0].replace("not a number", self._noun()) if self.unit == "1" else ""
            raise InputError(f"{f'{plain}; give {self._range()}' if plain else error}{self._or_words()}") from None
        if self.whole and number != int(number):
            raise InputError(f"{number:g} is not a whole number; give {self._range()}")
        if self._outside(number):
            raise InputError(f"{self._shown(number)} is out of range; give {self._range()}{self._or_words()}")
        return int(number) if self.whole else number

    def pair(self, value: object) -> tuple[Any, Any]:
        """Two values (y, x) from a list of two, or from one value that stands for both."""
        if isinstance(value, list | tuple):
            if len(value) != 2:
                raise InputError(f"{list(value)} has {len(value)} entries; give two, [y, x], or one for both")
            return self.read(value[0]), self.read(value[1])
        single = self.read(value)
        return single, single

    def _outside(self, number: float) -> bool:
        return (
            (self.above is not None and number <= self.above)
            or (self.least is not None and number < self.least)
            or (self.most is not None and number > self.most)
        )

    def _shown(self, number: float) -> str:
        return f"{number:g}" if self.unit == "1" else f"{number:g} {self.unit}"

    def _range(self) -> str:
        limits = [(">", self.above), (">=", self.least), ("<=", self.most)]
        text = " and ".join(f"{sign} {limit:g}" for sign, limit in limits if limit is not None)
        kind = "a whole number" if self.whole else "a number"
        unit = "" if self.unit == "1" else f" {self.unit}, or {wanted(self.unit).split(' or ')[1]}"
        return f"{kind} {text}{unit}".strip()

    def _noun(self) -> str:
        return "not a whole number" if self.whole else "not a number"

    def _or_words(self) -> str:
        return "".join(f", or '{word}'" for word in self.words)

    def schema(self) -> dict[str, Any]:
        """The JSON schema of a value: a number with its range, text with a unit, or one of `words`."""
        number: dict[str, Any] = {"type": "integer" if self.whole else "number"}
        names = {"exclusiveMinimum": self.above, "minimum": self.least, "maximum": self.most}
        number |= {name: limit for name, limit in names.items() if limit is not None}
        if self.unit == "1" and not self.words:
            return number
        text = {"type": "string"} if self.unit != "1" else {"enum": list(self.words)}
        return {"anyOf": [number, text]} | ({} if self.unit == "1" else {"x-unit": self.unit})

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return self.schema()


@dataclass(frozen=True, eq=False)
class Parsed:
    """A value read by a function, with the JSON schema of what that function takes."""

    read: Callable[[Any], Any]
    json_schema: tuple[tuple[str, Any], ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return dict(self.json_schema)


def both(rule: Quantity) -> Parsed:
    """The rule of a pair (y, x): a list of two, or one value for both."""
    one = rule.schema()
    two = {"type": "array", "items": one, "minItems": 2, "maxItems": 2}
    unit = (("x-unit", rule.unit),) if rule.unit != "1" else ()
    return Parsed(rule.pair, (("anyOf", [one, two]), *unit))


def read_flag(value: object) -> bool:
    """A switch: true or false; YAML's older words yes, no, on and off too.

    >>> read_flag("off")
    False
    """
    word = str(value).lower()
    if isinstance(value, bool | str) and word in _YES + _NO:
        return word in _YES
    raise InputError(f"{_given(value)} is not a switch; give true or false")


def one_of(*words: str) -> Parsed:
    """The rule of a choice between words; a misspelt one is refused with the nearest."""

    def read(value: object) -> str:
        if value in words:
            return str(value)
        choices = " or ".join(repr(word) for word in words)
        hint = nearest(value, words) + "; " if isinstance(value, str) else ""
        raise InputError(f"{_given(value)} is not one of the choices; {hint}give {choices}")

    return Parsed(read, (("enum", list(words)),))


def read_text(value: object) -> str:
    """Text; numbers are not taken for text, since a forgotten quote is a likelier story."""
    if isinstance(value, str) and value.strip() and "\0" not in value:
        return value
    raise InputError(f"{_given(value)} is not text; give a word or a name in quotes")


def _given(value: object) -> str:
    return "no value" if value is None else repr(value)


_POSITIVE_LENGTH = Quantity("Å", above=0.0)
_COUNT = Quantity("1", least=1, most=1e9, whole=True)

Length = Annotated[float, Quantity("Å")]
PositiveLength = Annotated[float, _POSITIVE_LENGTH]
LengthFromZero = Annotated[float, Quantity("Å", least=0.0)]
LengthPair = Annotated[tuple[float, float], both(_POSITIVE_LENGTH)]
LengthOrAuto = Annotated[float | Literal["auto"], Quantity("Å", words=("auto",))]
Energy = Annotated[float, Quantity("eV", least=1e3, most=5e6)]
Angle = Annotated[float, Quantity("mrad", above=0.0, most=1000.0)]
AngleFromZero = Annotated[float, Quantity("mrad", least=0.0, most=1000.0)]
AnglePair = Annotated[tuple[float, float], both(Quantity("mrad", above=0.0, most=1000.0))]
SignedAnglePair = Annotated[tuple[float, float], both(Quantity("mrad", least=-500.0, most=500.0))]
Degrees = Annotated[float, Quantity("degree", least=-360.0, most=360.0)]
Dose = Annotated[float, Quantity("e/Å^2", above=0.0, most=1e15)]
Electrons = Annotated[float, Quantity("electron", above=0.0, most=1e15)]
Gain = Annotated[float, Quantity("electron/count", above=0.0)]
Seconds = Annotated[float, Quantity("s", above=0.0)]
SecondsFromZero = Annotated[float, Quantity("s", least=0.0)]
SpeedPair = Annotated[tuple[float, float], both(Quantity("Å/s"))]
PicoAmpere = Annotated[float, Quantity("pA", above=0.0, most=1e6)]
EnergyLoss = Annotated[float, Quantity("eV", least=-1e3, most=1e5)]
EnergyWidth = Annotated[float, Quantity("eV", least=0.0, most=1e5)]
Number = Annotated[float, Quantity("1")]
NumberFromZero = Annotated[float, Quantity("1", least=0.0)]
Share = Annotated[float, Quantity("1", least=0.0, most=0.5)]
PositiveNumber = Annotated[float, Quantity("1", above=0.0)]
Count = Annotated[int, _COUNT]
CountFromZero = Annotated[int, replace(_COUNT, least=0)]
SignedCount = Annotated[int, replace(_COUNT, least=-1e3, most=1e3)]
NumberPair = Annotated[tuple[float, float], both(Quantity("1"))]
PositiveNumberPair = Annotated[tuple[float, float], both(Quantity("1", above=0.0))]
CountPair = Annotated[tuple[int, int], both(_COUNT)]
Flag = Annotated[bool, Parsed(read_flag, (("type", "boolean"),))]
Text = Annotated[str, Parsed(read_text, (("type", "string"),))]
