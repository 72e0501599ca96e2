"""A scan by abTEM's multislice through a given potential: HAADF and 4D patterns, single precision, all cores.

Prints one line of JSON. `--potential` is a file of numpy with the projected potential [slice y x] in V Å, `--positions`
one with probe positions [pattern 2] (y, x) in Å::

    python abtem_scan.py --potential V.npy --positions P.npy --extent 27.335 --thickness 1.9525 --out measured.npz

Every measurement runs the first `--few` positions and then all of them: the time of a longer scan is a straight line
through the two. With `--paired` it measures once for every line that it reads, and prints a line each time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import abtem
import dask
import numpy as np
from abtem_multislice import configure, settings

BAND = 0.6666666


def scan(asked: argparse.Namespace, potential: abtem.PotentialArray, positions: np.ndarray, setting: dict) -> tuple:
    """Seconds (clock, processors), detector values [pattern], patterns [pattern ky kx] with zero in the centre."""
    probe = abtem.Probe(energy=asked.energy, semiangle_cutoff=asked.semiangle, defocus=asked.defocus)
    detectors = [abtem.AnnularDetector(asked.inner, asked.outer), abtem.PixelatedDetector(max_angle="cutoff")]
    start = time.perf_counter(), time.process_time()
    measured = probe.multislice(
        potential, scan=abtem.CustomScan(positions[:, ::-1]), detectors=detectors, max_batch=setting["batch"],
        lazy=setting["workers"] > 1,
    )  # fmt: skip
    if setting["workers"] > 1:
        with dask.config.set(scheduler="threads", num_workers=setting["workers"]):
            measured.compute()
    seconds = time.perf_counter() - start[0], time.process_time() - start[1]
    ring, patterns = measured
    return seconds, np.asarray(ring.array), np.asarray(patterns.array).swapaxes(-1, -2)


def fastest(asked: argparse.Namespace, potential: abtem.PotentialArray, positions: np.ndarray) -> dict:
    """The fastest way to use the cores, on a quarter of the slices."""
    few = potential.array[: max(1, len(potential.array) // 4)]
    short = abtem.PotentialArray(few, slice_thickness=asked.thickness, sampling=potential.sampling)
    candidates, times = settings(asked.threads, asked.batch), []
    for setting in candidates:
        prepare(setting["fft_threads"])
        times.append(min(scan(asked, short, positions, setting)[0][0] for _ in range(2)))
    return candidates[int(np.argmin(times))]


def prepare(fft_threads: int) -> None:
    """Single precision, FFTW, and a sharp band limit in place of the tapered default: the same physics for both."""
    configure(fft_threads)
    abtem.config.set({"antialias.cutoff": BAND, "antialias.taper": 0.0})


def arguments() -> argparse.Namespace:
    """What the caller asked for."""
    parser = argparse.ArgumentParser()
    for name in ("potential", "positions", "out"):
        parser.add_argument(f"--{name}", required=True)
    numbers = {"extent": 0.0, "thickness": 2.0, "energy": 200e3, "semiangle": 21.4, "defocus": 0.0, "inner": 50.0,
               "outer": 75.0}  # fmt: skip
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=float, default=default)
    for name, count in {"batch": 32, "threads": 2, "few": 64}.items():
        parser.add_argument(f"--{name}", type=int, default=count)
    parser.add_argument("--paired", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Find the best setting, keep what was simulated with it, measure, and print."""
    asked = arguments()
    values, positions = np.load(asked.potential), np.load(asked.positions)
    sampling = asked.extent / values.shape[1]
    array = np.ascontiguousarray(values.swapaxes(-1, -2).astype(np.float32))
    potential = abtem.PotentialArray(array, slice_thickness=asked.thickness, sampling=sampling)
    prepare(1)
    setting = fastest(asked, potential, positions[: asked.few])
    prepare(setting["fft_threads"])

    def measure() -> dict:
        few = scan(asked, potential, positions[: asked.few], setting)[0]
        return {"few": few, "all": scan(asked, potential, positions, setting)[0]}

    _, ring, patterns = scan(asked, potential, positions[: asked.few], setting)
    np.savez(asked.out, ring=ring, patterns=patterns.astype(np.float32))
    found = {"setting": setting, "few": min(asked.few, len(positions)), "all": len(positions),
             "versions": {"abtem": abtem.__version__}}  # fmt: skip
    if not asked.paired:
        print(json.dumps(found | measure()))
        return
    print(json.dumps(found), flush=True)
    for _ in sys.stdin:
        print(json.dumps(measure()), flush=True)


if __name__ == "__main__":
    main()
