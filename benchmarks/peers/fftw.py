"""The speed of FFTW: pairs of two-dimensional complex64 transforms, in place, planned by measurement.

A multislice step costs one such pair, so that this is the limit of a code that calls FFTW and does nothing else::

    python fftw.py [--sizes 128 256 512] [--threads 2] [--repeats 5] [--seconds 0.5]

Three layouts are measured and the fastest is the limit: the threads share one image ("single"), share a batch of images
("batch"), or own an image each with a plan of one thread ("private", which alone does not wait for a core that
somebody else holds).
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time

import pyfftw

BATCH_PIXELS = 2**20
LAYOUTS = ("single", "batch", "private")


def plan_pair(size: int, batch: int, threads: int) -> tuple:
    """Forward and inverse transform of a batch of images, in place.

    The images are zeros: without the division by their size, numbers would overflow after a few pairs, and the time
    of a transform does not depend on what it transforms.
    """
    images = pyfftw.zeros_aligned((batch, size, size), dtype="complex64")
    options = {"axes": (1, 2), "threads": threads, "flags": ("FFTW_MEASURE",)}
    forward = pyfftw.FFTW(images, images, direction="FFTW_FORWARD", **options)
    inverse = pyfftw.FFTW(images, images, direction="FFTW_BACKWARD", **options)
    images[:] = 0
    return forward, inverse


def plan_layout(layout: str, size: int, threads: int) -> list[tuple[tuple, int]]:
    """What runs side by side in a layout: plans, and the images in each."""
    batch = max(1, BATCH_PIXELS // size**2)
    if layout == "private":
        return [(plan_pair(size, 1, 1), 1) for _ in range(threads)]
    images = batch if layout == "batch" else 1
    return [(plan_pair(size, images, threads), images)]


def count_pairs(plans: tuple, seconds: float) -> int:
    """Number of pairs of a plan that fit in a time."""
    forward, inverse = plans
    end, done = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        # `execute` leaves out the division by the size, which a propagator would carry.
        forward.execute()
        inverse.execute()
        done += 1
    return done


def rate(side_by_side: list[tuple[tuple, int]], seconds: float) -> float:
    """Pairs of one image per second, all plans of a layout running at once."""
    totals = [0] * len(side_by_side)

    def work(index: int) -> None:
        plans, images = side_by_side[index]
        totals[index] = images * count_pairs(plans, seconds)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(len(side_by_side))]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(totals) / (time.perf_counter() - start)


def measure(sizes: list[int], threads: int, repeats: int, seconds: float) -> dict[str, dict[str, list[float]]]:
    """Pairs per second, by layout and size, one number for each repeat; the repeats go round all of them."""
    plans = {(layout, n): plan_layout(layout, n, threads) for layout in LAYOUTS for n in sizes}
    runs: dict[str, dict[str, list[float]]] = {layout: {str(n): [] for n in sizes} for layout in LAYOUTS}
    for _ in range(repeats):
        for (layout, n), side_by_side in plans.items():
            runs[layout][str(n)].append(round(rate(side_by_side, seconds), 1))
    return runs


def main() -> None:
    """Measure and print one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256, 512])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3)
    asked = parser.parse_args()
    runs = measure(asked.sizes, asked.threads, asked.repeats, asked.seconds)
    medians = {layout: {n: statistics.median(v) for n, v in sizes.items()} for layout, sizes in runs.items()}
    limit = {n: max(medians[layout][n] for layout in LAYOUTS) for n in medians["single"]}
    best = {n: max(max(runs[layout][n]) for layout in LAYOUTS) for n in limit}
    found = {"pyfftw": pyfftw.__version__, "fftw": str(pyfftw.fftw_version)}
    figures = {"pairs_per_second": limit, "best_pairs_per_second": best, "by_layout": medians, "runs": runs}
    print(json.dumps(figures | {"threads": asked.threads, "versions": found}))


if __name__ == "__main__":
    main()
