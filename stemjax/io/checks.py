"""What makes counts or optics unusable, said in one line each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from stemjax.core.errors import InputError
from stemjax.forward.recording import Recording
from stemjax.io.atomic import size_text
from stemjax.io.blocks import blocks
from stemjax.io.suspicions import looks_misshapen, looks_transposed


def check_counts(recording: Recording, *, suspicions: bool = True) -> None:
    """Refuse counts that no likelihood can take: not numbers, negative, all zero, or with the axes exchanged.

    All of the data are looked at, a piece at a time.

    Args:
        recording: What was read.
        suspicions: Whether to refuse data whose axes, or whose scan shape, look exchanged; see `stemjax.io.suspicions`.

    Raises:
        InputError: One line: what is wrong, how much of it, and what to do.

    >>> check_counts(Recording(np.ones((2, 2, 4, 4), np.uint16)))
    """
    counts, name = recording.counts, named(recording)
    dtype = np.dtype(counts.dtype)
    if dtype.kind not in "biuf":
        raise InputError(f"{name}: counts of type {dtype}; real numbers are wanted (for waves: their squared modulus)")
    if len(counts.shape) != 4 or 0 in counts.shape:
        raise InputError(f"{name}: counts have the shape {tuple(counts.shape)}; wanted [scan_y scan_x ky kx]")
    check_values(count_summary(counts), name)
    if suspicions:
        check_order(counts, name)


def check_order(counts: Any, name: str) -> None:
    """Refuse counts whose axes, or whose scan shape, look exchanged."""
    ny, nx, ky, kx = counts.shape
    if looks_transposed(counts):
        raise InputError(
            f"{name}: the first two axes ({ny}, {nx}) look like a detector and the last two ({ky}, {kx}) like a scan; "
            "wanted [scan_y scan_x ky kx]: set data.axes: ky kx scan_y scan_x (axes='ky kx scan_y scan_x')"
        )
    if looks_misshapen(counts):
        raise InputError(
            f"{name}: with the scan shape ({ny}, {nx}) a row does not resemble the next, with ({nx}, {ny}) it does; "
            "the shape is (y, x), x the fast axis: exchange the two numbers of data.scan_shape"
        )


def check_values(summary: dict[str, Any], name: str) -> None:
    """Refuse what `count_summary` found, the worst first."""
    size = summary["size"]
    memory = f"{tuple(summary['shape'])}, {size_text(summary['nbytes'])}"
    if summary["not_finite"]:
        raise InputError(
            f"{name}: {portion(summary['not_finite'], size)} of the counts are NaN or infinite ({memory}); mask or "
            "replace them: data.replace_by: 0 (corrected_counts(recording, replace_by=0))"
        )
    if summary["negative"]:
        raise InputError(
            f"{name}: {portion(summary['negative'], size)} of the counts are negative, the least is "
            f"{summary['minimum']:g} ({memory}); {negative_remedy(summary)}"
        )
    if summary["maximum"] == 0:
        raise InputError(f"{name}: all counts are zero ({memory}); is it the right key (data.key), was the beam on?")


def negative_remedy(summary: dict[str, Any]) -> str:
    """What to do with negative counts: they come from an offset, from readout noise, or from a wrong integer type."""
    fraction, least = summary["negative"] / summary["size"], summary["minimum"]
    kind = np.dtype(summary["dtype"])
    if kind.kind == "i" and least <= 0.9 * np.iinfo(kind).min:
        return f"unsigned numbers were read as {kind}: read them as u{kind}"
    if fraction > 0.5:
        return (
            f"a constant dark offset of about {least:g} would explain it: data.offset: {least:g} "
            f"(corrected_counts(recording, offset={least:g}))"
        )
    return (
        "readout noise after dark subtraction does this: clip it with data.clip: true "
        "(corrected_counts(recording, clip=True))"
    )


def portion(part: int, whole: int) -> str:
    """A number and its share.

    >>> portion(3, 200)
    '3 (1.5 %)'
    """
    return f"{part} ({100 * part / whole:.2g} %)"


def count_summary(counts: Any) -> dict[str, Any]:
    """Size, extremes and the number of useless values, from one pass over the data in pieces."""
    total: dict[str, Any] = {"shape": tuple(counts.shape), "dtype": str(counts.dtype), "size": 0, "nbytes": 0}
    total |= {"not_finite": 0, "negative": 0, "minimum": np.inf, "maximum": -np.inf}
    for block in blocks(counts):
        total["size"] += block.size
        total["nbytes"] += block.nbytes
        if block.dtype.kind == "f":
            finite = np.isfinite(block)
            total["not_finite"] += int(block.size - np.count_nonzero(finite))
            block = block[finite] if not finite.all() else block
        if block.size:
            total["minimum"] = min(total["minimum"], float(block.min()))
            total["maximum"] = max(total["maximum"], float(block.max()))
            total["negative"] += int(np.count_nonzero(block < 0)) if block.dtype.kind in "if" else 0
    return total


def corrected_counts(
    recording: Recording, *, offset: float = 0.0, clip: bool = False, replace_by: float | None = None
) -> Recording:
    """The recording with a dark offset taken off, values that are no numbers replaced, negative ones clipped.

    Args:
        recording: What was read.
        offset: Value to subtract from every pixel.
        clip: Whether negative values become 0 afterwards. This biases the mean of readout noise upwards.
        replace_by: Value for NaN and infinite pixels; None leaves them.

    Returns:
        A recording with single-precision counts in memory; its metadata say what was done.

    >>> raw = Recording(np.full((2, 2, 4, 4), -1.0))
    >>> float(corrected_counts(raw, offset=-3.0).counts.max())
    2.0
    """
    counts = np.array(recording.counts, np.float32)
    if replace_by is not None:
        counts[~np.isfinite(counts)] = replace_by
    if offset:
        counts -= np.float32(offset)
    if clip:
        np.maximum(counts, 0, out=counts)
    done = {"offset": offset, "clip": clip, "replace_by": replace_by}
    return replace(recording, counts=counts, metadata={**recording.metadata, "corrected_counts": done})


def check_optics(recording: Recording) -> None:
    """Refuse optics outside what an electron microscope does; the message names the unit that was probably meant.

    >>> check_optics(Recording(np.ones((1, 1, 2, 2)), energy=300.0))
    Traceback (most recent call last):
    stemjax.core.errors.InputError: recording: energy 300 eV; 300 keV is 300e3 eV: give eV
    """
    name = named(recording)
    check_energy(recording.energy, name)
    for label, unit, low, high, hint in RANGES:
        value = getattr(recording, label)
        for number in (value if isinstance(value, tuple) else (value,)) if value is not None else ():
            if not np.isfinite(number) or not low <= abs(number) <= high or (number < 0 and low > 0):
                raise InputError(f"{name}: {label} {number:g} {unit}; {hint}")


RANGES = (
    ("scan_step", "Å", 1e-3, 1e6, "wanted between 0.001 Å and 100 µm, in Å"),
    ("detector_sampling", "mrad", 1e-5, 100.0, "wanted the angle of one detector pixel, in mrad"),
    ("semiangle", "mrad", 0.04, 500.0, "wanted between 0.04 and 500 mrad; was it given in rad?"),
    ("defocus", "Å", 0.0, 1e8, "wanted a length below 1 cm, in Å"),
    ("scan_rotation", "degree", 0.0, 720.0, "wanted an angle in degree"),
    ("electrons_per_count", "electron", 1e-9, 1e9, "wanted a positive detector gain"),
)
"""Field, unit, least and largest size, and what to say; a least size above zero forbids negative values."""


def check_energy(energy: float | None, name: str) -> None:
    """Refuse an energy that is none, or that was given in keV."""
    if energy is None:
        return
    if 5 <= energy <= 1500:
        raise InputError(f"{name}: energy {energy:g} eV; {energy:g} keV is {energy:g}e3 eV: give eV")
    if not np.isfinite(energy) or not 1500 < energy <= 5e6:
        raise InputError(f"{name}: energy {energy:g} eV; wanted the beam energy in eV, such as 80e3 or 300e3")


def named(recording: Recording) -> str:
    """Where the recording came from, for messages."""
    return str(recording.source.get("path", "recording"))
