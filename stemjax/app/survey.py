"""One pass over the counts of a recording, in pieces: what no likelihood can take, and what looks wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stemjax.core.errors import InputError
from stemjax.forward.recording import Recording
from stemjax.io.blocks import blocks
from stemjax.problems.ptychography.calibration import Calibration
from stemjax.problems.ptychography.settings import DataSettings

HOT_SHARE, HOT_TIMES = 0.2, 50.0
"""A pixel with this share of all counts, or this many times the median of the bright-field disk, is called hot."""


@dataclass(frozen=True)
class Survey:
    """What the counts of a recording are like, after offset, clipping and replacement, before binning.

    Args:
        pattern: Mean pattern [ky kx], in units of the file.
        empty: Patterns without any count.
        patterns: Patterns.
        not_finite: Values that are nan or infinite.
        negative: Values below zero.
        lowest: The lowest value.
        values: Values in all.
    """

    pattern: np.ndarray
    empty: int
    patterns: int
    not_finite: int
    negative: int
    lowest: float
    values: int


def survey(recording: Recording, data: DataSettings) -> Survey:
    """Look at all counts that a configuration selects.

    >>> data = DataSettings(file="a.h5", offset=1)
    >>> survey(Recording(np.ones((2, 2, 4, 4), np.uint8)), data).empty
    4
    """
    total = np.zeros(recording.detector_shape)
    empty = not_finite = negative = size = patterns = 0
    lowest = math.inf
    for block in blocks(_Cropped(recording, data)):
        values = np.asarray(block, np.float32)
        finite = np.isfinite(values)
        if not finite.all():
            not_finite += int((~finite).sum())
            values = np.where(finite, values, np.float32(data.replace_by or 0.0))
        values = values - np.float32(data.offset)
        lowest, negative = min(lowest, float(values.min())), negative + int((values < 0).sum())
        values = np.maximum(values, 0.0) if data.clip else values
        sums = values.sum(axis=(2, 3), dtype=float)
        empty, patterns, size = empty + int((sums <= 0).sum()), patterns + sums.size, size + values.size
        total += values.sum(axis=(0, 1), dtype=float)
    return Survey(total / max(patterns, 1), empty, patterns, not_finite, negative, lowest, size)


class _Cropped:
    """The cropped part of counts as something that `blocks` can slice, so that nothing more is read."""

    def __init__(self, recording: Recording, data: DataSettings) -> None:
        crop, whole = data.crop, recording.scan_shape
        self.counts, self.dtype = recording.counts, recording.counts.dtype
        self.y = (crop.y if crop is not None else None) or (0, whole[0])
        self.x = (crop.x if crop is not None else None) or (0, whole[1])
        self.shape = (self.y[1] - self.y[0], self.x[1] - self.x[0], *recording.detector_shape)

    def __getitem__(self, rows: slice) -> np.ndarray:
        first, end = self.y[0] + rows.start, min(self.y[0] + rows.stop, self.y[1])
        return np.asarray(self.counts[first:end, self.x[0] : self.x[1]])


def refuse(found: Survey, data: DataSettings, noise: str) -> None:
    """Refuse counts as a run would.

    Raises:
        InputError: Values are no numbers, or negative, and nothing is said about them; or all are zero.
    """
    if found.not_finite and data.replace_by is None:
        raise InputError(
            f"{found.not_finite} of {found.values} detector values are nan or infinite; set data.replace_by to the "
            "value they should have"
        )
    if found.negative and not data.clip and noise != "gaussian":
        raise InputError(
            f"{100 * found.negative / found.values:.2g} % of the counts are negative (lowest {found.lowest:.4g}); "
            "electrons are not: set data.offset to the dark level, data.clip: true, or solver.noise: gaussian"
        )
    if not found.pattern.max() > 0:
        raise InputError("the patterns hold no electrons; check data.key, data.crop and data.offset")


def suspicions(found: Survey, known: Calibration, data: DataSettings) -> Iterator[str]:
    """What looks wrong in the counts, and what to do about it."""
    if found.empty:
        yield f"{found.empty} of {found.patterns} patterns are empty (beam off?); leave them out with data.crop"
    sampling = [s / data.bin for s in known.detector_sampling]
    if (hot := hot_pixel(found.pattern, known.semiangle, (sampling[0], sampling[1]))) is not None:
        y, x, share = hot
        yield (
            f"detector pixel ({y}, {x}) holds {100 * share:.2g} % of all counts, it looks hot; set it to the value of "
            "its neighbours in the data"
        )


def hot_pixel(pattern: np.ndarray, semiangle: float, sampling: tuple[float, float]) -> tuple[int, int, float] | None:
    """The brightest pixel of a mean pattern, if it cannot be a part of the bright-field disk.

    The disk has as many pixels as a circle of the semi-angle; the median of that many brightest ones is its level,
    wherever it lies.

    Args:
        pattern: Mean pattern [ky kx].
        semiangle: Convergence semi-angle [mrad].
        sampling: Size of a pixel (y, x) [mrad].

    Returns:
        Its place (y, x) and its share of all counts, or None.

    >>> pattern = np.ones((8, 8))
    >>> pattern[2, 3] = 100.0
    >>> hot_pixel(pattern, 20.0, (5.0, 5.0))[:2]
    (2, 3)
    """
    disk = min(max(int(math.pi * semiangle**2 / (sampling[0] * sampling[1])), 1), pattern.size)
    level = float(np.median(np.sort(pattern, axis=None)[-disk:]))
    y, x = (int(i) for i in np.unravel_index(np.argmax(pattern), pattern.shape))
    share = float(pattern[y, x] / pattern.sum()) if pattern.sum() > 0 else 0.0
    # A disk of a few pixels holds a large share in each of them.
    crowded = share > HOT_SHARE and disk >= 4 / HOT_SHARE
    towers = disk > 2 and level > 0 and pattern[y, x] > HOT_TIMES * level
    return (y, x, share) if crowded or towers else None
