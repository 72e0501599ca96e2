"""Files of the makers of microscopes and detectors, through rosettasciio."""

from __future__ import annotations

import importlib
import logging
import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stemjax.core.errors import InputError, nearest
from stemjax.forward.recording import Recording
from stemjax.io.failures import existing_file, reading
from stemjax.io.raster import arranged
from stemjax.io.rosetta_optics import axis_fields, instrument_fields, mapped_metadata, merged

# netCDF: its reader runs text of the file as a program. The others have readers of their own here, or read plain text
# tables that everything matches.
LEFT_OUT = ("netCDF", "numpy", "EMPAD", "USID", "JobinYvon", "Protochips", "Impulse")

USUAL = "dm3, dm4, mib, emd, hspy, zspy, blo, ser, tvips, mrc, de5, nxs, tif"
"""Extensions that 4D data usually have."""


def plugins(path: Path | None = None) -> list[dict[str, Any]]:
    """The formats of rosettasciio; with a path, those that know its extension."""
    import rsciio

    known = [p for p in rsciio.IO_PLUGINS if p["name"] not in LEFT_OUT]
    if path is None:
        return known
    return [p for p in known if path.suffix.lstrip(".").lower() in [e.lower() for e in p["file_extensions"]]]


def signals(path: Path, *, plugin: str | None = None, lazy: bool = False) -> tuple[list[dict[str, Any]], str]:
    """Every array of a file with its axes and metadata, as rosettasciio gives them, and the name of the format.

    Args:
        path: The file.
        plugin: Name of a rosettasciio format; None tries those that know the extension.
        lazy: Leave the data on the disk where the format allows it.
    """
    existing_file(path)
    candidates = named_plugin(plugin, path) if plugin else plugins(path)
    if not candidates:
        raise InputError(
            f"{path}: no reader knows the extension {path.suffix!r}; known for 4D data: h5, npy, npz, raw, {USUAL} and "
            "what else rosettasciio reads"
        )
    failures: list[InputError] = []
    for candidate in candidates:
        try:
            return read_signals(path, candidate, lazy), candidate["name"]
        except InputError as error:
            failures.append(error)
    raise failures[0]


def named_plugin(name: str, path: Path) -> list[dict[str, Any]]:
    """The rosettasciio format of a name."""
    found = [p for p in plugins() if p["name"].lower() == name.lower()]
    if not found:
        known = ["stemjax", "py4dstem", "hdf5", "numpy", "empad", *(p["name"] for p in plugins())]
        raise InputError(f"{path}: unknown format {name!r}; {nearest(name, known)}")
    return found


def read_signals(path: Path, plugin: dict[str, Any], lazy: bool) -> list[dict[str, Any]]:
    """Run one reader, its remarks kept out of the way of the person's."""
    log = logging.getLogger("rsciio")
    level, silent = log.level, logging.CRITICAL + 1
    with reading(path, plugin["name"]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log.setLevel(silent)
        try:
            found = run_reader(plugin, path, lazy)
        finally:
            log.setLevel(level)
    found = [s for s in found if getattr(s.get("data"), "shape", None) is not None]
    if not found:
        raise InputError(f"{path}: {plugin['name']} finds no data in it; it may be cut short: copy or export it again")
    return found


def run_reader(plugin: dict[str, Any], path: Path, lazy: bool) -> list[dict[str, Any]]:
    """Arrays of a file, lazily where the format can."""
    reader = importlib.import_module(plugin["api"]).file_reader
    for way in (True, False) if lazy else (False,):
        try:
            return list(reader(str(path), lazy=way))
        except Exception as error:  # not every format reads lazily, and each refuses in its own way
            release(error)
            if not way:
                raise
    return []


def release(error: BaseException | None) -> None:
    """Let go of the files that a failed reader left open: the frames of its error hold them."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


def read_rosetta(
    path: Path,
    *,
    key: str | None = None,
    scan_shape: tuple[int, int] | None = None,
    axes: str | None = None,
    lazy: bool = False,
    plugin: str | None = None,
) -> Recording:
    """Read 4D-STEM data of any format that rosettasciio reads (dm3, dm4, mib, emd, hspy, blo, ser, tvips, mrc, ...).

    Args:
        path: The file.
        key: Number or title of the array, in a file with several.
        scan_shape: Number of scan positions (y, x) for a stack of patterns.
        axes: Order of the axes in the file, where it is another than [scan_y scan_x ky kx].
        lazy: Leave the counts on the disk where the format allows it.
        plugin: Name of the rosettasciio format; None goes by the extension.
    """
    found, name = signals(path, plugin=plugin, lazy=lazy)
    signal = chosen(found, key, path)
    data, places = ordered(signal)
    with reading(path, name):
        counts = arranged(data, str(path), scan_shape=scan_shape, axes=axes, lazy=lazy)
    origin = {"path": str(path), "key": title(signal), "format": name}
    calibration = {} if axes else axis_fields(places)
    fields = merged(instrument_fields(mapped_metadata(signal)), calibration)
    return Recording(counts=counts, source=origin, **fields)


def title(signal: Mapping[str, Any]) -> str:
    """What the file calls an array."""
    general = (signal.get("metadata") or {}).get("General") or {}
    return str(general.get("title", ""))


def contents(found: list[dict[str, Any]]) -> str:
    """The arrays of a file in a message."""
    return ", ".join(f"{n}: {title(s)!r} {tuple(int(v) for v in s['data'].shape)}" for n, s in enumerate(found[:8]))


def chosen(found: list[dict[str, Any]], key: str | None, path: Path) -> dict[str, Any]:
    """The array under a number or title; without one, the only one of four axes, else of three."""
    if key is not None:
        matches = [s for n, s in enumerate(found) if key in (str(n), title(s))]
        if not matches:
            raise InputError(f"{path} has no array {key!r}; in it: {contents(found)}")
        return matches[0]
    for count in (4, 3):
        matches = [s for s in found if s["data"].ndim == count and is_stack(s)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise InputError(
                f"{path} has {len(matches)} arrays of {count} axes; give key (data.key), one of: {contents(found)}"
            )
    raise InputError(f"{path} holds no 4D-STEM data [scan_y scan_x ky kx]; in it: {contents(found)}")


def is_stack(signal: Mapping[str, Any]) -> bool:
    """Whether the last two axes can be a detector's: none is an energy."""
    units = [str(a.get("units", "")).lower() for a in signal.get("axes") or []]
    return not any(u in ("ev", "kev") for u in units)


def ordered(signal: Mapping[str, Any]) -> tuple[Any, list[dict[str, Any]]]:
    """Data and axes with the navigation (scan) axes first, in the order that they have."""
    data, axes = signal["data"], list(signal.get("axes") or [])
    if len(axes) != data.ndim:
        return data, []
    axes = [a for _, a in sorted(enumerate(axes), key=lambda entry: place(entry[1], entry[0]))]
    moving = [n for n, a in enumerate(axes) if a.get("navigate")]
    order = moving + [n for n in range(len(axes)) if n not in moving]
    if data.ndim == 4 and len(moving) == 2 and order != list(range(4)):
        return data.transpose(order), [axes[n] for n in order]
    return data, axes


def place(axis: Mapping[str, Any], default: int) -> int:
    """Which axis of the array an axis describes."""
    number = axis.get("index_in_array")
    return default if number is None else int(number)
