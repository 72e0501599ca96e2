"""Figures of curves: the loss over the epochs, the Fourier ring correlation."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stemjax.report import style


@style.look
def loss_curve(loss: np.ndarray, held_out: np.ndarray | None = None) -> Figure:
    """The loss over the epochs, and how far it is above its lowest value on a logarithmic scale.

    Args:
        loss: Mean negative log-likelihood of a pattern (epoch,) [nat].
        held_out: The same over patterns that were not fitted (epoch,) [nat].

    Returns:
        The figure; epochs without a finite loss are gaps.
    """
    figure = style.new_figure(3.4)
    plain, excess = figure.subplots(1, 2)
    for values, name, colour in ((loss, "fitted patterns", style.FOUND), (held_out, "held-out patterns", style.TRUTH)):
        if values is None:
            continue
        epochs = np.arange(1, len(values) + 1)
        look = {"color": colour, "lw": 1.5, "marker": "o" if len(values) <= 30 else "", "ms": 3.5}
        plain.plot(epochs, values, label=name, **look)
        above = _above_lowest(values)
        if np.isfinite(above).any():
            excess.semilogy(epochs, above, **look)
    plain.set_ylabel("negative log-likelihood [nat / pattern]")
    excess.set_ylabel("above its lowest value [nat / pattern]")
    for axes in (plain, excess):
        axes.set_xlabel("epoch [count]")
        _plain_axes(axes)
    plain.ticklabel_format(axis="y", useOffset=False)
    if held_out is not None:
        plain.legend(frameon=False)
    return figure


def _above_lowest(values: np.ndarray) -> np.ndarray:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.full(len(values), np.nan)
    above = values - finite.min()
    return np.where(above > 0, above, np.nan)


@style.look
def ring_correlation_curve(
    frequency: np.ndarray,
    correlation: np.ndarray,
    threshold: np.ndarray | None = None,
    *,
    resolution: float | None = None,
    limited: bool = False,
) -> Figure:
    """Fourier ring correlation of found and true phase, with the threshold and the resolution.

    Args:
        frequency: Radius of the rings (ring,) [1/Å].
        correlation: FRC (ring,).
        threshold: What is surely above 0.5 (ring,).
        resolution: Resolution [Å], marked by a line.
        limited: Whether that is only the limit of the pixels.
    """
    figure = style.new_figure(3.6)
    axes = figure.subplots()
    axes.plot(frequency, correlation, color=style.FOUND, lw=1.6, label="found and true phase")
    if threshold is not None and threshold.shape == frequency.shape:
        axes.plot(frequency, threshold, color=style.TRUTH, lw=1.2, ls="--", label="0.5 and three σ")
    axes.axhline(0.5, color=style.START, lw=1.0, ls=":", label="0.5")
    axes.axhline(0, color="black", lw=0.6)
    if resolution is not None and np.isfinite(resolution):
        words = f"better than {resolution:.3g} Å (limit of the pixels)" if limited else f"{resolution:.3g} Å"
        axes.axvline(1 / resolution, color="black", lw=0.9, ls="-.", label=words)
    axes.set(xlabel="spatial frequency [1/Å]", ylabel="ring correlation [1]", xlim=(0, 1.02 * frequency[-1]))
    axes.set_ylim(min(-0.15, float(np.nanmin(correlation, initial=0.0)) - 0.05), 1.05)
    _plain_axes(axes)
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, borderaxespad=0.2)
    return figure


def _plain_axes(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    if axes.get_xlabel().startswith("epoch"):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
