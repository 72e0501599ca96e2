"""Speed of the multislice loop against the limit of FFTW and against abTEM, all three in turn (target P1)."""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack

from benchmarks.machine import cores
from benchmarks.peer import peer_session, run_peer

CASES = {128: (102, 256), 256: (102, 64), 512: (26, 32)}
"""Slices and probes by size; abTEM is measured at 256 and 512."""


def run(repeats: int) -> dict:
    """Measure.

    Args:
        repeats: Rounds; each measures FFTW, stemjax and abTEM one after the other.

    Returns:
        Probe·slices per second, medians, and the ratios within each round.
    """
    import stemjax

    stemjax.setup()
    found: dict = {"cases": {}}
    for size, (slices, probes) in CASES.items():
        ours = prepare(size, slices, probes)
        with ExitStack() as stack:
            theirs = None
            if size >= 256:
                words = ("--size", size, "--slices", slices, "--probes", probes, "--threads", cores())
                about, theirs = stack.enter_context(peer_session("abtem_multislice", *words))
                found.setdefault("versions", {}).update(about["versions"])
            rounds = [one_round(size, slices * probes, ours, theirs) for _ in range(repeats)]
        found["cases"][str(size)] = summary(rounds, slices, probes)
    return found


def one_round(size: int, work: int, ours, theirs) -> dict[str, float]:  # type: ignore[no-untyped-def]
    """Probe·slices per second of each, measured one after the other."""
    limit = run_peer("fftw", "--sizes", size, "--threads", cores(), "--repeats", 1, "--seconds", 1.0)
    start = time.perf_counter()
    ours()
    figures = {"fftw": limit["pairs_per_second"][str(size)], "stemjax": work / (time.perf_counter() - start)}
    if theirs is not None:
        figures["abtem"] = theirs()["probe_slices_per_second"]
    return figures


def prepare(size: int, slices: int, probes: int):  # type: ignore[no-untyped-def]
    """A function that sends all probes through the specimen on all devices and waits."""
    import jax

    from stemjax.core.executor import plan

    experiment, forward = scene(size, slices, probes, plan())
    # Sums leave the device instead of patterns: abTEM's detector does the same.
    simulate = jax.jit(lambda e: forward(e).sum(axis=(1, 2)))
    simulate(experiment).block_until_ready()
    return lambda: simulate(experiment).block_until_ready()


def scene(size: int, slices: int, probes: int, execution):  # type: ignore[no-untyped-def]
    """An experiment on a periodic potential of the size that atoms give, and its simulator."""
    import numpy as np

    import stemjax as sj

    grid = sj.make_grid(size, 0.1)
    values = np.random.default_rng(0).gamma(0.3, 60.0, size=(slices, size, size))
    positions = np.random.default_rng(1).uniform(0.25, 0.75, size=(probes, 2)) * size * 0.1
    experiment = sj.make_experiment(
        sj.make_probe(grid, energy=200e3, semiangle=20.0),
        sj.make_potential_object(values, 2.0, grid),
        sj.make_scan(positions),
    )
    return experiment, sj.Diffraction(execution=execution)


def summary(rounds: list[dict[str, float]], slices: int, probes: int) -> dict:
    """Medians and ratios of the rounds."""
    names = list(rounds[0])
    medians = {name: round(statistics.median(r[name] for r in rounds), 1) for name in names}
    ratios = {"of_fftw_limit": [r["stemjax"] / r["fftw"] for r in rounds]}
    if "abtem" in names:
        ratios["time_over_abtem"] = [r["abtem"] / r["stemjax"] for r in rounds]
    figures = {
        name: {"median": round(statistics.median(v), 3), "rounds": [round(x, 3) for x in v]}
        for name, v in ratios.items()
    }
    return {"slices": slices, "probes": probes, "probe_slices_per_second": medians, **figures}
