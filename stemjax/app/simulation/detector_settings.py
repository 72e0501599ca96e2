"""What a person may write about detectors, spectra and output. The docstring under a field is its documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from stemjax.app.simulation.entries import Depths, Lengths, Masks, Rings, Segments, Words
from stemjax.core.errors import InputError
from stemjax.core.quantity import (
    Angle,
    Count,
    CountPair,
    Dose,
    Electrons,
    EnergyLoss,
    EnergyWidth,
    Flag,
    Number,
    NumberFromZero,
    NumberPair,
    PicoAmpere,
    PositiveNumber,
    Settings,
    SignedAnglePair,
    Text,
    one_of,
)

RESERVED = ("CoM", "CoM_electrons", "CoM_y", "CoM_x", "iCoM", "MIDI", "patterns")
"""Names of images that a simulation gives itself."""


class PixelatedSettings(Settings):
    """A detector that records a pattern at every position."""

    shape: CountPair | None = None
    """Number of pixels [y, x] about the axis, after binning; without it, all that the grid carries."""
    bin: Count = 1
    """Pixels of the grid that make one detector pixel, along each axis."""


class CameraSettings(Settings):
    """How electrons become counts on the pixelated detector."""

    gain: PositiveNumber = 1.0
    """Counts of one electron."""
    dark: Number = 0.0
    """Counts without electrons."""
    readout: NumberFromZero = 0.0
    """Readout noise, rms [count]."""
    blur: NumberFromZero = 0.0
    """Point spread, rms [pixel]."""
    saturation: PositiveNumber | None = None
    """Counts at which a pixel is full."""


class ResponseSettings(Settings):
    """A measured detector: the map of its response, swept over by the beam."""

    file: Text
    """Array [y, x] of the signal (.npy, .hspy, ...)."""
    pixel: Angle
    """Size of a pixel of the map [mrad]."""
    name: Text = "measured"
    """Name of its image."""
    centre: NumberPair | None = None
    """Optic axis in the map [pixel], [y, x]; without it, the middle of the active area."""


class DetectorSettings(Settings):
    """What is recorded."""

    pixelated: PixelatedSettings | None = None
    """A pattern at every position: {} for the whole grid, or {shape, bin}."""
    camera: CameraSettings | None = None
    """How electrons become counts on the pixelated detector; left out, an ideal counter."""
    annular: Rings = Field(default_factory=dict)
    """Annular detectors, name -> [inner, outer] [mrad]."""
    segmented: Segments = Field(default_factory=dict)
    """Segmented detectors, name -> {rings, sectors, rotation}: edges of the rings [mrad], number, rotation [degree]."""
    moments: Angle | None = None
    """First moments (centre of mass) of the pattern up to this angle [mrad]: images CoM_y and CoM_x, and iCoM."""
    midi: Flag = False
    """The virtual detector that matches a plate of rings (probe.plate.rings)."""
    virtual: Masks = Field(default_factory=dict)
    """Virtual detectors, name -> file of weights (.npy) on the pixels of the pixelated detector."""
    response: ResponseSettings | None = None
    """A measured, uneven detector."""

    @model_validator(mode="before")
    @classmethod
    def _written_alone(cls, value: Any) -> Any:
        """A line `pixelated:` with nothing behind it asks for the detector with its defaults."""
        if isinstance(value, Mapping) and "pixelated" in value and value["pixelated"] is None:
            return {**value, "pixelated": {}}
        return value

    @model_validator(mode="after")
    def _something(self) -> DetectorSettings:
        images = self.annular or self.segmented or self.moments or self.midi or self.virtual or self.response
        if self.pixelated is None and not images:
            raise InputError("no detector is given; add 'pixelated: {}' or 'annular: {HAADF: [60, 200]}'")
        names = [*self.annular, *self.segmented, *self.virtual, *([self.response.name] if self.response else [])]
        twice = [name for name in names if names.count(name) > 1 or name in RESERVED]
        if twice:
            raise InputError(
                f"detector.{twice[0]} is the name of two images; give other names than {', '.join(RESERVED)}"
            )
        if self.pixelated is None and (self.camera or self.virtual):
            raise InputError("detector.camera and detector.virtual act on patterns; add 'pixelated: {}'")
        return self


class SpectrumSettings(Settings):
    """Energy-loss spectra at every position."""

    edges: Words = ()
    """Edges of the specimen's elements, such as [O_K, Ti_L3]; each also gives a map."""
    collection: Angle
    """Collection semi-angle [mrad]."""
    offset: SignedAnglePair = (0.0, 0.0)
    """Centre of the collection aperture against the axis [mrad], [y, x]."""
    start: EnergyLoss = 0.0
    """Energy loss of the first channel [eV]."""
    dispersion: EnergyWidth = 1.0
    """Energy of a channel [eV]."""
    channels: Count = 1024
    """Number of channels."""
    zero_loss_width: EnergyWidth = 0.5
    """Rms width of the zero-loss peak [eV]."""
    thickness_ratio: NumberFromZero = 0.5
    """Thickness over the mean free path of inelastic scattering t/λ."""
    plasmon: EnergyWidth = 20.0
    """Energy of the plasmon [eV]."""
    plasmon_width: EnergyWidth = 5.0
    """Width (FWHM) of the plasmon [eV]."""
    background: NumberFromZero = 0.0
    """Pre-edge background: probability per eV and electron at the lowest edge."""
    background_exponent: PositiveNumber = 3.0
    """Exponent r of the background E^-r."""
    window: EnergyWidth = 50.0
    """Energy window above the onset that the maps integrate [eV]."""


class SeriesSettings(Settings):
    """The same scan at several thicknesses or foci."""

    depths: Depths = ()
    """Depths at which the signals are taken [Å], besides the whole thickness."""
    defoci: Lengths = ()
    """Values of the defocus [Å], in place of probe.defocus."""


class DoseSettings(Settings):
    """How many electrons; left out, the expected intensities are written without noise."""

    per_area: Dose | None = None
    """Electrons per area of the scan [e/Å^2]."""
    per_pattern: Electrons | None = None
    """Electrons at every position."""
    current: PicoAmpere | None = None
    """Beam current [pA]; with scan.dwell it gives the electrons at every position."""

    @model_validator(mode="after")
    def _one(self) -> DoseSettings:
        given = [name for name in ("per_area", "per_pattern", "current") if getattr(self, name) is not None]
        if len(given) > 1:
            raise InputError(f"dose.{given[0]} and dose.{given[1]} say the same thing; keep one of them")
        return self


class WrittenSettings(Settings):
    """Which files are written."""

    emd: Flag = False
    """Also a file for py4DSTEM (EMD 1.0), NAME.emd.h5."""
    hyperspy: Flag = False
    """Also a file for HyperSpy, NAME.hspy."""
    truth: Annotated[Literal["apart", "inside", "none"], one_of("apart", "inside", "none")] = "apart"
    """Where the truth goes: apart in NAME.truth.h5, inside the file in a group, or none."""
