"""One problem, five solvers: Adam, Levenberg-Marquardt, Laplace, variational inference, NUTS.

Claim: a problem is stated once, and every solver takes the statement as it is. Two columns 1.2 Å apart in a pair of
frames at 0 and 90 degrees, with an unknown drift: ten unknowns in five leaves. Both optimisers end at the same place,
the three posteriors have the same means and widths, and the truth lies within a few of those widths.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import stemjax as sj

SIDE, STEP = 26, 0.2  # pixels, Å
DWELL, FLYBACK, PAUSE = 1e-4, 5e-4, 5e-3  # s
DRIFT = (1.5, -2.5)  # Å/s
ELECTRONS = 4e3  # a column in each frame
WIDTH, BACKGROUND = 0.4, 4.0  # Å, electrons a pixel
SITES = np.array([[2.45, 1.9], [2.6, 3.1]])  # Å
FREE = ("columns.positions", "columns.amplitude", "columns.width", "columns.background", "scan.velocity")

SAME_MODE = 0.05
"""Adam and LM differ by less than this share of a standard deviation."""

SAME_MEAN = 0.2
"""Means of the posteriors differ from the mode by less; 0.05 of it is chance where 400 draws are effective."""

SAME_WIDTH = (0.85, 1.15)
"""Standard deviations of the posteriors over those of Laplace."""

WITHIN = 4.0
"""The truth lies within so many standard deviations of every estimate."""


def truth(pair: sj.Scan) -> sj.ColumnScene:
    """The columns and the drifting scan."""
    peak = ELECTRONS * STEP**2 / (2 * np.pi * WIDTH**2)
    columns = sj.make_columns(SITES, amplitude=np.array([peak, 0.6 * peak]), width=WIDTH, background=BACKGROUND)
    return sj.ColumnScene(columns, sj.with_drift(pair, DRIFT))


def falling(rate: float, epochs: int) -> Callable[[int], float]:
    """A rate that falls to nothing as half a cosine."""
    return lambda epoch: 0.5 * rate * (1.0 + np.cos(np.pi * min(epoch / epochs, 1.0)))


def adam(problem: sj.Problem, epochs: int = 600) -> sj.Result:
    """First-order descent; rates are in the unit of each unconstrained leaf."""
    return sj.optimise(problem, sj.Plan({"columns": falling(0.03, epochs), "scan": falling(0.3, epochs)}), epochs)


SOLVERS: dict[str, Callable[[sj.Problem], sj.Result]] = {
    "Adam": adam,
    "LM": sj.least_squares,
    "Laplace": sj.laplace,
    "SVI": lambda problem: sj.variational(problem, rank=10),
    "NUTS": sj.sample,
}


def flat(named: dict) -> np.ndarray:
    """All unknowns of a result as one vector."""
    return np.concatenate([np.ravel(np.asarray(named[path].value)) for path in FREE])


def labels(problem: sj.Problem) -> list[str]:
    """What each unknown is called."""
    known = sj.select(problem.experiment, FREE)
    names = {"columns.positions": ["y₁", "x₁", "y₂", "x₂"], "scan.velocity": ["v_y", "v_x"]}
    short = {"columns.amplitude": "height", "columns.width": "width", "columns.background": "background"}
    found = []
    for path, value in known.items():
        count = int(np.size(value))
        found += names.get(path) or [short[path] + ("₁₂"[i] if count > 1 else "") for i in range(count)]
    return found


def show_images(figure: plt.Figure, axes: list, images: np.ndarray, model: np.ndarray) -> None:
    """Both frames, and what is left of the first."""
    extent = (0, SIDE * STEP, SIDE * STEP, 0)
    panels = {
        "frame at 0°": images[0],
        "frame at 90° (its rows run along y)": images[1],
        "residual of the first": (images[0] - model[0]) / np.sqrt(model[0]),
    }
    for axis, (title, values) in zip(axes, panels.items(), strict=True):
        drawn = axis.imshow(values, extent=extent, cmap="gray")
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("fast axis [Å]", fontsize=8)
        axis.set_ylabel("slow axis [Å]", fontsize=8)
        axis.tick_params(labelsize=7)
        bar = figure.colorbar(drawn, ax=axis, fraction=0.046, pad=0.03)
        bar.ax.tick_params(labelsize=6)
        bar.set_label("σ" if "residual" in title else "electrons", fontsize=7)


def show_estimates(axis: plt.Axes, names: list[str], found: dict[str, tuple], true: np.ndarray) -> None:
    """Every estimate against the truth, in standard deviations of Laplace."""
    unit, places = found["Laplace"][1], np.arange(len(names))
    for number, (solver, (value, spread)) in enumerate(found.items()):
        bars = None if spread is None else spread / unit
        at = places + 0.13 * (number - 2)
        axis.errorbar(at, (value - true) / unit, yerr=bars, fmt="o", markersize=4, capsize=2, label=solver)
    axis.axhline(0.0, color="0.4", linewidth=0.8)
    axis.set_xticks(places, names)
    axis.set_ylabel("estimate − truth [σ of Laplace]")
    axis.legend(fontsize=8, ncols=5, loc="upper center")
    axis.set_ylim(-WITHIN, WITHIN)


def table(names: list[str], found: dict[str, tuple], true: np.ndarray) -> None:
    """Print estimates and standard deviations of all unknowns."""
    print(f"{'':12}{'truth':>10}" + "".join(f"{solver:>20}" for solver in found))
    for i, name in enumerate(names):
        cells = (f"{v[i]:.4f}" + ("" if s is None else f" ± {s[i]:.4f}") for v, s in found.values())
        print(f"{name:12}{true[i]:10.4f}" + "".join(f"{cell:>20}" for cell in cells))


def check(found: dict[str, tuple], true: np.ndarray) -> None:
    """Assert that all agree with each other and with the truth."""
    mode, unit = found["Laplace"]
    apart = np.abs(found["Adam"][0] - found["LM"][0]) / unit
    assert apart.max() < SAME_MODE, f"Adam and LM differ by {apart.max():.3f} σ"
    for solver, (value, spread) in found.items():
        off = np.abs(value - mode) / unit
        assert off.max() < SAME_MEAN, f"{solver} and Laplace differ by {off.max():.3f} σ"
        assert np.max(np.abs(value - true) / unit) < WITHIN, f"{solver} is off the truth"
        if spread is not None:
            ratio = spread / unit
            same = (SAME_WIDTH[0] < ratio) & (ratio < SAME_WIDTH[1])
            assert same.all(), f"{solver}: widths over those of Laplace {ratio.round(3)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", default="five_ways.png")
    arguments = parser.parse_args()
    sj.setup()
    print(__doc__)

    pair = sj.make_pair(
        lambda angle: sj.make_raster((SIDE, SIDE), STEP, rotation=angle, dwell=DWELL, flyback=FLYBACK), pause=PAUSE
    )
    scene = truth(pair)
    expected = np.asarray(sj.ColumnImage()(scene))
    images = np.random.default_rng(1).poisson(expected).astype(float).reshape(pair.shape)
    problem = sj.make_drift_problem(images, pair, SITES + np.array([[0.1, -0.1], [-0.1, 0.05]]), free=FREE)

    found, seconds = {}, {}
    for name, solver in SOLVERS.items():
        start = time.perf_counter()
        result = solver(problem)
        seconds[name] = time.perf_counter() - start
        assert result.success, f"{name}: {result.status}"
        found[name] = flat(result.estimate), flat(result.uncertainty) if result.uncertainty else None
        print(f"{name:8} {seconds[name]:6.1f} s with compilation: {result.status}")

    names = labels(problem)
    true = np.concatenate([np.ravel(value) for value in sj.select(scene, FREE).values()])
    table(names, found, true)
    figure = plt.figure(figsize=(11, 7.5), constrained_layout=True)
    grid = figure.add_gridspec(2, 3)
    model = np.asarray(sj.ColumnImage()(result.value)).reshape(pair.shape)
    show_images(figure, [figure.add_subplot(grid[0, i]) for i in range(3)], images, model)
    show_estimates(figure.add_subplot(grid[1, :]), names, found, true)
    figure.savefig(arguments.output, dpi=130)
    check(found, true)
    print(f"all agree; figure in {arguments.output}")


if __name__ == "__main__":
    main()
