"""Fourier ring correlation: up to which spatial frequency two images agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stemjax.core.errors import InputError

ONE_SEVENTH = 1.0 / 7.0
"""Fixed threshold of Rosenthal & Henderson, J. Mol. Biol. 333, 721 (2003), for two halves of a data set."""

NOISE_FREE = 0.5
"""The same threshold where the second image is free of noise: `against_noise_free` of 1/7."""


@dataclass(frozen=True)
class RingCorrelation:
    """A Fourier ring correlation curve.

    Args:
        frequency: Radius of the rings [1/Å], (ring,).
        correlation: FRC, (ring,); NaN where a ring holds no signal at all.
        count: Independent Fourier pixels of every ring, the window allowed for, (ring,).
        half_bit: The half-bit threshold, (ring,).
    """

    frequency: np.ndarray
    correlation: np.ndarray
    count: np.ndarray
    half_bit: np.ndarray

    def resolution(self, threshold: np.ndarray | float | None = None, *, last: bool = False) -> float:
        """Length 1/k at which the curve falls below a threshold [Å].

        Args:
            threshold: A number (1/7), an array (ring,), or the half-bit curve when not given.
            last: Take the last frequency above the threshold instead of the first one below it: a crystal has no signal
                between its reflections, where the curve falls to zero and comes up again.

        Returns:
            The resolution, linearly interpolated in k between rings; the finest ring's when the curve never falls; NaN
            when it never rises.
        """
        return crossing(self.frequency, self.correlation, self.half_bit if threshold is None else threshold, last=last)

    def limited_by_pixels(self, threshold: np.ndarray | float | None = None) -> bool:
        """Whether the finest ring is above a threshold: the resolution is then better than the pixels can show."""
        limit = self.half_bit if threshold is None else threshold
        return bool((self.correlation - limit)[-1] > 0)


def against_noise_free(correlation: np.ndarray | float) -> np.ndarray | float:
    r"""What a correlation of two halves of a data set is worth when all of the data are compared with the truth.

    .. math:: C_\mathrm{ref} = \sqrt{\frac{2 F}{1 + F}}

    Halves of signal-to-noise ratio s correlate by F = s / (1 + s); their sum has 2 s, and a noise-free image correlates
    with it by √(2 s / (1 + 2 s)).

    Args:
        correlation: Correlation or threshold F of two halves.

    Returns:
        C_ref, in the shape of F.

    Source: Rosenthal & Henderson, J. Mol. Biol. 333, 721 (2003).

    >>> round(float(against_noise_free(1 / 7)), 6)
    0.5
    """
    return np.sqrt(2.0 * correlation / (1.0 + correlation))


def surely_above(correlation: float, count: np.ndarray, sigmas: float = 3.0) -> np.ndarray:
    r"""Threshold above which a ring's true correlation is above a value with some certainty.

    .. math:: T = \tanh\big(\operatorname{artanh} C + 3 / \sqrt{n}\big)

    In Fisher's variable artanh the scatter is 1/√n whatever the correlation; added to C itself, 3/√n would ask more
    than 1 of rings of a few pixels. Where the last crossing is taken, chance alone would else lift one of many rings.

    Args:
        correlation: The value C.
        count: Independent Fourier pixels of every ring (ring,).
        sigmas: Standard deviations.

    Returns:
        T, (ring,).

    Source: R. A. Fisher, Metron 1, 3 (1921).

    >>> surely_above(0.5, np.array([36.0, 1e12])).round(3).tolist()
    [0.782, 0.5]
    """
    return np.tanh(np.arctanh(correlation) + sigmas / np.sqrt(np.maximum(count, 1.0)))


def half_bit_threshold(count: np.ndarray) -> np.ndarray:
    r"""Correlation at which each Fourier pixel of the sum of both images carries half a bit of information.

    .. math:: T = \frac{0.2071 + 1.9102 / \sqrt{n}}{1.2071 + 0.9102 / \sqrt{n}}

    Source: van Heel & Schatz, J. Struct. Biol. 151, 250 (2005); n counts the pixels of the whole ring.

    >>> round(float(half_bit_threshold(np.array(1e12))), 4)
    0.1716
    """
    root = 1.0 / np.sqrt(np.maximum(count, 1.0))
    return (0.2071 + 1.9102 * root) / (1.2071 + 0.9102 * root)


def ring_correlation(
    first: np.ndarray, second: np.ndarray, sampling: tuple[float, float], *, taper: float = 1.0
) -> RingCorrelation:
    r"""Fourier ring correlation of two images of the same field.

    .. math:: \mathrm{FRC}(k) = \frac{\operatorname{Re} \sum_{q \in k} F_1(q) F_2^*(q)}
        {\sqrt{\sum_{q \in k} |F_1(q)|^2 \sum_{q \in k} |F_2(q)|^2}}

    The mean is removed and the edges are apodised by a Tukey window, since the jump at the borders would correlate. For
    noise alone the FRC scatters about zero with a standard deviation of 1/√n, n being `count`.

    Args:
        first: First image (ny, nx).
        second: Second image (ny, nx), aligned with the first.
        sampling: Pixel size (y, x) [Å].
        taper: Fraction of each side that the window's two cosine edges take; 0 is no window, 1 a Hann window,
            whose leakage of strong reflections into other rings is least.

    Returns:
        The curve, rings one reciprocal pixel (of the shorter side) wide, up to the Nyquist frequency.

    Raises:
        InputError: The shapes differ, or an image holds NaN.

    Source: Saxton & Baumeister, J. Microsc. 127, 127 (1982); van Heel & Schatz, J. Struct. Biol. 151, 250 (2005).

    >>> image = np.random.default_rng(0).normal(size=(64, 64))
    >>> curve = ring_correlation(image, image, (0.1, 0.1))
    >>> bool(np.allclose(curve.correlation, 1.0)), curve.resolution()
    (True, 0.2)
    """
    first, second = _pair(first, second)
    window = np.outer(*(tukey_window(n, taper) for n in first.shape))
    F1, F2 = (np.fft.fft2(window * (f - np.average(f, weights=window))) for f in (first, second))
    ring, frequency = _rings((first.shape[0], first.shape[1]), sampling)
    # A window widens every Fourier coefficient, so that neighbours are correlated. Of the loss of independent
    # coefficients in the plane, a ring one pixel wide suffers that along its circumference: the square root.
    independent = (window**2).sum() / np.sqrt(window.size * (window**4).sum())

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(ring.ravel(), values.ravel(), minlength=frequency.size + 2)[1 : frequency.size + 1]

    count = independent * total(np.ones(first.shape))
    power = np.sqrt(total(np.abs(F1) ** 2) * total(np.abs(F2) ** 2))
    signal = power > 1e-24 * max(power.max(initial=0.0), 1e-300)
    correlation = np.where(signal, total((F1 * np.conj(F2)).real) / np.where(signal, power, 1.0), np.nan)
    return RingCorrelation(frequency, correlation, count, half_bit_threshold(count))


def crossing(
    frequency: np.ndarray, correlation: np.ndarray, threshold: np.ndarray | float, *, last: bool = False
) -> float:
    """Length 1/k [Å] at which a curve crosses a threshold downwards; see `RingCorrelation.resolution`.

    >>> crossing(np.array([1.0, 2.0]), np.array([0.6, 0.2]), 0.4)
    0.666...
    """
    excess = np.nan_to_num(correlation - threshold, nan=-1.0)
    above = excess > 0
    if not above.any():
        return float("nan")
    start = int(np.flatnonzero(above)[-1 if last else 0])
    below = np.flatnonzero(~above[start:])
    if below.size == 0:
        return float(1.0 / frequency[-1])
    i = start + int(below[0])
    weight = excess[i - 1] / (excess[i - 1] - excess[i])
    return float(1.0 / (frequency[i - 1] + weight * (frequency[i] - frequency[i - 1])))


def tukey_window(size: int, taper: float) -> np.ndarray:
    """Flat window whose cosine edges take the fraction `taper` of its length, (size,).

    >>> tukey_window(8, 0.0).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    if taper <= 0.0:
        return np.ones(size)
    x = (np.arange(size) + 0.5) / size
    edge = np.minimum(np.minimum(x, 1.0 - x) / (0.5 * min(taper, 1.0)), 1.0)
    return 0.5 * (1.0 - np.cos(np.pi * edge))


def _rings(shape: tuple[int, int], sampling: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Ring number of every Fourier pixel (ny, nx), one past the last beyond Nyquist; and the radii [1/Å]."""
    width = max(1.0 / (n * s) for n, s in zip(shape, sampling, strict=True))
    last = max(1, int(0.5 / max(sampling) / width + 1e-6))
    ky, kx = (np.fft.fftfreq(n, s) for n, s in zip(shape, sampling, strict=True))
    ring = np.rint(np.hypot(ky[:, None], kx[None, :]) / width).astype(int)
    return np.minimum(ring, last + 1), width * np.arange(1, last + 1)


def _pair(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.asarray(first, float), np.asarray(second, float)
    if first.shape != second.shape or first.ndim != 2 or min(first.shape) < 4:
        raise InputError(f"ring correlation of images {first.shape} and {second.shape}; give two of one shape, ≥ 4 × 4")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise InputError("an image for the ring correlation holds NaN or infinity; crop both to where they are known")
    return first, second
