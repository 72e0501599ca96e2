"""The drift of a scan and the columns that it displaces, found together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.typing import Annotated, Array
from stemjax.detect.noise import Poisson
from stemjax.forward.column_image import ColumnImage, ColumnScene, with_reach
from stemjax.forward.experiment import Measurement
from stemjax.inference.priors.images import Ridge
from stemjax.inference.priors.paths import RandomWalk
from stemjax.inference.problem import Problem, make_problem
from stemjax.inference.wells import Well
from stemjax.optics.distortion import with_drift, with_jitter, with_walk
from stemjax.optics.scan import Scan, times_of
from stemjax.problems.column_guess import frame_count, neighbour_distances, pattern_counts
from stemjax.problems.columns import FREE as COLUMNS
from stemjax.problems.columns import ColumnSpreads, column_priors, first_guess, of_free
from stemjax.specimen.columns import Columns

FREE = (*COLUMNS, "scan.walk")
"""What is sought unless it is said otherwise; `scan.velocity`, `scan.jitter` and `offsets` can be added."""

PINNED = 1e-3
"""Where columns are free the drift is counted from its first knot, which is held at zero to this share of a pixel."""


@dataclass(frozen=True)
class DriftSpreads:
    """How well a drift is known before it is fitted; what is None follows from the data or from the scan.

    Args:
        walk: How far the drift wanders in a second, along each axis [Å/√s]; found from the data if left out.
        velocity: Standard deviation of the steady drift along each axis [Å/s]; if left out, a field of view in the
            time of the scan.
        affine: Standard deviation of the elements of the coils' matrix; one of a hundred.
        jitter: Standard deviation of the displacement of a line along each axis [Å]; found from the data if left out.
        offset: How far a frame may stand from the first along each axis [Å]; a distance of columns if left out.
        columns: The same of the columns.
    """

    walk: float | None = None
    velocity: float | None = None
    affine: float = 0.01
    jitter: float | None = None
    offset: float | None = None
    columns: ColumnSpreads = ColumnSpreads()


def make_drift_problem(
    images: Annotated[np.ndarray, "electron"],
    scan: Scan,
    columns: Columns | Array | np.ndarray,
    *,
    lines: int = 1,
    free: Iterable[str] = FREE,
    noise: Any = Poisson(),
    spreads: DriftSpreads = DriftSpreads(),
    priors: Mapping[str, Any] | None = None,
) -> Problem:
    """The drift of a scan over columns, from one frame, a pair at 0 and 90 degrees, or a series.

    The drift is a walk between knots (`scan.walk`), one every few lines, whose strength the data decide. What is named
    in `free` and not yet there is added: a steady drift (`scan.velocity`), a displacement of every line
    (`scan.jitter`), a jump of every frame after the first (`offsets`).

    What cannot be told apart is settled by rule:

    - A shift of the drift against all columns: where the positions are free the drift starts from zero, else (a known
      object) the data find it.
    - A steady drift against positions: from one frame of free columns a drift that is slow against the time that a
      column takes moves columns; the priors share it out, and error bars say so. Two frames with rows in different
      directions tell them apart, and a lattice does for what is not linear: give
      `priors={"columns.positions": make_straight_lattice(...)}`.
    - The matrix of the coils against positions: no frames tell them apart, so both free are refused, unless positions
      have a prior of their own (`make_known_lattice`).
    - A steady drift against the walk: the walk pays for its trend, so the velocity takes it.
    - Frames a lattice vector apart: the columns look the same but for the rim. `offsets`, where free, has a well for
      every such place that its spread allows, and solvers look into all. Within a frame nothing hops, for the drift is
      continuous, if the first guess is right to half the distance of columns.

    Args:
        images: Electrons [ny nx] or [frame ny nx], as the scan filled them.
        scan: The scan with its times (`make_raster(..., dwell=)`, `make_pair`, `make_series`); a walk that it has is
            the first guess.
        columns: Centres [column 2] (y, x) [Å] as the first frame shows them, or `Columns`, taken as they are.
        lines: Lines from a knot of the walk to the next.
        free: Paths of what is sought.
        noise: How electrons scatter.
        spreads: How wide the priors are.
        priors: Priors in place of the recipe's own, by path.

    Raises:
        InputError: The images do not fit the scan, it has no times, or coils and positions are free together.

    >>> from stemjax.optics.scan import make_raster
    >>> from stemjax.specimen.columns import make_columns
    >>> scan = make_raster((20, 30), 0.2, dwell=1e-5, flyback=1e-4)
    >>> two = make_columns([[2.0, 2.0], [2.0, 4.0]], amplitude=50.0)
    >>> image = np.asarray(ColumnImage()(ColumnScene(two, scan))).reshape(20, 30)
    >>> make_drift_problem(image, scan, two, lines=5).experiment.scan.walk.shape
    (5, 2)
    """
    free, counts = tuple(free), pattern_counts(images, scan)
    found = first_guess(counts, scan, columns)
    scene = with_unknowns(ColumnScene(found.columns, scan), free, lines)
    apart = _apart(scene)
    offset = apart if spreads.offset is None else spreads.offset
    own = column_priors(found, scan, spreads.columns) | drift_priors(scene, spreads, offset)
    own = of_free(own, scene, free) | dict(priors or {})
    if "scan.affine" in own and "columns.positions" in own and "columns.positions" not in dict(priors or {}):
        raise InputError(
            "scan.affine and columns.positions are both free, but any linear distortion of the scan is one of the "
            "columns; hold one of them, or give the positions a prior of a known lattice (make_known_lattice)"
        )
    if "columns.positions" in own and "scan.walk" in own and "scan.walk" not in dict(priors or {}):
        own["scan.walk"] = own["scan.walk"].replace(start=PINNED * _pixel(scan))
    jumps = "offsets" in own
    return make_problem(
        with_reach(scene, found.rim + 0.5 * apart + (2.0 * offset if jumps else 0.0)),
        Measurement(counts),
        forward=ColumnImage(),
        noise=noise,
        free=free,
        priors=own,
        wells=[Well("offsets", -2.0 * offset, 2.0 * offset, apart)] if jumps and 4.0 * offset > apart else (),
    )


def with_unknowns(scene: ColumnScene, free: Iterable[str], lines: int) -> ColumnScene:
    """The scene with a leaf, zero at first, for every unknown of its scan that is free and not there yet.

    Args:
        scene: Columns and scan.
        free: Paths of what is sought.
        lines: Lines from a knot of the walk to the next.
    """
    scan, free = scene.scan, set(free)
    if "scan.walk" in free and scan.walk is None:
        knots = line_knots(scan, lines)
        scan = with_walk(scan, np.zeros((len(knots), 2)), knots)
    if "scan.velocity" in free and scan.velocity is None:
        scan = with_drift(scan, (0.0, 0.0))
    if "scan.jitter" in free and scan.jitter is None:
        scan = with_jitter(scan, np.zeros((len(_line_starts(scan)), 2)))
    if "offsets" in free and scene.offsets is None:
        frames = frame_count(scan)
        if frames < 2:
            raise InputError(f"offsets of frames for a scan of shape {scan.shape}; give a scan (frame, y, x)")
        scene = scene.replace(offsets=jnp.zeros((frames - 1, 2), scan.positions.dtype))
    return scene.replace(scan=scan)


def line_knots(scan: Scan, lines: int = 1) -> np.ndarray:
    """Times for the knots of a walk: the start of every few lines of every frame, and the end of the frame [knot] [s].

    >>> from stemjax.optics.scan import make_raster
    >>> line_knots(make_raster((4, 2), 1.0, dwell=1.0), 2).tolist()
    [0.0, 4.0, 7.0]
    """
    if lines < 1:
        raise InputError(f"a knot every {lines} lines; give 1 or more")
    times, starts = np.asarray(times_of(scan), float), _line_starts(scan)
    frames = frame_count(scan)
    size, found = len(times) // frames, []
    for frame in range(frames):
        own = starts[(starts >= frame * size) & (starts < (frame + 1) * size)]
        found.append(times[[*own[::lines], (frame + 1) * size - 1]])
    return np.unique(np.concatenate(found))


def drift_priors(scene: ColumnScene, spreads: DriftSpreads, offset: float) -> dict[str, Any]:
    """Priors of the leaves that move the scan, by path in a `ColumnScene`."""
    from numpyro.distributions import Normal

    scan = scene.scan
    places = np.asarray(scan.positions, float)
    field, apart = float(np.ptp(places, axis=0).max()), _apart(scene)
    found: dict[str, Any] = {"scan.affine": Normal(np.asarray(scan.affine), spreads.affine)}
    if scan.walk is not None:
        found["scan.walk"] = RandomWalk(spreads.walk, scan.knots, 0.25 * apart)
    if scan.velocity is not None:
        fastest = field / float(np.ptp(np.asarray(times_of(scan))))
        found["scan.velocity"] = Normal(0.0, fastest if spreads.velocity is None else spreads.velocity)
    if scan.jitter is not None:
        found["scan.jitter"] = Ridge(spreads.jitter)
    if scene.offsets is not None:
        found["offsets"] = Normal(0.0, offset)
    return found


def _apart(scene: ColumnScene) -> float:
    """Median distance of neighbouring columns [Å]."""
    sites, places = np.asarray(scene.columns.positions, float), np.asarray(scene.scan.positions, float)
    return float(np.median(neighbour_distances(sites, places)))


def _pixel(scan: Scan) -> float:
    """Median distance from a place to the next [Å]."""
    return float(np.median(np.linalg.norm(np.diff(np.asarray(scan.positions, float), axis=0), axis=1)))


def _line_starts(scan: Scan) -> np.ndarray:
    """Number of the first pattern of every line."""
    if scan.line is not None:
        return np.flatnonzero(np.diff(scan.line.values, prepend=-1) != 0)
    if scan.shape is None or scan.pixel is not None:
        raise InputError("a scan whose lines are not known; give it a walk with knots of its own (with_walk)")
    return np.arange(0, len(scan.positions), scan.shape[-1])
