"""PtyRAD's result files (`model_iterNNNN.hdf5`), as PtyRAD 1.0.0 writes and reads them.

Object = obja · exp(i objp). The probe stands on pixel n // 2 of its window, whose first corner is crop_pos +
probe_pos_shifts.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from stemjax.core.errors import InputError
from stemjax.io.failures import existing_file
from stemjax.io.hdf5_tree import open_hdf5
from stemjax.io.peers.lens_names import from_ptyrad
from stemjax.io.peers.nodes import array, entries, entry, number
from stemjax.io.peers.state import Reconstruction, make_reconstruction
from stemjax.optics.electron import energy_of

if TYPE_CHECKING:
    import h5py

TENSORS, MODEL, INITIAL = "optimizable_tensors", "model_attributes", "params/init_params"
NONE = "__NONE__"
"""PtyRAD's text for a value that is not there."""


def is_ptyrad(file: h5py.File) -> bool:
    """Whether an open HDF5 file has the groups of a PtyRAD result."""
    return f"{TENSORS}/objp" in file and f"{MODEL}/crop_pos" in file


def read_ptyrad(path: str | os.PathLike) -> Reconstruction:
    """Read a result of PtyRAD.

    Carried: object, slices, probe modes, positions, tilts, wavelength, semi-angle, aberrations that the probe was
    started
    with, dose where PtyRAD divided the counts by a known constant. Several object modes become one object: the mean of
    their phases and log-amplitudes, weighted by occupancy. Left behind: detector blur, optimiser, losses, parameters.

    Args:
        path: The file, `model_iterNNNN.hdf5`.

    Raises:
        InputError: No such file, another format, or damaged.
    """
    with open_hdf5(existing_file(path), "a result of PtyRAD") as file:
        if not is_ptyrad(file):
            raise InputError(f"{path} is no result of PtyRAD; wanted `model_iterNNNN.hdf5` with `{TENSORS}`")
        probe, dx = array(file, f"{TENSORS}/probe", (2, 3), kind="c"), number(file, f"{MODEL}/dx")
        corners = array(file, f"{MODEL}/crop_pos", (2,)) + array(file, f"{TENSORS}/probe_pos_shifts", (2,))
        tilt_path = f"{TENSORS}/obj_tilts"
        lens, remarks = lens_of(file)
        return make_reconstruction(
            object_of(file),
            probe,
            dx * (corners.astype(float) + np.array(probe.shape[-2:]) // 2),
            (dx, dx),
            thickness=number(file, thickness_path(file)),
            tilt=array(file, tilt_path, (2,)) if tilt_path in file else None,
            dose=dose_of(file, probe),
            energy=energy_from(file),
            semiangle=told(entry(file, f"{INITIAL}/probe_conv_angle")),
            aberrations=lens,
            scan_shape=shape_of(file, len(corners)),
            source=f"PtyRAD {entry(file, 'ptyrad_version', 'of an unknown version')}",
            notes=(*notes_of(file, len(corners)), *remarks),
        )


def told(value: Any) -> float | None:
    """A number of a parameter, or None where it is not one."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def thickness_path(file: h5py.File) -> str:
    """Where the thickness of a slice stands: among what may be refined, in older files among the attributes."""
    return next((p for p in (f"{TENSORS}/slice_thickness", f"{MODEL}/slice_thickness") if p in file), "slice_thickness")


def object_of(file: h5py.File) -> np.ndarray:
    """Transmission functions [slice y x]; several object modes as their weighted mean in phase and log-amplitude."""
    modulus, phase = (array(file, f"{TENSORS}/{name}", (4,), kind="f").astype(float) for name in ("obja", "objp"))
    if modulus.shape != phase.shape:
        raise InputError(f"{file.filename}: obja {modulus.shape} and objp {phase.shape} differ; save it again")
    if len(phase) == 1:
        return modulus[0] * np.exp(1j * phase[0])
    weight = occupancy(file, len(phase))
    log = np.log(np.maximum(modulus, 1e-12))
    return np.exp(np.tensordot(weight, log, 1) + 1j * np.tensordot(weight, phase, 1))


def occupancy(file: h5py.File, modes: int) -> np.ndarray:
    """Weights of the object modes, their sum 1."""
    path = f"{MODEL}/omode_occu"
    weight = array(file, path, (1,)).astype(float) if path in file else np.ones(modes)
    if weight.shape != (modes,) or not weight.sum() > 0:
        raise InputError(f"{file.filename}: {path!r} has {weight.size} weights for {modes} object modes; save it again")
    return weight / weight.sum()


def dose_of(file: h5py.File, probe: np.ndarray) -> float | None:
    """Counts in a pattern: |probe|² sums to what PtyRAD made of them, known where it divided by a written constant."""
    divided = entries(file, f"{INITIAL}/meas_normalization")
    constant = told(divided.get("value"))
    if divided.get("mode") != "divide_const" or constant is None:
        return None
    return float((np.abs(probe.astype(complex)) ** 2).sum()) * constant


def energy_from(file: h5py.File) -> float:
    """Beam energy [eV]: as written in the parameters, else from the wavelength in single precision."""
    energy, kilovolt = energy_of(number(file, f"{MODEL}/lambd")), told(entry(file, f"{INITIAL}/probe_kv"))
    return 1e3 * kilovolt if kilovolt is not None and abs(1e3 * kilovolt - energy) < 1e-3 * energy else energy


def lens_of(file: h5py.File) -> tuple[dict[str, float], list[str]]:
    """Aberrations that the probe was simulated with, and remarks; none where the probe came from a file."""
    if entry(file, f"{INITIAL}/probe_source", "simu") != "simu":
        return {}, ["the probe was started from a file; its aberrations are not known"]
    found, unknown = from_ptyrad(entries(file, f"{INITIAL}/probe_aberrations"))
    shift = told(entry(file, f"{INITIAL}/probe_z_shift")) or 0.0
    if shift:
        found["C10"] = found.get("C10", 0.0) + shift
    remarks = ["the aberrations are those that the probe was started with"] if found else []
    return found, remarks + [f"the aberration {name!r} is not known here and left out" for name in unknown]


def shape_of(file: h5py.File, patterns: int) -> tuple[int, int] | None:
    """Shape (y, x) of the scan, where the patterns fill it."""
    ny, nx = (told(entry(file, f"{MODEL}/N_scan_{axis}")) or 0 for axis in ("slow", "fast"))
    return (int(ny), int(nx)) if int(ny) * int(nx) == patterns else None


def notes_of(file: h5py.File, patterns: int) -> list[str]:
    """What the file tells that a state cannot hold."""
    notes, modes = [], file[f"{TENSORS}/objp"].shape[0]
    if modes > 1:
        notes.append(f"{modes} object modes are one object here: their mean phase and log-amplitude by occupancy")
    if (blur := told(entry(file, f"{MODEL}/detector_blur_std"))) is not None and blur:
        notes.append(f"the detector's blur of {blur:g} pixels is left out")
    turned = entry(file, f"{INITIAL}/meas_flipT")
    if isinstance(turned, list) and any(turned):
        notes.append(f"the patterns were turned before (meas_flipT {turned}); turn data likewise to compare them")
    measured, simulated = (told(entry(file, f"{MODEL}/{name}_Npix")) for name in ("meas", "simu"))
    if measured is not None and simulated is not None and measured != simulated:
        notes.append(f"patterns of {measured:g} pixels were compared with a window of {simulated:g}")
    used = file.get("indices")
    if used is not None and used.size and used.size < patterns:
        notes.append(f"{used.size} of {patterns} patterns were used")
    if dose_of(file, np.zeros(1)) is None:
        notes.append("the electrons of a pattern are not known: PtyRAD scales the counts, here by no written constant")
    return notes
