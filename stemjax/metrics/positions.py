"""Errors of scan positions, free of the gauge that the object shares with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stemjax.core.errors import InputError


@dataclass(frozen=True)
class PositionError:
    """Comparison of scan positions with the truth.

    Args:
        rms: Root mean square distance [Å].
        largest: Largest distance [Å].
        residual: Found − true after the gauge is removed (pattern, 2), (y, x) [Å].
        shift: Mean displacement (y, x) that was removed [Å].
        matrix: Linear map (2, 2) that was removed; the identity unless `affine`.
    """

    rms: float
    largest: float
    residual: np.ndarray
    shift: tuple[float, float]
    matrix: np.ndarray


def position_error(found: np.ndarray, true: np.ndarray, *, affine: bool = False) -> PositionError:
    r"""Distance of found from true positions, less a common shift and, with `affine`, a common linear map.

    .. math:: \mathrm{rms}^2 = \min_{M, s} \frac{1}{n} \sum_i |p_i - \bar t - s - M (t_i - \bar t)|^2

    with M the identity unless `affine`. Object and positions share the shift: no pattern tells it. Scale, rotation and
    shear they share only as far as the pixel size and the scan's axes are taken as unknown.

    Args:
        found: Found positions (pattern, 2), (y, x) [Å].
        true: True positions (pattern, 2), (y, x) [Å].
        affine: Remove the best linear map also.

    Returns:
        The error and what was removed.

    Raises:
        InputError: The shapes differ or a position is NaN.

    >>> true = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> error = position_error(true + 3.0 + 0.1 * np.array([[1, 0], [-1, 0], [-1, 0], [1, 0]]), true)
    >>> f"{error.rms:.3f} Å after a shift of {error.shift[0]:.1f} Å"
    '0.100 Å after a shift of 3.0 Å'
    """
    found, true = np.asarray(found, float), np.asarray(true, float)
    if found.shape != true.shape or found.ndim != 2 or found.shape[1] != 2 or not len(found):
        raise InputError(f"found positions {found.shape} and true positions {true.shape} must both be (pattern, 2)")
    if not (np.isfinite(found).all() and np.isfinite(true).all()):
        raise InputError("a position is NaN or infinite; compare only positions that were found")
    centre = true.mean(axis=0)
    shift = found.mean(axis=0) - centre
    a, b = true - centre, found - found.mean(axis=0)
    matrix = np.linalg.lstsq(a, b, rcond=None)[0].T if affine else np.eye(2)
    residual = b - a @ matrix.T
    distance = np.hypot(residual[:, 0], residual[:, 1])
    rms = float(np.sqrt(np.mean(distance**2)))
    return PositionError(rms, float(distance.max()), residual, (float(shift[0]), float(shift[1])), matrix)
