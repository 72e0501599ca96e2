"""The reciprocal vectors of a cell inside a band limit, kept as half a plane since the potential is real."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from stemjax.core.grid import Grid
from stemjax.core.typing import Array, Complex, Float


class Band(NamedTuple):
    """Orders of ky (both signs) [ky] and of kx (from 0 on) [kx], and which pairs [ky kx] lie in the band."""

    y: np.ndarray
    x: np.ndarray
    inside: np.ndarray


def orders_in_band(grid: Grid, band_limit: float | None) -> Band:
    """The orders that a circle in reciprocal space holds.

    Args:
        grid: Real-space grid.
        band_limit: Radius of the circle as a part of the Nyquist frequency; None for every order but the Nyquist
            frequency itself, whose sign is not defined.

    >>> band = orders_in_band(Grid((8, 8), (0.5, 0.5)), 0.5)
    >>> band.y.tolist(), band.x.tolist(), int(band.inside.sum())
    ([-2, -1, 0, 1, 2], [0, 1, 2], 9)
    """
    half = [(n - 1) // 2 for n in grid.shape]
    limit = np.inf if band_limit is None else band_limit * grid.nyquist * (1.0 + 1e-9)
    if band_limit is not None:
        half = [min(h, int(limit * length)) for h, length in zip(half, grid.extent, strict=True)]
    y, x = np.arange(-half[0], half[0] + 1), np.arange(half[1] + 1)
    return Band(y, x, frequency(grid, y, x) <= limit)


def frequency(grid: Grid, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """|k| [ky kx] of the orders along y and x [1/Å].

    >>> frequency(Grid((8, 8), (0.5, 0.5)), np.array([3]), np.array([4])).tolist()
    [[1.25]]
    """
    return np.hypot(y[:, None] * grid.reciprocal_sampling[0], x[None, :] * grid.reciprocal_sampling[1])


def whole_rows(values: np.ndarray | Array, band: Band, grid: Grid) -> np.ndarray | Array:
    """Values [ky kx] of the band in the rows of a transform [ny kx], zero elsewhere; by numpy where they are numpy's.

    >>> grid = Grid((8, 8), (0.5, 0.5))
    >>> whole_rows(np.ones((5, 3)), orders_in_band(grid, 0.5), grid)[:, 0].tolist()
    [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0]
    """
    shape, rows = (*values.shape[:-2], grid.shape[0], len(band.x)), band.y % grid.shape[0]
    if isinstance(values, np.ndarray):
        whole = np.zeros(shape, values.dtype)
        whole[..., rows, :] = values
        return whole
    return jnp.zeros(shape, values.dtype).at[..., rows, :].set(values)


def to_real_space(spectrum: Complex[Array, "slice ny kx"], grid: Grid) -> Float[Array, "slice ny nx"]:
    """Inverse transform of the half plane kx >= 0; the columns that are missing are zero.

    >>> to_real_space(jnp.zeros((1, 8, 3)) + 0j, Grid((8, 8), (0.5, 0.5))).shape
    (1, 8, 8)
    """
    return jnp.fft.irfft(jnp.fft.ifft(spectrum, axis=1), n=grid.shape[1], axis=2)
