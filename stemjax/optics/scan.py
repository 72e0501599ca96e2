"""Where the probe goes: a raster with rotation, distortion and per-point freedom."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.typing import Annotated, Array, Float, real, typed


class Scan(struct.PyTreeNode):
    """Probe positions; made by `make_raster` or `make_scan`.

    Args:
        positions: Position of every pattern [pattern 2] (y, x) [Å], before the affine distortion.
        affine: Linear distortion [2 2] about `centre`; the identity for none.
        centre: Fixed point of the distortion (y, x) [Å].
        shape: Raster shape (y, x), or None for a free set of points.
    """

    positions: Annotated[Array, "Å"]
    affine: Array
    centre: Annotated[Array, "Å"]
    shape: tuple[int, int] | None = struct.field(pytree_node=False, default=None)


def make_scan(positions: Array | np.ndarray, shape: tuple[int, int] | None = None) -> Scan:
    """A scan from a list of positions.

    Args:
        positions: Positions [pattern 2] (y, x) [Å].
        shape: Raster shape, where the points form one.

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
    return Scan(
        positions=real(positions),
        affine=real(np.eye(2)),
        centre=real(positions.mean(axis=0)),
        shape=shape,
    )


def make_raster(
    shape: tuple[int, int],
    step: Annotated[tuple[float, float] | float, "Å"],
    *,
    rotation: Annotated[float, "degree"] = 0.0,
    origin: Annotated[tuple[float, float], "Å"] = (0.0, 0.0),
    offsets: np.ndarray | None = None,
) -> Scan:
    """A raster scan, rows along x, first point at `origin`.

    Args:
        shape: Number of points (y, x).
        step: Distance of neighbours (y, x) [Å]; one number for both.
        rotation: Angle of the scan's x axis against the image's x axis, from x towards y [degree].
        origin: Position of the first point [Å].
        offsets: Displacement of every point [pattern 2] (y, x) [Å], added last.

    >>> make_raster((2, 2), 0.5).positions.tolist()
    [[0.0, 0.0], [0.0, 0.5], [0.5, 0.0], [0.5, 0.5]]
    """
    step_y, step_x = (step, step) if isinstance(step, int | float) else step
    y, x = np.meshgrid(np.arange(shape[0]) * step_y, np.arange(shape[1]) * step_x, indexing="ij")
    angle = math.radians(rotation)
    turned_y = math.cos(angle) * y + math.sin(angle) * x
    turned_x = math.cos(angle) * x - math.sin(angle) * y
    positions = np.stack([turned_y.ravel() + origin[0], turned_x.ravel() + origin[1]], axis=1)
    return make_scan(positions if offsets is None else positions + offsets, shape)


@typed
def probe_positions(scan: Scan) -> Annotated[Float[Array, "pattern 2"], "Å"]:
    r"""Where the probe stands, distortion included.

    .. math:: r_i = c + F (p_i - c)

    Returns:
        Positions [pattern 2] (y, x) [Å].

    >>> scan = make_raster((1, 2), 1.0).replace(affine=jnp.array([[1.0, 0.0], [0.0, 1.1]]))
    >>> [round(float(x), 6) for x in probe_positions(scan)[:, 1]]
    [-0.05, 1.05]
    """
    centred = scan.positions - scan.centre[None]
    return scan.centre[None] + jnp.einsum("ij,nj->ni", scan.affine, centred)
