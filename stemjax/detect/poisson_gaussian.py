r"""Log-probability of a count: Poisson electrons, read with a gain, a dark level and normal noise.

.. math:: p(c | \mu) = \sum_n \frac{\mu^n e^{-\mu}}{n!}\, N(c;\, g n + d,\, r)

Three laws with the same methods: `Counting` (no readout noise), `Mixture` (the sum, over a window of n of fixed
length) and `Matched` (a normal law of the same mean and variance, where the window would be too long). With `integer`
counts the normal density is replaced by its integral over the count's unit interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln, log_ndtr, logsumexp

from stemjax.core.typing import Array

LONGEST = 64
"""Longest half of a window that `law_of` chooses; beyond it the matched normal law is off by little more than 1 %."""
REACH = 8.0
"""Half of a window in units of the readout noise."""


class Readout(NamedTuple):
    """Gain [count/electron], dark level [count] and rms noise [count], of the shape of the counts; rounding or not."""

    gain: Array
    dark: Array
    noise: Array
    integer: bool


class Law(Protocol):
    """How one count is scored; everything is element by element."""

    def log_prob(self, counts: Array, mean: Array, readout: Readout) -> Array:
        """Log-probability of a count (its density, where counts are not integers) for a mean number of electrons."""
        ...

    def log_above(self, level: float, mean: Array, readout: Readout) -> Array:
        """Log-probability of a count at or above a level: what a saturated pixel tells."""
        ...

    def most_likely(self, counts: Array, readout: Readout) -> tuple[Array, Array, Array]:
        """The mean that makes the counts most probable, and there the second and third derivative of minus the
        log-probability with respect to the mean."""
        ...


def law_of(gain: float, readout: float) -> Law:
    """The law that suits a camera: exact unless its readout noise exceeds eight electrons.

    Args:
        gain: Counts per electron.
        readout: Rms noise [count].

    >>> law_of(1.0, 0.0), law_of(10.0, 5.0), law_of(1.0, 20.0)
    (Counting(), Mixture(half=6), Matched())
    """
    if readout == 0:
        return Counting()
    half = math.ceil(REACH * readout / gain) + 2
    return Mixture(half) if half <= LONGEST + 2 else Matched()


@dataclass(frozen=True)
class Counting:
    """Electrons counted without noise, (c − d)/g of them.

    Between whole electrons the Poisson law is interpolated; counts below the dark level score as no electron.
    """

    def log_prob(self, counts: Array, mean: Array, readout: Readout) -> Array:
        """n log μ − μ − log n! − log g."""
        electrons = jnp.maximum((counts - readout.dark) / readout.gain, 0.0)
        return electrons * jnp.log(mean) - mean - gammaln(electrons + 1.0) - jnp.log(readout.gain)

    def log_above(self, level: float, mean: Array, readout: Readout) -> Array:
        """log P(n ≥ (level − d)/g)."""
        least = jnp.ceil((level - 0.5 * readout.integer - readout.dark) / readout.gain - 1e-6)
        return log_at_least(jnp.maximum(least, 1.0), mean)

    def most_likely(self, counts: Array, readout: Readout) -> tuple[Array, Array, Array]:
        """n itself."""
        electrons = jnp.maximum((counts - readout.dark) / readout.gain, 0.0)
        some = jnp.where(electrons > 0, electrons, 1.0)
        return electrons, 1.0 / some, -2.0 / some**2


@dataclass(frozen=True)
class Mixture:
    """The sum over a window of electron numbers around the most probable one, exact while the window holds them.

    Given a count, the number of electrons is spread by less than r/g, whatever the mean; so a window of `half` = 8 r/g
    on either side leaves out less than 1e-14, and less than 1e-8 while r/g grows by not more than a third.

    Args:
        half: Electron numbers on either side of the most probable one.
    """

    half: int

    def log_prob(self, counts: Array, mean: Array, readout: Readout) -> Array:
        """The logarithm of the sum."""
        start = self._start(most_probable_number(counts, mean, readout))
        return logsumexp(self._weights(counts, start, readout, jnp.log(mean)), axis=0) - mean

    def log_above(self, level: float, mean: Array, readout: Readout) -> Array:
        """Σ over m of P(n ≥ m) times the probability that noise puts the level between m − 1 and m electrons."""
        edge = level - 0.5 * readout.integer
        place = jax.lax.stop_gradient((edge - readout.dark) / readout.gain)
        least = jnp.maximum(jnp.round(place) - self.half, 1.0)[None] + self._window(mean)
        gain, dark, noise = (a[None] for a in readout[:3])
        upper = (gain * least + dark - edge) / noise
        parts = log_interval(upper - gain / noise, upper) + log_at_least(least, mean[None])
        return jnp.logaddexp(logsumexp(parts, axis=0), log_ndtr((readout.dark - edge) / readout.noise))

    def most_likely(self, counts: Array, readout: Readout) -> tuple[Array, Array, Array]:
        """Newton's steps in log μ from the number read; 0 where even that is likelier."""
        number = jnp.maximum((counts - readout.dark) / readout.gain, 0.0)
        square = (readout.noise / readout.gain) ** 2
        start, window = self._start(number), self._window(counts)
        weights = self._weights(counts, start, readout, jnp.zeros_like(counts))

        def newton(_step: int, state: tuple[Array, ...]) -> tuple[Array, ...]:
            """One step, and what is known where it began; all in the loop, whose inputs are worked out only once."""
            logarithm, mean = state[0], jnp.exp(state[0])
            terms = weights + window * logarithm[None]
            top = jnp.max(terms, axis=0)
            share = jnp.exp(terms - top[None])
            total = jnp.sum(share, axis=0)
            above = jnp.sum(share * window, axis=0) / total
            off = window - above[None]
            second, third = (jnp.sum(share * off**power, axis=0) / total for power in (2, 3))
            gain = top + jnp.log(total) + start * logarithm - mean - weights[0]
            # A step of expectation-maximisation where the curve is not (yet) that of a maximum.
            step = (start + above - mean) / jnp.maximum(mean - second, 0.1 * mean)
            return logarithm + jnp.clip(step, -1.0, 1.0), mean, second, third, gain

        guess = jnp.log(jnp.maximum(number - 0.5 * square / (number + square), 1e-2))
        state = (guess, *[jnp.zeros_like(guess)] * 4)
        _, mean, second, third, gain = jax.lax.fori_loop(0, 6, newton, state)
        none = (start == 0) & (gain <= 0)
        return jnp.where(none, 0.0, mean), (mean - second) / mean**2, (3.0 * second - third - 2.0 * mean) / mean**3

    def _window(self, like: Array) -> Array:
        return jnp.arange(2 * self.half + 1, dtype=like.dtype).reshape(-1, *(1,) * like.ndim)

    def _start(self, number: Array) -> Array:
        return jnp.maximum(jnp.round(jax.lax.stop_gradient(number)) - self.half, 0.0)

    def _weights(self, counts: Array, start: Array, readout: Readout, logarithm: Array) -> Array:
        """Logarithms of the terms of the sum [number ...], without exp(−μ)."""
        numbers = start[None] + self._window(counts)
        gain, dark, noise = (a[None] for a in readout[:3])
        off = (counts[None] - gain * numbers - dark) / noise
        if readout.integer:
            seen = log_interval(off - 0.5 / noise, off + 0.5 / noise)
        else:
            seen = -0.5 * off**2 - jnp.log(noise) - 0.5 * math.log(2 * math.pi)
        return numbers * logarithm[None] - gammaln(numbers + 1.0) + seen


@dataclass(frozen=True)
class Matched:
    """A normal law with the mean and the variance of the expectation, for noise of many electrons.

    Its greatest error is the missing skewness, below 0.09 g/r of the density's height.
    """

    def log_prob(self, counts: Array, mean: Array, readout: Readout) -> Array:
        """−(c − g μ − d)²/2v − ½ log 2πv with v = g² μ + r²."""
        variance = readout.gain**2 * mean + readout.noise**2
        off = counts - readout.gain * mean - readout.dark
        return -0.5 * off**2 / variance - 0.5 * jnp.log(2 * math.pi * variance)

    def log_above(self, level: float, mean: Array, readout: Readout) -> Array:
        """The tail of the normal law."""
        spread = jnp.sqrt(readout.gain**2 * mean + readout.noise**2)
        edge = level - 0.5 * readout.integer
        return log_ndtr((readout.gain * mean + readout.dark - edge) / spread)

    def most_likely(self, counts: Array, readout: Readout) -> tuple[Array, Array, Array]:
        """The root of v² + v = y², y = (c − d)/g + r²/g², for v = μ + r²/g²."""
        square = (readout.noise / readout.gain) ** 2
        y = (counts - readout.dark) / readout.gain + square
        variance = 0.5 * (jnp.sqrt(1.0 + 4.0 * y**2) - 1.0)
        mean = jnp.maximum(variance - square, 0.0)
        v = mean + square
        # The log-density is that of electrons, whose derivatives are those of counts.
        return mean, y**2 / v**3 - 0.5 / v**2, 1.0 / v**3 - 3.0 * y**2 / v**4


def log_interval(lower: Array, upper: Array) -> Array:
    """log(Φ(upper) − Φ(lower)) without cancellation, in either tail.

    >>> round(float(jnp.exp(log_interval(jnp.array(-1.0), jnp.array(1.0)))), 4)
    0.6827
    """
    flip = lower > 0
    ends = jnp.stack([jnp.where(flip, -upper, lower), jnp.where(flip, -lower, upper)])
    bottom, top = log_ndtr(ends)  # one call: the function is long to compile
    gap = jnp.maximum(top - bottom, 1e-30)
    return top + jnp.log(-jnp.expm1(-gap))


def log_at_least(least: Array, mean: Array) -> Array:
    r"""log P(n ≥ m) of a Poisson number, m ≥ 1, from the saddle point of its tail.

    .. math:: P \approx \Phi\!\left(w + \tfrac1w \log \tfrac uw\right), \quad
        w = \mathrm{sgn}(\mu - m) \sqrt{2 [\mu - m - m \log(\mu/m)]}, \quad u = (\mu - m)/\sqrt m

    Error of the logarithm: 0.03 at m = 1 in the far tail, below 0.0025 where P > 0.2, and falling as 1/m; the slope
    stays finite where the probability underflows. Source: Barndorff-Nielsen, Biometrika 78 (1991) 557.

    >>> round(float(jnp.exp(log_at_least(jnp.array(3.0), jnp.array(3.0)))), 3)  # 1 - 8.5 exp(-3) = 0.577
    0.576
    """
    offset = (mean - least) / least
    near = jnp.abs(offset) < 0.03
    # Both branches are kept away from where they fail: the root at w = 0, the series far from it.
    small = jnp.where(near, offset, 0.0)
    eta = small * (1.0 - small / 3.0 + 7.0 * small**2 / 36.0 - 73.0 * small**3 / 540.0)
    correction = 1.0 / 3.0 - eta / 36.0 - eta**2 / 1620.0
    large = jnp.where(near, 1.0, offset)
    root = jnp.sign(large) * jnp.sqrt(2.0 * (large - jnp.log1p(large)))
    scale = jnp.sqrt(least)
    close = eta * scale + correction / scale
    away = root * scale + jnp.log(large / root) / (root * scale)
    return log_ndtr(jnp.where(near, close, away))


def most_probable_number(counts: Array, mean: Array, readout: Readout) -> Array:
    """Electrons n that maximise Poisson times normal: n/s² + log n = x/s² + log μ, s = r/g; no slope is kept."""
    counts, mean, gain, dark, noise = jax.lax.stop_gradient((counts, mean, *readout[:3]))
    square = jnp.maximum((noise / gain) ** 2, 1e-6)
    level = (counts - dark) / gain / square + jnp.log(mean)
    # Newton's steps for a convex function of log n, from the right of its root.
    logarithm = jnp.minimum(level, jnp.log(jnp.maximum(square * level, 1.0)))

    def newton(_: int, logarithm: Array) -> Array:
        slope = jnp.exp(logarithm) / square
        return logarithm - (slope + logarithm - level) / (slope + 1.0)

    return jnp.exp(jax.lax.fori_loop(0, 6, newton, logarithm))


def signed_deviance(value: Array, best: Array, mean: Array, at: tuple[Array, Array, Array]) -> Array:
    """Signed root of twice the distance from the best log-probability.

    Near the best, where the root loses its slope and the difference its digits, from the derivatives there.

    Args:
        value: Log-probability.
        best: The best one.
        mean: Mean electrons.
        at: What `most_likely` returns.
    """
    place, second, third = at
    inside = (place > 0) & (second > 0)
    second = jnp.where(inside, second, 1.0)
    step = mean - place
    near = inside & (second * step**2 < 0.04) & (jnp.abs(third * step) < 0.04 * second)
    small = jnp.where(near, step, 0.0)
    series = small * jnp.sqrt(second) * (1.0 + small * jnp.where(near, third, 0.0) / (6.0 * second))
    gap = jnp.where(near, 1.0, 2.0 * (best - value))
    return jnp.where(near, series, jnp.sign(step) * jnp.sqrt(jnp.maximum(gap, 1e-12)))
