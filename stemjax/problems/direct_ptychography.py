r"""Direct ptychography: the phase of a weak object in one step, and the optics under which it explains most.

A weak phase object is linear in the data. With the wave ψ of the lens, scan positions r and D electrons a pattern,

.. math:: \mu_k(r) = D \Big[ |\psi(k)|^2 + \sum_q i \hat\varphi(q)\, e^{2\pi i q r}
    \big( \psi^*(k)\, \psi(k-q) - \psi(k)\, \psi^*(k+q) \big) \Big]

for every pixel k of the bright-field disk. Single-sideband ptychography (in focus) and tilt-corrected bright field (out
of focus) are this estimate at two ends: here every pixel is weighed by what it tells at each frequency, so the estimate
is the best linear one at any focus, and comes with its error. How much of the data an object explains depends on the
optics: aberrations, rotation and handedness of the scan are those that let it explain most
(`stemjax.problems.bright_field_optics`).

Sources: Rodenburg, McCallum, Nellist, Ultramicroscopy 48 (1993) 304 (interference of the disks); Yang et al.,
Ultramicroscopy 151 (2015) 232 (single sideband); Lupini, Chi, Jesse, J. Microscopy 263 (2016) 43 (the images' shifts).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.executor import Execution, map_probes
from stemjax.core.typing import Annotated, Array, real
from stemjax.optics.aberrations import Aberrations
from stemjax.optics.electron import wavelength

INSIDE = 0.93
"""Pixels within this share of the semi-angle are taken: the rim is neither inside nor outside."""

NEAR = 1.15
"""Electrons within this multiple of the semi-angle were not scattered out of the beam."""


class BrightField(struct.PyTreeNode):
    """Spectra of the images that the pixels of the bright-field disk see; made by `make_bright_field`.

    Args:
        spectra: Spectrum over the scan of every pixel's image over the pixel's amplitude [frequency pixel], so that the
            noise of every number has the variance electrons / positions.
        beam: Spectrum over the scan of the electrons that stay in the beam [frequency].
        frequencies: Frequencies (y, x) along the scan's axes [frequency 2] [1/Å]; half of the plane, without zero.
        angles: Angle (y, x) of every pixel along the detector's axes [pixel 2] [mrad], from the centre of the disk.
        electrons: Electrons of a pattern in the disk.
        pixels: Detector pixels that fill the disk.
        positions: Number of scan positions.
        shape: Shape of the scan (y, x).
        step: Step of the scan (y, x) [Å].
        energy: Beam energy [eV].
        semiangle: Convergence semi-angle [mrad].
    """

    spectra: Array
    beam: Array
    frequencies: Annotated[Array, "1/Å"]
    angles: Annotated[Array, "mrad"]
    electrons: Annotated[Array, "electron"]
    pixels: Array
    positions: int = struct.field(pytree_node=False)
    shape: tuple[int, int] = struct.field(pytree_node=False)
    step: tuple[float, float] = struct.field(pytree_node=False)
    energy: float = struct.field(pytree_node=False)
    semiangle: float = struct.field(pytree_node=False)


def make_bright_field(
    counts: np.ndarray,
    *,
    step: Annotated[tuple[float, float], "Å"],
    sampling: Annotated[tuple[float, float], "mrad"],
    energy: Annotated[float, "eV"],
    semiangle: Annotated[float, "mrad"],
    centre: tuple[float, float] | None = None,
) -> BrightField:
    """The bright-field images of a scan, as spectra.

    Args:
        counts: Electrons [scan_y scan_x ky kx], zero frequency near the centre.
        step: Step of the scan (y, x).
        sampling: Size of a detector pixel (y, x).
        energy: Beam energy.
        semiangle: Convergence semi-angle.
        centre: Middle of the disk on the detector (y, x) [pixel]; that of the mean pattern if left out.

    Raises:
        InputError: The disk has fewer than 20 pixels, or pixels of it see nothing.
    """
    if centre is None:
        from stemjax.problems.ptychography.guess import bright_field_disk

        centre = bright_field_disk(
            counts.mean(axis=(0, 1)), expected=semiangle / math.sqrt(sampling[0] * sampling[1])
        ).centre
    y, x = ((np.arange(n) - c) * s for n, c, s in zip(counts.shape[2:], centre, sampling, strict=True))
    angle = np.hypot(y[:, None], x[None])
    inside = angle < INSIDE * semiangle
    if inside.sum() < 20:
        raise InputError(
            f"the disk of {semiangle:g} mrad covers {int(inside.sum())} pixels of {sampling[0]:.3g} mrad; direct "
            "ptychography needs 20: bin the detector less, or check the sampling"
        )
    seen = np.asarray(counts[:, :, inside], np.float32)
    mean = seen.mean(axis=(0, 1), dtype=float)
    if not (mean > 0).all():
        raise InputError(
            f"{int((mean <= 0).sum())} of {mean.size} pixels of the disk saw no electron in the whole scan; check "
            "centre, semiangle and sampling, or bin the detector"
        )
    ny, nx = counts.shape[:2]
    fy, fx = np.meshgrid(np.fft.fftfreq(ny, step[0]), np.fft.fftfreq(nx, step[1]), indexing="ij")
    half = _half_plane(ny, nx)
    pixels = math.pi * semiangle**2 / (sampling[0] * sampling[1])
    electrons = float(mean.mean() * pixels)
    beam = np.fft.fft2(counts[:, :, angle < NEAR * semiangle].sum(axis=2, dtype=float))[half] / (ny * nx)
    spectra = np.fft.fft2(seen, axes=(0, 1))[half] / (ny * nx) / np.sqrt(mean / electrons)[None]
    yy, xx = (np.broadcast_to(a, inside.shape)[inside] for a in (y[:, None], x[None]))
    return BrightField(
        spectra=jnp.asarray(spectra, jnp.result_type(complex)),
        beam=jnp.asarray(beam, jnp.result_type(complex)),
        frequencies=real(np.stack([fy[half], fx[half]], axis=1)),
        angles=real(np.stack([yy, xx], axis=1)),
        electrons=real(electrons),
        pixels=real(pixels),
        positions=ny * nx,
        shape=(ny, nx),
        step=(float(step[0]), float(step[1])),
        energy=float(energy),
        semiangle=float(semiangle),
    )


def _half_plane(ny: int, nx: int) -> np.ndarray:
    """One of every pair of frequencies q and -q, without zero and without those that are their own negative."""
    y, x = np.meshgrid((np.fft.fftfreq(ny) * ny).round(), (np.fft.fftfreq(nx) * nx).round(), indexing="ij")
    own = ((2 * y) % ny == 0) & ((2 * x) % nx == 0)
    edge = (2 * np.abs(y) == ny) | (2 * np.abs(x) == nx)
    return ((x > 0) | ((x == 0) & (y > 0))) & ~own & ~edge


class Estimate(NamedTuple):
    """What the pixels say of every frequency.

    Args:
        phase: Most likely spectrum of the phase [frequency] [rad].
        information: Inverse variance of it [frequency] [1/rad²].
    """

    phase: Array
    information: Array


Lens = Mapping[str, Any]
"""Aberrations by Cartesian name [Å]; those that are not named are zero and cost nothing."""


def estimate(data: BrightField, lens: Lens, matrix: Array, execution: Execution = Execution()) -> Estimate:
    """The weighted mean over all pixels, frequency by frequency.

    Args:
        data: The images.
        lens: Aberrations by Cartesian name [Å].
        matrix: From the scan's axes to the detector's [2 2]; a rotation, perhaps with a swap.
        execution: Where frequencies are worked on.
    """
    scale = 1e3 * wavelength(data.energy)

    def one(shared: Any, item: Any) -> tuple[Array, Array]:
        lens, matrix, angles, chi = shared
        frequency, spectrum = item
        offset = scale * matrix @ frequency  # q along the detector's axes, as an angle
        below, above = (_wave(angles + s * offset[None], lens, data) for s in (-1.0, 1.0))
        seen = jnp.exp(1j * chi) * below - jnp.exp(-1j * chi) * jnp.conj(above)
        return jnp.sum(jnp.conj(1j * seen) * spectrum), jnp.sum(seen.real**2 + seen.imag**2)

    chi = _chi(data.angles, lens, data)
    # Nothing of a frequency is kept for the gradient: it is computed again.
    found, seen = map_probes(
        jax.checkpoint(one), (dict(lens), matrix, data.angles, chi), (data.frequencies, data.spectra), execution
    )
    # 1/pixels: the lens's wave holds one electron in all pixels of the disk.
    known = jnp.maximum(seen / data.pixels, 1e-6)
    return Estimate(found / jnp.sqrt(data.pixels) / (data.electrons * known), data.electrons * data.positions * known)


_estimate = jax.jit(estimate, static_argnums=3)


def explained(data: BrightField, lens: Lens, matrix: Array, execution: Execution = Execution()) -> Array:
    """Log-likelihood that the best weak object wins over none under given optics; noise alone gives 1 a frequency."""
    found = estimate(data, lens, matrix, execution)
    return jnp.sum((found.phase.real**2 + found.phase.imag**2) * found.information)


def _chi(angles: Array, lens: Lens, data: BrightField) -> Array:
    """The aberration function (`stemjax.optics.aberrations.phase_error`) of the named coefficients alone [rad]."""
    y, x = 1e-3 * angles[:, 0], 1e-3 * angles[:, 1]
    total, square, power = jnp.zeros_like(x), y * y + x * x, [(jnp.ones_like(x), jnp.zeros_like(x))]
    for _ in range(max((int(name[2]) for name in lens), default=0)):
        re, im = power[-1]
        power.append((re * x - im * y, re * y + im * x))
    for name, value in lens.items():
        n, m = int(name[1]), int(name[2])
        part = power[m][1 if name.endswith("b") else 0]
        total = total + value / (n + 1) * part * square ** ((n + 1 - m) // 2)
    return (2.0 * math.pi / wavelength(data.energy)) * total


def _wave(angles: Array, lens: Lens, data: BrightField) -> Array:
    """The lens's wave at some angles [pixel 2] [mrad], one inside the aperture, its rim a fortieth of it wide."""
    radius = jnp.sqrt(jnp.sum(angles**2, axis=1) + 1e-12)
    stop = jnp.clip((1.0 - radius / data.semiangle) * 40.0 + 0.5, 0.0, 1.0)
    return stop * jnp.exp(-1j * _chi(angles, lens, data))


class DirectPhase(NamedTuple):
    """The phase of a weak object.

    Args:
        phase: [scan_y scan_x], mean zero [rad].
        deviation: Standard deviation of a pixel [rad].
        spectrum: Its spectrum [frequency] [rad].
    """

    phase: np.ndarray
    deviation: float
    spectrum: np.ndarray


def direct_phase(
    data: BrightField,
    lens: Aberrations | Lens,
    matrix: np.ndarray | None = None,
    execution: Execution = Execution(),
) -> DirectPhase:
    r"""The most probable phase, every frequency weighed by what is known of it.

    .. math:: \hat\varphi_{map} = \frac{F}{F + 1/P}\, \hat\varphi, \qquad
        \sigma^2 = 2 \sum_q \frac{1}{F + 1/P}

    with the information F and the object's power P, the mean of |φ̂|² − 1/F over rings of frequencies.

    Args:
        data: The images.
        lens: Its aberrations, as an object or by Cartesian name [Å].
        matrix: From the scan's axes to the detector's [2 2]; the identity if left out.
        execution: Where frequencies are worked on.
    """
    turn = real(np.eye(2) if matrix is None else matrix)
    named = {k: float(v) for k, v in vars(lens).items() if v} if isinstance(lens, Aberrations) else dict(lens)
    found = jax.tree.map(np.asarray, _estimate(data, named, turn, execution))
    power = _power(np.asarray(data.frequencies), found)
    spread = 1.0 / (found.information + 1.0 / power)
    half = np.zeros(data.shape, complex)
    spectrum = found.phase * found.information * spread
    half[_half_plane(*data.shape)] = spectrum
    phase = 2.0 * np.fft.ifft2(half).real * data.positions
    return DirectPhase(phase, float(np.sqrt(2.0 * spread.sum())), spectrum)


def _power(frequencies: np.ndarray, found: Estimate, width: int = 40) -> np.ndarray:
    """Power of the object by frequency: weighed means over runs of `width` frequencies of like modulus."""
    order = np.argsort(np.hypot(*frequencies.T))
    excess, weight = np.abs(found.phase) ** 2 - 1.0 / found.information, found.information**2
    power = np.empty(len(order))
    for part in np.array_split(order, max(1, len(order) // width)):
        power[part] = np.average(excess[part], weights=weight[part])
    return np.maximum(power, 1e-3 * np.abs(power).max() + 1e-30)
