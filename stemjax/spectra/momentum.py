r"""Momentum-resolved spectra: a collection aperture beside the axis, and what transfer of momentum it sees.

An electron comes in at u (within the cone of α), is scattered by θ and leaves at u + θ, within the aperture of β around
d. The part of the cone for which that holds is the overlap of two disks, a function of |θ − d| alone:

.. math::
    p(\boldsymbol\theta) = \frac{1}{\pi \alpha^2}
    \left| \{u: |u| < \alpha\} \cap \{u: |u + \boldsymbol\theta - \mathbf d| < \beta\} \right|

so θ − d is distributed as the difference of two points in disks of α and β: its mean is zero and its standard deviation
along each axis √(α² + β²)/2, exactly.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.typing import Annotated, Array, Float, Scalar, real
from stemjax.specimen.scattering_factors import BOHR_RADIUS
from stemjax.spectra.collection import (
    Accepting,
    Transfers,
    along_last,
    cone_overlap,
    make_collection,
    transfers_between,
)
from stemjax.spectra.kinematics import RYDBERG, Values, effective_energy, wavenumber

_RADIAL, _AZIMUTHAL = 64, 32


class DisplacedCollection(struct.PyTreeNode):
    """A round collection aperture beside the axis; made by `make_displaced_collection`.

    For scattering that depends on the modulus of q only. It serves wherever a `Collection` does.

    Args:
        semiangle: Collection semi-angle β [mrad].
        convergence: Semi-angle α of the incident cone [mrad].
        offset: Centre (y, x) against the axis of the beam [mrad].
    """

    semiangle: Annotated[Array, "mrad"]
    convergence: Annotated[Array, "mrad"]
    offset: Annotated[Array, "mrad"]

    def transfers(self, loss: Annotated[Values, "eV"], energy: Annotated[Scalar, "eV"]) -> Transfers:
        """Nodes and weights over momentum transfer [... node]; Gauss-Legendre in ln q² where anything is accepted."""
        reach, centre = self.semiangle + self.convergence, jnp.hypot(*self.offset)
        inner = jnp.maximum(centre - reach, 0.0)
        return transfers_between(inner, centre + reach, _RADIAL, loss, energy, self.accepted)

    def accepted(self, angle: Annotated[Float[Array, "..."], "mrad"]) -> Array:
        """Part of the electrons scattered by an angle that enters the aperture, the mean over all directions."""
        reach, centre = self.semiangle + self.convergence, jnp.hypot(*self.offset)
        # The azimuths at which anything is accepted, against the direction of the aperture.
        cosine = (angle**2 + centre**2 - reach**2) / (2.0 * angle * centre)
        furthest = jnp.arccos(jnp.clip(cosine, -1.0 + 1e-6, 1.0 - 1e-6))[..., None]
        points, areas = np.polynomial.legendre.leggauss(_AZIMUTHAL)
        nodes, weights = (along_last(real(a), angle.ndim + 1) for a in (0.5 * (points + 1.0), 0.5 * areas))
        angle = angle[..., None]
        distance = jnp.sqrt((angle - centre) ** 2 + 4.0 * angle * centre * jnp.sin(0.5 * furthest * nodes) ** 2 + 1e-12)
        overlap = cone_overlap(distance, self.convergence, self.semiangle)
        return jnp.sum(weights * overlap, axis=-1) * furthest[..., 0] / jnp.pi


def make_displaced_collection(
    semiangle: float, offset: tuple[float, float], *, convergence: float = 0.0
) -> DisplacedCollection:
    """A collection aperture beside the axis, checked.

    Args:
        semiangle: Collection semi-angle β [mrad].
        offset: Centre (y, x) [mrad].
        convergence: Convergence semi-angle α [mrad].

    >>> make_displaced_collection(1.0, (0.0, 5.0)).offset.tolist()
    [0.0, 5.0]
    """
    centred = make_collection(semiangle, convergence)
    if np.hypot(*offset) < 1e-3:
        raise InputError(
            f"an aperture at {offset} mrad is on the axis; use make_collection({semiangle:g}, {convergence:g})"
        )
    return DisplacedCollection(centred.semiangle, centred.convergence, real(offset))


def momentum_resolution(collection: DisplacedCollection, energy: Annotated[Scalar, "eV"]) -> Annotated[Array, "1/Å"]:
    r"""Standard deviation of the accepted momentum transfer along one axis.

    .. math:: \Delta q = k_0 \sqrt{\alpha^2 + \beta^2} / 2

    Args:
        collection: The aperture, on the axis or beside it.
        energy: Beam energy [eV].

    Returns:
        Δq [1/Å], without 2π. The current that is accepted grows as β²; the diffraction limit of the probe is
        0.61/(k₀ α), so that the product of the two resolutions is bounded.
    """
    return 5e-4 * wavenumber(energy) * jnp.hypot(collection.semiangle, collection.convergence)


def transfer_distribution(
    collection: DisplacedCollection, angles_y: Float[Array, "ny"], angles_x: Float[Array, "nx"]
) -> Float[Array, "ny nx"]:
    """Accepted part of the incident cone for every scattering angle.

    Args:
        collection: The aperture.
        angles_y: Scattering angles along y [mrad].
        angles_x: Scattering angles along x [mrad].

    Returns:
        p(θ), between 0 and 1 [ny nx]; its integral over the plane is πβ² [mrad²].
    """
    from_y, from_x = angles_y - collection.offset[0], angles_x - collection.offset[1]
    distance = jnp.sqrt(from_y[:, None] ** 2 + from_x[None, :] ** 2)
    return cone_overlap(distance, collection.convergence, collection.semiangle)


class DispersivePlasmon(struct.PyTreeNode):
    r"""A plasmon whose energy and width rise with momentum; made by `make_dispersive_plasmon`.

    .. math:: E_q = E_p + A \frac{\hbar^2 q^2}{m_0}, \quad \Gamma_q = \Gamma_0 + B \frac{\hbar^2 q^2}{m_0}, \quad
        \mathrm{Im} \frac{-1}{\varepsilon} = \frac{E\, \Gamma_q\, E_p^2}{(E^2 - E_q^2)^2 + (E \Gamma_q)^2}

    with q in rad/Å. A = B = 0 is an excitation that does not disperse. A ≈ 0.4 for aluminium; the
    random-phase approximation gives 3 E_F / (5 E_p). Source: Egerton, 3rd ed., section 3.3.

    Args:
        plasma: Plasmon energy E_p at q = 0 [eV].
        width: Width Γ₀ at q = 0 [eV].
        dispersion: A.
        broadening: B.
        thickness: Thickness of the specimen [Å].
    """

    plasma: Annotated[Array, "eV"]
    width: Annotated[Array, "eV"]
    dispersion: Array
    broadening: Array
    thickness: Annotated[Array, "Å"]

    def loss_function(self, loss: Annotated[Array, "eV"], squared: Annotated[Array, "1/Å^2"]) -> Array:
        """Im(−1/ε(E, q)); the arguments broadcast."""
        recoil = 2.0 * RYDBERG * BOHR_RADIUS**2 * (2.0 * jnp.pi) ** 2 * squared
        width = self.width + self.broadening * recoil
        resonance = self.plasma + self.dispersion * recoil
        return loss * width * self.plasma**2 / ((loss**2 - resonance**2) ** 2 + (loss * width) ** 2)

    def density(
        self, loss: Annotated[Float[Array, "energy"], "eV"], energy: Annotated[Scalar, "eV"], collection: Accepting
    ) -> Annotated[Array, "1/eV"]:
        """dP/dE of single scattering [energy] [1/eV]."""
        squared, _, weight = collection.transfers(loss, energy)
        response = jnp.sum(weight * self.loss_function(loss[:, None], squared), axis=-1)
        return self.thickness * response / (2.0 * np.pi * BOHR_RADIUS * effective_energy(energy))


def make_dispersive_plasmon(
    plasma: float, width: float, thickness: float, *, dispersion: float = 0.0, broadening: float = 0.0
) -> DispersivePlasmon:
    """A plasmon with dispersion, checked.

    Args:
        plasma: Plasmon energy at q = 0 [eV].
        width: Its width [eV].
        thickness: Thickness of the specimen [Å].
        dispersion: A, dimensionless.
        broadening: B, dimensionless.

    >>> float(make_dispersive_plasmon(15.0, 0.5, 500.0, dispersion=0.4).plasma)
    15.0
    """
    if not (plasma > 0 and width > 0 and thickness >= 0):
        raise InputError(
            "a plasmon needs positive energy and width and a thickness; give for instance 15 eV, 0.5 eV, 500 Å"
        )
    return DispersivePlasmon(real(plasma), real(width), real(dispersion), real(broadening), real(thickness))
