"""Whether a probe fits its window, and which window would hold it."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.core.typing import real
from stemjax.optics.aberrations import phase_error_gradient
from stemjax.optics.coherence import focal_spread
from stemjax.optics.electron import wavelength
from stemjax.optics.probe import Probe, probe_waves

BORDER = 0.1
"""Part of a window's side, at each end, that a probe should leave empty (`check_window`)."""


def check_window(probe: Probe, *, lost: float = 0.01) -> None:
    """Refuse a probe that is wider than its window, where it wraps around and meets itself, and say what would do.

    A step on the host, before a simulation. The window counts as too small if more than `lost` of the probe's intensity
    at the entrance lies in its outermost tenths (`BORDER`); a specimen spreads it further.

    Args:
        probe: The probe.
        lost: Fraction of the intensity that may lie in the border.

    Raises:
        InputError: More does; the message names the window that would hold it.

    >>> from stemjax.optics.probe import make_probe
    >>> check_window(make_probe(Grid((128, 128), (0.2, 0.2)), energy=80e3, semiangle=25.0))
    """
    fraction = _border_fraction(probe)
    if fraction <= lost:
        return
    grid = probe.grid
    shape = _sufficient_shape(probe, lost)
    large = [n * s for n, s in zip(shape, grid.sampling, strict=True)]
    raise InputError(
        f"{100 * fraction:.2g} % of the probe lies at the edge of its window of {grid.extent[0]:.4g} × "
        f"{grid.extent[1]:.4g} Å and wraps around, more than {100 * lost:.2g} %; use a window of {large[0]:.4g} × "
        f"{large[1]:.4g} Å ({shape[0]} × {shape[1]} pixels), or a smaller defocus (C10 is "
        f"{float(probe.aberrations.C10):.4g} Å) or semi-angle ({float(probe.semiangle):.4g} mrad)"
    )


def _border_fraction(probe: Probe) -> float:
    """Share of the probe's intensity in the outermost parts of its window in real space."""
    size = None
    if probe.coherence is not None:
        # The source is a convolution of the intensity: no need for its nodes.
        size = np.asarray(probe.coherence.source_size, dtype=float)
        probe = probe.replace(coherence=probe.coherence.replace(source_nodes=(1, 1)))
    intensity = (np.abs(np.fft.ifft2(np.asarray(jax.jit(probe_waves)(probe)))) ** 2).sum(axis=0)
    if size is not None:
        qy, qx = probe.grid.frequencies()
        damping = np.exp(-2 * math.pi**2 * ((qy * size[0]) ** 2 + (qx * size[1]) ** 2))
        intensity = np.fft.ifft2(np.fft.fft2(intensity) * damping).real
    from_origin = [np.abs(np.fft.fftfreq(n)) for n in probe.grid.shape]
    inner_y, inner_x = (distance <= 0.5 - BORDER for distance in from_origin)
    return 1.0 - float(intensity[np.ix_(inner_y, inner_x)].sum() / intensity.sum())


def _sufficient_shape(probe: Probe, lost: float, most: float = 2.0**24) -> tuple[int, int]:
    """A shape of the window that holds the probe: from its caustic, then larger until it does (or fills the memory)."""
    from scipy.fft import next_fast_len

    grid = probe.grid
    reach = _geometric_radius(probe) / (0.5 - BORDER)
    factor = max([1.2, *(reach / side for side in grid.extent)])
    while True:
        ny, nx = (int(next_fast_len(math.ceil(factor * n))) for n in grid.shape)
        larger = probe.replace(grid=Grid((ny, nx), grid.sampling), pixels=None)
        if ny * nx > most or _border_fraction(larger) <= lost:
            return ny, nx
        factor *= 1.25


def _geometric_radius(probe: Probe) -> float:
    """Largest distance from the axis of a ray in the aperture, and three widths of source and focus [Å]."""
    angle, turn = 1e-3 * float(probe.semiangle), np.linspace(0.0, 2.0 * np.pi, 48, endpoint=False)
    radii = angle * np.linspace(0.05, 1.0, 20)[:, None]
    y, x = real(radii * np.sin(turn)), real(radii * np.cos(turn))
    gradient = jax.jit(phase_error_gradient, static_argnums=3)
    shift_y, shift_x = gradient(probe.aberrations, y, x, wavelength(probe.energy))
    blur = 0.0
    if probe.coherence is not None:
        spread = float(focal_spread(probe.coherence, probe.energy))
        blur = 3.0 * math.hypot(float(jnp.max(probe.coherence.source_size)), spread * angle)
    return float(jnp.hypot(shift_y, shift_x).max()) + blur
