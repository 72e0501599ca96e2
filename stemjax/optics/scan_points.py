"""Points that follow no path of their own: sunflower, random, and a part of a raster."""

from __future__ import annotations

import math

import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.typing import Annotated
from stemjax.optics.scan import Scan, line_times, make_scan, step_pair, turned

GOLDEN_ANGLE = 180.0 * (3.0 - math.sqrt(5.0))
"""Angle between neighbours of a sunflower [degree]: no two of its points ever lie on one ray."""


def make_sunflower(
    points: int,
    radius: Annotated[float, "Å"],
    *,
    angle: Annotated[float, "degree"] = GOLDEN_ANGLE,
    centre: Annotated[tuple[float, float], "Å"] = (0.0, 0.0),
    rotation: Annotated[float, "degree"] = 0.0,
    dwell: Annotated[float, "s"] = 1e-5,
) -> Scan:
    r"""Points on a Fermat spiral, of constant density everywhere, at a constant angle from one to the next.

    .. math:: \rho_i = R\sqrt{(i + 1/2)/N}, \qquad \theta_i = i\,\Delta\theta

    Args:
        points: Number of points N.
        radius: Radius R of the area that they share [Å].
        angle: Angle Δθ [degree]; a small one makes a spiral of constant angular velocity, the golden one a sunflower.
        centre: Middle of the area [Å].
        rotation: Azimuth of the first point, from x towards y [degree].
        dwell: Time from a point to the next [s].

    Source: H. Vogel, Math. Biosci. 44, 179 (1979); for ptychography X. Huang et al., Opt. Express 22, 12634 (2014).

    >>> make_sunflower(4, 2.0).positions.shape
    (4, 2)
    """
    if points < 1 or not (np.isfinite(radius) and radius > 0):
        raise InputError(f"{points} points on {radius:g} Å; give at least 1 point and a positive radius")
    count = np.arange(points)
    rho, theta = radius * np.sqrt((count + 0.5) / points), np.radians(angle) * count
    offsets = np.stack([rho * np.sin(theta), rho * np.cos(theta)], axis=1)
    times = line_times(np.zeros(points), dwell, 0.0)
    return make_scan(turned(offsets, rotation) + np.asarray(centre), times=times)


def make_random(
    points: int,
    extent: Annotated[tuple[float, float], "Å"],
    *,
    seed: int = 0,
    rotation: Annotated[float, "degree"] = 0.0,
    origin: Annotated[tuple[float, float], "Å"] = (0.0, 0.0),
    dwell: Annotated[float, "s"] = 1e-5,
    settle: Annotated[float, "s"] = 0.0,
) -> Scan:
    """Points anywhere in a rectangle, one independent of the other.

    Args:
        points: Number of points.
        extent: Sides of the rectangle (y, x) [Å].
        seed: Seed of the draw.
        rotation: Angle of the rectangle against the image's x axis, from x towards y [degree].
        origin: Position of its corner [Å].
        dwell: Time on a point [s].
        settle: Additional time from a point to the next [s].

    >>> make_random(5, (10.0, 10.0)).positions.shape
    (5, 2)
    """
    if points < 1:
        raise InputError(f"a scan of {points} points; give at least 1")
    places = np.random.default_rng(seed).random((points, 2)) * step_pair(extent)
    times = line_times(np.arange(points), dwell, settle)
    return make_scan(turned(places, rotation) + np.asarray(origin), times=times)


def make_sparse(
    shape: tuple[int, int],
    step: Annotated[tuple[float, float] | float, "Å"],
    pixels: np.ndarray,
    *,
    rotation: Annotated[float, "degree"] = 0.0,
    origin: Annotated[tuple[float, float], "Å"] = (0.0, 0.0),
    dwell: Annotated[float, "s"] = 1e-5,
    flyback: Annotated[float, "s"] = 0.0,
) -> Scan:
    """Some pixels of a raster, visited row by row; the others cost no time and no dose.

    The scan has no shape; its values belong to ``image.ravel()[pixels]``.

    Args:
        shape: Number of points of the full raster (y, x).
        step: Distance of neighbours (y, x) [Å].
        pixels: Numbers of the pixels, y * nx + x, increasing; see `uniform_pixels` and `spaced_pixels`.
        rotation: Angle of the rows against the image's x axis, from x towards y [degree].
        origin: Position of pixel 0 [Å].
        dwell: Time from a point to the next [s].
        flyback: Additional time from a row to the next [s].

    >>> make_sparse((2, 2), 1.0, np.array([1, 2])).positions.tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    pixels, count = np.asarray(pixels), shape[0] * shape[1]
    if pixels.ndim != 1 or not len(pixels) or (np.diff(pixels) <= 0).any() or pixels[0] < 0 or pixels[-1] >= count:
        raise InputError(f"pixels of a sparse scan of {shape}; give increasing whole numbers from 0 to {count - 1}")
    places = np.stack(np.divmod(pixels, shape[1]), axis=1)
    positions = turned(places * step_pair(step), rotation) + np.asarray(origin)
    return make_scan(positions, times=line_times(places[:, 0], dwell, flyback), line=places[:, 0])


def uniform_pixels(shape: tuple[int, int], count: int, *, seed: int = 0) -> np.ndarray:
    """Numbers of pixels drawn without regard to each other, increasing [pattern].

    Args:
        shape: Number of points of the full raster (y, x).
        count: How many.
        seed: Seed of the draw.

    >>> len(uniform_pixels((8, 8), 10))
    10
    """
    total = shape[0] * shape[1]
    if not 1 <= count <= total:
        raise InputError(f"{count} of {total} pixels; give a number from 1 to {total}, such as {max(1, total // 10)}")
    return np.sort(np.random.default_rng(seed).choice(total, count, replace=False))


def spaced_pixels(shape: tuple[int, int], distance: float, *, seed: int = 0) -> np.ndarray:
    """Numbers of random pixels of which no two are nearer than a distance, as dense as that allows (Poisson disks).

    Pixels are taken in random order, each unless one that is too near was taken before; in the end every pixel has one
    within the distance.

    Args:
        shape: Number of points of the full raster (y, x).
        distance: Least distance [pixel].
        seed: Seed of the draw.

    Source: R. L. Cook, ACM Trans. Graph. 5, 51 (1986).

    >>> bool((np.diff(spaced_pixels((1, 50), 3.0)) >= 3).all())
    True
    """
    if not (np.isfinite(distance) and distance >= 1):
        raise InputError(f"a least distance of {distance:g} pixels; give 1 or more, such as 3")
    reach = math.ceil(distance)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    near = y**2 + x**2 < distance**2
    free = np.ones((shape[0] + 2 * reach, shape[1] + 2 * reach), bool)
    taken = []
    for pixel in np.random.default_rng(seed).permutation(shape[0] * shape[1]).tolist():
        row, column = divmod(pixel, shape[1])
        if free[row + reach, column + reach]:
            taken.append(pixel)
            free[row : row + 2 * reach + 1, column : column + 2 * reach + 1] &= ~near
    return np.sort(np.array(taken))
