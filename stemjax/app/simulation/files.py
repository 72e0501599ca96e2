"""What a simulation writes: data with every condition that a deposit asks for, the truth, copies for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from stemjax.app.simulation.beam import nominal_scan
from stemjax.app.simulation.detectors import build_camera
from stemjax.app.simulation.dose import electrons_of_pattern
from stemjax.app.simulation.settings import SimulationSettings
from stemjax.core.grid import Grid
from stemjax.detect.pixelated import PixelatedDetector, centred
from stemjax.forward.diffraction import Diffraction
from stemjax.forward.experiment import Experiment
from stemjax.forward.recording import Conditions, Dataset, Recording
from stemjax.forward.series import slice_count
from stemjax.inference.result import Named
from stemjax.io.dataset import read_dataset, write_dataset
from stemjax.io.emd_writer import write_emd
from stemjax.io.hyperspy_writer import write_hyperspy
from stemjax.optics.aberrations import NAMES
from stemjax.optics.electron import interaction_parameter, wavelength
from stemjax.optics.probe import probe_waves
from stemjax.optics.scan import probe_positions
from stemjax.specimen.structure import Structure


def recording_of(
    experiment: Experiment,
    settings: SimulationSettings,
    counts: np.ndarray | None,
    detector: PixelatedDetector | None,
    order: np.ndarray,
) -> Recording:
    """Patterns (or none) with optics and conditions of an experiment; `order` says which pattern is stored where.

    Only what a person at the microscope would know: aberrations and the errors of the scan belong to the truth.
    """
    beam, camera = settings.probe, settings.detector.camera
    bin = 1 if settings.detector.pixelated is None else settings.detector.pixelated.bin
    sampling = experiment.probe.grid.angular_sampling(wavelength(beam.energy))
    optional: dict[str, Any] = {} if counts is None else {"counts": counts}
    return Recording(
        energy=beam.energy,
        scan_step=settings.scan.step if experiment.scan.shape is not None and len(experiment.scan.shape) == 2 else None,
        defocus=-float(experiment.probe.aberrations.C10) if settings.series.defoci else None,
        detector_sampling=(bin * sampling[0], bin * sampling[1]),
        semiangle=beam.semiangle,
        scan_rotation=settings.scan.rotation,
        electrons_per_count=1.0 if camera is None else 1.0 / camera.gain,
        metadata={"simulated": True, "seed": settings.seed, "detectors": _detector_texts(settings)} | _others(settings),
        conditions=_conditions(experiment, settings, detector, order),
        **optional,
    )


def _conditions(
    experiment: Experiment, settings: SimulationSettings, detector: PixelatedDetector | None, order: np.ndarray
) -> Conditions:
    from stemjax import __version__

    scan, coherence = experiment.scan, settings.probe.coherence
    nominal = np.asarray(nominal_scan(settings, experiment.specimen.grid).positions, float)
    return Conditions(
        beam_current=settings.dose.current,
        dose=electrons_of_pattern(settings),
        dwell_time=settings.scan.dwell,
        flyback_time=settings.scan.flyback,
        tilt=settings.specimen.tilt,
        source_size=None if coherence is None else (coherence.source_size,) * 2,
        chromatic=None if coherence is None else coherence.chromatic,
        energy_spread=None if coherence is None else coherence.energy_spread,
        times=None if scan.times is None else np.asarray(scan.times, float)[order],
        positions=nominal[order] if scan.shape is None or len(scan.shape) == 3 else None,
        vacuum_probe=None if detector is None else vacuum_probe(experiment, detector, settings),
        instrument=f"stemjax {__version__} (simulated)",
    )


def _others(settings: SimulationSettings) -> dict[str, Any]:
    """What turns counts into electrons, (C − dark) / gain, and where the spectrometer's aperture stood."""
    camera, spectrum = settings.detector.camera, settings.spectrum
    found: dict[str, Any] = {} if spectrum is None else {"collection_offset_mrad": list(spectrum.offset)}
    if camera is None:
        return found
    named = {name: getattr(camera, name) for name in ("gain", "dark", "readout", "blur", "saturation")}
    return found | {f"camera_{name}": float(value) for name, value in named.items() if value is not None}


def _set(experiment: Experiment, name: str) -> bool:
    return float(getattr(experiment.probe.aberrations, name)) != 0.0


def vacuum_probe(experiment: Experiment, detector: PixelatedDetector, settings: SimulationSettings) -> np.ndarray:
    """Expected counts without specimen above the dark level, zero frequency in the centre [ky kx]."""
    # Neither the source nor the spread of the focus changes the intensity in the aperture.
    waves = np.asarray(probe_waves(experiment.probe.replace(coherence=None)))
    electrons, camera = electrons_of_pattern(settings), build_camera(settings)
    dose = jnp.asarray(1.0 if electrons is None else electrons)
    kept = Diffraction(detector).kept((dose, camera), jnp.asarray((np.abs(waves) ** 2).sum(axis=0)))
    return centred(np.asarray(kept if camera is None else camera.gain * kept))


def _detector_texts(settings: SimulationSettings) -> dict[str, str]:
    """What the detectors were, in words."""
    choice = settings.detector
    texts = {name: f"annular {a:g} to {b:g} mrad" for name, (a, b) in choice.annular.items()}
    for name, entry in choice.segmented.items():
        edges = ", ".join(f"{edge:g}" for edge in entry["rings"])
        texts[name] = f"rings {edges} mrad in {entry['sectors']} sectors from {entry['rotation']:g} degree"
    if choice.moments is not None:
        texts["CoM"] = f"centre of mass up to {choice.moments:g} mrad"
    return texts


def truth_of(
    experiment: Experiment, structure: Structure, settings: SimulationSettings, depth: int | None = None
) -> dict[str, Named]:
    """Projected phase, positions, atoms and aberrations, under the names of a reconstruction.

    Args:
        experiment: The experiment.
        structure: The atoms of the whole field.
        settings: The configuration.
        depth: Number of slices that the beam went through; all if left out.
    """
    phase, grid = _projected_phase(experiment, settings.probe.energy, depth)
    part = 1.0 if depth is None else depth / slice_count(experiment)
    places, scan = np.asarray(probe_positions(experiment.scan)), experiment.scan
    named = {
        "object_phase": Named(phase[None], "rad", ("slice", "y", "x"), "True projected phase", (1.0, *grid.sampling)),
        "position_y": Named(places[:, 0], "Å", ("pattern",), "True position along y"),
        "position_x": Named(places[:, 1], "Å", ("pattern",), "True position along x"),
        "aberration_C10": Named(np.asarray(experiment.probe.aberrations.C10), "Å", (), "True C10 at the entrance"),
        "specimen_depth": Named(part * np.asarray(structure.cell)[0], "Å", (), "Depth that the beam went through"),
        "atom_position": Named(np.asarray(structure.positions), "Å", ("atom", "axis"), "Atoms (z, y, x)"),
        "atom_number": Named(np.asarray(structure.numbers), "1", ("atom",), "Atomic numbers"),
        "atom_rms_displacement": Named(np.asarray(structure.rms_displacement), "Å", ("atom",), "Rms displacements"),
    }
    for name in NAMES:
        if name != "C10" and _set(experiment, name):
            value = np.asarray(getattr(experiment.probe.aberrations, name))
            named[f"aberration_{name}"] = Named(value, "Å", (), f"True {name}")
    for name, unit, axes in (("velocity", "Å/s", ("axis",)), ("walk", "Å", ("knot", "axis")), ("knots", "s", ("knot",)),
                             ("jitter", "Å", ("line", "axis"))):  # fmt: skip
        if getattr(scan, name) is not None:
            named[f"scan_{name}"] = Named(np.asarray(getattr(scan, name)), unit, axes, f"True {name} of the scan")
    return named


def _projected_phase(experiment: Experiment, energy: float, depth: int | None) -> tuple[np.ndarray, Grid]:
    """Phase [y x] of the mean potential, summed over the slices passed, and its grid."""
    specimen = experiment.specimen
    inner = getattr(specimen, "specimen", specimen)
    tile, repeats = getattr(inner, "tile", inner), getattr(inner, "repeats", (1, 1))
    values = tile.potential().values if hasattr(tile, "potential") else tile.values
    phase = interaction_parameter(energy) * np.asarray(values, float)[:depth].sum(axis=0)
    phase = np.tile(phase, repeats)
    for part in ("electrostatic", "magnetic"):
        if inner is not specimen and getattr(specimen, part, None) is not None:
            share = 1.0 if depth is None else depth / slice_count(experiment)
            phase = phase + share * np.asarray(getattr(specimen, part), float)
    return phase, specimen.grid


def write_files(
    path: Path, dataset: Dataset, truth: dict[str, Named], settings: SimulationSettings
) -> tuple[list[Path], Path | None]:
    """Write a data set, its truth and its copies; the files written, and that of the truth."""
    choice = settings.output
    kept = None if choice.truth == "none" else truth
    beside = write_dataset(path, dataset, truth=kept, truth_inside=choice.truth == "inside")
    written = [path] + ([beside] if beside is not None else [])
    if choice.emd or choice.hyperspy:
        # Counts may have been a stream, which is gone; they are on the disk now.
        stored = read_dataset(path, lazy=True)
        if choice.emd:
            write_emd(path.with_suffix(".emd.h5"), stored)
            written.append(path.with_suffix(".emd.h5"))
        if choice.hyperspy:
            write_hyperspy(path.with_suffix(".hspy"), stored)
            written.append(path.with_suffix(".hspy"))
    return written, beside
