"""Error bars of a result: every quantity in units of its own standard deviation, and how the quantities go together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stemjax.inference.result import Result
from stemjax.report import contents, style
from stemjax.report.numbers import formatted

MOST = 32
"""Quantities in a figure at most; the first elements of long arrays stand for them."""

LONGEST = 48
"""Letters of a label at most, so that names from a stranger's file leave room for the picture."""


@dataclass(frozen=True)
class Bar:
    """One number with its error bar, and what it is compared with: its truth where that is known, else its start."""

    name: str
    value: float
    spread: float
    other: float | None
    units: str

    @property
    def offset(self) -> float | None:
        """Distance from what it is compared with, in standard deviations."""
        return None if self.other is None or not self.spread > 0 else (self.value - self.other) / self.spread


def bars(result: Result) -> list[Bar]:
    """The numbers of a result that have error bars, single ones first, then arrays element by element.

    >>> from stemjax.inference.result import Named
    >>> a = Named(np.array([1.0, 2.0]), "Å", ("axis0",), "a")
    >>> [bar.name for bar in bars(Result("fit", {"a": a}, uncertainty={"a": a}))]
    ['a[0]', 'a[1]']
    """
    found: list[Bar] = []
    for name in sorted(result.uncertainty, key=lambda n: np.size(result.uncertainty[n].value)):
        named = result.estimate.get(name)
        if named is None or np.iscomplexobj(named.value):
            continue
        value, spread = np.asarray(named.value, float), np.asarray(result.uncertainty[name].value, float)
        other = contents.values(contents.entry(result.diagnostics, f"{compared_with(result)}/{name}"))
        for index in np.ndindex(value.shape):
            if len(found) == MOST:
                return found
            label = name + (f"[{','.join(map(str, index))}]" if index else "")
            against = None if other is None or other.shape != value.shape else float(other[index])
            found.append(Bar(label, float(value[index]), float(spread[index]), against, named.units))
    return found


def compared_with(result: Result) -> str:
    """ "truth" where a result knows it, else "initial"."""
    return "truth" if result.diagnostics.get("truth") else "initial"


@style.look
def figure(result: Result) -> tuple[str, Figure] | None:
    """Caption and figure, or None where a result has no error bars."""
    shown = [bar for bar in bars(result) if np.isfinite(bar.spread)]
    if not shown:
        return None
    matrix = correlations(result, [bar.name for bar in shown])
    made = style.new_figure(1.2 + 0.24 * len(shown))
    panels = made.subplots(1, 1 if matrix is None else 2, squeeze=False)[0]
    _forest(panels[0], shown, compared_with(result))
    if matrix is not None:
        _correlations(panels[1], matrix)
    what = "the truth" if compared_with(result) == "truth" else "the first guess"
    caption = f"Left: distance of every quantity from {what} in units of its own standard deviation; the band is ±1."
    more = " Right: correlations of the posterior's draws, quantities in the same order." if matrix is not None else ""
    return caption + more, made


def _forest(axes: Axes, shown: list[Bar], against: str) -> None:
    rows = np.arange(len(shown))
    offsets = np.array([np.nan if bar.offset is None else bar.offset for bar in shown])
    reach = max(3.0, 1.2 + float(np.nanmax(np.abs(offsets)))) if np.isfinite(offsets).any() else 3.0
    # Far first guesses must not squeeze the error bars to nothing: the axis is linear about zero, then logarithmic.
    if reach > 10:
        axes.set_xscale("symlog", linthresh=3.0)
    axes.axvspan(-1.0, 1.0, color=style.FOUND, alpha=0.12, linewidth=0)
    axes.axvline(0.0, color=style.TRUTH if against == "truth" else style.START, linewidth=1.0)
    axes.errorbar(offsets, rows, xerr=1.0, fmt="o", color=style.FOUND, markersize=4, linewidth=1.2)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    labels = [_shortened(f"{bar.name}  {formatted(bar.value, bar.units, bar.spread)}") for bar in shown]
    axes.set_yticks(rows, labels, parse_math=False)
    axes.set_ylabel("quantity [unit beside it]")
    axes.set_xlabel(f"found − {'truth' if against == 'truth' else 'start'} [standard deviations]")


def _shortened(label: str) -> str:
    return label if len(label) <= LONGEST else label[: LONGEST - 1] + "…"


def _correlations(axes: Axes, matrix: np.ndarray) -> None:
    drawn = axes.imshow(matrix, cmap=style.DIFFERENCE, vmin=-1.0, vmax=1.0)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.figure.colorbar(drawn, ax=axes, shrink=0.8, label="correlation [1]")


def correlations(result: Result, names: list[str]) -> np.ndarray | None:
    """Correlation matrix of some numbers from the draws, or None where there are no draws or only one number.

    Args:
        result: The result.
        names: Labels as of `bars`.
    """
    columns = []
    for name in names:
        path, _, index = name.partition("[")
        draws = result.samples.get(path)
        if draws is None:
            return None
        axes = draws.value.ndim - result.estimate[path].value.ndim
        flat = np.asarray(draws.value).reshape(-1, *draws.value.shape[axes:])
        where = tuple(int(i) for i in index.rstrip("]").split(",")) if index else ()
        columns.append(flat.reshape(len(flat), -1)[:, int(np.ravel_multi_index(where, flat.shape[1:])) if where else 0])
    if len(columns) < 2 or len(columns[0]) < 10:
        return None
    return np.corrcoef(np.array(columns))
