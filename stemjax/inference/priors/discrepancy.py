"""A strength by the discrepancy of the data: the fit misses them by as much as noise alone would."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.typing import Array, PRNGKeyArray
from stemjax.inference import problem as statement
from stemjax.inference.data_sets import DataSet, expected, groups, masked, noise_of, part_of
from stemjax.inference.priors.parts import is_open, parts, with_scales
from stemjax.inference.priors.strength import Search, check_open
from stemjax.inference.problem import Problem, Unconstrained


def by_discrepancy(
    problem: Problem, *, draws: int = 64, rounds: int = 40, tolerance: float = 0.01, seed: int = 0
) -> Problem:
    """The problem with one scale chosen so that the data are missed by as much as noise would miss them.

    The deviance at the most probable leaves equals its expectation there, which is found from random data of the noise
    models: at low counts it is far from one a pixel. Source: Morozov, Soviet Math. Dokl. 7 (1966) 414. What the fit
    takes up of the noise is not counted, so leaves come out smoother than by `settle`.

    Args:
        problem: A problem with one scale left out.
        draws: Random data sets behind the expectation.
        rounds: Most trials.
        tolerance: The scale is found when it is known to this share.
        seed: Seed of the random data.

    Raises:
        InputError: Not one scale is left out, or the deviance misses its expectation whatever the scale.
    """
    from scipy.optimize import brentq

    names = [name for name, part in parts(problem).items() if is_open(part.prior)]
    check_open(problem, names)
    if len(names) != 1:
        raise InputError(f"a discrepancy chooses one scale and {len(names)} are left out; give the others, or settle")
    search, key = Search(problem, names, seed), jax.random.key(seed)
    start = np.log(search.scales[names[0]])

    @functools.cache
    def excess(log_scale: float) -> float:
        search.scales[names[0]] = float(np.exp(log_scale))
        search.fit()
        found, mean = expected_deviance(search.problem, search.z, key, draws)
        return float(found) - float(mean)

    low, high = _bracket(excess, start, rounds)
    found = brentq(excess, low, high, xtol=tolerance, maxiter=rounds)
    return with_scales(problem, {names[0]: float(np.exp(found))})


FURTHEST = 30.0
"""How far the logarithm of a scale is followed."""


@functools.partial(jax.jit, static_argnames="draws")
def expected_deviance(problem: Problem, z: Unconstrained, key: PRNGKeyArray, draws: int) -> tuple[Array, Array]:
    """The deviance of the data from what a model expects, and its mean over data that the model would give.

    Args:
        problem: The problem.
        z: Unconstrained values.
        key: For random data of the noise models.
        draws: How many of them.

    Returns:
        Deviance, and its expectation; at low counts that is not one a pixel.
    """
    model, found, mean = statement.insert(problem, z), jnp.zeros(()), jnp.zeros(())
    for group in groups(problem):
        part = part_of(model, group.part)
        for name, values in expected(group, model).items():
            key, own = jax.random.split(key)
            of_counts = functools.partial(_deviance, group.sets[name], part, values)
            sample = functools.partial(_drawn, group.sets[name], part, values)
            found = found + of_counts(group.sets[name].flat)
            mean = mean + jnp.mean(jax.lax.map(lambda k, d=of_counts, s=sample: d(s(k)), jax.random.split(own, draws)))
    return found, mean


def _deviance(data: DataSet, model: Any, values: Array, counts: Array) -> Array:
    noise = noise_of(data, model)
    return 2.0 * jnp.sum(masked(data, noise.best(counts) - noise.log_prob(counts, values)))


def _drawn(data: DataSet, model: Any, values: Array, key: PRNGKeyArray) -> Array:
    return noise_of(data, model).sample(key, values)


def _bracket(excess: Any, start: float, rounds: int) -> tuple[float, float]:
    """Logarithms of scales between which an excess changes its sign: a larger scale follows the data more closely."""
    step = 1.0 if excess(start) > 0 else -1.0
    last = start
    for _ in range(rounds):
        here = last + step
        if (excess(here) > 0) != (step > 0):
            return min(last, here), max(last, here)
        last, step = here, float(np.clip(1.5 * step, -FURTHEST, FURTHEST))
        if abs(last - start) > FURTHEST:
            break
    if step > 0:
        raise InputError("the data are missed by more than noise however weak the prior; mend the model or its noise")
    raise InputError("the data are met within noise however strong the prior: they do not choose its scale; give one")
