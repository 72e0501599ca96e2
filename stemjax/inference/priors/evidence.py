r"""How much of the unknowns the data fix, and how much the priors: the sums that strengths are chosen by.

At the most probable leaves, with K the curvature of one prior's deviations and H that of data and priors together,

.. math:: \gamma = \mathrm{rank}\,K - \mathrm{tr}(H^{-1} K)

are the directions of the prior that the data fix. Few unknowns: exact, by matrices. Many: by random signs (Hutchinson,
Commun. Stat. Simul. Comput. 19 (1990) 433) and conjugate gradients.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from stemjax.core.typing import Array, PRNGKeyArray
from stemjax.inference import problem as statement
from stemjax.inference.curvature import Operator, fisher, matrix
from stemjax.inference.linear.conjugate_gradients import dot, solve
from stemjax.inference.priors.most_probable import (
    alone,
    by_leaf,
    exact,
    of_priors,
    posterior,
    signs_of,
    steepness,
)
from stemjax.inference.priors.parts import parts, sole
from stemjax.inference.problem import Problem, Unconstrained
from stemjax.inference.vector import layout

DENSE = 400
"""Unknowns up to which matrices are formed."""


class Sums(NamedTuple):
    """Of one prior: Σ|d|² over the square of its scale, its directions, and how many of these it fixes itself."""

    energy: Array
    rank: Array
    fixed: Array


@functools.partial(jax.jit, static_argnames="names")
def sums(problem: Problem, z: Unconstrained, keys: PRNGKeyArray, names: tuple[str, ...]) -> dict[str, Sums]:
    """What the evidence of some priors is made of, at the most probable leaves.

    Args:
        problem: The problem, every strength a number.
        z: The most probable leaves.
        keys: Keys of random signs [probe].
        names: Which of `parts`.
    """
    known, values, found = parts(problem), statement.constrained(problem, z), {}
    whole, near = posterior(problem, z, exact, keys[0])
    trace = _tracer(problem, z, whole, near, keys)
    for name in names:
        path, prior = known[name]
        energy = sum((jnp.sum(d**2) for d in prior.deviations(values[path])), start=jnp.zeros(()))
        own = of_priors(problem, z, deviating, only=name)
        rank = jnp.asarray(float(prior.rank(values[path].shape)))
        if not sole(problem, path):
            # The densities on one leaf share its directions.
            rank = _tracer(problem, z, of_priors(problem, z, exact, leaf=path), near, keys)(own, path)
        found[name] = Sums(energy / prior.scale**2, rank, trace(own, path))
    return found


@jax.jit
def spreads(problem: Problem, z: Unconstrained, keys: PRNGKeyArray) -> dict[str, tuple[Array, Array]]:
    """What the data tell of every leaf with a prior, on the mean, and how much noise there is in its measure.

    Returns:
        For each of `parts` the sum of the Fisher information over the elements of its leaf (in the unit of the leaf),
        and Σ|d|² of values that are as uncertain as the scale says, at scale one.
    """
    data, found = fisher(problem, z), {}
    values, steep = statement.constrained(problem, z), steepness(problem, z)

    def one(key: PRNGKeyArray) -> tuple[dict[str, Array], dict[str, Array]]:
        signs, rough = signs_of(key, z), {}
        for name, (path, prior) in parts(problem).items():
            moved = jax.jvp(prior.deviations, (values[path],), (signs[path],))[1]
            rough[name] = sum((jnp.sum(d**2) for d in moved), start=jnp.zeros(()))
        return by_leaf(lambda v: dot(v, data(v)), signs), rough

    told, rough = jax.lax.map(one, keys)
    for name, (path, prior) in parts(problem).items():
        # A normal density of known covariance gives a value its scale; of the others the deviations are that large.
        known = hasattr(prior, "covary") or prior.power == 1
        size = jnp.asarray(float(z[path].size)) if known else jnp.mean(rough[name])
        found[name] = jnp.mean(told[path]) / jnp.mean(steep[path] ** 2), size
    return found


def deviating(prior: Any, values: Array) -> Any:
    """Curvature of the deviations alone, at the scale of the prior: what does not follow the scale is left out."""
    _, push = jax.linearize(prior.deviations, values)
    pull = jax.linear_transpose(push, values)
    return lambda move: pull(jax.tree.map(lambda d: d / prior.scale**2, push(move)))[0]


def _tracer(
    problem: Problem, z: Unconstrained, whole: Operator, near: Operator, keys: PRNGKeyArray
) -> Callable[..., Array]:
    """tr(H⁻¹ A) as a function of A, over all leaves or the block of one."""
    shape, steep = layout(problem), steepness(problem, z)
    if shape.size <= DENSE:
        full = matrix(whole, shape)
        diagonal = jnp.diag(full)
        # Units apart, so that only what nothing holds is left out of the inverse.
        weight = 1.0 / jnp.sqrt(jnp.where(diagonal > 0, diagonal, 1.0))
        weight = weight[:, None] * weight[None]
        inverse = weight * jnp.linalg.pinv(weight * full, hermitian=True)
        return lambda part, _=None: jnp.sum(inverse * matrix(part, shape))

    def trace(part: Operator, path: str | None = None) -> Array:
        # Signs of the leaves, not of z: where the map is flat the matrix in z is so lopsided that signs see nothing.
        def one(key: PRNGKeyArray) -> Array:
            signs = signs_of(key, z)
            signs = signs if path is None else alone(signs, sorted(z).index(path))
            pushed = part({p: signs[p] / steep[p] for p in signs})
            return dot({p: signs[p] * steep[p] for p in signs}, solve(whole, pushed, near=near).found)

        return jnp.mean(jax.lax.map(one, keys))

    return trace
