"""One door for recordings: a path goes in, a `Recording` comes out, or one line that says what is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from stemjax.core.errors import InputError, nearest
from stemjax.forward.recording import Recording
from stemjax.io.checks import check_optics
from stemjax.io.empad import is_empad, read_empad
from stemjax.io.failures import existing_file, reading
from stemjax.io.hdf5_bare import read_bare
from stemjax.io.hdf5_native import FORMAT, UNITS, read_native
from stemjax.io.hdf5_tree import SIGNATURE, is_hdf5, open_hdf5
from stemjax.io.numpy_files import MAGIC, read_numpy
from stemjax.io.optics_names import FREQUENCY
from stemjax.io.py4dstem import is_py4dstem, read_py4dstem
from stemjax.io.raster import scan_shape_of
from stemjax.io.rosetta import read_rosetta
from stemjax.optics.electron import wavelength

READERS: dict[str, Callable[..., Recording]] = {
    "stemjax": read_native,
    "py4dstem": read_py4dstem,
    "hdf5": read_bare,
    "numpy": read_numpy,
    "empad": read_empad,
    "rosettasciio": read_rosetta,
}
"""Formats by the name under which a person asks for them."""

RESULT = "stemjax-result"
VENDOR_HDF5 = (".hspy", ".emd", ".de5", ".nxs")
"""Extensions of HDF5 files whose layout rosettasciio knows."""


def read_recording(
    path: str | os.PathLike,
    *,
    key: str | None = None,
    scan_shape: tuple[int, int] | None = None,
    axes: str | None = None,
    format: str | None = None,
    optics: Mapping[str, Any] | None = None,
    lazy: bool = False,
) -> Recording:
    """Read 4D-STEM data of any format, with whatever the file tells of the optics.

    Args:
        path: The file.
        key: Which array, in a file with several.
        scan_shape: Number of scan positions (y, x), for a stack of patterns.
        axes: Order of the axes in the file, where it is another than "scan_y scan_x ky kx".
        format: One of `READERS`, or a format of rosettasciio; None finds it by content and extension.
        optics: Values that win over the file's: energy [eV], scan_step (y, x) [Å], detector_sampling (y, x) [mrad],
            semiangle [mrad], defocus [Å], scan_rotation [degree], electrons_per_count.
        lazy: Leave the counts on the disk (`LazyCounts`) where the format allows it.

    Returns:
        The recording; the counts are not yet checked, see `check_counts`.

    Raises:
        InputError: One line: no such file, unknown format, corrupt, not 4D, shapes that do not fit, impossible optics.

    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/a.npy", np.ones((6, 8, 8), np.uint8))
    ...     read_recording(f"{folder}/a.npy", scan_shape=(2, 3), optics={"energy": 80e3}).counts.shape
    (2, 3, 8, 8)
    """
    file = existing_file(path)
    shape = None if scan_shape is None else scan_shape_of(scan_shape, str(file))
    name = format or found_format(file)
    arguments: dict[str, Any] = {"key": key, "scan_shape": shape, "axes": axes, "lazy": lazy}
    with reading(file, name):
        if name.lower() in READERS:
            recording = READERS[name.lower()](file, **arguments)
        else:
            recording = read_rosetta(file, plugin=name, **arguments)
    recording = with_optics(recording, optics or {})
    check_optics(recording)
    return recording


def found_format(path: Path) -> str:
    """The name in `READERS` of the format that a file has, by its first bytes, then by its extension."""
    suffix = path.suffix.lower()
    with reading(path, "bytes"):
        with path.open("rb") as file:
            start = file.read(8)
        if is_hdf5(path):
            return hdf5_format(path, suffix)
    if start.startswith(MAGIC) or suffix in (".npy", ".npz"):
        return "numpy"
    if start.startswith(b"PK\x03\x04"):
        raise InputError(f"{path} is a zip archive; unpack it and give the file in it")
    if suffix in (".h5", ".hdf5", ".hspy", ".nxs", ".mat") and start != SIGNATURE:
        remedy = "save it with -v7.3" if start.startswith(b"MATLAB") else "it is corrupt, or of another format"
        raise InputError(f"{path} does not start as an HDF5 file; {remedy}")
    with reading(path, "EMPAD"):
        return "empad" if is_empad(path) else "rosettasciio"


def hdf5_format(path: Path, suffix: str) -> str:
    """Which layout an HDF5 file has."""
    with open_hdf5(path) as file:
        declared = file.attrs.get("format", "")
        if isinstance(declared, str) and declared == FORMAT:
            return "stemjax"
        if isinstance(declared, str) and declared == RESULT:
            raise InputError(
                f"{path} is a result of stemjax and holds no patterns; give the data that it was made from"
            )
        if is_py4dstem(file):
            return "py4dstem"
        if suffix in VENDOR_HDF5 or "file_format" in file.attrs:
            return "rosettasciio"
    return "hdf5"


def with_optics(recording: Recording, given: Mapping[str, Any]) -> Recording:
    """The recording with a person's values in place of the file's; 1/Å becomes mrad where the energy is known."""
    fields: dict[str, Any] = {}
    for name, value in given.items():
        if name not in UNITS:
            raise InputError(f"unknown optics {name!r}; {nearest(name, UNITS)}")
        if value is not None:
            fields[name] = pair_or_number(name, value)
    recording = replace(recording, **fields)
    frequency = recording.metadata.get(FREQUENCY)
    if recording.detector_sampling is None and frequency is not None and recording.energy is not None:
        check_optics(recording)
        factor = 1e3 * wavelength(recording.energy)
        recording = replace(recording, detector_sampling=(factor * frequency[0], factor * frequency[1]))
    return recording


def pair_or_number(name: str, value: Any) -> Any:
    """A person's value as a float, or as a pair (y, x) where the field has one."""
    try:
        if name in ("scan_step", "detector_sampling"):
            y, x = (value, value) if isinstance(value, int | float) else value
            return float(y), float(x)
        return float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"optics {name} = {value!r}; give a number{', or a pair (y, x)'} in {UNITS[name]}") from error
