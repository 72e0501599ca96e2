"""An inverse problem as a statement: what is free, what is believed, what was recorded, how it is noisy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.annotations import meanings
from stemjax.core.bijectors import Bijector, bijector_of
from stemjax.core.errors import InputError, nearest
from stemjax.core.executor import Execution
from stemjax.core.paths import leaves, matching, replace
from stemjax.core.typing import Array
from stemjax.inference.batches import every_record, lane_count
from stemjax.inference.data_sets import (
    DataSet,
    Group,
    check_data,
    expected,
    groups,
    lanes_of,
    log_likelihood,
    masked,
    noise_of,
    part_of,
    score,
    without_masked_gaps,
)
from stemjax.inference.prior_checks import check_prior
from stemjax.inference.ties import Ties, follow, make_ties
from stemjax.inference.wells import Well, check_wells

Unconstrained = dict[str, Array]
"""The free leaves by path, mapped so that any real number is allowed."""


class Problem(struct.PyTreeNode):
    """A statement of what is to be found; made by `make_problem`, or of several by `join`.

    Args:
        experiment: The model, a pytree; its free leaves hold the first guess.
        measurement: What was recorded: `counts` [record ...] and an optional `mask`; or a mapping of such by the name
            of a signal or of a part.
        priors: Log-densities by path.
        forward: `forward(experiment) -> expected counts` [record ...], or a mapping by name. A model that walks its
            records by itself also has `total` (see `stemjax.Diffraction`).
        noise: Noise model (`stemjax.Poisson()`, ...), or None: the model's own `camera` scores, and its leaves can be
            free. Several data sets: one for all, or pairs of name and model.
        free: Paths of the free leaves, complete.
        ties: Leaves that follow others.
        wells: Where false minima are known to lie; solvers that start from one point search there first.
    """

    experiment: Any
    measurement: Any
    priors: dict[str, Any]
    forward: Callable = struct.field(pytree_node=False)
    noise: Any = struct.field(pytree_node=False)
    free: tuple[str, ...] = struct.field(pytree_node=False)
    ties: Ties = struct.field(pytree_node=False, default=())
    wells: tuple[Well, ...] = struct.field(pytree_node=False, default=())


def make_problem(
    experiment: Any,
    measurement: Any,
    *,
    forward: Callable,
    noise: Any,
    free: Iterable[str],
    priors: Mapping[str, Any] | None = None,
    ties: Mapping[str, Any] | None = None,
    wells: Iterable[Well] = (),
) -> Problem:
    """A problem whose paths exist, whose data fit its forward model and whose first guess lies inside its priors.

    Args:
        experiment: The model with the first guess.
        measurement: The record, or a mapping of records by the names of the forward model's signals.
        forward: The simulator.
        noise: The noise model, or a mapping of them by signal; None for the `camera` of the model.
        free: Paths of leaves to find, patterns with `*` and `**` too; an inner node frees all below it.
        priors: Priors by path of a leaf, of an inner node, or by pattern, for all leaves that it selects.
        ties: What follows what: path of a leaf -> path of its source, or `Equal`, `Offset`, `Scaled`, `Follow`.
        wells: Leaves with false minima and where to look (`Well`).

    Raises:
        InputError: A path names nothing, a free leaf is no array of real numbers, is tied, or is a scale without a
            prior that keeps it positive; a prior belongs to a leaf that is not free, or does not fit its shape; a
            first guess lies outside the support of its prior; data do not have the shape that the model expects.

    >>> class Counts(struct.PyTreeNode):
    ...     counts: Any
    >>> from stemjax.detect.noise import Gaussian
    >>> p = make_problem({"a": jnp.array(1.0)}, Counts(jnp.ones(3)), forward=lambda m, i=None: m["a"] * jnp.ones(3),
    ...                  noise=Gaussian(1.0, 0.0), free=["a"])
    >>> p.free
    ('a',)
    """
    known = leaves(experiment)
    tied = make_ties(experiment, ties or {})
    free = tuple(matching(known, [free] if isinstance(free, str) else free))
    if not free:
        raise InputError("no leaf is free, so there is nothing to find; name some in free (stemjax.leaves lists all)")
    _check_free(free, dict(tied), known)
    spread = _spread(priors or {}, free)
    made = noise if not isinstance(noise, Mapping) else tuple(sorted(noise.items()))
    problem = Problem(
        experiment, without_masked_gaps(measurement), spread, forward, made, free, tied, check_wells(wells, free, known)
    )
    return checked(problem)


def checked(problem: Problem) -> Problem:
    """The problem itself, if its priors fit its leaves and its data fit its forward model.

    Raises:
        InputError: As of `make_problem`.
    """
    known, meaning = leaves(problem.experiment), meanings(problem.experiment)
    for path in problem.free:
        scale = path in meaning and meaning[path].positive
        check_prior(path, problem.priors.get(path), known[path], scale=scale)
    check_data(problem, follow(problem.experiment, problem.ties))
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
    """The model with the free leaves at some unconstrained values, and the tied ones where these put them."""
    return follow(replace(problem.experiment, constrained(problem, z)), problem.ties)


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


def likelihood(problem: Problem, model: Any) -> Array:
    """Log-likelihood of a model, summed over all data sets: minus half the deviance where the noise is fixed.

    Where a forward model has a sum over records of its own (`total`), that is used: its gradient needs the memory of
    one record, and cannot be taken forwards alone.
    """
    return sum((_group_likelihood(group, model) for group in groups(problem)), start=jnp.zeros(()))


def log_density(problem: Problem, z: Unconstrained) -> Array:
    """Log-posterior of unconstrained values, up to a constant: the contract with any sampler or optimiser.

    Differentiable backwards (`jax.grad`) and forwards over backwards (`jax.hessian`), not forwards alone.

    >>> import scipy.optimize  # a solver of one's own: minimise -log_density over a flat vector
    """
    return likelihood(problem, insert(problem, z)) + log_prior(problem, z, slope=True)


def objective(problem: Problem, z: Unconstrained) -> Array:
    """Minus the log-posterior of the leaves, without the volume change of the bijectors: what optimisers minimise.

    Its least value does not depend on how a leaf is constrained; that of `log_density` does.
    """
    return -likelihood(problem, insert(problem, z)) - log_prior(problem, z)


def residual(problem: Problem, z: Unconstrained) -> Any:
    """Residuals whose half sum of squares is the negative log-likelihood against a perfect model, for least squares.

    For Poisson counts these are deviance residuals, so that the minimum is that of the likelihood at any dose.

    Returns:
        [record ...], the shape of the counts, masked; for several data sets a mapping by their names.
    """
    model = insert(problem, z)
    found = {}
    for group in groups(problem):
        values = expected(group, model)
        for name, data in group.sets.items():
            found[data.name] = _residual(data, part_of(model, group.part), values[name])
    return next(iter(found.values())) if len(found) == 1 else found


def records(problem: Problem) -> int:
    """Number of records of all data sets together."""
    return sum(data.records for group in groups(problem) for data in group.sets.values())


def _residual(data: DataSet, model: Any, values: Array) -> Array:
    each = noise_of(data, model).residual(data.flat, values)
    return each if data.mask is None else masked(data._replace(mask=jnp.sqrt(data.mask)), each)


def _group_likelihood(group: Group, model: Any) -> Array:
    if sums_itself(group):
        data = group.sets[""]
        lanes = lanes_of(data, lane_count(devices_of(group.forward), data.records))
        index, weight = every_record(data.records, jax.tree.leaves(lanes)[0].shape[0])
        return group.forward.total(part_of(model, group.part), score(data), lanes, index, jnp.asarray(weight))
    values = expected(group, model)
    part = part_of(model, group.part)
    return sum((jnp.sum(log_likelihood(d, part, values[n])) for n, d in group.sets.items()), start=jnp.zeros(()))


def devices_of(forward: Any) -> int:
    """Devices over which a forward model spreads its records."""
    return int(getattr(forward, "execution", Execution()).devices)


def sums_itself(group: Group) -> bool:
    """Whether the forward model of a group has a sum over records of its own."""
    return hasattr(group.forward, "total") and set(group.sets) == {""}


def _check_free(free: tuple[str, ...], ties: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for path in free:
        if not jnp.issubdtype(jnp.result_type(known[path]), jnp.floating):
            raise InputError(
                f"the leaf '{path}' holds {jnp.result_type(known[path])}, not real numbers; it cannot be free"
            )
        if path in ties:
            raise InputError(f"'{path}' follows '{ties[path].source}' and cannot be free as well; free that one")
        if not np.isfinite(np.asarray(known[path])).all():
            raise InputError(f"the first guess of '{path}' is not finite; give numbers")


def _spread(priors: Mapping[str, Any], free: tuple[str, ...]) -> dict[str, Any]:
    """Priors of leaves from those of inner nodes and patterns; the last that names a leaf holds."""
    spread: dict[str, Any] = {}
    for path, prior in priors.items():
        try:
            below = matching(free, [path])
        except InputError:
            raise InputError(f"prior for '{path}', which is not free; {nearest(path, free)}") from None
        spread.update(dict.fromkeys(below, prior))
    return spread
