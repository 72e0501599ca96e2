r"""The best experiment for a question: settings chosen by gradient ascent on the information about a named quantity.

.. math:: \hat s = \arg\min_s \sum_k w_k \log \sigma_k(s), \qquad
    \sigma_k^2(s) = \nabla q_k^\mathsf{T} F(s)^{-1} \nabla q_k

with σ_k the Cramér-Rao bound of the k-th quantity, all free leaves of the problem unknown. The slope in the settings s
is exact: forward differentiation through the Fisher information. The information has many maxima (defocus!), so the
ascent starts from the best of many places. The bound speaks of small errors: whether an estimator finds the right one
of several minima it does not tell, so verify the experiment by simulation.

Source: Atkinson, Donev, Tobias, Optimum Experimental Designs, with SAS (2007), chapter 10 (D_s-optimality); for
microscopes van Aert, den Dekker, van den Bos, van Dyck, IEEE Trans. Instrum. Meas. 51 (2002) 611.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from stemjax.core.errors import InputError, nearest
from stemjax.core.paths import leaves, matching
from stemjax.core.typing import Array, real_dtype
from stemjax.inference.bounds.ascent import (
    Ascent,
    Leaf,
    Question,
    Ranges,
    Setting,
    ascend,
    settings_at,
    value_at,
    with_settings,
)
from stemjax.inference.bounds.cramer_rao import Bounds, cramer_rao, informed
from stemjax.inference.curvature import fisher
from stemjax.inference.data_sets import groups
from stemjax.inference.derived import Derived
from stemjax.inference.entry import ready
from stemjax.inference.problem import Problem
from stemjax.inference.result import Named, named_leaves

POINTS = 41
"""Values of a setting on its curve."""


@dataclass(frozen=True)
class Knob:
    """A setting of an experiment that is no leaf, such as the step of a scan or the radius of a ring of tilts.

    Args:
        low: Least value.
        high: Greatest value.
        start: Value that the experiment has.
        function: From the model and a value to the model with it; a named function, so that programs are not compiled
            again.
        unit: Unit of the value.
    """

    low: float
    high: float
    start: float
    function: Callable[[Any, Array], Any]
    unit: str = "1"


@dataclass(frozen=True)
class Design:
    """An experiment chosen for a question; printed, it is a table.

    Args:
        best: The settings found, by name.
        default: The settings of the problem as it was given.
        before: Bounds with those.
        after: Bounds with the settings found.
        gains: How many times smaller the standard deviation of every quantity asked about became.
        curves: By setting, its values and the bound there (geometric mean of the quantities asked about), the others
            held at their best [2 point].
        ascents: The same bound at the end of every ascent, best first [ascent].
        problem: The problem with the settings found, its counts unchanged.
        status: A sentence on how it was found.
    """

    best: Mapping[str, Named]
    default: Mapping[str, Named]
    before: Bounds
    after: Bounds
    gains: Mapping[str, float]
    curves: Mapping[str, np.ndarray]
    ascents: np.ndarray
    problem: Problem
    status: str

    def __str__(self) -> str:
        lines = [f"{name}: {_with_unit(self.default[name])} -> {_with_unit(self.best[name])}" for name in self.best]
        for name, gain in self.gains.items():
            pair = [_middle(bounds.deviations[name]) for bounds in (self.before, self.after)]
            unit = "" if (units := self.after.deviations[name].units) == "1" else f" {units}"
            lines.append(f"bound of {name}: {pair[0]:.3g} -> {pair[1]:.3g}{unit}, {gain:.3g} × smaller")
        return "\n".join([*lines, self.status])


def design(
    problem: Problem,
    *,
    over: Mapping[str, tuple[float, float] | Knob],
    about: str | Iterable[str] | Mapping[str, float],
    derived: Mapping[str, Derived] | None = None,
    keep: Iterable[str] | None = None,
    with_priors: bool = False,
    starts: int = 32,
    seed: int = 0,
) -> Design:
    """The settings that make the bound of a quantity least.

    Args:
        problem: The problem; its first guess is taken for the truth, and all its free leaves are unknown.
        over: Ranges of the settings: paths of leaves that are not free (`probe.aberrations.C10`,
            `detectors.ADF.inner`), every element of an array by itself; or a `Knob` by any name.
        about: Paths of free leaves, or names in `derived`; several with equal weights, or a weight by name. Of an array
            every element counts the same.
        derived: Quantities by name.
        keep: Leaves in `over` whose total over all records stays what it is; those named `dose` if None. They are
            scaled together, so their ranges bound their ratios. () keeps nothing.
        with_priors: Count what the priors tell as well.
        starts: Places to look at before the ascents, which start from the best four and from the default.
        seed: Seed of the places.

    Raises:
        InputError: A setting is free or no leaf, a range is empty, nothing is asked about, or a single dose is varied,
            of which more is always better.

    >>> from flax import struct
    >>> from stemjax.detect.noise import Gaussian
    >>> from stemjax.inference.problem import make_problem
    >>> class Counts(struct.PyTreeNode):
    ...     counts: Any
    >>> decay = make_problem(
    ...     {"life": jnp.array(2.0), "time": jnp.array(0.5)}, Counts(jnp.zeros(1)), noise=Gaussian(1.0, 0.0),
    ...     free=["life"], forward=lambda m, i=None: jnp.exp(-m["time"] / m["life"])[None])
    >>> found = design(decay, over={"time": (0.1, 10.0)}, about="life")
    >>> round(float(found.best["time"].value), 2)  # the life itself
    2.0
    """
    problem = ready(problem, search=False) if with_priors else problem
    settings, ranges = _ranges(problem, over)
    kept, ranges = _kept(problem, settings, keep, ranges)
    question = Question(settings, _asked(problem, about, derived or {}), kept, informed if with_priors else fisher)
    ends = ascend(problem, question, ranges, starts, seed)
    chosen = np.asarray(settings_at(question, ranges, jnp.asarray(ends[0].share, real_dtype())))
    found = with_settings(problem, settings, jnp.asarray(chosen, real_dtype()))
    before, after = (cramer_rao(p, derived=derived, with_priors=with_priors) for p in (problem, found))
    names = [name for name, *_ in question.about]
    return Design(
        best=_settings(problem, settings, over, chosen),
        default=_settings(problem, settings, over, ranges.start),
        before=before,
        after=after,
        gains={name: _gain(before.deviations[name], after.deviations[name]) for name in names},
        curves=_curves(problem, question, ranges, ends[0].share),
        ascents=np.exp([end.value for end in ends]),
        problem=found,
        status=_status(question, ends),
    )


def _ranges(problem: Problem, over: Mapping[str, tuple[float, float] | Knob]) -> tuple[tuple[Setting, ...], Ranges]:
    """Settings with the ranges and defaults of their elements."""
    if not over:
        raise InputError(
            "no setting is to be chosen; give `over` the range of one, {'probe.aberrations.C10': (-200, 200)}"
        )
    known, settings, rows = leaves(problem.experiment), [], []
    for name, given in over.items():
        if isinstance(given, Knob):
            settings.append(Setting(name, (), given.function))
            rows.append((given.low, given.high, np.full(1, given.start)))
            continue
        if name not in known:
            raise InputError(f"no setting at path '{name}'; {nearest(name, known)}")
        if name in problem.free:
            raise InputError(f"'{name}' is free, so it is found from the data; a setting must be a leaf that is held")
        settings.append(Setting(name, np.shape(known[name]), None))
        rows.append((*given, np.ravel(np.asarray(known[name], float))))
    for (low, high, _), setting in zip(rows, settings, strict=True):
        if not (np.isfinite([low, high]).all() and low < high):
            raise InputError(
                f"the range of '{setting.name}' from {low:g} to {high:g} is empty; give the lower end first"
            )
    start = np.concatenate([row[2] for row in rows])
    ends = [np.concatenate([np.full(len(row[2]), row[i]) for row in rows]) for i in (0, 1)]
    return tuple(settings), Ranges(ends[0], ends[1], start, np.ones_like(start))


def _kept(
    problem: Problem, settings: tuple[Setting, ...], keep: Iterable[str] | None, ranges: Ranges
) -> tuple[tuple[int, ...], Ranges]:
    """Places of the settings whose total is kept, and their weights: the records that each counts for."""
    names = [setting.name for setting in settings]
    wanted = [name for name in names if name.split(".")[-1] == "dose"] if keep is None else matching(names, keep)
    sizes = np.cumsum([0, *(int(np.prod(setting.shape)) for setting in settings)])
    chosen = [int(i) for name in wanted for i in range(sizes[names.index(name)], sizes[names.index(name) + 1])]
    if len(chosen) == 1:
        raise InputError(
            f"of '{wanted[0]}' more is always better; leave it out, give several whose total is kept, or keep=() to "
            "let it grow"
        )
    weight = np.array(ranges.weight)
    for name in wanted:
        weight[sizes[names.index(name)] : sizes[names.index(name) + 1]] = _records(problem, name)
    return tuple(chosen), ranges._replace(weight=weight)


def _records(problem: Problem, name: str) -> int:
    """Records of the part of a joint problem that a leaf belongs to."""
    for group in groups(problem):
        if not group.part or name.startswith(".".join(group.part) + "."):
            return next(iter(group.sets.values())).records
    return 1


def _asked(
    problem: Problem, about: str | Iterable[str] | Mapping[str, float], derived: Mapping[str, Derived]
) -> tuple[tuple[str, Callable[[Any], Array], float], ...]:
    """Name, function and weight of every quantity asked about."""
    weights = {about: 1.0} if isinstance(about, str) else about
    weights = dict(weights) if isinstance(weights, Mapping) else dict.fromkeys(weights, 1.0)
    found: dict[str, tuple[Callable[[Any], Array], float]] = {}
    for name, weight in weights.items():
        if name in derived:
            found[name] = derived[name].function, float(weight)
            continue
        try:
            paths = matching(problem.free, [name])
        except InputError:
            known = [*problem.free, *derived]
            raise InputError(
                f"nothing is asked about '{name}', no free leaf or derived; {nearest(name, known)}"
            ) from None
        found |= {path: (Leaf(path), float(weight)) for path in paths}
    if not found or not all(weight > 0 for _, weight in found.values()):
        raise InputError("nothing is asked about; name free leaves or derived quantities, with positive weights")
    return tuple((name, function, weight) for name, (function, weight) in found.items())


def _settings(
    problem: Problem, settings: tuple[Setting, ...], over: Mapping[str, Any], values: np.ndarray
) -> dict[str, Named]:
    """Settings as named arrays."""
    found: dict[str, Named] = {}
    first = 0
    for setting in settings:
        size = int(np.prod(setting.shape))
        value = np.asarray(values[first : first + size], float).reshape(setting.shape)
        first += size
        if setting.function is None:
            found |= named_leaves(problem.experiment, {setting.name: value})
        else:
            found[setting.name] = Named(value, over[setting.name].unit, (), setting.name)
    return found


def _curves(problem: Problem, question: Question, ranges: Ranges, best: np.ndarray) -> dict[str, np.ndarray]:
    """The bound along every setting, the others at their best; of arrays along their first element."""
    curves, first = {}, 0
    for setting in question.settings:
        rows = []
        for share in np.linspace(0.0, 1.0, POINTS):
            there = np.array(best)
            there[first] = share
            value = settings_at(question, ranges, jnp.asarray(there, real_dtype()))[first]
            rows.append((float(value), np.exp(value_at(problem, question, ranges, there))))
        curves[setting.name] = np.array(rows).T
        first += int(np.prod(setting.shape))
    return curves


def _status(question: Question, ends: list[Ascent]) -> str:
    """How the settings were found, and which ended at the end of their range."""
    near = sum(end.value < ends[0].value + 0.01 for end in ends)
    at_end, first = [], 0
    for setting in question.settings:
        size = int(np.prod(setting.shape))
        part = ends[0].share[first : first + size]
        first += size
        if ((part < 1e-6) | (part > 1.0 - 1e-6)).any():
            at_end.append(setting.name)
    said = f"best of {len(ends)} ascents, {near} of which came within 1 % of it"
    return said + (f"; at the end of its range: {', '.join(at_end)}" if at_end else "")


def _gain(before: Named, after: Named) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.asarray(before.value) / np.asarray(after.value)
    ratio = ratio[~np.isnan(ratio)]
    return float(np.exp(np.mean(np.log(ratio)))) if ratio.size else 1.0


def _middle(named: Named) -> float:
    return float(np.median(np.asarray(named.value)))


def _with_unit(named: Named) -> str:
    value = np.asarray(named.value)
    text = f"{float(value):.4g}" if value.ndim == 0 else np.array2string(value, precision=4)
    return text if named.units in ("", "1") else f"{text} {named.units}"
