"""Going through counts that may lie on the disk, a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

BLOCK = 64 * 2**20
"""Bytes looked at in one go."""


def blocks(counts: Any) -> Iterator[np.ndarray]:
    """The data in pieces of whole scan rows, of about 64 MB."""
    row = max(1, int(np.prod(counts.shape[1:], dtype=object)) * np.dtype(counts.dtype).itemsize)
    step = max(1, BLOCK // row)
    for start in range(0, counts.shape[0], step):
        yield np.asarray(counts[start : start + step])
