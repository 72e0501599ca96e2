"""First guesses of what an image shows of its columns, from roughly known positions."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.typing import Annotated, Array
from stemjax.optics.scan import Scan, make_raster, probe_positions
from stemjax.optics.scan_paths import image_order
from stemjax.specimen.columns import WIDTHS, Columns, make_columns

ENOUGH = 100
"""Columns that tell the common width, and places that tell the pixel; more would add nothing to a first guess."""

CUT = 4.0
"""Widths at which a column ends while guessing: it has fallen to 3e-4 of its height."""


class Guess(NamedTuple):
    """A first guess and how sure it is.

    Args:
        columns: The columns.
        amplitude_error: Standard error of the heights [column] [electron].
        background_error: Standard error of the background [electron].
        narrowest: Least width that the places resolve [Å].
        widest: Greatest width at which neighbours are still two [Å].
        width: The width that the image shows, whatever the columns say [Å].
    """

    columns: Columns
    amplitude_error: np.ndarray
    background_error: float
    narrowest: float
    widest: float
    width: float

    @property
    def rim(self) -> float:
        """How much further columns reach than they say, if they are as wide as the image shows them [Å]."""
        return WIDTHS * max(0.0, self.width - float(np.min(np.asarray(self.columns.width))))


def guess_columns(image: np.ndarray, scan: Scan | Annotated[float, "Å"], positions: Array | np.ndarray) -> Columns:
    """Heights, one common width and the background of columns whose places are roughly known.

    At a given width, heights and background are a linear least-squares problem, solved jointly, so that neighbours
    that overlap do not count twice; the width is the one that leaves the least residual. It is sought between half
    the distance of neighbouring pixels and half that of neighbouring columns, where two Gaussians become one. What
    comes out below its own standard error (a column that the noise hides) is set to that error.

    Args:
        image: Electrons [ny nx], or of the shape of the scan.
        scan: The scan, or the size of a pixel [Å] of a plain raster that starts at (0, 0).
        positions: Centres [column 2] (y, x) [Å], right to about a quarter of their distances.

    Raises:
        InputError: The image does not fit the scan or holds numbers that are not finite.

    >>> from stemjax.forward.column_image import ColumnImage, ColumnScene
    >>> truth = make_columns([[2.0, 2.0], [2.0, 4.0]], amplitude=50.0, width=0.6, background=3.0)
    >>> image = np.asarray(ColumnImage()(ColumnScene(truth, make_raster((40, 60), 0.1)))).reshape(40, 60)
    >>> found = guess_columns(image, 0.1, [[2.0, 2.0], [2.0, 4.0]])
    >>> found.amplitude.round(0).tolist(), found.width.round(2).tolist(), round(float(found.background), 1)
    ([50.0, 50.0], [0.6...], 3.0)
    """
    scan = scan_of(image, scan)
    return guess(pattern_counts(image, scan), scan, positions).columns


def scan_of(image: np.ndarray, scan: Scan | float) -> Scan:
    """The scan itself, or the plain raster of a pixel size."""
    if isinstance(scan, Scan):
        return scan
    if np.ndim(image) != 2:
        raise InputError(f"an image of shape {np.shape(image)} and one pixel size; give [ny nx], or the scan")
    if np.ndim(scan) != 0:
        raise InputError(f"a pixel size {scan!r}; give one number [Å], or a scan (stemjax.make_raster takes two steps)")
    return make_raster((np.shape(image)[0], np.shape(image)[1]), float(scan))


def pattern_counts(image: np.ndarray, scan: Scan) -> np.ndarray:
    """An image [ny nx] or [frame ny nx] as counts in the order of the scan [pattern].

    >>> pattern_counts(np.arange(4.0).reshape(2, 2), make_raster((2, 2), 1.0)).tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    order, image = image_order(scan), np.asarray(image, float)
    if image.shape != order.shape:
        raise InputError(f"an image of shape {image.shape} for a scan of shape {order.shape}; give the image it made")
    if not np.isfinite(image).all():
        bad = int((~np.isfinite(image)).sum())
        raise InputError(f"{bad} pixels are not finite numbers; replace them by what their neighbours say")
    counts = np.empty(order.size)
    counts[order.ravel()] = image.ravel()
    return counts


def guess(counts: np.ndarray, scan: Scan, positions: Array | np.ndarray) -> Guess:
    """As `guess_columns`, from counts in the order of the scan [pattern], with errors and limits.

    Of several frames the first alone is looked at: between frames the specimen may have moved.
    """
    from scipy.optimize import minimize_scalar

    size = len(counts) // frame_count(scan)
    counts, places = counts[:size], np.asarray(jax.jit(probe_positions)(scan), float)[:size]
    sites = np.asarray(make_columns(positions).positions, float)
    narrowest, widest = 0.5 * _pixel(places), 0.5 * float(np.median(neighbour_distances(sites, places)))
    if not narrowest < widest:
        raise InputError(
            f"columns {2 * widest:.3g} Å apart on pixels {2 * narrowest:.3g} Å apart cannot be told from each other; "
            "check that positions are (y, x) in Å and that none is listed twice"
        )
    middle = np.argsort(np.linalg.norm(sites - sites.mean(axis=0), axis=1))[:ENOUGH]
    window = _window(sites[middle], places, 2.0 * widest)
    if not len(window):
        raise InputError("no pixel lies near a column; check that positions are (y, x) in Å, in the frame of the scan")

    def misfit(log_width: float) -> float:
        return _heights(counts[window], places[window], sites, np.exp(log_width))[2]

    width = np.exp(minimize_scalar(misfit, bounds=np.log((narrowest, widest)), options={"xatol": 0.02}).x)
    heights, background, rms, norms = _heights(counts, places, sites, width)
    # One electron in all pixels is the least that an error can be, for images without any.
    floor = max(rms, 1.0 / len(counts)) / np.sqrt(len(counts))
    errors = np.maximum(rms / norms, floor)
    found = make_columns(
        sites, amplitude=np.maximum(heights, errors), width=float(width), background=max(background, floor)
    )
    return Guess(found, errors, floor, narrowest, widest, float(width))


def frame_count(scan: Scan) -> int:
    """Number of frames of a scan; 1 where it has no axis of frames."""
    return scan.shape[0] if scan.shape is not None and len(scan.shape) == 3 else 1


FURTHEST = 3.0
"""Widths between a column and the nearest pixel beyond which the image says nothing of it."""


def check_seen(columns: Columns, scan: Scan) -> None:
    """Refuse columns that leave no trace in the image: what a fit would tell of them is their prior.

    Raises:
        InputError: Some columns are further than three widths from all pixels.
    """
    from scipy.spatial import cKDTree

    sites, places = np.asarray(columns.positions, float), np.asarray(jax.jit(probe_positions)(scan), float)
    away = cKDTree(places).query(sites)[0]
    lost = np.flatnonzero(away > FURTHEST * np.asarray(columns.width, float))
    if len(lost):
        low, high = places.min(axis=0), places.max(axis=0)
        listed = ", ".join(map(str, lost[:8])) + (", ..." if len(lost) > 8 else "")
        raise InputError(
            f"{len(lost)} of {len(sites)} columns lie where no pixel sees them (numbers {listed}): the image reaches "
            f"from ({low[0]:.4g}, {low[1]:.4g}) to ({high[0]:.4g}, {high[1]:.4g}) Å; leave them out, or give positions "
            "(y, x) in Å"
        )


def neighbour_distances(sites: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Distance of every column to the nearest other [column] [Å], at most the size of the field."""
    from scipy.spatial import cKDTree

    field = float(np.linalg.norm(np.ptp(places, axis=0)))
    if len(sites) == 1:
        return np.array([field])
    return np.minimum(cKDTree(sites).query(sites, k=2)[0][:, 1], field)


def _pixel(places: np.ndarray) -> float:
    """Median distance of neighbouring places [Å]."""
    from scipy.spatial import cKDTree

    some = places[:: max(1, len(places) // ENOUGH)]
    return float(np.median(cKDTree(places).query(some, k=2)[0][:, 1]))


def _window(sites: np.ndarray, places: np.ndarray, reach: float) -> np.ndarray:
    """Numbers of the places within reach of some sites."""
    from scipy.spatial import cKDTree

    return np.flatnonzero(cKDTree(sites).query(places, distance_upper_bound=reach)[0] < reach)


def _heights(
    counts: np.ndarray, places: np.ndarray, sites: np.ndarray, width: float
) -> tuple[np.ndarray, float, float, np.ndarray]:
    """Heights [column], background, rms residual and root sums of squares of the columns at one width."""
    from scipy.sparse import hstack
    from scipy.sparse.linalg import lsqr

    profiles = _profiles(places, sites, width)
    norms = np.sqrt(np.asarray(profiles.multiply(profiles).sum(axis=0)).ravel())
    norms = np.where(norms > 0, norms, 1.0)
    ones = np.full((len(counts), 1), 1.0 / np.sqrt(len(counts)))
    solution = lsqr(hstack([profiles.multiply(1.0 / norms[None]), ones]).tocsr(), counts, atol=1e-4, btol=1e-4)
    rms = float(solution[3]) / np.sqrt(len(counts))
    return solution[0][:-1] / norms, float(solution[0][-1]) / np.sqrt(len(counts)), rms, norms


def _profiles(places: np.ndarray, sites: np.ndarray, width: float) -> Any:
    """Gaussians of height one as a sparse matrix [place column]."""
    from scipy.sparse import csc_matrix
    from scipy.spatial import cKDTree

    found = cKDTree(places).query_ball_point(sites, CUT * width)
    counts = np.array([len(row) for row in found])
    rows = np.concatenate([np.asarray(row, int) for row in found])
    columns = np.repeat(np.arange(len(sites)), counts)
    values = np.exp(-0.5 * np.sum((places[rows] - sites[columns]) ** 2, axis=1) / width**2)
    return csc_matrix((values, (rows, columns)), shape=(len(places), len(sites)))
