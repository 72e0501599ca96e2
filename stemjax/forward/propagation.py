"""What every way of sending probes through a specimen has in common."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.typing import Array
from stemjax.forward.experiment import Experiment

ARRAYS = (jax.Array, np.ndarray, np.generic, float, int, complex)
"""What a compiled program takes."""


class Propagation(Protocol):
    """A way through the specimen (`stemjax.Diffraction`: multislice; `stemjax.Prism`): frozen, hashable, no arrays."""

    def __call__(self, experiment: Experiment, index: Array | None = None) -> Array:
        """Expected electrons of some patterns (all if `index` is None), [pattern ky kx]."""
        ...

    def collect(self, experiment: Experiment, keep: Callable, extra: Any, index: Array | None = None) -> Any:
        """Apply `keep(extra, intensity)` to the intensity that every probe leaves in reciprocal space.

        Args:
            experiment: The experiment.
            keep: What is kept of an intensity [ny nx] (one electron, zero frequency in the corner); linear in it, since
                arrangements of the atoms are averaged afterwards.
            extra: Pytree of arrays that `keep` needs; arguments, not closed over, so that they are differentiated.
            index: Which probes; all if left out.

        Returns:
            What was kept, stacked along a first axis [pattern ...], averaged over the arrangements of the atoms.
        """
        ...


def as_one_program(call: Callable) -> Callable:
    """The call of a frozen simulator, compiled as a whole once for every shape, also where nobody asked for it.

    Outside of any jit jax compiles every operation by itself: a hundred small programs, and new loops at every call.
    An experiment with parts that are no pytrees of arrays (a specimen of one's own) runs as it is.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Twice:
    ...     @as_one_program
    ...     def __call__(self, experiment, index=None):
    ...         return 2 * experiment
    >>> float(Twice()(3.0))
    6.0
    """
    program = jax.jit(call, static_argnums=0)

    @functools.wraps(call)
    def run(self: Any, experiment: Any, index: Array | None = None) -> Any:
        arrays = all(isinstance(leaf, ARRAYS) for leaf in jax.tree.leaves(experiment))
        return (program if arrays else call)(self, experiment, index)

    return run


def average_configurations(specimen: Any, function: Callable[[Any], Any]) -> Any:
    """Mean of a function over the arrangements of a specimen's atoms, one arrangement in memory at a time.

    Args:
        specimen: The specimen; `configurations` says how many arrangements it has (one if it does not say).
        function: From one arrangement (a specimen) to a pytree of real arrays.

    Returns:
        The mean. Differentiable: the gradient computes every arrangement once more instead of storing it.

    >>> class Two:
    ...     configurations = 2
    ...     def configuration(self, index):
    ...         return 1.0 * index
    >>> float(average_configurations(Two(), lambda s: jnp.asarray(s)))
    0.5
    """
    count = getattr(specimen, "configurations", 1)
    if count == 1:
        return function(specimen.configuration(0) if hasattr(specimen, "configuration") else specimen)

    def one(index: Array) -> Any:
        return function(specimen.configuration(index))

    def add(total: Any, index: Array) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, jax.checkpoint(one)(index)), None

    empty = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(one, jnp.zeros((), jnp.int32)))
    total, _ = jax.lax.scan(add, empty, jnp.arange(count, dtype=jnp.int32))
    return jax.tree.map(lambda a: a / count, total)
