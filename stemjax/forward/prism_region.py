"""The scattering matrix of a scan that covers a part of the specimen: fewer waves than beams, and as exact.

Probes within a field of view differ by phase factors exp(−2πi k·r), r in the field, k in the aperture. Such functions
are nearly confined to a space whose dimension is the area of the field times that of the aperture (the number of
Slepian's functions that are not negligible), however large the specimen. A basis of that space is sent through the
specimen instead of the beams.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.executor import Execution
from stemjax.core.grid import Grid
from stemjax.core.typing import Array, real, real_dtype
from stemjax.forward.prism_forms import WholeForm, dealt
from stemjax.scatter.prism import beam_phases, combine

Region = tuple[float, float, float, float]

WORTH = 0.8
"""Waves over beams above which the basis is not worth its making."""

LARGEST = 3000
"""Products of one-dimensional functions that are still made into a basis; beyond, that takes too long."""

CHECKED = 9
"""Places along a side of the field at which the basis is checked, corners included: there it is worst."""


def tolerance() -> float:
    """Largest part of a phase factor's norm that the basis may lose: rounding of the float type in force.

    >>> tolerance() in (1e-6, 1e-11)
    True
    """
    return 1e-6 if real_dtype() == np.float32 else 1e-11


def region_basis(grid: Grid, beams: np.ndarray, sides: tuple[float, float], error: float) -> np.ndarray | None:
    r"""Orthonormal functions of k that make up every phase factor of a field of view around the origin.

    .. math:: \Big\| e^{-2\pi i k r} - \sum_{j \le n} c_j(r) u_j(k) \Big\| \le \epsilon \| e^{-2\pi i k r} \|

    Args:
        grid: Window of the probe.
        beams: Flat indices of its beams.
        sides: Lengths (y, x) of the field [Å].
        error: ε, at the places of a raster over the field.

    Returns:
        Real array [beam function], or None where there would be nearly as many functions as beams. Source: Slepian,
        Bell Syst. Tech. J. 43 (1964) 3009.

    >>> basis = region_basis(Grid((64, 64), (0.2, 0.2)), np.arange(30), (1.0, 1.0), 1e-6)
    >>> basis.shape[0], basis.shape[1] < 24
    (30, True)
    """
    rounded = tuple(float(np.ceil(side * 1e4) / 1e4) for side in sides)
    return _basis(grid, np.asarray(beams, np.int64).tobytes(), (rounded[0], rounded[1]), error)


@functools.lru_cache(maxsize=16)
def _basis(grid: Grid, beams: bytes, sides: tuple[float, float], error: float) -> np.ndarray | None:
    rows, columns = np.divmod(np.frombuffer(beams, np.int64), grid.shape[1])
    ky, kx = (k.ravel()[i] for k, i in zip(grid.frequencies(), (rows, columns), strict=True))
    (along_y, weight_y), (along_x, weight_x) = (_along(k, s / 2) for k, s in ((ky, sides[0]), (kx, sides[1])))
    weight = weight_y[:, None] * weight_x[None]
    kept = weight > 1e-2 * error * weight.max()
    if kept.sum() > LARGEST or sides[0] * sides[1] > WORTH * grid.extent[0] * grid.extent[1]:
        return None
    products = (along_y[:, :, None] * along_x[:, None, :])[:, kept] * weight[kept]
    functions = np.linalg.svd(products, full_matrices=False)[0]
    places = [np.linspace(-0.5, 0.5, CHECKED) * side for side in sides]
    y, x = (p.ravel()[:, None] for p in np.meshgrid(*places, indexing="ij"))
    factors = np.exp(-2j * np.pi * (y * ky + x * kx)) / np.sqrt(len(ky))
    power = np.abs(factors @ functions) ** 2
    # What the first n functions lose: all the later ones.
    lost = np.sqrt(np.cumsum(power[:, ::-1], axis=1)[:, ::-1]).max(axis=0)
    count = int(np.argmax(lost < error)) if (lost < error).any() else functions.shape[1]
    return functions[:, :count] if count < WORTH * len(ky) else None


def _along(k: np.ndarray, half: float) -> tuple[np.ndarray, np.ndarray]:
    """Functions of the frequencies along one axis [beam function], and how much phase factors of |r| ≤ half use them.

    The places r are nodes of a Gauss rule; those at ±r together are a cosine and a sine, so that all is real.
    """
    values, which = np.unique(k, return_inverse=True)
    nodes, weights = np.polynomial.legendre.leggauss(int(4 * np.abs(values).max() * half) + 40)
    nodes, weights = nodes[nodes > 0] * half, np.sqrt(weights[nodes > 0])[:, None]
    angle = 2 * np.pi * np.outer(nodes, values)
    _, strength, functions = np.linalg.svd(
        np.concatenate([weights * np.cos(angle), weights * np.sin(angle)]), full_matrices=False
    )
    kept = strength > 1e-15 * strength[0]
    return functions[kept].T[which], strength[kept]


@dataclass(frozen=True)
class RegionForm(WholeForm):
    """The matrix of the functions that make up the probes of a field of view, for every mode by itself.

    Args:
        basis: Functions of k [beam function].
        centre: Middle of the field (y, x) [Å].
        waves: States × modes of the probe; a group of the matrix for each.
    """

    basis: np.ndarray = None  # type: ignore[assignment]
    centre: tuple[float, float] = (0.0, 0.0)
    waves: int = 1

    def matrix(
        self,
        field: Array,
        propagators: Array,
        waves: Array,
        items: Any,
        depths: tuple[int, ...],
        execution: Execution,
    ) -> Array:
        every = super().matrix(field, propagators, waves, items, depths, execution)[0]
        functions = self.basis.shape[1]
        return every[: self.waves * functions].reshape(self.waves, functions, *every.shape[1:])

    def start(self, waves: Array, item: Array, shape: tuple[int, int]) -> Array:
        mode, function = jnp.divmod(item, self.basis.shape[1])
        beams, middle = self.beams[0], real(self.centre)[None]
        probe = waves.reshape(self.waves, -1)[mode][beams] * beam_phases(self.window, beams, middle)[0]
        amplitudes = probe * real(self.basis.T)[function]
        return jnp.zeros(shape[0] * shape[1], waves.dtype).at[beams].set(amplitudes).reshape(shape)

    @property
    def matrix_shape(self) -> tuple[int, int, int]:
        return self.waves, self.basis.shape[1], len(self.pixels)

    @property
    def sent(self) -> int:
        return self.waves * self.basis.shape[1]

    def product_size(self, modes: int) -> float:  # noqa: ARG002 - the groups are the modes
        return float(np.prod(self.matrix_shape))

    def prepare(self, waves: Array, items: Any) -> Any:  # noqa: ARG002 - the matrix holds the probe already
        return ()

    def products(self, matrix: Array, prepared: Any, places: Array) -> tuple[Array, Array]:  # noqa: ARG002
        factors = beam_phases(self.window, self.beams[0], places - real(self.centre)[None])
        basis = real(self.basis)
        parts = [jnp.matmul(part, basis, precision=jax.lax.Precision.HIGHEST) for part in (factors.real, factors.imag)]
        coefficients = jax.lax.complex(*parts)
        rows = jnp.broadcast_to(coefficients[None], (self.waves, *coefficients.shape))
        one, other = (jnp.moveaxis(w, 0, 1).reshape(1, -1, *w.shape[2:]) for w in combine(rows, matrix))
        return one, other


def region_form(whole: WholeForm, region: Region, waves: int, prism: Any, work: float) -> WholeForm:
    """The form for a field of view; that of the whole specimen where it would not send fewer waves."""
    sides = region[2] - region[0], region[3] - region[1]
    count = int(whole.weight.sum())
    beams = whole.beams[0][:count]
    basis = region_basis(whole.window, beams, sides, tolerance())
    if basis is None or waves * basis.shape[1] > WORTH * count:
        return whole
    steps, _, _ = dealt(np.arange(waves * basis.shape[1]), prism.execution, work)
    shared = {name: getattr(whole, name) for name in ("grid", "window", "items_spread", "matrix_spread")}
    return RegionForm(
        **shared,
        beams=beams[None],
        weight=np.ones((1, count)),
        items=steps,
        pixels=whole.pixels,
        where=whole.where,
        inside=whole.inside,
        basis=basis,
        centre=(0.5 * (region[0] + region[2]), 0.5 * (region[1] + region[3])),
        waves=waves,
    )


def check_region(region: Region, positions: Any) -> None:
    """Refuse probes beside the field of view; traced positions are taken on trust.

    Raises:
        InputError: Some are, and where.
    """
    if isinstance(positions, jax.core.Tracer):
        return
    places = np.asarray(positions)
    outside = int(((places < np.array(region[:2]) - 1e-3) | (places > np.array(region[2:]) + 1e-3)).any(axis=1).sum())
    if outside:
        low, high = places.min(axis=0), places.max(axis=0)
        raise InputError(
            f"{outside} of {len(places)} probes lie outside the region {tuple(region)} Å of this Prism; use region="
            f"({low[0]:.4g}, {low[1]:.4g}, {high[0]:.4g}, {high[1]:.4g}), or None"
        )
