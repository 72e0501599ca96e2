r"""Low loss from a dielectric function: volume and surface plasmons of a foil that the beam meets straight on.

.. math::
    \frac{\mathrm d P_v}{\mathrm d E} &= \frac{t}{2 \pi a_0 T}\, \mathrm{Im} \frac{-1}{\varepsilon(E)}
        \int p(\theta)\, \mathrm d \ln q^2, \qquad
        \int_0^\beta \mathrm d \ln q^2 = \ln(1 + \beta^2 / \theta_E^2) \\
    \frac{\mathrm d P_s}{\mathrm d E} &= \frac{n}{2 \pi a_0 k_0 T}\, \mathrm{Im} \left[ \frac{-4}{1 + \varepsilon}
        + \frac{1}{\varepsilon} \right] \int \frac{\theta\, p(\theta)}{\theta^2 + \theta_E^2}\, \mathrm d \ln q^2

for n faces, with k₀ = 2π/λ, T = m₀v²/2 and the accepted part p(θ). Non-relativistic in the dielectric response (no
retardation, no Cherenkov loss); the faces do not feel each other. Source: Egerton, 3rd ed., Eq. 4.26.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.typing import Annotated, Array, Complex, Float, Scalar, real
from stemjax.specimen.scattering_factors import BOHR_RADIUS
from stemjax.spectra.collection import Accepting, Transfers
from stemjax.spectra.kinematics import Values, effective_energy, wavenumber


class Oscillators(struct.PyTreeNode):
    r"""Damped oscillators; made by `make_oscillators` or `make_drude`.

    .. math:: \varepsilon(E) = 1 + \sum_j \frac{A_j^2}{E_j^2 - E^2 - i \Gamma_j E}

    Causal for every value of its leaves, so the Kramers-Kronig relations hold. ∫ E Im(−1/ε) dE = (π/2) Σ A_j².

    Args:
        energies: Resonances E_j; 0 for free electrons [oscillator] [eV].
        strengths: Plasma energies A_j, the root of the strength [oscillator] [eV].
        widths: Damping Γ_j [oscillator] [eV].
    """

    energies: Annotated[Array, "eV"]
    strengths: Annotated[Array, "eV"]
    widths: Annotated[Array, "eV"]


class LowLoss(struct.PyTreeNode):
    """A foil described by its dielectric function; made by `make_low_loss`.

    Args:
        oscillators: The dielectric function.
        thickness: Thickness of the foil [Å].
        faces: Number of surfaces, 2 for a clean foil; may be any number, to scale the surface loss.
        cutoff: Angle about which the excitation ends, smoothly [mrad].
    """

    oscillators: Oscillators
    thickness: Annotated[Array, "Å"]
    faces: Array
    cutoff: Annotated[Array, "mrad"]

    def density(
        self, loss: Annotated[Float[Array, "energy"], "eV"], energy: Annotated[Scalar, "eV"], collection: Accepting
    ) -> Annotated[Array, "1/eV"]:
        """dP/dE of single scattering, volume and surfaces [energy] [1/eV]."""
        limited = Limited(collection, self.cutoff)
        surface = self.faces * surface_density(self.oscillators, loss, energy, limited)
        return volume_density(self.oscillators, loss, energy, limited) * self.thickness + surface


class Limited(struct.PyTreeNode):
    """What a collection accepts, and a specimen still scatters: 1/(1 + (q/q_c)⁸) of it.

    Args:
        collection: The collection.
        cutoff: Angle of the cut-off [mrad].
    """

    collection: Accepting
    cutoff: Annotated[Array, "mrad"]

    def transfers(self, loss: Annotated[Values, "eV"], energy: Annotated[Scalar, "eV"]) -> Transfers:
        """Nodes and weights over momentum transfer [... node]."""
        squared, across, weight = self.collection.transfers(loss, energy)
        limit = 1e-3 * self.cutoff * wavenumber(energy)
        return Transfers(squared, across, weight / (1.0 + (across / limit) ** 8))


def make_oscillators(energies: object, strengths: object, widths: object) -> Oscillators:
    """Oscillators of a dielectric function, checked.

    Args:
        energies: Resonances, 0 for free electrons [eV].
        strengths: Plasma energies, the roots of the strengths [eV].
        widths: Damping [eV].

    >>> make_oscillators([0.0, 3.5], [12.0, 4.0], [0.5, 1.0]).energies.shape
    (2,)
    """
    values = [np.atleast_1d(np.asarray(v, float)) for v in (energies, strengths, widths)]
    if len({v.shape for v in values}) > 1 or values[0].ndim != 1:
        shapes = ", ".join(str(v.shape) for v in values)
        raise InputError(f"oscillators need one energy, strength and width each; the shapes given are {shapes}")
    if (values[0] < 0).any() or not (values[2] > 0).all():
        raise InputError(
            "an oscillator needs an energy of 0 or more and a positive width; give for instance 15, 15, 0.5 eV"
        )
    return Oscillators(*(real(v) for v in values))


def make_drude(plasma: float, width: float) -> Oscillators:
    """Free electrons: one oscillator at zero energy.

    Args:
        plasma: Plasmon energy [eV]; 15.0 for aluminium.
        width: Damping [eV].

    >>> float(make_drude(15.0, 0.5).strengths[0])
    15.0
    """
    return make_oscillators([0.0], [plasma], [width])


def make_low_loss(oscillators: Oscillators, thickness: float, *, faces: float = 2.0, cutoff: float = 1000.0) -> LowLoss:
    """A foil, checked.

    Args:
        oscillators: Its dielectric function.
        thickness: Its thickness [Å].
        faces: Number of surfaces.
        cutoff: Angle about which the excitation ends [mrad]; 1000 for none. `ridge_angle` is a good guess.

    >>> float(make_low_loss(make_drude(15.0, 0.5), 500.0).faces)
    2.0
    """
    if not thickness >= 0:
        raise InputError(f"thickness {thickness:g} Å is negative; give Å, such as 500")
    if not cutoff > 0:
        raise InputError(f"cut-off {cutoff:g} mrad leaves nothing; give an angle such as 10 mrad, or 1000 for none")
    return LowLoss(oscillators, real(thickness), real(faces), real(cutoff))


def dielectric_function(
    oscillators: Oscillators, loss: Annotated[Float[Array, "energy"], "eV"]
) -> Complex[Array, "energy"]:
    """ε(E) of damped oscillators, for E > 0.

    Args:
        oscillators: The oscillators.
        loss: Energy [eV].

    >>> round(float(dielectric_function(make_drude(15.0, 0.1), jnp.array([15.0]))[0].real), 3)
    0.0
    """
    one, loss = oscillators, loss[:, None]
    resonance = one.energies**2
    denominator = resonance[None, :] - loss**2 - 1j * one.widths[None, :] * loss
    return 1.0 + jnp.sum(one.strengths[None, :] ** 2 / denominator, axis=-1)


def volume_density(
    oscillators: Oscillators, loss: Annotated[Float[Array, "energy"], "eV"], energy: Scalar, collection: Accepting
) -> Annotated[Array, "1/(eV Å)"]:
    """Probability of a volume loss per energy and path length.

    Args:
        oscillators: The dielectric function.
        loss: Positive energy losses [eV].
        energy: Beam energy [eV].
        collection: What the spectrometer accepts.

    Returns:
        dP/(dE dt) [energy] [1/(eV Å)].
    """
    response = jnp.imag(-1.0 / dielectric_function(oscillators, loss))
    angular = jnp.sum(collection.transfers(loss, energy).weight, axis=-1)
    return response * angular / (2.0 * np.pi * BOHR_RADIUS * effective_energy(energy))


def surface_density(
    oscillators: Oscillators, loss: Annotated[Float[Array, "energy"], "eV"], energy: Scalar, collection: Accepting
) -> Annotated[Array, "1/eV"]:
    """Probability per energy of a loss at one face, and of the volume loss that the face takes away; may be negative.

    Args:
        oscillators: The dielectric function of the solid; vacuum on the other side.
        loss: Positive energy losses [eV].
        energy: Beam energy [eV].
        collection: What the spectrometer accepts.

    Returns:
        dP/dE of one face [energy] [1/eV].
    """
    inverse = 1.0 / dielectric_function(oscillators, loss)
    response = jnp.imag(inverse - 4.0 * inverse / (1.0 + inverse))
    squared, across, weight = collection.transfers(loss, energy)
    angular = jnp.sum(weight * across / squared, axis=-1)
    return response * angular / (4.0 * np.pi**2 * BOHR_RADIUS * effective_energy(energy))
