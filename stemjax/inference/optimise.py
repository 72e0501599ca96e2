"""First-order optimisation by minibatches: any optax transformation, one compiled call an epoch.

`make_epoch` returns a pair of functions, like an optax transformation: `initial(problem)` gives the state and
`epoch(problem, state, rates, batches)` one pass over all records. Rates are arguments of the compiled call; a leaf
whose rate is zero rests, its optimiser too, so leaves start late without a new compilation.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from stemjax.core.errors import InputError, nearest
from stemjax.core.executor import Execution, replicate, shard
from stemjax.inference import problem as statement
from stemjax.inference.batches import batch_shape, deal, lane_count, shuffled
from stemjax.inference.problem import Problem, Unconstrained

Schedule = float | Callable[[int], float]
"""A rate: a number, or a function of the epoch (every optax schedule is one)."""


class State(NamedTuple):
    """Where an optimisation stands: the unconstrained leaves and the optimiser's memory of each."""

    z: Unconstrained
    memory: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How an optimisation goes; arrays live in the problem and the state.

    Args:
        rates: Step of every free leaf, in the unit of its unconstrained value a step (Adam's steps have length one);
            zero lets a leaf rest. A path stands for all leaves below it.
        batch: Records in a minibatch; rounded to a multiple of the lanes.
        transform: The optax transformation of gradients, without a learning rate.
        seed: Seed of the order of records.
        execution: Where the records are computed; that of the forward model.
    """

    rates: Mapping[str, Schedule]
    batch: int = 64
    transform: optax.GradientTransformation = optax.scale_by_adam(b2=0.99)
    seed: int = 0
    execution: Execution = Execution()


@dataclass(frozen=True)
class Solution:
    """What `optimise` found.

    Args:
        experiment: The model with the free leaves where the optimisation ended.
        state: The state, to go on from.
        loss: Mean negative log-likelihood of a record, by epoch.
        status: A sentence: how it ended.
        success: False where it diverged; the experiment is then the last good one.
    """

    experiment: Any
    state: State
    loss: np.ndarray
    status: str
    success: bool


def rates_at(plan: Plan, free: tuple[str, ...], epoch: int) -> dict[str, np.ndarray]:
    """Rate of every free leaf in an epoch.

    Raises:
        InputError: A rate is given for a leaf that is not free, or a free leaf has none.

    >>> float(rates_at(Plan({"a": lambda epoch: 0.1 if epoch >= 2 else 0.0}), ("a.b",), 3)["a.b"])
    0.1...
    """
    for path in plan.rates:
        if not any(f == path or f.startswith(path + ".") for f in free):
            raise InputError(f"rate for '{path}', which is not free; {nearest(path, free)}")
    found = {}
    for leaf in free:
        owners = [p for p in plan.rates if leaf == p or leaf.startswith(p + ".")]
        if not owners:
            raise InputError(f"no rate for the free leaf '{leaf}'; give one, or 0 to let it rest")
        rate = plan.rates[max(owners, key=len)]
        found[leaf] = np.asarray(rate(epoch) if callable(rate) else rate, dtype=np.float32)
    return found


@functools.partial(jax.jit, static_argnums=1)
def _initial(problem: Problem, transform: optax.GradientTransformation) -> State:
    z = statement.start(problem)
    return State(z, {path: transform.init(value) for path, value in z.items()})


@functools.partial(jax.jit, static_argnums=5, donate_argnums=1)
def _epoch(
    problem: Problem,
    state: State,
    rates: dict[str, jax.Array],
    batches: tuple[jax.Array, jax.Array],
    records: jax.Array,
    transform: optax.GradientTransformation,
) -> tuple[State, jax.Array]:
    """One pass over all records; returns the state and the mean loss of a record in every batch."""
    one = statement.score(problem)

    def loss(z: Unconstrained, index: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
        model = statement.insert(problem, z)
        total = problem.forward.total(model, one, problem.measurement.counts, index, weight)  # type: ignore[attr-defined]
        mean = -total / jnp.maximum(weight.sum(), 1.0)
        return mean - statement.log_prior(problem, z) / records, mean

    def step(state: State, batch: tuple[jax.Array, jax.Array]) -> tuple[State, jax.Array]:
        z, memory = state
        gradient, value = jax.grad(loss, has_aux=True)(z, *batch)
        moved = {p: _move(transform, gradient[p], memory[p], z[p], rates[p]) for p in z}
        return State({p: m[0] for p, m in moved.items()}, {p: m[1] for p, m in moved.items()}), value

    return jax.lax.scan(step, state, batches)


def _move(
    transform: optax.GradientTransformation, gradient: Any, memory: Any, value: Any, rate: Any
) -> tuple[Any, Any]:
    """One step of one leaf; at rate zero neither the leaf nor the optimiser's memory changes."""
    direction, updated = transform.update(gradient, memory, value)
    awake = rate > 0
    kept = jax.tree.map(lambda new, old: jnp.where(awake, new, old), updated, memory)
    return value - rate.astype(value.dtype) * direction, kept


def distribute(problem: Problem, execution: Execution) -> Problem:
    """The problem with its records dealt to lanes and split over the devices, and the rest on every device.

    The counts become [lane stored ...]; `epoch` takes problems in this form only.
    """
    counts = np.asarray(problem.measurement.counts)
    lanes = lane_count(execution.devices, counts.shape[0])
    measurement = problem.measurement.replace(counts=None)
    rest = replicate(problem.replace(measurement=measurement), execution)
    dealt = shard(deal(counts, lanes), execution)
    return rest.replace(measurement=rest.measurement.replace(counts=dealt))


def initial(problem: Problem, plan: Plan) -> State:
    """The state at the first guess of a distributed problem."""
    return _initial(problem, plan.transform)


def epoch(problem: Problem, state: State, plan: Plan, number: int, records: int) -> tuple[State, np.ndarray]:
    """One epoch of a distributed problem: one compiled call.

    Args:
        problem: From `distribute`.
        state: From `initial` or the epoch before; its buffers are given away.
        plan: The plan.
        number: Number of the epoch, from 0.
        records: Number of records before they were dealt to lanes.

    Returns:
        The new state and the mean negative log-likelihood of a record in every batch, before the step that it caused:
        the first is that of the state given, `mean_loss` takes the mean of all.
    """
    lanes = problem.measurement.counts.shape[0]
    batches = shuffled(records, lanes, plan.batch, seed=plan.seed, epoch=number)
    rates = rates_at(plan, problem.free, number)
    state, losses = _epoch(problem, state, rates, batches, np.float32(records), plan.transform)
    return state, np.asarray(losses)


def mean_loss(losses: np.ndarray, records: int, lanes: int, size: int) -> float:
    """Mean negative log-likelihood of a record over an epoch, from those of its batches (the last may be short).

    >>> mean_loss(np.array([1.0, 4.0]), records=3, lanes=1, size=2)
    2.0
    """
    count, per_lane = batch_shape(records, lanes, size)
    filled = np.full(count, lanes * per_lane, dtype=float)
    filled[-1] -= filled.sum() - records
    return float(np.average(losses, weights=filled))


WORSE = 1.5
"""An epoch whose loss is this much above that of the first guess has diverged, though its loss be finite."""


def diverged(loss: float, first: float) -> bool:
    """Whether a loss says that the optimisation runs away: not finite, or well above the loss of the first guess.

    >>> diverged(float("nan"), 1.0), diverged(2.0, 1.0), diverged(1.2, 1.0)
    (True, True, False)
    """
    return not np.isfinite(loss) or loss > first + (WORSE - 1.0) * abs(first)


def optimise(
    problem: Problem, plan: Plan, epochs: int, *, report: Callable[[int, float], None] | None = None
) -> Solution:
    """Minimise the negative log-posterior by minibatches.

    Args:
        problem: The problem.
        plan: Rates, batch, transformation.
        epochs: Passes over the records.
        report: Called after every epoch with its number and loss.

    Returns:
        The solution. An epoch whose loss is not finite ends the run at the state before it.
    """
    records = problem.measurement.counts.shape[0]
    spread = distribute(problem, plan.execution)
    lanes = spread.measurement.counts.shape[0]
    state, losses, first = initial(spread, plan), [], np.inf
    status, success = f"ran {epochs} epochs", True
    for number in range(epochs):
        good = jax.tree.map(np.array, state)
        state, values = epoch(spread, state, plan, number, records)
        loss = mean_loss(values, records, lanes, plan.batch)
        first = float(values[0]) if number == 0 else first
        if diverged(loss, first):
            state, success = good, False
            status = f"diverged in epoch {number + 1}: the loss is {loss:g}, at the start it was {first:g}"
            break
        losses.append(loss)
        if report is not None:
            report(number, loss)
    return Solution(
        statement.insert(problem, jax.tree.map(np.array, state.z)), state, np.array(losses), status, success
    )
