"""From a recording and a person's settings to a problem that a solver takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.executor import Execution
from stemjax.core.grid import Grid, make_grid
from stemjax.detect.noise import Amplitude, Gaussian, Noise, Poisson
from stemjax.detect.pixelated import cornered
from stemjax.forward.diffraction import Diffraction
from stemjax.forward.experiment import Experiment, Measurement, make_experiment
from stemjax.forward.recording import Recording
from stemjax.inference.priors.images import Positive, Product, Ridge, SliceSmooth, Smooth, TotalVariation
from stemjax.inference.problem import Problem, make_problem
from stemjax.optics.aberrations import make_aberrations
from stemjax.optics.electron import interaction_parameter, wavelength
from stemjax.optics.probe import Probe, make_probe
from stemjax.optics.scan import Scan, make_raster, make_scan
from stemjax.problems.ptychography.aberration_settings import lens_coefficients
from stemjax.problems.ptychography.calibration import Calibration, calibration, selected
from stemjax.problems.ptychography.guess import (
    bright_field_disk,
    centre_of_mass,
    orientation_matrix,
    scan_orientation,
)
from stemjax.problems.ptychography.settings import PtychographySettings
from stemjax.specimen.objects import make_object, make_potential_object

LARGEST_PROBE = 0.9
"""A probe wider than this share of its window is refused: it would meet itself across the border."""


STEP = 10.0
"""Longest step of the wave through a slice [Å]: in it the heaviest columns turn the phase by less than half a turn."""

SOFT_ZERO = 0.3
"""A phase that is kept positive starts here, and feels the constraint below it [rad]."""


@dataclass(frozen=True)
class Patterns:
    """Counts ready for comparison, and what was found in them.

    Args:
        counts: Electrons [pattern ky kx], zero frequency in the corner.
        calibration: Values in force.
        centre: Rest of the disk's centre after the shift by whole pixels (y, x) [mrad].
        matrix: Scan axes to detector axes [2 2].
        scan_shape: Raster shape (y, x).
        findings: What was found and how surely, for the report, as plain values.
    """

    counts: np.ndarray
    calibration: Calibration
    centre: tuple[float, float]
    matrix: np.ndarray
    scan_shape: tuple[int, int]
    findings: dict[str, Any] = field(default_factory=dict)

    @property
    def detector_shape(self) -> tuple[int, int]:
        """Number of detector pixels (y, x)."""
        return self.counts.shape[1], self.counts.shape[2]


def prepare_patterns(recording: Recording, settings: PtychographySettings) -> Patterns:
    """Select, convert to electrons, centre the disk, find the orientation.

    Args:
        recording: As read from a file.
        settings: The configuration.

    Raises:
        InputError: Values are missing or impossible.
    """
    known = calibration(recording, settings.data)
    counts = electrons(selected(recording, settings.data).counts, known.electrons_per_count, settings)
    sampling = known.detector_sampling
    disk = bright_field_disk(counts.mean(axis=(0, 1)), known.semiangle / float(np.sqrt(sampling[0] * sampling[1])))
    whole = [round(c) - n // 2 for c, n in zip(disk.centre, counts.shape[2:], strict=True)]
    rest = tuple(
        (c - n // 2 - w) * s for c, n, w, s in zip(disk.centre, counts.shape[2:], whole, sampling, strict=True)
    )
    findings: dict[str, Any] = {
        "disk_centre": [round(c, 2) for c in disk.centre],
        "disk_radius_mrad": round(disk.radius * float(np.sqrt(sampling[0] * sampling[1])), 3),
    }
    findings.update(_disk_warning(findings["disk_radius_mrad"], known.semiangle))
    check_electrons(counts)
    matrix, found = _orientation(counts, known, settings)
    shape = (counts.shape[0], counts.shape[1])
    shifted = np.roll(counts, [-w for w in whole], axis=(2, 3)).reshape(-1, *counts.shape[2:])
    return Patterns(cornered(shifted), known, (rest[0], rest[1]), matrix, shape, {**findings, **found})


def electrons(counts: np.ndarray, electrons_per_count: float, settings: PtychographySettings) -> np.ndarray:
    """Electrons from a file's numbers, [scan_y scan_x ky kx] float32.

    Raises:
        InputError: Values are not finite or negative and the configuration does not say what to do with them.
    """
    data = settings.data
    values = np.asarray(counts, dtype=np.float32)
    if not (good := np.isfinite(values)).all():
        if data.replace_by is None:
            raise InputError(
                f"{int((~good).sum())} of {values.size} detector values are nan or infinite; set data.replace_by "
                "to the value they should have"
            )
        values = np.where(good, values, np.float32(data.replace_by))
    values = (values - np.float32(data.offset)) * np.float32(electrons_per_count)
    lowest = float(values.min())
    if lowest < 0 and not data.clip and settings.solver.noise != "gaussian":
        share = float((values < 0).mean())
        raise InputError(
            f"{100 * share:.2g} % of the counts are negative (lowest {lowest:.4g}); electrons are not: set data.offset "
            "to the dark level, data.clip: true, or solver.noise: gaussian"
        )
    if not values.max() > 0:
        raise InputError("all counts are zero; check data.key and data.offset")
    return np.maximum(values, 0.0) if data.clip else values


def check_electrons(counts: np.ndarray) -> None:
    """Refuse fractions of the beam that are taken for electrons: their likelihood would be nearly flat.

    Args:
        counts: What will be taken for electrons [scan_y scan_x ky kx].

    Raises:
        InputError: Patterns hold less than ten electrons and the numbers are not whole.
    """
    mean = float(counts.sum(axis=(2, 3), dtype=float).mean())
    sample = counts.reshape(-1, *counts.shape[2:])[:: max(1, len(counts) * counts.shape[1] // 64)]
    if mean < 10 and not np.array_equal(sample, np.round(sample)):
        raise InputError(
            f"a pattern holds {mean:.3g} electrons and the numbers are not whole; are they fractions of the beam? "
            "Set data.electrons_per_count to the electrons that one unit stands for"
        )


def _disk_warning(found: float, semiangle: float) -> dict[str, str]:
    if abs(found / semiangle - 1.0) < 0.1:
        return {}
    return {
        "warning": f"the disk measures {found:.3g} mrad, the semi-angle is said to be {semiangle:.3g} mrad; "
        "check data.detector_sampling and data.semiangle"
    }


def _orientation(
    counts: np.ndarray, known: Calibration, settings: PtychographySettings
) -> tuple[np.ndarray, dict[str, Any]]:
    choice = settings.orientation
    if choice == "as-is":
        return np.eye(2), {"orientation": "as-is"}
    if choice != "auto":
        given = {"transposed": choice.transpose, "flip_y": choice.flip_y, "flip_x": choice.flip_x}
        return orientation_matrix(choice.rotation, **given), {"orientation": {"rotation": choice.rotation, **given}}
    field = centre_of_mass(counts, known.detector_sampling)
    found = scan_orientation(field, known.scan_step)
    return found.matrix, {
        "orientation": {"rotation": found.rotation, "transposed": found.transposed},
        "curl": round(found.curl, 4),
        "curl_if_transposed": round(found.other_curl, 4),
        "other_matrix": found.other_matrix.tolist(),
    }


def window_grid(known: Calibration, detector_shape: tuple[int, int]) -> Grid:
    """Grid of the probe's window: pixels λ / (N Δα), as many as the detector has."""
    length = wavelength(known.energy)
    y, x = (1e3 * length / (n * s) for n, s in zip(detector_shape, known.detector_sampling, strict=True))
    return make_grid(detector_shape, (y, x))


def make_experiment_guess(patterns: Patterns, settings: PtychographySettings, C10: float) -> Experiment:
    """The experiment as first guessed.

    Args:
        patterns: From `prepare_patterns`.
        settings: The configuration.
        C10: First defocus aberration [Å].

    Raises:
        InputError: The probe does not fit its window.
    """
    grid = window_grid(patterns.calibration, patterns.detector_shape)
    check_window(grid, patterns.calibration, C10)
    scan = _scan(patterns)
    return make_experiment(
        _probe(grid, patterns, settings, C10),
        _specimen(grid, scan, patterns, settings),
        scan,
        dose=float(patterns.counts.sum(axis=(1, 2), dtype=float).mean()),
    )


def check_window(grid: Grid, known: Calibration, C10: float) -> None:
    """Refuse a probe that is wider than its window."""
    width = 2e-3 * known.semiangle * abs(C10) + 1.22 * wavelength(known.energy) / (1e-3 * known.semiangle)
    room = LARGEST_PROBE * min(grid.extent)
    if width > room:
        most = (room - 1.22 * wavelength(known.energy) / (1e-3 * known.semiangle)) / (2e-3 * known.semiangle)
        finer = min(known.detector_sampling) * room / width
        raise InputError(
            f"at a defocus of {abs(C10):.4g} Å the probe is {width:.3g} Å wide, its window {min(grid.extent):.3g} Å; "
            f"give a defocus within {max(most, 0.0):.3g} Å, or record with a detector pixel below {finer:.3g} mrad"
        )


def _scan(patterns: Patterns) -> Scan:
    raster = make_raster(patterns.scan_shape, patterns.calibration.scan_step)
    return make_scan(np.asarray(raster.positions) @ patterns.matrix.T, patterns.scan_shape)


def _probe(grid: Grid, patterns: Patterns, settings: PtychographySettings, C10: float) -> Probe:
    given = lens_coefficients(settings.probe.aberrations)
    return make_probe(
        grid,
        energy=patterns.calibration.energy,
        semiangle=patterns.calibration.semiangle,
        aberrations=make_aberrations({"C10": C10, **given}),
        modes=settings.probe.modes,
        free_pixels=settings.refine.probe is not None,
        centre=patterns.centre,
    )


def _specimen(grid: Grid, scan: Scan, patterns: Patterns, settings: PtychographySettings) -> Any:
    """An empty object that holds every window, with room for positions to move."""
    choice, positions = settings.object, np.asarray(scan.positions)
    sampling = np.array(grid.sampling)
    room = 0.5 * np.array(grid.extent) if choice.padding is None else np.maximum(choice.padding, 0.0)
    margin = np.maximum(room, 0.5 * np.array(grid.extent)) + 8 * sampling
    low, high = positions.min(axis=0) - margin, positions.max(axis=0) + margin
    ny, nx = (int(n) for n in np.ceil((high - low) / sampling))
    whole, origin = make_grid((ny, nx), grid.sampling), (float(low[0]), float(low[1]))
    step = (choice.thickness or 0.0) / choice.slices
    if choice.kind == "potential":
        start = SOFT_ZERO / interaction_parameter(patterns.calibration.energy) if settings.prior.positivity else 0.0
        values = np.full((choice.slices, ny, nx), start)
        return make_potential_object(values, step, whole, origin=origin, periodic=False)
    start = SOFT_ZERO if settings.prior.positivity else 0.0
    phase = np.full((choice.slices, ny, nx), start)
    return make_object(whole, phase=phase, thickness=step, origin=origin)


def free_leaves(settings: PtychographySettings) -> dict[str, tuple[str, int, float | None]]:
    """Free leaves by path: the kind of unknown, the first epoch, the rate that was written beside it."""
    refine, kind = settings.refine, settings.object.kind
    table: dict[str, tuple[str, int, float | None]] = {}

    def add(name: str, *paths: str) -> None:
        entry = getattr(refine, name)
        if entry is not None:
            table.update({path: (name, entry.start, entry.rate) for path in paths})

    add("object", *(("specimen.values",) if kind == "potential" else ("specimen.phase",)))
    if kind == "complex":
        add("object", "specimen.log_amplitude")
    add("probe", "probe.pixels")
    add("positions", "scan.positions")
    add("affine", "scan.affine")
    add("thickness", "specimen.thickness")
    add("tilt", "tilt")
    for name, entry in _free_aberrations(settings).items():
        table[f"probe.aberrations.{name}"] = ("aberrations", entry.start, entry.rate)
    add("defocus", "probe.aberrations.C10")
    if not table:
        raise InputError("nothing is free: every line of 'refine' is false; set refine.object: true")
    return table


def _free_aberrations(settings: PtychographySettings) -> Mapping[str, Any]:
    """Cartesian leaves that are free; "all" and the name of a pair stand for their parts."""
    from stemjax.optics.aberrations import NAMES

    named = settings.refine.aberrations
    found = {}
    for leaf in NAMES:
        for key in ("all", leaf[:3], leaf):
            if key in named:
                found[leaf] = named[key]
    return found


def make_noise(settings: PtychographySettings) -> Noise:
    """The noise model that the configuration names."""
    models: dict[str, Noise] = {"poisson": Poisson(), "amplitude": Amplitude(), "gaussian": Gaussian()}
    return models[settings.solver.noise]


def priors(settings: PtychographySettings, experiment: Experiment) -> dict[str, Any]:
    """Priors by path; strengths of the configuration are inverse scales of the densities."""
    choice = settings.prior
    # Strengths are written for a phase in radians; a potential is that phase over σ.
    unit = 1.0
    if settings.object.kind == "potential":
        unit = 1.0 / interaction_parameter(experiment.probe.energy)
    factors: list[Any] = [Positive(SOFT_ZERO * unit)] if choice.positivity else []
    if choice.total_variation:
        factors.append(TotalVariation(unit / choice.total_variation, 1e-3 * unit))
    if choice.smoothness:
        factors.append(Smooth(unit * choice.smoothness**-0.5))
    if choice.slice_smoothness and settings.object.slices > 1:
        factors.append(SliceSmooth(unit * choice.slice_smoothness**-0.5))
    found: dict[str, Any] = {}
    if factors:
        leaf = "specimen.values" if settings.object.kind == "potential" else "specimen.phase"
        found[leaf] = factors[0] if len(factors) == 1 else Product(tuple(factors))
    if choice.position_std is not None and settings.refine.positions is not None:
        found["scan.positions"] = Ridge(choice.position_std, np.asarray(experiment.scan.positions))
    return found


def propagation_steps(settings: PtychographySettings) -> int:
    """Steps that the wave takes through every slice: what is written, or as many as keep one below `STEP`."""
    choice = settings.object
    if choice.steps != "auto":
        return int(choice.steps)
    if choice.slices == 1:
        return 1
    return max(math.ceil((choice.thickness or 0.0) / choice.slices / STEP - 1e-6), 1)


def make_ptychography(
    patterns: Patterns, settings: PtychographySettings, experiment: Experiment, execution: Execution
) -> Problem:
    """The statement of the problem.

    Args:
        patterns: From `prepare_patterns`.
        settings: The configuration.
        experiment: The first guess.
        execution: Where the patterns are computed.
    """
    return make_problem(
        experiment,
        Measurement(patterns.counts),
        # No band limit: the detector sees to the corners, and what it recorded there must be explained as well.
        forward=Diffraction(limit=None, steps=propagation_steps(settings), execution=execution),
        noise=make_noise(settings),
        free=free_leaves(settings),
        priors=priors(settings, experiment),
    )
