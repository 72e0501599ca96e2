r"""Spread points onto a periodic grid so that its Fourier transform holds their exact structure factors in a band.

A point is spread by a Kaiser-Bessel kernel of eight pixels, and the transform is divided by the kernel's own. The grid
needs no finer sampling than the result: what lies beyond the band limit is thrown away anyway, and that is the margin
which keeps the aliases of the kernel out of the band.

Source: J. I. Jackson et al., IEEE Trans. Med. Imaging 10 (1991) 473; P. J. Beatty et al., ibid. 24 (2005) 799.
"""

from __future__ import annotations

from functools import lru_cache

import jax.numpy as jnp
import numpy as np

from stemjax.core.grid import Grid
from stemjax.core.typing import Annotated, Array, Float, Int

WIDTH = 8
"""Width of the kernel [pixel]."""
LARGEST_BAND = 2.0 / 3.0
"""Largest band limit that the kernel serves, as a part of the Nyquist frequency."""
# The first alias of a frequency q (1/pixel) lies at 1 - q; the kernel's transform is small from beta / (pi WIDTH) on.
# The two per cent more make the error least for points both on the pixels and between them.
BETA = 1.02 * np.pi * WIDTH * (1.0 - 0.5 * LARGEST_BAND)
# Of a fit in each pixel, enough that its error stays below the 1e-7 of the kernel itself.
DEGREE = 12


def kernel(distance: np.ndarray) -> np.ndarray:
    r"""Kaiser-Bessel kernel, less what keeps its value and slope from vanishing at the edge.

    .. math:: \phi(d) \propto I_0(\beta s) - 1 - (\beta s / 2)^2, \quad s^2 = 1 - (2 d / w)^2

    A point that moves past a pixel then drops the farthest one without a step in its first derivatives.

    Args:
        distance: d, at most half the width [pixel].

    Returns:
        Weight, 1 at the point itself.

    >>> kernel(np.array([0.0, 4.0])).round(12).tolist()
    [1.0, 0.0]
    """
    argument = BETA * np.sqrt(np.maximum(1.0 - (2.0 * np.asarray(distance, float) / WIDTH) ** 2, 0.0))
    return (np.i0(argument) - 1.0 - argument**2 / 4.0) / (np.i0(BETA) - 1.0 - BETA**2 / 4.0)


@lru_cache(maxsize=1)
def kernel_polynomials() -> Float[np.ndarray, "power node"]:
    """The kernel on its eight nodes as polynomials of the point's place between two pixels, with all derivatives.

    Returns:
        Coefficients, highest power first, in t in [-1, 1], where the point stands (t + 1) / 2 past the fourth node.
    """
    t = np.cos(np.pi * (np.arange(64) + 0.5) / 64)
    distance = (t[:, None] + 1.0) / 2.0 + (WIDTH // 2 - 1) - np.arange(WIDTH)[None, :]
    chebyshev = np.polynomial.chebyshev.chebfit(t, kernel(distance), DEGREE)
    return np.stack([np.polynomial.chebyshev.cheb2poly(column)[::-1] for column in chebyshev.T], axis=1)


def kernel_weights(place: Annotated[Float[Array, "point"], "pixel"]) -> Float[Array, "point node"]:
    """Weight of a point on each of the eight pixels around it.

    Args:
        place: Distance of the point from the pixel before it, 0 to 1.

    >>> import jax.numpy as jnp
    >>> w = kernel_weights(jnp.array([0.5]))
    >>> bool(jnp.allclose(w, w[:, ::-1], atol=1e-6))
    True
    """
    powers = jnp.asarray(kernel_polynomials(), place.dtype)
    t = (2.0 * place - 1.0)[:, None]
    value = jnp.broadcast_to(powers[0][None, :], (place.shape[0], WIDTH))
    for row in powers[1:]:
        value = value * t + row[None, :]
    return value


def kernel_transform(frequency: np.ndarray) -> np.ndarray:
    """Fourier transform of the kernel, by Gauss-Legendre quadrature.

    Args:
        frequency: q, at most LARGEST_BAND / 2 [1/pixel], one axis.

    Returns:
        Transform [pixel], double precision.

    >>> bool(np.all(np.diff(kernel_transform(np.array([0.0, 0.2, 0.33]))) < 0))
    True
    """
    node, weight = np.polynomial.legendre.leggauss(64)
    distance = node * WIDTH / 2.0
    return np.cos(2.0 * np.pi * np.asarray(frequency, float)[:, None] * distance) @ (
        weight * kernel(distance) * WIDTH / 2
    )


def _nodes(
    coordinate: Float[Array, "point"], count: int, sampling: float
) -> tuple[Int[Array, "point node"], Float[Array, "point node"]]:
    """Periodic indices of the eight pixels around each point along one axis, and its weights there."""
    pixel = coordinate / sampling
    before = jnp.floor(pixel)
    index = before.astype(jnp.int32)[:, None] + (jnp.arange(WIDTH, dtype=jnp.int32) - (WIDTH // 2 - 1))[None, :]
    return jnp.mod(index, count), kernel_weights(pixel - before)


def spread(
    positions: Annotated[Float[Array, "point 2"], "Å"],
    weights: Float[Array, "point"],
    layer: Int[Array, "point"],
    layers: int,
    grid: Grid,
) -> Float[Array, "layer ny nx"]:
    """Spread weighted points onto the layers of a periodic grid.

    Args:
        positions: Points (y, x) [Å], anywhere; the grid repeats.
        weights: Weight of every point.
        layer: Layer of every point, 0 to layers - 1.
        layers: Number of layers.
        grid: The grid.

    Returns:
        Sum of the kernels; its transform over `kernel_transform` is the structure factor of each layer.

    >>> import jax.numpy as jnp
    >>> spread(jnp.array([[0.3, 0.4]]), jnp.ones(1), jnp.zeros(1, int), 2, Grid((16, 12), (0.1, 0.1))).shape
    (2, 16, 12)
    """
    rows, along_y = _nodes(positions[:, 0], grid.shape[0], grid.sampling[0])
    columns, along_x = _nodes(positions[:, 1], grid.shape[1], grid.sampling[1])
    values = (weights[:, None] * along_y)[:, :, None] * along_x[:, None, :]
    empty = jnp.zeros((layers, *grid.shape), positions.dtype)
    return empty.at[layer[:, None, None], rows[:, :, None], columns[:, None, :]].add(values)
