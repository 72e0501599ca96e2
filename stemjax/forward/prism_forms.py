"""Forms of the scattering matrix, and that of a whole specimen.

A form is the static part of a calculation: which beams are sent, which pixels are kept on which device, and how the
products of the matrix become intensities. `stemjax.forward.prism_tile` and `prism_interpolated` hold the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from stemjax.core.executor import AXIS, Execution
from stemjax.core.fourier import band_limit
from stemjax.core.grid import Grid
from stemjax.core.typing import Array
from stemjax.forward.experiment import Experiment
from stemjax.scatter.prism import beam_phases, combine, waves_at_depths

BEAMS_IN_STEP = (2, 64)
"""Least and most beams that a device sends before it meets the others."""

STEP_WORK = 1.5e10
"""Operations of a device before it meets the others: about a second."""

LANES = 16
"""Pixels on a device are a multiple of this, for the vector units."""


PIXELS_SPREAD = P(None, None, None, None, AXIS)
"""The matrix [group beam depth 2 pixel] split by pixels."""


@dataclass(frozen=True)
class Form:
    """What the forms share.

    Args:
        grid: Grid of the waves in the specimen.
        window: Grid of the probe and its patterns.
        beams: Flat indices, on the window's reciprocal grid, of the beams [group beam].
        weight: 1 for a beam, 0 for one that only fills the array [group beam].
        items: Arrays that are split over the devices.
        items_spread: Their partition.
        matrix_spread: Partition of the matrix.
        repeats: Tiles in the window (y, x), for a repeated tile only.
    """

    grid: Grid
    window: Grid
    beams: np.ndarray
    weight: np.ndarray
    items: Any
    items_spread: Any
    matrix_spread: Any
    repeats: tuple[int, int] | None = None

    def matrix(
        self,
        field: Array,
        propagators: Array,
        waves: Array,
        items: Any,
        depths: tuple[int, ...],
        execution: Execution,
    ) -> Array:
        """On one device: the matrix [group beam depth 2 pixel] of its pixels; `waves` are [state mode ny nx]."""
        raise NotImplementedError

    @property
    def sent(self) -> int:
        """Number of waves that are sent through the slices."""
        return int(self.weight.sum())

    def product_size(self, modes: int) -> float:
        """Complex products that one probe of so many modes takes."""
        groups, beams, pixels = self.matrix_shape
        return float(groups * beams * pixels * modes)

    def prepare(self, waves: Array, items: Any) -> Any:
        """On one device: what `products` needs of the probe [state mode ny nx]: beams, and their amplitudes."""
        beams, weight = self.local_beams(items)
        flat = waves.reshape(-1, waves.shape[2] * waves.shape[3])
        return beams, flat[:, beams] * weight[None]

    def products(self, matrix: Array, prepared: Any, places: Array) -> tuple[Array, Array]:
        """Real and imaginary part of the exit waves [group row depth pixel] of probes at places [probe 2] [Å]."""
        beams, amplitudes = prepared
        phases = beam_phases(self.window, beams, places)
        rows = (phases[:, None] * amplitudes[None]).reshape(-1, *beams.shape)
        return combine(jnp.moveaxis(rows, 1, 0), matrix)

    @property
    def matrix_shape(self) -> tuple[int, int, int]:
        """Groups, beams and pixels of the matrix on all devices together."""
        raise NotImplementedError

    def local_beams(self, items: Any) -> tuple[Array, Array]:  # noqa: ARG002 - some forms deal their beams out
        """On one device: the beams of its matrix and their weights [group beam]."""
        return jnp.asarray(self.beams), jnp.asarray(self.weight)

    def intensity(self, waves: tuple[Array, Array], places: Array, states: int, devices: int) -> Array:
        """From waves [group row depth pixel] of all probes to intensities [probe state depth ny nx] of some."""
        raise NotImplementedError


@dataclass(frozen=True)
class WholeForm(Form):
    """The matrix of a specimen that is the window: pixels within the band limit, split over the devices.

    Args:
        pixels: Flat indices of the pixels that are kept, all devices' one after the other.
        where: Place of every pixel of the window in the products' last axis [ny nx].
        inside: Which pixels are kept at all [ny nx].
    """

    pixels: np.ndarray = None  # type: ignore[assignment]
    where: np.ndarray = None  # type: ignore[assignment]
    inside: np.ndarray = None  # type: ignore[assignment]

    def matrix(
        self,
        field: Array,
        propagators: Array,
        waves: Array,
        items: Any,
        depths: tuple[int, ...],
        execution: Execution,
    ) -> Array:
        shape = (field.shape[1], field.shape[2])

        @jax.checkpoint
        def one(item: Array) -> Array:
            wave = self.start(waves, item, shape)
            return self.kept(waves_at_depths(wave, field, propagators, depths))

        def step(beams: Array) -> Array:
            some = jax.lax.map(one, beams) if execution.chunk == 1 else jax.vmap(one)(beams)
            # Beams were dealt to the devices; now each gives away other devices' pixels and gets their beams.
            return some if execution.devices == 1 else jax.lax.all_to_all(some, AXIS, 3, 0, tiled=True)

        every = jax.lax.map(step, items)
        return every.reshape(1, -1, *every.shape[2:])

    def start(self, waves: Array, item: Array, shape: tuple[int, int]) -> Array:
        """The wave that is sent for one item, in reciprocal space: a single beam."""
        return jnp.zeros(shape[0] * shape[1], waves.dtype).at[item].set(1.0).reshape(shape)

    @property
    def matrix_shape(self) -> tuple[int, int, int]:
        return 1, self.beams.shape[1], len(self.pixels)

    def kept(self, waves: Array) -> Array:
        """Real and imaginary part of the kept pixels [depth 2 pixel] of exit waves [depth ny nx]."""
        flat = waves.reshape(waves.shape[0], -1)[:, self.pixels]
        return jnp.stack([flat.real, flat.imag], axis=1)

    def intensity(self, waves: tuple[Array, Array], places: Array, states: int, devices: int) -> Array:
        return placed(waves, places.shape[0], states, devices, self.where, self.inside)


def placed(
    waves: tuple[Array, Array], probes: int, states: int, devices: int, where: np.ndarray, inside: np.ndarray
) -> Array:
    """Sum over modes, exchange of pixels for probes between devices, and every pixel in its place."""
    groups, _, depths, pixels = waves[0].shape
    both = (part.reshape(groups, probes, states, -1, depths, pixels) for part in waves)
    intensity = sum(jnp.sum(part**2, axis=3) for part in both)
    flat = jnp.moveaxis(jnp.asarray(intensity), 0, 3).reshape(probes, states, depths, -1)
    if devices > 1:
        flat = jax.lax.all_to_all(flat, AXIS, 0, 3, tiled=True)
    full = flat.at[..., where.ravel()].get(mode="promise_in_bounds").reshape(*flat.shape[:3], *where.shape)
    return full * inside.astype(full.dtype)[None, None, None]


def slice_count(experiment: Experiment) -> int:
    """Number of slices of the specimen, found without computing anything.

    >>> from stemjax.optics.probe import make_probe
    >>> from stemjax.optics.scan import make_raster
    >>> from stemjax.specimen.objects import make_object
    >>> grid = Grid((8, 8), (0.5, 0.5))
    >>> lens = make_probe(grid, energy=80e3, semiangle=8.0)
    >>> slice_count(Experiment(lens, make_object(grid, slices=3), make_raster((1, 1), 1.0), 1.0, 0.0))
    3
    """

    specimen = experiment.specimen
    at_rest = specimen.configuration(0) if hasattr(specimen, "configuration") else specimen
    return int(jax.eval_shape(lambda: at_rest.transmission(1e-3)).shape[0])


def slice_work(pixels: float) -> float:
    """Operations of one slice: two transforms and two products with complex arrays.

    >>> round(slice_work(256**2) / 1e6, 1)
    11.4
    """
    return 10.0 * pixels * math.log2(max(pixels, 2)) + 14.0 * pixels


def dealt(beams: np.ndarray, execution: Execution, work: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Beams in steps [step device·beam], and in a row with weights [1 beam]; the last one is repeated to fill.

    Devices meet after every step: often enough that none falls a minute behind (XLA then gives the others up), seldom
    enough that they do not wait for each other all the time.
    """
    least, most = BEAMS_IN_STEP
    wanted = min(max(int(STEP_WORK / work), least), most) if execution.chunk == 1 else execution.chunk
    steps = -(-len(beams) // (execution.devices * wanted))
    size = execution.devices * -(-len(beams) // (execution.devices * steps))
    padding = -len(beams) % size
    filled = np.concatenate([beams, np.repeat(beams[-1:], padding)]).astype(np.int32)
    weight = np.concatenate([np.ones(len(beams)), np.zeros(padding)])
    return filled.reshape(-1, size), filled[None], weight[None]


def filled_up(pixels: np.ndarray, multiple: int) -> np.ndarray:
    return np.concatenate([pixels, np.repeat(pixels[-1:], -len(pixels) % multiple)])


def carried(grid: Grid, prism: Any) -> np.ndarray:
    """Reciprocal pixels [ny nx] that the band limit lets pass."""
    everything = np.ones(grid.shape, bool)
    return everything if prism.limit is None else band_limit(grid, prism.limit, prism.taper) > 0


def whole_form(window: Grid, beams: np.ndarray, prism: Any, slices: int) -> WholeForm:
    """The form of a specimen that is the window."""
    steps, row, weight = dealt(beams, prism.execution, slices * slice_work(math.prod(window.shape)))
    inside = carried(window, prism)
    pixels = np.flatnonzero(inside)
    where = np.zeros(inside.size, np.int32)
    where[pixels] = np.arange(len(pixels))
    return WholeForm(
        grid=window,
        window=window,
        beams=row,
        weight=weight,
        items=steps,
        items_spread=P(None, AXIS),
        matrix_spread=PIXELS_SPREAD,
        pixels=filled_up(pixels, LANES * prism.execution.devices),
        where=where.reshape(inside.shape),
        inside=inside,
    )
