"""Going through counts that may lie on the disk, or are still being made, a piece at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from stemjax.core.errors import InputError

BLOCK = 64 * 2**20
"""Bytes looked at in one go."""


@dataclass(frozen=True)
class PatternStream:
    """Patterns that come one block after the other and never lie in memory together; for the writers, once.

    Args:
        source: Blocks of patterns in scan order, each [pattern ky kx] of any number of patterns, or whole rows
            [scan_y scan_x ky kx]; zero frequency in the centre.
        shape: Shape of all of it [scan_y scan_x ky kx].
        dtype: Type of a number in the file.

    >>> stream = PatternStream(iter([np.ones((2, 4, 4)), np.ones((4, 4, 4))]), (2, 3, 4, 4), np.dtype("uint16"))
    >>> [b.shape for b in blocks(stream)]
    [(2, 3, 4, 4)]
    """

    source: Iterable[np.ndarray]
    shape: tuple[int, int, int, int]
    dtype: np.dtype

    @property
    def ndim(self) -> int:
        """Four."""
        return 4

    @property
    def size(self) -> int:
        """Number of numbers."""
        return int(np.prod(self.shape, dtype=object))


def blocks(counts: Any) -> Iterator[np.ndarray]:
    """The data in pieces of whole scan rows, of about 64 MB; a stream in the pieces that it comes in."""
    if isinstance(counts, PatternStream):
        yield from whole_rows(counts)
        return
    row = max(1, int(np.prod(counts.shape[1:], dtype=object)) * np.dtype(counts.dtype).itemsize)
    step = max(1, BLOCK // row)
    for start in range(0, counts.shape[0], step):
        yield np.asarray(counts[start : start + step])


def whole_rows(stream: PatternStream) -> Iterator[np.ndarray]:
    """The blocks of a stream cut at the ends of rows, in the type of the stream."""
    rows, columns, *pattern = stream.shape
    rest, done = np.zeros((0, *pattern), stream.dtype), 0
    for block in stream.source:
        fresh = fitted(np.asarray(block), stream)
        rest = np.concatenate([rest, fresh]) if len(rest) else fresh
        ready = len(rest) // columns
        done += ready
        if done > rows:
            raise InputError(f"the blocks hold more than the {rows * columns} patterns of the scan {stream.shape[:2]}")
        if ready:
            yield rest[: ready * columns].reshape(ready, columns, *pattern)
            rest = rest[ready * columns :].copy()
    if done < rows or len(rest):
        count = done * columns + len(rest)
        raise InputError(f"the blocks hold {count} patterns, the scan {stream.shape[:2]} has {rows * columns}")


def fitted(block: np.ndarray, stream: PatternStream) -> np.ndarray:
    """A block as [pattern ky kx] in the stream's type; refused where its numbers do not fit that."""
    if block.ndim not in (3, 4) or block.shape[-2:] != stream.shape[2:]:
        raise InputError(f"a block of patterns of shape {block.shape}; wanted [pattern ky kx] with {stream.shape[2:]}")
    flat = block.reshape(-1, *block.shape[-2:])
    if stream.dtype.kind in "iu" and flat.size:
        limits = np.iinfo(stream.dtype)
        least, most = flat.min(), flat.max()
        if not (limits.min <= least and most <= limits.max):
            raise InputError(f"counts from {least:g} to {most:g} do not fit {stream.dtype}; give a wider dtype")
    return flat.astype(stream.dtype, copy=False)
