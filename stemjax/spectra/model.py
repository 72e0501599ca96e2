r"""A whole spectrum: zero-loss peak, low loss, edges and background, with every order of scattering.

.. math:: \mu = D \left[ z \otimes e^{-\Sigma s} \sum_n \frac{s^{\otimes n}}{n!} + B \right], \quad
    s = s_\mathrm{low} + \sum_e N_e\, \sigma_e

per channel: z the zero-loss line of area one, s the expected number of losses of each kind in one passage, N_e the
areal density and σ_e the cross-section per channel of edge e, B the background, D the incident electrons.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.typing import Annotated, Array, Float, Scalar, real
from stemjax.spectra.background import PowerLaw
from stemjax.spectra.collection import Accepting, Collection, Tabulated
from stemjax.spectra.edges import Edge, FineStructure, make_edge
from stemjax.spectra.energy_axis import EnergyAxis
from stemjax.spectra.hydrogenic import channel_cross_section, channel_middles
from stemjax.spectra.lineshapes import GaussianPeak, make_gaussian_peak
from stemjax.spectra.plural import plural_scattering, scattering_order

# The zero-loss peak is followed so many of its widths below zero loss.
_MARGIN = 20.0


class CoreLoss(struct.PyTreeNode):
    """An edge and how much of its element the beam meets; made by `make_core_loss`.

    Args:
        edge: The edge.
        density: Atoms per area [1/Å²].
        structure: Free factor above the onsets, or None.
    """

    edge: Edge
    density: Annotated[Array, "1/Å^2"]
    structure: FineStructure | None = None


class Spectrometer(struct.PyTreeNode):
    """A spectrometer and all that makes its spectrum; made by `make_spectrometer`.

    Args:
        axis: Energy axis, offset and dispersion free.
        energy: Beam energy [eV].
        collection: Collection aperture and convergence.
        zero_loss: Line shape of area one; anything with ``channels(axis)``.
        low_loss: Anything with ``density(loss, energy, collection)`` [1/eV], or None.
        edges: Edges by name.
        background: Anything with ``channels(axis)``, per incident electron, or None.
        before: Channels between zero loss, with a margin, and the first channel.
    """

    axis: EnergyAxis
    energy: Annotated[Array, "eV"]
    collection: Accepting
    zero_loss: Any
    low_loss: Any
    edges: dict[str, CoreLoss]
    background: Any
    before: int = struct.field(pytree_node=False)


def make_core_loss(edge: str | Edge, density: float, *, structure: FineStructure | None = None) -> CoreLoss:
    """An edge with its areal density, checked.

    Args:
        edge: The edge or its name, such as "O_K".
        density: Atoms per area: number density times thickness [1/Å²].
        structure: Free factor above the onsets.

    >>> float(make_core_loss("O_K", 12.0).density)
    12.0
    """
    if not density >= 0:
        raise InputError(f"areal density {density:g} of an edge is negative; give atoms per Å², such as 10")
    return CoreLoss(make_edge(edge) if isinstance(edge, str) else edge, real(density), structure)


def make_spectrometer(
    axis: EnergyAxis,
    energy: float,
    collection: Collection,
    *,
    zero_loss: Any = None,
    low_loss: Any = None,
    edges: Mapping[str, CoreLoss | float] | None = None,
    background: PowerLaw | None = None,
) -> Spectrometer:
    """A spectrometer, checked.

    Args:
        axis: Energy axis.
        energy: Beam energy [eV].
        collection: Collection aperture and convergence.
        zero_loss: Line shape; None for a Gaussian 1 eV wide at zero loss, or one channel wide where that is more.
        low_loss: Low loss, such as `stemjax.spectra.low_loss.LowLoss`; None for none.
        edges: Edges by name; a number stands for the areal density of the edge with that name [1/Å²].
        background: Power law; None for none.

    >>> from stemjax.spectra.collection import make_collection
    >>> from stemjax.spectra.energy_axis import make_energy_axis
    >>> one = make_spectrometer(make_energy_axis(500.0, 1.0, 64), 200e3, make_collection(20.0), edges={"O_K": 10.0})
    >>> expected_spectrum(one, 1e6).shape
    (64,)
    """
    step = float(axis.dispersion)
    if not 1e3 <= energy <= 2e6:
        raise InputError(f"beam energy {energy:g} eV is not that of a STEM; give eV (80e3 or '80 keV')")
    end = float(axis.offset) + step * axis.channels
    if end <= 0 or end >= energy:
        raise InputError(f"an energy axis that ends at {end:g} eV sees no loss; give one between 0 and the beam energy")
    line = make_gaussian_peak(max(1.0, step)) if zero_loss is None else zero_loss
    before = max(0, int(np.ceil((float(axis.offset) + _MARGIN * max(1.0, step, _width(line))) / step)))
    named = {
        name: value if isinstance(value, CoreLoss) else make_core_loss(name, value)
        for name, value in (edges or {}).items()
    }
    return Spectrometer(axis, real(energy), collection, line, low_loss, named, background, before=before)


def _width(line: Any) -> float:
    """Full width of a line shape as far as it says one [eV]."""
    if isinstance(line, GaussianPeak):
        return float(line.width)
    return max(float(getattr(line, side, 1.0)) for side in ("rise", "fall"))


def single_scattering(spectrometer: Spectrometer) -> Float[Array, "energy"]:
    """Expected number of losses per electron in each channel of loss [energy].

    Channel j stands for a loss of j dispersions. By the rule of the midpoint; the channel about zero has its upper half
    only.
    """
    axis, energy = loss_axis(spectrometer), spectrometer.energy
    middle = channel_middles(axis)
    # The same angles serve the low loss and every edge.
    collection = Tabulated(spectrometer.collection.transfers(middle, energy))
    single = jnp.zeros_like(middle)
    if spectrometer.low_loss is not None:
        width = jnp.diff(jnp.maximum(axis.edges(), 0.0))
        single = single + width * spectrometer.low_loss.density(middle, energy, collection)
    for core in spectrometer.edges.values():
        section = channel_cross_section(core.edge, axis, energy, collection, structure=core.structure)
        single = single + core.density * section
    return single


def loss_axis(spectrometer: Spectrometer) -> EnergyAxis:
    """Channels of loss from 0 to the end of the spectrum, as wide as those of the spectrometer."""
    axis = spectrometer.axis
    return EnergyAxis(0.0 * axis.offset, axis.dispersion, channels=spectrometer.before + axis.channels)


def whole_axis(spectrometer: Spectrometer) -> EnergyAxis:
    """The axis of the spectrometer, continued downwards until it holds the zero-loss peak."""
    axis = spectrometer.axis
    offset = axis.offset - spectrometer.before * axis.dispersion
    return EnergyAxis(offset, axis.dispersion, channels=spectrometer.before + axis.channels)


@partial(jax.jit, static_argnames="order")
def expected_spectrum(
    spectrometer: Spectrometer, electrons: Annotated[Scalar, "electron"], *, order: int | None = None
) -> Annotated[Array, "electron"]:
    """Expected electrons in every channel.

    Args:
        spectrometer: The spectrometer with its specimen.
        electrons: Incident electrons.
        order: Only the electrons with so many losses, without background; None for all.

    Returns:
        Electrons [energy]. Electrons with losses beyond the end of the axis are not there, but are not missing
        elsewhere either: a zero-loss peak holds exp(−t/λ) of all with t/λ up to the end of the axis.
    """
    line = spectrometer.zero_loss.channels(whole_axis(spectrometer))
    single = single_scattering(spectrometer)
    if order is not None:
        return electrons * scattering_order(line, single, order)[spectrometer.before :]
    total = plural_scattering(line, single)[spectrometer.before :]
    if spectrometer.background is not None:
        total = total + spectrometer.background.channels(spectrometer.axis)
    return electrons * total


def relative_thickness(spectrometer: Spectrometer) -> Array:
    """t/λ: mean number of losses of the low loss and of all edges, up to the end of the axis."""
    return jnp.sum(single_scattering(spectrometer))
