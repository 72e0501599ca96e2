"""From columns and a scan to the image that a scan of them gives: every pixel is taken where the probe really was."""

from __future__ import annotations

from dataclasses import dataclass

from flax import struct

from stemjax.core.typing import Array
from stemjax.optics.scan import Scan, probe_positions
from stemjax.specimen.columns import Columns, column_intensity


class ColumnScene(struct.PyTreeNode):
    """Columns and the scan that records them.

    Args:
        columns: The columns.
        scan: Where the probe goes; its distortions and its drift are leaves like all others.
    """

    columns: Columns
    scan: Scan


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
        places = probe_positions(scene.scan)
        return column_intensity(scene.columns, places if index is None else places[index])
