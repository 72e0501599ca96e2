"""A camera: what it collects of a pattern, and how its counts scatter; one model both samples and scores."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.typing import POSITIVE, Annotated, Array, PRNGKeyArray, real
from stemjax.detect.information import InformationTable, check_leaves, information, standardised, tabulate
from stemjax.detect.point_spread import PointSpread, make_point_spread, spread_out
from stemjax.detect.poisson_gaussian import Counting, Law, Readout, law_of, signed_deviance

STRAY = 1e-3
"""Stray electrons a pixel that `make_camera` assumes: they keep the logarithm finite where the model is dark."""


class Camera(struct.PyTreeNode):
    r"""A camera, from expected electrons to counts; made by `make_camera`.

    .. math:: \mu = S \cdot (h * \mu_{in}), \qquad n \sim \mathrm{Poisson}(\mu + \mu_0), \qquad
        c = \min(\mathrm{round}(g n + d + r \epsilon),\ c_{sat})

    The point spread h acts on the expectation. What that leaves out: the light of one electron lights several pixels
    of a scintillator at once, so that neighbouring counts are correlated, and its amount varies (Landau, Swank noise).
    Pixels are independent here, and the noise at high frequencies, with it the quantum efficiency DQE(f), is that of an
    ideal counter behind the same spread: DQE(0) is 1 but for readout noise and sensitivity. Counts below zero are not
    clipped: keep the dark level above the noise.

    Args:
        gain: Counts per electron, g.
        dark: Level without electrons, d [count].
        readout: Rms noise of reading a pixel, r [count].
        stray: Electrons that every pixel is expected to hold besides the pattern's, µ₀ [electron].
        blur: Point spread h, or None.
        sensitivity: Response of every pixel S [ky kx], zero frequency in the corner, or None.
        dead: 1 where a pixel tells nothing [ky kx], zero frequency in the corner, or None.
        saturation: Highest count, or None.
        integer: Counts are rounded to integers.
        law: How counts are scored (`stemjax.detect.poisson_gaussian`); chosen by `make_camera` for its gain and noise.
    """

    gain: Annotated[Array, "count/electron", POSITIVE]
    dark: Annotated[Array, "count"]
    readout: Annotated[Array, "count", POSITIVE]
    stray: Annotated[Array, "electron"]
    blur: PointSpread | None
    sensitivity: Array | None
    dead: Array | None
    saturation: float | None = struct.field(pytree_node=False)
    integer: bool = struct.field(pytree_node=False)
    law: Law = struct.field(pytree_node=False)

    def collect(self, pattern: Array) -> Array:
        """Expected electrons that every pixel counts [... ky kx], of the expected incident ones.

        Args:
            pattern: Expected incident electrons [... ky kx], zero frequency in the corner.

        >>> camera = make_camera(sensitivity=np.full((2, 2), 0.5))
        >>> camera.collect(jnp.ones((2, 2))).tolist()
        [[0.5, 0.5], [0.5, 0.5]]
        """
        blurred = pattern if self.blur is None else spread_out(pattern, self.blur)
        return blurred if self.sensitivity is None else blurred * _over(self.sensitivity, blurred)

    def mean(self, expected: Array) -> Array:
        """Expected counts of expected electrons; near saturation those of a clipped normal law."""
        return self._clipped_moments(expected)[0]

    def variance(self, expected: Array) -> Array:
        """Variance of the counts; rounding adds 1/12 where there is readout noise, saturation takes away."""
        return self._clipped_moments(expected)[1]

    def sample(self, key: PRNGKeyArray, expected: Array) -> Array:
        """Random counts of expected electrons; a dead pixel shows its dark level and noise."""
        first, second = jax.random.split(key)
        readout = self._readout(expected)
        electrons = jax.random.poisson(first, self._electrons(expected)).astype(expected.dtype)
        electrons = self._alive(expected, electrons, 0.0)
        noise = jax.random.normal(second, expected.shape, expected.dtype)
        counts = readout.gain * electrons + readout.dark + readout.noise * noise
        counts = jnp.round(counts) if self.integer else counts
        return counts if self.saturation is None else jnp.minimum(counts, self.saturation)

    def log_prob(self, counts: Array, expected: Array) -> Array:
        """Log-probability of counts, normalised where there is read noise; log P(c ≥ saturation) of a full pixel."""
        counts, mean, readout = self._aligned(counts, expected)
        value = self.law.log_prob(counts, mean, readout)
        if self.saturation is not None:
            above = self.law.log_above(self.saturation, mean, readout)
            value = jnp.where(counts >= self.saturation, above, value)
        return self._alive(value, value, 0.0)

    def best(self, counts: Array) -> Array:
        """Greatest log-probability that any expectation gives the counts: the zero of a goodness of fit.

        It depends on gain, dark level and noise, but is held fixed in gradients: a yardstick, not a part of the
        likelihood. Where the camera's own leaves are free, compare values of `log_prob` alone.
        """
        frozen = jax.lax.stop_gradient(self)
        counts, _, readout = frozen._aligned(counts, jnp.zeros_like(counts, dtype=self.gain.dtype))
        # An empty pixel is likeliest without any electron; the logarithm of next to none replaces that of none.
        mean = jnp.maximum(self.law.most_likely(counts, readout)[0], 1e-12)
        value = self.law.log_prob(counts, mean, readout)
        if self.saturation is not None:
            value = jnp.where(counts >= self.saturation, 0.0, value)
        return self._alive(value, value, 0.0)

    def residual(self, counts: Array, expected: Array) -> Array:
        """Signed root of the deviance: half the sum of its squares is `best` − `log_prob`."""
        value, best = self.log_prob(counts, expected), self.best(counts)
        counts, mean, _ = self._aligned(counts, expected)
        place, second, third = self.law.most_likely(counts, jax.lax.stop_gradient(self)._readout(counts))
        if self.saturation is not None:
            # A saturated pixel always asks for more.
            full = counts >= self.saturation
            place, second = jnp.where(full, jnp.inf, place), jnp.where(full, 0.0, second)
        root = signed_deviance(value, best, mean, (place, second, third))
        return self._alive(root, root, 0.0)

    @property
    def law_leaves(self) -> tuple[str, ...]:
        """Leaves that shape the scatter of the counts, besides the expectation; the others act on the expectation."""
        return ("gain", "dark", "readout", "stray")

    def information(self, expected: Array, table: InformationTable | None = None) -> Array:
        """Fisher information of every count about its expected electrons.

        Args:
            expected: Expected electrons [... ky kx].
            table: What `tabulated` gives; made here if left out.

        >>> make_camera(gain=20.0, readout=2.0).information(jnp.array([4.0 - STRAY])).round(4).tolist()
        [0.25]
        """
        electrons = self._electrons(expected)
        return self._alive(electrons, information(self.law, electrons, self._levels(), self.saturation, table), 0.0)

    def standardised(
        self, expected: Array, leaves: tuple[str, ...] = (), table: InformationTable | None = None
    ) -> Array:
        """Electrons, gain, dark level and noise of every pixel in units of their joint information [parameter ...].

        The Jacobian J of these in any leaves, those of the camera among them, gives their Fisher information J^T J.

        Args:
            expected: Expected electrons [... ky kx].
            leaves: Which of `law_leaves` are unknown.
            table: What `tabulated` gives; made here if left out.

        Raises:
            InputError: The camera counts without noise, and more than the stray electrons is unknown.
        """
        check_leaves(self.law, leaves)
        electrons = self._electrons(expected)
        found = standardised(self.law, electrons, self._levels(), self.saturation, table)
        return jax.vmap(lambda one: self._alive(one, one, 0.0))(found)

    def tabulated(self) -> InformationTable | None:
        """What `information` and `standardised` look up, for use in a loop; None where they need no table."""
        return tabulate(self.law, self._levels(), self.saturation)

    def _levels(self) -> Readout:
        return Readout(self.gain, self.dark, self.readout, self.integer)

    def _electrons(self, expected: Array) -> Array:
        return expected + _over(self.stray, expected)

    def _readout(self, like: Array) -> Readout:
        gain, dark, noise = (_over(leaf, like) for leaf in (self.gain, self.dark, self.readout))
        return Readout(gain, dark, noise, self.integer)

    def _aligned(self, counts: Array, expected: Array) -> tuple[Array, Array, Readout]:
        """Counts, mean electrons and readout in one shape."""
        counts = jnp.asarray(counts, dtype=expected.dtype)
        shape = jnp.broadcast_shapes(counts.shape, expected.shape)
        counts, expected = (jnp.broadcast_to(a, shape) for a in (counts, expected))
        return counts, self._electrons(expected), self._readout(expected)

    def _alive(self, like: Array, value: Array, otherwise: float) -> Array:
        """`value`, but in dead pixels."""
        return value if self.dead is None else jnp.where(_over(self.dead, like) > 0.5, otherwise, value)

    def _clipped_moments(self, expected: Array) -> tuple[Array, Array]:
        electrons, readout = self._electrons(expected), self._readout(expected)
        electrons = self._alive(electrons, electrons, 0.0)
        mean = readout.gain * electrons + readout.dark
        variance = readout.gain**2 * electrons + readout.noise**2
        if self.integer and not isinstance(self.law, Counting):
            variance = variance + 1.0 / 12.0
        if self.saturation is None:
            return mean, variance
        root = jnp.sqrt(jnp.maximum(variance, 1e-12))
        edge = (self.saturation - mean) / root
        inside = jax.scipy.special.ndtr(edge)
        height = jnp.exp(-0.5 * edge**2) / math.sqrt(2 * math.pi)
        # Moments of min(z, edge) of a standard normal z.
        first = edge * (1.0 - inside) - height
        second = inside - edge * height + edge**2 * (1.0 - inside)
        return mean + root * first, variance * jnp.maximum(second - first**2, 0.0)


def make_camera(
    *,
    gain: Annotated[float | np.ndarray, "count/electron"] = 1.0,
    dark: Annotated[float | np.ndarray, "count"] = 0.0,
    readout: Annotated[float | np.ndarray, "count"] = 0.0,
    blur: PointSpread | float | None = None,
    sensitivity: np.ndarray | None = None,
    dead: np.ndarray | None = None,
    saturation: Annotated[float, "count"] | None = None,
    integer: bool = True,
) -> Camera:
    """A camera, checked; without arguments an ideal counter of electrons.

    Args:
        gain: Counts per electron; one number or [ky kx].
        dark: Level without electrons [count]; one number or [ky kx].
        readout: Rms noise of a pixel [count]; one number or [ky kx]. Zero chooses the law of a counter, in which the
            noise cannot be freed.
        blur: Rms width of a Gaussian point spread [pixel], 0 for none; or a spread from `make_point_spread`.
        sensitivity: Response of every pixel [ky kx], around 1.
        dead: True where a pixel tells nothing [ky kx].
        saturation: Highest count.
        integer: Counts are rounded. Scoring then integrates over the rounding, at about three times the cost, and for
            noise of more than three counts without need.

    Returns:
        The camera; maps have their zero frequency in the corner.

    Raises:
        InputError: A gain, sensitivity or noise is impossible, maps differ in shape, or the dark level saturates.

    >>> make_camera(gain=20.0, dark=100.0, readout=8.0, saturation=4095).law
    Mixture(half=6)
    """
    _check_levels(np.asarray(gain), np.asarray(dark), np.asarray(readout), saturation)
    maps = {"gain": gain, "dark": dark, "readout": readout, "sensitivity": sensitivity, "dead": dead}
    shapes = {name: np.shape(value) for name, value in maps.items() if value is not None and np.ndim(value) > 0}
    if len(set(shapes.values())) > 1 or any(len(shape) != 2 for shape in shapes.values()):
        raise InputError(f"maps of a camera have shapes {shapes}; give numbers, or [ky kx] of one shape")
    if sensitivity is not None and not (np.isfinite(sensitivity).all() and np.min(sensitivity) >= 0):
        raise InputError("a sensitivity must be finite and not negative; give 0 and a dead mask for what tells nothing")
    return Camera(
        gain=real(gain),
        dark=real(dark),
        readout=real(readout),
        stray=real(STRAY),
        blur=_point_spread(blur),
        sensitivity=None if sensitivity is None else real(sensitivity),
        dead=None if dead is None else real(np.asarray(dead, dtype=float)),
        saturation=None if saturation is None else float(saturation),
        integer=bool(integer),
        law=law_of(1.0, 0.0 if not np.any(readout) else float(np.max(np.asarray(readout) / np.asarray(gain)))),
    )


def _check_levels(gain: np.ndarray, dark: np.ndarray, readout: np.ndarray, saturation: float | None) -> None:
    """Refuse impossible levels with what would be possible."""
    if not (np.isfinite(gain).all() and gain.min() > 0):
        raise InputError(f"a gain of {gain.min():g} counts per electron; give a positive one (1 for a counter)")
    if not (np.isfinite(dark).all() and np.isfinite(readout).all() and readout.min() >= 0):
        raise InputError(
            f"dark level {dark.min():g}, readout noise {readout.min():g}; give finite counts, noise from 0 on"
        )
    if np.any(readout > 0) and not np.all(readout > 0):
        raise InputError("some pixels have readout noise and some have none; give all of them some, such as 0.01 count")
    least = float(np.max(dark + gain))
    if saturation is not None and not saturation > least:
        raise InputError(
            f"saturation at {saturation:g} counts leaves no room above the dark level of {dark.max():g}; "
            f"give more than {least:g}, or None"
        )


def _point_spread(blur: PointSpread | float | None) -> PointSpread | None:
    if isinstance(blur, int | float):
        return None if blur == 0 else make_point_spread(blur)
    return blur


def _over(leaf: Array, like: Array) -> Array:
    """A number or a map [ky kx], repeated to the shape of patterns [... ky kx]."""
    return jnp.broadcast_to(leaf, like.shape)
