"""Time and memory of value and gradient through many slices against the forward calculation (target P3)."""

from __future__ import annotations

import statistics
import time

from benchmarks.multislice import scene

CASES = {128: (20, 64), 256: (20, 32), 512: (40, 8)}
"""Slices and probes by size."""


def run(repeats: int) -> dict:
    """Measure.

    Args:
        repeats: Rounds; forward and gradient take turns.

    Returns:
        Seconds and ratios by size, temporary memory in waves per slice, for two batch sizes.
    """
    import stemjax

    stemjax.setup()
    return {"cases": {str(size): case(size, *shape, repeats) for size, shape in CASES.items()}}


def case(size: int, slices: int, probes: int, repeats: int) -> dict:
    """One size: the likelihood of all patterns, with and without its gradient in the potential and the probe."""
    import jax

    from stemjax.core.executor import plan

    execution = plan()
    value, arguments = likelihood(size, slices, probes, execution)
    forward, both = jax.jit(value), jax.jit(jax.value_and_grad(value))
    for function in (forward, both):
        jax.block_until_ready(function(*arguments))
    rounds = [(timed(forward, arguments), timed(both, arguments)) for _ in range(repeats)]
    memory = {count: temporary(size, slices, count, execution) for count in (probes // 2, probes)}
    walked = temporary(size, slices, probes, execution, reversible=True)
    wave = 8 * size * size
    # Whatever the loop does not hold once per device: cotangents of potential and transmission, of the whole object.
    return {
        "slices": slices,
        "probes": probes,
        "forward_seconds": round(statistics.median(f for f, _ in rounds), 4),
        "gradient_seconds": round(statistics.median(g for _, g in rounds), 4),
        "gradient_over_forward": round(statistics.median(g / f for f, g in rounds), 3),
        "temporary_MB": {str(count): round(size_ / 1e6, 2) for count, size_ in memory.items()},
        "complex_waves_per_slice": round(memory[probes] / wave / slices, 2),
        "reversible": {
            "complex_waves_per_slice": round(walked / wave / slices, 2),
            "memory_over_stored": round(walked / memory[probes], 3),
            "gradient_error": round(reversible_error(size, slices, probes, execution), 6),
        },
        "devices": execution.devices,
    }


def reversible_error(size: int, slices: int, probes: int, execution) -> float:  # type: ignore[no-untyped-def]
    """Relative difference of the reversible gradient in the potential from the stored one, band limit 2/3."""
    import jax
    import jax.numpy as jnp

    plain, arguments = likelihood(size, slices, probes, execution)
    walked, _ = likelihood(size, slices, probes, execution, reversible=True)
    right, other = (jax.jit(jax.grad(f))(*arguments) for f in (plain, walked))
    return float(jnp.linalg.norm(other - right) / jnp.linalg.norm(right))


def likelihood(size: int, slices: int, probes: int, execution, *, reversible: bool = False):  # type: ignore[no-untyped-def]
    """A function of the potential's values whose gradient is wanted, and its arguments."""
    from dataclasses import replace

    import jax.numpy as jnp
    import numpy as np

    from stemjax.inference.batches import deal

    experiment, simulator = scene(size, slices, probes, execution)
    simulator = replace(simulator, reversible=reversible)
    lanes = execution.devices
    data = deal(np.full((probes, size, size), 1.0 / size**2, np.float32), lanes)
    index = np.tile(np.arange(probes // lanes), (lanes, 1))
    weight = np.ones((lanes, probes // lanes), np.float32)

    def score(expected, counts):  # type: ignore[no-untyped-def]
        return -jnp.sum((jnp.sqrt(expected + 1e-9) - jnp.sqrt(counts)) ** 2)

    def value(values, experiment, data):  # type: ignore[no-untyped-def]
        changed = experiment.replace(specimen=experiment.specimen.replace(values=values))
        return simulator.total(changed, score, data, index, weight)

    return value, (experiment.specimen.values, experiment, data)


def timed(function, arguments) -> float:  # type: ignore[no-untyped-def]
    """Seconds of one call."""
    import jax

    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - start


def temporary(size: int, slices: int, probes: int, execution, *, reversible: bool = False) -> int:  # type: ignore[no-untyped-def]
    """Temporary bytes that one device needs for value and gradient."""
    import jax

    value, arguments = likelihood(size, slices, probes, execution, reversible=reversible)
    compiled = jax.jit(jax.value_and_grad(value)).lower(*arguments).compile()
    return int(compiled.memory_analysis().temp_size_in_bytes)
