"""The calibration in force: what the file tells, overruled by what a person writes, and what neither does."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stemjax.core.errors import InputError
from stemjax.forward.recording import Recording
from stemjax.problems.ptychography.settings import DataSettings

NEEDED = {
    "energy": "energy: 80 keV",
    "scan_step": "scan_step: 0.5 Å",
    "detector_sampling": "detector_sampling: 1.2 mrad",
    "semiangle": "semiangle: 21.4 mrad",
}
"""What a reconstruction cannot do without, and how a person writes it."""


@dataclass(frozen=True)
class Calibration:
    """The values that a reconstruction cannot do without.

    Args:
        energy: Kinetic energy of the beam [eV].
        scan_step: Step of the scan (y, x) [Å].
        detector_sampling: Size of a detector pixel after binning (y, x) [mrad].
        semiangle: Convergence semi-angle [mrad].
        electrons_per_count: Electrons for one unit of the data; 1 where nobody tells.
    """

    energy: float
    scan_step: tuple[float, float]
    detector_sampling: tuple[float, float]
    semiangle: float
    electrons_per_count: float = 1.0


def calibration(recording: Recording, data: DataSettings) -> Calibration:
    """The calibration of a recording, with the values of the configuration laid over those of the file.

    Args:
        recording: As read, before `data.bin`.
        data: The section `data` of the configuration.

    Raises:
        InputError: Values are missing in both; the message names all of them and how to write them.

    >>> data = DataSettings(file="a.h5", energy="80 keV", semiangle=20, scan_step=0.5, detector_sampling=1, bin=2)
    >>> calibration(Recording(np.ones((2, 2, 8, 8))), data).detector_sampling
    (2.0, 2.0)
    """
    merged = replace(recording, **data.optics())
    energy, step, sampling, semiangle = (getattr(merged, name) for name in NEEDED)
    if missing := [name for name in NEEDED if getattr(merged, name) is None]:
        keys, lines = (", ".join(f"data.{n}" for n in missing), "', '".join(NEEDED[n] for n in missing))
        name = merged.source.get("path", "the file")
        raise InputError(f"{name} does not tell {keys}; add '{lines}' below 'data:'")
    binned = (sampling[0] * data.bin, sampling[1] * data.bin)
    return Calibration(energy, step, binned, semiangle, merged.electrons_per_count or 1.0)


def selected_shape(recording: Recording, data: DataSettings) -> tuple[int, int, int, int]:
    """Shape of the counts after `data.crop` and `data.bin`, without touching them.

    Raises:
        InputError: The crop goes beyond the scan, or a bin is larger than the detector.
    """
    (y0, y1), (x0, x1) = (_range(recording, data, axis) for axis in (0, 1))
    ky, kx = (n // data.bin for n in recording.detector_shape)
    if min(ky, kx) < 1:
        raise InputError(f"data.bin = {data.bin} is larger than the detector {recording.detector_shape}; give less")
    return y1 - y0, x1 - x0, ky, kx


def selected(recording: Recording, data: DataSettings) -> Recording:
    """A recording with `data.crop` and `data.bin` done; detector pixels that fill no bin are left out at the end.

    Returns:
        The recording: counts [scan_y scan_x ky kx] summed over bins, and the detector's sampling to match.
    """
    ny, nx, ky, kx = selected_shape(recording, data)
    (y0, y1), (x0, x1) = (_range(recording, data, axis) for axis in (0, 1))
    counts = np.asarray(recording.counts[y0:y1, x0:x1])
    if data.bin > 1:
        trimmed = counts[:, :, : ky * data.bin, : kx * data.bin]
        # Sums of narrow integers may not fit their own type.
        kind = np.float64 if counts.dtype == np.float64 else np.float32
        counts = trimmed.reshape(ny, nx, ky, data.bin, kx, data.bin).sum(axis=(3, 5), dtype=kind)
    sampling = recording.detector_sampling
    binned = None if sampling is None else (sampling[0] * data.bin, sampling[1] * data.bin)
    return replace(recording, counts=counts, detector_sampling=binned)


def selected_mask(mask: np.ndarray, data: DataSettings) -> np.ndarray:
    """A mask [ky kx] after `data.bin`: a bin that lost a pixel is not used.

    >>> selected_mask(np.array([[1, 1], [1, 0]]), DataSettings(file="a.h5", bin=2)).tolist()
    [[0]]
    """
    ky, kx = (n // data.bin for n in mask.shape)
    return mask[: ky * data.bin, : kx * data.bin].reshape(ky, data.bin, kx, data.bin).min(axis=(1, 3))


def _range(recording: Recording, data: DataSettings, axis: int) -> tuple[int, int]:
    length, name = recording.scan_shape[axis], "yx"[axis]
    asked = getattr(data.crop, name) if data.crop is not None else None
    first, end = asked or (0, length)
    if end > length:
        raise InputError(f"data.crop.{name} = [{first}, {end}] goes beyond the scan of {length}; end it at {length}")
    return first, end
