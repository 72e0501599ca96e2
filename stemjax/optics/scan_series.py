"""Frames one after the other: series, pairs at 0 and 90 degrees, any list of scan angles."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.typing import Annotated
from stemjax.optics.scan import Scan, make_scan


def make_series(scan: Scan, frames: int, *, pause: Annotated[float, "s"] = 0.0) -> Scan:
    """The same scan over and over, as one scan of shape (frame, y, x) with its times running on.

    Args:
        scan: One frame: shape (y, x), with times; walk and jitter are of the whole series, added after.
        frames: Number of frames.
        pause: Time between the last dwell of a frame and the next frame [s]; the flyback of a frame counts here.

    >>> from stemjax.optics.scan import make_raster
    >>> series = make_series(make_raster((1, 2), 1.0, dwell=1.0), 2, pause=0.5)
    >>> series.shape, series.times.tolist()
    ((2, 1, 2), [0.0, 1.0, 2.5, 3.5])
    """
    if frames < 1:
        raise InputError(f"a series of {frames} frames; give at least 1")
    series = joined([scan] * frames, pause)
    return series.replace(centre=scan.centre)


def make_series_rotated(
    factory: Callable[[float], Scan], angles: Sequence[float], *, pause: Annotated[float, "s"] = 0.0
) -> Scan:
    """Frames of the same field at several scan angles, as one scan of shape (frame, y, x).

    Every frame is moved so that the middle of its points is that of the first frame: a scan that turns about its first
    point would look elsewhere.

    Args:
        factory: Makes one frame, shape (y, x) with times, from a scan angle [degree].
        angles: Scan angle of every frame [degree].
        pause: Time between the last dwell of a frame and the next frame [s].

    >>> from stemjax.optics.scan import make_raster
    >>> make_series_rotated(lambda a: make_raster((4, 4), 1.0, rotation=a, dwell=1e-5), [0.0, 45.0, 90.0]).shape
    (3, 4, 4)
    """
    if not len(angles):
        raise InputError("a series of no scan angles; give at least one, such as [0, 90]")
    scans = [factory(float(angle)) for angle in angles]
    middle = np.asarray(scans[0].positions, float).mean(axis=0)
    places = [np.asarray(s.positions, float) for s in scans]
    moved = [s.replace(positions=p - p.mean(axis=0) + middle) for s, p in zip(scans, places, strict=True)]
    return joined(moved, pause)


def make_pair(factory: Callable[[float], Scan], *, pause: Annotated[float, "s"] = 0.0) -> Scan:
    """Two frames of the same field, the second with its rows turned by 90 degrees; see `make_series_rotated`.

    Drift is slow along the rows and fast from row to row, so it distorts the two frames in different directions, and
    their difference tells it.

    Source: C. Ophus, J. Ciston, C. T. Nelson, Ultramicroscopy 162, 1 (2016).

    >>> from stemjax.optics.scan import make_raster
    >>> make_pair(lambda angle: make_raster((4, 4), 1.0, rotation=angle, dwell=1e-5)).shape
    (2, 4, 4)
    """
    return make_series_rotated(factory, (0.0, 90.0), pause=pause)


def joined(scans: Sequence[Scan], pause: float) -> Scan:
    """Frames of one shape as one scan, one after the other in time."""
    for scan in scans:
        _check_frame(scan, scans[0].shape)
    if not (np.isfinite(pause) and pause >= 0):
        raise InputError(f"a pause of {pause:g} s; give 0 or more, such as 0.1 s")
    times, start = [], 0.0
    for scan in scans:
        own = np.asarray(scan.times, float)
        dwell = float(np.diff(own).min()) if len(own) > 1 else 0.0
        times.append(start + own - own[0])
        start = float(times[-1][-1]) + dwell + pause
    first = scans[0]
    made = make_scan(
        np.concatenate([np.asarray(s.positions, float) for s in scans]),
        (len(scans), *(first.shape or ())),
        times=np.concatenate(times),
        line=_counted_on(scans, "line"),
        pixel=_counted_on(scans, "pixel"),
    )
    return made.replace(affine=first.affine, velocity=first.velocity)


def _check_frame(scan: Scan, shape: tuple[int, ...] | None) -> None:
    """Refuse a frame that cannot be one of a series."""
    if scan.shape is None or len(scan.shape) != 2 or scan.shape != shape:
        raise InputError(f"a frame of shape {scan.shape} in a series of {shape}; give frames of one shape (y, x)")
    if scan.times is None:
        raise InputError("a frame without times; give dwell to make_raster, or times to make_scan")
    if scan.walk is not None or scan.jitter is not None:
        raise InputError("a frame with a walk or jitter of its own; add them to the whole series afterwards")


def _counted_on(scans: Sequence[Scan], name: str) -> np.ndarray | None:
    """Line or pixel numbers of all frames, each frame's starting where the last ended; None where one has none."""
    parts, start = [], 0
    for scan in scans:
        numbers = getattr(scan, name)
        if numbers is None:
            return None
        parts.append(start + numbers.values)
        start += int(numbers.values.max()) + 1
    return np.concatenate(parts)
