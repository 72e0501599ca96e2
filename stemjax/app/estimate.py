"""What a reconstruction will need: the size of the object, memory, and time by a rule that was measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
