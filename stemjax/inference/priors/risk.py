r"""How well a fit would meet data that it has not seen, from the data that it has.

With y the data in the unit of what the model expects, V their variance and w fixed weights, the loss of new data is on
average that of the old ones and what the fit took up of their noise (Stein, Ann. Stat. 9 (1981) 1135; for counts
Hudson, Ann. Stat. 6 (1978) 473; Efron, J. Am. Stat. Assoc. 99 (2004) 619):

.. math:: R = \sum_i w_i (y_i - \mu_i)^2 + 2 \sum_i w_i V_i \frac{\partial \mu_i}{\partial y_i}

Squares are counted and not the deviance: where counts are near zero that punishes an expectation of nothing so much
that its mean tells little of the image.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from stemjax.core.typing import Array, PRNGKeyArray
from stemjax.inference import problem as statement
from stemjax.inference.batches import deal, every_record, lane_count
from stemjax.inference.data_sets import Group, expected, groups, masked, noise_of, part_of
from stemjax.inference.linear.conjugate_gradients import dot, solve
from stemjax.inference.priors.most_probable import bending, exact, posterior
from stemjax.inference.problem import Problem, Unconstrained

Sets = list[dict[str, Array]]
"""An array [record ...] for every data set, by group and signal."""


class Yardstick(NamedTuple):
    """What fits of some data are measured by; the same for all strengths.

    Args:
        data: y, the data in the unit of what the model expects.
        spread: √V, their standard deviations.
        weight: w, one over the variance and its mean, zero where masked.
    """

    data: Sets
    spread: Sets
    weight: Sets


@jax.jit
def yardstick(problem: Problem, z: Unconstrained) -> Yardstick:
    """Data, variances and weights as they look from a first fit.

    The data are the first step of a fit of every element alone, μ + ∂ log p / I: counts themselves where they are
    Poisson or normal.
    """
    model, found = statement.insert(problem, z), Yardstick([], [], [])
    for group in groups(problem):
        rows: list[dict[str, Array]] = [{}, {}, {}]
        for name, values in expected(group, model).items():
            data = group.sets[name]
            noise, counts = noise_of(data, part_of(model, group.part)), data.flat
            slope = jax.grad(lambda v, n=noise, c=counts: jnp.sum(n.log_prob(c, v)))(values)
            seen = values + slope / noise.information(values)
            variance = 1.0 / noise.information(jnp.maximum(seen, 0.0))
            typical = 1.0 / noise.information(values)
            weight = masked(data, 1.0 / (typical + jnp.mean(typical)))
            for row, array in zip(rows, (seen, jnp.sqrt(variance), weight), strict=True):
                row[name] = array
        for part, row in zip(found, rows, strict=True):
            part.append(row)
    return found


@jax.jit
def risk(problem: Problem, z: Unconstrained, by: Yardstick, keys: PRNGKeyArray) -> Array:
    """R at the most probable leaves.

    Args:
        problem: The problem, every strength a number.
        z: The most probable leaves.
        by: From `yardstick`.
        keys: Keys of random signs [probe], for the sum of derivatives.
    """
    whole, near = posterior(problem, z, exact, keys[0], bending(problem, z))
    values, push = jax.linearize(lambda z: _expected(problem, z), z)
    told = _information(problem, z, values)

    def taken(key: PRNGKeyArray) -> Array:
        noise = jax.tree.map(lambda s, k: s * jax.random.rademacher(k, s.shape, s.dtype), by.spread, _split(key, by))
        moved = push(solve(whole, _pulled(problem, z, jax.tree.map(jnp.multiply, told, noise)), near=near).found)
        return _sum(jax.tree.map(lambda w, n, m: w * n * m, by.weight, noise, moved))

    missed = jax.tree.map(lambda w, y, m: w * (y - m) ** 2, by.weight, by.data, values)
    return _sum(missed) + 2.0 * jnp.mean(jax.lax.map(taken, keys))


def _expected(problem: Problem, z: Unconstrained) -> Sets:
    model = statement.insert(problem, z)
    return [expected(group, model) for group in groups(problem)]


def _information(problem: Problem, z: Unconstrained, values: Sets) -> Sets:
    model, found = statement.insert(problem, z), []
    for group, known in zip(groups(problem), values, strict=True):
        sets, part = group.sets, part_of(model, group.part)
        found.append({n: masked(sets[n], noise_of(sets[n], part).information(v)) for n, v in known.items()})
    return found


def _pulled(problem: Problem, z: Unconstrained, arrays: Sets) -> Unconstrained:
    """Jᵀ times arrays of the shape of the data, at the memory of one record where a forward model sums by itself."""

    def product(z: Unconstrained) -> Array:
        model = statement.insert(problem, z)
        each = [_product(group, model, known) for group, known in zip(groups(problem), arrays, strict=True)]
        return sum(each, start=jnp.zeros(()))

    return jax.grad(product)(z)


def _product(group: Group, model: Any, arrays: dict[str, Array]) -> Array:
    if not statement.sums_itself(group):
        return dot(arrays, expected(group, model))
    count = arrays[""].shape[0]
    lanes = deal(arrays[""], lane_count(statement.devices_of(group.forward), count))
    index, weight = every_record(count, lanes.shape[0])

    def one(values: Array, datum: Array, camera: Any = None) -> Array:  # noqa: ARG001 - the signature of a score
        return jnp.sum(values * datum)

    return group.forward.total(part_of(model, group.part), one, lanes, index, jnp.asarray(weight))


def _split(key: PRNGKeyArray, by: Yardstick) -> Any:
    count = len(jax.tree.leaves(by.spread))
    return jax.tree.unflatten(jax.tree.structure(by.spread), list(jax.random.split(key, count)))


def _sum(sets: Sets) -> Array:
    return sum((jnp.sum(a) for a in jax.tree.leaves(sets)), start=jnp.zeros(()))
