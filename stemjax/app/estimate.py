"""What a reconstruction will need: the size of the object, memory, and time by a rule that was measured."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stemjax.app.derived_optics import optics
from stemjax.core.errors import InputError
from stemjax.io.atomic import size_text
from stemjax.problems.ptychography.calibration import Calibration
from stemjax.problems.ptychography.settings import PtychographySettings

SLICE_SECONDS = 0.4e-3
"""Time of value and gradient for one slice of one mode of one 128 × 128 pattern on two CPU cores, single precision [s].
Measured on two AVX-512 cores: 0.46 ms for one slice, 0.38 ms a slice for ten."""

WAVES = 6
"""Complex waves that a slice of one probe needs while its gradient is taken."""


@dataclass(frozen=True)
class Size:
    """The size of a ptychography problem.

    Args:
        patterns: Number of patterns.
        detector: Pixels of a pattern (y, x).
        object_shape: Pixels of a slice of the object (y, x).
        slices: Number of slices.
        modes: Number of probe modes.
        channels: Real numbers for one pixel of the object (1 phase, 2 phase and absorption).
        itemsize: Bytes of a real number.
    """

    patterns: int
    detector: tuple[int, int]
    object_shape: tuple[int, int]
    slices: int = 1
    modes: int = 1
    channels: int = 1
    itemsize: int = 4


def object_shape(
    scan: tuple[int, int],
    step: tuple[float, float],
    pixel: tuple[float, float],
    window: tuple[float, float],
    padding: float | None = None,
) -> tuple[int, int]:
    """Pixels of the object: the scan, and a margin on either side.

    Args:
        scan: Number of positions (y, x).
        step: Step of the scan (y, x) [Å].
        pixel: Pixel of the object (y, x) [Å].
        window: Side of the probe's window (y, x) [Å].
        padding: Margin [Å]; half the window where it is None.

    >>> object_shape((11, 11), (1.0, 1.0), (0.5, 0.5), (20.0, 20.0))
    (60, 60)
    """
    margins = [side / 2.0 if padding is None else padding for side in window]
    ny, nx = (
        math.ceil(((n - 1) * s + 2 * m) / p - 1e-9) for n, s, p, m in zip(scan, step, pixel, margins, strict=True)
    )
    return ny, nx


def memory(size: Size, batch: int, devices: int = 1) -> dict[str, float]:
    """Memory of a reconstruction by what it is for.

    data: every pattern. object: value, gradient, two moments of Adam, and the complex transmission function. batch: the
    patterns of a step, and on every device the waves of the one probe that is worked on, `WAVES` a slice and mode.

    Args:
        size: The problem.
        batch: Patterns in a step.
        devices: Devices that work at the same time.

    Returns:
        Name -> bytes, "total" last.

    >>> round(memory(Size(4096, (128, 128), (400, 400)), 64)["data"] / 1e6)
    268
    """
    pixels = size.detector[0] * size.detector[1]
    voxels = size.slices * size.object_shape[0] * size.object_shape[1]
    waves = devices * WAVES * size.slices * size.modes * pixels * 2
    needs = {
        "data": size.itemsize * size.patterns * pixels,
        "object": size.itemsize * voxels * (4 * size.channels + 2),
        "batch": size.itemsize * (batch * pixels + waves),
    }
    return needs | {"total": float(sum(needs.values()))}


def problem_size(settings: PtychographySettings, known: Calibration, shape: tuple[int, int, int, int]) -> Size:
    """The size of the problem that a configuration states.

    Args:
        settings: The configuration.
        known: Calibration in force.
        shape: Counts [scan_y scan_x ky kx] after crop and bin.
    """
    derived, scan, detector = optics(known, shape[2:]), shape[:2], shape[2:]
    return Size(
        patterns=scan[0] * scan[1],
        detector=detector,
        object_shape=object_shape(
            scan, known.scan_step, derived.pixel, derived.window, padding=settings.object.padding
        ),
        slices=settings.object.slices,
        modes=settings.probe.modes,
        channels=2 if settings.object.kind == "complex" else 1,
        itemsize=8 if settings.solver.dtype == "float64" else 4,
    )


def processors() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_memory() -> float:
    """Memory that this process may use [byte]: the machine's, or less where a container sets a limit."""
    try:
        present = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # not every system tells
        return math.inf
    try:
        return min(present, float(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no control group, or "max"
        return present


def memory_trouble(
    settings: PtychographySettings, known: Calibration, shape: tuple[int, int, int, int], present: float
) -> str | None:
    """What takes more memory than there is, and what would fit; None where all fits.

    Args:
        settings: The configuration.
        known: Calibration in force.
        shape: Counts [scan_y scan_x ky kx] after crop and bin.
        present: Memory that there is [byte].
    """

    def needs(changed: PtychographySettings) -> float:
        devices = processors() if changed.solver.devices == "auto" else changed.solver.devices
        batch = min(changed.solver.batch, shape[0] * shape[1])
        return memory(problem_size(changed, known, shape), batch, devices)["total"]

    if (total := needs(settings)) <= present:
        return None
    large = f"the run would take {size_text(total)} of memory, there are {size_text(present)}"
    saved = {
        (section, name): needs(_with(settings, section, name, least))
        for section, name, least in KEYS
        if getattr(getattr(settings, section), name) not in (None, least)
    }
    if not saved or min(saved.values()) > present:
        return f"{large}; use a part of the scan (data.crop) or larger detector pixels (data.bin: 2)"
    section, name = min(saved, key=lambda key: saved[key])
    given = getattr(getattr(settings, section), name)
    fits = largest(lambda value: needs(_with(settings, section, name, value)) <= present, given)
    return f"{large}; {section}.{name} = {given:g} is too much, at most {fits} fits"


KEYS = (("object", "slices", 1), ("object", "padding", 0.0), ("probe", "modes", 1))
"""Entries of a configuration that memory grows with, and the least value of each."""


def _with(settings: PtychographySettings, section: str, name: str, value: float) -> PtychographySettings:
    part = getattr(settings, section).model_copy(update={name: value})
    return settings.model_copy(update={section: part})


def largest(fits: Callable[[int], bool], given: float) -> int:
    """The largest whole number below a given one that fits, where smaller ones fit better.

    >>> largest(lambda n: n * n < 50, 1e9)
    7
    """
    low, high = 0, int(given)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def check_memory(settings: PtychographySettings, known: Calibration, shape: tuple[int, int, int, int]) -> None:
    """Refuse a run that needs more memory than there is, before it takes any.

    Raises:
        InputError: It does; the message names the key and what fits.
    """
    if (trouble := memory_trouble(settings, known, shape, machine_memory())) is not None:
        raise InputError(trouble)


def epoch_time(size: Size, cores: int) -> float:
    r"""Expected time of an epoch on a CPU.

    .. math:: t = t_0\, P\, M\, S\, \frac{n \log n}{n_0 \log n_0}\, \frac{2}{\mathrm{cores}}

    with P patterns, M modes, S slices, n pixels of a pattern, n₀ = 128², and t₀ = `SLICE_SECONDS`: Fourier transforms
    take the time. Good to a factor of two; compilation (some seconds, once) is not in it.

    Args:
        size: The problem.
        cores: CPU cores that work.

    Returns:
        Time [s].

    >>> round(epoch_time(Size(4096, (128, 128), (400, 400)), 2), 2)
    1.64
    """
    pixels, reference = size.detector[0] * size.detector[1], 128 * 128
    cost = pixels * math.log(max(pixels, 2)) / (reference * math.log(reference))
    precision = 2.0 if size.itemsize == 8 else 1.0
    return SLICE_SECONDS * size.patterns * size.modes * size.slices * cost * precision * 2.0 / cores
