"""Signals that the elastic wave excites in the specimen: thermal dark field, and maps of any effective potential."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.executor import map_probes
from stemjax.core.fourier import shift_ramps
from stemjax.core.typing import Array
from stemjax.forward.diffraction import Diffraction, window, with_margin
from stemjax.forward.experiment import Experiment
from stemjax.forward.image import responses
from stemjax.forward.moves import refuse_moves
from stemjax.forward.propagation import average_configurations
from stemjax.optics.electron import interaction_parameter, wavelength
from stemjax.scatter.channelling import excited
from stemjax.specimen.absorption import thermal_detector_potential
from stemjax.specimen.atomic import AtomicSpecimen

Potentials = Callable[[Any], dict[str, Array]]
"""From an arrangement of a specimen to effective potentials by name, [slice ny nx], dimensionless."""


@dataclass(frozen=True)
class Channelling:
    r"""Simulator of signals by effective potentials along the elastic wave; hashable, holds no arrays.

    .. math:: P_i = D \left\langle \sum_s \int |\psi_{s,i}(\mathbf r)|^2 W_s(\mathbf r) d^2 r \right\rangle_c

    Source: Allen et al., Phys. Rev. Lett. 91 (2003) 105503 (local approximation).

    Args:
        diffraction: How the elastic wave is propagated.
    """

    diffraction: Diffraction = Diffraction(limit_transmission=True)

    def __call__(self, experiment: Experiment, potentials: Potentials, index: Array | None = None) -> dict[str, Array]:
        """Expected events of every potential, and electrons in the experiment's detectors, {name: [pattern]}.

        Args:
            experiment: The experiment.
            potentials: Effective potentials W of an arrangement of the specimen.
            index: Which probes; all if left out.
        """
        refuse_moves(experiment, "a channelling map")
        probe = experiment.probe
        weights = responses(experiment.detectors, probe.grid, probe.energy)

        def through(specimen: Any) -> dict[str, Array]:
            shared, field, items, corners = self.diffraction.prepare(experiment.replace(specimen=specimen))
            named = potentials(specimen)
            stack = with_margin(jnp.stack(list(named.values())), specimen, probe)
            chosen = (items, corners) if index is None else jax.tree.map(lambda a: a[index], (items, corners))

            def one(common: Any, place: tuple[Array, Array]) -> dict[str, Array]:
                shared, field, stack, weights = common
                shift, corner = place
                patch, inside = (window(a, corner, probe.grid.shape) for a in (field, stack))
                ramp_y, ramp_x = shift_ramps(probe.grid, shift)
                out, events = jax.vmap(lambda wave: excited(wave, patch, shared.propagators, inside))(
                    shared.waves * (ramp_y * ramp_x)[None]
                )
                intensity = jnp.sum(out.real**2 + out.imag**2, axis=0)
                images = {n: shared.dose * jnp.einsum("...yx,yx->...", w, intensity) for n, w in weights.items()}
                signals = dict(zip(named, shared.dose * events.sum(axis=0), strict=True))
                return images | {name: signals[name] + images.get(name, 0.0) for name in named}

            return map_probes(one, (shared, field, stack, weights), chosen, self.diffraction.execution)

        return average_configurations(experiment.specimen, through)


@dataclass(frozen=True)
class ThermalImage:
    """Simulator of annular images with thermal diffuse scattering in one pass: absorption and detector potentials.

    An electron in a detector is either elastic (in the wave that the absorptive potential leaves), or was scattered
    thermally onto it, once. Made by `make_thermal_image`; docs/forward.md says how far it can be trusted.

    Args:
        rings: Name, inner and outer angle [mrad] of every detector; fixed, as the potentials are integrals over them.
        diffraction: How the elastic wave is propagated.
    """

    rings: tuple[tuple[str, float, float], ...]
    diffraction: Diffraction = Diffraction(limit_transmission=True)

    def __call__(self, experiment: Experiment, index: Array | None = None) -> dict[str, Array]:
        """Expected electrons in every ring, {name: [pattern]}, in scan order."""
        energy = experiment.probe.energy
        sigma, length = interaction_parameter(energy), wavelength(energy)

        def potentials(specimen: Any) -> dict[str, Array]:
            return {
                name: thermal_detector_potential(
                    specimen.structure, specimen.grid, specimen.slices, sigma,
                    inner=inner, outer=outer, wavelength=length, parametrization=specimen.parametrization,
                )
                for name, inner, outer in self.rings
            }  # fmt: skip

        return Channelling(self.diffraction)(experiment, potentials, index)


def make_thermal_image(detectors: Mapping[str, Any], specimen: Any, diffraction: Diffraction) -> ThermalImage:
    """A `ThermalImage` of annular detectors for a specimen that absorbs.

    Args:
        detectors: Annular detectors by name, centred on the axis.
        specimen: An `AtomicSpecimen` with `absorption`.
        diffraction: How the elastic wave is propagated.

    Raises:
        InputError: The specimen does not absorb, or a detector is no centred ring.

    >>> from stemjax.detect.annular import make_annular_detector
    >>> from stemjax.specimen.atomic import make_atomic_specimen
    >>> from stemjax.specimen.structure import make_structure
    >>> gold = make_structure([[1.0, 2.0, 2.0]], [79], [2.0, 4.0, 4.0], rms_displacement=0.08)
    >>> absorbing = make_atomic_specimen(gold, 0.1, 1, absorption=True)
    >>> make_thermal_image({"HAADF": make_annular_detector(60.0, 80.0)}, absorbing, Diffraction()).rings
    (('HAADF', 60.0, 80.0),)
    """
    if not isinstance(specimen, AtomicSpecimen) or not specimen.absorption:
        raise InputError("a thermal image needs a specimen that absorbs; make_atomic_specimen(..., absorption=True)")
    rings = []
    for name, detector in detectors.items():
        if not all(hasattr(detector, part) for part in ("inner", "outer", "offset")) or np.any(detector.offset):
            raise InputError(f"detector '{name}' is no ring about the axis; use frozen phonons for other detectors")
        rings.append((name, float(detector.inner), float(detector.outer)))
    return ThermalImage(tuple(rings), diffraction)
