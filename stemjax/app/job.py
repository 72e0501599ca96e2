"""A reconstruction as a job: read, guess, iterate, checkpoint, finish; survives interruption and divergence."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import numpy as np

from stemjax.app.checkpoint import Checkpoint, load, restore, save
from stemjax.app.config import plain_settings
from stemjax.app.progress import Reporter
from stemjax.app.provenance import provenance
from stemjax.core.executor import Execution, plan, replicate
from stemjax.forward.recording import Recording
from stemjax.inference.optimise import Plan, State, distribute, diverged, epoch, initial, mean_loss
from stemjax.inference.problem import Problem, insert
from stemjax.inference.result import Named, Result
from stemjax.io import read_recording, read_result, write_result
from stemjax.io.checks import check_order
from stemjax.io.probe import probe
from stemjax.metrics.truth import against_truth
from stemjax.problems.ptychography.outcome import make_result
from stemjax.problems.ptychography.settings import PtychographySettings
from stemjax.problems.ptychography.setup import Patterns, make_experiment_guess, make_ptychography, prepare_patterns
from stemjax.problems.ptychography.solve import first_guess, make_plan

RESULT, CHECKPOINT = "result.h5", "checkpoint.h5"


@dataclass
class Progress:
    """How far a run has come: state as numpy arrays, epochs done, loss and seconds of each, loss at the start."""

    state: State
    epochs: int = 0
    loss: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    first: float = np.inf
    status: str = ""
    success: bool = True


def run_job(
    settings: PtychographySettings,
    folder: Path,
    resume: bool,
    reporter: Reporter,
    *,
    truth: Path | None = None,
) -> Result:
    """Reconstruct what a configuration describes and write result and report.

    Args:
        settings: The configuration, paths absolute.
        folder: Folder of the results; made if it does not exist.
        resume: Go on from the checkpoint in the folder, if there is one.
        reporter: Told what happens.
        truth: A result file with the true object and positions, to compare with.

    Returns:
        The result, as written to `result.h5`.

    Raises:
        InputError: Something given cannot be used; nothing was written.
        KeyboardInterrupt: The job was told to end (SIGINT, SIGTERM); a checkpoint was written.
    """
    recording = read_data(settings)
    folder.mkdir(parents=True, exist_ok=True)
    origin = provenance(seed=settings.solver.seed, source=Path(settings.data.file))
    marks = fingerprint(settings, origin)
    stored = load(folder / CHECKPOINT, marks) if resume and (folder / CHECKPOINT).exists() else None
    if resume and stored is None:
        reporter.message(f"no checkpoint in {folder}; starting from the beginning")
    execution = plan(None if settings.solver.devices == "auto" else settings.solver.devices)
    patterns, problem = _problem(recording, settings, execution, stored, reporter)
    if "warning" in patterns.findings:
        reporter.message(f"warning: {patterns.findings['warning']}")
    done = _iterate(problem, settings, execution, stored, folder, reporter, marks, patterns)
    result = _finish(problem, done, settings, patterns, origin, truth)
    write_result(folder / RESULT, result)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    if settings.output.report:
        from stemjax.report.page import write_report

        reporter.message(f"report: {write_report(result, folder)}")
    reporter.finish(result.status)
    return result


def read_data(settings: PtychographySettings) -> Recording:
    """The recording that a configuration names, with the configuration's values laid over the file's.

    A child process looks at the file first: damaged bytes can crash the libraries that read them.
    """
    data = settings.data
    probe(data.file)
    recording = read_recording(
        data.file, key=data.key, scan_shape=data.scan_shape, axes=data.axes, format=data.format, optics=data.optics()
    )
    if data.axes is None:
        check_order(recording.counts, Path(data.file).name)
    return recording


def fingerprint(settings: PtychographySettings, origin: dict[str, Any]) -> str:
    """What two runs must share for one to go on where the other stopped, as JSON."""
    config = plain_settings(settings)
    config.pop("output", None)
    config.get("data", {}).pop("file", None)
    marks = {**config, "input": origin["input_sha256"], "stemjax": origin["versions"]["stemjax"]}
    return json.dumps(marks, sort_keys=True, default=str)


def _problem(
    recording: Recording,
    settings: PtychographySettings,
    execution: Execution,
    stored: Checkpoint | None,
    reporter: Reporter,
) -> tuple[Patterns, Problem]:
    """The statement, with the first guess found or taken from a checkpoint."""
    patterns = prepare_patterns(recording, settings)
    if stored is None:
        defocus = recording.defocus if settings.probe.defocus == "auto" else None
        patterns, guess = first_guess(patterns, settings, execution, stored_defocus=defocus, report=reporter.message)
    else:
        matrix = np.array(stored.guess["matrix"])
        patterns = replace(patterns, matrix=matrix, findings=stored.guess["findings"])
        guess = make_experiment_guess(patterns, settings, C10=stored.guess["C10"])
    return patterns, make_ptychography(patterns, settings, guess, execution)


def _iterate(
    problem: Problem,
    settings: PtychographySettings,
    execution: Execution,
    stored: Checkpoint | None,
    folder: Path,
    reporter: Reporter,
    marks: str,
    patterns: Patterns,
) -> Progress:
    """The epochs, with checkpoints; ends early at a signal (KeyboardInterrupt) or when the loss is not finite."""
    records, epochs = problem.measurement.counts.shape[0], settings.solver.epochs
    schedule = make_plan(settings, problem.experiment, execution)
    spread = distribute(problem, execution)
    state = initial(spread, schedule)
    progress = Progress(jax.tree.map(np.array, state))
    if stored is not None:
        progress = Progress(restore(state, stored), stored.epochs, stored.loss, stored.times, stored.guess["loss"])
        state = replicate(progress.state, execution)
    guess = {
        "matrix": patterns.matrix.tolist(),
        "C10": float(problem.experiment.probe.aberrations.C10),
        "findings": patterns.findings,
    }
    keeper = _Keeper(folder / CHECKPOINT, settings.output.checkpoint, marks, guess)
    reporter.start("ptychography", epochs, progress.epochs)
    with _signals() as told:
        while progress.epochs < epochs:
            if not _one_epoch(spread, state_box := [state], schedule, progress, records):
                break
            state = state_box[0]
            reporter.epoch(progress.epochs, progress.loss[-1], seconds=round(progress.times[-1], 4))
            keeper.offer(progress, last=bool(told) or progress.epochs == epochs)
            if told:
                raise KeyboardInterrupt
    return progress


def _one_epoch(spread: Problem, box: list[State], schedule: Plan, progress: Progress, records: int) -> bool:
    """One epoch; False where its loss is not finite, and `progress` then holds the state before it."""
    begin = time.perf_counter()
    state, values = epoch(spread, box[0], schedule, progress.epochs, records)
    loss = mean_loss(values, records, spread.measurement.counts.shape[0], schedule.batch)
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
    progress.times.append(time.perf_counter() - begin)
    return True


@dataclass
class _Keeper:
    """Writes checkpoints every so many epochs (int) or seconds (float)."""

    path: Path
    every: int | float
    marks: str
    guess: dict[str, Any]
    since: float = field(default_factory=time.monotonic)

    def offer(self, progress: Progress, *, last: bool) -> None:
        due = progress.epochs % self.every == 0 if isinstance(self.every, int) else self.elapsed() >= self.every
        if due or last:
            guess = {**self.guess, "loss": progress.first}
            save(
                self.path,
                Checkpoint(progress.state, progress.epochs, progress.loss, progress.times, self.marks, guess),
            )
            self.since = time.monotonic()

    def elapsed(self) -> float:
        return time.monotonic() - self.since


@contextmanager
def _signals() -> Iterator[list[int]]:
    """While it lasts, SIGINT and SIGTERM are noted instead of obeyed; the epoch at hand is finished first."""
    told: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
        if told:
            raise KeyboardInterrupt  # a second signal does not wait
        told.append(number)

    try:
        before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: nobody sends signals here
        yield told
        return
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def known_truth(path: Path, slices: int) -> dict[str, Named]:
    """The true values of a simulation in the terms of a reconstruction.

    One slice stands in the middle of a specimen, where C10 has grown by half the specimen's depth.

    Args:
        path: What `stemjax.app.simulate` wrote.
        slices: Slices of the reconstruction.
    """
    named = dict(read_result(path).estimate)
    if slices == 1 and {"aberration_C10", "specimen_depth"} <= set(named):
        middle = named["aberration_C10"].value + 0.5 * named["specimen_depth"].value
        named["aberration_C10"] = replace(named["aberration_C10"], value=middle)
    return named


def _finish(
    problem: Problem,
    done: Progress,
    settings: PtychographySettings,
    patterns: Patterns,
    origin: dict[str, Any],
    truth: Path | None,
) -> Result:
    experiment = insert(problem, done.state.z)
    status = done.status or f"finished {done.epochs} epochs; half the deviance of a pattern fell from " + (
        f"{done.loss[0]:.5g} to {done.loss[-1]:.5g}" if done.loss else "nothing: no epoch was run"
    )
    diagnostics: dict[str, Any] = {
        "loss": np.array(done.loss),
        "epoch_time": np.array(done.times),
        "findings": patterns.findings,
    }
    if truth is not None:
        diagnostics["truth"] = known_truth(truth, slices=settings.object.slices)
    result = make_result(
        problem,
        experiment,
        status=status,
        success=done.success,
        diagnostics=diagnostics,
        config=plain_settings(settings),
        provenance={**origin, "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z")},
    )
    if truth is None:
        return result
    return replace(result, diagnostics={**result.diagnostics, "metrics": against_truth(result)})
