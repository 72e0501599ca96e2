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
from stemjax.inference.batches import batch_of, batch_shape, deal, held_out, lane_count, shuffled, without
from stemjax.inference.data_sets import Dealt, groups, lanes_of, part_of, score
from stemjax.inference.faults import fault
from stemjax.inference.outcome import at_point
from stemjax.inference.problem import Problem, Unconstrained
from stemjax.inference.result import Result

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
        held_out: Share of the records that are not fitted but scored after every epoch (`epoch_scored`); few are none.
        execution: Where the records are computed; that of the forward model.
    """

    rates: Mapping[str, Schedule]
    batch: int = 64
    transform: optax.GradientTransformation = optax.scale_by_adam(b2=0.99)
    seed: int = 0
    held_out: float = 0.0
    execution: Execution = Execution()


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


@functools.partial(jax.jit, static_argnums=6, donate_argnums=1)
def _epoch(
    problem: Problem,
    state: State,
    rates: dict[str, jax.Array],
    batches: tuple[jax.Array, jax.Array],
    held: tuple[jax.Array, jax.Array] | None,
    records: jax.Array,
    transform: optax.GradientTransformation,
) -> tuple[State, jax.Array, jax.Array | None]:
    """One pass over all records: the state, the mean loss of a record in every batch, and that of those held out."""
    loss = _batch_loss(problem, records) if in_batches(problem) else _whole_loss(problem, records)

    def step(state: State, batch: tuple[jax.Array, jax.Array]) -> tuple[State, jax.Array]:
        z, memory = state
        gradient, value = jax.grad(loss, has_aux=True)(z, *batch)
        moved = {p: _move(transform, gradient[p], memory[p], z[p], rates[p]) for p in z}
        return State({p: m[0] for p, m in moved.items()}, {p: m[1] for p, m in moved.items()}), value

    after, values = jax.lax.scan(step, state, batches)
    return after, values, None if held is None else loss(after.z, *held)[1]


Loss = Callable[[Unconstrained, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""From z and the records of a batch (place, weight) to the mean loss of a record, with the prior and without."""


def _batch_loss(problem: Problem, records: jax.Array) -> Loss:
    """The loss of a minibatch, for one data set whose forward model sums over records by itself."""
    (group,) = groups(problem)
    data = group.sets[""]

    def loss(z: Unconstrained, index: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
        model = part_of(statement.insert(problem, z), group.part)
        total = group.forward.total(model, score(data), lanes_of(data, index.shape[0]), index, weight)
        mean = -total / jnp.maximum(weight.sum(), 1.0)
        return mean - statement.log_prior(problem, z) / records, mean

    return loss


def _whole_loss(problem: Problem, records: jax.Array) -> Loss:
    """The loss of all records at once."""

    def loss(z: Unconstrained, _index: jax.Array, _weight: jax.Array) -> tuple[jax.Array, jax.Array]:
        mean = -statement.likelihood(problem, statement.insert(problem, z)) / records
        return mean - statement.log_prior(problem, z) / records, mean

    return loss


def in_batches(problem: Problem) -> bool:
    """Whether a problem can be walked in minibatches: one data set, and a forward model that sums over its records.

    Other problems take one step an epoch, with all their records.
    """
    found = groups(problem)
    return len(found) == 1 and statement.sums_itself(found[0])


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

    The counts become `Dealt`; `epoch` takes problems in this form only. Data sets of forward models that do not sum
    over their records stay whole.
    """
    measurement = problem.measurement
    if not in_batches(problem):
        return replicate(problem, execution)
    counts = np.asarray(measurement.counts)
    lanes = lane_count(execution.devices, counts.shape[0])
    rest = replicate(problem.replace(measurement=measurement.replace(counts=None)), execution)
    dealt = Dealt(shard(deal(counts, lanes), execution), counts.shape[0])
    return rest.replace(measurement=rest.measurement.replace(counts=dealt))


def initial(problem: Problem, plan: Plan) -> State:
    """The state at the first guess of a distributed problem."""
    return _initial(problem, plan.transform)


def epoch(problem: Problem, state: State, plan: Plan, number: int) -> tuple[State, np.ndarray]:
    """One epoch of a distributed problem: one compiled call.

    Args:
        problem: From `distribute`.
        state: From `initial` or the epoch before; its buffers are given away.
        plan: The plan.
        number: Number of the epoch, from 0.

    Returns:
        The new state and the mean negative log-likelihood of a record in every batch, before the step that it caused:
        the first is that of the state given, `mean_loss` takes the mean of all.
    """
    return epoch_scored(problem, state, plan, number)[:2]


def epoch_scored(problem: Problem, state: State, plan: Plan, number: int) -> tuple[State, np.ndarray, float]:
    """`epoch`, and the mean negative log-likelihood of a held-out record after it; nan where none is held out."""
    records = statement.records(problem)
    batches, held = (np.zeros((1, 1, 1), np.int32), np.ones((1, 1, 1), np.float32)), None
    if in_batches(problem):
        lanes = lanes_in(problem)
        batches = shuffled(records, lanes, plan.batch, seed=plan.seed, epoch=number)
        chosen = held_out(records, plan.held_out, seed=plan.seed)
        if chosen.any():
            batches, held = without(chosen, batches), batch_of(chosen, lanes)
    rates = rates_at(plan, problem.free, number)
    state, losses, score_ = _epoch(problem, state, rates, batches, held, np.float32(records), plan.transform)
    return state, np.asarray(losses), float("nan") if score_ is None else float(score_)


def lanes_in(problem: Problem) -> int:
    """Number of lanes of a distributed problem."""
    (group,) = groups(problem)
    return int(group.sets[""].counts.lanes.shape[0])


def mean_loss(losses: np.ndarray, problem: Problem, size: int) -> float:
    """Mean negative log-likelihood of a record over an epoch, from those of its batches (the last may be short)."""
    if not in_batches(problem):
        return float(losses[0])
    return weighted_mean(losses, statement.records(problem), lanes_in(problem), size)


def weighted_mean(losses: np.ndarray, records: int, lanes: int, size: int) -> float:
    """Mean over the records of an epoch from the means of its batches.

    >>> weighted_mean(np.array([1.0, 4.0]), records=3, lanes=1, size=2)
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
) -> Result:
    """Minimise the negative log-posterior by minibatches, or by whole steps where the data cannot be divided.

    Args:
        problem: The problem.
        plan: Rates, batch, transformation.
        epochs: Passes over the records.
        report: Called after every epoch with its number and loss.

    Returns:
        The result; `history["loss"]` is the mean negative log-likelihood of a record by epoch, `history["held_out"]`
        that of the records held out, after it, where the plan holds any out. An epoch whose loss is not finite ends
        the run at the state before it.

    Raises:
        InputError: The likelihood is not finite at the first guess; the message says where.
    """
    spread = distribute(problem, plan.execution)
    state, losses, unseen, first = initial(spread, plan), [], [], np.inf
    status, success = f"ran {epochs} epochs", True
    for number in range(epochs):
        good = jax.tree.map(np.array, state)
        state, values, held = epoch_scored(spread, state, plan, number)
        loss = mean_loss(values, spread, plan.batch)
        first = float(values[0]) if number == 0 else first
        if number == 0 and not np.isfinite(first):
            raise InputError(fault(problem, statement.start(problem)))
        if diverged(loss, first):
            state, success = good, False
            status = f"diverged in epoch {number + 1}: the loss is {loss:g}, at the start it was {first:g}"
            break
        losses.append(loss)
        unseen.append(held)
        if report is not None:
            report(number, loss)
    z = jax.tree.map(np.array, state.z)
    history = {"loss": np.array(losses)}
    if unseen and np.isfinite(unseen).all():
        history["held_out"] = np.array(unseen)
    return at_point(problem, z, "optimise", status, success=success, history=history, state=state)
