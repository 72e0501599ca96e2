"""What is wrong where a density is not finite, by leaf and data set, with what to do."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.inference import problem as statement
from stemjax.inference.data_sets import expected, groups, log_likelihood, part_of
from stemjax.inference.problem import Problem, Unconstrained


def fault(problem: Problem, z: Unconstrained) -> str:
    """A sentence on why the log-density or its gradient is not finite at some unconstrained values.

    Looked for in this order: a leaf, a prior, what a forward model expects, a likelihood, a gradient.

    Returns:
        The sentence, with a remedy; empty where nothing is wrong.

    >>> from flax import struct
    >>> from stemjax.detect.noise import Poisson
    >>> class Counts(struct.PyTreeNode):
    ...     counts: Any
    >>> problem = statement.make_problem(
    ...     {"a": jnp.array(1.0)}, Counts(jnp.ones(3)), noise=Poisson(), free=["a"],
    ...     forward=lambda m, i=None: jnp.log(m["a"]) * jnp.ones(3))
    >>> fault(problem, {"a": jnp.array(-1.0)})
    "the forward model expects nan in 3 of 3 elements, first in record 0 of data set 'data'; ..."
    """
    return _leaves(problem, z) or _priors(problem, z) or _data(problem, z) or _gradient(problem, z)


def _leaves(problem: Problem, z: Unconstrained) -> str:
    for path, value in statement.constrained(problem, z).items():
        if bad := _bad(value):
            return f"{bad} elements of '{path}' are not finite; take smaller steps or give it a prior"
    return ""


def _priors(problem: Problem, z: Unconstrained) -> str:
    values = statement.constrained(problem, z)
    for path, prior in problem.priors.items():
        if _bad(prior.log_prob(values[path])):
            return f"the prior of '{path}' has no density where it stands; widen the prior or move the leaf"
    return ""


def _data(problem: Problem, z: Unconstrained) -> str:
    model = statement.insert(problem, z)
    for group in groups(problem):
        for name, values in expected(group, model).items():
            data = group.sets[name]
            if where := _where(values, ~np.isfinite(np.asarray(values))):
                return f"the forward model expects nan {where} of data set '{data.name}'{_culprit(problem, z)}"
            if _bad(data.flat):
                bad = _where(data.flat, ~np.isfinite(np.asarray(data.flat)))
                return f"the counts are not finite {bad} of data set '{data.name}'; mask or replace them"
            wrong = ~np.isfinite(np.asarray(log_likelihood(data, part_of(model, group.part), values)))
            if where := _where(values, wrong):
                least = float(np.asarray(values)[wrong].min())
                return (
                    f"the likelihood is not finite {where} of data set '{data.name}', where the model expects as "
                    f"little as {least:.3g}; keep the expectation positive (a prior with positive support on amplitude "
                    "or background), give the noise a floor, or mask these elements"
                )
    return ""


def _gradient(problem: Problem, z: Unconstrained) -> str:
    for path, value in jax.grad(lambda z: statement.log_density(problem, z))(z).items():
        if bad := _bad(value):
            return (
                f"the gradient of the log-density is not finite in {bad} elements of '{path}' although the density "
                "is; move the first guess off the singular point, or hold the leaf fixed"
            )
    return ""


def _culprit(problem: Problem, z: Unconstrained) -> str:
    """Which free leaf at its first guess would make the expectation finite again."""
    guess = statement.start(problem)
    for path in problem.free:
        model = statement.insert(problem, {**z, path: guess[path]})
        values = [v for group in groups(problem) for v in expected(group, model).values()]
        if not any(_bad(v) for v in values) and not np.array_equal(np.asarray(z[path]), np.asarray(guess[path])):
            return f"; '{path}' went where the model is not defined: give it a prior that bounds it, or smaller steps"
    return "; check the first guess and the leaves that are not free"


def _bad(values: Any) -> int:
    return int(np.sum(~np.isfinite(np.asarray(values))))


def _where(values: Any, wrong: np.ndarray) -> str:
    """ "in 3 of 12 elements, first in record 0", or nothing."""
    if not wrong.any():
        return ""
    first = int(np.argmax(wrong.reshape(wrong.shape[0], -1).any(axis=1))) if wrong.ndim else 0
    return f"in {int(wrong.sum())} of {jnp.size(values)} elements, first in record {first}"
