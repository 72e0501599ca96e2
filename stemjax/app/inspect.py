"""`stemjax inspect`: what a file holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def inspect_file(path: str | Path) -> list[str]:
    """Lines "name: value" of what a file of data or a result holds; nested entries are indented.

    Raises:
        InputError: The file is missing, damaged or of no known format.
    """
    from stemjax.io import describe_file

    return list(table(describe_file(path)))


def table(entries: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """The lines of a nested mapping, values in one column.

    >>> list(table({"shape": (4, 4), "optics": {"energy": 80000.0}}))
    ['shape:  4 × 4', 'optics:', '  energy: 80000']
    """
    plain = [name for name, value in entries.items() if not isinstance(value, Mapping)]
    width = max((len(str(name)) for name in plain), default=0) + 2
    for name, value in entries.items():
        if isinstance(value, Mapping):
            yield f"{indent}{name}:" + ("" if value else " none")
            yield from table(value, indent + "  ")
        else:
            yield f"{indent}{f'{name}:':<{width}}{shown(value, str(name))}".rstrip()


def shown(value: object, name: str = "") -> str:
    """A value as a person reads it: shapes with ×, lists with commas, numbers without false digits."""
    if value is None:
        return "not told"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple) and not value:
        return "none"
    if isinstance(value, list | tuple):
        return (" × " if "shape" in name else ", ").join(shown(entry) for entry in value)
    return " ".join(str(value).split())
