"""The scanned field of an object: outside of it the data say little, and the phase is noise."""

from __future__ import annotations

import numpy as np

FEWEST_PIXELS = 16
"""A field of fewer pixels than this is not worth a crop or a colour range of its own."""


def scan_hull(positions: np.ndarray | None) -> np.ndarray | None:
    """Convex hull of the scan positions; a parallelogram for a raster, turned or sheared as it may be.

    Args:
        positions: Scan positions (pattern, 2), (y, x) [Å].

    Returns:
        Corners (corner, 2), (y, x) [Å], in order around the field; None where it has no area.

    >>> raster = np.stack(np.meshgrid(np.arange(4.0), np.arange(3.0), indexing="ij"), -1).reshape(-1, 2)
    >>> sorted(scan_hull(raster).tolist())
    [[0.0, 0.0], [0.0, 2.0], [3.0, 0.0], [3.0, 2.0]]
    """
    from scipy.spatial import ConvexHull, QhullError

    if positions is None or len(positions) < 3 or not np.isfinite(positions).all():
        return None
    try:
        return np.asarray(positions[ConvexHull(positions).vertices], float)
    except QhullError:  # all on a line
        return None


def inside(shape: tuple[int, ...], sampling: tuple[float, float], hull: np.ndarray | None) -> np.ndarray:
    """Pixels of an image whose centres lie in a convex polygon, pixel (0, 0) at the origin.

    Args:
        shape: Pixels of the image (ny, nx).
        sampling: Pixel size (y, x) [Å].
        hull: Corners (corner, 2), (y, x) [Å], in order.

    Returns:
        Mask (ny, nx); all of the image where there is no polygon or it holds fewer than `FEWEST_PIXELS`.

    >>> square = np.array([[2.0, 2.0], [2.0, 7.0], [7.0, 7.0], [7.0, 2.0]])
    >>> int(inside((10, 10), (1.0, 1.0), square).sum())
    36
    """
    everything = np.ones(shape, bool)
    if hull is None:
        return everything
    y = np.arange(shape[0])[:, None] * sampling[0]
    x = np.arange(shape[1])[None, :] * sampling[1]
    sides = []
    for (y0, x0), (y1, x1) in zip(hull, np.roll(hull, -1, axis=0), strict=True):
        sides.append((y1 - y0) * (x - x0) - (x1 - x0) * (y - y0))
    # In a convex polygon a point lies on the same side of every edge; which one depends on the sense of the corners.
    slack = 1e-9 * float(np.ptp(hull)) ** 2
    mask = np.all([side >= -slack for side in sides], axis=0) | np.all([side <= slack for side in sides], axis=0)
    return mask if mask.sum() >= FEWEST_PIXELS else everything


def window(
    shape: tuple[int, ...], sampling: tuple[float, float], hull: np.ndarray | None, margin: float = 0.0
) -> tuple[slice, slice]:
    """Rows and columns around a polygon and a margin [Å]; all of the image where that leaves fewer than 4 × 4 pixels.

    >>> window((9, 9), (1.0, 1.0), np.array([[2.0, 2.0], [2.0, 6.0], [6.0, 2.0]]), 1.0)
    (slice(1, 8, None), slice(1, 8, None))
    """
    whole = slice(0, shape[0]), slice(0, shape[1])
    if hull is None:
        return whole
    low = np.ceil((hull.min(axis=0) - margin) / sampling - 1e-9).astype(int)
    high = np.floor((hull.max(axis=0) + margin) / sampling + 1e-9).astype(int) + 1
    rows, columns = (slice(max(0, int(a)), min(n, int(b))) for a, b, n in zip(low, high, shape, strict=True))
    return (rows, columns) if min(rows.stop - rows.start, columns.stop - columns.start) >= 4 else whole


def fading(mask: np.ndarray, sampling: tuple[float, float], reach: float, least: float = 0.15) -> np.ndarray:
    """Opacity of an image: 1 in the field, falling to `least` at a distance `reach` [Å] from it.

    >>> fading(np.array([[True, False, False]]), (1.0, 1.0), 2.0, 0.0).tolist()
    [[1.0, 0.5, 0.0]]
    """
    from scipy.ndimage import distance_transform_edt

    if mask.all() or not mask.any():
        return np.ones(mask.shape)
    distance = distance_transform_edt(~mask, sampling)
    return np.maximum(least, 1.0 - (1.0 - least) * distance / max(reach, 1e-9))


def probe_diameter(modes: np.ndarray, sampling: tuple[float, float], share: float = 0.8) -> float:
    """Diameter of the circle about the centre of intensity that holds a share of it [Å].

    Args:
        modes: Waves in real space (mode, ny, nx).
        sampling: Pixel size (y, x) [Å].
        share: Part of the intensity; the tails of a probe behind an aperture reach far.

    >>> y, x = np.mgrid[-32:32, -32:32]
    >>> round(probe_diameter((np.hypot(y, x) < 20)[None], (0.5, 0.5), 0.25), 0)
    10.0
    """
    intensity = (np.abs(modes) ** 2).sum(axis=0)
    y, x = (np.arange(n) * s for n, s in zip(intensity.shape, sampling, strict=True))
    total = max(float(intensity.sum()), 1e-300)
    centre_y, centre_x = float(intensity.sum(axis=1) @ y) / total, float(intensity.sum(axis=0) @ x) / total
    radius = np.hypot(y[:, None] - centre_y, x[None, :] - centre_x).ravel()
    order = np.argsort(radius)
    held = np.cumsum(intensity.ravel()[order]) / total
    return 2.0 * float(radius[order][min(int(np.searchsorted(held, share)), radius.size - 1)])
