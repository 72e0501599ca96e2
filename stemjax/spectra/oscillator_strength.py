r"""Generalised oscillator strength of the 1s, 2s and 2p electrons of a hydrogen-like atom.

With W = E / (R Z²) the energy transfer, Q = (2π q a₀ / Z)² the momentum transfer and k² = W − 1/n², an electron has

.. math:: \frac{\mathrm d f}{\mathrm d W} = W \frac{P(Q, k^2)}{D^m}
    \frac{\exp\{-(2/k) \arctan[2 k / (n (Q - k^2 + 1/n^2))]\}}{1 - \exp(-2 \pi / k)},
    \quad D = (Q - k^2 + 1/n^2)^2 + 4 k^2 / n^2

for a final state in the continuum. For k² < 0 it is continued analytically: screening by the outer electrons puts the
threshold of an inner shell below that of the hydrogen-like atom. The polynomials P follow from Nordsieck's integral
over the Coulomb wave, summed over the direction of the ejected electron; `tests/spectra/test_oscillator_strength.py`
does that integral by quadrature. Source: H. Bethe, Ann. Phys. 397 (1930) 325; M. C. Walske, Phys. Rev. 101 (1956) 940.
"""

from __future__ import annotations

import jax.numpy as jnp

from stemjax.core.typing import Array, Float


def strength_1s(transfer: Float[Array, "..."], excess: Float[Array, "..."]) -> Array:
    """df/dW of a 1s electron.

    Args:
        transfer: Q, dimensionless.
        excess: k² = W − 1, dimensionless; above −1.

    Returns:
        df/dW, dimensionless, in the shape of the arguments.

    >>> bool(jnp.isfinite(strength_1s(jnp.array(0.1), jnp.array(0.0))))
    True
    """
    q, k = transfer, excess
    polynomial = 128.0 * (q + (k + 1.0) / 3.0)
    return (k + 1.0) * polynomial / denominator(q, k, 1.0) ** 3 * coulomb_factor(q, k, 1.0)


def strength_2s(transfer: Float[Array, "..."], excess: Float[Array, "..."]) -> Array:
    """df/dW of a 2s electron; arguments as for `strength_1s`, with k² = W − 1/4."""
    q, k = transfer, excess
    polynomial = _horner(
        q,
        (
            _horner(k, (1 / 48, 17 / 48, 7 / 3, 22 / 3, 32 / 3, 16 / 3)),
            _horner(k, (47 / 240, 0.0, -82 / 15, -32 / 3, -16 / 3)),
            _horner(k, (5 / 3, -62 / 3, -160 / 3, -32.0)),
            _horner(k, (82 / 3, 96.0, 224 / 3)),
            _horner(k, (-128 / 3, -176 / 3)),
            16.0,
        ),
    )
    return (k + 0.25) * polynomial / denominator(q, k, 0.5) ** 5 * coulomb_factor(q, k, 0.5)


def strength_2p(transfer: Float[Array, "..."], excess: Float[Array, "..."]) -> Array:
    """df/dW of a 2p electron, the mean of the three; arguments as for `strength_1s`, with k² = W − 1/4."""
    q, k = transfer, excess
    polynomial = _horner(
        q,
        (
            _horner(k, (11 / 576, 1 / 4, 7 / 6, 20 / 9, 4 / 3)),
            _horner(k, (107 / 180, 41 / 9, 452 / 45, 16 / 3)),
            _horner(k, (19 / 6, -4.0, -8 / 3)),
            _horner(k, (-4.0, -16.0)),
            12.0,
        ),
    )
    return (k + 0.25) * polynomial / denominator(q, k, 0.5) ** 5 * coulomb_factor(q, k, 0.5)


def denominator(transfer: Array, excess: Array, inverse: float) -> Array:
    """D of the module's formula for 1/n."""
    return (transfer - excess + inverse**2) ** 2 + 4.0 * inverse**2 * excess


def coulomb_factor(transfer: Array, excess: Array, inverse: float) -> Array:
    """The exponential over its Coulomb normalisation, one analytic function of k² through zero."""
    across = transfer - excess + inverse**2
    square = 4.0 * inverse**2 * excess / across**2
    near = (jnp.abs(square) < 0.01) & (across > 0)
    above, below = (excess > 0) & ~near, (excess <= 0) & ~near
    k = jnp.sqrt(jnp.where(above, excess, 1.0))
    exponent_above = 2.0 / k * jnp.arctan2(2.0 * inverse * k, across)
    kappa = jnp.sqrt(jnp.where(below, -excess, 0.01))
    wide = jnp.where(below, across, 1.0)
    exponent_below = jnp.log((wide + 2.0 * inverse * kappa) / (wide - 2.0 * inverse * kappa)) / kappa
    z = jnp.where(near, square, 0.0)
    series = 1.0 + z * (-1 / 3 + z * (1 / 5 + z * (-1 / 7 + z / 9)))
    exponent_near = 4.0 * inverse / jnp.where(near, across, 1.0) * series
    exponent = jnp.where(near, exponent_near, jnp.where(above, exponent_above, exponent_below))
    # Below threshold, and so little above it that exp(-2π/k) is nothing, the normalisation is one.
    speed = jnp.sqrt(jnp.maximum(excess, 1e-2))
    norm = jnp.where(excess > 1e-2, -jnp.expm1(-2.0 * jnp.pi / speed), 1.0)
    return jnp.exp(-exponent) / norm


def _horner(x: Array, coefficients: tuple) -> Array:
    """Polynomial with rising coefficients."""
    total = coefficients[-1]
    for c in coefficients[-2::-1]:
        total = total * x + c
    return total
