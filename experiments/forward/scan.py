"""Scan paths in time, and what drift and jitter make of an image; a 0°/90° pair of frames gives the drift back.

Claim: a steady drift v distorts a raster by the matrix 1 + v ⊗ (line time / step, dwell / step), so two frames whose
rows are at right angles tell v without knowing the lattice (Ophus, Ciston, Nelson, Ultramicroscopy 162, 1 (2016)).
"""

from __future__ import annotations

import argparse
import time

import jax
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import stemjax as sj

SIDE, STEP = 128, 0.15  # pixels, Å
DWELL, FLYBACK = 10e-6, 200e-6  # s
DRIFT = (7.0, 11.0)  # Å/s; more than a good stage has, so that the eye sees it
CELL = np.array([[2.4, 0.35], [-0.2, 2.1]])  # lattice vectors (y, x) [Å]


def lattice(positions: np.ndarray) -> np.ndarray:
    """Sum of Gaussians of 0.45 Å on a lattice, at some positions [pattern 2]."""
    places = positions @ np.linalg.inv(CELL)
    near = places - np.round(places)
    shifts = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1], indexing="ij"), -1).reshape(-1, 2)
    away = (near[:, None] - shifts[None]) @ CELL
    return np.exp(-(away**2).sum(axis=-1) / (2 * 0.45**2)).sum(axis=1)


def peak(values: np.ndarray, places: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The wave vector near a first guess at which a Hann-weighted Fourier sum over the places is largest [1/Å]."""
    window = np.hanning(SIDE + 2)[1:-1]
    weighted = (values - values.mean()) * np.outer(window, window).ravel()

    def strength(vectors: np.ndarray) -> np.ndarray:
        return np.abs(np.exp(-2j * np.pi * vectors @ places.T) @ weighted)

    found, width = start, 0.08
    offsets = np.stack(np.meshgrid(*[np.linspace(-1, 1, 7)] * 2, indexing="ij"), -1).reshape(-1, 2)
    for _ in range(17):
        trial = found + width * offsets
        found, width = trial[np.argmax(strength(trial))], 0.5 * width
    return found


def drift_of_pair(pair: sj.Scan, images: np.ndarray, line_time: float) -> np.ndarray:
    """Velocity [Å/s] from the wave vectors in two frames: g' = g + u (v·g), u the same turned in the second frame."""
    nominal = np.asarray(pair.positions).reshape(2, -1, 2)
    slow = np.array([line_time, DWELL]) / STEP
    directions = [slow, np.array([[0.0, 1.0], [-1.0, 0.0]]) @ slow]
    guesses = np.linalg.inv(CELL).T
    found = np.array([[peak(images[n].ravel(), nominal[n], g) for g in guesses] for n in (0, 1)])
    difference = directions[0] - directions[1]
    along = (found[0] - found[1]) @ difference / (difference @ difference)  # v·g of the two waves
    true = found[0] - along[:, None] * directions[0]
    return np.linalg.solve(true, along)


def show_paths(figure: plt.Figure, axes: list) -> None:
    """Six paths, coloured by time."""
    pixels = sj.spaced_pixels((24, 24), 2.2, seed=1)
    paths = {
        "raster with flyback": sj.make_raster((12, 12), 1.0, dwell=DWELL, flyback=5 * DWELL),
        "serpentine": sj.make_serpentine((12, 12), 1.0, rotation=20.0, dwell=DWELL),
        "Hilbert curve": sj.make_hilbert(16, 0.75, dwell=DWELL),
        "spiral at constant speed": sj.make_spiral(300, 6.0, dwell=DWELL),
        "sunflower, constant density": sj.make_sunflower(200, 6.0, dwell=DWELL),
        f"sparse: {len(pixels)} of 576 pixels": sj.make_sparse((24, 24), 0.5, pixels, dwell=DWELL, flyback=5 * DWELL),
    }
    for axis, (name, scan) in zip(axes, paths.items(), strict=True):
        y, x = np.asarray(sj.probe_positions(scan)).T
        if "sunflower" not in name:  # whose path is a star of jumps
            axis.plot(x, y, color="0.75", linewidth=0.6, zorder=1)
        dots = axis.scatter(x, y, c=1e3 * np.asarray(scan.times), s=7, cmap="viridis", zorder=2)
        axis.set_title(name, fontsize=9)
        axis.set_aspect("equal")
        axis.invert_yaxis()
        axis.tick_params(labelsize=7)
        axis.set_xlabel("x [Å]", fontsize=8)
        axis.set_ylabel("y [Å]", fontsize=8)
        bar = figure.colorbar(dots, ax=axis, fraction=0.046, pad=0.03)
        bar.ax.tick_params(labelsize=6)
        bar.set_label("t [ms]", fontsize=7)


def show_image(axis: plt.Axes, image: np.ndarray, title: str) -> None:
    """One image with its sides in Å."""
    side = SIDE * STEP
    axis.imshow(image, extent=(0, side, side, 0), cmap="gray", interpolation="nearest")
    axis.set_title(title, fontsize=9)
    axis.set_xlabel("x [Å]", fontsize=8)
    axis.set_ylabel("y [Å]", fontsize=8)
    axis.tick_params(labelsize=7)


def show_walk(axis: plt.Axes, times: np.ndarray, walk: np.ndarray) -> None:
    """The random walk against time."""
    for column, name in enumerate("yx"):
        axis.plot(times, walk[:, column], label=name)
    axis.set_title("that random walk", fontsize=9)
    axis.set_xlabel("t [ms]", fontsize=8)
    axis.set_ylabel("displacement [Å]", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.legend(fontsize=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", default="scan.png")
    arguments = parser.parse_args()
    sj.setup()
    start = time.perf_counter()
    print(__doc__)

    pair = sj.make_pair(
        lambda angle: sj.make_raster((SIDE, SIDE), STEP, rotation=angle, dwell=DWELL, flyback=FLYBACK), pause=0.01
    )
    frame = sj.make_raster((SIDE, SIDE), STEP, dwell=DWELL, flyback=FLYBACK)
    line_time = SIDE * DWELL + FLYBACK
    knots = np.linspace(0.0, SIDE * line_time, 24)
    drifting = sj.with_drift(pair, DRIFT)
    walking = sj.with_walk(frame, sj.random_walk(jax.random.key(3), knots, 2.0), knots)
    jittering = sj.with_jitter(frame, sj.line_jitter(jax.random.key(4), SIDE, 0.12, 0.3))

    def image(scan: sj.Scan) -> np.ndarray:
        return lattice(np.asarray(sj.probe_positions(scan), float))[sj.image_order(scan)]

    both = image(drifting)
    found = drift_of_pair(pair, both, line_time)
    error = np.linalg.norm(found - DRIFT) / np.linalg.norm(DRIFT)
    matrix = np.asarray(sj.drift_matrix(DRIFT, step=STEP, dwell=DWELL, line_time=line_time))
    print(f"distortion of the frame at 0°:\n{matrix.round(4)}")
    print(f"drift set {DRIFT} Å/s, found from the pair ({found[0]:.3f}, {found[1]:.3f}) Å/s: error {100 * error:.2f} %")

    figure, axes = plt.subplots(3, 4, figsize=(13, 9.4), constrained_layout=True)
    panels = list(axes.ravel())
    show_paths(figure, panels[:6])
    show_image(panels[6], image(frame), "no distortion")
    show_image(panels[7], image(jittering), "jitter of lines, rms 0.12 Å")
    show_image(panels[8], both[0], f"drift ({DRIFT[0]:g}, {DRIFT[1]:g}) Å/s, rows at 0°")
    show_image(panels[9], np.rot90(both[1], -1), "the same drift, rows at 90°, turned back")
    show_image(panels[10], image(walking), "random walk, 2 Å/√s")
    show_walk(panels[11], 1e3 * knots, np.asarray(walking.walk))
    figure.savefig(arguments.output, dpi=130)
    print(f"{time.perf_counter() - start:.1f} s; figure in {arguments.output}")


if __name__ == "__main__":
    main()
