"""What a person writes of a free leaf, and the prior that it becomes once the leaf is known.

| written | prior |
| --- | --- |
| `100 Å` | normal, that standard deviation about the first guess; log-normal for a scale (dose, semiangle, ...) |
| `5 %` | the same, in parts of the first guess |
| `flat` | none; for a scale only that it is positive |
| `{uniform: [50, 70]}` | uniform |
| `{smooth: 0.1}`, `{total_variation: auto}`, `{random_walk: auto}`, `{sparse: auto}` | differences of neighbours |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from stemjax.core.annotations import Meaning
from stemjax.core.errors import InputError, nearest
from stemjax.core.quantity import Parsed
from stemjax.core.units import to_unit

AUTO = "auto"
"""Stands for a strength that the data decide."""

SHAPES = ("smooth", "total_variation", "random_walk", "sparse")
"""Priors on a whole array, by their strength."""

FORMS = ("uniform", *SHAPES)
"""Everything that may stand in a mapping."""


@dataclass(frozen=True)
class Belief:
    """What is believed of a leaf before the data, as written.

    Args:
        form: "spread", "percent", "flat", or one of `FORMS`.
        value: Text or number with or without a unit, a pair of them, or "auto".
    """

    form: str
    value: Any = None


def read_beliefs(value: object) -> dict[str, Any]:
    """Check a mapping from paths of leaves to what is believed of them; units are checked when the leaf is known.

    Returns:
        The mapping as it was written; `read_belief` reads an entry.

    Raises:
        InputError: An entry is none of the forms.

    >>> read_beliefs({"dose": "5 %", "scan.positions": 0.1})
    {'dose': '5 %', 'scan.positions': 0.1}
    """
    if not isinstance(value, Mapping) or not value:
        raise InputError(f"{value!r} frees nothing; give paths of leaves such as {{probe.aberrations.C10: 100 Å}}")
    found: dict[str, Any] = {}
    for path, entry in value.items():
        try:
            read_belief(entry)
        except InputError as error:
            raise InputError(f"'{path}': {error}") from None
        found[str(path)] = dict(entry) if isinstance(entry, Mapping) else entry
    return found


def read_belief(entry: Any) -> Belief:
    """What is believed of one leaf.

    >>> read_belief("5 %")
    Belief(form='percent', value=0.05)
    """
    if entry == "flat":
        return Belief("flat")
    if isinstance(entry, str) and entry.rstrip().endswith("%"):
        share = to_unit(entry, "1")
        if not share > 0:
            raise InputError(f"'{entry}' leaves no room; give a positive percentage, such as 5 %")
        return Belief("percent", share)
    if isinstance(entry, Mapping):
        return _read_form(entry)
    if isinstance(entry, str | int | float) and not isinstance(entry, bool):
        return Belief("spread", entry)
    raise InputError(
        f"{entry!r} is no belief; give a standard deviation (10 Å, 5 %), flat, or {{uniform: [low, high]}}"
    )


def _read_form(entry: Mapping[Any, Any]) -> Belief:
    if len(entry) != 1 or (form := str(next(iter(entry)))) not in FORMS:
        hint = nearest(str(next(iter(entry), "")), FORMS)
        raise InputError(f"{dict(entry)!r} is no prior; {hint}; give for example {{uniform: [50, 70]}}")
    value = entry[form]
    if form == "uniform" and not (isinstance(value, list | tuple) and len(value) == 2):
        raise InputError(f"uniform: {value!r} are no bounds; give [low, high]")
    return Belief(form, tuple(value) if form == "uniform" else value)


def prior_of(path: str, belief: Belief, guess: Any, meaning: Meaning) -> Any:
    """The prior of a leaf, or None for none.

    Args:
        path: Path of the leaf.
        belief: What was written.
        guess: The first guess.
        meaning: Unit of the leaf, and whether it is a scale.

    Raises:
        InputError: A unit does not fit the leaf, a spread is not positive, or a share of zero is asked for.
    """
    try:
        return _prior(belief, np.asarray(guess), meaning)
    except InputError as error:
        raise InputError(f"free.{path}: {error}") from None


def _prior(belief: Belief, guess: np.ndarray, meaning: Meaning) -> Any:
    from numpyro.distributions import Uniform

    if belief.form == "flat":
        return _flat(guess, meaning)
    if belief.form == "uniform":
        low, high = (to_unit(end, meaning.unit) for end in belief.value)
        if not high > low:
            raise InputError(f"uniform: [{low:g}, {high:g}] is empty; give [low, high] with high > low")
        return Uniform(low, high)
    if belief.form in SHAPES:
        return _shape(belief, meaning)
    spread = belief.value * np.abs(guess) if belief.form == "percent" else to_unit(belief.value, meaning.unit)
    if not np.all(spread > 0):
        why = "the first guess is zero there, so no percentage of it is; give a spread with a unit"
        raise InputError(why if belief.form == "percent" else f"a spread of {spread:g}; give a positive one")
    return _about(guess, spread, meaning)


def _about(guess: np.ndarray, spread: Any, meaning: Meaning) -> Any:
    from numpyro.distributions import LogNormal, Normal

    if meaning.positive:
        return LogNormal(np.log(guess), np.broadcast_to(spread / guess, guess.shape))
    return Normal(guess, np.broadcast_to(spread, guess.shape))


def _flat(guess: np.ndarray, meaning: Meaning) -> Any:
    from stemjax.inference.priors.images import Positive

    return Positive(0.1 * float(guess.mean())) if meaning.positive else None


def _shape(belief: Belief, meaning: Meaning) -> Any:
    from stemjax.inference.priors.images import Smooth, Sparse, TotalVariation
    from stemjax.inference.priors.paths import RandomWalk

    kinds = {"smooth": Smooth, "total_variation": TotalVariation, "random_walk": RandomWalk, "sparse": Sparse}
    if belief.value == AUTO:
        return kinds[belief.form](None)
    # The strength of a random walk is a length per root of a second; it is written as a length.
    scale = to_unit(belief.value, meaning.unit)
    if not scale > 0:
        raise InputError(f"{belief.form}: a strength of {scale:g}; give a positive one, or auto")
    return kinds[belief.form](scale)


Beliefs = Annotated[
    dict[str, Any],
    Parsed(
        read_beliefs,
        (("type", "object"), ("minProperties", 1), ("additionalProperties", {"type": ["number", "string", "object"]})),
    ),
]


def read_changes(value: object) -> dict[str, Any]:
    """Check a mapping from paths of leaves to how the truth differs from the first guess.

    >>> read_changes({"probe.aberrations.C10": "50 Å", "scan.positions": {"rms": "0.05 Å"}})["scan.positions"]
    {'rms': '0.05 Å'}
    """
    if not isinstance(value, Mapping):
        raise InputError(f"{value!r} changes no leaf; give a mapping such as {{probe.aberrations.C10: 50 Å}}")
    for path, entry in value.items():
        if isinstance(entry, Mapping) and set(entry) in ({"rms"}, {"add"}):
            continue
        if isinstance(entry, bool) or not isinstance(entry, str | int | float):
            raise InputError(f"'{path}': {entry!r} is no change; give a value, {{add: 10 Å}} or {{rms: 0.05 Å}}")
    return {str(path): dict(entry) if isinstance(entry, Mapping) else entry for path, entry in value.items()}


def changed(guess: Any, change: Any, unit: str, random: np.random.Generator) -> np.ndarray:
    """A leaf of the truth from the first guess: another value, a difference, or random differences.

    >>> changed(np.zeros(2), {"add": "1 nm"}, "Å", np.random.default_rng(0)).tolist()
    [10.0, 10.0]
    """
    array = np.asarray(guess)
    if isinstance(change, Mapping):
        size = to_unit(next(iter(change.values())), unit)
        return array + (size if "add" in change else size * random.standard_normal(array.shape))
    return np.full(array.shape, to_unit(change, unit), array.dtype)


Changes = Annotated[
    dict[str, Any],
    Parsed(read_changes, (("type", "object"), ("additionalProperties", {"type": ["number", "string", "object"]}))),
]
