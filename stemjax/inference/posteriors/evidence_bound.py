r"""The Gaussian of greatest evidence bound, by Adam on draws.

.. math:: \mathrm{ELBO}(q) = \mathrm{E}_q [\log p(z, n) - \log q(z)] = \log p(n) - \mathrm{KL}(q\, \|\, p)

The draws carry the gradient; log q enters with its parameters held, so that no noise is left where q is the posterior
itself (Roeder, Wu, Duvenaud, NeurIPS 30 (2017)). Draws come in opposite pairs: what they say of the mean has no noise
where the density is Gaussian. Source: Kucukelbir et al., J. Mach. Learn. Res. 18 (2017) 14.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from stemjax.core.typing import Array, PRNGKeyArray
from stemjax.inference import problem as statement
from stemjax.inference.gaussian import Diagonal, Gaussian, LowRank
from stemjax.inference.linear.lanczos import Eigenpairs
from stemjax.inference.posteriors.matrix_free import scale_at, slack_directions
from stemjax.inference.problem import Problem, Unconstrained
from stemjax.inference.solvers.mode import expected_curvature
from stemjax.inference.vector import Layout, layout

RATE, LAST = 0.05, 0.1
"""First step of Adam, in units of the width that the curvature gives, and the share that a cosine leaves of it."""

AVERAGED = 4
"""The fit is the mean over the last of so many parts of the steps: the noise of single steps is averaged out of it."""

SLACK = 16
"""Directions, of those that are held least, along which the mean takes longer steps."""

CREASE = 0.01
"""Directions of q begin with this much at random; exactly none would stay so."""


class Frame(NamedTuple):
    """What the curvature at the start says: where q begins and in which units it is described.

    Args:
        centre: The start [unknown].
        scale: Width of every unknown while the others rest [unknown].
        slack: Directions that are held least, in that unit [unknown direction].
        stretch: Their widths [direction].
    """

    centre: Array
    scale: Array
    slack: Array
    stretch: Array

    def displaced(self, location: Array) -> Array:
        """A displacement in units of the widths of all directions, in the unit of the scale."""
        return location + self.slack @ ((self.stretch - 1.0) * (location @ self.slack))


class Parameters(NamedTuple):
    """The Gaussian, free in every number.

    Args:
        location: Displacement of the mean in units of the frame's widths [unknown].
        width: Logarithm of the diagonal, in the unit of the scale [unknown].
        factor: B of the covariance S(1 + B Bᵀ)S [unknown direction].
    """

    location: Array
    width: Array
    factor: Array


class Fit(NamedTuple):
    """Where the fit ended.

    Args:
        parameters: The Gaussian.
        elbo: The bound at every step [step].
        pull: Greatest slope of the bound by a mean or the logarithm of a width, above five times its noise: about how
            many standard deviations, or which share of a width, are missing.
    """

    parameters: Parameters
    elbo: Array
    pull: Array


class _Walk(NamedTuple):
    """Where Adam stands; means over the last steps of that, of the slope and of its square; its memory."""

    here: Parameters
    means: tuple[Parameters, Any, Any]
    memory: Any
    number: Array


def start_from_curvature(
    problem: Problem, z: Unconstrained, rank: int, first: PRNGKeyArray, second: PRNGKeyArray
) -> tuple[Frame, Parameters]:
    """The frame, and the Gaussian of this rank that is nearest to the curvature's own."""
    scale = scale_at(problem, z, first, expected_curvature)
    pairs = slack_directions(problem, z, scale, second, expected_curvature, SLACK + rank)
    return _nearest(layout(problem).ravel(z), scale, pairs, second, rank)


@functools.partial(jax.jit, static_argnums=4)
def _nearest(centre: Array, scale: Array, pairs: Eigenpairs, key: PRNGKeyArray, rank: int) -> tuple[Frame, Parameters]:
    size, blank = scale.size, jnp.zeros_like(scale)
    held = jnp.clip(pairs.values, 1e-4, None)
    frame = Frame(centre, scale, pairs.vectors, 1.0 / jnp.sqrt(held))
    # The trace of the scaled curvature is its size; what the directions leave is spread over the rest.
    rest = (size - jnp.sum(held[:rank])) / (size - rank) if rank < size else jnp.max(held)
    rest = jnp.maximum(rest, 0.1)
    factor = pairs.vectors[:, :rank] * jnp.sqrt(jnp.maximum(rest / held[:rank] - 1.0, 0.0))[None]
    factor = factor + CREASE * jax.random.normal(key, factor.shape, factor.dtype)
    return frame, Parameters(blank, blank - 0.5 * jnp.log(rest), factor)


@functools.partial(jax.jit, static_argnums=4)
def fit_by_adam(problem: Problem, frame: Frame, first: Parameters, key: PRNGKeyArray, count: tuple[int, int]) -> Fit:
    """The Gaussian after all steps of Adam.

    Args:
        problem: The problem.
        frame: Its frame.
        first: Where to begin.
        key: Random key.
        count: Steps, and draws a step.
    """
    steps, particles = count
    adam, late = optax.adam(optax.cosine_decay_schedule(RATE, steps, LAST)), steps // AVERAGED

    def step(state: _Walk, key: PRNGKeyArray) -> tuple[_Walk, Array]:
        value, slope = jax.value_and_grad(lambda p: -_bound(problem, frame, p, key, particles))(state.here)
        move, memory = adam.update(slope, state.memory)
        here, number = optax.apply_updates(state.here, move), state.number + 1
        share = 1.0 / jnp.maximum(number - (steps - late), 1)
        latest = here, _pull(slope), jax.tree.map(jnp.square, _pull(slope))
        means = jax.tree.map(lambda old, new: old + share.astype(new.dtype) * (new - old), state.means, latest)
        return _Walk(here, means, memory, number), -value

    nothing = _pull(jax.tree.map(jnp.zeros_like, first))
    start = _Walk(first, (first, nothing, nothing), adam.init(first), jnp.zeros((), int))
    end, elbo = jax.lax.scan(step, start, jax.random.split(key, steps))
    fitted, pull, square = end.means
    noise = jax.tree.map(lambda m, s: jnp.sqrt(jnp.maximum(s - m**2, 0.0) / max(1, late - 1)), pull, square)
    return Fit(fitted, elbo + jnp.sum(jnp.log(frame.scale)), _beyond(pull, noise))


def _bound(problem: Problem, frame: Frame, parameters: Parameters, key: PRNGKeyArray, particles: int) -> Array:
    """The evidence bound of unknowns in units of the scale, from a few draws."""
    shape, held = layout(problem), jax.tree.map(jax.lax.stop_gradient, parameters)

    def one(draw: tuple[PRNGKeyArray, Array]) -> Array:
        place = _draw(frame, parameters, *draw)
        z = shape.unravel(frame.centre + frame.scale * place)
        return statement.log_density(problem, z) - _log_prob(frame, held, place)

    keys = jnp.repeat(jax.random.split(key, (particles + 1) // 2), 2, axis=0)
    signs = jnp.where(jnp.arange(len(keys)) % 2 == 0, 1.0, -1.0).astype(frame.scale.dtype)
    # One draw after the other: a forward model that walks probes has no batch axis.
    return jnp.mean(jax.lax.map(one, (keys, signs)))


def _pull(slope: Parameters) -> tuple[Array, Array]:
    """The slopes by means and widths, whose unit the frame makes one."""
    return slope.location, slope.width


def _beyond(pull: tuple[Array, Array], noise: tuple[Array, Array]) -> Array:
    worst = [jnp.max(jnp.maximum(jnp.abs(p) - 5.0 * n, 0.0)) for p, n in zip(pull, noise, strict=True)]
    return jnp.maximum(worst[0], worst[1])


def _draw(frame: Frame, parameters: Parameters, key: PRNGKeyArray, sign: Array) -> Array:
    first, second = jax.random.split(key)
    location, width, factor = parameters
    white = jax.random.normal(first, location.shape, location.dtype)
    along = jax.random.normal(second, factor.shape[1:], location.dtype)
    return frame.displaced(location) + sign * jnp.exp(width) * (white + factor @ along)


def _log_prob(frame: Frame, parameters: Parameters, place: Array) -> Array:
    """Log-density by the matrix inversion lemma, at the cost of the rank."""
    location, width, factor = parameters
    white = (place - frame.displaced(location)) * jnp.exp(-width)
    inner = jnp.eye(factor.shape[1], dtype=factor.dtype) + factor.T @ factor
    root, along = jnp.linalg.cholesky(inner), white @ factor
    turned = jax.scipy.linalg.solve_triangular(root, along, lower=True)
    square = jnp.sum(white**2) - jnp.sum(turned**2)
    return -0.5 * (square + white.size * np.log(2.0 * np.pi)) - jnp.sum(width) - jnp.sum(jnp.log(jnp.diag(root)))


@jax.jit
def gaussian_of(z: Unconstrained, frame: Frame, fitted: Parameters) -> Gaussian:
    """The fit as a Gaussian of z."""
    shape = Layout({path: tuple(z[path].shape) for path in sorted(z)}, frame.scale.size)
    mean = shape.unravel(frame.centre + frame.scale * frame.displaced(fitted.location))
    wide = frame.scale * jnp.exp(fitted.width)
    if not fitted.factor.shape[1]:
        return Diagonal(mean, wide)
    vectors, sizes, _ = jnp.linalg.svd(fitted.factor, full_matrices=False)
    return LowRank(mean, wide, vectors, sizes**2)
