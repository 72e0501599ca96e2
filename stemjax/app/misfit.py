"""How a run ended, in words: whether the loss fell, and whether the model explains the data at all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stemjax.app.progress import epochs_text

TIMES = 20.0
"""A misfit this many times the one of a right model is not noise."""

RISE = 0.02
"""Held-out patterns that rise again by this share of their whole fall tell of noise that is fitted."""


def ending(loss: Sequence[float], counts: np.ndarray, noise: str) -> str:
    """A sentence on how the epochs went.

    Args:
        loss: Half the deviance of a pattern, for every epoch.
        counts: Electrons [pattern ky kx].
        noise: Name of the noise model.

    >>> ending([8.0, 4.0], np.full((1, 4, 4), 9.0), "poisson")
    'finished 2 epochs; half the deviance of a pattern fell from 8 to 4'
    """
    start = f"finished {epochs_text(len(loss))}; half the deviance of a pattern "
    if not loss:
        return start + "is not known: no epoch was run"
    verb = "fell" if loss[-1] < loss[0] else "rose" if loss[-1] > loss[0] else "stayed"
    change = f"is {loss[-1]:.5g}" if len(loss) == 1 else f"{verb} from {loss[0]:.5g} to {loss[-1]:.5g}"
    expected = expected_misfit(counts.mean(axis=0), noise)
    if loss[-1] <= TIMES * expected:
        return start + change
    return (
        f"{start}{change}, {loss[-1] / expected:.0f} times what noise alone would leave ({expected:.3g}): the model "
        "does not explain the data; check orientation, probe.defocus, data.semiangle, hot pixels, or give more epochs"
    )


def held_out_words(held_out: Sequence[float]) -> str:
    """What patterns that were not fitted say of the run; empty where none were held out.

    >>> held_out_words([9.0, 5.0, 4.0])
    '; held-out patterns end at 4'
    >>> held_out_words([9.0, 4.0, 5.0])
    '; held-out patterns were best after epoch 2 (4), they end at 5: later epochs fit noise; give fewer, or a prior'
    """
    values = np.asarray(held_out, float)
    if not values.size or not np.isfinite(values).all():
        return ""
    best, last = int(np.argmin(values)), float(values[-1])
    if last - values[best] <= RISE * (values[0] - values[best]):
        return f"; held-out patterns end at {last:.5g}"
    return (
        f"; held-out patterns were best after epoch {best + 1} ({values[best]:.5g}), they end at {last:.5g}: later "
        "epochs fit noise; give fewer, or a prior"
    )


def expected_misfit(pattern: np.ndarray, noise: str) -> float:
    r"""Half the deviance that a right model leaves in a pattern, on average.

    .. math:: \sum_k E\left[n \log\frac{n}{\mu_k} - n + \mu_k\right], \quad n \sim \mathrm{Poisson}(\mu_k)

    which is 1/2 a pixel where many electrons fall, and less in the dark; other noise models: 1/2 a pixel. The mean over
    the patterns stands for the modelled counts, which errs upwards.

    Args:
        pattern: Mean counts [ky kx] [electron].
        noise: Name of the noise model.

    >>> round(expected_misfit(np.full((10, 10), 100.0), "poisson"), 1)
    50.1
    """
    if noise != "poisson":
        return 0.5 * pattern.size
    mean = np.maximum(pattern.ravel().astype(float), 1e-3)
    few = mean < 20.0
    # Beyond 20 electrons the series of the expectation in 1/μ is good to a thousandth.
    return float(np.sum(0.5 + 1.0 / (12.0 * mean[~few]))) + float(np.sum(_poisson_mean(mean[few])))


def _poisson_mean(mean: np.ndarray) -> np.ndarray:
    """E[n log(n/μ) − n + μ] by summing over n = 0 ... 79."""
    total, probability = mean * np.exp(-mean), np.exp(-mean)
    for n in range(1, 80):
        probability = probability * mean / n
        total = total + probability * (n * np.log(n / mean) - n + mean)
    return total
