"""From an experiment to scanned images: one number a probe position and detector channel, with patterns if wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from stemjax.core.grid import Grid
from stemjax.core.typing import Array
from stemjax.forward.diffraction import Diffraction
from stemjax.forward.experiment import Experiment
from stemjax.forward.propagation import Propagation

PATTERNS = "patterns"
"""Name of the diffraction patterns among the signals of `Signals`."""


@dataclass(frozen=True)
class ScannedImage:
    """Simulator of images by integrating detectors (anything with a `response`); hashable, holds no arrays.

    Args:
        diffraction: How the wave is propagated (`Diffraction`, `Prism`).
    """

    diffraction: Propagation = Diffraction()

    def __call__(self, experiment: Experiment, index: Array | None = None) -> dict[str, Array]:
        """Expected electrons in every detector of the experiment, in scan order.

        Returns:
            {name: [pattern]}, or [pattern channel] for a detector whose response has channels.
        """
        weights = responses(experiment.detectors, experiment.probe.grid, experiment.probe.energy)
        return self.diffraction.collect(experiment, _images, (experiment.dose, weights), index)


@dataclass(frozen=True)
class Signals:
    """Simulator of everything that one scan records at once: images of all detectors, and patterns.

    Args:
        diffraction: How the wave is propagated; its `detector` records the patterns.
    """

    diffraction: Any = Diffraction()

    def __call__(self, experiment: Experiment, index: Array | None = None) -> dict[str, Array]:
        """Expected electrons: {"patterns": [pattern ky kx], name: [pattern] or [pattern channel]}."""
        weights = responses(experiment.detectors, experiment.probe.grid, experiment.probe.energy)

        def keep(extra: tuple[Array, Any, dict[str, Array]], intensity: Array) -> dict[str, Array]:
            dose, camera, weights = extra
            patterns = self.diffraction.kept((dose, camera), intensity)
            return {PATTERNS: patterns} | _images((dose, weights), intensity)

        return self.diffraction.collect(experiment, keep, (experiment.dose, experiment.camera, weights), index)


def responses(detectors: dict[str, Any], grid: Grid, energy: float) -> dict[str, Array]:
    """Response of every detector on the reciprocal grid, {name: [ny nx] or [channel ny nx]}.

    >>> from stemjax.detect.annular import make_annular_detector
    >>> responses({"BF": make_annular_detector(0.0, 10.0)}, Grid((8, 8), (0.4, 0.4)), 80e3)["BF"].shape
    (8, 8)
    """
    return {name: detector.response(grid, energy) for name, detector in detectors.items()}


def _images(extra: tuple[Array, dict[str, Array]], intensity: Array) -> dict[str, Array]:
    dose, weights = extra
    return {
        name: dose * jnp.einsum("...yx,yx->...", weight, intensity, precision="highest")
        for name, weight in weights.items()
    }
