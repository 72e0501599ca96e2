"""From an experiment to scanned images: one number a probe position and detector."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from stemjax.core.executor import map_probes
from stemjax.core.typing import Array
from stemjax.forward.diffraction import Diffraction, Shared, _window, exit_waves
from stemjax.forward.experiment import Experiment


@dataclass(frozen=True)
class ScannedImage:
    """Simulator of images by integrating detectors (anything with a `response`); hashable, holds no arrays.

    Args:
        diffraction: How the wave is propagated.
    """

    diffraction: Diffraction = Diffraction()

    def __call__(self, experiment: Experiment, index: Array | None = None) -> dict[str, Array]:
        """Expected electrons in every detector of the experiment, {name: [pattern]}, in scan order."""
        shared, field, items, corners = self.diffraction.prepare(experiment)
        chosen = (items, corners) if index is None else jax.tree.map(lambda a: a[index], (items, corners))
        grid, energy = experiment.probe.grid, experiment.probe.energy
        names = list(experiment.detectors)
        responses = jnp.stack([experiment.detectors[name].response(grid, energy) for name in names])

        def one(common: tuple[Shared, Array, Array], probe: tuple[Array, Array]) -> Array:
            shared, field, responses = common
            item, corner = probe
            waves = exit_waves(shared, _window(field, corner, grid.shape), item, grid)
            intensity = jnp.sum(waves.real**2 + waves.imag**2, axis=0)
            return shared.dose * jnp.einsum("dyx,yx->d", responses, intensity)

        values = map_probes(one, (shared, field, responses), chosen, self.diffraction.execution)
        return {name: values[:, i] for i, name in enumerate(names)}
