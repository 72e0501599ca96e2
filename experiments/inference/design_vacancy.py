"""Is a sulphur atom missing? The detector, the aperture and the defocus that tell it best, at the same dose.

Claim: for the occupancy of one of the two atoms of a sulphur column in MoS2 at 80 kV and 1e4 electrons/Å², its place
and the beam current unknown too, settings chosen by ascent on the information halve the error bar of a HAADF image in
focus. What the bounds promise, maximum-likelihood fits of simulated images keep.
"""

from __future__ import annotations

import argparse
import time
from typing import Annotated

import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from flax import struct

import stemjax as sj

SIDE, STEP = 8, 0.35  # pixels, Å
DOSE = 1e4  # electrons/Å²
HAADF, APERTURE = (60.0, 120.0), 30.0  # mrad
OVER = {
    "microscope.detectors.ADF.inner": (5.0, 90.0),
    "microscope.detectors.ADF.outer": (20.0, 125.0),
    "microscope.probe.aberrations.C10": (-150.0, 150.0),
    "microscope.probe.semiangle": (20.0, 35.0),
}


class Scene(struct.PyTreeNode):
    """One sulphur column under a microscope: how much of its lower atom is there, and where the column stands."""

    microscope: sj.Experiment
    sulphur: jax.Array
    place: Annotated[jax.Array, "Å"]


class SulphurImage:
    """The image of a scene."""

    def __init__(self, column: np.ndarray) -> None:
        self.column, self.image = column, sj.ScannedImage()

    def __call__(self, scene: Scene, index: jax.Array | None = None) -> jax.Array:
        """Expected electrons of every pixel."""
        specimen = scene.microscope.specimen
        atoms = specimen.structure
        both = jnp.broadcast_to(scene.place[None], (len(self.column), 2))
        atoms = atoms.replace(
            positions=atoms.positions.at[self.column, 1:].set(both),
            occupancy=atoms.occupancy.at[self.column[-1]].set(scene.sulphur),
        )
        microscope = scene.microscope.replace(specimen=specimen.replace(structure=atoms))
        return self.image(microscope, index)["ADF"]


def make_scene() -> tuple[Scene, SulphurImage]:
    """A complete column in the middle of a layer, in focus, with a HAADF detector."""
    layer = sj.mos2_monolayer((9.0, 9.0))
    positions, numbers = np.asarray(layer.positions), np.asarray(layer.numbers)
    away = np.linalg.norm(positions[:, 1:] - np.asarray(layer.cell)[1:] / 2, axis=1)
    nearest = np.argmin(np.where(numbers == 16, away, np.inf))
    column = np.flatnonzero(np.abs(positions[:, 1:] - positions[nearest, 1:]).max(axis=1) < 1e-3)
    place = positions[nearest, 1:]
    specimen = sj.make_atomic_specimen(layer, 0.11, 1)
    probe = sj.make_probe(specimen.grid, energy=80e3, semiangle=APERTURE)
    scan = sj.make_raster((SIDE, SIDE), STEP, origin=tuple(place - STEP * (SIDE - 1) / 2))
    detectors = {"ADF": sj.make_annular_detector(*HAADF, soft=True)}
    microscope = sj.make_experiment(probe, specimen, scan, dose=DOSE * STEP**2, detectors=detectors)
    return Scene(microscope, jnp.asarray(1.0), jnp.asarray(place)), SulphurImage(column)


def state(scene: Scene, image: SulphurImage) -> sj.Problem:
    """What is unknown: the occupancy, the place of the column, and the dose, known to a factor of e."""
    dose = float(scene.microscope.dose)
    return sj.make_problem(
        scene,
        sj.Measurement(np.asarray(image(scene))),
        forward=image,
        noise=sj.Poisson(1e-6),
        free=["sulphur", "place", "microscope.dose"],
        priors={"microscope.dose": sj.LogNormal(np.log(dose), 1.0)},
    )


def fitted(problem: sj.Problem, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Occupancies found in simulated images [draw], and one of the images."""
    mean, random = np.asarray(problem.forward(problem.experiment)), np.random.default_rng(seed)
    counts = random.poisson(mean, size=(draws, len(mean))).astype(float)
    found = [sj.least_squares(problem.replace(measurement=sj.Measurement(image))) for image in counts]
    return np.array([float(one.estimate["sulphur"].value) for one in found]), counts[0]


def show_image(axis: plt.Axes, counts: np.ndarray, title: str) -> None:
    """A noisy image."""
    side = SIDE * STEP
    shown = axis.imshow(counts.reshape(SIDE, SIDE), extent=(0, side, side, 0), cmap="gray", interpolation="nearest")
    axis.figure.colorbar(shown, ax=axis, label="electrons")
    axis.set_title(title, fontsize=9)
    axis.set_xlabel("x [Å]")
    axis.set_ylabel("y [Å]")


def show_fits(axis: plt.Axes, found: dict[str, np.ndarray], bounds: dict[str, float]) -> None:
    """Histograms of the occupancies, and the normal laws that the bounds promise."""
    places = np.linspace(0.5, 1.5, 400)
    for colour, (name, values) in zip(("tab:blue", "tab:orange"), found.items(), strict=True):
        axis.hist(values, bins=np.linspace(0.5, 1.5, 31), density=True, alpha=0.5, color=colour, label=f"fits, {name}")
        law = np.exp(-0.5 * ((places - 1.0) / bounds[name]) ** 2) / (np.sqrt(2 * np.pi) * bounds[name])
        axis.plot(places, law, color=colour, label="bound")
    axis.set_xlabel("occupancy of the lower sulphur atom")
    axis.legend(fontsize=7)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", default="design_vacancy.png")
    parser.add_argument("--draws", type=int, default=200)
    arguments = parser.parse_args()
    sj.setup(double=True)
    start = time.perf_counter()
    print(__doc__)

    scene, image = make_scene()
    problem = state(scene, image)
    found = sj.design(problem, over=OVER, about="sulphur", starts=24)
    print(found)
    print(found.after)

    results, images, bounds = {}, {}, {}
    for seed, (name, stated, known) in enumerate(
        (("HAADF in focus", problem, found.before), ("designed", found.problem, found.after))
    ):
        results[name], images[name] = fitted(stated, arguments.draws, seed)
        bounds[name] = float(known.deviations["sulphur"].value)
        spread, error = results[name].std(ddof=1), 1.0 / np.sqrt(2.0 * arguments.draws)
        print(
            f"{name}: occupancy {results[name].mean():.3f}, standard deviation of {arguments.draws} fits "
            f"{spread:.4f}, bound {bounds[name]:.4f}, ratio {spread / bounds[name]:.3f} ± {error:.3f}"
        )
    first, second = (values.std(ddof=1) for values in results.values())
    print(f"the fits are {first / second:.2f} ± {first / second / np.sqrt(arguments.draws):.2f} times sharper; "
          f"the bounds promise {found.gains['sulphur']:.2f}")  # fmt: skip

    figure, axes = plt.subplots(2, 3, figsize=(13, 7.5), constrained_layout=True)
    for axis, (name, counts) in zip(axes[0], images.items(), strict=False):
        show_image(axis, counts, f"{name}: error bar of the occupancy {bounds[name]:.3f}")
    show_fits(axes[0, 2], results, bounds)
    labels = ("inner angle of the detector [mrad]", "defocus C10 [Å]", "aperture [mrad]")
    paths = [path for path in OVER if not path.endswith("outer")]
    for axis, path, label in zip(axes[1], paths, labels, strict=True):
        axis.plot(*found.curves[path], "k")
        axis.axvline(float(found.best[path].value), color="tab:orange")
        axis.set_xlabel(label)
        axis.set_ylabel("error bar of the occupancy")
        axis.set_yscale("log")
    figure.savefig(arguments.output, dpi=130)
    print(f"{time.perf_counter() - start:.1f} s; figure in {arguments.output}")


if __name__ == "__main__":
    main()
