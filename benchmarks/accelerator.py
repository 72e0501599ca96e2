"""Multislice, its gradient and a ptychography epoch on whatever jax computes with; meant for a GPU.

Counts the bytes that a slice must move (it is memory that limits a GPU) and quotes the fraction of the bandwidth that
a plain copy reaches on the same device.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

CASES = {128: (40, 2048), 256: (40, 512), 512: (40, 128)}
"""Slices and probes by size."""

CHUNKS = (16, 64, 256)
"""Probes at once on one device."""

PASSES = 8
"""Passes over a complex wave that a slice cannot do without: two transforms that each read and write twice."""


def run(repeats: int) -> dict:
    """Measure.

    Args:
        repeats: Calls of each; medians are reported.

    Returns:
        Probe·slices per second by size and chunk, ratio of gradient to forward, seconds of an epoch.
    """
    import jax

    device = jax.devices()[0]
    found: dict = {
        "device": device.device_kind,
        "platform": device.platform,
        "copy_GB_per_second": copy_bandwidth(repeats),
    }
    found["multislice"] = {
        str(size): multislice(size, *case, repeats, found["copy_GB_per_second"]) for size, case in CASES.items()
    }
    found["epoch"] = epoch(repeats)
    return found


def timed(function: Callable, *arguments: object) -> float:
    """Seconds of one call, its result awaited."""
    import jax

    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - start


def median(function: Callable, *arguments: object, repeats: int) -> float:
    """Median seconds of a call after one that compiles."""
    timed(function, *arguments)
    return statistics.median(timed(function, *arguments) for _ in range(repeats))


def copy_bandwidth(repeats: int) -> float:
    """Bytes read and written per second by adding one to a large array [GB/s]."""
    import jax
    import jax.numpy as jnp

    array = jnp.zeros(2**26, jnp.float32)
    return round(2e-9 * array.nbytes / median(jax.jit(lambda a: a + 1), array, repeats=repeats), 1)


def multislice(size: int, slices: int, probes: int, repeats: int, bandwidth: float) -> dict:
    """One size: every chunk forwards, the best one also with its gradient."""
    import jax

    from benchmarks.gradient import likelihood
    from benchmarks.multislice import scene
    from stemjax.core.executor import plan

    rates = {}
    for chunk in CHUNKS:
        experiment, forward = scene(size, slices, probes, plan(1, chunk))
        simulate = jax.jit(lambda e, forward=forward: forward(e).sum(axis=(1, 2)))
        rates[chunk] = probes * slices / median(simulate, experiment, repeats=repeats)
    best = max(rates, key=lambda c: rates[c])
    value, arguments = likelihood(size, slices, probes, plan(1, best))
    forward_time = median(jax.jit(value), *arguments, repeats=repeats)
    gradient_time = median(jax.jit(jax.value_and_grad(value)), *arguments, repeats=repeats)
    moved = rates[best] * PASSES * 8 * size**2 / 1e9
    return {
        "probe_slices_per_second": {str(c): round(r) for c, r in rates.items()},
        "best_chunk": best,
        "fraction_of_copy_bandwidth": round(moved / bandwidth, 3),
        "gradient_over_forward": round(gradient_time / forward_time, 3),
    }


def epoch(repeats: int) -> dict:
    """An epoch of single-slice ptychography: 64 × 64 scan, 128 × 128 patterns, batch 64 and 512, one mode."""
    import numpy as np

    import stemjax as sj
    from stemjax.inference.solvers import optimise as solver

    grid = sj.make_grid(128, 0.2)
    whole = sj.make_grid(320, 0.2)
    scan = sj.make_raster((64, 64), 0.5, origin=(15.0, 15.0))
    experiment = sj.make_experiment(
        sj.make_probe(grid, energy=80e3, semiangle=21.4, aberrations=sj.make_aberrations(C10=80.0)),
        sj.make_object(whole),
        scan,
        dose=1e4,
    )
    counts = np.random.default_rng(0).poisson(0.6, (4096, 128, 128)).astype(np.float32)
    times = {}
    for batch in (64, 512):
        forward = sj.Diffraction(limit=None, execution=sj.plan(1))
        problem = sj.make_problem(
            experiment,
            sj.Measurement(counts),
            forward=forward,
            noise=sj.Poisson(),
            free=["specimen.phase", "probe.aberrations.C10"],
        )
        plan = sj.Plan(rates={"specimen.phase": 0.01, "probe": 0.1}, batch=batch, execution=forward.execution)
        spread = solver.distribute(problem, plan.execution)
        state = solver.initial(spread, plan)
        runs = []
        for number in range(repeats + 1):
            start = time.perf_counter()
            state, _ = solver.epoch(spread, state, plan, number)
            runs.append(time.perf_counter() - start)
        times[f"batch_{batch}_seconds"] = round(statistics.median(runs[1:]), 4)
    return times
