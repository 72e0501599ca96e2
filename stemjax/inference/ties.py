"""Leaves that follow other leaves, and so are no unknowns of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from stemjax.core.errors import InputError, nearest
from stemjax.core.paths import leaves, matching, replace
from stemjax.core.typing import Array


class Tie(Protocol):
    """How a leaf follows another: where from, and as what."""

    source: str

    def __call__(self, value: Array) -> Array:
        """The tied leaf from the leaf at `source`."""
        ...


@dataclass(frozen=True)
class Equal:
    """A leaf that is the same as another.

    Args:
        source: Path of the leaf that it follows.

    >>> float(Equal("probe.semiangle")(jnp.array(2.0)))
    2.0
    """

    source: str

    def __call__(self, value: Array) -> Array:
        """The value itself."""
        return value


@dataclass(frozen=True)
class Offset:
    """A leaf that differs from another by a known amount, such as the defoci of a focal series.

    Args:
        source: Path of the leaf that it follows.
        by: What is added, in the unit of the leaf.

    >>> float(Offset("first.probe.aberrations.C10", 100.0)(jnp.array(20.0)))
    120.0
    """

    source: str
    by: float

    def __call__(self, value: Array) -> Array:
        """value + by."""
        return value + self.by


@dataclass(frozen=True)
class Scaled:
    """A leaf that is a known multiple of another, such as the dose of a frame that took twice as long.

    Args:
        source: Path of the leaf that it follows.
        by: The factor.

    >>> float(Scaled("first.dose", 2.0)(jnp.array(20.0)))
    40.0
    """

    source: str
    by: float

    def __call__(self, value: Array) -> Array:
        """by · value."""
        return self.by * value


@dataclass(frozen=True)
class Follow:
    """A leaf that is any differentiable function of another.

    Args:
        source: Path of the leaf that it follows.
        function: From the value there to the value here; a named function, so that programs are not compiled again.

    >>> float(Follow("a", jnp.sqrt)(jnp.array(9.0)))
    3.0
    """

    source: str
    function: Callable[[Array], Array]

    def __call__(self, value: Array) -> Array:
        """function(value)."""
        return self.function(value)


Ties = tuple[tuple[str, Any], ...]
"""Tied leaves and how each follows its source; hashable."""


def make_ties(model: Any, wanted: Mapping[str, Any]) -> Ties:
    """Ties whose leaves exist and agree in shape, inner nodes opened into their leaves.

    Args:
        model: The model.
        wanted: Tie by path of the leaf that follows; a plain path stands for `Equal`. An inner node follows an inner
            node leaf by leaf.

    Raises:
        InputError: A leaf does not exist, follows itself or another tied leaf, or differs in shape from what it
            follows.

    >>> make_ties({"a": jnp.ones(2), "b": jnp.zeros(2)}, {"b": "a"})
    (('b', Equal(source='a')),)
    """
    known, found = leaves(model), dict[str, Any]()
    for path, given in wanted.items():
        tie = Equal(given) if isinstance(given, str) else given
        for leaf in matching(known, [path]):
            found[leaf] = _moved(tie, path, leaf, known)
    for leaf, tie in found.items():
        if tie.source in found:
            raise InputError(f"'{leaf}' follows '{tie.source}', which is tied itself; tie both to one free leaf")
        there, here = jax.eval_shape(tie, jnp.asarray(known[tie.source])).shape, jnp.shape(known[leaf])
        if there != here:
            raise InputError(f"'{leaf}' has shape {here} and would follow '{tie.source}' with shape {there}")
    return tuple(found.items())


def follow(model: Any, ties: Ties) -> Any:
    """The model with every tied leaf where its source puts it.

    >>> follow({"a": 1.0, "b": 2.0}, (("b", Offset("a", 1.5)),))
    {'a': 1.0, 'b': 2.5}
    """
    if not ties:
        return model
    known = leaves(model)
    return replace(model, {leaf: tie(known[tie.source]) for leaf, tie in ties})


def within(path: str, owners: Iterable[str]) -> bool:
    """Whether a path is one of some paths or lies below one.

    >>> within("a.b", ["a"]), within("ab", ["a"])
    (True, False)
    """
    return any(path == owner or path.startswith(owner + ".") for owner in owners)


def _moved(tie: Any, path: str, leaf: str, known: Mapping[str, Any]) -> Any:
    """The tie of one leaf below an inner node that follows another."""
    import dataclasses

    source = tie.source + leaf[len(path) :] if leaf.startswith(path + ".") else tie.source
    if source not in known:
        raise InputError(f"'{leaf}' cannot follow '{source}', which is no leaf; {nearest(source, known)}")
    if source == leaf:
        raise InputError(f"'{leaf}' cannot follow itself; name another leaf")
    return dataclasses.replace(tie, source=source)
