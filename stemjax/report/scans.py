"""Figure of the scan: where the positions started and where they were found."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stemjax.report import style

MOST_ARROWS = 900
"""Arrows drawn at most, about; of longer scans an even share."""


def displacements(found: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Found − start (pattern, 2) without the mean, which the object shares and no pattern tells.

    >>> displacements(np.array([[1.0, 0.0], [3.0, 0.0]]), np.zeros((2, 2)))[:, 0].tolist()
    [-1.0, 1.0]
    """
    move = found - start
    finite = np.isfinite(move).all(axis=1)
    return move - (move[finite].mean(axis=0) if finite.any() else 0.0)


@style.look
def position_map(found: np.ndarray, start: np.ndarray, true: np.ndarray | None = None) -> Figure:
    """Displacement of every scan position, as arrows on the scan and as a histogram.

    Args:
        found: Found positions (pattern, 2), (y, x) [Å].
        start: Positions at the start (pattern, 2) [Å].
        true: True positions (pattern, 2) [Å]; with them the histogram shows the error before and after.

    Returns:
        The figure; the mean displacement is taken out.
    """
    figure = style.new_figure(4.4)
    field, histogram = figure.subplots(1, 2, width_ratios=(1.25, 1.0))
    move = displacements(found, start)
    _arrows(figure, field, start, move)
    sets = [("moved", np.hypot(*move.T), style.FOUND)]
    if true is not None:
        sets = [
            (name, np.hypot(*displacements(positions, true).T), colour)
            for name, positions, colour in (
                ("error at the start", start, style.START),
                ("error found", found, style.FOUND),
            )
        ]
    _histogram(histogram, sets)
    return figure


def _arrows(figure: Figure, axes: Axes, start: np.ndarray, move: np.ndarray) -> None:
    length = np.hypot(*move.T)
    shown = _thinned(start)
    typical = np.percentile(length[np.isfinite(length)], 95) if np.isfinite(length).any() else 0.0
    magnify = _magnification(start[shown], float(typical))
    y, x = start[shown].T
    v, u = move[shown].T * magnify
    axes.plot(x, y, ".", color=style.START, ms=1.2, zorder=1)
    look: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "scale": 1.0, "width": 0.0032, "cmap": "viridis"}
    look |= {"headwidth": 3.5, "headlength": 4.0, "headaxislength": 3.6, "minshaft": 1.0, "minlength": 0.1}
    arrows = axes.quiver(x, y, u, v, 100 * length[shown], clim=(0.0, 100 * max(float(typical), 1e-4)), **look)
    axes.set(xlabel="x [Å]", ylabel="y [Å]", aspect="equal", title=f"displacement, arrows drawn × {magnify:g}")
    finite = np.isfinite(u) & np.isfinite(v)
    axes.update_datalim(np.stack([x + u, y + v], axis=1)[finite])  # quiver counts the tails only
    axes.autoscale_view()
    axes.invert_yaxis()
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    axes.set_facecolor("#f4f4f4")
    style.colour_bar(figure, arrows, axes, "displacement [pm]", extend="max")


def _thinned(points: np.ndarray) -> np.ndarray:
    """Indices of at most about `MOST_ARROWS` points: of a raster, one of every few in both directions."""
    if len(points) <= MOST_ARROWS:
        return np.arange(len(points))
    span = np.maximum(np.ptp(points, axis=0), 1e-9)
    apart = np.sqrt(np.prod(span)) / (np.sqrt(len(points)) - 1)
    cell = ((points - points.min(axis=0)) / (np.ceil(np.sqrt(len(points) / MOST_ARROWS)) * apart) + 1e-3).astype(int)
    return np.unique(cell, axis=0, return_index=True)[1]


def _magnification(points: np.ndarray, typical: float) -> float:
    """A round factor that draws the typical displacement about as long as the points are apart, so that it is seen."""
    area = np.prod(np.maximum(np.ptp(points, axis=0), 1e-9))
    apart = np.sqrt(area / max(len(points), 1)) if len(points) > 3 else max(float(np.ptp(points)), 1.0)
    if typical <= 0 or not np.isfinite(apart) or apart <= 0:
        return 1.0
    return style.round_length(max(2.0 * apart / typical, 1e-3))


def _histogram(axes: Axes, sets: list[tuple[str, np.ndarray, str]]) -> None:
    lengths = [100 * length[np.isfinite(length)] for _, length, _ in sets]
    top = max((float(np.percentile(length, 99.5)) for length in lengths if length.size), default=1.0)
    edges = np.linspace(0.0, max(top, 1e-3), 31).tolist()
    for (name, _, colour), length in zip(sets, lengths, strict=True):
        rms = np.sqrt(np.mean(length**2)) if length.size else np.nan
        look: dict[str, Any] = {"histtype": "stepfilled", "alpha": 0.55, "color": colour, "ec": colour}
        axes.hist(np.minimum(length, edges[-1]), edges, label=f"{name}: rms {rms:.3g} pm", **look)
    axes.set(xlabel="distance [pm]", ylabel="positions [count]", xlim=(0, edges[-1]))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper right")
    low, high = axes.get_ylim()
    axes.set_ylim(low, 1.18 * high)
