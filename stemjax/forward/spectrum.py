"""From an experiment to energy-loss spectra at every probe position, and to maps of edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.typing import Array, real
from stemjax.forward.channelling import Channelling
from stemjax.forward.diffraction import Diffraction
from stemjax.forward.experiment import Experiment
from stemjax.forward.image import ScannedImage
from stemjax.specimen.potential import project_factors
from stemjax.spectra.collection import Collection
from stemjax.spectra.delocalisation import EdgePotential, effective_potential
from stemjax.spectra.hydrogenic import cross_section
from stemjax.spectra.model import Spectrometer, expected_spectrum

LARGEST_FREQUENCY = 6.0
"""End of the table of an effective potential [1/Å]. What lies beyond is a tenth of an edge at 16 keV, nothing of one
below 2 keV; it matters on pixels finer than 0.055 Å only."""
NODES = 96
"""Nodes of the table."""


@dataclass(frozen=True)
class SpectrumImage:
    r"""Simulator of spectra along the channelling wave; hashable, holds no arrays.

    .. math:: N_i(E) = D\, Z \otimes \exp_\otimes \Big[ S_{low} + \sum_e n_{e,i} \frac{d\sigma_e}{dE} \Big], \qquad
        n_{e,i} = \frac{1}{\sigma_e} \sum_s \int |\psi_{s,i}|^2 W_{e,s}\, d^2 r

    The wave decides how many atoms of an edge the electron at position i meets, as an areal density n that would give
    the same number of losses without channelling; the spectrometer of the experiment makes its spectrum of them, with
    plural scattering. The losses before and after an edge do not change the wave. Source: docs/spectra.md.

    Args:
        diffraction: How the elastic wave is propagated.
        window: Energy above the onset over which the effective potentials and the maps are integrated [eV].
    """

    diffraction: Diffraction = Diffraction(limit_transmission=True)
    window: float = 50.0

    def __call__(self, experiment: Experiment, index: Array | None = None) -> Array:
        """Expected electrons in every channel [pattern energy]."""
        return self.signals(experiment, index)[0]

    def signals(self, experiment: Experiment, index: Array | None = None) -> tuple[Array, dict[str, Array]]:
        """Spectra [pattern energy], and the experiment's images with a map of every edge, {name: [pattern]}.

        A map counts the electrons that lost energy to the edge once, within the window, before plural scattering.
        """
        spectrometer = experiment.spectrometer
        maps = self.maps(experiment, index)
        section = {name: self._section(core.edge, experiment, spectrometer.collection)
                   for name, core in spectrometer.edges.items()}  # fmt: skip
        density = {name: maps[name] / (experiment.dose * section[name]) for name in section}

        def one(met: dict[str, Array]) -> Array:
            edges = {name: core.replace(density=met[name]) for name, core in spectrometer.edges.items()}
            made = spectrometer.replace(edges=edges, energy=real(experiment.probe.energy))
            return expected_spectrum(made, experiment.dose)

        count = experiment.scan.positions.shape[0] if index is None else index.shape[0]
        if not density:
            return jnp.broadcast_to(one({})[None], (count, spectrometer.axis.channels)), maps
        # One spectrum at a time: a convolution needs several padded copies of it.
        return jax.lax.map(one, density), maps

    def maps(self, experiment: Experiment, index: Array | None = None) -> dict[str, Array]:
        """Expected losses to every edge within the window, and the images of the detectors, {name: [pattern]}."""
        spectrometer: Spectrometer = experiment.spectrometer
        if not spectrometer.edges:
            return ScannedImage(self.diffraction)(experiment, index) if experiment.detectors else {}
        frequencies = LARGEST_FREQUENCY * (np.arange(NODES) / (NODES - 1)) ** 2
        collection = _centred(spectrometer, experiment)
        factors = {
            name: EdgePotential(
                effective_potential(core.edge, experiment.probe.energy, collection, self.window, real(frequencies)),
                real(frequencies[1]),
                number=core.edge.number,
            )
            for name, core in spectrometer.edges.items()
        }

        def potentials(specimen: Any) -> dict[str, Array]:
            return {
                name: project_factors(specimen.structure, specimen.grid, specimen.slices, factor)
                for name, factor in factors.items()
            }

        found = Channelling(self.diffraction)(experiment, potentials, index)
        # An aperture beside the axis collects less of the same losses; where they come from is taken as for one on it.
        for name, core in spectrometer.edges.items():
            whole = self._section(core.edge, experiment, collection)
            found[name] = found[name] * self._section(core.edge, experiment, spectrometer.collection) / whole
        return found

    def _section(self, edge: Any, experiment: Experiment, collection: Any) -> Array:
        return cross_section(edge, self.window, experiment.probe.energy, collection)


def _centred(spectrometer: Spectrometer, experiment: Experiment) -> Collection:
    """The collection aperture about the axis, whose losses the effective potentials describe."""
    semiangle = spectrometer.collection.semiangle  # type: ignore[attr-defined]
    return Collection(semiangle=semiangle, convergence=experiment.probe.semiangle)


def check_edges(spectrometer: Spectrometer, numbers: tuple[int, ...]) -> None:
    """Refuse edges of elements that the specimen does not hold.

    Args:
        spectrometer: The spectrometer.
        numbers: Atomic numbers of the specimen.

    Raises:
        InputError: An edge belongs to no atom of the specimen; the message names the elements that are there.
    """
    from stemjax.spectra.edges import symbols

    names = symbols()
    for name, core in spectrometer.edges.items():
        if core.edge.number not in numbers:
            there = ", ".join(sorted({names[z - 1] for z in numbers}))
            raise InputError(f"edge {name}: the specimen has no {names[core.edge.number - 1]}; its elements: {there}")
