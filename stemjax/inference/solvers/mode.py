r"""The mode of the density of z, the curvature there, and what to say where there is none.

Newton's method with the curvature as a matrix: z ← z − H⁻¹ ∇(−log p), halved until the density rises. Where the
curvature is not positive, on the way, its modulus gives the step its length (Dauphin et al., NeurIPS 27 (2014)).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.typing import Array, real_dtype
from stemjax.inference import problem as statement
from stemjax.inference.curvature import Operator, matrix, posterior_curvature
from stemjax.inference.faults import fault
from stemjax.inference.problem import Problem, Unconstrained
from stemjax.inference.result import Result
from stemjax.inference.vector import Layout, layout

Curvature = Callable[[Problem, Unconstrained], Operator]
"""From a problem and a place to the precision there, as an operator."""

CLIMBS = 25
"""Most Newton steps to the mode."""

FAR = 0.1
"""A mode known to no better than this many standard deviations is not found."""

HALVINGS = 12
"""Most halvings of a step that does not raise the density."""


class Peak(NamedTuple):
    """A mode.

    Args:
        z: Where it is.
        precision: Curvature there [unknown unknown], in double precision.
        step: Greatest element of the last step, in standard deviations of its unknown; the mode is nearer still.
        climbs: Steps taken.
        least: Least eigenvalue of the precision scaled to a unit diagonal: 1 where all unknowns are independent.
        weakest: The unknowns along its eigenvector.
    """

    z: Unconstrained
    precision: np.ndarray
    step: float
    climbs: int
    least: float
    weakest: tuple[str, ...]


def observed_curvature(problem: Problem, z: Unconstrained) -> Operator:
    """Minus the second derivative of the log-density of z, as an operator."""
    uphill = jax.grad(lambda z: -statement.log_density(problem, z))
    return lambda direction: jax.jvp(uphill, (z,), (direction,))[1]


def expected_curvature(problem: Problem, z: Unconstrained) -> Operator:
    """Fisher information of the data plus the curvature of the priors of z, as an operator."""
    return posterior_curvature(problem, z, slope=True)


def place(problem: Problem, at: Result | None) -> Unconstrained:
    """Where to start: at the estimate of a result, or at the most probable leaves if there is none.

    Raises:
        InputError: The result does not know a free leaf, or has another shape there.
    """
    if at is None:
        from stemjax.inference.solvers.least_squares import least_squares

        at = least_squares(problem)
    if not isinstance(at, Result):
        raise InputError(
            f"at is a {type(at).__name__}; give the result of a solver, or put values into the first guess"
        )
    z = {}
    for path, guess in statement.start(problem).items():
        if path not in at.estimate:
            raise InputError(f"the result to start from has no '{path}'; give one of this problem, or none")
        found = statement.bijectors(problem)[path].inverse(jnp.asarray(at.estimate[path].value, guess.dtype))
        if found.shape != guess.shape:
            raise InputError(f"'{path}' has shape {found.shape} in the result to start from; it is {guess.shape} here")
        z[path] = found
    return z


def climb(problem: Problem, z: Unconstrained, curvature: Curvature) -> Peak:
    """The mode of `log_density` near some place, with the curvature as a matrix.

    Raises:
        InputError: The density is not finite, or the curvature at the mode is not positive: no Gaussian stands there.
    """
    shape, near = layout(problem), precision_floor()
    value, slope = finite(problem, z)
    climbs = 0
    for _ in range(CLIMBS):
        precision = np.asarray(local_matrix(problem, z, curvature), np.float64)
        step, length = newton_step(precision, np.asarray(slope, np.float64))
        z_new, value_new, slope_new = descend(problem, z, (value, slope), jnp.asarray(step, real_dtype()))
        stuck, climbs = z_new is z, climbs + 1
        z, value, slope = z_new, value_new, slope_new
        if length < near or stuck:
            break
    return Peak(z, precision, length, climbs, *check_positive(shape, precision))


def precision_floor() -> float:
    """The step, in standard deviations, below which a mode is found: its square is as good as nothing."""
    return max(1e-6, 3.0 * float(np.sqrt(jnp.finfo(real_dtype()).eps)))


def newton_step(precision: np.ndarray, slope: np.ndarray) -> tuple[np.ndarray, float]:
    """H⁻¹ g, and its greatest element in standard deviations; by the modulus of H where it is not positive."""
    from scipy.linalg import solve_triangular

    scale = scale_of(precision)
    scaled = precision * scale[:, None] * scale[None, :]
    try:
        half = solve_triangular(np.linalg.cholesky(scaled), np.eye(len(scale)), lower=True)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(scaled)
        size = np.maximum(np.abs(values), 1e-9 * np.abs(values).max())
        half = vectors.T / np.sqrt(size)[:, None]
    step, spread = half.T @ (half @ (scale * slope)), np.sqrt(np.sum(half**2, axis=0))
    return scale * step, float(np.max(np.abs(step) / spread))


def descend(
    problem: Problem, z: Unconstrained, here: tuple[Array, Array], step: Array
) -> tuple[Unconstrained, Array, Array]:
    """A step against the slope of −log p, halved until the density rises; z itself if it never does."""
    value, slope = here
    shape = layout(problem)
    # Sums of many counts round at this much; a smaller fall says nothing.
    slack = 20.0 * float(jnp.finfo(real_dtype()).eps) * max(1.0, abs(float(value)))
    for _ in range(HALVINGS):
        trial = shape.unravel(shape.ravel(z) - step)
        new, turned = value_and_slope(problem, trial)
        if np.isfinite(float(new)) and np.isfinite(np.asarray(turned)).all() and float(new) <= float(value) + slack:
            return trial, new, turned
        step = 0.5 * step
    return z, value, slope


def finite(problem: Problem, z: Unconstrained) -> tuple[Array, Array]:
    """−log p and its slope, if they are finite.

    Raises:
        InputError: They are not; the message says why.
    """
    value, slope = value_and_slope(problem, z)
    if not (np.isfinite(float(value)) and np.isfinite(np.asarray(slope)).all()):
        raise InputError(fault(problem, z))
    return value, slope


def scale_of(precision: np.ndarray) -> np.ndarray:
    """What makes the diagonal of a precision one: the deviation of every unknown while the others rest."""
    diagonal = np.abs(np.diag(precision))
    return 1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))


def check_positive(shape: Layout, precision: np.ndarray) -> tuple[float, tuple[str, ...]]:
    """The least eigenvalue of a precision of unit diagonal, and the unknowns along its eigenvector.

    Raises:
        InputError: It is not positive by more than rounding.
    """
    from scipy.linalg import eigh

    if not np.isfinite(precision).all():
        raise InputError(
            "the curvature of the log-density is not finite at its mode; move the first guess, or hold a leaf"
        )
    scale = scale_of(precision)
    unseen = np.flatnonzero(np.diag(precision) <= 0)
    if len(unseen):
        others = " and others" if len(unseen) > 1 else ""
        name = label(shape, int(unseen[0]))
        raise InputError(f"neither data nor priors hold '{name}'{others}; give a prior, or hold it fixed")
    values, vectors = eigh(precision * scale[:, None] * scale[None, :], subset_by_index=[0, 0])
    if values[0] <= singular(len(scale)):
        raise InputError(trade(shape, vectors[:, 0]))
    return float(values[0]), tuple(leading(shape, vectors[:, 0]))


def singular(size: int) -> float:
    """Eigenvalue of a matrix of unit diagonal that rounding cannot tell from zero."""
    return 20.0 * max(10, size) * float(jnp.finfo(real_dtype()).eps)


def trade(shape: Layout, direction: np.ndarray) -> str:
    """What to say of a direction that nothing holds."""
    names = leading(shape, direction)
    if len(names) == 1:
        return f"neither data nor priors hold '{names[0]}'; give it a prior, or hold it fixed"
    listed = "', '".join(names[:-1])
    return (
        f"'{listed}' and '{names[-1]}' trade against each other: along this direction neither data nor priors change; "
        "give one of them a prior, or hold it fixed"
    )


def leading(shape: Layout, direction: np.ndarray, most: int = 4) -> list[str]:
    """The unknowns that a direction consists of, the greatest first.

    >>> leading(Layout({"a": (2,), "b": ()}, 3), np.array([0.1, 0.7, -0.7]))
    ['a[1]', 'b']
    """
    size = np.abs(np.asarray(direction))
    order = np.argsort(-size, kind="stable")[:most]
    return [label(shape, int(number)) for number in order if size[number] > 0.3 * size.max()]


def label(shape: Layout, number: int) -> str:
    """Name of one unknown."""
    for path, part in shape.slices().items():
        if part.start <= number < part.stop:
            index = np.unravel_index(number - part.start, shape.shapes[path]) if shape.shapes[path] else ()
            return f"{path}[{','.join(map(str, index))}]" if index else path
    raise IndexError(number)


@jax.jit
def value_and_slope(problem: Problem, z: Unconstrained) -> tuple[Array, Array]:
    """−log p and its slope [unknown]."""
    value, slope = jax.value_and_grad(lambda z: -statement.log_density(problem, z))(z)
    return value, layout(problem).ravel(slope)


@functools.partial(jax.jit, static_argnums=2)
def local_matrix(problem: Problem, z: Unconstrained, curvature: Curvature) -> Array:
    """A curvature as a matrix [unknown unknown]."""
    return matrix(curvature(problem, z), layout(problem))
