"""Figures of the object: phase, slices, amplitude, found against true."""

from __future__ import annotations

import numpy as np
from matplotlib import patheffects
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from stemjax.report import style

MOST_SLICES = 8
"""Slices drawn at most; more are thinned evenly."""

Box = tuple[float, float, float, float]
"""Rectangle (top, bottom, left, right) [Å]."""


@style.look
def object_image(
    image: np.ndarray,
    sampling: tuple[float, float],
    *,
    label: str = "phase [rad]",
    colours: str = style.INTENSITY,
    box: Box | None = None,
    centre: bool = True,
) -> Figure:
    """One map of the object with a scale bar, a colour bar and the scanned field as a dashed rectangle.

    Args:
        image: Map (ny, nx).
        sampling: Pixel size (y, x) [Å].
        label: What the colours mean, with its unit.
        colours: Name of the colour map.
        box: Scanned field (top, bottom, left, right) [Å]; the colour range is taken inside it.
        centre: Subtract the mean inside the box, where a constant has no meaning.

    Returns:
        The figure.

    >>> object_image(np.eye(8), (0.1, 0.1)).axes[0].get_xlabel()
    'x [Å]'
    """
    inside = crop(image, sampling, box)
    offset = _mean(inside) if centre else 0.0
    limits = style.colour_range(inside - offset)
    ratio = _aspect(image, sampling)
    width = min(6.4, 5.2 / ratio)
    figure = style.new_figure(width * ratio + 0.6, width + 1.5)
    axes = figure.subplots()
    drawn = style.show_image(axes, image - offset, sampling, cmap=colours, vmin=limits[0], vmax=limits[1])
    if box is not None:
        top, bottom, left, right = box
        outline = [patheffects.withStroke(linewidth=1.8, foreground="black", alpha=0.6)]
        axes.add_patch(
            Rectangle(
                (left, top), right - left, bottom - top, fill=False, ls="--", lw=1.0, ec="white", path_effects=outline
            )
        )
    style.scale_bar(axes)
    style.colour_bar(figure, drawn, axes, label, extend="both")
    return figure


@style.look
def slice_montage(
    stack: np.ndarray, sampling: tuple[float, float], depths: np.ndarray, *, box: Box | None = None
) -> Figure:
    """The phase of the slices [rad] on one colour range, cropped to the scanned field.

    Args:
        stack: Phases (slice, ny, nx) [rad].
        sampling: Pixel size (y, x) [Å].
        depths: Depth of the middle of every slice (slice,) [Å], NaN where it is not known.
        box: Scanned field (top, bottom, left, right) [Å].
    """
    chosen = np.unique(np.linspace(0, len(stack) - 1, min(len(stack), MOST_SLICES)).round().astype(int))
    panels = [crop(stack[i], sampling, box) for i in chosen]
    panels = [panel - _mean(panel) for panel in panels]
    limits = style.colour_range(np.stack(panels))
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    width = min(3.2, 8.0 / columns)
    figure = style.new_figure(rows * (0.93 * width * _aspect(panels[0], sampling) + 0.55) + 0.1, width * columns + 1.0)
    grid = np.atleast_2d(figure.subplots(rows, columns, squeeze=False))
    for axes, panel, i in zip(grid.flat, panels, chosen, strict=False):
        drawn = style.show_image(axes, panel, sampling, cmap=style.INTENSITY, vmin=limits[0], vmax=limits[1])
        axes.set_title(f"slice {i + 1}" + (f", z = {depths[i]:.1f} Å" if np.isfinite(depths[i]) else ""))
        style.scale_bar(axes)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    style.blank_shared(grid)
    for axes in grid[-2][len(panels) - columns * (rows - 1) :] if rows > 1 else ():
        axes.set_xlabel("x [Å]")
        axes.tick_params(labelbottom=True)
    style.colour_bar(figure, drawn, list(grid.flat[: len(panels)]), "phase [rad]", extend="both")
    return figure


@style.look
def found_and_true(
    found: np.ndarray, true: np.ndarray, sampling: tuple[float, float], *, box: Box | None = None
) -> Figure:
    """Found phase, true phase on the same colour range, and their difference.

    Args:
        found: Found phase (ny, nx) [rad].
        true: True phase on the same pixels (ny, nx) [rad], NaN where unknown.
        sampling: Pixel size (y, x) [Å].
        box: Field to show (top, bottom, left, right) [Å].
    """
    found, true = crop(found, sampling, box), crop(true, sampling, box)
    known = np.isfinite(true) & np.isfinite(found)
    found, true = (image - (_mean(image[known]) if known.any() else 0.0) for image in (found, true))
    limits = style.colour_range(np.stack([found, true]))
    difference = found - true
    span = max(abs(limit) for limit in style.colour_range(difference, 0.5, 99.5))
    figure = style.new_figure(2.6 * _aspect(found, sampling) + 1.6)
    row = figure.subplots(1, 3)
    for axes, image, title in zip(row[:2], (found, true), ("found", "true"), strict=True):
        drawn = style.show_image(axes, image, sampling, cmap=style.INTENSITY, vmin=limits[0], vmax=limits[1])
        axes.set_title(title)
    changed = style.show_image(row[2], difference, sampling, cmap=style.DIFFERENCE, vmin=-span, vmax=span)
    row[2].set_title("found − true")
    for axes in row:
        style.scale_bar(axes)
    style.blank_shared(row[None, :])
    bar = {"location": "bottom", "extend": "both"}
    style.colour_bar(figure, drawn, list(row[:2]), "phase [rad]", shrink=0.6, **bar)
    style.colour_bar(figure, changed, row[2], "phase difference [rad]", **bar)
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
        limits = style.colour_range(image)
        drawn = style.show_image(axes, image, pixel, cmap=style.INTENSITY, vmin=limits[0], vmax=limits[1])
        axes.set_title(title)
        style.scale_bar(axes)
        style.colour_bar(figure, drawn, axes, "phase [rad]", location="bottom", extend="both")
    return figure


def crop(image: np.ndarray, sampling: tuple[float, float], box: Box | None) -> np.ndarray:
    """The pixels of an image whose centres lie in a rectangle; the whole image where that holds fewer than 4 × 4.

    >>> crop(np.ones((8, 8)), (1.0, 1.0), (2.0, 5.0, 0.0, 3.0)).shape
    (4, 4)
    """
    if box is None:
        return image
    slices = []
    for n, s, low, high in zip(image.shape, sampling, box[::2], box[1::2], strict=True):
        slices.append(slice(max(0, int(np.ceil(low / s - 1e-9))), min(n, int(np.floor(high / s + 1e-9)) + 1)))
    part = image[slices[0], slices[1]]
    return part if min(part.shape) >= 4 else image


def _aspect(image: np.ndarray, sampling: tuple[float, float]) -> float:
    """Height over width of an image; very long ones are shown with empty bands."""
    return float(np.clip(image.shape[0] * sampling[0] / (image.shape[1] * sampling[1]), 0.35, 1.6))


def _mean(image: np.ndarray) -> float:
    finite = image[np.isfinite(image)]
    return float(finite.mean()) if finite.size else 0.0
