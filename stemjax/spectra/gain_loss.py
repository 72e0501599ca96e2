r"""Energy gain and loss by vibrations in thermal equilibrium, and the temperature that follows.

.. math:: S(E) = g(E)\,[1 + n(E)], \quad n(E) = \frac{1}{e^{E/kT} - 1}, \quad g(-E) = -g(E)
    \quad\Rightarrow\quad S(-E) = S(E)\, e^{-E/kT}

E > 0 is loss. Detailed balance holds for each E exactly, whatever the density g. A Gaussian resolution of standard
deviation s moves the two sides against each other: for the spectrum as it is measured, elastic line and all,

.. math:: S_b(-E - \delta) = S_b(E - \delta)\, e^{-E/kT}, \qquad \delta = \frac{s^2}{2 k T}

exactly (complete the square in the convolution of e^{E/2kT} with the Gaussian). Leaving δ out gives
T / {1 + (kT/E) ln[h(E + δ)/h(E − δ)]} with the even function h(E + δ) = S_b(E) e^{-E/2kT}: too high wherever h falls,
and infinite in the tail of the elastic line, which is symmetric and knows no temperature.

Source: M. J. Lagos and P. E. Batson, Nano Lett. 18 (2018) 4556; J. C. Idrobo et al., Phys. Rev. Lett. 120 (2018)
095901.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.typing import Annotated, Array, Float, Scalar, real
from stemjax.spectra.energy_axis import EnergyAxis
from stemjax.spectra.lineshapes import FWHM_PER_SIGMA

BOLTZMANN = 8.617333262e-5
"""Boltzmann constant [eV/K]; exact in the SI."""
_ROUNDS = 10


class Vibrations(struct.PyTreeNode):
    """Vibrations of a specimen as peaks of a density; made by `make_vibrations`.

    Args:
        energies: Centre of each peak [mode] [eV].
        widths: Full width of each at half maximum [mode] [eV].
        strengths: Probability of the excitation of each at zero temperature [mode].
        temperature: Temperature [K].
    """

    energies: Annotated[Array, "eV"]
    widths: Annotated[Array, "eV"]
    strengths: Array
    temperature: Annotated[Array, "K"]

    def density(self, loss: Annotated[Float[Array, "energy"], "eV"]) -> Annotated[Array, "1/eV"]:
        """dP/dE of one loss (E > 0) or gain (E < 0) [energy] [1/eV]."""
        sigma = (self.widths / FWHM_PER_SIGMA)[None, :]
        near, far = (jnp.exp(-0.5 * ((loss[:, None] - s * self.energies[None, :]) / sigma) ** 2) for s in (1.0, -1.0))
        scale = (self.strengths[None, :] / sigma) / np.sqrt(2.0 * np.pi)
        return jnp.sum(scale * (near - far), axis=1) * emission(loss, self.temperature)


def make_vibrations(energies: object, widths: object, strengths: object, temperature: float) -> Vibrations:
    """Vibrations, checked.

    Args:
        energies: Centre of each peak [eV], such as 0.18 for the optical phonons of h-BN.
        widths: Full widths [eV].
        strengths: Probabilities at zero temperature.
        temperature: Temperature [K].

    >>> make_vibrations([0.18], [0.02], [0.01], 300.0).energies.shape
    (1,)
    """
    values = [np.atleast_1d(np.asarray(v, float)) for v in (energies, widths, strengths)]
    if len({v.shape for v in values}) > 1:
        raise InputError(f"{len(values[0])} vibrations need as many widths and strengths; give one of each per energy")
    if not (values[0] > 0).all() or not (values[1] > 0).all():
        raise InputError("a vibration needs a positive energy and width; give eV, such as 0.18 and 0.02")
    if not temperature > 0:
        raise InputError(f"temperature {temperature:g} K gives no gain; give one above zero, such as 300")
    centres, widths, strengths = (real(v) for v in values)
    return Vibrations(centres, widths, strengths, real(temperature))


def occupation(loss: Annotated[Float[Array, "..."], "eV"], temperature: Annotated[Scalar, "K"]) -> Array:
    """Bose-Einstein occupation n(E), for both signs of E; n(−E) = −1 − n(E)."""
    return 1.0 / jnp.expm1(_reduced(loss, temperature))


def emission(loss: Annotated[Float[Array, "..."], "eV"], temperature: Annotated[Scalar, "K"]) -> Array:
    """1 + n(E) for both signs of E, without the cancellation of that sum where E < 0."""
    reduced = _reduced(loss, temperature)
    size = jnp.abs(reduced)
    # exp(|E|/kT) would overflow far on the side of gain.
    stimulated = jnp.exp(-size) / -jnp.expm1(-size)
    return jnp.where(reduced > 0, 1.0 + stimulated, -stimulated)


def _reduced(loss: Array, temperature: Scalar) -> Array:
    """E/kT. At E = 0 the density vanishes like E; a shift of 1e-6 kT keeps the product finite."""
    reduced = loss / (BOLTZMANN * temperature)
    return jnp.where(jnp.abs(reduced) < 1e-6, 1e-6, reduced)


def temperature_from(
    gain: Float[Array, "..."], loss: Float[Array, "..."], energy: Annotated[Float[Array, "..."] | float, "eV"]
) -> Annotated[Array, "K"]:
    r"""Temperature from a pair of intensities, gain at −E and loss at +E.

    .. math:: T = \frac{E}{k \ln(S(E) / S(-E))}

    Exact for unbroadened intensities, and for whole areas of narrow peaks that do not overlap anything else.

    Args:
        gain: Intensity at −E.
        loss: Intensity at +E, in the same unit.
        energy: E [eV].

    >>> import numpy as np
    >>> round(float(temperature_from(jnp.array(np.exp(-0.1 / (BOLTZMANN * 300))), jnp.array(1.0), 0.1)), 3)
    300.0
    """
    return energy / (BOLTZMANN * jnp.log(loss / gain))


def temperature_of(
    spectrum: Float[Array, "energy"],
    axis: EnergyAxis,
    window: tuple[float, float],
    *,
    width: Annotated[Scalar, "eV"] = 0.0,
    points: int = 64,
) -> Annotated[Array, "K"]:
    """Temperature of a measured spectrum, broadened by a Gaussian, with its elastic line.

    The two sides are compared at −E − δ and E − δ over the window, with δ = s²/(2 k T) found together with T.

    Args:
        spectrum: Intensity per channel; positive within the window on both sides. Between channels its logarithm is
            taken to be linear.
        axis: Its axis; zero is the centre of the elastic line.
        window: Energies between which the sides are compared [eV]; choose it where the gain stands above noise.
        width: Full width of the zero-loss peak [eV].
        points: Energies in the window.

    Returns:
        T [K]; differentiable in the spectrum and the width.
    """
    low, high = window
    if not 0.0 < low < high:
        raise InputError(f"no gain to compare from {low:g} to {high:g} eV; give a window such as (0.05, 0.15)")
    energies = real(np.linspace(low, high, points))
    variance = (jnp.asarray(width) / FWHM_PER_SIGMA) ** 2
    places = axis.energies()
    logarithm = jnp.log(jnp.maximum(spectrum, jnp.finfo(spectrum.dtype).tiny))

    def found(inverse: Array) -> Array:
        shift = 0.5 * variance * inverse
        loss, gain = (jnp.interp(sign * energies - shift, places, logarithm) for sign in (1.0, -1.0))
        weight = jax.lax.stop_gradient(jnp.exp(gain - jnp.max(gain)) * energies**2)
        return jnp.sum(weight * (loss - gain) / energies) / jnp.sum(weight)

    def closer(inverse: Array, _: None) -> tuple[Array, None]:
        value, slope = jax.jvp(found, (inverse,), (jnp.ones_like(inverse),))
        # Newton's rule; in the tail of the elastic line, which holds no temperature, the slope would be one.
        return inverse - (inverse - value) / jnp.maximum(1.0 - jax.lax.stop_gradient(slope), 0.1), None

    inverse, _ = jax.lax.scan(closer, real(1.0 / (BOLTZMANN * 300.0)), None, length=_ROUNDS)
    return 1.0 / (BOLTZMANN * inverse)
