"""What a person may write in a simulation configuration. The docstring under each field is its documentation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from stemjax.app.simulation.beam_settings import ProbeSettings, ScanSettings
from stemjax.app.simulation.detector_settings import (
    DetectorSettings,
    DoseSettings,
    PixelatedSettings,
    SeriesSettings,
    SpectrumSettings,
    WrittenSettings,
)
from stemjax.app.simulation.specimen_settings import PotentialSettings, PropagationSettings, SpecimenSettings
from stemjax.core.errors import InputError
from stemjax.core.quantity import CountFromZero, Settings
from stemjax.problems.ptychography.refine_settings import CountOrAuto


class SimulationSettings(Settings):
    """Simulation of a recording, from atoms to counts."""

    problem: Literal["simulation"]
    """The kind of problem."""
    specimen: SpecimenSettings
    """The specimen."""
    potential: PotentialSettings = Field(default_factory=PotentialSettings)
    """The projected potential."""
    propagation: PropagationSettings = Field(default_factory=PropagationSettings)
    """How the wave is sent through the specimen."""
    probe: ProbeSettings
    """The beam."""
    scan: ScanSettings
    """The path of the probe."""
    detector: DetectorSettings = Field(default_factory=lambda: DetectorSettings(pixelated=PixelatedSettings()))
    """What is recorded."""
    spectrum: SpectrumSettings | None = None
    """Energy-loss spectra at every position."""
    series: SeriesSettings = Field(default_factory=SeriesSettings)
    """The same scan at several thicknesses or foci."""
    dose: DoseSettings = Field(default_factory=DoseSettings)
    """How many electrons."""
    output: WrittenSettings = Field(default_factory=WrittenSettings)
    """Which files are written."""
    seed: CountFromZero = 0
    """Seed of everything that is random: noise, phonons, dopants, drift, position errors."""
    devices: CountOrAuto = "auto"
    """Number of devices (CPU cores or GPUs) to use; auto takes all."""

    @model_validator(mode="after")
    def _together(self) -> SimulationSettings:
        plate = self.probe.plate
        if self.detector.midi and (plate is None or plate.rings is None):
            raise InputError("detector.midi matches a plate of rings; add 'plate: {rings: 10}' to probe")
        if self.series.depths and self.series.defoci:
            raise InputError("series.depths and series.defoci make two series; keep one of them")
        if self.specimen.absorption and not (self.detector.annular and self.detector.pixelated is None):
            raise InputError(
                "specimen.absorption serves annular detectors only; give detector.annular alone, or phonons"
            )
        self._refuse_pairs()
        return self

    def _refuse_pairs(self) -> None:
        """Refuse what cannot be had together."""
        if self.series.depths and (self.spectrum is not None or self.specimen.absorption):
            other = "spectrum" if self.spectrum is not None else "specimen.absorption"
            raise InputError(f"series.depths and {other} do not go together; give specimen.thickness, one run a depth")
        single = self.spectrum is not None or self.specimen.absorption
        if single and self.propagation.method == "prism":
            raise InputError(
                "spectra and absorption follow each probe through the slices; drop propagation.method: prism"
            )
        if self.spectrum is not None and self.specimen.field is not None:
            raise InputError("spectrum needs the atoms alone; drop specimen.field, or simulate the spectrum apart")
