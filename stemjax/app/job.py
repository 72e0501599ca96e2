"""A reconstruction as a job: read, guess, iterate, checkpoint, finish; survives interruption and divergence."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from stemjax.app.check import gap, idle
from stemjax.app.checkpoint import Checkpoint, difference, load
from stemjax.app.config import plain_settings
from stemjax.app.derived_optics import optics
from stemjax.app.epochs import CHECKPOINT, Job, Progress, iterate
from stemjax.app.estimate import check_memory
from stemjax.app.folder import claimed
from stemjax.app.interruption import watched
from stemjax.app.misfit import ending, held_out_words
from stemjax.app.progress import Reporter
from stemjax.app.provenance import provenance
from stemjax.app.survey import survey, suspicions
from stemjax.core.errors import InputError
from stemjax.core.executor import Execution, plan
from stemjax.forward.recording import Recording
from stemjax.inference.problem import Problem, insert
from stemjax.inference.result import Named, Result
from stemjax.io import read_recording, read_result, write_result
from stemjax.io.checks import check_order
from stemjax.io.mask import read_mask
from stemjax.io.probe import probe
from stemjax.metrics.truth import against_truth
from stemjax.problems.ptychography.calibration import calibration, selected_shape
from stemjax.problems.ptychography.lift import lift, lift_epochs, with_phase
from stemjax.problems.ptychography.outcome import make_result
from stemjax.problems.ptychography.patterns import Patterns, prepare_patterns
from stemjax.problems.ptychography.settings import PtychographySettings
from stemjax.problems.ptychography.setup import make_experiment_guess, make_ptychography
from stemjax.problems.ptychography.solve import first_guess

RESULT = "result.h5"


def run_job(
    settings: PtychographySettings,
    folder: Path,
    resume: bool,
    reporter: Reporter,
    *,
    truth: Path | None = None,
    force: bool = True,
) -> Result:
    """Reconstruct what a configuration describes and write result and report.

    Args:
        settings: The configuration, paths absolute.
        folder: Folder of the results; made if it does not exist.
        resume: Go on from the checkpoint in the folder; a result that is complete only gets its report.
        reporter: Told what happens.
        truth: A result file with the true object and positions, to compare with.
        force: Whether a finished result in the folder may be replaced.

    Returns:
        The result, as written to `result.h5`.

    Raises:
        InputError: Something given cannot be used, nothing was written; or no report could be written.
        KeyboardInterrupt: The job was told to end (SIGINT, SIGTERM); the message says what is on the disk.
    """
    with claimed(folder), watched(_advice(folder, resume)) as signals:
        if (folder / RESULT).exists() and not resume and not force:
            raise InputError(
                f"{folder / RESULT} is the result of a finished run; choose another folder with -o, or --force to "
                "replace it"
            )
        recording = read_data(settings)
        _accept(recording, settings, reporter)
        origin = provenance(seed=settings.solver.seed, source=Path(settings.data.file))
        marks = fingerprint(settings, origin)
        result = _finished(folder, marks, reporter) if resume else None
        complete = result is not None
        if result is None:
            job = Job(settings, folder, reporter, signals, marks)
            result = _solve(job, recording, _stored(job, resume), origin, truth)
        signals.hasty(f"{folder / RESULT} is complete; `stemjax report {folder}` writes the report")
        if settings.output.report:
            _report(result, folder, reporter)
        (reporter.message if complete else reporter.finish)(result.status)
    return result


def _advice(folder: Path, resume: bool) -> str:
    """What a person is told at a signal before this run has written anything."""
    if (folder / CHECKPOINT).exists() and resume:
        return "the checkpoint is as it was; go on from it with --resume"
    return "no checkpoint was written yet; run it again from the beginning"


def _accept(recording: Recording, settings: PtychographySettings, reporter: Reporter) -> None:
    """Refuse a problem that does not fit into memory; tell what looks wrong in data and configuration."""
    known, shape = calibration(recording, settings.data), selected_shape(recording, settings.data)
    check_memory(settings, known, shape)
    for text in (*idle(settings), *suspicions(survey(recording, settings.data), known, settings.data)):
        reporter.message(f"warning: {text}")


def _finished(folder: Path, marks: str, reporter: Reporter) -> Result | None:
    """The result of the same run, if it is complete; None where there is a checkpoint or no result."""
    if (folder / CHECKPOINT).exists() or not (folder / RESULT).exists():
        return None
    result = read_result(folder / RESULT)
    if (other := difference(_marks(result.config, result.provenance), marks)) is not None:
        raise InputError(
            f"{folder / RESULT} belongs to another run ({other}) and there is no checkpoint; choose another folder "
            "with -o, or --force instead of --resume"
        )
    reporter.message(f"{folder / RESULT} is complete; only the report is written. To start over: --force")
    return result


def _stored(job: Job, resume: bool) -> Checkpoint | None:
    """The checkpoint to go on from, if that is wanted."""
    path = job.folder / CHECKPOINT
    if resume and path.exists():
        return load(path, job.marks)
    if resume:
        job.reporter.message(f"no checkpoint in {job.folder}; starting from the beginning")
    elif path.exists():
        job.reporter.message(f"warning: {path} of an earlier run will be replaced; --resume would go on from it")
    return None


def _solve(
    job: Job, recording: Recording, stored: Checkpoint | None, origin: dict[str, Any], truth: Path | None
) -> Result:
    """From the recording to `result.h5`; the checkpoint goes when the result is on the disk."""
    devices = job.settings.solver.devices
    execution = plan(None if devices == "auto" else devices)
    patterns, problem = _problem(recording, job.settings, execution, stored, job.reporter)
    _warn(patterns, problem, job.reporter)
    done = iterate(job, problem, execution, stored, patterns)
    result = _finish(problem, done, job.settings, patterns, origin, truth)
    write_result(job.folder / RESULT, result)
    (job.folder / CHECKPOINT).unlink(missing_ok=True)
    return result


def _warn(patterns: Patterns, problem: Problem, reporter: Reporter) -> None:
    """Say what looks wrong in the first guess."""
    if "warning" in patterns.findings:
        reporter.message(f"warning: {patterns.findings['warning']}")
    known = patterns.calibration
    derived = optics(known, patterns.detector_shape, float(problem.experiment.probe.aberrations.C10))
    if derived.overlap < 0:
        reporter.message(f"warning: {gap(known, derived)}")


def _report(result: Result, folder: Path, reporter: Reporter) -> None:
    """Write the report; whatever fails there, the result is safe, and the message says so."""
    from stemjax.report.page import write_report

    try:
        reporter.message(f"report: {write_report(result, folder)}")
    except Exception as error:  # drawing can fail in many ways
        name = getattr(error, "filename", None) or folder / "report"
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:160]
        raise InputError(
            f"cannot write {name}: {reason}; the result {folder / RESULT} is complete: `stemjax report {folder}` "
            "writes the report when that is mended"
        ) from error


def read_data(settings: PtychographySettings) -> Recording:
    """The recording that a configuration names, with the configuration's values laid over the file's.

    A child process looks at the file first: damaged bytes can crash the libraries that read them.
    """
    data = settings.data
    probe(data.file)
    recording = read_recording(
        data.file,
        key=data.key,
        scan_shape=data.scan_shape,
        axes=data.axes,
        format=data.format,
        optics=data.optics(),
        lazy=data.crop is not None,
    )
    if data.axes is None:
        check_order(recording.counts, Path(data.file).name)
    return recording


def fingerprint(settings: PtychographySettings, origin: dict[str, Any]) -> str:
    """What two runs must share for one to go on where the other stopped, as JSON."""
    return _marks(plain_settings(settings), origin)


def _marks(config: Mapping[str, Any], origin: Mapping[str, Any]) -> str:
    data = {name: value for name, value in config.get("data", {}).items() if name != "file"}
    config = {name: value for name, value in config.items() if name != "output"} | {"data": data}
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
    name = settings.data.mask
    patterns = prepare_patterns(
        recording, settings, None if name is None else read_mask(name, recording.detector_shape)
    )
    if stored is None:
        defocus = recording.defocus if settings.probe.defocus == "auto" else None
        patterns, guess = first_guess(patterns, settings, execution, stored_defocus=defocus, report=reporter.message)
    else:
        matrix = np.array(stored.guess["matrix"])
        patterns = replace(patterns, matrix=matrix, findings=stored.guess["findings"])
        guess = make_experiment_guess(patterns, settings, C10=stored.guess["C10"])
    problem = make_ptychography(patterns, settings, guess, execution)
    # What a checkpoint holds has left the first guess of the object behind.
    return patterns, problem if stored is not None else _lifted(problem, patterns, settings, execution, reporter)


def _lifted(
    problem: Problem, patterns: Patterns, settings: PtychographySettings, execution: Execution, reporter: Reporter
) -> Problem:
    """The statement with the first guess of a thick object; as it is for a thin one."""
    solver, slices = settings.solver, settings.object.slices
    if not (epochs := lift_epochs(solver.lift, slices, len(patterns.counts))) or settings.refine.object is None:
        return problem
    phase = lift(problem, epochs, execution, seed=solver.seed, held_out=solver.held_out, report=reporter.message)
    guess = with_phase(problem.experiment, phase, positive=settings.prior.positivity)
    return make_ptychography(patterns, settings, guess, execution)


def known_truth(path: Path, slices: int) -> dict[str, Named]:
    """The true values of a simulation in the terms of a reconstruction.

    One slice stands in the middle of a specimen, where C10 has grown by half the specimen's depth.

    Args:
        path: What `stemjax.app.simulation.run` wrote.
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
    words = held_out_words(done.held_out)
    status = done.status or ending(done.loss, patterns.counts, settings.solver.noise) + words
    diagnostics: dict[str, Any] = {
        "loss": np.array(done.loss),
        **({"held_out_loss": np.array(done.held_out)} if np.isfinite(done.held_out).all() and done.held_out else {}),
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
