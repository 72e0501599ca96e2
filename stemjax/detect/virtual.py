"""Virtual detectors: images from recorded patterns after the fact, and re-binning of patterns."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.core.typing import Annotated, Array, real
from stemjax.optics.electron import wavelength

BLOCK = 2**24
"""Detector pixels held in memory at once when patterns are read from a file."""


class VirtualDetector(struct.PyTreeNode):
    """A detector of any shape, one weight a pixel; made by `make_virtual_detector`.

    Args:
        weights: Weights [ny nx] or [channel ny nx] on the reciprocal grid, zero frequency in the corner.
    """

    weights: Array

    @property
    def reach(self) -> float:
        """0: it looks at the grid's own pixels."""
        return 0.0

    def response(self, grid: Grid, energy: float) -> Array:  # noqa: ARG002 - the weights belong to pixels, not angles
        """The weights, if they fit the grid."""
        if self.weights.shape[-2:] != grid.shape:
            raise InputError(
                f"weights of {self.weights.shape[-2:]} pixels for a reciprocal grid of {grid.shape}; give one weight a "
                "pixel, zero frequency in the corner (numpy.fft.ifftshift), or describe the detector by its angles"
            )
        return self.weights


def make_virtual_detector(weights: np.ndarray | Array) -> VirtualDetector:
    """A detector from its weights, checked.

    Args:
        weights: Weights [ny nx] or [channel ny nx], zero frequency in the corner.

    Raises:
        InputError: The weights are not finite, or no image.

    >>> make_virtual_detector(np.ones((4, 4))).response(Grid((4, 4), (0.2, 0.2)), 80e3).shape
    (4, 4)
    """
    values = np.asarray(weights, dtype=float)
    if values.ndim not in (2, 3) or not values.size:
        raise InputError(f"weights of shape {values.shape}; give [ny nx] or [channel ny nx]")
    if not np.isfinite(values).all():
        raise InputError(f"{int((~np.isfinite(values)).sum())} weights are not finite; use 0 for pixels to leave out")
    return VirtualDetector(real(values))


def pattern_grid(
    shape: tuple[int, int], sampling: Annotated[tuple[float, float] | float, "mrad"], energy: Annotated[float, "eV"]
) -> Grid:
    r"""The real-space grid whose reciprocal is a recorded pattern, so that any detector can respond on it.

    .. math:: s = \frac{\lambda}{N \Delta\alpha}

    Args:
        shape: Detector pixels (y, x).
        sampling: Size of a detector pixel (y, x) [mrad].
        energy: Beam energy [eV].

    >>> round(pattern_grid((100, 100), 1.0, 80e3).angular_sampling(wavelength(80e3))[0], 9)
    1.0
    """
    sizes = (sampling, sampling) if isinstance(sampling, int | float) else sampling
    if not min(sizes) > 0:
        raise InputError(f"a detector pixel of {sampling} mrad; give a positive size, such as 1 mrad")
    pixels = tuple(1e3 * wavelength(energy) / (n * s) for n, s in zip(shape, sizes, strict=True))
    return Grid((int(shape[0]), int(shape[1])), (pixels[0], pixels[1]))


def blocks(patterns: np.ndarray, size: int = BLOCK) -> Iterator[tuple[slice, np.ndarray]]:
    """Read patterns in blocks of whole scan rows, as [pattern ky kx] in double precision.

    Args:
        patterns: Counts [... ky kx], of at least one scan axis: a numpy array, a memmap or an h5py dataset.
        size: Detector pixels in one block, at least one row of the first axis.

    Yields:
        The block's place in the flat list of patterns, and its patterns.

    >>> [b.shape for _, b in blocks(np.zeros((3, 2, 4, 4)), 64)]
    [(4, 4, 4), (2, 4, 4)]
    """
    row = math.prod(patterns.shape[1:-2])
    step = max(1, size // max(1, row * math.prod(patterns.shape[-2:])))
    for first in range(0, patterns.shape[0], step):
        block = np.asarray(patterns[first : first + step], dtype=float).reshape(-1, *patterns.shape[-2:])
        yield slice(first * row, first * row + len(block)), block


def virtual_image(patterns: np.ndarray, response: np.ndarray | Array, *, size: int = BLOCK) -> np.ndarray:
    """Image of a virtual detector: the sum of response times counts of every pattern.

    Args:
        patterns: Counts [... ky kx]: an array, or anything that numpy can slice along its first axis (a memmap, an
            h5py dataset), read block by block.
        response: Weights [ky kx] or [channel ky kx] **in the layout of the patterns**: for files, whose zero frequency
            is in the middle, turn a detector's response by `stemjax.detect.pixelated.centred`.
        size: Detector pixels read at once.

    Returns:
        Image [...], or images [channel ...], in double precision.

    Raises:
        InputError: Response and patterns have different pixels.

    >>> virtual_image(np.ones((2, 3, 4, 4)), np.ones((4, 4))).tolist()
    [[16.0, 16.0, 16.0], [16.0, 16.0, 16.0]]
    """
    weights = np.asarray(response, dtype=float)
    if weights.ndim not in (2, 3) or weights.shape[-2:] != tuple(patterns.shape[-2:]):
        raise InputError(
            f"a response of shape {weights.shape} for patterns of {tuple(patterns.shape[-2:])} pixels; give [ky kx] or "
            "[channel ky kx] in the layout of the patterns"
        )
    if patterns.ndim == 2:
        return np.tensordot(weights, np.asarray(patterns, dtype=float), axes=([-2, -1], [0, 1]))
    stack = weights.reshape(-1, weights.shape[-2] * weights.shape[-1])
    image = np.empty((len(stack), math.prod(patterns.shape[:-2])))
    for place, block in blocks(patterns, size):
        image[:, place] = stack @ block.reshape(len(block), -1).T
    return image.reshape(*weights.shape[:-2], *patterns.shape[:-2])


def rebin(patterns: np.ndarray, bin: int | tuple[int, int]) -> np.ndarray:
    """Sum blocks of detector pixels of recorded patterns; every count is kept.

    Args:
        patterns: Counts [... ky kx].
        bin: Pixels (y, x) that become one; one number for both.

    Returns:
        Counts [... ky/bin kx/bin]; integers stay integers, wide enough not to overflow.

    Raises:
        InputError: The detector is no multiple of the bin.

    >>> rebin(np.ones((1, 4, 6), dtype=np.uint8), (2, 3)).tolist()
    [[[6, 6], [6, 6]]]
    """
    by, bx = (bin, bin) if isinstance(bin, int) else bin
    ny, nx = patterns.shape[-2:]
    if min(by, bx) < 1:
        raise InputError(f"bins of {by} × {bx} pixels; give whole numbers from 1 on")
    if ny % by or nx % bx:
        raise InputError(
            f"patterns of {ny} × {nx} pixels are no multiple of bins of {by} × {bx}; crop them to "
            f"{ny - ny % by} × {nx - nx % bx} first: patterns[..., :{ny - ny % by}, :{nx - nx % bx}]"
        )
    return patterns.reshape(*patterns.shape[:-2], ny // by, by, nx // bx, bx).sum(axis=(-3, -1))
