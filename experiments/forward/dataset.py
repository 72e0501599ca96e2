"""A small simulated scan as one deposited data set, in three forms, with its truth apart.

Claim: patterns are written while they are simulated, never together in memory, and the three files (stemjax's own, EMD
for py4DSTEM, .hspy for hyperspy) come back with the same counts, optics and conditions.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import stemjax as sj

ENERGY, SEMIANGLE = 80e3, 25.0  # eV, mrad
SHAPE, STEP = (24, 24), (0.4, 0.4)  # Å
DWELL, FLYBACK, CURRENT = 1e-3, 5e-3, 0.1  # s, s, pA
DRIFT = (0.0, 0.5)  # Å/s
RINGS = {"haadf": (60.0, 95.0), "abf": (12.0, 25.0)}  # mrad


def experiment() -> sj.Experiment:
    """A MoS2 monolayer in a raster that drifts a little."""
    structure = sj.mos2_monolayer((16.0, 16.0))
    grid = sj.cell_grid(structure, 0.12)
    potential = jax.jit(lambda s: sj.project_potential(s, grid, 1))(structure)
    specimen = sj.make_potential_object(potential.values, float(structure.cell[0]), grid)
    probe = sj.make_probe(grid, energy=ENERGY, semiangle=SEMIANGLE, aberrations=sj.make_aberrations(C10=-20.0))
    scan = sj.with_drift(sj.make_raster(SHAPE, STEP, origin=(2.0, 2.0), dwell=DWELL, flyback=FLYBACK), DRIFT)
    detectors = {name: sj.make_annular_detector(*ring) for name, ring in RINGS.items()}
    return sj.make_experiment(probe, specimen, scan, dose=sj.electrons(CURRENT, DWELL), detectors=detectors)


def patterns(made: sj.Experiment, detector: sj.PixelatedDetector, seed: int = 0) -> Iterator[np.ndarray]:
    """Counts of one row after the other [x ky kx], zero frequency in the centre."""
    forward = sj.Diffraction(detector=detector, limit_transmission=True)
    expected = jax.jit(lambda e, index: forward(e, index))
    random = np.random.default_rng(seed)
    for row in range(SHAPE[0]):
        mean = np.asarray(expected(made, np.arange(row * SHAPE[1], (row + 1) * SHAPE[1])))
        yield np.fft.fftshift(random.poisson(mean), axes=(-2, -1))


def vacuum_probe(made: sj.Experiment, detector: sj.PixelatedDetector) -> np.ndarray:
    """Expected pattern without specimen [ky kx], zero frequency in the centre."""
    empty = made.specimen.replace(values=0.0 * made.specimen.values)
    forward = sj.Diffraction(detector=detector, limit_transmission=True)
    found = jax.jit(lambda e, index: forward(e, index))(made.replace(specimen=empty), np.array([0]))
    return np.fft.fftshift(np.asarray(found[0]))


def session(made: sj.Experiment, detector: sj.PixelatedDetector) -> sj.Dataset:
    """Images in memory, patterns as a stream, and what an operator knows: positions as set, not as drifted."""
    images = jax.jit(sj.ScannedImage(sj.Diffraction(limit_transmission=True)))(made)
    random = np.random.default_rng(1)
    recorded = {
        name: sj.RecordedImage(
            random.poisson(np.asarray(value)).reshape(SHAPE), STEP, RINGS[name], long_name=name.upper()
        )
        for name, value in images.items()
    }
    sampling = made.probe.grid.angular_sampling(sj.wavelength(ENERGY))
    shape = np.shape(vacuum_probe(made, detector))
    recording = sj.Recording(
        sj.PatternStream(patterns(made, detector), (*SHAPE, *shape), np.dtype("uint16")),
        energy=ENERGY,
        scan_step=STEP,
        detector_sampling=(float(sampling[0]), float(sampling[1])),
        semiangle=SEMIANGLE,
        defocus=20.0,
        scan_rotation=0.0,
        electrons_per_count=1.0,
        conditions=sj.Conditions(
            beam_current=CURRENT,
            dose=sj.electrons(CURRENT, DWELL),
            dwell_time=DWELL,
            flyback_time=FLYBACK,
            times=np.asarray(made.scan.times, float),
            positions=np.asarray(made.scan.positions, float),
            vacuum_probe=vacuum_probe(made, detector),
            title="MoS2 monolayer, simulated",
            sample="MoS2 monolayer",
            instrument=f"stemjax {sj.__version__}",
            licence="CC0-1.0",
        ),
    )
    return sj.Dataset(recording, recorded)


def show(entries: dict, indent: str = "  ") -> None:
    """A nested description, one line an entry."""
    for name, value in entries.items():
        if isinstance(value, dict):
            print(f"{indent}{name}:")
            show(value, indent + "  ")
        else:
            print(f"{indent}{name}: {value}")


def draw(dataset: sj.Dataset, path: str) -> None:
    """Images and the vacuum probe."""
    probe, sampling = dataset.recording.conditions.vacuum_probe, dataset.recording.detector_sampling
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), constrained_layout=True)
    for axis, (name, image) in zip(axes, dataset.images.items(), strict=False):
        side = (SHAPE[1] * STEP[1], SHAPE[0] * STEP[0])
        shown = axis.imshow(image.values, cmap="gray", extent=(0, side[0], side[1], 0))
        axis.set_title(f"{name.upper()}, {image.detector[0]:g} to {image.detector[1]:g} mrad")
        axis.set_xlabel("x [Å]")
        axis.set_ylabel("y [Å]")
        figure.colorbar(shown, ax=axis, label="electrons")
    (ny, nx), (sy, sx) = probe.shape, sampling  # zero is the middle of pixel n // 2
    left, top = -(nx // 2 + 0.5) * sx, -(ny // 2 + 0.5) * sy
    shown = axes[2].imshow(probe, cmap="magma", extent=(left, left + nx * sx, top + ny * sy, top))
    axes[2].set_xlim(-40, 40)
    axes[2].set_ylim(40, -40)
    axes[2].set_title("vacuum probe")
    axes[2].set_xlabel("angle along x [mrad]")
    axes[2].set_ylabel("angle along y [mrad]")
    figure.colorbar(shown, ax=axes[2], label="electrons")
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", default="dataset.png")
    parser.add_argument("--folder", help="keep the files here; otherwise they are written to a temporary folder")
    arguments = parser.parse_args()
    sj.setup()
    start = time.perf_counter()
    print(__doc__)
    made = experiment()
    detector = sj.make_pixelated_detector(made.probe.grid, shape=(64, 64))
    truth = {
        "position_y": sj.Named(np.asarray(sj.probe_positions(made.scan))[:, 0], "Å", ("pattern",), "True position y"),
        "position_x": sj.Named(np.asarray(sj.probe_positions(made.scan))[:, 1], "Å", ("pattern",), "True position x"),
        "drift": sj.Named(np.array(DRIFT), "Å/s", ("axis",), "True drift of the probe over the specimen"),
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        paths = {ending: folder / f"scan.{ending}" for ending in ("h5", "emd", "hspy")}
        apart = sj.write_dataset(paths["h5"], session(made, detector), truth=truth)
        sj.write_emd(paths["emd"], session(made, detector))
        sj.write_hyperspy(paths["hspy"], session(made, detector))
        for path in paths.values():
            print(f"\n{path.name}")
            found = sj.describe_file(path)
            show({k: found[k] for k in found if k not in ("path", "units", "condition_units", "metadata")})
        print(f"\n{apart.name}: {', '.join(sj.read_truth(apart))}")
        compare([sj.read_recording(path) for path in paths.values()])
    draw(session(made, detector), arguments.output)
    print(f"{time.perf_counter() - start:.1f} s; figure in {arguments.output}")


def compare(recordings: list[sj.Recording]) -> None:
    """Whether the three forms hold the same counts and numbers."""
    first = recordings[0]
    differ = sum(int(np.count_nonzero(r.counts != first.counts)) for r in recordings[1:])
    names = ("energy", "scan_step", "detector_sampling", "semiangle", "defocus", "scan_rotation")
    worst = max(
        float(np.max(np.abs(np.subtract(getattr(r, name), getattr(first, name))))) for r in recordings for name in names
    )
    same = all(set(r.conditions.told()) == set(first.conditions.told()) for r in recordings)
    print(f"counts that differ between the forms: {differ}; largest difference of the optics: {worst:.1e}")
    print(f"the same conditions in all three: {'yes' if same else 'no'}")


if __name__ == "__main__":
    main()
