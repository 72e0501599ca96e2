"""Bright-field and annular dark-field images of a MoS2 monolayer with a sulphur vacancy, with counting noise.

python examples/simulate_images.py
"""

import numpy as np

import stemjax as sj

sj.setup()
atoms = sj.mos2_monolayer((9.0, 9.0), vacancies=[(4.5, 4.5)])
potential = sj.project_potential(atoms, sj.cell_grid(atoms, sampling=0.15), slices=3)
specimen = sj.make_potential_object(potential.values, potential.thickness, potential.grid)
probe = sj.make_probe(potential.grid, energy=80e3, semiangle=25.0)

# The field of view is one period of the structure; expected electrons scale with the dose.
shape = (12, 12)
step = tuple(edge / n for edge, n in zip(potential.grid.extent, shape, strict=True))
rings = {"BF": sj.make_annular_detector(0.0, 12.0), "ADF": sj.make_annular_detector(40.0, 85.0)}
experiment = sj.make_experiment(probe, specimen, sj.make_raster(shape, step), dose=1e5, detectors=rings)
simulate = sj.ScannedImage(sj.Diffraction(limit_transmission=True, execution=sj.plan()))

random = np.random.default_rng(0)
for name, expected in simulate(experiment).items():
    image = random.poisson(expected).reshape(shape)
    print(f"{name}: {image.min()} to {image.max()} electrons, contrast {image.std() / image.mean():.3f}")
