"""An inverse problem as a statement: what is free, what is believed, what was recorded, how it is noisy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.bijectors import Bijector, bijector_of
from stemjax.core.errors import InputError, nearest
from stemjax.core.paths import leaves, replace, select
from stemjax.core.typing import Array

Unconstrained = dict[str, Array]
"""The free leaves by path, mapped so that any real number is allowed."""


class Problem(struct.PyTreeNode):
    """A statement of what is to be found; made by `make_problem`.

    Args:
        experiment: The model, a pytree; its free leaves hold the first guess.
        measurement: What was recorded: `counts` [record ...] and an optional `mask` [...].
        priors: Log-densities by path.
        forward: `forward(experiment, index) -> expected counts`, and `forward.total` (see `stemjax.Diffraction`).
        noise: Noise model (`stemjax.Poisson()`, ...), or None: the model's own `camera` scores, and its leaves can be
            free.
        free: Paths of the free leaves, complete.
    """

    experiment: Any
    measurement: Any
    priors: dict[str, Any]
    forward: Callable = struct.field(pytree_node=False)
    noise: Any = struct.field(pytree_node=False)
    free: tuple[str, ...] = struct.field(pytree_node=False)


def make_problem(
    experiment: Any,
    measurement: Any,
    *,
    forward: Callable,
    noise: Any,
    free: Iterable[str],
    priors: Mapping[str, Any] | None = None,
) -> Problem:
    """A problem whose paths exist and whose first guess lies inside its priors.

    Args:
        experiment: The model with the first guess.
        measurement: The record.
        forward: The simulator.
        noise: The noise model; None for the `camera` of the model.
        free: Paths of leaves to find; the path of an inner node frees all below it.
        priors: Priors by path of a leaf, or of an inner node for all leaves below it.

    Raises:
        InputError: A path names nothing, a free leaf is no array of real numbers, a prior belongs to a leaf that is
            not free, or a first guess lies outside the support of its prior.

    >>> class Counts(struct.PyTreeNode):
    ...     counts: Any
    >>> from stemjax.detect.noise import Gaussian
    >>> p = make_problem({"a": jnp.array(1.0)}, Counts(jnp.ones(3)), forward=lambda m, i=None: m["a"] * jnp.ones(3),
    ...                  noise=Gaussian(1.0, 0.0), free=["a"])
    >>> p.free
    ('a',)
    """
    free = tuple(select(experiment, free))
    for path in free:
        leaf = leaves(experiment)[path]
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise InputError(f"the leaf '{path}' holds {jnp.result_type(leaf)}, not real numbers; it cannot be free")
    spread: dict[str, Any] = {}
    for path, prior in (priors or {}).items():
        below = [f for f in free if f == path or f.startswith(path + ".")]
        if not below:
            raise InputError(f"prior for '{path}', which is not free; {nearest(path, free)}")
        spread.update(dict.fromkeys(below, prior))
    problem = Problem(experiment, measurement, spread, forward, noise, free)
    for path, value in start(problem).items():
        if not np.isfinite(np.asarray(value)).all():
            raise InputError(f"the first guess of '{path}' lies outside the support of its prior {spread.get(path)}")
    return problem


def bijectors(problem: Problem) -> dict[str, Bijector]:
    """The map of every free leaf from the real numbers onto its support."""
    return {path: bijector_of(problem.priors.get(path)) for path in problem.free}


def start(problem: Problem) -> Unconstrained:
    """The first guess, unconstrained."""
    known = leaves(problem.experiment)
    return {path: bijector.inverse(jnp.asarray(known[path])) for path, bijector in bijectors(problem).items()}


def constrained(problem: Problem, z: Unconstrained) -> dict[str, Array]:
    """Values of the free leaves from unconstrained ones."""
    return {path: bijector.forward(z[path]) for path, bijector in bijectors(problem).items()}


def insert(problem: Problem, z: Unconstrained) -> Any:
    """The model with the free leaves at some unconstrained values."""
    return replace(problem.experiment, constrained(problem, z))


def log_prior(problem: Problem, z: Unconstrained, *, slope: bool = False) -> Array:
    """Log-density of the free leaves before the data.

    Args:
        problem: The problem.
        z: Unconstrained values.
        slope: Count the volume change of the bijectors: a density of `z` (for sampling) and not of the leaves (for the
            most probable leaves).
    """
    values = constrained(problem, z)
    total = jnp.zeros(())
    for path, prior in problem.priors.items():
        total = total + jnp.sum(prior.log_prob(values[path]))
    if slope:
        for path, bijector in bijectors(problem).items():
            total = total + jnp.sum(bijector.log_slope(z[path]))
    return total


def score(problem: Problem) -> Callable[..., Array]:
    """Log-likelihood of one record against its expectation: minus half the deviance, 0 for a perfect model.

    Returns:
        `one(expected, counts, camera=None)`; the camera is used where the problem has no noise model of its own.
    """
    mask = problem.measurement.mask if hasattr(problem.measurement, "mask") else None

    def one(expected: Array, counts: Array, camera: Any = None) -> Array:
        noise = camera if problem.noise is None else problem.noise
        # A camera's own leaves change what a perfect model would score, so that term must stay in the density.
        values = noise.log_prob(counts, expected) - (0.0 if problem.noise is None else noise.best(counts))
        return jnp.sum(values if mask is None else mask * values)

    return one


def log_density(problem: Problem, z: Unconstrained) -> Array:
    """Log-posterior of unconstrained values, up to a constant: the contract with any sampler or optimiser.

    >>> import scipy.optimize  # a solver of one's own: minimise -log_density over a flat vector
    """
    model = insert(problem, z)
    one, camera = score(problem), getattr(model, "camera", None)
    each = jax.vmap(lambda expected, counts: one(expected, counts, camera))
    likelihood = jnp.sum(each(problem.forward(model), problem.measurement.counts))
    return likelihood + log_prior(problem, z, slope=True)


def residual(problem: Problem, z: Unconstrained) -> Array:
    """Residuals whose half sum of squares is the negative log-likelihood against a perfect model, for least squares.

    For Poisson counts these are deviance residuals, so that the minimum is that of the likelihood at any dose.

    Returns:
        [record ...], the shape of the counts, masked.
    """
    model = insert(problem, z)
    noise: Any = getattr(model, "camera", None) if problem.noise is None else problem.noise
    values = noise.residual(problem.measurement.counts, problem.forward(model))
    mask = getattr(problem.measurement, "mask", None)
    return values if mask is None else values * jnp.sqrt(mask)[None]
