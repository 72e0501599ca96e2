"""Many depths, many foci and fewer beams from one scattering matrix: what each gives, and what interpolation costs.

    python experiments/forward/propagation.py [-o propagation.png]

Three studies with PRISM: SrTiO3 as a tile that repeats, at every depth down to 40 nm; a bismuth atom in silicon, found
by a focal series; and the error of the interpolated method against the exact one.
"""

from __future__ import annotations

import argparse
import time

import jax
import numpy as np

import stemjax as sj

SRTIO3 = ((38, 0.0, 0.0, 0.0), (22, 0.5, 0.5, 0.5), (8, 0.5, 0.5, 0.0), (8, 0.5, 0.0, 0.5), (8, 0.0, 0.5, 0.5))
COLUMNS = {"Sr": (0.0, 0.0), "Ti-O": (0.5, 0.5), "O": (0.0, 0.5)}
A_STO, A_SI = 3.905, 5.431
PACBED_DEPTHS = (5, 20, 40)
FACTORS = (2, 3, 4)
BISMUTH_DEPTHS = (20.0, 40.0, 60.0)


def crystal(sites, cell, repeats, *, shake=0.0, seed=0):
    """Atoms of some cells (z, y, x), a quarter of a layer off the borders of slices, displaced at random."""
    cells = np.stack(np.meshgrid(*(np.arange(n) for n in repeats), indexing="ij"), -1).reshape(-1, 3)
    offset = np.array([0.125, 0.0, 0.0])
    places = (cells[:, None] + np.array([s[1:] for s in sites]) + offset).reshape(-1, 3) * np.asarray(cell)
    places = places + shake * np.random.default_rng(seed).normal(size=places.shape)
    return np.mod(places, np.asarray(cell) * repeats), np.tile([s[0] for s in sites], len(cells))


def specimen(places, numbers, box, pixels, slices):
    """A periodic potential of atoms in a box (z, y, x) [Å]."""
    grid = sj.make_grid((pixels, pixels), (box[1] / pixels, box[2] / pixels))
    potential = sj.project_potential(sj.make_structure(places, numbers, box), grid, slices)
    return sj.make_potential_object(potential.values, box[0] / slices, grid)


def depths():
    """HAADF of three columns of SrTiO3 against thickness [nm], and PACBED at three of them."""
    layers, pixels, repeats = 102, 32, (6, 6)
    places, numbers = crystal(SRTIO3, (A_STO,) * 3, (1, 1, 1))
    cell = specimen(places, numbers, (A_STO,) * 3, pixels, 2)
    tile = sj.make_potential_object(np.tile(cell.values, (layers, 1, 1)), A_STO / 2, cell.grid)
    whole = sj.make_repeated(tile, repeats)
    middle = 3 * A_STO
    spots = np.array([[middle + A_STO * y, middle + A_STO * x] for y, x in COLUMNS.values()])
    over = (np.stack(np.meshgrid(np.arange(8), np.arange(8), indexing="ij"), -1).reshape(-1, 2) / 8) * A_STO + middle
    scan = sj.make_scan(np.concatenate([spots, over]))
    probe = sj.make_probe(whole.grid, energy=200e3, semiangle=21.4)
    experiment = sj.make_experiment(probe, whole, scan, detectors={"HAADF": sj.make_annular_detector(50.0, 68.0)})
    prism = sj.Prism(limit_transmission=True, execution=sj.plan()).fitted(experiment)
    wanted = tuple(range(4, 2 * layers + 1, 4))
    haadf = jax.jit(lambda e: sj.thickness_series(sj.ScannedImage(prism), e, wanted, np.arange(3)))(experiment)["HAADF"]
    few = tuple(min(round(20.0 * d / A_STO), 2 * layers) for d in PACBED_DEPTHS)
    patterns = jax.jit(lambda e: sj.thickness_series(prism, e, few, np.arange(3, 67)).mean(axis=1))(experiment)
    sampling = whole.grid.angular_sampling(sj.wavelength(200e3))[0]
    return np.array(wanted) * A_STO / 20, np.asarray(haadf), np.fft.fftshift(np.asarray(patterns), (1, 2)), sampling


def sectioning():
    """Excess of the ring signal of a bismuth atom in a silicon column against defocus [Å], for some depths."""
    lateral, layers = A_SI / np.sqrt(2), 16
    # Silicon along [001] in the tetragonal cell of half the volume.
    sites = ((14, 0.0, 0.0, 0.0), (14, 0.25, 0.5, 0.0), (14, 0.5, 0.5, 0.5), (14, 0.75, 0.0, 0.5))
    cell, box = (A_SI, lateral, lateral), (layers * A_SI, 3 * lateral, 3 * lateral)
    places, numbers = crystal(sites, cell, (layers, 3, 3))
    column = np.flatnonzero((np.abs(places[:, 1] - lateral) < 0.1) & (np.abs(places[:, 2] - lateral) < 0.1))
    defoci = np.linspace(-20.0, 110.0, 27)
    pixels, slices = 96, 2 * layers
    probe = sj.make_probe(sj.make_grid(pixels, box[1] / pixels), energy=200e3, semiangle=30.0)
    detectors = {"ring": sj.make_annular_detector(45.0, 68.0)}
    execution, found = sj.plan(), []
    for depth in (None, *BISMUTH_DEPTHS):
        kinds, where = numbers.copy(), None
        if depth is not None:
            where = column[np.argmin(np.abs(places[column, 0] - depth))]
            kinds[where] = 83
        thing = specimen(places, kinds, box, pixels, slices)
        made = sj.make_experiment(probe, thing, sj.make_scan([[lateral, lateral]]), detectors=detectors)
        simulator = sj.ScannedImage(sj.Prism(limit_transmission=True, execution=execution).fitted(made))
        ring = jax.jit(lambda e, s=simulator: sj.focal_series(s, e, defoci))(made)["ring"]
        found.append((None if where is None else places[where, 0], np.asarray(ring)[:, 0]))
    return defoci, [(at, ring - found[0][1]) for at, ring in found[1:]]


def interpolation():
    """Relative rms error of ADF and HAADF images, seconds of a scan by interpolation and by multislice, the plan."""
    layers, cells, pixels = 12, 6, 144
    places, numbers = crystal(SRTIO3, (A_STO,) * 3, (layers, cells, cells), shake=0.08)
    thing = specimen(places, numbers, (layers * A_STO, *(cells * A_STO,) * 2), pixels, 2 * layers)
    scan = sj.make_raster((20, 20), A_STO / 10, origin=(2 * A_STO, 2 * A_STO))
    detectors = {
        "ADF": sj.make_annular_detector(25.0, 36.0, soft=True),
        "HAADF": sj.make_annular_detector(36.0, 48.0, soft=True),
    }
    execution, images, seconds = sj.plan(), {}, {}
    for factor in (1, *FACTORS):
        window = sj.make_grid(pixels // factor, thing.grid.sampling)
        made = sj.make_experiment(sj.make_probe(window, energy=200e3, semiangle=21.4), thing, scan, detectors=detectors)
        prism = sj.Prism(interpolation=(factor, factor), limit_transmission=True, execution=execution).fitted(made)
        images[factor], seconds[factor] = timed(sj.ScannedImage(prism), made)
        if factor == 1:
            plan = sj.choose_propagation(made, sj.Diffraction(limit_transmission=True, execution=execution))
            _, one = timed(sj.ScannedImage(sj.Diffraction(limit_transmission=True, execution=execution)), made, 40)
    exact = images[1]
    errors = {
        name: [float(np.sqrt(np.mean((images[f][name] - exact[name]) ** 2)) / exact[name].mean()) for f in FACTORS]
        for name in detectors
    }
    return errors, seconds, 10 * one, plan


def timed(simulator, experiment, probes=None):
    """What a simulator gives for some probes (all if None), and its seconds after compilation."""
    index = np.arange(probes or experiment.scan.positions.shape[0])
    run = jax.jit(lambda e: simulator(e, index)).lower(experiment).compile()
    start = time.perf_counter()
    found = {name: np.asarray(image) for name, image in run(experiment).items()}
    return found, time.perf_counter() - start


def draw(path, thickness, haadf, pacbed, sampling, defoci, sections, errors, seconds, multislice):
    """The figure."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(13, 7.6), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(1, 1.05))
    axes = upper.subplots(1, 4, width_ratios=(1.5, 1, 1, 1))
    for values, name, colour in zip(haadf.T, COLUMNS, ("C0", "C3", "C2"), strict=True):
        axes[0].plot(thickness, 100 * values, color=colour, label=f"{name} column")
    axes[0].set(xlabel="thickness (nm)", ylabel="HAADF, 50-68 mrad (% of beam)", xlim=(0, thickness[-1]),
                ylim=(0, None), title="SrTiO$_3$ at rest, 51 depths in one pass")  # fmt: skip
    axes[0].legend(frameon=False)
    half = 48
    for axis, pattern, depth in zip(axes[1:], pacbed, PACBED_DEPTHS, strict=True):
        centre = pattern.shape[0] // 2
        shown = pattern[centre - half : centre + half + 1, centre - half : centre + half + 1]
        edge = (half + 0.5) * sampling
        axis.imshow(np.log10(shown + 1e-7), cmap="magma", vmin=-6.0, vmax=-3.2, extent=(-edge, edge, edge, -edge))
        axis.set(title=f"PACBED, {depth} nm", xlabel="mrad", xticks=(-40, 0, 40), yticks=(-40, 0, 40))
    axes[1].set_ylabel("mrad")
    left, middle, right = lower.subplots(1, 3)
    for number, (depth, excess) in enumerate(sections):
        left.plot(
            defoci,
            100 * excess,
            color=f"C{number}",
            label=f"Bi at {depth:.0f} Å, found at {defoci[excess.argmax()]:.0f} Å",
        )
        left.axvline(depth, color=f"C{number}", ls=":", lw=1)
    left.set(
        xlabel="defocus = depth of the crossover (Å)",
        ylabel="signal above pure Si (% of beam)",
        title="Bi in Si [001], 30 mrad",
    )
    left.legend(frameon=False, fontsize=8)
    for name, marker in zip(errors, "os", strict=True):
        middle.plot(FACTORS, 100 * np.array(errors[name]), marker=marker, label=name)
    middle.set(
        xlabel="interpolation",
        ylabel="rms error (% of the mean)",
        title="Error against exact PRISM",
        xticks=FACTORS,
        xticklabels=FACTORS,
    )
    middle.set_ylim(0, None)
    middle.legend(frameon=False)
    right.plot(list(seconds), list(seconds.values()), "o-", color="k", label="PRISM (1: exact)")
    right.axhline(multislice, color="C1", ls="--", label="multislice")
    right.set(xlabel="interpolation", ylabel="time of 400 probes (s)", title="144$^2$ pixels, 24 slices",
              xticks=list(seconds), xticklabels=list(seconds))  # fmt: skip
    right.set_ylim(0, None)
    right.legend(frameon=False)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Run the three studies, print what was reached, save the figure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-o", "--output", default="propagation.png")
    path = parser.parse_args().output
    sj.setup()
    start = time.perf_counter()
    thickness, haadf, pacbed, sampling = depths()
    print(f"{len(thickness)} depths of SrTiO3 in one pass: {time.perf_counter() - start:.1f} s with compilation")
    defoci, sections = sectioning()
    for depth, excess in sections:
        print(f"Bi at {depth:.1f} Å in Si: brightest at a defocus of {defoci[excess.argmax()]:.0f} Å")
    errors, seconds, multislice, plan = interpolation()
    print(plan.describe())
    for number, factor in enumerate(FACTORS):
        told = ", ".join(f"{name} {100 * values[number]:.2g} %" for name, values in errors.items())
        print(f"interpolation {factor}: rms error of {told}; {seconds[factor]:.2g} s for 400 probes")
    print(f"exact PRISM {seconds[1]:.2g} s, multislice {multislice:.2g} s for the same probes")
    draw(path, thickness, haadf, pacbed, sampling, defoci, sections, errors, seconds, multislice)
    print(f"{path}: {time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
