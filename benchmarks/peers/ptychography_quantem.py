"""Reconstruct a task with quantem, and write the object after some of its iterations.

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


def own_options(parser: argparse.ArgumentParser) -> None:
    """What quantem alone takes."""
    parser.add_argument("--noise", choices=("poisson", "l2_amplitude"), default="l2_amplitude")
    parser.add_argument("--kind", choices=("complex", "pure_phase", "potential"), default="complex")


def wavelength(energy: float) -> float:
    """Wavelength of electrons of an energy [eV], in Å."""
    return 12.2642596 / (energy * (1.0 + 0.978475598e-6 * energy)) ** 0.5


def main() -> None:
    """Run it, one iteration a call: the optimisers are kept between calls."""
    asked = arguments("quantem", own_options)
    from quantem.core.datastructures import Dataset4dstem
    from quantem.diffractive_imaging.ptychography_lite import PtychoLite

    task = read_task(asked.task)
    step, several = task["scan_step"], task["slices"] > 1
    pixel = 1e-3 * task["detector_sampling"] / wavelength(task["energy"])
    data = Dataset4dstem.from_array(
        task["counts"].astype(np.float32), sampling=[step, step, pixel, pixel], units=["A", "A", "A^-1", "A^-1"]
    )
    window = task["counts"].shape[2] // 2
    model = PtychoLite.from_dataset(
        data,
        num_slices=task["slices"],
        slice_thicknesses=task["thickness"] / task["slices"] if several else None,
        obj_type=asked.kind,
        num_probes=task["modes"],
        energy=task["energy"],
        defocus=-task["C10"],
        semiangle_cutoff=task["semiangle"],
        obj_padding_px=(window, window),
        verbose=False,
        rng=0,
    )
    keeper = Snapshots(asked, STARTED)
    constraints = {"object": {"tv_weight_z": 0.0}} if several else None
    for number in range(1, asked.epochs + 1):
        model.reconstruct(
            num_iters=1, lr_obj=asked.rate or 5e-3, batch_size=asked.batch, constraints=constraints, verbose=False
        )
        if keeper.due(number):
            sampling = np.asarray(model.sampling, dtype=float)
            object_ = np.asarray(model.obj)
            phase = np.angle(object_) if np.iscomplexobj(object_) else object_
            positions = model.dset.scan_positions_px.detach().numpy() * sampling
            keeper.write(number, phase=phase, sampling=sampling, positions=positions)
        if keeper.over():
            break


if __name__ == "__main__":
    main()
