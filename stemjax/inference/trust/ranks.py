"""What one fit says about its truth: z-scores, ranks, and the rank of a distance for the correlations."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from stemjax.core.errors import InputError, nearest
from stemjax.inference.result import Result

DRAWS = 999
"""Draws that are taken of a posterior which can be drawn from at will."""

THINNED = 63
"""Draws that ranks are counted among: few enough that those of a Markov chain are nearly independent."""

TOGETHER = 8
"""Elements whose correlations are looked at in one fit."""


class Row(NamedTuple):
    """What one fit says about one quantity: z and u of every element, u of one element and of several jointly."""

    scores: np.ndarray
    shares: np.ndarray
    rank: float
    joint: float


def row_of(name: str, truth: np.ndarray, draws: Any, result: Result, random: np.random.Generator) -> Row:
    """Scores and ranks of one quantity in one fit.

    Args:
        name: Its name.
        truth: What it was.
        draws: Draws of its posterior [draw ...]; None: the normal ones of its standard deviation stand for them.
        result: The fit; the scores are those of the estimate and the standard deviation that it reports.
        random: What breaks ties and chooses elements.

    Raises:
        InputError: The fit has neither draws nor a standard deviation of the quantity.
    """
    reported = name in result.uncertainty and name in result.estimate
    if draws is None and not reported:
        known = [*result.uncertainty, *result.samples]
        raise InputError(
            f"the solver gives no uncertainty of '{name}', so there is nothing to calibrate; use one that does, such "
            f"as laplace or sample ({nearest(name, known)})"
        )
    if reported:
        estimate, spread = (np.asarray(a[name].value, float) for a in (result.estimate, result.uncertainty))
    else:
        estimate, spread = draws.mean(axis=0), draws.std(axis=0, ddof=1)
    spread, true = np.where(spread > 0, spread, np.nan), truth.ravel()
    drawn = estimate[None] + spread[None] * random.standard_normal((DRAWS, *truth.shape)) if draws is None else draws
    drawn, element = drawn.reshape(len(drawn), -1), random.integers(true.size)
    few = drawn[thinned(len(drawn)), element]
    return Row(
        (estimate - truth).ravel() / spread.ravel(),
        share_below(drawn, true, random),
        float(share_below(few, true[element], random)),
        np.nan if draws is None or true.size == 1 else joint_rank([(true, drawn)], random),
    )


def share_below(draws: np.ndarray, truth: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """u: the share of draws [draw ...] that lie below the truth [...], made even between the steps by chance.

    >>> u = share_below(np.arange(9.0)[:, None], np.array([4.5]), np.random.default_rng(0))
    >>> bool(0.5 <= u[0] < 0.6)
    True
    """
    below = (draws < truth[None]).sum(axis=0)
    return (below + random.random(truth.shape)) / (len(draws) + 1)


def joint_rank(every: list[tuple[np.ndarray, np.ndarray]], random: np.random.Generator) -> float:
    """u of the distance of the truth from the centre of the posterior, in a few elements of some quantities.

    The distance is that of Mahalanobis; the draws that say what centre and covariance are do not compete in it, so
    that the truth is one of equals.

    Args:
        every: Truth [element] and draws [draw element] of every quantity.
        random: What breaks ties and chooses elements.
    """
    ends = np.cumsum([true.size for true, _ in every])
    chosen = _some(ends[-1], random)
    owners = np.searchsorted(ends, chosen, side="right")
    places = [(every[q], i - ends[q] + every[q][0].size) for q, i in zip(owners, chosen, strict=True)]
    true = np.array([quantity[0][element] for quantity, element in places])
    drawn = np.stack([quantity[1][:, element] for quantity, element in places], axis=1)
    few = thinned(len(drawn))
    rest = np.delete(drawn, few, axis=0)
    centre, spread = rest.mean(axis=0), rest.std(axis=0)
    weights = np.linalg.pinv(np.cov(rest.T / spread[:, None]), hermitian=True)

    def distance(values: np.ndarray) -> np.ndarray:
        off = (values - centre) / spread
        return np.einsum("...i,ij,...j->...", off, weights, off)

    return float(share_below(distance(drawn[few]), distance(true), random))


def _some(count: int, random: np.random.Generator) -> np.ndarray:
    """Numbers of a few of so many elements: by turns neighbours, which depend on each other most, and any."""
    few = min(TOGETHER, count)
    if random.random() < 0.5:
        return random.integers(count - few + 1) + np.arange(few)
    return random.choice(count, few, replace=False)


def thinned(count: int) -> np.ndarray:
    """Numbers of the draws that ranks are counted among, evenly over all; at most half of them.

    >>> thinned(8).tolist()
    [0, 2, 5, 7]
    """
    return np.linspace(0, count - 1, max(1, min(THINNED, count // 2))).round().astype(int)
