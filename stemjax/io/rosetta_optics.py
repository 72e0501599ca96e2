"""Optics out of the axes and metadata that rosettasciio hands out."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from stemjax.io.conditions import conditions_from
from stemjax.io.hdf5_tree import plain
from stemjax.io.optics_names import FREQUENCY, UNITS


def axis_fields(axes: list[dict[str, Any]]) -> dict[str, Any]:
    """Scan step [Å] and detector sampling [mrad] or [1/Å] out of calibrated axes."""
    sizes = [axis_size(a) for a in axes]
    fields: dict[str, Any] = {"metadata": {}}
    if len(sizes) == 4 and sizes[0] and sizes[1] and sizes[0][0] == sizes[1][0] == "length":
        fields["scan_step"] = (sizes[0][1], sizes[1][1])
    if len(sizes) >= 3 and sizes[-2] and sizes[-1] and sizes[-2][0] == sizes[-1][0]:
        pair = (sizes[-2][1], sizes[-1][1])
        if sizes[-1][0] == "angle":
            fields["detector_sampling"] = pair
        elif sizes[-1][0] == "frequency":
            fields["metadata"][FREQUENCY] = pair
    return fields


def axis_size(axis: Mapping[str, Any]) -> tuple[str, float] | None:
    """Kind and size of an axis' step in Å, mrad or 1/Å; None where it is not calibrated."""
    unit = UNITS.get(str(axis.get("units") or "").strip().lower().replace(" ", ""))
    scale = axis.get("scale")
    if unit is None or scale is None or not np.isfinite(float(scale)) or float(scale) <= 0:
        return None
    return unit[0], float(scale) * unit[1]


def mapped_metadata(signal: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of an array, with what its reader says how to find in the maker's own tags.

    rosettasciio hands out a table: place in the maker's tags -> (place in the metadata, function or None).
    """
    metadata: dict[str, Any] = {"metadata": signal.get("metadata") or {}}
    for source, (target, function) in (signal.get("mapping") or {}).items():
        try:
            value = entry_at(signal.get("original_metadata") or {}, source)
            put(metadata, f"metadata.{target}", function(value) if function else value)
        except Exception:  # a tag that is not there, or has an unforeseen form, tells nothing
            continue
    return metadata["metadata"]


def entry_at(tree: Mapping[str, Any], path: str) -> Any:
    """The entry under a dotted path."""
    node: Any = tree
    for name in path.split("."):
        node = node[name]
    return node


def put(tree: dict[str, Any], path: str, value: Any) -> None:
    """Set the entry under a dotted path, unless there is one."""
    *groups, last = path.split(".")
    for name in groups:
        tree = tree.setdefault(name, {})
    tree.setdefault(last, value)


def instrument_fields(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Energy [eV] and convergence semi-angle [mrad] out of rosettasciio's metadata, whose units are keV and mrad."""
    instrument = metadata.get("Acquisition_instrument") or {}
    microscope = instrument.get("TEM") or instrument.get("SEM") or {}
    fields: dict[str, Any] = {"metadata": flat({k: v for k, v in metadata.items() if k != "stemjax"})}
    for entry, field, factor in (("beam_energy", "energy", 1e3), ("convergence_angle", "semiangle", 1.0)):
        value = plain(microscope.get(entry)) if entry in microscope else None
        if isinstance(value, int | float) and np.isfinite(value) and value > 0:
            fields[field] = float(value) * factor
    own = metadata.get("stemjax")
    return fields | own_fields(own) if isinstance(own, Mapping) else fields


def own_fields(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Optics and conditions that `stemjax.io.hyperspy_writer` wrote; what makes no sense is passed over."""
    found: dict[str, Any] = {}
    with suppress(TypeError, ValueError):
        found["conditions"] = conditions_from(entries)
    for name in ("defocus", "scan_rotation", "electrons_per_count"):
        with suppress(TypeError, ValueError):
            if name in entries:
                found[name] = float(entries[name])
    return found


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested metadata as one level of dotted names with plain values.

    >>> flat({"General": {"title": "scan 1"}})
    {'General.title': 'scan 1'}
    """
    entries: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            entries |= flat(value, f"{prefix}{name}.")
        elif (simple := plain(value)) is not None:
            entries[f"{prefix}{name}"] = simple
    return entries


def merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Two sets of fields, their metadata joined."""
    metadata = {**first.get("metadata", {}), **second.get("metadata", {})}
    return {**first, **second, "metadata": metadata}
