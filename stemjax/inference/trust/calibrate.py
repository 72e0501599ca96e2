"""Calibration: simulate what a problem would record of many truths, solve, and see whether the error bars are true."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.annotations import Meaning, meanings
from stemjax.core.errors import InputError
from stemjax.core.paths import leaves, matching
from stemjax.core.typing import Array, PRNGKeyArray
from stemjax.inference import problem as statement
from stemjax.inference.problem import Problem, Unconstrained
from stemjax.inference.result import Result
from stemjax.inference.trust.coverage import Calibration, Quantity
from stemjax.inference.trust.ranks import DRAWS, Row, joint_rank, row_of
from stemjax.inference.trust.simulate import Draw, check_draws, draw_values, model_of, simulate_data


def calibrate(
    problem: Problem,
    solver: Callable[[Problem], Result],
    *,
    truths: int = 200,
    seed: int = 0,
    draw: Mapping[str, Draw] | None = None,
    paths: Iterable[str] | None = None,
    derived: Mapping[str, Any] | None = None,
    report: Callable[[int, Result], None] | None = None,
) -> Calibration:
    """Simulation-based calibration: solve simulated data of many truths, and compare with the truths.

    Every truth is drawn from the priors, its data from the noise, and every fit begins at the first guess of the
    problem. Intervals are central ones between quantiles of the posterior's draws. The data and the guess are
    arguments of compiled programs, so a solver compiles once for all truths.

    Args:
        problem: The problem; its own data give shapes and masks alone.
        solver: From a problem to a result with draws, a posterior or standard deviations: `laplace`, `sample`, a
            `functools.partial` of such, or a function of one's own that ends in one. If it takes a `seed`, every truth
            gets another: ranks among the same random numbers, fit after fit, would not be even.
        truths: Number of truths; 95 % coverage is then known to 22 %/sqrt(truths).
        seed: Seed of truths and noise.
        draw: `function(key, model)` by path for leaves that have no prior to draw from. What it draws should be what
            the prior believes: error bars are true on average over the truths that the prior expects.
        paths: Leaves to look at, patterns too; all free ones if left out.
        derived: What else to look at, by name: `Derived`, or anything with a `function` of the model.
        report: Called after every fit with its number and result.

    Raises:
        InputError: Truths cannot be drawn, a solver returns no uncertainty, or every fit fails.

    Source: Talts, Betancourt, Simpson, Vehtari, Gelman, arXiv:1804.06788 (2018).

    >>> import numpyro.distributions as dist
    >>> from flax import struct
    >>> from stemjax.detect.noise import Gaussian
    >>> from stemjax.inference.result import Named
    >>> class Counts(struct.PyTreeNode):
    ...     counts: Any
    >>> problem = statement.make_problem(
    ...     {"a": np.array(0.0)}, Counts(np.zeros(4)), noise=Gaussian(1.0, 0.0), free=["a"],
    ...     priors={"a": dist.Normal(0.0, 1.0)}, forward=lambda m, i=None: m["a"] + np.zeros(4))
    >>> def exact(problem):
    ...     mean, error = np.sum(problem.measurement.counts) / 5.0, np.sqrt(1.0 / 5.0)
    ...     return Result("exact", {"a": Named(mean, "1", (), "a")}, {"a": Named(error, "1", (), "a")})
    >>> calibrate(problem, exact, truths=50).verdict
    'calibrated, as far as 50 fits can tell'
    """
    check_draws(problem, draw)
    if truths < 2:
        raise InputError(f"{truths} truths tell nothing about error bars; give at least 20, better 200")
    names = tuple(matching(problem.free, problem.free if paths is None else paths))
    asked = Asked(names, tuple((name, what.function) for name, what in (derived or {}).items()))
    given, fits, seeded = tuple(sorted((draw or {}).items())), list[Fit](), takes_seed(solver)
    for number in range(truths):
        first, second = jax.random.split(jax.random.fold_in(jax.random.key(seed), number))
        values, measurement = _simulated(problem, first, given)
        simulated = problem.replace(measurement=jax.tree.map(_placed, problem.measurement, measurement))
        one: Callable[..., Result] = functools.partial(solver, **({"seed": seed + number} if seeded else {}))
        fit = _fit(simulated, one, values, asked, (second, np.random.default_rng([seed, number])))
        fits.append(fit)
        if report is not None and fit.result is not None:
            report(number, fit.result)
        fits[-1] = fit._replace(result=None)
    return _calibration(fits, _units(problem, derived or {}), seed)


def _calibration(fits: list[Fit], units: Mapping[str, str], seed: int) -> Calibration:
    good = [fit.rows for fit in fits if fit.rows]
    failures = {number: fit.status for number, fit in enumerate(fits) if not fit.rows}
    if len(good) < 2:
        raise InputError(f"{len(failures)} of {len(fits)} fits failed, the first with: {next(iter(failures.values()))}")
    made = {name: _quantity(name, units.get(name, "1"), [rows[name] for rows in good]) for name in good[0]}
    joint = np.array([fit.joint for fit in fits if fit.rows])
    return Calibration(
        quantities=made,
        fits=len(good),
        failures=failures,
        seconds=float(np.median([fit.seconds for fit in fits])),
        seed=seed,
        joint=joint if np.isfinite(joint).all() else None,
    )


class Asked(NamedTuple):
    """What is looked at: paths of leaves, and functions of the model by name."""

    names: tuple[str, ...]
    functions: tuple[tuple[str, Callable[[Any], Array]], ...]


class Fit(NamedTuple):
    """One fit: a row by quantity, none where it failed; how it ended and after what time; u of all leaves jointly."""

    rows: dict[str, Row]
    status: str
    seconds: float
    result: Result | None
    joint: float = np.nan


def _fit(
    problem: Problem,
    solver: Callable[[Problem], Result],
    values: Mapping[str, Array],
    asked: Asked,
    random: tuple[PRNGKeyArray, np.random.Generator],
) -> Fit:
    """Solve one problem and compare with the values that it was made of."""
    begin = time.perf_counter()
    try:
        result = solver(problem)
    except InputError as error:
        return Fit({}, str(error), time.perf_counter() - begin, None)
    seconds = time.perf_counter() - begin
    if not result.success:
        return Fit({}, result.status or "no success, and no word why", seconds, result)
    key, generator = random
    draws = posterior_draws(problem, result, key)
    truth, found = _looked_at(problem, values, draws, asked)
    rows = {name: row_of(name, truth[name], found.get(name), result, generator) for name in truth}
    wrong = [name for name, row in rows.items() if not np.isfinite(row.scores).all()]
    if wrong:
        return Fit({}, f"the standard deviation of '{wrong[0]}' is zero or not finite", seconds, result)
    every = [(truth[name].ravel(), found[name].reshape(len(found[name]), -1)) for name in asked.names if name in found]
    joint = joint_rank(every, generator) if len(every) > 1 else np.nan
    return Fit(rows, result.status, seconds, result, joint)


def posterior_draws(problem: Problem, result: Result, key: PRNGKeyArray, count: int = DRAWS) -> dict[str, np.ndarray]:
    """Draws of the free leaves together [draw ...], as far as a result gives them.

    Args:
        problem: The problem that was solved.
        result: Its result: its own draws, else those of its `posterior`.
        key: Random key.
        count: Draws to take where there are any number of them.
    """
    own = {path: _flat(result.samples[path]) for path in problem.free if path in result.samples}
    if result.posterior is None or own:
        return own
    found = _constrained(problem, result.posterior.draw(key, count))
    return {path: np.asarray(value) for path, value in found.items()}


def takes_seed(solver: Callable) -> bool:
    """Whether a solver takes a `seed`.

    >>> takes_seed(lambda problem, *, seed=0: None), takes_seed(lambda problem: None)
    (True, False)
    """
    try:
        return "seed" in inspect.signature(solver).parameters
    except (TypeError, ValueError):
        return False


@functools.partial(jax.jit, static_argnums=2)
def _simulated(problem: Problem, key: PRNGKeyArray, draw: tuple[tuple[str, Draw], ...]) -> tuple[dict[str, Array], Any]:
    """A truth and what is recorded of it."""
    first, second = jax.random.split(key)
    values = draw_values(problem, first, dict(draw))
    return values, simulate_data(problem, model_of(problem, values), second).measurement


def _placed(old: Any, new: Array) -> Any:
    """An array where an old one was: programs that were compiled for one serve the other."""
    if not isinstance(old, jax.Array):
        return np.asarray(new)
    return jax.device_put(new, old.sharding) if old.committed else jnp.asarray(np.asarray(new))


@jax.jit
def _constrained(problem: Problem, draws: Unconstrained) -> dict[str, Array]:
    return jax.vmap(lambda z: statement.constrained(problem, z))(draws)


@functools.partial(jax.jit, static_argnums=2)
def _derived(
    problem: Problem, values: dict[str, Array], functions: tuple[tuple[str, Callable], ...]
) -> dict[str, Array]:
    """Derived quantities of values of the free leaves [draw ...]."""

    def of(values: dict[str, Array]) -> dict[str, Array]:
        model = model_of(problem, values)
        return {name: function(model) for name, function in functions}

    return jax.lax.map(of, values)


def _looked_at(
    problem: Problem, values: Mapping[str, Array], draws: Mapping[str, np.ndarray], asked: Asked
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Truth and draws by name, those of derived quantities too; no draws where the result has none."""
    truth = {name: np.asarray(values[name]) for name in asked.names}
    found = {name: draws[name] for name in asked.names if name in draws}
    if not asked.functions:
        return truth, found
    if missing := [path for path in problem.free if path not in draws]:
        raise InputError(
            f"derived quantities need draws of all free leaves together, the solver gives none of '{missing[0]}'; use "
            "a solver with a posterior, such as laplace"
        )
    ones = {path: np.asarray(value)[None] for path, value in values.items()}
    truth |= {name: np.asarray(value)[0] for name, value in _derived(problem, ones, asked.functions).items()}
    every = _derived(problem, dict(draws), asked.functions)
    return truth, found | {name: np.asarray(value) for name, value in every.items()}


def _quantity(name: str, unit: str, rows: list[Row]) -> Quantity:
    scores, shares, ranks, joint = (np.array(column) for column in zip(*rows, strict=True))
    return Quantity(name, unit, scores, shares, ranks, joint if np.isfinite(joint).all() else None)


def _units(problem: Problem, derived: Mapping[str, Any]) -> dict[str, str]:
    meaning = meanings(problem.experiment)
    units = {path: meaning.get(path, Meaning()).unit for path in leaves(problem.experiment)}
    return units | {name: getattr(what, "unit", "1") for name, what in derived.items()}


def _flat(named: Any) -> np.ndarray:
    """Draws of all chains together [draw ...]."""
    value = np.asarray(named.value)
    return value.reshape(-1, *value.shape[2:]) if "chain" in named.dims else value
