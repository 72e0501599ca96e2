r"""Aberrations, rotation and handedness of a scan from its bright-field images, of an object that nobody knows.

The optics are those under which a weak phase object explains most of the data (`stemjax.problems.direct_ptychography`):

.. math:: L(\theta) = \sum_q \frac{|\sum_k g_k^*(q; \theta)\, y_k(q)|^2}{s^2 \sum_k |g_k(q; \theta)|^2}

with y the spectra of the images, g what each pixel sees of a frequency and s² the counting noise. L is the
log-likelihood with the object at its best, so its curvature gives the error bars. Every aberration negative under a
scan turned by 180° explains as much, by an object of the other sign. Matter has a positive phase, and scatters
electrons out of the beam: where the phase is high the beam must be weak. (To first order a phase takes nothing from the
whole beam, so the images themselves cannot decide.)
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.executor import Execution, map_probes
from stemjax.core.typing import Array, real
from stemjax.optics.electron import wavelength
from stemjax.problems.aberrations import coefficients
from stemjax.problems.direct_ptychography import BrightField, direct_phase, explained
from stemjax.problems.ptychography.guess import orientation_matrix

TURN = 7.5
"""Rotations that are tried lie so far apart [degree]."""

FEW = (150, 200)
"""What the trials look at: pixels spread over the disk, and the frequencies of most power."""

MANY = (300, 1500)
"""What the maximum is found with, and error bars are of."""

GENTLE = 0.3
"""Slope at which a climb ends, in units of the log-likelihood a step that turns the phase at the rim by a tenth."""

SURE = 4.0
"""Standard deviations from which the scattering decides the sign of the phase."""

KEPT = 3
"""Trials of each handedness that are followed to their maximum."""


@dataclass(frozen=True)
class Optics:
    """The optics under which a weak object explains most.

    Args:
        aberrations: Value by Cartesian name [Å].
        rotation: Angle of the scan's axes against the detector's [degree].
        transposed: Whether the scan's axes are swapped first.
        deviations: Standard deviation by name [Å], and of "rotation" [degree], from counting statistics alone.
        gain: Log-likelihood over that of no object.
        advantage: By how much the gain beats that of the other handedness.
        sign: How surely the beam is weak where the phase is high, in standard deviations; below `SURE` the sign was
            taken from the phase's skewness, which atoms on a dark ground make positive.
    """

    aberrations: Mapping[str, float]
    rotation: float
    transposed: bool
    deviations: Mapping[str, float]
    gain: float
    advantage: float
    sign: float

    @property
    def matrix(self) -> np.ndarray:
        """From the scan's axes to the detector's [2 2]."""
        return orientation_matrix(self.rotation, transposed=self.transposed)


def find_optics(
    data: BrightField,
    names: Iterable[str] = ("C10", "C12"),
    *,
    largest: float | None = None,
    execution: Execution = Execution(),
) -> Optics:
    """Defocus, other aberrations, rotation and handedness of a scan, from its bright-field images alone.

    Args:
        data: The images.
        names: Aberrations to find, Cartesian or pairs ("C12"); the rest are zero.
        largest: Greatest defocus that is tried, of either sign [Å]; if left out, that at which the images of the disk's
            rim are displaced by a quarter of the scan.
        execution: Where the work is done.

    Returns:
        The optics, with error bars of counting alone: of a strong or thick specimen they are too small.
    """
    free = tuple(coefficients(names))
    few, many = _thinned(data, *FEW), _thinned(data, *MANY)
    best = []
    for transposed in (False, True):
        starts = _trials(few, transposed, largest or _largest(data), execution)
        z = max((_climbed(few, transposed, free, start, execution) for start in starts), key=lambda end: end[0])[1]
        best.append((*_climbed(many, transposed, free, z, execution), transposed))
    (gain, z, transposed), (other, *_) = sorted(best, key=lambda end: -end[0])
    spread = _deviations(many, transposed, free, z, execution)
    values, rotation = dict(zip(free, z[1:], strict=True)), float(z[0])
    phase = direct_phase(data, values, orientation_matrix(rotation, transposed=transposed), execution)
    evidence = _scattering(data, phase.spectrum, values["C10"])
    sign = math.copysign(1.0, evidence if abs(evidence) > SURE else float(np.mean(phase.phase**3)))
    return Optics(
        {name: float(sign * value) for name, value in values.items()},
        (rotation + (0.0 if sign > 0 else 180.0) + 180.0) % 360.0 - 180.0,
        transposed,
        dict(zip(("rotation", *free), spread.tolist(), strict=True)),
        gain,
        gain - other,
        sign * evidence,
    )


def _largest(data: BrightField) -> float:
    extent = min(n * s for n, s in zip(data.shape, data.step, strict=True))
    return 0.25 * extent / (1e-3 * data.semiangle)


def _thinned(data: BrightField, pixels: int, frequencies: int) -> BrightField:
    """The frequencies of most power, seen by pixels spread over the disk."""
    seen = np.linspace(0, data.angles.shape[0] - 1, min(pixels, data.angles.shape[0])).round().astype(int)
    power = np.sum(np.abs(np.asarray(data.spectra)) ** 2, axis=1)
    strong = np.sort(np.argsort(-power)[:frequencies])
    return data.replace(
        spectra=data.spectra[strong][:, seen],
        beam=data.beam[strong],
        frequencies=data.frequencies[strong],
        angles=data.angles[seen],
    )


def _trials(few: BrightField, transposed: bool, largest: float, execution: Execution) -> list[np.ndarray]:
    """The best starts (rotation, C10), each the best of its neighbourhood, over half a turn and both signs of C10."""
    alpha, step = 1e-3 * few.semiangle, min(few.step)
    defoci = [0.0]
    width = max(0.5 * step / alpha, 0.25 * wavelength(few.energy) / alpha**2)
    while defoci[-1] < largest:
        defoci.append(defoci[-1] + width)
        width *= 1.05
    c10 = np.array([-v for v in defoci[:0:-1]] + defoci)
    turns = np.arange(-90.0, 90.0, TURN)
    grid = np.stack(np.meshgrid(turns, c10, indexing="ij"), axis=-1)
    gains = np.asarray(_grid(few, transposed, real(grid.reshape(-1, 2)), execution)).reshape(grid.shape[:2])
    starts: list[tuple[Any, ...]] = []
    for flat in np.argsort(-gains, axis=None):
        turn, focus = np.unravel_index(flat, gains.shape)
        near = [abs(turn - t) % len(turns) in (0, 1, len(turns) - 1) and abs(focus - f) <= 2 for t, f in starts]
        if not any(near):
            starts.append((turn, focus))
        if len(starts) == KEPT:
            break
    return [grid[turn, focus] for turn, focus in starts]


@functools.partial(jax.jit, static_argnums=(1, 3))
def _grid(few: BrightField, transposed: bool, starts: Array, execution: Execution) -> Array:
    def one(few: BrightField, start: Array) -> Array:
        return explained(few, {"C10": start[1]}, _turned(start[0], transposed), Execution(1, FEW[1]))

    return map_probes(one, few, starts, Execution(execution.devices, 1))


def _turned(rotation: Array, transposed: bool) -> Array:
    """`orientation_matrix` with a traced angle [degree]."""
    c, s = jnp.cos(jnp.deg2rad(rotation)), jnp.sin(jnp.deg2rad(rotation))
    turn = jnp.stack([jnp.stack([c, s]), jnp.stack([-s, c])])
    return turn[:, ::-1] if transposed else turn


@functools.partial(jax.jit, static_argnums=(1, 2, 4))
def _gain(data: BrightField, transposed: bool, free: tuple[str, ...], z: Array, execution: Execution) -> Array:
    return explained(data, dict(zip(free, z[1:], strict=True)), _turned(z[0], transposed), execution)


_slope = functools.partial(jax.jit, static_argnums=(1, 2, 4))(jax.value_and_grad(_gain, argnums=3))
_bend = functools.partial(jax.jit, static_argnums=(1, 2, 4))(jax.hessian(_gain, argnums=3))


def _scales(data: BrightField, free: tuple[str, ...]) -> np.ndarray:
    """Steps of rotation and aberrations that change the phase at the rim by a tenth of a turn."""
    alpha = 1e-3 * data.semiangle
    orders = [int(name[1]) for name in free]
    return np.array([2.0, *(0.1 * wavelength(data.energy) * (n + 1) / alpha ** (n + 1) for n in orders)])


def _climbed(
    data: BrightField, transposed: bool, free: tuple[str, ...], start: np.ndarray, execution: Execution
) -> tuple[float, np.ndarray]:
    """The maximum near a start, and where it is."""
    from scipy.optimize import minimize

    scales = _scales(data, free)
    z = start
    if len(start) == 2:  # a trial: rotation and C10
        z = np.zeros(1 + len(free))
        z[0], z[1 + free.index("C10")] = start

    def cost(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = _slope(data, transposed, free, real(x * scales), execution)
        return -float(value), -np.asarray(slope, float) * scales

    found: Any = minimize(cost, z / scales, jac=True, method="BFGS", options={"gtol": GENTLE, "maxiter": 40})
    return -float(found.fun), found.x * scales


def _deviations(
    data: BrightField, transposed: bool, free: tuple[str, ...], z: np.ndarray, execution: Execution
) -> np.ndarray:
    """Standard deviations from the curvature of the log-likelihood; infinite where it does not curve."""
    scales = _scales(data, free)
    bend = -np.asarray(_bend(data, transposed, free, real(z), execution), float) * np.outer(scales, scales)
    values, vectors = np.linalg.eigh(0.5 * (bend + bend.T))
    inverse = np.where(values > 1e-9 * abs(values).max(), 1.0 / np.where(values > 0, values, 1.0), math.inf)
    return scales * np.sqrt(np.einsum("ij,j->i", vectors**2, inverse))


def _scattering(data: BrightField, phase: np.ndarray, C10: float) -> float:
    """Minus the correlation of the phase under the probe with the beam, in standard deviations of counting noise."""
    from scipy.special import j1

    reach = 2.0 * math.pi * np.hypot(*np.asarray(data.frequencies).T) * 1e-3 * data.semiangle * abs(C10)
    under = phase * np.where(reach > 1e-6, 2.0 * j1(reach) / np.maximum(reach, 1e-6), 1.0)
    noise = float(data.electrons) / data.positions / 2.0
    return float(-np.sum((np.conj(np.asarray(data.beam)) * under).real) / np.sqrt(noise * np.sum(np.abs(under) ** 2)))
