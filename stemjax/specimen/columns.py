r"""Atomic columns as peaks of an image: what one sees, not why one sees it.

.. math:: I(r) = b + \sum_j A_j \exp\left[-\tfrac12 (r - r_j)^\mathsf{T} \Sigma_j^{-1} (r - r_j)\right], \qquad
    \Sigma = s^2 \exp \begin{pmatrix} e_1 & e_2 \\ e_2 & -e_1 \end{pmatrix}

A rotated two-dimensional Gaussian a column over a background, Eq. (1) of Kalinin, Ophus et al., Nat. Rev. Methods
Primers 2 (2022) 11. The width is written without an angle: s is the geometric mean of the two sigmas and (e1, e2) the
logarithm of their ratio times (cos 2θ, sin 2θ), so that nothing is singular where a column is round.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.typing import POSITIVE, Annotated, Array, Float, Int, real, typed


class Columns(struct.PyTreeNode):
    """Columns of an image; made by `make_columns`. What has one element holds for all columns.

    Args:
        positions: Centre of every column [column 2] (y, x) [Å].
        amplitude: Height of the peak over the background [column] or [1] [electron].
        width: Geometric mean of the sigmas [column] or [1] [Å].
        stretch: Ellipticity (e1, e2) [column 2] or [1 2]: log(major/minor) times the cosine and sine of 2θ, with θ
            from x towards y.
        background: Electrons where no column is [electron].
    """

    positions: Annotated[Float[Array, "column 2"], "Å"]
    amplitude: Annotated[Float[Array, "column"], "electron", POSITIVE]
    width: Annotated[Float[Array, "column"], "Å", POSITIVE]
    stretch: Float[Array, "column 2"]
    background: Annotated[Float[Array, ""], "electron", POSITIVE]


def make_columns(
    positions: Array | np.ndarray,
    *,
    amplitude: Annotated[float | np.ndarray, "electron"] = 1.0,
    width: Annotated[float | np.ndarray, "Å"] = 0.5,
    stretch: np.ndarray | tuple[float, float] = (0.0, 0.0),
    background: Annotated[float, "electron"] = 0.1,
) -> Columns:
    """Columns, checked.

    Args:
        positions: Centre of every column [column 2] (y, x) [Å].
        amplitude: Height of the peaks [electron]; one number gives every column one of its own of this height.
        width: Geometric mean of the sigmas [Å]; one number is one width for all.
        stretch: Ellipticity (e1, e2), one pair for all or [column 2].
        background: Electrons where no column is [electron].

    Raises:
        InputError: Shapes differ, or a height, width or background is not positive.

    >>> make_columns([[1.0, 1.0], [3.0, 1.0]], amplitude=50.0).amplitude.shape
    (2,)
    """
    places = np.asarray(positions, dtype=float)
    if places.ndim != 2 or places.shape[1] != 2 or not len(places):
        raise InputError(f"column positions of shape {places.shape}; give [column 2] with (y, x) in Å")
    count = len(places)
    heights = np.broadcast_to(np.asarray(amplitude, float), (count,)) if np.ndim(amplitude) == 0 else amplitude
    widths, pairs = np.atleast_1d(np.asarray(width, float)), np.atleast_2d(np.asarray(stretch, float))
    for name, array in (("amplitude", np.asarray(heights)), ("width", widths), ("stretch", pairs)):
        if len(array) not in (1, count):
            raise InputError(f"{len(array)} values of {name} for {count} columns; give one for all, or one each")
    for name, array in (("amplitude", np.asarray(heights)), ("width", widths), ("background", np.asarray(background))):
        if not (np.isfinite(array).all() and np.min(array) > 0):
            raise InputError(f"a column's {name} of {np.min(array):g} means nothing; give positive numbers")
    return Columns(real(places), real(heights), real(widths), real(pairs), real(background))


@typed
def column_intensity(
    columns: Columns, places: Float[Array, "place 2"], near: Int[Array, "column member"] | None = None
) -> Annotated[Float[Array, "place"], "electron"]:
    """Intensity of all columns and the background at some places (y, x) [Å].

    Args:
        columns: The columns.
        places: Where the image is taken (y, x) [Å].
        near: The places that each column reaches, by number (`within_reach`); a number past the last place means none.
            Time and memory then grow with the places that columns reach. Without it every column adds to every place.

    Returns:
        Electrons [place].

    >>> one = make_columns([[0.0, 0.0]], amplitude=10.0, width=0.5, background=1.0)
    >>> column_intensity(one, jnp.array([[0.0, 0.0], [0.0, 0.5]])).round(3).tolist()
    [11.0, 7.065]
    """
    if near is None:
        return columns.background + jnp.sum(_peaks(columns, places[None]), axis=0)
    peaks = _peaks(columns, places.at[near].get(mode="fill", fill_value=0.0))
    return jnp.full(places.shape[0], columns.background).at[near].add(peaks, mode="drop")


def _peaks(columns: Columns, places: Array) -> Array:
    """What every column adds [column place] at places of its own [column place 2], or the same for all [1 place 2]."""
    yy, yx, xx = inverse_covariance(columns.width, columns.stretch)
    offset = places - columns.positions[:, None, :]
    y, x = offset[..., 0], offset[..., 1]
    distance = yy[:, None] * y**2 + 2.0 * yx[:, None] * y * x + xx[:, None] * x**2
    return columns.amplitude[:, None] * jnp.exp(-0.5 * distance)


WIDTHS = 6.0
"""Widths of the longer axis at which a column ends: it has fallen to 2e-8 of its height there."""


def within_reach(
    columns: Columns, places: Array | np.ndarray, margin: Annotated[float, "Å"] = 0.0
) -> Int[Array, "column member"]:
    """The places that every column reaches, for `column_intensity`; taken once, from a first guess.

    Args:
        columns: The columns as guessed. If the width was guessed too small by a fifth, 4e-6 of a column's height is
            lost at its rim: take the places anew where the width turns out to differ by more.
        places: Where the image is taken [place 2] (y, x) [Å].
        margin: How far columns and places may move against each other afterwards [Å].

    Returns:
        Numbers of places, in order; rows are filled up with the number past the last place, to a length that images
        of a kind share, so that a program compiled for one serves the next.

    >>> within_reach(make_columns([[0.0, 0.0], [9.0, 0.0]], width=0.2), np.array([[0.0, 0.0], [0.0, 1.0]])).tolist()
    [[0, 1], [2, 2]]
    """
    from scipy.spatial import cKDTree

    sites, places = np.asarray(columns.positions, float), np.asarray(places, float)
    reach = WIDTHS * np.broadcast_to(np.asarray(principal_widths(columns)[0], float), (len(sites),)) + margin
    found = cKDTree(places).query_ball_point(sites, reach, return_sorted=True)
    counts = np.array([len(row) for row in found])
    most = max(1, int(counts.max()))
    step = 2 ** max(0, most.bit_length() - 4)  # an eighth of the length at most
    near = np.full((len(sites), step * -(-most // step)), len(places), np.int32)
    near[np.arange(near.shape[1])[None] < counts[:, None]] = np.concatenate([np.asarray(r, np.int32) for r in found])
    return jnp.asarray(near)


def inverse_covariance(width: Array, stretch: Array) -> tuple[Array, Array, Array]:
    """The elements yy, yx, xx of Σ⁻¹ [1/Å²] of every column.

    exp of a traceless symmetric matrix M is cosh r + M sinh(r)/r with r² = e1² + e2²; both are even in r and smooth.
    """
    square = jnp.sum(stretch**2, axis=-1)
    near = square < 1e-6
    root = jnp.sqrt(jnp.where(near, 1.0, square))
    even = jnp.where(near, 1.0 + square / 2.0, jnp.cosh(root))
    odd = jnp.where(near, 1.0 + square / 6.0, jnp.sinh(root) / root)
    first, second = stretch[..., 0], stretch[..., 1]
    # The inverse has the opposite exponent; e1 > 0 stretches along x.
    scale = 1.0 / width**2
    return scale * (even + odd * first), -scale * odd * second, scale * (even - odd * first)


def principal_widths(columns: Columns) -> tuple[Array, Array, Array]:
    """sigma_major, sigma_minor [Å] and theta, the direction of the major axis from x towards y [rad]; one a column.

    >>> s = principal_widths(make_columns([[0.0, 0.0]], width=0.5, stretch=(0.4, 0.0)))
    >>> [round(float(v[0]), 4) for v in s]
    [0.6107, 0.4094, 0.0]
    """
    round_ = jnp.all(columns.stretch == 0.0, axis=-1)
    # A round column has no direction, and its axes no slope: both are given as zero, not as NaN.
    stretch = jnp.where(round_[..., None], jnp.array([1.0, 0.0], columns.stretch.dtype), columns.stretch)
    size = jnp.where(round_, 0.0, jnp.sqrt(jnp.sum(stretch**2, axis=-1)))
    angle = jnp.where(round_, 0.0, 0.5 * jnp.arctan2(stretch[..., 1], stretch[..., 0]))
    return columns.width * jnp.exp(0.5 * size), columns.width * jnp.exp(-0.5 * size), angle
