"""Structure factors of the slices of a cell summed atom by atom, each with its own displacement."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.grid import Grid
from stemjax.core.typing import Array, Complex, Float, Int
from stemjax.specimen.band import Band
from stemjax.specimen.scattering_factors import debye_waller
from stemjax.specimen.structure import Structure

# Atoms whose phases are multiplied at once.
CHUNK = 64


def structure_factors(
    structure: Structure, grid: Grid, layer: Int[Array, "atom"], layers: int, band: Band, factors: np.ndarray
) -> Complex[Array, "layer ky kx"]:
    r"""Sum over atoms of the factor of their element, their occupancy, their damping and their phase.

    .. math:: F_s(\mathbf k) = \sum_{j \in s} w_j f_j(k) e^{-2\pi^2 (u_y^2 k_y^2 + u_x^2 k_x^2)}
        e^{-2\pi i \mathbf k \cdot \mathbf r_j}

    The phases are products of one factor along y and one along x, so the sum over atoms is a product of matrices.

    Args:
        structure: Atoms.
        grid: Grid that spans their cell.
        layer: Layer of every atom.
        layers: Number of layers.
        band: Orders wanted.
        factors: Factor of every element, in ascending order [element ky kx].

    Returns:
        Structure factors of the band.

    >>> from stemjax.specimen.band import orders_in_band
    >>> from stemjax.specimen.structure import make_structure
    >>> grid, s = Grid((8, 8), (0.5, 0.5)), make_structure([[0, 0, 0]], [6], [2, 4, 4])
    >>> band = orders_in_band(grid, 0.5)
    >>> structure_factors(s, grid, jnp.zeros(1, int), 1, band, np.ones((1, 5, 3))).shape
    (1, 5, 3)
    """
    elements, element = np.unique(structure.numbers, return_inverse=True)
    order, bins = _chunks(layer * len(elements) + jnp.asarray(element, jnp.int32), layers * len(elements))

    def add(spectrum: Complex[Array, "layer ky kx"], chunk: tuple) -> tuple[Complex[Array, "layer ky kx"], None]:
        atoms, which = chunk
        amplitude = _amplitude(structure, grid, atoms, band)
        factor = jnp.asarray(factors, structure.positions.dtype)[which % len(elements)]
        return spectrum.at[which // len(elements)].add(amplitude * factor), None

    complex_dtype = jnp.result_type(structure.positions.dtype, jnp.complex64)
    empty = jnp.zeros((layers, len(band.y), len(band.x)), complex_dtype)
    # Without the checkpoint the gradient would keep every chunk's phases.
    return jax.lax.scan(jax.checkpoint(add), empty, (order, bins))[0]


def _chunks(bins: Int[Array, "atom"], count: int) -> tuple[Int[Array, "chunk member"], Int[Array, "chunk"]]:
    """Sort the atoms by bin into chunks of one bin each; an unfilled place holds the number of atoms.

    The number of chunks is the most that any distribution over the bins can need, so that the shapes are fixed.
    """
    atoms = bins.shape[0]
    chunks = atoms // CHUNK + min(count, atoms)
    used = -(-jnp.bincount(bins, length=count) // CHUNK)
    first_chunk = jnp.cumsum(used) - used
    order = jnp.argsort(bins)
    rank = jnp.arange(atoms) - jnp.searchsorted(bins[order], bins[order], side="left")
    place = first_chunk[bins[order]] * CHUNK + rank
    members = jnp.full((chunks * CHUNK,), atoms, jnp.int32).at[place].set(order.astype(jnp.int32))
    owner = jnp.searchsorted(jnp.cumsum(used), jnp.arange(chunks), side="right")
    return members.reshape(chunks, CHUNK), jnp.minimum(owner, count - 1).astype(jnp.int32)


def _amplitude(structure: Structure, grid: Grid, atoms: Int[Array, "member"], band: Band) -> Complex[Array, "ky kx"]:
    """Structure factor of some atoms without their scattering factor; an index past the last atom counts nothing."""
    places = structure.positions.at[atoms].get(mode="fill", fill_value=0.0)
    weight = structure.occupancy.at[atoms].get(mode="fill", fill_value=0.0)
    displacement = structure.rms_displacement.at[atoms].get(mode="fill", fill_value=0.0)
    along_y, along_x = (
        _phases(places[:, axis] / grid.extent[axis - 1], orders)
        * debye_waller(
            jnp.asarray(orders * grid.reciprocal_sampling[axis - 1], places.dtype)[None, :],
            (displacement if displacement.ndim == 1 else displacement[:, axis])[:, None],
        )
        for axis, orders in ((1, band.y), (2, band.x))
    )
    return (weight[:, None] * along_y).T @ along_x


def _phases(fraction: Float[Array, "member"], orders: np.ndarray) -> Complex[Array, "member k"]:
    """exp(-2πi m r) for every order m; whole turns are taken off first, since they would cost digits."""
    turns = fraction[:, None] * jnp.asarray(orders, fraction.dtype)[None, :]
    angle = -2.0 * jnp.pi * (turns - jnp.round(turns))
    return jax.lax.complex(jnp.cos(angle), jnp.sin(angle))
