"""Means, standard deviations and intervals of leaves, in their units, from a Gaussian of the unconstrained unknowns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.bijectors import Bijector, Exponential, Identity, Interval, Softplus
from stemjax.core.errors import InputError
from stemjax.core.typing import Array
from stemjax.inference import problem as statement
from stemjax.inference.derived import Derived, derive, derive_draws, derived_deviations
from stemjax.inference.gaussian import Gaussian
from stemjax.inference.problem import Problem, Unconstrained
from stemjax.inference.result import Named, Result, named_leaves

NODES = np.polynomial.hermite_e.hermegauss(32)
"""Places and weights of a Gauss quadrature over a standard normal density."""

STRAIGHT = 0.01
"""A map whose slope changes by less than this share over a standard deviation is taken as a straight line."""

DRAWS = 2000
"""Draws for the marginals of leaves whose elements are constrained together."""


def standard_deviations(problem: Problem, posterior: Gaussian) -> dict[str, Array]:
    r"""Standard deviation of every element of every free leaf, in its unit.

    Unconstrained leaves have those of z. Of a leaf that is constrained element by element, y = f(z), it is that of f
    under the Gaussian, by quadrature (a straight line where f is one); of others that of draws.
    """
    return _deviations(problem, posterior)


def intervals(problem: Problem, posterior: Gaussian, level: float = 0.95) -> dict[str, tuple[Array, Array]]:
    """Central intervals of every element of every free leaf, in its unit; they lie inside the leaf's bounds.

    Args:
        problem: The problem.
        posterior: The Gaussian of its unknowns.
        level: Probability that an interval holds.

    Returns:
        Lower and upper ends by path.
    """
    if not 0.0 < level < 1.0:
        raise InputError(f"an interval of probability {level:g}; give one between 0 and 1, such as 0.95")
    return _intervals(problem, posterior, NormalDist().inv_cdf(0.5 + 0.5 * level))


def with_posterior(
    point: Result,
    problem: Problem,
    posterior: Gaussian,
    *,
    draws: Unconstrained | None = None,
    derived: Mapping[str, Derived] | None = None,
    deviations: Callable[[Array], Array] | None = None,
) -> Result:
    """A result at the mean of a Gaussian, completed by what the Gaussian says.

    Args:
        point: The result, from `at_point`.
        problem: The problem.
        posterior: The Gaussian.
        draws: Draws of z [draw ...] to go with it.
        derived: Derived quantities by name.
        deviations: See `derived_deviations`.

    Returns:
        The result with `uncertainty`, `samples`, `posterior`, and `diagnostics["interval"]`: level, and ends by path.
    """
    what = derived or {}
    estimate = {**point.estimate, **derive(problem, what, posterior.mean)} if what else point.estimate
    spread = named_deviations(problem, posterior)
    spread |= derived_deviations(problem, what, posterior, deviations) if what else {}
    samples = (
        {} if draws is None else named_draws(problem, draws) | (derive_draws(problem, what, draws) if what else {})
    )
    known = {**point.diagnostics, "interval": interval_ends(problem, posterior)}
    return replace(
        point, estimate=estimate, uncertainty=spread, samples=samples, diagnostics=known, posterior=posterior
    )


def named_draws(problem: Problem, draws: Unconstrained) -> dict[str, Named]:
    """Draws of the unconstrained unknowns [draw ...] as named leaves in their units.

    Args:
        problem: The problem.
        draws: Draws by path, from `Gaussian.draw`.
    """
    values = {path: np.asarray(value) for path, value in _leaves_of(problem, draws).items()}
    first = named_leaves(problem.experiment, {path: value[0] for path, value in values.items()}, "draws")
    return {
        path: Named(values[path], named.units, ("draw", *named.dims), named.long_name) for path, named in first.items()
    }


def named_deviations(problem: Problem, posterior: Gaussian) -> dict[str, Named]:
    """`standard_deviations` as named arrays, for `Result.uncertainty`."""
    return named_leaves(problem.experiment, standard_deviations(problem, posterior), "standard deviation")


def interval_ends(problem: Problem, posterior: Gaussian, level: float = 0.95) -> dict[str, Any]:
    """`intervals` as a nested mapping, for `Result.diagnostics`."""
    found = intervals(problem, posterior, level)
    low, high = ({path: np.asarray(ends[i]) for path, ends in found.items()} for i in (0, 1))
    return {"level": level, "low": low, "high": high}


@jax.jit
def _leaves_of(problem: Problem, draws: Unconstrained) -> dict[str, Array]:
    return jax.lax.map(lambda z: statement.constrained(problem, z), draws)


@jax.jit
def _deviations(problem: Problem, posterior: Gaussian) -> dict[str, Array]:
    spread, drawn = posterior.spread(), _drawn_leaves(problem, posterior)
    return {
        path: jnp.std(drawn[path], axis=0)
        if path in drawn
        else _deviation(bijector, posterior.mean[path], spread[path])
        for path, bijector in statement.bijectors(problem).items()
    }


@jax.jit
def _intervals(problem: Problem, posterior: Gaussian, width: Array) -> dict[str, tuple[Array, Array]]:
    spread, drawn = posterior.spread(), _drawn_leaves(problem, posterior)
    found = {}
    for path, bijector in statement.bijectors(problem).items():
        if path in drawn:
            shares = jax.scipy.stats.norm.cdf(jnp.stack([-jnp.asarray(width), jnp.asarray(width)]))
            low, high = jnp.quantile(drawn[path], shares, axis=0)
        else:
            low, high = (bijector.forward(posterior.mean[path] + sign * width * spread[path]) for sign in (-1, 1))
        found[path] = (low, high)
    return found


def _drawn_leaves(problem: Problem, posterior: Gaussian) -> dict[str, Array]:
    """Draws of those leaves whose elements are constrained together, such as shares that add up to one."""
    together = {path: b for path, b in statement.bijectors(problem).items() if not _by_element(b)}
    if not together:
        return {}
    draws = posterior.draw(jax.random.key(0), DRAWS)
    return {path: jax.vmap(bijector.forward)(draws[path]) for path, bijector in together.items()}


def _by_element(bijector: Bijector) -> bool:
    return isinstance(bijector, Identity | Exponential | Softplus | Interval)


def _deviation(bijector: Bijector, mean: Array, spread: Array) -> Array:
    """Standard deviation of f(z) for every element."""
    line = spread * jnp.exp(bijector.log_slope(mean))
    if isinstance(bijector, Identity):
        return spread
    nodes, weights = (jnp.asarray(a, mean.dtype).reshape(-1, *(1,) * mean.ndim) for a in NODES)
    values = bijector.forward(mean[None] + nodes * spread[None])
    share = weights / jnp.sum(weights)
    centre = jnp.sum(share * values, axis=0)
    curved = jnp.sqrt(jnp.sum(share * (values - centre[None]) ** 2, axis=0))
    # Where f is straight over the width, the differences of its values would only lose digits.
    bent = [jnp.abs(bijector.log_slope(mean + sign * spread) - bijector.log_slope(mean)) for sign in (-1, 1)]
    return jnp.where(jnp.maximum(*bent) < STRAIGHT, line, curved)
