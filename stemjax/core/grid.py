"""A regular grid in real space and its reciprocal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stemjax.core.errors import InputError


@dataclass(frozen=True)
class Grid:
    """A real-space grid: shape (ny, nx) and sampling (y, x) [Å]. Hashable, so that it can be static under `jax.jit`.

    Args:
        shape: Number of pixels (ny, nx).
        sampling: Size of a pixel (y, x) [Å].

    >>> g = Grid((4, 8), (0.5, 0.25))
    >>> g.extent, g.reciprocal_sampling
    ((2.0, 2.0), (0.5, 0.5))
    """

    shape: tuple[int, int]
    sampling: tuple[float, float]

    @property
    def extent(self) -> tuple[float, float]:
        """Length of the sides (y, x) [Å]."""
        return self.shape[0] * self.sampling[0], self.shape[1] * self.sampling[1]

    @property
    def reciprocal_sampling(self) -> tuple[float, float]:
        """Size of a reciprocal pixel (y, x) [1/Å]."""
        return 1.0 / self.extent[0], 1.0 / self.extent[1]

    @property
    def nyquist(self) -> float:
        """Largest spatial frequency that both axes carry [1/Å]."""
        return 0.5 / max(self.sampling)

    def angular_sampling(self, wavelength: float) -> tuple[float, float]:
        """Size of a reciprocal pixel (y, x) [mrad] for a wavelength [Å]."""
        ky, kx = self.reciprocal_sampling
        return 1e3 * wavelength * ky, 1e3 * wavelength * kx

    def coordinates(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the pixels, y as (ny, 1) and x as (1, nx) [Å]; pixel (0, 0) lies at the origin."""
        y = np.arange(self.shape[0]) * self.sampling[0]
        x = np.arange(self.shape[1]) * self.sampling[1]
        return y[:, None], x[None, :]

    def frequencies(self) -> tuple[np.ndarray, np.ndarray]:
        """Spatial frequencies, ky as (ny, 1) and kx as (1, nx) [1/Å] in double precision; zero in the corner."""
        ky = np.fft.fftfreq(self.shape[0], self.sampling[0])
        kx = np.fft.fftfreq(self.shape[1], self.sampling[1])
        return ky[:, None], kx[None, :]


def make_grid(shape: tuple[int, int] | int, sampling: tuple[float, float] | float) -> Grid:
    """Check and make a `Grid`; a single number stands for both axes.

    >>> make_grid(64, 0.2).extent
    (12.8, 12.8)
    """
    ny, nx = (shape, shape) if isinstance(shape, int) else shape
    sy, sx = (sampling, sampling) if isinstance(sampling, int | float) else sampling
    if min(ny, nx) < 1:
        raise InputError(f"grid shape ({ny}, {nx}) has an empty axis; give at least one pixel on each")
    if not (np.isfinite([sy, sx]).all() and min(sy, sx) > 0):
        raise InputError(f"grid sampling ({sy}, {sx}) Å must be positive and finite")
    return Grid((int(ny), int(nx)), (float(sy), float(sx)))
