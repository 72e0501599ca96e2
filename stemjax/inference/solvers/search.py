r"""Many starts, for problems with false minima: every well is entered, the best ones are followed to their bottom.

A recipe that knows where its false minima lie says so (`Well`), and solvers that start from one point search there
first (`search_wells`). Each start takes a few steps downhill (`solvers.descent`); the best of every well are
followed to their bottom, and compared.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.paths import leaves, replace
from stemjax.inference import problem as statement
from stemjax.inference.faults import fault
from stemjax.inference.gaussian import Gaussian
from stemjax.inference.outcome import at_point
from stemjax.inference.posteriors.chains import unbound
from stemjax.inference.problem import Problem, Unconstrained
from stemjax.inference.result import Result
from stemjax.inference.solvers.descent import descend, descent_frame

CLEAR = 3.0
"""Nats by which the best minimum must win to be called the right one: odds of twenty to one."""


class Minimum(NamedTuple):
    """A bottom that was reached.

    Args:
        z: Where it lies, unconstrained.
        loss: Minus the log-posterior there.
        trial: The start that led to it.
    """

    z: Unconstrained
    loss: float
    trial: int


def search_wells(problem: Problem) -> Problem:
    """The problem with its first guess at the best of its known false minima, and no well left to search.

    What solvers do by default (`stemjax.inference.entry.ready`). Warns where the two best minima are as good as equal.

    >>> from stemjax.inference.wells import Well
    >>> from stemjax.detect.noise import Gaussian
    >>> from stemjax.forward.experiment import Measurement
    >>> problem = statement.make_problem(
    ...     {"a": jnp.array(1.5)}, Measurement(jnp.array([2.0, -0.28])), noise=Gaussian(0.1, 0.0), free=["a"],
    ...     forward=lambda m, i=None: jnp.stack([m["a"] ** 2, 0.2 * m["a"]]), wells=[Well("a", -2.0, 2.0, 2.0)])
    >>> round(float(search_wells(problem).experiment["a"]), 2)  # the guess lies in the other well
    -1.41
    """
    if not problem.wells:
        return problem
    found = search(problem, starts=256)
    if not found.success:
        warnings.warn(found.status, stacklevel=2)
    moved = {path: jnp.asarray(found.estimate[path].value) for path in problem.free}
    return problem.replace(experiment=replace(problem.experiment, moved), wells=())


def search(
    problem: Problem,
    *,
    trials: Mapping[str, Any] | None = None,
    starts: int = 64,
    steps: int = 20,
    polish: int = 3,
    polish_steps: int = 200,
    seed: int = 0,
) -> Result:
    """The best of the minima that many starts lead to, with the evidence that it is the best.

    Args:
        problem: The problem; its wells say where to look, all other leaves start at the first guess.
        trials: Values to start from, [trial ...] by path in the unit of the leaf, instead of those of the wells.
        starts: Most starts: where the grid of the wells holds more, so many points of a Latin hypercube.
        steps: Steps of every start before the best are chosen.
        polish: Number of wells that are followed to the bottom.
        polish_steps: Most steps of each.
        seed: Seed of the hypercube.

    Returns:
        The result at the best minimum. `diagnostics`: `trials` and `ends` by path [trial ...] and `loss` [trial] after
        the first steps, `minima` (their `loss`, lowest first, and leaves of the wells), `advantage` (by how many nats
        the best wins, the volumes of the wells not counted). `success` is whether it wins clearly, by 3 nats.

    Raises:
        InputError: There is nothing to try, or no start has a finite density.
    """
    problem = unbound(problem)
    bare, tried = problem.replace(wells=()), trial_values(problem, starts, seed) if trials is None else dict(trials)
    begun = _starts(bare, tried)
    frame = descent_frame(bare, statement.start(bare))
    ends, losses = descend(bare, frame, begun, steps)
    return follow_lowest(problem, tried, (ends, losses), frame, polish=polish, steps=polish_steps)


def follow_lowest(
    problem: Problem,
    tried: Mapping[str, Any],
    reached: tuple[Mapping[str, np.ndarray], np.ndarray],
    frame: Gaussian,
    *,
    polish: int,
    steps: int,
    more: Mapping[str, Any] | None = None,
) -> Result:
    """Follow the lowest of many ends, one a well, to their bottom, and say by how much the lowest wins.

    Args:
        problem: The problem with its wells.
        tried: Where the search began, [trial ...] by path.
        reached: Unconstrained ends [trial ...] by path, and minus the log-posterior there.
        frame: Coordinates of the walk.
        polish: Number of wells to follow.
        steps: Most steps of each.
        more: Further diagnostics.
    """
    bare, (ends, losses) = problem.replace(wells=()), reached
    if not np.isfinite(losses).any():
        said = "no start of the search has a finite density; give priors"
        raise InputError(fault(bare, statement.start(bare)) or said)
    chosen = _apart(problem, tried, frame, ends, losses)[:polish]
    best = {path: v[np.array(chosen)] for path, v in ends.items()}
    bottoms, lowest = descend(bare, frame, best, steps, room=len(losses))
    order = _apart(problem, tried, frame, bottoms, lowest)
    minima = [Minimum(_at(bottoms, i), float(lowest[i]), chosen[i]) for i in order]
    return _result(bare, tried, reached, minima, more or {})


def trial_values(problem: Problem, starts: int, seed: int) -> dict[str, np.ndarray]:
    """Values to start from, [trial ...] by path: the grid of all wells, or a Latin hypercube where that is too large.

    >>> from types import SimpleNamespace as Any
    >>> from stemjax.inference.wells import Well
    >>> trial_values(Any(experiment={"a": 0.0}, wells=(Well("a", 0.0, 2.0, 1.0),)), 64, 0)
    {'a': array([0.25, 0.75, 1.25, 1.75])}
    """
    if not problem.wells:
        raise InputError("the problem names no wells and there are no trials; give trials, such as {path: values}")
    known = leaves(problem.experiment)
    shapes = [np.shape(known[well.path]) for well in problem.wells]
    wells = [well for well, shape in zip(problem.wells, shapes, strict=True) for _ in range(math.prod(shape))]
    if math.prod(float(well.trials) for well in wells) <= starts:
        axes = np.meshgrid(*(well.values() for well in wells), indexing="ij")
        points = np.stack([axis.ravel() for axis in axes], axis=1)
    else:
        points = _hypercube(len(wells), starts, seed)
        points = np.array([w.low for w in wells]) + points * np.array([w.high - w.low for w in wells])
    found, first = {}, 0
    for well, shape in zip(problem.wells, shapes, strict=True):
        found[well.path] = points[:, first : first + math.prod(shape)].reshape(-1, *shape)
        first += math.prod(shape)
    return found


def _starts(problem: Problem, trials: Mapping[str, Any]) -> Unconstrained:
    """Unconstrained starts [trial ...] of all free leaves."""
    guess, maps = statement.start(problem), statement.bijectors(problem)
    unknown = [path for path in trials if path not in problem.free]
    counts = {len(values) for values in trials.values()}
    if unknown or len(counts) != 1:
        raise InputError(
            f"trials for {sorted(trials)} of lengths {sorted(counts)}; give free leaves, as many values each"
        )
    count = counts.pop()
    found = {path: jnp.broadcast_to(value, (count, *value.shape)) for path, value in guess.items()}
    for path, values in trials.items():
        found[path] = jax.vmap(maps[path].inverse)(jnp.asarray(values, guess[path].dtype))
    return found


def _apart(
    problem: Problem, trials: Mapping[str, Any], frame: Gaussian, z: Mapping[str, Any], losses: np.ndarray
) -> list[int]:
    """Numbers of the lowest ends that do not lie in one well, lowest first.

    Two ends share a well when no leaf that was tried differs by half the spacing of its wells; where none is stated, by
    a standard deviation.
    """
    half = {well.path: 0.5 * well.spacing for well in problem.wells}
    reach = {path: half[path] if path in half else np.asarray(frame.spread()[path]) for path in trials}
    maps = statement.bijectors(problem)
    places = {p: np.asarray(jax.vmap(maps[p].forward)(jnp.asarray(z[p])) if p in half else z[p]) for p in trials}
    found: list[int] = []
    for number in np.argsort(losses, kind="stable"):
        same = [
            all((np.abs(place[number] - place[other]) < reach[path]).all() for path, place in places.items())
            for other in found
        ]
        if np.isfinite(losses[number]) and not any(same):
            found.append(int(number))
    return found


def _result(
    problem: Problem,
    trials: Mapping[str, Any],
    reached: tuple[Mapping[str, Any], np.ndarray],
    minima: list[Minimum],
    more: Mapping[str, Any],
) -> Result:
    ends, losses = reached
    best, maps = minima[0], statement.bijectors(problem)
    advantage = minima[1].loss - best.loss if len(minima) > 1 else math.inf
    where = {path: [np.asarray(maps[path].forward(m.z[path])) for m in minima] for path in trials}
    status = f"{len(losses)} starts, the best minimum has a loss of {best.loss:.6g}"
    if advantage < math.inf:
        status += f", the next one is {advantage:.3g} nats above"
    if advantage < CLEAR:
        path, (first, second) = next((p, v[:2]) for p, v in where.items())
        status += (
            f": the data hardly tell '{path}' = {_short(first)} from {_short(second)}; say more of it by a prior, or "
            "record more"
        )
    return at_point(
        problem, best.z, "search", status, success=advantage >= CLEAR,
        diagnostics={
            "trials": {path: np.asarray(v) for path, v in trials.items()},
            "ends": {path: np.asarray(jax.vmap(maps[path].forward)(jnp.asarray(ends[path]))) for path in trials},
            "loss": losses,
            "minima": {"loss": np.array([m.loss for m in minima]), **{p: np.stack(v) for p, v in where.items()}},
            "advantage": advantage,
            **more,
        },
    )  # fmt: skip


def _short(value: np.ndarray) -> str:
    return f"{float(value):.4g}" if value.ndim == 0 else np.array2string(value.ravel()[:4], precision=4)


def _at(z: Mapping[str, np.ndarray], number: int) -> Unconstrained:
    return {path: jnp.asarray(values[number]) for path, values in z.items()}


def _hypercube(axes: int, count: int, seed: int) -> np.ndarray:
    """Points [point axis] of the unit cube, one in every slice of every axis (McKay, Technometrics 21 (1979) 239)."""
    random = np.random.default_rng(seed)
    order = np.stack([random.permutation(count) for _ in range(axes)], axis=1)
    return (order + random.uniform(size=order.shape)) / count
