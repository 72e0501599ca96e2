"""One look for all figures: perceptual colour maps, a scale bar, a unit on every axis."""

from __future__ import annotations

import math
from io import BytesIO
from typing import Any, cast

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

INTENSITY = "magma"
AMPLITUDE = "viridis"
UNCERTAINTY = "cividis"
CYCLIC = "twilight"
DIFFERENCE = "coolwarm"
"""Diverging and even in lightness: Moreland, Proc. ISVC 2009, LNCS 5876, 92."""

WIDTH = 9.0
"""Width of a figure that fills the page [inch]: all are shown at one scale, so that the letters are of one size."""

RESOLUTION = 160
"""Dots per inch of the PNG files."""

START, FOUND, TRUTH = "#7a7a7a", "#31688e", "#c8553d"
"""Line colours: grey, the blue of viridis, a red that is told from it by lightness also."""

look = matplotlib.rc_context(
    {
        "font.size": 10,
        "axes.titlesize": 10.5,
        "axes.labelsize": 10,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "legend.fontsize": 9,
        "axes.linewidth": 0.7,
        "image.interpolation": "nearest",
        "font.family": "DejaVu Sans",
        "mathtext.fontset": "dejavusans",
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        "text.usetex": False,
    }
)
"""Decorator of the functions that draw: their settings, whatever a person's matplotlibrc says."""


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure [inch] without a window, laid out so that no text overlaps."""
    figure = Figure(figsize=(width, height), dpi=RESOLUTION, layout="constrained")
    engine = cast(ConstrainedLayoutEngine, figure.get_layout_engine())
    engine.set(w_pad=0.06, h_pad=0.06)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as a PNG file, cut to what is drawn: the layout of images of fixed shape can reach over the edge.

    >>> png(new_figure(1.0, 1.0))[1:4]
    b'PNG'
    """
    buffer = BytesIO()
    figure.savefig(
        buffer, format="png", dpi=RESOLUTION, bbox_inches="tight", pad_inches=0.08, metadata={"Software": None}
    )
    return buffer.getvalue()


def png_width(picture: bytes) -> float:
    """Width of a figure written by `png` [inch], from the file's header.

    >>> 0 < png_width(png(new_figure(1.0, 1.0))) < 2
    True
    """
    return int.from_bytes(picture[16:20], "big") / RESOLUTION


def show_image(
    axes: Axes,
    image: np.ndarray,
    sampling: tuple[float, float],
    *,
    units: str = "Å",
    symbol: str = "",
    centred: bool = False,
    corner: tuple[float, float] = (0.0, 0.0),
    **options: Any,
) -> AxesImage:
    """An image [y, x], y downwards, with the unit on both axes and a scale bar.

    Args:
        axes: Where to draw.
        image: Image (ny, nx), or colours (ny, nx, 4).
        sampling: Pixel size (y, x) in `units`.
        units: Unit of the axes.
        symbol: What the axes are, with x or y as its index; plain x and y when not given.
        centred: Put the origin on pixel (ny // 2, nx // 2) instead of pixel (0, 0).
        corner: Where pixel (0, 0) lies (y, x), if not centred.
        options: Further arguments of matplotlib's `imshow`.
    """
    (ny, nx), (sy, sx) = image.shape[:2], sampling
    y0, x0 = ((ny // 2) * sy, (nx // 2) * sx) if centred else (-corner[0], -corner[1])
    extent = (-0.5 * sx - x0, (nx - 0.5) * sx - x0, (ny - 0.5) * sy - y0, -0.5 * sy - y0)
    drawn = axes.imshow(image, extent=extent, origin="upper", **options)
    for axis, name in ((axes.xaxis, "x"), (axes.yaxis, "y")):
        axis.set_label_text(f"${symbol}_{name}$ [{units}]" if symbol else f"{name} [{units}]")
        axis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    return drawn


def scale_bar(axes: Axes, units: str = "Å") -> None:
    """A bar of a round length in the lower left corner of what the axes show, readable on light and dark."""
    left, right = sorted(axes.get_xlim())
    low, high = sorted(axes.get_ylim())
    width, height = right - left, high - low
    length = round_length(0.28 * width)
    thickness = 0.018 * min(width, height)
    # Image axes point downwards: the lower edge is the larger y.
    x, y = left + 0.05 * width, high - 0.05 * height - thickness
    outline = [patheffects.withStroke(linewidth=2.2, foreground="black")]
    axes.add_patch(Rectangle((x, y), length, thickness, color="white", path_effects=outline, zorder=5))
    label = axes.text(x, y - 0.02 * height, bar_label(length, units), color="white", va="bottom", zorder=6)
    label.set(fontsize=9, fontweight="bold", path_effects=outline, gid="scale bar")


def round_length(largest: float) -> float:
    """The largest of 1, 2, 5 × 10ⁿ that is not above a length.

    >>> round_length(4.9), round_length(0.055), round_length(10.0)
    (2.0, 0.05, 10.0)
    """
    power = 10.0 ** math.floor(math.log10(largest) + 1e-12)
    return next(float(f"{f * power:.6g}") for f in (5.0, 2.0, 1.0) if f * power <= largest * (1 + 1e-9))


def bar_label(length: float, units: str) -> str:
    """The text of a scale bar; from 100 Å on in nm.

    >>> bar_label(20.0, "Å"), bar_label(200.0, "Å"), bar_label(5.0, "mrad")
    ('20 Å', '20 nm', '5 mrad')
    """
    return f"{length / 10:g} nm" if units == "Å" and length >= 100 else f"{length:g} {units}"


def colour_bar(figure: Figure, drawn: Any, axes: Any, label: str, **options: Any) -> None:
    """A colour bar whose label carries the unit."""
    bar = figure.colorbar(drawn, ax=axes, label=label, aspect=30, pad=0.015, **options)
    bar.outline.set_linewidth(0.5)


def blank_shared(grid: np.ndarray) -> None:
    """Leave tick labels and axis labels at the left and lower edge of a grid of axes that share their scales."""
    for (row, column), axes in np.ndenumerate(grid):
        if column > 0:
            axes.set_ylabel("")
            axes.tick_params(labelleft=False)
        if row < grid.shape[0] - 1:
            axes.set_xlabel("")
            axes.tick_params(labelbottom=False)


def colour_range(image: np.ndarray, low: float = 0.1, high: float = 99.9) -> tuple[float, float]:
    """Percentiles of the finite values, never an empty range.

    >>> colour_range(np.zeros(3))
    (-0.5, 0.5)
    """
    finite = image[np.isfinite(image)]
    if not finite.size:
        return 0.0, 1.0
    bottom, top = np.percentile(finite, (low, high))
    if top - bottom <= 1e-12 * max(abs(top), abs(bottom), 1e-12):
        bottom, top = bottom - 0.5, top + 0.5
    return float(bottom), float(top)
