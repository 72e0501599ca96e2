"""The figures of the object: which ones a result has the data for, and what their captions say."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from stemjax.inference.result import Result
from stemjax.optics.electron import interaction_parameter
from stemjax.report import contents, field, objects, style

Made = tuple[str, Figure] | None
"""Caption and figure; None where the result does not have the data."""

UNIFORM = 1e-4
"""An amplitude that is nowhere farther from 1 is not worth a figure: the object was taken for a pure phase."""


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
    where = ""
    if scan_hull(result) is not None:
        where = "Dashed: the scanned field, outside of which the data say little and the map fades. "
    caption = f"{what}{where}The mean over the field is taken out: a constant phase has no meaning."
    return caption, _field_image(result, stack.sum(axis=0), named, label="phase [rad]", colours=style.INTENSITY)


def object_against_truth(result: Result) -> Made:
    """Found and true phase: aligned where the measures are there, else each for itself."""
    aligned, corrected = (
        contents.values(contents.entry(result.diagnostics, f"metrics/phase_error/{name}"))
        for name in ("aligned", "corrected")
    )
    named = result.estimate.get("object_phase")
    if aligned is not None and corrected is not None and aligned.shape == corrected.shape and aligned.ndim == 2:
        figure = objects.found_and_true(corrected, aligned, contents.pixel_size(named), hull=scan_hull(result))
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
    return caption, objects.slice_montage(stack, contents.pixel_size(named), depths, hull=scan_hull(result))


def object_amplitude(result: Result) -> Made:
    """The amplitude of the transmission, multiplied over the slices."""
    named = result.estimate.get("object_amplitude")
    stack = contents.image_stack(named)
    if stack is None or np.nanmax(np.abs(stack - 1.0), initial=0.0) <= UNIFORM:
        return None
    figure = _field_image(
        result, stack.prod(axis=0), named, label="amplitude [1]", colours=style.AMPLITUDE, centre=False
    )
    return "Amplitude of the transmission; below 1 where electrons are lost to outside the detector.", figure


def phase_uncertainty(result: Result) -> Made:
    """The standard deviation of the phase."""
    named = result.uncertainty.get("object_phase")
    stack = contents.image_stack(named)
    if stack is None:
        return None
    total = np.sqrt((stack**2).sum(axis=0))
    label = "standard deviation of the phase [rad]"
    figure = _field_image(result, total, named, label=label, colours=style.UNCERTAINTY, centre=False)
    return "Standard deviation of the phase" + (", slices taken as independent." if len(stack) > 1 else "."), figure


def scan_hull(result: Result) -> np.ndarray | None:
    """Corners of the scanned field (corner, 2), (y, x) [Å]; None where it is not known or has no area."""
    return field.scan_hull(contents.scan_positions(result.estimate))


def _field_image(
    result: Result, image: np.ndarray, named: object, *, label: str, colours: str, centre: bool = True
) -> Figure:
    """A map of the object, drawn as far as a probe's diameter around the scanned field."""
    return objects.object_image(
        image,
        contents.pixel_size(named),
        label=label,
        colours=colours,
        hull=scan_hull(result),
        margin=_margin(result),
        centre=centre,
    )


def _margin(result: Result) -> float:
    """About the diameter of the probe [Å], between 2 Å and a quarter of the field; that quarter without a probe."""
    hull = scan_hull(result)
    most = 2.0 if hull is None else max(2.0, 0.25 * float(np.ptp(hull, axis=0).max()))
    named = result.estimate.get("probe")
    modes = contents.image_stack(named)
    if modes is None or not np.isfinite(modes).all() or not np.abs(modes).any():
        return most
    return float(np.clip(field.probe_diameter(modes, contents.pixel_size(named)), 2.0, most))
