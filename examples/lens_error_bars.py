"""Aberrations with error bars by a solver of one's own (scipy), from patterns of a known specimen.

python examples/lens_error_bars.py
"""

import jax
import numpy as np
import scipy.optimize
from jax.flatten_util import ravel_pytree

import stemjax as sj

sj.setup(double=True)
grid = sj.make_grid(32, 0.4)
names = ["C10", "C12a", "C12b", "C21a", "C21b"]
true = dict(zip(names, [60.0, 8.0, -5.0, 300.0, 100.0], strict=True))
probe = sj.make_probe(grid, energy=80e3, semiangle=21.4, aberrations=sj.make_aberrations(true))
y, x = np.mgrid[:32, :32] * 0.4
phase = 0.5 * np.exp(-((y % 3.2 - 1.6) ** 2 + (x % 3.2 - 1.6) ** 2) / 0.5)
specimen = sj.make_object(grid, phase=phase[None], periodic=True)
truth = sj.make_experiment(probe, specimen, sj.make_raster((4, 4), 0.8), dose=1e4)
simulate = sj.Diffraction(limit=None)
counts = np.random.default_rng(0).poisson(simulate(truth)).astype(float)

paths = [f"probe.aberrations.{name}" for name in names]
start = sj.replace(truth, {path: np.array(50.0 if path.endswith("C10") else 0.0) for path in paths})
problem = sj.make_problem(start, sj.Measurement(counts), forward=simulate, noise=sj.Poisson(), free=paths)

flat, unflatten = ravel_pytree(sj.start(problem))
# An optimiser wants unknowns of like size: one unit changes the phase at the aperture's edge by about a radian.
order = np.array([int(path.rsplit("C", 1)[1][0]) for path in sorted(paths)])
size = sj.wavelength(80e3) * (order + 1) / (2 * np.pi * 0.0214 ** (order + 1))


def cost(scaled: jax.Array) -> jax.Array:
    """Negative log-posterior."""
    return -sj.log_density(problem, unflatten(size * scaled))


best = scipy.optimize.minimize(jax.jit(jax.value_and_grad(cost)), flat / size, jac=True, method="BFGS")
covariance = np.linalg.inv(jax.jit(jax.hessian(cost))(best.x))
for name, value, sigma in zip(names, size * best.x, size * np.sqrt(np.diag(covariance)), strict=True):
    print(f"{name:5} = {value:7.2f} ± {sigma:5.2f} Å   truth {true[name]:7.2f} Å")
