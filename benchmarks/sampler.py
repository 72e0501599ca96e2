"""Effective draws a second of NUTS on the aberrations of two CBED patterns, 22 unknowns (target P12)."""

from __future__ import annotations

import statistics
import time

from benchmarks.machine import load

PIXELS, SLICES, DOSE, UNKNOWNS = 128, 10, 3e4, 22
DRAWS, WARMUP = 500, 150
CHAINS = 4


def run(repeats: int) -> dict:
    """Measure.

    Args:
        repeats: Rounds, each with a seed of its own; the sampler as it is and with short trajectories take turns.

    Returns:
        Effective draws a second without and with warm-up (compilation left out of both), divergences, gradients.
    """
    import stemjax
    from stemjax.inference.posteriors.chains import Nuts
    from stemjax.inference.posteriors.laplace import laplace

    stemjax.setup()
    problem = scene()
    start = time.perf_counter()
    mode = laplace(problem)
    seconds = time.perf_counter() - start
    settings = {"default": Nuts(), "short": Nuts(acceptance=0.7, depth=2)}
    rounds = {
        name: [one_round(problem, mode, nuts, seed) for seed in range(repeats)] for name, nuts in settings.items()
    }
    return {
        "problem": {"patterns": 2, "pixels": PIXELS, "slices": SLICES, "electrons": DOSE, "unknowns": UNKNOWNS},
        "sampler": {"chains": CHAINS, "draws": DRAWS, "warmup": WARMUP, "devices": rounds["default"][0]["devices"]},
        "gradient_milliseconds": gradient_time(problem, repeats),
        "mode_and_frame_seconds": round(seconds, 1),
        "settings": {name: {"rounds": found, "median": medians(found)} for name, found in rounds.items()},
        "target": "at least 8 effective draws a second, 0 divergences; a prototype made 7.5-11.4",
    }


def one_round(problem, mode, nuts, seed: int) -> dict:  # type: ignore[no-untyped-def]
    """One run of the sampler; effective draws are the fewest of all unknowns."""
    from stemjax.inference.posteriors.sample import sample

    before = load()
    found = sample(problem, at=mode, chains=CHAINS, draws=DRAWS, warmup=WARMUP, nuts=nuts, seed=seed).diagnostics
    bulk, tail = found["worst"]["ess_bulk"], found["worst"]["ess_tail"]
    drawing, warming = found["seconds"], found["warmup_seconds"]
    return {
        "seed": seed,
        "ess_bulk_per_second": round(bulk / drawing, 2),
        "ess_tail_per_second": round(tail / drawing, 2),
        "with_warmup": {
            "ess_bulk_per_second": round(bulk / (drawing + warming), 2),
            "ess_tail_per_second": round(tail / (drawing + warming), 2),
        },
        "ess_bulk": round(bulk, 1),
        "ess_tail": round(tail, 1),
        "r_hat": round(found["worst"]["r_hat"], 4),
        "divergences": found["divergences"],
        "gradients_per_draw": round(found["gradients"], 2),
        "draw_seconds": round(drawing, 2),
        "warmup_seconds": round(warming, 2),
        "compile_seconds": round(found["compile_seconds"], 2),
        "devices": found["devices"],
        "load": [before, load()],
    }


def medians(rounds: list[dict]) -> dict[str, float]:
    """Medians over the rounds, and all divergences together."""
    names = ("ess_bulk_per_second", "ess_tail_per_second", "gradients_per_draw")
    found = {name: round(statistics.median(r[name] for r in rounds), 2) for name in names}
    inner = ("ess_bulk_per_second", "ess_tail_per_second")
    slow = {f"{n}_with_warmup": round(statistics.median(r["with_warmup"][n] for r in rounds), 2) for n in inner}
    return {**found, **slow, "divergences": sum(r["divergences"] for r in rounds)}


def gradient_time(problem, repeats: int) -> float:  # type: ignore[no-untyped-def]
    """Milliseconds of the log-density and its gradient on one device, alone."""
    import jax

    from stemjax.inference.problem import log_density, start

    both, z = jax.jit(jax.value_and_grad(log_density, argnums=1)), start(problem)
    jax.block_until_ready(both(problem, z))
    times = []
    for _ in range(10 * repeats):
        began = time.perf_counter()
        jax.block_until_ready(both(problem, z))
        times.append(time.perf_counter() - began)
    return round(1e3 * statistics.median(times), 2)


def scene():  # type: ignore[no-untyped-def]
    """SrTiO3 of 39 Å in two CBED patterns, all aberrations to fourth order and both places unknown; seeded.

    The truth turns the phase at the edge of the aperture by about one radian a coefficient; the priors are as wide.
    """
    import jax
    import numpy as np

    import stemjax as sj
    from stemjax.inference.trust.simulate import draw_values, model_of, simulate_data
    from stemjax.problems.aberrations import aberration_spreads, make_aberration_problem, order_names

    slab = sj.slab("SrTiO3", thickness=39.0, width=(23.4, 23.4), rms_displacement=0.08)
    extent = map(float, slab.cell[1:])
    grid = sj.make_grid((PIXELS, PIXELS), tuple(e / PIXELS for e in extent))
    potential = sj.project_potential(slab, grid, SLICES)
    specimen = sj.make_potential_object(potential.values, potential.thickness, grid)
    probe = sj.make_probe(grid, energy=200e3, semiangle=25.0, aberrations=sj.make_aberrations(C10=100.0))
    places = sj.make_scan(np.array([[11.3, 12.1], [14.2, 13.7]]))
    guess = sj.make_experiment(probe, specimen, places, dose=DOSE)
    names = order_names(4)
    problem = make_aberration_problem(
        guess, np.zeros((2, PIXELS, PIXELS), np.float32), free=names,
        spreads=aberration_spreads(probe, names, phase=1.0), forward=sj.Diffraction(),
        also={"scan.positions": sj.Normal(guess.scan.positions, 0.3)},
    )  # fmt: skip
    first, second = jax.random.split(jax.random.key(1))
    return simulate_data(problem, model_of(problem, draw_values(problem, first)), second)
