"""The figures of a report in their order: which one a result has the data for, its file name and its caption."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from stemjax.inference.result import Result
from stemjax.report import contents, curves, error_bars, object_plates, patterns, probes, scans
from stemjax.report.object_plates import Made


@dataclass(frozen=True)
class Plate:
    """A figure of the report.

    Args:
        name: File name without ending; letters and underscores only.
        title: Heading above the figure.
        caption: What is to be seen, in plain text.
        figure: The figure.
    """

    name: str
    title: str
    caption: str
    figure: Figure


HELD_OUT = ("held_out_loss", "loss_held_out", "held_out")
"""Names under which the loss of patterns that were not fitted may stand."""


def plates(result: Result) -> Iterator[Plate]:
    """The figures that a result has the data for, made one at a time.

    >>> list(plates(Result("ptychography", {})))
    []
    """
    for name, title, make in MAKERS:
        made = make(result)
        if made is not None:
            yield Plate(name, title, *made)


def probe(result: Result) -> Made:
    """The modes of the probe, and the first one at the start and in truth."""
    named = result.estimate.get("probe")
    modes = contents.image_stack(named)
    if modes is None or not np.isfinite(modes).all() or not np.abs(modes).any():
        return None
    shares = probes.occupancies(modes)
    order = np.argsort(shares)[::-1][: probes.MOST_MODES]
    waves = [probes.Wave(modes[i], f"mode {rank + 1}: {100 * shares[i]:.1f} %") for rank, i in enumerate(order)]
    if len(modes) == 1:
        waves = [probes.Wave(modes[0], "found")]
    for where, title in (("initial", "start"), ("truth", "true")):
        other = contents.image_stack(contents.entry(result.diagnostics, f"{where}/probe"))
        if other is not None and other.shape[1:] == modes.shape[1:] and np.isfinite(other).all():
            waves.append(probes.Wave(other[int(np.argmax(probes.occupancies(other)))], title))
    wave, semiangle = contents.electron_wavelength(result), contents.setting(result, "semiangle")
    figure = probes.probe_modes(waves, contents.pixel_size(named), wavelength=wave, semiangle=semiangle)
    caption = "Intensity and phase in real space (left) and in the aperture (right); phase fades where intensity does."
    return caption + (f" Dashed: the aperture of {semiangle:g} mrad." if semiangle and wave else ""), figure


def diffraction_patterns(result: Result) -> Made:
    """Measured and modelled patterns."""
    measured, modelled = (
        contents.image_stack(contents.entry(result.diagnostics, f"patterns/{which}"))
        for which in ("measured", "modelled")
    )
    if measured is None or modelled is None or measured.shape != modelled.shape:
        return None
    index = contents.values(contents.entry(result.diagnostics, "patterns/index"))
    numbers = np.arange(len(measured)) if index is None or index.size < len(measured) else index.ravel()
    sampling = contents.values(contents.entry(result.diagnostics, "patterns/sampling"))
    pixel = None if sampling is None or not (sampling > 0).all() else np.resize(sampling.astype(float), 2)
    figure = patterns.pattern_comparison(
        measured.astype(float),
        modelled.astype(float),
        titles=[f"pattern {int(i)}" for i in numbers],
        sampling=None if pixel is None else (float(pixel[0]), float(pixel[1])),
        semiangle=contents.setting(result, "semiangle"),
    )
    caption = (
        "Counts on a square-root scale, the same for all. The difference is in standard deviations of counting noise: "
        f"its rms, over pixels that expect at least {patterns.LIT} electrons, is 1 where the model tells all."
    )
    return caption, figure


def positions(result: Result) -> Made:
    """Where the scan positions went."""
    found = contents.scan_positions(result.estimate)
    start = contents.scan_positions(result.diagnostics, "initial/")
    if found is None or start is None or found.shape != start.shape or len(found) < 2:
        return None
    if not np.isfinite(found).all() or not np.isfinite(start).all() or np.allclose(found, start, rtol=0, atol=1e-9):
        return None
    true = contents.scan_positions(result.diagnostics, "truth/")
    true = true if true is not None and true.shape == found.shape and np.isfinite(true).all() else None
    caption = (
        "Displacement of the scan positions from where they started; their mean, which no data can tell, is taken out. "
        "The arrows are drawn longer than they are, by the factor in the title."
    )
    if len(found) > scans.MOST_ARROWS:
        caption += " Not every position is drawn on the map; all are in the histogram."
    return caption, scans.position_map(found, start, true)


def loss(result: Result) -> Made:
    """The loss over the epochs."""
    values = _curve(result, "loss")
    held_out = next((v for name in HELD_OUT if (v := _curve(result, name)) is not None), None)
    if values is None:
        return None
    caption = "Negative log-likelihood of the data, mean of a pattern. Right: how far it is above its lowest value."
    return caption, curves.loss_curve(values, held_out)


def ring_correlation(result: Result) -> Made:
    """Up to which frequency found and true phase agree."""
    frequency, correlation, threshold = (
        _curve(result, f"metrics/ring_correlation/{name}") for name in ("frequency", "correlation", "threshold")
    )
    if frequency is None or correlation is None or frequency.shape != correlation.shape:
        return None
    said = contents.resolution(result)
    caption = "Fourier ring correlation of the found phase with the noise-free true one in the scanned field."
    if said is not None:
        length, limited = said
        caption += (
            " Against a noise-free truth 0.5 is what 1/7 is between two halves of a data set; the dashed line is "
        )
        caption += "three standard deviations above it, in every ring. "
        where = "It is above it up to the finest ring: the resolution is better than {} Å, the limit of the pixels."
        caption += (where if limited else "It is last above it at {} Å.").format(f"{length:.3g}")
    mark = None if said is None else said[0]
    limited = said is not None and said[1]
    return caption, curves.ring_correlation_curve(frequency, correlation, threshold, resolution=mark, limited=limited)


def _curve(result: Result, path: str) -> np.ndarray | None:
    array: Any = contents.values(contents.entry(result.diagnostics, path))
    return None if array is None or np.iscomplexobj(array) else array.ravel().astype(float)


MAKERS: tuple[tuple[str, str, Callable[[Result], Made]], ...] = (
    ("object_phase", "Object phase", object_plates.object_phase),
    ("object_truth", "Object found and true", object_plates.object_against_truth),
    ("ring_correlation", "Fourier ring correlation", ring_correlation),
    ("probe", "Probe", probe),
    ("patterns", "Diffraction patterns measured and modelled", diffraction_patterns),
    ("positions", "Scan positions", positions),
    ("loss", "Loss", loss),
    ("error_bars", "Error bars", error_bars.figure),
    ("object_slices", "Slices of the object", object_plates.object_slices),
    ("object_amplitude", "Object amplitude", object_plates.object_amplitude),
    ("object_uncertainty", "Uncertainty of the object", object_plates.phase_uncertainty),
)
