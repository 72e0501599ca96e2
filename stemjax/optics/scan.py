"""Where the probe goes: a raster with rotation, distortion and per-point freedom."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.typing import Annotated, Array, Float, real, typed


class Numbers:
    """Whole numbers, one a pattern, that belong to the structure of a scan and not to its leaves.

    Compared by content and hashed once, so that jax keeps what it compiled.

    Args:
        values: Numbers [pattern].

    >>> Numbers([0, 0, 1]) == Numbers(np.array([0, 0, 1])), len(Numbers([0, 0, 1]))
    (True, 3)
    """

    def __init__(self, values: np.ndarray | list[int]) -> None:
        self.values = np.array(values, np.int32)
        self.values.flags.writeable = False
        self._hash = hash((self.values.shape, self.values.tobytes()))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Numbers) and self._hash == other._hash and np.array_equal(self.values, other.values)

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"Numbers({len(self)})"


class Scan(struct.PyTreeNode):
    """Probe positions in the order of time; made by `make_raster`, `make_scan` or one of `stemjax.optics.scan_paths`.

    What is None is not there: it adds nothing to the positions and is no leaf.

    Args:
        positions: Position of every pattern [pattern 2] (y, x) [Å], before the affine distortion.
        affine: Linear distortion [2 2] about `centre` (coils: scale, shear, rotation); the identity for none.
        centre: Fixed point of the distortion (y, x) [Å].
        shape: Shape of the image (y, x) or (frame, y, x) that the patterns fill, or None for a free set of points.
        times: Start of every pattern since the start of the scan [pattern] [s].
        velocity: Linear drift of the probe over the specimen (y, x) [Å/s]; a specimen that moves with u gives -u.
        walk: Drift of no simple law at the times `knots` [knot 2] (y, x) [Å], linear in between, constant beyond.
        knots: Times of `walk` [knot] [s], increasing.
        jitter: Displacement of every line of the fast scan [line 2] (y, x) [Å].
        descan: Displacement of every pattern on the detector [pattern 2] (y, x) [mrad], which imperfect descan leaves.
        line: Number of the line that every pattern belongs to; static.
        pixel: Number of the image's pixel that every pattern fills, where time does not run along the rows; static.
    """

    positions: Annotated[Array, "Å"]
    affine: Array
    centre: Annotated[Array, "Å"]
    shape: tuple[int, ...] | None = struct.field(pytree_node=False, default=None)
    times: Annotated[Array, "s"] | None = None
    velocity: Annotated[Array, "Å/s"] | None = None
    walk: Annotated[Array, "Å"] | None = None
    knots: Annotated[Array, "s"] | None = None
    jitter: Annotated[Array, "Å"] | None = None
    descan: Annotated[Array, "mrad"] | None = None
    line: Numbers | None = struct.field(pytree_node=False, default=None)
    pixel: Numbers | None = struct.field(pytree_node=False, default=None)


def make_scan(
    positions: Array | np.ndarray,
    shape: tuple[int, ...] | None = None,
    *,
    times: np.ndarray | None = None,
    line: np.ndarray | None = None,
    pixel: np.ndarray | None = None,
) -> Scan:
    """A scan from a list of positions.

    Args:
        positions: Positions [pattern 2] (y, x) [Å], in the order of time.
        shape: Shape of the image, (y, x) or (frame, y, x), where the points fill one.
        times: Start of every pattern [pattern] [s].
        line: Number of the fast-scan line of every pattern [pattern].
        pixel: Number of the image's pixel of every pattern [pattern], where they do not come row by row.

    Raises:
        InputError: Shapes differ, numbers are not finite, times run backwards, or a pixel is filled twice.

    >>> make_scan(np.zeros((6, 2)), (2, 3)).shape
    (2, 3)
    """
    positions = np.asarray(positions, dtype=float)
    if positions.ndim != 2 or positions.shape[1] != 2 or not len(positions):
        raise InputError(f"scan positions of shape {positions.shape}; give [pattern 2] with (y, x) in Å")
    if not np.isfinite(positions).all():
        raise InputError(f"{int((~np.isfinite(positions)).sum())} scan coordinates are not finite numbers")
    if shape is not None and math.prod(shape) != len(positions):
        raise InputError(
            f"scan shape {shape} holds {math.prod(shape)} points, but {len(positions)} positions are given"
        )
    _check_order(len(positions), shape, times, line, pixel)
    return Scan(
        positions=real(positions),
        affine=real(np.eye(2)),
        centre=real(positions.mean(axis=0)),
        shape=shape,
        times=None if times is None else real(times),
        line=None if line is None else Numbers(line),
        pixel=None if pixel is None else Numbers(pixel),
    )


def _check_order(
    count: int,
    shape: tuple[int, ...] | None,
    times: np.ndarray | None,
    line: np.ndarray | None,
    pixel: np.ndarray | None,
) -> None:
    """Refuse times, lines and pixels that do not belong to the positions."""
    if shape is not None and len(shape) not in (2, 3):
        raise InputError(f"scan shape {shape}; give (y, x) or (frame, y, x)")
    for name, values in (("times", times), ("line numbers", line), ("pixel numbers", pixel)):
        if values is not None and np.shape(values) != (count,):
            raise InputError(f"{name} of shape {np.shape(values)} for {count} positions; give one a position")
    if times is not None and not (np.isfinite(times).all() and (np.diff(times) >= 0).all()):
        raise InputError("scan times run backwards or are not finite; give the start of every pattern in s, in order")
    if line is not None and np.min(line) < 0:
        raise InputError(f"line number {int(np.min(line))}; count the lines from 0")
    if pixel is None:
        return
    if shape is None:
        raise InputError("pixel numbers without the shape of their image; give shape (y, x)")
    if not np.array_equal(np.sort(pixel), np.arange(count)):
        raise InputError(f"pixel numbers that do not fill the image {shape}; give each of 0 to {count - 1} once")


def make_raster(
    shape: tuple[int, int],
    step: Annotated[tuple[float, float] | float, "Å"],
    *,
    rotation: Annotated[float, "degree"] = 0.0,
    origin: Annotated[tuple[float, float], "Å"] = (0.0, 0.0),
    offsets: np.ndarray | None = None,
    dwell: Annotated[float, "s"] | None = None,
    flyback: Annotated[float, "s"] = 0.0,
) -> Scan:
    """A raster scan, rows along x, first point at `origin`.

    Args:
        shape: Number of points (y, x).
        step: Distance of neighbours (y, x) [Å]; one number for both.
        rotation: Angle of the scan's x axis against the image's x axis, from x towards y [degree].
        origin: Position of the first point [Å].
        offsets: Displacement of every point [pattern 2] (y, x) [Å], added last.
        dwell: Time from a point to the next [s]; without it the scan has no times.
        flyback: Additional time from the end of a row to the next row [s].

    >>> make_raster((2, 2), 0.5).positions.tolist()
    [[0.0, 0.0], [0.0, 0.5], [0.5, 0.0], [0.5, 0.5]]
    >>> make_raster((2, 2), 0.5, dwell=1.0, flyback=3.0).times.tolist()
    [0.0, 1.0, 5.0, 6.0]
    """
    step_y, step_x = (step, step) if isinstance(step, int | float) else step
    y, x = np.meshgrid(np.arange(shape[0]) * step_y, np.arange(shape[1]) * step_x, indexing="ij")
    positions = turned(np.stack([y.ravel(), x.ravel()], axis=1), rotation) + np.asarray(origin)
    positions = positions if offsets is None else positions + offsets
    line = np.repeat(np.arange(shape[0]), shape[1])
    if dwell is None:
        return make_scan(positions, shape)
    return make_scan(positions, shape, times=line_times(line, dwell, flyback), line=line)


def step_pair(step: tuple[float, float] | float) -> np.ndarray:
    """A step (y, x), checked."""
    pair = np.broadcast_to(np.asarray(step, float), (2,))
    if not (np.isfinite(pair).all() and (pair > 0).all()):
        raise InputError(f"a step of {step} Å; give positive lengths, such as 0.5 or (0.5, 0.5)")
    return pair


def turned(offsets: np.ndarray, rotation: float) -> np.ndarray:
    """Offsets [pattern 2] (y, x) turned by an angle from x towards y [degree].

    >>> turned(np.array([[0.0, 2.0]]), 90.0).round(6).tolist()
    [[2.0, 0.0]]
    """
    angle = math.radians(rotation)
    c, s = math.cos(angle), math.sin(angle)
    return offsets @ np.array([[c, -s], [s, c]])


def line_times(line: np.ndarray, dwell: float, flyback: float) -> np.ndarray:
    """Start of every pattern [pattern] [s]: a dwell time for each, and a flyback before each new line.

    >>> line_times(np.array([0, 0, 1]), 1.0, 0.5).tolist()
    [0.0, 1.0, 2.5]
    """
    if not (np.isfinite(dwell) and dwell > 0):
        raise InputError(f"a dwell time of {dwell:g} s; give a positive one, such as 1e-5 s")
    if not (np.isfinite(flyback) and flyback >= 0):
        raise InputError(f"a flyback time of {flyback:g} s; give 0 or more, such as 1e-3 s")
    changes = np.concatenate([[0], np.cumsum(np.diff(line) != 0)])
    return np.arange(len(line)) * dwell + changes * flyback


@typed
def probe_positions(scan: Scan) -> Annotated[Float[Array, "pattern 2"], "Å"]:
    r"""Where the probe stands, distortion, drift and jitter included.

    .. math:: r_i = c + A (p_i - c) + v t_i + w(t_i) + j_{l(i)}

    with the walk w linear between its knots and the jitter j of the line l(i).

    Returns:
        Positions [pattern 2] (y, x) [Å].

    Raises:
        InputError: A drift without times, a walk without knots, or a jitter without lines.

    >>> scan = make_raster((1, 2), 1.0).replace(affine=jnp.array([[1.0, 0.0], [0.0, 1.1]]))
    >>> [round(float(x), 6) for x in probe_positions(scan)[:, 1]]
    [-0.05, 1.05]
    """
    centred = scan.positions - scan.centre[None]
    found = scan.centre[None] + jnp.einsum("ij,nj->ni", scan.affine, centred)
    if scan.velocity is not None:
        found = found + times_of(scan)[:, None] * scan.velocity[None]
    if scan.walk is not None:
        found = found + walk_at(times_of(scan), scan.walk, scan.knots)
    if scan.jitter is not None:
        if scan.line is None:
            raise InputError("a scan with jitter has no line numbers; use with_jitter, or give line (make_scan)")
        found = found + scan.jitter[scan.line.values]
    return found


def times_of(scan: Scan) -> Annotated[Float[Array, "pattern"], "s"]:
    """When every pattern starts [pattern] [s]; an error where the scan does not tell."""
    if scan.times is None:
        raise InputError("a scan that drifts has no times; give dwell (make_raster, ...) or times (make_scan)")
    return scan.times


def walk_at(times: Array, walk: Array, knots: Array | None) -> Annotated[Float[Array, "pattern 2"], "Å"]:
    """A drift given at knots, at other times: linear in between, constant before the first and after the last.

    Args:
        times: Times [pattern] [s].
        walk: Displacement at the knots [knot 2] [Å].
        knots: Their times [knot] [s], increasing.

    >>> walk_at(jnp.array([0.5, 9.0]), jnp.array([[0.0, 0.0], [2.0, 4.0]]), jnp.array([0.0, 1.0])).tolist()
    [[1.0, 2.0], [2.0, 4.0]]
    """
    if knots is None or knots.shape[0] != walk.shape[0] or walk.shape[0] < 2:
        count = 0 if knots is None else knots.shape[0]
        raise InputError(f"a walk of {walk.shape[0]} places with {count} knots; give as many of both, two at least")
    after = jnp.clip(jnp.searchsorted(knots, times, side="right"), 1, knots.shape[0] - 1)
    start, end = knots[after - 1], knots[after]
    share = jnp.clip((times - start) / (end - start), 0.0, 1.0)[:, None]
    return walk[after - 1] * (1.0 - share) + walk[after] * share
