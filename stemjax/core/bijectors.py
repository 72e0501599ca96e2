"""Smooth one-to-one maps from all real numbers onto the support of a prior, so that every solver walks freely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from stemjax.core.typing import Array


class Bijector(Protocol):
    """A map y = forward(x) with its inverse and the logarithm of its slope."""

    def forward(self, x: Array) -> Array:
        """The constrained value."""
        ...

    def inverse(self, y: Array) -> Array:
        """The unconstrained value."""
        ...

    def log_slope(self, x: Array) -> Array:
        """log |dy/dx|, element by element."""
        ...


@dataclass(frozen=True)
class Identity:
    """No constraint.

    >>> float(Identity().forward(jnp.array(2.0)))
    2.0
    """

    def forward(self, x: Array) -> Array:
        """x."""
        return x

    def inverse(self, y: Array) -> Array:
        """y."""
        return y

    def log_slope(self, x: Array) -> Array:
        """0."""
        return jnp.zeros_like(x)


@dataclass(frozen=True)
class Exponential:
    """Positive numbers above `lower`: y = lower + exp(x).

    >>> float(Exponential(1.0).forward(jnp.array(0.0)))
    2.0
    """

    lower: Any = 0.0

    def forward(self, x: Array) -> Array:
        """lower + exp x."""
        return self.lower + jnp.exp(x)

    def inverse(self, y: Array) -> Array:
        """log(y − lower)."""
        return jnp.log(y - self.lower)

    def log_slope(self, x: Array) -> Array:
        """x."""
        return x


@dataclass(frozen=True)
class Softplus:
    """Positive numbers, y = s log(1 + exp(x/s)): far above s it is y = x, so steps keep the unit of y.

    >>> round(float(Softplus(0.1).forward(jnp.array(2.0))), 4)
    2.0
    """

    scale: float = 1.0

    def forward(self, x: Array) -> Array:
        """s log(1 + exp(x/s))."""
        return self.scale * jax.nn.softplus(x / self.scale)

    def inverse(self, y: Array) -> Array:
        """s log(exp(y/s) − 1)."""
        share = y / self.scale
        return self.scale * (share + jnp.log(-jnp.expm1(-share)))

    def log_slope(self, x: Array) -> Array:
        """log sigmoid(x/s)."""
        return jax.nn.log_sigmoid(x / self.scale)


@dataclass(frozen=True)
class Interval:
    """Numbers between two bounds: y = lower + (upper − lower) / (1 + exp(−x)).

    >>> float(Interval(0.0, 4.0).forward(jnp.array(0.0)))
    2.0
    """

    lower: Any
    upper: Any

    def forward(self, x: Array) -> Array:
        """The logistic function, scaled."""
        return self.lower + (self.upper - self.lower) * jax.nn.sigmoid(x)

    def inverse(self, y: Array) -> Array:
        """The logit, scaled."""
        share = (y - self.lower) / (self.upper - self.lower)
        return jnp.log(share) - jnp.log1p(-share)

    def log_slope(self, x: Array) -> Array:
        """log (upper − lower) + log sigmoid(x) + log sigmoid(−x)."""
        return jnp.log(self.upper - self.lower) + jax.nn.log_sigmoid(x) + jax.nn.log_sigmoid(-x)


def bijector_of(prior: Any) -> Bijector:
    """The bijector onto the support of a prior.

    Args:
        prior: An object with a `bijector` (the priors of stemjax), or a numpyro distribution, whose `support` tells.

    >>> bijector_of(object())
    Identity()
    """
    own = getattr(prior, "bijector", None)
    if own is not None:
        return own
    support = getattr(prior, "support", None)
    if support is None or type(support).__name__ in ("_Real", "_RealVector"):
        return Identity()
    if type(support).__name__ == "_IndependentConstraint":
        support = support.base_constraint
    lower, upper = getattr(support, "lower_bound", None), getattr(support, "upper_bound", None)
    if lower is not None and upper is not None:
        return Interval(lower, upper)  # as they are: inside a compiled solver they are traced
    if lower is not None:
        return Exponential(lower)
    if type(support).__name__ in ("_Positive", "_Nonnegative"):
        return Exponential(0.0)
    return Identity() if type(support).__name__ in ("_Real",) else _from_numpyro(support)


def _from_numpyro(support: Any) -> Bijector:
    from numpyro.distributions import biject_to

    transform = biject_to(support)

    @dataclass(frozen=True)
    class Foreign:
        def forward(self, x: Array) -> Array:
            return transform(x)

        def inverse(self, y: Array) -> Array:
            return transform.inv(y)

        def log_slope(self, x: Array) -> Array:
            return transform.log_abs_det_jacobian(x, transform(x))

    return Foreign()
