"""Relativistic kinematics of an inelastic collision: effective energy, angles, momentum transfer.

Momentum transfer is a spatial frequency, q = k₀ − k₁ with k = 1/λ [1/Å], as on the grids of this package: no 2π in it.
The wave number of most papers on energy loss is 2π times that.
"""

from __future__ import annotations

import jax.numpy as jnp

from stemjax.core.typing import Annotated, Array, Float, Scalar
from stemjax.optics.electron import PLANCK_LIGHT_SPEED, REST_ENERGY

RYDBERG = 13.605693122990
"""Rydberg energy [eV]; CODATA 2022."""

Values = Float[Array, "..."] | float | int
"""Numbers of any shape."""


def lorentz_factor(energy: Annotated[Scalar, "eV"]) -> Array:
    r"""Total energy of the fast electron in units of its rest energy.

    .. math:: \gamma = 1 + E_0 / (m_0 c^2)

    >>> round(float(lorentz_factor(100e3)), 4)
    1.1957
    """
    return 1.0 + jnp.asarray(energy) / REST_ENERGY


def effective_energy(energy: Annotated[Scalar, "eV"]) -> Array:
    r"""Kinetic energy that a slow electron of the same speed would have.

    .. math:: T = \tfrac12 m_0 v^2 = E_0 \frac{1 + E_0 / (2 m_0 c^2)}{(1 + E_0 / (m_0 c^2))^2}

    Args:
        energy: Beam energy E₀ [eV].

    Returns:
        T [eV]. Source: Egerton, Electron Energy-Loss Spectroscopy in the Electron Microscope, 3rd ed., section 3.2.

    >>> round(float(effective_energy(100e3)) / 1e3, 2)
    76.79
    """
    energy = jnp.asarray(energy)
    return energy * (1.0 + energy / (2.0 * REST_ENERGY)) / lorentz_factor(energy) ** 2


def wavenumber(energy: Annotated[Values, "eV"]) -> Array:
    r"""Wave number of the fast electron, 1/λ [1/Å].

    .. math:: k = \sqrt{E (E + 2 m_0 c^2)} / (h c)
    """
    energy = jnp.asarray(energy)
    return jnp.sqrt(energy * (energy + 2.0 * REST_ENERGY)) / PLANCK_LIGHT_SPEED


def characteristic_angle(loss: Annotated[Values, "eV"], energy: Annotated[Scalar, "eV"]) -> Array:
    r"""Half width of the angular distribution of an energy loss.

    .. math:: \theta_E = \frac{E}{2 \gamma T}

    Args:
        loss: Energy loss E [eV].
        energy: Beam energy [eV].

    Returns:
        θ_E [mrad]. Source: Egerton, 3rd ed., section 3.2.

    >>> round(float(characteristic_angle(284.0, 100e3)), 3)
    1.547
    """
    return 1e3 * jnp.asarray(loss) / (2.0 * lorentz_factor(energy) * effective_energy(energy))


def least_transfer(loss: Annotated[Values, "eV"], energy: Annotated[Scalar, "eV"]) -> Array:
    r"""Momentum transfer without deflection, exact, written so that no digits cancel.

    .. math:: q_{\min} = k_0 - k_1 = \frac{E (2 E_0 + 2 m_0 c^2 - E)}{(h c)^2 (k_0 + k_1)}

    Args:
        loss: Energy loss E [eV].
        energy: Beam energy E₀ [eV].

    Returns:
        q_min [1/Å]; close to k₀ θ_E.
    """
    loss, energy = jnp.asarray(loss), jnp.asarray(energy)
    scaled = loss * (2.0 * energy + 2.0 * REST_ENERGY - loss) / PLANCK_LIGHT_SPEED**2
    return scaled / (wavenumber(energy) + wavenumber(energy - loss))


def momentum_transfer(
    loss: Annotated[Values, "eV"], energy: Annotated[Scalar, "eV"], angle: Annotated[Values, "mrad"]
) -> Array:
    r"""Momentum transfer at a scattering angle.

    .. math:: q^2 = q_{\min}^2 + 4 k_0 k_1 \sin^2(\theta / 2)

    Args:
        loss: Energy loss [eV].
        energy: Beam energy [eV].
        angle: Scattering angle θ [mrad]; it broadcasts against `loss`.

    Returns:
        q [1/Å]. Source: Egerton, 3rd ed., section 3.6, without its approximations.

    >>> bool(abs(momentum_transfer(0.0, 100e3, 10.0) / (0.01 * wavenumber(100e3)) - 1) < 1e-4)
    True
    """
    across = 4.0 * wavenumber(energy) * wavenumber(jnp.asarray(energy) - jnp.asarray(loss))
    return jnp.sqrt(least_transfer(loss, energy) ** 2 + across * jnp.sin(5e-4 * jnp.asarray(angle)) ** 2)


def ridge_angle(loss: Annotated[Values, "eV"], energy: Annotated[Scalar, "eV"]) -> Array:
    r"""Angle of the Bethe ridge: where a free electron at rest would take up the loss and the momentum.

    .. math:: \sin^2 \theta_r = \frac{E}{E_0} \left[ 1 + \frac{E_0 - E}{2 m_0 c^2} \right]^{-1}

    Scattering dies away beyond it. For losses of some 100 eV it is close to √(2 θ_E), the usual cut-off angle.

    Args:
        loss: Energy loss [eV].
        energy: Beam energy [eV].

    Returns:
        θ_r [mrad]. Source: Egerton, 3rd ed., section 3.6.
    """
    loss, energy = jnp.asarray(loss), jnp.asarray(energy)
    return 1e3 * jnp.arcsin(jnp.sqrt(loss / energy / (1.0 + (energy - loss) / (2.0 * REST_ENERGY))))
