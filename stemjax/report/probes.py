"""Figures of the probe: its modes in real space and in the aperture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from stemjax.report import style

MOST_MODES = 4
"""Modes drawn at most, the strongest first."""


@dataclass(frozen=True)
class Wave:
    """A probe wave with the title of its row.

    Args:
        wave: Complex wave in real space, centred (ny, nx).
        title: What it is ("mode 1: 93 %", "start", "true").
    """

    wave: np.ndarray
    title: str


def occupancies(modes: np.ndarray) -> np.ndarray:
    """Share of every mode (mode ny nx) in the total intensity (mode,); NaN where there is none.

    >>> occupancies(np.array([[[2.0]], [[1.0]], [[0.0]]])).tolist()
    [0.8, 0.2, 0.0]
    """
    power = (np.abs(modes) ** 2).sum(axis=(1, 2))
    return power / power.sum() if power.sum() > 0 else np.full(len(modes), np.nan)


def aperture_wave(wave: np.ndarray) -> np.ndarray:
    """Fourier transform of a centred wave, zero frequency in the centre (ny, nx).

    >>> wave = np.zeros((4, 4)); wave[2, 2] = 1.0
    >>> bool(np.allclose(aperture_wave(wave), 1.0))
    True
    """
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(wave)))


@style.look
def probe_modes(
    waves: Sequence[Wave],
    sampling: tuple[float, float],
    *,
    wavelength: float | None = None,
    semiangle: float | None = None,
) -> Figure:
    """Intensity and phase of waves, one a row, in real space and in the aperture.

    Args:
        waves: The waves, all of one shape.
        sampling: Pixel size (y, x) [Å].
        wavelength: Wavelength [Å]; with it the aperture has axes in mrad, else in 1/Å.
        semiangle: Convergence semi-angle [mrad], drawn as a circle.

    Returns:
        The figure; brightness of the phase panels follows the amplitude, since a phase without amplitude means nothing.
    """
    scale = 1e3 * wavelength if wavelength else 1.0
    units = "mrad" if wavelength else "1/Å"
    shape = waves[0].wave.shape
    angular = (scale / (shape[0] * sampling[0]), scale / (shape[1] * sampling[1]))
    waves = [Wave(_without_global_phase(item.wave), item.title) for item in waves]
    figure = style.new_figure(2.05 * len(waves) + 0.95)
    grid = figure.subplots(len(waves), 4, squeeze=False)
    reach = _reach(waves[0].wave, sampling)
    field = (1.35 * semiangle) if (semiangle and wavelength) else _reach(aperture_wave(waves[0].wave), angular)
    for row, item in zip(grid, waves, strict=True):
        _pair(row[:2], item.wave, sampling, "Å", "", reach)
        _pair(row[2:], aperture_wave(item.wave), angular, units, r"\theta" if wavelength else "k", field)
        row[0].set_title(item.title)
        row[2].set_title("in the aperture")
        if semiangle and wavelength:
            for axes in row[2:]:
                axes.add_patch(Circle((0, 0), semiangle, fill=False, ls="--", lw=1.0, ec="#5f9e6e"))
    _labels_outside(grid)
    _bars(figure, grid)
    return figure


def _pair(
    pair: np.ndarray, wave: np.ndarray, sampling: tuple[float, float], units: str, symbol: str, reach: float
) -> None:
    """Intensity, relative to its largest, and phase of a wave, both cut to ±reach."""
    top = max(float(np.abs(np.nan_to_num(wave)).max()), 1e-30)
    look: dict[str, Any] = {"units": units, "symbol": symbol, "centred": True}
    style.show_image(pair[0], (np.abs(wave) / top) ** 2, sampling, cmap=style.INTENSITY, vmin=0.0, vmax=1.0, **look)
    style.show_image(pair[1], phase_colours(wave), sampling, **look)
    for axes, colour in zip(pair, ("white", "black"), strict=True):
        _zoom(axes, reach)
        style.scale_bar(axes, units) if colour == "white" else None


def _without_global_phase(wave: np.ndarray) -> np.ndarray:
    """The wave turned so that its mean, the zero frequency, is real: the phase as a whole has no meaning."""
    mean = wave.mean()
    return wave * np.conj(mean) / abs(mean) if abs(mean) > 1e-6 * np.abs(wave).max() else wave


def phase_colours(wave: np.ndarray) -> np.ndarray:
    """Colours (ny, nx, 4) of the phase on a cyclic map, fading to white where the amplitude vanishes.

    >>> phase_colours(np.zeros((2, 2)))[0, 0].tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    wave = np.nan_to_num(wave)
    amplitude = np.abs(wave) / max(float(np.abs(wave).max()), 1e-30)
    colours = matplotlib.colormaps[style.CYCLIC](Normalize(-np.pi, np.pi)(np.angle(wave)))
    # Full colour from a tenth of the largest amplitude on: 1 % of the intensity.
    weight = np.clip(amplitude / 0.1, 0.0, 1.0)[..., None]
    # Rounding in single precision may carry a blend a hair past one.
    return np.clip(weight * colours + (1.0 - weight) * np.ones(4), 0.0, 1.0)


def _reach(wave: np.ndarray, sampling: tuple[float, float]) -> float:
    """Half side of the centred square that shows a wave: 1.5 times the radius holding 98 % of its intensity."""
    y, x = ((np.arange(n) - n // 2) * s for n, s in zip(wave.shape, sampling, strict=True))
    power = np.abs(np.nan_to_num(wave)).ravel() ** 2
    radius = np.hypot(y[:, None], x[None, :]).ravel()
    order = np.argsort(radius)
    total = np.cumsum(power[order])
    if total[-1] <= 0:
        return float(radius.max())
    return float(max(1.5 * radius[order][np.searchsorted(total, 0.98 * total[-1])], 6 * max(sampling)))


def _zoom(axes: Axes, reach: float) -> None:
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    axes.set_xlim(max(left, -reach), min(right, reach))
    axes.set_ylim(min(bottom, reach), max(top, -reach))


def _labels_outside(grid: np.ndarray) -> None:
    """Real space and aperture share their axes only among themselves."""
    for half in (grid[:, :2], grid[:, 2:]):
        style.blank_shared(half)


def _bars(figure: Figure, grid: np.ndarray) -> None:
    bar = {"location": "bottom", "shrink": 0.8}
    for first in (0, 2):
        intensity = ScalarMappable(Normalize(0, 1), style.INTENSITY)
        style.colour_bar(figure, intensity, list(grid[:, first]), "intensity [of its largest]", **bar)
        phase = ScalarMappable(Normalize(-np.pi, np.pi), style.CYCLIC)
        style.colour_bar(figure, phase, list(grid[:, first + 1]), "phase [rad]", ticks=[-3, -1.5, 0, 1.5, 3], **bar)
