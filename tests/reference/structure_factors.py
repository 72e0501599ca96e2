"""Projected potentials by direct summation of structure factors, in double precision."""

from __future__ import annotations

import numpy as np

from tests.reference.lobato import POTENTIAL_CONSTANT, scattering_factor


def frequencies(shape: tuple[int, int], sampling: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Spatial frequencies ky (ny, 1) and kx (1, nx), zero frequency in the corner [1/Å]."""
    ky, kx = (np.fft.fftfreq(n, d) for n, d in zip(shape, sampling, strict=True))
    return ky[:, None], kx[None, :]


def band(shape: tuple[int, int], sampling: tuple[float, float], fraction: float = 2 / 3) -> np.ndarray:
    """The disk of |k| below a fraction of the Nyquist frequency of the coarser axis, as booleans (ny, nx)."""
    ky, kx = frequencies(shape, sampling)
    return ky**2 + kx**2 < (fraction / (2 * max(sampling))) ** 2


def projected_potential(
    numbers: np.ndarray, positions: np.ndarray, shape: tuple[int, int], sampling: tuple[float, float]
) -> np.ndarray:
    r"""Projected potential of atoms on a periodic grid, band-limited to 2/3 of Nyquist.

    .. math:: V(r) = \frac{h^2}{2 \pi m_0 e A} \sum_{|k| < k_c} \sum_j f_j(k) e^{2 \pi i k \cdot (r - r_j)}

    Args:
        numbers: Atomic numbers [atom].
        positions: Positions (y, x) [atom 2] [Å].
        shape: Pixels (ny, nx).
        sampling: Size of a pixel (y, x) [Å].

    Returns:
        V at the pixels [ny nx] [V Å].

    The mean is the sum of the forward scattering over the area, whatever the positions:

    >>> v = projected_potential(np.array([79]), np.array([[0.3, 1.1]]), (16, 16), (0.25, 0.25))
    >>> f0 = scattering_factor(79, np.zeros(1))[0]
    >>> bool(abs(v.mean() - 47.878009 * f0 / 16) < 1e-10)
    True
    """
    ky, kx = frequencies(shape, sampling)
    total = np.zeros(shape, complex)
    for number in np.unique(numbers):
        y, x = positions[numbers == number].T
        phase = np.exp(-2j * np.pi * ky * y) @ np.exp(-2j * np.pi * kx.T * x).T
        total += scattering_factor(int(number), ky**2 + kx**2) * phase
    total *= band(shape, sampling) * POTENTIAL_CONSTANT / (sampling[0] * sampling[1])
    return np.fft.ifft2(total).real
