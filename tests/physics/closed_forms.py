"""Closed forms of electron optics in plain numpy, for tests to compare with; nothing here imports stemjax."""

from __future__ import annotations

import numpy as np
from scipy import special

WAVELENGTHS = {60e3: 0.04866, 80e3: 0.04176, 100e3: 0.03701, 200e3: 0.02508, 300e3: 0.01969}
"""Relativistic wavelength [Å] by energy [eV]. Williams and Carter, Transmission Electron Microscopy (2009), Table 1.2,
and Kirkland, Advanced Computing in Electron Microscopy (2010); 60 and 80 keV from the same formula."""

INTERACTION_PARAMETERS = {100e3: 0.9244e-3, 200e3: 0.7288e-3, 300e3: 0.6526e-3}
"""Phase per projected potential [rad/(V Å)] by energy [eV]. Kirkland (2010)."""

ELECTRON = 1.602176634e-19
MASS = 9.1093837e-31
LIGHT = 2.99792458e8
PLANCK = 6.62607015e-34
BOHR = 0.529177211
"""SI constants, CODATA 2018; the Bohr radius in Å."""


def wavelength(energy: float) -> float:
    r"""Relativistic wavelength [Å] from the momentum, :math:`\lambda = h / \sqrt{2 m_0 e U (1 + eU / 2 m_0 c^2)}`.

    >>> all(abs(wavelength(e) - v) < 6e-6 for e, v in WAVELENGTHS.items())
    True
    """
    joule = ELECTRON * energy
    return 1e10 * PLANCK / np.sqrt(2 * MASS * joule * (1 + joule / (2 * MASS * LIGHT**2)))


def interaction_parameter(energy: float) -> float:
    r"""Phase per projected potential [rad/(V Å)], :math:`\sigma = 2 \pi m e \lambda / h^2` with the moving mass.

    >>> all(abs(interaction_parameter(e) - v) < 6e-8 for e, v in INTERACTION_PARAMETERS.items())
    True
    """
    mass = MASS * (1 + ELECTRON * energy / (MASS * LIGHT**2))
    return 2 * np.pi * mass * ELECTRON * wavelength(energy) * 1e-10 / PLANCK**2 * 1e-10


def airy_amplitude(radius: np.ndarray, semiangle: float, wavelength: float) -> np.ndarray:
    r"""Amplitude of a probe in focus behind an ideal round aperture, of unit norm.

    .. math:: \psi(r) = \frac{\sqrt{\pi} \alpha}{\lambda} \frac{2 J_1(x)}{x}, \quad x = \frac{2 \pi \alpha r}{\lambda}

    Args:
        radius: Distance from the middle of the probe [Å].
        semiangle: Semi-angle α of the aperture [mrad].
        wavelength: Wavelength [Å].

    Returns:
        ψ [1/Å], real; ∫|ψ|² d²r = 1. Born and Wolf, Principles of Optics (1999), Eq. 8.5.14.

    >>> dark = 0.6098 * 0.02508 / 0.02
    >>> bool(abs(airy_amplitude(np.array([dark]), 20.0, 0.02508))[0] < 1e-3)
    True
    """
    frequency = 1e-3 * semiangle / wavelength
    x = 2 * np.pi * frequency * np.asarray(radius, float)
    safe = np.where(x > 0, x, 1.0)
    return np.sqrt(np.pi) * frequency * np.where(x > 0, 2 * special.j1(safe) / safe, 1.0)


def airy_encircled(radius: np.ndarray, semiangle: float, wavelength: float) -> np.ndarray:
    r"""Fraction of the Airy intensity inside a radius, :math:`1 - J_0^2(x) - J_1^2(x)` (Born and Wolf, Eq. 8.5.18).

    >>> round(float(airy_encircled(0.6098 * 0.02508 / 0.02, 20.0, 0.02508)), 3)
    0.838
    """
    x = 2 * np.pi * 1e-3 * semiangle / wavelength * np.asarray(radius, float)
    return 1 - special.j0(x) ** 2 - special.j1(x) ** 2


def gaussian_width(distance: float | np.ndarray, waist: float, wavelength: float) -> float | np.ndarray:
    r"""Radius of a Gaussian beam where its amplitude has fallen to 1/e.

    .. math:: w(z) = w_0 \sqrt{1 + (z / z_R)^2}, \quad z_R = \pi w_0^2 / \lambda

    Args:
        distance: Distance z from the waist [Å].
        waist: Radius w₀ at the waist [Å].
        wavelength: Wavelength [Å].

    Returns:
        w [Å]. Siegman, Lasers (1986), chapter 17. The standard deviation of the intensity along one axis is w / 2.

    >>> round(float(gaussian_width(np.pi / 0.025, 1.0, 0.025)), 6)
    1.414214
    """
    return waist * np.sqrt(1 + (distance * wavelength / (np.pi * waist**2)) ** 2)


def gaussian_wave(r2: np.ndarray, distance: float, waist: float, wavelength: float) -> np.ndarray:
    r"""A Gaussian beam at a distance from its waist, without the carrier exp(2πiz/λ); of unit norm.

    .. math:: \psi = \sqrt{\tfrac{2}{\pi}} \frac{1}{w_0 q} e^{-r^2 / (w_0^2 q)}, \quad q = 1 + i z / z_R

    The sign is that of a plane wave exp(+2πi k·r) and free space exp(−iπλz k²).

    Args:
        r2: Squared distance from the axis [Å²].
        distance: Distance z from the waist, downstream positive [Å].
        waist: Radius w₀ at the waist [Å].
        wavelength: Wavelength [Å].

    Returns:
        ψ [1/Å], of the shape of `r2`. Siegman, Lasers (1986), chapter 16.
    """
    q = 1 + 1j * distance * wavelength / (np.pi * waist**2)
    return np.sqrt(2 / np.pi) / (waist * q) * np.exp(-np.asarray(r2) / (waist**2 * q))


def two_beam_intensity(thickness: float, extinction: float, deviation: float = 0.0) -> float:
    r"""Diffracted intensity of two beams, Hirsch et al., Electron Microscopy of Thin Crystals (1965).

    .. math:: I_g = \frac{\sin^2(\pi t \sqrt{s^2 + 1/\xi^2})}{1 + (s \xi)^2}

    Args:
        thickness: Thickness t [Å].
        extinction: Extinction distance ξ [Å].
        deviation: Deviation parameter s [1/Å].

    >>> round(two_beam_intensity(50.0, 100.0), 6)
    1.0
    """
    effective = np.sqrt(deviation**2 + extinction**-2)
    return float(np.sin(np.pi * thickness * effective) ** 2 / (1 + (deviation * extinction) ** 2))
