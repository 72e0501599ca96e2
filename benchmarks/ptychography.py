"""Quality against time: stemjax and its peers on the same simulated data, from the same first guess, one by one.

A *task* is an npz file of counts and optics; every program reads it, starts its clock with its first line, and writes
*snapshots* (the phase, its sampling, where the probe stood) after some of its epochs. Here they are compared with the
truth, free of every gauge (`stemjax.metrics.phase_error`). The data were made by another program (abTEM); lower doses
are drawn from them (binomial thinning of Poisson counts is Poisson).

Programs are found by STEMJAX_PEERS_PYTHON_PHASER, _PTYRAD, _QUANTEM, _PY4DSTEM, else in the peers' environment; those
that are not there are left out, and the result says so.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.peer import ROOT, peers_python
from stemjax.core.errors import InputError
from stemjax.metrics.phase_error import phase_error
from stemjax.metrics.ring_correlation import NOISE_FREE, ring_correlation, surely_above
from stemjax.metrics.truth import inner_box, scanned_region

DATA = Path(os.environ.get("STEMJAX_DATA", ROOT.parent / "shared" / "data"))
SEED = 0
SHARES = (1.0, 0.1, 0.01)
"""Doses, over that of the data."""


@dataclass(frozen=True)
class Case:
    """A data set and how it is reconstructed.

    Args:
        name: Name of the material; file and truth are found by it.
        slices, modes: What every program is told.
        batch: Patterns in a step.
        runs: Words for every program, several where it is not known which settings serve it best.
    """

    name: str
    slices: int
    modes: int
    batch: int
    runs: dict[str, list[list[str]]]


CASES = (
    Case(
        "mos2", 1, 1, 64,
        {
            "stemjax": [["--epochs", "16"]],
            "phaser": [["--epochs", "24", "--noise", "poisson"], ["--epochs", "8", "--noise", "anscombe"]],
            "quantem": [["--epochs", "16"]],
            "ptyrad": [["--epochs", "16"], ["--epochs", "16", "--rate", "5e-3"]],
        },
    ),
    Case(
        "sto", 10, 2, 32,
        {
            "stemjax": [["--epochs", "8", "--set", "object.slices=20", "--set", "probe.modes=1"]],
            "phaser": [["--epochs", "16", "--every", "4", "--noise", "poisson"]],
            "quantem": [["--epochs", "16", "--every", "4"]],
            "ptyrad": [["--epochs", "16", "--every", "4", "--rate", "5e-3"]],
        },
    ),
)  # fmt: skip
EPOCH_WORDS = ["--epochs", "4", "--set", "solver.lift=0", "--set", "object.steps=1"]
"""stemjax on what the peers compute, slice for slice and mode for mode: for the time of an epoch alone."""


def write_task(case: Case, share: float, path: Path) -> None:
    """Write a task at a share of the dose of its data."""
    with h5py.File(DATA / f"sim-{case.name}-abtem" / f"{case.name}.h5") as file:
        counts, known = file["counts"][()], dict(file.attrs)
    if share < 1.0:
        counts = np.random.default_rng(SEED).binomial(counts, share).astype(counts.dtype)
    optics = {
        "energy": float(known["energy"]),
        "semiangle": float(known["semiangle_mrad"]),
        "C10": float(known["overfocus_A"]),
        "scan_step": float(known["step_A"]),
        "detector_sampling": float(known["dk_mrad"]),
        "slices": case.slices,
        "modes": case.modes,
        "thickness": float(known.get("thickness_A", 0.0)),
    }
    np.savez(path, counts=counts, optics=json.dumps(optics))


def command(program: str, words: list[str]) -> list[str] | None:
    """How a program is started; None where it is not installed."""
    if program == "stemjax":
        return [sys.executable, str(ROOT / "benchmarks" / "reconstruct.py"), *words]
    named = os.environ.get(f"STEMJAX_PEERS_PYTHON_{program.upper()}")
    try:
        python = Path(named) if named else peers_python()
    except FileNotFoundError:
        return None
    return [str(python), str(ROOT / "benchmarks" / "peers" / f"ptychography_{program}.py"), *words]


def truth_of(case: Case) -> tuple[np.ndarray, float, np.ndarray]:
    """True projected phase, its sampling [Å] and the true positions [pattern 2] in its frame [Å]."""
    with h5py.File(DATA / f"sim-{case.name}-abtem" / f"{case.name}_truth.h5") as file:
        phase, known = file["phase"][()].astype(float), dict(file.attrs)
    with h5py.File(DATA / f"sim-{case.name}-abtem" / f"{case.name}.h5") as file:
        shape = file["counts"].shape[:2]
    axes = [float(known["scan_origin_A"]) + float(known["step_A"]) * np.arange(n) for n in shape]
    positions = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    return phase.reshape(-1, *phase.shape[-2:]).sum(axis=0), float(known["phase_sampling_A"]), positions


def score(snapshot: Path, truth: tuple[np.ndarray, float, np.ndarray]) -> dict[str, float]:
    """One snapshot against the truth."""
    with np.load(snapshot) as file:
        phase, sampling, positions = file["phase"].astype(float), file["sampling"], file["positions"]
        found: dict[str, float] = {"epoch": int(file["epoch"]), "seconds": round(float(file["seconds"]), 2)}
    image = phase.reshape(-1, *phase.shape[-2:]).sum(axis=0)
    pixel, near = (float(sampling[0]), float(sampling[1])), positions.mean(axis=0) - truth[2].mean(axis=0)
    try:
        error = phase_error(
            image, truth[0], sampling=pixel, true_sampling=(truth[1],) * 2, near=(float(near[0]), float(near[1])),
            mask=scanned_region((image.shape[0], image.shape[1]), pixel, positions), max_shift=1.0,
        )  # fmt: skip
    except InputError:
        return found | {"nrmse": float("nan")}
    box = inner_box(error.mask)
    curve = ring_correlation(error.corrected[box], error.aligned[box], pixel)
    resolution = curve.resolution(surely_above(NOISE_FREE, curve.count), last=True)
    values = {"correlation": error.correlation, "slope": error.slope, "nrmse": error.nrmse, "resolution": resolution}
    return found | {name: round(float(value), 4) for name, value in values.items()}


def reconstruct(program: str, words: list[str], task: Path, case: Case, truth: Any) -> dict[str, Any] | None:
    """One run of one program; None where it is not installed."""
    with tempfile.TemporaryDirectory() as folder:
        line = command(program, [str(task), folder, "--batch", str(case.batch), *words])
        if line is None:
            return None
        done = subprocess.run(line, capture_output=True, text=True, timeout=3600, check=False)
        if done.returncode != 0:
            return {"words": words, "failed": (done.stderr.strip().splitlines() or ["no message"])[-1][:300]}
        curve = [score(path, truth) for path in sorted(Path(folder).glob("epoch_*.npz"))]
    return {"words": words, "curve": curve, "epoch_seconds": epoch_seconds(curve)}


def epoch_seconds(curve: list[dict[str, float]]) -> float:
    """Median time of an epoch after the first, from the times of snapshots.

    >>> epoch_seconds([{"epoch": 1, "seconds": 9.0}, {"epoch": 2, "seconds": 11.0}, {"epoch": 4, "seconds": 15.0}])
    2.0
    """
    pairs = [(a, b) for a, b in itertools.pairwise(curve) if a["epoch"] >= 1]
    times = [(b["seconds"] - a["seconds"]) / (b["epoch"] - a["epoch"]) for a, b in pairs]
    return round(float(np.median(times)), 3) if times else float("nan")


def summary(runs: dict[str, list[dict]]) -> dict[str, Any]:
    """Best error of each program, when the best peer had it within 2 %, and when stemjax did."""
    curves = {name: [c for run in found for c in run.get("curve", [])] for name, found in runs.items()}
    best = {name: min((c["nrmse"] for c in curve), default=float("nan")) for name, curve in curves.items()}
    peers = {name: value for name, value in best.items() if name != "stemjax" and value == value}
    if not peers:
        return {"best_nrmse": best}
    strongest = min(peers, key=lambda name: peers[name])
    goal = 1.02 * peers[strongest]

    def reached(name: str, level: float) -> float:
        return min((c["seconds"] for c in curves[name] if c["nrmse"] <= level), default=float("inf"))

    theirs, ours = reached(strongest, goal), reached("stemjax", goal)
    return {"best_nrmse": best, "best_peer": strongest, "peer_seconds": theirs, "seconds": ours, "ratio": ours / theirs}


def run(repeats: int, *, only: str | None = None) -> dict[str, Any]:
    """All programs on all cases, or one, at so many doses as there are repeats; the first is the full one.

    What another call measured before stays, each case with its own date.
    """
    path = ROOT / "benchmarks" / "results" / "ptychography.json"
    results = json.loads(path.read_text())["cases"] if path.exists() else {}
    for case in CASES:
        for share in SHARES[: max(repeats, 1)] if only in (None, case.name) else ():
            name = f"{case.name} at {share:g} of the dose"
            results[name] = measured(case, share)
            print(f"{name}: {results[name]['summary']}", file=sys.stderr, flush=True)
    return {"cases": results}


def measured(case: Case, share: float) -> dict[str, Any]:
    """One case at one dose."""
    truth = truth_of(case)
    with tempfile.TemporaryDirectory() as folder:
        task = Path(folder) / "task.npz"
        write_task(case, share, task)
        runs = {name: _runs(name, words, task, case, truth) for name, words in case.runs.items()}
        same = reconstruct("stemjax", EPOCH_WORDS, task, case, truth) if share == 1.0 else None
    found = {"date": f"{datetime.now(UTC):%Y-%m-%d %H:%M UTC}", "runs": runs, "summary": summary(runs)}
    return found | ({} if same is None else {"epoch_of_the_same_work": same["epoch_seconds"]})


def _runs(program: str, variants: list[list[str]], task: Path, case: Case, truth: Any) -> list[dict[str, Any]]:
    """Every variant of a program; a line on the screen for each, since it takes minutes."""
    found = []
    for words in variants:
        result = reconstruct(program, words, task, case, truth)
        if result is None:
            print(f"{case.name}: {program} is not installed", file=sys.stderr, flush=True)
            return [{"words": words, "failed": "not installed"}]
        last = result.get("curve", [{}])[-1] if "failed" not in result else result
        print(f"{case.name}: {program} {' '.join(words)}: {last}", file=sys.stderr, flush=True)
        found.append(result)
    return found
