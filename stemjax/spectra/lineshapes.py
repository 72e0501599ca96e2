"""Shapes of the zero-loss peak, integrated over channels.

A line shape is anything with ``channels(axis)``: the part of all electrons in every channel.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.scipy.special import erf

from stemjax.core.errors import InputError
from stemjax.core.typing import Annotated, Array, Float, real
from stemjax.spectra.energy_axis import EnergyAxis

FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))
"""Full width at half maximum of a Gaussian in units of its standard deviation."""


class GaussianPeak(struct.PyTreeNode):
    """A Gaussian of area one; made by `make_gaussian_peak`.

    Args:
        position: Centre on the energy axis [eV].
        width: Full width at half maximum [eV].
    """

    position: Annotated[Array, "eV"]
    width: Annotated[Array, "eV"]

    def channels(self, axis: EnergyAxis) -> Array:
        """Part of the area in every channel [energy]."""
        return jnp.diff(gaussian_below((axis.edges() - self.position) / self.width))


class SkewedPeak(struct.PyTreeNode):
    """Two halves, each part Gaussian and part Lorentzian, of one height and of area one; made by `make_skewed_peak`.

    Args:
        position: Maximum on the energy axis [eV].
        rise: Full width that the peak would have from its side of negative loss [eV].
        fall: The same from its side of positive loss [eV].
        lorentzian: Part of the height that is Lorentzian, 0 to 1.
    """

    position: Annotated[Array, "eV"]
    rise: Annotated[Array, "eV"]
    fall: Annotated[Array, "eV"]
    lorentzian: Array

    def channels(self, axis: EnergyAxis) -> Array:
        """Part of the area in every channel [energy]."""
        from_centre = axis.edges() - self.position
        left = self._half(jnp.minimum(from_centre, 0.0), self.rise)
        right = self._half(jnp.maximum(from_centre, 0.0), self.fall)
        return 2.0 * jnp.diff(left + right) / (self.rise + self.fall)

    def _half(self, from_centre: Array, width: Array) -> Array:
        """Area from the maximum to an energy, of a peak whose whole area is its width; odd."""
        # A Gaussian and a Lorentzian of the same height and width have areas in this ratio.
        gauss, lorentz = np.sqrt(np.pi / np.log(2.0)) / 2.0, np.pi / 2.0
        reduced = from_centre / width
        share = self.lorentzian * lorentz / (self.lorentzian * lorentz + (1.0 - self.lorentzian) * gauss)
        below = share * jnp.arctan(2.0 * reduced) / np.pi + (1.0 - share) * (gaussian_below(reduced) - 0.5)
        return width * below


def gaussian_below(reduced: Float[Array, "..."]) -> Array:
    """Area of a Gaussian of area one below an energy in units of its full width."""
    return 0.5 * (1.0 + erf(reduced * (FWHM_PER_SIGMA / np.sqrt(2.0))))


def make_gaussian_peak(width: float, position: float = 0.0) -> GaussianPeak:
    """A Gaussian zero-loss peak, checked.

    Args:
        width: Full width at half maximum [eV].
        position: Centre on the energy axis [eV].

    >>> from stemjax.spectra.energy_axis import make_energy_axis
    >>> round(float(make_gaussian_peak(0.8).channels(make_energy_axis(-5.0, 0.1, 101)).sum()), 6)
    1.0
    """
    _check_width(width)
    return GaussianPeak(real(position), real(width))


def make_skewed_peak(rise: float, fall: float, *, lorentzian: float = 0.0, position: float = 0.0) -> SkewedPeak:
    """An asymmetric zero-loss peak, as of a field-emission gun, checked.

    Args:
        rise: Full width of a peak like its side of negative loss [eV].
        fall: Full width of a peak like its side of positive loss [eV].
        lorentzian: Lorentzian part of the height, 0 to 1.
        position: Maximum on the energy axis [eV].

    >>> float(make_skewed_peak(0.8, 1.2, lorentzian=0.5).lorentzian)
    0.5
    """
    _check_width(rise)
    _check_width(fall)
    if not 0.0 <= lorentzian <= 1.0:
        raise InputError(f"Lorentzian part {lorentzian:g} is not between 0 and 1; give a part such as 0.3")
    return SkewedPeak(real(position), real(rise), real(fall), real(lorentzian))


def _check_width(width: float) -> None:
    if not width > 0:
        raise InputError(f"a zero-loss peak {width:g} eV wide holds no electron; give its full width, such as 0.8 eV")
