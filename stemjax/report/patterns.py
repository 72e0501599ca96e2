"""Figures of diffraction patterns: measured, modelled, and what is left in units of the noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from stemjax.report import style

MOST_PATTERNS = 4
"""Patterns drawn at most."""

LIT = 0.1
"""Expected electrons from which on a pixel counts for the rms of the difference; darker ones are a matter of luck."""


def poisson_residual(measured: np.ndarray, modelled: np.ndarray) -> np.ndarray:
    r"""Difference in standard deviations of the counting noise.

    .. math:: z = (n - \lambda) / \sqrt{\lambda}

    Args:
        measured: Counts n.
        modelled: Expected counts λ.

    Returns:
        z, of the same shape; where λ is below 1e-3 counts, as if it were that: one electron there then shows as z ≈ 30.

    >>> poisson_residual(np.array([110.0, 0.0]), np.array([100.0, 0.0])).round(3).tolist()
    [1.0, 0.0]
    """
    return (measured - modelled) / np.sqrt(np.maximum(modelled, 1e-3))


@style.look
def pattern_comparison(
    measured: np.ndarray,
    modelled: np.ndarray,
    *,
    titles: Sequence[str],
    sampling: tuple[float, float] | None = None,
    semiangle: float | None = None,
) -> Figure:
    """Measured and modelled patterns with one scale of counts, and their difference in sigma of the Poisson noise.

    Args:
        measured: Counts (n, ky, kx), zero frequency in the centre.
        modelled: Expected counts, the same shape.
        titles: Title of every pattern (n,).
        sampling: Size of a detector pixel (y, x) [mrad]; axes in pixels where it is not known.
        semiangle: Convergence semi-angle [mrad], drawn as a circle.

    Returns:
        The figure; counts on a square-root scale, on which the noise of all pixels is alike.
    """
    measured, modelled = measured[:MOST_PATTERNS], modelled[:MOST_PATTERNS]
    n, units = len(measured), ("mrad" if sampling else "pixel")
    pixel = sampling or (1.0, 1.0)
    residual = poisson_residual(measured, modelled)
    top = max(style.colour_range(np.stack([measured, modelled]), 0, 99.95)[1], 1e-6)
    counts = PowerNorm(0.5, 0.0, top)
    width = min(style.WIDTH, 2.1 * n + 1.2)
    figure = style.new_figure(3 * (width - 1.0) / n * _ratio(measured, pixel) + 0.75, width)
    grid = figure.subplots(3, n, squeeze=False)
    looks: tuple[dict, ...] = ({"cmap": style.INTENSITY, "norm": counts},) * 2
    looks += ({"cmap": style.DIFFERENCE, "vmin": -4.0, "vmax": 4.0},)
    drawn = {}
    for row, (stack, look) in enumerate(zip((measured, modelled, residual), looks, strict=True)):
        for column in range(n):
            drawn[row] = style.show_image(
                grid[row, column], stack[column], pixel, units=units, symbol=r"\theta", centred=True, **look
            )
            if row < 2:
                style.scale_bar(grid[row, column], units)
            if semiangle and sampling:
                grid[row, column].add_patch(Circle((0, 0), semiangle, fill=False, ls="--", lw=0.7, ec="#4fae62"))
    _titles(grid, titles, modelled, residual)
    style.blank_shared(grid)
    style.colour_bar(
        figure, drawn[0], list(grid[:2].flat), "electrons per pixel [count]", extend="max", ticks=_ticks(top)
    )
    style.colour_bar(figure, drawn[2], list(grid[2]), "difference [σ]", extend="both")
    return figure


def _titles(grid: np.ndarray, titles: Sequence[str], modelled: np.ndarray, residual: np.ndarray) -> None:
    for column in range(grid.shape[1]):
        grid[0, column].set_title(f"{titles[column]}\nmeasured")
        grid[1, column].set_title("modelled")
        z = residual[column][modelled[column] >= LIT]
        spread = f", rms {np.sqrt(np.mean(z**2)):.2f} σ" if z.size else ""
        grid[2, column].set_title(f"difference{spread}")


def _ticks(top: float) -> list[float]:
    """Round numbers about evenly spaced on a square-root scale."""
    return sorted({0.0, *(style.round_length(top * fraction) for fraction in (0.01, 0.05, 0.15, 0.4, 1.0))})


def _ratio(stack: np.ndarray, pixel: tuple[float, float]) -> float:
    return float(np.clip(stack.shape[1] * pixel[0] / (stack.shape[2] * pixel[1]), 0.4, 1.6))
