"""Units and axes of the leaves of a pytree, read from the annotations of its classes.

The one place where a unit is written is the class: ``positions: Annotated[Float[Array, "pattern 2"], "Å"]``. A mark
`POSITIVE` beside the unit says that a leaf is a scale: zero and below mean nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from stemjax.core.typing import POSITIVE, Annotated


@dataclasses.dataclass(frozen=True)
class Meaning:
    """What a leaf is, from its annotation.

    Args:
        unit: Unit in plain text, "1" where none is written.
        axes: Names of its axes, empty where none are written.
        positive: Whether it is a scale that must stay above zero.
    """

    unit: str = "1"
    axes: tuple[str, ...] = ()
    positive: bool = False


def meanings(tree: Any) -> dict[str, Meaning]:
    """The meaning of every leaf by its dotted path.

    A unit holds for all leaves below the field that it is written at, until a class below says otherwise.

    >>> from flax import struct
    >>> from stemjax.core.typing import real
    >>> class Lens(struct.PyTreeNode):
    ...     defocus: Annotated[Any, "Å"]
    ...     weight: Any
    >>> meanings({"lens": Lens(real(1.0), real(2.0))})["lens.defocus"].unit
    'Å'
    """
    return dict(_walk(tree, "", Meaning()))


def axis_names(meaning: Meaning, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Names of the axes of a leaf: those of its annotation where they fit, else `axis0`, `axis1`, ...

    >>> axis_names(Meaning(axes=("pattern", "2")), (5, 2)), axis_names(Meaning(), (3,))
    (('pattern', 'component'), ('axis0',))
    """
    if len(meaning.axes) == len(shape):
        return tuple("component" if axis.isdigit() else axis for axis in meaning.axes)
    return tuple(f"axis{i}" for i in range(len(shape)))


def _walk(node: Any, path: str, meaning: Meaning) -> Iterator[tuple[str, Meaning]]:
    if node is None:
        return
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        own = _fields(type(node))
        for name, stated in own.items():
            yield from _walk(getattr(node, name), _join(path, name), stated or meaning)
    elif isinstance(node, Mapping):
        for name in sorted(node):
            yield from _walk(node[name], _join(path, str(name)), meaning)
    elif isinstance(node, tuple) and hasattr(node, "_fields"):
        for name, value in zip(node._fields, node, strict=True):
            yield from _walk(value, _join(path, name), meaning)
    elif isinstance(node, list | tuple):
        for number, value in enumerate(node):
            yield from _walk(value, _join(path, str(number)), meaning)
    else:
        for below, _ in jax.tree_util.tree_leaves_with_path(node):
            yield ".".join([path, *map(str, below)]).strip("."), meaning


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


@functools.cache
def _fields(kind: type) -> dict[str, Meaning | None]:
    """Fields of a class that hold leaves, with what their annotation says; None where it says nothing."""
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except (NameError, TypeError):
        hints = {}
    nodes = [f.name for f in dataclasses.fields(kind) if f.metadata.get("pytree_node", True)]
    return {name: _stated(hints.get(name)) for name in nodes}


def _stated(hint: Any) -> Meaning | None:
    if typing.get_origin(hint) is not Annotated:
        for part in typing.get_args(hint):
            if (found := _stated(part)) is not None:
                return found
        return None
    kind, *notes = typing.get_args(hint)
    units = [note for note in notes if isinstance(note, str)]
    axes = tuple(str(getattr(kind, "dim_str", "")).split())
    return Meaning(units[0] if units else "1", axes, POSITIVE in notes)
