r"""Search by tempering: a population of models cools while the data gain weight, for more wells than a grid can visit.

.. math:: p_\beta(z) \propto L(z)^\beta\, p(z), \qquad \beta: 0 \to 1

At β = 0 the models are draws of the priors, and of the ranges of the wells. At each rung the likelihood's weight rises
until half of the models would be lost, the heavy ones are copied, and all of them move by a few Hamiltonian
trajectories. Barriers that no descent crosses are low while β is small. Source: population annealing, Hukushima & Iba,
AIP Conf. Proc. 690 (2003) 200; rungs as in Del Moral, Doucet, Jasra, J. R. Stat. Soc. B 68 (2006) 411. A well is missed
where no model lies near it once the barriers around it are too high to cross; more models and moves help.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.paths import leaves
from stemjax.core.typing import Array
from stemjax.inference import problem as statement
from stemjax.inference.curvature import matrix, posterior_curvature, prior_curvature
from stemjax.inference.faults import fault
from stemjax.inference.gaussian import Gaussian, dense_gaussian
from stemjax.inference.posteriors.chains import chain_devices, side_by_side, unbound
from stemjax.inference.problem import Problem, Unconstrained
from stemjax.inference.result import Result
from stemjax.inference.solvers.descent import DENSE, descend, descent_frame
from stemjax.inference.solvers.search import follow_lowest
from stemjax.inference.trust.simulate import draw_values
from stemjax.inference.vector import layout

LEAPS = 3
"""Leapfrog steps of a trajectory."""

STEPS = 20
"""Steps downhill of every model at the end, before the lowest wells are chosen."""

RUNGS = 200
"""Most rungs; a problem whose misfit starts at a million nats needs about thirty."""


class Population(NamedTuple):
    """Models on their way.

    Args:
        z: Unconstrained leaves as vectors [model unknown].
        likelihood: Log-likelihood of each.
        accepted: Share of trajectories that were taken.
    """

    z: Array
    likelihood: Array
    accepted: Array


def anneal(
    problem: Problem, *, models: int = 128, moves: int = 8, polish: int = 3, polish_steps: int = 200, seed: int = 0
) -> Result:
    """The best of the minima that a cooling population ends in.

    Args:
        problem: The problem; its wells give ranges to begin in, the priors of other leaves spread the rest. A leaf
            without a prior that can be drawn from begins at the first guess.
        models: Models in the population.
        moves: Trajectories of each model at a rung.
        polish: Number of wells that are followed to the bottom.
        polish_steps: Most steps of each.
        seed: Seed of all draws.

    Returns:
        As of `solvers.search.search`; `diagnostics` also hold the rungs (`weights`, β) and the shares of
        trajectories taken.

    Raises:
        InputError: The problem has more than 200 unknowns, or no model has a finite density.
    """
    shape = layout(problem)
    if shape.size > DENSE:
        raise InputError(
            f"tempering {shape.size} unknowns is out of reach (200 at most); search some leaves by `trials`"
        )
    problem = unbound(problem)
    bare, (first, rest) = problem.replace(wells=()), jax.random.split(jax.random.key(seed))
    begun = _begun(problem, models + models % 2, first)
    cooled, more = _cooled(problem, begun, moves, rest)
    ends = {path: np.asarray(v) for path, v in jax.vmap(shape.unravel)(cooled.z).items()}
    frame = descent_frame(bare, shape.unravel(_best(cooled)))
    reached = descend(bare, frame, ends, STEPS)
    places = {well.path: _constrained(problem, well.path, begun) for well in problem.wells}
    return follow_lowest(problem, places, reached, frame, polish=polish, steps=polish_steps, more=more)


def _cooled(problem: Problem, begun: Array, moves: int, key: Array) -> tuple[Population, dict[str, np.ndarray]]:
    """A population brought from β = 0 to 1, and the rungs on its way."""
    bare, bounds, devices = problem.replace(wells=()), _bounds(problem), chain_devices(problem, len(begun))
    now = Population(begun, _likelihoods(bare, begun, devices), jnp.zeros(()))
    if not np.isfinite(np.asarray(now.likelihood)).any():
        said = "no model has a finite density; give tighter priors"
        raise InputError(fault(bare, statement.start(bare)) or said)
    weights, taken, size = [0.0], [], 0.5
    while weights[-1] < 1.0 and len(weights) < RUNGS:
        key, choice, kick = jax.random.split(key, 3)
        weight, kept = _next_rung(np.asarray(now.likelihood, np.float64), weights[-1], choice)
        frame = _frame(bare, _best(now), weight)
        now = Population(now.z[kept], now.likelihood[kept], now.accepted)
        for one in jax.random.split(kick, moves):
            rung = (jnp.asarray(weight, now.z.dtype), jnp.asarray(size, now.z.dtype))
            now = _moved(bare, frame, now, bounds, rung, one, devices)
            taken.append(float(now.accepted))
            size = min(1.0, size * 1.3) if taken[-1] > 0.8 else size / (1.5 if taken[-1] < 0.5 else 1.0)
        weights.append(weight)
    return now, {"weights": np.array(weights), "taken": np.array(taken)}


def _best(now: Population) -> Array:
    """The model with the greatest likelihood [unknown]."""
    return now.z[int(np.nanargmax(np.asarray(now.likelihood)))]


def _begun(problem: Problem, count: int, key: Array) -> Array:
    """Models to begin with [model unknown]."""
    known, ranges = leaves(problem.experiment), {well.path: well for well in problem.wells}

    def uniform(path: str) -> Callable[[Array, Any], Array]:
        well = ranges[path]
        return lambda key, _: jax.random.uniform(key, jnp.shape(known[path]), minval=well.low, maxval=well.high)

    def resting(path: str) -> Callable[[Array, Any], Array]:
        return lambda _key, _model: jnp.asarray(known[path])

    draw = {path: uniform(path) for path in ranges}
    draw |= {p: resting(p) for p in problem.free if p not in draw and not hasattr(problem.priors.get(p), "sample")}
    maps, shape = statement.bijectors(problem), layout(problem)

    def one(key: Array) -> Array:
        values = draw_values(problem, key, draw)
        return shape.ravel({path: maps[path].inverse(values[path]) for path in problem.free})

    return jax.lax.map(one, jax.random.split(key, count))


def _bounds(problem: Problem) -> tuple[Array, Array]:
    """Ends of the ranges of the wells in constrained leaves [unknown], infinite for the others."""
    shape, ends = layout(problem), []
    for side, otherwise in (("low", -jnp.inf), ("high", jnp.inf)):
        full = {path: jnp.full(form, otherwise) for path, form in shape.shapes.items()}
        full |= {well.path: jnp.full(shape.shapes[well.path], getattr(well, side)) for well in problem.wells}
        ends.append(shape.ravel(full))
    return ends[0], ends[1]


def _next_rung(likelihood: np.ndarray, weight: float, key: Array) -> tuple[float, np.ndarray]:
    """The next β, at which half of the models would be lost, and the numbers of the models that are kept."""
    score = np.where(np.isfinite(likelihood), likelihood, -np.inf)

    def share(step: float) -> np.ndarray:
        odds = np.exp(step * (score - score.max()))
        return odds / odds.sum()

    low, high = 0.0, 1.0 - weight
    if 1.0 / np.sum(share(high) ** 2) < 0.5 * len(score):
        for _ in range(60):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if 1.0 / np.sum(share(middle) ** 2) > 0.5 * len(score) else (low, middle)
    # Systematic resampling: as many copies as the share asks for, to within one.
    places = (np.arange(len(score)) + float(jax.random.uniform(key))) / len(score)
    kept = np.minimum(np.searchsorted(np.cumsum(share(high)), places), len(score) - 1)
    return min(1.0, weight + high), kept


def _frame(problem: Problem, best: Array, weight: float) -> Gaussian:
    """Coordinates of the moves: the curvature of the tempered density at the best model."""
    shape = layout(problem)
    whole, prior = (np.asarray(m, np.float64) for m in _matrices(problem, shape.unravel(best)))
    precision = weight * (whole - prior) + prior
    scale = np.sqrt(np.maximum(np.abs(np.diag(precision)), 1e-30))
    values, vectors = np.linalg.eigh(precision / scale[:, None] / scale[None, :])
    # A prior that curves the wrong way, or a direction that nothing holds, gets the width of its least held neighbour.
    mended = (vectors * np.maximum(np.abs(values), 1e-4)) @ vectors.T
    return dense_gaussian(shape.unravel(jnp.zeros_like(best)), mended * scale[:, None] * scale[None, :])


@jax.jit
def _matrices(problem: Problem, z: Unconstrained) -> tuple[Array, Array]:
    shape = layout(problem)
    whole = matrix(posterior_curvature(problem, z, slope=True), shape)
    return whole, matrix(prior_curvature(problem, z, slope=True), shape)


@functools.partial(jax.jit, static_argnums=2)
def _likelihoods(problem: Problem, z: Array, devices: int) -> Array:
    def one(problem: Problem, vector: Array) -> Array:
        return statement.likelihood(problem, statement.insert(problem, layout(problem).unravel(vector)))

    return side_by_side(one, devices)(problem, z)


@functools.partial(jax.jit, static_argnums=6)
def _moved(
    problem: Problem, frame: Gaussian, now: Population, bounds: tuple[Array, Array], rung: tuple[Array, Array],
    key: Array, devices: int,
) -> Population:  # fmt: skip
    """One Hamiltonian trajectory of every model (Duane et al., Phys. Lett. B 195 (1987) 216)."""
    shape = layout(problem)

    def one(given: Any, vector: Array, key: Array) -> tuple[Array, Array, Array]:
        problem, frame, (low, high), (weight, size) = given

        def energy(x: Array) -> tuple[Array, Array]:
            z = shape.unravel(vector + frame.coloured(x))
            likelihood = statement.likelihood(problem, statement.insert(problem, z))
            return -weight * likelihood - statement.log_prior(problem, z, slope=True), likelihood

        slope = jax.value_and_grad(energy, has_aux=True)
        kick, toss = jax.random.split(key)
        momentum = jax.random.normal(kick, vector.shape, vector.dtype)
        x = jnp.zeros_like(vector)
        (first, before), pull = slope(x)

        def leap(carry: Any, _: None) -> tuple[Any, None]:
            x, momentum, pull, _, _ = carry
            momentum = momentum - 0.5 * size * pull
            x = x + size * momentum
            (value, likelihood), pull = slope(x)
            return (x, momentum - 0.5 * size * pull, pull, value, likelihood), None

        (x, last, _, value, likelihood), _ = jax.lax.scan(leap, (x, momentum, pull, first, before), None, length=LEAPS)
        moved = vector + frame.coloured(x)
        leaf = shape.ravel(statement.constrained(problem, shape.unravel(moved)))
        change = first - value + 0.5 * jnp.sum(momentum**2) - 0.5 * jnp.sum(last**2)
        good = (
            jnp.isfinite(change) & (jnp.log(jax.random.uniform(toss)) < change) & ((leaf >= low) & (leaf <= high)).all()
        )
        return jnp.where(good, moved, vector), jnp.where(good, likelihood, before), good

    keys = jax.random.split(key, now.z.shape[0])
    given = (problem, frame, bounds, rung)
    z, likelihood, good = side_by_side(one, devices)(given, now.z, keys)
    return Population(z, likelihood, jnp.mean(good.astype(z.dtype)))


def _constrained(problem: Problem, path: str, z: Array) -> np.ndarray:
    bijector, shape = statement.bijectors(problem)[path], layout(problem)
    return np.asarray(jax.vmap(lambda v: bijector.forward(shape.unravel(v)[path]))(z))
