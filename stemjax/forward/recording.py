"""What a file of STEM data says, in the file's own orientation, before any of it is interpreted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

ELEMENTARY_CHARGE = 1.602176634e-19
"""Charge of an electron [C], exact in the SI of 2019."""


def quantity(unit: str) -> Any:
    """A field of a dataclass that is None where it is not known, with its unit."""
    return field(default=None, metadata={"unit": unit})


@dataclass(frozen=True)
class Conditions:
    """How data were taken, as far as it is known; what is None is not told. Angles of detectors are with their images.

    Args:
        beam_current: Current of the probe [pA].
        dose: Electrons in one pattern [electron]; `electrons(beam_current, dwell_time)`.
        dwell_time: Time from a point to the next [s].
        flyback_time: Additional time from a row to the next [s].
        tilt: Tilt of the specimen (y, x) [mrad].
        aberrations: Coefficients by Krivanek's names, Cartesian (C12a, C12b, ...) [Å]; C10 is -defocus.
        source_size: Standard deviation (y, x) of the source's image at the specimen [Å].
        chromatic: Coefficient of chromatic aberration Cc [Å].
        energy_spread: Standard deviation of the beam's energy [eV].
        temperature: Temperature of the specimen [K].
        thickness: Thickness of the specimen [Å].
        times: Start of every pattern since the start of the scan [pattern] [s].
        positions: Position of every pattern [pattern 2] (y, x) [Å], as the scan was set.
        vacuum_probe: Pattern without specimen [ky kx] [count], oriented as the counts.
        title: What the data show.
        sample: What the specimen is and where it comes from.
        instrument: Microscope, or program and version.
        authors: Who took the data.
        date: When, as ISO 8601 ("2026-11-24T18:30:00+01:00").
        licence: Under what terms the data may be used ("CC-BY-4.0").
    """

    beam_current: float | None = quantity("pA")
    dose: float | None = quantity("electron")
    dwell_time: float | None = quantity("s")
    flyback_time: float | None = quantity("s")
    tilt: tuple[float, float] | None = quantity("mrad")
    aberrations: Mapping[str, float] = field(default_factory=dict, metadata={"unit": "Å"})
    source_size: tuple[float, float] | None = quantity("Å")
    chromatic: float | None = quantity("Å")
    energy_spread: float | None = quantity("eV")
    temperature: float | None = quantity("K")
    thickness: float | None = quantity("Å")
    times: np.ndarray | None = quantity("s")
    positions: np.ndarray | None = quantity("Å")
    vacuum_probe: np.ndarray | None = quantity("count")
    title: str | None = None
    sample: str | None = None
    instrument: str | None = None
    authors: str | None = None
    date: str | None = None
    licence: str | None = None

    def told(self) -> dict[str, Any]:
        """What is known, by name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: v for k, v in values.items() if v is not None and not (isinstance(v, Mapping) and not v)}


CONDITION_UNITS: dict[str, str] = {f.name: f.metadata.get("unit", "") for f in fields(Conditions)}
"""Unit of every condition; empty for texts."""


def electrons(beam_current: float, dwell_time: float) -> float:
    r"""Electrons in one pattern, :math:`I \tau / e`.

    Args:
        beam_current: Current of the probe [pA].
        dwell_time: Time on a point [s].

    >>> round(electrons(10.0, 1e-6), 3)
    62.415
    """
    return beam_current * 1e-12 * dwell_time / ELEMENTARY_CHARGE


@dataclass(frozen=True)
class Recording:
    """A 4D-STEM data set as read: detector patterns on a raster, and whatever the file tells of the optics.

    A value that the file does not tell is None; nothing is guessed here.

    Args:
        counts: Patterns [scan_y scan_x ky kx], in the orientation of the file, zero frequency near the centre;
            any real numeric type, and any array-like that numpy can slice (an h5py dataset that was read, a memmap).
            Without patterns (images or spectra alone) an array of no elements.
        energy: Kinetic energy of the beam [eV].
        scan_step: Step of the raster (y, x) [Å].
        detector_sampling: Size of a detector pixel (y, x) [mrad].
        semiangle: Convergence semi-angle [mrad].
        defocus: Defocus, positive for underfocus, = -C10 [Å].
        scan_rotation: Angle of the scan axes against the detector axes [degree].
        electrons_per_count: Detector gain, electrons for one unit of `counts`.
        metadata: Other entries of the file, flat, as plain Python values.
        source: Where the data were read from (path, key, format, sha256).
        conditions: Everything else that is known of how the data were taken.
    """

    counts: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0, 0), np.uint8))
    energy: float | None = None
    scan_step: tuple[float, float] | None = None
    detector_sampling: tuple[float, float] | None = None
    semiangle: float | None = None
    defocus: float | None = None
    scan_rotation: float | None = None
    electrons_per_count: float | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    conditions: Conditions = field(default_factory=Conditions)

    @property
    def scan_shape(self) -> tuple[int, int]:
        """Number of scan positions (y, x)."""
        return self.counts.shape[0], self.counts.shape[1]

    @property
    def detector_shape(self) -> tuple[int, int]:
        """Number of detector pixels (y, x)."""
        return self.counts.shape[2], self.counts.shape[3]


@dataclass(frozen=True)
class RecordedImage:
    """An image of an integrating detector.

    Args:
        values: Signal [y x], or [frame y x] for a series.
        step: Distance of pixels (y, x) [Å], or None.
        detector: Inner and outer angle of the detector [mrad], or None for one that is no ring.
        units: Unit of the values ("electron", "1" for a fraction of the beam).
        long_name: What a person calls it.
    """

    values: np.ndarray
    step: tuple[float, float] | None = None
    detector: tuple[float, float] | None = None
    units: str = "electron"
    long_name: str = ""


@dataclass(frozen=True)
class RecordedSpectrum:
    """Energy-loss spectra: one, a line, an image of them, or a series of images.

    Args:
        values: Signal [energy], [x energy], [y x energy] or [frame y x energy].
        dispersion: Energy of one channel [eV].
        offset: Energy loss at channel 0 [eV].
        step: Distance of pixels (y, x) [Å], or None.
        collection_semiangle: Collection semi-angle of the spectrometer [mrad], or None.
        units: Unit of the values ("electron", "1" for a fraction of the beam).
        long_name: What a person calls it.
    """

    values: np.ndarray
    dispersion: float
    offset: float = 0.0
    step: tuple[float, float] | None = None
    collection_semiangle: float | None = None
    units: str = "electron"
    long_name: str = ""


@dataclass(frozen=True)
class Dataset:
    """Everything that one session recorded: patterns, images and spectra, and the conditions they share.

    Args:
        recording: Patterns with their optics and conditions; `Recording(energy=...)` where there are none.
        images: Images by name.
        spectra: Spectra by name.
    """

    recording: Recording = field(default_factory=Recording)
    images: Mapping[str, RecordedImage] = field(default_factory=dict)
    spectra: Mapping[str, RecordedSpectrum] = field(default_factory=dict)
