"""The unknowns of a problem as one vector, with the place of every leaf in it."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from stemjax.core.typing import Array
from stemjax.inference import problem as statement
from stemjax.inference.problem import Problem, Unconstrained


class Layout(NamedTuple):
    """Where the elements of every leaf stand in a vector of all unknowns.

    Args:
        shapes: Shape by path, in the order of the vector.
        size: Number of unknowns.
    """

    shapes: dict[str, tuple[int, ...]]
    size: int

    def slices(self) -> dict[str, slice]:
        """The part of the vector that holds a leaf."""
        found, first = {}, 0
        for path, shape in self.shapes.items():
            found[path] = slice(first, first + math.prod(shape))
            first += math.prod(shape)
        return found

    def labels(self) -> list[str]:
        """A name of every element: the path, and the index where the leaf is an array.

        >>> Layout({"a": (), "b": (2,)}, 3).labels()
        ['a', 'b[0]', 'b[1]']
        """
        found = []
        for path, shape in self.shapes.items():
            indices = [",".join(map(str, i)) for i in np.ndindex(*shape)]
            found += [f"{path}[{i}]" if shape else path for i in indices]
        return found

    def ravel(self, z: Unconstrained) -> Array:
        """The vector of some leaves."""
        return jnp.concatenate([jnp.ravel(z[path]) for path in self.shapes])

    def unravel(self, vector: Array) -> Unconstrained:
        """The leaves of a vector."""
        return {p: vector[s].reshape(self.shapes[p]) for p, s in self.slices().items()}


def layout(problem: Problem) -> Layout:
    """The layout of a problem's unknowns, leaves in alphabetical order."""
    z = statement.start(problem)
    shapes = {path: tuple(z[path].shape) for path in sorted(z)}
    return Layout(shapes, sum(map(math.prod, shapes.values())))
