"""Leaves of a pytree by dotted path: `probe.aberrations.C10`, `specimen.phase`, `detectors.0.inner`.

In a path that selects, `*` stands for any part of one name (`probe.aberrations.C3*`, `*.scan.positions`) and `**` for
any number of names (`**.positions`); the path of an inner node stands for all leaves below it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from stemjax.core.errors import InputError, nearest

Tree = TypeVar("Tree")


def _name(entry: Any) -> str:
    for attribute in ("name", "key", "idx"):
        if hasattr(entry, attribute):
            return str(getattr(entry, attribute))
    return str(entry)


def leaves(tree: Any) -> dict[str, Any]:
    """Every leaf of a tree under its dotted path, in the tree's own order.

    >>> leaves({"a": {"b": 1.0}, "c": [2.0, 3.0]})
    {'a.b': 1.0, 'c.0': 2.0, 'c.1': 3.0}
    """
    return {".".join(map(_name, path)): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def select(tree: Any, paths: Iterable[str]) -> dict[str, Any]:
    """The leaves at some paths.

    Args:
        tree: Any pytree.
        paths: Dotted paths of leaves, of inner nodes for all leaves below, or patterns with `*` and `**`.

    Raises:
        InputError: A path names nothing; the message names the nearest.

    >>> select({"a": {"b": 1.0, "d": 4.0}, "c": 2.0}, ["a", "c"])
    {'a.b': 1.0, 'a.d': 4.0, 'c': 2.0}
    >>> select({"a": {"b": 1.0, "d": 4.0}, "c": {"b": 2.0}}, ["*.b"])
    {'a.b': 1.0, 'c.b': 2.0}
    """
    known = leaves(tree)
    return {path: known[path] for path in matching(known, paths)}


def matching(known: Iterable[str], paths: Iterable[str]) -> list[str]:
    """The known paths that some paths or patterns select, each once.

    Raises:
        InputError: A path selects nothing; the message names the nearest.

    >>> matching(["a.b", "a.c.b", "d"], ["**.b"])
    ['a.b', 'a.c.b']
    """
    known, found = list(known), dict[str, None]()
    for path in paths:
        pattern = _pattern(path)
        hits = [name for name in known if pattern.fullmatch(name)]
        if not hits:
            raise InputError(f"no parameter at path '{path}'; {nearest(path, known)}")
        found.update(dict.fromkeys(hits))
    return list(found)


def _pattern(path: str) -> re.Pattern[str]:
    """What a path selects: itself and all below it."""
    text = re.escape(path)
    for wild, stands_for in ((r"\*\*\.", r"(?:[^.]+\.)*"), (r"\*\*", r".+"), (r"\*", r"[^.]*")):
        text = text.replace(wild, stands_for)
    return re.compile(text + r"(?:\..*)?")


def replace(tree: Tree, values: Mapping[str, Any]) -> Tree:
    """The tree with other values at some leaves; everything else is shared with the old tree.

    Raises:
        InputError: A path names no leaf, or a value has another shape than the leaf.

    >>> replace({"a": {"b": 1.0}, "c": 2.0}, {"a.b": 5.0})
    {'a': {'b': 5.0}, 'c': 2.0}
    """
    known = leaves(tree)
    for path, value in values.items():
        if path not in known:
            raise InputError(f"no parameter at path '{path}'; {nearest(path, known)}")
        if jnp.shape(value) != jnp.shape(known[path]):
            raise InputError(
                f"value for '{path}' has shape {jnp.shape(value)}; the leaf there has {jnp.shape(known[path])}"
            )
    return jax.tree_util.tree_map_with_path(lambda path, leaf: values.get(".".join(map(_name, path)), leaf), tree)
