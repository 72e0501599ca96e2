r"""What atoms that vibrate independently scatter thermally: out of the mean wave, and onto a ring.

The mean transmission of a slice is the product of the means of its atoms. To second order in the potential,

.. math:: \langle e^{i \sigma V} \rangle = \exp\Big(i \sigma \langle V \rangle - \frac{\sigma^2}{2}
    \sum_j w_j(\mathbf r - \mathbf r_j)\Big), \qquad w = \langle v^2 \rangle - \langle v \rangle^2,

with v the projected potential of one atom. Its transform follows from that of v, F(q), and the mean square displacement
u². With q = k/2 + p, whose partner is k − q = k/2 − p, the two mean values depend on the direction of p by F alone:

.. math:: w(k) = \int d^2 p\; F(|\mathbf p + \tfrac{\mathbf k}{2}|)\, F(|\mathbf p - \tfrac{\mathbf k}{2}|)
    \big[ e^{-2\pi^2 u^2 k^2} - e^{-2\pi^2 u^2 (k^2/2 + 2 p^2)} \big].

So a table of the integral over the azimuth serves every u, and w is differentiable in u. The vector p is where a pair
of plane waves at ±k/2 is scattered to, so the same integral over a ring of p is what falls on an annular detector.

The second order takes too much out of heavy atoms: at 100 keV and u = 0.08 Å 2 % for silicon, 55 % for gold
(tests/physics/test_absorption.py). With the interaction parameter given, F F is multiplied by Re(R R*) of
`stemjax.specimen.phase_grating`, which is every order. Frozen phonons agree where their pixels are fine enough: their
potential ends at the band limit, which makes the rings of heavy atoms too bright on coarse pixels.

Source: C. R. Hall, P. B. Hirsch, Proc. R. Soc. A 286 (1965) 158; D. M. Bird, Q. A. King, Acta Cryst. A46 (1990) 202;
for detectors S. J. Pennycook, D. E. Jesson, Ultramicroscopy 37 (1991) 14.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.core.typing import Annotated, Array, Float, Scalar
from stemjax.specimen.phase_grating import amplitude_ratio, mean_logarithm, place_weights, plain_number
from stemjax.specimen.potential import BAND_LIMIT, project_site_factors
from stemjax.specimen.scattering_factors import POTENTIAL_PER_SCATTERING_FACTOR, scattering_factor
from stemjax.specimen.slicing import Slices
from stemjax.specimen.structure import Structure

# Nodes of the table in k, closer together at small k, and where it ends [1/Å].
NODES, LARGEST, STRETCH = 160, 32.0, 4.5
# Nodes of the quadratures over |p| (on each side of k/2) and over the azimuth.
RADII, AZIMUTHS = 48, 40
EVERYWHERE = (0.0, np.inf)


class Overlap(NamedTuple):
    """Of one element: integral over the azimuth of F F, times the weight of |p|, and p² [node radius]."""

    weight: np.ndarray
    square: np.ndarray


def _stretched(place: np.ndarray | float) -> np.ndarray:
    """k [1/Å] of a place in the table, in nodes."""
    return LARGEST * np.sinh(STRETCH * np.asarray(place) / (NODES - 1)) / np.sinh(STRETCH)


@lru_cache(maxsize=256)
def overlap(
    parametrization: str, number: int, ring: tuple[float, float] = EVERYWHERE, interaction_parameter: float = 0.0
) -> Overlap:
    """Overlap of an element's projected potential with itself, for a ring of |p| [1/Å].

    >>> overlap("lobato", 6).weight.shape == (NODES, 2 * RADII)
    True
    """
    node, weight = np.polynomial.legendre.leggauss(RADII)
    t, dt = (node + 1.0) / 2.0, weight / 2.0
    half = 0.5 * _stretched(np.arange(NODES))[:, None]
    low, high = ring
    # F has its peaks at p = ±k/2; the cubes crowd the nodes there.
    middle = np.clip(half, low, high)
    below, d_below = middle - (middle - low) * t**3, (middle - low) * 3.0 * t**2 * dt
    if np.isinf(high):
        scale = 1.0
        above, d_above = middle + scale * (t / (1.0 - t)) ** 3, 3.0 * scale * t**2 / (1.0 - t) ** 4 * dt
        d_above = np.broadcast_to(d_above, above.shape)
    else:
        above, d_above = middle + (high - middle) * t**3, (high - middle) * 3.0 * t**2 * dt
    p, dp = np.concatenate([below, above], axis=1), np.concatenate([d_below, d_above], axis=1)
    return Overlap(p * dp * _around(parametrization, number, p, half, interaction_parameter), p**2)


def _around(
    parametrization: str, number: int, p: np.ndarray, half: np.ndarray, interaction_parameter: float
) -> np.ndarray:
    """Integral over the azimuth of F R (|p + k/2|) F R* (|p − k/2|) [node radius]; half of k in `half` [node 1]."""

    def amplitude(q: np.ndarray) -> np.ndarray:
        ratio = amplitude_ratio(parametrization, number, q, interaction_parameter)
        return ratio * np.asarray(scattering_factor(parametrization, number, q))

    node, weight = np.polynomial.legendre.leggauss(AZIMUTHS)
    angle, d_angle = np.pi / 2 * ((node + 1.0) / 2.0) ** 3, np.pi / 2 * 1.5 * ((node + 1.0) / 2.0) ** 2 * weight
    total = np.zeros(p.shape)
    for a, w in zip(angle, d_angle, strict=True):
        # 1 − cos in this form keeps its digits where p is close to k/2.
        near = np.sqrt((p - half) ** 2 + 4.0 * p * half * np.sin(a / 2.0) ** 2)
        far = np.sqrt(p**2 + half**2 + 2.0 * p * half * np.cos(a))
        total += 4.0 * w * (amplitude(near) * amplitude(far).conj()).real
    return POTENTIAL_PER_SCATTERING_FACTOR**2 * total


def absorptive_factor(
    number: int,
    k: Annotated[np.ndarray, "1/Å"],
    mean_square: Annotated[Scalar, "Å²"],
    *,
    parametrization: str = "lobato",
    ring: Annotated[tuple[float, float], "1/Å"] = EVERYWHERE,
    interaction_parameter: Annotated[float, "rad/(V Å)"] = 0.0,
) -> Annotated[Array, "V² Å⁴"]:
    r"""Transform w(k) of the variance of an atom's projected potential; the formula is that of the module.

    Args:
        number: Atomic number.
        k: Spatial frequencies, fixed under `jax.jit` [1/Å].
        mean_square: Mean square displacement along one axis u², may be traced [Å²].
        parametrization: "lobato" or "kirkland".
        ring: Only what is scattered to spatial frequencies within these radii [1/Å].
        interaction_parameter: σ, a plain number, for all orders; 0 for the second order [rad/(V Å)].

    Returns:
        w of the shape of `k`; zero beyond 32/Å.

    >>> w = absorptive_factor(79, np.array([0.0, 1.0, 40.0]), 0.0064)
    >>> bool(w[0] > w[1] > w[2] == 0.0), float(absorptive_factor(79, np.array([1.0]), 0.0)[0])
    (True, 0.0)
    """
    table = overlap(parametrization, int(number), ring, plain_number(interaction_parameter))
    u2 = jnp.asarray(mean_square)
    a = 2.0 * jnp.pi**2 * u2
    at_nodes = _stretched(np.arange(NODES))[:, None] ** 2
    here, there = (a * jnp.asarray(x, u2.dtype) for x in (at_nodes, at_nodes / 2.0 + 2.0 * table.square))
    gap = there - here
    # The difference of two exponentials without cancellation or overflow.
    change = -jnp.expm1(-jnp.where(gap >= 0, gap, -gap))
    bracket = jnp.where(gap >= 0, jnp.exp(-here), -jnp.exp(-there)) * change
    values = jnp.sum(jnp.asarray(table.weight, u2.dtype) * bracket, axis=1)
    return _interpolated(values, k)


def _interpolated(values: Float[Array, "node"], k: np.ndarray) -> Array:
    """A table at other frequencies."""
    index, weight = _interpolation(np.asarray(k, float))
    return jnp.sum(values[index] * jnp.asarray(weight, values.dtype), axis=-1)


def _interpolation(k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights [... 6] of a polynomial of degree five between the nodes of the table; w is even in k."""
    place = np.arcsinh(np.minimum(k, LARGEST) / LARGEST * np.sinh(STRETCH)) * (NODES - 1) / STRETCH
    first = np.minimum(np.floor(place).astype(int) - 2, NODES - 6)
    x = place - first
    steps = np.arange(6)
    weight = np.stack([np.prod([(x - m) / (n - m) for m in steps if m != n], axis=0) for n in steps], axis=-1)
    return np.abs(first[..., None] + steps), np.where(k[..., None] <= LARGEST, weight, 0.0)


def mean_wave_factors(
    number: int,
    k: Annotated[np.ndarray, "1/Å"],
    mean_square: Annotated[Scalar, "Å²"],
    interaction_parameter: Annotated[float, "rad/(V Å)"],
    *,
    parametrization: str = "lobato",
) -> tuple[Annotated[Array, "Å²"], Annotated[Array, "Å²"]]:
    """Transforms of what `mean_logarithm` adds to an atom's mean phase: of the logarithmic amplitude, and of the phase.

    Args:
        number: Atomic number.
        k: Spatial frequencies, fixed under `jax.jit` [1/Å].
        mean_square: Mean square displacement along one axis, may be traced [Å²].
        interaction_parameter: σ, a plain number [rad/(V Å)].
        parametrization: "lobato" or "kirkland".

    Returns:
        Both of the shape of `k`; the first is −σ²w/2 for weak scattering.

    >>> k, sigma = np.array([0.0, 1.0]), 1e-5
    >>> loss, _ = mean_wave_factors(6, k, 0.0064, sigma)
    >>> bool(jnp.allclose(loss / (-0.5 * sigma**2), absorptive_factor(6, k, 0.0064), rtol=2e-3))
    True
    """
    _, *parts = mean_logarithm(parametrization, int(number), jnp.asarray(mean_square), interaction_parameter)
    matrix = jnp.asarray(_to_nodes(), parts[0].dtype)
    loss, change = (_interpolated(matrix @ part, k) for part in parts)
    return loss, change


@lru_cache(maxsize=1)
def _to_nodes() -> np.ndarray:
    """Matrix from the places of `mean_logarithm` to the nodes of the table [node radius]."""
    from scipy.special import j0

    radius, weight = place_weights()
    return j0(2.0 * np.pi * np.outer(_stretched(np.arange(NODES)), radius)) * weight[None]


def mean_wave(
    structure: Structure,
    grid: Grid,
    slices: Slices,
    interaction_parameter: Annotated[float, "rad/(V Å)"],
    *,
    parametrization: str = "lobato",
    band_limit: float = BAND_LIMIT,
) -> tuple[Float[Array, "slice ny nx"], Annotated[Float[Array, "slice ny nx"], "rad"]]:
    r"""What the vibration of independent atoms makes of a slice's mean transmission, beside the Debye-Waller factor.

    .. math:: \langle e^{i\sigma V_s} \rangle = e^{a_s + i (\sigma \langle V_s \rangle + b_s)}, \qquad
        a_s + i b_s = \sum_{j \in s} \ln \langle e^{i\sigma v_j} \rangle - i \sigma \langle v_j \rangle

    Displacements along axes count with their mean over y and x. The occupancy is a weight: disorder of occupation
    scatters too, and is not in it.

    Args:
        structure: Atoms with their displacements.
        grid: Grid that spans their cell.
        slices: Number of equal slices, or the thickness of each [Å].
        interaction_parameter: σ, a plain number [rad/(V Å)].
        parametrization: "lobato" or "kirkland".
        band_limit: Part of the Nyquist frequency, at most 2/3.

    Returns:
        a, the logarithm of the amplitude, and b, the change of phase, of every slice.

    >>> from stemjax.specimen.structure import make_structure
    >>> gold = make_structure([[1.0, 2.0, 2.0]], [79], [2.0, 4.0, 4.0], rms_displacement=0.08)
    >>> loss, change = mean_wave(gold, Grid((20, 20), (0.2, 0.2)), 1, 0.9e-3)
    >>> bool(loss.sum() < 0), change.shape
    (True, (1, 20, 20))
    """

    def factor(part: int) -> Callable[[int, np.ndarray, Array], Array]:
        def of(number: int, k: np.ndarray, mean_square: Array) -> Array:
            u2 = _in_plane(mean_square)
            return mean_wave_factors(number, k, u2, interaction_parameter, parametrization=parametrization)[part]

        return of

    loss, change = (
        project_site_factors(structure, grid, slices, factor(part), band_limit=band_limit, damped=False)
        for part in (0, 1)
    )
    return loss, change


def _in_plane(mean_square: Array) -> Array:
    """Mean square displacement normal to the beam, from one number or from three along (z, y, x)."""
    return mean_square if mean_square.ndim == 0 else 0.5 * (mean_square[1] + mean_square[2])


def thermal_detector_factor(
    number: int,
    k: Annotated[np.ndarray, "1/Å"],
    mean_square: Annotated[Scalar, "Å²"],
    *,
    inner: Annotated[float, "mrad"],
    outer: Annotated[float, "mrad"],
    wavelength: Annotated[float, "Å"],
    parametrization: str = "lobato",
    interaction_parameter: Annotated[float, "rad/(V Å)"] = 0.0,
) -> Annotated[Array, "V² Å⁴"]:
    """The part of `absorptive_factor` that is scattered onto a ring; all rings together are the whole of it.

    Args:
        number: Atomic number.
        k: Spatial frequencies, fixed under `jax.jit` [1/Å].
        mean_square: Mean square displacement along one axis, may be traced [Å²].
        inner: Inner angle of the ring [mrad].
        outer: Outer angle of the ring [mrad].
        wavelength: Wavelength of the electrons [Å].
        parametrization: "lobato" or "kirkland".
        interaction_parameter: σ, a plain number, for all orders; 0 for the second order [rad/(V Å)].

    >>> k = np.array([0.0, 1.0])
    >>> parts = [thermal_detector_factor(14, k, 0.006, inner=a, outer=b, wavelength=0.025)
    ...          for a, b in ((0, 60), (60, np.inf))]
    >>> bool(jnp.allclose(parts[0] + parts[1], absorptive_factor(14, k, 0.006), rtol=1e-5))
    True
    """
    ring = _ring(inner, outer, wavelength)
    return absorptive_factor(
        number, k, mean_square,
        parametrization=parametrization, ring=ring, interaction_parameter=interaction_parameter,
    )  # fmt: skip


def thermal_detector_potential(
    structure: Structure,
    grid: Grid,
    slices: Slices,
    interaction_parameter: Annotated[float, "rad/(V Å)"],
    *,
    inner: Annotated[float, "mrad"],
    outer: Annotated[float, "mrad"],
    wavelength: Annotated[float, "Å"],
    parametrization: str = "lobato",
) -> Float[Array, "slice ny nx"]:
    r"""Probability per slice that an electron at a place is scattered thermally onto a ring.

    .. math:: I = \sum_s \sum_{\mathbf r} |\psi_s(\mathbf r)|^2 W_s(\mathbf r), \qquad W = \sigma^2 w_\mathrm{ring}

    for a wave whose |ψ|² sums to one. A pair of plane waves is taken to be scattered from its mean direction, which is
    exact for all angles together and good where the ring is wide and lies far outside the illumination; Bragg
    scattering onto the ring, and scattering after the thermal event, are not counted.

    Args:
        structure: Atoms with their displacements.
        grid: Grid that spans their cell.
        slices: Number of equal slices, or the thickness of each [Å].
        interaction_parameter: σ, a plain number [rad/(V Å)].
        inner: Inner angle of the ring [mrad].
        outer: Outer angle of the ring [mrad].
        wavelength: Wavelength of the electrons [Å].
        parametrization: "lobato" or "kirkland".

    Returns:
        W of every slice.

    >>> from stemjax.specimen.structure import make_structure
    >>> gold = make_structure([[1.0, 2.0, 2.0]], [79], [2.0, 4.0, 4.0], rms_displacement=0.08)
    >>> ring = {"inner": 60.0, "outer": 200.0, "wavelength": 0.025}
    >>> bool(thermal_detector_potential(gold, Grid((20, 20), (0.2, 0.2)), 1, 1e-3, **ring).max() > 0)
    True
    """
    ring = _ring(inner, outer, wavelength)
    sigma = plain_number(interaction_parameter)

    def factor(number: int, k: np.ndarray, mean_square: Array) -> Array:
        return sigma**2 * absorptive_factor(
            number, k, _in_plane(mean_square),
            parametrization=parametrization, ring=ring, interaction_parameter=sigma,
        )  # fmt: skip

    return project_site_factors(structure, grid, slices, factor, damped=False)


def _ring(inner: float, outer: float, wavelength: float) -> tuple[float, float]:
    """Radii of a ring of angles [1/Å]."""
    if not 0 <= inner < outer or not wavelength > 0:
        raise InputError(
            f"a ring from {inner:g} to {outer:g} mrad at {wavelength:g} Å; give 0 <= inner < outer, such as 60 and 200"
        )
    return 1e-3 * float(inner) / float(wavelength), 1e-3 * float(outer) / float(wavelength)
