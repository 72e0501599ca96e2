"""Projected potentials of 5120 atoms: time and error of ours, and abTEM's time on the same specimen (target P4)."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.grid import Grid
from stemjax.specimen.builders import SRTIO3_LATTICE, slab
from stemjax.specimen.potential import BAND_LIMIT, project_exact, project_gridded
from stemjax.specimen.scattering_factors import POTENTIAL_PER_SCATTERING_FACTOR, scattering_factor
from stemjax.specimen.structure import Structure

SLICES = 16
SIDES = (256, 512)
PEER = Path(__file__).parent / "peers" / "abtem_potential.py"


def specimen() -> Structure:
    """SrTiO3 of 8 x 8 x 16 cells, every atom off its site by a few picometres, away from the borders of the slices."""
    a = SRTIO3_LATTICE
    perfect = slab("SrTiO3", thickness=16 * a, width=(8 * a, 8 * a))
    noise = np.random.default_rng(1).normal(0.0, 0.05, perfect.positions.shape) + np.array([0.25 * a, 0.0, 0.0])
    return perfect.replace(positions=perfect.positions + jnp.asarray(noise, perfect.positions.dtype))


def reference(structure: Structure, grid: Grid) -> np.ndarray:
    """Fourier coefficients of every slice in the band, from structure factors in double precision [slice ny kx]."""
    ky, kx = grid.frequencies()
    kx = np.abs(kx[:, : grid.shape[1] // 2 + 1])
    k = np.hypot(ky, kx)
    places, numbers = np.asarray(structure.positions, float), np.asarray(structure.numbers)
    layer = np.floor(np.mod(places[:, 0], float(structure.cell[0])) / float(structure.cell[0]) * SLICES).astype(int)
    total = np.zeros((SLICES, *k.shape), complex)
    for number in np.unique(numbers):
        factor = scattering_factor("lobato", int(number), k) * (k <= BAND_LIMIT * grid.nyquist * (1.0 + 1e-9))
        for index in range(SLICES):
            y, x = places[(numbers == number) & (layer == index), 1:].T
            total[index] += factor * (np.exp(-2j * np.pi * ky * y) @ np.exp(-2j * np.pi * x[:, None] * kx))
    return total * POTENTIAL_PER_SCATTERING_FACTOR / np.prod(grid.extent)


def median_time(function: Callable, arguments: tuple, repeats: int) -> float:
    """Median time of a compiled function [ms]."""
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def measure(structure: Structure, side: int, repeats: int) -> dict[str, float]:
    """Times [ms] and relative errors of our two methods on one grid."""
    grid = Grid((side, side), (float(structure.cell[1]) / side, float(structure.cell[2]) / side))
    truth = reference(structure, grid)
    cotangent = jnp.asarray(np.random.default_rng(0).normal(size=(SLICES, side, side)), jnp.float32)
    row: dict[str, float] = {}
    for name, method in (("gridded", project_gridded), ("exact", project_exact)):

        def values(positions: jax.Array, method: Callable = method) -> jax.Array:
            return method(structure.replace(positions=positions), grid, SLICES).values

        def loss(positions: jax.Array, weight: jax.Array, values: Callable = values) -> jax.Array:
            return jnp.vdot(values(positions), weight)

        forward, places = jax.jit(values), structure.positions
        found = np.fft.rfft2(np.asarray(forward(places), float)) / side**2
        row[f"{name}_error_{side}"] = float(np.linalg.norm(found - truth) / np.linalg.norm(truth))
        row[f"{name}_ms_{side}"] = median_time(forward, (places,), repeats)
        # The loss is linear: its gradient alone is the pull-back, without a forward pass.
        row[f"{name}_gradient_ms_{side}"] = median_time(jax.jit(jax.grad(loss)), (places, cotangent), repeats)
        both = jax.jit(jax.value_and_grad(loss))
        row[f"{name}_value_and_gradient_ms_{side}"] = median_time(both, (places, cotangent), repeats)
    return row


def peer(repeats: int) -> dict[str, float]:
    """abTEM's build times [ms] by the interpreter of STEMJAX_PEERS_PYTHON; empty where there is none."""
    python = os.environ.get("STEMJAX_PEERS_PYTHON")
    if not python:
        return {}
    command = [python, str(PEER), str(repeats), str(SRTIO3_LATTICE), *map(str, SIDES)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    return {f"abtem_infinite_ms_{side}": float(t) for side, t in json.loads(answer.stdout.splitlines()[-1]).items()}


def run(repeats: int = 5) -> dict[str, float]:
    """Measure both grids and, where it is at hand, abTEM, before and after ours (the smaller of its medians counts).

    Args:
        repeats: Runs of which the median is taken.

    Returns:
        Times in ms, relative errors in the 2/3 band, and ratios of times.
    """
    structure = specimen()
    row = peer(repeats)
    for side in SIDES:
        row |= measure(structure, side, repeats)
    again = peer(repeats)
    for side in SIDES:
        for part in ("gradient", "value_and_gradient"):
            row[f"{part}_over_forward_{side}"] = row[f"gridded_{part}_ms_{side}"] / row[f"gridded_ms_{side}"]
        key = f"abtem_infinite_ms_{side}"
        if key in again:
            row[key] = min(row[key], again[key])
            row[f"gridded_over_abtem_{side}"] = row[f"gridded_ms_{side}"] / row[key]
    return row


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
