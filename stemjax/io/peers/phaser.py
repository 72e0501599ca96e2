"""phaser's state files (`iterNNN.h5`): versions 0.1 and 0.2 of the layout, as phaser 0.3.1 writes and reads them.

phaser's probe is the wave itself, with |ψ|² in electrons, and stands on pixel n // 2 of its window; its positions
name the
middle of the window. In a window of even size that is half a pixel less, and so are its positions.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from stemjax.core.errors import InputError
from stemjax.io.atomic import atomic_hdf5
from stemjax.io.failures import existing_file
from stemjax.io.hdf5_tree import open_hdf5
from stemjax.io.peers.nodes import array, entry, number
from stemjax.io.peers.state import Reconstruction, make_reconstruction
from stemjax.optics.electron import energy_of, wavelength

if TYPE_CHECKING:
    import h5py

VERSIONS = {"0.1": ("scan", "tilt"), "0.2": ("scan/data", "scan/tilt")}
"""Where each version of the layout has positions and tilts."""

NOTE = "phaser keeps neither semi-angle nor aberrations in its state; its probe is an array of pixels"


def is_phaser(file: h5py.File) -> bool:
    """Whether an open HDF5 file says that it is a state of phaser."""
    return entry(file, "type") == "phaser_state"


def read_phaser(path: str | os.PathLike) -> Reconstruction:
    """Read a state of phaser.

    Carried: object, slices, probe modes, dose (phaser scales |probe|² to the counts), positions, tilts, wavelength. Not
    in the file: semi-angle, aberrations. Left behind: the positions at the start, progress.

    Args:
        path: The file, `iterNNN.h5`.

    Raises:
        InputError: No such file, another format or version, damaged, or only a part of a state.
    """
    with open_hdf5(existing_file(path), "a state of phaser") as file:
        scan_path, tilt_path = VERSIONS[version_of(file)]
        probe, sampling = array(file, "probe/data", (3,), kind="c"), array(file, "object/sampling", (1,))
        scan = array(file, scan_path, (2, 3, 4), kind="f")
        positions = scan.reshape(-1, scan.shape[-1]) - array(file, "object/corner", (1,))
        return make_reconstruction(
            array(file, "object/data", (3,), kind="c"),
            probe,
            positions + half_pixel(probe, sampling),
            sampling,  # type: ignore[arg-type]
            thickness=thickness_of(file),
            probe_sampling=array(file, "probe/extent", (1,)) / probe.shape[1:],  # type: ignore[arg-type]
            tilt=common(array(file, tilt_path, (2, 3, 4), kind="f")) if tilt_path in file else None,
            dose=float((np.abs(probe.astype(complex)) ** 2).sum()),
            energy=energy_of(number(file, "wavelength")),
            scan_shape=scan.shape[:-1] if scan.ndim == 3 else None,
            source=f"phaser, state {version_of(file)}",
            notes=(NOTE,),
        )


def version_of(file: h5py.File) -> str:
    """The version of the layout; refused where it is not known."""
    if not is_phaser(file):
        raise InputError(f"{file.filename} is no state of phaser; wanted `iterNNN.h5` with `type` = phaser_state")
    version = str(entry(file, "version", "?"))
    if version not in VERSIONS:
        raise InputError(f"{file.filename} has version {version} of phaser's state; known are {', '.join(VERSIONS)}")
    return version


def half_pixel(probe: np.ndarray, sampling: Any) -> np.ndarray:
    """From the middle of the probe's window to its pixel n // 2 (y, x) [Å].

    >>> half_pixel(np.zeros((1, 8, 7)), (0.2, 0.2)).tolist()
    [0.1, 0.0]
    """
    size = np.array(probe.shape[-2:])
    return (size // 2 - (size - 1) / 2) * np.asarray(sampling)


def thickness_of(file: h5py.File) -> Any:
    """Thickness of the slices [Å]; phaser has none, or one, for a single slice."""
    found = file.get("object/thicknesses")
    return 0.0 if found is None or not found.size else array(file, "object/thicknesses", (1,))


def common(tilt: np.ndarray) -> np.ndarray:
    """Tilts [pattern 2] [mrad], or the one that all patterns share."""
    tilt = tilt.reshape(-1, tilt.shape[-1])
    return tilt[0] if (tilt == tilt[0]).all() else tilt


def write_phaser(path: str | os.PathLike, state: Reconstruction) -> None:
    """Write a state that phaser starts from (`init: {state: FILE}` in its plan), whole or not at all.

    Carried: all that phaser keeps. Left behind: semi-angle, aberrations, notes. The plan must ask for as many
    `probe_modes`
    as there are, else phaser makes new ones, and for the detector's own pixels.

    Args:
        path: The file; an older one is replaced when the new one is complete.
        state: What to write.

    Raises:
        InputError: The energy is not known, or the file cannot be written.
    """
    if state.energy is None:
        raise InputError(
            "phaser's state needs the wavelength; give the energy: dataclasses.replace(state, energy=80e3)"
        )
    with atomic_hdf5(path) as file:
        write_text(file, "type", "phaser_state")
        write_text(file, "version", "0.2")
        file["wavelength"] = np.float64(wavelength(state.energy))
        write_probe(file.create_group("probe"), state)
        write_places(file, state)
        for name in ("engine_num", "engine_iter", "total_iter"):
            file[f"iter/{name}"] = np.uint64(0)
        file.create_group("progress")


def write_text(group: h5py.Group, name: str, value: str) -> None:
    """A text as phaser reads it: a scalar of variable length."""
    import h5py

    group.create_dataset(name, (), h5py.string_dtype("utf-8"), value)


def write_probe(group: h5py.Group, state: Reconstruction) -> None:
    """The probe's modes, |probe|² in electrons where the dose is known."""
    write_text(group, "type", "pixelated")
    waves = np.sqrt(1.0 if state.dose is None else state.dose) * state.probe
    group["data"] = waves.astype(np.complex64)
    label(group["data"], ("mode", "y", "x"))
    group["sampling"] = np.array(state.probe_sampling)
    group["extent"] = np.multiply(state.probe_sampling, state.probe.shape[1:])


def write_places(file: h5py.File, state: Reconstruction) -> None:
    """The object, whose scanned area lies about the origin, and the positions in its frame."""
    low, high = state.positions.min(axis=0), state.positions.max(axis=0)
    corner = -(low + high) / 2
    scan = state.positions + corner - half_pixel(state.probe, state.sampling)
    write_object(file.create_group("object"), state, corner, (scan.min(axis=0), scan.max(axis=0)))
    group, shape = file.create_group("scan"), (*(state.scan_shape or (len(scan),)), 2)
    arrays = {"data": scan, "initial": scan}
    if state.tilt is not None:
        arrays["tilt"] = np.broadcast_to(state.tilt, scan.shape)
    for name, values in arrays.items():
        group[name] = np.asarray(values, float).reshape(shape)
        label(group[name], ("",) * (len(shape) - 1) + ("yx",))


def write_object(group: h5py.Group, state: Reconstruction, corner: np.ndarray, region: tuple[Any, Any]) -> None:
    """Transmission functions with the depth of every slice as a scale."""
    write_text(group, "type", "pixelated")
    slices = len(state.thickness)
    group["thicknesses"] = state.thickness if slices > 1 else np.zeros(0)
    group["zs"] = np.cumsum(state.thickness) - state.thickness if slices > 1 else np.zeros(1)
    group["zs"].make_scale("z")
    group["data"] = state.transmission
    label(group["data"], ("z", "y", "x"))
    group["data"].dims[0].attach_scale(group["zs"])
    group["sampling"] = np.array(state.sampling)
    group["extent"] = np.multiply(state.sampling, state.transmission.shape[1:])
    group["corner"], group["region_min"], group["region_max"] = corner, *region


def label(dataset: h5py.Dataset, names: tuple[str, ...]) -> None:
    """Names of the axes."""
    for axis, name in enumerate(names):
        if name:
            dataset.dims[axis].label = name
