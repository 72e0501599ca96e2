"""What a person may write about the beam and its path. The docstring under each field is its documentation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stemjax.app.simulation.entries import Turns
from stemjax.core.errors import InputError
from stemjax.core.quantity import (
    Angle,
    AngleFromZero,
    Count,
    CountPair,
    Degrees,
    Energy,
    EnergyWidth,
    Length,
    LengthFromZero,
    LengthPair,
    NumberFromZero,
    PositiveNumber,
    PositiveNumberPair,
    Seconds,
    SecondsFromZero,
    Settings,
    SignedCount,
    SpeedPair,
    Text,
    one_of,
)
from stemjax.problems.ptychography.aberration_settings import Aberrations, coefficient

PATHS = ("raster", "serpentine", "spiral", "hilbert", "random", "sparse")
"""Ways of the probe over the specimen."""


class PlateSettings(Settings):
    """A plate in the aperture that shapes the beam: one of these, or a file."""

    vortex: SignedCount | None = None
    """Charge of a vortex beam, any whole number."""
    hollow: AngleFromZero | None = None
    """Inner semi-angle of a hollow cone, a Bessel beam [mrad]."""
    gaussian: Angle | None = None
    """Rms angle of a Gaussian amplitude [mrad]."""
    rings: Count | None = None
    """Number of ring pairs of a MIDI-STEM plate (alternately 0 and 90 degree, of equal area)."""
    file: Text | None = None
    """Array [y, x] of a plate (.npy), complex or a phase [rad], over the square that just holds the aperture; zero
    angle at index n // 2, its border goes on outside."""

    @model_validator(mode="after")
    def _one(self) -> PlateSettings:
        given = [name for name, value in self if value is not None]
        if len(given) != 1:
            raise InputError(f"probe.plate wants one of vortex, hollow, gaussian, rings, file; {given or 'none'} given")
        return self


class CoherenceSettings(Settings):
    """Partial coherence, averaged over by quadrature."""

    source_size: LengthFromZero = 0.0
    """Size of the effective source in the plane of the specimen, rms along one axis [Å]; 0.42 times its FWHM."""
    energy_spread: EnergyWidth = 0.0
    """Energy spread of the beam, rms [eV]; 0.42 times its FWHM."""
    chromatic: LengthFromZero = 0.0
    """Coefficient of chromatic aberration Cc [Å]."""
    voltage_instability: NumberFromZero = 0.0
    """Relative instability of the high voltage, rms."""
    current_instability: NumberFromZero = 0.0
    """Relative instability of the lens currents, rms."""
    error: PositiveNumber = 1e-3
    """Largest error of the mutual coherence of any two beams; decides the number of nodes."""


class ProbeSettings(Settings):
    """The beam."""

    energy: Energy
    """Beam energy [eV]."""
    semiangle: Angle
    """Convergence semi-angle [mrad]."""
    defocus: Length = 0.0
    """Defocus, positive for underfocus, = -C10 [Å]."""
    aberrations: Aberrations = Field(default_factory=dict)
    """Other aberrations [Å]: C12a and C12b, C12 and phi12, or Haider's names (A1, B2, C3, ...)."""
    plate: PlateSettings | None = None
    """A plate that shapes the beam."""
    coherence: CoherenceSettings | None = None
    """Partial coherence."""

    @model_validator(mode="after")
    def _one_defocus(self) -> ProbeSettings:
        given = [name for name in self.aberrations if coefficient(name) == "C10"]
        if given and self.defocus != 0.0:
            raise InputError(f"probe.defocus and probe.aberrations.{given[0]} say the same thing; keep one of them")
        return self


class ScanSettings(Settings):
    """The path of the probe, about the centre of the specimen."""

    shape: CountPair
    """Number of positions [y, x]; of a spiral, random or sparse path the field in steps that it covers."""
    step: LengthPair
    """Step [Å], one number or [y, x]."""
    path: Annotated[Literal["raster", "serpentine", "spiral", "hilbert", "random", "sparse"], one_of(*PATHS)] = "raster"
    """Way over the field: raster, serpentine, spiral, hilbert, random or sparse."""
    points: Count | None = None
    """Number of positions of a spiral, random or sparse path; without it, shape's product (sparse: a quarter of it)."""
    rotation: Degrees = 0.0
    """Angle of the scan axes against the detector axes [degree]."""
    position_error: LengthFromZero = 0.0
    """Random error of each position along each axis, root mean square [Å]."""
    dwell: Seconds = 1e-5
    """Time at every position [s]."""
    flyback: SecondsFromZero = 0.0
    """Time between two lines [s]."""
    frames: Count = 1
    """Number of frames of a series."""
    frame_pause: SecondsFromZero = 0.0
    """Time between two frames [s]."""
    angles: Turns | None = None
    """Rotation of every frame against the first [degree], such as [0, 90] for a pair; in place of `frames`."""
    drift: SpeedPair = (0.0, 0.0)
    """Velocity of a linear drift [Å/s], [y, x]."""
    drift_walk: NumberFromZero = 0.0
    """Random-walk drift: rms displacement along one axis after a second [Å]; it grows with the root of the time."""
    jitter: LengthFromZero = 0.0
    """Random displacement of every line along each axis, rms [Å]."""
    scale: PositiveNumberPair = (1.0, 1.0)
    """Errors of the scan coils: true step over nominal step, [y, x]."""
    shear: Degrees = 0.0
    """Error of the right angle between the scan coils [degree]."""

    @model_validator(mode="after")
    def _fits(self) -> ScanSettings:
        if self.angles is not None and self.frames != 1:
            raise InputError("scan.angles has one entry a frame; drop scan.frames")
        if self.points is not None and self.path not in ("spiral", "random", "sparse"):
            raise InputError(f"scan.points does not belong to a {self.path} path; drop it, or give path: spiral")
        return self
