"""How a ptychography problem is solved: rates, trials of defocus and handedness, and the plan of the epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from stemjax.core.executor import Execution
from stemjax.forward.experiment import Experiment
from stemjax.inference.problem import Problem, insert, make_problem
from stemjax.inference.solvers.optimise import Plan, Schedule, distribute, epoch, initial
from stemjax.optics.electron import wavelength
from stemjax.problems.ptychography.guess import defocus_candidates, orientation_matrix, snapped
from stemjax.problems.ptychography.leaves import free_leaves, natural_rate
from stemjax.problems.ptychography.patterns import Patterns
from stemjax.problems.ptychography.settings import PtychographySettings
from stemjax.problems.ptychography.setup import make_experiment_guess, make_ptychography, window_grid
from stemjax.problems.ptychography.sign import sign_of_phase

TRIAL_SIDE = 14
"""Trials of a first guess use a square of this many scan positions from the middle of the scan."""

TRIAL_EPOCHS = 6
"""Epochs of one trial."""

TURNS = (-10.0, -5.0, 0.0, 5.0, 10.0)
"""Rotations tried about that of least curl [degree]; random errors of the scan positions mislead the curl."""


def make_plan(settings: PtychographySettings, experiment: Experiment, execution: Execution) -> Plan:
    """Rates and batches of the run.

    A leaf's rate is zero until its first epoch, then falls as half a cosine to 2 % in the last epoch.

    Args:
        settings: The configuration.
        experiment: The first guess.
        execution: Where the patterns are computed.
    """
    epochs = settings.solver.epochs
    rates: dict[str, Schedule] = {}
    for leaf, (kind, first, written) in free_leaves(settings).items():
        rate = written or settings.solver.rate.get(kind) or natural_rate(leaf, experiment)
        rates[leaf] = falling(rate, first, epochs)
    solver = settings.solver
    return Plan(rates=rates, batch=solver.batch, seed=solver.seed, held_out=solver.held_out, execution=execution)


def falling(rate: float, first: int, epochs: int) -> Callable[[int], float]:
    """Half a cosine from `rate` at epoch `first` to 2 % of it at the end; zero before.

    >>> schedule = falling(1.0, 2, 4)
    >>> [round(schedule(e), 2) for e in range(4)]
    [0.0, 0.0, 1.0, 0.51]
    """

    def schedule(number: int) -> float:
        if number < first:
            return 0.0
        progress = (number - first) / max(epochs - first, 1)
        return rate * (0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * progress)))

    return schedule


def first_guess(
    patterns: Patterns,
    settings: PtychographySettings,
    execution: Execution,
    *,
    stored_defocus: float | None = None,
    report: Callable[[str], None] | None = None,
) -> tuple[Patterns, Experiment]:
    """The experiment to start from, with what is `auto` found by short trials.

    Trials reconstruct a small piece of the scan for every candidate of defocus and, unless the curl is decisive, both
    handednesses; the best likelihood wins. For one slice the conjugate solution turned by 180° fits as well: where
    neither a known defocus nor given aberrations break the tie, `sign_of_phase` decides. A known defocus is kept.

    Args:
        patterns: From `prepare_patterns`.
        settings: The configuration.
        execution: Where the patterns are computed.
        stored_defocus: Defocus that the file tells, positive for underfocus [Å].
        report: Called with a line of text after every step.

    Returns:
        Patterns (their orientation may have changed) and the experiment.
    """
    written = settings.probe.defocus
    known = stored_defocus if written == "auto" else float(written)
    if known is not None and settings.orientation != "auto":
        return patterns, make_experiment_guess(patterns, settings, C10=-known)
    values = _values(patterns, known)
    matrices = _matrices(patterns, settings, known) if settings.orientation == "auto" else [patterns.matrix]
    trials = _run_trials(patterns, settings, execution, [(m, v) for m in matrices for v in values])
    best = min(trials, key=lambda t: t.loss)
    notes = _doubts(trials, best, values, known)
    matrix, C10 = best.matrix, best.C10
    if settings.orientation == "auto":
        turns = [(matrix @ orientation_matrix(angle), C10) for angle in TURNS]
        turned = _run_trials(patterns, settings, execution, turns)
        matrix = snapped(matrix @ orientation_matrix(_least([t.loss for t in turned])))
        trials += turned
    findings = {**patterns.findings, "trials": len(trials)}
    if settings.orientation == "auto" and known is None and not _breaks_the_tie(settings):
        # Turned by 180° the conjugate fits as well; dark-field electrons and the sign of the phase tell.
        sign, findings["sign_evidence"] = sign_of_phase(_middle(patterns), best.experiment)
        if "uncertain" in findings["sign_evidence"]:
            notes.append(f"the sign of C10 and a turn by 180° are a guess: {findings['sign_evidence']}")
        matrix, C10 = sign * matrix, sign * C10
    # A defocus that is known stays what it was; a trial only compared it.
    C10 = C10 if known is None else -known
    findings |= {"guessed_C10": round(float(C10), 2), "warnings": notes, "matrix": np.round(matrix, 6).tolist()}
    if settings.orientation == "auto":
        findings["orientation"] = described(matrix)
    _tell(report, trials, findings)
    patterns = replace(patterns, matrix=matrix, findings=findings)
    # A trial has one slice, which lies in the middle of a thick specimen; C10 counts from its entrance.
    if known is None:
        C10 -= 0.5 * (settings.object.thickness or 0.0)
    return patterns, make_experiment_guess(patterns, settings, C10=float(C10))


def _values(patterns: Patterns, known: float | None) -> np.ndarray:
    """Values of C10 [Å] that are tried."""
    if known is not None:
        return np.array([-known])
    grid, optics = window_grid(patterns.calibration, patterns.detector_shape), patterns.calibration
    return defocus_candidates(wavelength(optics.energy), optics.semiangle, min(grid.extent))


def _breaks_the_tie(settings: PtychographySettings) -> bool:
    """Whether aberrations are given: only one of the two conjugate solutions has them with the right sign."""
    return any(value != 0.0 for value in settings.probe.aberrations.values())


def _doubts(trials: list[Trial], best: Trial, values: np.ndarray, known: float | None) -> list[str]:
    """What makes a first guess doubtful, in words."""
    worst = max(t.loss for t in trials)
    notes = []
    if len(trials) > 4 and worst - best.loss < 0.02 * abs(best.loss):
        notes.append(f"trials of defocus and orientation hardly differ (loss {best.loss:.5g} to {worst:.5g})")
    if known is None and abs(best.start) >= np.abs(values).max():
        notes.append(f"the best defocus lies at the end of what was tried (C10 {best.start:.4g} Å); give probe.defocus")
    return notes


def _tell(report: Callable[[str], None] | None, trials: list[Trial], findings: dict[str, Any]) -> None:
    if report is None:
        return
    losses = [t.loss for t in trials]
    line = f"{len(trials)} trials (loss {min(losses):.5g} to {max(losses):.5g}): C10 {findings['guessed_C10']:.4g} Å"
    if "rotation" in (turn := findings.get("orientation", {})):
        line += f", scan turned by {turn['rotation']:g}°, " + ("transposed" if turn["transposed"] else "not transposed")
    report(line)
    for note in findings["warnings"]:
        report(f"warning: {note}")


def described(matrix: np.ndarray) -> dict[str, Any]:
    """Rotation [degree] and transposition of an orientation matrix.

    >>> described(orientation_matrix(30.0, transposed=True))
    {'rotation': 30.0, 'transposed': True}
    """
    transposed = bool(np.linalg.det(matrix) < 0)
    turn = matrix[:, ::-1] if transposed else matrix
    return {"rotation": round(math.degrees(math.atan2(turn[0, 1], turn[0, 0])), 2), "transposed": transposed}


def _least(losses: list[float]) -> float:
    """Angle of least loss: the vertex of the parabola through the best of `TURNS` and its neighbours [degree]."""
    best = int(np.clip(np.argmin(losses), 1, len(TURNS) - 2))
    below, at, above = losses[best - 1 : best + 2]
    bend = below - 2 * at + above
    step = TURNS[1] - TURNS[0]
    offset = 0.5 * step * (below - above) / bend if bend > 0 else 0.0
    return TURNS[best] + float(np.clip(offset, -step, step))


def _matrices(patterns: Patterns, settings: PtychographySettings, known: float | None) -> list[np.ndarray]:
    """Orientations worth trying: the handedness of less curl, the other one where the curl does not decide.

    Each also turned by 180° where only the likelihood can tell: with a known defocus or given aberrations.
    """
    found = patterns.findings
    decided = found["curl_if_transposed"] > 1.5 * found["curl"]
    matrices = [patterns.matrix] if decided else [patterns.matrix, np.array(found["other_matrix"])]
    tied = known is None and not _breaks_the_tie(settings)
    return matrices if tied else [s * m for m in matrices for s in (1.0, -1.0)]


class Trial(NamedTuple):
    """A short reconstruction of a piece: loss, orientation, C10 before and after [Å], and what was found."""

    loss: float
    matrix: np.ndarray
    start: float
    C10: float
    experiment: Experiment


def _run_trials(
    patterns: Patterns,
    settings: PtychographySettings,
    execution: Execution,
    choices: Iterable[tuple[np.ndarray, float]],
) -> list[Trial]:
    """A trial of every choice of orientation and C10; one compilation serves all."""
    piece = _middle(patterns)
    plain = settings.model_copy(
        update={
            "object": settings.object.model_copy(update={"slices": 1, "thickness": None, "kind": "phase", "steps": 1}),
            "prior": type(settings.prior)(),
            "probe": settings.probe.model_copy(update={"modes": 1}),
            "refine": type(settings.refine)(),
        }
    )
    results, spread = [], None
    for matrix, C10 in choices:
        turned = replace(piece, matrix=matrix)
        guess = _roomy(make_experiment_guess(turned, plain, C10=C10))
        problem = make_ptychography(turned, plain, guess, execution)
        problem = make_problem(
            guess,
            problem.measurement,
            forward=problem.forward,
            noise=problem.noise,
            free=["specimen.phase", "probe.aberrations.C10"],
        )
        spread = distribute(problem, execution) if spread is None else spread.replace(experiment=guess)
        loss, found = _trial(spread, problem, execution)
        results.append(Trial(loss, matrix, C10, float(found.probe.aberrations.C10), found))
    return results


def _trial(spread: Problem, problem: Problem, execution: Execution) -> tuple[float, Experiment]:
    guess = problem.experiment
    rates = {"specimen.phase": 0.05, "probe.aberrations.C10": natural_rate("probe.aberrations.C10", guess)}
    plan = Plan(rates=rates, batch=32, execution=execution)
    state, loss = initial(spread, plan), math.inf
    for number in range(TRIAL_EPOCHS):
        state, values = epoch(spread, state, plan, number)
        loss = float(values.mean())
    return (loss if math.isfinite(loss) else math.inf), insert(problem, jax.tree.map(np.array, state.z))


def _middle(patterns: Patterns) -> Patterns:
    """A square from the middle of the scan."""
    ny, nx = patterns.scan_shape
    sy, sx = min(TRIAL_SIDE, ny), min(TRIAL_SIDE, nx)
    y, x = (ny - sy) // 2, (nx - sx) // 2
    grid = patterns.counts.reshape(ny, nx, *patterns.counts.shape[1:])
    counts = np.ascontiguousarray(grid[y : y + sy, x : x + sx]).reshape(sy * sx, *grid.shape[2:])
    return replace(patterns, counts=counts, scan_shape=(sy, sx))


def _roomy(experiment: Experiment) -> Experiment:
    """The guess on a square object that holds the piece in any orientation, so that all trials share one shape."""
    from stemjax.specimen.objects import make_object

    specimen, scan = experiment.specimen, experiment.scan
    window = np.array(experiment.probe.grid.extent)
    diagonal = float(np.hypot(*np.ptp(np.asarray(scan.positions), axis=0))) * math.sqrt(2.0)
    sampling = np.array(specimen.grid.sampling)
    shape = np.ceil((window + diagonal) / sampling).astype(int) + 16
    origin_y, origin_x = np.asarray(scan.positions).mean(axis=0) - 0.5 * shape.max() * sampling
    grid = type(specimen.grid)((int(shape.max()), int(shape.max())), specimen.grid.sampling)
    return experiment.replace(specimen=make_object(grid, origin=(float(origin_y), float(origin_x))))
