"""The electron probe: aperture, aberrations, pixel freedom and incoherent modes, normalised to one electron."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.core.typing import POSITIVE, Annotated, Array, Complex, Float, Scalar, real, typed
from stemjax.optics.aberrations import Aberrations, make_aberrations, phase_error
from stemjax.optics.coherence import Coherence, incoherent_probes
from stemjax.optics.electron import check_energy, wavelength
from stemjax.optics.plates import Plate

SUPPORT = 1.2
"""Free probe pixels live inside this multiple of the convergence semi-angle: the condenser aperture is a hard stop."""


class Probe(struct.PyTreeNode):
    """A convergent probe; made by `make_probe`.

    Args:
        aberrations: Coefficients of the probe-forming lens [Å].
        semiangle: Convergence semi-angle [mrad].
        centre: Centre of the bright-field disk on the detector (y, x) [mrad]; not a tilt of the beam.
        pixels: Freedom beyond the ideal aperture, [mode 2 ny nx] (real and imaginary part in reciprocal space, in
            units of the aperture's amplitude), or None for an ideal, coherent probe.
        energy: Beam energy [eV].
        grid: Grid of the probe's window.
        soft: Whether the aperture's edge is one reciprocal pixel wide (differentiable) or sharp.
        plate: What stands in the aperture (`stemjax.optics.plates`), or None.
        coherence: Size of the source and spread of the focus, or None for a coherent, monochromatic beam.
    """

    aberrations: Aberrations
    semiangle: Annotated[Array, "mrad", POSITIVE]
    centre: Annotated[Array, "mrad"]
    pixels: Array | None
    energy: float = struct.field(pytree_node=False)
    grid: Grid = struct.field(pytree_node=False)
    soft: bool = struct.field(pytree_node=False, default=True)
    plate: Any = None
    coherence: Coherence | None = None


@typed
def make_probe(
    grid: Grid,
    *,
    energy: Annotated[float, "eV"],
    semiangle: Annotated[Scalar, "mrad"],
    aberrations: Aberrations | None = None,
    modes: int = 1,
    free_pixels: bool = False,
    centre: Annotated[tuple[float, float], "mrad"] = (0.0, 0.0),
    soft: bool = True,
    plate: Plate | None = None,
    coherence: Coherence | None = None,
) -> Probe:
    """A probe on a grid, checked.

    Args:
        grid: Window of the probe; its reciprocal must hold the aperture.
        energy: Beam energy [eV].
        semiangle: Convergence semi-angle [mrad].
        aberrations: Lens aberrations; none if left out.
        modes: Number of mutually incoherent modes, at most 10. The second and later ones start as weak gradients of the
            first along x, y, ..., the first effects of a finite source (2 % of the first one's power each).
        free_pixels: Make room for free probe pixels; implied by more than one mode.
        centre: Centre of the bright-field disk on the detector (y, x) [mrad].
        soft: Soften the edge of the aperture over one reciprocal pixel.
        plate: A plate in the aperture, such as `stemjax.optics.plates.make_vortex_plate(1)`.
        coherence: Partial coherence, from `stemjax.optics.coherence.make_coherence`; every node of its source and focus
            becomes a mode of its own.

    Raises:
        InputError: The aperture does not fit the grid, or the plate is none.

    >>> make_probe(Grid((32, 32), (0.2, 0.2)), energy=80e3, semiangle=21.4).pixels is None
    True
    """
    energy = check_energy(energy)
    largest = 1e3 * wavelength(energy) * grid.nyquist
    if not 0.0 < float(semiangle) < largest:
        finest = 0.499e3 * wavelength(energy) / max(float(semiangle), 1e-9)
        raise InputError(
            f"a convergence semi-angle of {float(semiangle):g} mrad does not fit a grid that carries "
            f"{largest:.3g} mrad; use a sampling below {finest:.2g} Å"
        )
    if plate is not None and not isinstance(plate, Plate):
        raise InputError(f"{type(plate).__name__} is no plate; give one of stemjax.optics.plates, or None")
    room = free_pixels or modes > 1
    pixels = _first_modes(grid, modes, float(semiangle) / (1e3 * wavelength(energy))) if room else None
    return Probe(
        aberrations=make_aberrations() if aberrations is None else aberrations,
        semiangle=real(semiangle),
        centre=real(centre),
        pixels=pixels,
        energy=energy,
        grid=grid,
        soft=soft,
        plate=plate,
        coherence=coherence,
    )


def _first_modes(grid: Grid, modes: int, cutoff: float, power: float = 0.02) -> Array:
    """Zeros for the first mode; for the others orthogonal low polynomials of k over the aperture, of small power."""
    powers = [(0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1), (0, 3), (3, 0)]
    if not 1 <= modes <= len(powers) + 1:
        raise InputError(f"a probe of {modes} modes cannot be started; give 1 to {len(powers) + 1}")
    ky, kx = grid.frequencies()
    inside = np.hypot(ky, kx) <= SUPPORT * cutoff
    basis = np.stack([np.ones(inside.sum())] + [((ky / cutoff) ** y * (kx / cutoff) ** x)[inside] for y, x in powers])
    # Orthogonal to the first mode and to each other, so that each explains something else.
    orthogonal = np.linalg.qr(basis.T)[0].T
    pixels = np.zeros((modes, 2, *grid.shape))
    aperture_power = (np.hypot(ky, kx) <= cutoff).sum()
    for mode in range(1, modes):
        pixels[mode, sum(powers[mode - 1]) % 2][inside] = np.sqrt(power * aperture_power) * orthogonal[mode]
    return real(pixels)


def aperture(
    grid: Grid,
    energy: float,
    semiangle: Scalar,
    *,
    centre: Array | tuple[float, float] = (0.0, 0.0),
    soft: bool = True,
) -> Array:
    r"""Amplitude of a round aperture on the reciprocal grid.

    .. math:: A(k) = \mathrm{clip}\left(\frac{\alpha_0 - |\alpha|}{\Delta\alpha} + \tfrac12,\, 0,\, 1\right),
        \qquad \alpha = \lambda k - \alpha_c

    with Δα the angular size of a reciprocal pixel along the direction of α; the sharp one is 1 for |α| ≤ α₀.

    Args:
        grid: Real-space grid.
        energy: Beam energy [eV].
        semiangle: Semi-angle α₀ [mrad].
        centre: Centre α_c of the aperture (y, x) [mrad].
        soft: Edge over one reciprocal pixel, differentiable in `semiangle` and `centre`; else a sharp edge.

    Returns:
        Real array [ny nx], zero frequency in the corner.

    >>> float(aperture(Grid((16, 16), (0.5, 0.5)), 80e3, 20.0)[0, 0])
    1.0
    """
    y, x = _angles(grid, energy, centre)
    square = y**2 + x**2
    # The root is kept off zero, where its slope is infinite.
    alpha = jnp.sqrt(jnp.where(square > 0, square, 1.0))
    if not soft:
        return jnp.where((square <= 0) | (alpha <= semiangle), 1.0, 0.0)
    step_y, step_x = grid.angular_sampling(wavelength(energy))
    step = jnp.sqrt((y * step_y) ** 2 + (x * step_x) ** 2 + jnp.where(square > 0, 0.0, 1.0)) / alpha
    return jnp.where(square > 0, jnp.clip((semiangle - alpha) / step + 0.5, 0.0, 1.0), 1.0)


def _angles(grid: Grid, energy: float, centre: Array | tuple[float, float]) -> tuple[Array, Array]:
    """Angles (y, x) [mrad] of the reciprocal pixels against the centre of the aperture."""
    scale = 1e3 * wavelength(energy)
    ky, kx = (real(scale * k) for k in grid.frequencies())
    return ky - centre[0], kx - centre[1]


@typed
def probe_waves(probe: Probe) -> Complex[Array, "mode ny nx"]:
    r"""Waves of the probe in reciprocal space, centred on the origin of real space.

    .. math:: \psi_m(k) = \frac{1}{\sqrt{Z}} e^{-i \chi(k)} \left[ \delta_{m0} A(k) t(k) + M_m(k) S(k) \right],
        \qquad \sum_{m,k} |\psi_m(k)|^2 = 1

    with t the plate (1 for none), M the free pixels and S their support (`SUPPORT` times the aperture). With a
    coherence every mode comes once from each node of the source and the focus
    (`stemjax.optics.coherence.incoherent_probes`), and all together are still one electron. The wave in real space is
    the inverse discrete Fourier transform; the detector's intensities of an empty specimen then sum to one electron.

    Returns:
        Waves [mode ny nx], zero frequency in the corner; a mode is a coherent mode × a source node × a focal node.

    >>> waves = probe_waves(make_probe(Grid((32, 32), (0.2, 0.2)), energy=80e3, semiangle=21.4))
    >>> waves.shape, round(float((abs(waves) ** 2).sum()), 6)
    ((1, 32, 32), 1.0)
    """

    def stop(semiangle: Array) -> Array:
        return aperture(probe.grid, probe.energy, semiangle, centre=probe.centre, soft=probe.soft)[None]

    waves = stop(probe.semiangle).astype(jnp.result_type(complex))
    if probe.plate is not None:
        y, x = _angles(probe.grid, probe.energy, probe.centre)
        waves = waves * probe.plate.transmission(y, x, probe.semiangle)[None]
    if probe.pixels is not None:
        free = (probe.pixels[:, 0] + 1j * probe.pixels[:, 1]) * stop(SUPPORT * probe.semiangle)
        waves = free.at[0].add(waves[0])
    waves = waves * jnp.exp(-1j * probe_phase(probe))[None]
    # An all-zero probe would divide by zero; the floor keeps its gradient finite.
    power = jnp.sum(waves.real**2 + waves.imag**2)
    waves = waves / jnp.sqrt(jnp.maximum(power, 1e-20))
    if probe.coherence is None:
        return waves
    return incoherent_probes(probe.coherence, waves, probe.grid, probe.energy, centre=probe.centre)


def probe_phase(probe: Probe) -> Float[Array, "ny nx"]:
    """Aberration function χ(k) of the probe [rad] on its reciprocal grid.

    >>> probe_phase(make_probe(Grid((8, 8), (0.2, 0.2)), energy=80e3, semiangle=20.0)).shape
    (8, 8)
    """
    y, x = _angles(probe.grid, probe.energy, probe.centre)
    return phase_error(probe.aberrations, 1e-3 * y, 1e-3 * x, wavelength(probe.energy))
