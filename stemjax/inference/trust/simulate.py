"""Data that a problem could have recorded: truths from its priors, counts from its noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from stemjax.core.errors import InputError, nearest
from stemjax.core.paths import leaves, replace
from stemjax.core.typing import Array, PRNGKeyArray
from stemjax.inference.batches import deal
from stemjax.inference.data_sets import DataSet, Dealt, Group, expected, groups, noise_of, part_of
from stemjax.inference.problem import Problem
from stemjax.inference.ties import follow

Draw = Callable[[PRNGKeyArray, Any], Array]
"""From a random key and the model to values of one leaf."""


def simulate_data(problem: Problem, model: Any, key: PRNGKeyArray) -> Problem:
    """The problem as it would be had it recorded a model: every data set drawn from its own noise.

    Args:
        problem: The problem; of its data only shape, type and masks are kept, its first guess stays.
        model: The truth, a model like `problem.experiment`.
        key: Random key. The function can be compiled, with all three arguments traced.

    Raises:
        InputError: A data set has no noise model to draw from.

    >>> from flax import struct
    >>> from stemjax.detect.noise import Poisson
    >>> from stemjax.inference.problem import make_problem
    >>> class Counts(struct.PyTreeNode):
    ...     counts: Any
    >>> problem = make_problem({"a": jnp.array(1.0)}, Counts(jnp.ones(3)), noise=Poisson(), free=["a"],
    ...                        forward=lambda m, i=None: m["a"] * jnp.ones(3))
    >>> simulated = simulate_data(problem, {"a": jnp.array(1e6)}, jax.random.key(0))
    >>> bool((abs(simulated.measurement.counts - 1e6) < 5e3).all())
    True
    """
    measurement = problem.measurement
    for number, group in enumerate(groups(problem)):
        values = expected(group, model)
        for place, (name, data) in enumerate(group.sets.items()):
            one = jax.random.fold_in(jax.random.fold_in(key, number), place)
            noise = noise_of(data, part_of(model, group.part))
            if noise is None:
                raise InputError(
                    f"nothing says how data set '{data.name}' is noisy; give the problem a noise model, or its model "
                    "a camera"
                )
            measurement = put(measurement, where(group, name), counts=_like(data, noise.sample(one, values[name])))
    return problem.replace(measurement=measurement)


def where(group: Group, name: str) -> tuple[str, ...]:
    """The names that lead to a data set in the measurement of a problem."""
    return (*group.part, name) if name else group.part


def put(measurement: Any, names: tuple[str, ...], **fields: Any) -> Any:
    """A measurement, or a nested mapping of such, with other fields (`counts`, `mask`) of one data set.

    Raises:
        InputError: The measurement has no such field.
    """
    if names:
        return {**measurement, names[0]: put(measurement[names[0]], names[1:], **fields)}
    for field in fields:
        if not hasattr(measurement, field):
            raise InputError(
                f"{type(measurement).__name__} has no field '{field}', which is to be set; use a measurement with "
                "counts and mask, such as stemjax.Measurement"
            )
    return measurement.replace(**fields)


def draw_values(problem: Problem, key: PRNGKeyArray, draw: Mapping[str, Draw] | None = None) -> dict[str, Array]:
    """Values of the free leaves drawn from their priors, each leaf by itself.

    Args:
        problem: The problem.
        key: Random key.
        draw: For leaves whose prior cannot be drawn from, or is not what shall be drawn from: `function(key, model)`
            by path, the model that of the first guess.

    Raises:
        InputError: As of `check_draws`, or a draw has another shape than its leaf.
    """
    check_draws(problem, draw)
    given, known, found = draw or {}, leaves(problem.experiment), {}
    for number, path in enumerate(problem.free):
        one, like = jax.random.fold_in(key, number), jnp.asarray(known[path])
        if path in given:
            value = jnp.asarray(given[path](one, problem.experiment))
        else:
            value = _from_prior(problem.priors[path], one, like.shape)
        if value.shape != like.shape:
            raise InputError(f"a draw of '{path}' has shape {value.shape}; the leaf has {like.shape}")
        found[path] = value.astype(like.dtype)
    return found


def model_of(problem: Problem, values: Mapping[str, Array]) -> Any:
    """The model with some values of the free leaves, and the tied ones where these put them."""
    return follow(replace(problem.experiment, values), problem.ties)


def check_draws(problem: Problem, draw: Mapping[str, Draw] | None = None) -> None:
    """Refuse a problem whose truths cannot be drawn; nothing is computed.

    Raises:
        InputError: A leaf has no prior, or one that is no distribution, and no `draw` of its own; or a `draw` is given
            for a leaf that is not free.
    """
    for path in draw or {}:
        if path not in problem.free:
            raise InputError(f"a draw is given for '{path}', which is not free; {nearest(path, problem.free)}")
    for path in problem.free:
        prior = problem.priors.get(path)
        if path in (draw or {}) or _proper(prior):
            continue
        reason = (
            "has no prior" if prior is None else f"has the prior {type(prior).__name__}, which cannot be drawn from"
        )
        raise InputError(
            f"'{path}' {reason}, so no truths can be drawn; give it a proper prior (Normal, LogNormal, Uniform, "
            f"Ridge, ...), or draw={{'{path}': function(key, model)}} that says what truths are like"
        )


def _proper(prior: Any) -> bool:
    """Whether a prior is a distribution that can be drawn from; not one whose strength the data shall decide."""
    improper = type(prior).__name__.startswith("Improper") or not getattr(prior, "proper", True)
    return hasattr(prior, "sample") and not improper and getattr(prior, "scale", 0.0) is not None


def _from_prior(prior: Any, key: PRNGKeyArray, shape: tuple[int, ...]) -> Array:
    if not hasattr(prior, "batch_shape"):
        return prior.sample(key, shape)
    batch = shape[: len(shape) - len(prior.event_shape)]
    return (prior if tuple(prior.batch_shape) == batch else prior.expand(batch)).sample(key)


def _like(data: DataSet, counts: Array) -> Any:
    """Counts [record ...] in the type and the order of those of a data set, so that nothing is compiled again."""
    old = data.counts.lanes if isinstance(data.counts, Dealt) else data.counts
    kind = jnp.result_type(old)
    counts = counts.astype(kind if jnp.issubdtype(kind, jnp.floating) else counts.dtype)
    if not isinstance(data.counts, Dealt):
        return counts
    return Dealt(deal(counts, data.counts.lanes.shape[0]), data.counts.records)
