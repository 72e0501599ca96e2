"""The scattering matrix of a tile that repeats: groups of beams that never mix, each on the grid of one tile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from stemjax.core.errors import InputError
from stemjax.core.executor import AXIS, Execution
from stemjax.core.grid import Grid
from stemjax.core.typing import Array
from stemjax.forward.prism_forms import LANES, Form, carried, placed
from stemjax.scatter.lattice_prism import class_matrix, class_of_pixels, class_propagators

TILE_PIXELS = 32768
"""Pixels of all the beams that a device sends at once on small tiles: they fit its cache."""


@dataclass(frozen=True)
class LatticeForm(Form):
    """The matrix of a tile that repeats: classes of pixels, split over the devices.

    Args:
        where: Place of every pixel of the window in the products' last axis [ny nx].
        inside: Which pixels are kept at all [ny nx].
        classes: Number of every class that has beams [class].
    """

    where: np.ndarray = None  # type: ignore[assignment]
    inside: np.ndarray = None  # type: ignore[assignment]
    classes: np.ndarray = None  # type: ignore[assignment]

    def matrix(
        self,
        field: Array,
        propagators: Array,
        waves: Array,  # noqa: ARG002 - the beams do not depend on the probe
        items: Any,
        depths: tuple[int, ...],
        execution: Execution,
    ) -> Array:
        assert self.repeats is not None
        number, _, places, _, pixels = items
        # All classes' propagators stand on every device: they are no larger than the window's.
        apart = class_propagators(propagators, self.repeats, self.classes)
        batch = max(1, TILE_PIXELS // (field.shape[1] * field.shape[2]))
        batch = -(-places.shape[1] // -(-places.shape[1] // batch))

        def one(item: tuple[Array, Array, Array]) -> Array:
            which, starts, kept = item
            filled = jnp.concatenate([starts, jnp.repeat(starts[-1:], -starts.shape[0] % batch)])
            found = class_matrix(field, apart[which], filled, depths, batch=batch)[: starts.shape[0]]
            flat = found.reshape(*found.shape[:2], -1).at[..., kept].get(mode="promise_in_bounds")
            out = jnp.stack([flat.real, flat.imag], axis=2)
            # The sum makes devices wait for each other after every class, so that none falls a minute behind.
            return out if execution.devices == 1 else out + 0.0 * jax.lax.psum(out[0, 0, 0, 0], AXIS)

        return jax.lax.map(jax.checkpoint(one), (number, places, pixels))

    @property
    def matrix_shape(self) -> tuple[int, int, int]:
        return self.items[1].shape[0], self.beams.shape[1], self.items[4].shape[1]

    def local_beams(self, items: Any) -> tuple[Array, Array]:
        return items[1], items[3]

    def intensity(self, waves: tuple[Array, Array], places: Array, states: int, devices: int) -> Array:
        return placed(waves, places.shape[0], states, devices, self.where, self.inside)


def lattice_form(window: Grid, tile: Grid, beams: np.ndarray, prism: Any) -> LatticeForm:
    """The form of a tile that repeats; the window must be a whole number of tiles.

    Raises:
        InputError: It is not.
    """
    repeats = window.shape[0] // tile.shape[0], window.shape[1] // tile.shape[1]
    if any(r * n != m for r, n, m in zip(repeats, tile.shape, window.shape, strict=True)):
        fitting = tuple(max(1, round(m / n)) * n for m, n in zip(window.shape, tile.shape, strict=True))
        raise InputError(
            f"the probe's window of {window.shape} pixels is not a whole number of tiles of {tile.shape}; "
            f"use a window of {fitting} pixels, or Diffraction"
        )
    classes, places = (a.ravel() for a in class_of_pixels(window.shape, repeats))
    inside = carried(window, prism)
    found = np.unique(classes[beams])
    members = [beams[classes[beams] == c] for c in found]
    kept = [np.flatnonzero((classes == c) & inside.ravel()) for c in found]
    beam_table, weight = _table(members)
    longest = max(1, max(len(k) for k in kept))
    pixel_table, _ = _table([k if len(k) else members[i][:1] for i, k in enumerate(kept)], -(-longest // LANES) * LANES)
    where, reached = np.zeros(inside.size, np.int32), np.zeros(inside.size, bool)
    for i, pixels in enumerate(kept):
        where[pixels] = i * pixel_table.shape[1] + np.arange(len(pixels))
        reached[pixels] = True
    padding = -len(found) % prism.execution.devices
    tables = np.arange(len(found), dtype=np.int32), beam_table, places[beam_table], weight, places[pixel_table]
    items = tuple(np.concatenate([t, np.repeat(t[-1:], padding, axis=0)]) for t in tables)
    return LatticeForm(
        grid=window,
        window=window,
        beams=beam_table,
        weight=weight,
        items=items,
        items_spread=P(AXIS),
        matrix_spread=P(AXIS),
        repeats=repeats,
        where=where.reshape(inside.shape),
        inside=reached.reshape(inside.shape),
        classes=found,
    )


def _table(rows: list[np.ndarray], length: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Rows of different length as one table, filled with their last entries, and its weights."""
    length = length or max(len(row) for row in rows)
    filled = [np.concatenate([row, np.repeat(row[-1:], length - len(row))]) for row in rows]
    weight = [np.arange(length) < len(row) for row in rows]
    return np.stack(filled).astype(np.int32), np.stack(weight).astype(float)
