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
from stemjax.inference.outcome import at_point
from stemjax.inference.problem import Problem, Unconstrained
from stemjax.inference.result import Result
from stemjax.inference.solvers.least_squares import spread

MEMORY = 20
"""Steps that the curvature is learnt from."""
WINDOW = 10
"""Steps whose gain together says whether more are worth it."""


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

    A step that would not lower −log p is not taken; the next one then goes down the gradient, its memory empty.

    Args:
        problem: The problem.
        iterations: Steps at most.
        tolerance: Decrease of −log p [nat] below which ten steps in a row end the walk.
        report: Called after every step with its number and −log p.

    Returns:
        The result; `history["loss"]` is −log p by step, at the first guess first, and never rises.

    Raises:
        InputError: −log p or its gradient is not finite at the first guess; the message says where.

    Source: Liu & Nocedal, Math. Program. 45 (1989) 503.
    """
    problem = spread(ready(problem))
    state = _begin(problem)
    if not bool(_finite((state.value, state.gradient))):
        raise InputError(fault(problem, state.z))
    losses, status, success = [float(state.value)], f"took {iterations} steps without coming to rest", False
    for number in range(iterations):
        state = _step(problem, state)
        losses.append(float(state.value))
        if report is not None:
            report(number, losses[-1])
        if (ended := _ended(losses, tolerance)) is not None:
            status, success = f"came to rest: {ended}, after {number + 1} steps", True
            break
    return at_point(problem, state.z, "L-BFGS", status, success=success, history={"loss": np.array(losses)})


def _ended(losses: list[float], tolerance: float) -> str | None:
    """Why to stop, or None."""
    if len(losses) > WINDOW and losses[-1 - WINDOW] - losses[-1] < tolerance:
        return f"{WINDOW} steps gained less than {tolerance:g} nat"
    # After a step that failed the next starts afresh; if that fails too, so would all that follow.
    if len(losses) > 2 and losses[-3] == losses[-1]:
        return "nothing lower along the gradient"
    return None


def _transform() -> optax.GradientTransformationExtraArgs:
    return optax.lbfgs(memory_size=MEMORY)


@jax.jit
def _begin(problem: Problem) -> State:
    z = statement.start(problem)
    value, gradient = jax.value_and_grad(functools.partial(statement.objective, problem))(z)
    return _typed(State(z, _transform().init(z), value, gradient))


@jax.jit
def _step(problem: Problem, state: State) -> State:
    objective = functools.partial(statement.objective, problem)
    updates, memory = _transform().update(
        state.gradient, state.memory, state.z, value=state.value, grad=state.gradient, value_fn=objective
    )
    z = optax.apply_updates(state.z, updates)
    value, gradient = optax.value_and_grad_from_state(objective)(z, state=memory)
    trial = State(z, memory, jnp.asarray(value), gradient)
    good = (trial.value < state.value) & _finite((z, value, gradient))
    afresh = state._replace(memory=_transform().init(state.z))
    return _typed(jax.tree.map(lambda new, old: jnp.where(good, new, old), trial, afresh))


def _finite(tree: Any) -> Array:
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def _typed(state: State) -> State:
    """The same with types that a step does not change, so that it is compiled but once."""
    return jax.tree.map(lambda leaf: leaf.astype(leaf.dtype), state)
