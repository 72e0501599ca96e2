"""How large a deviance noise alone gives: the yardstick of a goodness of fit at any number of electrons.

At high counts the deviance of a pixel has mean 1 and variance 2, as a squared normal number; in a pixel that expects
0.01 electrons its mean is 0.09. So the sums over all counts that can occur are tabulated once.
"""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np

from stemjax.core.typing import Array

LEAST, MOST, STEPS = 1e-8, 1e4, 241
"""Reach of the table, and its number of places, even in the logarithm. Beyond, its ends hold."""


def poisson_deviance(mean: Array) -> tuple[Array, Array]:
    r"""Mean and variance of 2 [n log(n/μ) − n + μ] over Poisson counts n of mean μ.

    Args:
        mean: μ [...] [electron].

    Returns:
        Mean and variance [...]; to about 1e-3 of themselves.

    >>> [[round(float(v), 3) for v in pair] for pair in zip(*poisson_deviance(jnp.array([0.01, 1.0, 1e3])))]
    [[0.092, 0.524], [1.147, 1.365], [1.0, 2.001]]
    """
    return _read(mean, *_table(root=False))


def amplitude_deviance(mean: Array) -> tuple[Array, Array]:
    r"""Mean and variance of 4 (√n − √μ)² over Poisson counts n of mean μ, as `poisson_deviance`.

    >>> [round(float(v), 2) for v in amplitude_deviance(jnp.asarray(1e4))]
    [1.0, 2.0]
    """
    return _read(mean, *_table(root=True))


def _read(mean: Array, places: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[Array, Array]:
    where = jnp.log(jnp.maximum(mean, LEAST))
    return tuple(jnp.interp(where, *(jnp.asarray(v, where.dtype) for v in (places, t))) for t in (first, second))  # type: ignore[return-value]


@functools.cache
def _table(*, root: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logarithms of μ, and mean and variance there."""
    from scipy.stats import poisson

    means = np.geomspace(LEAST, MOST, STEPS)
    moments = []
    for mean in means:
        reach = 12.0 * np.sqrt(mean) + 30.0
        n = np.arange(max(0, int(mean - reach)), int(mean + reach) + 1, dtype=float)
        if root:
            deviance = 4.0 * (np.sqrt(n) - np.sqrt(mean)) ** 2
        else:
            deviance = 2.0 * (np.where(n > 0, n * np.log(np.maximum(n, 1.0) / mean), 0.0) - n + mean)
        share = poisson.pmf(n, mean)
        first = share @ deviance
        moments.append((first, share @ (deviance - first) ** 2))
    return np.log(means), *np.array(moments).T
