"""Cosine series of an image, evaluated on another grid: resampling and shifting in one step."""

from __future__ import annotations

import numpy as np


def interpolation_matrix(size: int, sampling: float, positions: np.ndarray, cutoff: float = np.inf) -> np.ndarray:
    r"""Matrix that evaluates the cosine series of `size` samples at arbitrary positions.

    .. math:: W_{ij} = \frac{1}{n} \Big[1 + 2 \sum_{m=1}^{n-1} \cos \frac{\pi m (r_i / h + 1/2)}{n}
        \cos \frac{\pi m (j + 1/2)}{n}\Big], \quad \frac{m}{2 n h} \le c

    The image at other positions is then ``Wy @ image @ Wx.T``. The cosine series is the Fourier series of the image
    with its mirror image: it has no jump at the border, so that images that are not periodic do not ring there.

    Args:
        size: Number of samples n.
        sampling: Distance of the samples h [Å].
        positions: Where to evaluate, r [Å], (m,); sample 0 lies at 0.
        cutoff: Highest spatial frequency c to keep [1/Å].

    Returns:
        W, (m, size).

    >>> samples = np.cos(np.pi * 2 * (np.arange(8) + 0.5) / 8)
    >>> W = interpolation_matrix(8, 0.5, np.array([0.25]))
    >>> np.allclose(W @ samples, np.cos(np.pi * 2 * (0.25 / 0.5 + 0.5) / 8))
    True
    """
    order, to_series = _analysis(size, sampling, cutoff)
    return np.cos(np.pi * np.outer(positions / sampling + 0.5, order) / size) @ to_series


def derivative_matrix(size: int, sampling: float, positions: np.ndarray, cutoff: float = np.inf) -> np.ndarray:
    """Derivative of `interpolation_matrix` in the positions [1/Å]; the same arguments and shape.

    >>> samples = np.cos(np.pi * (np.arange(8) + 0.5) / 8)
    >>> np.allclose(derivative_matrix(8, 0.5, np.array([1.75])) @ samples, -np.pi / 4)
    True
    """
    order, to_series = _analysis(size, sampling, cutoff)
    rate = np.pi * order / (size * sampling)
    return -np.sin(np.outer(positions + 0.5 * sampling, rate)) @ (rate[:, None] * to_series)


def _analysis(size: int, sampling: float, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """Orders m of the cosine series up to the cutoff (k,), and the matrix from samples to coefficients (k, size)."""
    order = np.arange(size)
    order = order[order <= cutoff * 2 * size * sampling * (1 + 1e-9)]
    weight = np.where(order == 0, 1.0, 2.0) / size
    return order, weight[:, None] * np.cos(np.pi * np.outer(order, np.arange(size) + 0.5) / size)


def resample(
    image: np.ndarray,
    sampling: tuple[float, float],
    shape: tuple[int, int],
    new_sampling: tuple[float, float],
    *,
    shift: tuple[float, float] = (0.0, 0.0),
) -> np.ndarray:
    """An image on another grid, low-passed to the new grid's Nyquist frequency, and moved by `shift`.

    Args:
        image: Real image (ny, nx), pixel (0, 0) at the origin.
        sampling: Its pixel size (y, x) [Å].
        shape: Number of pixels (y, x) of the new grid, whose pixel (0, 0) is also at the origin.
        new_sampling: Pixel size (y, x) of the new grid [Å].
        shift: Displacement (y, x) of the image's content [Å].

    Returns:
        The new image, `shape`; NaN where the old one has no samples.

    >>> new = resample(np.ones((8, 8)), (1.0, 1.0), (4, 4), (2.0, 2.0))
    >>> new.shape, bool(np.allclose(new, 1.0))
    ((4, 4), True)
    """
    weights, inside = [], []
    for axis in range(2):
        positions = np.arange(shape[axis]) * new_sampling[axis] - shift[axis]
        weights.append(interpolation_matrix(image.shape[axis], sampling[axis], positions, 0.5 / new_sampling[axis]))
        # Half a pixel of room: there the series still interpolates what a pixel stands for.
        last = (image.shape[axis] - 0.5) * sampling[axis]
        inside.append((positions >= -0.5 * sampling[axis] - 1e-9) & (positions <= last + 1e-9))
    new = weights[0] @ image @ weights[1].T
    return np.where(inside[0][:, None] & inside[1][None, :], new, np.nan)
