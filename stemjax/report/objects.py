"""Figures of the object: phase, slices, amplitude, found against true."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Polygon

from stemjax.report import field, style

MOST_SLICES = 8
"""Slices drawn at most; more are thinned evenly."""

RANGE = (0.5, 99.5)
"""Percentiles of the scanned field that the colours span."""


@style.look
def object_image(
    image: np.ndarray,
    sampling: tuple[float, float],
    *,
    label: str = "phase [rad]",
    colours: str = style.INTENSITY,
    hull: np.ndarray | None = None,
    margin: float = 0.0,
    centre: bool = True,
) -> Figure:
    """One map of the object with a scale bar, a colour bar and the scanned field outlined; it fades outside of that.

    Args:
        image: Map (ny, nx).
        sampling: Pixel size (y, x) [Å].
        label: What the colours mean, with its unit.
        colours: Name of the colour map.
        hull: Corners of the scanned field (corner, 2), (y, x) [Å]; the colour range is taken inside it.
        margin: How far around the field the map is drawn [Å].
        centre: Subtract the mean inside the field, where a constant has no meaning.

    Returns:
        The figure.

    >>> object_image(np.eye(8), (0.1, 0.1)).axes[0].get_xlabel()
    'x [Å]'
    """
    mask = field.inside(image.shape, sampling, hull)
    image = image - (_mean(image[mask]) if centre else 0.0)
    part = field.window(image.shape, sampling, hull, margin)
    ratio = _aspect(image[part], sampling)
    width = min(6.4, 5.2 / ratio)
    figure = style.new_figure(width * ratio + 0.6, width + 1.5)
    axes = figure.subplots()
    shade = field.fading(mask, sampling, margin)[part]
    limits = style.colour_range(image[mask], *RANGE)
    drawn = _map(axes, image[part], sampling, limits, corner=_corner(part, sampling), alpha=shade, cmap=colours)
    outline(axes, hull)
    style.scale_bar(axes)
    # The bar shows the colours of the field, not those of the faded margin.
    style.colour_bar(figure, ScalarMappable(drawn.norm, drawn.cmap), axes, label, extend="both")
    return figure


def outline(axes: Axes, hull: np.ndarray | None) -> None:
    """The scanned field as a dashed polygon, readable on light and dark; nothing where it is not known."""
    if hull is None:
        return
    dark = [patheffects.withStroke(linewidth=1.8, foreground="black", alpha=0.6)]
    axes.add_patch(Polygon(hull[:, ::-1], fill=False, ls="--", lw=1.0, ec="white", path_effects=dark))


@style.look
def slice_montage(
    stack: np.ndarray, sampling: tuple[float, float], depths: np.ndarray, *, hull: np.ndarray | None = None
) -> Figure:
    """The phase of the slices [rad] on one colour range, cropped to the scanned field.

    Args:
        stack: Phases (slice, ny, nx) [rad].
        sampling: Pixel size (y, x) [Å].
        depths: Depth of the middle of every slice (slice,) [Å], NaN where it is not known.
        hull: Corners of the scanned field (corner, 2), (y, x) [Å].
    """
    chosen = np.unique(np.linspace(0, len(stack) - 1, min(len(stack), MOST_SLICES)).round().astype(int))
    mask = field.inside(stack.shape[1:], sampling, hull)
    part = field.window(stack.shape[1:], sampling, hull)
    look: dict[str, Any] = {"corner": _corner(part, sampling), "alpha": _cut(mask[part])}
    panels = [stack[i][part] - _mean(stack[i][mask]) for i in chosen]
    limits = style.colour_range(np.stack(panels)[:, mask[part]], *RANGE)
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    width = min(3.2, 8.0 / columns)
    figure = style.new_figure(rows * (0.93 * width * _aspect(panels[0], sampling) + 0.55) + 0.1, width * columns + 1.0)
    grid = np.atleast_2d(figure.subplots(rows, columns, squeeze=False))
    for axes, panel, i in zip(grid.flat, panels, chosen, strict=False):
        drawn = _map(axes, panel, sampling, limits, **look)
        axes.set_title(f"slice {i + 1}" + (f", z = {depths[i]:.1f} Å" if np.isfinite(depths[i]) else ""))
        style.scale_bar(axes)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    style.blank_shared(grid)
    for axes in grid[-2][len(panels) - columns * (rows - 1) :] if rows > 1 else ():
        axes.set_xlabel("x [Å]")
        axes.tick_params(labelbottom=True)
    bar = ScalarMappable(drawn.norm, drawn.cmap)
    style.colour_bar(figure, bar, list(grid.flat[: len(panels)]), "phase [rad]", extend="both")
    return figure


@style.look
def found_and_true(
    found: np.ndarray, true: np.ndarray, sampling: tuple[float, float], *, hull: np.ndarray | None = None
) -> Figure:
    """Found phase, true phase on the same colour range, and their difference.

    Args:
        found: Found phase (ny, nx) [rad].
        true: True phase on the same pixels (ny, nx) [rad], NaN where unknown.
        sampling: Pixel size (y, x) [Å].
        hull: Corners of the field to show (corner, 2), (y, x) [Å].
    """
    mask, part = field.inside(found.shape, sampling, hull), field.window(found.shape, sampling, hull)
    found, true, mask = found[part], true[part], mask[part]
    known = np.isfinite(true) & np.isfinite(found) & mask
    found, true = (image - (_mean(image[known]) if known.any() else 0.0) for image in (found, true))
    limits = style.colour_range(np.stack([found, true])[:, mask], *RANGE)
    difference = found - true
    span = max(abs(limit) for limit in style.colour_range(difference[mask], *RANGE))
    look: dict[str, Any] = {"corner": _corner(part, sampling), "alpha": _cut(mask)}
    figure = style.new_figure(2.6 * _aspect(found, sampling) + 1.6)
    row = figure.subplots(1, 3)
    for axes, image, title in zip(row[:2], (found, true), ("found", "true"), strict=True):
        drawn = _map(axes, image, sampling, limits, **look)
        axes.set_title(title)
    changed = _map(row[2], difference, sampling, (-span, span), cmap=style.DIFFERENCE, **look)
    row[2].set_title("found − true")
    for axes in row:
        style.scale_bar(axes)
    style.blank_shared(row[None, :])
    bar = {"location": "bottom", "extend": "both"}
    phases, changes = (ScalarMappable(image.norm, image.cmap) for image in (drawn, changed))
    style.colour_bar(figure, phases, list(row[:2]), "phase [rad]", shrink=0.6, **bar)
    style.colour_bar(figure, changes, row[2], "phase difference [rad]", **bar)
    return figure


@style.look
def true_alone(
    found: np.ndarray, sampling: tuple[float, float], true: np.ndarray, true_sampling: tuple[float, float]
) -> Figure:
    """Found and true phase side by side, each on its own pixels, where they could not be brought to one grid."""
    figure = style.new_figure(4.6)
    row = figure.subplots(1, 2)
    for axes, image, pixel, title in zip(row, (found, true), (sampling, true_sampling), ("found", "true"), strict=True):
        image = image - _mean(image)
        drawn = _map(axes, image, pixel, style.colour_range(image, *RANGE))
        axes.set_title(title)
        style.scale_bar(axes)
        style.colour_bar(figure, drawn, axes, "phase [rad]", location="bottom", extend="both")
    return figure


def _map(
    axes: Axes, image: np.ndarray, sampling: tuple[float, float], limits: tuple[float, float], **options: Any
) -> AxesImage:
    """An image of the object between two values."""
    return style.show_image(
        axes, image, sampling, **{"cmap": style.INTENSITY, **options}, vmin=limits[0], vmax=limits[1]
    )


def _corner(part: tuple[slice, slice], sampling: tuple[float, float]) -> tuple[float, float]:
    """Where the first pixel of a part lies (y, x) [Å]."""
    return part[0].start * sampling[0], part[1].start * sampling[1]


def _cut(mask: np.ndarray) -> np.ndarray:
    """Opacity of a map that shows the field and hardly what is around it; the ragged edge of a scan is kept."""
    from scipy.ndimage import binary_dilation

    return np.where(binary_dilation(mask, iterations=2), 1.0, 0.15)


def _aspect(image: np.ndarray, sampling: tuple[float, float]) -> float:
    """Height over width of an image; very long ones are shown with empty bands."""
    return float(np.clip(image.shape[0] * sampling[0] / (image.shape[1] * sampling[1]), 0.35, 1.6))


def _mean(image: np.ndarray) -> float:
    finite = image[np.isfinite(image)]
    return float(finite.mean()) if finite.size else 0.0
