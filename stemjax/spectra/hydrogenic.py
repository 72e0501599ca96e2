r"""Cross-sections of inner shells in the hydrogen-like approximation, with relativistic kinematics.

.. math::
    \frac{\mathrm d \sigma}{\mathrm d E} = \frac{4 \pi a_0^2 R^2}{E\, T}
    \int \frac{\mathrm d f(q, E)}{\mathrm d E}\, p(\theta)\; \mathrm d \ln q^2

p(θ) is the accepted part of the electrons scattered by θ. Effective nuclear charges are Slater's, Z − 0.5 for K and
Z − 4.15 for L. L shells are multiplied by Egerton's empirical factor [(E − E_L3 + 0.1 eV)/(1.8 Z² eV)]^u, which
stands for the screening that a hydrogen-like atom has not.

Source: Egerton, Electron Energy-Loss Spectroscopy in the Electron Microscope, 3rd ed., sections 3.6, 3.7, appendix B;
Ultramicroscopy 4 (1979) 169; the exponents u: Ultramicroscopy 50 (1993) 13.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.typing import Annotated, Array, Float, Scalar, real
from stemjax.specimen.scattering_factors import BOHR_RADIUS
from stemjax.spectra.collection import Accepting, along_last
from stemjax.spectra.edges import Edge, FineStructure
from stemjax.spectra.energy_axis import EnergyAxis
from stemjax.spectra.kinematics import RYDBERG, effective_energy
from stemjax.spectra.oscillator_strength import strength_1s, strength_2p, strength_2s

EXPONENTS = (
    0.52, 0.42, 0.30, 0.29, 0.22, 0.30, 0.22, 0.16, 0.12, 0.13, 0.13, 0.14, 0.16, 0.18, 0.19, 0.22, 0.14, 0.11, 0.12,
    0.12, 0.12, 0.10, 0.10, 0.10,
)  # fmt: skip
"""Exponent u for L shells, Z = 13 to 36; 0.10 beyond."""
ORBITALS = {"K": "1s", "L1": "2s", "L2": "2p", "L3": "2p"}
"""Orbital of the electrons of a shell."""
_STRENGTH = {"1s": strength_1s, "2s": strength_2s, "2p": strength_2p}
_WINDOW_NODES = 32


def screened_charge(edge: Edge) -> float:
    """Charge of the hydrogen-like atom of an edge, by Slater's rules."""
    if edge.shells[0] == "K":
        return 1.0 if edge.number == 1 else edge.number - 0.5
    return edge.number - 0.35 * 7 - 1.7


def orbital_strength(
    edge: Edge,
    orbital: str,
    loss: Annotated[Float[Array, "..."], "eV"],
    squared: Annotated[Float[Array, "..."], "1/Å^2"],
) -> Annotated[Array, "1/eV"]:
    """Generalised oscillator strength df/dE of one electron of an edge, its threshold left aside.

    Args:
        edge: The edge.
        orbital: "1s", "2s" or "2p".
        loss: Energy loss [eV].
        squared: Squared momentum transfer q² without 2π [1/Å²]; it broadcasts against `loss`.

    Returns:
        df/dE [1/eV].

    >>> from stemjax.spectra.edges import make_edge
    >>> float(orbital_strength(make_edge("O_K"), "1s", jnp.array(540.0), jnp.array(0.1))) > 0
    True
    """
    scale = RYDBERG * screened_charge(edge) ** 2
    excess = loss / scale - (1.0 if orbital == "1s" else 0.25)
    transfer = squared * (2.0 * np.pi * BOHR_RADIUS / screened_charge(edge)) ** 2
    strength = _STRENGTH[orbital](transfer, excess) / scale
    return strength if orbital == "1s" else strength * screening(edge, loss)


def screening(edge: Edge, loss: Annotated[Float[Array, "..."], "eV"]) -> Array:
    """Egerton's factor on the L shells of a hydrogen-like atom, in the shape of `loss`."""
    place = edge.number - 13
    exponent = EXPONENTS[place] if place < len(EXPONENTS) else 0.10
    return ((jnp.maximum(loss - edge.lowest, 0.0) + 0.1) / (1.8 * edge.number**2)) ** exponent


def shell_cross_section(
    edge: Edge, shell: int, loss: Annotated[Array, "eV"], energy: Annotated[Scalar, "eV"], collection: Accepting
) -> Annotated[Array, "Å^2/eV"]:
    """dσ/dE of one shell, its threshold left aside; arguments as for `differential_cross_section`."""
    squared, _, weight = collection.transfers(loss, energy)
    orbital = ORBITALS[edge.shells[shell]]
    return edge.electrons[shell] * _gathered(edge, orbital, loss, energy, squared, weight)


def _gathered(edge: Edge, orbital: str, loss: Array, energy: Scalar, squared: Array, weight: Array) -> Array:
    """dσ/dE of one electron from nodes of momentum transfer."""
    # Far below the threshold, where nothing counts, the formula has a pole at W = 0.
    safe = jnp.maximum(loss, 0.5 * edge.lowest)
    strength = orbital_strength(edge, orbital, safe[..., None], squared)
    scale = 4.0 * np.pi * BOHR_RADIUS**2 * RYDBERG**2 / effective_energy(energy)
    return scale / loss * jnp.sum(strength * weight, axis=-1)


@jax.jit
def differential_cross_section(
    edge: Edge,
    loss: Annotated[Float[Array, "..."], "eV"],
    energy: Annotated[Scalar, "eV"],
    collection: Accepting,
) -> Annotated[Array, "Å^2/eV"]:
    """dσ/dE of an edge into a collection aperture.

    Args:
        edge: The edge.
        loss: Energy loss, positive and below the beam energy, any shape [eV].
        energy: Beam energy [eV].
        collection: What the spectrometer accepts.

    Returns:
        dσ/dE per atom, zero below the threshold of each shell [Å²/eV]; 1 Å² is 10⁸ barn.

    >>> from stemjax.spectra.collection import make_collection
    >>> from stemjax.spectra.edges import make_edge
    >>> d = differential_cross_section(make_edge("O_K"), jnp.array([500.0, 540.0]), 200e3, make_collection(10.0))
    >>> float(d[0]), 1e-7 < float(d[1]) < 1e-6
    (0.0, True)
    """
    loss = jnp.asarray(loss)
    shells = [
        jnp.where(loss >= edge.onsets[i], shell_cross_section(edge, i, loss, energy, collection), 0.0)
        for i in range(len(edge.shells))
    ]
    return jnp.sum(jnp.stack(shells), axis=0)


def channel_cross_section(
    edge: Edge,
    axis: EnergyAxis,
    energy: Annotated[Scalar, "eV"],
    collection: Accepting,
    *,
    structure: FineStructure | None = None,
) -> Annotated[Array, "Å^2"]:
    """Cross-section in every channel of an axis: a step at the onset moves through a channel without a jump.

    The rule of the midpoint, times the part of the channel that lies above the onset.

    Args:
        edge: The edge.
        axis: Channels; those that reach below zero loss hold nothing.
        energy: Beam energy [eV].
        collection: What the spectrometer accepts.
        structure: Free factor above each onset.

    Returns:
        Cross-section per atom [energy] [Å²].
    """
    borders, middle = axis.edges(), channel_middles(axis)
    squared, _, weight = collection.transfers(middle, energy)
    amounts: dict[str, Array] = {}
    for shell, onset, electrons in zip(edge.shells, edge.onsets, edge.electrons, strict=True):
        amount = electrons * (borders[1:] - jnp.clip(onset, borders[:-1], borders[1:]))
        amount = amount if structure is None else amount * structure.factor(middle - onset)
        amounts[ORBITALS[shell]] = amounts.get(ORBITALS[shell], 0.0) + amount
    parts = [amount * _gathered(edge, orbital, middle, energy, squared, weight) for orbital, amount in amounts.items()]
    return jnp.sum(jnp.stack(parts), axis=0)


def channel_middles(axis: EnergyAxis) -> Annotated[Array, "eV"]:
    """Middle of the part of every channel that lies above zero loss [energy] [eV]; never quite zero."""
    borders = jnp.maximum(axis.edges(), 0.0)
    return jnp.maximum(0.5 * (borders[1:] + borders[:-1]), 0.25 * axis.dispersion)


@jax.jit
def cross_section(
    edge: Edge, window: Annotated[Scalar, "eV"], energy: Annotated[Scalar, "eV"], collection: Accepting
) -> Annotated[Array, "Å^2"]:
    """σ(β, Δ): cross-section within a window from the lowest onset up.

    Args:
        edge: The edge.
        window: Width Δ of the window [eV].
        energy: Beam energy [eV].
        collection: What the spectrometer accepts.

    Returns:
        Cross-section per atom [Å²].

    >>> from stemjax.spectra.collection import make_collection
    >>> from stemjax.spectra.edges import make_edge
    >>> float(cross_section(make_edge("C_K"), 50.0, 100e3, make_collection(10.0))) > 3e-5
    True
    """
    loss, weight = window_nodes(edge, window)
    shells = [
        jnp.sum(weight[i] * shell_cross_section(edge, i, loss[i], energy, collection)) for i in range(len(edge.shells))
    ]
    return jnp.sum(jnp.stack(shells))


def window_nodes(edge: Edge, window: Annotated[Scalar, "eV"], nodes: int = _WINDOW_NODES) -> tuple[Array, Array]:
    """Losses and weights for an integral over a window, for every shell from its own onset on.

    Gauss-Legendre in the square root of the energy above the onset, where Egerton's factor has its rise.

    Args:
        edge: The edge.
        window: Width from the lowest onset up [eV].
        nodes: Number of nodes for a shell.

    Returns:
        Losses [shell node] [eV] and weights [shell node] [eV].
    """
    x, w = (along_last(real(a), 2) for a in np.polynomial.legendre.leggauss(nodes))
    x, w = 0.5 * (x + 1.0), 0.5 * w
    width = jnp.maximum(edge.onsets[0] + window - edge.onsets, 0.0)[:, None]
    return edge.onsets[:, None] + width * x**2, 2.0 * width * x * w
