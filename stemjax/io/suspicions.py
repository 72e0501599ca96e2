"""Signs in the counts themselves that their axes are not what they are said to be."""

from __future__ import annotations

from typing import Any

import numpy as np

from stemjax.io.blocks import blocks


def looks_transposed(counts: Any) -> bool:
    r"""Whether the first two axes look like a detector and the last two like a scan.

    The participation :math:`(\sum I)^2 / (N \sum I^2)` is 1 for an even image and small for a bright disk on a dark
    ground. A scan, averaged over the detector, is nearly even; a pattern, averaged over the scan, is not. A detector
    filled by the bright disk is even too, so the data are suspected only if the first two axes are clearly uneven and
    the last two clearly even. Up to 32 pixels along each of the first axes, and of the last ones, are looked at.

    Args:
        counts: Four axes.

    >>> disk = np.hypot(*np.mgrid[-16:16, -16:16]) < 6
    >>> good = np.broadcast_to(disk, (8, 8, 32, 32)) * 10.0
    >>> looks_transposed(good), looks_transposed(good.transpose(2, 3, 0, 1))
    (False, True)
    """
    if min(counts.shape[:2]) < 8 or min(counts.shape[2:]) < 4:
        return False
    rows, columns = (np.unique(np.linspace(0, n - 1, 32).astype(int)) for n in counts.shape[:2])
    steps = [max(1, n // 32) for n in counts.shape[2:]]
    image = np.stack([np.asarray(counts[int(r)])[columns][:, :: steps[0], :: steps[1]] for r in rows]).astype(float)
    first, last = np.nanmean(image, axis=(2, 3)), np.nanmean(image, axis=(0, 1))
    return bool(participation(first) < 0.5 and participation(last) > 0.9)


def participation(image: np.ndarray) -> float:
    """Share of the pixels that carry the intensity: 1 for an even image; 0 for an empty one."""
    square = image.size * float(np.sum(image**2))
    return float(np.sum(image)) ** 2 / square if square > 0 else 0.0


def looks_misshapen(counts: Any) -> bool:
    r"""Whether the two numbers of a scan shape look exchanged.

    In a finely sampled scan a pattern resembles its neighbour in the row and the one below. With patterns numbered by
    :math:`p`, a signal :math:`s_p` (the total, or the centre of mass) is therefore correlated with :math:`s_{p+1}` and
    with :math:`s_{p+n}`, :math:`n` the length of a row. The shape is suspected if the correlations at lag 1 and at the
    other number are at least 0.3, and those of all signals at the given one less than half as large. Square scans are
    never suspected; nor are coarse ones, where neighbours differ, nor even specimens, correlated at every lag.

    Args:
        counts: Four axes [scan_y scan_x ky kx].

    >>> y, x = np.mgrid[:20, :31]
    >>> image = 2.0 + np.sin(0.5 * x + 0.2 * y)
    >>> good = image[:, :, None, None] * np.ones((4, 4))
    >>> looks_misshapen(good), looks_misshapen(good.reshape(31, 20, 4, 4))
    (False, True)
    """
    ny, nx = counts.shape[:2]
    if ny == nx or min(ny, nx) < 4:
        return False
    signals = scan_signals(counts)
    given = max(abs(correlation(s, nx)) for s in signals)
    other = max(min(correlation(s, ny), correlation(s, 1)) for s in signals)
    return other > 0.3 and other > 2 * given


def scan_signals(counts: Any) -> list[np.ndarray]:
    """Total and centre of mass (y, x) of every pattern, in the order of the scan."""
    ky, kx = np.arange(counts.shape[2]), np.arange(counts.shape[3])
    rows: list[np.ndarray] = []
    for block in blocks(counts):
        along_y, along_x = block.sum(axis=3, dtype=float), block.sum(axis=2, dtype=float)
        total = along_y.sum(axis=2)
        weight = np.where(total > 0, total, 1.0)
        rows.append(np.stack([total, along_y @ ky / weight, along_x @ kx / weight]))
    return [s.ravel() for s in np.concatenate(rows, axis=1)]


def correlation(signal: np.ndarray, lag: int) -> float:
    """Pearson's correlation of a signal with itself a lag later; 0 for a constant one."""
    a, b = signal[:-lag] - signal[:-lag].mean(), signal[lag:] - signal[lag:].mean()
    norm = float(np.sqrt(np.sum(a**2) * np.sum(b**2)))
    scale = float(np.sum(signal**2))
    return float(np.sum(a * b)) / norm if norm > 1e-12 * scale else 0.0
