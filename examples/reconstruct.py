"""Ptychography from Python: simulate a recording, forget object, defocus and positions, and find them again.

python examples/reconstruct.py
"""

import numpy as np

import stemjax as sj

sj.setup()
random = np.random.default_rng(0)

# The truth: a square lattice of atoms, seen by an overfocused probe whose scan is not quite regular.
grid = sj.make_grid(32, 0.4)
probe = sj.make_probe(grid, energy=80e3, semiangle=21.4, aberrations=sj.make_aberrations(C10=60.0))
y, x = np.mgrid[:56, :56] * 0.4
phase = 0.5 * np.exp(-((y % 3.2 - 1.6) ** 2 + (x % 3.2 - 1.6) ** 2) / 0.5)
specimen = sj.make_object(sj.make_grid(56, 0.4), phase=phase[None])
raster = sj.make_raster((12, 12), 0.8, origin=(6.8, 6.8))
scan = raster.replace(positions=raster.positions + 0.1 * random.standard_normal((144, 2)))
truth = sj.make_experiment(probe, specimen, scan, dose=2e4)

execution = sj.plan()
simulate = sj.Diffraction(limit=None, execution=execution)
counts = random.poisson(simulate(truth)).astype(np.float32)

# What is known at the start, and what is free.
empty = sj.make_object(specimen.grid)
start = sj.make_experiment(probe, empty, raster, dose=2e4)
start = sj.replace(start, {"probe.aberrations.C10": np.float32(40.0)})
problem = sj.make_problem(
    start,
    sj.Measurement(counts),
    forward=simulate,
    noise=sj.Poisson(),
    free=["specimen.phase", "probe.aberrations.C10", "scan.positions"],
    priors={"scan.positions": sj.Ridge(0.1, np.asarray(raster.positions))},
)
rates = {
    "specimen.phase": lambda epoch: 0.03 * 0.95**epoch,
    "probe.aberrations.C10": lambda epoch: 2.0 * 0.95**epoch,
    "scan.positions": lambda epoch: 0.02 * 0.95**epoch if epoch >= 5 else 0.0,
}
found = sj.optimise(problem, sj.Plan(rates=rates, batch=36, execution=execution), epochs=40)


def spread(experiment: sj.Experiment) -> float:
    """Rms error of the positions [Å], their common shift taken out."""
    error = np.asarray(experiment.scan.positions) - np.asarray(scan.positions)
    return float((error - error.mean(axis=0)).std())


inside = slice(18, 38)
middle = np.asarray(found.value.specimen.phase)[0, inside, inside]
likeness = np.corrcoef(middle.ravel(), phase[inside, inside].ravel())[0, 1]
print(found.status)
print(f"C10: start 40.0 Å, found {float(found.value.probe.aberrations.C10):.1f} Å, truth 60.0 Å")
print(f"positions: start {spread(start):.3f} Å, found {spread(found.value):.3f} Å from the truth")
print(f"phase: correlation with the truth {likeness:.3f}")
