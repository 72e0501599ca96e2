"""From a solution to the result that a person keeps: names, units, what was refined and by how much."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.detect.pixelated import centred
from stemjax.forward.experiment import Experiment
from stemjax.inference.problem import Problem
from stemjax.inference.result import Named, Result
from stemjax.optics.aberrations import NAMES
from stemjax.optics.electron import interaction_parameter
from stemjax.optics.probe import orthogonal_modes, probe_waves
from stemjax.optics.scan import probe_positions
from stemjax.problems.ptychography.gauge import depth_shift, fix_gauge

SHOWN = 4
"""Patterns that a result holds for comparison."""


def estimate(experiment: Experiment) -> dict[str, Named]:
    """The named quantities of an experiment.

    Returns:
        `object_phase` (slice, y, x) [rad], `object_amplitude`, `probe` (mode, y, x) in real space, centred;
        `position_x`, `position_y` [Å] in scan order, pixel (0, 0) of the object at the origin; `aberration_C10` ...
        [Å] (those that are not zero, and C10), `slice_thickness` [Å], `scan_affine`, `specimen_tilt` [mrad], `dose`.
    """
    specimen, probe = experiment.specimen, experiment.probe
    grid = specimen.grid
    field, waves, positions = _derived(experiment)
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
        "specimen_tilt": Named(np.asarray(experiment.tilt), "mrad", ("axis",), "Specimen tilt (y, x)"),
        "dose": Named(np.asarray(experiment.dose), "electron", (), "Electrons in one pattern"),
    }
    if not hasattr(specimen, "phase"):
        values = np.asarray(specimen.values)
        named["object_potential"] = Named(values, "V Å", image, "Projected potential", along)
    for name in NAMES:
        value = np.asarray(getattr(probe.aberrations, name))
        if name == "C10" or float(value) != 0.0:
            named[f"aberration_{name}"] = Named(value, "Å", (), f"Aberration coefficient {name}")
    return named


@jax.jit
def _derive(experiment: Experiment) -> tuple[jax.Array, jax.Array, jax.Array]:
    field = experiment.specimen.transmission(interaction_parameter(experiment.probe.energy))
    waves = orthogonal_modes(jnp.fft.ifft2(probe_waves(experiment.probe), norm="ortho"))
    return field, waves, probe_positions(experiment.scan) - experiment.specimen.origin[None]


def _derived(experiment: Experiment) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    field, waves, positions = _derive(experiment)
    return np.asarray(field), centred(waves), np.asarray(positions)  # type: ignore[arg-type]


def patterns(problem: Problem, experiment: Experiment, count: int = SHOWN) -> dict[str, Any]:
    """Some measured patterns beside what the solution expects there, zero frequency in the centre."""
    records = problem.measurement.counts.shape[0]
    index = np.unique(np.linspace(0, records - 1, count + 2).round().astype(int)[1:-1])
    modelled = _expected(problem, experiment, index)
    probe = experiment.probe
    from stemjax.optics.electron import wavelength

    return {
        "measured": centred(np.asarray(problem.measurement.counts)[index]),
        "modelled": centred(np.asarray(modelled)),
        "index": index,
        "sampling": list(probe.grid.angular_sampling(wavelength(probe.energy))),
    }


@jax.jit
def _expect(problem: Problem, experiment: Experiment, index: jax.Array) -> jax.Array:
    return problem.forward(experiment, index)


def _expected(problem: Problem, experiment: Experiment, index: np.ndarray) -> np.ndarray:
    # The counts take no part; a stand-in keeps them out of the compiled call.
    light = problem.replace(measurement=problem.measurement.replace(counts=None))
    return np.asarray(_expect(light, experiment, index))


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
    start = estimate(problem.experiment)
    found = estimate(fixed)
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
            "patterns": patterns(problem, experiment),
            "gauge": notes,
            "optics": optics,
        },
        status=status,
        success=success,
        config=config or {},
        provenance=provenance or {},
    )
