"""Changes of the unknowns in words: which leaves move together, by how much, and what can be done about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stemjax.core.annotations import Meaning, axis_names, meanings
from stemjax.inference.vector import Layout

FEW = 16
"""Most elements of a leaf that are spoken of one by one."""
SHORT = 4
"""Longest axis whose places are spoken of one by one (components, slices, modes)."""


@dataclass(frozen=True)
class Direction:
    """A change of the unknowns that moves the data by next to nothing.

    Args:
        parts: Change of every leaf that takes part, in its unit, by path.
        seen: Information along it against that of its leaves on their own: 0 where nothing is seen, 1 where the
            leaves do not depend on each other. Its standard deviation is 1/√seen times that of its parts alone.
        words: What it is, a sentence.
    """

    parts: Mapping[str, np.ndarray]
    seen: float
    words: str

    def __str__(self) -> str:
        return self.words


@dataclass(frozen=True)
class Coordinate:
    """One way in which a leaf can change, and how a person says it.

    Args:
        path: Path of the leaf.
        words: The change, with `{by}` where its size stands.
        change: The change [shape of the leaf], in the unit of the leaf, for a size of one.
        unit: Unit of the size.
    """

    path: str
    words: str
    change: np.ndarray
    unit: str

    def say(self, size: float) -> str:
        """The change of some size: "raising probe.aberrations.C10 by 10 Å"."""
        verb = "raising" if size > 0 else "lowering"
        number = f"{abs(size):.3g}" if self.unit in ("", "1") else f"{abs(size):.3g} {self.unit}"
        return f"{verb} {self.words} by {number}"


def coordinates(
    model: Any, values: Mapping[str, np.ndarray], shape: Layout
) -> tuple[list[Coordinate], list[Coordinate]]:
    """The simple changes of every free leaf.

    Args:
        model: The model, whose annotations tell units and axes.
        values: The free leaves by path.
        shape: Layout of the unknowns.

    Returns:
        Numbers by themselves and arrays as a whole: everywhere by the same, tilted along an axis, in proportion. And,
        secondly, the elements of short arrays.
    """
    known = meanings(model)
    whole: list[Coordinate] = []
    single: list[Coordinate] = []
    for path in shape.shapes:
        value, meaning = np.asarray(values[path], float), known.get(path, Meaning())
        if value.ndim == 0:
            whole.append(_number(path, value, meaning))
            continue
        short = max(value.shape) <= SHORT
        if not short:
            whole += list(_shapes(path, value, meaning))
        if short or value.size <= FEW:
            (whole if short else single).extend(_element(path, value, meaning, i) for i in np.ndindex(*value.shape))
    return whole, single


def sentence(coordinate: list[Coordinate], sizes: np.ndarray, own: np.ndarray, most: int = 5) -> str:
    """What a direction does: "raising a by 1 Å while lowering b by 1 Å".

    Args:
        coordinate: The coordinates.
        sizes: How far each changes, in its unit.
        own: How well the data hold each by itself, in its unit.
        most: Changes to name.
    """
    weight = np.abs(sizes) / own
    order = [int(i) for i in np.argsort(-weight, kind="stable") if weight[i] > 1e-3 * weight.max()]
    first = order[0]
    # A round number, a few times what the data would tell if it were the only unknown.
    round_size = 1.0 if coordinate[first].unit == "%" else 10.0 ** np.floor(np.log10(10.0 * own[first]))
    scaled = sizes * round_size / sizes[first]
    said = [coordinate[i].say(scaled[i]) for i in order[:most]]
    if len(order) > most:
        said.append(f"{len(order) - most} others with them")
    if len(said) == 1:
        return said[0]
    return f"{said[0]} while {_listed(said[1:])}"


def remedy(paths: list[str]) -> str:
    """What to do about a direction of some leaves that the data do not see."""
    if len(set(paths)) == 1:
        return "hold it fixed, give it a prior, or record data that depend on it"
    return "hold one of them fixed, give one a prior, or record data that tell them apart"


def labelled(shape: Layout, number: int) -> str:
    """Name of one unknown.

    >>> labelled(Layout({"a": (), "b": (2,)}, 3), 2)
    'b[1]'
    """
    path, part = next((p, s) for p, s in shape.slices().items() if s.start <= number < s.stop)
    index = np.unravel_index(number - part.start, shape.shapes[path]) if shape.shapes[path] else ()
    return f"{path}[{','.join(map(str, index))}]" if index else path


def _listed(said: list[str]) -> str:
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"


def _number(path: str, value: np.ndarray, meaning: Meaning) -> Coordinate:
    if meaning.positive and value > 0:
        return Coordinate(path, path, value / 100.0, "%")
    return Coordinate(path, path, np.ones(()), meaning.unit)


def _element(path: str, value: np.ndarray, meaning: Meaning, index: tuple[int, ...]) -> Coordinate:
    change = np.zeros(value.shape)
    percent = meaning.positive and value[index] > 0
    change[index] = value[index] / 100.0 if percent else 1.0
    return Coordinate(path, f"{path}[{','.join(map(str, index))}]", change, "%" if percent else meaning.unit)


def _shapes(path: str, value: np.ndarray, meaning: Meaning) -> Iterator[Coordinate]:
    """An array as a whole: everywhere, tilted, in proportion; apart for every place on its short axes."""
    names, basis = axis_names(meaning, value.shape), []
    long = [axis for axis, length in enumerate(value.shape) if length > SHORT]
    for index in np.ndindex(*(1 if axis in long else n for axis, n in enumerate(value.shape))):
        part = tuple(slice(None) if axis in long else place for axis, place in enumerate(index))
        text = ",".join(":" if axis in long else str(place) for axis, place in enumerate(index))
        name = (
            path if all(value.shape[axis] == 1 for axis in range(value.ndim) if axis not in long) else f"{path}[{text}]"
        )
        change = np.zeros(value.shape)
        change[part] = 1.0
        basis.append(change)
        yield Coordinate(path, f"{name} everywhere", change, meaning.unit)
        for axis in long:
            length = value.shape[axis]
            if length < 2:
                continue
            ramp = np.linspace(-0.5, 0.5, length).reshape([length if a == axis else 1 for a in range(value.ndim)])
            tilted = np.zeros(value.shape)
            tilted[part] = np.broadcast_to(ramp, value.shape)[part]
            basis.append(tilted)
            yield Coordinate(path, f"{name} from end to end along {names[axis]}", tilted, meaning.unit)
    flat = np.stack([b.ravel() for b in basis], axis=1)
    left = value.ravel() - flat @ np.linalg.lstsq(flat, value.ravel(), rcond=None)[0]
    if np.linalg.norm(left) > 1e-6 * np.linalg.norm(value):
        yield Coordinate(path, f"all of {path} in proportion", value / 100.0, "%")
