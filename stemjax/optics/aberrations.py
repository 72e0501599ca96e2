"""Geometric aberrations to fifth order, and the names that people give them.

Inside, a coefficient is a real Cartesian pair (C12a, C12b): no angle that wraps, no singular origin. The polar form
(C12, phi12), defocus and Cs, and Haider's C1, A1, B2, ... are translated at the door by `make_aberrations`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import jax.numpy as jnp
from flax import struct

from stemjax.core.errors import InputError, nearest
from stemjax.core.typing import Annotated, Array, Float, Scalar, real, typed

ORDERS: tuple[tuple[int, int], ...] = (
    (1, 0), (1, 2), (2, 1), (2, 3), (3, 0), (3, 2), (3, 4), (4, 1), (4, 3), (4, 5), (5, 0), (5, 2), (5, 4), (5, 6),
)  # fmt: skip
"""Order n and multiplicity m of every coefficient."""

NAMES: tuple[str, ...] = tuple(f"C{n}{m}{part}" for n, m in ORDERS for part in (("a", "b") if m else ("",)))
"""Names of the 25 Cartesian coefficients, C10 to C56b."""

HAIDER: Mapping[str, tuple[int, int, float]] = {
    "C1": (1, 0, 1.0), "A1": (1, 2, 1.0), "B2": (2, 1, 3.0), "A2": (2, 3, 1.0), "C3": (3, 0, 1.0), "S3": (3, 2, 4.0),
    "A3": (3, 4, 1.0), "B4": (4, 1, 5.0), "D4": (4, 3, 5.0), "A4": (4, 5, 1.0), "C5": (5, 0, 1.0), "S5": (5, 2, 6.0),
    "R5": (5, 4, 6.0), "A5": (5, 6, 1.0),
}  # fmt: skip
"""Haider's name: (n, m, factor), C_nm = factor × |Haider coefficient|; see docs/developer/aberration-notation.md."""


class Aberrations(struct.PyTreeNode):
    """Aberration coefficients [Å], real Cartesian pairs in Krivanek's notation; made by `make_aberrations`."""

    C10: Annotated[Array, "Å"]
    C12a: Annotated[Array, "Å"]
    C12b: Annotated[Array, "Å"]
    C21a: Annotated[Array, "Å"]
    C21b: Annotated[Array, "Å"]
    C23a: Annotated[Array, "Å"]
    C23b: Annotated[Array, "Å"]
    C30: Annotated[Array, "Å"]
    C32a: Annotated[Array, "Å"]
    C32b: Annotated[Array, "Å"]
    C34a: Annotated[Array, "Å"]
    C34b: Annotated[Array, "Å"]
    C41a: Annotated[Array, "Å"]
    C41b: Annotated[Array, "Å"]
    C43a: Annotated[Array, "Å"]
    C43b: Annotated[Array, "Å"]
    C45a: Annotated[Array, "Å"]
    C45b: Annotated[Array, "Å"]
    C50: Annotated[Array, "Å"]
    C52a: Annotated[Array, "Å"]
    C52b: Annotated[Array, "Å"]
    C54a: Annotated[Array, "Å"]
    C54b: Annotated[Array, "Å"]
    C56a: Annotated[Array, "Å"]
    C56b: Annotated[Array, "Å"]


def make_aberrations(coefficients: Mapping[str, Scalar] | None = None, /, **named: Scalar) -> Aberrations:
    r"""Aberrations from any of the usual names; what is not named is zero.

    ==============  ==========================================  =====================================================
    form            names                                       meaning
    ==============  ==========================================  =====================================================
    Cartesian       C10, C12a, C12b, C21a, ...                  the leaves themselves
    polar           C12 with phi12, C21 with phi21, ...         C_nma = C_nm cos(m φ_nm), C_nmb = C_nm sin(m φ_nm)
    aliases         defocus, Cs, C5                             C10 = −defocus, C30 = Cs, C50 = C5
    Haider          C1, A1, B2, A2, C3, S3, A3, ... with        C_nm = factor × modulus, the angle is azimuth φ_nm
                    phiA1, phiB2, ...
    ==============  ==========================================  =====================================================

    Args:
        coefficients: Values by name [Å]; angles phi [rad].
        named: The same, as keywords.

    Raises:
        InputError: A name is unknown, or an angle has no coefficient.

    >>> float(make_aberrations(defocus=100.0).C10)
    -100.0
    >>> a = make_aberrations(C12=10.0, phi12=math.pi / 4)
    >>> round(float(a.C12a), 6), round(float(a.C12b), 6)
    (0.0, 10.0)
    """
    given = {**(coefficients or {}), **named}
    totals: dict[str, Scalar] = dict.fromkeys(NAMES, 0.0)
    for name, value in given.items():
        for cartesian, part in _cartesian(name, value, given).items():
            totals[cartesian] = totals[cartesian] + part
    return Aberrations(**{name: real(value) for name, value in totals.items()})


def _cartesian(name: str, value: Scalar, given: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The Cartesian parts that one named value contributes."""
    if name in NAMES:
        return {name: value}
    if name in ("defocus", "Cs"):
        return {"C10": -value} if name == "defocus" else {"C30": value}
    if name.startswith("phi"):
        if name[3:] not in given and "C" + name[3:] not in given:
            raise InputError(f"angle '{name}' is given without its coefficient '{'C' + name[3:]}'")
        return {}
    if name in HAIDER:
        n, m, factor = HAIDER[name]
        return _polar_pair(n, m, factor * value, given.get("phi" + name, 0.0))
    polar = {f"C{n}{m}": (n, m) for n, m in ORDERS if m}
    if name in polar:
        return _polar_pair(*polar[name], value, given.get("phi" + name[1:], 0.0))
    known = [*NAMES, *polar, *("phi" + p[1:] for p in polar), *HAIDER, "defocus", "Cs"]
    raise InputError(f"unknown aberration '{name}'; {nearest(name, known)}")


def _polar_pair(n: int, m: int, modulus: Scalar, angle: Scalar) -> dict[str, Scalar]:
    if m == 0:
        return {f"C{n}0": modulus}
    return {f"C{n}{m}a": modulus * jnp.cos(m * angle), f"C{n}{m}b": modulus * jnp.sin(m * angle)}


def polar(aberrations: Aberrations) -> dict[str, tuple[float, float]]:
    """Modulus [Å] and azimuth [rad] of every coefficient, {"C12": (10.0, 0.39), ...}; round ones carry angle 0.

    >>> polar(make_aberrations(C12=10.0, phi12=0.25))["C12"]
    (10.0, 0.25)
    """
    table = {}
    for n, m in ORDERS:
        if m == 0:
            table[f"C{n}0"] = (float(getattr(aberrations, f"C{n}0")), 0.0)
            continue
        a, b = (float(getattr(aberrations, f"C{n}{m}{part}")) for part in "ab")
        table[f"C{n}{m}"] = (round(math.hypot(a, b), 12), round(math.atan2(b, a) / m, 12))
    return table


@typed
def phase_error(
    aberrations: Aberrations,
    alpha_y: Annotated[Float[Array, "*ky"], "rad"],
    alpha_x: Annotated[Float[Array, "*kx"], "rad"],
    wavelength: Annotated[float, "Å"],
) -> Float[Array, "*k"]:
    r"""Aberration function of a lens.

    .. math:: \chi(\alpha, \varphi) = \frac{2\pi}{\lambda} \sum_{nm} \frac{\alpha^{n+1}}{n+1}
        [C_{nma} \cos m\varphi + C_{nmb} \sin m\varphi]

    evaluated as Re[(C_nma − i C_nmb) ω^m |ω|^(n+1−m)] / (n+1) with ω = α_x + i α_y, a polynomial without angles.
    Source: Krivanek, Dellby, Lupini, Ultramicroscopy 78 (1999) 1, Eq. 1-3.

    Args:
        aberrations: The coefficients [Å].
        alpha_y: Angle along y [rad], any shape that broadcasts with `alpha_x`.
        alpha_x: Angle along x [rad]; the azimuth φ = atan2(α_y, α_x).
        wavelength: Wavelength [Å].

    Returns:
        χ [rad]; the probe's wave is A exp(−iχ).

    >>> a = make_aberrations(C10=100.0)
    >>> float(phase_error(a, jnp.array(0.0), jnp.array(0.02), 0.025)) / math.pi  # = C10 α² / λ
    1.6
    """
    square = alpha_y**2 + alpha_x**2
    powers = _powers(alpha_y, alpha_x)
    total = jnp.zeros_like(square)
    for n, m in ORDERS:
        cosine, sine = powers[m]
        term = getattr(aberrations, f"C{n}{m}{'a' if m else ''}") * cosine
        if m:
            term = term + getattr(aberrations, f"C{n}{m}b") * sine
        total = total + term * square ** ((n + 1 - m) // 2) / (n + 1)
    return (2.0 * math.pi / wavelength) * total


def _powers(alpha_y: Array, alpha_x: Array) -> list[tuple[Array, Array]]:
    """Real and imaginary parts of (α_x + i α_y)^m for m = 0..6, by recurrence in real numbers."""
    shape = jnp.broadcast_shapes(alpha_y.shape, alpha_x.shape)
    real, imaginary = jnp.ones(shape, alpha_x.dtype), jnp.zeros(shape, alpha_x.dtype)
    powers = [(real, imaginary)]
    for _ in range(6):
        real, imaginary = real * alpha_x - imaginary * alpha_y, real * alpha_y + imaginary * alpha_x
        powers.append((real, imaginary))
    return powers


def phase_error_gradient(
    aberrations: Aberrations, alpha_y: Array, alpha_x: Array, wavelength: float
) -> tuple[Array, Array]:
    r"""Gradient of the aberration function, the shift of a bright-field image seen from one angle.

    .. math:: \Delta r(\alpha) = \frac{\lambda}{2\pi} \nabla_\alpha \chi

    Args:
        aberrations: The coefficients [Å].
        alpha_y: Angle along y [rad], the full shape of the result.
        alpha_x: Angle along x [rad], of the same shape.
        wavelength: Wavelength [Å].

    Returns:
        (λ/2π) ∂χ/∂α_y and (λ/2π) ∂χ/∂α_x [Å]. Source: Lupini, Chi, Jesse, J. Microscopy 263 (2016) 43, Eq. 3.

    >>> gy, gx = phase_error_gradient(make_aberrations(C10=100.0), jnp.array(0.0), jnp.array(0.02), 0.025)
    >>> round(float(gy), 6), round(float(gx), 6)  # C10 α
    (0.0, 2.0)
    """
    import jax

    scale = wavelength / (2.0 * math.pi)

    def total(y: Array, x: Array) -> Array:
        return phase_error(aberrations, y, x, wavelength).sum()

    gradient_y, gradient_x = jax.grad(total, argnums=(0, 1))(alpha_y, alpha_x)
    return scale * gradient_y, scale * gradient_x
