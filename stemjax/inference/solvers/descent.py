r"""Walks downhill from many starts at once, to find which well each of them lies in.

L-BFGS (Liu & Nocedal, Math. Program. 45 (1989) 503) in coordinates in which the curvature at one place is one,

.. math:: z = z_0 + R x, \qquad R R^\mathsf{T} = (F + P)^{-1},

so that few steps reach a bottom. The walks spread over the devices; one program serves any number of steps.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from stemjax.core.typing import Array, real_dtype
from stemjax.inference import problem as statement
from stemjax.inference.curvature import matrix, posterior_curvature
from stemjax.inference.gaussian import Diagonal, Gaussian, dense_gaussian
from stemjax.inference.posteriors.chains import chain_devices, placed, side_by_side
from stemjax.inference.problem import Problem, Unconstrained
from stemjax.inference.vector import layout

DENSE = 200
"""Most unknowns whose curvature is written out as a matrix."""

CALM = 3
"""Steps in a row that lower the loss by no more than its rounding: the bottom is reached."""


def descent_frame(problem: Problem, z: Unconstrained) -> Gaussian:
    """Coordinates in which the curvature at some place is about one; beyond 200 unknowns by its diagonal alone."""
    size = layout(problem).size
    if size <= DENSE:
        precision = np.asarray(_matrix(problem, z), np.float64)
        scale = np.sqrt(np.maximum(np.abs(np.diag(precision)), 1e-30))
        if np.isfinite(precision).all():
            # What neither data nor priors hold gets a thousandth of its own curvature.
            return dense_gaussian(z, precision + 1e-6 * np.diag(scale**2))
    diagonal = np.asarray(_diagonal(problem, z, jax.random.key(0)), np.float64)
    known = np.isfinite(diagonal) & (diagonal > 0)
    scale = 1.0 / np.sqrt(np.where(known, diagonal, np.median(diagonal[known]) if known.any() else 1.0))
    return Diagonal(z, jnp.asarray(scale, real_dtype()))


def descend(
    problem: Problem, frame: Gaussian, begun: Mapping[str, Any], steps: int, *, room: int | None = None
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Walk downhill from many starts.

    Args:
        problem: The problem.
        frame: Coordinates of the walk.
        begun: Unconstrained starts [trial ...] by path.
        steps: Most steps of each.
        room: Starts that the program has room for; calls with the same room share it. Their number if left out.

    Returns:
        Unconstrained ends [trial ...] by path, and minus the log-posterior there, infinite where it is not finite.
    """
    shape = layout(problem)
    count = len(next(iter(begun.values())))
    # An even number of places fills two devices; what is left over repeats the last start and takes no step.
    places = max(count, room or 0) + max(count, room or 0) % 2
    flat = [shape.ravel({p: jnp.asarray(v[min(i, count - 1)]) for p, v in begun.items()}) for i in range(places)]
    devices = chain_devices(problem, places)
    # Dealt to the devices in turn, so that a few starts occupy all of them.
    order = np.arange(places).reshape(-1, devices).T.ravel()
    taken = jnp.asarray(np.where(order < count, steps, 0))
    z, loss = _descents(problem, frame, jnp.stack([flat[i] for i in order]), taken, devices)
    back = np.argsort(order)[:count]
    ends = {path: np.asarray(v)[back] for path, v in z.items()}
    return ends, np.nan_to_num(np.asarray(loss, np.float64)[back], nan=np.inf)


@functools.partial(jax.jit, static_argnums=4)
def _descents(
    problem: Problem, frame: Gaussian, starts: Array, steps: Array, devices: int
) -> tuple[Unconstrained, Array]:
    def one(given: tuple[Problem, Gaussian], start: Array, most: Array) -> tuple[Unconstrained, Array]:
        problem, frame = given
        solver = optax.lbfgs()

        def loss(x: Array) -> Array:
            return statement.objective(problem, placed(frame, x))

        read = optax.value_and_grad_from_state(loss)

        def step(walk: _Walk) -> _Walk:
            value, slope = read(walk.x, state=walk.state)
            moves, state = solver.update(slope, walk.state, walk.x, value=value, grad=slope, value_fn=loss)
            rounding = 4.0 * jnp.finfo(value.dtype).eps * jnp.abs(value)
            calm = jnp.where(walk.value - value > rounding, 0, walk.calm + 1)
            return _Walk(walk.number + 1, optax.apply_updates(walk.x, moves), state, value, calm)

        x = frame.whitened(start - frame.shape.ravel(frame.mean))
        begin = _Walk(jnp.zeros((), int), x, solver.init(x), jnp.full((), jnp.inf, x.dtype), jnp.zeros((), int))
        walk = jax.lax.while_loop(lambda w: (w.number < most) & (w.calm < CALM), step, begin)
        return placed(frame, walk.x), loss(walk.x)

    return side_by_side(one, devices)((problem, frame), starts, steps)


class _Walk(NamedTuple):
    """A descent on its way: steps taken, place, state of the solver, loss before the last step, idle steps in a row."""

    number: Array
    x: Array
    state: Any
    value: Array
    calm: Array


@jax.jit
def _matrix(problem: Problem, z: Unconstrained) -> Array:
    return matrix(posterior_curvature(problem, z), layout(problem))


@jax.jit
def _diagonal(problem: Problem, z: Unconstrained, key: Array, probes: int = 8) -> Array:
    """The diagonal of the curvature [unknown] from random signs (Bekas et al., Appl. Num. Math. 57 (2007) 1214)."""
    shape, product = layout(problem), posterior_curvature(problem, z)

    def one(key: Array) -> Array:
        sign = jax.random.rademacher(key, (shape.size,), real_dtype())
        return sign * shape.ravel(product(shape.unravel(sign)))

    return jnp.mean(jax.lax.map(one, jax.random.split(key, probes)), axis=0)
