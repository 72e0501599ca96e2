"""The first guess of a thick object: a slab that may absorb for a while.

From a blank phase object gradient descent into a thick crystal stalls: columns come out with reversed contrast, and a
column would have to fade to nothing before it can turn. Two freedoms mend that. The transmission moves in the complex
plane, where there is a way round nothing, and it is the same at every depth, so that all steps together decide what a
column is. Where the columns are right the modulus comes back to one by itself; where the slab still absorbs after some
passes it is made blank and begins again, between neighbours that are right by now.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.executor import Execution
from stemjax.core.typing import real
from stemjax.forward.diffraction import Diffraction
from stemjax.forward.experiment import Experiment
from stemjax.inference.problem import Problem, insert, make_problem
from stemjax.inference.solvers.optimise import Plan, State, distribute, epoch, initial, mean_loss
from stemjax.optics.electron import interaction_parameter, wavelength
from stemjax.problems.ptychography.gauge import scanned_area
from stemjax.problems.ptychography.setup import STEP
from stemjax.specimen.objects import PixelatedObject, PotentialObject
from stemjax.specimen.slab import make_slab, sliced

BATCH, RATE = 16, 0.02
"""Patterns and Adam's rate of a step of the lift; many small steps matter more here than fast ones."""

DARKEST = 0.02
"""Least phase of a pixel that must be positive [rad]."""

EPOCHS, LEAST_STEPS = 9, 64
"""Passes of a lift at most, and how many steps a pass stands for at least where patterns are few."""

FIRST, AGAIN = 3, 2
"""Passes before the slab is looked at for the first time, and between one look and the next."""

ABSORBS, TIMES = 0.04, 4.0
"""A step absorbs where its modulus differs from one by this and by so many times the median of the scanned area."""

ENOUGH, STALLED = 0.002, 0.7
"""The lift ends early where less than this share of the scanned area absorbs, or not less than this much of before."""

LEAVES = ("specimen.real", "specimen.imaginary")
"""What is free in a lift."""


def lift_epochs(asked: int | str, slices: int, patterns: int) -> int:
    """Passes of the lift at most: what was asked, or none for one slice and enough for several.

    >>> lift_epochs("auto", 1, 1024), lift_epochs("auto", 10, 1024), lift_epochs("auto", 10, 256)
    (0, 9, 36)
    """
    if asked != "auto":
        return int(asked)
    return 0 if slices == 1 else EPOCHS * repeats(patterns)


def repeats(patterns: int) -> int:
    """Passes that count as one, where patterns are few.

    >>> repeats(1024), repeats(100)
    (1, 10)
    """
    return math.ceil(LEAST_STEPS / math.ceil(patterns / BATCH))


def lift(
    problem: Problem,
    epochs: int,
    execution: Execution,
    *,
    seed: int = 0,
    held_out: float = 0.0,
    report: Callable[[str], None] | None = None,
) -> np.ndarray:
    """The phase to start from, found as a slab by minibatches of Adam with the probe as it is.

    After every pass the modulus of the transmission goes half of the way back to one.

    Args:
        problem: The statement, with a blank object of several slices; its priors take no part.
        epochs: Passes through the patterns.
        execution: Where the patterns are computed.
        seed: Seed of the order of patterns.
        held_out: Share of the patterns that take no part, those that the epochs hold out with the same seed.
        report: Called with a line of text after every pass.

    Returns:
        Phase [slice ny nx] [rad], equal in all slices of the problem's object.
    """
    model = problem.experiment
    slices, thickness = depth(model.specimen)
    steps = max(math.ceil(thickness / STEP), 1)
    slab = make_slab(model.specimen.grid, thickness)
    start = model.replace(specimen=slab.replace(origin=model.specimen.origin), probe=model.probe.replace(pixels=None))
    statement = _statement(problem, start, steps, execution)
    plan = Plan(rates={"specimen": RATE}, batch=BATCH, seed=seed, held_out=held_out, execution=execution)
    spread = distribute(statement, execution)
    state = initial(spread, plan)
    look, area, before = repeats(problem.measurement.counts.shape[0]), scanned_area(model), 1.0
    for number in range(1, epochs + 1):
        state, losses = epoch(spread, state, plan, number - 1)
        line = (
            f"first guess of the object, pass {number} of {epochs} at most: loss {mean_loss(losses, spread, BATCH):.5g}"
        )
        if number in looks(epochs, look):
            blank = absorbing(state, start, area)
            share = float((blank[area] > 0.5).mean())
            line += f", {100 * share:.2g} % absorb"
            if share < ENOUGH or share > STALLED * before:
                epochs = number
            else:
                state, before = renewed(state, blank), share
        state = _relaxed(state)
        if report is not None:
            report(line)
        if number == epochs:
            break
    found = insert(statement, jax.tree.map(np.array, state.z)).specimen
    return np.asarray(sliced(found, steps, slices).phase)


def with_phase(experiment: Experiment, phase: np.ndarray, *, positive: bool) -> Experiment:
    """The experiment with this phase in its object, of pixels of phase or of potential.

    Args:
        experiment: The experiment.
        phase: Phase [slice ny nx] [rad].
        positive: Whether the object must not be negative; the phase is then moved up, which no pattern notices, and
            what still is below `DARKEST` becomes that.
    """
    if positive:
        phase = np.maximum(phase - np.percentile(phase, 1.0), DARKEST)
    specimen = experiment.specimen
    if isinstance(specimen, PixelatedObject):
        return experiment.replace(specimen=specimen.replace(phase=real(phase)))
    values = real(phase / interaction_parameter(experiment.probe.energy))
    return experiment.replace(specimen=specimen.replace(values=values))


def _statement(problem: Problem, start: Experiment, steps: int, execution: Execution) -> Problem:
    return make_problem(
        start,
        problem.measurement,
        forward=Diffraction(limit=None, steps=steps, execution=execution),
        noise=problem.noise,
        free=LEAVES,
    )


def depth(specimen: PixelatedObject | PotentialObject) -> tuple[int, float]:
    """Slices of an object and its thickness [Å]."""
    slices = (specimen.phase if isinstance(specimen, PixelatedObject) else specimen.values).shape[0]
    values = np.asarray(specimen.thickness)
    return slices, float(values.sum()) * (slices if values.size == 1 else 1)


def looks(epochs: int, repeats: int) -> range:
    """Passes after which the slab is looked at; what begins again then has `AGAIN` passes before the end.

    >>> list(looks(9, 1)), list(looks(18, 2))
    ([3, 5, 7], [6, 10, 14])
    """
    return range(FIRST * repeats, epochs - AGAIN * repeats + 1, AGAIN * repeats)


def absorbing(state: State, start: Experiment, area: np.ndarray) -> np.ndarray:
    """Where a slab absorbs more than a specimen does, with soft edges.

    Args:
        state: Holds the slab.
        start: Gives the resolution λ / 2α: marks are smoothed by half of it and widened by as much again.
        area: The scanned area [ny nx].

    Returns:
        Between 0 and 1 [ny nx].
    """
    from scipy.ndimage import gaussian_filter

    real, imaginary = (np.asarray(state.z[name])[0] for name in LEAVES)
    resolution = wavelength(start.probe.energy) / (2e-3 * float(start.probe.semiangle))
    sigma = 0.5 * resolution / np.array(start.specimen.grid.sampling)
    deviation = gaussian_filter(np.abs(np.hypot(1.0 + real, imaginary) - 1.0), sigma)
    marked = deviation > max(ABSORBS, TIMES * float(np.median(deviation[area])))
    return np.clip(2.5 * gaussian_filter(marked.astype(float), 1.5 * sigma), 0.0, 1.0)


def renewed(state: State, blank: np.ndarray) -> State:
    """The state with a part of the slab and the optimiser's memory of it made blank."""
    kept = (1.0 - blank)[None]

    def fade(array: Any) -> Any:
        if np.shape(array) != kept.shape:
            return array
        return jax.device_put((kept * np.asarray(array)).astype(array.dtype), array.sharding)

    return jax.tree.map(fade, state)


def _relaxed(state: State) -> State:
    moved = _towards_one(*(state.z[name] for name in LEAVES))
    return State({**state.z, **dict(zip(LEAVES, moved, strict=True))}, state.memory)


@jax.jit
def _towards_one(real: jax.Array, imaginary: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Transmission with the root of its modulus; where it vanishes it stays."""
    modulus = jnp.hypot(1.0 + real, imaginary)
    factor = jnp.where(modulus > 1e-3, 1.0 / jnp.sqrt(jnp.maximum(modulus, 1e-3)), 1.0)
    return factor * (1.0 + real) - 1.0, factor * imaginary
