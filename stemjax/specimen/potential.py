r"""Projected potentials of independent atoms, slice by slice.

.. math::
    V_s(\mathbf r) = \frac{h^2}{2 \pi m_0 e} \frac{1}{A} \sum_{\mathbf k} e^{2 \pi i \mathbf k \cdot \mathbf r}
    \sum_{j \in s} w_j f_j(k)\, e^{-2 \pi^2 u_j^2 k^2} e^{-2 \pi i \mathbf k \cdot \mathbf r_j}

over the reciprocal vectors of the cell up to the band limit. An atom belongs whole to the slice that holds its z. No
position is rounded to a pixel, so the derivatives with respect to y, x, occupancy and displacement are exact; that with
respect to z is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.core.typing import Annotated, Array, Float
from stemjax.specimen.band import Band, frequency, orders_in_band, to_real_space, whole_rows
from stemjax.specimen.gridding import LARGEST_BAND, kernel_transform, spread
from stemjax.specimen.scattering_factors import POTENTIAL_PER_SCATTERING_FACTOR, scattering_factor
from stemjax.specimen.slicing import Slices, checked_slices, slice_of_atoms
from stemjax.specimen.structure import Structure
from stemjax.specimen.structure_factors import structure_factors

BAND_LIMIT = 2.0 / 3.0
"""The band limit that keeps a multislice product free of aliases, as a part of the Nyquist frequency."""
# Beyond so many classes of atoms, one transform each costs more than the sums of the exact method.
MOST_SITES = 16


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
    _check_band(band_limit)
    return _gridded(structure, grid, checked_slices(structure, grid, slices), parametrization, float(band_limit or 0.0))


@partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _gridded(structure: Structure, grid: Grid, slices: Slices, parametrization: str, band_limit: float) -> Potential:
    """`project_gridded` of checked arguments."""

    def factor(number: int, k: np.ndarray, mean_square: Array) -> np.ndarray:  # noqa: ARG001 - damped by the sum
        return POTENTIAL_PER_SCATTERING_FACTOR * np.asarray(scattering_factor(parametrization, number, k))

    values = project_site_factors(structure, grid, slices, factor, band_limit=band_limit)
    return Potential(values, slice_of_atoms(structure, slices)[0], grid)


def project_factors(
    structure: Structure,
    grid: Grid,
    slices: int | Sequence[float],
    factor: Callable[[int, np.ndarray], np.ndarray | Array | None],
    *,
    band_limit: float = BAND_LIMIT,
    damped: bool = True,
) -> Float[Array, "slice ny nx"]:
    r"""Any sum over atoms of a function that is round about each, projected slice by slice.

    .. math:: W_s(\mathbf r) = \frac{1}{A} \sum_{\mathbf k} e^{2 \pi i \mathbf k \cdot \mathbf r}
        \sum_{j \in s} w_j g_j(k)\, e^{-2 \pi^2 u_j^2 k^2} e^{-2 \pi i \mathbf k \cdot \mathbf r_j}

    by the sum of `project_gridded`. It is not compiled by itself: call it under `jax.jit`.

    Args:
        structure: Atoms; their cell must span the grid.
        grid: Real-space grid.
        slices: Number of equal slices, or the thickness of each [Å].
        factor: g of an element from its atomic number and |k| [ky kx] [1/Å]: the two-dimensional transform of its
            projected function, numpy (evaluated once, in double precision) or jax (it may depend on leaves); None or
            zeros for an element that takes no part.
        band_limit: Part of the Nyquist frequency, at most 2/3.
        damped: Whether the Debye-Waller factor of the atoms is applied; without it they are at rest.

    Returns:
        Sum in the unit of g over Å².

    Raises:
        InputError: As `project_gridded`.

    >>> from stemjax.specimen.structure import make_structure
    >>> s = make_structure([[1.0, 2.0, 2.0]], [6], [2.0, 4.0, 4.0])
    >>> blob = project_factors(s, cell_grid(s, 0.2), 1, lambda number, k: np.exp(-np.pi * k**2))
    >>> round(float(blob.sum()) * 0.2**2, 5)
    1.0
    """
    _check_band(band_limit)
    whole = checked_slices(structure, grid, slices)
    return project_site_factors(
        structure, grid, whole, lambda number, k, _: factor(number, k), band_limit=float(band_limit), damped=damped
    )


def project_site_factors(
    structure: Structure,
    grid: Grid,
    slices: Slices,
    factor: Callable[[int, np.ndarray, Array], np.ndarray | Array | None],
    *,
    band_limit: float = BAND_LIMIT,
    damped: bool = True,
) -> Float[Array, "slice ny nx"]:
    """`project_factors` of checked slices, with a factor that also takes the mean square displacement of the atoms.

    Args:
        structure: As in `project_factors`.
        grid: As in `project_factors`.
        slices: Checked slices (`stemjax.specimen.slicing.checked_slices`).
        factor: g of a class of atoms from atomic number, |k| [ky kx] [1/Å] and the mean of their squared displacement
            along one axis, [] or [3] along (z, y, x) [Å²].
        band_limit: As in `project_factors`.
        damped: As in `project_factors`.

    >>> from stemjax.specimen.structure import make_structure
    >>> s = make_structure([[1.0, 2.0, 2.0]], [6], [2.0, 4.0, 4.0], rms_displacement=0.5)
    >>> round(float(project_site_factors(s, cell_grid(s, 0.2), 1, lambda number, k, u2: u2 + 0.0 * k).mean()), 6)
    0.015625
    """
    thickness, layer = slice_of_atoms(structure, slices)
    band, dtype = orders_in_band(grid, band_limit), structure.positions.dtype
    k, undo_kernel = frequency(grid, band.y, band.x), _undo_kernel(grid, band)
    spectrum = jnp.zeros((len(thickness), grid.shape[0], len(band.x)), jnp.result_type(dtype, jnp.complex64))
    for site in sorted(set(structure.sites)):
        atoms = np.flatnonzero(np.asarray(structure.sites) == site)
        mean_square = jnp.mean(structure.rms_displacement[atoms] ** 2, axis=0)
        values = factor(structure.numbers[atoms[0]], k, mean_square)
        if values is None or (isinstance(values, np.ndarray) and not values.any()):
            continue
        rows = jnp.asarray(whole_rows(values * undo_kernel, band, grid), dtype)
        rows = rows * _damping(grid, band, mean_square) if damped else rows
        density = spread(structure.positions[atoms, 1:], structure.occupancy[atoms], layer[atoms], len(thickness), grid)
        # The rest of the row lies beyond the band: dropping it here saves a third of the transforms along y.
        spectrum = spectrum + jnp.fft.fft(jnp.fft.rfft(density, axis=2)[:, :, : len(band.x)], axis=1) * rows[None]
    return to_real_space(spectrum, grid)


def _undo_kernel(grid: Grid, band: Band) -> np.ndarray:
    """What turns the transform of the spread points into their structure factor per area, zero beyond [ky kx]."""
    along_y, along_x = (kernel_transform(m / n) for m, n in zip((band.y, band.x), grid.shape, strict=True))
    return band.inside / (along_y[:, None] * along_x[None, :] * grid.sampling[0] * grid.sampling[1])


def _damping(grid: Grid, band: Band, mean_square: Array) -> Float[Array, "ny kx"]:
    """Debye-Waller factor in the rows of a transform, from the mean square displacement, [] or [3]."""
    y2, x2 = (mean_square, mean_square) if mean_square.ndim == 0 else (mean_square[1], mean_square[2])
    orders = np.fft.fftfreq(grid.shape[0], 1.0 / grid.shape[0])
    ky2, kx2 = ((m * step) ** 2 for m, step in zip((orders, band.x), grid.reciprocal_sampling, strict=True))
    exponent = y2 * jnp.asarray(ky2, mean_square.dtype)[:, None] + x2 * jnp.asarray(kx2, mean_square.dtype)[None, :]
    return jnp.exp(-2.0 * jnp.pi**2 * exponent)


def _check_band(band_limit: float | None) -> None:
    """Refuse a band that the gridding kernel does not serve."""
    if band_limit is None or not 0 < band_limit <= LARGEST_BAND + 1e-9:
        raise InputError(
            f"band_limit {band_limit} of the gridded potential must lie in (0, 2/3]; use project_exact beyond"
        )


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
    return _exact(structure, grid, checked_slices(structure, grid, slices), parametrization, band_limit)


@partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _exact(
    structure: Structure, grid: Grid, slices: Slices, parametrization: str, band_limit: float | None
) -> Potential:
    """`project_exact` of checked arguments."""
    thickness, layer = slice_of_atoms(structure, slices)
    band = orders_in_band(grid, band_limit)
    # Double precision, since the terms of a factor cancel.
    scale = POTENTIAL_PER_SCATTERING_FACTOR / (grid.sampling[0] * grid.sampling[1])
    factors = scattering_factor(parametrization, np.unique(structure.numbers), frequency(grid, band.y, band.x))
    held = structure_factors(structure, grid, layer, len(thickness), band, scale * np.asarray(factors) * band.inside)
    return Potential(to_real_space(jnp.asarray(whole_rows(held, band, grid)), grid), thickness, grid)
