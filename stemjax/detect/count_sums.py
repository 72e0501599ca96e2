r"""The sums over counts behind `stemjax.detect.information`, one mean at a time, and their closed forms.

A `Mixture` is summed over equal cells of counts: single counts, or cells that still resolve the readout noise. A
`Matched` law is told by mean and variance, a `Counting` one by the tail of a Poisson law.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import gammainc, gammaincc, gammaln, ndtr

from stemjax.core.typing import Array
from stemjax.detect.poisson_gaussian import Mixture, Readout, most_probable_number


class Well(NamedTuple):
    """Upper edge of the last count below saturation [count], and the mean electrons that reach it, with their rms."""

    edge: float
    mean: Array
    spread: Array


def summed(law: Mixture, mean: Array, readout: Readout, edge: float | None) -> Array:
    """The sum over counts below an edge, and the one outcome above it, for one mean; [4 4]."""
    width, counts = _cells(mean, readout, edge, _points(law))
    noise, share = _resolved(readout, width)
    read = readout._replace(noise=noise)
    chance, slopes = _chances(law, mean, read, counts)
    likely = chance > 1e-30
    gram = width * jnp.einsum("ic,jc->ij", slopes, slopes / jnp.where(likely, chance, jnp.inf)[None])
    if edge is not None:
        above = jnp.maximum(1.0 - width * jnp.sum(chance), 1e-9)
        change = width * jnp.sum(slopes, axis=1)
        gram = gram + change[:, None] * change[None] / above
    return gram * share[:, None] * share[None]


def _points(law: Mixture) -> int:
    """Cells of a sum."""
    return min(2560, max(512, 40000 // (2 * law.half + 1)))


def highest(law: Mixture, readout: Readout) -> Array:
    """The highest mean of which cells still resolve the noise, or are single counts; at least 60 electrons."""
    noise = readout.noise / readout.gain
    finest = jnp.maximum(noise * jnp.minimum(noise, 0.5), readout.integer / readout.gain)
    return jnp.clip((_points(law) * finest / 16.0) ** 2, 60.0, 1e4) + 20.0 * noise**2


def _cells(mean: Array, readout: Readout, edge: float | None, points: int) -> tuple[Array, Array]:
    """Width of equal cells over all counts that occur, and their middles [point]; whole counts where they suffice."""
    mean, gain, dark, noise = jax.lax.stop_gradient((mean, *readout[:3]))
    centre, spread = gain * mean + dark, jnp.sqrt(gain**2 * mean + noise**2)
    low = jnp.maximum(centre - 7.5 * spread, dark - 8.5 * noise)
    high = centre + 7.5 * spread + 8.0 * gain + noise
    if readout.integer:
        low, high = jnp.floor(low) - 0.5, jnp.ceil(high) + 0.5
    if edge is not None:
        high = jnp.minimum(high, edge)
        low = jnp.minimum(low, high - 15.0 * spread)
    width = (high - low) / points
    width = jnp.ceil(width) if readout.integer else width
    return width, high - width * (jnp.arange(points, dtype=mean.dtype) + 0.5)


def _resolved(readout: Readout, width: Array) -> tuple[Array, Array]:
    """Readout noise that the cells resolve, and what the scores lose by it [4].

    Noise of less than a twentieth of an electron tells electrons apart, be it larger or smaller; only what is known of
    the levels themselves scales with it, and that is put right afterwards.
    """
    least = jnp.where(width > 1.0, 1.3 * width, 0.0) if readout.integer else 1.3 * width
    noise = jnp.maximum(readout.noise, least)
    rounding = readout.integer / 12.0
    had, has = readout.noise**2 + rounding, noise**2 + rounding
    level, scale = jnp.sqrt(has / had), readout.noise * has / (noise * had)
    return noise, jnp.stack([jnp.ones_like(level), level, level, scale])


def _chances(law: Mixture, mean: Array, readout: Readout, counts: Array) -> tuple[Array, Array]:
    """Probability of every count [point], or its density, and its slopes in the four parameters [4 point]."""
    gain, dark, noise, _ = readout
    mean = jnp.maximum(mean, 1e-30)
    many, *each = (jnp.broadcast_to(value, counts.shape) for value in (mean, gain, dark, noise))
    likely = most_probable_number(counts, many, Readout(each[0], each[1], each[2], readout.integer))
    start = jnp.maximum(jnp.round(likely) - law.half, 0.0)
    numbers = start[None] + jnp.arange(2 * law.half + 1, dtype=counts.dtype)[:, None]
    # Neighbouring terms of the Poisson law differ by a factor; the logarithm of n! is dear.
    least = jnp.exp(start * jnp.log(mean) - mean - gammaln(start + 1.0))
    factors = jnp.concatenate([least[None], mean / numbers[1:]])
    weight = jnp.cumprod(factors, axis=0)
    off = (counts[None] - gain * numbers - dark) / noise
    if readout.integer:
        lower, upper = off - 0.5 / noise, off + 0.5 / noise
        flip = lower > 0
        cell = ndtr(jnp.where(flip, -lower, upper)) - ndtr(jnp.where(flip, -upper, lower))
        rise, fall = (jnp.exp(-0.5 * end**2) / math.sqrt(2 * math.pi) for end in (lower, upper))
        by_dark, by_noise = (rise - fall) / noise, (lower * rise - upper * fall) / noise
    else:
        cell = jnp.exp(-0.5 * off**2) / (math.sqrt(2 * math.pi) * noise)
        by_dark, by_noise = off / noise * cell, (off**2 - 1.0) / noise * cell
    terms = ((numbers / mean - 1.0) * cell, numbers * by_dark, by_dark, by_noise)
    return jnp.sum(weight * cell, axis=0), jnp.stack([jnp.sum(weight * term, axis=0) for term in terms])


def matched(mean: Array, readout: Readout, level: float | None) -> Array:
    """What mean and variance of the counts tell: all there is, to 1e-4, under noise of more than eight electrons."""
    gain, dark, noise = (jnp.broadcast_to(leaf, mean.shape) for leaf in readout[:3])
    readout = Readout(gain, dark, noise, readout.integer)
    variance = gain**2 * mean + noise**2 + readout.integer / 12.0
    third, fourth = gain**3 * mean, gain**4 * mean + 2.0 * variance**2
    first = jnp.stack([gain, mean, jnp.ones_like(mean), jnp.zeros_like(mean)])
    second = jnp.stack([gain**2, 2.0 * gain * mean, jnp.zeros_like(mean), 2.0 * noise])
    # The part of the squared count that the count itself does not tell.
    second = second - (third / variance)[None] * first
    rest = fourth - third**2 / variance
    found = first[:, None] * first[None] / variance[None, None] + second[:, None] * second[None] / rest[None, None]
    if level is None:
        return found
    return found * retained(mean, readout, well_of(readout, level))[None, None]


def counted(mean: Array, least: Array) -> Array:
    r"""Information of a counter that is full at m electrons.

    .. math:: I = \frac{P(n < m - 1)}{\mu} + p_{m-1} \left(1 - \frac{m - 1}{\mu}\right) + \frac{p_{m-1}^2}{P(n \ge m)}
    """
    least = jax.lax.stop_gradient(jnp.maximum(least, 1.0))
    mean = jnp.maximum(mean, 1e-30)
    last = jnp.exp((least - 1.0) * jnp.log(mean) - mean - gammaln(least))
    below, above = gammaincc(least, mean), gammainc(least, mean)
    some = above > 1e-30
    full = jnp.where(some, last**2 / jnp.where(some, above, 1.0), last * least / mean)
    return (below - last) / mean + last * (1.0 - (least - 1.0) / mean) + full


def retained(mean: Array, readout: Readout, well: Well) -> Array:
    """Part of the information that a full well leaves, from a counter of the same mean and variance."""
    square = noise_variance(readout)
    total = mean + square
    return total * counted(total, jnp.broadcast_to(well.mean + square + 0.5, total.shape))


def well_of(readout: Readout, level: float) -> Well:
    """The well of a camera that saturates at a count."""
    edge = math.ceil(level) - 0.5 if readout.integer else level
    mean = jnp.maximum((edge - readout.dark) / readout.gain, 0.0)
    return Well(edge, mean, jnp.sqrt(mean + 1.0 + noise_variance(readout)))


def noise_variance(readout: Readout) -> Array:
    """Variance of reading and rounding [electron²]."""
    return (readout.noise**2 + readout.integer / 12.0) / readout.gain**2
