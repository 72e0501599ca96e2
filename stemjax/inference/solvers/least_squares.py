r"""Levenberg-Marquardt by Fisher scoring: the most probable leaves in a few large steps, with or without a matrix.

.. math:: (F + H_\mathrm{prior} + \lambda D)\, s = -\nabla \left[ -\log p \right]

F is the Fisher information of the data (`stemjax.inference.curvature`), D the diagonal of the whole, λ follows the gain
ratio of actual to predicted decrease (Nielsen, report IMM-REP-1999-05; Madsen, Nielsen, Tingleff, Methods for
Non-Linear Least Squares Problems, 2004). With few unknowns the matrix is formed and factored; with many the step comes
from conjugate gradients on products with F, and no Jacobian is formed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.typing import Array
from stemjax.inference import problem as statement
from stemjax.inference.curvature import Operator, matrix, posterior_curvature
from stemjax.inference.entry import ready
from stemjax.inference.faults import fault
from stemjax.inference.linear.conjugate_gradients import Truncated, added, dot, minimise_model
from stemjax.inference.linear.preconditioners import Scales, damped, invert, measure
from stemjax.inference.outcome import at_point
from stemjax.inference.problem import Problem, Unconstrained
from stemjax.inference.result import Result
from stemjax.inference.solvers.optimise import distribute
from stemjax.inference.vector import Layout, layout

MANY = 150
"""Unknowns above which no matrix is formed, unless it is asked for."""
PROBES = 8
"""Random vectors behind an estimated diagonal."""
REFRESH = 8
"""Steps that one estimate of the diagonal serves."""
LIGHT = 1e-4
"""Least λ. Below it a step is Newton's to four digits; a model that is wrong is mended from there in few trials."""
SHARES = (0.1, 0.001)
"""An iteration of conjugate gradients that brings less than this share of the mean of those before it is a step's last:
on the way, and before the end is accepted. A step that is left off early promises too little to tell the end from slow
progress along many directions that are each seen badly."""
PATIENCE = 12
"""Steps in a row that find nothing lower before the end is accepted."""


class Walk(NamedTuple):
    """Where the walk stands.

    Args:
        z: Unconstrained values.
        value: Minus the log-posterior of the leaves.
        gradient: Its gradient.
        damping: λ.
        growth: What λ is multiplied with when a step fails.
        scales: Preconditioner; None for the dense form.
    """

    z: Unconstrained
    value: Array
    gradient: Unconstrained
    damping: Array
    growth: Array
    scales: Scales | None


class Step(NamedTuple):
    """What one step did: decrease that was predicted without damping, that happened, products used, accepted or not."""

    predicted: Array
    happened: Array
    products: Array
    accepted: Array


def least_squares(
    problem: Problem,
    *,
    iterations: int = 100,
    tolerance: float = 1e-3,
    dense: bool | None = None,
    damping: float = 1e-3,
    products: int = 60,
    report: Callable[[int, float], None] | None = None,
    seed: int = 0,
) -> Result:
    """The most probable leaves by Levenberg-Marquardt.

    Damping is a share of the curvature, so a leaf that the data do not see at the first guess and that has no prior
    may be flung away: the aberrations under an object that is still blank. Give it a prior.

    Args:
        problem: The problem.
        iterations: Steps at most.
        tolerance: Decrease of −log p that a further step is still worth [nat]. One nat is the price of being 1.4
            standard deviations off, so 1e-3 is 4 % of an error bar, if it all falls to one unknown.
        dense: Form the matrix of unknowns; decided by their number if left out.
        damping: First λ, in parts of the curvature's diagonal.
        products: Products with the curvature for one step at most, without a matrix.
        report: Called after every step with its number and −log p.
        seed: Seed of the preconditioner's estimate.

    Returns:
        The result; `history` has `loss` (−log p by step), `damping`, `products`.

    Raises:
        InputError: −log p is not finite at the first guess; the message says where.

    >>> from flax import struct
    >>> from stemjax.detect.noise import Gaussian
    >>> class Counts(struct.PyTreeNode):
    ...     counts: Any
    >>> line = statement.make_problem({"a": jnp.array(1.0)}, Counts(jnp.array([2.0, 4.0])), noise=Gaussian(1.0, 0.0),
    ...                               free=["a"], forward=lambda m, i=None: m["a"] * jnp.ones(2))
    >>> round(float(least_squares(line).value["a"]), 5)  # the mean
    3.0
    """
    problem = spread(ready(problem))
    shape = layout(problem)
    formed = shape.size <= MANY if dense is None else dense
    walk = _begin(problem, jnp.asarray(damping), jax.random.key(seed), formed)
    if not (np.isfinite(float(walk.value)) and bool(_all_finite(walk.gradient))):
        said = "the slope of −log p is not finite at the first guess; move the guess, or fix a leaf"
        raise InputError(fault(problem, walk.z) or said)
    history: dict[str, list[float]] = {"loss": [float(walk.value)], "damping": [], "products": []}
    status, success, idle, shares = f"took {iterations} steps without coming to rest", False, 0, list(SHARES)
    for number in range(iterations):
        fresh = number % REFRESH == 0 and number > 0 and not formed
        walk, step = _step(problem, walk, jax.random.key(seed + number), fresh, shares[0], products)
        history["loss"].append(float(walk.value))
        history["damping"].append(float(walk.damping))
        history["products"].append(int(step.products))
        if report is not None:
            report(number, float(walk.value))
        idle = 0 if bool(step.accepted) and float(step.happened) > _rounding(walk.value) else idle + 1
        ended = _ended(step, walk, tolerance, idle)
        if ended is not None and not formed and len(shares) > 1:
            shares, idle = shares[1:], 0  # once more, with care
        elif ended is not None:
            status, success = f"{ended} after {number + 1} steps", ended.startswith("came to rest")
            break
    if not formed and history["products"]:
        history["products"][0] += PROBES
    arrays = {name: np.array(values) for name, values in history.items()}
    return at_point(problem, walk.z, "least squares", status, success=success, history=arrays)


def _ended(step: Step, walk: Walk, tolerance: float, idle: int) -> str | None:
    """Why to stop, or None."""
    lightly = float(walk.damping) < 1e-1
    if bool(step.accepted) and lightly and max(float(step.predicted), float(step.happened)) < tolerance:
        return f"came to rest: a further step would gain less than {tolerance:g} nat"
    if idle >= 2 and lightly and float(step.predicted) < tolerance:
        return "came to rest: nothing lower within rounding"
    if idle >= PATIENCE and float(step.predicted) < max(tolerance, _rounding(walk.value)):
        return "came to rest: nothing lower within rounding"
    if idle >= PATIENCE:
        return "stuck: no step goes lower, though the slope is not zero,"
    return None


def _rounding(value: Array) -> float:
    """Decrease that rounding cannot tell from none."""
    return 4.0 * float(jnp.finfo(value.dtype).eps) * max(1.0, abs(float(value)))


def spread(problem: Problem) -> Problem:
    """The problem with its records on the devices of its forward model."""
    execution = getattr(problem.forward, "execution", None)
    return problem if execution is None else distribute(problem, execution)


@functools.partial(jax.jit, static_argnums=3)
def _begin(problem: Problem, damping: Array, key: Array, formed: bool) -> Walk:
    z = statement.start(problem)
    value, gradient = jax.value_and_grad(lambda z: statement.objective(problem, z))(z)
    scales = None if formed else measure(posterior_curvature(problem, z), layout(problem), z, key, PROBES)
    return settled(Walk(z, value, gradient, damping.astype(value.dtype), jnp.asarray(2.0, value.dtype), scales))


def settled(tree: Any) -> Any:
    """The same arrays with types of their own; one that follows its neighbours would make a second program."""
    return jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), tree)


@functools.partial(jax.jit, static_argnums=5)
def _step(problem: Problem, walk: Walk, key: Array, fresh: Any, share: Any, products: int) -> tuple[Walk, Step]:
    """One step: model, trial, gain ratio, new damping."""
    shape, z = layout(problem), walk.z
    operator = posterior_curvature(problem, z)
    scales = walk.scales
    if scales is not None:
        again = functools.partial(measure, operator, shape, z, key, PROBES)
        scales = jax.lax.cond(jnp.asarray(fresh), again, lambda: walk.scales)
    found, damping_term = (
        _by_matrix(operator, walk, shape)
        if scales is None
        else _by_products(operator, walk, scales, shape, (share, products))
    )
    trial = added(jnp.ones(()), found.step, z)
    value, gradient = jax.value_and_grad(lambda z: statement.objective(problem, z))(trial)
    # The model without its damping says what the step itself should bring.
    predicted = found.decrease + 0.5 * damping_term
    happened = walk.value - value
    gain = happened / jnp.maximum(predicted, jnp.finfo(value.dtype).tiny)
    good = (gain > 0) & jnp.isfinite(value) & _all_finite(gradient)
    kept = jax.tree.map(
        lambda new, old: jnp.where(good, new, old), (trial, value, gradient), (z, walk.value, walk.gradient)
    )
    eased = walk.damping * jnp.maximum(1.0 / 5.0, 1.0 - (2.0 * gain - 1.0) ** 3)
    damping = jnp.clip(jnp.where(good, eased, walk.damping * walk.growth), LIGHT, 1e9)
    growth = jnp.where(good, 2.0, jnp.minimum(2.0 * walk.growth, 64.0))
    step = Step(predicted, jnp.where(good, happened, 0.0), found.iterations, good)
    return Walk(kept[0], kept[1], kept[2], damping, growth.astype(value.dtype), scales), step


def _by_matrix(operator: Operator, walk: Walk, shape: Layout) -> tuple[Truncated, Array]:
    whole = matrix(operator, shape)
    # A prior may curve the wrong way at the first guess: its modulus is the scale, and damping turns the sign.
    diagonal = jnp.abs(jnp.diag(whole))
    floor = jnp.maximum(diagonal, 1e-12 * jnp.max(diagonal) + jnp.finfo(diagonal.dtype).tiny)
    gradient = shape.ravel(walk.gradient)
    # Scaled to a unit diagonal, so that Å, mrad and electrons meet on one footing.
    scale = 1.0 / jnp.sqrt(floor)
    scaled = whole * scale[:, None] * scale[None, :] + walk.damping * jnp.eye(shape.size)
    step = -scale * jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(scaled), scale * gradient)
    decrease = -0.5 * gradient @ step
    size = jnp.asarray(shape.size)
    return Truncated(shape.unravel(step), decrease, size), walk.damping * jnp.sum(floor * step**2)


def _by_products(
    operator: Operator, walk: Walk, scales: Scales, shape: Layout, limits: tuple[Any, int]
) -> tuple[Truncated, Array]:
    def whole(direction: Unconstrained) -> Unconstrained:
        return jax.tree.map(jnp.add, operator(direction), damped(scales, shape, walk.damping, direction))

    inverse = functools.partial(invert, scales, shape, walk.damping)
    found = minimise_model(whole, walk.gradient, inverse, share=limits[0], most=limits[1])
    return found, dot(found.step, damped(scales, shape, walk.damping, found.step))


def _all_finite(tree: Any) -> Array:
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))
