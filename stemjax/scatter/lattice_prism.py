"""The scattering matrix of a perfect crystal: a plane wave k meets only waves k + g of the tile's reciprocal lattice.

On a grid of R tiles the reciprocal pixel q = R g + j belongs to class j: multislice never mixes classes, and within one
it is multislice on the grid of a single tile, whose propagator has k folded in (Bloch's theorem).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.typing import Array, Complex, Int, typed
from stemjax.scatter.prism import scattered_beam


def class_of_pixels(shape: tuple[int, int], repeats: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Class of every reciprocal pixel and its place on the tile's grid, both flat indices [ny nx].

    Args:
        shape: Reciprocal pixels (ny, nx) of all tiles together.
        repeats: Number of tiles (y, x).

    >>> classes, places = class_of_pixels((4, 2), (2, 1))
    >>> classes.tolist(), places.tolist()
    ([[0, 0], [1, 1], [0, 0], [1, 1]], [[0, 1], [0, 1], [2, 3], [2, 3]])
    """
    gy, jy = np.divmod(np.arange(shape[0]), repeats[0])
    gx, jx = np.divmod(np.arange(shape[1]), repeats[1])
    classes = jy[:, None] * repeats[1] + jx[None, :]
    return classes, gy[:, None] * (shape[1] // repeats[1]) + gx[None, :]


@typed
def class_propagators(
    propagators: Complex[Array, "steps ny nx"], repeats: tuple[int, int], classes: Int[np.ndarray, "class"]
) -> Complex[Array, "class steps tile_y tile_x"]:
    """Propagators of some classes, each on the tile's grid.

    >>> class_propagators(jnp.ones((1, 4, 6)) + 0j, (2, 3), np.array([0, 5])).shape
    (2, 1, 2, 2)
    """
    steps, ny, nx = propagators.shape
    split = propagators.reshape(steps, ny // repeats[0], repeats[0], nx // repeats[1], repeats[1])
    apart = jnp.transpose(split, (2, 4, 0, 1, 3))
    return apart.reshape(repeats[0] * repeats[1], *apart.shape[2:])[classes]


@typed
def class_matrix(
    transmission: Complex[Array, "slice tile_y tile_x"],
    propagators: Complex[Array, "steps tile_y tile_x"],
    beams: Int[Array, "beam"],
    depths: tuple[int, ...],
    *,
    batch: int = 1,
) -> Complex[Array, "beam depth tile_y tile_x"]:
    """Scattering matrix of the beams of one class.

    Args:
        transmission: Transmission function of the tile's slices.
        propagators: Propagators of the class.
        beams: Places of the beams on the tile's grid.
        depths: Numbers of slices passed.
        batch: Beams at once: a tile is small, and many fill a processor's cache.

    >>> t = jnp.ones((3, 4, 4)) + 0j
    >>> class_matrix(t, t[:1], jnp.array([1, 2]), (1, 3)).shape
    (2, 2, 4, 4)
    """

    @jax.checkpoint
    def some(chosen: Array) -> Array:
        return jax.vmap(lambda beam: scattered_beam(beam, transmission, propagators, depths))(chosen)

    if beams.shape[0] <= batch:
        return some(beams)
    return jax.lax.map(some, beams.reshape(-1, batch)).reshape(-1, len(depths), *transmission.shape[1:])
