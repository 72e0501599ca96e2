"""Electron scattering factors of neutral atoms, and the constants that turn them into potentials."""

from __future__ import annotations

import csv
from functools import lru_cache
from importlib.resources import files

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from stemjax.core.errors import InputError, nearest
from stemjax.core.typing import Annotated, Array, Float

PLANCK = 6.62607015e-34
"""Planck constant h [J s] (CODATA 2018, exact)."""
ELECTRON_MASS = 9.1093837015e-31
"""Rest mass of the electron m0 [kg] (CODATA 2018)."""
ELEMENTARY_CHARGE = 1.602176634e-19
"""Elementary charge e [C] (CODATA 2018, exact)."""
BOHR_RADIUS = 0.529177210903
"""Bohr radius a0 [Å] (CODATA 2018)."""
POTENTIAL_PER_SCATTERING_FACTOR = 1e20 * PLANCK**2 / (2.0 * np.pi * ELECTRON_MASS * ELEMENTARY_CHARGE)
"""h²/(2π m0 e), 47.878 V·Å²: V(k) of an atom [V·Å³] is this times f_e(k) [Å]."""

PARAMETRIZATIONS = ("lobato", "kirkland")
"""Names of the tables."""

Coefficients = Float[np.ndarray, "..."]


@lru_cache(maxsize=len(PARAMETRIZATIONS))
def table(parametrization: str) -> Coefficients:
    """All coefficients of a parametrisation as published, double precision.

    Args:
        parametrization: "lobato" or "kirkland".

    Returns:
        Coefficients [103 kind term]: row Z - 1; kinds a, b ("lobato", 5 terms) or a, b, c, d ("kirkland", 3 terms).

    >>> table("lobato").shape, table("kirkland").shape
    ((103, 2, 5), (103, 4, 3))
    """
    if parametrization not in PARAMETRIZATIONS:
        raise InputError(f"no parametrisation {parametrization!r}; {nearest(parametrization, PARAMETRIZATIONS)}")
    text = files("stemjax.specimen").joinpath("tables", f"{parametrization}.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    letters = "ab" if parametrization == "lobato" else "abcd"
    terms = sum(name.startswith("a") for name in rows[0])
    values = np.array([[[float(r[f"{p}{i + 1}"]) for i in range(terms)] for p in letters] for r in rows])
    values.setflags(write=False)
    return values


def coefficients(parametrization: str, numbers: npt.ArrayLike) -> Coefficients:
    """Coefficients of some elements.

    Args:
        parametrization: "lobato" or "kirkland".
        numbers: Atomic numbers, 1 to 103, any shape.

    Returns:
        Coefficients [... kind term], double precision (see `table`).

    >>> coefficients("kirkland", [38, 8]).shape
    (2, 4, 3)
    """
    numbers = np.asarray(numbers, dtype=int)
    wrong = numbers[(numbers < 1) | (numbers > 103)]
    if wrong.size:
        raise InputError(f"no scattering factor for atomic number {int(wrong.flat[0])}; the tables hold Z = 1 to 103")
    return table(parametrization)[numbers - 1]


def scattering_factor(
    parametrization: str, numbers: npt.ArrayLike, k: Annotated[Float[Array, "*k"] | npt.ArrayLike, "1/Å"]
) -> Annotated[Float[Array, "*species *k"], "Å"]:
    r"""Electron scattering factor of atoms at rest.

    .. math::
        f_\mathrm{Lobato}(k) &= \sum_{i=1}^{5} a_i \frac{2 + b_i k^2}{(1 + b_i k^2)^2} \\
        f_\mathrm{Kirkland}(k) &= \sum_{i=1}^{3} \frac{a_i}{k^2 + b_i} + c_i e^{-d_i k^2}

    A numpy array is evaluated by numpy in double precision, a jax array by jax in its own precision. Lobato's terms
    cancel, so single precision loses up to two digits (1e-5 relative); what is fixed is better evaluated by numpy.

    Args:
        parametrization: "lobato" or "kirkland".
        numbers: Atomic numbers, fixed under `jax.jit`.
        k: Spatial frequency, k = 1/d = 2 sin(θ)/λ [1/Å].

    Returns:
        f_e with the axes of `numbers` before those of `k` [Å].

    Source: I. Lobato, D. Van Dyck, Acta Cryst. A70 (2014) 636; E. J. Kirkland, Advanced Computing in Electron
    Microscopy, 2nd ed. (2010), eq. C.15.

    >>> f = scattering_factor("lobato", [6, 79], np.array([0.0, 1.0]))
    >>> f.shape, round(float(f[1, 0]), 2)
    ((2, 2), 10.58)
    """
    xp = jnp if isinstance(k, jax.Array) else np
    k2 = xp.asarray(k) ** 2
    if not xp.issubdtype(k2.dtype, xp.floating):
        k2 = k2.astype(float)
    c = coefficients(parametrization, numbers)
    shape = c.shape[:-2] + (1,) * k2.ndim
    k2 = k2.reshape((1,) * (c.ndim - 2) + k2.shape)
    total = xp.zeros((), k2.dtype)
    for term in range(c.shape[-1]):
        constants = [xp.asarray(c[..., kind, term].reshape(shape), k2.dtype) for kind in range(c.shape[-2])]
        total = total + _term(xp, k2, *constants)
    return total


def _term(xp, k2, a, b, c=None, d=None):  # type: ignore[no-untyped-def]  # numpy or jax, by the module `xp`
    """One term of the sum: Lobato's with a and b, Kirkland's with all four."""
    if c is None:
        return a * (2.0 + b * k2) / (1.0 + b * k2) ** 2
    return a / (k2 + b) + c * xp.exp(-d * k2)


def debye_waller(
    k: Annotated[Float[Array, "..."], "1/Å"], rms_displacement: Annotated[Float[Array, "..."], "Å"]
) -> Array:
    r"""Damping of an atom's scattering by its vibration, the same in every direction.

    .. math:: e^{-2 \pi^2 u^2 k^2} = e^{-B s^2}, \quad B = 8 \pi^2 u^2, \quad s = k / 2

    Args:
        k: Spatial frequency [1/Å]; it broadcasts against the displacement.
        rms_displacement: Root of the mean square displacement along one axis, u [Å].

    Returns:
        Factor between 0 and 1.

    >>> float(debye_waller(jnp.array(0.0), jnp.array(0.1)))
    1.0
    """
    return jnp.exp(-2.0 * jnp.pi**2 * (rms_displacement * k) ** 2)
