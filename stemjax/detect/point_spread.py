"""How an electron's signal spreads over the pixels of a camera."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.typing import Annotated, Array, Float, real, typed

NARROWEST = 1e-2
"""Least width of a spread [pixel]; anything narrower stays within its pixel to double precision."""


class PointSpread(struct.PyTreeNode):
    """A Gaussian core and a wider Gaussian tail (scattered light, backscattered electrons); by `make_point_spread`.

    Args:
        rms: Standard deviation of the core along each axis [pixel].
        tail: Share of the signal in the tail, or None for no tail.
        tail_rms: Standard deviation of the tail [pixel], or None.
    """

    rms: Annotated[Array, "pixel"]
    tail: Array | None = None
    tail_rms: Annotated[Array, "pixel"] | None = None


def make_point_spread(
    rms: Annotated[float, "pixel"], *, tail: float = 0.0, tail_rms: Annotated[float, "pixel"] = 10.0
) -> PointSpread:
    """A point spread, checked.

    Args:
        rms: Standard deviation of the core [pixel].
        tail: Share of the signal in the tail; 0 for no tail, which then cannot be freed.
        tail_rms: Standard deviation of the tail [pixel].

    Raises:
        InputError: A width is not positive, or the share lies outside 0 to 1.

    >>> make_point_spread(0.6).tail is None
    True
    """
    if not (rms > 0 and tail_rms > 0 and 0 <= tail < 1):
        raise InputError(
            f"a spread of {rms:g} pixel with a tail of {tail:g} of {tail_rms:g} pixel; give positive widths and a "
            "share from 0 to below 1, such as rms=0.6, tail=0.1, tail_rms=10, or no spread at all"
        )
    return PointSpread(real(rms)) if tail == 0 else PointSpread(real(rms), real(tail), real(tail_rms))


@typed
def spread_out(pattern: Float[Array, "... ky kx"], spread: PointSpread) -> Float[Array, "... ky kx"]:
    r"""Blur patterns by the point spread; the border reflects, so that nothing is lost and nothing wraps around.

    .. math:: h(m) = \Phi\!\left(\tfrac{m + 1/2}{\sigma}\right) - \Phi\!\left(\tfrac{m - 1/2}{\sigma}\right)

    The signal of a pixel starts in its middle and is collected by whole pixels; h is positive and sums to one, so that
    no expectation becomes negative, not in single precision either (sums of positive terms, no Fourier transform).

    Args:
        pattern: Expected electrons [... ky kx], zero frequency in the corner.
        spread: The point spread.

    Returns:
        Expected signal [... ky kx], of the same sum.

    >>> round(float(spread_out(jnp.eye(6), make_point_spread(0.7)).sum()), 5)
    6.0
    """
    core = _blurred(pattern, spread.rms)
    if spread.tail is None or spread.tail_rms is None:
        return core
    return (1.0 - spread.tail) * core + spread.tail * _blurred(pattern, spread.tail_rms)


def _blurred(pattern: Array, rms: Array) -> Array:
    rows, columns = (_mirror_matrix(n, rms) for n in pattern.shape[-2:])
    with jax.default_matmul_precision("highest"):
        return jnp.einsum("ij,...jk,lk->...il", rows, pattern, columns)


def _mirror_matrix(count: int, rms: Array) -> Array:
    """What each pixel of an axis (column) gives to each (row), mirrored at both ends; zero frequency first."""
    place = np.fft.ifftshift(np.arange(count))
    kernel = _kernel(real(np.arange(2 * count)), rms)
    to, source = place[:, None], place[None, :]
    matrix = kernel[np.abs(to - source)] + kernel[to + source + 1] + kernel[2 * count - 1 - to - source]
    return matrix / matrix.sum(axis=0, keepdims=True)


def _kernel(distance: Array, rms: Array) -> Array:
    """Share of a Gaussian that falls on a pixel at a distance [pixel]; differences of tails keep small shares exact."""
    scale = jnp.sqrt(rms**2 + NARROWEST**2) * math.sqrt(2.0)
    erfc = jax.scipy.special.erfc
    return 0.5 * (erfc((distance - 0.5) / scale) - erfc((distance + 0.5) / scale))


@typed
def transfer(spread: PointSpread, frequency: Float[Array, "..."]) -> Float[Array, "..."]:
    r"""Modulation transfer of the point spread along an axis.

    .. math:: M(f) = \mathrm{sinc}(f) \left[ (1 - t) e^{-2\pi^2\sigma^2 f^2} + t\, e^{-2\pi^2\sigma_t^2 f^2} \right]

    The factor sinc (of the pixel's own width) belongs to the sampled signal; what pixels of half a unit's distance and
    more cannot tell apart (f > 1/2) folds back.

    Args:
        spread: The point spread.
        frequency: Frequencies [1/pixel].

    >>> round(float(transfer(make_point_spread(0.5), jnp.array(0.5))), 3)
    0.185
    """
    core = jnp.exp(-2.0 * (math.pi * spread.rms * frequency) ** 2)
    if spread.tail is not None and spread.tail_rms is not None:
        tail = jnp.exp(-2.0 * (math.pi * spread.tail_rms * frequency) ** 2)
        core = (1.0 - spread.tail) * core + spread.tail * tail
    return jnp.sinc(frequency) * core
