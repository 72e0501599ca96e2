r"""Effective scattering potential of an edge: where in the specimen an atom causes a loss.

In the local, dipole approximation the probability that an electron of wave ψ loses the energy is ∫ |ψ|² W dA with

.. math::
    \tilde W(k) = \int \mathrm d E\, \frac{4 a_0^2 R^2}{E\, T} \int \mathrm d^2 q\, p(\theta)\,
    \frac{\mathrm d f}{\mathrm d E}\,
    \frac{\mathbf q \cdot (\mathbf q - \mathbf k) + q_E^2}{(q^2 + q_E^2)(|\mathbf q - \mathbf k|^2 + q_E^2)}

The integral over the azimuth of q is closed: with v = q² + q_E² it leaves, under ∫ d ln v,

.. math:: s(k; v) = \frac12 \left[ 1 + \frac{v - k^2}{\sqrt{(v - k^2)^2 + 4 q_E^2 k^2}} \right]

a step that lets through the transfers larger than k. W̃(0) is the cross-section σ(β, Δ), so ∫ W dA = σ. Between nodes
the oscillator strength is taken to be constant and s is integrated in closed form.

Source: H. Kohl and H. Rose, Adv. Electron. Electron Phys. 65 (1985) 173; M. P. Oxley and L. J. Allen, Phys. Rev. B 57
(1998) 3273; the local approximation and its limits: C. Dwyer, Ultramicroscopy 104 (2005) 141.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.typing import Annotated, Array, Float, Scalar, real
from stemjax.specimen.scattering_factors import BOHR_RADIUS
from stemjax.spectra.collection import Collection, angle_of
from stemjax.spectra.edges import Edge
from stemjax.spectra.hydrogenic import ORBITALS, cross_section, orbital_strength, window_nodes
from stemjax.spectra.kinematics import (
    RYDBERG,
    characteristic_angle,
    effective_energy,
    least_transfer,
    momentum_transfer,
    wavenumber,
)

_INTERVALS, _LOSSES = 64, 4


class EdgePotential(struct.PyTreeNode):
    """Radial factor of the effective potential of one atom; made by `edge_factor`. Call it with (number, k).

    Args:
        values: W̃ at the nodes [node] [Å²].
        spacing: Distance of the nodes [1/Å].
        number: Atomic number; other atoms have none.
    """

    values: Annotated[Array, "Å^2"]
    spacing: Annotated[Array, "1/Å"]
    number: int = struct.field(pytree_node=False)

    def __call__(self, number: int, k: Annotated[Float[Array, "..."] | np.ndarray, "1/Å"]) -> Annotated[Array, "Å^2"]:
        """W̃(k) of an atom, in the shape of k; zero for other elements and beyond the last node.

        The nodes lie at spacing × j², dense where the long range of the interaction shows.
        """
        k = real(k)
        if number != self.number:
            return jnp.zeros_like(k)
        place = jnp.sqrt(k / self.spacing + 1e-12)
        nodes = jnp.arange(self.values.shape[0], dtype=place.dtype)
        return jnp.interp(place, nodes, self.values, right=0.0)


def edge_factor(
    edge: Edge,
    energy: Annotated[float, "eV"],
    collection: Collection,
    window: Annotated[float, "eV"],
    *,
    largest: float = 6.0,
    nodes: int = 192,
) -> EdgePotential:
    """Radial factor of the effective potential of an edge, for a sum over the atoms of a slice.

    Args:
        edge: The edge; its element is the one that scatters.
        energy: Beam energy [eV].
        collection: The collection aperture.
        window: Energy window from the lowest onset up [eV].
        largest: Largest spatial frequency of the table [1/Å].
        nodes: Number of nodes of the table.

    Returns:
        A function of atomic number and k [1/Å] whose value is W̃ [Å²]: the Fourier coefficients of a potential on a cell
        of area A are W̃(k)/A times the structure factor. Then Σ over slices of the mean of |ψ|² W (|ψ|² with mean one)
        is the probability of the loss per incident electron, and σ × atoms per area for uniform illumination.

    >>> from stemjax.spectra.collection import make_collection
    >>> from stemjax.spectra.edges import make_edge
    >>> factor = edge_factor(make_edge("O_K"), 200e3, make_collection(30.0), 50.0, nodes=8)
    >>> bool(factor(8, np.array([0.0]))[0] > factor(8, np.array([1.0]))[0]), float(factor(38, np.array([0.0]))[0])
    (True, 0.0)
    """
    if not window > 0:
        raise InputError(f"an energy window of {window:g} eV holds no electron; give one such as 50 eV")
    if not (largest > 0 and nodes > 2):
        raise InputError(
            f"a table of {nodes} nodes to {largest:g} 1/Å has no range; give for instance 192 nodes to 6 1/Å"
        )
    spacing = largest / (nodes - 1) ** 2
    k = real(spacing * np.arange(nodes) ** 2)
    values = effective_potential(edge, energy, collection, window, k)
    return EdgePotential(values, real(spacing), number=edge.number)


@jax.jit
def effective_potential(
    edge: Edge, energy: Scalar, collection: Collection, window: Scalar, k: Annotated[Float[Array, "k"], "1/Å"]
) -> Annotated[Array, "Å^2"]:
    """W̃(k) of an edge at some spatial frequencies; arguments as for `edge_factor`, all differentiable.

    Returns:
        W̃ [k] [Å²]; σ at k = 0.
    """
    losses, weights = window_nodes(edge, window, _LOSSES)
    with_zero = jnp.concatenate([jnp.zeros_like(k[:1]), k])
    shells = [
        jnp.sum(weights[i][:, None] * _weighted(edge, i, losses[i], energy, collection, with_zero), axis=0)
        for i in range(len(edge.shells))
    ]
    shape = jnp.sum(jnp.stack(shells), axis=0)
    # The shape is integrated on coarse nodes; the scale is that of the full quadrature.
    return shape[1:] / shape[0] * cross_section(edge, window, energy, collection)


def _weighted(edge: Edge, shell: int, loss: Array, energy: Scalar, collection: Collection, k: Array) -> Array:
    """dW̃/dE of one shell at some losses [loss k]."""
    reach = collection.semiangle + collection.convergence
    edges = real(np.linspace(0.0, 1.0, _INTERVALS + 1))[None, :]
    low, high = (2.0 * jnp.log(momentum_transfer(loss, energy, a))[:, None] for a in (0.0, reach))
    borders = jnp.exp(low + (high - low) * edges)
    least = least_transfer(loss, energy)[:, None] ** 2
    middle = jnp.sqrt(borders[:, :-1] * borders[:, 1:])
    across = wavenumber(energy) * wavenumber(energy - loss)[:, None]
    angle = angle_of(jnp.sqrt(jnp.maximum(middle - least, 1e-12 * middle) / (4.0 * across)))
    strength = orbital_strength(edge, ORBITALS[edge.shells[shell]], loss[:, None], middle) * collection.accepted(angle)
    strength = edge.electrons[shell] * strength
    scale = 4.0 * np.pi * BOHR_RADIUS**2 * RYDBERG**2 / (effective_energy(energy) * loss)
    integral = step_integral(borders[:, :, None], least[:, :, None], k[None, None, :])
    return scale[:, None] * jnp.sum(strength[:, :, None] * jnp.diff(integral, axis=1), axis=1)


def step_integral(
    v: Annotated[Float[Array, "..."], "1/Å^2"],
    least: Annotated[Float[Array, "..."], "1/Å^2"],
    k: Annotated[Float[Array, "..."], "1/Å"],
) -> Array:
    r"""Antiderivative of s(k; v) in ln v, in closed form.

    .. math:: \Phi = \tfrac12 \left[ \ln v + \operatorname{arsinh} \frac{v - a}{b}
        + \frac{a}{c} \operatorname{arsinh} \frac{c^2 - a v}{b v} \right], \quad
        a = k^2, \; b = 2 q_E k, \; c^2 = a^2 + b^2

    Args:
        v: q² + q_E².
        least: q_E².
        k: Spatial frequency.

    Returns:
        Φ up to a constant; Φ(v₂) − Φ(v₁) → ln(v₂/v₁) for k → 0.
    """
    # Below a thousandth of q_E the step is one everywhere; there Φ would be a difference of large numbers.
    a = jnp.maximum(k**2, 1e-6 * least)
    b = 2.0 * jnp.sqrt(least * a)
    c = jnp.sqrt(a**2 + b**2)
    return 0.5 * (jnp.log(v) + jnp.arcsinh((v - a) / b) + a / c * jnp.arcsinh((c**2 - a * v) / (b * v)))


def enclosed(potential: EdgePotential, radii: Annotated[np.ndarray, "Å"]) -> np.ndarray:
    r"""Part of the losses that come from within a distance of the atom.

    .. math:: f(r) = 2 \pi r \int_0^\infty \frac{\tilde W(k)}{\tilde W(0)} J_1(2 \pi k r)\, \mathrm d k

    Not differentiable: it is for looking at a potential.

    Args:
        potential: The effective potential of an edge.
        radii: Distances [Å].

    Returns:
        f, 0 at the atom and 1 far away, in the shape of `radii`.
    """
    from scipy.special import j0

    values, spacing = np.asarray(potential.values, float), float(potential.spacing)
    k = spacing * np.arange(len(values)) ** 2
    fine = np.append(k[:-1, None] + np.diff(k)[:, None] * np.linspace(0.0, 1.0, 16, endpoint=False), k[-1])
    shape = np.interp(np.sqrt(fine / spacing), np.arange(len(values)), values) / values[0]
    # By parts: f = 1 + ∫ (dW/dk / W(0)) J₀(2πkr) dk, which needs no damping at the end of the table.
    phase = 2.0 * np.pi * 0.5 * (fine[1:] + fine[:-1])
    return 1.0 + np.array([np.sum(np.diff(shape) * j0(phase * r)) for r in np.ravel(radii)]).reshape(np.shape(radii))


def median_radius(potential: EdgePotential) -> Annotated[float, "Å"]:
    """Radius that encloses half of the losses of an edge [Å]; half of Egerton's diameter d₅₀."""
    radii = np.geomspace(0.02, 100.0, 240)
    part = np.maximum.accumulate(enclosed(potential, radii))
    return float(np.interp(0.5, part, radii))


def delocalisation_length(
    loss: Annotated[Scalar, "eV"], energy: Annotated[Scalar, "eV"], semiangle: Annotated[Scalar, "mrad"]
) -> Annotated[Array, "Å"]:
    r"""Diameter within which half of the losses arise, by a rule of thumb; for comparison with `median_radius`.

    .. math::
        d_{50}^2 \approx \left( \frac{0.5 \lambda}{\theta_E^{3/4}} \right)^2
        + \left( \frac{0.6 \lambda}{\beta} \right)^2

    Args:
        loss: Energy loss [eV].
        energy: Beam energy [eV].
        semiangle: Collection semi-angle β [mrad].

    Returns:
        d₅₀ [Å]. Source: Egerton, 3rd ed., Eq. 5.17a.

    >>> 2.0 < float(delocalisation_length(285.0, 100e3, 20.0)) < 6.0
    True
    """
    theta = 1e-3 * characteristic_angle(loss, energy)
    return jnp.hypot(0.5 * theta**-0.75, 600.0 / jnp.asarray(semiangle)) / wavenumber(energy)
