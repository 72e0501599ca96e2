"""The names under which files keep the optics, and their units.

A name is compared without case, blanks and punctuation. A unit may follow it: ``energy_kV``, ``defocus [nm]``.
Of several names of one quantity the first in `SYNONYMS` counts; whatever is not understood stays in `metadata`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

UNITS: dict[str, tuple[str, float]] = {
    **{u: ("energy", 1.0) for u in ("ev", "v")},
    **{u: ("energy", 1e3) for u in ("kev", "kv")},
    **{u: ("length", 1.0) for u in ("a", "å", "ang", "angstrom", "angstroms")},
    **{u: ("length", f) for u, f in (("pm", 0.01), ("nm", 10.0), ("mm", 1e7), ("m", 1e10))},
    **{u: ("length", 1e4) for u in ("um", "µm", "μm", "micron", "microns")},
    **{u: ("angle", f) for u, f in (("mrad", 1.0), ("rad", 1e3), ("urad", 1e-3), ("µrad", 1e-3))},
    **{u: ("angle", 1e3 * np.pi / 180) for u in ("deg", "degree", "degrees", "°")},
    **{u: ("frequency", 1.0) for u in ("1/a", "1/å", "a^-1", "å^-1", "1/angstrom", "1_per_a", "inv_a", "a-1", "å⁻¹")},
    **{u: ("frequency", 0.1) for u in ("1/nm", "nm^-1", "1_per_nm", "inv_nm", "nm-1", "nm⁻¹")},
}
"""Unit (lower case): its kind and its size in eV, Å, mrad or 1/Å."""

SYNONYMS: dict[str, tuple[str, float, tuple[str, ...]]] = {
    "energy": (
        "ev",
        1.0,
        (
            *("energy", "beamenergy", "electronenergy", "primaryenergy", "acceleratingvoltage", "accelerationvoltage"),
            *("hightension", "highvoltage", "voltage", "ht", "e0"),
        ),
    ),
    "scan_step": (
        "å",
        1.0,
        ("scanstep", "step", "stepsize", "scanstepsize", "scansampling", "probestep", "rpixelsize"),
    ),
    "detector_sampling": (
        "mrad",
        1.0,
        ("detectorsampling", "dk", "angularsampling", "diffractionsampling", "detectorpixelsize", "qpixelsize"),
    ),
    "semiangle": (
        "mrad",
        1.0,
        (
            *("semiangle", "convergencesemiangle", "convergenceangle", "semiconvergenceangle", "probesemiangle"),
            *("semianglecutoff", "convergence"),
        ),
    ),
    "defocus": ("å", 1.0, ("defocus", "underfocus")),
    "overfocus": ("å", -1.0, ("overfocus", "c10")),
    "scan_rotation": ("deg", 1.0, ("scanrotation", "scanrotationangle", "scanangle", "rotationangle", "rotation")),
    "electrons_per_count": ("", 1.0, ("electronspercount", "electronpercount")),
    "counts_per_electron": ("", 1.0, ("countsperelectron", "aduperelectron")),
}
"""Quantity: the unit that a bare number has, a factor, and the names (squeezed) in the order in which they count."""

KINDS = {
    "energy": ("energy",),
    "scan_step": ("length",),
    "detector_sampling": ("angle", "frequency"),
    "semiangle": ("angle",),
    "defocus": ("length",),
    "overfocus": ("length",),
    "scan_rotation": ("angle",),
}
PAIRS = ("scan_step", "detector_sampling")
FREQUENCY = "detector_sampling_frequency"
"""Metadata entry for a detector calibrated in 1/Å; it becomes mrad once the energy is known."""


def split_unit(name: str) -> tuple[str, str | None]:
    """The squeezed stem of a name and the unit that follows it.

    >>> split_unit("energy_kV"), split_unit("Defocus [nm]"), split_unit("dk_1_per_A"), split_unit("beam energy")
    (('energy', 'kv'), ('defocus', 'nm'), ('dk', '1_per_a'), ('beamenergy', None))
    """
    name = name.strip().lower()
    bracket = re.fullmatch(r"(.+?)[\s_]*[\[(]\s*([^\])]+?)\s*[\])]", name)
    if bracket and bracket[2] in UNITS:
        return squeezed(bracket[1]), bracket[2]
    words = re.split(r"[\s_.]+", name)
    for count in (3, 2, 1):
        unit = "_".join(words[-count:])
        if len(words) > count and unit in UNITS:
            return squeezed("".join(words[:-count])), unit
    return ("voltage", name) if name == "kv" else (squeezed(name), None)


def squeezed(name: str) -> str:
    """Letters and digits of a name in lower case."""
    return "".join(c for c in name.lower() if c.isalnum())


def numbers(value: Any) -> tuple[float, ...] | None:
    """One or more finite numbers, or None where the value holds anything else (numbers written as text count).

    >>> numbers("80000"), numbers([0.5, 0.5]), numbers("eight"), numbers(True)
    ((80000.0,), (0.5, 0.5), None, None)
    """
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "iufUS" or not 1 <= array.size <= 4:
            return None
        values = np.atleast_1d(array).ravel().astype(float)
    except (ValueError, TypeError, OverflowError):
        return None
    return tuple(float(v) for v in values) if np.isfinite(values).all() else None


def convert(values: tuple[float, ...], quantity: str, unit: str | None) -> tuple[tuple[float, ...], str] | None:
    """Numbers in the package's unit and their kind; None where the unit does not suit the quantity."""
    default, factor, _ = SYNONYMS[quantity]
    if quantity not in KINDS:
        return values, ""
    kind, size = UNITS[unit or default]
    if kind not in KINDS[quantity]:
        return None
    if quantity == "scan_rotation":
        size /= UNITS["deg"][1]
    return tuple(v * size * factor for v in values), kind


def optics_from(entries: Mapping[str, Any]) -> dict[str, Any]:
    """The optics among the entries of a file, as fields of a `Recording`.

    Args:
        entries: Attributes and scalars of the file under their own names.

    Returns:
        Those of energy [eV], scan_step [Å], detector_sampling [mrad], semiangle [mrad], defocus [Å], scan_rotation
        [degree] and electrons_per_count that are there; `metadata` holds every other entry.

    >>> found = optics_from({"energy_kV": 80, "overfocus_A": 80.0, "step_A": 0.5, "operator": "N. N."})
    >>> found["energy"], found["defocus"], found["scan_step"], found["metadata"]
    (80000.0, -80.0, (0.5, 0.5), {'operator': 'N. N.'})
    """
    best: dict[str, tuple[int, tuple[float, ...], str, str]] = {}
    for name, value in entries.items():
        match = recognised(name, value)
        if match and (match[0] not in best or match[1] < best[match[0]][0]):
            best[match[0]] = (match[1], match[2], match[3], name)
    used = {name for *_, name in best.values()}
    fields: dict[str, Any] = {"metadata": {n: v for n, v in entries.items() if n not in used}}
    for quantity, (_, values, kind, _) in best.items():
        store(fields, quantity, values, kind)
    return fields


def recognised(name: str, value: Any) -> tuple[str, int, tuple[float, ...], str] | None:
    """Quantity, rank of the name, converted numbers and their kind; None for an entry that is no optics."""
    stem, unit = split_unit(name)
    for quantity, (_, _, names) in SYNONYMS.items():
        if stem in names:
            values = numbers(value)
            converted = convert(values, quantity, unit) if values else None
            if values and converted and len(values) <= (2 if quantity in PAIRS else 1):
                return quantity, names.index(stem), *converted
    return None


def store(fields: dict[str, Any], quantity: str, values: tuple[float, ...], kind: str) -> None:
    """Put converted numbers where a `Recording` has them."""
    if quantity == "overfocus":
        fields.setdefault("defocus", values[0])
    elif quantity == "counts_per_electron":
        if values[0]:
            fields.setdefault("electrons_per_count", 1.0 / values[0])
    elif quantity in PAIRS:
        pair = (values[0], values[-1])
        if kind == "frequency":
            fields["metadata"][FREQUENCY] = pair
        else:
            fields[quantity] = pair
    else:
        fields[quantity] = values[0]
