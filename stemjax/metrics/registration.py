"""Where one image lies in another: masked normalised cross-correlation, then least squares to a fraction of a pixel."""

from __future__ import annotations

import numpy as np
from scipy import fft

from stemjax.metrics.interpolation import derivative_matrix, interpolation_matrix, resample


def plane_basis(shape: tuple[int, int], *, ramp: bool = True) -> np.ndarray:
    """The functions that the gauge of an object phase can add: a constant and, with `ramp`, the pixel indices y and x.

    Returns:
        (1 or 3, ny, nx), centred and scaled to ±1.

    >>> plane_basis((4, 5)).shape
    (3, 4, 5)
    """
    one = np.ones(shape)
    if not ramp:
        return one[None]
    y, x = (np.linspace(-1.0, 1.0, n) if n > 1 else np.zeros(1) for n in shape)
    return np.stack([one, one * y[:, None], one * x[None, :]])


def project_out(values: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Values (n,) less their least-squares fit by the rows of `basis` (m, n)."""
    return values - np.linalg.lstsq(basis.T, values, rcond=None)[0] @ basis


def masked_correlation(
    first: np.ndarray, second: np.ndarray, mask: np.ndarray, *, overlap: float = 0.6
) -> tuple[np.ndarray, np.ndarray]:
    r"""Normalised cross-correlation of two images of any two sizes, counted only where both are known.

    .. math:: C(d) = \operatorname{corr}_{r}\,[a(r),\, b(r - d)]

    over the pixels r inside `mask` for which b(r − d) exists.

    Args:
        first: Image a (ny, nx).
        second: Image b (my, mx), known in all its pixels.
        mask: Where a counts (ny, nx).
        overlap: Least fraction of the mask that b must cover; C is −1 elsewhere.

    Returns:
        C and the shift d (y, x) in pixels of each of its entries, (py, px) and (py, px, 2).

    Source: Padfield, IEEE Trans. Image Process. 21, 2706 (2012).

    >>> a = np.zeros((6, 6)); a[3, 4] = 1.0
    >>> b = np.zeros((6, 6)); b[2, 2] = 1.0
    >>> score, shifts = masked_correlation(a, b, np.ones((6, 6), bool), overlap=0.5)
    >>> shifts[np.unravel_index(score.argmax(), score.shape)].tolist()
    [1, 2]
    """
    size = [fft.next_fast_len(n + m - 1, real=True) for n, m in zip(first.shape, second.shape, strict=True)]
    m = mask.astype(float)
    a, b = np.where(mask, first, 0.0), second
    A, A2, M = (fft.rfft2(f, size) for f in (a, a * a, m))
    B, B2, N = (np.conj(fft.rfft2(f, size)) for f in (b, b * b, np.ones_like(b)))
    ab, count, sa, sb, saa, sbb = (fft.irfft2(p, size) for p in (A * B, M * N, A * N, M * B, A2 * N, M * B2))
    known = count > overlap * m.sum()
    count = np.maximum(count, 1.0)
    spread = np.maximum((saa - sa**2 / count) * (sbb - sb**2 / count), 0.0)
    tiny = 1e-12 * max(float(spread.max()), 1e-300)
    score = np.where(known & (spread > tiny), (ab - sa * sb / count) / np.sqrt(np.maximum(spread, tiny)), -1.0)
    dy, dx = (_signed(p, n) for p, n in zip(size, first.shape, strict=True))
    return score, np.stack(np.meshgrid(dy, dx, indexing="ij"), axis=-1)


def _signed(period: int, size: int) -> np.ndarray:
    """The shifts that the entries of a periodic correlation stand for: 0 … size − 1, then the negative ones."""
    index = np.arange(period)
    return np.where(index < size, index, index - period)


def coarse_shift(
    found: np.ndarray,
    true: np.ndarray,
    mask: np.ndarray,
    *,
    sampling: tuple[float, float],
    true_sampling: tuple[float, float],
    near: tuple[float, float] = (0.0, 0.0),
    max_shift: float | None = None,
) -> np.ndarray:
    """The shift of `true` that correlates best with `found` inside the mask, to a pixel of `found`.

    Of shifts that correlate equally well (a perfect lattice) the one nearest to `near` is taken.

    Returns:
        Shift (y, x) [Å].
    """
    shape = [max(1, int(n * s / d + 1e-9)) for n, s, d in zip(true.shape, true_sampling, sampling, strict=True)]
    coarse = resample(true, true_sampling, (shape[0], shape[1]), sampling)
    score, shifts = masked_correlation(found, coarse - coarse.mean(), mask)
    distance = np.hypot(shifts[..., 0] * sampling[0] - near[0], shifts[..., 1] * sampling[1] - near[1])
    if max_shift is not None:
        score = np.where(distance <= max_shift, score, -1.0)
    if score.max() <= 0.0:
        return np.array(near, dtype=float)
    best = np.where(score >= score.max() - 1e-6, distance, np.inf).argmin()
    return shifts.reshape(-1, 2)[best] * np.asarray(sampling)


def refine_shift(
    found: np.ndarray,
    true: np.ndarray,
    mask: np.ndarray,
    start: np.ndarray,
    *,
    sampling: tuple[float, float],
    true_sampling: tuple[float, float],
    ramp: bool = True,
) -> np.ndarray:
    r"""Least squares for the shift d, with scale, offset and ramp free: Gauss-Newton on the cosine series of `true`.

    .. math:: f(r) \approx a\, t(r - d) + c + g \cdot r

    Returns:
        Shift (y, x) [Å]; `start` where the images do not determine one within two pixels of it.
    """
    step = np.asarray(sampling)
    d = np.array(start, dtype=float)
    planes = plane_basis(found.shape, ramp=ramp)
    for _ in range(25):
        value, gradient = _shifted(true, true_sampling, found.shape, sampling, d)
        inside = mask & np.isfinite(value)
        rows = np.concatenate([value[None], -gradient, planes])[:, inside]
        fit = np.linalg.lstsq(rows.T, found[inside], rcond=None)[0]
        if abs(fit[0]) < 1e-9:
            return np.asarray(start)
        move = np.clip(fit[1:3] / fit[0], -0.5 * step, 0.5 * step)
        d += move
        if np.any(np.abs(d - start) > 2.0 * step):
            return np.asarray(start)
        if np.all(np.abs(move) < 1e-7 * step):
            break
    return d


def _shifted(
    image: np.ndarray,
    sampling: tuple[float, float],
    shape: tuple[int, int],
    new_sampling: tuple[float, float],
    shift: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The image on a new grid moved by `shift` (ny, nx), NaN where unknown, and its gradient (2, ny, nx)."""
    value = resample(image, sampling, shape, new_sampling, shift=(float(shift[0]), float(shift[1])))
    W, D = [], []
    for axis in range(2):
        positions = np.arange(shape[axis]) * new_sampling[axis] - shift[axis]
        arguments = (image.shape[axis], sampling[axis], positions, 0.5 / new_sampling[axis])
        W.append(interpolation_matrix(*arguments))
        D.append(derivative_matrix(*arguments))
    return value, np.stack([D[0] @ image @ W[1].T, W[0] @ image @ D[1].T])
