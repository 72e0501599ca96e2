"""The speed of abTEM's multislice at its best setting: single precision, FFTW, batches of 32 probes, all cores.

Prints one line of JSON::

    python abtem_multislice.py --size 256 --slices 102 [--probes 64] [--batch 32] [--threads 2] [--repeats 3]

With `--paired` it measures once for every line that it reads, and prints a line each time, so that a caller can
measure its own code in between; the first line printed says which setting was found best.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import abtem
import dask
import numpy as np

SAMPLING = 0.1
ENERGY = 200e3


def configure(fft_threads: int) -> None:
    """Single precision and FFTW, planned by measurement."""
    abtem.config.set({"precision": "float32", "fft": "fftw", "fftw.threads": fft_threads,
                      "fftw.planning_effort": "FFTW_MEASURE", "diagnostics.progress_bar": False})  # fmt: skip


def random_potential(size: int, slices: int) -> abtem.PotentialArray:
    """Slices of 2 Å with values of the size that atoms give; what they are does not matter for the time."""
    values = np.random.default_rng(0).gamma(0.3, 60.0, size=(slices, size, size)).astype(np.float32)
    return abtem.PotentialArray(values, slice_thickness=2.0, sampling=SAMPLING)


def scan_once(potential: abtem.PotentialArray, probes: int, batch: int, workers: int) -> float:
    """Seconds for all probes to pass the potential and fall on an annular detector."""
    probe = abtem.Probe(energy=ENERGY, semiangle_cutoff=20.0)
    extent = potential.extent[0]
    positions = np.random.default_rng(1).uniform(0.25 * extent, 0.75 * extent, size=(probes, 2))
    detector = abtem.AnnularDetector(inner=50.0, outer=100.0)
    start = time.perf_counter()
    measured = probe.multislice(
        potential, scan=abtem.CustomScan(positions), detectors=detector, max_batch=batch, lazy=workers > 1
    )
    if workers > 1:
        with dask.config.set(scheduler="threads", num_workers=workers):
            measured.compute()
    return time.perf_counter() - start


def settings(threads: int, batch: int) -> list[dict[str, int]]:
    """Ways to use the cores: abTEM's own chunks of probes side by side, or threads inside the transforms."""
    candidates = [{"workers": threads, "fft_threads": 1, "batch": batch}]
    if threads > 1:
        candidates.append({"workers": 1, "fft_threads": threads, "batch": batch})
        candidates.append({"workers": threads, "fft_threads": 1, "batch": max(1, batch // 4)})
    return candidates


def best_setting(potential: abtem.PotentialArray, probes: int, candidates: list[dict[str, int]]) -> dict[str, int]:
    """The fastest of the settings on a quarter of the slices; the first run of each plans the transforms."""
    few = abtem.PotentialArray(
        potential.array[: max(1, len(potential.array) // 4)], slice_thickness=2.0, sampling=SAMPLING
    )
    times = []
    for setting in candidates:
        configure(setting["fft_threads"])
        runs = [scan_once(few, probes, setting["batch"], setting["workers"]) for _ in range(3)]
        times.append(min(runs[1:]))
    return candidates[int(np.argmin(times))]


def arguments() -> argparse.Namespace:
    """What the caller asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--slices", type=int, default=102)
    parser.add_argument("--probes", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--paired", action="store_true")
    return parser.parse_args()


def answer_lines(measure: Callable[[], float], found: dict) -> None:
    """Measure once for every line read, until the input ends."""
    print(json.dumps(found), flush=True)
    for _ in sys.stdin:
        print(json.dumps({"probe_slices_per_second": measure()}), flush=True)


def main() -> None:
    """Find the best setting, measure with it, and print."""
    asked = arguments()
    potential = random_potential(asked.size, asked.slices)
    setting = best_setting(potential, asked.probes, settings(asked.threads, asked.batch))
    configure(setting["fft_threads"])

    def measure() -> float:
        seconds = scan_once(potential, asked.probes, setting["batch"], setting["workers"])
        return asked.probes * asked.slices / seconds

    found = {"size": asked.size, "slices": asked.slices, "probes": asked.probes, "setting": setting,
             "versions": {"abtem": abtem.__version__}}  # fmt: skip
    if asked.paired:
        answer_lines(measure, found)
        return
    runs = [measure() for _ in range(asked.repeats)]
    print(json.dumps(found | {"probe_slices_per_second": statistics.median(runs), "runs": runs}))


if __name__ == "__main__":
    main()
