"""JSON text that comes back as it went in: tuples, and numbers that are not finite, included."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np

from stemjax.core.errors import InputError


def to_json(value: Any, *, indent: int | None = 1) -> str:
    """Text of nested mappings, lists, tuples, texts, numbers, truth values and None.

    Standard JSON (RFC 8259). What JSON lacks is marked: `{"__tuple__": [...]}` and `{"__float__": "nan"}`. NumPy
    numbers become plain ones, paths become texts.

    Args:
        value: What to write.
        indent: Blanks of a level; None for one line.

    >>> to_json({"shape": (64, 64), "rate": 0.1}, indent=None)
    '{"shape": {"__tuple__": [64, 64]}, "rate": 0.1}'
    """
    return json.dumps(encoded(value, "value"), indent=indent, ensure_ascii=False, allow_nan=False)


def from_json(text: str) -> Any:
    """What `to_json` wrote.

    >>> from_json('{"shape": {"__tuple__": [64, 64]}}')
    {'shape': (64, 64)}
    """
    return decoded(json.loads(text))


def encoded(value: Any, where: str) -> Any:
    """The value in what JSON knows."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"__float__": repr(value)}
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): encoded(v, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, tuple):
        return {"__tuple__": [encoded(v, f"{where}[{n}]") for n, v in enumerate(value)]}
    if isinstance(value, list):
        return [encoded(v, f"{where}[{n}]") for n, v in enumerate(value)]
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufU":
        return encoded(value.tolist(), where)
    raise InputError(f"cannot write {where} of type {type(value).__name__}; give numbers, texts, lists and mappings")


def decoded(value: Any) -> Any:
    """The value with its marks taken off."""
    if isinstance(value, list):
        return [decoded(v) for v in value]
    if isinstance(value, dict):
        if set(value) == {"__tuple__"} and isinstance(value["__tuple__"], list):
            return tuple(decoded(v) for v in value["__tuple__"])
        if set(value) == {"__float__"}:
            return float(value["__float__"])
        return {k: decoded(v) for k, v in value.items()}
    return value
