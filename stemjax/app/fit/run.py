"""A fit from its configuration to its result: state, solve, error bars, files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
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
    for line in described(fit):
        reporter.message(line)
    result = solved(settings, fit, reporter)
    result = replace(result, config=plain_settings(settings), provenance=origin)
    write_result(folder / RESULT, result)
    from stemjax.report.page import write_report

    write_report(result, folder)
    reporter.finish(f"{result.status}; wrote {folder / RESULT} and {folder / 'report' / 'index.html'}")
    return result


def described(fit: Fit) -> Iterator[str]:
    """What is found from what, in words."""
    problem = fit.problem
    yield f"{layout(problem).size} unknowns in {len(problem.free)} leaves: {', '.join(problem.free[:8])}" + (
        ", ..." if len(problem.free) > 8 else ""
    )
    for group in groups(problem):
        for data in group.sets.values():
            shape = np.shape(data.counts)
            name = "" if data.name == "data" else f" of '{data.name}'"
            yield f"data{name}: {shape[0]} records of {int(np.prod(shape[1:]))} values, {fit.source}"
    for well in problem.wells:
        yield f"{well.path} is searched from {well.low:.4g} to {well.high:.4g} for its best minimum"


def solved(settings: FitSettings, fit: Fit, reporter: Reporter) -> Result:
    """The most probable values and their error bars, beside the first guess and the truth where it is known."""
    problem = ready(fit.problem)
    best = _best(settings, problem)
    reporter.message(f"{settings.solver.method}: {best.status}")
    result = _with_error_bars(settings, problem, best)
    known = leaves(fit.problem.experiment)
    start = named_leaves(fit.problem.experiment, {path: known[path] for path in fit.problem.free})
    beside: dict[str, Any] = {"initial": start}
    if fit.truth is not None:
        true = leaves(fit.truth)
        beside["truth"] = named_leaves(fit.truth, {path: true[path] for path in fit.problem.free})
    return replace(result, problem="fit", diagnostics={**result.diagnostics, **beside})


def _best(settings: FitSettings, problem: Problem) -> Result:
    steps = settings.solver.iterations
    if settings.solver.method == "lbfgs":
        from stemjax.inference.solvers.lbfgs import lbfgs

        return lbfgs(problem, iterations=steps)
    from stemjax.inference.solvers.least_squares import least_squares

    return least_squares(problem, iterations=steps)


def _with_error_bars(settings: FitSettings, problem: Problem, best: Result) -> Result:
    choice, seed = settings.posterior, settings.seed
    if choice.method == "laplace":
        from stemjax.inference.posteriors.laplace import laplace

        return laplace(problem, at=best, rank=choice.rank or None, draws=choice.draws, seed=seed)
    if choice.method == "nuts":
        from stemjax.inference.posteriors.sample import sample

        return sample(problem, at=best, chains=choice.chains, draws=choice.draws, warmup=choice.warmup, seed=seed)
    if choice.method == "variational":
        from stemjax.inference.posteriors.variational import variational

        return variational(problem, at=best, rank=choice.rank, draws=choice.draws, seed=seed)
    return best


def bounds_of(settings: FitSettings) -> list[str]:
    """The Cramér-Rao bounds of a fit at its first guess (or at the truth of simulated data), in lines."""
    from stemjax.inference.bounds.cramer_rao import cramer_rao

    fit = read_fit(settings)
    problem = fit.problem if fit.truth is None else fit.problem.replace(experiment=fit.truth)
    return [*described(replace(fit, problem=problem)), *str(cramer_rao(problem)).splitlines()]
