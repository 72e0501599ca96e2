"""Counts that stay on the disk until they are sliced."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from stemjax.core.errors import InputError
from stemjax.io.atomic import size_text
from stemjax.io.failures import reading


@dataclass(frozen=True)
class LazyCounts:
    """Patterns [scan_y scan_x ky kx] of a file, read where they are sliced.

    Args:
        source: What is sliced: an h5py dataset, a memory map or a dask array, with the axes [scan_y scan_x ky kx] or
            [pattern ky kx].
        scan_shape: Number of scan positions (y, x); pattern p of a stack is at (p // x, p % x).
        path: The file, for messages.
    """

    source: Any
    scan_shape: tuple[int, int]
    path: str

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Length of the axes [scan_y scan_x ky kx]."""
        return (*self.scan_shape, self.source.shape[-2], self.source.shape[-1])

    @property
    def dtype(self) -> np.dtype:
        """Type of a number."""
        return np.dtype(self.source.dtype)

    @property
    def ndim(self) -> int:
        """Four."""
        return 4

    @property
    def size(self) -> int:
        """Number of numbers."""
        return int(np.prod(self.shape, dtype=object))

    @property
    def nbytes(self) -> int:
        """Memory that all of it would take [byte]."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.scan_shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        index = index if isinstance(index, tuple) else (index,)
        with reading(self.path, "patterns"):
            if self.source.ndim == 4:
                return native(self.source[index])
            return native(self.from_stack(index))

    def from_stack(self, index: tuple) -> np.ndarray:
        """The slice of a stack [pattern ky kx] that an index of the raster means."""
        index = expanded(index)
        pattern = np.arange(self.scan_shape[0] * self.scan_shape[1]).reshape(self.scan_shape)[index[:2]]
        if pattern.ndim == 0:
            return np.asarray(self.source[(int(pattern), *index[2:])])
        flat = pattern.ravel()
        if flat.size and np.array_equal(flat, np.arange(flat[0], flat[0] + flat.size)):
            patterns = np.asarray(self.source[(slice(int(flat[0]), int(flat[-1]) + 1), *index[2:])])
        else:
            empty = np.empty((0, *np.empty(self.shape[2:], np.int8)[index[2:]].shape), self.dtype)
            patterns = np.stack([np.asarray(self.source[(int(p), *index[2:])]) for p in flat]) if flat.size else empty
        return patterns.reshape(pattern.shape + patterns.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("counts on the disk cannot become an array without a copy")
        values = loaded(self)
        return values if dtype is None else values.astype(dtype)


def expanded(index: tuple) -> tuple:
    """An index of four entries from one with fewer or with an ellipsis."""
    if any(i is Ellipsis for i in index):
        where = next(n for n, i in enumerate(index) if i is Ellipsis)
        index = index[:where] + (slice(None),) * (5 - len(index)) + index[where + 1 :]
    return index + (slice(None),) * (4 - len(index))


def loaded(counts: LazyCounts) -> np.ndarray:
    """All of the counts in memory; refused where the machine has less memory than they take."""
    check_memory(counts.nbytes, counts.shape, counts.dtype, counts.path)
    values = counts[:]
    # A view of a memory map would die with its file.
    return np.array(values) if isinstance(counts.source, np.memmap) else values


def native(values: Any) -> np.ndarray:
    """Numbers in this machine's byte order, as jax wants them; truth values as 0 and 1.

    >>> native(np.array([1, 2], ">u2")).dtype.isnative
    True
    """
    array = np.asarray(values)
    if array.dtype == bool:
        return array.astype(np.uint8)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def check_memory(needed: int, shape: tuple[int, ...], dtype: Any, path: str) -> None:
    """Refuse an array that is larger than the machine's memory."""
    try:
        present = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not every system tells
        return
    if needed > present:
        raise InputError(
            f"{path}: {shape} {dtype} takes {size_text(needed)}, the machine has {size_text(present)}; "
            "crop it (data.crop), or read it with lazy=True"
        )
