"""From a simulation's settings to a file of counts, and the truth apart from it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from stemjax.app.simulation_settings import SimulationSettings
from stemjax.core.errors import InputError
from stemjax.core.executor import plan
from stemjax.core.grid import Grid
from stemjax.detect.annular import check_reach, make_annular_detector
from stemjax.detect.pixelated import PixelatedDetector, centred, make_pixelated_detector
from stemjax.forward.diffraction import Diffraction
from stemjax.forward.experiment import Experiment, make_experiment
from stemjax.forward.image import ScannedImage
from stemjax.forward.recording import Recording
from stemjax.inference.result import Named, Result
from stemjax.io import write_recording, write_result
from stemjax.optics.aberrations import NAMES, make_aberrations
from stemjax.optics.electron import interaction_parameter, wavelength
from stemjax.optics.probe import make_probe
from stemjax.optics.scan import Scan, make_raster
from stemjax.problems.ptychography.aberration_settings import lens_coefficients
from stemjax.specimen.builders import mos2_monolayer, slab
from stemjax.specimen.objects import make_potential_object
from stemjax.specimen.potential import cell_grid, project_potential
from stemjax.specimen.structure import Structure, from_ase

BLOCK = 512
"""Patterns that are computed at once and brought to the host."""

MARGIN = 4.0
"""Room around the scanned area, beyond the geometric probe [Å]."""


@dataclass(frozen=True)
class Simulation:
    """Everything before the noise: the experiment with one electron a pattern, the detector, the true structure."""

    experiment: Experiment
    detector: PixelatedDetector | None
    structure: Structure


def simulate(settings: SimulationSettings, path: Path) -> Path:
    """Simulate and write a recording; what is true goes to a file of its own beside it, `NAME.truth.h5`.

    Args:
        settings: The configuration, paths absolute.
        path: File of the recording.

    Returns:
        Path of the truth.
    """
    made = prepare_simulation(settings)
    electrons = dose_of_pattern(settings)
    truth = path.with_suffix(".truth.h5")
    if made.detector is not None:
        counts = simulated_counts(made, electrons, settings)
        write_recording(path, _recording(counts, made, settings))
    if settings.detector.annular:
        images = simulated_images(made, electrons, settings)
        target = path.with_name(path.stem + ".images.h5") if made.detector is not None else path
        write_result(target, Result("simulation", images, status="simulated images of annular detectors"))
    write_result(truth, _truth(made, settings))
    return truth


def prepare_simulation(settings: SimulationSettings) -> Simulation:
    """Specimen, probe, scan and detector of a simulation."""
    structure = specimen(settings)
    grid = cell_grid(structure, settings.potential.sampling)
    depth = float(structure.cell[0])
    slices = max(1, math.ceil(depth / settings.potential.slice_thickness - 1e-6))
    potential = jax.jit(
        lambda s: project_potential(s, grid, slices, parametrization=settings.potential.parametrization)
    )(structure)
    beam = settings.probe
    probe = make_probe(
        grid,
        energy=beam.energy,
        semiangle=beam.semiangle,
        aberrations=make_aberrations({"C10": -beam.defocus, **lens_coefficients(beam.aberrations)}),
    )
    thing = make_potential_object(potential.values, depth / slices, grid)
    rings = {name: make_annular_detector(*ring) for name, ring in settings.detector.annular.items()}
    for name, (_, outer) in settings.detector.annular.items():
        check_reach(outer, grid, beam.energy, name=f"detector.annular.{name}")
    experiment = make_experiment(probe, thing, _scan(settings, grid), tilt=settings.specimen.tilt, detectors=rings)
    return Simulation(experiment, _detector(settings, grid), structure)


def specimen(settings: SimulationSettings) -> Structure:
    """The atoms: built by name or read from a file, wide enough for the scan."""
    choice = settings.specimen
    size = choice.size or _default_size(settings)
    thermal = choice.rms_displacement or 0.0
    if choice.builder == "mos2_monolayer":
        return mos2_monolayer(size, vacancies=choice.vacancies, rms_displacement=thermal)
    if choice.builder is not None:
        name, axis = {"srtio3": ("SrTiO3", (0, 0, 1)), "si110": ("Si", (1, 1, 0)), "au": ("Au", (0, 0, 1)),
                      "gan": ("GaN", (0, 0, 1))}[choice.builder]  # fmt: skip
        axis = choice.zone_axis or axis
        return slab(name, axis, thickness=choice.thickness or 1.0, width=size, rms_displacement=thermal)
    return _from_file(settings, size, thermal)


def _from_file(settings: SimulationSettings, size: tuple[float, float], thermal: float) -> Structure:
    from ase.io import read

    from stemjax.specimen.crystal import orthogonal_cell

    choice = settings.specimen
    try:
        atoms = read(choice.file or "", index=-1)
    except Exception as error:
        raise InputError(f"ase cannot read atoms from {choice.file}: {error}; give a cif, xyz, ... file") from None
    if isinstance(atoms, list):
        raise InputError(f"{choice.file} holds {len(atoms)} sets of atoms where one is wanted")
    if choice.zone_axis is None and choice.thickness is None:
        return from_ase(atoms, rms_displacement=thermal)
    axis = choice.zone_axis or (0, 0, 1)
    thickness = choice.thickness or float(atoms.cell.lengths()[2])
    return from_ase(orthogonal_cell(atoms, axis, thickness=thickness, min_width=size).atoms, rms_displacement=thermal)


def _default_size(settings: SimulationSettings) -> tuple[float, float]:
    """Scan, geometric probe and a margin."""
    scan, beam = settings.scan, settings.probe
    probe = 2e-3 * beam.semiangle * abs(beam.defocus) + 2 * MARGIN
    height, width = (n * s for n, s in zip(scan.shape, scan.step, strict=True))
    angle = math.radians(scan.rotation)
    c, s = abs(math.cos(angle)), abs(math.sin(angle))
    return c * height + s * width + probe, c * width + s * height + probe


def _scan(settings: SimulationSettings, grid: Grid) -> Scan:
    """The raster about the middle of the cell, with its random errors."""
    choice = settings.scan
    raster = make_raster(choice.shape, choice.step, rotation=choice.rotation)
    nominal = np.asarray(raster.positions)
    origin = 0.5 * np.array(grid.extent) - nominal.mean(axis=0)
    random = np.random.default_rng([settings.seed, 1])
    error = choice.position_error * random.standard_normal(nominal.shape)
    return make_raster(choice.shape, choice.step, rotation=choice.rotation, origin=tuple(origin), offsets=error)


def _detector(settings: SimulationSettings, grid: Grid) -> PixelatedDetector | None:
    choice = settings.detector.pixelated
    if choice is None:
        return None
    bin = (choice.bin, choice.bin)
    carried = tuple(int(n * 2 / 3) // choice.bin for n in grid.shape)
    shape = choice.shape or carried
    if any(n > m for n, m in zip(shape, carried, strict=True)):
        fine = settings.potential.sampling * min(m / n for n, m in zip(shape, carried, strict=True))
        raise InputError(
            f"detector.pixelated.shape {list(shape)} with bin {choice.bin} reaches beyond the {list(carried)} pixels "
            f"that a sampling of {settings.potential.sampling:g} Å carries without aliasing; use "
            f"potential.sampling: {fine:.3g}"
        )
    return make_pixelated_detector(grid, shape=shape, bin=bin)  # type: ignore[arg-type]


def dose_of_pattern(settings: SimulationSettings) -> float | None:
    """Electrons in one pattern, or None for noise-free intensities."""
    dose, step = settings.dose, settings.scan.step
    if dose.per_pattern is not None:
        return dose.per_pattern
    return None if dose.per_area is None else dose.per_area * step[0] * step[1]


def _blocks(made: Simulation) -> list[np.ndarray]:
    count = made.experiment.scan.positions.shape[0]
    return [np.arange(i, min(i + BLOCK, count)) for i in range(0, count, BLOCK)]


def simulated_counts(made: Simulation, electrons: float | None, settings: SimulationSettings) -> np.ndarray:
    """Counts [scan_y scan_x ky kx], zero frequency in the centre: electrons; fractions of the beam without a dose."""
    devices = None if settings.devices == "auto" else settings.devices
    forward = Diffraction(detector=made.detector, limit_transmission=True, execution=plan(devices))
    expected = jax.jit(lambda experiment, index: forward(experiment, index))
    random = np.random.default_rng([settings.seed, 2])
    parts = []
    for index in _blocks(made):
        padded = np.pad(index, (0, min(BLOCK, made.experiment.scan.positions.shape[0]) - len(index)), mode="edge")
        mean = np.asarray(expected(made.experiment, padded))[: len(index)]
        parts.append(mean if electrons is None else random.poisson(electrons * mean))
    counts = centred(np.concatenate(parts))
    shaped = counts.reshape(*settings.scan.shape, *counts.shape[1:])
    if electrons is None:
        return shaped.astype(np.float32)
    return shaped.astype(np.uint8 if shaped.max() < 256 else np.uint16 if shaped.max() < 65536 else np.uint32)


def simulated_images(made: Simulation, electrons: float | None, settings: SimulationSettings) -> dict[str, Named]:
    """Images of the annular detectors [scan_y scan_x]."""
    devices = None if settings.devices == "auto" else settings.devices
    forward = ScannedImage(Diffraction(limit_transmission=True, execution=plan(devices)))
    values = jax.jit(lambda experiment: forward(experiment))(made.experiment)
    random = np.random.default_rng([settings.seed, 3])
    named = {}
    for name, value in values.items():
        image = np.asarray(value, dtype=float).reshape(settings.scan.shape)
        image = image if electrons is None else random.poisson(electrons * image).astype(float)
        unit = "1" if electrons is None else "electron"
        named[name] = Named(image, unit, ("y", "x"), f"{name} image", settings.scan.step)
    return named


def _recording(counts: np.ndarray, made: Simulation, settings: SimulationSettings) -> Recording:
    grid = made.experiment.probe.grid
    bin = 1 if settings.detector.pixelated is None else settings.detector.pixelated.bin
    sampling = grid.angular_sampling(wavelength(settings.probe.energy))
    return Recording(
        counts=counts,
        energy=settings.probe.energy,
        scan_step=settings.scan.step,
        detector_sampling=(bin * sampling[0], bin * sampling[1]),
        semiangle=settings.probe.semiangle,
        electrons_per_count=1.0,
        metadata={"simulated": True, "seed": settings.seed},
    )


def _truth(made: Simulation, settings: SimulationSettings) -> Result:
    """Projected phase, positions and aberrations, under the names of a reconstruction."""
    experiment = made.experiment
    thing, scan = experiment.specimen, np.asarray(experiment.scan.positions)
    phase = interaction_parameter(settings.probe.energy) * np.asarray(thing.values)
    shown = phase.sum(axis=0, keepdims=True)
    named = {
        "object_phase": Named(shown, "rad", ("slice", "y", "x"), "True projected phase", (1.0, *thing.grid.sampling)),
        "position_y": Named(scan[:, 0], "Å", ("pattern",), "True position along y"),
        "position_x": Named(scan[:, 1], "Å", ("pattern",), "True position along x"),
        "aberration_C10": Named(np.asarray(experiment.probe.aberrations.C10), "Å", (), "True C10 at the entrance"),
        "specimen_depth": Named(np.asarray(made.structure.cell)[0], "Å", (), "Depth of the cell along the beam"),
        "atom_position": Named(np.asarray(made.structure.positions), "Å", ("atom", "axis"), "Atoms (z, y, x)"),
        "atom_number": Named(np.asarray(made.structure.numbers), "1", ("atom",), "Atomic numbers"),
    }
    for name in NAMES:
        value = np.asarray(getattr(experiment.probe.aberrations, name))
        if name != "C10" and float(value) != 0.0:
            named[f"aberration_{name}"] = Named(value, "Å", (), f"True {name}")
    return Result("simulation", named, status="true values of a simulation")
