"""Conditions, images, spectra and the truth of a file, in a description of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemjax.core.errors import InputError
from stemjax.forward.recording import CONDITION_UNITS, Recording
from stemjax.io.conditions import ARRAYS, check_conditions, plain_conditions
from stemjax.io.hdf5_native import FORMAT, UNITS, check_version, shared_fields
from stemjax.io.hdf5_tree import attributes, open_hdf5
from stemjax.io.tree import unescaped

if TYPE_CHECKING:
    import h5py

SHOWN = ("units", "detector_angles", "dispersion", "energy_offset", "collection_semiangle", "scan_step")
"""Attributes of an image or spectrum that a person asks for."""


def describe_conditions(recording: Recording) -> dict[str, Any]:
    """What is known of the conditions; arrays by their shape, units beside, contradictions as a warning."""
    told = plain_conditions(recording.conditions)
    if not told:
        return {}
    shown = {k: "array " + " × ".join(str(n) for n in v.shape) if k in ARRAYS else v for k, v in told.items()}
    found: dict[str, Any] = {"conditions": shown}
    found["condition_units"] = {k: CONDITION_UNITS[k] for k in shown if CONDITION_UNITS[k]}
    try:
        check_conditions(recording)
    except InputError as error:
        found["condition_warning"] = str(error)
    return found


def describe_signals(recording: Recording) -> dict[str, Any]:
    """Images and spectra beside the counts of a file of this package; nothing for other formats."""
    if recording.source.get("format") != FORMAT:
        return {}
    with open_hdf5(Path(recording.source["path"])) as file:
        return signals_of(file)


def signals_of(file: h5py.File) -> dict[str, Any]:
    """Shape, type and calibration of every image and spectrum, and whether the truth is inside."""
    found: dict[str, Any] = {}
    for kind in ("images", "spectra"):
        if kind in file:
            found[kind] = {unescaped(name): described(node) for name, node in file[kind].items()}
    if "truth" in file:
        found["truth"] = sorted(unescaped(name) for name in file["truth"])
    return found


def described(node: h5py.Dataset) -> dict[str, Any]:
    """One image or spectrum."""
    entries = attributes(node)
    return {
        "shape": [int(n) for n in node.shape],
        "dtype": str(node.dtype),
        "dims": entries.get("dims", []),
        **{name: entries[name] for name in SHOWN if name in entries},
    }


def describe_images(path: Path) -> dict[str, Any]:
    """A file of this package without patterns; empty where there are no images or spectra either."""
    with open_hdf5(path) as file:
        check_version(file, str(path))
        signals = signals_of(file)
        if not ("images" in signals or "spectra" in signals):
            return {}
        recording = Recording(**shared_fields(file))
    optics = {name: value for name in UNITS if (value := getattr(recording, name)) is not None}
    kind = "images" if "images" in signals else "spectra"
    head = {"format": FORMAT, "kind": kind, "optics": optics, "units": {name: UNITS[name] for name in optics}}
    tail = {"metadata": dict(recording.metadata), "warnings": []}
    return head | describe_conditions(recording) | signals | tail
