"""The conditions of a recording in files: checked, as attributes with units, and as plain values for other formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from stemjax.core.errors import InputError, nearest
from stemjax.forward.recording import CONDITION_UNITS, Conditions, Recording, electrons
from stemjax.io.hdf5_tree import plain
from stemjax.optics.aberrations import NAMES

if TYPE_CHECKING:
    import h5py

ARRAYS = {"times": ("pattern",), "positions": ("pattern", "axis"), "vacuum_probe": ("ky", "kx")}
"""Conditions that are arrays, and their axes."""

TEXTS = tuple(name for name, unit in CONDITION_UNITS.items() if not unit)
"""Conditions that are texts."""

RANGES = {
    "beam_current": (1e-6, 1e6, "in pA"),
    "dose": (1e-6, 1e15, "electrons in one pattern"),
    "dwell_time": (1e-9, 1e5, "in s; 10 µs is 1e-5"),
    "flyback_time": (0.0, 1e5, "in s"),
    "tilt": (0.0, 500.0, "in mrad"),
    "source_size": (0.0, 1e4, "a standard deviation in Å"),
    "chromatic": (0.0, 1e9, "in Å; 1 mm is 1e7 Å"),
    "energy_spread": (0.0, 100.0, "a standard deviation in eV"),
    "temperature": (0.0, 1e4, "in K"),
    "thickness": (0.0, 1e7, "in Å"),
}
"""Least and largest size of a number, and what to say."""


def check_conditions(recording: Recording) -> None:
    """Refuse conditions that cannot be, or that contradict each other or the counts.

    >>> check_conditions(Recording(conditions=Conditions(dose=100.0, beam_current=10.0, dwell_time=1e-6)))
    Traceback (most recent call last):
    stemjax.core.errors.InputError: dose 100 electron, but 10 pA for 1e-06 s are 62.4 electron; correct one of the three
    """
    conditions = recording.conditions
    told = conditions.told()
    for name, (low, high, hint) in RANGES.items():
        for number in np.atleast_1d(np.asarray(told[name], float)) if name in told else ():
            if not low <= abs(number) <= high or (number < 0 and name != "tilt"):
                raise InputError(f"{name} {number:g} {CONDITION_UNITS[name]}; give it {hint}")
    for name, value in conditions.aberrations.items():
        if name not in NAMES:
            raise InputError(f"no aberration {name!r}; {nearest(name, NAMES)}")
        if not np.isfinite(value):
            raise InputError(f"aberration {name} is {value}; give a length in Å")
    if {"dose", "beam_current", "dwell_time"} <= set(told):
        expected = electrons(told["beam_current"], told["dwell_time"])
        if not 0.9 < told["dose"] / expected < 1.1:
            raise InputError(
                f"dose {told['dose']:g} electron, but {told['beam_current']:g} pA for {told['dwell_time']:g} s are "
                f"{expected:.3g} electron; correct one of the three"
            )
    _check_arrays(recording)


def _check_arrays(recording: Recording) -> None:
    """Refuse times, positions or a vacuum probe whose shape is not that of the counts."""
    conditions, shape = recording.conditions, tuple(recording.counts.shape)
    known = int(np.prod(shape, dtype=object)) > 0
    points = shape[0] * shape[1]
    for name, tail in (("times", ()), ("positions", (2,))):
        value = getattr(conditions, name)
        if value is None:
            continue
        wanted = (points if known else np.shape(value)[0], *tail)
        if np.shape(value) != wanted:
            raise InputError(f"{name} of shape {np.shape(value)}; wanted {wanted}, one entry a pattern")
        if not np.isfinite(value).all():
            raise InputError(f"{name} with values that are not finite; give numbers in {CONDITION_UNITS[name]}")
    probe = conditions.vacuum_probe
    if probe is not None and (np.ndim(probe) != 2 or (known and np.shape(probe) != shape[2:])):
        raise InputError(f"a vacuum probe of shape {np.shape(probe)}; wanted that of a pattern, {shape[2:]}")


def write_conditions(file: h5py.File, conditions: Conditions) -> None:
    """`/conditions` with an attribute and its unit for every number, arrays below it, and `/vacuum_probe`."""
    group = file.create_group("conditions")
    for name, value in conditions.told().items():
        unit = CONDITION_UNITS[name]
        if name in ARRAYS:
            node = file.create_dataset(name if name == "vacuum_probe" else f"conditions/{name}", data=np.asarray(value))
            node.attrs["units"], node.attrs["dims"] = unit, list(ARRAYS[name])
        elif isinstance(value, Mapping):
            below = group.create_group(name)
            for key, number in value.items():
                below.attrs[key], below.attrs[f"{key}_units"] = float(number), unit
        else:
            group.attrs[name] = value if name in TEXTS else np.asarray(value, float)
            if unit:
                group.attrs[f"{name}_units"] = unit


def read_conditions(file: h5py.File) -> Conditions:
    """What `write_conditions` wrote; entries of later versions are passed over."""
    entries: dict[str, Any] = {}
    if "vacuum_probe" in file:
        entries["vacuum_probe"] = np.asarray(file["vacuum_probe"][...])
    group = file.get("conditions")
    if group is not None:
        entries |= dict(group.attrs)
        entries |= {name: np.asarray(group[name][...]) for name in ("times", "positions") if name in group}
        if "aberrations" in group:
            entries["aberrations"] = dict(group["aberrations"].attrs)
    return conditions_from(entries)


def plain_conditions(conditions: Conditions) -> dict[str, Any]:
    """What is known as numbers, tuples, texts, arrays and one mapping, for formats with metadata of their own."""
    found: dict[str, Any] = {}
    for name, value in conditions.told().items():
        if name in ARRAYS:
            found[name] = np.asarray(value)
        elif isinstance(value, Mapping):
            found[name] = {k: float(v) for k, v in value.items()}
        elif name in TEXTS:
            found[name] = str(value)
        else:
            found[name] = tuple(float(v) for v in value) if np.ndim(value) else float(value)
    return found


def conditions_from(entries: Mapping[str, Any]) -> Conditions:
    """Conditions out of entries by name, of whatever type a file gives; what is not known is passed over.

    >>> conditions_from({"tilt": np.array([1.0, 2.0]), "title": b"a scan", "colour": 3}).tilt
    (1.0, 2.0)
    """
    found: dict[str, Any] = {}
    for entry in fields(Conditions):
        value = entries.get(entry.name)
        if value is None:
            continue
        if entry.name in ARRAYS:
            found[entry.name] = np.asarray(value)
        elif entry.name == "aberrations":
            found[entry.name] = {k: float(v) for k, v in value.items() if k in NAMES}
        elif entry.name in TEXTS:
            found[entry.name] = str(plain(value))
        else:
            number = np.asarray(value, float)
            found[entry.name] = float(number) if number.ndim == 0 else tuple(float(v) for v in number)
    return Conditions(**found)
