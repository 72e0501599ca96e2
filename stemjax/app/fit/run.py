"""A fit from its configuration to its result: state, solve, error bars, files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stemjax.app.config import load_config, plain_settings
from stemjax.app.fit.settings import FitSettings
from stemjax.app.fit.statement import Fit, state_fit
from stemjax.app.progress import Reporter
from stemjax.app.provenance import provenance
from stemjax.app.simulation.settings import SimulationSettings
from stemjax.core.errors import InputError
from stemjax.core.paths import leaves
from stemjax.inference.data_sets import groups
from stemjax.inference.entry import ready
from stemjax.inference.problem import Problem
from stemjax.inference.result import Result, named_leaves
from stemjax.inference.vector import layout
from stemjax.io import read_dataset, write_result

RESULT = "result.h5"


def read_experiment(settings: FitSettings) -> SimulationSettings:
    """The simulation that a fit starts from.

    Raises:
        InputError: The configuration is none of a simulation.
    """
    found = load_config(settings.simulation)
    if not isinstance(found, SimulationSettings):
        raise InputError(f"simulation: {settings.simulation} is no simulation; name a file with problem: simulation")
    return found


def read_fit(settings: FitSettings) -> Fit:
    """The problem of a fit, its data read or simulated."""
    data = None if settings.data is None else read_dataset(settings.data)
    return state_fit(settings, read_experiment(settings), data)


def run_fit(settings: FitSettings, folder: Path, reporter: Reporter, *, force: bool = False) -> Result:
    """Solve a fit and write `result.h5` and the report.

    Args:
        settings: The configuration.
        folder: Folder of the results; exists.
        reporter: Who is told.
        force: Whether a finished result may be replaced.

    Raises:
        InputError: Something given cannot be used; an older result is kept as it was.
    """
    if (folder / RESULT).exists() and not force:
        raise InputError(
            f"{folder / RESULT} is the result of a finished run; choose another folder with -o, or --force to "
            "replace it"
        )
    origin = provenance(seed=settings.seed, source=None if settings.data is None else Path(settings.data))
    fit = read_fit(settings)
    for line in described(fit.problem):
        reporter.message(line)
    result = solved(settings, fit, reporter)
    result = replace(result, config=plain_settings(settings), provenance=origin)
    write_result(folder / RESULT, result)
    from stemjax.report.page import write_report

    write_report(result, folder)
    reporter.finish(f"{result.status}; wrote {folder / RESULT} and {folder / 'report' / 'index.html'}")
    return result


def described(problem: Problem) -> Iterator[str]:
    """What is found from what, in words."""
    yield f"{layout(problem).size} unknowns in {len(problem.free)} leaves: {', '.join(problem.free[:8])}" + (
        ", ..." if len(problem.free) > 8 else ""
    )
    for group in groups(problem):
        for data in group.sets.values():
            shape = np.shape(data.counts)
            yield f"data {data.name}: {shape[0]} records of {int(np.prod(shape[1:]))} values"
    for well in problem.wells:
        yield f"{well.path} is searched from {well.low:.4g} to {well.high:.4g} for its best minimum"


def solved(settings: FitSettings, fit: Fit, reporter: Reporter) -> Result:
    """The most probable values and their error bars, beside the first guess and the truth where it is known."""
    problem = ready(fit.problem)
    best = _solvers(settings)[settings.solver.method](problem)
    reporter.message(f"{settings.solver.method}: {best.status}")
    result = _posteriors(settings)[settings.posterior.method](problem, best)
    known = leaves(fit.problem.experiment)
    start = named_leaves(fit.problem.experiment, {path: known[path] for path in fit.problem.free})
    beside: dict[str, Any] = {"initial": start}
    if fit.truth is not None:
        true = leaves(fit.truth)
        beside["truth"] = named_leaves(fit.truth, {path: true[path] for path in fit.problem.free})
    return replace(result, problem="fit", diagnostics={**result.diagnostics, **beside})


def _solvers(settings: FitSettings) -> dict[str, Callable[[Problem], Result]]:
    from stemjax.inference.lbfgs import lbfgs
    from stemjax.inference.least_squares import least_squares

    steps = settings.solver.iterations
    return {"least-squares": partial(least_squares, iterations=steps), "lbfgs": partial(lbfgs, iterations=steps)}


def _posteriors(settings: FitSettings) -> dict[str, Callable[[Problem, Result], Result]]:
    from stemjax.inference.laplace import laplace
    from stemjax.inference.sample import sample
    from stemjax.inference.variational import variational

    choice, seed = settings.posterior, settings.seed
    chains = {"chains": choice.chains, "draws": choice.draws, "warmup": choice.warmup, "seed": seed}
    return {
        "laplace": lambda p, best: laplace(p, at=best, rank=choice.rank or None, draws=choice.draws, seed=seed),
        "nuts": lambda p, best: sample(p, at=best, **chains),
        "variational": lambda p, _: variational(p, rank=choice.rank, draws=choice.draws, seed=seed),
        "none": lambda _, best: best,
    }


def bounds_of(settings: FitSettings) -> list[str]:
    """The Cramér-Rao bounds of a fit at its first guess (or at the truth of simulated data), in lines."""
    from stemjax.inference.bounds import cramer_rao

    fit = read_fit(settings)
    problem = fit.problem if fit.truth is None else fit.problem.replace(experiment=fit.truth)
    return [*described(problem), *str(cramer_rao(problem)).splitlines()]
