r"""Plural scattering: independent losses that add up, by Fourier transform.

The number of losses that an electron suffers is Poisson distributed, so with the single-scattering distribution s (the
expected number of losses per channel, Σ s = t/λ) and the instrument's line z (area one)

.. math:: J = z \otimes e^{-t/\lambda} \sum_n \frac{s^{\otimes n}}{n!}, \qquad
    \tilde J = \tilde z \exp(\tilde s - t/\lambda)

Source: Egerton, 3rd ed., section 4.1.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from stemjax.core.typing import Array, Float

# In double precision, how far the tail of the circle is damped before it is turned back: exp(-16) = 1e-7.
_DAMPING = 16.0


def plural_scattering(
    zero_loss: Float[Array, "energy"], single: Float[Array, "..."], *, padding: int = 4
) -> Float[Array, "energy"]:
    """A spectrum with every order of scattering.

    The transform has a circle of at least `padding` times the longer input. What wraps around is what lies beyond the
    circle: electrons whose total loss exceeds it. In double precision it is damped by another 1e-7 (the sequence is
    multiplied by a falling exponential, under which convolution is the same, and divided by it afterwards).

    Args:
        zero_loss: The instrument's line, per channel; its sum is that of the whole spectrum. Any origin.
        single: Expected number of losses in each channel: channel j stands for a loss of j channel widths, 0 included.
        padding: Length of the circle in units of the longer input.

    Returns:
        The spectrum on the channels of `zero_loss`; electrons beyond its end are not in it.

    >>> import numpy as np
    >>> s = jnp.asarray(np.eye(8)[2] * 0.5)
    >>> [round(float(x), 4) for x in plural_scattering(jnp.asarray(np.eye(8)[0]), s)[:5]]
    [0.6065, 0.0, 0.3033, 0.0, 0.0758]
    """
    damping, length = _circle(zero_loss, single, padding)
    transform = jnp.fft.rfft(single * damping[: single.shape[0]], length)
    spectrum = jnp.fft.rfft(zero_loss * damping[: zero_loss.shape[0]], length) * jnp.exp(transform - jnp.sum(single))
    return jnp.fft.irfft(spectrum, length)[: zero_loss.shape[0]] / damping[: zero_loss.shape[0]]


def scattering_order(
    zero_loss: Float[Array, "energy"], single: Float[Array, "..."], order: int, *, padding: int = 4
) -> Float[Array, "energy"]:
    """The part of a spectrum that was scattered so many times; the orders add up to `plural_scattering`.

    Args:
        zero_loss: As in `plural_scattering`.
        single: As in `plural_scattering`.
        order: Number of losses, 0 for the zero-loss peak.
        padding: As in `plural_scattering`.

    >>> import numpy as np
    >>> s = jnp.asarray(np.eye(8)[2] * 0.5)
    >>> round(float(scattering_order(jnp.asarray(np.eye(8)[0]), s, 1)[2]), 4)
    0.3033
    """
    damping, length = _circle(zero_loss, single, padding)
    transform = jnp.fft.rfft(single * damping[: single.shape[0]], length)
    factor = jnp.exp(-jnp.sum(single))
    spectrum = jnp.fft.rfft(zero_loss * damping[: zero_loss.shape[0]], length) * factor
    for n in range(1, order + 1):
        spectrum = spectrum * transform / n
    return jnp.fft.irfft(spectrum, length)[: zero_loss.shape[0]] / damping[: zero_loss.shape[0]]


def convolve_losses(spectrum: Float[Array, "energy"], single: Float[Array, "..."]) -> Float[Array, "energy"]:
    """A spectrum after one more loss, without wrap-around: an edge behind the low loss of its own specimen.

    Args:
        spectrum: Electrons per channel, for instance the low loss with its zero-loss peak, per incident electron.
        single: Probability of the loss of j channel widths, such as areal density times cross-section per channel.

    Returns:
        Electrons per channel on the channels of `spectrum`.

    >>> import numpy as np
    >>> abs(convolve_losses(jnp.asarray(np.eye(4)[1]), jnp.asarray(np.eye(4)[2]))).round(9).tolist()
    [0.0, 0.0, 0.0, 1.0]
    """
    length = _fast_length(spectrum.shape[0] + single.shape[0])
    product = jnp.fft.rfft(spectrum, length) * jnp.fft.rfft(single, length)
    return jnp.fft.irfft(product, length)[: spectrum.shape[0]]


def _circle(zero_loss: Array, single: Array, padding: int) -> tuple[Array, int]:
    """Damping of the sequence, and the length of the transform."""
    longest = max(zero_loss.shape[0], single.shape[0])
    length = _fast_length(max(padding, 2) * longest)
    # exp(-16/padding) at the end of the axis costs digits that single precision has not got.
    rate = _DAMPING / length if zero_loss.dtype == jnp.float64 else 0.0
    return jnp.exp(-rate * jnp.arange(longest, dtype=zero_loss.dtype)), length


def _fast_length(least: int) -> int:
    """The smallest power of two, or three quarters of one, from a length on."""
    whole = 2 ** int(np.ceil(np.log2(least)))
    return 3 * whole // 4 if 3 * whole // 4 >= least else whole
