r"""Strengths of priors that the data choose: how smooth, how sparse, how near, in the unit of the leaf.

Normal densities (`Smooth`, `Ridge`, `RandomWalk`, `GaussianProcess`, `KnownLattice`, ...) get the scale that is most
probable, all leaves integrated out (evidence, in Laplace's approximation), every scale as likely beforehand as any
other (Gelman, Bayesian Anal. 1 (2006) 515), and log s the variable. It is a fixed point like that of MacKay,
Neural Comput. 4 (1992) 415:

.. math:: s^2 = \frac{1}{\gamma - 1} \sum_i |d_i(\hat u)|^2

with γ the directions that the data fix. The evidence alone, without the −1, often has its maximum at a scale of zero
where deviations are lost in the noise, and error bars come out too small. It serves where the other has no maximum: for
fewer than three deviations, and where several priors share a leaf.

Rounded densities (`TotalVariation`, `Sparse`) are made for their most probable image and not for draws, so evidence
misleads there; they get the scale whose most probable leaves would meet new data best, by an estimate without bias
(`stemjax.inference.priors.risk`).

`by_discrepancy` is the older rule that asks for the deviance which noise alone would give.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from stemjax.core.annotations import Meaning, meanings
from stemjax.core.errors import InputError
from stemjax.inference import problem as statement
from stemjax.inference.faults import fault
from stemjax.inference.priors import evidence
from stemjax.inference.priors.most_probable import most_probable
from stemjax.inference.priors.parts import factors, is_open, parts, sole, with_scales
from stemjax.inference.priors.risk import risk, yardstick
from stemjax.inference.problem import Problem
from stemjax.inference.vector import layout

FEW = 256
"""Random vectors where unknowns are few and vectors cheap."""

SLIGHT = 0.01
"""A gain in loss that is not worth a step further."""

FEWEST = 3
"""Deviations from which on a scale has a density of its own when all scales are as likely beforehand (Gelman)."""

FAINT = 0.1
"""Directions fixed by the data below which they do not see deviations at all."""

WIDE = 10.0
"""Times its first value, from which on a scale that still grows has no end."""


def unsettled(problem: Problem) -> bool:
    """Whether a prior of a problem has a scale that was left out.

    >>> from stemjax.inference.priors.images import Smooth
    >>> is_open(Smooth()), is_open(Smooth(0.1))
    (True, False)
    """
    return any(is_open(factor) for prior in problem.priors.values() for factor in factors(prior))


def settle(problem: Problem, *, probes: int = 32, rounds: int = 40, tolerance: float = 0.01, seed: int = 0) -> Problem:
    """The problem with every scale that was left out found from the data.

    Args:
        problem: The problem; scales that are numbers stay.
        probes: Random vectors behind a trace where there are many unknowns (beyond 400).
        rounds: Most rounds of the fixed point, and most trials of a search.
        tolerance: A scale is found when it changes by less than this share.
        seed: Seed of the random vectors.

    Returns:
        The problem with numbers in place; `strengths` tells them with their units.

    Raises:
        InputError: The data do not see a leaf at its first guess, or a density is not finite.
    """
    names = [name for name, part in parts(problem).items() if is_open(part.prior)]
    check_open(problem, names)
    if not names:
        return problem
    search = Search(problem, names, seed, probes)
    normal = tuple(name for name in names if search.known[name].prior.power == 2)
    edged = [name for name in names if name not in normal]
    for _ in range(4 if len(names) > 1 and edged else 1):
        before = dict(search.scales)
        if normal:
            _fixed_point(search, normal, rounds, tolerance)
        for name in edged:
            _least_risk(search, name, rounds, tolerance)
        if max(abs(np.log(search.scales[n] / before[n])) for n in names) < tolerance:
            break
    return search.problem


def strengths(problem: Problem) -> dict[str, str]:
    """The scales of a problem's priors in words, by the path of the leaf.

    >>> from stemjax.inference.priors.images import Smooth
    >>> strengths(Problem({"u": np.zeros((2, 2))}, None, {"u": Smooth(0.25)}, None, None, ("u",)))
    {'u': 'Smooth 0.25'}
    """
    meaning, found = meanings(problem.experiment), {}
    for path, prior in problem.priors.items():
        words = [_words(f, meaning.get(path, Meaning()).unit) for f in factors(prior) if hasattr(f, "deviations")]
        if words:
            found[path] = ", ".join(words)
    return found


class Search:
    """Where the search for scales stands: the scales, and the most probable leaves for them."""

    def __init__(self, problem: Problem, names: list[str], seed: int, probes: int = 32) -> None:
        self.stated, self.known = problem, parts(problem)
        self.scales = dict.fromkeys(names, 1.0)
        few = layout(self.problem).size <= evidence.DENSE
        self.keys = jax.random.split(jax.random.key(seed), max(probes, FEW) if few else probes)
        self._begin(problem)
        if problem.wells:
            self._begin(_searched(self.problem))

    def _begin(self, problem: Problem) -> None:
        """First scales at the first guess of a problem."""
        self.z = jax.jit(statement.start)(problem)
        told = evidence.spreads(self.problem, self.z, self.keys)
        self.first = {name: self._first(name, *map(float, told[name])) for name in self.scales}
        self.scales.update(self.first)

    def _first(self, name: str, told: float, rough: float) -> float:
        """A scale to begin with: there the prior and the data know about equally much."""
        if not np.isfinite(told):
            raise InputError(fault(self.problem, self.z))
        if not told > 0.0:
            raise InputError(
                f"the data do not see '{self.known[name].path}' at its first guess, so they cannot choose the scale of "
                "its prior; move the guess or give a scale"
            )
        return float(np.sqrt(rough / told))

    @property
    def problem(self) -> Problem:
        """The problem with the scales as they are."""
        return with_scales(self.stated, self.scales)

    def fit(self) -> None:
        """Find the most probable leaves for the scales."""
        z, deviance = most_probable(self.problem, self.z, self.keys[0])
        if not np.isfinite(float(deviance)):
            raise InputError(fault(self.problem, z) or fault(self.problem, self.z))
        self.z = z


def _fixed_point(search: Search, names: tuple[str, ...], rounds: int, tolerance: float) -> None:
    """MacKay's fixed point of several scales at once, hastened by the secant of each."""
    last: dict[str, tuple[float, float]] = {}
    for _ in range(rounds):
        search.fit()
        found = evidence.sums(search.problem, search.z, search.keys, names)
        change = 0.0
        for name in names:
            energy, rank, fixed = map(float, found[name])
            known, many = rank - fixed, rank >= FEWEST and sole(search.problem, search.known[name].path)
            if not many and known < FAINT:
                continue
            if search.scales[name] > WIDE * search.first[name] and known < 1.0 + FAINT:
                path = search.known[name].path
                raise InputError(f"the data see too little of '{path}' to choose the scale of its prior; give a scale")
            share = (energy + many) / max(known, 1e-9)
            here, off = np.log(search.scales[name]), 0.5 * np.log(np.clip(share, np.exp(-4.0), np.exp(4.0)))
            move = _secant(here, off, last.get(name))
            last[name], change = (here, off), max(change, abs(move))
            search.scales[name] = float(np.exp(here + move))
        if change < tolerance:
            break


def _secant(here: float, off: float, last: tuple[float, float] | None) -> float:
    """The step of a fixed point, along the secant of the last two where that makes sense; at most a factor e²."""
    slope = -1.0
    if last is not None and abs(here - last[0]) > 1e-6:
        slope = min(max((off - last[1]) / (here - last[0]), -3.0), -0.1)
    return float(np.clip(-off / slope, -2.0, 2.0))


def _least_risk(search: Search, name: str, rounds: int, tolerance: float) -> None:
    """The scale of least loss of new data, by Brent's method on its logarithm."""
    from scipy.optimize import minimize_scalar

    search.fit()
    by = yardstick(search.problem, search.z)

    @functools.cache
    def loss(log_scale: float) -> float:
        search.scales[name] = float(np.exp(log_scale))
        search.fit()
        return float(risk(search.problem, search.z, by, search.keys))

    valley = _valley(loss, np.log(search.scales[name]), rounds)
    options = {"xatol": tolerance, "maxiter": rounds}
    found = minimize_scalar(loss, bounds=valley, method="bounded", options=options)
    search.scales[name] = float(np.exp(found.x))
    search.fit()


def _valley(loss: Callable[[float], float], middle: float, rounds: int) -> tuple[float, float]:
    """Two places between which a loss has a least value, or gains nothing worth having any more."""
    low, high, step = middle - 0.7, middle + 0.7, 1.0
    for _ in range(rounds):
        if loss(low) < loss(middle) - SLIGHT and loss(low) <= loss(high):
            low, middle, high = low - step, low, middle
        elif loss(high) < loss(middle) - SLIGHT:
            low, middle, high = middle, high, high + step
        else:
            break
        step *= 1.5
    return low, high


def _searched(problem: Problem) -> Problem:
    """The problem with its first guess in the best of its wells."""
    from stemjax.inference.solvers.search import search_wells

    return search_wells(problem)


def check_open(problem: Problem, names: Iterable[str]) -> None:
    """Refuse priors without a scale that do not say what it measures."""
    known = parts(problem)
    for path, prior in problem.priors.items():
        for factor in factors(prior):
            if is_open(factor) and not any(known[name].prior is factor for name in names):
                raise InputError(
                    f"the prior {type(factor).__name__} of '{path}' has no scale and no `deviations` to find it by; "
                    "give a scale"
                )


def _words(prior: Any, unit: str) -> str:
    name = type(prior).__name__
    if prior.scale is None:
        return f"{name}, from the data"
    own = getattr(prior, "unit", None)
    unit = own(unit) if own else unit
    return f"{name} {float(np.mean(prior.scale)):.4g}" + ("" if unit == "1" else f" {unit}")
