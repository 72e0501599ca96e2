"""From a simulation's settings to files, computed in blocks, so that no scan is too long for the memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from stemjax.app.simulation.beam import build_probe, build_scan
from stemjax.app.simulation.detectors import build_camera, build_detectors, build_pixelated, virtual_weights
from stemjax.app.simulation.dose import electrons_of_pattern
from stemjax.app.simulation.files import recording_of, truth_of, write_files
from stemjax.app.simulation.settings import SimulationSettings
from stemjax.app.simulation.signals import (
    counts_dtype,
    electrons_in,
    named_images,
    noisy_patterns,
    noisy_values,
    pattern_images,
    stored_order,
    with_variances,
)
from stemjax.app.simulation.specimen import Built, build_specimen
from stemjax.app.simulation.spectrum import build_spectrometer, recorded_spectra
from stemjax.core.executor import plan
from stemjax.core.memory import fits, memory_at_hand
from stemjax.detect.pixelated import PixelatedDetector, centred
from stemjax.forward.blocks import in_blocks, simulate_in_blocks
from stemjax.forward.channelling import make_thermal_image
from stemjax.forward.diffraction import Diffraction
from stemjax.forward.experiment import Experiment, make_experiment
from stemjax.forward.image import PATTERNS, ScannedImage, Signals
from stemjax.forward.planner import PropagationPlan, choose_propagation
from stemjax.forward.prism import Prism
from stemjax.forward.recording import Conditions, Dataset
from stemjax.forward.series import slice_count, thickness_series
from stemjax.forward.spectrum import SpectrumImage
from stemjax.optics.modes import condensed_probe
from stemjax.optics.scan import make_scan, probe_positions

LARGEST_BLOCK = 1024
"""Probes in a block at most: their results come to the host, and progress is seen, in steps of this size."""


@dataclass(frozen=True)
class Simulation:
    """Everything before the noise: the experiment with one electron a pattern, detector, atoms, way of computing."""

    experiment: Experiment
    detector: PixelatedDetector | None
    built: Built
    planned: PropagationPlan

    @property
    def how(self) -> str:
        """What is computed, in words."""
        chosen = self.planned.estimates[0]
        if chosen.propagation == self.planned.propagation:
            return self.planned.describe().splitlines()[0]
        name = type(self.planned.propagation).__name__.replace("Diffraction", "multislice").replace("Prism", "PRISM")
        return f"{name}, as it has to be: {self.planned.probes} probes in blocks of {self.planned.block}"


@dataclass(frozen=True)
class Member:
    """One of a series (or the only one): its file, its experiment, how deep the beam goes [slices] and which focus."""

    path: Path
    experiment: Experiment
    depth: int | None = None
    number: int = 0


@dataclass(frozen=True)
class Written:
    """What a simulation left: its files, that of the truth (of the first member) or None, and how it was computed."""

    files: tuple[Path, ...]
    truth: Path | None
    how: str


def simulate(settings: SimulationSettings, path: Path) -> Written:
    """Simulate and write a recording, with the truth apart in `NAME.truth.h5`; a series writes one file a member.

    Args:
        settings: The configuration, paths absolute.
        path: File of the recording.
    """
    made = prepare_simulation(settings)
    written = [_write_member(member, made, settings) for member in _members(made, settings, path)]
    files = tuple(file for group, _ in written for file in group)
    return Written(files, written[0][1], made.how)


def prepare_simulation(settings: SimulationSettings, *, atoms: bool = False) -> Simulation:
    """Specimen, probe, scan, detectors of a simulation, and the way that it will be computed.

    Args:
        settings: The configuration.
        atoms: Keep the atoms as leaves, where their potential alone would do.
    """
    built = build_specimen(settings, atoms=atoms)
    grid = built.specimen.grid
    probe = build_probe(settings.probe, grid)
    experiment = make_experiment(
        probe,
        built.specimen,
        build_scan(settings, grid),
        tilt=settings.specimen.tilt,
        detectors=build_detectors(settings, grid, probe),
        spectrometer=build_spectrometer(settings, built.structure),
    )
    detector = build_pixelated(settings, grid)
    return Simulation(experiment, detector, built, _planned(experiment, detector, settings))


def _planned(
    experiment: Experiment, detector: PixelatedDetector | None, settings: SimulationSettings
) -> PropagationPlan:
    """The propagation that the settings ask for, or the cheapest exact one, and the size of the blocks."""
    devices = None if settings.devices == "auto" else settings.devices
    base = Diffraction(detector, limit_transmission=True, execution=plan(devices))
    computed = experiment.replace(probe=_condensed(experiment.probe, settings))
    kept = None if detector is not None else 8.0 * (1 + len(experiment.detectors))
    found = choose_propagation(computed, base, kept_bytes=kept)
    method, wanted = settings.propagation.method, settings.propagation.interpolation
    if method == "multislice" or settings.specimen.absorption or settings.spectrum is not None:
        if not isinstance(found.propagation, Prism):
            return replace(found, block=min(found.block, LARGEST_BLOCK))
        return replace(found, propagation=base, block=min(found.block, LARGEST_BLOCK))
    if method == "prism" and not isinstance(found.propagation, Prism):
        fields = {n: getattr(base, n) for n in ("detector", "limit", "limit_transmission", "execution")}
        found = replace(found, propagation=Prism(**fields).fitted(computed))
    if wanted > 1 and isinstance(found.propagation, Prism):
        found = replace(found, propagation=replace(found.propagation, interpolation=(wanted, wanted)))
    return replace(found, block=min(found.block, LARGEST_BLOCK))


def _condensed(probe: Any, settings: SimulationSettings) -> Any:
    """The probe with its many nodes of coherence as the few modes that they amount to."""
    if probe.coherence is None or settings.probe.coherence is None:
        return probe
    return condensed_probe(probe, lost=min(0.5 * settings.probe.coherence.error, 0.4))


def _members(made: Simulation, settings: SimulationSettings, path: Path) -> Iterator[Member]:
    """Every member of the series; without one, the experiment itself."""
    series, lens = settings.series, made.experiment.probe.aberrations
    if series.defoci:
        for number, defocus in enumerate(series.defoci):
            probe = made.experiment.probe.replace(aberrations=lens.replace(C10=0.0 * lens.C10 - defocus))
            yield Member(_numbered(path, number), made.experiment.replace(probe=probe), None, number)
        return
    if series.depths:
        whole = slice_count(made.experiment)
        thickness = float(np.asarray(made.built.structure.cell)[0]) / whole
        counts = sorted({min(max(1, round(depth / thickness)), whole) for depth in series.depths} | {whole})
        for number, depth in enumerate(counts):
            yield Member(_numbered(path, number), made.experiment, depth, number)
        return
    yield Member(path, made.experiment)


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}.{number:03d}{path.suffix}")


def _write_member(member: Member, made: Simulation, settings: SimulationSettings) -> tuple[list[Path], Path | None]:
    """Compute and write one member of the series."""
    order, shape = stored_order(member.experiment.scan)
    values, counts = _recorded(member, made, settings, order)
    if counts is not None:
        counts = counts.reshape(-1, shape[-1], *counts.shape[1:])
    unit = "1" if electrons_of_pattern(settings) is None else "electron"
    raster = member.experiment.scan.shape is not None
    spectra = {}
    if settings.spectrum is not None:
        found, maps = _spectra(member, made, settings, order)
        values = values | maps
        spectra = {"EELS": recorded_spectra(found, shape, raster, settings)}
    images = named_images(values, shape, raster, settings, unit)
    recording = recording_of(member.experiment, settings, counts, made.detector, order)
    dataset = Dataset(replace(recording, conditions=_deep(recording.conditions, member, made)), images, spectra)
    truth = truth_of(member.experiment, made.built.structure, settings, member.depth)
    return write_files(member.path, dataset, truth, settings)


def _deep(conditions: Conditions, member: Member, made: Simulation) -> Conditions:
    """The conditions with the depth that the beam went through."""
    depth = float(np.asarray(made.built.structure.cell)[0])
    if member.depth is not None:
        depth *= member.depth / slice_count(member.experiment)
    return replace(conditions, thickness=depth)


def _recorded(
    member: Member, made: Simulation, settings: SimulationSettings, order: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Recorded values of all detectors and, where there is a pixelated one, counts [pattern ky kx], in stored order."""
    electrons, camera = electrons_of_pattern(settings), build_camera(settings)
    weights: dict[str, np.ndarray] = {}
    counts = None
    if made.detector is not None:
        weights = virtual_weights(settings, made.detector.shape)
        counts = _room((len(order), *made.detector.shape), counts_dtype(electrons, camera), member.path)
    parts: list[dict[str, np.ndarray]] = []
    for where, values in _blocks(member, made, settings, order):
        values = dict(values)
        seed = [settings.seed, 2, member.number, where.start]
        found = noisy_values({n: v for n, v in values.items() if n != PATTERNS}, electrons, [*seed, 1])
        if counts is not None:
            counts[where] = centred(noisy_patterns(values[PATTERNS], electrons, camera, seed))
            found |= pattern_images(electrons_in(counts[where], camera), weights)
        parts.append(found)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, counts


def _spectra(
    member: Member, made: Simulation, settings: SimulationSettings, order: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Recorded spectra [pattern energy] and maps of the edges [pattern], in stored order."""
    assert settings.spectrum is not None
    assert isinstance(made.planned.propagation, Diffraction)
    electrons = electrons_of_pattern(settings)
    experiment = _in_order(member, settings, order).replace(detectors={})
    simulator = SpectrumImage(made.planned.propagation, settings.spectrum.window)
    run = jax.jit(lambda e, index: simulator.signals(e, index))
    parts = []
    for where, (spectra, maps) in in_blocks(lambda index: run(experiment, index), len(order), made.planned.block):
        seed = [settings.seed, 3, member.number, where.start]
        parts.append(noisy_values({"": spectra, **maps}, electrons, seed))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return joined.pop(""), joined


def _room(shape: tuple[int, ...], dtype: np.dtype, path: Path) -> np.ndarray:
    """Room for all counts: in the memory where they fit, else in a file that has no name and goes with the process."""
    if fits(4.0 * float(np.prod(shape)) * dtype.itemsize, memory_at_hand()):
        return np.empty(shape, dtype)
    return np.memmap(tempfile.TemporaryFile(dir=path.parent), dtype, "w+", shape=shape)


def _in_order(member: Member, settings: SimulationSettings, order: np.ndarray) -> Experiment:
    """The experiment with its probes in stored order, all displacements in the positions, the probe in few modes."""
    positions = np.asarray(probe_positions(member.experiment.scan))[order]
    probe = _condensed(member.experiment.probe, settings)
    return member.experiment.replace(probe=probe, scan=make_scan(positions))


def _blocks(
    member: Member, made: Simulation, settings: SimulationSettings, order: np.ndarray
) -> Iterator[tuple[slice, dict[str, np.ndarray]]]:
    """Expected values of every signal for one electron a pattern, block after block, in stored order."""
    experiment = with_variances(_in_order(member, settings, order), electrons_of_pattern(settings) is not None)
    propagation, block = made.planned.propagation, made.planned.block
    simulator: Any = ScannedImage(propagation) if made.detector is None else Signals(propagation)
    if settings.specimen.absorption:
        simulator = make_thermal_image(member.experiment.detectors, experiment.specimen, propagation)  # type: ignore[arg-type]
    if member.depth is None:
        yield from simulate_in_blocks(simulator, experiment, block)
        return
    depth = (member.depth,)
    run = jax.jit(lambda e, index: jax.tree.map(lambda a: a[0], thickness_series(simulator, e, depth, index)))
    yield from in_blocks(lambda index: run(experiment, index), len(order), block)
