"""The spectrometer of a simulation and its spectra."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from stemjax.app.simulation.detector_settings import SpectrumSettings
from stemjax.app.simulation.settings import SimulationSettings
from stemjax.core.errors import InputError
from stemjax.core.typing import real
from stemjax.forward.recording import RecordedSpectrum
from stemjax.forward.spectrum import check_edges
from stemjax.specimen.structure import Structure
from stemjax.spectra.background import make_power_law
from stemjax.spectra.collection import make_collection
from stemjax.spectra.edges import make_edge
from stemjax.spectra.energy_axis import make_energy_axis
from stemjax.spectra.hydrogenic import channel_middles
from stemjax.spectra.kinematics import ridge_angle
from stemjax.spectra.lineshapes import make_gaussian_peak
from stemjax.spectra.low_loss import LowLoss, make_drude, make_low_loss
from stemjax.spectra.model import Spectrometer, make_core_loss, make_spectrometer
from stemjax.spectra.momentum import make_displaced_collection

FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))
"""Full width at half maximum of a normal distribution over its standard deviation."""


def build_spectrometer(settings: SimulationSettings, structure: Structure) -> Spectrometer | None:
    """The spectrometer of a configuration, its edges those of the specimen's elements; None where there is none."""
    choice = settings.spectrum
    if choice is None:
        return None
    if min(choice.dispersion, choice.window) <= 0.0:
        raise InputError("spectrum.dispersion and spectrum.window must be more than 0 eV; give for instance 0.5 and 50")
    energy = settings.probe.energy
    collection: Any = make_collection(choice.collection, settings.probe.semiangle)
    if any(choice.offset):
        collection = make_displaced_collection(choice.collection, choice.offset, convergence=settings.probe.semiangle)
    axis = make_energy_axis(choice.start, choice.dispersion, choice.channels)
    edges = {name: make_core_loss(make_edge(name), 0.0) for name in choice.edges}
    made = make_spectrometer(
        axis,
        energy,
        collection,
        zero_loss=make_gaussian_peak(max(FWHM * choice.zero_loss_width, choice.dispersion)),
        low_loss=_low_loss(choice, energy, collection),
        edges=edges,
        background=_background(choice, [float(core.edge.lowest) for core in edges.values()]),
    )
    check_edges(made, structure.numbers)
    return made


def _low_loss(choice: SpectrumSettings, energy: float, collection: Any) -> LowLoss | None:
    """A plasmon of the given t/λ."""
    if choice.thickness_ratio == 0.0:
        return None
    if min(choice.plasmon, choice.plasmon_width) <= 0.0:
        raise InputError("spectrum.plasmon and plasmon_width must be more than 0 eV; or give thickness_ratio: 0")
    foil = make_low_loss(
        make_drude(choice.plasmon, choice.plasmon_width),
        1000.0,
        faces=0.0,
        cutoff=float(ridge_angle(choice.plasmon, energy)),
    )
    # t/λ counts all losses of the plasmon, wherever the axis of the spectrum ends.
    fine = make_energy_axis(0.0, 0.25, int(20.0 * max(choice.plasmon, choice.plasmon_width) / 0.25))
    losses = jax.jit(lambda: (0.25 * foil.density(channel_middles(fine), energy, collection)).sum())()
    return foil.replace(thickness=real(1000.0 * choice.thickness_ratio / float(losses)))


def _background(choice: SpectrumSettings, onsets: list[float]) -> Any:
    if choice.background == 0.0:
        return None
    reference = min(onsets) if onsets else max(choice.start, 50.0)
    return make_power_law(choice.background, choice.background_exponent, reference)


def recorded_spectra(
    values: np.ndarray, shape: tuple[int, ...], raster: bool, settings: SimulationSettings
) -> RecordedSpectrum:
    """Spectra [pattern energy] in stored order as a spectrum image."""
    choice = settings.spectrum
    assert choice is not None
    noisy = settings.dose.per_area or settings.dose.per_pattern or settings.dose.current
    return RecordedSpectrum(
        values=np.asarray(values, np.float32).reshape(*shape, -1),
        dispersion=choice.dispersion,
        offset=choice.start,
        step=settings.scan.step if raster else None,
        collection_semiangle=choice.collection,
        units="electron" if noisy else "1",
        long_name="Energy-loss spectra",
    )
