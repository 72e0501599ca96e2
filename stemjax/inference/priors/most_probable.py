"""The most probable leaves of a problem and the curvature there, for one choice of the strengths of its priors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from stemjax.core.bijectors import Identity
from stemjax.core.paths import replace
from stemjax.core.typing import Array, PRNGKeyArray
from stemjax.inference import problem as statement
from stemjax.inference.curvature import Operator, fisher
from stemjax.inference.linear.conjugate_gradients import added, dot, solve
from stemjax.inference.priors.images import ROUNDING, rounded
from stemjax.inference.priors.parts import factors, parts
from stemjax.inference.problem import Problem, Unconstrained
from stemjax.inference.ties import follow

NEWTON_STEPS = 60
"""Most steps of the search for the most probable leaves."""


@jax.jit
def most_probable(problem: Problem, z: Unconstrained, key: PRNGKeyArray) -> tuple[Unconstrained, Array]:
    """The most probable leaves from some start, by Newton's method with the Fisher information.

    Densities that are rounded at zero enter by the normal density that touches them (Vogel & Oman, SIAM J. Sci.
    Comput. 17 (1996) 227), so every step goes down.

    Args:
        problem: The problem, every strength a number.
        z: The start, unconstrained.
        key: Of random signs, for the size of the curvature.

    Returns:
        The leaves, unconstrained, and twice the negative log-likelihood there.
    """

    def onward(state: _State) -> Array:
        return (state.step < NEWTON_STEPS) & ~state.done

    def newton(state: _State) -> _State:
        value, slope = jax.value_and_grad(lambda z: statement.objective(problem, z))(state.z)
        whole, near = posterior(problem, state.z, touching, key, bending(problem, state.z))
        move = solve(whole, jax.tree.map(jnp.negative, slope), near=near, tolerance=1e-2).found
        gain = -dot(slope, move)
        share = _backtrack(problem, state.z, value, move, gain)
        return _State(added(share, move, state.z), state.step + 1, (share == 0.0) | (gain < 1e-4))

    start = _State(_freed(problem, z), jnp.zeros((), int), jnp.zeros((), bool))
    end = jax.lax.while_loop(onward, newton, start).z
    return end, -2.0 * statement.likelihood(problem, statement.insert(problem, end))


class _State(NamedTuple):
    z: Unconstrained
    step: Array
    done: Array


def _backtrack(problem: Problem, z: Unconstrained, value: Array, move: Unconstrained, gain: Array) -> Array:
    """Share of a step that lowers the objective enough, by halving; zero where none does."""

    def worse(trial: tuple[Array, Array]) -> Array:
        share, at = trial
        return ~(at <= value - 1e-4 * share * gain) & (share > 1e-6)

    def halve(trial: tuple[Array, Array]) -> tuple[Array, Array]:
        share = 0.5 * trial[0]
        return share, statement.objective(problem, added(share, move, z))

    share, at = jax.lax.while_loop(worse, halve, (jnp.full((), 2.0), jnp.full_like(value, jnp.inf)))
    return jnp.where(at <= value, share, 0.0)


Bent = Callable[[Any, Array], Operator]
"""From a prior and the values of a leaf to the curvature of minus its log-density there."""


def exact(prior: Any, values: Array) -> Any:
    """The second derivative."""
    downhill = jax.grad(lambda x: -jnp.sum(prior.log_prob(x)))
    return lambda move: jax.jvp(downhill, (values,), (move,))[1]


def touching(prior: Any, values: Array) -> Any:
    """That of the normal density which touches a rounded one; other priors as they are."""
    if getattr(prior, "power", 2) != 1:
        return exact(prior, values)
    edge = getattr(prior, "rounding", None)
    edge = ROUNDING * prior.scale if edge is None else edge
    deviations, push = jax.linearize(prior.deviations, values)
    pull = jax.linear_transpose(push, values)
    weights = [1.0 / (prior.scale * rounded(d, edge))[..., None] for d in deviations]
    return lambda move: pull(tuple(w * d for w, d in zip(weights, push(move), strict=True)))[0]


def posterior(
    problem: Problem, z: Unconstrained, bent: Bent, key: PRNGKeyArray, bound: Unconstrained | None = None
) -> tuple[Operator, Operator]:
    """Curvature of minus the log-posterior of the leaves, Fisher information for the data, and about its inverse.

    The latter is the covariance of a prior where that is known, else a number for each leaf, the inverse of its mean
    curvature, so that units do not matter; both follow the map onto the support. What a bound adds is left out of sums:
    a value that lies at its bound was put there by the data, and counts as fixed by them.
    """
    zero = jax.tree.map(jnp.zeros_like, z)
    data, prior, steep = fisher(problem, z), of_priors(problem, z, bent), steepness(problem, z)
    added = zero if bound is None else bound

    def whole(v: Unconstrained) -> Unconstrained:
        return jax.tree.map(lambda a, b, c, d: a + b + c * d, data(v), prior(v), added, v)

    curved = by_leaf(lambda v: dot(v, data(v)) + dot(v, prior(v)), signs_of(key, z))
    numbers = {p: _mean_curvature(curved[p], steep[p]) * steep[p] ** 2 + added[p] for p in z}
    known = {p: f for p, f in problem.priors.items() if hasattr(f, "covary")}

    def near(v: Unconstrained) -> Unconstrained:
        covered = {p: f.scale**2 * f.covary(v[p] / steep[p]) / steep[p] for p, f in known.items()}
        return {p: covered[p] if p in covered else x / numbers[p] for p, x in v.items()}

    return whole, near


def _mean_curvature(curved: Array, steep: Array) -> Array:
    mean = curved / jnp.sum(steep**2)
    return jnp.where(mean > 0, mean, 1.0)


def signs_of(key: PRNGKeyArray, z: Unconstrained) -> Unconstrained:
    """Random signs for every element of all leaves."""
    keys = jax.random.split(key, len(z))
    return {p: jax.random.rademacher(k, z[p].shape, z[p].dtype) for p, k in zip(sorted(z), keys, strict=True)}


def alone(z: Unconstrained, path: Any) -> Unconstrained:
    """One leaf as it is, by its place in alphabetical order, and zeros for the others."""
    return {p: jnp.where(number == path, z[p], 0.0) for number, p in enumerate(sorted(z))}


def by_leaf(measure: Callable[[Unconstrained], Array], direction: Unconstrained) -> dict[str, Array]:
    """A number of a direction, for that of every leaf alone."""
    found = jax.lax.map(lambda number: measure(alone(direction, number)), jnp.arange(len(direction)))
    return dict(zip(sorted(direction), found, strict=True))


def steepness(problem: Problem, z: Unconstrained) -> Unconstrained:
    """How fast every element of a leaf moves with its unconstrained value; no slower than a share of the fastest."""
    ones = jax.tree.map(jnp.ones_like, z)
    steep = jax.jvp(lambda z: statement.constrained(problem, z), (z,), (ones,))[1]
    return jax.tree.map(lambda s: jnp.maximum(s, 1e-12 * jnp.max(s, initial=0.0)), steep)


def _freed(problem: Problem, z: Unconstrained) -> Unconstrained:
    """Values that lie flat at a bound go back to their first guess: from there they can be moved."""
    guess = statement.start(problem)
    now, then = steepness(problem, z), steepness(problem, guess)
    return jax.tree.map(lambda a, b, c, d: jnp.where(c < 0.1 * d, b, a), z, guess, now, then)


def bending(problem: Problem, z: Unconstrained) -> Unconstrained:
    """What a bound adds where the density still falls towards it: the slope in the leaf times the bend of the map.

    Its size, not its sign: away from the optimum that keeps steps within the reach of the map.
    """

    def of_leaves(values: Unconstrained) -> Array:
        model = follow(replace(problem.experiment, values), problem.ties)
        priors = sum((jnp.sum(p.log_prob(values[path])) for path, p in problem.priors.items()), start=jnp.zeros(()))
        return -statement.likelihood(problem, model) - priors

    if all(isinstance(b, Identity) for b in statement.bijectors(problem).values()):
        return jax.tree.map(jnp.zeros_like, z)
    slope = jax.grad(of_leaves)(statement.constrained(problem, z))
    along = jax.grad(lambda z: dot(slope, statement.constrained(problem, z)))
    ones = jax.tree.map(jnp.ones_like, z)
    return jax.tree.map(jnp.abs, jax.jvp(along, (z,), (ones,))[1])


def of_priors(
    problem: Problem, z: Unconstrained, bent: Bent, *, leaf: str | None = None, only: str | None = None
) -> Operator:
    """Curvature of all priors, of those of a leaf, or of one."""
    values, push = jax.linearize(lambda z: statement.constrained(problem, z), z)
    pull = jax.linear_transpose(push, z)
    chosen = [(p, f) for p, prior in problem.priors.items() for f in factors(prior) if leaf in (None, p)]
    if only is not None:
        chosen = [tuple(parts(problem)[only])]
    operators = [(path, bent(factor, values[path])) for path, factor in chosen]

    def product(direction: Unconstrained) -> Unconstrained:
        moved = push(direction)
        total = jax.tree.map(jnp.zeros_like, moved)
        for path, operator in operators:
            total = {**total, path: total[path] + operator(moved[path])}
        return pull(total)[0]

    return product
