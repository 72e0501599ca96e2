"""Write a state as PtyRAD keeps its own (`model_iterNNNN.hdf5`), for its sources `PtyRAD`."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from stemjax.core.errors import InputError
from stemjax.io.atomic import atomic_hdf5
from stemjax.io.peers.lens_names import to_polar
from stemjax.io.peers.ptyrad import INITIAL, MODEL, NONE, TENSORS
from stemjax.io.peers.room import with_room
from stemjax.io.peers.state import Reconstruction
from stemjax.optics.electron import wavelength

if TYPE_CHECKING:
    import h5py

LAYOUT = "1.0.0"
"""The version of PtyRAD whose layout is written."""


def write_ptyrad(path: str | os.PathLike, state: Reconstruction) -> None:
    """Write a file that PtyRAD starts from: `obj_source`, `probe_source`, `pos_source`, `tilt_source: PtyRAD`.

    Carried: object, slices of one thickness, probe modes, positions, tilt, wavelength, semi-angle, aberrations. Left
    behind:
    dose (PtyRAD scales the probe to its counts), notes. Vacuum is put around an object that is too small for a window.
    PtyRAD takes the number of slices, their thickness and the number of modes from its parameters: give
    `obj_Nlayer`, `obj_slice_thickness`, `probe_pmode_max`, and `pos_scan_rand_std: null`, `pos_scan_affine: null`.

    Args:
        path: The file, `.hdf5` or `.h5`; an older one is replaced when the new one is complete.
        state: What to write.

    Raises:
        InputError: What PtyRAD cannot hold: pixels or a window that are not square, slices of several thicknesses, an
            unknown energy; or the file cannot be written.
    """
    check_square(state)
    state = with_room(state)
    with atomic_hdf5(path) as file:
        write_tree(file, {"ptyrad_version": LAYOUT, "output_path": "", "random_seed": None, "niter": 0})
        file["indices"] = np.arange(len(state.positions))
        for name in ("loss_iters", "dz_iters"):
            file[name] = np.zeros((0, 2))
        file["iter_times"], file["avg_iter_t"] = np.zeros(0), 0.0
        write_tree(file.create_group(TENSORS), tensors(state))
        write_tree(file.create_group(MODEL), model(state))
        write_tree(file.create_group(INITIAL), parameters(state))
        file.attrs["provenance_json"] = history(state)


def check_square(state: Reconstruction) -> None:
    """Refuse what PtyRAD has no place for."""
    window, (sy, sx) = state.probe.shape[1:], state.sampling
    if state.energy is None:
        raise InputError("PtyRAD needs the wavelength; give the energy: dataclasses.replace(state, energy=80e3)")
    if window[0] != window[1] or abs(sy - sx) > 1e-4 * sx:
        raise InputError(
            f"PtyRAD has square windows of square pixels; this one has {window[0]} × {window[1]} pixels of {sy:.5g} × "
            f"{sx:.5g} Å: reconstruct from patterns of square pixels and shape"
        )
    between = state.thickness[:-1]
    if len(between) and np.ptp(between) > 1e-4 * max(between.max(), 1e-12):
        raise InputError(
            f"PtyRAD has one thickness for all slices; these have {between.min():.4g} to {between.max():.4g} Å: "
            "reconstruct with equal slices (refine.thickness: false)"
        )


def tensors(state: Reconstruction) -> dict[str, Any]:
    """What PtyRAD may refine."""
    strength = 1.0 if state.dose is None else state.dose
    _, rest = corners(state)
    tilt = np.zeros((1, 2)) if state.tilt is None else np.atleast_2d(state.tilt)
    return {
        "obja": np.abs(state.transmission)[None].astype(np.float32),
        "objp": np.angle(state.transmission)[None].astype(np.float32),
        "obj_tilts": tilt.astype(np.float32),
        "slice_thickness": np.float32(step(state)),
        "probe": (math.sqrt(strength) * state.probe).astype(np.complex64),
        "probe_pos_shifts": rest.astype(np.float32),
    }


def corners(state: Reconstruction) -> tuple[np.ndarray, np.ndarray]:
    """Corner of every window in whole pixels, and the rest of it [pattern 2]."""
    exact = state.positions / np.array(state.sampling) - np.array(state.probe.shape[1:]) // 2
    whole = np.round(exact).astype(np.int32)
    return whole, exact - whole


def step(state: Reconstruction) -> float:
    """Distance of the slices [Å]; that of the only slice where there is one."""
    return float(state.thickness[0])


def model(state: Reconstruction) -> dict[str, Any]:
    """What PtyRAD keeps of its model."""
    pixels, dx = state.probe.shape[-1], float(np.mean(state.sampling))
    ny, nx = scan_of(state)
    return {
        "crop_pos": corners(state)[0],
        "dx": np.float32(dx),
        "dk": np.float32(1.0 / (pixels * dx)),
        "lambd": np.float32(wavelength(float(state.energy or 0.0))),
        "N_scan_slow": np.int32(ny),
        "N_scan_fast": np.int32(nx),
        "meas_Npix": pixels,
        "simu_Npix": pixels,
        "simu_match_mode": None,
        "omode_occu": np.ones(1, np.float32),
        "slice_thickness": np.float32(step(state)),
        "probe_int_sum": np.float32(1.0 if state.dose is None else state.dose),
        "scan_affine": None,
        "detector_blur_std": None,
        "tilt_obj": state.tilt is not None and bool(np.any(state.tilt)),
    }


def scan_of(state: Reconstruction) -> tuple[int, int]:
    """Lines and points of a line; one line where the patterns fill no image."""
    shape = state.scan_shape or ()
    return (shape[0], shape[1]) if len(shape) == 2 else (1, len(state.positions))


def parameters(state: Reconstruction) -> dict[str, Any]:
    """The parameters that a run from this file would be given."""
    lens: dict[str, float] = {}
    for name, (modulus, azimuth) in to_polar(state.aberrations).items():
        lens[name] = modulus
        if name[-1] != "0":
            lens[f"phi{name[1:]}"] = math.degrees(azimuth)
    ny, nx = scan_of(state)
    return {
        "probe_illum_type": "electron",
        "probe_kv": 1e-3 * float(state.energy or 0.0),
        "probe_conv_angle": state.semiangle,
        "probe_aberrations": lens,
        "probe_source": "simu" if lens else "PtyRAD",
        "probe_pmode_max": len(state.probe),
        "obj_omode_max": 1,
        "obj_Nlayer": len(state.transmission),
        "obj_slice_thickness": step(state),
        "meas_Npix": state.probe.shape[-1],
        "pos_N_scans": len(state.positions),
        "pos_N_scan_slow": ny,
        "pos_N_scan_fast": nx,
    } | constant(state)


def constant(state: Reconstruction) -> dict[str, Any]:
    """The scale of the counts, where the dose is known: electrons as they are."""
    return {} if state.dose is None else {"meas_normalization": {"mode": "divide_const", "value": 1.0}}


def history(state: Reconstruction) -> str:
    """Where the parts come from, as PtyRAD's provenance."""
    entry = {"uid": "stemjax", "run_name": state.source, "action": "Written by stemjax", "metadata": list(state.notes)}
    return json.dumps({name: [entry] for name in ("probe", "pos", "obj", "tilt")})


def write_tree(group: h5py.Group, values: Mapping[str, Any]) -> None:
    """Nested values as PtyRAD writes them: None as a text."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            write_tree(group.create_group(name), value)
        else:
            group[name] = NONE if value is None else value
