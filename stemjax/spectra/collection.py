"""Which scattering angles a spectrometer accepts, and the sums over momentum transfer that follow.

An object is a collection if it has ``transfers(loss, energy)``: nodes of momentum transfer and weights, so that a sum
over them is the integral over ln q² of what enters the spectrometer. `Collection` is the aperture on the axis;
`stemjax.spectra.momentum.DisplacedCollection` one beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.typing import Annotated, Array, Float, Scalar, real
from stemjax.optics.electron import PLANCK_LIGHT_SPEED
from stemjax.spectra.kinematics import Values, least_transfer, lorentz_factor, momentum_transfer, wavenumber

INNER_NODES = 32
"""Nodes over the angles at which the whole incident cone is accepted alike."""
OUTER_NODES = 16
"""Nodes over the angles at which a part of the incident cone is accepted."""


class Transfers(NamedTuple):
    """Nodes of momentum transfer; a sum with the weights is the integral over ln q² times the accepted part."""

    squared: Annotated[Array, "1/Å^2"]
    """q² [... node]."""
    across: Annotated[Array, "1/Å"]
    """Part of q across the beam [... node]."""
    weight: Array
    """Weight [... node]."""


class Accepting(Protocol):
    """What the cross-sections ask of a collection."""

    def transfers(self, loss: Annotated[Values, "eV"], energy: Annotated[Scalar, "eV"]) -> Transfers:
        """Nodes and weights over momentum transfer for every loss [... node]."""


class Tabulated(struct.PyTreeNode):
    """What a collection accepts at losses that are given once and used several times.

    Args:
        nodes: Its nodes and weights at those losses.
    """

    nodes: Transfers

    def transfers(self, loss: Annotated[Values, "eV"], energy: Annotated[Scalar, "eV"]) -> Transfers:  # noqa: ARG002
        """The nodes and weights, which are those of the losses they were made for [... node]."""
        return self.nodes


class Retarded(struct.PyTreeNode):
    r"""A collection for edges, with the transverse interaction of a fast electron added.

    .. math:: \mathrm d \ln q^2 \to \mathrm d \ln q^2 \left[ 1 + \left( \frac{v^2}{c^2} - \frac{e}{q^2} \right)
        \frac{e\, q^2}{(q^2 - e)^2} \right], \qquad e = (E / h c)^2

    in the dipole region, where alone it counts; over all angles it adds −ln(1 − v²/c²) − v²/c². Not for low loss, whose
    transverse part the medium screens. Source: U. Fano, Phys. Rev. 102 (1956) 385.

    Args:
        collection: The collection.
    """

    collection: Accepting

    def transfers(self, loss: Annotated[Values, "eV"], energy: Annotated[Scalar, "eV"]) -> Transfers:
        """Nodes and weights over momentum transfer [... node]."""
        squared, across, weight = self.collection.transfers(loss, energy)
        light = (jnp.asarray(loss)[..., None] / PLANCK_LIGHT_SPEED) ** 2
        speed = 1.0 - lorentz_factor(energy) ** -2
        transverse = (speed - light / squared) * light * squared / (squared - light) ** 2
        return Transfers(squared, across, weight * (1.0 + transverse))


class Collection(struct.PyTreeNode):
    """A round collection aperture on the axis; made by `make_collection`.

    Args:
        semiangle: Collection semi-angle β [mrad].
        convergence: Semi-angle α of the incident cone [mrad]; 0 for a parallel beam.
    """

    semiangle: Annotated[Array, "mrad"]
    convergence: Annotated[Array, "mrad"]

    def transfers(self, loss: Annotated[Values, "eV"], energy: Annotated[Scalar, "eV"]) -> Transfers:
        """Nodes and weights over momentum transfer for every loss [... node].

        Gauss-Legendre in ln q² on two pieces: up to |β − α| and on to α + β.
        """
        whole = jnp.minimum(1.0, (self.semiangle / jnp.maximum(self.convergence, 1e-3 * self.semiangle)) ** 2)
        least, most = abs(self.semiangle - self.convergence), self.semiangle + self.convergence
        inner = transfers_between(0.0 * least, least, INNER_NODES, loss, energy, lambda _: whole)
        outer = transfers_between(least, most, OUTER_NODES, loss, energy, self._lens)
        return Transfers(*(jnp.concatenate(parts, axis=-1) for parts in zip(inner, outer, strict=True)))

    def _lens(self, angle: Array) -> Array:
        return lens_overlap(angle, self.convergence, self.semiangle)

    def accepted(self, angle: Annotated[Float[Array, "..."], "mrad"]) -> Array:
        """Part of the electrons scattered by an angle, in any direction, that enters the aperture."""
        return cone_overlap(angle, self.convergence, self.semiangle)


def make_collection(semiangle: float, convergence: float = 0.0) -> Collection:
    """A collection aperture, checked.

    Args:
        semiangle: Collection semi-angle β [mrad].
        convergence: Convergence semi-angle α [mrad].

    >>> float(make_collection(33.0, 30.0).convergence)
    30.0
    """
    if not 0.0 < semiangle < 1000.0:
        raise InputError(f"collection semi-angle {semiangle:g} mrad collects nothing; give one such as 30 mrad")
    if not 0.0 <= convergence < 1000.0:
        raise InputError(
            f"convergence semi-angle {convergence:g} mrad is no cone; give 0 for a parallel beam, or 20 mrad"
        )
    return Collection(real(semiangle), real(convergence))


def cone_overlap(
    distance: Annotated[Float[Array, "..."], "mrad"],
    convergence: Annotated[Scalar, "mrad"],
    semiangle: Annotated[Scalar, "mrad"],
) -> Array:
    r"""Part of a uniform cone of directions that lies in an aperture whose centre is a distance away.

    .. math::
        f(\rho) = \frac{1}{\pi \alpha^2} \left[ \alpha^2 (A - \sin A \cos A) + \beta^2 (B - \sin B \cos B) \right], \\
        \cos A = \frac{\rho^2 + \alpha^2 - \beta^2}{2 \rho \alpha}, \quad \alpha \sin A = \beta \sin B

    the lens between two circles; min(1, β²/α²) where one holds the other, 0 where they do not meet. A cone narrower
    than a thousandth of the aperture counts as one of a thousandth.

    Args:
        distance: Distance of the centres ρ [mrad]; for an aperture on the axis, the scattering angle.
        convergence: Semi-angle of the cone α [mrad].
        semiangle: Semi-angle of the aperture β [mrad].

    Returns:
        f, between 0 and 1, in the shape of `distance`.

    >>> float(cone_overlap(jnp.array(3.0), 10.0, 20.0)), float(cone_overlap(jnp.array(31.0), 10.0, 20.0))
    (1.0, 0.0)
    """
    alpha, beta = jnp.maximum(convergence, 1e-3 * semiangle), jnp.asarray(semiangle)
    lens = (distance > abs(beta - alpha)) & (distance < alpha + beta)
    rho = jnp.where(lens, distance, jnp.maximum(alpha, beta))  # a value at which the roots have a slope
    whole = jnp.minimum(1.0, (beta / alpha) ** 2)
    return jnp.where(lens, lens_overlap(rho, alpha, beta), jnp.where(distance < alpha + beta, whole, 0.0))


def lens_overlap(distance: Array, convergence: Scalar, semiangle: Scalar) -> Array:
    """`cone_overlap` where the two circles cross, |β − α| ≤ ρ ≤ α + β [mrad]."""
    alpha, beta = jnp.maximum(convergence, 1e-3 * semiangle), jnp.asarray(semiangle)
    cosine = (distance**2 + (alpha - beta) * (alpha + beta)) / (2.0 * distance * alpha)
    cosine = jnp.clip(cosine, -1.0 + 1e-6, 1.0 - 1e-6)
    sine = jnp.sqrt(1.0 - cosine**2)
    first = jnp.arctan2(sine, cosine)
    second = jnp.arctan2(alpha * sine, distance - alpha * cosine)
    share = first - sine * cosine + (beta / alpha) ** 2 * (second - 0.5 * jnp.sin(2.0 * second))
    return share / jnp.pi


def transfers_between(
    lower: Scalar, upper: Scalar, nodes: int, loss: Values, energy: Scalar, accepted: Callable[[Array], Array]
) -> Transfers:
    """Gauss-Legendre nodes in ln q² between two scattering angles [mrad], with the accepted part in the weights.

    Args:
        lower: Smaller angle [mrad].
        upper: Larger angle [mrad].
        nodes: Number of nodes.
        loss: Energy loss of any shape [eV].
        energy: Beam energy [eV].
        accepted: Function from an angle [mrad] to the accepted part.
    """
    loss = jnp.asarray(loss)
    nodes_, weights = (real(a) for a in np.polynomial.legendre.leggauss(nodes))
    low, high = (2.0 * jnp.log(momentum_transfer(loss, energy, angle))[..., None] for angle in (lower, upper))
    half = 0.5 * (high - low)
    squared = jnp.exp(0.5 * (high + low) + half * along_last(nodes_, half.ndim))
    least = least_transfer(loss, energy)[..., None]
    product = wavenumber(energy) * wavenumber(energy - loss)[..., None]
    sine = jnp.sqrt(jnp.maximum(squared - least**2, 1e-12 * squared) / (4.0 * product))
    part = accepted(angle_of(sine))
    return Transfers(squared, 2.0 * jnp.sqrt(product) * sine, half * along_last(weights, half.ndim) * part)


def angle_of(sine: Array) -> Annotated[Array, "mrad"]:
    """2 arcsin(x) in mrad by its series: to 1e-9 below 200 mrad, to 1e-3 at 1 rad; an arcsine is slow to compile."""
    x = sine**2
    return 2e3 * sine * (1.0 + x * (1 / 6 + x * (3 / 40 + x * (15 / 336 + x * (105 / 3456)))))


def along_last(values: Array, axes: int) -> Array:
    """A vector as the last of so many axes."""
    return values.reshape((1,) * (axes - 1) + (-1,))
