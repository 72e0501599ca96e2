"""A 64 × 64 probe HAADF + 4D scan of 20 nm SrTiO3: the planner's choice against abTEM's multislice (target P2).

Two specimens: one arrangement of thermally displaced atoms, in which nothing repeats, scanned over 2 × 2 of its 7 × 7
cells and over all of them; and the perfect crystal, scanned over a cell. Both programs propagate the same potential
array and must agree to 1e-4 of the maximum.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.machine import cores
from benchmarks.peer import peer_session

CELL, ENERGY, SEMIANGLE, DEFOCUS = 3.905, 200e3, 21.4, 50.0
REPEATS, LAYERS, SLICES = 7, 51, 102
RING = (50.0, 75.0)
PROBES, MEASURED, CHECKED = 64, 256, 64
"""Probes along a side of the scan; probes that abTEM is timed with; probes whose patterns are compared."""

SITES = ((38, 0.0, 0.0, 0.0), (22, 0.5, 0.5, 0.5), (8, 0.5, 0.5, 0.0), (8, 0.5, 0.0, 0.5), (8, 0.0, 0.5, 0.5))
"""Atomic number and place (z, y, x) in the cell, off the borders of slices by a quarter of one (`displaced`)."""

RMS = {38: 0.0785, 22: 0.0755, 8: 0.09}
"""One-dimensional thermal displacements at room temperature [Å], of the size that neutron diffraction gives."""

BAND = 0.6666666
"""abTEM's number for two thirds."""


def run(repeats: int) -> dict:
    """Measure.

    Args:
        repeats: Rounds; each measures abTEM and stemjax one after the other.

    Returns:
        For each specimen: seconds of the whole scan, ratio of times within a round, largest differences, the plan.
    """
    import stemjax

    stemjax.setup()
    found: dict = {"cases": {}}
    shaken, crystal = displaced(), perfect()
    cases = {
        "displaced_atoms": (*shaken, 2 * CELL),
        "displaced_atoms_whole_field": (*shaken, REPEATS * CELL),
        "perfect_crystal": (*crystal, CELL),
    }
    for name, chosen in cases.items():
        found["cases"][name], found["versions"] = case(*chosen, repeats)
    return found


def case(specimen, potential, extent: float, region: float, repeats: int) -> tuple[dict, dict]:  # type: ignore[no-untyped-def]
    """One specimen: a `region` [Å] in the middle of it is scanned."""
    import numpy as np

    from stemjax.core.executor import plan

    experiment = scene(specimen, extent, region)
    ours, description = prepare(experiment, plan())
    positions = np.asarray(experiment.scan.positions, float)
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / name) for name in ("potential.npy", "positions.npy", "measured.npz")]
        np.save(files[0], potential)
        np.save(files[1], positions[measured_probes()])
        words = ("--potential", files[0], "--positions", files[1], "--out", files[2], "--extent", extent,
                 "--thickness", CELL / 2, "--energy", ENERGY, "--semiangle", SEMIANGLE, "--defocus", DEFOCUS,
                 "--inner", RING[0], "--outer", RING[1], "--threads", cores(), "--few", CHECKED)  # fmt: skip
        with peer_session("abtem_scan", *words) as (about, theirs):
            errors = differences(ours()[0], np.load(files[2]))
            rounds = [one_round(ours, theirs) for _ in range(repeats)]
    return {**summary(rounds), **errors, "plan": description, "abtem_setting": about["setting"]}, about["versions"]


def one_round(ours, theirs) -> dict[str, float]:  # type: ignore[no-untyped-def]
    """Seconds of the whole scan by each, measured one after the other, by the clock and of the processors.

    abTEM's lie on a straight line through its two measurements. The processors' seconds depend less on what else the
    machine does.
    """
    times = theirs()
    line = [a + (a - f) / (MEASURED - CHECKED) * (PROBES**2 - MEASURED)
            for f, a in zip(times["few"], times["all"], strict=True)]  # fmt: skip
    mine = ours()[1]
    return {"abtem": line[0], "stemjax": mine[0], "abtem_processor": line[1], "stemjax_processor": mine[1]}


def measured_probes():  # type: ignore[no-untyped-def]
    """Numbers of the probes that abTEM runs, spread over the scan; the first of them are compared."""
    import numpy as np

    order = np.random.default_rng(0).permutation(PROBES**2)
    return order[:MEASURED]


def displaced():  # type: ignore[no-untyped-def]
    """One arrangement of displaced atoms: specimen, potential [slice y x], side [Å]."""
    import numpy as np

    import stemjax as sj

    cells = np.stack(np.meshgrid(*(np.arange(n) for n in (LAYERS, REPEATS, REPEATS)), indexing="ij"), -1).reshape(-1, 3)
    places = (cells[:, None] + np.array([s[1:] for s in SITES]) + 0.25).reshape(-1, 3) * CELL
    numbers = np.tile([s[0] for s in SITES], len(cells))
    rms = np.array([RMS[int(n)] for n in numbers])[:, None]
    places = places + rms * np.random.default_rng(0).normal(size=places.shape)
    box = np.array([LAYERS, REPEATS, REPEATS]) * CELL
    structure = sj.make_structure(places % box, numbers, box)
    grid = sj.make_grid(256, REPEATS * CELL / 256)
    values = np.asarray(sj.project_potential(structure, grid, SLICES).values)
    return sj.make_potential_object(values, CELL / 2, grid), values, REPEATS * CELL


def perfect():  # type: ignore[no-untyped-def]
    """The perfect crystal as a cell that repeats; returns as `displaced`."""
    import numpy as np

    import stemjax as sj
    from stemjax.specimen.repeated import make_repeated

    places = (np.array([s[1:] for s in SITES]) + 0.25) % 1.0 * CELL
    structure = sj.make_structure(places, [s[0] for s in SITES], [CELL, CELL, CELL])
    grid = sj.make_grid(36, CELL / 36)
    tile = np.tile(np.asarray(sj.project_potential(structure, grid, 2).values), (LAYERS, 1, 1))
    specimen = make_repeated(sj.make_potential_object(tile, CELL / 2, grid), (REPEATS, REPEATS))
    return specimen, np.tile(tile, (1, REPEATS, REPEATS)), REPEATS * CELL


def scene(specimen, extent: float, region: float):  # type: ignore[no-untyped-def]
    """The experiment: 64 × 64 probes over a square in the middle."""
    import stemjax as sj

    step = region / PROBES
    start = 0.5 * (extent - region)
    probe = sj.make_probe(
        specimen.grid, energy=ENERGY, semiangle=SEMIANGLE, aberrations=sj.make_aberrations(defocus=DEFOCUS)
    )
    scan = sj.make_raster((PROBES, PROBES), step, origin=(start, start))
    return sj.make_experiment(probe, specimen, scan, detectors={"ring": sj.make_annular_detector(*RING)})


def prepare(experiment, execution):  # type: ignore[no-untyped-def]
    """A function that simulates everything and gives (signals, seconds), compiled; and what the planner says."""
    import jax

    import stemjax as sj
    from stemjax.forward.image import Signals
    from stemjax.forward.planner import choose_propagation

    grid = experiment.probe.grid
    side = 2 * int(BAND * grid.nyquist * grid.extent[0]) + 1
    base = sj.Diffraction(
        detector=sj.make_pixelated_detector(grid, shape=(side, side)), limit=BAND, limit_transmission=True,
        execution=execution,
    )  # fmt: skip
    chosen = choose_propagation(experiment, base)
    simulate = jax.jit(lambda e: Signals(chosen.propagation)(e)).lower(experiment).compile()

    def ours():  # type: ignore[no-untyped-def]
        start = time.perf_counter(), time.process_time()
        signals = jax.block_until_ready(simulate(experiment))
        return signals, (time.perf_counter() - start[0], time.process_time() - start[1])

    return ours, chosen.describe().splitlines()


def differences(signals, theirs) -> dict[str, float]:  # type: ignore[no-untyped-def]
    """Largest differences in patterns and detector values, as parts of the largest value."""
    import numpy as np

    chosen = measured_probes()[:CHECKED]
    mine = np.fft.fftshift(np.asarray(signals["patterns"])[chosen], axes=(1, 2))
    other = theirs["patterns"]
    side = min(mine.shape[1], other.shape[1])
    first, second = (a[:, (n := a.shape[1]) // 2 - side // 2 :][:, :side, n // 2 - side // 2 :][..., :side]
                     for a in (mine, other))  # fmt: skip
    ring = np.asarray(signals["ring"])[chosen]
    return {
        "pattern_difference": float(np.abs(first - second).max() / second.max()),
        "ring_difference": float(np.abs(ring - theirs["ring"]).max() / theirs["ring"].max()),
    }


def summary(rounds: list[dict[str, float]]) -> dict:
    """Medians of the times, and of the ratios within the rounds."""
    ratios = [r["abtem"] / r["stemjax"] for r in rounds]
    processor = [r["abtem_processor"] / r["stemjax_processor"] for r in rounds]
    return {
        "seconds": {name: round(statistics.median(r[name] for r in rounds), 2) for name in rounds[0]},
        "abtem_over_stemjax": {"median": round(statistics.median(ratios), 2), "rounds": [round(r, 2) for r in ratios]},
        "abtem_over_stemjax_processor": round(statistics.median(processor), 2),
        "rounds": [{name: round(value, 2) for name, value in r.items()} for r in rounds],
    }
