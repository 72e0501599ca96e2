r"""What one atom does to a wave, to all orders: the phase grating exp(iσv), and its mean over the atom's vibration.

.. math:: G(q) = \int (e^{i \sigma v(r)} - 1)\, e^{-2\pi i \mathbf q \cdot \mathbf r}\, d^2 r
    = i \sigma F(q)\, R(q), \qquad
    \langle e^{i \sigma v} \rangle = 1 + g, \quad g(k) = G(k)\, e^{-2\pi^2 u^2 k^2}

R is one for weak scattering; for heavy atoms it turns and shrinks the amplitude. Tables of R are made once for an
element and an energy, so that everything stays differentiable in u.

Source: R. J. Glauber, V. Schomaker, Phys. Rev. 89 (1953) 667.
"""

from __future__ import annotations

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.typing import Annotated, Array, Float
from stemjax.specimen.scattering_factors import POTENTIAL_PER_SCATTERING_FACTOR, coefficients, scattering_factor

# Table of R: number of frequencies, closer together at small ones, and the largest [1/Å]. Beyond it only a phase turns.
FREQUENCIES, HIGHEST = 240, 64.0
# Reach of an atom [Å] and nodes of the transform over it; they resolve the highest frequency where the atom is strong.
REACH, PLACES = 15.0, 6000
# Of the mean over the vibration: nodes over k and the largest [1/Å], nodes over r and the largest [Å].
WAVES, LARGEST, RADII, FARTHEST = 480, 32.0, 640, 4.0


def atom_potential(
    parametrization: str, number: int, radius: Annotated[np.ndarray, "Å"]
) -> Annotated[Float[np.ndarray, "radius"], "V Å"]:
    r"""Projected potential of an atom at rest, in closed form; it grows as −log r towards the nucleus.

    .. math::
        v_\mathrm{Lobato} &= C \sum_i a_i \Big[ \frac{2\pi}{b_i} K_0(s_i) + \frac{2\pi^2 r}{b_i^{3/2}} K_1(s_i) \Big],
        \quad s_i = \frac{2\pi r}{\sqrt{b_i}} \\
        v_\mathrm{Kirkland} &= C \sum_i 2\pi a_i K_0(2\pi\sqrt{b_i} r) + \frac{\pi c_i}{d_i} e^{-\pi^2 r^2 / d_i}

    Args:
        parametrization: "lobato" or "kirkland".
        number: Atomic number.
        radius: Distances from the nucleus, above zero [Å].

    Source: the transforms of `scattering_factor`, term by term.

    >>> v = atom_potential("lobato", 6, np.array([0.1, 0.5]))
    >>> bool(v[0] > v[1] > 0)
    True
    """
    from scipy.special import k0, k1

    c, r = coefficients(parametrization, number)[..., None], np.asarray(radius, float)
    if len(c) == 4:
        a, b, height, width = c
        terms = 2 * np.pi * a * k0(2 * np.pi * np.sqrt(b) * r) + np.pi * height / width * np.exp(
            -((np.pi * r) ** 2) / width
        )
    else:
        a, b = c
        s = 2 * np.pi * r / np.sqrt(b)
        terms = a * (2 * np.pi / b * k0(s) + 2 * np.pi**2 * r / b**1.5 * k1(s))
    return POTENTIAL_PER_SCATTERING_FACTOR * terms.sum(axis=0)


def _places(frequency: np.ndarray) -> np.ndarray:
    """Where frequencies stand in the table of R, which is even in close steps at small ones."""
    return np.arcsinh(np.minimum(frequency, HIGHEST) * 10.0)


def _unit_interval(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of a quadrature over 0 to 1 in pieces of twenty nodes."""
    node, weight = np.polynomial.legendre.leggauss(20)
    pieces = count // 20
    nodes = (np.arange(pieces)[:, None] + (node + 1.0)[None] / 2.0) / pieces
    return nodes.ravel(), np.tile(weight / (2.0 * pieces), pieces)


@lru_cache(maxsize=256)
def _ratio_table(parametrization: str, number: int, interaction_parameter: float) -> tuple[np.ndarray, np.ndarray]:
    """Places and complex R there."""
    from scipy.special import j0

    place = np.linspace(0.0, _places(np.array(HIGHEST)), FREQUENCIES)
    frequency = np.sinh(place) / 10.0
    t, dt = _unit_interval(PLACES)
    r, dr = REACH * t**3, 3.0 * REACH * t**2 * dt
    angle = interaction_parameter * atom_potential(parametrization, number, r)
    # exp(ia) − 1 − ia without cancellation.
    higher = -2.0 * np.sin(angle / 2.0) ** 2 + 1j * (np.sin(angle) - angle)
    parts = 2.0 * np.pi * r * dr * higher
    beyond = np.array([np.dot(parts, j0(2.0 * np.pi * q * r)) for q in frequency])
    first = interaction_parameter * POTENTIAL_PER_SCATTERING_FACTOR
    return place, 1.0 + beyond / (1j * first * np.asarray(scattering_factor(parametrization, number, frequency)))


def amplitude_ratio(
    parametrization: str, number: int, frequency: Annotated[np.ndarray, "1/Å"], interaction_parameter: float
) -> np.ndarray:
    """R: the scattering amplitude of an atom's phase grating over that of weak scattering, complex.

    Args:
        parametrization: "lobato" or "kirkland".
        number: Atomic number.
        frequency: Spatial frequencies [1/Å].
        interaction_parameter: σ [rad/(V Å)], a plain number; 0 for weak scattering, where R is one.

    >>> q = np.array([0.0, 2.0])
    >>> light, heavy = (np.abs(amplitude_ratio("lobato", z, q, 0.9e-3)).min() for z in (6, 79))
    >>> bool(light > 0.99 > 0.8 > heavy)
    True
    """
    if interaction_parameter == 0:
        return np.ones(np.shape(frequency), complex)
    from scipy.interpolate import CubicSpline

    place, ratio = _ratio_table(parametrization, int(number), plain_number(interaction_parameter))
    return CubicSpline(place, ratio)(_places(np.asarray(frequency, float)))


def plain_number(interaction_parameter: float | Array) -> float:
    """σ as a Python number; tables of it cannot be traced.

    >>> plain_number(np.float64(1e-3))
    0.001
    """
    if isinstance(interaction_parameter, jax.core.Tracer):
        raise InputError(
            "thermal absorption needs a fixed energy; take the interaction parameter out of what is traced"
        )
    return float(interaction_parameter)


@lru_cache(maxsize=1)
def _transforms() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Nodes k, nodes r, matrix from k to r [r k], weights 2π r dr."""
    from scipy.special import j0

    t, dt = _unit_interval(WAVES)
    k, dk = LARGEST * t**2, 2.0 * LARGEST * t * dt
    t, dt = _unit_interval(RADII)
    r, dr = FARTHEST * t**2, 2.0 * FARTHEST * t * dt
    return k, r, j0(2.0 * np.pi * np.outer(r, k)) * (2.0 * np.pi * k * dk)[None], 2.0 * np.pi * r * dr


def place_weights() -> tuple[Annotated[np.ndarray, "Å"], Annotated[np.ndarray, "Å²"]]:
    """The places of `mean_logarithm` [Å], and their weights in an integral over the plane [Å²].

    >>> r, weight = place_weights()
    >>> round(float(np.sum(weight * np.exp(-np.pi * r**2))), 6)
    1.0
    """
    _, r, _, weight = _transforms()
    return r, weight


@lru_cache(maxsize=256)
def _at_waves(parametrization: str, number: int, interaction_parameter: float) -> tuple[np.ndarray, np.ndarray]:
    """σF and R at the nodes k."""
    k = _transforms()[0]
    first = interaction_parameter * POTENTIAL_PER_SCATTERING_FACTOR * scattering_factor(parametrization, number, k)
    return np.asarray(first), amplitude_ratio(parametrization, number, k, interaction_parameter)


def mean_logarithm(
    parametrization: str, number: int, mean_square: Annotated[Array, "Å²"], interaction_parameter: float
) -> tuple[Annotated[np.ndarray, "Å"], Float[Array, "radius"], Annotated[Float[Array, "radius"], "rad"]]:
    r"""Logarithm of an atom's mean phase grating, beyond the mean phase: what the Debye-Waller factor leaves out.

    .. math:: \ln \langle e^{i\sigma v} \rangle - i \sigma \langle v \rangle
        = -\tfrac{\sigma^2}{2} \big(\langle v^2 \rangle - \langle v \rangle^2\big) + O(\sigma^3)

    Args:
        parametrization: "lobato" or "kirkland".
        number: Atomic number.
        mean_square: Mean square displacement along one axis, may be traced [Å²].
        interaction_parameter: σ [rad/(V Å)], a plain number.

    Returns:
        Distances from the atom [Å]; there, the logarithm of the amplitude and the change of phase [rad].

    >>> _, amplitude, _ = mean_logarithm("lobato", 14, jnp.asarray(0.0064), 0.9e-3)
    >>> bool(amplitude[0] < -0.01) and bool(jnp.abs(amplitude[-1]) < 1e-5)
    True
    """
    k, r, to_place, _ = _transforms()
    first, ratio = _at_waves(parametrization, int(number), plain_number(interaction_parameter))
    u2 = jnp.asarray(mean_square)
    square, phase_k, turn, loss = (
        jnp.asarray(a, u2.dtype) for a in (k**2, first, first * ratio.real, -first * ratio.imag)
    )
    damping = jnp.exp(-2.0 * jnp.pi**2 * u2 * square)
    matrix = jnp.asarray(to_place, u2.dtype)
    phase, imaginary, real_part = (matrix @ (damping * a) for a in (phase_k, turn, loss))
    inside = (1.0 + real_part) ** 2 + imaginary**2
    # Of an atom at rest nothing is lost; the finite table would say otherwise.
    moves = u2 > 0
    return r, jnp.where(moves, 0.5 * jnp.log(inside), 0.0), jnp.where(moves, _wound(real_part, imaginary, phase), 0.0)


def _wound(real_part: Array, imaginary: Array, phase: Array) -> Array:
    """arg(1 + g) less the mean phase, on the branch next to it."""
    cosine, sine = jnp.cos(phase), jnp.sin(phase)
    return jnp.arctan2(imaginary * cosine - (1.0 + real_part) * sine, (1.0 + real_part) * cosine + imaginary * sine)
