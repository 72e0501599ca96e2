"""What a result holds, in the form that figures and tables take; everything may be missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from stemjax.core.errors import InputError
from stemjax.inference.result import Result
from stemjax.optics.electron import wavelength


def entry(tree: Mapping[str, Any], path: str) -> Any:
    """The entry of a nested mapping at a path with slashes, whether it is nested or its key holds the slash; else None.

    >>> tree = {"truth": {"dose": 3.0}, "patterns/index": [1]}
    >>> entry(tree, "truth/dose"), entry(tree, "patterns/index"), entry(tree, "truth/nothing")
    (3.0, [1], None)
    """
    if path in tree:
        return tree[path]
    head, _, rest = path.partition("/")
    below = tree.get(head)
    return entry(below, rest) if rest and isinstance(below, Mapping) else None


def values(quantity: Any) -> np.ndarray | None:
    """The numbers of a `Named`, an array or a number; None where there are none.

    >>> from stemjax.inference.result import Named
    >>> values(Named(np.ones(2), "Å", ("y",), "height")), values("text")
    (array([1., 1.]), None)
    """
    if quantity is None or isinstance(quantity, str | Mapping):
        return None
    array = np.asarray(getattr(quantity, "value", quantity))
    return array if array.size and np.issubdtype(array.dtype, np.number) else None


def number(quantity: Any) -> float | None:
    """A single finite real number, or None.

    >>> number(np.array([3.0])), number("80e3"), number([1.0, 2.0]), number(float("nan")), number(True)
    (3.0, 80000.0, None, None, None)
    """
    if isinstance(quantity, bool):
        return None
    if isinstance(quantity, str):
        try:
            quantity = float(quantity)
        except ValueError:
            return None
    array = values(quantity)
    if array is None or array.size != 1 or np.iscomplexobj(array) or not np.isfinite(array).all():
        return None
    return float(array.ravel()[0])


def setting(result: Result, name: str) -> float | None:
    """A number of the experiment by its name, from the estimate, the diagnostics, the configuration or the provenance.

    >>> setting(Result("ptychography", {}, config={"data": {"energy": 80e3}}), "energy")
    80000.0
    """
    for tree in (result.estimate, result.diagnostics, result.config, result.provenance):
        for key, value in _leaves(tree):
            if key == name and (found := number(value)) is not None:
                return found
    return None


def _leaves(tree: Mapping[str, Any], depth: int = 8) -> Iterator[tuple[str, Any]]:
    """Keys and values of a nested mapping, outer ones first; the depth is bounded because strangers write files."""
    for key, value in tree.items():
        if not isinstance(value, Mapping):
            yield str(key).rsplit("/", 1)[-1], value
    for value in tree.values():
        if isinstance(value, Mapping) and depth:
            yield from _leaves(value, depth - 1)


def pixel_size(image: Any, default: tuple[float, float] = (1.0, 1.0)) -> tuple[float, float]:
    """Sampling of the last two axes of a `Named` (y, x); `default` where it has none."""
    sampling = getattr(image, "sampling", None)
    if not sampling or len(sampling) < 2 or not np.isfinite(sampling[-2:]).all() or min(sampling[-2:]) <= 0:
        return default
    return float(sampling[-2]), float(sampling[-1])


def image_stack(quantity: Any) -> np.ndarray | None:
    """An image or a stack of images as (n, ny, nx); None for anything else.

    >>> image_stack(np.ones((4, 5))).shape, image_stack(np.ones(5))
    ((1, 4, 5), None)
    """
    array = values(quantity)
    if array is None or array.ndim < 2:
        return None
    return array.reshape(-1, *array.shape[-2:])


def scan_positions(tree: Mapping[str, Any], prefix: str = "") -> np.ndarray | None:
    """Positions (pattern, 2), (y, x) [Å], from `position_y` and `position_x`; None where they are missing."""
    y, x = (values(entry(tree, f"{prefix}position_{axis}")) for axis in "yx")
    if y is None or x is None or y.size != x.size:
        return None
    return np.stack([y.ravel(), x.ravel()], axis=1).astype(float)


def electron_wavelength(result: Result) -> float | None:
    """Wavelength [Å] where the result tells a beam energy that can be one."""
    energy = setting(result, "energy")
    try:
        return None if energy is None else wavelength(energy)
    except InputError:
        return None


def flag(tree: Mapping[str, Any], path: str) -> bool | None:
    """A truth value at a path with slashes, as Python or a file holds it; None where there is none.

    >>> flag({"refine": {"probe": np.bool_(False)}}, "refine/probe"), flag({"a": "no"}, "a")
    (False, None)
    """
    value = entry(tree, path)
    value = value.item() if isinstance(value, np.ndarray | np.generic) and np.size(value) == 1 else value
    return value if isinstance(value, bool) else None


def resolution(result: Result) -> tuple[float, bool] | None:
    """Resolution against the truth [Å], and whether it is only the limit of the pixels; None where it was not measured.

    >>> rings = {"resolution": 0.6, "resolution_limited_by_pixels": True}
    >>> resolution(Result("ptychography", {}, diagnostics={"metrics": {"ring_correlation": rings}}))
    (0.6, True)
    """
    length = number(entry(result.diagnostics, "metrics/ring_correlation/resolution"))
    # Without the flag the number comes from a threshold for two halves of a data set, which means something else.
    limited = flag(result.diagnostics, "metrics/ring_correlation/resolution_limited_by_pixels")
    return None if length is None or limited is None else (length, limited)
