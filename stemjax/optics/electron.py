"""The fast electron: wavelength, interaction parameter."""

from __future__ import annotations

import math

from stemjax.core.errors import InputError

REST_ENERGY = 510_998.950_69
"""m₀c² [eV]; CODATA 2022."""

PLANCK_LIGHT_SPEED = 12_398.419_843_320_026
"""hc [eV Å]; exact in the SI."""


def check_energy(energy: float) -> float:
    """The energy in eV, or an error that names the likely slip (a value in keV)."""
    if not math.isfinite(energy) or energy < 1e3:
        raise InputError(f"beam energy {energy:g} eV is not that of a STEM; give eV (80e3 or '80 keV')")
    return float(energy)


def wavelength(energy: float) -> float:
    r"""Relativistic wavelength of an electron.

    .. math:: \lambda = \frac{hc}{\sqrt{E (E + 2 m_0 c^2)}}

    Args:
        energy: Kinetic energy [eV].

    Returns:
        Wavelength [Å]. Source: Kirkland, Advanced Computing in Electron Microscopy, 2nd ed., Eq. 2.5.

    >>> round(wavelength(200e3), 6)
    0.025079
    """
    energy = check_energy(energy)
    return PLANCK_LIGHT_SPEED / math.sqrt(energy * (energy + 2.0 * REST_ENERGY))


def energy_of(wavelength: float) -> float:
    r"""Kinetic energy of an electron of a wavelength: the inverse of `wavelength`.

    .. math:: E = \sqrt{(hc / \lambda)^2 + (m_0 c^2)^2} - m_0 c^2

    Args:
        wavelength: Wavelength [Å].

    Returns:
        Kinetic energy [eV].

    Raises:
        InputError: No electron microscope has this wavelength.

    >>> round(energy_of(0.041757), 1)
    80000.6
    """
    if not math.isfinite(wavelength) or wavelength <= 0:
        raise InputError(f"a wavelength of {wavelength:g} Å; give a positive one, such as 0.0251 for 200 keV")
    return check_energy(math.hypot(PLANCK_LIGHT_SPEED / wavelength, REST_ENERGY) - REST_ENERGY)


def interaction_parameter(energy: float) -> float:
    r"""Phase per projected potential.

    .. math:: \sigma = \frac{2 \pi}{\lambda E} \frac{E + m_0 c^2}{E + 2 m_0 c^2}

    Args:
        energy: Kinetic energy [eV].

    Returns:
        σ [rad/(V Å)]. Source: Kirkland, Advanced Computing in Electron Microscopy, 2nd ed., Eq. 5.6.

    >>> round(1e3 * interaction_parameter(100e3), 4)
    0.9244
    """
    energy = check_energy(energy)
    return 2.0 * math.pi / (wavelength(energy) * energy) * (energy + REST_ENERGY) / (energy + 2.0 * REST_ENERGY)
