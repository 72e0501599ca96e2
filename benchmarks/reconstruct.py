"""Reconstruct a task of `benchmarks.ptychography` with stemjax, in the same way as the scripts of benchmarks/peers.

::

    python benchmarks/reconstruct.py TASK FOLDER [--epochs N] [--batch N] [--set KEY=VALUE ...]
"""

from __future__ import annotations

import argparse
import time

STARTED = time.monotonic()
# Imports are part of what a person waits for.

import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402

sys.path[:0] = [str(Path(__file__).parent / "peers"), str(Path(__file__).parent.parent)]
from snapshots import Snapshots, arguments, read_task  # noqa: E402


def own_options(parser: argparse.ArgumentParser) -> None:
    """What stemjax alone takes."""
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE of the configuration")
    parser.add_argument("--cache", help="folder of compiled programs; an empty one makes it compile everything")


def configuration(task: dict, asked: argparse.Namespace) -> Any:
    """Settings of a person who knows the optics and the orientation, as every other program is told them."""
    import yaml

    from stemjax.problems.ptychography.settings import PtychographySettings

    config: dict[str, Any] = {
        "problem": "ptychography",
        "data": {"file": asked.task},
        "orientation": "as-is",
        "probe": {"defocus": -task["C10"], "modes": task["modes"]},
        "object": {"slices": task["slices"]},
        "refine": {"probe": "after 2"},
        "solver": {"epochs": asked.epochs, "batch": asked.batch},
    }
    if task["slices"] > 1:
        config["object"]["thickness"] = task["thickness"]
    if asked.rate:
        config["solver"]["rate"] = {"object": asked.rate}
    for entry in asked.set:
        key, value = entry.split("=", 1)
        *sections, last = key.split(".")
        place = config
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = yaml.safe_load(value)
    return PtychographySettings.model_validate(config)


def main() -> None:
    """Run it, one epoch after the other, as the command does."""
    asked = arguments("stemjax", own_options)
    task = read_task(asked.task)
    from stemjax.core.setup import setup

    setup(cache=asked.cache)
    import jax

    from stemjax.core.executor import plan
    from stemjax.forward.recording import Recording
    from stemjax.inference.problem import insert
    from stemjax.inference.solvers.optimise import distribute, epoch, initial
    from stemjax.problems.ptychography.lift import lift, lift_epochs, with_phase
    from stemjax.problems.ptychography.patterns import prepare_patterns
    from stemjax.problems.ptychography.setup import make_experiment_guess, make_ptychography
    from stemjax.problems.ptychography.solve import make_plan

    settings, execution = configuration(task, asked), plan(None)
    recording = Recording(
        task["counts"],
        energy=task["energy"],
        semiangle=task["semiangle"],
        scan_step=(task["scan_step"],) * 2,
        detector_sampling=(task["detector_sampling"],) * 2,
    )
    patterns = prepare_patterns(recording, settings)
    guess = make_experiment_guess(patterns, settings, C10=task["C10"])
    problem = make_ptychography(patterns, settings, guess, execution)
    keeper = Snapshots(asked, STARTED)

    def write(number: int, experiment: Any) -> None:
        origin = np.asarray(experiment.specimen.origin)
        keeper.write(
            number,
            phase=np.asarray(experiment.specimen.phase),
            sampling=np.array(experiment.specimen.grid.sampling),
            positions=np.asarray(experiment.scan.positions) - origin[None],
        )

    if passes := lift_epochs(settings.solver.lift, settings.object.slices, len(patterns.counts)):
        guess = with_phase(guess, lift(problem, passes, execution), positive=settings.prior.positivity)
        problem = make_ptychography(patterns, settings, guess, execution)
        write(0, guess)
    plan_ = make_plan(settings, guess, execution)
    spread = distribute(problem, execution)
    state = initial(spread, plan_)
    for number in range(asked.epochs):
        state, _ = epoch(spread, state, plan_, number)
        if keeper.due(number + 1):
            write(number + 1, insert(problem, jax.tree.map(np.array, state.z)))
        if keeper.over():
            break


if __name__ == "__main__":
    main()
