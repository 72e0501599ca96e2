"""From patterns and a person's settings to a problem that a solver takes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.executor import Execution
from stemjax.core.grid import Grid, make_grid
from stemjax.core.typing import real
from stemjax.detect.noise import Amplitude, Gaussian, Noise, Poisson
from stemjax.forward.diffraction import Diffraction
from stemjax.forward.experiment import Experiment, Measurement, make_experiment
from stemjax.inference.problem import Problem, make_problem
from stemjax.optics.aberrations import make_aberrations
from stemjax.optics.electron import interaction_parameter, wavelength
from stemjax.optics.probe import Probe, aperture, make_probe
from stemjax.optics.scan import Scan, make_raster, make_scan
from stemjax.problems.ptychography.aberration_settings import lens_coefficients
from stemjax.problems.ptychography.calibration import Calibration
from stemjax.problems.ptychography.leaves import SOFT_ZERO, free_leaves, priors
from stemjax.problems.ptychography.patterns import Patterns
from stemjax.problems.ptychography.settings import PtychographySettings
from stemjax.specimen.objects import make_object, make_potential_object

LARGEST_PROBE = 0.9
"""A probe wider than this share of its window is refused: it would meet itself across the border."""


LEAST_SEEN = 0.1
"""Share of the bright-field disk that a mask must leave."""

STEP = 10.0
"""Longest step of the wave through a slice [Å]: in it the heaviest columns turn the phase by less than half a turn."""


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
    scan, probe = _scan(patterns, settings), _probe(grid, patterns, settings, C10)
    return make_experiment(
        probe,
        _specimen(grid, scan, patterns, settings),
        scan,
        dose=float(patterns.counts.sum(axis=(1, 2), dtype=float).mean()) / _seen(patterns, probe),
        tilt=(0.0, 0.0) if settings.refine.tilts is None else np.zeros((len(patterns.counts), 2)),
    )


def _seen(patterns: Patterns, probe: Probe) -> float:
    """Share of the disk that a mask leaves."""
    if patterns.mask is None:
        return 1.0
    disk = np.asarray(aperture(probe.grid, probe.energy, probe.semiangle, centre=probe.centre)) ** 2
    share = float((disk * patterns.mask).sum() / disk.sum())
    if share < LEAST_SEEN:
        raise InputError(
            f"the mask hides {100 * (1 - share):.0f} % of the bright-field disk; without it the beam cannot be "
            "measured: use a recording that shows more of it"
        )
    return share


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


def _scan(patterns: Patterns, settings: PtychographySettings) -> Scan:
    """The raster on the detector's axes, with room for what is to be found; a line is the unit of time."""
    raster = make_raster(patterns.scan_shape, patterns.calibration.scan_step)
    (ny, nx), refine = patterns.scan_shape, settings.refine
    line = np.repeat(np.arange(ny), nx)
    scan = make_scan(
        np.asarray(raster.positions) @ patterns.matrix.T, (ny, nx), times=np.arange(ny * nx) / nx, line=line
    )
    if refine.lines is not None:
        scan = scan.replace(jitter=real(np.zeros((ny, 2))))
    if refine.drift is not None:
        scan = scan.replace(walk=real(np.zeros((ny, 2))), knots=real(np.arange(ny) + 0.5))
    if refine.descan is not None:
        scan = scan.replace(descan=real(np.zeros((ny * nx, 2))))
    return scan


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


def make_noise(settings: PtychographySettings) -> Noise:
    """The noise model that the configuration names."""
    models: dict[str, Noise] = {"poisson": Poisson(), "amplitude": Amplitude(), "gaussian": Gaussian()}
    return models[settings.solver.noise]


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
        Measurement(patterns.counts, patterns.mask),
        # No band limit: the detector sees to the corners, and what it recorded there must be explained as well.
        forward=Diffraction(limit=None, steps=propagation_steps(settings), execution=execution),
        noise=make_noise(settings),
        free=free_leaves(settings),
        priors=priors(settings, experiment),
    )
