"""Transfer functions of free space between slices."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from stemjax.core.fourier import band_limit
from stemjax.core.grid import Grid
from stemjax.core.typing import Annotated, Array, Complex, Float, Scalar, real, typed
from stemjax.optics.electron import wavelength


@typed
def fresnel_propagator(
    grid: Grid,
    distance: Annotated[Scalar, "Å"],
    energy: Annotated[float, "eV"],
    tilt: Annotated[Float[Array, "2"], "mrad"] | None = None,
) -> Complex[Array, "ny nx"]:
    r"""Paraxial transfer function of free space over a distance, the specimen tilted by a small angle.

    .. math:: H(k) = \exp(-i \pi \lambda\, \Delta z\, |k|^2 + 2 \pi i\, \Delta z\, k \cdot \tan\theta)

    Args:
        grid: Real-space grid.
        distance: Distance Δz [Å]; positive is towards the detector.
        energy: Beam energy [eV].
        tilt: Specimen tilt θ (y, x) [mrad]: a feature a depth z below another appears displaced by +z tan θ.

    Returns:
        H on the reciprocal grid, zero frequency in the corner, band limit not applied. Source: Kirkland, Advanced
        Computing in Electron Microscopy, 2nd ed., Eq. 6.65 and 6.99 (tilt).

    >>> fresnel_propagator(Grid((8, 8), (0.2, 0.2)), 0.0, 200e3).shape
    (8, 8)
    """
    ky, kx = _frequencies(grid)
    rate = -np.pi * wavelength(energy)
    ramp_y, ramp_x = (0.0, 0.0) if tilt is None else (2 * np.pi * jnp.tan(1e-3 * tilt[i]) for i in (0, 1))
    # The paraxial propagator is separable: two vectors of exponentials instead of an image of them.
    return jnp.exp(1j * distance * (rate * ky**2 + ramp_y * ky)) * jnp.exp(1j * distance * (rate * kx**2 + ramp_x * kx))


@typed
def exact_propagator(
    grid: Grid,
    distance: Annotated[Scalar, "Å"],
    energy: Annotated[float, "eV"],
    tilt: Annotated[Float[Array, "2"], "mrad"] | None = None,
) -> Complex[Array, "ny nx"]:
    r"""Transfer function of free space without the paraxial approximation.

    .. math:: H(k) = \exp\left(2 \pi i\, \Delta z \left[ \sqrt{\lambda^{-2} - |k|^2} - \lambda^{-1} \right]
        + 2 \pi i\, \Delta z\, k \cdot \tan\theta \right)

    Evanescent waves (|k| > 1/λ) are cut off.

    Args:
        grid: Real-space grid.
        distance: Distance Δz [Å]; positive is towards the detector.
        energy: Beam energy [eV].
        tilt: Specimen tilt θ (y, x) [mrad], as in `fresnel_propagator`.

    Returns:
        H on the reciprocal grid. Source: the angular spectrum; Goodman, Introduction to Fourier Optics, Eq. 3-74.

    >>> bool(jnp.allclose(exact_propagator(Grid((8, 8), (0.5, 0.5)), 10.0, 200e3),
    ...                   fresnel_propagator(Grid((8, 8), (0.5, 0.5)), 10.0, 200e3), atol=1e-2))
    True
    """
    ky, kx = grid.frequencies()
    # sqrt(a² − k²) − a = −k² / (sqrt(a² − k²) + a) loses no digits where k is small.
    square, inverse = ky**2 + kx**2, 1.0 / wavelength(energy)
    root = np.sqrt(np.maximum(inverse**2 - square, 0.0))
    phase = distance * real(-2 * np.pi * square / (root + inverse))
    if tilt is not None:
        fy, fx = _frequencies(grid)
        phase = phase + 2 * np.pi * distance * (fy * jnp.tan(1e-3 * tilt[0]) + fx * jnp.tan(1e-3 * tilt[1]))
    return jnp.exp(1j * phase) * real(square <= inverse**2)


def slice_propagators(
    grid: Grid,
    thickness: Annotated[Array, "Å"],
    energy: float,
    tilt: Array | None = None,
    *,
    limit: float | None = 2.0 / 3.0,
    taper: float = 0.0,
    exact: bool = False,
) -> Complex[Array, "slice ny nx"]:
    """Propagators of a stack of slices, band-limited.

    Args:
        grid: Real-space grid.
        thickness: Thickness of every slice [slice] [Å], or of all of them [1].
        energy: Beam energy [eV].
        tilt: Specimen tilt (y, x) [mrad].
        limit: Band limit as a fraction of Nyquist; None for none.
        taper: Width of the limit's soft edge as a fraction of Nyquist.
        exact: Use the non-paraxial propagator.

    Returns:
        [slice ny nx], or [1 ny nx] where one thickness stands for all.

    >>> slice_propagators(Grid((8, 8), (0.2, 0.2)), jnp.array([2.0]), 200e3).shape
    (1, 8, 8)
    """
    propagator = exact_propagator if exact else fresnel_propagator
    mask = 1.0 if limit is None else real(band_limit(grid, limit, taper))
    return jnp.stack([propagator(grid, thickness[i], energy, tilt) * mask for i in range(thickness.shape[0])])


def _frequencies(grid: Grid) -> tuple[Array, Array]:
    ky, kx = grid.frequencies()
    return real(ky), real(kx)
