"""One file for everything that a session recorded: patterns, images, spectra, conditions; the truth apart from it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stemjax.core.errors import InputError
from stemjax.forward.recording import Dataset, RecordedImage, RecordedSpectrum, Recording
from stemjax.inference.result import Named, Result
from stemjax.io.atomic import atomic_hdf5
from stemjax.io.failures import existing_file
from stemjax.io.hdf5_bare import read_bare
from stemjax.io.hdf5_native import FORMAT, check_version, counts_size, own, shared_fields, write_patterns
from stemjax.io.hdf5_tree import is_hdf5, open_hdf5
from stemjax.io.results import read_result, write_named_group, write_result
from stemjax.io.tree import escaped, read_value, unescaped, write_array

if TYPE_CHECKING:
    import h5py

SPECTRUM_DIMS = {1: ("energy",), 2: ("x", "energy"), 3: ("y", "x", "energy"), 4: ("frame", "y", "x", "energy")}
IMAGE_DIMS = {2: ("y", "x"), 3: ("frame", "y", "x")}


def write_dataset(
    path: str | os.PathLike,
    dataset: Dataset,
    *,
    truth: Mapping[str, Named] | None = None,
    truth_inside: bool = False,
    compress: bool = True,
) -> Path | None:
    """Write patterns, images and spectra with their conditions into one file, whole or not at all.

    Args:
        path: The file (`.h5`).
        dataset: What was recorded; counts may be a `PatternStream`.
        truth: What is true of a simulation, by name.
        truth_inside: Whether the truth goes into the group `/truth` of the same file; otherwise it goes to
            `NAME.truth.h5` beside it, which a benchmark can keep back.
        compress: Whether to pack the counts.

    Returns:
        The file of the truth, or None where there is none of its own.

    Raises:
        InputError: Conditions or shapes that cannot be, or a file that cannot be written; nothing was changed.

    >>> import tempfile
    >>> haadf = RecordedImage(np.ones((2, 3)), step=(0.5, 0.5), detector=(60.0, 200.0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_dataset(f"{folder}/a.h5", Dataset(Recording(energy=80e3), images={"haadf": haadf}))
    ...     read_dataset(f"{folder}/a.h5").images["haadf"].detector
    (60.0, 200.0)
    """
    check_signals(dataset)
    inside = truth is not None and truth_inside
    beside = Path(path).with_suffix(".truth.h5") if truth is not None and not truth_inside else None
    with atomic_hdf5(path, needed=0 if compress else counts_size(dataset.recording.counts)) as file:
        write_patterns(file, dataset.recording, compress=compress)
        for name, image in dataset.images.items():
            write_image(file.require_group("images"), name, image)
        for name, spectrum in dataset.spectra.items():
            write_spectrum(file.require_group("spectra"), name, spectrum)
        if inside:
            write_named_group(file, "truth", truth or {})
        if beside is not None:  # while the data can still be taken back
            write_result(beside, Result("simulation", truth or {}, status="true values of a simulation"))
    return beside


def check_signals(dataset: Dataset) -> None:
    """Refuse images and spectra whose shape or calibration cannot be."""
    for name, image in dataset.images.items():
        if np.ndim(image.values) not in IMAGE_DIMS:
            raise InputError(f"image {name!r} of shape {np.shape(image.values)}; give [y x] or [frame y x]")
        ring = image.detector
        if ring is not None and not 0 <= ring[0] < ring[1]:
            raise InputError(f"image {name!r} of a detector from {ring[0]:g} to {ring[1]:g} mrad; give inner, outer")
    for name, spectrum in dataset.spectra.items():
        if np.ndim(spectrum.values) not in SPECTRUM_DIMS:
            raise InputError(f"spectrum {name!r} of shape {np.shape(spectrum.values)}; give [energy], ... energy last")
        if not (np.isfinite(spectrum.dispersion) and spectrum.dispersion > 0):
            raise InputError(f"spectrum {name!r} of {spectrum.dispersion:g} eV a channel; give a positive dispersion")


def axes_of(signal: RecordedImage | RecordedSpectrum) -> list[tuple[str, float, float, str]]:
    """Name, step, value at index 0 and unit of every axis; a step of 1 without unit where none is known."""
    values = np.asarray(signal.values)
    spectral = isinstance(signal, RecordedSpectrum)
    places = dict(zip(("y", "x"), signal.step or (), strict=False))
    axes = []
    for name in (SPECTRUM_DIMS if spectral else IMAGE_DIMS)[values.ndim]:
        if name == "energy" and isinstance(signal, RecordedSpectrum):
            axes.append((name, float(signal.dispersion), float(signal.offset), "eV"))
        elif name in places:
            axes.append((name, float(places[name]), 0.0, "Å"))
        else:
            axes.append((name, 1.0, 0.0, ""))
    return axes


def write_signal(group: h5py.Group, name: str, signal: RecordedImage | RecordedSpectrum) -> h5py.AttributeManager:
    """An array with the name, step, start and unit of every axis; its attributes, for more."""
    node, axes = escaped(name), axes_of(signal)
    write_array(group, node, np.asarray(signal.values))
    attributes = group[node].attrs
    attributes["kind"], attributes["units"], attributes["long_name"] = "named", signal.units, signal.long_name
    attributes["dims"] = [a[0] for a in axes]
    attributes["sampling"], attributes["offset"] = [a[1] for a in axes], [a[2] for a in axes]
    attributes["sampling_units"] = [a[3] for a in axes]
    if signal.step is not None:
        attributes["scan_step"], attributes["scan_step_units"] = signal.step, "Å"
    return attributes


def write_image(group: h5py.Group, name: str, image: RecordedImage) -> None:
    """An image with its axes and the angles of its detector."""
    attributes = write_signal(group, name, image)
    if image.detector is not None:
        attributes["detector_angles"], attributes["detector_angles_units"] = image.detector, "mrad"


def write_spectrum(group: h5py.Group, name: str, spectrum: RecordedSpectrum) -> None:
    """Spectra with their axes, dispersion and collection angle."""
    attributes = write_signal(group, name, spectrum)
    attributes["dispersion"], attributes["dispersion_units"] = float(spectrum.dispersion), "eV"
    attributes["energy_offset"], attributes["energy_offset_units"] = float(spectrum.offset), "eV"
    if spectrum.collection_semiangle is not None:
        attributes["collection_semiangle"] = float(spectrum.collection_semiangle)
        attributes["collection_semiangle_units"] = "mrad"


def read_dataset(path: str | os.PathLike, *, lazy: bool = False) -> Dataset:
    """Read what `write_dataset` or `write_recording` wrote.

    Args:
        path: The file.
        lazy: Leave the counts on the disk.

    Returns:
        Patterns (none of a file without), images and spectra.

    Raises:
        InputError: No such file, another format, a newer version, or damaged.
    """
    file = existing_file(path)
    if not is_hdf5(file):
        raise InputError(f"{file} is no HDF5 file; give a file that stemjax wrote, or use read_recording")
    with open_hdf5(file, "a stemjax 4D file") as hdf5:
        check_is_native(hdf5, str(file))
        node = hdf5.get("counts")
        known = shared_fields(hdf5, node)
        images = {unescaped(k): read_image(v) for k, v in hdf5.get("images", {}).items()}
        spectra = {unescaped(k): read_spectrum(v) for k, v in hdf5.get("spectra", {}).items()}
    if node is not None:
        known["counts"] = read_bare(file, key="/counts", lazy=lazy).counts
    source = {"path": str(file), "key": "/counts" if node is not None else "", "format": FORMAT}
    return Dataset(Recording(source=source, **known), images, spectra)


def check_is_native(file: h5py.File, path: str) -> None:
    """Refuse what is no file of data of this package."""
    declared = str(file.attrs.get("format", ""))
    if declared != FORMAT:
        raise InputError(f"{path} has the format {declared or 'of another program'}; wanted {FORMAT}: read_recording")
    check_version(file, path)


def read_image(node: h5py.Dataset) -> RecordedImage:
    """An image with what its attributes tell."""
    return RecordedImage(
        values=np.asarray(node[...]),
        step=told(node, "scan_step"),
        detector=told(node, "detector_angles"),
        **texts(node),
    )


def read_spectrum(node: h5py.Dataset) -> RecordedSpectrum:
    """Spectra with what their attributes tell."""
    return RecordedSpectrum(
        values=np.asarray(node[...]),
        dispersion=told(node, "dispersion") or 1.0,
        offset=told(node, "energy_offset") or 0.0,
        step=told(node, "scan_step"),
        collection_semiangle=told(node, "collection_semiangle"),
        **texts(node),
    )


def told(node: h5py.Dataset, name: str) -> Any:
    """A number or a pair of them from an attribute; None where it is not there."""
    return own(node.attrs[name]) if name in node.attrs else None


def texts(node: h5py.Dataset) -> dict[str, str]:
    """Unit and name of an array."""
    return {name: str(node.attrs.get(name, "")) for name in ("units", "long_name")}


def read_truth(path: str | os.PathLike) -> Mapping[str, Named]:
    """What is true of a simulation, from the file of the truth or the group `/truth` of a file of data.

    Args:
        path: `NAME.truth.h5`, or a file with the truth inside.
    """
    file = existing_file(path)
    if is_hdf5(file):
        with open_hdf5(file) as hdf5:
            if "truth" in hdf5:
                return read_value(hdf5["truth"])
            if str(hdf5.attrs.get("format", "")) == FORMAT:
                raise InputError(f"{file} holds no truth; look for {file.with_suffix('.truth.h5').name}")
    return read_result(file).estimate
