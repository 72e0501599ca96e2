"""Detectors from response to counts: segments, moments, iCoM, a measured response, a camera.

Claim: the integrated centre of mass of a thin specimen is its phase seen through the probe; sectors add up to their
ring; a measured, uneven detector changes a HAADF image by per cents; a camera's counts fall where its own score says.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import jax
import matplotlib

matplotlib.use("Agg")
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import stemjax as sj

ENERGY, SEMIANGLE = 80e3, 25.0  # eV, mrad
POINTS = 32  # of the raster over MoS2, along each axis
PLACES, CONFIGURATIONS = 5, 4  # of the probe over a cell of SrTiO3, along each axis; of its atoms
INNER = 37.0  # mrad


def monolayer() -> sj.Experiment:
    """MoS2 on a raster over the whole cell, one slice, in focus."""
    structure = sj.mos2_monolayer((10.0, 10.0))
    grid = sj.cell_grid(structure, 0.12)
    potential = jax.jit(lambda s: sj.project_potential(s, grid, 1))(structure)
    phase = sj.interaction_parameter(ENERGY) * np.asarray(potential.values)
    probe = sj.make_probe(grid, energy=ENERGY, semiangle=SEMIANGLE)
    step = (grid.extent[0] / POINTS, grid.extent[1] / POINTS)
    specimen = sj.make_object(grid, phase=phase, periodic=True)
    return sj.make_experiment(probe, specimen, sj.make_raster((POINTS, POINTS), step))


def phase_contrast(made: sj.Experiment) -> dict[str, np.ndarray]:
    """CoM, DPC and what is integrated from them, with the phase seen through the probe as truth."""
    grid = made.probe.grid
    forward = sj.Diffraction(limit=None, execution=sj.plan())
    patterns = jax.jit(lambda e: forward(e))(made)
    quadrants = sj.make_quadrant_detector(0.0, 60.0)
    moments = jnp.einsum("cyx,nyx->cn", sj.make_moment_detector().response(grid, ENERGY), patterns)
    signals = jnp.einsum("cyx,nyx->cn", quadrants.response(grid, ENERGY), patterns)
    shape, step = (POINTS, POINTS), (grid.extent[0] / POINTS, grid.extent[1] / POINTS)
    com = sj.deflection(moments, patterns.sum(axis=(1, 2))).reshape(2, *shape)
    dpc = sj.segment_deflection(signals, quadrants, SEMIANGLE).reshape(2, *shape)
    intensity = np.abs(np.fft.ifft2(np.asarray(sj.probe_waves(made.probe))[0], norm="ortho")) ** 2
    phase = np.fft.fft2(np.asarray(made.specimen.phase)[0])
    seen = np.fft.ifft2(phase * np.conj(np.fft.fft2(intensity))).real
    position = np.asarray(made.scan.positions)
    ky, kx = grid.frequencies()
    ramp = np.exp(2j * np.pi * (position[:, 0, None, None] * ky + position[:, 1, None, None] * kx))
    truth = np.einsum("nyx,yx->n", ramp, np.fft.fft2(seen)).real.reshape(shape) / seen.size
    return {
        "com": np.asarray(com),
        "dpc": np.asarray(dpc),
        "icom": np.asarray(sj.integrated_phase_periodic(com, step, ENERGY)),
        "truth": truth - truth.mean(),
        "charge": np.asarray(sj.charge_density(com, step, ENERGY, periodic=True)),
        "pattern": np.asarray(patterns[POINTS // 2]),
    }


def detector_image() -> tuple[np.ndarray, str]:
    """The measured detector of the data folder, or one drawn here: uneven, with a shadow beside its hole."""
    folder = Path(os.environ.get("STEMJAX_DATA", "../shared/data"))
    path = folder / "detector-adf" / "example_detector_image.hspy"
    if path.is_file():
        return sj.read_detector_image(path), "measured"
    y, x = np.mgrid[-200:201, -200:201]
    ring = (np.hypot(y, x) > 26) & (np.hypot(y, x) < 160)
    shadow = 0.6 * np.exp(-((x - 40) ** 2) / 600 - y**2 / 300)
    return 1200 + 48000 * ring * (1 + 0.1 * x / 160 - shadow), "synthetic"


def crystal(seed: int) -> sj.Experiment:
    """SrTiO3, 59 Å, atoms displaced by heat, a probe on some places of a cell."""
    structure = sj.slab("SrTiO3", thickness=58.0, width=(7.8, 7.8))
    shaken = structure.positions + 0.08 * np.random.default_rng(seed).normal(size=structure.positions.shape)
    structure = structure.replace(positions=shaken)
    grid = sj.cell_grid(structure, 0.033)
    depth, slices = float(structure.cell[0]), round(float(structure.cell[0]) / 1.95)
    potential = jax.jit(lambda s: sj.project_potential(s, grid, slices))(structure)
    probe = sj.make_probe(grid, energy=200e3, semiangle=20.0)
    specimen = sj.make_potential_object(potential.values, depth / slices, grid)
    return sj.make_experiment(probe, specimen, sj.make_raster((PLACES, PLACES), 3.905 / PLACES))


def uneven(image: np.ndarray) -> tuple[dict[str, np.ndarray], sj.Grid]:
    """HAADF with the measured and with an even response of the same shape, and the grid of the response."""
    made = crystal(0)
    active = sj.active_area(image)
    scale = INNER / sj.ring_geometry(active).inner
    detectors = {
        "measured": sj.make_response_map(image, scale, samples=2),
        "even": sj.make_measured_detector(active, scale, samples=2),
    }
    sj.check_detectors(detectors, made.probe.grid, made.probe.energy)
    run = sj.ScannedImage(sj.Diffraction(execution=sj.plan()))
    image_of = jax.jit(lambda e: run(e))
    seen = [image_of(crystal(seed).replace(detectors=detectors)) for seed in range(CONFIGURATIONS)]
    found = {name: np.mean([np.asarray(one[name]) for one in seen], axis=0) for name in detectors}
    response = detectors["measured"].response(made.probe.grid, made.probe.energy)
    images = {name: value.reshape(PLACES, PLACES) for name, value in found.items()}
    return images | {"response": np.asarray(response)}, made.probe.grid


def recorded(pattern: np.ndarray) -> dict[str, np.ndarray]:
    """A pattern through a camera: expected, collected, one sample; and many counts of one mean against the score."""
    camera = sj.make_camera(
        gain=10.0, dark=50.0, readout=2.5, blur=sj.make_point_spread(0.7, tail=0.05, tail_rms=6.0), saturation=130.0
    )
    collected = camera.collect(600.0 * jnp.asarray(pattern))
    counts = camera.sample(jax.random.key(0), collected)
    draws = camera.sample(jax.random.key(1), jnp.full(100_000, 2.5))
    levels = jnp.arange(30.0, 131.0)
    chance = jnp.exp(jax.jit(camera.log_prob)(levels, jnp.full(levels.shape, 2.5)))
    seen = np.array([(np.asarray(draws) == c).sum() for c in np.asarray(levels)])
    expected = 1e5 * np.asarray(chance)
    common = expected > 10
    square = ((seen - expected)[common] ** 2 / expected[common]).sum()
    return {
        "collected": np.asarray(collected),
        "counts": np.asarray(counts),
        "levels": np.asarray(levels),
        "seen": seen,
        "expected": expected,
        "chi2": np.array([square, common.sum()]),
    }


def show(figure: plt.Figure, axis: plt.Axes, image: np.ndarray, side: tuple, title: str, **options) -> None:
    """An image of half sides (angles, about the middle) or sides (lengths, from the corner) y, x, with a bar."""
    label, unit, centre = options.pop("label"), options.pop("unit"), options.pop("centre")
    low = (-side[0], -side[1]) if centre else (0.0, 0.0)
    drawn = axis.imshow(image, extent=(low[1], side[1], side[0], low[0]), **options)
    axis.set_title(title, fontsize=9)
    axis.set_xlabel(f"x [{unit}]", fontsize=8)
    axis.set_ylabel(f"y [{unit}]", fontsize=8)
    axis.tick_params(labelsize=7)
    bar = figure.colorbar(drawn, ax=axis, shrink=0.8)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)


def cut(pattern: np.ndarray, grid: sj.Grid, energy: float, reach: float) -> tuple[np.ndarray, tuple[float, float]]:
    """The middle of a pattern with zero frequency in the corner, and half its sides (y, x) [mrad]."""
    step = grid.angular_sampling(sj.wavelength(energy))
    half = [min(int(reach / s), n // 2 - 1) for s, n in zip(step, grid.shape, strict=True)]
    rows, columns = (slice(n // 2 - h, n // 2 + h + 1) for n, h in zip(grid.shape, half, strict=True))
    return sj.centred(pattern)[rows, columns], ((half[0] + 0.5) * step[0], (half[1] + 0.5) * step[1])


def draw(path: str, made: sj.Experiment, thin: dict, thick: sj.Grid, haadf: dict, camera: dict, kind: str) -> None:
    """Three rows: responses, phase contrast, and what real detectors do."""
    grid, side = made.probe.grid, made.probe.grid.extent
    figure, axes = plt.subplots(3, 4, figsize=(15, 10.5), constrained_layout=True)
    angles = {"unit": "mrad", "centre": True}
    lengths = {"unit": "Å", "centre": False}
    ring = sj.make_annular_detector(40.0, 80.0, soft=True).response(grid, ENERGY)
    segments = sj.make_segmented_detector([0.0, 20.0, 40.0, 60.0], (1, 4, 8), rotation=15.0).response(grid, ENERGY)
    names = jnp.einsum("cyx,c->yx", segments, jnp.arange(1.0, len(segments) + 1))
    view, half = cut(np.asarray(ring), grid, ENERGY, 100.0)
    show(figure, axes[0, 0], view, half, "annular, 40 to 80 mrad", label="weight", cmap="gray", **angles)
    view, half = cut(np.where(np.asarray(names) > 0, names, np.nan), grid, ENERGY, 70.0)
    title = "segmented: 1 + 4 + 8, turned by 15°"
    show(figure, axes[0, 1], view, half, title, label="channel + 1", cmap="tab20", **angles)
    moment = sj.make_moment_detector(60.0).response(grid, ENERGY)[1]
    view, half = cut(np.asarray(moment), grid, ENERGY, 70.0)
    show(figure, axes[0, 2], view, half, "first moment along x", label="weight [mrad]", cmap="RdBu_r", **angles)
    view, half = cut(haadf["response"], thick, 200e3, 255.0)
    show(figure, axes[0, 3], view, half, f"{kind} ADF response", label="sensitivity", cmap="viridis", **angles)

    top = np.abs(thin["com"]).max()
    bounds = {"vmin": -top, "vmax": top, "cmap": "RdBu_r", **lengths}
    show(figure, axes[1, 0], thin["com"][1], side, "MoS$_2$: centre of mass along x", label="mrad", **bounds)
    show(figure, axes[1, 1], thin["dpc"][1], side, "quadrant DPC along x", label="mrad", **bounds)
    show(figure, axes[1, 2], thin["icom"], side, "iCoM", label="phase [rad]", cmap="gray", **lengths)
    top = np.abs(thin["charge"]).max()
    show(figure, axes[1, 3], thin["charge"], side, "charge, seen through the probe", label="e/Å²", cmap="PuOr_r",
         vmin=-top, vmax=top, **lengths)  # fmt: skip

    change = 100 * (haadf["measured"] / haadf["even"] - 1)
    title = f"SrTiO$_3$: change by the {kind} response"
    show(figure, axes[2, 0], change, (3.905, 3.905), title, label="%", cmap="magma", **lengths)
    for axis, name, label in ((axes[2, 1], "collected", "electrons"), (axes[2, 2], "counts", "counts")):
        view, half = cut(camera[name], grid, ENERGY, 60.0)
        title = {"collected": "camera: expected, spread out", "counts": "camera: one sample"}[name]
        show(figure, axis, view, half, title, label=label, cmap="magma", **angles)
    axis = axes[2, 3]
    axis.bar(camera["levels"], camera["seen"], width=1.0, color="0.7", label="sampled")
    axis.plot(camera["levels"], camera["expected"], color="C3", lw=1.2, label="scored")
    axis.set_yscale("log")
    axis.set_ylim(0.5, None)
    axis.set_xlabel("count (10 per electron, 50 dark, full at 130)", fontsize=8)
    axis.set_ylabel("pixels of 100,000", fontsize=8)
    axis.set_title("camera: counts of 2.5 electrons", fontsize=9)
    axis.tick_params(labelsize=7)
    axis.legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", default="detectors.png")
    arguments = parser.parse_args()
    sj.setup()
    start = time.perf_counter()
    print(__doc__)
    made = monolayer()
    thin = phase_contrast(made)
    error = np.abs(thin["icom"] - thin["truth"]).max() / np.ptp(thin["truth"])
    print(f"iCoM against the phase seen through the probe: largest difference {100 * error:.4f} % of its range")
    slope = (thin["dpc"] * thin["com"]).sum() / (thin["com"] ** 2).sum()
    print(f"quadrant DPC against the centre of mass on MoS2: slope {slope:.2f}, "
          f"correlation {np.corrcoef(thin['dpc'].ravel(), thin['com'].ravel())[0, 1]:.3f}")  # fmt: skip
    grid = made.probe.grid
    sectors = sj.make_segmented_detector([10.0, 60.0], 6, rotation=11.0, soft=True).response(grid, ENERGY).sum(axis=0)
    ring = sj.annular_response(sj.make_annular_detector(10.0, 60.0, soft=True), grid, ENERGY)
    print(f"six soft sectors against their ring: largest difference {float(jnp.abs(sectors - ring).max()):.1e}")
    image, kind = detector_image()
    levels = sj.detector_levels(image)
    dark, active = (f"{float(a):.0f} ± {float(b):.1f}" for a, b in (
        (levels.dark, levels.dark_error), (levels.active, levels.active_error)))  # fmt: skip
    print(f"{kind} detector: dark {dark}, active {active} counts, uneven by {100 * float(levels.spread):.1f} %")
    haadf, thick = uneven(image)
    change = 100 * (haadf["measured"] / haadf["even"] - 1)
    print(
        f"it changes a HAADF image of SrTiO3 by {change.mean():+.1f} % ({change.min():+.1f} to {change.max():+.1f} %)"
    )
    camera = recorded(thin["pattern"])
    square, bins = camera["chi2"]
    print(f"camera: chi-square of 100,000 counts against the score {square:.0f} for {bins:.0f} bins")
    draw(arguments.output, made, thin, thick, haadf, camera, kind)
    print(f"{time.perf_counter() - start:.1f} s; figure in {arguments.output}")


if __name__ == "__main__":
    main()
