"""The beam of a simulation and its path over the specimen."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from stemjax.app.simulation.beam_settings import CoherenceSettings, PlateSettings, ProbeSettings, ScanSettings
from stemjax.app.simulation.settings import SimulationSettings
from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.core.typing import real
from stemjax.optics.aberrations import make_aberrations
from stemjax.optics.coherence import Coherence, make_coherence
from stemjax.optics.distortion import (
    coil_matrix,
    line_jitter,
    random_walk,
    with_coils,
    with_drift,
    with_jitter,
    with_walk,
)
from stemjax.optics.electron import wavelength
from stemjax.optics.plates import (
    RingPlate,
    make_array_plate,
    make_gaussian_plate,
    make_hollow_cone_plate,
    make_ring_plate,
    make_vortex_plate,
    read_array_plate,
)
from stemjax.optics.probe import Probe, make_probe
from stemjax.optics.scan import Scan, make_raster
from stemjax.optics.scan_paths import make_hilbert, make_serpentine, make_spiral
from stemjax.optics.scan_points import make_random, make_sparse, uniform_pixels
from stemjax.optics.scan_series import make_series, make_series_rotated
from stemjax.optics.window import check_window
from stemjax.problems.ptychography.aberration_settings import lens_coefficients

WALK_KNOTS = 64
"""Knots of a random-walk drift in a frame."""


def build_probe(beam: ProbeSettings, grid: Grid) -> Probe:
    """The probe of a configuration on a grid that must hold it."""
    probe = make_probe(
        grid,
        energy=beam.energy,
        semiangle=beam.semiangle,
        aberrations=make_aberrations({"C10": -beam.defocus, **lens_coefficients(beam.aberrations)}),
        plate=None if beam.plate is None else _plate(beam.plate, beam.semiangle),
        coherence=None if beam.coherence is None else build_coherence(beam.coherence, beam),
    )
    check_rings(probe.plate, beam.semiangle, grid, beam.energy)
    check_window(probe, lost=0.05)
    return probe


def _plate(choice: PlateSettings, semiangle: float) -> Any:
    if choice.vortex is not None:
        return make_vortex_plate(choice.vortex)
    if choice.hollow is not None:
        return make_hollow_cone_plate(choice.hollow)
    if choice.gaussian is not None:
        return make_gaussian_plate(choice.gaussian)
    if choice.rings is not None:
        return make_ring_plate(2 * choice.rings)
    return _plate_of_file(choice.file or "", semiangle)


def _plate_of_file(path: str, semiangle: float) -> Any:
    """A plate that spans the aperture; its border goes on outside, so that the rim of the aperture stays open."""
    whole = read_array_plate(path, 1.0)
    if not float(np.abs(np.asarray(whole.amplitude)).max()) > 0.0:
        raise InputError(f"probe.plate.file: {path} is opaque everywhere; give a plate with amplitude above zero")
    amplitude, phase = (np.pad(np.asarray(part), 2, mode="edge") for part in (whole.amplitude, whole.phase))
    steps = tuple(2.0 * semiangle / n for n in whole.amplitude.shape)
    return make_array_plate(amplitude, phase, (steps[0], steps[1]))


def check_rings(plate: Any, semiangle: float, grid: Grid, energy: float) -> None:
    """Refuse rings of a MIDI plate that the reciprocal pixels do not resolve, with what would."""
    if not isinstance(plate, RingPlate):
        return
    narrowest = semiangle * (1.0 - np.sqrt(1.0 - 1.0 / plate.rings))
    pixel = max(grid.angular_sampling(wavelength(energy)))
    if narrowest >= 1.5 * pixel:
        return
    size = 1.5e3 * wavelength(energy) / narrowest
    fewer = int(0.5 / (1.0 - (1.0 - min(1.5 * pixel / semiangle, 1.0)) ** 2))
    other = f", or give probe.plate.rings: {fewer}" if fewer >= 1 else ""
    raise InputError(
        f"probe.plate.rings: the outermost of {plate.rings} rings is {narrowest:.3g} mrad wide, a pixel of the "
        f"reciprocal grid {pixel:.3g} mrad; give specimen.size: {np.ceil(size):.0f} Å or more{other}"
    )


def build_coherence(choice: CoherenceSettings, beam: ProbeSettings) -> Coherence:
    """The coherence of a configuration, with as many nodes as its error needs."""
    return make_coherence(
        beam.energy,
        beam.semiangle,
        source_size=choice.source_size,
        chromatic=choice.chromatic,
        energy_spread=choice.energy_spread,
        voltage_instability=choice.voltage_instability,
        current_instability=choice.current_instability,
        error=choice.error,
    )


def build_scan(settings: SimulationSettings, grid: Grid) -> Scan:
    """The path of the probe about the middle of the cell, with its errors."""
    choice, scan = settings.scan, nominal_scan(settings, grid)
    places = np.asarray(scan.positions, float)
    random = np.random.default_rng([settings.seed, 1])
    places = places + choice.position_error * random.standard_normal(places.shape)
    return _distorted(_moved(scan, places), choice, settings.seed)


def _moved(scan: Scan, places: np.ndarray) -> Scan:
    return scan.replace(positions=real(places), centre=real(places.mean(axis=0)))


def nominal_scan(settings: SimulationSettings, grid: Grid) -> Scan:
    """The path of the probe as it is set, about the middle of the cell."""
    choice = settings.scan
    if choice.path in ("spiral", "random", "sparse") and (choice.frames > 1 or choice.angles is not None):
        raise InputError(
            f"scan.frames and scan.angles repeat images, and a {choice.path} path makes none; give path: raster"
        )
    if choice.angles is not None:
        scan = make_series_rotated(
            lambda turn: _frame(choice, choice.rotation + turn, settings.seed), choice.angles, pause=choice.frame_pause
        )
    else:
        scan = _frame(choice, choice.rotation, settings.seed)
        if choice.frames > 1:
            scan = make_series(scan, choice.frames, pause=choice.frame_pause)
    places = np.asarray(scan.positions, float)
    return _moved(scan, places - places.mean(axis=0) + 0.5 * np.array(grid.extent))


def _frame(choice: ScanSettings, rotation: float, seed: int) -> Scan:
    """One frame of the path, about anywhere."""
    shape, step, dwell = choice.shape, choice.step, choice.dwell
    extent = (shape[0] * step[0], shape[1] * step[1])
    points = choice.points or shape[0] * shape[1]
    if choice.path == "raster":
        return make_raster(shape, step, rotation=rotation, dwell=dwell, flyback=choice.flyback)
    if choice.path == "serpentine":
        return make_serpentine(shape, step, rotation=rotation, dwell=dwell, turn=choice.flyback)
    if choice.path == "hilbert":
        if shape[0] != shape[1]:
            raise InputError(f"scan.path = hilbert fills squares; give scan.shape: [{shape[0]}, {shape[0]}]")
        return make_hilbert(shape[0], step, rotation=rotation, dwell=dwell)
    if choice.path == "spiral":
        return make_spiral(points, 0.5 * min(extent), rotation=rotation, dwell=dwell)
    if choice.path == "random":
        return make_random(points, extent, seed=seed, rotation=rotation, dwell=dwell)
    pixels = uniform_pixels(shape, choice.points or max(1, points // 4), seed=seed)
    return make_sparse(shape, step, pixels, rotation=rotation, dwell=dwell, flyback=choice.flyback)


def _distorted(scan: Scan, choice: ScanSettings, seed: int) -> Scan:
    """The scan with the errors of coils and stage as leaves."""
    walk_key, line_key = jax.random.split(jax.random.key(seed))
    if choice.scale != (1.0, 1.0) or choice.shear:
        scan = with_coils(scan, coil_matrix(choice.scale, shear=float(np.tan(np.radians(choice.shear)))))
    if any(choice.drift):
        scan = with_drift(scan, choice.drift)
    if choice.drift_walk:
        frames = scan.shape[0] if scan.shape is not None and len(scan.shape) == 3 else 1
        last = float(np.asarray(scan.times)[-1])
        knots = np.linspace(0.0, max(last, 1e-9), WALK_KNOTS * frames)
        scan = with_walk(scan, random_walk(walk_key, knots, choice.drift_walk), knots)
    if choice.jitter:
        lines = 1 + int(np.max(scan.line.values)) if scan.line is not None else 0
        if not lines:
            raise InputError(f"scan.jitter moves lines, and a {choice.path} path has none; drop it")
        scan = with_jitter(scan, line_jitter(line_key, lines, choice.jitter))
    return scan
