r"""Gaussian posteriors of the unconstrained unknowns in three forms, with the same methods.

.. math:: z = m + R x, \qquad x \sim N(0, 1), \qquad \Sigma = R R^\mathsf{T}

`Dense` holds R, `Diagonal` one deviation an unknown, `LowRank` a diagonal and a few directions in which the unknowns
vary together. Vectors of all unknowns are in the order of `stemjax.inference.vector.layout`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.paths import matching
from stemjax.core.typing import Array, PRNGKeyArray, real_dtype
from stemjax.inference.problem import Unconstrained
from stemjax.inference.vector import Layout

MOST = 20000
"""Most elements of which a covariance matrix is written out."""


class Gaussian(struct.PyTreeNode, ABC):
    """What all forms can do; abstract.

    Args:
        mean: Mean of every unknown by path.
    """

    mean: Unconstrained

    @property
    def shape(self) -> Layout:
        """The place of every leaf in a vector of all unknowns."""
        shapes = {path: tuple(np.shape(self.mean[path])) for path in sorted(self.mean)}
        return Layout(shapes, sum(map(math.prod, shapes.values())))

    @abstractmethod
    def coloured(self, white: Array) -> Array:
        """R x: the displacement from the mean of an independent standard normal vector [unknown]."""

    @abstractmethod
    def turned(self, row: Array) -> Array:
        """Rᵀ g of a gradient [unknown]: its length is the standard deviation of what has that gradient."""

    @abstractmethod
    def whitened(self, displacement: Array) -> Array:
        """R⁻¹ d: what `coloured` undoes."""

    @abstractmethod
    def log_volume(self) -> Array:
        """log |det R|."""

    @abstractmethod
    def variances(self) -> Array:
        """Diagonal of the covariance [unknown]."""

    def spread(self) -> Unconstrained:
        """Standard deviation of every unknown, by path."""
        return self.shape.unravel(jnp.sqrt(self.variances()))

    def draw(self, key: PRNGKeyArray, count: int) -> Unconstrained:
        """Draws of z by path, [draw ...]."""
        return _drawn(self, jax.random.split(key, count))

    def log_prob(self, z: Unconstrained) -> Array:
        """Log-density of z, complete with its constant."""
        white = self.whitened(self.shape.ravel(z) - self.shape.ravel(self.mean))
        return -0.5 * jnp.sum(white**2) - self.log_volume() - 0.5 * self.shape.size * math.log(2.0 * math.pi)

    def deviations(self, rows: Array) -> Array:
        """Standard deviation of linear functions of the unknowns, from their gradients [function unknown]."""
        return jnp.linalg.norm(_turned(self, rows), axis=1)

    def covariance(self, paths: Iterable[str] | None = None) -> Array:
        """Covariance matrix of some leaves, element by element in the order given; of all unknowns if None.

        Args:
            paths: Paths or patterns of leaves.

        Raises:
            InputError: A path names no unknown, or the matrix would be larger than can be held.
        """
        known = list(self.shape.shapes)
        chosen = _elements(self.shape, known if paths is None else matching(known, paths))
        ones = jnp.zeros((len(chosen), self.shape.size), real_dtype()).at[jnp.arange(len(chosen)), chosen].set(1.0)
        rows = _turned(self, ones)
        return rows @ rows.T


class Dense(Gaussian):
    """Every covariance of every pair, for up to a few thousand unknowns; made by `dense_gaussian`.

    Args:
        root: R, upper triangular [unknown unknown].

    >>> two = dense_gaussian({"a": jnp.zeros(2)}, np.array([[2.0, 1.0], [1.0, 2.0]]))
    >>> two.covariance(["a"]).round(3).tolist()  # the inverse of the precision
    [[0.667, -0.333], [-0.333, 0.667]]
    """

    root: Array

    def coloured(self, white: Array) -> Array:
        """R x."""
        return self.root @ white

    def turned(self, row: Array) -> Array:
        """Rᵀ g."""
        return row @ self.root

    def whitened(self, displacement: Array) -> Array:
        """R⁻¹ d."""
        return jax.scipy.linalg.solve_triangular(self.root, displacement, lower=False)

    def log_volume(self) -> Array:
        """Sum of the logarithms of the diagonal."""
        return jnp.sum(jnp.log(jnp.abs(jnp.diag(self.root))))

    def variances(self) -> Array:
        """Squared lengths of the rows of R."""
        return jnp.sum(self.root**2, axis=1)


class Diagonal(Gaussian):
    """Independent unknowns.

    Args:
        scale: Standard deviations [unknown].

    >>> float(Diagonal({"a": jnp.array(1.0)}, jnp.array([2.0])).spread()["a"])
    2.0
    """

    scale: Array

    def coloured(self, white: Array) -> Array:
        """s x."""
        return self.scale * white

    def turned(self, row: Array) -> Array:
        """s g."""
        return self.scale * row

    def whitened(self, displacement: Array) -> Array:
        """d / s."""
        return displacement / self.scale

    def log_volume(self) -> Array:
        """Sum of log s."""
        return jnp.sum(jnp.log(self.scale))

    def variances(self) -> Array:
        """s²."""
        return self.scale**2


class LowRank(Gaussian):
    r"""A diagonal, and a few directions that vary more or less than it says.

    .. math:: \Sigma = S\, (1 + V\, \mathrm{diag}(g)\, V^\mathsf{T})\, S, \qquad
        R = S\, (1 + V\, \mathrm{diag}(\sqrt{1+g} - 1)\, V^\mathsf{T})

    Args:
        scale: Diagonal of S [unknown].
        vectors: V, orthonormal columns [unknown direction].
        gain: g, by how much the variance along a direction exceeds that of the diagonal; above −1 [direction].

    >>> one = LowRank({"a": jnp.zeros(2)}, jnp.ones(2), jnp.array([[1.0], [0.0]]), jnp.array([3.0]))
    >>> one.covariance(["a"]).tolist()
    [[4.0, 0.0], [0.0, 1.0]]
    """

    scale: Array
    vectors: Array
    gain: Array

    def coloured(self, white: Array) -> Array:
        """R x."""
        return self.scale * self._stretched(white, jnp.sqrt(1.0 + self.gain) - 1.0)

    def turned(self, row: Array) -> Array:
        """Rᵀ g."""
        return self._stretched(self.scale * row, jnp.sqrt(1.0 + self.gain) - 1.0)

    def whitened(self, displacement: Array) -> Array:
        """R⁻¹ d."""
        return self._stretched(displacement / self.scale, 1.0 / jnp.sqrt(1.0 + self.gain) - 1.0)

    def log_volume(self) -> Array:
        """Sum of log S and of half log(1 + g)."""
        return jnp.sum(jnp.log(self.scale)) + 0.5 * jnp.sum(jnp.log1p(self.gain))

    def variances(self) -> Array:
        """S² (1 + Σ g v²)."""
        return self.scale**2 * (1.0 + (self.vectors**2) @ self.gain)

    def _stretched(self, vector: Array, by: Array) -> Array:
        return vector + self.vectors @ (by * (vector @ self.vectors))


def dense_gaussian(mean: Unconstrained, precision: Any) -> Dense:
    """A Gaussian of a positive definite precision matrix [unknown unknown].

    Raises:
        InputError: The precision is not positive definite.
    """
    from scipy.linalg import solve_triangular

    precision = np.asarray(precision, np.float64)
    size = np.sqrt(np.diag(precision))
    try:
        # Scaled to a unit diagonal first, so that leaves in very different units cost no digits.
        lower = np.linalg.cholesky(precision / size[:, None] / size[None, :])
    except np.linalg.LinAlgError:
        raise InputError("a precision matrix that is not positive definite has no Gaussian; give priors") from None
    root = solve_triangular(lower, np.eye(len(size)), lower=True).T / size[:, None]
    return Dense(mean, jnp.asarray(root, real_dtype()))


@jax.jit
def _turned(gaussian: Gaussian, rows: Array) -> Array:
    return jax.lax.map(gaussian.turned, rows)


@jax.jit
def _drawn(gaussian: Gaussian, keys: PRNGKeyArray) -> Unconstrained:
    shape = gaussian.shape
    mean = shape.ravel(gaussian.mean)

    def one(key: PRNGKeyArray) -> Unconstrained:
        return shape.unravel(mean + gaussian.coloured(jax.random.normal(key, mean.shape, mean.dtype)))

    return jax.lax.map(one, keys)


def _elements(shape: Layout, paths: list[str]) -> np.ndarray:
    """Places of the elements of some leaves."""
    slices = shape.slices()
    found = np.concatenate([np.arange(slices[path].start, slices[path].stop) for path in paths])
    if len(found) > MOST or len(found) * shape.size > 2e8:
        raise InputError(f"a covariance matrix of {len(found)} elements is too large; ask for fewer leaves")
    return found
