r"""How values at two moments or places hang together: covariances whose paths are walks with a memory.

A kernel k(r) is the correlation of two values at the distance r, in lengths of correlation. Both kernels here are those
of linear stochastic differential equations, so a path is told value by value: `whiten` turns it into independent
standard normal numbers, and `colour` turns such numbers into a path, exactly and at a cost that grows with the number
of values. Source: Särkkä & Solin, Applied Stochastic Differential Equations (2019), chapter 12; Hartikainen & Särkkä,
IEEE MLSP (2010) 379.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from stemjax.core.typing import Array


class Kernel(Protocol):
    """What a kernel must offer; it is static and hashable."""

    def correlation(self, distance: Array) -> Array:
        """k(r), element by element."""
        ...

    def whiten(self, path: Array, steps: Array) -> Array:
        """Independent standard normal numbers [value ...] from a path [value ...] of unit variance.

        Args:
            path: The path.
            steps: Distances of neighbouring values, in lengths of correlation [value - 1].
        """
        ...

    def colour(self, white: Array, steps: Array) -> Array:
        """The inverse of `whiten`."""
        ...


@dataclass(frozen=True)
class Exponential:
    r"""Rough paths, that of Ornstein and Uhlenbeck: k(r) = exp(−r), Matérn 1/2.

    >>> Exponential().whiten(jnp.array([1.0, 1.0]), jnp.array([1e9])).tolist()
    [1.0, 1.0]
    """

    def correlation(self, distance: Array) -> Array:
        """exp(−r)."""
        return jnp.exp(-distance)

    def whiten(self, path: Array, steps: Array) -> Array:
        """(x_t − a x_{t−1}) / √(1 − a²), a = exp(−step)."""
        kept, new = (along(part, path) for part in _decay(steps))
        return jnp.concatenate([path[:1], (path[1:] - kept * path[:-1]) / new])

    def colour(self, white: Array, steps: Array) -> Array:
        """x_t = a x_{t−1} + √(1 − a²) e_t."""

        def step(last: Array, move: tuple[Array, Array, Array]) -> tuple[Array, Array]:
            kept, new, e = move
            value = kept * last + new * e
            return value, value

        _, rest = jax.lax.scan(step, white[0], (*_decay(steps), white[1:]))
        return jnp.concatenate([white[:1], rest])


@dataclass(frozen=True)
class Matern32:
    r"""Paths with a velocity: k(r) = (1 + √3 r) exp(−√3 r), Matérn 3/2.

    The path and its velocity together have no memory. The velocity is not seen; what the values so far say of it is a
    normal density whose variance depends on the steps alone (Kalman's filter without noise).

    >>> float(Matern32().correlation(jnp.array(0.0)))
    1.0
    """

    def correlation(self, distance: Array) -> Array:
        """(1 + √3 r) exp(−√3 r)."""
        return (1.0 + 3.0**0.5 * distance) * jnp.exp(-(3.0**0.5) * distance)

    def whiten(self, path: Array, steps: Array) -> Array:
        """What a value is off from its forecast, in standard deviations of that."""

        def step(state: tuple[Array, Array], move: tuple[_Forecast, Array]) -> tuple[tuple[Array, Array], Array]:
            (last, velocity), (gains, value) = state, move
            forecast, onward = gains.of(last, velocity)
            e = (value - forecast) / gains.spread
            return (value, onward + gains.share * e), e

        start = path[0], jnp.zeros_like(path[0])
        _, rest = jax.lax.scan(step, start, (_forecasts(steps), path[1:]))
        return jnp.concatenate([path[:1], rest])

    def colour(self, white: Array, steps: Array) -> Array:
        """Forecast plus its standard deviation times the number."""

        def step(state: tuple[Array, Array], move: tuple[_Forecast, Array]) -> tuple[tuple[Array, Array], Array]:
            (last, velocity), (gains, e) = state, move
            forecast, onward = gains.of(last, velocity)
            value = forecast + gains.spread * e
            return (value, onward + gains.share * e), value

        start = white[0], jnp.zeros_like(white[0])
        _, rest = jax.lax.scan(step, start, (_forecasts(steps), white[1:]))
        return jnp.concatenate([white[:1], rest])


class _Forecast(NamedTuple):
    """How a value and its velocity (in units of √3 a length) go on over a step, and how sure that is."""

    held: Array
    gained: Array
    lost: Array
    slowed: Array
    spread: Array
    share: Array

    def of(self, value: Array, velocity: Array) -> tuple[Array, Array]:
        """Forecast of the next value and of its velocity."""
        return self.held * value + self.gained * velocity, self.lost * value + self.slowed * velocity


def along(weights: Array, path: Array) -> Array:
    """Weights [value] with axes for the other axes of a path [value ...]."""
    return weights.reshape(-1, *(1 for _ in path.shape[1:]))


def _decay(steps: Array) -> tuple[Array, Array]:
    return jnp.exp(-steps), jnp.sqrt(-jnp.expm1(-2.0 * steps))


def _forecasts(steps: Array) -> _Forecast:
    r"""Forecasts of a Matérn-3/2 path over steps [value - 1], by its exact transition.

    .. math:: A = e^{-a} \begin{pmatrix} 1 + a & a \\ -a & 1 - a \end{pmatrix}, \quad Q = 1 - A A^\mathsf{T}, \quad
        a = \sqrt{3}\, \Delta

    The corner of Q is the incomplete gamma function P(3, 2a), which falls like a³ where steps are small.
    """
    a = 3.0**0.5 * steps
    fall = jnp.exp(-a)
    noise = _gamma3(2.0 * a)
    moves = fall * (1.0 + a), fall * a, -fall * a, fall * (1.0 - a)
    noises = noise, 2.0 * a**2 * fall**2, noise + 4.0 * a * fall**2

    def step(unsure: Array, each: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array]]:
        gained, slowed, here, both, there = each
        variance = gained**2 * unsure + here
        shared = gained * slowed * unsure + both
        left = slowed**2 * unsure + there - shared**2 / variance
        return left, (jnp.sqrt(variance), shared / jnp.sqrt(variance))

    _, (spread, share) = jax.lax.scan(step, jnp.ones((), steps.dtype), (moves[1], moves[3], *noises))
    return _Forecast(*moves, spread, share)


def _gamma3(x: Array) -> Array:
    """1 − (1 + x + x²/2) exp(−x), by its series where that would lose digits."""
    near = x < 1.0
    small, large = jnp.where(near, x, 0.0), jnp.where(near, 1.0, x)
    series = jnp.zeros_like(x)
    for power in range(16, -1, -1):
        series = 6.0 / math.factorial(power + 3) + small * series
    far = 1.0 - (1.0 + large + 0.5 * large**2) * jnp.exp(-large)
    return jnp.where(near, small**3 / 6.0 * series * jnp.exp(-small), far)
