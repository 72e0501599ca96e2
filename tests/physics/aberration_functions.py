"""The aberration function to fifth order, written out in two notations, in plain numpy; nothing here imports stemjax.

Both give χ in rad of a wave exp(−iχ). The derivation of the factors between them is in
docs/developer/aberration-notation.md.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

HAIDER_NAMES = ("C1", "A1", "B2", "A2", "C3", "S3", "A3", "B4", "D4", "A4", "C5", "S5", "R5", "A5")


def krivanek_chi(c: Mapping[str, float], alpha: np.ndarray, phi: np.ndarray, wavelength: float) -> np.ndarray:
    r"""Aberration function from Krivanek's coefficients in polar form, every term written out.

    .. math:: \chi = \frac{2\pi}{\lambda} \sum_{nm} \frac{\alpha^{n+1}}{n+1} C_{nm} \cos m(\phi - \phi_{nm})

    Args:
        c: Coefficients C10 ... C56 [Å] and angles phi12 ... phi56 [rad]; what is absent is zero.
        alpha: Angle to the axis [rad].
        phi: Azimuth from x towards y [rad].
        wavelength: Wavelength [Å].

    Returns:
        χ [rad]. Krivanek, Dellby and Lupini, Ultramicroscopy 78, 1 (1999).

    A defocus of 100 Å turns the wave by π at the angle √(λ/C10):

    >>> bool(abs(krivanek_chi({"C10": 100.0}, np.sqrt(0.025 / 100.0), 0.0, 0.025) / np.pi - 1) < 1e-12)
    True
    """

    def term(name: str, m: int) -> np.ndarray:
        return c.get(f"C{name}", 0.0) * np.cos(m * (phi - c.get(f"phi{name}", 0.0)))

    path = alpha**2 / 2 * (term("10", 0) + term("12", 2))
    path = path + alpha**3 / 3 * (term("21", 1) + term("23", 3))
    path = path + alpha**4 / 4 * (term("30", 0) + term("32", 2) + term("34", 4))
    path = path + alpha**5 / 5 * (term("41", 1) + term("43", 3) + term("45", 5))
    path = path + alpha**6 / 6 * (term("50", 0) + term("52", 2) + term("54", 4) + term("56", 6))
    return 2 * np.pi / wavelength * path


def haider_chi(c: Mapping[str, complex], omega: np.ndarray, wavelength: float) -> np.ndarray:
    r"""Aberration function from Haider's complex coefficients, every term written out.

    .. math::
        \chi = \frac{2\pi}{\lambda} \Re \Big\{ \tfrac12 \omega\bar\omega C_1 + \tfrac12 \bar\omega^2 A_1
        + \omega^2\bar\omega B_2 + \tfrac13 \bar\omega^3 A_2
        + \tfrac14 (\omega\bar\omega)^2 C_3 + \omega^3\bar\omega S_3 + \tfrac14 \bar\omega^4 A_3
        + \omega^3\bar\omega^2 B_4 + \omega^4\bar\omega D_4 + \tfrac15 \bar\omega^5 A_4
        + \tfrac16 (\omega\bar\omega)^3 C_5 + \omega^4\bar\omega^2 S_5 + \omega^5\bar\omega R_5
        + \tfrac16 \bar\omega^6 A_5 \Big\}

    Args:
        c: Coefficients C1, A1, B2, A2, C3, S3, A3, B4, D4, A4, C5, S5, R5, A5 [Å]; what is absent is zero.
        omega: α exp(iφ), the complex angle to the axis [rad].
        wavelength: Wavelength [Å].

    Returns:
        χ [rad]. Uhlemann and Haider, Ultramicroscopy 72, 109 (1998), continued to fifth order.

    Third-order spherical aberration is the same number in both notations:

    >>> bool(haider_chi({"C3": 1e7}, 0.01, 0.025) == krivanek_chi({"C30": 1e7}, 0.01, 0.0, 0.025))
    True
    """
    w, v = np.asarray(omega), np.conj(omega)
    g = {name: c.get(name, 0.0) for name in HAIDER_NAMES}
    path = w * v * g["C1"] / 2 + v**2 * g["A1"] / 2
    path = path + w**2 * v * g["B2"] + v**3 * g["A2"] / 3
    path = path + (w * v) ** 2 * g["C3"] / 4 + w**3 * v * g["S3"] + v**4 * g["A3"] / 4
    path = path + w**3 * v**2 * g["B4"] + w**4 * v * g["D4"] + v**5 * g["A4"] / 5
    path = path + (w * v) ** 3 * g["C5"] / 6 + w**4 * v**2 * g["S5"] + w**5 * v * g["R5"] + v**6 * g["A5"] / 6
    return 2 * np.pi / wavelength * np.real(path)


def haider_from_krivanek(c: Mapping[str, float]) -> dict[str, complex]:
    """Haider's complex coefficients of the same aberrations, from the table of aberration-notation.md.

    >>> haider_from_krivanek({"C21": 300.0})["B2"]
    (100+0j)
    """
    astigmatisms = {"A1": "12", "A2": "23", "A3": "34", "A4": "45", "A5": "56"}
    others = {"B2": ("21", 3), "S3": ("32", 4), "B4": ("41", 5), "D4": ("43", 5), "S5": ("52", 6), "R5": ("54", 6)}
    round_ones = {"C1": "C10", "C3": "C30", "C5": "C50"}
    out = {h: complex(c.get(k, 0.0)) for h, k in round_ones.items()}
    for h, nm in astigmatisms.items():
        out[h] = c.get(f"C{nm}", 0.0) * np.exp(1j * int(nm[1]) * c.get(f"phi{nm}", 0.0))
    for h, (nm, factor) in others.items():
        out[h] = c.get(f"C{nm}", 0.0) / factor * np.exp(-1j * int(nm[1]) * c.get(f"phi{nm}", 0.0))
    return {h: complex(value) for h, value in out.items()}
