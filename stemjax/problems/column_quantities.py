"""What follows from the leaves of columns, for solvers with error bars: shapes, electrons, distances, displacements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.typing import Annotated, Array
from stemjax.forward.column_image import ColumnScene
from stemjax.inference.derived import Derived
from stemjax.inference.priors.lattice import Motif, assign
from stemjax.inference.problem import Problem
from stemjax.optics.scan import Scan
from stemjax.optics.scan_paths import image_order
from stemjax.specimen.columns import principal_widths


def column_quantities(
    problem: Problem,
    *,
    lattice: Annotated[np.ndarray | Sequence[Sequence[float]], "Å"] | None = None,
    motif: Motif = ((0.0, 0.0),),
) -> dict[str, Derived]:
    r"""What one wants to know of columns beside their leaves, for solvers with error bars (`derived=`).

    .. math:: N_j = 2 \pi s_j^2 A_j / a

    with the area a of a pixel: the electrons of a column. `sigma_major`, `sigma_minor` and `theta` are those of
    Eq. (1) of Kalinin, Ophus et al. (2022); of columns that are round within their errors the longer comes out too
    long, the shorter too short, and the direction means nothing. `neighbour_distance` is the distance to the column
    that is nearest in the first guess.

    Args:
        problem: From `make_columns_problem` or `make_drift_problem`.
        lattice: Two vectors [2 2], a row each (y, x) [Å]: also `displacement` [column 2], how far columns are from the
            lattice that fits them best. Every column takes the site that it is nearest to in the first guess.
        motif: Sites of a cell in shares of the vectors; their places in the cell are fitted too.

    Raises:
        InputError: The scan has no rows and columns, so that a pixel has no area, or columns are not on the lattice.

    >>> from stemjax.forward.column_image import ColumnImage
    >>> from stemjax.optics.scan import make_raster
    >>> from stemjax.problems.columns import make_columns_problem
    >>> from stemjax.specimen.columns import make_columns
    >>> scene = ColumnScene(make_columns([[2.0, 2.0]], amplitude=50.0), make_raster((20, 20), 0.2))
    >>> image = np.asarray(ColumnImage()(scene)).reshape(20, 20)
    >>> problem = make_columns_problem(image, 0.2, scene.columns)
    >>> quantities = column_quantities(problem)
    >>> [round(float(n)) for n in quantities["intensity"].function(scene)], round(float(image.sum()))
    ([1963], 2003)
    """
    scene = problem.experiment
    sites = np.asarray(scene.columns.positions, float)
    found = {
        "sigma_major": Derived(PrincipalWidth(0), "Å", "longer standard deviation of a column"),
        "sigma_minor": Derived(PrincipalWidth(1), "Å", "shorter standard deviation of a column"),
        "theta": Derived(PrincipalWidth(2), "rad", "direction of the longer axis, from x towards y"),
        "intensity": Derived(Intensity(pixel_area(scene.scan)), "electron", "electrons of a column"),
    }
    if len(sites) > 1:
        pairs = tuple(map(int, _nearest(sites)))
        found["neighbour_distance"] = Derived(NeighbourDistance(pairs), "Å", "distance to the nearest column")
    if lattice is not None:
        at = assign(sites, lattice, motif=motif)
        kinds = at.site[:, None] == np.unique(at.site)[None]
        displacement = Displacement(tuple(map(tuple, np.concatenate([kinds, at.indices], axis=1).tolist())))
        found["displacement"] = Derived(displacement, "Å", "displacement from the lattice that fits best")
    return found


@dataclass(frozen=True)
class PrincipalWidth:
    """One of `principal_widths` of all columns [column]: 0 major, 1 minor, 2 direction.

    Args:
        which: Its number.
    """

    which: int

    def __call__(self, scene: ColumnScene) -> Array:
        """The value of every column; one for all where they share it."""
        return principal_widths(scene.columns)[self.which]


@dataclass(frozen=True)
class Intensity:
    """Electrons of every column [column].

    Args:
        area: Area of a pixel [Å²].
    """

    area: float

    def __call__(self, scene: ColumnScene) -> Array:
        """2π s² A / area."""
        return 2.0 * jnp.pi * scene.columns.width**2 * scene.columns.amplitude / self.area


@dataclass(frozen=True)
class NeighbourDistance:
    """Distance of every column to another [column] [Å].

    Args:
        pairs: The other of every column, by number.
    """

    pairs: tuple[int, ...]

    def __call__(self, scene: ColumnScene) -> Array:
        """The distances."""
        away = scene.columns.positions - scene.columns.positions[np.array(self.pairs)]
        return jnp.sqrt(jnp.sum(away**2, axis=1))


@dataclass(frozen=True)
class Displacement:
    """How far every column is from the lattice that fits all of them best [column 2] [Å].

    Args:
        sites: For every column: which site of the cell it is (1 for that, 0 for others), and its two indices.
    """

    sites: tuple[tuple[int, ...], ...]

    def __call__(self, scene: ColumnScene) -> Array:
        """Positions minus their least-squares fit by the places of the sites and two vectors."""
        basis = jnp.asarray(np.linalg.qr(np.array(self.sites, float))[0], scene.columns.positions.dtype)
        return scene.columns.positions - basis @ (basis.T @ scene.columns.positions)


def pixel_area(scan: Scan) -> float:
    """Area of a pixel of a scan that has rows and columns [Å²].

    >>> from stemjax.optics.scan import make_raster
    >>> round(pixel_area(make_raster((3, 4), (0.1, 0.2), rotation=30.0)), 6)
    0.02
    """
    if scan.shape is None or min(scan.shape[-2:]) < 2:
        raise InputError(f"a pixel of a scan of shape {scan.shape} has no area; give a scan with rows and columns")
    frame = image_order(scan).reshape(-1, *scan.shape[-2:])[0]
    places = np.asarray(scan.positions, float)[frame]
    down, right = places[1, 0] - places[0, 0], places[0, 1] - places[0, 0]
    return float(abs(down[0] * right[1] - down[1] * right[0]))


def _nearest(sites: np.ndarray) -> np.ndarray:
    from scipy.spatial import cKDTree

    return cKDTree(sites).query(sites, k=2)[1][:, 1]
