"""Reconstruct a task with PtyRAD, and write the object after some of its iterations.

Runs in the peers' environment, without stemjax: see `benchmarks.ptychography` for the format of task and snapshots.
"""

from __future__ import annotations

import argparse
import time

STARTED = time.monotonic()
# Imports are part of what a person waits for.

import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from unittest.mock import MagicMock  # noqa: E402

import numpy as np  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))
from snapshots import Snapshots, arguments, read_task  # noqa: E402


def own_options(parser: argparse.ArgumentParser) -> None:
    """What PtyRAD alone takes."""
    parser.add_argument("--noise", choices=("poisson", "amplitude"), default="amplitude")


def parameters(task: dict, asked: argparse.Namespace, data: Path) -> dict:
    """Parameters as PtyRAD takes them; what is left out has its defaults."""
    rate, several = asked.rate or 5e-4, task["slices"] > 1
    ny, nx = task["counts"].shape[:2]
    every, never = ({"start_iter": start, "step": 1, "end_iter": None} for start in (1, None))
    poisson = asked.noise == "poisson"
    return {
        "init_params": {
            "probe_kv": task["energy"] / 1e3,
            "probe_conv_angle": task["semiangle"],
            "probe_aberrations": {"C10": task["C10"]},
            "probe_pmode_max": task["modes"],
            "meas_Npix": task["counts"].shape[-1],
            "meas_calibration": {"mode": "da", "value": task["detector_sampling"]},
            "meas_params": {"path": str(data), "key": None},
            "pos_N_scan_slow": ny,
            "pos_N_scan_fast": nx,
            "pos_scan_step_size": task["scan_step"],
            "obj_Nlayer": task["slices"],
            "obj_slice_thickness": task["thickness"] / task["slices"] if several else 1.0,
        },
        "model_params": {
            "update_params": {
                "obja": {"start_iter": 1, "lr": rate, "end_iter": None},
                "objp": {"start_iter": 1, "lr": rate, "end_iter": None},
                "probe": {"start_iter": 1, "lr": 1e-4, "end_iter": None},
                "probe_pos_shifts": {"start_iter": None, "lr": 5e-4, "end_iter": None},
            }
        },
        "loss_params": {
            "loss_single": {"state": not poisson, "weight": 1.0, "dp_pow": 0.5},
            "loss_poissn": {"state": poisson, "weight": 1.0, "dp_pow": 1.0, "eps": 1e-6},
            "loss_sparse": {"state": False, "weight": 0.1, "ln_order": 1},
        },
        "constraint_params": {
            "ortho_pmode": every if task["modes"] > 1 else never,
            "fix_probe_int": every,
            "obj_zblur": {**(every if several else never), "obj_type": "both", "kernel_size": 5, "std": 1},
            "obja_thresh": {**every, "relax": 0, "thresh": [0.96, 1.04]},
        },
        "recon_params": {
            "NITER": asked.epochs,
            "BATCH_SIZE": {"size": asked.batch, "grad_accumulation": 1},
            "SAVE_ITERS": None,
            "output_dir": str(data.parent),
            "compiler_configs": {"enable": False},
        },
    }


def without_plots() -> None:
    """Leave PtyRAD's drawing out: nothing is drawn here, and its source asks for Python 3.12."""
    for name in ("basic", "model"):
        sys.modules[f"ptyrad.plotting.{name}"] = MagicMock()


def main() -> None:
    """Run it, one iteration after the other as PtyRAD's own loop does."""
    asked = arguments("PtyRAD", own_options)
    without_plots()
    import torch
    from ptyrad.core.models.ptycho import PtychoModel
    from ptyrad.params.ptyrad_params import PtyRADParams
    from ptyrad.solver.ptyrad_solver import PtyRADSolver
    from ptyrad.solver.reconstruction import (
        compute_loss,
        create_optimizer,
        prepare_recon,
        recon_step,
        toggle_grad_requires,
    )

    task = read_task(asked.task)
    data = Path(asked.folder) / "counts.npy"
    data.parent.mkdir(parents=True, exist_ok=True)
    np.save(data, task["counts"].reshape(-1, *task["counts"].shape[2:]).astype(np.float32))
    chosen = PtyRADParams(**parameters(task, asked, data)).model_dump()
    solver = PtyRADSolver(chosen, device="cpu", seed=0)
    model = PtychoModel(solver.init.init_variables, chosen["model_params"], device="cpu")
    optimizer = create_optimizer(model.optimizer_params, model.optimizable_params)
    batches = [torch.from_numpy(part) for part in prepare_recon(model, solver.init, chosen)[1]]
    keeper, window = Snapshots(asked, STARTED), np.array(task["counts"].shape[2:])
    for number in range(1, asked.epochs + 1):
        toggle_grad_requires(model, number)
        loss, constraint = solver.loss_fn, solver.constraint_fn
        recon_step(batches, 1, model, optimizer, None, loss, constraint, number, compute_loss_fn=compute_loss)
        if keeper.due(number):
            corner = model.crop_pos.numpy() + model.opt_probe_pos_shifts.detach().numpy()
            sampling = np.full(2, float(model.dx))
            keeper.write(number, phase=model.opt_objp.detach().numpy()[0], sampling=sampling,
                         positions=(corner + window // 2) * sampling)  # fmt: skip
        if keeper.over():
            break


if __name__ == "__main__":
    main()
