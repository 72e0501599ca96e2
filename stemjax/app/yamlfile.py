"""YAML with a place for every key, so that a refusal can name the line.

The plain core of YAML: mappings, lists, text, numbers (1e-3 is one), true, false, null. No anchors, tags or second
documents, and no key twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stemjax.core.errors import InputError

Key = tuple[str | int, ...]
"""Path of a value: keys of mappings and places in lists."""

LARGEST = 100_000
"""A configuration larger than this [byte] is something else; parsing ten times as much takes half a minute."""


@dataclass(frozen=True)
class Document:
    """A mapping that a person wrote, and where each entry stands.

    Args:
        values: Nested mappings, lists and plain values.
        places: Path of a key -> "file.yaml, line 7", or "-s key=value".
        source: Name of the file.
    """

    values: dict[str, Any]
    places: Mapping[Key, str]
    source: str

    def nearest(self, key: Key) -> Key:
        """The path itself, or of what is missing the path of the nearest mapping around it."""
        while key and key not in self.places:
            key = key[:-1]
        return key

    def place(self, key: Key) -> str:
        """Where an entry stands; of a missing one, where the nearest mapping around it stands."""
        return self.places.get(self.nearest(key), self.source)


class _CoreLoader(yaml.SafeLoader):
    """YAML 1.2's core types in place of 1.1's, in which `1e3` is text, `012` is ten and `12:30` is 750."""

    yaml_implicit_resolvers: dict[str, Any] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse aliases: a few bytes of them can stand for gigabytes."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(
                problem="an alias (*name) stands here; write the value out", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)


_NUMBER = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", _NUMBER, list("-+0123456789.")),
):
    _CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})$"), _first)


def read_document(path: Path, overrides: Iterable[str] = ()) -> Document:
    """Read a YAML file and lay overrides over it.

    Args:
        path: The file.
        overrides: Texts "key.path=value"; the value is YAML.

    Returns:
        The nested values and the place of each.

    Raises:
        InputError: The file cannot be read or is no YAML mapping; the message names the line.
    """
    document = parse_document(_read_text(path), path.name)
    for override in overrides:
        document = override_document(document, override)
    return document


def parse_document(text: str, source: str) -> Document:
    """Parse YAML text.

    >>> d = parse_document("a:\\n  b: 1e-3", "my.yaml")
    >>> d.values, d.place(("a", "b"))
    ({'a': {'b': 0.001}}, 'my.yaml, line 2')
    """
    node = _compose(text, source)
    if node is None:
        raise InputError(f"{source}: the file is empty; write 'problem: ptychography' and what belongs to it")
    if not isinstance(node, yaml.MappingNode):
        raise InputError(
            f"{source}, {_line(node)}: the file is not a mapping of keys; begin with 'problem: ptychography'"
        )
    places: dict[Key, str] = {}
    return Document(_value(node, (), places, source), places, source)


def override_document(document: Document, override: str) -> Document:
    """A document with one value laid over it.

    >>> d = override_document(parse_document("a: {b: 1}", "my.yaml"), "a.b=2 nm")
    >>> d.values, d.place(("a", "b"))
    ({'a': {'b': '2 nm'}}, '-s a.b=2 nm')
    """
    name, equals, text = override.partition("=")
    keys = tuple(name.strip().split("."))
    place = f"-s {override}"
    if not equals or not all(keys):
        raise InputError(f"{place}: an override is key.path=value, as in -s probe.defocus='10 nm'")
    node = _compose(text, place)
    inner: dict[Key, str] = {}
    value = None if node is None else _value(node, keys, inner, place)
    places = {key: where for key, where in document.places.items() if key[: len(keys)] != keys}
    steps = {keys[:depth]: place for depth in range(1, len(keys) + 1)}
    values = _replaced(document.values, keys, value)
    return Document(values, steps | places | dict.fromkeys(inner, place) | {keys: place}, document.source)


def _replaced(values: Any, keys: tuple[str, ...], value: Any) -> dict[str, Any]:
    inside = dict(values) if isinstance(values, dict) else {}
    inside[keys[0]] = value if len(keys) == 1 else _replaced(inside.get(keys[0]), keys[1:], value)
    return inside


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(
                f"{path.name} has {path.stat().st_size} bytes; a configuration is a YAML file of less than 100 kB"
            )
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path.name} is not text in UTF-8; give a YAML configuration, not a data file") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; give the path of a YAML configuration") from None


def _compose(text: str, source: str) -> yaml.Node | None:
    try:
        loader = _CoreLoader(text)
        return loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark is not None and not source.startswith("-s") else ""
        raise InputError(f"{source}{line}: {_remedy(str(error.problem or error.context))}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{source}: not YAML ({str(error).splitlines()[0]}); take the character out") from None
    except RecursionError:
        raise InputError(f"{source}: nested too deeply; a configuration has three levels") from None


def _remedy(problem: str) -> str:
    """PyYAML's complaint, with what to do about it."""
    if "\\t" in problem:
        return "a tab stands where only spaces may; indent with spaces"
    if "alias" in problem:
        return problem
    if "mapping values are not allowed" in problem:
        return "a second ':' on one line or a wrong indent; write one 'key: value' a line, text with ':' in quotes"
    if "another document" in problem or "single document" in problem or "document start" in problem:
        return "a second document begins ('---'); keep one a file"
    return f"not YAML: {problem}; write 'key: value', with the indent of its neighbours and brackets closed"


def _line(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"


def _place(node: yaml.Node, source: str) -> str:
    return source if source.startswith("-s ") else f"{source}, {_line(node)}"


def _value(node: yaml.Node, key: Key, places: dict[Key, str], source: str) -> Any:
    places.setdefault(key, _place(node, source))
    if node.tag.removeprefix("tag:yaml.org,2002:") not in ("map", "seq", "str", "int", "float", "bool", "null"):
        raise InputError(f"{_place(node, source)}: the tag {node.tag} is not allowed; write the value plainly")
    if isinstance(node, yaml.MappingNode):
        return {name: _value(child, (*key, name), places, source) for name, child in _items(node, key, places, source)}
    if isinstance(node, yaml.SequenceNode):
        return [_value(child, (*key, index), places, source) for index, child in enumerate(node.value)]
    return _scalar(node)


def _items(node: yaml.MappingNode, key: Key, places: dict[Key, str], source: str) -> Iterator[tuple[str, yaml.Node]]:
    """The entries of a mapping by name; the place of each is that of its key."""
    seen: dict[str, str] = {}
    for name_node, child in node.value:
        place = _place(name_node, source)
        if not isinstance(name_node, yaml.ScalarNode):
            raise InputError(f"{place}: a key is a word; write 'key: value'")
        name = str(name_node.value)
        if name in seen:
            path = ".".join(map(str, (*key, name)))
            raise InputError(f"{place}: key '{path}' is given a second time (first: {seen[name]}); keep one")
        seen[name] = place
        places[(*key, name)] = place
        yield name, child


def _scalar(node: yaml.Node) -> Any:
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    if kind == "null":
        return None
    if kind == "bool":
        return str(node.value).lower() == "true"
    if kind == "int":
        # Python refuses to read more than 4300 digits; such a number is out of every range here anyhow.
        return int(node.value) if len(node.value) < 400 else float(node.value)
    if kind == "float":
        return float(str(node.value).lower().replace(".inf", "inf").replace(".nan", "nan"))
    return str(node.value)
