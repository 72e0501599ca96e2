"""Levenberg-Marquardt without a matrix against Adam, in time to the same misfit (target P11); what a gradient costs.

Two problems: ptychography of an unknown phase with unknown aberrations and positions, and the drift of a scan over
columns. Adam gets minibatches where the data can be divided, rates that fall to 2 % along half a cosine, and the best
of several sizes of them for every number of epochs, found in the same run. "The same misfit" is minus the
log-posterior that it ends with.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

FACTORS = (0.5, 1.0, 2.0)
"""Sizes of Adam's rates that are tried."""

EPOCHS = {"ptychography": (50, 100, 200), "drift": (500, 1000, 2000)}
"""Lengths of Adam's schedules; where data are not divided an epoch is one step."""


def run(repeats: int) -> dict:
    """Measure.

    Args:
        repeats: Rounds; Adam's best schedules and Levenberg-Marquardt take turns. Compilation is left out of both.

    Returns:
        By problem: −log p that Adam ends with by epochs, seconds of both to get there, ratios; costs of a gradient and
        of a product with the curvature in forward passes.
    """
    import stemjax

    stemjax.setup()
    scenes = {"ptychography": ptychography, "drift": drift}
    return {
        "problems": {name: race(*make(), EPOCHS[name], repeats) for name, make in scenes.items()},
        "target": "at most half of Adam's time to Adam's final error",
    }


def race(problem: Any, rates: Mapping[str, float], epochs: tuple[int, ...], repeats: int) -> dict:
    """Both solvers from the same first guess."""
    adam = Adam(problem, rates)
    adam(1.0, 1)  # compiles
    tried = {count: {factor: adam(factor, count)[0] for factor in FACTORS} for count in epochs}
    best = {count: min(losses, key=losses.__getitem__) for count, losses in tried.items()}
    descent(problem, 2)
    rounds = [{"adam": {n: adam(best[n], n) for n in epochs}, "walk": descent(problem, 200)} for _ in range(repeats)]
    return {
        "unknowns": adam.unknowns,
        "costs": costs(problem, repeats),
        "adam_losses": {str(n): {str(f): round(loss, 2) for f, loss in found.items()} for n, found in tried.items()},
        "least_squares": ends(rounds),
        "to_the_same_misfit": {str(n): compared(rounds, n) | {"factor": best[n]} for n in epochs},
    }


def ends(rounds: list[dict]) -> dict:
    """Where Levenberg-Marquardt comes to rest."""
    last = [(walk["seconds"][-1], walk["losses"][-1]) for walk in (r["walk"] for r in rounds)]
    return {
        "loss": round(statistics.median(loss for _, loss in last), 2),
        "seconds": round(statistics.median(s for s, _ in last), 2),
        "steps": len(rounds[0]["walk"]["losses"]),
        "products": rounds[0]["walk"]["products"],
        "status": rounds[0]["walk"]["status"],
    }


def compared(rounds: list[dict], epochs: int) -> dict:
    """Seconds of both to the misfit of one schedule, medians and every round; None where it was not reached."""
    ratios, seconds = [], []
    for found in rounds:
        loss, spent = found["adam"][epochs]
        walk = found["walk"]
        there = [s for s, value in zip(walk["seconds"], walk["losses"], strict=True) if value <= loss]
        seconds.append(spent)
        ratios.append(there[0] / spent if there else float("inf"))
    reached = statistics.median(ratios) < float("inf")
    return {
        "adam_loss": round(rounds[0]["adam"][epochs][0], 2),
        "adam_seconds": round(statistics.median(seconds), 2),
        "ratio": round(statistics.median(ratios), 3) if reached else None,
        "ratios": [round(r, 3) if r < float("inf") else None for r in ratios],
    }


class Adam:
    """Adam on a problem: `(factor, epochs) -> (−log p at the end, seconds)`."""

    def __init__(self, problem: Any, rates: Mapping[str, float]) -> None:
        import jax

        from stemjax.inference import problem as statement
        from stemjax.inference.solvers.least_squares import spread

        self.problem, self.rates, self.statement = problem, rates, statement
        self.spread, self.objective = spread(problem), jax.jit(statement.objective)
        self.unknowns = sum(v.size for v in statement.start(problem).values())

    def __call__(self, factor: float, epochs: int) -> tuple[float, float]:
        """One run."""
        from stemjax.core.executor import plan
        from stemjax.inference.solvers.optimise import Plan, optimise
        from stemjax.problems.ptychography.solve import falling

        rates: dict[str, Callable[[int], float] | float] = {
            leaf: falling(rate * factor, 0, epochs) for leaf, rate in self.rates.items()
        }
        execution = getattr(self.problem.forward, "execution", plan(devices=1))
        begin = time.perf_counter()
        found = optimise(self.problem, Plan(rates, batch=32, execution=execution), epochs)
        seconds = time.perf_counter() - begin
        z = self.statement.start(self.problem.replace(experiment=found.value))
        return float(self.objective(self.spread, z)), seconds


def descent(problem: Any, iterations: int) -> dict:
    """Levenberg-Marquardt: −log p and seconds by step."""
    from stemjax.inference.solvers.least_squares import least_squares

    seconds: list[float] = []
    begin = time.perf_counter()
    found = least_squares(
        problem, dense=False, iterations=iterations, report=lambda *_: seconds.append(time.perf_counter() - begin)
    )
    return {
        "seconds": seconds,
        "losses": found.history["loss"][1:].tolist(),
        "products": int(found.history["products"].sum()),
        "status": found.status,
    }


def costs(problem: Any, repeats: int) -> dict:
    """Value with gradient, and a product with the curvature, in times of the value alone; medians of paired rounds."""
    import jax

    from stemjax.inference import problem as statement
    from stemjax.inference.curvature import posterior_curvature
    from stemjax.inference.solvers.least_squares import spread

    problem = spread(problem)
    z = jax.jit(statement.start)(problem)
    value = jax.jit(statement.objective)
    functions = {
        "value": lambda: value(problem, z),
        "gradient": given(lambda p, z: jax.value_and_grad(lambda z: statement.objective(p, z))(z), problem, z),
        "product": given(lambda p, z: posterior_curvature(p, z)(z), problem, z),
    }
    rounds = []
    for number in range(3 * repeats + 1):
        taken = {name: timed(function) for name, function in functions.items()}
        if number:  # the first compiles
            rounds.append(taken)
    return {
        "forward_seconds": round(statistics.median(r["value"] for r in rounds), 4),
        "gradient_over_forward": round(statistics.median(r["gradient"] / r["value"] for r in rounds), 2),
        "product_over_forward": round(statistics.median(r["product"] / r["value"] for r in rounds), 2),
    }


def given(function: Callable, problem: Any, z: Any) -> Callable[[], Any]:
    """A compiled function of a problem and a place, its arguments given."""
    import jax

    compiled = jax.jit(function)
    return lambda: compiled(problem, z)


def timed(function: Callable[[], Any]) -> float:
    """Seconds of one call."""
    import jax

    begin = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - begin


def ptychography() -> tuple[Any, dict[str, float]]:
    """A phase of bumps, 32 × 32 patterns of 64 × 64 pixels and 1e5 electrons, wrong aberrations and positions."""
    import numpy as np

    import stemjax as sj
    from stemjax.problems.ptychography.solve import natural_rate

    random, side, step = np.random.default_rng(0), 32, 2.0
    window = sj.make_grid(64, 0.35)
    wide = sj.make_grid(256, 0.35)
    lens = {"energy": 80e3, "semiangle": 21.4}
    aberrations = sj.make_aberrations(C10=-120.0, C12a=10.0, C21a=300.0, C30=2e4)
    y, x = wide.coordinates()
    phase = np.zeros(wide.shape)
    for place in random.uniform(0.0, wide.extent[0], (1500, 2)):
        phase += 0.7 * np.exp(-((y - place[0]) ** 2 + (x - place[1]) ** 2) / (2 * 0.45**2))
    first = 0.5 * wide.extent[0] - 0.5 * step * (side - 1)
    scan = sj.make_raster((side, side), step, origin=(first, first))
    places = np.asarray(scan.positions) + random.normal(0.0, 0.3, scan.positions.shape)
    moved = scan.replace(positions=places.astype(scan.positions.dtype))
    simulator = sj.Diffraction(limit=None, execution=sj.plan())
    truth = sj.make_experiment(
        sj.make_probe(window, **lens, aberrations=aberrations), sj.make_object(wide, phase=phase[None]), moved, dose=1e5
    )
    counts = random.poisson(np.asarray(simulator(truth))).astype(np.float32)
    blank = sj.make_object(wide, phase=np.zeros_like(phase)[None])
    guess = sj.make_experiment(
        sj.make_probe(window, **lens, aberrations=sj.make_aberrations(C10=-150.0)), blank, scan, dose=1e5
    )
    problem = sj.make_problem(
        guess, sj.Measurement(counts), forward=simulator, noise=sj.Poisson(),
        free=["specimen.phase", "probe.aberrations.C1*", "probe.aberrations.C21*", "probe.aberrations.C30",
              "scan.positions"],
        priors={
            "specimen.phase": sj.Ridge(1.0), "scan.positions": sj.Ridge(0.3, np.asarray(scan.positions)),
            # Under a blank object no pattern shows an aberration: without priors nothing says how far a step may go.
            "probe.aberrations.C10": sj.Normal(-150.0, 50.0), "probe.aberrations.C30": sj.Normal(0.0, 2e4),
            "probe.aberrations.C12a": sj.Normal(0.0, 20.0), "probe.aberrations.C12b": sj.Normal(0.0, 20.0),
            "probe.aberrations.C21a": sj.Normal(0.0, 500.0), "probe.aberrations.C21b": sj.Normal(0.0, 500.0),
        },
    )  # fmt: skip
    return problem, {leaf: natural_rate(leaf, guess) for leaf in problem.free}


def drift() -> tuple[Any, dict[str, float]]:
    """Two hundred columns under a wandering scan of 160 lines, heights, widths and drift unknown."""
    import numpy as np

    import stemjax as sj
    from stemjax.problems.drift import DriftSpreads, make_drift_problem

    random, side, step = np.random.default_rng(1), 160, 0.25
    scan = sj.make_raster((side, side), step, dwell=1e-5, flyback=1e-4)
    sites = np.stack(np.meshgrid(*(np.arange(1.8, side * step - 1.5, 2.8),) * 2, indexing="ij"), -1).reshape(-1, 2)
    sites = sites + random.normal(0.0, 0.05, sites.shape)
    heights = 60.0 * np.exp(0.2 * random.normal(size=len(sites)))
    knots = np.asarray(scan.times)[::side]
    walk = np.cumsum(random.normal(0.0, 0.03, (side, 2)), axis=0)
    drifted = sj.with_walk(scan, walk - walk[0], knots)
    truth = sj.ColumnScene(sj.make_columns(sites, amplitude=heights, width=0.5, background=5.0), drifted)
    image = random.poisson(np.asarray(sj.ColumnImage()(truth))).astype(float).reshape(side, side)
    guess = sites + random.normal(0.0, 0.1, sites.shape)
    wander = 0.03 / float(np.sqrt(knots[1] - knots[0]))
    problem = make_drift_problem(image, scan, guess, spreads=DriftSpreads(walk=wander))
    own = {"columns.positions": 0.02, "columns.amplitude": 0.03, "columns.width": 0.02, "columns.background": 0.03}
    return problem, own | {"scan.walk": 0.02}
