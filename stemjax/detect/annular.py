"""Annular detectors: bright field, ABF, ADF, HAADF."""

from __future__ import annotations

import math
from typing import Protocol

import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.core.typing import Annotated, Array, Float, real, typed
from stemjax.optics.electron import wavelength


class Detector(Protocol):
    """What a detector must offer; its signal is the sum over the reciprocal grid of response times intensity."""

    @property
    def reach(self) -> float:
        """Largest angle that it looks at [mrad]; 0 where it takes whatever the grid carries."""
        ...

    def response(self, grid: Grid, energy: float) -> Array:
        """Weights [ny nx], or [channel ny nx], on the reciprocal grid, zero frequency in the corner."""
        ...


class AnnularDetector(struct.PyTreeNode):
    """A ring on the detector plane; made by `make_annular_detector`.

    Args:
        inner: Inner angle [mrad]; 0 for a disk.
        outer: Outer angle [mrad].
        offset: Centre of the ring (y, x) against the optic axis [mrad].
        soft: Whether the edges are one reciprocal pixel wide (differentiable) or sharp.
    """

    inner: Annotated[Array, "mrad"]
    outer: Annotated[Array, "mrad"]
    offset: Annotated[Array, "mrad"]
    soft: bool = struct.field(pytree_node=False, default=False)

    @property
    def reach(self) -> float:
        """Largest angle of the ring against the optic axis [mrad]."""
        return float(self.outer) + math.hypot(*map(float, self.offset))

    def response(self, grid: Grid, energy: float) -> Array:
        """Weights of the reciprocal grid's pixels [ny nx]; what `stemjax.ScannedImage` asks of any detector."""
        return annular_response(self, grid, energy)


def make_annular_detector(
    inner: float, outer: float, *, offset: tuple[float, float] = (0.0, 0.0), soft: bool = False
) -> AnnularDetector:
    """An annular detector, checked.

    Args:
        inner: Inner angle [mrad].
        outer: Outer angle [mrad].
        offset: Centre (y, x) [mrad].
        soft: Soft edges, needed for gradients in the angles.

    >>> float(make_annular_detector(60.0, 180.0).outer)
    180.0
    """
    if not 0.0 <= inner < outer:
        raise InputError(f"annular detector from {inner:g} to {outer:g} mrad is empty; the outer angle must be larger")
    edges = real(inner), real(outer)
    return AnnularDetector(*edges, real(offset), soft=soft)


@typed
def annular_response(detector: AnnularDetector, grid: Grid, energy: Annotated[float, "eV"]) -> Float[Array, "ny nx"]:
    """Response of an annular detector on the reciprocal grid.

    Args:
        detector: The detector.
        grid: Real-space grid of the wave.
        energy: Beam energy [eV].

    Returns:
        Weights between 0 and 1, [ny nx], zero frequency in the corner. The inner edge belongs to the ring, the outer
        one does not.

    >>> annular_response(make_annular_detector(0.0, 20.0), Grid((16, 16), (0.5, 0.5)), 80e3).shape
    (16, 16)
    """
    y, x = detector_angles(grid, energy, detector.offset)
    distance = jnp.sqrt(y**2 + x**2 + 1e-12)
    if not detector.soft:
        return jnp.where((distance >= detector.inner - 1e-5) & (distance < detector.outer - 1e-5), 1.0, 0.0)
    step = max(grid.angular_sampling(wavelength(energy)))
    # A hole smaller than a pixel takes away the part of the central pixel that it covers.
    whole = jnp.maximum(0.5 - detector.inner / step, 0.0)
    rise = jnp.clip((distance - detector.inner) / step + 0.5 + whole, 0.0, 1.0)
    return rise * jnp.clip((detector.outer - distance) / step + 0.5, 0.0, 1.0)


def detector_angles(
    grid: Grid, energy: Annotated[float, "eV"], offset: Array | tuple[float, float] = (0.0, 0.0)
) -> tuple[Float[Array, "ny 1"], Float[Array, "1 nx"]]:
    """Angles (y, x) of the reciprocal pixels against a point of the detector plane [mrad].

    Args:
        grid: Real-space grid of the wave.
        energy: Beam energy [eV].
        offset: The point (y, x) [mrad].

    >>> [a.shape for a in detector_angles(Grid((4, 8), (0.5, 0.5)), 80e3)]
    [(4, 1), (1, 8)]
    """
    scale = 1e3 * wavelength(energy)
    ky, kx = (real(scale * k) for k in grid.frequencies())
    return ky - offset[0], kx - offset[1]


def check_detectors(
    detectors: dict[str, Detector], grid: Grid, energy: Annotated[float, "eV"], limit: float | None = 2.0 / 3.0
) -> None:
    """Refuse detectors that reach beyond what the grid carries; each by the name that the person gave it.

    Args:
        detectors: Detectors by name.
        grid: Real-space grid.
        energy: Beam energy [eV].
        limit: Band limit of the calculation as a fraction of Nyquist; None for none.

    Raises:
        InputError: A detector reaches beyond the band limit.

    >>> check_detectors({"adf": make_annular_detector(30.0, 60.0)}, Grid((64, 64), (0.2, 0.2)), 80e3)
    """
    for name, detector in detectors.items():
        check_reach(detector.reach, grid, energy, limit, name)


def check_reach(
    outer: float, grid: Grid, energy: float, limit: float | None = 2.0 / 3.0, name: str = "detector"
) -> None:
    """Refuse a detector that reaches beyond what the grid carries, with the numbers that would work.

    Args:
        outer: Largest angle of the detector [mrad].
        grid: Real-space grid.
        energy: Beam energy [eV].
        limit: Band limit of the calculation as a fraction of Nyquist; None for none.
        name: What the person calls the detector.

    Raises:
        InputError: The detector reaches beyond the band limit.

    >>> check_reach(60.0, Grid((64, 64), (0.2, 0.2)), 80e3)
    """
    carried = 1e3 * wavelength(energy) * grid.nyquist * (1.0 if limit is None else limit)
    if outer > carried * (1 + 1e-6):
        finest = 0.5e3 * wavelength(energy) * (1.0 if limit is None else limit) / outer
        size = tuple(int(np.ceil(e / _rounded_down(finest))) for e in grid.extent)
        raise InputError(
            f"{name} reaches {outer:.4g} mrad, but a sampling of {max(grid.sampling):.4g} Å carries only "
            f"{carried:.4g} mrad; use a sampling of {_rounded_down(finest):g} Å or finer ({size[0]} × {size[1]} pixels "
            f"for this cell), or end the detector at {_rounded_down(carried):g} mrad"
        )


def _rounded_down(value: float) -> float:
    """Three digits, never more than the value: advice must work.

    >>> _rounded_down(0.24857), _rounded_down(55.69)
    (0.248, 55.6)
    """
    unit = 10.0 ** (np.floor(np.log10(value)) - 2)
    return float(np.round(np.floor(value / unit * (1 + 1e-12)) * unit, 12))
