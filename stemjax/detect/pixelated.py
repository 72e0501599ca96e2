"""Pixelated detectors: crop, bin, and the turn between corner and centre."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.core.typing import Array


@dataclass(frozen=True)
class PixelatedDetector:
    """Which part of the reciprocal grid is recorded, and how finely; hashable.

    Args:
        shape: Number of recorded pixels (y, x), after binning.
        bin: Reciprocal grid pixels summed in each (y, x).
    """

    shape: tuple[int, int]
    bin: tuple[int, int] = (1, 1)


def make_pixelated_detector(
    grid: Grid, *, shape: tuple[int, int] | None = None, bin: tuple[int, int] = (1, 1)
) -> PixelatedDetector:
    """A pixelated detector that fits a grid.

    Args:
        grid: Real-space grid of the wave.
        shape: Recorded pixels (y, x) after binning; all that fit if left out.
        bin: Binning (y, x).

    Raises:
        InputError: The detector is larger than the reciprocal grid.

    >>> make_pixelated_detector(Grid((64, 64), (0.1, 0.1)), bin=(2, 2)).shape
    (32, 32)
    """
    shape = shape or (grid.shape[0] // bin[0], grid.shape[1] // bin[1])
    needed = shape[0] * bin[0], shape[1] * bin[1]
    if needed[0] > grid.shape[0] or needed[1] > grid.shape[1]:
        raise InputError(
            f"a detector of {shape[0]} × {shape[1]} pixels binned {bin[0]} × {bin[1]} needs {needed[0]} × {needed[1]} "
            f"reciprocal pixels; the grid has {grid.shape[0]} × {grid.shape[1]}. Use a finer sampling or fewer pixels"
        )
    return PixelatedDetector((shape[0], shape[1]), (bin[0], bin[1]))


def record(detector: PixelatedDetector, pattern: Array) -> Array:
    """What the detector keeps of a pattern.

    Args:
        detector: The detector.
        pattern: Intensities [ny nx], zero frequency in the corner.

    Returns:
        Intensities [ky kx], zero frequency in the corner. An odd binning is centred on the zero frequency; an even one
        begins half a bin before it, as a camera binned about the middle of its chip does.

    >>> record(PixelatedDetector((2, 2)), np.arange(16.0).reshape(4, 4)).tolist()
    [[0.0, 3.0], [12.0, 15.0]]
    """
    if detector.shape == pattern.shape and detector.bin == (1, 1):
        return pattern
    rows, columns = (_order(n, size, b) for n, size, b in zip(detector.shape, pattern.shape, detector.bin, strict=True))
    kept = pattern[rows][:, columns]
    return kept.reshape(detector.shape[0], detector.bin[0], detector.shape[1], detector.bin[1]).sum(axis=(1, 3))


def _order(pixels: int, size: int, bin: int) -> np.ndarray:
    """Indices into the corner-centred axis so that runs of `bin` make up the recorded pixels, zero frequency first."""
    first = np.fft.ifftshift(np.arange(pixels) - pixels // 2) * bin - bin // 2
    return (first[:, None] + np.arange(bin)[None]).ravel() % size


def centred(pattern: np.ndarray | Array) -> np.ndarray:
    """Patterns with zero frequency in the centre, for plots and files; acts on the last two axes.

    >>> centred(np.eye(2)[:1].repeat(2, 0) * np.array([[1, 0]])).tolist()
    [[0.0, 1.0], [0.0, 1.0]]
    """
    return np.fft.fftshift(np.asarray(pattern), axes=(-2, -1))


def cornered(pattern: np.ndarray) -> np.ndarray:
    """Patterns with zero frequency in the corner, as they are inside; undoes `centred`.

    >>> bool((cornered(centred(np.arange(15.0).reshape(3, 5))) == np.arange(15.0).reshape(3, 5)).all())
    True
    """
    return np.fft.ifftshift(np.asarray(pattern), axes=(-2, -1))
