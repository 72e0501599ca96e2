"""py4DSTEM's iterative ptychography, as py4DSTEM 0.14.18 saves it (EMD 1.0, `py4DSTEM.save(FILE, reconstruction)`).

Its x is the first array axis. The probe lies with its centre in the corner of its window and is scaled so that the
squared
modulus of its discrete Fourier transform, without a factor, sums to the counts; positions are its centre; the object
repeats beyond its edges; a potential object V stands for exp(iV); the tilt in the propagator has the opposite sign.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from stemjax.core.errors import InputError
from stemjax.io.failures import existing_file
from stemjax.io.hdf5_tree import open_hdf5
from stemjax.io.peers.lens_names import from_py4dstem
from stemjax.io.peers.nodes import array, entries
from stemjax.io.peers.room import with_room
from stemjax.io.peers.rows import raster_shape
from stemjax.io.peers.state import Reconstruction, make_reconstruction

if TYPE_CHECKING:
    import h5py

CLASSES = (
    "SingleslicePtychography",
    "MixedstatePtychography",
    "MultislicePtychography",
    "MixedstateMultislicePtychography",
)
"""What is read; the magnetic and tomographic kinds have objects of other meaning."""


def is_py4dstem_result(file: h5py.File) -> bool:
    """Whether an open HDF5 file holds a ptychographic reconstruction of py4DSTEM."""
    return found_group(file) is not None


def found_group(file: h5py.File) -> h5py.Group | None:
    """The group of the reconstruction, two levels down; None where there is none."""
    import h5py

    for root in file.values():
        for group in root.values() if isinstance(root, h5py.Group) else ():
            if isinstance(group, h5py.Group) and "_object_emd" in group and "_probe_emd" in group:
                return group
    return None


def read_py4dstem_result(path: str | os.PathLike) -> Reconstruction:
    """Read a ptychographic reconstruction of py4DSTEM.


    Carried: object (complex or potential), slices, probe modes, positions, tilt, dose in counts, energy,
    semi-angle, the
    aberrations that it was given. Where windows reach over an edge, the object is continued by its own repetition. Left
    behind: the data cube, stored iterations, exit waves, errors.

    Args:
        path: The file.

    Raises:
        InputError: No such file, another format, a magnetic or tomographic reconstruction, or damaged.
    """
    with open_hdf5(existing_file(path), "a reconstruction of py4DSTEM") as file:
        group = found_group(file)
        if group is None:
            raise InputError(
                f"{path} holds no ptychographic reconstruction of py4DSTEM; wanted `_object_emd`, `_probe_emd`"
            )
        check_class(group, str(path))
        about = {name: entries(group, f"metadatabundle/{name}_metadata") for name in ("instantiation", "aberrations")}
        probe, sampling = waves_of(group), array(group, f"{PREPARED}/sampling", (1,))
        pixels = array(group, f"{PREPARED}/positions_px", (2,)).astype(float)
        state = make_reconstruction(
            transmission_of(group, about["instantiation"]),
            np.fft.fftshift(probe, axes=(-2, -1)),
            np.mod(pixels, shape_of(group)) * sampling,
            sampling,  # type: ignore[arg-type]
            thickness=thickness_of(about["instantiation"]),
            tilt=tilt_of(about["instantiation"]),
            dose=float((np.abs(probe.astype(complex)) ** 2).sum() * probe[0].size),
            energy=about["instantiation"].get("energy"),
            semiangle=finite(about["instantiation"].get("semiangle_cutoff")),
            aberrations=from_py4dstem(about["aberrations"]),
            scan_shape=raster_shape(pixels),
            source="py4DSTEM (EMD 1.0)",
            notes=notes_of(group),
        )
        return enlarged(state)


PREPARED = "metadatabundle/preprocess_metadata"


def check_class(group: h5py.Group, path: str) -> None:
    """Refuse reconstructions whose object means something else."""
    name = str(group.attrs.get("python_class", ""))
    if name not in CLASSES:
        raise InputError(
            f"{path} is a {name or 'reconstruction of no class'} of py4DSTEM; read are {', '.join(CLASSES)}"
        )


def waves_of(group: h5py.Group) -> np.ndarray:
    """Probe modes as they are stored [mode y x]."""
    probe = array(group, "_probe_emd/data", (2, 3), kind="c")
    return probe.reshape(-1, *probe.shape[-2:])


def shape_of(group: h5py.Group) -> tuple[int, int]:
    """Pixels of the object (y, x)."""
    ny, nx = group["_object_emd/data"].shape[-2:]
    return int(ny), int(nx)


def transmission_of(group: h5py.Group, about: dict[str, Any]) -> np.ndarray:
    """Transmission functions: the object itself, or exp(iV) of a potential one."""
    found = array(group, "_object_emd/data", (2, 3), kind="fc")
    potential = about.get("object_type", "complex") == "potential" or found.dtype.kind == "f"
    return np.exp(1j * found.real.astype(float)) if potential else found


def thickness_of(about: dict[str, Any]) -> Any:
    """Thickness of every slice [Å]; py4DSTEM has one less than slices, for the last one changes nothing."""
    given = about.get("slice_thicknesses")
    if given is None or int(about.get("num_slices") or 1) == 1:
        return 0.0
    between = np.atleast_1d(np.asarray(given, float))
    return np.append(between, between[-1])


def tilt_of(about: dict[str, Any]) -> np.ndarray | None:
    """Tilt (y, x) [mrad] in the sign of stemjax."""
    angles = [about.get("theta_x"), about.get("theta_y")]
    if not any(isinstance(angle, int | float) for angle in angles):
        return None
    return -np.array([float(a) if isinstance(a, int | float) else 0.0 for a in angles])


def finite(value: Any) -> float | None:
    """A positive, finite number, or None: a measured vacuum probe has an infinite semi-angle."""
    return float(value) if isinstance(value, int | float) and np.isfinite(value) and value > 0 else None


def enlarged(state: Reconstruction) -> Reconstruction:
    """The state with room for every window, and a note where the object was continued."""
    wider = with_room(state, periodic=True)
    if wider is state:
        return state
    note = "windows reach over the object's edges, where py4DSTEM repeats it; it was continued by its repetition"
    return replace(wider, notes=(*state.notes, note))


def notes_of(group: h5py.Group) -> list[str]:
    """What the file tells that a state cannot hold."""
    prepared = entries(group, PREPARED)
    notes = ["the aberrations are those that py4DSTEM was given; the pixels of the probe were refined"]
    if prepared.get("region_of_interest_shape") != prepared.get("amplitudes_shape"):
        notes.append("the waves were resampled to the detector; patterns of this state are not those of the data")
    if prepared.get("data_transpose") is True:
        notes.append("the scan's axes were exchanged; the state is in the detector's frame")
    return notes
