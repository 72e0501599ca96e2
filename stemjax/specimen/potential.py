r"""Projected potentials of independent atoms, slice by slice.

.. math::
    V_s(\mathbf r) = \frac{h^2}{2 \pi m_0 e} \frac{1}{A} \sum_{\mathbf k} e^{2 \pi i \mathbf k \cdot \mathbf r}
    \sum_{j \in s} w_j f_j(k)\, e^{-2 \pi^2 u_j^2 k^2} e^{-2 \pi i \mathbf k \cdot \mathbf r_j}

over the reciprocal vectors of the cell up to the band limit. An atom belongs whole to the slice that holds its z. No
position is rounded to a pixel, so the derivatives with respect to y, x, occupancy and displacement are exact; that with
respect to z is zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.core.typing import Annotated, Array, Complex, Float, Int
from stemjax.specimen.gridding import LARGEST_BAND, kernel_transform, spread
from stemjax.specimen.scattering_factors import POTENTIAL_PER_SCATTERING_FACTOR, debye_waller, scattering_factor
from stemjax.specimen.structure import Structure

BAND_LIMIT = 2.0 / 3.0
"""The band limit that keeps a multislice product free of aliases, as a part of the Nyquist frequency."""
# A plane of atoms on the border of two slices belongs to the lower one, also where rounding puts it a little short [Å].
BORDER = 1e-3
# Beyond so many classes of atoms, one transform each costs more than the sums of the exact method.
MOST_SITES = 16
# Atoms whose phases are multiplied at once in the exact method.
CHUNK = 64


class Potential(struct.PyTreeNode):
    """Projected electrostatic potential of a stack of slices; the beam meets slice 0 first."""

    values: Annotated[Float[Array, "slice ny nx"], "V Å"]
    """Potential integrated along z over each slice [V Å]."""
    thickness: Annotated[Float[Array, "slice"], "Å"]
    """Thickness of each slice [Å]."""
    grid: Grid = struct.field(pytree_node=False)
    """Real-space grid."""


def cell_grid(structure: Structure, sampling: float) -> Grid:
    """The coarsest grid over a structure's cell with pixels no larger than asked and even, quickly transformed sides.

    Args:
        structure: Atoms in a cell of known size.
        sampling: Largest size of a pixel [Å].

    >>> from stemjax.specimen.structure import make_structure
    >>> cell_grid(make_structure([[0, 0, 0]], [6], [2, 4.1, 4.0]), 0.2).shape
    (24, 20)
    """
    if not sampling > 0:
        raise InputError(f"sampling {sampling} Å must be positive")
    extent = [float(edge) for edge in np.asarray(structure.cell, float)[1:]]
    ny, nx = (_smooth_even(int(np.ceil(edge / sampling - 1e-6))) for edge in extent)
    return Grid((ny, nx), (extent[0] / ny, extent[1] / nx))


def _smooth_even(count: int) -> int:
    """The smallest even number from `count` on whose only prime factors are 2, 3 and 5."""
    n = max(2, count + count % 2)
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 2


def project_potential(
    structure: Structure,
    grid: Grid,
    slices: int | Sequence[float],
    *,
    parametrization: str = "lobato",
    band_limit: float | None = BAND_LIMIT,
) -> Potential:
    """Projected potential of every slice by the faster fitting method.

    `project_gridded` serves up to 16 classes of atoms and band limits up to 2/3; `project_exact` serves the
    rest. Without periodic images: `stemjax.specimen.structure.pad_cell`.

    Args:
        structure: Atoms; their cell must span the grid.
        grid: Real-space grid; `cell_grid` makes one.
        slices: Number of equal slices, or the thickness of each from the entrance surface down [Å].
        parametrization: "lobato" or "kirkland".
        band_limit: Radius of the circle of frequencies kept, as a part of the Nyquist frequency; None keeps all.

    Returns:
        Potential in V Å, its mean included, in the float type of the structure.

    Raises:
        InputError: The cell and the grid differ, or the slices do not add up to the cell.

    >>> from stemjax.specimen.structure import make_structure
    >>> carbon = make_structure([[1.0, 2.0, 2.0]], [6], [2.0, 4.0, 4.0])
    >>> project_potential(carbon, cell_grid(carbon, 0.2), 2).values.shape
    (2, 20, 20)
    """
    few_sites = len(set(structure.sites)) <= MOST_SITES
    in_band = band_limit is not None and band_limit <= LARGEST_BAND
    method = project_gridded if few_sites and in_band else project_exact
    return method(structure, grid, slices, parametrization=parametrization, band_limit=band_limit)


def project_gridded(
    structure: Structure,
    grid: Grid,
    slices: int | Sequence[float],
    *,
    parametrization: str = "lobato",
    band_limit: float | None = BAND_LIMIT,
) -> Potential:
    """Projected potential through `stemjax.specimen.gridding`: one transform per slice and class of atoms.

    The relative error within the band is a few 1e-6. The atoms of one class (`Structure.sites`) share the root
    mean square of their displacements, with its gradient; displacements that differ within a class need
    `stemjax.specimen.structure.with_displacement` or `project_exact`.

    Args:
        structure: As in `project_potential`.
        grid: As in `project_potential`.
        slices: As in `project_potential`.
        parametrization: "lobato" or "kirkland".
        band_limit: Part of the Nyquist frequency, at most 2/3.

    Returns:
        Potential in V Å.

    >>> from stemjax.specimen.structure import make_structure
    >>> s = make_structure([[1.0, 2.0, 2.0]], [6], [2.0, 4.0, 4.0])
    >>> project_gridded(s, cell_grid(s, 0.2), 1).thickness.tolist()
    [2.0]
    """
    if band_limit is None or not 0 < band_limit <= LARGEST_BAND + 1e-9:
        raise InputError(
            f"band_limit {band_limit} of the gridded potential must lie in (0, 2/3]; use project_exact beyond"
        )
    return _gridded(structure, grid, _checked(structure, grid, slices), parametrization, float(band_limit))


@partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _gridded(
    structure: Structure, grid: Grid, slices: int | tuple[float, ...], parametrization: str, band_limit: float
) -> Potential:
    """`project_gridded` of checked arguments."""
    thickness, layer = _slice_of_atoms(structure, slices)
    factors, frequency = _site_factors(structure, grid, parametrization, band_limit)
    spectrum = jnp.zeros((), structure.positions.dtype)
    for site, factor in zip(sorted(set(structure.sites)), factors, strict=True):
        atoms = np.flatnonzero(np.asarray(structure.sites) == site)
        places, weights = structure.positions[atoms, 1:], structure.occupancy[atoms]
        density = spread(places, weights, layer[atoms], len(thickness), grid)
        displacement = jnp.mean(structure.rms_displacement[atoms] ** 2)
        damped = factor * jnp.exp(-2.0 * jnp.pi**2 * displacement * frequency**2)
        # The rest of the row lies beyond the band: dropping it here saves a third of the transforms along y.
        rows = jnp.fft.rfft(density, axis=2)[:, :, : factor.shape[1]]
        spectrum = spectrum + jnp.fft.fft(rows, axis=1) * damped[None]
    return Potential(_to_real_space(spectrum, grid), thickness, grid)


def project_exact(
    structure: Structure,
    grid: Grid,
    slices: int | Sequence[float],
    *,
    parametrization: str = "lobato",
    band_limit: float | None = BAND_LIMIT,
) -> Potential:
    """Projected potential from the structure factors themselves, each atom with its own displacement.

    The phases are products of one factor along y and one along x, so the sum over atoms is a product of matrices; the
    cost grows as atoms times pixels.

    Args:
        structure: As in `project_potential`.
        grid: As in `project_potential`.
        slices: As in `project_potential`.
        parametrization: "lobato" or "kirkland".
        band_limit: Part of the Nyquist frequency; None keeps every frequency of the grid but the Nyquist frequency
            itself, whose sign is not defined.

    Returns:
        Potential in V Å.

    >>> from stemjax.specimen.structure import make_structure
    >>> s = make_structure([[1.0, 2.0, 2.0]], [6], [2.0, 4.0, 4.0])
    >>> project_exact(s, cell_grid(s, 0.2), 1, band_limit=None).values.shape
    (1, 20, 20)
    """
    if band_limit is not None and not band_limit > 0:
        raise InputError(f"band_limit {band_limit} must be a positive part of the Nyquist frequency, or None for all")
    return _exact(structure, grid, _checked(structure, grid, slices), parametrization, band_limit)


@partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _exact(
    structure: Structure, grid: Grid, slices: int | tuple[float, ...], parametrization: str, band_limit: float | None
) -> Potential:
    """`project_exact` of checked arguments."""
    thickness, layer = _slice_of_atoms(structure, slices)
    elements, element = np.unique(structure.numbers, return_inverse=True)
    my, mx, inside = _band(grid, band_limit)
    factors = _factors(grid, elements, parametrization, my, mx) * inside
    order, bins = _chunks(layer * len(elements) + jnp.asarray(element, jnp.int32), len(thickness) * len(elements))

    def add(spectrum: Complex[Array, "slice ky kx"], chunk: tuple) -> tuple[Complex[Array, "slice ky kx"], None]:
        atoms, which = chunk
        amplitude = _amplitude(structure, grid, atoms, my, mx)
        factor = jnp.asarray(factors, structure.positions.dtype)[which % len(elements)]
        return spectrum.at[which // len(elements)].add(amplitude * factor), None

    complex_dtype = jnp.result_type(structure.positions.dtype, jnp.complex64)
    empty = jnp.zeros((len(thickness), len(my), len(mx)), complex_dtype)
    # Without the checkpoint the gradient would keep every chunk's phases.
    band, _ = jax.lax.scan(jax.checkpoint(add), empty, (order, bins))
    spectrum = jnp.zeros((len(thickness), grid.shape[0], len(mx)), complex_dtype).at[:, my % grid.shape[0], :].set(band)
    return Potential(_to_real_space(spectrum, grid), thickness, grid)


def _checked(structure: Structure, grid: Grid, slices: int | Sequence[float]) -> int | tuple[float, ...]:
    """Refuse a grid or slices that do not fill the cell; a traced cell cannot be looked at and is taken on trust."""
    thickness = None if isinstance(slices, int | np.integer) else np.asarray(slices, float)
    if thickness is None and slices < 1:  # type: ignore[operator]
        raise InputError(f"{slices} slices; give at least one")
    if thickness is not None and (thickness.ndim != 1 or not thickness.min(initial=1.0) > 0 or not len(thickness)):
        raise InputError(f"slice thicknesses {thickness.tolist()} must be a list of positive lengths in Å")
    if not isinstance(structure.cell, jax.core.Tracer):
        _check_cell(np.asarray(structure.cell, float), grid, thickness)
    return int(slices) if thickness is None else tuple(thickness.tolist())  # type: ignore[arg-type]


def _check_cell(cell: np.ndarray, grid: Grid, thickness: np.ndarray | None) -> None:
    """Refuse a cell that the grid or the slices do not fill."""
    if not np.allclose(cell[1:], grid.extent, rtol=1e-4):
        given, wanted = (f"{y:.4f} x {x:.4f} Å" for y, x in (grid.extent, cell[1:]))
        raise InputError(f"the grid spans {given} (y, x) but the cell {wanted}; make it with cell_grid(structure, ...)")
    if thickness is not None and abs(thickness.sum() - cell[0]) > BORDER:
        raise InputError(f"the slices add up to {thickness.sum():.4f} Å but the cell is {cell[0]:.4f} Å deep")


def _slice_of_atoms(
    structure: Structure, slices: int | tuple[float, ...]
) -> tuple[Float[Array, "slice"], Int[Array, "atom"]]:
    """Thickness of every slice [Å] and the slice of every atom."""
    depth = structure.cell[0]
    if isinstance(slices, int):
        thickness = jnp.broadcast_to(depth / slices, (slices,))
    else:
        thickness = jnp.asarray(slices, depth.dtype)
    z = jnp.mod(structure.positions[:, 0] + BORDER, depth)
    return thickness, jnp.searchsorted(jnp.cumsum(thickness)[:-1], z, side="right").astype(jnp.int32)


def _band(grid: Grid, band_limit: float | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Orders of ky (both signs) and kx (from 0 on) that the band may hold, and which pairs [ky kx] it does hold."""
    half = [(n - 1) // 2 for n in grid.shape]
    limit = np.inf if band_limit is None else band_limit * grid.nyquist * (1.0 + 1e-9)
    if band_limit is not None:
        half = [min(h, int(limit * length)) for h, length in zip(half, grid.extent, strict=True)]
    my, mx = np.arange(-half[0], half[0] + 1), np.arange(half[1] + 1)
    return my, mx, _frequency(grid, my, mx) <= limit


def _frequency(grid: Grid, my: np.ndarray, mx: np.ndarray) -> np.ndarray:
    """|k| [ky kx] of the orders along y and x [1/Å]."""
    return np.hypot(my[:, None] * grid.reciprocal_sampling[0], mx[None, :] * grid.reciprocal_sampling[1])


def _factors(grid: Grid, elements: np.ndarray, parametrization: str, my: np.ndarray, mx: np.ndarray) -> np.ndarray:
    """Transform of one atom of each element, scaled for `_to_real_space` [element ky kx]; double: the terms cancel."""
    scale = POTENTIAL_PER_SCATTERING_FACTOR / (grid.sampling[0] * grid.sampling[1])
    return scale * np.asarray(scattering_factor(parametrization, elements, _frequency(grid, my, mx)))


def _site_factors(
    structure: Structure, grid: Grid, parametrization: str, band_limit: float
) -> tuple[list[Float[Array, "ny kx"]], Float[Array, "ny kx"]]:
    """For every class of atoms the factor on its gridded density, zero beyond the band; and |k| [1/Å]."""
    my, mx, inside = _band(grid, band_limit)
    along_y, along_x = (kernel_transform(m / n) for m, n in zip((my, mx), grid.shape, strict=True))
    sites, first = np.unique(structure.sites, return_index=True)
    elements, element = np.unique(np.asarray(structure.numbers)[first], return_inverse=True)
    band = _factors(grid, elements, parametrization, my, mx) * inside / (along_y[:, None] * along_x[None, :])
    whole = np.zeros((len(elements), grid.shape[0], len(mx)))
    whole[:, my % grid.shape[0]] = band
    orders = np.round(np.fft.fftfreq(grid.shape[0]) * grid.shape[0])
    dtype = structure.positions.dtype
    factors = [jnp.asarray(whole[element[i]], dtype) for i in range(len(sites))]
    return factors, jnp.asarray(_frequency(grid, orders, mx), dtype)


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


def _amplitude(
    structure: Structure, grid: Grid, atoms: Int[Array, "member"], my: np.ndarray, mx: np.ndarray
) -> Complex[Array, "ky kx"]:
    """Structure factor of some atoms without their scattering factor; an index past the last atom counts nothing."""
    places = structure.positions.at[atoms].get(mode="fill", fill_value=0.0)
    weight = structure.occupancy.at[atoms].get(mode="fill", fill_value=0.0)
    displacement = structure.rms_displacement.at[atoms].get(mode="fill", fill_value=0.0)
    along_y, along_x = (
        _phases(places[:, axis + 1] / grid.extent[axis], orders)
        * debye_waller(
            jnp.asarray(orders * grid.reciprocal_sampling[axis], places.dtype)[None, :], displacement[:, None]
        )
        for axis, orders in enumerate((my, mx))
    )
    return (weight[:, None] * along_y).T @ along_x


def _phases(fraction: Float[Array, "member"], orders: np.ndarray) -> Complex[Array, "member k"]:
    """exp(-2πi m r) for every order m; whole turns are taken off first, since they would cost digits."""
    turns = fraction[:, None] * jnp.asarray(orders, fraction.dtype)[None, :]
    angle = -2.0 * jnp.pi * (turns - jnp.round(turns))
    return jax.lax.complex(jnp.cos(angle), jnp.sin(angle))


def _to_real_space(spectrum: Complex[Array, "slice ny kx"], grid: Grid) -> Float[Array, "slice ny nx"]:
    """Inverse transform of the half plane kx >= 0; the columns that are missing are zero."""
    return jnp.fft.irfft(jnp.fft.ifft(spectrum, axis=1), n=grid.shape[1], axis=2)
