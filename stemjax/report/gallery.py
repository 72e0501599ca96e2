"""The figures of a report in their order: which one a result has the data for, its file name and its caption."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from stemjax.inference.result import Result
from stemjax.optics.electron import interaction_parameter
from stemjax.report import contents, curves, objects, patterns, probes, scans


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


Made = tuple[str, Figure] | None
"""Caption and figure; None where the result does not have the data."""

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


def object_phase(result: Result) -> Made:
    """The projected phase."""
    named = result.estimate.get("object_phase")
    stack = contents.image_stack(named)
    if stack is None:
        return None
    what = f"Sum of {len(stack)} slices. " if len(stack) > 1 else ""
    energy = contents.setting(result, "energy")
    if energy is not None and contents.electron_wavelength(result) is not None:
        what += f"1 rad is a projected potential of {1.0 / interaction_parameter(energy):.4g} V Å. "
    box = contents.scan_box(result)
    where = "Dashed: the scanned field, outside of which the data say little. " if box else ""
    caption = f"{what}{where}The mean over the field is taken out: a constant phase has no meaning."
    return caption, objects.object_image(stack.sum(axis=0), contents.pixel_size(named), box=box)


def object_against_truth(result: Result) -> Made:
    """Found and true phase: aligned where the measures are there, else each for itself."""
    aligned = contents.entry(result.diagnostics, "metrics/phase_error/aligned")
    corrected = contents.entry(result.diagnostics, "metrics/phase_error/corrected")
    named = result.estimate.get("object_phase")
    if aligned is not None and corrected is not None and np.shape(aligned) == np.shape(corrected):
        figure = objects.found_and_true(
            np.asarray(corrected), np.asarray(aligned), contents.pixel_size(named), box=contents.scan_box(result)
        )
        shift = contents.values(contents.entry(result.diagnostics, "metrics/phase_error/shift"))
        moved = f" of ({shift[0]:.2f}, {shift[1]:.2f}) Å (y, x)" if shift is not None and shift.size == 2 else ""
        return (
            f"The scanned field. Offset, linear ramp and a common shift{moved} are taken out: no data can tell them.",
            figure,
        )
    true = contents.entry(result.diagnostics, "truth/object_phase")
    stacks = contents.image_stack(named), contents.image_stack(true)
    if stacks[0] is None or stacks[1] is None:
        return None
    sums = stacks[0].sum(axis=0), stacks[1].sum(axis=0)
    caption = "Found and true phase, not aligned; each about its own mean and on its own colour range."
    return caption, objects.true_alone(sums[0], contents.pixel_size(named), sums[1], contents.pixel_size(true))


def object_slices(result: Result) -> Made:
    """The phase of every slice."""
    named = result.estimate.get("object_phase")
    stack = contents.image_stack(named)
    if stack is None or len(stack) < 2:
        return None
    thickness = contents.values(result.estimate.get("slice_thickness"))
    thickness = np.full(len(stack), np.nan) if thickness is None else np.resize(thickness.ravel(), len(stack))
    depths = np.cumsum(thickness) - 0.5 * thickness
    caption = (
        "Phase of the slices in the scanned field, each about its mean, on one colour range; z is a slice's middle."
    )
    if len(stack) > objects.MOST_SLICES:
        caption += f" {objects.MOST_SLICES} of {len(stack)} slices are shown."
    return caption, objects.slice_montage(stack, contents.pixel_size(named), depths, box=contents.scan_box(result))


def object_amplitude(result: Result) -> Made:
    """The amplitude of the transmission, multiplied over the slices."""
    named = result.estimate.get("object_amplitude")
    stack = contents.image_stack(named)
    if stack is None:
        return None
    figure = objects.object_image(
        stack.prod(axis=0),
        contents.pixel_size(named),
        label="amplitude [1]",
        colours="viridis",
        box=contents.scan_box(result),
        centre=False,
    )
    return "Amplitude of the transmission; below 1 where electrons are lost to outside the detector.", figure


def phase_uncertainty(result: Result) -> Made:
    """The standard deviation of the phase."""
    named = result.uncertainty.get("object_phase")
    stack = contents.image_stack(named)
    if stack is None:
        return None
    total = np.sqrt((stack**2).sum(axis=0))
    figure = objects.object_image(
        total,
        contents.pixel_size(named),
        label="standard deviation of the phase [rad]",
        colours="cividis",
        box=contents.scan_box(result),
        centre=False,
    )
    return "Standard deviation of the phase" + (", slices taken as independent." if len(stack) > 1 else "."), figure


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
        "Displacement of the scan positions from where they started; their mean, which no data can tell, is taken out."
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
    frequency, correlation, half_bit = (
        _curve(result, f"metrics/ring_correlation/{name}") for name in ("frequency", "correlation", "half_bit")
    )
    if frequency is None or correlation is None or frequency.shape != correlation.shape:
        return None
    resolution = contents.number(contents.entry(result.diagnostics, "metrics/ring_correlation/resolution"))
    caption = "Fourier ring correlation of found and true phase in the scanned field."
    if resolution is not None and math.isfinite(resolution):
        caption += f" It is last above the half-bit threshold at {resolution:.3g} Å."
    return caption, curves.ring_correlation_curve(frequency, correlation, half_bit, resolution=resolution)


def _curve(result: Result, path: str) -> np.ndarray | None:
    array: Any = contents.values(contents.entry(result.diagnostics, path))
    return None if array is None or np.iscomplexobj(array) else array.ravel().astype(float)


MAKERS: tuple[tuple[str, str, Callable[[Result], Made]], ...] = (
    ("object_phase", "Object phase", object_phase),
    ("object_truth", "Object found and true", object_against_truth),
    ("ring_correlation", "Fourier ring correlation", ring_correlation),
    ("probe", "Probe", probe),
    ("patterns", "Diffraction patterns measured and modelled", diffraction_patterns),
    ("positions", "Scan positions", positions),
    ("loss", "Loss", loss),
    ("object_slices", "Slices of the object", object_slices),
    ("object_amplitude", "Object amplitude", object_amplitude),
    ("object_uncertainty", "Uncertainty of the object", phase_uncertainty),
)
