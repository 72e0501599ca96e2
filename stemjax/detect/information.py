r"""What one pixel of a camera tells: Fisher information about its mean electrons, and about the camera itself.

.. math:: I_{ij} = \sum_c \frac{\partial_i p(c)\, \partial_j p(c)}{p(c)}, \qquad \theta = (\mu, g, d, r)

with p the law of `stemjax.detect.poisson_gaussian`: summed over all counts where electrons are read with noise,
rounded or not, a full pixel counted as one outcome; in closed form where electrons are counted without noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.typing import Array
from stemjax.detect.count_sums import Well, counted, highest, matched, retained, summed, well_of
from stemjax.detect.poisson_gaussian import Counting, Law, Matched, Mixture, Readout

NODES = 192
"""Means at which a table holds the information, from `LEAST` on, even in their logarithm."""
FULL_NODES = 97
"""Means around the one that fills a pixel, up to `FAR` spreads from it."""
LEAST, FAR = 1e-6, 9.0
DEEP = 5000.0
"""Electrons above which a full well is taken for that of a counter of the same mean and variance."""


class InformationTable(struct.PyTreeNode):
    """Information by mean electrons, times `_units` so that entries are of order one; made by `tabulate`.

    Args:
        top: Highest mean of `unfilled`; beyond it entries go to their limit as 1/mean.
        unfilled: Values without saturation, and their change from node to node [2 4 4 node].
        filling: What saturation adds to them [2 4 4 node], or None.
    """

    top: Array
    unfilled: Array
    filling: Array | None


def information(
    law: Law, mean: Array, readout: Readout, level: float | None = None, table: InformationTable | None = None
) -> Array:
    """Fisher information of one count about its mean electrons, pixel by pixel; smooth in the mean.

    Args:
        law: The law of the camera.
        mean: Mean electrons, stray ones included [... ky kx].
        readout: Gain, dark level and noise: numbers, or maps [ky kx].
        level: Saturation [count], or None.
        table: That of `tabulate`, where it was made before.

    >>> still = Readout(jnp.array(1.0), jnp.array(0.0), jnp.array(0.0), True)
    >>> float(information(Counting(), jnp.array(4.0), still))
    0.25
    """
    if not isinstance(law, Counting):
        return information_matrix(law, mean, readout, level, table)[0, 0]
    if level is None:
        return 1.0 / mean
    least = jnp.ceil((level - 0.5 * readout.integer - readout.dark) / readout.gain - 1e-6)
    return counted(mean, jnp.broadcast_to(least, mean.shape))


def information_matrix(
    law: Law, mean: Array, readout: Readout, level: float | None = None, table: InformationTable | None = None
) -> Array:
    """Joint Fisher information of one count about (electrons, gain, dark level, readout noise).

    Args:
        law: The law of the camera.
        mean: Mean electrons, stray ones included [... ky kx].
        readout: Gain, dark level and noise: numbers, or maps [ky kx].
        level: Saturation [count], or None.
        table: That of `tabulate`, where it was made before.

    Returns:
        [4 4 ... ky kx]. Where gain, dark level and noise are numbers it is looked up in a table, to 1e-6. Where one is
        a map, every pixel is summed by itself: thousands of terms a pixel.

    Raises:
        InputError: The camera counts without noise.
    """
    check_leaves(law, ("gain",))
    if isinstance(law, Matched):
        return matched(mean, readout, level)
    if not isinstance(law, Mixture):
        raise InputError(f"no information is known of the law {law}; give Counting, Mixture or Matched")
    if any(jnp.ndim(leaf) for leaf in readout[:3]):
        return _of_maps(law, mean, readout, level)
    return _looked_up(_table(law, readout, level) if table is None else table, mean, readout, level)


def standardised(
    law: Law, mean: Array, readout: Readout, level: float | None = None, table: InformationTable | None = None
) -> Array:
    r"""The parameters of every count in units of their joint information.

    .. math:: \eta = L^\mathsf{T} \theta, \qquad L L^\mathsf{T} = I(\theta)

    with L held fixed under differentiation, so that the Jacobian J of η in any unknowns gives their Fisher information
    J^T J, be they behind the electrons or leaves of the camera.

    Returns:
        [4 ... ky kx]; [1 ... ky kx] for a camera that counts without noise.
    """
    frozen_mean, frozen = jax.lax.stop_gradient((mean, readout[:3]))
    fixed = Readout(*frozen, readout.integer)
    if isinstance(law, Counting):
        return (jnp.sqrt(information(law, frozen_mean, fixed, level)) * mean)[None]
    matrix = information_matrix(law, frozen_mean, fixed, level, jax.lax.stop_gradient(table))
    lower = _root(matrix)
    theta = [mean, *(jnp.broadcast_to(leaf, mean.shape) for leaf in readout[:3])]
    rows = [sum((lower[i][j] * theta[i] for i in range(j, 4)), start=jnp.zeros_like(mean)) for j in range(4)]
    return jnp.stack(rows)


def check_leaves(law: Law, leaves: tuple[str, ...]) -> None:
    """Refuse unknown levels of a camera that counts without noise.

    Args:
        law: The law of the camera.
        leaves: Its leaves that are unknown.
    """
    wrong = [leaf for leaf in leaves if leaf != "stray"]
    if isinstance(law, Counting) and wrong:
        raise InputError(
            f"the camera's {' and '.join(wrong)} cannot be found where electrons are counted without noise: every "
            "count is a whole step of the gain; hold it fixed, or give the camera readout noise"
        )


def tabulate(law: Law, readout: Readout, level: float | None = None) -> InformationTable | None:
    """The information of a `Mixture` whose gain, dark level and noise are numbers, by mean; None for other cameras."""
    if not isinstance(law, Mixture) or any(jnp.ndim(leaf) for leaf in readout[:3]):
        return None
    return _table(law, readout, level)


def _table(law: Mixture, readout: Readout, level: float | None) -> InformationTable:
    top = highest(law, readout)

    def unfilled(mean: Array) -> Array:
        return summed(law, mean, readout, None) * _units(mean, readout)

    place = jnp.linspace(0.0, 1.0, NODES, dtype=top.dtype)
    found = _tabled(lambda t: unfilled(LEAST * (top / LEAST) ** t), place)
    if level is None:
        return InformationTable(top, found, None)
    well = well_of(readout, level)

    lowest, full = _around(well)

    def filling(part: Array) -> Array:
        mean = lowest + part * (full - lowest)
        missing = summed(law, mean, readout, well.edge) - summed(law, mean, readout, None)
        return missing * _units(mean, readout)

    return InformationTable(top, found, _tabled(filling, jnp.linspace(0.0, 1.0, FULL_NODES, dtype=top.dtype)))


def _around(well: Well) -> tuple[Array, Array]:
    """Means below which a well is never full, and above which it always is."""
    return jnp.maximum(well.mean - FAR * well.spread, LEAST), well.mean + FAR * well.spread


def _looked_up(table: InformationTable, mean: Array, readout: Readout, level: float | None) -> Array:
    span = jnp.log(table.top / LEAST)
    place = jnp.log(jnp.clip(mean, LEAST, table.top) / LEAST) / span
    values = _interpolated(table.unfilled, place)
    # Beyond the table entries go to their limit as 1/mean, with the slope that they end with.
    slope = table.unfilled[1, ..., -1].reshape(4, 4, *(1,) * mean.ndim) * (NODES - 1) / span
    values = values + slope * (1.0 - jnp.minimum(table.top / jnp.maximum(mean, LEAST), 1.0))[None, None]
    if table.filling is not None and level is not None:
        well = well_of(readout, level)
        lowest, full = _around(well)
        share = (mean - lowest) / (full - lowest)
        part = _interpolated(table.filling, jnp.clip(share, 0.0, 1.0))
        part = jnp.where(share[None, None] > 1.0, -values, jnp.where(share[None, None] < 0.0, 0.0, part))
        deep = (retained(mean, readout, well) - 1.0)[None, None] * values
        values = values + jnp.where(well.mean > DEEP, deep, part)
    return values / _units(mean, readout)


def _of_maps(law: Mixture, mean: Array, readout: Readout, level: float | None) -> Array:
    """Every pixel by itself."""
    leaves = [jnp.broadcast_to(leaf, mean.shape).ravel() for leaf in readout[:3]]

    @jax.checkpoint
    def one(pixel: tuple[Array, ...]) -> Array:
        own = Readout(pixel[1], pixel[2], pixel[3], readout.integer)
        open_well = summed(law, pixel[0], own, None)
        if level is None:
            return open_well
        well = well_of(own, level)
        deep = retained(pixel[0], own, well) * open_well
        return jnp.where(well.mean > DEEP, deep, summed(law, pixel[0], own, well.edge))

    found = jax.lax.map(one, (mean.ravel(), *leaves))
    return jnp.moveaxis(found, 0, -1).reshape(4, 4, *mean.shape)


def _units(mean: Array, readout: Readout) -> Array:
    """What makes the entries of the matrix numbers of order one, whatever the mean [4 4 ...]."""
    gain, noise = (jnp.broadcast_to(leaf, mean.shape) for leaf in (readout.gain, readout.noise))
    # Information about the mean of a pixel without electrons is exp(g²/r²) - 1.
    ratio = (gain / noise) ** 2
    least = jnp.exp(-ratio) / -jnp.expm1(-ratio)
    # Levels are known from single electrons where the noise tells these apart, else from the spread of all counts.
    square = noise**2 + readout.integer / 12.0
    apart = jnp.exp(-4.0 * math.pi**2 * square / gain**2) / square
    spread = square + gain**2 * mean
    level, scale = jnp.sqrt(1.0 / spread + apart), jnp.sqrt(square / spread**2 + apart)
    units = jnp.stack([jnp.sqrt(mean + least), 1.0 / (level * jnp.sqrt(mean**2 + mean)), 1.0 / level, 1.0 / scale])
    return units[:, None] * units[None]


def _tabled(function: Callable[[Array], Array], places: Array) -> Array:
    """A function [4 4] of one number at even places, and its change from one to the next, [2 4 4 place]."""
    values = jnp.moveaxis(jax.lax.map(jax.checkpoint(function), places), 0, -1)
    inner = (8.0 * (values[..., 3:-1] - values[..., 1:-3]) - (values[..., 4:] - values[..., :-4])) / 12.0

    def end(side: Array) -> Array:
        """Of the first two places, by the polynomial through the first five."""
        weights = np.array([[-25.0, 48.0, -36.0, 16.0, -3.0], [-3.0, -10.0, 18.0, -6.0, 1.0]]) / 12.0
        return jnp.einsum("...k,jk->...j", side, jnp.asarray(weights, side.dtype), precision="highest")

    first, last = end(values[..., :5]), -end(values[..., :-6:-1])[..., ::-1]
    return jnp.stack([values, jnp.concatenate([first, inner, last], axis=-1)])


def _interpolated(table: Array, place: Array) -> Array:
    """Cubic interpolation of values and slopes [2 4 4 node] at places between 0 and 1; [4 4 ...]."""
    steps = table.shape[-1] - 1
    index = jnp.clip(jnp.floor(place * steps).astype(int), 0, steps - 1)
    part = (place * steps - index)[None, None]
    (left, left_slope), (right, right_slope) = table[..., index], table[..., index + 1]
    rest = 1.0 - part
    values = left * rest**2 * (1.0 + 2.0 * part) + right * part**2 * (1.0 + 2.0 * rest)
    return values + (left_slope * rest - right_slope * part) * part * rest


def _root(matrix: Array) -> list[list[Array]]:
    """The lower triangular root of symmetric matrices [4 4 ...]; columns without information are zero."""
    size = matrix.shape[0]
    lower = [[jnp.zeros_like(matrix[0, 0])] * size for _ in range(size)]
    for j in range(size):
        pivot = matrix[j, j] - sum(lower[j][k] ** 2 for k in range(j))
        some = pivot > 1e-12 * matrix[j, j]
        lower[j][j] = jnp.where(some, jnp.sqrt(jnp.where(some, pivot, 1.0)), 0.0)
        for i in range(j + 1, size):
            rest = matrix[i, j] - sum(lower[i][k] * lower[j][k] for k in range(j))
            lower[i][j] = jnp.where(some, rest / jnp.where(some, lower[j][j], 1.0), 0.0)
    return lower
