"""First guesses from the data alone: the bright-field disk, and how the scan lies on the detector."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from stemjax.core.errors import InputError

SNAP = 1.0
"""A rotation closer than this to a multiple of 90° is taken for it [degree]."""


@dataclass(frozen=True)
class Disk:
    """The bright-field disk in detector pixels: centre (y, x) and radius."""

    centre: tuple[float, float]
    radius: float


@dataclass(frozen=True)
class ScanOrientation:
    """How the scan lies on the detector.

    Args:
        matrix: Orthogonal matrix [2 2] from scan axes (y, x) to detector axes, as of `orientation_matrix`.
        rotation: Its angle: where the scan's x axis points on the detector, from x towards y [degree].
        transposed: Whether y and x are swapped before the rotation.
        curl: Share of the centre-of-mass field's gradients that is curl, left at this orientation; 0 is perfect.
        other_curl: The same for the other handedness; the two tell how certain the transposition is.
        other_matrix: The best matrix of the other handedness.
    """

    matrix: np.ndarray
    rotation: float
    transposed: bool
    curl: float
    other_curl: float
    other_matrix: np.ndarray


def bright_field_disk(mean: np.ndarray, expected: float | None = None, mask: np.ndarray | None = None) -> Disk:
    """Centre and radius of the bright-field disk.

    The area above a threshold gives a radius; over thresholds from a tenth to nine tenths of the disk's level it
    hardly changes where the threshold crosses the disk's steep edge. The median over that plateau is taken.

    Args:
        mean: Mean diffraction pattern [ky kx], zero frequency near the centre.
        expected: Radius that the calibration lets expect [pixel]; the disk's level is then the median of the brightest
            pixels that would fill half of it, so that a small disk is not lost in a wide halo.
        mask: Pixels that are used [ky kx]; a circle through the edge that is seen then gives the centre.

    Raises:
        InputError: No disk stands out, or it is cut by the detector's border.

    >>> y, x = np.mgrid[:32, :32]
    >>> disk = bright_field_disk((np.hypot(y - 15.5, x - 17.0) < 6.0) * 10.0)
    >>> [round(v) for v in (*disk.centre, disk.radius)]
    [16, 17, 6]
    """
    mean = np.asarray(mean, dtype=float)
    bright = 0.005 * mean.size if expected is None else 0.5 * math.pi * expected**2
    share = 100.0 * np.clip(1.0 - 0.5 * bright / mean.size, 0.5, 1.0 - 1.0 / mean.size)
    level = float(np.percentile(mean, share))
    if not level > 0:
        raise InputError("the mean diffraction pattern is empty; check the data's key, axes and dark offset")
    thresholds = np.linspace(0.1, 0.9, 41) * level
    radii = np.sqrt([(mean > t).sum() / math.pi for t in thresholds])
    slope = np.abs(np.gradient(radii))
    flat = slope <= np.quantile(slope, 0.4)
    middle = float(np.median(thresholds[flat]))
    inside = mean > middle
    y, x = np.nonzero(inside)
    centre, radius = (float(y.mean()), float(x.mean())), float(np.median(radii[flat]))
    if mask is not None and not np.all(mask):
        centre, radius = _seen_circle(inside, np.asarray(mask) > 0)
    if radius < 1.5:
        raise InputError(f"the brightest part of the mean pattern has a radius of {radius:.1f} pixels, too small for a "
                         "bright-field disk; check axes, or bin the detector less")  # fmt: skip
    ny, nx = mean.shape
    if min(centre[0], centre[1], ny - 1 - centre[0], nx - 1 - centre[1]) < 0.9 * radius:
        raise InputError(
            f"the bright-field disk (centre {centre[0]:.0f}, {centre[1]:.0f}, radius {radius:.0f} pixels) is cut by "
            f"the border of the {ny} × {nx} detector; check data.axes (is the scan where the detector should be?)"
        )
    return Disk(centre, radius)


def _seen_circle(inside: np.ndarray, seen: np.ndarray) -> tuple[tuple[float, float], float]:
    """Centre and radius of a disk of which a mask hides a part: least squares on the edge that is seen."""
    from scipy.ndimage import binary_dilation, binary_erosion, binary_fill_holes, label

    filled = binary_fill_holes(inside | ~seen) & inside
    labels = label(filled | ~seen)[0]
    largest = np.argmax(np.bincount(labels[filled], minlength=labels.max() + 1)) if filled.any() else 0
    body = filled & (labels == largest)
    edge = body & ~binary_erosion(body | ~seen) & ~binary_dilation(~seen, iterations=2)
    y, x = np.nonzero(edge)
    if len(y) < 5:
        raise InputError("the mask hides the edge of the bright-field disk; without it the centre is not known")
    # A circle is linear in its centre and in radius² − centre² (Kåsa 1976); the edge's pixels lie half a pixel inside.
    columns = np.stack([2.0 * y, 2.0 * x, np.ones(len(y))], axis=1)
    cy, cx, rest = np.linalg.lstsq(columns, (y**2 + x**2).astype(float), rcond=None)[0]
    return (float(cy), float(cx)), math.sqrt(max(rest + cy**2 + cx**2, 0.0)) + 0.5


def centre_of_mass(counts: np.ndarray, sampling: tuple[float, float]) -> np.ndarray:
    """Centre of mass of every pattern against the mean of all.

    Args:
        counts: Patterns [scan_y scan_x ky kx].
        sampling: Size of a detector pixel (y, x), any unit.

    Returns:
        Vectors [scan_y scan_x 2] (y, x) along the detector's axes, in the unit of `sampling`.

    >>> c = np.zeros((1, 2, 3, 3)); c[0, 0, 1, 1] = 1; c[0, 1, 1, 2] = 1
    >>> centre_of_mass(c, (1.0, 2.0)).tolist()
    [[[0.0, -1.0], [0.0, 1.0]]]
    """
    rows = counts.sum(axis=3, dtype=float)
    columns = counts.sum(axis=2, dtype=float)
    total = np.maximum(rows.sum(axis=2), 1e-30)
    y = rows @ (np.arange(rows.shape[2]) * sampling[0]) / total
    x = columns @ (np.arange(columns.shape[2]) * sampling[1]) / total
    return np.stack([y - y.mean(), x - x.mean()], axis=2)


def scan_orientation(field: np.ndarray, step: tuple[float, float]) -> ScanOrientation:
    r"""Rotation and handedness of the scan against the detector, from the curl of the centre-of-mass field.

    The centre of mass of a thin specimen is the gradient of its phase, blurred by the probe, so its curl vanishes when
    it is seen along the right axes. Turning the field by θ mixes curl and divergence,
    c(θ) = c cos θ + d sin θ, whose smallest mean square is an eigenvalue of a 2 × 2 matrix. A turn by 180° changes
    nothing; `solve` settles it by the sign of the phase, which atoms make positive.

    Args:
        field: Centre of mass [scan_y scan_x 2] (y, x).
        step: Step of the scan (y, x).

    Returns:
        The better of the two handednesses. Source: Savitzky et al., Microsc. Microanal. 27 (2021) 712, section DPC.

    >>> y, x = np.mgrid[:16, :16]
    >>> bump = np.exp(-((y - 7.0) ** 2 + (x - 8.0) ** 2) / 8)
    >>> found = scan_orientation(np.stack(np.gradient(bump), axis=2), (1.0, 1.0))
    >>> round(found.rotation) % 180, found.transposed
    (0, False)
    """
    if min(field.shape[:2]) < 3:
        raise InputError(f"a scan of {field.shape[:2]} points is too small to find its orientation; set 'orientation'")
    (angle_plain, curl_plain), (angle_swapped, curl_swapped) = (_turn(field, step, swap) for swap in (False, True))
    swap = curl_swapped < curl_plain
    # Swapping the axes turns the sense of the angle round.
    angles = {False: _snap(angle_plain), True: _snap(-angle_swapped)}
    curls = {False: curl_plain, True: curl_swapped}
    matrices = {s: orientation_matrix(angles[s], transposed=s) for s in (False, True)}
    return ScanOrientation(matrices[swap], angles[swap], swap, curls[swap], curls[not swap], matrices[not swap])


def _turn(field: np.ndarray, step: tuple[float, float], swap: bool) -> tuple[float, float]:
    """Angle [degree] of least curl and the share of curl left, for one handedness."""
    v_y, v_x = (field[..., 1], field[..., 0]) if swap else (field[..., 0], field[..., 1])
    curl = np.gradient(v_y, step[1], axis=1) - np.gradient(v_x, step[0], axis=0)
    divergence = np.gradient(v_y, step[0], axis=0) + np.gradient(v_x, step[1], axis=1)
    # Seen along axes turned by θ the curl is c cos θ − d sin θ.
    cc, dd, cd = (float(np.mean(a * b)) for a, b in ((curl, curl), (divergence, divergence), (curl, divergence)))
    angle = 0.5 * math.atan2(2 * cd, dd - cc)
    left = cc * math.cos(angle) ** 2 + dd * math.sin(angle) ** 2 - 2 * cd * math.sin(angle) * math.cos(angle)
    return math.degrees(angle), max(left, 0.0) / max(cc + dd, 1e-30)


def _snap(angle: float) -> float:
    nearest = 90.0 * round(angle / 90.0)
    return nearest if abs(angle - nearest) < SNAP else angle


def snapped(matrix: np.ndarray) -> np.ndarray:
    """An orientation with its rotation taken for a multiple of 90° where it is within `SNAP` of one.

    >>> snapped(orientation_matrix(90.5)).round(6).tolist()
    [[0.0, 1.0], [-1.0, 0.0]]
    """
    transposed = bool(np.linalg.det(matrix) < 0)
    turn = matrix @ np.array([[0.0, 1.0], [1.0, 0.0]]) if transposed else matrix
    return orientation_matrix(_snap(math.degrees(math.atan2(turn[0, 1], turn[0, 0]))), transposed=transposed)


def orientation_matrix(
    rotation: float, *, transposed: bool = False, flip_y: bool = False, flip_x: bool = False
) -> np.ndarray:
    """Matrix from scan axes (y, x) to detector axes: swap, then flip, then turn from x towards y.

    >>> orientation_matrix(90.0).round(6).tolist()
    [[0.0, 1.0], [-1.0, 0.0]]
    """
    c, s = math.cos(math.radians(rotation)), math.sin(math.radians(rotation))
    turn = np.array([[c, s], [-s, c]])
    flip = np.diag([-1.0 if flip_y else 1.0, -1.0 if flip_x else 1.0])
    swap = np.array([[0.0, 1.0], [1.0, 0.0]]) if transposed else np.eye(2)
    return turn @ flip @ swap


def defocus_candidates(wavelength: float, semiangle: float, window: float) -> np.ndarray:
    """Values of C10 worth trying: every half depth of focus λ/α², as far as the probe fits half its window.

    Args:
        wavelength: Wavelength [Å].
        semiangle: Convergence semi-angle [mrad].
        window: Shorter side of the probe's window [Å].

    Returns:
        C10 [Å], both signs and zero; the steps grow by a quarter beyond six depths of focus.

    >>> c = defocus_candidates(0.0418, 21.4, 25.6)
    >>> len(c), round(float(c.max()))
    (13, 274)
    """
    alpha = 1e-3 * semiangle
    depth = wavelength / alpha**2
    most, step, values = 0.5 * window / (2 * alpha), 0.5 * depth, [0.0]
    while values[-1] + step <= most or len(values) == 1:
        values.append(values[-1] + step)
        step *= 1.25 if values[-1] >= 6 * depth else 1.0
    up = np.array(values[1:])
    return np.concatenate([-up[::-1], [0.0], up])
