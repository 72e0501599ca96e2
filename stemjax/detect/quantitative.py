r"""Counts of an integrating detector as fractions of the beam, and back.

A scan of the beam over the detector itself gives the level without beam, D, and the mean level of the active area, A;
a signal is then I = (C − D)/(A − D) of the beam that the scan was made with.
Sources: LeBeau, Stemmer, Ultramicroscopy 108 (2008) 1653; Jones, IOP Conf. Ser.: Mater. Sci. Eng. 109 (2016) 012008.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.typing import Annotated, Array, Float, Scalar, real, typed

ELEMENTARY_CHARGE = 1.602_176_634e-19
"""e [C]; exact in the SI."""


class DetectorLevels(struct.PyTreeNode):
    """Levels of an integrating detector; made by `make_detector_levels` or `detector_levels`.

    Args:
        dark: Level without beam, D [count].
        active: Mean level with the whole beam on the active area, A [count].
        dark_error: Standard error of D [count].
        active_error: Standard error of A [count].
        beam: What the beam of the detector scan is called: 1 for fractions of the beam, its electrons per pixel for
            electrons.
        spread: Standard deviation of the sensitivity over the active area, relative to its mean.
    """

    dark: Annotated[Array, "count"]
    active: Annotated[Array, "count"]
    dark_error: Annotated[Array, "count"]
    active_error: Annotated[Array, "count"]
    beam: Array
    spread: Array


def make_detector_levels(
    dark: Annotated[float, "count"],
    active: Annotated[float, "count"],
    *,
    dark_error: Annotated[float, "count"] = 0.0,
    active_error: Annotated[float, "count"] = 0.0,
    beam: float = 1.0,
    spread: float = 0.0,
) -> DetectorLevels:
    """A calibration from levels that were measured elsewhere, checked; arguments as in `DetectorLevels`.

    Raises:
        InputError: The active level does not lie above the dark one, or an error or the beam is negative.

    >>> float(gain(make_detector_levels(100.0, 1100.0, beam=50.0)))
    20.0
    """
    if not active > dark:
        raise InputError(f"an active level of {active:g} is not above the dark level of {dark:g}; exchange them?")
    if not (min(dark_error, active_error, spread) >= 0 and beam > 0):
        raise InputError(
            f"errors ({dark_error:g}, {active_error:g}), spread {spread:g} and beam {beam:g} must not be negative, the "
            "beam not zero; use beam=1 for fractions of the beam"
        )
    return DetectorLevels(*(real(v) for v in (dark, active, dark_error, active_error, beam, spread)))


def active_area(image: np.ndarray, threshold: float = 0.25) -> np.ndarray:
    """Where a scan over the detector sees it: pixels well above the level without beam.

    The two levels are found by splitting the histogram at the middle of the means of its two parts until it stays
    (Ridler, Calvard, IEEE Trans. Syst. Man Cybern. 8 (1978) 630); the area is then cut at `threshold` between them.

    Args:
        image: Counts [y x] with the beam scanned over the detector.
        threshold: Cut between the two levels, 0 to 1: lower than the middle, so that weak parts of the detector count.

    Returns:
        True inside [y x].

    Raises:
        InputError: The image has one level only, or an impossible threshold is asked for.

    >>> active_area(np.array([[0.0, 10.0, 10.0, 4.0, 0.0]])).tolist()
    [[False, True, True, True, False]]
    """
    values = np.asarray(image, dtype=float)
    if not 0 < threshold < 1:
        raise InputError(f"a threshold of {threshold:g} between dark (0) and active (1); give one inside, such as 0.25")
    if not np.isfinite(values).all() or np.ptp(values) == 0:
        raise InputError("the detector's image has one level only, or numbers that are not finite; scan past its edges")
    cut = (values.min() + values.max()) / 2
    for _ in range(100):
        low, high = values[values <= cut].mean(), values[values > cut].mean()
        if abs((low + high) / 2 - cut) <= 1e-9 * np.ptp(values):
            break
        cut = (low + high) / 2
    return values > low + threshold * (high - low)


def detector_levels(
    image: np.ndarray, *, beam: float = 1.0, active: np.ndarray | None = None, flux: np.ndarray | None = None
) -> DetectorLevels:
    """Levels and their standard errors from a scan of the beam over the detector.

    Args:
        image: Counts [y x].
        beam: What the beam of this scan is called: 1 for fractions, its electrons per pixel for electrons.
        active: True on the detector [y x]; found by `active_area` if left out.
        flux: Weights of the active pixels [y x], proportional to the electrons that the specimen sends to them; even
            if left out. Most electrons fall near the inner edge, and an uneven detector counts them with its
            sensitivity there (Martinez et al., Ultramicroscopy 159 (2015) 46).

    Returns:
        The calibration. The dark level is the mean of those surroundings that no stray light reaches: scattered from
        edges it lifts the plain mean, which matters for weak signals. Its errors are
        standard errors of the means, pixels taken as independent; `spread` tells how
        uneven the detector is, which no error bar of a mean covers.

    Raises:
        InputError: Everything or nothing is active, or the detector does not lie above its surroundings.

    >>> float(detector_levels(np.array([[2.0, 2.0, 12.0, 12.0]])).active)
    12.0
    """
    values = np.asarray(image, dtype=float)
    inside = active_area(values) if active is None else np.asarray(active, dtype=bool)
    if inside.shape != values.shape or inside.all() or not inside.any():
        raise InputError(
            f"an active area of {int(inside.sum())} of {values.size} pixels; give an image with both sides of the edge"
        )
    weight = inside if flux is None else np.where(inside, flux, 0.0)
    total = weight.sum()
    around = _without_stray_light(values[~inside])
    dark, mean = around.mean(), (weight * values).sum() / total
    spread = np.sqrt((weight * (values - mean) ** 2).sum() / total)
    return make_detector_levels(
        float(dark),
        float(mean),
        dark_error=float(around.std() / np.sqrt(around.size)),
        active_error=float(spread * np.sqrt((weight**2).sum()) / total),
        beam=beam,
        spread=float(spread / (mean - dark)),
    )


def _without_stray_light(values: np.ndarray) -> np.ndarray:
    """The pixels about the most frequent level; stray light only ever lifts one, so the scatter is that below it."""
    ordered = np.sort(values)
    part = max(1, ordered.size // 5)
    first = int(np.argmin(ordered[part - 1 :] - ordered[: ordered.size - part + 1]))
    level = ordered[first : first + part].mean()
    below = level - ordered[ordered < level]
    # Rounded counts scatter by 0.29 at least; the rest is for values that are all alike.
    scatter = 1.4826 * np.median(below) if below.size else 0.0
    least = 0.29 if (values == np.round(values)).all() else 1e-9 * (1.0 + abs(level))
    return values[np.abs(values - level) <= 3.5 * max(scatter, least)]


def gain(calibration: DetectorLevels) -> Array:
    """Counts above dark for one unit of the beam, G = (A − D)/beam."""
    return (calibration.active - calibration.dark) / calibration.beam


@typed
def fraction(counts: Float[Array, "..."] | Scalar, calibration: DetectorLevels) -> Float[Array, "..."]:
    r"""Signal in units of the beam.

    .. math:: I = \frac{C - D}{G}, \qquad G = \frac{A - D}{beam}

    Args:
        counts: Counts C [...].
        calibration: The levels.

    Returns:
        Fraction of the beam (or electrons, where `beam` is electrons) [...].

    >>> float(fraction(600.0, make_detector_levels(100.0, 1100.0)))
    0.5
    """
    return (real(counts) - calibration.dark) / gain(calibration)


@typed
def counts_of(signal: Float[Array, "..."] | Scalar, calibration: DetectorLevels) -> Float[Array, "..."]:
    """Counts of a signal in units of the beam, C = G I + D; undoes `fraction`.

    >>> float(counts_of(0.5, make_detector_levels(100.0, 1100.0)))
    600.0
    """
    return gain(calibration) * real(signal) + calibration.dark


@typed
def fraction_error(
    counts: Float[Array, "..."] | Scalar, calibration: DetectorLevels, counts_error: Float[Array, "..."] | Scalar = 0.0
) -> Float[Array, "..."]:
    r"""Standard error of a fraction, to first order.

    .. math:: \sigma_I^2 = \frac{\sigma_C^2 + (1 - I)^2 \sigma_D^2 + I^2 \sigma_A^2}{G^2} \qquad (beam = 1)

    The dark level enters twice, in C − D and in A − D; that correlation is why (1 − I) stands there.

    Args:
        counts: Counts C [...].
        calibration: The levels with their errors.
        counts_error: Standard error of the counts [...].

    Returns:
        Standard error in units of the beam [...].

    >>> float(fraction_error(600.0, make_detector_levels(100.0, 1100.0, dark_error=20.0)))
    0.01
    """
    share = fraction(counts, calibration) / calibration.beam
    parts = real(counts_error) ** 2 + ((1 - share) * calibration.dark_error) ** 2
    return jnp.sqrt(parts + (share * calibration.active_error) ** 2) / gain(calibration)


def beam_electrons(current: Annotated[Scalar, "pA"], dwell: Annotated[Scalar, "µs"]) -> Array | float:
    """Electrons that a beam brings in a dwell time, I t / e.

    Args:
        current: Beam current [pA].
        dwell: Dwell time [µs].

    >>> round(beam_electrons(50.0, 10.0), 1)
    3120.8
    """
    return current * dwell * (1e-18 / ELEMENTARY_CHARGE)


def electrons_per_count(
    calibration: DetectorLevels, current: Annotated[Scalar, "pA"], dwell: Annotated[Scalar, "µs"]
) -> Array:
    """Electrons that one count above dark stands for, from the current and dwell time of the detector scan.

    Args:
        calibration: Levels of a scan with `beam` = 1.
        current: Beam current of that scan [pA].
        dwell: Its dwell time [µs].

    >>> round(float(electrons_per_count(make_detector_levels(100.0, 3220.75), 50.0, 10.0)), 4)
    1.0
    """
    return beam_electrons(current, dwell) / (calibration.active - calibration.dark)
