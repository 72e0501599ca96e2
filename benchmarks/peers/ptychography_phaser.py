"""Reconstruct a task with phaser, and write the object after some of its iterations.

Runs in the peers' environment, without stemjax: see `benchmarks.ptychography` for the format of task and snapshots.
"""

from __future__ import annotations

import argparse
import time

STARTED = time.monotonic()
# Imports are part of what a person waits for.

import sys  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))
from snapshots import Snapshots, arguments, read_task  # noqa: E402


def engine(task: dict, asked: argparse.Namespace) -> dict:
    """One engine of a plan: gradient descent by Adam, or LSQML."""
    common = {
        "probe_modes": task["modes"],
        "niter": asked.epochs,
        "grouping": asked.batch,
        "update_probe": {"after": 2},
        "noise_model": {"type": asked.noise if asked.engine == "gradient" else "anscombe"},
        "calc_error": False,
        "shuffle_groups": True,
        "buffer_n_groups": None,
    }
    layers = {"type": "layers", "sigma": asked.layers, "weight": 0.9}
    constraints = [layers] if task["slices"] > 1 and asked.layers else []
    if asked.engine == "lsqml":
        solver = {"type": "lsqml", "gamma": 1e-4}
        return {
            "type": "conventional", **common, "solver": solver, "group_constraints": [],
            "iter_constraints": constraints,
        }  # fmt: skip
    rate = asked.rate or 1e-2
    return {
        "type": "gradient",
        **common,
        "solvers": {
            "object": {"type": "adam", "learning_rate": rate},
            "probe": {"type": "adam", "learning_rate": rate * 0.1},
        },
        "regularizers": [],
        "group_constraints": [],
        "iter_constraints": constraints,
    }


def plan(task: dict, asked: argparse.Namespace, data: Path) -> dict:
    """The plan as phaser reads it."""
    found = {
        "name": "benchmark",
        "backend": "jax",
        "raw_data": {
            "type": "manual",
            "path": str(data),
            "diff_step": task["detector_sampling"],
            "kv": task["energy"] / 1e3,
        },
        "init": {
            "probe": {"type": "focused", "conv_angle": task["semiangle"], "defocus": task["C10"]},
            "scan": {"type": "raster", "shape": list(task["counts"].shape[:2]), "step_size": task["scan_step"]},
        },
        "engines": [engine(task, asked)],
    }
    if task["slices"] > 1:
        found["slices"] = {"n": task["slices"], "total_thickness": task["thickness"]}
    return found


def own_options(parser: argparse.ArgumentParser) -> None:
    """What phaser alone takes."""
    parser.add_argument("--engine", choices=("gradient", "lsqml"), default="gradient")
    parser.add_argument("--noise", choices=("poisson", "anscombe"), default="poisson", help="of the gradient engine")
    parser.add_argument("--layers", type=float, default=50.0, help="smoothing across slices [Å]")


def main() -> None:
    """Run it."""
    import pane
    from phaser.execute import execute_plan
    from phaser.observer import Observer
    from phaser.plan import ReconsPlan

    asked = arguments("phaser", own_options)
    task = read_task(asked.task)
    data = Path(asked.folder) / "counts.npy"
    data.parent.mkdir(parents=True, exist_ok=True)
    np.save(data, task["counts"].astype(np.float32))
    keeper = Snapshots(asked, STARTED)

    class Watch(Observer):
        def update_iteration(self, state, i, n, errors) -> None:  # noqa: ARG002 - phaser's signature
            """Called by phaser after every iteration."""
            if not keeper.due(i):
                return
            found = state.object
            corner = np.asarray(found.sampling.corner)
            positions = np.asarray(state.scan.data).reshape(-1, 2) - corner
            keeper.write(i, phase=np.angle(np.asarray(found.data)), sampling=np.asarray(found.sampling.sampling),
                         positions=positions)  # fmt: skip
            if keeper.over():
                raise SystemExit(0)

    execute_plan(pane.from_data(plan(task, asked, data), ReconsPlan), override_observers=Watch())


if __name__ == "__main__":
    main()
