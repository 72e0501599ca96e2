"""From columns and a scan to the image that a scan of them gives: every pixel is taken where the probe really was."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.typing import Annotated, Array, Float, Int
from stemjax.optics.scan import Scan, probe_positions
from stemjax.specimen.columns import Columns, column_intensity, within_reach


class ColumnScene(struct.PyTreeNode):
    """Columns and the scan that records them.

    Args:
        columns: The columns.
        scan: Where the probe goes; its distortions and its drift are leaves like all others.
        offsets: Where every frame after the first stands against the first [frame 2] (y, x) [Å], for a scan of shape
            (frame, y, x); a jump between frames that no drift explains. None for none.
        near: The patterns that every column reaches [column member], by number (`with_reach`); None for all.
    """

    columns: Columns
    scan: Scan
    offsets: Annotated[Float[Array, "frame 2"], "Å"] | None = None
    near: Int[Array, "column member"] | None = None


@dataclass(frozen=True)
class ColumnImage:
    """Simulator of images of columns; hashable, holds no arrays.

    >>> from stemjax.optics.scan import make_raster
    >>> from stemjax.specimen.columns import make_columns
    >>> scene = ColumnScene(make_columns([[1.0, 1.0]], amplitude=10.0), make_raster((4, 4), 0.5))
    >>> ColumnImage()(scene).shape
    (16,)
    """

    def __call__(self, scene: ColumnScene, index: Array | None = None) -> Array:
        """Expected electrons of some pixels (all if `index` is None), in the order of the scan [pattern]."""
        values = column_intensity(scene.columns, scene_positions(scene), scene.near)
        return values if index is None else values[index]


def scene_positions(scene: ColumnScene) -> Annotated[Float[Array, "pattern 2"], "Å"]:
    """Where the probe stands [pattern 2] (y, x) [Å]: the scan's own places, and the offset of each frame.

    Raises:
        InputError: Offsets that do not belong to the frames of the scan.

    >>> from stemjax.optics.scan import make_raster
    >>> from stemjax.optics.scan_series import make_series
    >>> from stemjax.specimen.columns import make_columns
    >>> pair = make_series(make_raster((1, 2), 1.0, dwell=1.0), 2)
    >>> scene = ColumnScene(make_columns([[0.0, 0.0]]), pair, offsets=jnp.array([[0.5, 0.0]]))
    >>> scene_positions(scene)[:, 0].tolist()
    [0.0, 0.0, 0.5, 0.5]
    """
    places = probe_positions(scene.scan)
    if scene.offsets is None:
        return places
    shape = scene.scan.shape
    if shape is None or len(shape) != 3 or scene.offsets.shape != (shape[0] - 1, 2):
        raise InputError(
            f"offsets of shape {scene.offsets.shape} for a scan of shape {shape}; give [frame 2], one for every frame "
            "after the first of a scan of shape (frame, y, x)"
        )
    each = jnp.concatenate([jnp.zeros((1, 2), places.dtype), scene.offsets])
    return places + jnp.repeat(each, places.shape[0] // shape[0], axis=0)


def with_reach(scene: ColumnScene, margin: Annotated[float, "Å"] = 0.0) -> ColumnScene:
    """The scene with the patterns that every column reaches noted, so that an image costs no more than these.

    Args:
        scene: The scene as guessed.
        margin: How far columns and probe may move against each other afterwards [Å]; see `within_reach`.

    >>> from stemjax.optics.scan import make_raster
    >>> from stemjax.specimen.columns import make_columns
    >>> scene = ColumnScene(make_columns([[1.0, 1.0]], width=0.2), make_raster((20, 20), 0.5))
    >>> with_reach(scene).near.shape
    (1, 22)
    """
    return scene.replace(near=within_reach(scene.columns, jax.jit(scene_positions)(scene), margin))
