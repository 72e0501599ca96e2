"""What differs from pattern to pattern besides the probe's place: the specimen's tilt, and where the detector lies."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.fourier import shift_ramps
from stemjax.core.grid import Grid
from stemjax.core.typing import Array
from stemjax.optics.electron import wavelength


class Moves(NamedTuple):
    """What moves in one pattern, or in all of them [pattern 2].

    Args:
        shift: Place of the probe in its window (y, x) [Å].
        tilt: Tangent of the specimen's tilt (y, x).
        descan: Displacement of the pattern on the detector (y, x) [1/Å].
    """

    shift: Array
    tilt: Array
    descan: Array


def moves(experiment: Any, shifts: Array) -> Array | Moves:
    """Moves of every pattern; the shifts alone where neither tilt nor descan differ from pattern to pattern."""
    tilt, descan = experiment.tilt, experiment.scan.descan
    if tilt.ndim == 1 and descan is None:
        return shifts
    zero = jnp.zeros_like(shifts)
    return Moves(
        shifts,
        jnp.tan(1e-3 * tilt) if tilt.ndim == 2 else zero,
        zero if descan is None else descan * (1e-3 / wavelength(experiment.probe.energy)),
    )


def common_tilt(experiment: Any) -> Array:
    """Tilt that all patterns share (y, x) [mrad]; none where each has its own."""
    return experiment.tilt if experiment.tilt.ndim == 1 else jnp.zeros_like(experiment.probe.centre)


def tilted(propagators: Array, moved: Moves, distances: Array, grid: Grid) -> Array:
    r"""Propagators [step ny nx] of one pattern, times exp(2πi Δz k·tan θ)."""
    ramps = [shift_ramps(grid, -distances[i] * moved.tilt) for i in range(propagators.shape[0])]
    return jnp.stack([p * y * x for p, (y, x) in zip(propagators, ramps, strict=True)])


def descanned(wave: Array, moved: Moves, grid: Grid) -> Array:
    r"""An exit wave in reciprocal space, moved on the detector: ψ(r) exp(2πi q·r) in real space.

    The ramp is zero at the probe and breaks half a window from it, where the wave has died away.
    """
    y, x = (
        _from_probe(n, s, jax.lax.stop_gradient(moved.shift[axis]))
        for axis, (n, s) in enumerate(zip(grid.shape, grid.sampling, strict=True))
    )
    ramp_y, ramp_x = (jnp.exp(2j * np.pi * q * r) for q, r in zip(moved.descan, (y, x), strict=True))
    return jnp.fft.fft2(jnp.fft.ifft2(wave) * ramp_y[:, None] * ramp_x[None, :])


def _from_probe(pixels: int, sampling: float, place: Array) -> Array:
    """Distance of every pixel of a repeating window from the probe [pixel] [Å]."""
    extent = pixels * sampling
    return jnp.mod(jnp.arange(pixels) * sampling - place + 0.5 * extent, extent) - 0.5 * extent


def refuse_moves(experiment: Any, what: str) -> None:
    """Refuse patterns that differ by more than the place of the probe.

    Raises:
        InputError: A pattern has a tilt or a descan of its own.
    """
    if experiment.tilt.ndim == 2 or experiment.scan.descan is not None:
        raise InputError(f"{what} takes one tilt for all patterns and no descan; use Diffraction where they differ")
