r"""Whether error bars are true, from many fits of simulated data: z-scores, coverage and ranks.

.. math:: z = \frac{\hat\theta - \theta}{s}, \qquad
    u = \frac{\#\{k : \theta_k < \theta\} + \epsilon}{L + 1}, \qquad \epsilon \sim U(0, 1)

With truths from the prior and draws θ_k from the posterior, u is uniform, whatever the problem (Talts et al.,
arXiv:1804.06788; Cook, Gelman, Rubin, J. Comput. Graph. Stat. 15 (2006) 675), and with posterior means and standard
deviations the mean of z is 0 and that of its square is 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats

LEVELS = (0.5, 0.9, 0.95)
"""Contents of the intervals whose coverage is counted."""

ALARM = 0.01
"""Chance that a calibrated solver is blamed, over all checks of all quantities together."""

FAR = 6.0
"""An estimate that is this many of its standard deviations off is a mistake, not bad luck."""


MOST_FAILED = 0.05
"""Above this share of failures the other fits are no fair sample: what 95 % intervals may miss."""


@dataclass(frozen=True)
class Quantity:
    """Fits of one quantity to many truths.

    Elements of an array within one fit depend on each other, so errors of pooled numbers come from the scatter
    between fits, and ranks count one element a fit, chosen at random. Correlations are tested by the ranks of a
    distance in a few elements together.

    Args:
        name: Path of the leaf, or name of the derived quantity.
        unit: Its unit.
        scores: z of every element [fit element].
        shares: u of every element, from all draws [fit element]; uniform if calibrated.
        ranks: u of one element a fit, from draws that are thinned [fit].
        joint: u of the distance of a few elements together from the centre of the posterior [fit]; None for a single
            number, and where the elements have no draws together.
    """

    name: str
    unit: str
    scores: np.ndarray
    shares: np.ndarray
    ranks: np.ndarray
    joint: np.ndarray | None = None

    @property
    def bias(self) -> tuple[float, float]:
        """Mean z-score and its standard error; 0 if calibrated."""
        return _mean(self.scores, 1.0)

    @property
    def scatter(self) -> tuple[float, float]:
        """Standard deviation of the z-scores and its standard error; 1 if calibrated.

        >>> z = np.random.default_rng(0).normal(size=(400, 1))
        >>> value, error = Quantity("a", "1", z, z, z[:, 0]).scatter
        >>> round(value, 1), round(error, 2)
        (1.0, 0.04)
        """
        square, error = _mean((self.scores - self.scores.mean()) ** 2, np.sqrt(2.0))
        value = float(np.sqrt(square))
        return value, error / (2.0 * value) if value > 0 else error

    def coverage(self, level: float) -> tuple[float, float]:
        """Share of truths inside the central interval of some content, and the standard error expected of it.

        Args:
            level: Content of the interval, between 0 and 1.
        """
        inside = (np.abs(self.shares - 0.5) <= 0.5 * level).astype(float)
        return _mean(inside, np.sqrt(level * (1.0 - level)))

    @property
    def bins(self) -> int:
        """Bins of the histogram of ranks: at least fifteen fits are expected in each, where there are sixty."""
        return int(np.clip(len(self.ranks) // 20, 4, 16))

    @property
    def p_value(self) -> float:
        """Chance that the ranks of a calibrated solver are less even, by a chi-square test."""
        return _p_of(self.ranks, self.bins)

    @property
    def p_joint(self) -> float | None:
        """The same for several elements together, which sees wrong correlations; None where there are no such ranks."""
        return None if self.joint is None else _p_of(self.joint, self.bins)

    @property
    def far(self) -> int:
        """Fits with an element that is wrong by more than six standard deviations."""
        return int((np.abs(self.scores) > FAR).any(axis=1).sum())

    def complaints(self, alarm: float) -> list[str]:
        """What is wrong, in sentences.

        Args:
            alarm: Chance at which one check of a calibrated solver may fail.
        """
        found = [*self._of_scores(alarm), *self._of_coverage(alarm)]
        if self.far:
            found.append(
                f"{self.far} of {len(self.ranks)} fits of {self.name} are wrong by more than {FAR:.0f} of their "
                "standard deviations: a false minimum, or a posterior that is far from normal"
            )
        if not found and self.p_value < alarm:
            found.append(f"the ranks of {self.name} are uneven (p = {self.p_value:.1g}): a posterior of wrong shape")
        if not found and self.p_joint is not None and self.p_joint < alarm:
            found.append(
                f"the ranks of several elements of {self.name} together are uneven (p = {self.p_joint:.1g}): the "
                "correlations of its posterior are wrong"
            )
        return found

    def _of_scores(self, alarm: float) -> Iterator[str]:
        unlikely = float(scipy.stats.t.isf(0.5 * alarm, len(self.scores) - 1))
        bias, error = self.bias
        if abs(bias) > unlikely * error:
            side = "high" if bias > 0 else "low"
            yield f"estimates of {self.name} are too {side} by {abs(bias):.2g} ± {error:.1g} standard deviations"
        scatter, error = self.scatter
        if abs(scatter - 1.0) > unlikely * error:
            side, factor = ("small", scatter) if scatter > 1.0 else ("large", 1.0 / scatter)
            yield f"standard deviations of {self.name} are too {side} by a factor of {factor:.2f} ± {error:.1g}"

    def _of_coverage(self, alarm: float) -> Iterator[str]:
        fits, elements = self.shares.shape
        for level in LEVELS:
            share, error = self.coverage(level)
            if elements == 1:
                p = scipy.stats.binomtest(round(share * fits), fits, level).pvalue
            else:
                p = 2.0 * scipy.stats.t.sf(abs(share - level) / error, fits - 1)
            if p < alarm:
                yield f"{100 * level:g} % intervals of {self.name} hold the truth in {100 * share:.1f} % of the cases"

    def numbers(self) -> dict[str, Any]:
        """The figures as plain values, for files."""
        bias, scatter = self.bias, self.scatter
        found: dict[str, Any] = {
            "unit": self.unit,
            "fits": len(self.ranks),
            "elements": self.scores.shape[1],
            "z_mean": round(bias[0], 4),
            "z_mean_error": round(bias[1], 4),
            "z_std": round(scatter[0], 4),
            "z_std_error": round(scatter[1], 4),
            "coverage": {f"{level:g}": round(self.coverage(level)[0], 4) for level in LEVELS},
            "coverage_error": {f"{level:g}": round(self.coverage(level)[1], 4) for level in LEVELS},
            "chi_square_p": float(f"{self.p_value:.3g}"),
            "far": self.far,
        }
        if self.p_joint is not None:
            found["chi_square_p_joint"] = float(f"{self.p_joint:.3g}")
        return found


CHECKS = 3 + len(LEVELS)
"""Checks of one quantity that can go wrong by chance: bias, scatter, ranks, coverage; one more for an array."""


@dataclass(frozen=True)
class Calibration:
    """How true the error bars of a solver are; printed, a table with a verdict.

    Args:
        quantities: What was looked at, by name.
        fits: Fits that ended as they should, of which the quantities are made.
        failures: Status of every fit that did not, by the number of its truth.
        seconds: Median time of a fit.
        seed: Seed of the truths.
        joint: u of a few elements of all leaves together [fit], for correlations between leaves; or None.
    """

    quantities: Mapping[str, Quantity]
    fits: int
    failures: Mapping[int, str]
    seconds: float
    seed: int
    joint: np.ndarray | None = None

    @property
    def p_joint(self) -> float | None:
        """Chance that the ranks of all leaves together are less even; None where there are no such ranks."""
        return None if self.joint is None else _p_of(self.joint, next(iter(self.quantities.values())).bins)

    @property
    def alarm(self) -> float:
        """Chance at which one check may fail: all together, a calibrated solver is blamed once in a hundred times."""
        checks = sum(CHECKS + (q.joint is not None) for q in self.quantities.values()) + (self.joint is not None)
        return ALARM / checks

    @property
    def complaints(self) -> tuple[str, ...]:
        """What is wrong, in sentences; a calibrated solver earns any at all once in a hundred calibrations."""
        found = [words for q in self.quantities.values() for words in q.complaints(self.alarm)]
        if not found and self.p_joint is not None and self.p_joint < self.alarm:
            found.append(
                f"the ranks of all leaves together are uneven (p = {self.p_joint:.1g}): the correlations between "
                "leaves are wrong"
            )
        if len(self.failures) > MOST_FAILED * (self.fits + len(self.failures)):
            found.append("so many fits failed that the others are no fair sample")
        return tuple(found)

    @property
    def calibrated(self) -> bool:
        """Whether there is nothing to complain about."""
        return not self.complaints

    @property
    def verdict(self) -> str:
        """The outcome in sentences, failures included."""
        count = self.fits + len(self.failures)
        words = list(self.complaints) or [f"calibrated, as far as {self.fits} fits can tell"]
        if self.failures:
            number, status = next(iter(self.failures.items()))
            words.append(
                f"{len(self.failures)} of {count} fits failed and are left out (the first, of truth {number}: {status})"
            )
        return "; ".join(words)

    def numbers(self) -> dict[str, Any]:
        """The figures as plain values, for JSON."""
        return {
            "fits": self.fits,
            "failures": {str(number): status for number, status in self.failures.items()},
            "seconds_per_fit": float(f"{self.seconds:.3g}"),
            "seed": self.seed,
            "chi_square_p_joint": None if self.p_joint is None else float(f"{self.p_joint:.3g}"),
            "calibrated": self.calibrated,
            "verdict": self.verdict,
            "quantities": {name: quantity.numbers() for name, quantity in self.quantities.items()},
        }

    def __str__(self) -> str:
        joint = "" if self.p_joint is None else f"all leaves together: p = {self.p_joint:.2g}\n"
        return f"{table(self.quantities, self.alarm)}\n{joint}{self.verdict}"


def table(quantities: Mapping[str, Quantity], alarm: float) -> str:
    """The figures of a calibration in columns; what is expected stands below the names, an even p above an alarm."""
    fits = max(len(quantity.ranks) for quantity in quantities.values())
    heads = ["", "z mean", "z std", *(f"{100 * level:g} %" for level in LEVELS), "p", "p joint"]
    ideal = [f"expected of {fits} fits", "0", "1", *(f"{100 * level:.1f}" for level in LEVELS), *[f"> {alarm:.1g}"] * 2]
    lines = [heads, ideal]
    for name, q in quantities.items():
        shares = [f"{100 * share:.1f} ± {100 * error:.1f}" for share, error in map(q.coverage, LEVELS)]
        about = [f"{value:.2f} ± {error:.2f}" for value, error in (q.bias, q.scatter)]
        p = ["" if value is None else f"{value:.2g}" for value in (q.p_value, q.p_joint)]
        lines.append([name, *about, *shares, *p])
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    padded = ([cell.ljust(w) for cell, w in zip(line, widths, strict=True)] for line in lines)
    return "\n".join("  ".join(cells).rstrip() for cells in padded)


def _p_of(shares: np.ndarray, bins: int) -> float:
    counted = np.bincount(np.minimum((bins * shares).astype(int), bins - 1), minlength=bins)
    return float(scipy.stats.chisquare(counted).pvalue)


def _mean(values: np.ndarray, spread: float) -> tuple[float, float]:
    """Mean of [fit element] and its error: from the scatter between fits, or of `spread` if that is larger.

    `spread` is the standard deviation of one value if calibrated; elements are then at best independent.
    """
    fits = values.mean(axis=1)
    between = fits.std(ddof=1) / np.sqrt(len(fits)) if len(fits) > 1 else np.inf
    return float(values.mean()), float(max(between, spread / np.sqrt(values.size)))
