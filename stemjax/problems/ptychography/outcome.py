"""From a solution to the result that a person keeps: names, units, what was refined and by how much."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.detect.pixelated import centred
from stemjax.forward.experiment import Experiment
from stemjax.inference.problem import Problem
from stemjax.inference.result import Named, Result
from stemjax.optics.aberrations import NAMES
from stemjax.optics.electron import interaction_parameter, wavelength
from stemjax.optics.modes import orthogonal_modes
from stemjax.optics.probe import probe_waves
from stemjax.optics.scan import probe_positions
from stemjax.problems.ptychography.gauge import depth_shift, fix_gauge

SHOWN = 4
"""Patterns that a result holds for comparison."""


def estimate(experiment: Experiment, seen: View) -> dict[str, Named]:
    """The named quantities of an experiment.

    Args:
        experiment: The experiment.
        seen: Its `view`.

    Returns:
        `object_phase` (slice, y, x) [rad], `object_amplitude`, `probe` (mode, y, x) in real space, centred;
        `position_x`, `position_y` [Å] in scan order, pixel (0, 0) of the object at the origin; `aberration_C10` ...
        [Å] (those that are not zero, and C10), `semiangle` [mrad], `slice_thickness` [Å], `scan_affine`, `dose`;
        `specimen_tilt` [mrad], or `tilt_y` and `tilt_x` where every pattern has its own; `descan_y` ... [mrad],
        `line_shift_y` ..., `drift_y` ... [Å] (line,), where they were found.
    """
    specimen, probe = experiment.specimen, experiment.probe
    grid = specimen.grid
    field, waves, positions = seen.field, seen.waves, seen.positions
    image = ("slice", "y", "x")
    along = (float(np.mean(np.asarray(specimen.thickness))), *grid.sampling)
    phase = getattr(specimen, "phase", None)
    if phase is None:
        phase = interaction_parameter(probe.energy) * np.asarray(specimen.values)
    named = {
        "object_phase": Named(np.asarray(phase), "rad", image, "Phase of the transmission function", along),
        "object_amplitude": Named(np.abs(field), "1", image, "Amplitude of the transmission function", along),
        "probe": Named(waves, "1", ("mode", "y", "x"), "Probe wave", (1.0, *probe.grid.sampling)),
        "position_y": Named(positions[:, 0], "Å", ("pattern",), "Probe position along y"),
        "position_x": Named(positions[:, 1], "Å", ("pattern",), "Probe position along x"),
        "slice_thickness": Named(np.asarray(specimen.thickness), "Å", ("slice",), "Thickness of a slice"),
        "scan_affine": Named(np.asarray(experiment.scan.affine), "1", ("y", "x"), "Linear distortion of the scan"),
        "semiangle": Named(np.asarray(probe.semiangle), "mrad", (), "Convergence semi-angle"),
        "dose": Named(np.asarray(experiment.dose), "electron", (), "Electrons in one pattern"),
    }
    if not hasattr(specimen, "phase"):
        values = np.asarray(specimen.values)
        named["object_potential"] = Named(values, "V Å", image, "Projected potential", along)
    for name in NAMES:
        value = np.asarray(getattr(probe.aberrations, name))
        if name == "C10" or float(value) != 0.0:
            named[f"aberration_{name}"] = Named(value, "Å", (), f"Aberration coefficient {name}")
    return named | _moves(experiment)


def _moves(experiment: Experiment) -> dict[str, Named]:
    """Tilt, descan, and what lines of the scan do, where they are there."""
    scan, tilt = experiment.scan, np.asarray(experiment.tilt)
    named: dict[str, Named] = {}
    if tilt.ndim == 1:
        named["specimen_tilt"] = Named(tilt, "mrad", ("axis",), "Specimen tilt (y, x)")
    columns = {
        "tilt": (tilt if tilt.ndim == 2 else None, "mrad", "pattern", "Specimen tilt at every pattern"),
        "descan": (scan.descan, "mrad", "pattern", "Displacement of the pattern on the detector"),
        "line_shift": (scan.jitter, "Å", "line", "Displacement of a line of the scan"),
        "drift": (scan.walk, "Å", "line", "Drift at a line of the scan"),
    }
    for name, (values, unit, along, words) in columns.items():
        if values is not None:
            for axis, letter in enumerate("yx"):
                named[f"{name}_{letter}"] = Named(
                    np.asarray(values)[:, axis], unit, (along,), f"{words}, along {letter}"
                )
    return named


class View(NamedTuple):
    """What is computed from an experiment for a person, in one compiled program.

    Args:
        field: Transmission functions [slice y x].
        waves: Orthogonal probe modes in real space, centred [mode y x].
        positions: Probe positions in the frame of the object [pattern 2] [Å].
        expected: Expected counts of the patterns `which`, zero frequency in the centre.
        which: Indices of the patterns.
    """

    field: np.ndarray
    waves: np.ndarray
    positions: np.ndarray
    expected: np.ndarray
    which: np.ndarray


@jax.jit
def _derive(problem: Problem, experiment: Experiment, index: jax.Array) -> tuple[jax.Array, ...]:
    field = experiment.specimen.transmission(interaction_parameter(experiment.probe.energy))
    waves = orthogonal_modes(jnp.fft.ifft2(probe_waves(experiment.probe), norm="ortho"))
    positions = probe_positions(experiment.scan) - experiment.specimen.origin[None]
    return field, waves, positions, problem.forward(experiment, index)


def view(problem: Problem, experiment: Experiment, count: int = SHOWN) -> View:
    """Compute what is shown of an experiment, for `count` patterns spread over the scan."""
    records = problem.measurement.counts.shape[0]
    index = np.unique(np.linspace(0, records - 1, count + 2).round().astype(int)[1:-1])
    # The counts take no part; without them the program does not depend on their number.
    light = problem.replace(measurement=problem.measurement.replace(counts=None), experiment=None, priors={})
    field, waves, positions, expected = (np.asarray(a) for a in _derive(light, experiment, index))
    return View(field, centred(waves), positions, centred(expected), index)


def patterns(problem: Problem, seen: View) -> dict[str, Any]:
    """Some measured patterns beside what the solution expects there, zero frequency in the centre."""
    probe = problem.experiment.probe
    return {
        "measured": centred(np.asarray(problem.measurement.counts)[seen.which]),
        "modelled": seen.expected,
        "index": seen.which,
        "sampling": list(probe.grid.angular_sampling(wavelength(probe.energy))),
    }


def make_result(
    problem: Problem,
    experiment: Experiment,
    *,
    status: str,
    success: bool = True,
    diagnostics: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Result:
    """The result of a ptychographic reconstruction, gauges fixed.

    Args:
        problem: The statement, with the first guess.
        experiment: The solution.
        status: How it ended, a sentence.
        success: Whether it ended as it should.
        diagnostics: More diagnostics (loss, epoch_time, findings).
        config: The resolved configuration.
        provenance: Versions, seed, machine, times, checksum of the input.
    """
    fixed = fix_gauge(experiment, problem.experiment)
    start = estimate(problem.experiment, view(problem, problem.experiment))
    seen = view(problem, fixed)
    found = estimate(fixed, seen)
    initial = {name: value for name, value in start.items() if name not in ("object_phase", "object_amplitude")}
    shift = np.asarray(fixed.specimen.origin) - np.asarray(problem.experiment.specimen.origin)
    for axis, name in enumerate(("position_y", "position_x")):
        # In the frame of the solution's object, so that the two sets of positions can be laid over each other.
        initial[name] = Named(start[name].value - shift[axis], "Å", ("pattern",), start[name].long_name)
    notes = {"depth": depth_shift(fixed)} if depth_shift(fixed) else {}
    optics = {"energy": fixed.probe.energy, "semiangle": float(fixed.probe.semiangle)}
    return Result(
        problem="ptychography",
        estimate=found,
        diagnostics={
            **(diagnostics or {}),
            "initial": initial,
            "patterns": patterns(problem, seen),
            "gauge": notes,
            "optics": optics,
        },
        status=status,
        success=success,
        config=config or {},
        provenance=provenance or {},
    )
