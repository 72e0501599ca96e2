"""Paths of the probe over the specimen: serpentine, Hilbert curve, spiral.

Every path is a scan in the order of time. Where it fills an image, `image_order` says which pattern is at which pixel.
"""

from __future__ import annotations

import math

import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.typing import Annotated
from stemjax.optics.scan import Scan, line_times, make_scan, step_pair, turned


def image_order(scan: Scan) -> np.ndarray:
    """Which pattern is at which pixel of the image.

    Patterns come in the order of time; a serpentine or a Hilbert curve does not run along the rows. With the result an
    image is ``values[image_order(scan)]`` for values [pattern ...].

    Returns:
        Number of the pattern at every pixel, of the scan's shape (y, x) or (frame, y, x).

    >>> image_order(make_serpentine((2, 3), 1.0)).tolist()
    [[0, 1, 2], [5, 4, 3]]
    """
    if scan.shape is None:
        raise InputError("a scan of free points fills no image; interpolate it, or give make_scan a shape")
    if scan.pixel is None:
        return np.arange(math.prod(scan.shape)).reshape(scan.shape)
    return np.argsort(scan.pixel.values).reshape(scan.shape)


def make_serpentine(
    shape: tuple[int, int],
    step: Annotated[tuple[float, float] | float, "Å"],
    *,
    rotation: Annotated[float, "degree"] = 0.0,
    origin: Annotated[tuple[float, float], "Å"] = (0.0, 0.0),
    dwell: Annotated[float, "s"] = 1e-5,
    turn: Annotated[float, "s"] = 0.0,
) -> Scan:
    """A raster whose odd rows run backwards, so that the probe never flies back.

    Args:
        shape: Number of points (y, x).
        step: Distance of neighbours (y, x) [Å].
        rotation: Angle of the rows against the image's x axis, from x towards y [degree].
        origin: Position of the first point [Å].
        dwell: Time from a point to the next [s].
        turn: Additional time at the end of a row [s].

    >>> make_serpentine((2, 2), 1.0).positions.tolist()
    [[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]]
    """
    ny, nx = shape
    columns = np.tile(np.arange(nx), (ny, 1))
    columns[1::2] = columns[1::2, ::-1]
    line = np.repeat(np.arange(ny), nx)
    places = np.stack([line, columns.ravel()], axis=1)
    times = line_times(line, dwell, turn)
    return _on_grid(places, shape, step, rotation=rotation, origin=origin, times=times, line=line)


def make_hilbert(
    side: int,
    step: Annotated[tuple[float, float] | float, "Å"],
    *,
    rotation: Annotated[float, "degree"] = 0.0,
    origin: Annotated[tuple[float, float], "Å"] = (0.0, 0.0),
    dwell: Annotated[float, "s"] = 1e-5,
) -> Scan:
    """A Hilbert curve over a square: each point is a step from the one before, near points are near in time.

    Args:
        side: Number of points along a side, a power of two.
        step: Distance of neighbours (y, x) [Å].
        rotation: Angle of the square against the image's x axis, from x towards y [degree].
        origin: Position of the first point [Å].
        dwell: Time from a point to the next [s].

    Raises:
        InputError: The side is no power of two; the message names the nearest.

    Source: D. Hilbert, Math. Ann. 38, 459 (1891).

    >>> make_hilbert(2, 1.0).positions.tolist()
    [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]
    """
    if side < 1 or side & (side - 1):
        below = 2 ** max(0, math.floor(math.log2(max(side, 1))))
        close = below if side - below <= 2 * below - side else 2 * below
        raise InputError(f"a Hilbert curve of side {side}; give a power of two, the nearest is {close}")
    places = np.zeros((1, 2), int)
    while (n := math.isqrt(len(places))) < side:
        swapped, up, along = places[:, ::-1], np.array([n, 0]), np.array([0, n])
        places = np.concatenate([swapped, places + up, places + up + along, n - 1 - swapped + along])
    times = line_times(np.zeros(len(places)), dwell, 0.0)
    return _on_grid(places, (side, side), step, rotation=rotation, origin=origin, times=times)


def _on_grid(
    places: np.ndarray,
    shape: tuple[int, int],
    step: tuple[float, float] | float,
    *,
    rotation: float,
    origin: tuple[float, float],
    times: np.ndarray,
    line: np.ndarray | None = None,
) -> Scan:
    """A scan that visits every pixel of a raster once, in the order of `places` (y, x)."""
    offsets = turned(places * step_pair(step), rotation)
    pixel = places[:, 0] * shape[1] + places[:, 1]
    return make_scan(offsets + np.asarray(origin), shape, times=times, line=line, pixel=pixel)


def make_spiral(
    points: int,
    radius: Annotated[float, "Å"],
    *,
    turns: float | None = None,
    centre: Annotated[tuple[float, float], "Å"] = (0.0, 0.0),
    rotation: Annotated[float, "degree"] = 0.0,
    dwell: Annotated[float, "s"] = 1e-5,
) -> Scan:
    r"""An Archimedean spiral at constant speed, from the centre outwards.

    .. math:: \rho = a\theta, \qquad
              s(\theta) = \tfrac{a}{2}\left(\theta\sqrt{1 + \theta^2} + \operatorname{asinh}\theta\right)

    Points lie at equal distances along the path, s_i = i s_end / (points - 1). Arms are radius / turns apart, so that
    but for the first turn every point has the same area.

    Args:
        points: Number of points.
        radius: Radius of the last point [Å].
        turns: Number of turns; None makes arms as far apart as points along an arm.
        centre: Position of the first point [Å].
        rotation: Azimuth in which the path starts, from x towards y [degree].
        dwell: Time from a point to the next [s].

    Raises:
        InputError: Fewer than three points for the first turn, or less than one turn; the message says what would do.

    Source: X. Sang et al., Adv. Struct. Chem. Imaging 2, 6 (2016), "constant linear velocity".

    >>> make_spiral(100, 10.0).positions.shape
    (100, 2)
    """
    turns = math.sqrt(max(points - 1, 0) / math.pi) if turns is None else turns
    _check_spiral(points, radius, turns)
    end = 2 * math.pi * turns
    theta = _angle_at_arc(np.linspace(0.0, 1.0, points) * _arc(np.array(end)))
    rho = radius * theta / end
    offsets = np.stack([rho * np.sin(theta), rho * np.cos(theta)], axis=1)
    times = line_times(np.zeros(points), dwell, 0.0)
    return make_scan(turned(offsets, rotation) + np.asarray(centre), times=times)


def _arc(theta: np.ndarray) -> np.ndarray:
    """Length of the spiral ρ = θ from its centre."""
    return 0.5 * (theta * np.sqrt(1 + theta**2) + np.arcsinh(theta))


def _angle_at_arc(arc: np.ndarray) -> np.ndarray:
    """The angle at which the spiral ρ = θ has a length: Newton's method, from above, where the length is convex."""
    theta = np.sqrt(2 * arc)
    for _ in range(8):
        theta = theta - (_arc(theta) - arc) / np.sqrt(1 + theta**2)
    return theta


def _check_spiral(points: int, radius: float, turns: float) -> None:
    """Refuse a spiral whose points do not show that it is one."""
    if not (np.isfinite(radius) and radius > 0):
        raise InputError(f"a spiral of radius {radius:g} Å; give a positive radius, such as 20 Å")
    if points < 5:
        raise InputError(f"a spiral of {points} points; give at least 5, such as 100")
    first, whole = float(_arc(np.array(2 * math.pi))), float(_arc(np.array(2 * math.pi * turns)))
    least = 1 + math.ceil(3 * whole / first)
    if turns < 1 or points < least:
        fitting = math.sqrt((points - 1) / math.pi)
        need = f"at least {least} points, or " if turns >= 1 else ""
        raise InputError(
            f"a spiral of {turns:g} turns with {points} points; give {need}between 1 and {fitting:.2g} turns "
            "(None chooses)"
        )
