"""The epochs of a job: iterate, checkpoint, end early at a signal or when the loss is not finite."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from stemjax.app.checkpoint import Checkpoint, restore, save
from stemjax.app.interruption import Signals
from stemjax.app.progress import Reporter
from stemjax.core.errors import InputError
from stemjax.core.executor import Execution, replicate
from stemjax.inference.problem import Problem
from stemjax.inference.solvers.optimise import Plan, State, distribute, diverged, epoch_scored, initial, mean_loss
from stemjax.problems.ptychography.patterns import Patterns
from stemjax.problems.ptychography.settings import PtychographySettings
from stemjax.problems.ptychography.solve import make_plan

CHECKPOINT = "checkpoint.h5"


@dataclass
class Progress:
    """How far a run has come: state as numpy arrays, epochs done, losses and seconds of each, loss at the start."""

    state: State
    epochs: int = 0
    loss: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    first: float = np.inf
    status: str = ""
    success: bool = True


@dataclass(frozen=True)
class Job:
    """What every part of a job needs: what was asked, where it goes, who is told, and its fingerprint."""

    settings: PtychographySettings
    folder: Path
    reporter: Reporter
    signals: Signals
    marks: str


def iterate(
    job: Job, problem: Problem, execution: Execution, stored: Checkpoint | None, patterns: Patterns
) -> Progress:
    """The epochs, with checkpoints; ends early at a signal (KeyboardInterrupt) or when the loss is not finite."""
    settings, signals, reporter = job.settings, job.signals, job.reporter
    epochs = settings.solver.epochs
    schedule = make_plan(settings, problem.experiment, execution)
    spread = distribute(problem, execution)
    state = initial(spread, schedule)
    progress = Progress(jax.tree.map(np.array, state))
    if stored is not None:
        progress = Progress(
            restore(state, stored), stored.epochs, stored.loss, stored.held_out, stored.times, stored.guess["loss"]
        )
        state = replicate(progress.state, execution)
    guess = {
        "matrix": patterns.matrix.tolist(),
        "C10": float(problem.experiment.probe.aberrations.C10),
        "findings": patterns.findings,
    }
    keeper = Keeper(job, guess)
    reporter.start("ptychography", epochs, progress.epochs)
    signals.patient = True
    while progress.epochs < epochs:
        if not _one_epoch(spread, state_box := [state], schedule, progress):
            break
        state = state_box[0]
        held = {"held_out": progress.held_out[-1]} if np.isfinite(progress.held_out[-1]) else {}
        reporter.epoch(progress.epochs, progress.loss[-1], seconds=round(progress.times[-1], 4), **held)
        keeper.offer(progress, last=bool(signals.told) or progress.epochs == epochs)
        signals.obey()
    return progress


def _one_epoch(spread: Problem, box: list[State], schedule: Plan, progress: Progress) -> bool:
    """One epoch; False where its loss is not finite, and `progress` then holds the state before it."""
    begin = time.perf_counter()
    state, values, held = epoch_scored(spread, box[0], schedule, progress.epochs)
    loss = mean_loss(values, spread, schedule.batch)
    if progress.epochs == 0:
        progress.first = float(values[0])
    kept = jax.tree.map(np.array, state)
    if diverged(loss, progress.first) or not all(np.isfinite(v).all() for v in jax.tree.leaves(kept.z)):
        progress.success = False
        progress.status = (
            f"diverged in epoch {progress.epochs + 1} (loss {loss:g}, at the start {progress.first:g}); the result "
            "is the state before it. Use a smaller solver.rate, or free fewer unknowns"
        )
        return False
    box[0], progress.state = state, kept
    progress.epochs += 1
    progress.loss.append(loss)
    progress.held_out.append(held)
    progress.times.append(time.perf_counter() - begin)
    return True


@dataclass
class Keeper:
    """Writes checkpoints every so many epochs (int) or seconds (float)."""

    job: Job
    guess: dict[str, Any]
    since: float = field(default_factory=time.monotonic)
    failed: bool = False

    def offer(self, progress: Progress, *, last: bool) -> None:
        every = self.job.settings.output.checkpoint
        due = progress.epochs % every == 0 if isinstance(every, int) else self.elapsed() >= every
        if due or last:
            self.write(progress)
            self.since = time.monotonic()

    def write(self, progress: Progress) -> None:
        """Write a checkpoint; where that is impossible say so once and go on without."""
        path, guess = self.job.folder / CHECKPOINT, {**self.guess, "loss": progress.first}
        state, marks = progress.state, self.job.marks
        try:
            loss, held, times = progress.loss, progress.held_out, progress.times
            save(path, Checkpoint(state, progress.epochs, loss, held, times, marks, guess))
            self.job.signals.advice = f"{path} holds epoch {progress.epochs}; go on from it with --resume"
        except (InputError, OSError) as error:
            if not self.failed:
                self.job.reporter.message(f"warning: no checkpoint: {error}; the run goes on")
            self.failed = True

    def elapsed(self) -> float:
        return time.monotonic() - self.since
