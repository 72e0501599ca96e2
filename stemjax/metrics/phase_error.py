"""How far a reconstructed phase is from the truth, once everything that no data can tell is taken out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stemjax.core.errors import InputError
from stemjax.metrics.interpolation import resample
from stemjax.metrics.registration import coarse_shift, plane_basis, project_out, refine_shift


@dataclass(frozen=True)
class PhaseError:
    """Comparison of a phase with the truth.

    Args:
        rms: Root mean square of found − true [rad].
        nrmse: `rms` over the rms of the true phase about its gauge.
        correlation: Pearson correlation of found and true.
        slope: Found over true phase: regression of found on true; 1 for a quantitative phase.
        shift: Displacement (y, x) of the found object against the truth [Å].
        aligned: The truth on the grid of the found phase, moved by `shift` (ny, nx) [rad]; NaN where there is none.
        corrected: The found phase less offset and ramp (ny, nx) [rad].
        mask: The pixels that were compared (ny, nx).
    """

    rms: float
    nrmse: float
    correlation: float
    slope: float
    shift: tuple[float, float]
    aligned: np.ndarray
    corrected: np.ndarray
    mask: np.ndarray


def phase_error(
    found: np.ndarray,
    true: np.ndarray,
    *,
    sampling: tuple[float, float],
    true_sampling: tuple[float, float] | None = None,
    mask: np.ndarray | None = None,
    margin: float = 0.0,
    ramp: bool = True,
    near: tuple[float, float] = (0.0, 0.0),
    max_shift: float | None = None,
) -> PhaseError:
    r"""Error of an object phase, free of the gauge between object, probe and positions.

    A constant phase, a linear ramp (the probe moves in reciprocal space) and a common shift of object and positions
    leave every pattern as it is. With P the projection onto what is orthogonal to {1, y, x} over the mask,

    .. math:: \mathrm{rms} = |P(f - t_d)| / \sqrt{n}, \quad \mathrm{nrmse} = |P(f - t_d)| / |P t_d|, \quad
        \mathrm{slope} = \langle P f, P t_d \rangle / |P t_d|^2

    where t_d is the truth moved by the shift d that fits best. The truth is brought to the pixels of the found phase by
    its cosine series, low-passed to their Nyquist frequency.

    Args:
        found: Found phase (ny, nx) [rad], not wrapped.
        true: True phase (my, mx) [rad].
        sampling: Pixel size (y, x) of `found` [Å].
        true_sampling: Pixel size (y, x) of `true` [Å]; that of `found` when not given.
        mask: Where to compare (ny, nx).
        margin: Width of the border left out when no mask is given [Å].
        ramp: Whether a linear ramp is part of the gauge.
        near: Shift (y, x) about which is looked [Å], known from the scan positions where those are compared too.
        max_shift: Largest distance from `near` that is looked at [Å]; for a perfect lattice, half a unit cell.

    Returns:
        The measures, and both phases ready to be drawn side by side.

    Raises:
        InputError: The images are not two-dimensional, hold NaN, or the mask leaves nothing to compare.

    Source: Guizar-Sicairos et al., Phys. Rev. B 83, 205205 (2011), for the ramp and offset of a ptychographic phase.

    >>> y, x = np.mgrid[:32, :32] * 0.25
    >>> true = np.cos(2 * np.pi * y / 4.0) * np.cos(2 * np.pi * x / 4.0)
    >>> error = phase_error(0.9 * true + 0.3 + 0.01 * x, true, sampling=(0.25, 0.25))
    >>> f"{error.slope:.3f} {error.correlation:.3f}"
    '0.900 1.000'
    """
    found, true = _image(found, "found"), _image(true, "true")
    true_sampling = sampling if true_sampling is None else true_sampling
    mask = _region(found.shape, sampling, margin) if mask is None else _checked_mask(mask, found.shape)
    planes = plane_basis(found.shape, ramp=ramp)
    flat = found.copy()
    flat[mask] = project_out(found[mask], planes[:, mask])
    start = coarse_shift(
        flat, true, mask, sampling=sampling, true_sampling=true_sampling, near=near, max_shift=max_shift
    )
    shift = refine_shift(found, true, mask, start, sampling=sampling, true_sampling=true_sampling, ramp=ramp)
    shift_yx = (float(shift[0]), float(shift[1]))
    aligned = resample(true, true_sampling, (found.shape[0], found.shape[1]), sampling, shift=shift_yx)
    mask = mask & np.isfinite(aligned)
    if not mask.any():
        raise InputError("found and true phase do not overlap inside the mask; check their pixel sizes and the mask")
    gauge = np.linalg.lstsq(planes[:, mask].T, (found - aligned)[mask], rcond=None)[0]
    return _measure(found - np.tensordot(gauge, planes, 1), aligned, mask, planes, shift_yx)


def _measure(
    corrected: np.ndarray, aligned: np.ndarray, mask: np.ndarray, planes: np.ndarray, shift: tuple[float, float]
) -> PhaseError:
    f = project_out(corrected[mask], planes[:, mask])
    t = project_out(aligned[mask], planes[:, mask])
    ff, tt, ft, n = float(f @ f), float(t @ t), float(f @ t), f.size
    residual = float((f - t) @ (f - t))
    flat_truth, flat = tt <= 1e-24 * n, min(ff, tt) <= 1e-24 * n
    return PhaseError(
        rms=np.sqrt(residual / n).item(),
        nrmse=np.nan if flat_truth else np.sqrt(residual / tt).item(),
        correlation=np.nan if flat else ft / np.sqrt(ff * tt).item(),
        slope=np.nan if flat_truth else ft / tt,
        shift=shift,
        aligned=aligned,
        corrected=corrected,
        mask=mask,
    )


def _image(values: np.ndarray, name: str) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.ndim != 2 or min(values.shape) < 2:
        raise InputError(f"the {name} phase has shape {values.shape}; give a projected one (ny, nx), the sum of slices")
    if not np.isfinite(values).all():
        raise InputError(f"the {name} phase holds NaN or infinity; compare only a finished reconstruction")
    return values


def _region(shape: tuple[int, ...], sampling: tuple[float, float], margin: float) -> np.ndarray:
    """The image without a border of `margin` [Å]."""
    mask = np.zeros(shape, bool)
    by, bx = (int(np.ceil(margin / s - 1e-9)) for s in sampling)
    mask[by : shape[0] - by, bx : shape[1] - bx] = True
    if not mask.any():
        raise InputError(f"a margin of {margin:g} Å leaves nothing of {shape} pixels; give a smaller one")
    return mask


def _checked_mask(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.asarray(mask, bool)
    if mask.shape != shape or not mask.any():
        raise InputError(f"mask of shape {mask.shape} with {mask.sum()} pixels set does not fit a phase {shape}")
    return mask
