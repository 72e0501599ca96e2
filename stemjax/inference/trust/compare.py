r"""Which of several models is right, by what they predict of data that they did not see.

.. math:: \mathrm{elpd} = \sum_i \log p(y_i | y_{-k(i)}), \qquad
    \Delta = \sum_i d_i, \qquad s_\Delta^2 = n\, \mathrm{var}(d_i)

with the fold k(i) that leaves out the unit i, and the differences d_i of two models at the same unit: what both find
hard to predict cancels, so a difference is known far better than its terms.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.errors import InputError, nearest
from stemjax.core.typing import Array
from stemjax.inference.data_sets import DataSet, groups
from stemjax.inference.problem import Problem
from stemjax.inference.result import Result
from stemjax.inference.trust.calibrate import posterior_draws
from stemjax.inference.trust.held_out import Split, kept, leave_out_records, left_out, pointwise, unit_scores
from stemjax.inference.trust.simulate import model_of

DRAWS = 100
"""Draws of a posterior over which predictions are averaged."""

ENOUGH = 2.0
"""A difference of fewer standard errors is none."""

SMALL = 4.0
"""Below this difference [nat] its standard error cannot be trusted (Sivula, Magnusson, Vehtari, arXiv:2008.10296)."""

Solver = Callable[[Problem], Result]


@dataclass(frozen=True)
class Comparison:
    """How well models predict what they did not see; printed, a table with a verdict.

    Args:
        scores: Held-out log-likelihood of every unit by model [unit] [nat], in the order in which the models were
            given, simpler ones first.
        complaints: Status of fits that did not end as they should, by model.
        folds: Number of folds.
    """

    scores: Mapping[str, np.ndarray]
    folds: int
    complaints: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def gain(self, name: str, over: str) -> tuple[float, float]:
        """By how much one model predicts better than another, and the standard error of that [nat].

        >>> found = Comparison({"a": np.array([-1.0, -2.0]), "b": np.array([-0.5, -1.0])}, 2)
        >>> found.gain("b", "a")
        (1.5, 0.5)
        """
        each = self.scores[name] - self.scores[over]
        return float(each.sum()), float(np.sqrt(len(each) * each.var(ddof=1)))

    @property
    def best(self) -> str:
        """The model that predicts best."""
        return max(self.scores, key=lambda name: float(self.scores[name].sum()))

    @property
    def chosen(self) -> str:
        """The first model, in the order given, that predicts as well as the best within the error."""
        return next(name for name in self.scores if name == self.best or not self.better(self.best, name))

    def better(self, name: str, than: str) -> bool:
        """Whether a model predicts better than another beyond the error, and by more than four nats."""
        difference, error = self.gain(name, than)
        return difference > max(ENOUGH * error, SMALL)

    @property
    def verdict(self) -> str:
        """The choice in words, with what the others lose or gain."""
        chosen, words, place = self.chosen, [], list(self.scores).index(self.chosen)
        for number, name in enumerate(self.scores):
            if number < place:
                words.append(f"{_signed(*self.gain(chosen, name))} nats over '{name}'")
            elif number > place:
                text = "worse" if self.better(chosen, name) else "not needed"
                words.append(f"'{name}': {_signed(*self.gain(name, chosen))} nats, {text}")
        found = [f"'{chosen}': " + "; ".join(words) if words and place else f"'{chosen}'; " + "; ".join(words)]
        for name, statuses in self.complaints.items():
            found.append(f"{len(statuses)} of {self.folds} fits of '{name}' did not end well ({statuses[0]})")
        return "; ".join(found)

    def numbers(self) -> dict[str, Any]:
        """The figures as plain values, for JSON."""
        models = {}
        for name, score in self.scores.items():
            difference, error = self.gain(name, self.best)
            models[name] = {
                "held_out_log_likelihood": round(float(score.sum()), 3),
                "difference_to_best": round(difference, 3),
                "standard_error": round(error, 3),
            }
        units = len(self.scores[self.best])
        return {"units": units, "folds": self.folds, "models": models, "chosen": self.chosen, "verdict": self.verdict}

    def __str__(self) -> str:
        lines = [("", "held-out log-likelihood", "to the best")]
        for name, score in self.scores.items():
            gap = "" if name == self.best else _signed(*self.gain(name, self.best))
            lines.append((name, f"{score.sum():.1f}", gap))
        widths = [max(len(line[i]) for line in lines) for i in range(3)]
        rows = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]
        return "\n".join([*rows, self.verdict])


def compare(
    problems: Mapping[str, Problem],
    solver: Solver | Mapping[str, Solver],
    *,
    folds: int = 5,
    seed: int = 0,
    split: Split | None = None,
    report: Callable[[str, int, Result], None] | None = None,
) -> Comparison:
    """Compare models of the same data by the likelihood of what each fold leaves out.

    Every model is solved once a fold, with a mask over what it shall not see; masks are arguments of compiled
    programs, so a model compiles once. Where a result has draws of all free leaves, predictions are averaged over
    them (the posterior predictive density); else they are those of its best model.

    Args:
        problems: Models by name, simpler ones first; same data sets, masks and noise models.
        solver: From a problem to a result, for all models, or one by name.
        folds: Fits of every model; each leaves out one part of the records.
        seed: Seed of the parts, and of draws.
        split: What to leave out, if not records at random (`leave_out_blocks`, `leave_out_elements`).
        report: Called after every fit with the name of the model, the number of the fold and the result.

    Raises:
        InputError: Problems do not share their data, or a fit gives no finite prediction.

    Source: Vehtari, Gelman, Gabry, Stat. Comput. 27 (2017) 1413, Eqs. (4), (23) and (24).
    """
    _check_shared(problems)
    first = next(iter(problems.values()))
    split = leave_out_records(first, folds, seed=seed) if split is None else split
    scores, complaints = {}, {}
    for name, problem in problems.items():
        one = solver[_known(name, solver)] if isinstance(solver, Mapping) else solver
        scores[name], complaints[name] = _held_out(name, problem, one, split, seed, report)
    return Comparison(scores, split.folds, {name: tuple(words) for name, words in complaints.items() if words})


def _held_out(
    name: str, problem: Problem, solver: Solver, split: Split, seed: int, report: Callable | None
) -> tuple[np.ndarray, list[str]]:
    """Score of every unit under the fits that did not see it, and the status of fits that ended badly."""
    total, complaints = np.zeros(()), []
    for fold in range(split.folds):
        result = solver(kept(problem, split, fold))
        if not result.success:
            complaints.append(result.status)
        if report is not None:
            report(name, fold, result)
        rest = left_out(problem, split, fold)
        each = _predicted(rest, result, split, jax.random.fold_in(jax.random.key(seed), fold))
        absent = unit_scores(split, {key: number == fold for key, number in split.fold.items()}) > 0
        score = np.where(absent, unit_scores(split, each), 0.0)
        if bad := int((~np.isfinite(score)).sum()):
            raise InputError(
                f"'{name}' gives {bad} units that fold {fold} leaves out no finite likelihood; give the noise a floor, "
                "or keep expectations positive"
            )
        total = total + score
    return total, complaints


def _predicted(problem: Problem, result: Result, split: Split, key: Array) -> dict[str, Array]:
    """Log of the predictive density of every record or element, averaged over draws where there are any."""
    draws = posterior_draws(problem, result, key, DRAWS)
    if not all(path in draws for path in problem.free):
        if result.value is None:
            raise InputError("the solver gives neither draws nor a model; a prediction needs one of them")
        return _pointwise(problem, result.value, split.whole)
    few = {path: v[np.linspace(0, len(v) - 1, min(DRAWS, len(v))).round().astype(int)] for path, v in draws.items()}
    return _averaged(problem, few, split.whole)


@functools.partial(jax.jit, static_argnums=2)
def _pointwise(problem: Problem, model: Any, whole: frozenset[str]) -> dict[str, Array]:
    return pointwise(problem, model, whole)


@functools.partial(jax.jit, static_argnums=2)
def _averaged(problem: Problem, draws: dict[str, Array], whole: frozenset[str]) -> dict[str, Array]:
    """log (1/S) Σ_s p(y | θ_s) of every record or element, one draw after the other."""
    count = next(iter(draws.values())).shape[0]

    def of(values: dict[str, Array]) -> dict[str, Array]:
        return pointwise(problem, model_of(problem, values), whole)

    def add(total: dict[str, Array], values: dict[str, Array]) -> tuple[dict[str, Array], None]:
        return jax.tree.map(jnp.logaddexp, total, of(values)), None

    first = of({path: value[0] for path, value in draws.items()})
    total, _ = jax.lax.scan(add, first, {path: value[1:] for path, value in draws.items()})
    return jax.tree.map(lambda sums: sums - jnp.log(count), total)


def _check_shared(problems: Mapping[str, Problem]) -> None:
    """Refuse models of different data, whose likelihoods cannot be compared."""
    if len(problems) < 2:
        raise InputError(f"{len(problems)} model leaves nothing to compare; give at least two by name")
    (first, one), *others = problems.items()
    want = _data_of(one)
    for name, problem in others:
        have = _data_of(problem)
        if list(have) != list(want):
            raise InputError(
                f"'{name}' has data sets {list(have)}, '{first}' has {list(want)}; give both the same data"
            )
        for key, data in have.items():
            same = (_equal(a, b) for a, b in ((data.flat, want[key].flat), (data.mask, want[key].mask)))
            if not all(same):
                raise InputError(
                    f"data set '{key}' of '{name}' differs from that of '{first}'; give both the same data"
                )
            if data.noise != want[key].noise:
                raise InputError(
                    f"data set '{key}' is scored as {data.noise} in '{name}' and as {want[key].noise} in '{first}'; "
                    "their likelihoods differ by a term of the counts: use one noise model, or cameras"
                )


def _data_of(problem: Problem) -> dict[str, DataSet]:
    return {data.name: data for group in groups(problem) for data in group.sets.values()}


def _equal(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(np.asarray(one), np.asarray(other))


def _known(name: str, solvers: Mapping[str, Solver]) -> str:
    if name not in solvers:
        raise InputError(f"no solver for '{name}'; {nearest(name, solvers)}")
    return name


def _signed(difference: float, error: float) -> str:
    """A difference and its error, to two digits of the latter.

    >>> _signed(35.21, 6.13), _signed(-2.0, 0.0)
    ('+35.2 ± 6.1', '−2 ± 0')
    """
    digits = max(0, 1 - int(np.floor(np.log10(error)))) if error > 0 else 0
    return f"{difference:+.{digits}f} ± {error:.{digits}f}".replace("-", "−")
