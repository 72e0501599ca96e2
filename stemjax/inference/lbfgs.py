"""L-BFGS: for smooth problems of any size whose curvature is not worth a product."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from stemjax.core.errors import InputError
from stemjax.core.typing import Array
from stemjax.inference import problem as statement
from stemjax.inference.entry import ready
from stemjax.inference.faults import fault
from stemjax.inference.least_squares import spread
from stemjax.inference.outcome import at_point
from stemjax.inference.problem import Problem, Unconstrained
from stemjax.inference.result import Result

MEMORY = 20
"""Steps that the curvature is learnt from."""


class State(NamedTuple):
    """Where the walk stands: values, the optimiser's memory, −log p and its gradient."""

    z: Unconstrained
    memory: Any
    value: Array
    gradient: Unconstrained


def lbfgs(
    problem: Problem,
    *,
    iterations: int = 200,
    tolerance: float = 1e-4,
    report: Callable[[int, float], None] | None = None,
) -> Result:
    """The most probable leaves by L-BFGS with a line search that meets the strong Wolfe conditions (optax).

    Args:
        problem: The problem.
        iterations: Steps at most.
        tolerance: Decrease of −log p [nat] below which ten steps in a row end the walk.
        report: Called after every step with its number and −log p.

    Returns:
        The result; `history["loss"]` is −log p by step.

    Raises:
        InputError: −log p is not finite at the first guess; the message says where.

    Source: Liu & Nocedal, Math. Program. 45 (1989) 503.
    """
    problem = spread(ready(problem))
    state = _begin(problem)
    if not np.isfinite(float(state.value)):
        raise InputError(fault(problem, state.z))
    losses, status, success = [float(state.value)], f"took {iterations} steps without coming to rest", False
    for number in range(iterations):
        state = _step(problem, state)
        losses.append(float(state.value))
        if report is not None:
            report(number, losses[-1])
        if not np.isfinite(losses[-1]):
            raise InputError(fault(problem, state.z) or "the line search left the region where −log p is finite")
        if len(losses) > 10 and losses[-11] - losses[-1] < tolerance:
            status, success = f"came to rest: ten steps gained less than {tolerance:g} nat, after {number + 1}", True
            break
    return at_point(problem, state.z, "L-BFGS", status, success=success, history={"loss": np.array(losses)})


def _transform() -> optax.GradientTransformationExtraArgs:
    return optax.lbfgs(memory_size=MEMORY)


@jax.jit
def _begin(problem: Problem) -> State:
    z = statement.start(problem)
    value, gradient = jax.value_and_grad(functools.partial(statement.objective, problem))(z)
    return State(z, _transform().init(z), value, gradient)


@jax.jit
def _step(problem: Problem, state: State) -> State:
    objective = functools.partial(statement.objective, problem)
    updates, memory = _transform().update(
        state.gradient, state.memory, state.z, value=state.value, grad=state.gradient, value_fn=objective
    )
    z = optax.apply_updates(state.z, updates)
    value, gradient = optax.value_and_grad_from_state(objective)(z, state=memory)
    return State(z, memory, jnp.asarray(value), gradient)
