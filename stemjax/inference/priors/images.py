r"""What is believed of a leaf before the data: log-densities whose strength has a unit.

A prior is anything with `log_prob(x)`; its support, if bounded, says how the leaf is constrained. numpyro's
distributions serve as they are (`stemjax.Normal`, `stemjax.LogNormal`, `stemjax.Uniform`, ...). The regularisers of
image reconstruction stand beside them as densities up to a constant.

Each of these is built on `deviations`, which are linear in the leaf and ought to be small, and on one number, the
`scale`: how large they are, in the unit of the leaf. A scale that is left out is found from the data
(`stemjax.settle`). Of the densities there are two families, told apart by the power of the scale:

.. math:: \log p_2(u) = -\frac{1}{2 s^2} \sum_i |d_i(u)|^2, \qquad
    \log p_1(u) = -\frac{1}{s} \sum_i \left[ \sqrt{|d_i(u)|^2 + \epsilon^2} - \epsilon \right]
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.bijectors import Bijector, Identity, Softplus
from stemjax.core.errors import InputError
from stemjax.core.typing import Array, PRNGKeyArray

ROUNDING = 0.01
"""Where a density has an edge at zero it is rounded over this share of its scale."""


class TotalVariation(struct.PyTreeNode):
    r"""Images that are smooth but for edges: a Laplace density on the length of the gradient, rounded at zero.

    .. math:: \log p(u) = -\frac{1}{s} \sum_{y,x} \left[ \sqrt{(u_{y+1,x} - u_{y,x})^2 + (u_{y,x+1} - u_{y,x})^2
        + \epsilon^2} - \epsilon \right]

    Args:
        scale: s, the typical difference of neighbouring pixels, in the unit of the leaf; None: found from the data.
        rounding: ε, differences below it are treated as noise, not edges; same unit. None: a hundredth of the scale.

    The last two axes are the image; others are summed. Source: Rudin, Osher, Fatemi, Physica D 60 (1992) 259; rounded
    as in Vogel & Oman, SIAM J. Sci. Comput. 17 (1996) 227.

    >>> float(TotalVariation(0.5).log_prob(jnp.zeros((4, 4))))
    0.0
    """

    scale: Any = None
    rounding: Any = None
    power: ClassVar[int] = 1

    def deviations(self, x: Array) -> tuple[Array, ...]:
        """Gradient of every pixel, [... y x 2]; free borders."""
        check_axes(self, x, 2)
        dy = jnp.diff(x, axis=-2, append=x[..., -1:, :])
        dx = jnp.diff(x, axis=-1, append=x[..., :, -1:])
        return (jnp.stack([dy, dx], axis=-1),)

    def rank(self, shape: tuple[int, ...]) -> int:
        """Directions in which the density falls: all but the mean of every image."""
        return math.prod(shape) - math.prod(shape[:-2])

    def log_prob(self, x: Array) -> Array:
        """Sum over all pixels, up to a constant."""
        return log_rounded(self, self.deviations(x), self.rounding)


class Smooth(struct.PyTreeNode):
    r"""Images with small gradients (Tikhonov): a normal density on the difference of neighbours.

    .. math:: \log p(u) = -\frac{1}{2 s^2} \sum_{y,x} \left[ (u_{y+1,x} - u_{y,x})^2 + (u_{y,x+1} - u_{y,x})^2 \right]

    Args:
        scale: s, standard deviation of the difference of neighbouring pixels, in the unit of the leaf; None: found
            from the data.

    Source: Tikhonov, Soviet Math. Dokl. 4 (1963) 1035.

    >>> float(Smooth(1.0).log_prob(jnp.array([[0.0, 1.0]])))
    -0.5
    """

    scale: Any = None
    power: ClassVar[int] = 2

    def deviations(self, x: Array) -> tuple[Array, ...]:
        """Differences along y and along x; free borders."""
        check_axes(self, x, 2)
        return jnp.diff(x, axis=-2), jnp.diff(x, axis=-1)

    def rank(self, shape: tuple[int, ...]) -> int:
        """Directions in which the density falls: all but the mean of every image."""
        return math.prod(shape) - math.prod(shape[:-2])

    def log_prob(self, x: Array) -> Array:
        """Sum over all pixels, up to a constant."""
        return log_normal(self, self.deviations(x))


class SliceSmooth(struct.PyTreeNode):
    r"""Slices that resemble their neighbours: a normal density on differences along the third axis from the end.

    .. math:: \log p(u) = -\frac{1}{2 s^2} \sum (u_{z+1} - u_z)^2

    Args:
        scale: s, standard deviation of the difference between neighbouring slices, in the unit of the leaf; None:
            found from the data.

    >>> float(SliceSmooth(1.0).log_prob(jnp.arange(2.0).reshape(2, 1, 1)))
    -0.5
    """

    scale: Any = None
    power: ClassVar[int] = 2

    def deviations(self, x: Array) -> tuple[Array, ...]:
        """Differences of neighbouring slices."""
        check_axes(self, x, 3)
        return (jnp.diff(x, axis=-3),)

    def rank(self, shape: tuple[int, ...]) -> int:
        """Directions in which the density falls: all but the mean over the slices."""
        return math.prod(shape) - math.prod(shape) // shape[-3]

    def log_prob(self, x: Array) -> Array:
        """Sum over all pixels, up to a constant."""
        return log_normal(self, self.deviations(x))


class Ridge(struct.PyTreeNode):
    r"""Values near a centre: an independent normal density on every element.

    .. math:: \log p(u) = -\frac{1}{2 s^2} \sum (u - u_0)^2

    Args:
        scale: s, standard deviation, in the unit of the leaf; None: found from the data.
        centre: u₀, a number or an array of the leaf's shape.

    >>> float(Ridge(2.0).log_prob(jnp.array([2.0, 2.0])))
    -1.0
    """

    scale: Any = None
    centre: Any = 0.0
    power: ClassVar[int] = 2

    def deviations(self, x: Array) -> tuple[Array, ...]:
        """Distance from the centre."""
        return (x - self.centre,)

    def rank(self, shape: tuple[int, ...]) -> int:
        """Directions in which the density falls: all."""
        return math.prod(shape)

    def log_prob(self, x: Array) -> Array:
        """Sum over all elements, up to a constant."""
        return log_normal(self, self.deviations(x))

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Array:
        """Values of a leaf of some shape; none: that of the centre."""
        return self.centre + strength_of(self) * jax.random.normal(key, shape or np.shape(self.centre))


class Sparse(struct.PyTreeNode):
    r"""Values that are mostly near a centre, and some far from it: a Laplace density, rounded at its edge.

    .. math:: \log p(u) = -\frac{1}{s} \sum \left[ \sqrt{(u - u_0)^2 + \epsilon^2} - \epsilon \right], \qquad
        \epsilon = s / 100

    Args:
        scale: s, mean distance from the centre, in the unit of the leaf; None: found from the data.
        centre: u₀, a number or an array of the leaf's shape.

    Source: Tibshirani, J. R. Stat. Soc. B 58 (1996) 267.

    >>> round(float(Sparse(2.0).log_prob(jnp.array([4.0]))), 2)
    -1.99
    """

    scale: Any = None
    centre: Any = 0.0
    power: ClassVar[int] = 1

    def deviations(self, x: Array) -> tuple[Array, ...]:
        """Distance from the centre, [... 1]."""
        return ((x - self.centre)[..., None],)

    def rank(self, shape: tuple[int, ...]) -> int:
        """Directions in which the density falls: all."""
        return math.prod(shape)

    def log_prob(self, x: Array) -> Array:
        """Sum over all elements, up to a constant."""
        return log_rounded(self, self.deviations(x), None)

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Array:
        """Values of a leaf of some shape: Laplace draws, of which those near the rounded edge are drawn anew."""
        shape = shape or np.shape(self.centre)

        def again(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            key, x, kept = state
            key, first, second = jax.random.split(key, 3)
            drawn = jax.random.laplace(first, shape)
            share = jnp.exp(jnp.abs(drawn) - jnp.sqrt(drawn**2 + ROUNDING**2))
            taken = ~kept & (jax.random.uniform(second, shape) < share)
            return key, jnp.where(taken, drawn, x), kept | taken

        start = key, jnp.zeros(shape), jnp.zeros(shape, bool)
        _, unit, _ = jax.lax.while_loop(lambda state: ~state[2].all(), again, start)
        return self.centre + strength_of(self) * unit


class Positive(struct.PyTreeNode):
    """Values that cannot be negative, otherwise free: only the constraint, no density.

    Args:
        scale: Values well above it move freely, in their own unit; below it the constraint is felt. It shapes the way
            of the solvers and not the most probable value; choose it like the smallest value that matters.

    >>> float(Positive().log_prob(jnp.array([3.0])))
    0.0
    """

    scale: float = struct.field(pytree_node=False, default=1.0)

    @property
    def bijector(self) -> Bijector:
        """Positive numbers."""
        return Softplus(self.scale)

    def log_prob(self, x: Array) -> Array:  # noqa: ARG002 - flat
        """Zero."""
        return jnp.zeros(())


class Product(struct.PyTreeNode):
    """Several priors on one leaf at once.

    Args:
        factors: The priors; at most one of them may constrain.

    >>> float(Product((Smooth(1.0), Ridge(1.0))).log_prob(jnp.array([[0.0, 1.0]])))
    -1.0
    """

    factors: tuple[Any, ...]

    @property
    def bijector(self) -> Bijector:
        """That of the factor which constrains."""
        from stemjax.core.bijectors import bijector_of

        found = [b for b in map(bijector_of, self.factors) if not isinstance(b, Identity)]
        return found[0] if found else Identity()

    def log_prob(self, x: Array) -> Array:
        """Sum of the factors."""
        return sum((jnp.sum(f.log_prob(x)) for f in self.factors), start=jnp.zeros(()))


def log_normal(prior: Any, deviations: tuple[Array, ...]) -> Array:
    """Log-density of the second family, up to a constant."""
    return -0.5 * sum((jnp.sum(d**2) for d in deviations), start=jnp.zeros(())) / strength_of(prior) ** 2


def log_rounded(prior: Any, deviations: tuple[Array, ...], rounding: Any) -> Array:
    """Log-density of the first family, up to a constant; the last axis of a deviation holds the parts of a vector."""
    scale = strength_of(prior)
    edge = ROUNDING * scale if rounding is None else rounding
    return sum((jnp.sum(edge - rounded(d, edge)) for d in deviations), start=jnp.zeros(())) / scale


def rounded(deviation: Array, edge: Any) -> Array:
    """Length of vectors along the last axis, no shorter than the rounding."""
    return jnp.sqrt(jnp.sum(deviation**2, axis=-1) + edge**2)


def strength_of(prior: Any) -> Any:
    """The scale of a prior.

    Raises:
        InputError: It was left out and is not settled yet, or is not positive.
    """
    scale, name = prior.scale, type(prior).__name__
    if scale is None:
        raise InputError(f"{name} has no scale yet; give one, or let the data choose it: problem = settle(problem)")
    if not isinstance(scale, jax.core.Tracer) and not np.min(np.asarray(scale)) > 0:
        raise InputError(f"{name} with a scale of {np.min(np.asarray(scale)):g}; give a positive one, or none")
    return scale


def check_axes(prior: Any, x: Array, axes: int) -> None:
    """Refuse a leaf with too few axes."""
    if jnp.ndim(x) < axes:
        names = ", ".join(("z", "y", "x")[-axes:])
        # Caught where a problem is made, which names the leaf.
        raise ValueError(f"{type(prior).__name__} needs a leaf with the axes ({names}) last; shape {jnp.shape(x)}")
