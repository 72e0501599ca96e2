"""Fourier helpers: zero frequency in the corner, plane wave exp(+2πi k·r)."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from stemjax.core.grid import Grid
from stemjax.core.typing import Annotated, Array, Complex, Float, typed


@typed
def shift_ramps(
    grid: Grid, shift: Annotated[Float[Array, "2"], "Å"]
) -> tuple[Complex[Array, "ny 1"], Complex[Array, "1 nx"]]:
    r"""The two one-dimensional phase ramps whose product moves an image by `shift`.

    .. math:: R(k) = \exp(-2 \pi i\, k_y s_y) \exp(-2 \pi i\, k_x s_x)

    They are kept apart because a complex exponential of a whole image costs as much as two of its Fourier transforms.

    >>> ry, rx = shift_ramps(Grid((4, 4), (1.0, 1.0)), jnp.array([1.0, 0.0]))
    >>> image = jnp.zeros((4, 4)).at[0, 0].set(1.0)
    >>> int(jnp.argmax(jnp.fft.ifft2(jnp.fft.fft2(image) * (ry * rx)).real))
    4
    """
    ky, kx = (jnp.asarray(k, dtype=shift.dtype) for k in grid.frequencies())
    return jnp.exp(-2j * np.pi * ky * shift[0]), jnp.exp(-2j * np.pi * kx * shift[1])


def fourier_shift(image: Array, grid: Grid, shift: Annotated[Array, "Å"]) -> Array:
    """Move a periodic image by (y, x) [Å], exactly for a band-limited one. Real images stay real.

    >>> image = jnp.zeros((4, 4)).at[0, 0].set(1.0)
    >>> int(jnp.argmax(fourier_shift(image, Grid((4, 4), (0.5, 0.5)), jnp.array([0.5, 0.5]))))
    5
    """
    ry, rx = shift_ramps(grid, shift)
    moved = jnp.fft.ifft2(jnp.fft.fft2(image) * (ry * rx))
    return moved if jnp.iscomplexobj(image) else moved.real


def band_limit(grid: Grid, limit: float = 2.0 / 3.0, taper: float = 0.0) -> np.ndarray:
    r"""Circular low-pass on the reciprocal grid, for products of band-limited functions without aliasing.

    .. math:: B(k) = \begin{cases} 1 & |k| < c - t \\ \tfrac12 [1 + \cos \pi (|k| - c + t) / t] & c - t < |k| < c \\
        0 & |k| \ge c \end{cases}

    with c = limit × Nyquist of the coarser axis and t = taper × Nyquist (Kirkland, Advanced Computing in Electron
    Microscopy, 2nd ed., section 6.8).

    Args:
        grid: The real-space grid.
        limit: Cut-off as a fraction of the Nyquist frequency; 2/3 keeps a product of two functions free of aliases.
        taper: Width of the soft edge, below the cut-off, as a fraction of the Nyquist frequency; 0 is a hard edge.

    Returns:
        Real array [ny nx] between 0 and 1, zero frequency in the corner.

    >>> int(band_limit(Grid((8, 8), (0.5, 0.5))).sum())
    21
    """
    ky, kx = grid.frequencies()
    k = np.hypot(ky, kx) / grid.nyquist
    if taper <= 0.0:
        # The cut-off itself is outside, whatever the rounding of k: twice 2/3 of Nyquist would wrap onto it.
        return (k < limit * (1 - 1e-9)).astype(float)
    return 0.5 * (1.0 + np.cos(np.pi * np.clip((k - limit + taper) / taper, 0.0, 1.0)))
