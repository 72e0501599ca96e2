"""How counts scatter about their expectation: one object both samples and scores.

Every noise model has `sample(key, expected)`, `log_prob(counts, expected)` (up to a term of the counts alone) and
`best(counts)`, the greatest that any expectation reaches, most often that of the counts themselves; the difference of
the two is minus half the deviance, a goodness of fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp

from stemjax.core.typing import Array, PRNGKeyArray
from stemjax.detect.deviance import amplitude_deviance, poisson_deviance
from stemjax.detect.poisson_gaussian import signed_deviance


class Noise(Protocol):
    """What a noise model must offer; pixels are independent, so everything is element by element."""

    def sample(self, key: PRNGKeyArray, expected: Array) -> Array:
        """Random counts."""
        ...

    def log_prob(self, counts: Array, expected: Array) -> Array:
        """Log-probability of counts, up to a term of the counts alone."""
        ...

    def best(self, counts: Array) -> Array:
        """The greatest `log_prob` of these counts, whatever is expected."""
        ...

    def residual(self, counts: Array, expected: Array) -> Array:
        """Signed root of the deviance: half the sum of its squares is `best` − `log_prob`."""
        ...

    def information(self, expected: Array) -> Array:
        """Fisher information of one count about its expectation: the mean of (∂ log p / ∂μ)² over counts."""
        ...


@dataclass(frozen=True)
class Poisson:
    r"""Electron counts without further noise.

    .. math:: \log p(n | \mu) = n \log \mu - \mu + \mathrm{const}(n)

    Args:
        floor: Stray electrons that every pixel is expected to hold besides the model's [electron]; they keep the
            logarithm finite where the model is dark. Their bias is negligible while the dark pixels of a data set
            together hold much more than `floor` each: scale it down for noise-free or normalised data.

    >>> round(float(Poisson(0.0).log_prob(jnp.array(2.0), jnp.array(1.0))), 6)
    -1.0
    """

    floor: float = 1e-3
    counted: ClassVar[bool] = True
    """No count is negative."""

    def sample(self, key: PRNGKeyArray, expected: Array) -> Array:
        """Poisson counts, stray ones included."""
        return jax.random.poisson(key, expected + self.floor).astype(expected.dtype)

    def log_prob(self, counts: Array, expected: Array) -> Array:
        """n log μ − μ."""
        mean = expected + self.floor
        return counts * jnp.log(mean) - mean

    def best(self, counts: Array) -> Array:
        """n log n − n."""
        return jnp.where(counts > 0, counts * jnp.log(jnp.where(counts > 0, counts, 1.0)) - counts, 0.0)

    def residual(self, counts: Array, expected: Array) -> Array:
        """sign(μ − n) √(2 [n log(n/μ) − n + μ]); near μ = n, where the root loses its slope, its Taylor series."""
        mean = expected + self.floor
        share = (counts - mean) / mean
        near = jnp.abs(share) < 1e-2
        series = -share * jnp.sqrt(mean) * (1.0 - share / 6.0 + 5.0 * share**2 / 72.0)
        far = jnp.where(near, 1.0, share)
        ratio = jnp.where(counts > 0, 1.0 + far, 1.0)
        deviance = 2.0 * mean * ((1.0 + far) * jnp.log(ratio) - far)
        return jnp.where(near, series, -jnp.sign(far) * jnp.sqrt(jnp.where(near, 1.0, deviance)))

    def information(self, expected: Array) -> Array:
        """1/μ."""
        return 1.0 / (expected + self.floor)

    def deviance(self, expected: Array) -> tuple[Array, Array]:
        """Mean and variance of the deviance of a count (`stemjax.detect.deviance`)."""
        return poisson_deviance(expected + self.floor)


@dataclass(frozen=True)
class Gaussian:
    r"""Counts with normal noise: readout noise plus, if wanted, shot noise, whose variance is that of the expectation.

    .. math:: \log p(n|\mu) = -\frac{(n-\mu)^2}{2 v} - \tfrac12 \log \frac{v}{\sigma^2}, \qquad v = \sigma^2 + g \mu

    A variance taken from the recorded count instead would pull every expectation down by one electron.

    Args:
        readout: Standard deviation σ of the readout [electron].
        shot: g, 1 for electron counts, 0 for none.

    >>> float(Gaussian(2.0, 0.0).log_prob(jnp.array(4.0), jnp.array(0.0)))
    -2.0
    """

    readout: float = 1.0
    shot: float = 1.0

    def sample(self, key: PRNGKeyArray, expected: Array) -> Array:
        """Normal counts of variance σ² + g μ."""
        return expected + jnp.sqrt(self._variance(expected)) * jax.random.normal(key, expected.shape, expected.dtype)

    def log_prob(self, counts: Array, expected: Array) -> Array:
        """−(n − μ)²/2v − ½ log v/σ²."""
        variance = self._variance(expected)
        return -0.5 * (counts - expected) ** 2 / variance - 0.5 * jnp.log(variance / self._unit)

    def best(self, counts: Array) -> Array:
        """`log_prob` of the likeliest expectation: a little below the counts, where the variance is less."""
        return self.log_prob(counts, counts if self.shot == 0 else self._likeliest(counts)[0])

    def residual(self, counts: Array, expected: Array) -> Array:
        """(μ − n)/σ without shot noise; with it the signed root of the deviance."""
        if self.shot == 0:
            return (expected - counts) / self.readout
        return signed_deviance(self.log_prob(counts, expected), self.best(counts), expected, self._likeliest(counts))

    def information(self, expected: Array) -> Array:
        """1/v + g²/2v²: the variance tells of the expectation as well."""
        variance = self._variance(expected)
        return 1.0 / variance + 0.5 * (self.shot / variance) ** 2

    def deviance(self, expected: Array) -> tuple[Array, Array]:
        """Mean 1 and variance 2 of the deviance of a count."""
        return jnp.ones_like(expected), jnp.full_like(expected, 2.0)

    @property
    def _unit(self) -> float:
        return self.readout**2 or 1.0

    def _variance(self, expected: Array) -> Array:
        return self.readout**2 + self.shot * jnp.maximum(expected, 0.0)

    def _likeliest(self, counts: Array) -> tuple[Array, Array, Array]:
        """Expectation of greatest likelihood, and minus the second and third derivatives there.

        In w = μ + σ²/g and y = n + σ²/g the slope vanishes where w² + g w = y².
        """
        square = self.readout**2 / self.shot
        y = counts + square
        mean = jnp.maximum(0.5 * (jnp.sqrt(self.shot**2 + 4.0 * y**2) - self.shot) - square, 0.0)
        w = jnp.maximum(mean + square, jnp.finfo(y.dtype).tiny ** 0.25)
        return mean, y**2 / (self.shot * w**3) - 0.5 / w**2, 1.0 / w**3 - 3.0 * y**2 / (self.shot * w**4)


@dataclass(frozen=True)
class Amplitude:
    r"""The amplitude approximation: the square root of a Poisson count has variance 1/4, whatever its mean.

    .. math:: \log p(n|\mu) = -2 (\sqrt{n} - \sqrt{\mu})^2

    Robust far from the solution, biased where a pixel holds less than about five electrons (Godard et al., Opt. Express
    20 (2012) 25914).

    Args:
        floor: Added to the expected counts under the root [electron], for a finite slope in dark pixels.

    >>> float(Amplitude(0.0).log_prob(jnp.array(4.0), jnp.array(1.0)))
    -2.0
    """

    floor: float = 1e-3
    counted: ClassVar[bool] = True
    """No count is negative."""

    def sample(self, key: PRNGKeyArray, expected: Array) -> Array:
        """Poisson counts, stray ones included."""
        return jax.random.poisson(key, expected + self.floor).astype(expected.dtype)

    def log_prob(self, counts: Array, expected: Array) -> Array:
        """−2(√n − √μ)²."""
        return -0.5 * self.residual(counts, expected) ** 2

    def best(self, counts: Array) -> Array:
        """Zero."""
        return jnp.zeros_like(counts)

    def residual(self, counts: Array, expected: Array) -> Array:
        """2(√μ − √n)."""
        return 2.0 * (jnp.sqrt(expected + self.floor) - jnp.sqrt(counts))

    def information(self, expected: Array) -> Array:
        """1/μ, that of the Poisson counts which it approximates."""
        return 1.0 / (expected + self.floor)

    def deviance(self, expected: Array) -> tuple[Array, Array]:
        """Mean and variance of the deviance of a count (`stemjax.detect.deviance`)."""
        return amplitude_deviance(expected + self.floor)
