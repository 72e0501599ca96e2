"""What a file of 4D-STEM data says, in the file's own orientation, before any of it is interpreted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Recording:
    """A 4D-STEM data set as read: detector patterns on a raster, and whatever the file tells of the optics.

    A value that the file does not tell is None; nothing is guessed here.

    Args:
        counts: Patterns [scan_y scan_x ky kx], in the orientation of the file, zero frequency near the centre;
            any real numeric type, and any array-like that numpy can slice (an h5py dataset that was read, a memmap).
        energy: Kinetic energy of the beam [eV].
        scan_step: Step of the raster (y, x) [Å].
        detector_sampling: Size of a detector pixel (y, x) [mrad].
        semiangle: Convergence semi-angle [mrad].
        defocus: Defocus, positive for underfocus, = -C10 [Å].
        scan_rotation: Angle of the scan axes against the detector axes [degree].
        electrons_per_count: Detector gain, electrons for one unit of `counts`.
        metadata: Other entries of the file, flat, as plain Python values.
        source: Where the data were read from (path, key, format, sha256).
    """

    counts: np.ndarray
    energy: float | None = None
    scan_step: tuple[float, float] | None = None
    detector_sampling: tuple[float, float] | None = None
    semiangle: float | None = None
    defocus: float | None = None
    scan_rotation: float | None = None
    electrons_per_count: float | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)

    @property
    def scan_shape(self) -> tuple[int, int]:
        """Number of scan positions (y, x)."""
        return self.counts.shape[0], self.counts.shape[1]

    @property
    def detector_shape(self) -> tuple[int, int]:
        """Number of detector pixels (y, x)."""
        return self.counts.shape[2], self.counts.shape[3]
