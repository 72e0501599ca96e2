"""Reverse mode against central finite differences, leaf by leaf."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.paths import leaves, replace

# Weights that make one scalar of all that a simulator returns.
WEIGHTS = np.random.default_rng(8).normal(size=100_000)


@functools.partial(jax.jit, static_argnums=0)
def weighted(simulator, experiment):
    """A random linear functional of the expected counts."""
    flat = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(simulator(experiment))])
    return flat @ jnp.asarray(WEIGHTS[: flat.size])


@functools.partial(jax.jit, static_argnums=0)
def magnitude(simulator, experiment):
    """Size of the terms of `weighted`, which decides how much of it is rounding."""
    return jnp.linalg.norm(jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(simulator(experiment))]))


slope = functools.partial(jax.jit, static_argnums=0)(jax.value_and_grad(weighted, argnums=1))


def finite_difference(function, value, direction, step):
    """Slope along a direction, from four points: the error is of fourth order in the step."""
    near, far = (
        (function(value + s * direction) - function(value - s * direction)) / (2 * s) for s in (step, 2 * step)
    )
    return float((4 * near - far) / 3)


def steps(value: np.ndarray) -> float:
    """A step that is small against the leaf, and not lost in rounding."""
    return 2e-4 * max(1.0, float(np.abs(value).max()))


def along(leaf, seed):
    """A random direction, as large as a leaf's largest component only."""
    return jnp.asarray(np.random.default_rng(seed).uniform(-1, 1, np.shape(leaf)))


def wrong_slopes(
    simulator: Any,
    experiment: Any,
    *,
    silent: Callable[[str], bool] = lambda path: False,
    skipped: Iterable[str] = (),
    step: Callable[[str, np.ndarray], float] = lambda path, leaf: steps(leaf),
    rounding: float | None = None,
) -> dict[str, tuple[float, float, float]]:
    """Leaves whose gradient is not their slope, {path: (gradient, difference, floor)}; `silent` ones must have none.

    `rounding` is that of the value, where larger terms are added on the way than those that come out.
    """
    _, gradient = slope(simulator, experiment)
    rounding = 1e-14 * float(magnitude(simulator, experiment)) if rounding is None else rounding
    gradients, wrong = leaves(gradient), {}
    for number, (path, leaf) in enumerate(leaves(experiment).items()):
        if path in skipped:
            continue
        assert gradients[path].shape == leaf.shape, path
        direction, size = along(leaf, number), step(path, leaf)
        found = float(jnp.sum(gradients[path] * direction))
        expected = finite_difference(
            lambda v, path=path: weighted(simulator, replace(experiment, {path: v})), leaf, direction, size
        )
        if silent(path):
            assert found == expected == 0.0, path
            continue
        # Rounding of the value sets the floor of a difference; below it a slope cannot be told from zero.
        floor = rounding / size
        if abs(found - expected) > 1e-6 * abs(expected) + 10 * floor or abs(expected) < 1e2 * floor:
            wrong[path] = found, expected, floor
    return wrong
