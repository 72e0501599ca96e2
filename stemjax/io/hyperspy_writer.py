"""Files for hyperspy, exspy and pyxem: `.hspy`, one signal for the patterns and one for every image and spectrum.

The layout is that of version 3 of the format, as published in the manual of hyperspy and read by rosettasciio.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from stemjax.core.errors import InputError
from stemjax.forward.recording import CONDITION_UNITS, Dataset, RecordedImage, RecordedSpectrum, Recording
from stemjax.io.atomic import atomic_hdf5
from stemjax.io.conditions import ARRAYS, check_conditions, plain_conditions
from stemjax.io.dataset import axes_of, check_signals
from stemjax.io.hdf5_native import UNITS, counts_size, write_counts

if TYPE_CHECKING:
    import h5py

PATTERNS = "patterns"
"""Name of the signal of patterns in the file."""


def write_hyperspy(path: str | os.PathLike, dataset: Dataset, *, compress: bool = True) -> None:
    """Write a `.hspy` file that hyperspy opens, whole or not at all.

    Patterns are the signal `patterns`, images and spectra follow under their names;
    `hyperspy.api.load` gives a list where there are several. Axes are calibrated: scan in Å, detector in mrad with zero
    at index n // 2, energy in eV. Metadata follow hyperspy's tree (beam energy in keV, convergence angle in mrad, beam
    current in nA, spectrometer); everything that stemjax knows is in `metadata.stemjax` in its own units, arrays with
    the first signal only.

    Args:
        path: The file; hyperspy goes by the extension `.hspy`.
        dataset: What was recorded; counts may be a `PatternStream`.
        compress: Whether to pack the counts.

    Raises:
        InputError: There is nothing to write, conditions cannot be, or the file cannot be written.

    >>> import tempfile
    >>> from stemjax.io.read import read_recording
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_hyperspy(f"{folder}/a.hspy", Dataset(Recording(np.ones((2, 3, 4, 4), np.uint8), energy=80e3)))
    ...     read_recording(f"{folder}/a.hspy").energy
    80000.0
    """
    recording = dataset.recording
    if not (counts_size(recording.counts) or dataset.images or dataset.spectra):
        raise InputError("nothing to write: no patterns, images or spectra; conditions alone go into write_dataset")
    check_conditions(recording)
    check_signals(dataset)
    with atomic_hdf5(path, needed=0 if compress else counts_size(recording.counts)) as file:
        file.attrs["file_format"], file.attrs["file_format_version"] = "HyperSpy", "3.3"
        top = file.create_group("Experiments")
        if counts_size(recording.counts):
            group = signal_group(top, PATTERNS, pattern_axes(recording), metadata_of(recording, PATTERNS))
            write_counts(group, "data", recording.counts, compress=compress)
        for kind, signals in (("image", dataset.images), ("spectrum", dataset.spectra)):
            for name, signal in signals.items():
                own = name if name.replace("/", "-") not in top else f"{name} {kind}"
                told = recording if not len(top) else without_arrays(recording)
                group = signal_group(top, own, signal_axes(signal), signal_metadata(told, own, signal))
                # in chunks, without which hyperspy does not load lazily
                group.create_dataset("data", data=np.asarray(signal.values), chunks=True, shuffle=True, compression=4)


def signal_group(top: h5py.Group, name: str, axes: list[dict[str, Any]], metadata: Mapping[str, Any]) -> h5py.Group:
    """A signal without its data: axes, metadata, the package of its class, and the groups that a reader expects."""
    group = top.create_group(name.replace("/", "-"))
    for number, axis in enumerate(axes):
        group.create_group(f"axis-{number}").attrs.update(axis)
    write_tree(group.create_group("metadata"), metadata)
    for empty in ("original_metadata", "learning_results", "attributes"):
        group.create_group(empty)
    group["attributes"].attrs.update({"_lazy": False, "ragged": False})
    spectral = metadata["Signal"]["signal_type"] == "EELS"
    group.attrs.update({"package": "exspy" if spectral else "hyperspy", "package_version": ""})
    return group


def axis(name: str, length: int, step: float, offset: float, unit: str, *, navigate: bool) -> dict[str, Any]:
    """A linear axis as hyperspy knows it."""
    kind = {"_type": "UniformDataAxis", "navigate": navigate, "is_binned": False}
    return {**kind, "name": name, "size": length, "scale": step, "offset": offset, "units": unit}


def pattern_axes(recording: Recording) -> list[dict[str, Any]]:
    """Scan and detector; the detector's zero is at index n // 2."""
    ny, nx, ky, kx = recording.counts.shape
    step, sampling = recording.scan_step, recording.detector_sampling
    sy, sx = step or (1.0, 1.0)
    qy, qx = sampling or (1.0, 1.0)
    scan, angle = "Å" if step else "", "mrad" if sampling else ""
    return [
        axis("y", ny, sy, 0.0, scan, navigate=True),
        axis("x", nx, sx, 0.0, scan, navigate=True),
        axis("ky", ky, qy, -(ky // 2) * qy, angle, navigate=False),
        axis("kx", kx, qx, -(kx // 2) * qx, angle, navigate=False),
    ]


def signal_axes(signal: RecordedImage | RecordedSpectrum) -> list[dict[str, Any]]:
    """The axes of an image (signal: y, x) or of spectra (signal: energy); the others are navigated."""
    own = ("energy",) if isinstance(signal, RecordedSpectrum) else ("y", "x")
    names = {"energy": "Energy loss"}
    return [
        axis(names.get(name, name), length, step, offset, unit, navigate=name not in own)
        for (name, step, offset, unit), length in zip(axes_of(signal), np.shape(signal.values), strict=True)
    ]


def metadata_of(recording: Recording, title: str, *, signal_type: str = "", quantity: str = "") -> dict[str, Any]:
    """Metadata of a signal in hyperspy's tree."""
    conditions = recording.conditions
    general = {"title": title, "authors": conditions.authors, "notes": conditions.title}
    if conditions.date:
        day, _, time = conditions.date.partition("T")
        general |= {"date": day, "time": time[:8] or None}
    microscope = {
        "acquisition_mode": "STEM",
        "microscope": conditions.instrument,
        "beam_energy": scaled(recording.energy, 1e-3),
        "convergence_angle": recording.semiangle,
        "beam_current": scaled(conditions.beam_current, 1e-3),
    }
    return {
        "General": known(general),
        "Signal": known({"signal_type": signal_type, "quantity": quantity or None}),
        "Sample": known({"description": conditions.sample}),
        "Acquisition_instrument": {"TEM": known(microscope)},
        "stemjax": own_metadata(recording),
    }


def signal_metadata(recording: Recording, title: str, signal: RecordedImage | RecordedSpectrum) -> dict[str, Any]:
    """Metadata of an image or of spectra, with the angles of their detector."""
    spectral = isinstance(signal, RecordedSpectrum)
    quantity = f"{signal.long_name or 'Signal'} ({signal.units})"
    found = metadata_of(recording, title, signal_type="EELS" if spectral else "", quantity=quantity)
    if isinstance(signal, RecordedSpectrum):
        detector = {
            "collection_angle": signal.collection_semiangle,
            "dwell_time": recording.conditions.dwell_time,
        }
        found["Acquisition_instrument"]["TEM"]["Detector"] = {"EELS": known(detector)}
    elif signal.detector is not None:
        found["stemjax"]["detector_angles"] = signal.detector
        found["stemjax"]["units"]["detector_angles"] = "mrad"
    return found


def own_metadata(recording: Recording) -> dict[str, Any]:
    """Optics and conditions under the names and in the units of stemjax."""
    entries = {name: value for name in UNITS if (value := getattr(recording, name)) is not None}
    entries |= plain_conditions(recording.conditions)
    units = {name: UNITS.get(name) or CONDITION_UNITS[name] for name in entries}
    return entries | {"units": {k: v for k, v in units.items() if v}}


def without_arrays(recording: Recording) -> Recording:
    """The recording without the arrays of its conditions."""
    conditions = replace(recording.conditions, **dict.fromkeys(ARRAYS))  # type: ignore[arg-type]
    return replace(recording, conditions=conditions)


def known(entries: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that are not None."""
    return {k: v for k, v in entries.items() if v is not None}


def scaled(value: float | None, factor: float) -> float | None:
    """A number in another unit, or None."""
    return None if value is None else value * factor


def write_tree(group: h5py.Group, entries: Mapping[str, Any]) -> None:
    """Nested metadata: mappings are groups, arrays (in chunks) and tuples of numbers datasets, all else attributes."""
    for name, value in entries.items():
        if isinstance(value, Mapping):
            write_tree(group.create_group(name), value)
        elif isinstance(value, tuple):
            group[f"_tuple_{name}"] = np.asarray(value, float)
        elif isinstance(value, np.ndarray):
            group.create_dataset(name, data=value, chunks=True)
        else:
            group.attrs[name] = value
