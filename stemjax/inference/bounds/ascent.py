"""The information about a question as a function of the settings of an experiment, and its ascent from many places."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.paths import leaves, replace
from stemjax.core.typing import Array, real_dtype
from stemjax.inference import problem as statement
from stemjax.inference.curvature import fisher, fisher_by_columns, matrix
from stemjax.inference.data_sets import groups
from stemjax.inference.problem import Problem, Unconstrained
from stemjax.inference.solvers.mode import Curvature
from stemjax.inference.vector import layout

ASCENTS = 4
"""Ascents besides the one from the default."""
WORST = 100.0
"""Objective where the bound is not finite."""


@dataclass(frozen=True)
class Leaf:
    """A leaf as a function of the model.

    >>> Leaf("a")({"a": 2.0})
    2.0
    """

    path: str

    def __call__(self, model: Any) -> Array:
        """The leaf."""
        return leaves(model)[self.path]


class Setting(NamedTuple):
    """A leaf of the model, or a knob with a function that sets it; and its shape."""

    name: str
    shape: tuple[int, ...]
    function: Callable[[Any, Array], Any] | None


class Question(NamedTuple):
    """What is asked; hashable.

    Args:
        settings: The settings.
        about: Name, function and weight of every quantity asked about.
        kept: Places of the elements of settings whose total is kept.
        curvature: The information, as a function that makes an operator.
    """

    settings: tuple[Setting, ...]
    about: tuple[tuple[str, Callable[[Any], Array], float], ...]
    kept: tuple[int, ...]
    curvature: Curvature


class Ranges(NamedTuple):
    """Range, default, and weight in the kept total of all elements of the settings [element]."""

    low: Any
    high: Any
    start: Any
    weight: Any


class Ascent(NamedTuple):
    """Where an ascent ended, as shares of the ranges [element], and the logarithm of the bound there."""

    share: np.ndarray
    value: float


def settings_at(question: Question, ranges: Ranges, share: Array) -> Array:
    """Settings [element] from shares of their ranges; those whose total is kept are scaled together."""
    values = ranges.low + share * (ranges.high - ranges.low)
    if not question.kept:
        return values
    kept = np.isin(np.arange(len(ranges.start)), question.kept)
    total, wanted = (jnp.sum(jnp.where(kept, ranges.weight * some, 0.0)) for some in (values, ranges.start))
    return jnp.where(kept, values * wanted / total, values)


def with_settings(problem: Problem, settings: tuple[Setting, ...], values: Array) -> Problem:
    """The problem with other settings [element]."""
    experiment, first = problem.experiment, 0
    for setting in settings:
        size = int(np.prod(setting.shape))
        value = values[first : first + size].reshape(setting.shape)
        first += size
        if setting.function is None:
            experiment = replace(experiment, {setting.name: value})
        else:
            experiment = setting.function(experiment, value)
    return problem.replace(experiment=experiment)


def log_bounds(problem: Problem, question: Question) -> Array:
    """Logarithm of the bound of every quantity asked about, the mean over its elements [quantity]; differentiable."""
    z, shape = statement.start(problem), layout(problem)
    information = _information(problem, z, question.curvature)
    diagonal = jnp.diag(information)
    scale = jnp.where(diagonal > 0, 1.0 / jnp.sqrt(jnp.where(diagonal > 0, diagonal, 1.0)), 1.0)
    # Next to nothing: a finite bound, and slope, where a direction is not seen.
    ridge = float(jnp.finfo(information.dtype).eps) ** 0.65
    root = jnp.linalg.cholesky(information * scale[:, None] * scale[None] + ridge * jnp.eye(shape.size))

    def one(function: Callable[[Any], Array]) -> Array:
        def quantity(vector: Array) -> Array:
            return jnp.ravel(function(statement.insert(problem, shape.unravel(vector))))

        rows = jax.jacrev(quantity)(shape.ravel(z)) * scale[None]
        white = jax.scipy.linalg.solve_triangular(root, rows.T, lower=True)
        return 0.5 * jnp.mean(jnp.log(jnp.sum(white**2, axis=0)))

    return jnp.stack([one(function) for _, function, _ in question.about])


def _information(problem: Problem, z: Unconstrained, curvature: Curvature) -> Array:
    """The information [unknown unknown], by whichever way is cheaper."""
    if curvature is fisher and not any(hasattr(group.forward, "fisher") for group in groups(problem)):
        return fisher_by_columns(problem, z)
    return matrix(curvature(problem, z), layout(problem))


def _objective(problem: Problem, question: Question, ranges: Ranges, share: Array) -> Array:
    there = with_settings(problem, question.settings, settings_at(question, ranges, share))
    weights = jnp.asarray([weight for *_, weight in question.about])
    return jnp.sum(weights * log_bounds(there, question)) / jnp.sum(weights)


_value = jax.jit(_objective, static_argnums=1)


@functools.partial(jax.jit, static_argnums=1)
def _value_and_slope(problem: Problem, question: Question, ranges: Ranges, share: Array) -> tuple[Array, Array]:
    def twice(share: Array) -> tuple[Array, Array]:
        value = _objective(problem, question, ranges, share)
        return value, value

    slope, value = jax.jacfwd(twice, has_aux=True)(share)
    return value, slope


def value_at(problem: Problem, question: Question, ranges: Ranges, share: np.ndarray) -> float:
    """The objective: weighted mean logarithm of the bounds, at some shares of the ranges."""
    found = float(_value(problem, question, ranges, jnp.asarray(share, real_dtype())))
    return found if np.isfinite(found) else WORST


def ascend(problem: Problem, question: Question, ranges: Ranges, starts: int, seed: int) -> list[Ascent]:
    """Ascents from the default and from the best of several places, the best first.

    Args:
        problem: The problem.
        question: What is asked.
        ranges: Where the settings may lie.
        starts: Places to look at.
        seed: Seed of the places.
    """
    from scipy.optimize import minimize
    from scipy.stats import qmc

    default = np.clip((ranges.start - ranges.low) / (ranges.high - ranges.low), 0.0, 1.0)
    # A power of two of Sobol points fills the ranges evenly.
    power = int(np.ceil(np.log2(max(starts, 1))))
    places = qmc.Sobol(len(default), seed=seed).random_base2(power)[:starts]
    order = np.argsort([value_at(problem, question, ranges, place) for place in places], kind="stable")

    def downhill(share: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = _value_and_slope(problem, question, ranges, jnp.asarray(share, real_dtype()))
        if not (np.isfinite(float(value)) and np.isfinite(np.asarray(slope)).all()):
            return WORST, np.zeros(len(share))
        return float(value), np.asarray(slope, np.float64)

    ends = []
    for begin in [default, *places[order[:ASCENTS]]]:
        found = minimize(downhill, begin, jac=True, method="L-BFGS-B", bounds=[(0.0, 1.0)] * len(begin))
        ends.append(Ascent(np.asarray(found.x), float(found.fun)))
    return sorted(ends, key=lambda end: end.value)
