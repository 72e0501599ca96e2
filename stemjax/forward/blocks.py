"""A scan of any size in bounded memory: one block of probes after the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.typing import Array
from stemjax.forward.experiment import Experiment
from stemjax.forward.prism import Prism


def in_blocks(function: Callable[[Array], Any], count: int, block: int) -> Iterator[tuple[slice, Any]]:
    """Many probes with bounded memory: a function of some of them, block after block.

    Args:
        function: From indices [block] to a pytree of arrays [block ...]; all blocks have the same length, so that it is
            compiled once (the last one repeats its last probe).
        count: Number of probes.
        block: Probes in a block.

    Yields:
        Which probes, and what the function gave for them as numpy arrays.

    Raises:
        InputError: The block is empty.

    >>> [(part.start, part.stop, found.tolist()) for part, found in in_blocks(lambda i: 2 * i, 3, 2)]
    [(0, 2, [0, 2]), (2, 3, [4])]
    """
    if block < 1:
        raise InputError(f"blocks of {block} probes never end; give at least 1")
    length = min(block, count)
    for start in range(0, count, length):
        stop = min(start + length, count)
        found = function(jnp.asarray(np.minimum(np.arange(start, start + length), count - 1)))
        yield slice(start, stop), jax.tree.map(lambda a, n=stop - start: np.asarray(a)[:n], found)


def simulate_in_blocks(simulator: Any, experiment: Experiment, block: int) -> Iterator[tuple[slice, Any]]:
    """What a simulator gives for all probes of a scan, block after block; a scattering matrix is made only once.

    Args:
        simulator: A `Diffraction`, a `Prism`, or a simulator of images that holds one as `diffraction`.
        experiment: The experiment.
        block: Probes in a block, such as a plan's.

    Yields:
        Which probes, and the simulator's result for them as numpy arrays.
    """
    count = experiment.scan.positions.shape[0]
    propagation = getattr(simulator, "diffraction", simulator)
    if not isinstance(propagation, Prism) or getattr(experiment.specimen, "configurations", 1) > 1:
        run = jax.jit(lambda e, index: simulator(e, index))
        yield from in_blocks(lambda index: run(experiment, index), count, block)
        return
    prism = propagation.fitted(experiment)
    matrix = jax.jit(prism.matrix)(experiment)

    def reduced(matrix: Array, experiment: Experiment, index: Array) -> Any:
        given = PreparedPrism(prism, matrix)
        again = given if propagation is simulator else dataclasses.replace(simulator, diffraction=given)
        return again(experiment, index)

    run_reduced = jax.jit(reduced)
    yield from in_blocks(lambda index: run_reduced(matrix, experiment, index), count, block)


@dataclass(frozen=True)
class PreparedPrism:
    """A `Prism` with its scattering matrix at hand; lives inside one compiled function.

    Args:
        prism: The simulator.
        matrix: From `Prism.matrix` for the same specimen, aperture and tilt.
    """

    prism: Prism
    matrix: Array

    def __call__(self, experiment: Experiment, index: Array | None = None) -> Array:
        """Expected counts [pattern ky kx]."""
        return self.collect(experiment, self.kept, (experiment.dose, experiment.camera), index)

    def kept(self, extra: tuple[Array, Any], intensity: Array) -> Array:
        """Expected counts [ky kx] from an intensity."""
        return self.prism.kept(extra, intensity)

    def collect(self, experiment: Experiment, keep: Callable, extra: Any, index: Array | None = None) -> Any:
        """`Prism.reduce` with the matrix at hand."""
        return self.prism.reduce(self.matrix, experiment, keep, extra, index)
