"""Columns of an image: positions, heights, width and background of all of them in one problem."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from stemjax.core.paths import leaves, matching
from stemjax.core.typing import Annotated, Array
from stemjax.detect.noise import Poisson
from stemjax.forward.column_image import ColumnImage, ColumnScene, with_reach
from stemjax.forward.experiment import Measurement
from stemjax.inference.problem import Problem, make_problem
from stemjax.optics.scan import Scan
from stemjax.problems.column_guess import Guess, check_seen, guess, neighbour_distances, pattern_counts, scan_of
from stemjax.specimen.columns import Columns

FREE = ("columns.positions", "columns.amplitude", "columns.width", "columns.background")
"""What is sought unless it is said otherwise; `columns.stretch` frees the ellipticity too."""


@dataclass(frozen=True)
class ColumnSpreads:
    """How well columns are known before they are fitted; what is None follows from the data.

    Args:
        position: Standard deviation of a coordinate [Å]; a quarter of the distance to the nearest column if left out,
            so that two of them end where the neighbour's realm begins.
        amplitude: Of the logarithm of a height, about the mean of all logarithms; if left out their own scatter, and 1
            (a factor of e) at least.
        width: Of the logarithm of a width; if left out, two of it reach from the guess to the further end of what the
            image can resolve (half a pixel to half the distance of columns).
        stretch: Of each component of the ellipticity, log(major/minor); a ratio of two.
        background: Of the logarithm of the background, 1 at least; if left out, its standard error over its value.
    """

    position: float | None = None
    amplitude: float | None = None
    width: float | None = None
    stretch: float = float(np.log(2.0))
    background: float | None = None


def make_columns_problem(
    image: Annotated[np.ndarray, "electron"],
    scan: Scan | Annotated[float, "Å"],
    columns: Columns | Array | np.ndarray,
    *,
    noise: Any = Poisson(),
    free: Iterable[str] = FREE,
    spreads: ColumnSpreads = ColumnSpreads(),
    priors: Mapping[str, Any] | None = None,
) -> Problem:
    """The columns of an image as one problem, those that overlap together.

    Args:
        image: Electrons [ny nx]; not scaled, or the error bars mean nothing.
        scan: The scan, or the size of a pixel [Å] of a plain raster that starts at (0, 0).
        columns: Centres [column 2] (y, x) [Å] that are right to about a quarter of their distances: the rest is
            guessed from the image (`guess_columns`), with one width for all. Or `Columns`, taken as they are; their
            shapes say what columns share (`with_own_shapes` gives each its own).
        noise: How electrons scatter.
        free: Paths of what is sought in the scene; `columns` frees all of the columns.
        spreads: How wide the priors are.
        priors: Priors in place of the recipe's own, by path.

    Returns:
        The problem. Its model is a `ColumnScene`, its priors are normal about the given positions, log-normal for
        height, width and background, and normal about round for the ellipticity.

    Raises:
        InputError: The image does not fit the scan, or columns cannot be told apart.

    >>> from stemjax.specimen.columns import make_columns
    >>> scene = ColumnScene(make_columns([[2.0, 2.0], [2.0, 4.0]], amplitude=50.0), scan_of(np.zeros((20, 30)), 0.2))
    >>> image = np.asarray(ColumnImage()(scene)).reshape(20, 30)
    >>> make_columns_problem(image, 0.2, [[2.0, 2.0], [2.0, 4.0]]).free
    ('columns.positions', 'columns.amplitude', 'columns.width', 'columns.background')
    """
    scan = scan_of(image, scan)
    counts = pattern_counts(image, scan)
    found = first_guess(counts, scan, columns)
    check_seen(found.columns, scan)
    own = column_priors(found, scan, spreads)
    # A column that moves further loses a little of its rim, no more (`within_reach`).
    margin = min(float(np.max(np.asarray(own["columns.positions"].scale))), float(np.max(found.columns.width)))
    scene = with_reach(ColumnScene(found.columns, scan), margin + found.rim)
    return make_problem(
        scene,
        Measurement(counts),
        forward=ColumnImage(),
        noise=noise,
        free=free,
        priors=of_free(own, scene, free) | dict(priors or {}),
    )


def first_guess(counts: np.ndarray, scan: Scan, columns: Columns | Array | np.ndarray) -> Guess:
    """The guess from the image, with the columns themselves where they are given whole."""
    if not isinstance(columns, Columns):
        return guess(counts, scan, columns)
    return guess(counts, scan, np.asarray(columns.positions))._replace(columns=columns)


def column_priors(found: Guess, scan: Scan, spreads: ColumnSpreads) -> dict[str, Any]:
    """Priors of all leaves of the columns, by path in a `ColumnScene`."""
    from numpyro.distributions import LogNormal, Normal

    columns, sites = found.columns, np.asarray(found.columns.positions, float)
    heights, widths = np.log(np.asarray(columns.amplitude)), np.log(np.asarray(columns.width))
    background = float(columns.background)
    apart = neighbour_distances(sites, np.asarray(scan.positions, float))[:, None]
    reach = max(np.log(found.widest) - widths.min(), widths.max() - np.log(found.narrowest))
    relative = max(1.0, found.background_error / background)
    return {
        "columns.positions": Normal(columns.positions, jnp.asarray(_or(spreads.position, 0.25 * apart))),
        "columns.amplitude": LogNormal(float(heights.mean()), _or(spreads.amplitude, max(1.0, float(heights.std())))),
        "columns.width": LogNormal(float(widths.mean()), _or(spreads.width, 0.5 * float(reach))),
        "columns.stretch": Normal(0.0, spreads.stretch),
        "columns.background": LogNormal(float(np.log(background)), _or(spreads.background, relative)),
    }


def of_free(priors: Mapping[str, Any], scene: ColumnScene, free: Iterable[str]) -> dict[str, Any]:
    """The priors of those leaves that are free."""
    chosen = matching(leaves(scene), free)
    return {path: prior for path, prior in priors.items() if path in chosen}


def _or(given: float | None, otherwise: Any) -> Any:
    return otherwise if given is None else given


def with_own_shapes(columns: Columns) -> Columns:
    """Columns with a width and an ellipticity each, where before one held for all.

    >>> from stemjax.specimen.columns import make_columns
    >>> with_own_shapes(make_columns([[0.0, 0.0], [2.0, 0.0]])).stretch.shape
    (2, 2)
    """
    count = columns.positions.shape[0]
    return columns.replace(
        width=jnp.broadcast_to(columns.width, (count,)), stretch=jnp.broadcast_to(columns.stretch, (count, 2))
    )
