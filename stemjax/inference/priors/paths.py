"""What is believed of a path in time or of a field in space: random walks and Gaussian processes.

A path is a leaf whose first axis is time (`scan.walk` [knot 2]); all its other axes are paths of their own. A field is
a leaf whose last two axes are y and x. Cost and memory grow with the number of values: no covariance is stored.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.typing import Array, PRNGKeyArray
from stemjax.inference.priors.images import check_axes, log_normal, strength_of
from stemjax.inference.priors.kernels import Kernel, Matern32, along


class RandomWalk(struct.PyTreeNode):
    r"""Paths whose steps are independent: Brownian motion seen at some times.

    .. math:: \log p(x) = -\sum_i \frac{|x_{i+1} - x_i|^2}{2 s^2 (t_{i+1} - t_i)}
        \;\left[- \frac{|x_0|^2}{2 s_0^2}\right]

    Args:
        scale: s, standard deviation of a path after a second, in the unit of the leaf per √s; without times after a
            step, in the unit of the leaf; None: found from the data.
        times: When the path has its values [knot] [s], rising; None: one after the other.
        start: s₀, standard deviation of the first value about zero, in the unit of the leaf; None: it is free, and
            the density has no draws.

    >>> float(RandomWalk(2.0, jnp.array([0.0, 4.0])).log_prob(jnp.array([[1.0], [5.0]])))
    -0.5
    """

    scale: Any = None
    times: Any = None
    start: Any = None
    power: ClassVar[int] = 2

    @property
    def proper(self) -> bool:
        """Whether the density can be drawn from."""
        return self.start is not None

    def unit(self, leaf: str) -> str:
        """Unit of the scale, from that of the leaf."""
        return leaf if self.times is None else f"{leaf}/√s"

    def deviations(self, x: Array) -> tuple[Array, ...]:
        """Steps over the root of their time [knot - 1 ...]."""
        check_axes(self, x, 1)
        return (jnp.diff(x, axis=0) / along(jnp.sqrt(_steps(self, x.shape[0])), x),)

    def rank(self, shape: tuple[int, ...]) -> int:
        """Directions in which the density of the steps falls: all but one a path."""
        return math.prod(shape) - math.prod(shape[1:])

    def log_prob(self, x: Array) -> Array:
        """Sum over all steps and paths, up to a constant."""
        first = 0.0 if self.start is None else 0.5 * jnp.sum(x[0] ** 2) / self.start**2
        return log_normal(self, self.deviations(x)) - first

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Array:
        """Paths of some shape [knot ...].

        Raises:
            InputError: The first value is free.
        """
        if self.start is None:
            raise InputError("RandomWalk has no draws while its first value is free; give it a start")
        white = jax.random.normal(key, shape)
        steps = strength_of(self) * along(jnp.sqrt(_steps(self, shape[0])), white) * white[1:]
        return jnp.cumsum(jnp.concatenate([self.start * white[:1], steps]), axis=0)


class GaussianProcess(struct.PyTreeNode):
    r"""Paths that wander about a mean and forget where they were: a stationary Gaussian process in time.

    .. math:: \mathrm{cov}(x_i, x_j) = s^2\, k(|t_i - t_j| / l)

    Args:
        scale: s, standard deviation of a value, in the unit of the leaf; None: found from the data.
        length: l, how long a path remembers [s]; without times in steps.
        times: When the path has its values [knot] [s], rising; None: one after the other.
        kernel: k: `Matern32()` for paths with a velocity, `Exponential()` for rough ones.
        mean: What they wander about, a number or an array that broadcasts to the leaf, same unit.

    >>> float(GaussianProcess(2.0, 1.0).log_prob(jnp.array([2.0])))
    -0.5
    """

    scale: Any = None
    length: Any = None
    times: Any = None
    kernel: Kernel = struct.field(pytree_node=False, default=Matern32())
    mean: Any = 0.0
    power: ClassVar[int] = 2

    def deviations(self, x: Array) -> tuple[Array, ...]:
        """What every value is off from its forecast, over the standard deviation of that at scale one."""
        check_axes(self, x, 1)
        steps = _steps(self, x.shape[0]) / _length(self)
        return (self.kernel.whiten(x - self.mean, steps),)

    def rank(self, shape: tuple[int, ...]) -> int:
        """Directions in which the density falls: all."""
        return math.prod(shape)

    def log_prob(self, x: Array) -> Array:
        """Sum over all values and paths, up to a constant."""
        return log_normal(self, self.deviations(x))

    def covary(self, x: Array) -> Array:
        """The covariance matrix at scale one times a path [knot ...]."""
        steps = _steps(self, x.shape[0]) / _length(self)
        return _there_and_back(lambda white: self.kernel.colour(white, steps), x)

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Array:
        """Paths of some shape [knot ...]."""
        steps = _steps(self, shape[0]) / _length(self)
        return self.mean + strength_of(self) * self.kernel.colour(jax.random.normal(key, shape), steps)


class GaussianField(struct.PyTreeNode):
    r"""Fields that vary over a length: a stationary Gaussian process on the grid of the last two axes.

    .. math:: \mathrm{cov}(u_{y,x}, u_{y',x'}) = s^2\, k(|y - y'| / l)\, k(|x - x'| / l)

    Exact on a grid with borders (nothing wraps around). The correlation of a diagonal is the product of those of its
    legs, so the process is not quite isotropic.

    Args:
        scale: s, standard deviation of a value, in the unit of the leaf; None: found from the data.
        length: l [Å]; without a sampling in pixels.
        sampling: Distance of neighbouring pixels (y, x) [Å].
        kernel: k: `Matern32()` for smooth fields, `Exponential()` for rough ones.
        mean: What they vary about, a number or an array that broadcasts to the leaf, same unit.

    >>> float(GaussianField(2.0, 5.0).log_prob(jnp.array([[2.0]])))
    -0.5
    """

    scale: Any = None
    length: Any = None
    sampling: Any = (1.0, 1.0)
    kernel: Kernel = struct.field(pytree_node=False, default=Matern32())
    mean: Any = 0.0
    power: ClassVar[int] = 2

    def deviations(self, x: Array) -> tuple[Array, ...]:
        """Independent numbers of unit variance at scale one, as many as pixels."""
        check_axes(self, x, 2)
        return (self._both(self.kernel.whiten, x - self.mean),)

    def rank(self, shape: tuple[int, ...]) -> int:
        """Directions in which the density falls: all."""
        return math.prod(shape)

    def log_prob(self, x: Array) -> Array:
        """Sum over all pixels, up to a constant."""
        return log_normal(self, self.deviations(x))

    def covary(self, x: Array) -> Array:
        """The covariance matrix at scale one times a field [... y x]."""
        return _there_and_back(lambda white: self._both(self.kernel.colour, white), x)

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Array:
        """Fields of some shape [... y x]."""
        return self.mean + strength_of(self) * self._both(self.kernel.colour, jax.random.normal(key, shape))

    def _both(self, turn: Any, x: Array) -> Array:
        for axis, step in zip((-2, -1), self.sampling, strict=True):
            ahead = jnp.moveaxis(x, axis, 0)
            steps = jnp.full(ahead.shape[0] - 1, step / _length(self))
            x = jnp.moveaxis(turn(ahead, steps), 0, axis)
        return x


def _there_and_back(colour: Callable[[Array], Array], x: Array) -> Array:
    (turned,) = jax.linear_transpose(colour, x)(x)
    return colour(turned)


def _steps(prior: Any, count: int) -> Array:
    """Time between neighbouring values [knot - 1]."""
    if prior.times is None:
        return jnp.ones(count - 1)
    times, name = jnp.asarray(prior.times), type(prior).__name__
    if times.shape != (count,):
        raise ValueError(f"{name} has {times.size} times for {count} values along the first axis; give one each")
    if not isinstance(times, jax.core.Tracer) and not (np.diff(np.asarray(times)) > 0).all():
        raise InputError(f"the times of {name} do not rise; give every value a time of its own, in order")
    return jnp.diff(times)


def _length(prior: Any) -> Any:
    length, name = prior.length, type(prior).__name__
    if length is None:
        raise InputError(f"{name} has no length; give one (only its scale can be left to the data)")
    if not isinstance(length, jax.core.Tracer) and not np.min(np.asarray(length)) > 0:
        raise InputError(f"{name} with a length of {np.min(np.asarray(length)):g}; give a positive one")
    return length
