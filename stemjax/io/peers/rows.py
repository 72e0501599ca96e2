"""The shape of the image that a list of positions fills, for files that do not tell it."""

from __future__ import annotations

import numpy as np

FEWEST = 4
"""Points in a line from which on its length can be told."""


def raster_shape(positions: np.ndarray) -> tuple[int, int] | None:
    """Lines and points of a line, from the jumps to the start of the next line; None where there are none.

    Args:
        positions: Positions in the order of time [pattern 2].

    >>> y, x = np.mgrid[:3, :5] * 0.5
    >>> raster_shape(np.stack([y.ravel(), x.ravel()], axis=1))
    (3, 5)
    """
    moves = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    if len(moves) < FEWEST:
        return None
    jumps = np.flatnonzero(moves > 2.5 * np.median(moves)) + 1
    if not len(jumps):
        return None
    length, count = int(jumps[0]), len(positions)
    if length < FEWEST or count % length or not np.array_equal(jumps, np.arange(length, count, length)):
        return None
    return count // length, length
