"""What is believed of a leaf before the data: log-densities whose strength has a unit.

A prior is anything with `log_prob(x)`; its support, if bounded, says how the leaf is constrained. numpyro's
distributions serve as they are (`stemjax.Normal`, `stemjax.LogNormal`, `stemjax.Uniform`, ...). The regularisers of
image reconstruction stand beside them as densities up to a constant.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import struct

from stemjax.core.bijectors import Bijector, Identity, Softplus
from stemjax.core.typing import Array


class TotalVariation(struct.PyTreeNode):
    r"""Images that are smooth but for edges: a Laplace density on the length of the gradient, rounded at zero.

    .. math:: \log p(u) = -\frac{1}{s} \sum_{y,x} \left[ \sqrt{(u_{y+1,x} - u_{y,x})^2 + (u_{y,x+1} - u_{y,x})^2
        + \epsilon^2} - \epsilon \right]

    Args:
        scale: s, the typical difference of neighbouring pixels, in the unit of the leaf.
        rounding: ε, differences below it are treated as noise, not edges; same unit.

    The last two axes are the image; others are summed. Source: Rudin, Osher, Fatemi, Physica D 60 (1992) 259; rounded
    as in Vogel & Oman, SIAM J. Sci. Comput. 17 (1996) 227.

    >>> float(TotalVariation(0.5).log_prob(jnp.zeros((4, 4))))
    0.0
    """

    scale: float
    rounding: float = 1e-3

    def log_prob(self, x: Array) -> Array:
        """Sum over all pixels, free borders."""
        dy = jnp.diff(x, axis=-2, append=x[..., -1:, :])
        dx = jnp.diff(x, axis=-1, append=x[..., :, -1:])
        return jnp.sum(self.rounding - jnp.sqrt(dy**2 + dx**2 + self.rounding**2)) / self.scale


class Smooth(struct.PyTreeNode):
    r"""Images with small gradients (Tikhonov): a normal density on the difference of neighbours.

    .. math:: \log p(u) = -\frac{1}{2 s^2} \sum_{y,x} \left[ (u_{y+1,x} - u_{y,x})^2 + (u_{y,x+1} - u_{y,x})^2 \right]

    Args:
        scale: s, standard deviation of the difference of neighbouring pixels, in the unit of the leaf.

    >>> float(Smooth(1.0).log_prob(jnp.array([[0.0, 1.0]])))
    -0.5
    """

    scale: float

    def log_prob(self, x: Array) -> Array:
        """Sum over all pixels, free borders."""
        return -0.5 * (jnp.sum(jnp.diff(x, axis=-2) ** 2) + jnp.sum(jnp.diff(x, axis=-1) ** 2)) / self.scale**2


class SliceSmooth(struct.PyTreeNode):
    r"""Slices that resemble their neighbours: a normal density on differences along the third axis from the end.

    .. math:: \log p(u) = -\frac{1}{2 s^2} \sum (u_{z+1} - u_z)^2

    Args:
        scale: s, standard deviation of the difference between neighbouring slices, in the unit of the leaf.

    >>> float(SliceSmooth(1.0).log_prob(jnp.arange(2.0).reshape(2, 1, 1)))
    -0.5
    """

    scale: float

    def log_prob(self, x: Array) -> Array:
        """Sum over all pixels."""
        return -0.5 * jnp.sum(jnp.diff(x, axis=-3) ** 2) / self.scale**2


class Ridge(struct.PyTreeNode):
    r"""Values near a centre: an independent normal density on every element.

    .. math:: \log p(u) = -\frac{1}{2 s^2} \sum (u - u_0)^2

    Args:
        scale: s, standard deviation, in the unit of the leaf.
        centre: u₀, a number or an array of the leaf's shape.

    >>> float(Ridge(2.0).log_prob(jnp.array([2.0, 2.0])))
    -1.0
    """

    scale: float
    centre: Any = 0.0

    def log_prob(self, x: Array) -> Array:
        """Sum over all elements."""
        return -0.5 * jnp.sum((x - self.centre) ** 2) / self.scale**2


class Positive(struct.PyTreeNode):
    """Values that cannot be negative, otherwise free: only the constraint, no density.

    Args:
        scale: Values well above it move freely, in their own unit; below it the constraint is felt.

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
