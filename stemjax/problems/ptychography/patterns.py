"""From a recording to patterns that can be compared: selected, in electrons, centred, masked, orientation found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stemjax.core.errors import InputError
from stemjax.detect.pixelated import cornered
from stemjax.forward.recording import Recording
from stemjax.problems.ptychography.calibration import Calibration, calibration, selected, selected_mask
from stemjax.problems.ptychography.guess import (
    bright_field_disk,
    centre_of_mass,
    orientation_matrix,
    scan_orientation,
)
from stemjax.problems.ptychography.settings import PtychographySettings


@dataclass(frozen=True)
class Patterns:
    """Counts ready for comparison, and what was found in them.

    Args:
        counts: Electrons [pattern ky kx], zero frequency in the corner.
        calibration: Values in force.
        centre: Rest of the disk's centre after the shift by whole pixels (y, x) [mrad].
        matrix: Scan axes to detector axes [2 2].
        scan_shape: Raster shape (y, x).
        findings: What was found and how surely, for the report, as plain values.
        mask: Detector pixels that are used [ky kx], zero frequency in the corner; None for all.
    """

    counts: np.ndarray
    calibration: Calibration
    centre: tuple[float, float]
    matrix: np.ndarray
    scan_shape: tuple[int, int]
    findings: dict[str, Any] = field(default_factory=dict)
    mask: np.ndarray | None = None

    @property
    def detector_shape(self) -> tuple[int, int]:
        """Number of detector pixels (y, x)."""
        return self.counts.shape[1], self.counts.shape[2]


def prepare_patterns(recording: Recording, settings: PtychographySettings, mask: np.ndarray | None = None) -> Patterns:
    """Select, convert to electrons, centre the disk, find the orientation.

    Args:
        recording: As read from a file.
        settings: The configuration.
        mask: Detector pixels that are used [ky kx], 0 or 1, as the file has them; None for all.

    Raises:
        InputError: Values are missing or impossible.
    """
    known = calibration(recording, settings.data)
    counts = electrons(selected(recording, settings.data).counts, known.electrons_per_count, settings)
    mask = None if mask is None else selected_mask(mask, settings.data)
    if mask is not None:
        # What is not used counts nothing, so that a hot pixel misleads nobody.
        counts = counts * mask
    sampling = known.detector_sampling
    expected = known.semiangle / float(np.sqrt(sampling[0] * sampling[1]))
    disk = bright_field_disk(counts.mean(axis=(0, 1)), expected, mask)
    whole = [round(c) - n // 2 for c, n in zip(disk.centre, counts.shape[2:], strict=True)]
    rest = tuple(
        (c - n // 2 - w) * s for c, n, w, s in zip(disk.centre, counts.shape[2:], whole, sampling, strict=True)
    )
    findings: dict[str, Any] = {
        "disk_centre": [round(c, 2) for c in disk.centre],
        "disk_radius_mrad": round(disk.radius * float(np.sqrt(sampling[0] * sampling[1])), 3),
    }
    findings.update(_disk_warning(findings["disk_radius_mrad"], known.semiangle))
    check_electrons(counts)
    matrix, found = _orientation(counts, known, settings)
    shape = (counts.shape[0], counts.shape[1])
    back = [-w for w in whole]
    shifted = np.roll(counts, back, axis=(2, 3)).reshape(-1, *counts.shape[2:])
    used = None if mask is None else cornered(np.roll(mask, back, axis=(0, 1))[None])[0]
    return Patterns(cornered(shifted), known, (rest[0], rest[1]), matrix, shape, {**findings, **found}, used)


def electrons(counts: np.ndarray, electrons_per_count: float, settings: PtychographySettings) -> np.ndarray:
    """Electrons from a file's numbers, [scan_y scan_x ky kx] float32.

    Raises:
        InputError: Values are not finite or negative and the configuration does not say what to do with them.
    """
    data = settings.data
    values = np.asarray(counts, dtype=np.float32)
    if not (good := np.isfinite(values)).all():
        if data.replace_by is None:
            raise InputError(
                f"{int((~good).sum())} of {values.size} detector values are nan or infinite; set data.replace_by "
                "to the value they should have"
            )
        values = np.where(good, values, np.float32(data.replace_by))
    values = (values - np.float32(data.offset)) * np.float32(electrons_per_count)
    lowest = float(values.min())
    if lowest < 0 and not data.clip and settings.solver.noise != "gaussian":
        share = float((values < 0).mean())
        raise InputError(
            f"{100 * share:.2g} % of the counts are negative (lowest {lowest:.4g}); electrons are not: set data.offset "
            "to the dark level, data.clip: true, or solver.noise: gaussian"
        )
    if not values.max() > 0:
        raise InputError("all counts are zero; check data.key and data.offset")
    return np.maximum(values, 0.0) if data.clip else values


def check_electrons(counts: np.ndarray) -> None:
    """Refuse fractions of the beam that are taken for electrons: their likelihood would be nearly flat.

    Args:
        counts: What will be taken for electrons [scan_y scan_x ky kx].

    Raises:
        InputError: Patterns hold less than ten electrons and the numbers are not whole.
    """
    mean = float(counts.sum(axis=(2, 3), dtype=float).mean())
    sample = counts.reshape(-1, *counts.shape[2:])[:: max(1, len(counts) * counts.shape[1] // 64)]
    if mean < 10 and not np.array_equal(sample, np.round(sample)):
        raise InputError(
            f"a pattern holds {mean:.3g} electrons and the numbers are not whole; are they fractions of the beam? "
            "Set data.electrons_per_count to the electrons that one unit stands for"
        )


def _disk_warning(found: float, semiangle: float) -> dict[str, str]:
    if abs(found / semiangle - 1.0) < 0.1:
        return {}
    return {
        "warning": f"the disk measures {found:.3g} mrad, the semi-angle is said to be {semiangle:.3g} mrad; "
        "check data.detector_sampling and data.semiangle"
    }


def _orientation(
    counts: np.ndarray, known: Calibration, settings: PtychographySettings
) -> tuple[np.ndarray, dict[str, Any]]:
    choice = settings.orientation
    if choice == "as-is":
        return np.eye(2), {"orientation": "as-is"}
    if choice != "auto":
        given = {"transposed": choice.transpose, "flip_y": choice.flip_y, "flip_x": choice.flip_x}
        return orientation_matrix(choice.rotation, **given), {"orientation": {"rotation": choice.rotation, **given}}
    field = centre_of_mass(counts, known.detector_sampling)
    found = scan_orientation(field, known.scan_step)
    return found.matrix, {
        "orientation": {"rotation": found.rotation, "transposed": found.transposed},
        "curl": round(found.curl, 4),
        "curl_if_transposed": round(found.other_curl, 4),
        "other_matrix": found.other_matrix.tolist(),
    }
