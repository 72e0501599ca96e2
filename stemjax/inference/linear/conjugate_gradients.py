r"""Linear systems without a matrix: conjugate gradients, to a tolerance or left off when it is not worth more.

A Newton step lowers a quadratic model:

.. math:: q(s) = g^\mathsf{T} s + \tfrac12 s^\mathsf{T} (A + B) s

Source: Nash & Sofer, Oper. Res. Lett. 9 (1990) 219, for when to stop: an iteration that lowers the model by less than a
share of the mean of all before it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from stemjax.core.typing import Array

Vector = Any
"""A pytree of arrays, taken as one vector."""


class Truncated(NamedTuple):
    """Where conjugate gradients were left off.

    Args:
        step: s.
        decrease: How much the model falls, −q(s).
        iterations: Products used.
    """

    step: Vector
    decrease: Array
    iterations: Array


def dot(first: Vector, second: Vector) -> Array:
    """Inner product of two trees.

    >>> float(dot({"a": jnp.ones(2)}, {"a": jnp.ones(2)}))
    2.0
    """
    parts = jax.tree.map(lambda a, b: jnp.vdot(a, b), first, second)
    return sum(jax.tree.leaves(parts), start=jnp.zeros(()))


def added(factor: Array, direction: Vector, to: Vector) -> Vector:
    """to + factor · direction."""
    return jax.tree.map(lambda d, t: t + factor.astype(t.dtype) * d, direction, to)


def kept(good: Array, new: Vector, old: Vector) -> Vector:
    """A tree if it is good, else the old one."""
    return jax.tree.map(lambda a, b: jnp.where(good, a, b), new, old)


class Solved(NamedTuple):
    """The solution of a system, and the residual that is left as a share of the right side.

    Where the matrix was not positive, `positive` is false and `direction` is along which it was not.
    """

    found: Vector
    share: Array
    positive: Array
    direction: Vector


def solve(
    operator: Callable[[Vector], Vector],
    right: Vector,
    *,
    near: Callable[[Vector], Vector] = lambda x: x,
    tolerance: Array | float = 1e-4,
    most: int = 300,
) -> Solved:
    """The solution of a symmetric system; stops where the matrix is not positive.

    Args:
        operator: The matrix.
        right: The right side.
        near: Something like the inverse of the matrix, symmetric and positive.
        tolerance: The residual that may be left, as a share of the right side, both measured by `near`.
        most: Most products.

    >>> found = solve(lambda v: 2.0 * v, jnp.array([2.0, -4.0]))
    >>> found.found.tolist(), float(found.share)
    ([1.0, -2.0], 0.0)
    """
    first = near(right)
    size = dot(right, first)

    def onward(state: tuple) -> Array:
        _, _, _, rest, step, positive = state
        return (rest > tolerance**2 * size) & (step < most) & positive

    def turn(state: tuple) -> tuple:
        x, left, direction, rest, step, _ = state
        pushed = operator(direction)
        curved = dot(direction, pushed)
        positive = curved > 0.0
        length = jnp.where(positive, rest / jnp.where(positive, curved, 1.0), (step == 0).astype(rest.dtype))
        further, less = added(length, direction, x), added(-length, pushed, left)
        turned = near(less)
        new = dot(less, turned)
        onwards = added(new / jnp.where(rest > 0, rest, 1.0), direction, turned)
        # A right side that is all rounding leads nowhere, and may do so without end: the last sound place is kept.
        sound = jnp.isfinite(new)
        x, left = kept(sound, further, x), kept(sound, less, left)
        direction = kept(positive & sound, onwards, direction)
        return x, left, direction, jnp.where(sound, new, rest), step + 1, positive & sound

    start = jax.tree.map(jnp.zeros_like, right), right, first, size, jnp.zeros((), int), jnp.ones((), bool)
    found, _, direction, rest, _, positive = jax.lax.while_loop(onward, turn, start)
    return Solved(found, jnp.sqrt(rest / jnp.maximum(size, jnp.finfo(size.dtype).tiny)), positive, direction)


def solve_rows(
    operator: Callable[[Array], Array], rows: Array, tolerance: Array | float, most: int
) -> tuple[Array, Array]:
    """Solutions for several right sides, one after the other.

    Args:
        operator: A positive definite matrix with a diagonal near one.
        rows: Right sides [row unknown].
        tolerance: As in `solve`.
        most: Most products a row.

    Returns:
        Solutions [row unknown] and the shares of the right sides that are left [row]. Where the matrix is singular the
        solution is endless along the direction that nothing holds.
    """
    found = jax.lax.map(lambda row: solve(operator, row, tolerance=tolerance, most=most), rows)
    endless = jnp.finfo(rows.dtype).max ** 0.25 * found.direction
    return jnp.where(found.positive[:, None], found.found, endless), found.share


def minimise_model(
    operator: Callable[[Vector], Vector],
    gradient: Vector,
    precondition: Callable[[Vector], Vector],
    *,
    share: Array | float = 0.1,
    most: int = 50,
) -> Truncated:
    """A step that lowers a quadratic model.

    Args:
        operator: A + B, positive.
        gradient: g.
        precondition: Approximate inverse of A + B, symmetric and positive.
        share: An iteration that brings less than this share of the mean of those before it is the last.
        most: Most iterations.

    Returns:
        The step. Each iteration costs one product; at a direction of no positive curvature it stops, after a step of
        the preconditioner's length if that is the first.

    >>> found = minimise_model(lambda v: 2.0 * v, jnp.array([2.0, -4.0]), lambda v: v)
    >>> found.step.tolist(), float(found.decrease)
    ([-1.0, 2.0], 5.0)
    """
    residual = jax.tree.map(jnp.negative, gradient)
    turned = precondition(residual)
    fall = dot(residual, turned)
    begin = (jnp.zeros((), int), jax.tree.map(jnp.zeros_like, gradient), residual, turned, fall, 0.0 * fall, fall > 0)

    def body(carry: Any) -> Any:
        count, step, residual, direction, fall, decrease, _ = carry
        product = operator(direction)
        curvature = dot(direction, product)
        positive = curvature > 0
        # Where the model falls without end along the first direction, the preconditioner alone tells how far to go.
        endless = jnp.where(count == 0, jnp.ones_like(fall), 0.0)
        length = jnp.where(positive, fall / jnp.where(positive, curvature, 1.0), endless)
        step, residual = added(length, direction, step), added(-length, product, residual)
        turned = precondition(residual)
        next_fall = dot(residual, turned)
        direction = added(next_fall / jnp.where(fall > 0, fall, 1.0), direction, turned)
        gain = length * (fall - 0.5 * length * curvature)
        decrease, count = decrease + gain, count + 1
        worth = gain * count > share * decrease
        return count, step, residual, direction, next_fall, decrease, positive & worth & (next_fall > 0)

    count, step, _, _, _, decrease, _ = jax.lax.while_loop(lambda c: c[-1] & (c[0] < most), body, begin)
    return Truncated(step, decrease, count)
