"""Partial coherence of the illumination: a source of finite size, and a focus that is spread by the energy of the beam.

Three roads, from exact to fast: nodes of the source and of the focus as incoherent waves (`incoherent_probes`, exact up
to a stated error), the blur of a finished image for the source (`blur_image`, exact for a scan without end), and an
envelope on the aperture for the focus (`FocalEnvelope`, good only where it is weak).
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.core.quadrature import nodes_for, normal_nodes, product_nodes
from stemjax.core.typing import Annotated, Array, Complex, Float, real, typed
from stemjax.optics.electron import REST_ENERGY, check_energy, wavelength


class Coherence(struct.PyTreeNode):
    """Size of the source and spread of the focus, both normal distributions; made by `make_coherence`.

    A mean over an even distribution has no slope in a width that is zero: a fit starts from a positive one.

    Args:
        source_size: Standard deviation (y, x) of the source's image at the specimen [Å].
        chromatic: Coefficient of chromatic aberration Cc [Å].
        energy_spread: Standard deviation of the beam's energy [eV].
        voltage_instability: Standard deviation of the high voltage over the voltage.
        current_instability: Standard deviation of the lens current over the current.
        source_nodes: Nodes along (y, x) of the source; 1 leaves that direction coherent.
        focal_nodes: Nodes of the focus; 1 leaves the beam monochromatic.
    """

    source_size: Annotated[Array, "Å"]
    chromatic: Annotated[Array, "Å"]
    energy_spread: Annotated[Array, "eV"]
    voltage_instability: Array
    current_instability: Array
    source_nodes: tuple[int, int] = struct.field(pytree_node=False, default=(1, 1))
    focal_nodes: int = struct.field(pytree_node=False, default=1)


def make_coherence(
    energy: Annotated[float, "eV"],
    semiangle: Annotated[float, "mrad"],
    *,
    source_size: Annotated[float | tuple[float, float], "Å"] = 0.0,
    chromatic: Annotated[float, "Å"] = 0.0,
    energy_spread: Annotated[float, "eV"] = 0.0,
    voltage_instability: float = 0.0,
    current_instability: float = 0.0,
    error: float = 1e-3,
) -> Coherence:
    r"""Coherence of a beam, with as many nodes as a stated error needs.

    .. math:: W_{source} = 2\pi s \frac{2\alpha}{\lambda}, \qquad W_{focus} = \pi \frac{\alpha^2}{\lambda} \delta

    are the largest rms phases between two beams of the aperture; each direction that is averaged gets its share of the
    error (`stemjax.core.quadrature.nodes_for` says what the error bounds). Fringes between opposite rims come near the
    bound; a profile, a mean over all pairs of beams, is far better (80 kV, 25 mrad, 0.8 Å FWHM, δ = 24 Å: a bound of
    0.1 gives 6 × 6 × 3 nodes and 2e-4 of the peak). The number of waves is the product of the nodes: for patterns,
    `stemjax.optics.modes.condensed_probe` finds the few waves that they amount to; for images, leave the source out
    and use `blur_image`.

    Args:
        energy: Beam energy [eV].
        semiangle: Largest angle of the beam, the convergence semi-angle [mrad].
        source_size: Standard deviation of the source's image, one number or (y, x) [Å]; see `rms_of_fwhm`.
        chromatic: Cc [Å]; 1 mm is 1e7 Å.
        energy_spread: Standard deviation of the beam's energy [eV].
        voltage_instability: Relative standard deviation of the high voltage (1e-6 is 1 ppm).
        current_instability: Relative standard deviation of the lens current.
        error: Bound on the error of every element of the mutual coherence.

    Raises:
        InputError: A width is negative, or the average needs too many nodes.

    >>> c = make_coherence(200e3, 20.0, source_size=rms_of_fwhm(0.8), chromatic=1.2e7, energy_spread=0.3)
    >>> c.source_nodes, c.focal_nodes
    ((12, 12), 5)
    """
    size = (source_size, source_size) if isinstance(source_size, int | float) else source_size
    given = {
        "source size (y)": size[0],
        "source size (x)": size[1],
        "chromatic aberration": chromatic,
        "energy spread": energy_spread,
        "voltage instability": voltage_instability,
        "current instability": current_instability,
    }
    for name, value in given.items():
        if not (math.isfinite(value) and value >= 0.0):
            raise InputError(f"a {name} of {value:g} is no standard deviation; give a positive number, or 0 for none")
    if not 0.0 < semiangle < 500.0:
        raise InputError(f"a semi-angle of {semiangle:g} mrad is not that of a probe; give mrad, such as 20")
    made = Coherence(
        source_size=real(size),
        chromatic=real(chromatic),
        energy_spread=real(energy_spread),
        voltage_instability=real(voltage_instability),
        current_instability=real(current_instability),
    )
    return _with_nodes(made, energy, semiangle, error)


def _with_nodes(made: Coherence, energy: float, semiangle: float, error: float) -> Coherence:
    """The coherence with the node counts of an error, shared between the directions that are averaged."""
    cutoff, spread = 1e-3 * semiangle / wavelength(energy), float(focal_spread(made, energy))
    names = [f"a source of {float(s):.3g} Å rms along {axis}" for s, axis in zip(made.source_size, "yx", strict=True)]
    names.append(f"a focal spread of {spread:.3g} Å rms")
    phases = [4.0 * math.pi * cutoff * float(s) for s in made.source_size]
    phases.append(math.pi * wavelength(energy) * cutoff**2 * spread)
    share = error / max(1, sum(phase > 0.0 for phase in phases))
    y, x, focal = (nodes_for(share, p, f"{n} at {semiangle:g} mrad") for p, n in zip(phases, names, strict=True))
    return made.replace(source_nodes=(y, x), focal_nodes=focal)


def rms_of_fwhm(fwhm: float) -> float:
    r"""Standard deviation of a normal distribution from its full width at half maximum.

    .. math:: s = \frac{w}{2 \sqrt{2 \ln 2}}

    >>> round(rms_of_fwhm(1.0), 6)
    0.424661
    """
    return fwhm / (2.0 * math.sqrt(2.0 * math.log(2.0)))


def momentum_factor(energy: float) -> float:
    r"""How much faster the squared momentum changes than the energy, relatively.

    .. math:: \frac{d \ln p^2}{d \ln E} = \frac{1 + E/m_0c^2}{1 + E/2m_0c^2}, \qquad p^2 c^2 = E (E + 2 m_0 c^2)

    1 for slow electrons, 2 for fast ones. The focal length of a magnetic lens goes as p²/I², and Cc is by definition
    the change of focus for a relative change of p² (of the relativistically corrected voltage).

    Args:
        energy: Beam energy [eV].

    >>> round(momentum_factor(200e3), 4)
    1.1637
    """
    ratio = check_energy(energy) / REST_ENERGY
    return (1.0 + ratio) / (1.0 + 0.5 * ratio)


def focal_spread(coherence: Coherence, energy: Annotated[float, "eV"]) -> Annotated[Array, "Å"]:
    r"""Standard deviation of the focus.

    .. math:: \delta = C_c \sqrt{\left(\gamma \frac{\Delta E}{E}\right)^2 + \left(\gamma \frac{\Delta V}{V}\right)^2
        + \left(2 \frac{\Delta I}{I}\right)^2}, \qquad \gamma = \frac{1 + E/m_0c^2}{1 + E/2m_0c^2}

    Source: Reimer and Kohl, Transmission Electron Microscopy, 5th ed. (2008), chapter 2, chromatic aberration; the
    factors follow from f ∝ p²/I² (`momentum_factor`).

    Args:
        coherence: Cc, energy spread and instabilities.
        energy: Beam energy [eV].

    Returns:
        δ [Å], to be added to C10.

    >>> round(float(focal_spread(make_coherence(200e3, 20.0, chromatic=1.2e7, energy_spread=0.3), 200e3)), 2)
    20.95
    """
    factor = momentum_factor(energy)
    square = (
        (factor / energy * coherence.energy_spread) ** 2
        + (factor * coherence.voltage_instability) ** 2
        + (2.0 * coherence.current_instability) ** 2
    )
    # Intensities are even in δ, so their slope at zero is zero; the root's own slope there is infinite.
    root = jnp.sqrt(jnp.where(square > 0, square, 1.0))
    return coherence.chromatic * jnp.where(square > 0, root, 0.0)


@typed
def incoherent_probes(
    coherence: Coherence,
    waves: Complex[Array, "mode ny nx"],
    grid: Grid,
    energy: Annotated[float, "eV"],
    *,
    centre: Annotated[Array | tuple[float, float], "mrad"] = (0.0, 0.0),
) -> Complex[Array, "node ny nx"]:
    r"""The waves of a partially coherent beam: each mode from every node of the source and of the focus.

    .. math:: \psi_{m s f}(k) = \sqrt{w_s w_f}\, \psi_m(k)\, e^{-2\pi i k \cdot r_s}\, e^{-i \pi \lambda k^2 \Delta_f}

    with r_s and Δ_f the Gauss-Hermite nodes times the widths, so that all is differentiable in the widths. Intensities
    are summed over the first axis. Δ_f adds to C10.

    Args:
        coherence: Widths and numbers of nodes.
        waves: Coherent modes in reciprocal space [mode ny nx], zero frequency in the corner.
        grid: Real-space grid of the waves.
        energy: Beam energy [eV].
        centre: Centre of the aperture on the detector (y, x) [mrad], from which defocus counts.

    Returns:
        Waves [mode × source node × focal node, ny, nx], the focus fastest; their power is that of `waves`.

    >>> grid, c = Grid((8, 8), (0.2, 0.2)), make_coherence(80e3, 20.0, source_size=0.2)
    >>> incoherent_probes(c, jnp.ones((1, 8, 8)) + 0j, grid, 80e3).shape[0] == c.source_nodes[0] * c.source_nodes[1]
    True
    """
    ky, kx = (real(k) for k in grid.frequencies())
    factors = node_factors(coherence, ky, kx, energy, centre)
    return (waves[:, None] * factors[None]).reshape(-1, *grid.shape)


def node_factors(
    coherence: Coherence, ky: Array, kx: Array, energy: float, centre: Array | tuple[float, float] = (0.0, 0.0)
) -> Array:
    """What every node of the source and the focus does to a wave (`incoherent_probes`), at any frequencies.

    Args:
        coherence: Widths and numbers of nodes.
        ky: Frequencies along y, (ny, 1) or the full shape (ny, nx) [1/Å].
        kx: Frequencies along x, (1, nx) or the full shape [1/Å].
        energy: Beam energy [eV].
        centre: Centre of the aperture (y, x) [mrad].

    Returns:
        Complex factors [source node × focal node, ny, nx], the focus fastest; their squares sum to 1 over the nodes.
    """
    unit, weights = product_nodes(coherence.source_nodes)
    places = real(unit) * coherence.source_size[None]
    ramps_y, ramps_x = (
        jnp.exp(-2j * math.pi * place[:, None, None] * k[None]) for place, k in zip(places.T, (ky, kx), strict=True)
    )
    source = real(np.sqrt(weights))[:, None, None] * ramps_y * ramps_x
    unit, weights = normal_nodes(coherence.focal_nodes)
    foci = real(unit) * focal_spread(coherence, energy)
    scale = 1e-3 / wavelength(energy)
    square = (ky - scale * centre[0]) ** 2 + (kx - scale * centre[1]) ** 2
    phase = real(math.pi * wavelength(energy)) * foci[:, None, None] * square[None]
    focal = real(np.sqrt(weights))[:, None, None] * jnp.exp(-1j * phase)
    return (source[:, None] * focal[None]).reshape(-1, *square.shape)


class FocalEnvelope(struct.PyTreeNode):
    r"""The focal spread as a damping of the aperture; a plate for `make_probe`, made by `make_focal_envelope`.

    .. math:: A(k) \to A(k)\, e^{-\frac12 (\pi \lambda \delta)^2 k^4}

    It is the zeroth term of the mutual coherence exp(−½(πλδ)²(k₁² − k₂²)²) in powers of k₁² k₂²: right for
    interference with the axial beam, too strong for two beams on one ring. With w = πλδ k_max² the largest error of a
    coherence element is 1 − exp(−w²), 9 % for w = 0.3 and 63 % for w = 1. A probe's profile in focus is off by 0.9 % of
    its peak for w = 0.35 (200 kV, 20 mrad, δ = 7 Å) and by 6.5 % for w = 1.05 (δ = 21 Å), where no focal spread at all
    is off by 9 %; and its tails shrink, while in truth they grow. Use it for w well below 1, else 4 or 5 focal nodes.

    Args:
        spread: Standard deviation δ of the focus [Å].
        wavelength: Wavelength [Å].
    """

    spread: Annotated[Array, "Å"]
    wavelength: float = struct.field(pytree_node=False)

    def transmission(self, alpha_y: Array, alpha_x: Array, semiangle: Array) -> Array:
        """Amplitude at angles [mrad] from the centre of the aperture, complex [ny nx]."""
        del semiangle
        square = 1e-6 * (alpha_y**2 + alpha_x**2) / self.wavelength
        return jnp.exp(-0.5 * (math.pi * self.spread * square) ** 2).astype(jnp.result_type(complex))


def make_focal_envelope(coherence: Coherence, energy: Annotated[float, "eV"]) -> FocalEnvelope:
    """The envelope of a coherence's focal spread.

    Args:
        coherence: Cc, energy spread and instabilities.
        energy: Beam energy [eV].

    >>> plate = make_focal_envelope(make_coherence(200e3, 20.0, chromatic=1.2e7, energy_spread=0.3), 200e3)
    >>> round(float(plate.transmission(jnp.array([[20.0]]), jnp.array([[0.0]]), jnp.array(20.0))[0, 0].real), 4)
    0.5765
    """
    return FocalEnvelope(spread=focal_spread(coherence, energy), wavelength=wavelength(energy))


@typed
def blur_image(
    image: Float[Array, "ny nx"],
    step: Annotated[tuple[float, float] | float, "Å"],
    source_size: Annotated[Array | float | tuple[float, float], "Å"],
    *,
    periodic: bool = True,
) -> Float[Array, "ny nx"]:
    r"""The image of a finite source from that of a point source.

    .. math:: I_s(r) = \int I(r - r')\, \frac{e^{-r'^2 / 2 s^2}}{2\pi s^2}\, d^2r'
        = F^{-1}\left[ e^{-2 \pi^2 s^2 q^2} F[I] \right]

    Exact, for any detector and thickness, because a displaced source is a displaced probe: for a scan that repeats (or
    goes on beyond several s) and whose step resolves the image, step < λ / 4α. Only images: a pattern at one place has
    seen all places around it.

    Args:
        image: Image on a regular raster [ny nx].
        step: Step of the raster, one number or (y, x) [Å].
        source_size: Standard deviation of the source, one number or (y, x) [Å]; differentiable.
        periodic: Whether the scan repeats; else it is mirrored at its edges, which keeps the mean but invents what lies
            beyond them.

    Returns:
        Image [ny nx].

    >>> flat = blur_image(jnp.ones((4, 4)), 0.5, 0.3)
    >>> bool(jnp.allclose(flat, 1.0, atol=1e-6))
    True
    """
    steps = (step, step) if isinstance(step, int | float) else step
    size = jnp.broadcast_to(real(source_size), (2,))
    ny, nx = image.shape
    if not periodic:
        image = jnp.pad(image, ((0, ny), (0, nx)), mode="symmetric")
    qy, qx = (real(q) for q in Grid((image.shape[0], image.shape[1]), steps).frequencies())
    damping = jnp.exp(-2 * math.pi**2 * (qy * size[0]) ** 2) * jnp.exp(-2 * math.pi**2 * (qx * size[1]) ** 2)
    return jnp.fft.ifft2(jnp.fft.fft2(image) * damping).real[:ny, :nx]
