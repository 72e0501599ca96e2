"""What a person may write in a simulation configuration. The docstring under each field is its documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from stemjax.core.errors import InputError
from stemjax.core.quantity import (
    Angle,
    Count,
    CountFromZero,
    CountPair,
    Degrees,
    Dose,
    Electrons,
    Energy,
    Length,
    LengthFromZero,
    LengthPair,
    Parsed,
    PositiveLength,
    Quantity,
    Settings,
    SignedAnglePair,
    Text,
    one_of,
)
from stemjax.problems.ptychography.aberration_settings import Aberrations, coefficient
from stemjax.problems.ptychography.refine_settings import DeviceCount

BUILDERS = ("mos2_monolayer", "srtio3", "si110", "au", "gan")
"""Specimens that are built by name."""

_WHOLE = Quantity("1", least=-20, most=20, whole=True)
_LENGTH = Quantity("Å")
_ANGLE = Quantity("mrad", least=0.0, most=1000.0)


def read_zone_axis(value: object) -> tuple[int, int, int]:
    """Three whole numbers [u, v, w], not all zero.

    >>> read_zone_axis([1, 1, 0])
    (1, 1, 0)
    """
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise InputError(f"{value!r} is not a zone axis; give three whole numbers such as [0, 0, 1]")
    u, v, w = (_WHOLE.read(entry) for entry in value)
    if u == v == w == 0:
        raise InputError("[0, 0, 0] is no direction; give three whole numbers such as [0, 0, 1]")
    return u, v, w


def read_points(value: object) -> tuple[tuple[float, float], ...]:
    """A list of points [y, x] in Å."""
    if not isinstance(value, list | tuple) or not all(isinstance(p, list | tuple) and len(p) == 2 for p in value):
        raise InputError(f"{value!r} is not a list of points; give [[y, x], ...] in Å such as [[12.0, 8.5]]")
    return tuple(_LENGTH.pair(point) for point in value)


def read_rings(value: object) -> dict[str, tuple[float, float]]:
    """Annular detectors: name -> [inner, outer] in mrad.

    >>> read_rings({"HAADF": [60, "0.2 rad"]})
    {'HAADF': (60.0, 200.0)}
    """
    if not isinstance(value, Mapping):
        raise InputError(f"{value!r} is not a mapping; give for example {{HAADF: [60, 200]}}")
    rings = {}
    for name, pair in value.items():
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise InputError(f"'{name}': {pair!r} is not a ring; give [inner, outer] in mrad such as [60, 200]")
        inner, outer = (_ANGLE.read(angle) for angle in pair)
        if outer <= inner:
            raise InputError(f"'{name}': [{inner:g}, {outer:g}] is empty; give [inner, outer] with outer > inner")
        rings[str(name)] = (inner, outer)
    return rings


_INTEGERS = (("type", "array"), ("items", {"type": "integer"}), ("minItems", 3), ("maxItems", 3))
_RING = {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": ["number", "string"]}}
ZoneAxis = Annotated[tuple[int, int, int], Parsed(read_zone_axis, _INTEGERS)]
Points = Annotated[tuple[tuple[float, float], ...], Parsed(read_points, (("type", "array"), ("x-unit", "Å")))]
Rings = Annotated[
    dict[str, tuple[float, float]],
    Parsed(read_rings, (("type", "object"), ("additionalProperties", _RING), ("x-unit", "mrad"))),
]


class SpecimenSettings(Settings):
    """The specimen: built by name, or read from a file of atoms. The beam runs along z."""

    builder: Annotated[str, one_of(*BUILDERS)] | None = None
    """Name of a specimen that stemjax builds (mos2_monolayer, srtio3, si110, au, gan)."""
    file: Text | None = None
    """File of atoms that ase reads (cif, xyz, vasp, ...); a relative path starts at the folder of the configuration."""
    zone_axis: ZoneAxis | None = None
    """Direction [u, v, w] of the crystal that is turned along the beam; without it, the file's z axis."""
    size: LengthPair | None = None
    """Smallest lateral size [Å], one number or [y, x]; without it, the scan and a margin fit in."""
    thickness: PositiveLength | None = None
    """Thickness along the beam [Å]; rounded up to whole cells. A monolayer needs none."""
    vacancies: Points = ()
    """Points [[y, x], ...] [Å]; the nearest atom to each is taken out (sulphur in mos2_monolayer)."""
    rms_displacement: LengthFromZero | None = None
    """Thermal displacement of every atom along one axis, root mean square [Å]."""
    tilt: SignedAnglePair = (0.0, 0.0)
    """Tilt of the specimen against the beam [mrad], [y, x]."""

    @model_validator(mode="after")
    def _one_source(self) -> SpecimenSettings:
        if (self.builder is None) == (self.file is None):
            found = "both are" if self.builder else "neither is"
            raise InputError(f"specimen wants 'builder' or 'file' and {found} given; give one, e.g. builder: srtio3")
        if self.builder not in (None, "mos2_monolayer") and self.thickness is None:
            raise InputError(f"specimen.builder = {self.builder} needs specimen.thickness; add 'thickness: 20 nm'")
        return self


class PotentialSettings(Settings):
    """The projected potential."""

    parametrization: Annotated[Literal["lobato", "kirkland"], one_of("lobato", "kirkland")] = "lobato"
    """Electron scattering factors."""
    sampling: PositiveLength = 0.1
    """Largest pixel of the grid [Å]."""
    slice_thickness: PositiveLength = 2.0
    """Largest thickness of a slice [Å]."""


class ProbeSettings(Settings):
    """The beam."""

    energy: Energy
    """Kinetic energy [eV]."""
    semiangle: Angle
    """Convergence semi-angle [mrad]."""
    defocus: Length = 0.0
    """Defocus, positive for underfocus, = -C10 [Å]."""
    aberrations: Aberrations = Field(default_factory=dict)
    """Other aberrations [Å]: C12a and C12b, C12 and phi12, or Haider's names (A1, B2, C3, ...)."""

    @model_validator(mode="after")
    def _one_defocus(self) -> ProbeSettings:
        given = [name for name in self.aberrations if coefficient(name) == "C10"]
        if given and self.defocus != 0.0:
            raise InputError(f"probe.defocus and probe.aberrations.{given[0]} say the same thing; keep one of them")
        return self


class ScanSettings(Settings):
    """The raster of the probe, about the centre of the specimen."""

    shape: CountPair
    """Number of positions [y, x]."""
    step: LengthPair
    """Step [Å], one number or [y, x]."""
    rotation: Degrees = 0.0
    """Angle of the scan axes against the detector axes [degree]."""
    position_error: LengthFromZero = 0.0
    """Random error of each position along each axis, root mean square [Å]."""


class PixelatedSettings(Settings):
    """A detector that records a pattern at every position."""

    shape: CountPair | None = None
    """Number of pixels [y, x] about the axis, after binning; without it, all that the grid carries."""
    bin: Count = 1
    """Pixels of the grid that make one detector pixel, along each axis."""


class DetectorSettings(Settings):
    """What is recorded."""

    pixelated: PixelatedSettings | None = None
    """A pattern at every position: {} for the whole grid, or {shape, bin}."""
    annular: Rings = Field(default_factory=dict)
    """Annular detectors, name -> [inner, outer] [mrad]."""

    @model_validator(mode="before")
    @classmethod
    def _written_alone(cls, value: Any) -> Any:
        """A line `pixelated:` with nothing behind it asks for the detector with its defaults."""
        if isinstance(value, Mapping) and "pixelated" in value and value["pixelated"] is None:
            return {**value, "pixelated": {}}
        return value

    @model_validator(mode="after")
    def _something(self) -> DetectorSettings:
        if self.pixelated is None and not self.annular:
            raise InputError("no detector is given; add 'pixelated: {}' or 'annular: {HAADF: [60, 200]}'")
        return self


class DoseSettings(Settings):
    """How many electrons; left out, the expected intensities are written without noise."""

    per_area: Dose | None = None
    """Electrons per area of the scan [e/Å^2]."""
    per_pattern: Electrons | None = None
    """Electrons at every position."""

    @model_validator(mode="after")
    def _one(self) -> DoseSettings:
        if self.per_area is not None and self.per_pattern is not None:
            raise InputError("dose.per_area and dose.per_pattern say the same thing; keep one of them")
        return self


class SimulationSettings(Settings):
    """Simulation of a recording, from atoms to counts."""

    problem: Literal["simulation"]
    """The kind of problem."""
    specimen: SpecimenSettings
    """The specimen."""
    potential: PotentialSettings = Field(default_factory=PotentialSettings)
    """The projected potential."""
    probe: ProbeSettings
    """The beam."""
    scan: ScanSettings
    """The raster of the probe."""
    detector: DetectorSettings = Field(default_factory=lambda: DetectorSettings(pixelated=PixelatedSettings()))
    """What is recorded."""
    dose: DoseSettings = Field(default_factory=DoseSettings)
    """How many electrons."""
    seed: CountFromZero = 0
    """Seed of noise and of position errors."""
    devices: DeviceCount = "auto"
    """Number of devices (CPU cores or GPUs) to use; auto takes all."""
