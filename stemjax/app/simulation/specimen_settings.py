"""What a person may write about the specimen. The docstring under each field is its documentation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stemjax.app.simulation.entries import Areas, Displacement, Dopants, Points, ZoneAxis
from stemjax.core.errors import InputError
from stemjax.core.quantity import (
    Count,
    CountFromZero,
    Flag,
    LengthPair,
    PositiveLength,
    Settings,
    SignedAnglePair,
    Text,
    one_of,
)

BUILDERS = ("mos2_monolayer", "graphene", "srtio3", "si110", "au", "gan")
"""Specimens that are built by name."""
LAYERS = ("mos2_monolayer", "graphene")
"""Those that need no thickness."""


class FieldSettings(Settings):
    """Projected fields on top of the atoms, as arrays [y, x] of phase (.npy) that span the specimen."""

    electrostatic: Text | None = None
    """File of a phase [rad] that the electrostatic field adds; it mirrors when the specimen is turned over."""
    magnetic: Text | None = None
    """File of a phase [rad] that the magnetic field adds; turned over, it mirrors and changes its sign."""
    flip: Flag = False
    """Turn the specimen over about the y axis, atoms and fields."""


class SpecimenSettings(Settings):
    """The specimen: built by name, or read from a file of atoms. The beam runs along z."""

    builder: Annotated[str, one_of(*BUILDERS)] | None = None
    """Name of a specimen that stemjax builds (mos2_monolayer, graphene, srtio3, si110, au, gan)."""
    file: Text | None = None
    """File of atoms that ase reads (cif, xyz, vasp, ...); a relative path starts at the folder of the configuration."""
    zone_axis: ZoneAxis | None = None
    """Direction [u, v, w] of the crystal that is turned along the beam; without it, the file's z axis."""
    size: LengthPair | None = None
    """Smallest lateral size [Å], one number or [y, x]; without it, the scan and a margin fit in."""
    thickness: PositiveLength | None = None
    """Thickness along the beam [Å]; rounded up to whole cells. A layer needs none."""
    vacancies: Points = ()
    """Points [[y, x], ...] [Å]; the nearest atom to each is taken out (sulphur in mos2_monolayer)."""
    dopants: Dopants = Field(default_factory=dict)
    """Elements put in at random, element -> {replaces, fraction}, e.g. {La: {replaces: Sr, fraction: 0.1}}."""
    rms_displacement: Displacement | None = None
    """Thermal displacement along one axis, root mean square [Å]: one for all, or by element {O: 0.09, Ti: 0.07}."""
    b_factors: Areas = Field(default_factory=dict)
    """Debye-Waller factors B = 8π²u² by element [Å^2], in place of rms_displacement."""
    phonons: CountFromZero = 0
    """Number of frozen-phonon configurations that are averaged; 0 for the mean (Debye-Waller) potential."""
    absorption: Flag = False
    """With the mean potential: take out of the elastic wave what thermal scattering takes, and send it to the annular
    detectors (an approximation that costs one pass)."""
    trajectory: Flag = False
    """Take every frame of `file` as one configuration of the atoms (a molecular-dynamics trajectory)."""
    field: FieldSettings | None = None
    """Projected fields on top of the atoms."""
    tilt: SignedAnglePair = (0.0, 0.0)
    """Tilt of the specimen against the beam [mrad], [y, x]."""

    @model_validator(mode="after")
    def _one_source(self) -> SpecimenSettings:
        if (self.builder is None) == (self.file is None):
            found = "both are" if self.builder else "neither is"
            raise InputError(f"specimen wants 'builder' or 'file' and {found} given; give one, e.g. builder: srtio3")
        if self.builder not in (None, *LAYERS) and self.thickness is None:
            raise InputError(f"specimen.builder = {self.builder} needs specimen.thickness; add 'thickness: 20 nm'")
        if self.builder in LAYERS and (self.zone_axis is not None or self.thickness is not None):
            raise InputError(f"specimen.builder = {self.builder} is one layer; drop specimen.thickness and zone_axis")
        return self

    @model_validator(mode="after")
    def _one_vibration(self) -> SpecimenSettings:
        if self.b_factors and self.rms_displacement is not None:
            raise InputError("specimen.b_factors and specimen.rms_displacement say the same thing; keep one of them")
        moving = self.b_factors or self.rms_displacement
        if (self.phonons or self.absorption) and not moving:
            raise InputError("specimen.phonons and absorption need vibration; add 'rms_displacement: 0.08 Å'")
        if self.phonons and self.absorption:
            raise InputError("specimen.phonons and specimen.absorption are two ways to the same; keep one of them")
        if self.trajectory and (self.file is None or self.phonons or moving):
            raise InputError(
                "specimen.trajectory takes the frames of specimen.file as they are; drop what makes them move"
            )
        return self


class PotentialSettings(Settings):
    """The projected potential."""

    parametrization: Annotated[Literal["lobato", "kirkland"], one_of("lobato", "kirkland")] = "lobato"
    """Electron scattering factors."""
    sampling: PositiveLength = 0.1
    """Largest pixel of the grid [Å]."""
    slice_thickness: PositiveLength = 2.0
    """Largest thickness of a slice [Å]."""


class PropagationSettings(Settings):
    """How the wave is sent through the specimen."""

    method: Annotated[Literal["auto", "multislice", "prism"], one_of("auto", "multislice", "prism")] = "auto"
    """auto takes the fastest exact one."""
    interpolation: Count = 1
    """Interpolation factor of PRISM; 1 is exact, more is faster and approximate."""

    @model_validator(mode="after")
    def _prism(self) -> PropagationSettings:
        if self.interpolation > 1 and self.method != "prism":
            raise InputError("propagation.interpolation belongs to PRISM; add 'method: prism'")
        return self
