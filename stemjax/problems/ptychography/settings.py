"""What a person may write in a ptychography configuration. The docstring under each field is its documentation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_serializer, model_validator

from stemjax.core.errors import InputError
from stemjax.core.quantity import (
    Angle,
    AnglePair,
    Count,
    CountFromZero,
    CountPair,
    Energy,
    Flag,
    Gain,
    LengthFromZero,
    LengthOrAuto,
    LengthPair,
    Number,
    NumberFromZero,
    PositiveLength,
    Settings,
    Share,
    Text,
    one_of,
)
from stemjax.problems.ptychography.aberration_settings import Aberrations, coefficient
from stemjax.problems.ptychography.refine_settings import (
    AxisCrop,
    Checkpoint,
    CountOrAuto,
    Orientation,
    OrientationWord,
    PassesOrAuto,
    Rates,
    RefineSettings,
    orientation_kind,
)


class DataSettings(Settings):
    """The measurement. What the file tells need not be written; what is written here wins over the file."""

    file: Text
    """File of 4D-STEM patterns; a relative path starts at the folder of the configuration."""
    key: Text | None = None
    """Name of the data set inside the file, where the file has several."""
    format: Text | None = None
    """Format, where name and content do not tell: stemjax, py4dstem, hdf5, numpy, empad, or a rosettasciio name."""
    axes: Text | None = None
    """Order of the axes in the file, where it is another than "scan_y scan_x ky kx"."""
    scan_shape: CountPair | None = None
    """Number of scan positions [y, x]."""
    energy: Energy | None = None
    """Kinetic energy of the beam [eV]."""
    scan_step: LengthPair | None = None
    """Step of the scan [Å], one number or [y, x]."""
    detector_sampling: AnglePair | None = None
    """Size of a detector pixel [mrad], one number or [y, x]."""
    semiangle: Angle | None = None
    """Convergence semi-angle [mrad]."""
    electrons_per_count: Gain | None = None
    """Electrons for one unit of the data; without it the counts are taken for electrons."""
    offset: Number = 0.0
    """Dark offset that is subtracted from every detector pixel, in units of the data."""
    clip: Flag = False
    """Whether negative values become 0 (after the offset); this biases the mean of readout noise upwards."""
    mask: Text | None = None
    """File of the detector pixels that are used (.npy [ky kx], 0 where one is hidden, dead or hot)."""
    replace_by: NumberFromZero | None = None
    """Value for pixels that are nan or infinite; without it such data are refused."""
    crop: AxisCrop | None = None
    """Part of the scan to use: {y: [first, end], x: [first, end]}, the end not included."""
    bin: Count = 1
    """Detector pixels that are summed to one, along each axis."""

    def optics(self) -> dict[str, Any]:
        """The values that win over the file's, as `stemjax.io.read_recording` takes them."""
        names = ("energy", "scan_step", "detector_sampling", "semiangle", "electrons_per_count")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


class ProbeSettings(Settings):
    """The first guess of the probe."""

    defocus: LengthOrAuto = "auto"
    """Defocus, positive for underfocus, = -C10 [Å]; auto takes the file's, and estimates it where the file has none."""
    aberrations: Aberrations = Field(default_factory=dict)
    """Other aberrations [Å]: C12a and C12b, C12 and phi12, or Haider's names (A1, B2, C3, ...)."""
    modes: Count = 1
    """Number of incoherent probe modes."""

    @model_validator(mode="after")
    def _one_defocus(self) -> ProbeSettings:
        given = [name for name in self.aberrations if coefficient(name) == "C10"]
        if given and self.defocus != "auto":
            raise InputError(f"probe.defocus and probe.aberrations.{given[0]} say the same thing; keep one of them")
        return self


class ObjectSettings(Settings):
    """The object: what is solved for in each pixel and slice."""

    kind: Annotated[Literal["phase", "complex", "potential"], one_of("phase", "complex", "potential")] = "phase"
    """phase: real phase shift [rad]; complex: phase and absorption; potential: projected potential [V Å], >= 0."""
    slices: Count = 1
    """Number of slices along the beam."""
    thickness: PositiveLength | None = None
    """Total thickness [Å]; needed where there is more than one slice."""
    steps: CountOrAuto = "auto"
    """Steps that the wave takes through every slice, for accuracy; auto keeps a step of several slices below 10 Å."""
    padding: LengthFromZero | None = None
    """Margin around the scanned area [Å]; without it, half of the probe's window."""

    @model_validator(mode="after")
    def _thick_enough(self) -> ObjectSettings:
        if self.slices > 1 and self.thickness is None:
            raise InputError(f"object.slices = {self.slices} needs object.thickness; add 'thickness: 20 nm'")
        return self


class PriorSettings(Settings):
    """What is believed before the data are seen; leave a line out for no such belief."""

    total_variation: NumberFromZero | None = None
    """Strength of total variation, in log-probability per radian of step between neighbours."""
    smoothness: NumberFromZero | None = None
    """Strength of the penalty on squared differences of neighbours (Tikhonov) [1/rad²]."""
    slice_smoothness: NumberFromZero | None = None
    """Strength of the same penalty between neighbouring slices [1/rad²]."""
    positivity: Flag = False
    """Whether the phase is kept from being negative."""
    position_std: PositiveLength | None = None
    """Standard deviation that scan positions, or lines, are believed to have about the raster [Å]."""
    drift_step: PositiveLength | None = None
    """Standard deviation of the drift from one line to the next [Å]; 2 % of the resolution if left out."""
    descan_std: Angle | None = None
    """Standard deviation of the patterns' displacement on the detector [mrad]; half a pixel if left out."""
    tilt_std: Angle | None = None
    """Standard deviation of the tilt of single patterns [mrad]; 2 mrad if left out."""


class SolverSettings(Settings):
    """How the problem is solved."""

    epochs: Count = 40
    """Number of passes through the data."""
    batch: Count = 64
    """Number of patterns in one step."""
    lift: PassesOrAuto = "auto"
    """Passes that find the first guess of several slices, which may absorb meanwhile; auto: 9, more if few patterns."""
    held_out: Share = 0.02
    """Share of the patterns that are not fitted but scored after every epoch; 0 for none."""
    noise: Annotated[Literal["poisson", "amplitude", "gaussian"], one_of("poisson", "amplitude", "gaussian")] = (
        "poisson"
    )
    """Noise of the data: poisson counts, amplitude (variance-stabilised counts), or gaussian."""
    rate: Rates = Field(default_factory=dict)
    """Learning rate of each kind of unknown, as {object: 0.01, probe: 0.001}; the others have defaults."""
    seed: CountFromZero = 0
    """Seed of the order of patterns and of random first guesses."""
    dtype: Annotated[Literal["float32", "float64"], one_of("float32", "float64")] = "float32"
    """Precision of the calculation."""
    devices: CountOrAuto = "auto"
    """Number of devices (CPU cores or GPUs) to use; auto takes all."""


class OutputSettings(Settings):
    """What is written, and where."""

    folder: Text | None = None
    """Folder of the results; a relative path starts at the folder of the configuration. `-o` wins over it."""
    checkpoint: Checkpoint = 60.0
    """When the state is saved for --resume: a number of epochs, or a time such as "60 s"."""
    report: Flag = True
    """Whether a report with figures is written at the end."""

    @field_serializer("checkpoint")
    def _with_unit(self, value: int | float) -> int | str:
        return f"{value:g} s" if isinstance(value, float) else value


class PtychographySettings(Settings):
    """Ptychographic reconstruction of a 4D-STEM measurement."""

    problem: Literal["ptychography"]
    """The kind of problem."""
    data: DataSettings
    """The measurement."""
    orientation: Annotated[
        Annotated[OrientationWord, Tag("<word>")] | Annotated[Orientation, Tag("<mapping>")],
        Discriminator(orientation_kind),
    ] = "auto"
    """How the scan lies on the detector: auto (from the data), as-is, or {rotation, transpose, flip_y, flip_x}."""
    probe: ProbeSettings = Field(default_factory=ProbeSettings)
    """The first guess of the probe."""
    object: ObjectSettings = Field(default_factory=ObjectSettings)
    """The object that is solved for."""
    refine: RefineSettings = Field(default_factory=RefineSettings)
    """What is solved for, and from which epoch on."""
    prior: PriorSettings = Field(default_factory=PriorSettings)
    """What is believed before the data are seen."""
    solver: SolverSettings = Field(default_factory=SolverSettings)
    """How the problem is solved."""
    output: OutputSettings = Field(default_factory=OutputSettings)
    """What is written, and where."""

    @model_validator(mode="after")
    def _agree(self) -> PtychographySettings:
        if self.refine.thickness is not None and self.object.slices == 1:
            raise InputError("refine.thickness needs more than one slice; set object.slices or drop refine.thickness")
        if self.refine.tilt is not None and self.refine.tilts is not None:
            raise InputError("refine.tilts has a tilt for every pattern already; drop refine.tilt")
        for name in self.solver.rate:
            if self.refine.rate_of(name) is not None:
                raise InputError(f"the rate of '{name}' is in solver.rate and in refine; keep one of them")
        return self
