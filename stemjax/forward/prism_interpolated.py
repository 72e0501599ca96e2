"""The interpolated scattering matrix: fewer beams through a specimen larger than the window, an approximation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from stemjax.core.executor import AXIS
from stemjax.core.grid import Grid
from stemjax.core.typing import Array
from stemjax.forward.prism_forms import LANES, PIXELS_SPREAD, WholeForm, carried, dealt, filled_up, slice_work


@dataclass(frozen=True)
class InterpolatedForm(WholeForm):
    """The matrix of a specimen larger than the window, in real space, as finely sampled as the band limit needs.

    Args:
        frequencies: Flat indices, on the specimen's grid, of the coarse grid's reciprocal pixels [cy cx].
        coarse: Pixels of the window on the coarse grid (y, x).
        factors: Interpolation.
    """

    frequencies: np.ndarray = None  # type: ignore[assignment]
    coarse: tuple[int, int] = (0, 0)
    factors: tuple[int, int] = (1, 1)

    def kept(self, waves: Array) -> Array:
        """Real and imaginary part of exit waves [depth ny nx] on the coarse grid, in units for `intensity`."""
        some = waves.reshape(waves.shape[0], -1)[:, self.frequencies]
        # ifft2 divides by the coarse pixels of all windows; what is wanted is divided by those of one.
        field = jnp.fft.ifft2(some) * (self.factors[0] * self.factors[1])
        flat = field.reshape(waves.shape[0], -1)[:, self.pixels]
        return jnp.stack([flat.real, flat.imag], axis=1)

    def intensity(self, waves: tuple[Array, Array], places: Array, states: int, devices: int) -> Array:
        probes = places.shape[0]
        both = jnp.stack([part[0].reshape(probes, states, -1, *part.shape[2:]) for part in waves])
        if devices > 1:
            both = jax.lax.all_to_all(both, AXIS, 1, 5, tiled=True)
            share = probes // devices
            places = jax.lax.dynamic_slice_in_dim(places, jax.lax.axis_index(AXIS) * share, share)
        field = jax.lax.complex(both[0], both[1])[..., : self.frequencies.size]
        return jax.vmap(self._cropped)(field.reshape(*field.shape[:-1], *self.frequencies.shape), places)

    def _cropped(self, field: Array, place: Array) -> Array:
        """Pattern [state depth ny nx] of the window around one probe, from waves [state mode depth cy cx]."""
        sampling = [e / m for e, m in zip(self.window.extent, self.coarse, strict=True)]
        rows, columns = (
            jnp.mod(jnp.floor(place[i] / sampling[i] + 0.5).astype(int) - m // 2 + np.arange(m), m * self.factors[i])
            for i, m in enumerate(self.coarse)
        )
        amplitude = jnp.fft.fft2(field[..., rows, :][..., columns])
        pattern = jnp.sum(amplitude.real**2 + amplitude.imag**2, axis=1)
        flat = pattern.reshape(*pattern.shape[:2], -1)[..., self.where.ravel()]
        return flat.reshape(*pattern.shape[:2], *self.where.shape) * self.inside.astype(pattern.dtype)[None, None]


def interpolated_form(grid: Grid, window: Grid, beams: np.ndarray, prism: Any, slices: int) -> InterpolatedForm:
    """The form of a specimen larger than the window by whole factors."""
    factors, inside = prism.interpolation, carried(window, prism)
    signed = [np.rint(np.fft.fftfreq(n) * n).astype(int) for n in window.shape]
    highest = [max(abs(s[inside.any(axis=1 - i)])) for i, s in enumerate(signed)]
    coarse = tuple(min(n, 2 * int(h) + 2) for n, h in zip(window.shape, highest, strict=True))
    full = [np.rint(np.fft.fftfreq(f * m) * f * m).astype(int) for f, m in zip(factors, coarse, strict=True)]
    rows, columns = (f % n for f, n in zip(full, grid.shape, strict=True))
    frequencies = rows[:, None] * grid.shape[1] + columns[None, :]
    steps, row, weight = dealt(beams, prism.execution, slices * slice_work(math.prod(grid.shape)))
    by, bx = (signed[i][part] * factors[i] % grid.shape[i] for i, part in enumerate(np.divmod(steps, window.shape[1])))
    where = (signed[0] % coarse[0])[:, None] * coarse[1] + (signed[1] % coarse[1])[None, :]
    return InterpolatedForm(
        grid=grid,
        window=window,
        beams=row,
        weight=weight,
        items=(by * grid.shape[1] + bx).astype(np.int32),
        items_spread=P(None, AXIS),
        matrix_spread=PIXELS_SPREAD,
        pixels=filled_up(np.arange(frequencies.size), LANES * prism.execution.devices),
        where=where.astype(np.int32),
        inside=inside,
        frequencies=frequencies.astype(np.int32),
        coarse=(coarse[0], coarse[1]),
        factors=factors,
    )
