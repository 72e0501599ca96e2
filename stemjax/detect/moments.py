"""Moments of diffraction patterns: centre of mass, second moments, position averages."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.core.typing import Annotated, Array, Float, Scalar, real, typed
from stemjax.detect.annular import AnnularDetector, annular_response, detector_angles
from stemjax.detect.virtual import blocks, virtual_image


class MomentDetector(struct.PyTreeNode):
    """First or second moments of the pattern about a point; made by `make_moment_detector`.

    The signal is a sum, not a mean: divide by the electrons inside (`deflection`).

    Args:
        outer: Outer angle of the disk that is looked at [mrad], or None for the whole grid.
        offset: The point about which moments are taken, and centre of the disk (y, x) [mrad].
        order: 1 for channels [y, x] in mrad, 2 for channels [yy, xx, yx] in mrad².
        soft: Whether the disk's edge is one reciprocal pixel wide (differentiable) or sharp.
    """

    outer: Annotated[Array, "mrad"] | None
    offset: Annotated[Array, "mrad"]
    order: int = struct.field(pytree_node=False, default=1)
    soft: bool = struct.field(pytree_node=False, default=False)

    @property
    def reach(self) -> float:
        """Largest angle against the optic axis [mrad]; 0 if the whole grid is taken."""
        return 0.0 if self.outer is None else float(self.outer) + math.hypot(*map(float, self.offset))

    def response(self, grid: Grid, energy: float) -> Array:
        """Weights of the reciprocal grid's pixels [channel ny nx]."""
        return moment_response(self, grid, energy)


def make_moment_detector(
    outer: Annotated[float, "mrad"] | None = None,
    *,
    order: int = 1,
    offset: Annotated[tuple[float, float], "mrad"] = (0.0, 0.0),
    soft: bool = False,
) -> MomentDetector:
    """A detector of moments, checked.

    Args:
        outer: Outer angle [mrad]; the whole grid if left out.
        order: 1 or 2.
        offset: Point of reference (y, x) [mrad].
        soft: Soft edge, needed for gradients in the angle.

    Raises:
        InputError: The disk is empty or the order is neither 1 nor 2.

    >>> make_moment_detector(40.0).order
    1
    """
    if outer is not None and not outer > 0:
        raise InputError(f"a disk of {outer:g} mrad is empty; give a positive outer angle, or None for the whole grid")
    if order not in (1, 2):
        raise InputError(f"moments of order {order} are not offered; use 1 (centre of mass) or 2")
    return MomentDetector(None if outer is None else real(outer), real(offset), order, soft)


@typed
def moment_response(
    detector: MomentDetector, grid: Grid, energy: Annotated[float, "eV"]
) -> Float[Array, "channel ny nx"]:
    r"""Response of a detector of moments: the angles themselves, or their products, inside the disk.

    .. math:: R_i = \alpha_i, \qquad R_{ij} = \alpha_i \alpha_j, \qquad \alpha = \lambda k - \alpha_0

    An axis with an even number of pixels has one frequency, at Nyquist, whose sign is undefined; it weighs nothing
    where the whole grid is taken.

    Returns:
        First order [2 ny nx], channels y, x [mrad]; second order [3 ny nx], channels yy, xx, yx [mrad²]; zero frequency
        in the corner.

    >>> moment_response(make_moment_detector(20.0), Grid((8, 8), (0.5, 0.5)), 80e3).shape
    (2, 8, 8)
    """
    y, x = detector_angles(grid, energy, detector.offset)
    if detector.outer is None:
        inside = real(np.outer(*(np.where(2 * np.arange(n) == n, 0.0, 1.0) for n in grid.shape)))
    else:
        disk = AnnularDetector(jnp.zeros_like(detector.outer), detector.outer, detector.offset, detector.soft)
        inside = annular_response(disk, grid, energy)
    maps = [y, x] if detector.order == 1 else [y**2, x**2, y * x]
    return jnp.stack([inside * m for m in maps])


@typed
def deflection(
    moments: Float[Array, "2 ..."], electrons: Float[Array, "..."] | Scalar
) -> Annotated[Float[Array, "2 ..."], "mrad"]:
    """Mean deflection of the electrons: first moments over the electrons in the same disk; 0 where there are none.

    Args:
        moments: Signals of a `MomentDetector` of order 1 [2 ...] [mrad electron].
        electrons: Electrons in the same disk [...].

    Returns:
        Deflection (y, x) [2 ...] [mrad].

    >>> deflection(jnp.array([[2.0], [0.0]]), jnp.array([4.0])).ravel().tolist()
    [0.5, 0.0]
    """
    electrons = jnp.broadcast_to(real(electrons), moments.shape)
    some = electrons > 0
    return jnp.where(some, moments / jnp.where(some, electrons, 1.0), 0.0)


def centre_of_mass(
    patterns: np.ndarray,
    sampling: Annotated[tuple[float, float] | float, "mrad"],
    *,
    mask: np.ndarray | None = None,
    centre: Annotated[tuple[float, float], "pixel"] | None = None,
) -> Annotated[np.ndarray, "mrad"]:
    """Centre of mass of recorded patterns, after the fact.

    Args:
        patterns: Counts [... ky kx], zero frequency near the middle, as in a file; any array that can be sliced.
        sampling: Size of a detector pixel (y, x) [mrad].
        mask: Weight of every pixel [ky kx]: 0 for what is to be left out.
        centre: Pixel (y, x) of the optic axis; n // 2 if left out.

    Returns:
        Deflection (y, x) [2 ...] [mrad]; 0 where a pattern is empty.

    >>> centre_of_mass(np.eye(4)[None, 3:] * np.ones((1, 4, 1)), 2.0).ravel().tolist()
    [-1.0, 2.0]
    """
    y, x, weight = _offsets(patterns.shape[-2:], sampling, mask, centre)
    total, first_y, first_x = virtual_image(patterns, np.stack([weight, weight * y, weight * x]))
    return np.stack([first_y, first_x]) / np.where(total > 0, total, np.inf)


def second_moments(
    patterns: np.ndarray,
    sampling: Annotated[tuple[float, float] | float, "mrad"],
    *,
    mask: np.ndarray | None = None,
    centre: Annotated[tuple[float, float], "pixel"] | None = None,
) -> np.ndarray:
    """Covariance of the angles in recorded patterns about their own centre of mass: the width of each pattern.

    Args:
        patterns: Counts [... ky kx], zero frequency near the middle.
        sampling: Size of a detector pixel (y, x) [mrad].
        mask: Weight of every pixel [ky kx].
        centre: Pixel (y, x) near which the patterns lie; n // 2 if left out. It affects rounding only.

    Returns:
        Covariances yy, xx, yx [3 ...] [mrad²]; 0 where a pattern is empty.

    >>> second_moments(np.array([[1.0, 0.0, 1.0]]), 2.0).tolist()
    [0.0, 4.0, 0.0]
    """
    y, x, weight = _offsets(patterns.shape[-2:], sampling, mask, centre)
    sums = virtual_image(patterns, np.stack([weight * m for m in (1.0 + 0 * y * x, y, x, y * y, x * x, y * x)]))
    m_y, m_x, yy, xx, yx = sums[1:] / np.where(sums[0] > 0, sums[0], np.inf)
    return np.stack([yy - m_y**2, xx - m_x**2, yx - m_y * m_x])


def position_average(patterns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance over all probe positions: the position-averaged pattern (PACBED) and what varies about it.

    The variance holds the electrons' own (equal to the mean, for Poisson counts) besides the specimen's.
    Source of the use: LeBeau, Findlay, Allen, Stemmer, Ultramicroscopy 110 (2010) 118.

    Args:
        patterns: Counts [... ky kx]; any array that can be sliced.

    Returns:
        Mean [ky kx] and variance [ky kx].

    >>> mean, variance = position_average(np.array([[[1.0]], [[3.0]]]))
    >>> float(mean[0, 0]), float(variance[0, 0])
    (2.0, 1.0)
    """
    count, mean, spread = 0, np.zeros(patterns.shape[-2:]), np.zeros(patterns.shape[-2:])
    for _, block in blocks(patterns):
        more, average = len(block), block.mean(axis=0)
        step = average - mean
        # Blocks are merged about their own means, so that no large squares are subtracted.
        spread += ((block - average) ** 2).sum(axis=0) + step**2 * (count * more / (count + more))
        count, mean = count + more, mean + step * (more / (count + more))
    return mean, spread / count


def _offsets(
    shape: tuple[int, ...],
    sampling: tuple[float, float] | float,
    mask: np.ndarray | None,
    centre: tuple[float, float] | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Angles y (ky, 1) and x (1, kx) [mrad] against the optic axis, and the weights (ky, kx)."""
    sizes = (sampling, sampling) if isinstance(sampling, int | float) else sampling
    middle = (shape[0] // 2, shape[1] // 2) if centre is None else centre
    if mask is not None and np.shape(mask) != tuple(shape):
        raise InputError(
            f"a mask of shape {np.shape(mask)} for patterns of {tuple(shape)} pixels; give one weight a pixel"
        )
    y = (np.arange(shape[0]) - middle[0])[:, None] * float(sizes[0])
    x = (np.arange(shape[1]) - middle[1])[None, :] * float(sizes[1])
    return y, x, np.ones(shape) if mask is None else np.asarray(mask, dtype=float)
