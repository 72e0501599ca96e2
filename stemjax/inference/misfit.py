"""Whether a model describes its data: their deviance beside what noise alone would give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.typing import Array
from stemjax.inference import problem as statement
from stemjax.inference.batches import every_record, lane_count
from stemjax.inference.data_sets import DataSet, Group, expected, groups, lanes_of, masked, part_of, score
from stemjax.inference.problem import Problem, Unconstrained
from stemjax.inference.result import Result
from stemjax.inference.vector import layout

SHARE = 0.1
"""Part of the deviance by which it may differ from that of noise before a word is said: no model is perfect."""

SIGMAS = 5.0
"""Standard deviations of it by which it must differ."""


@dataclass(frozen=True)
class Misfit:
    """Goodness of a fit.

    Args:
        deviance: Minus twice the log-likelihood, 0 for a model that expects what was counted.
        expected: What noise alone gives on average, at the model's expectation.
        spread: Its standard deviation.
        unknowns: Free numbers: each takes up about one of the deviance if the data decide it.
    """

    deviance: float
    expected: float
    spread: float
    unknowns: int

    @property
    def ratio(self) -> float:
        """Deviance over its expectation: 1 for a model that is right."""
        return self.deviance / max(self.expected, 1e-300)

    @property
    def words(self) -> str:
        """What is wrong, or nothing."""
        room = SIGMAS * self.spread + SHARE * self.expected
        if self.deviance > self.expected + room:
            return (
                f"the model does not describe these data: they miss it by {self.ratio:.3g} times the deviance of "
                "noise, which error bars do not know; look at the residuals, the units of the counts and what is held "
                "fixed, or search from more first guesses: this may be a false minimum"
            )
        if self.deviance < self.expected - min(self.unknowns, 0.5 * self.expected) - room:
            return (
                f"the data scatter less than counts of electrons can ({self.ratio:.2g} of the deviance of noise): if "
                "they were scaled or smoothed, error bars mean nothing"
            )
        return ""


def misfit(problem: Problem, z: Unconstrained) -> Misfit | None:
    """Goodness of fit at some unconstrained leaves; None where a noise model does not tell its own deviance (cameras).

    >>> from flax import struct
    >>> from stemjax.detect.noise import Gaussian
    >>> class Counts(struct.PyTreeNode):
    ...     counts: Any
    >>> problem = statement.make_problem({"a": jnp.array(1.0)}, Counts(jnp.array([0.0, 2.0, 4.0])), free=["a"],
    ...     forward=lambda m, i=None: m["a"] * jnp.ones(3), noise=Gaussian(1.0, 0.0))
    >>> found = misfit(problem, {"a": jnp.array(2.0)})
    >>> found.deviance, found.expected, round(found.spread**2)
    (8.0, 3.0, 6)
    """
    if not all(hasattr(data.noise, "deviance") for group in groups(problem) for data in group.sets.values()):
        return None
    deviance, mean, variance = (float(v) for v in _sums(problem, z))
    return Misfit(deviance, mean, float(np.sqrt(variance)), layout(problem).size)


def judged(result: Result, problem: Problem, z: Unconstrained) -> Result:
    """A result with `misfit` among its diagnostics, and in its status where the model is not that of the data."""
    found = misfit(problem, z)
    if found is None:
        return result
    known = {"deviance": found.deviance, "expected": found.expected, "spread": found.spread, "ratio": found.ratio}
    status = f"{result.status}; {found.words}" if found.words else result.status
    return replace(result, status=status, diagnostics={**result.diagnostics, "misfit": known})


@jax.jit
def _sums(problem: Problem, z: Unconstrained) -> tuple[Array, Array, Array]:
    """Deviance of the data, its mean and its variance under noise."""
    model = statement.insert(problem, z)
    found = [jnp.zeros(())] * 3
    for group in groups(problem):
        own = _by_records(group, model) if statement.sums_itself(group) else _at_once(group, model)
        found = [a + b for a, b in zip(found, own, strict=True)]
    return found[0], found[1], found[2]


def _at_once(group: Group, model: Any) -> list[Array]:
    values = expected(group, model)
    found = [jnp.zeros(())] * 3
    for name, data in group.sets.items():
        mean, variance = data.noise.deviance(values[name])
        lost = data.noise.best(data.flat) - data.noise.log_prob(data.flat, values[name])
        weights = (2.0 * lost, mean, variance)
        found = [total + jnp.sum(masked(data, each)) for total, each in zip(found, weights, strict=True)]
    return found


def _by_records(group: Group, model: Any) -> list[Array]:
    """The same at the memory of one record, by a model that sums over its records."""
    data, part = group.sets[""], part_of(model, group.part)
    lanes = lanes_of(data, lane_count(statement.devices_of(group.forward), data.records))
    index, weight = every_record(data.records, jax.tree.leaves(lanes)[0].shape[0])

    def total(of_one: Callable[..., Array]) -> Array:
        return group.forward.total(part, of_one, lanes, index, jnp.asarray(weight))

    return [-2.0 * total(score(data)), total(_moment(data, 0)), total(_moment(data, 1))]


def _moment(data: DataSet, which: int) -> Callable[..., Array]:
    def one(values: Array, datum: Any, *_: Any) -> Array:
        mask = datum[1] if data.mask_by_record else data.mask
        each = data.noise.deviance(values)[which]
        return jnp.sum(each if mask is None else mask * each)

    return one
