"""What is believed of positions on a lattice: known sites, or those of a lattice whose vectors are unknown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.typing import Array, PRNGKeyArray
from stemjax.inference.priors.images import log_normal, strength_of

Motif = Sequence[tuple[float, float]]
"""Sites of a cell in shares of its two vectors."""


class KnownLattice(struct.PyTreeNode):
    r"""Positions near the sites of a known lattice; made by `make_known_lattice`.

    .. math:: \log p(r) = -\frac{1}{2 s^2} \sum_j |r_j - (r_0 + i_j a + k_j b + m_j)|^2

    Args:
        scale: s, standard deviation of a displacement along each axis, in the unit of the leaf (Å); None: found from
            the data.
        sites: Site of every position [column 2], same unit.
        floating: Nobody knows where the lattice lies: r₀ is integrated out under a flat density, which leaves the
            displacements about their mean.

    >>> float(KnownLattice(2.0, jnp.zeros((1, 2))).log_prob(jnp.array([[0.0, 2.0]])))
    -0.5
    """

    scale: Any = None
    sites: Any = None
    floating: bool = struct.field(pytree_node=False, default=False)
    power: ClassVar[int] = 2

    @property
    def proper(self) -> bool:
        """Whether the density can be drawn from: not where the lattice may lie anywhere."""
        return not self.floating

    def deviations(self, x: Array) -> tuple[Array, ...]:
        """Displacement of every position from its site."""
        off = x - _same(self, x, self.sites)
        return (off - jnp.mean(off, axis=0, keepdims=True) if self.floating else off,)

    def rank(self, shape: tuple[int, ...]) -> int:
        """Directions in which the density falls: all but the place of a floating lattice."""
        return (shape[0] - self.floating) * shape[1]

    def log_prob(self, x: Array) -> Array:
        """Sum over all positions, up to a constant."""
        return log_normal(self, self.deviations(x))

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Array:
        """Positions about the sites [column 2]."""
        return self.sites + strength_of(self) * jax.random.normal(key, shape or np.shape(self.sites))


class StraightLattice(struct.PyTreeNode):
    r"""Positions near the sites of some lattice without strain; made by `make_straight_lattice`.

    Origin and vectors (and the place of every further site of the cell) are integrated out under a flat density, which
    leaves what no lattice of these indices explains.

    .. math:: \log p(r) = -\frac{1}{2 s^2} \left| (1 - Q Q^\mathsf{T})\, r \right|^2

    Args:
        scale: s, standard deviation of a displacement along each axis, in the unit of the leaf (Å); None: found from
            the data.
        basis: Q, orthonormal columns that span all lattices [column parameter].

    >>> basis = jnp.full((2, 1), 0.5**0.5)
    >>> float(StraightLattice(1.0, basis).log_prob(jnp.array([[0.0, 0.0], [0.0, 2.0]])))
    -1.0...
    """

    scale: Any = None
    basis: Any = None
    power: ClassVar[int] = 2

    @property
    def proper(self) -> bool:
        """Whether the density can be drawn from: never, the lattice is free."""
        return False

    def deviations(self, x: Array) -> tuple[Array, ...]:
        """Displacement of every position from the lattice that fits best."""
        basis = _same(self, x, self.basis)
        return (x - basis @ (basis.T @ x),)

    def rank(self, shape: tuple[int, ...]) -> int:
        """Directions in which the density falls: all but those of the lattice."""
        return (shape[0] - jnp.shape(self.basis)[1]) * shape[1]

    def log_prob(self, x: Array) -> Array:
        """Sum over all positions, up to a constant."""
        return log_normal(self, self.deviations(x))


class Sites(NamedTuple):
    """Where positions belong in a lattice.

    Args:
        indices: Which cell [column 2], integers.
        site: Which site of the cell [column].
        places: Site of every position [column 2] [Å].
        origin: Corner of the cell (0, 0) [Å].
    """

    indices: np.ndarray
    site: np.ndarray
    places: np.ndarray
    origin: np.ndarray


def make_known_lattice(
    positions: Array | np.ndarray,
    vectors: np.ndarray | Sequence[Sequence[float]],
    *,
    origin: Sequence[float] | None = None,
    motif: Motif = ((0.0, 0.0),),
    scale: float | None = None,
) -> KnownLattice:
    """A known lattice, each position assigned to its nearest site.

    Args:
        positions: First guess of the positions (y, x) [column 2] [Å].
        vectors: Lattice vectors a and b, each (y, x) [2 2] [Å].
        origin: Corner of a cell (y, x) [Å]; None: unknown, so the positions may lie anywhere together.
        motif: Sites of a cell in shares of a and b.
        scale: Standard deviation of a displacement along each axis [Å]; None: found from the data.

    Raises:
        InputError: The vectors span no cell, or the positions do not lie on the lattice.

    >>> square = [[y, x] for y in range(3) for x in range(3)]
    >>> float(make_known_lattice(square, [[1.0, 0.0], [0.0, 1.0]], scale=0.1).log_prob(jnp.array(square, float)))
    -0.0
    """
    found = assign(positions, vectors, origin=origin, motif=motif)
    return KnownLattice(scale, jnp.asarray(found.places), floating=origin is None)


def make_straight_lattice(
    positions: Array | np.ndarray,
    vectors: np.ndarray | Sequence[Sequence[float]],
    *,
    origin: Sequence[float] | None = None,
    motif: Motif = ((0.0, 0.0),),
    scale: float | None = None,
) -> StraightLattice:
    """A lattice of unknown vectors, each position assigned to its nearest site of a first guess.

    Args:
        positions: First guess of the positions (y, x) [column 2] [Å].
        vectors: First guess of the lattice vectors a and b, each (y, x) [2 2] [Å]; only which site is nearest matters.
        origin: Corner of a cell (y, x) [Å]; None: that which fits the positions.
        motif: Sites of a cell in shares of a and b; their true places are free.
        scale: Standard deviation of a displacement along each axis [Å]; None: found from the data.

    Raises:
        InputError: The vectors span no cell, the positions do not lie on the lattice, or any positions would do.
    """
    found = assign(positions, vectors, origin=origin, motif=motif)
    kinds = found.site[:, None] == np.unique(found.site)[None]
    basis, triangle = np.linalg.qr(np.concatenate([kinds, found.indices], axis=1).astype(float))
    if len(found.site) <= basis.shape[1] or np.abs(np.diag(triangle)).min() < 1e-9:
        raise InputError(
            f"{len(found.site)} positions do not fix a lattice of {len(motif)} sites a cell; give more of them, in "
            "two directions"
        )
    return StraightLattice(scale, jnp.asarray(basis))


def assign(
    positions: Array | np.ndarray,
    vectors: np.ndarray | Sequence[Sequence[float]],
    *,
    origin: Sequence[float] | None = None,
    motif: Motif = ((0.0, 0.0),),
) -> Sites:
    """The site of a lattice that each position belongs to.

    Args:
        positions: Positions (y, x) [column 2] [Å].
        vectors: Lattice vectors a and b, each (y, x) [2 2] [Å].
        origin: Corner of a cell (y, x) [Å]; None: that which fits the positions.
        motif: Sites of a cell in shares of a and b.

    Raises:
        InputError: The vectors span no cell, or the positions do not lie on the lattice.

    >>> assign([[0.1, 0.0], [2.0, 1.1]], [[1.0, 0.0], [0.0, 1.0]], origin=(0.0, 0.0)).indices.tolist()
    [[0, 0], [2, 1]]
    """
    places, cell = np.asarray(positions, float), np.asarray(vectors, float)
    if places.ndim != 2 or places.shape[1] != 2 or not len(places):
        raise InputError(f"positions of shape {places.shape}; give [column 2] with (y, x)")
    if cell.shape != (2, 2) or not abs(np.linalg.det(cell)) > 1e-6 * np.abs(cell).max() ** 2:
        raise InputError("lattice vectors that span no cell; give two, each (y, x), in different directions")
    sites = np.asarray(motif, float)
    trials = places[:: max(1, len(places) // 64)] - sites[:1] @ cell if origin is None else np.array([origin], float)
    found = min((_nearest(places, cell, trial, sites) for trial in trials), key=lambda f: _distance(places, f))
    if origin is None:
        shift = np.mean(places - found.places, axis=0)
        found = found._replace(places=found.places + shift, origin=found.origin + shift)
    shortest = np.linalg.norm(cell, axis=1).min() / len(sites) ** 0.5
    if _distance(places, found) > 0.25 * shortest:
        raise InputError(
            f"the positions are {_distance(places, found):.3g} Å from their nearest sites (median), on a lattice with "
            f"{shortest:.3g} Å between sites; check the vectors, the motif and the order (y, x)"
        )
    return found


def _nearest(places: np.ndarray, cell: np.ndarray, origin: np.ndarray, motif: np.ndarray) -> Sites:
    shares = (places - origin) @ np.linalg.inv(cell)
    cells = np.round(shares[:, None] - motif[None])
    choices = origin + (cells + motif[None]) @ cell
    site = np.argmin(np.linalg.norm(places[:, None] - choices, axis=-1), axis=1)
    row = np.arange(len(places))
    return Sites(cells[row, site].astype(int), site, choices[row, site], origin)


def _distance(places: np.ndarray, found: Sites) -> float:
    return float(np.median(np.linalg.norm(places - found.places, axis=1)))


def _same(prior: Any, x: Array, own: Any) -> Array:
    """An array of a prior with one row a position."""
    rows = jnp.shape(own)[:1]
    if jnp.ndim(x) != 2 or rows != x.shape[:1]:
        raise ValueError(f"{type(prior).__name__} is made for {rows} positions (y, x); the leaf has {jnp.shape(x)}")
    return jnp.asarray(own)
