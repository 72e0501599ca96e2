"""What makes conjugate gradients short: the scale of every unknown, and small leaves solved for together.

Aberrations or a dose beside a million pixels are strongly coupled among themselves and cost a handful of products to
know exactly; of the pixels the diagonal of the curvature is enough.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.typing import Array, PRNGKeyArray
from stemjax.inference.curvature import Operator
from stemjax.inference.problem import Unconstrained
from stemjax.inference.vector import Layout

SMALL = 48
"""Unknowns of small leaves, all together, whose block is known exactly."""
FLOOR = 0.05
"""An element of an estimated diagonal is at least this share of the median of what is seen of its leaf."""


class Scales(NamedTuple):
    """The curvature as a block of the small leaves and a diagonal of the others.

    Args:
        block: Curvature of the small leaves [small small].
        diagonal: Diagonal of the curvature of every leaf.
    """

    block: Array
    diagonal: Unconstrained


def small_leaves(shape: Layout) -> tuple[str, ...]:
    """The smallest leaves, as many as have `SMALL` unknowns together.

    >>> small_leaves(Layout({"a": (), "b": (1000,), "c": (3,)}, 1004))
    ('a', 'c')
    """
    kept, total = [], 0
    for path, part in sorted(shape.slices().items(), key=lambda item: item[1].stop - item[1].start):
        total += part.stop - part.start
        if total <= SMALL:
            kept.append(path)
    return tuple(sorted(kept))


def measure(operator: Operator, shape: Layout, z: Unconstrained, key: PRNGKeyArray, probes: int) -> Scales:
    """Block and diagonal of an operator from its products.

    Args:
        operator: The curvature.
        shape: Layout of the unknowns.
        z: The unknowns, for their types.
        key: For the random signs v of the estimate diag A ≈ mean of v · A v (Bekas, Kokiopoulou, Saad, Appl. Numer.
            Math. 57 (2007) 1214).
        probes: Number of random vectors; the block costs a product for each of its unknowns on top.
    """
    small = small_leaves(shape)
    places = np.array([i for p, s in shape.slices().items() if p in small for i in range(s.start, s.stop)], int)

    def column(unit: Array) -> Array:
        return shape.ravel(operator(shape.unravel(unit)))[places]

    block = jnp.zeros((0, 0))
    if len(places):
        units = jnp.zeros((len(places), shape.size)).at[np.arange(len(places)), places].set(1.0)
        block = jax.lax.map(column, units)
        block = _positive(0.5 * (block + block.T))
    if len(places) == shape.size:
        return Scales(block, jax.tree.map(jnp.ones_like, z))

    def probe(key: PRNGKeyArray) -> Unconstrained:
        signs = shape.unravel(jax.random.rademacher(key, (shape.size,), dtype=shape.ravel(z).dtype))
        return jax.tree.map(jnp.multiply, signs, operator(signs))

    estimates = jax.lax.map(probe, jax.random.split(key, probes))
    mean = jax.tree.map(lambda e: jnp.mean(e, axis=0), estimates)
    return Scales(block, {path: _kept_up(value) for path, value in mean.items()})


def _kept_up(diagonal: Array) -> Array:
    """An estimate of a positive diagonal with its noise cut off below; elements that nothing sees do not count."""
    size = jnp.abs(diagonal)
    seen = size > jnp.finfo(size.dtype).eps * jnp.max(size)
    middle = jnp.nanmedian(jnp.where(seen, size, jnp.nan))
    return jnp.maximum(diagonal, jnp.where(jnp.any(seen), FLOOR * middle, 1.0))


def _positive(block: Array) -> Array:
    """A symmetric matrix with the signs of its eigenvalues left off, in units that make its diagonal one.

    Priors that are not log-concave in z curve the wrong way far from their mode, and a step still needs a length. An
    unknown that nothing depends on has the length one, so that it stays where it is.
    """
    diagonal = jnp.abs(jnp.diag(block))
    seen = diagonal > jnp.finfo(block.dtype).tiny
    scale = jnp.sqrt(jnp.where(seen, diagonal, 1.0))
    unit = jnp.where(seen[:, None] & seen[None, :], block / (scale[:, None] * scale[None, :]), jnp.diag(1.0 - seen))
    values, vectors = jnp.linalg.eigh(unit)
    return scale[:, None] * ((vectors * jnp.abs(values)[None, :]) @ vectors.T) * scale[None, :]


def damped(scales: Scales, shape: Layout, damping: Array, direction: Unconstrained) -> Unconstrained:
    """Damping times the diagonal of the curvature, times a direction: Marquardt's term B."""
    own = _diagonal(scales, shape)
    return jax.tree.map(lambda d, v: damping.astype(v.dtype) * d * v, own, direction)


def invert(scales: Scales, shape: Layout, damping: Array, vector: Unconstrained) -> Unconstrained:
    """The inverse of block and diagonal, damped, times a vector."""
    own = _diagonal(scales, shape)
    solved = jax.tree.map(lambda d, v: v / ((1.0 + damping.astype(v.dtype)) * d), own, vector)
    small = small_leaves(shape)
    if not small:
        return solved
    block = scales.block + damping * jnp.diag(jnp.diag(scales.block))
    together = jnp.concatenate([jnp.ravel(vector[path]) for path in small])
    values = jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(block + _ridge(block)), together)
    first = 0
    for path in small:
        size = vector[path].size
        solved[path] = values[first : first + size].reshape(vector[path].shape)
        first += size
    return solved


def _ridge(block: Array) -> Array:
    """Next to nothing on the diagonal, so that a block which rounding made singular can be factored."""
    diagonal = jnp.maximum(jnp.diag(block), jnp.finfo(block.dtype).tiny)
    return jnp.diag(10.0 * block.shape[0] * jnp.finfo(block.dtype).eps * diagonal)


def _diagonal(scales: Scales, shape: Layout) -> Unconstrained:
    """The diagonal of every leaf, that of small leaves from their block."""
    own, first = dict(scales.diagonal), 0
    for path in small_leaves(shape):
        size = own[path].size
        part = jnp.diag(scales.block)[first : first + size]
        own[path] = jnp.maximum(part, jnp.finfo(part.dtype).tiny).reshape(own[path].shape)
        first += size
    return own
