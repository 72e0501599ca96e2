"""A small periodic specimen laid out many times, so that simulators can make use of the repetition."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.core.typing import Annotated, Array


class RepeatedObject(struct.PyTreeNode):
    """A tile repeated along y and x; made by `make_repeated`.

    All tiles are the same in every configuration: atoms that vibrate do so in step in all of them, which leaves the
    thermal scattering in the reciprocal points of the tile. A tile should be wider than what one probe sees at once.

    Args:
        tile: A periodic specimen.
        repeats: How often along y and x.
    """

    tile: Any
    repeats: tuple[int, int] = struct.field(pytree_node=False)

    @property
    def grid(self) -> Grid:
        """Grid of all tiles together."""
        (ny, nx), (my, mx) = self.tile.grid.shape, self.repeats
        return Grid((ny * my, nx * mx), self.tile.grid.sampling)

    @property
    def origin(self) -> Annotated[Array, "Å"]:
        """Position of pixel (0, 0) of the first tile (y, x) [Å]."""
        return self.tile.origin

    @property
    def thickness(self) -> Annotated[Array, "Å"]:
        """Distance from every slice to the next, those of the tile [Å]."""
        return self.tile.thickness

    @property
    def periodic(self) -> bool:
        """Whether the specimen repeats beyond its borders, as the tile does."""
        return self.tile.periodic

    @property
    def configurations(self) -> int:
        """Number of arrangements of the tile's atoms."""
        return self.tile.configurations

    def configuration(self, index: Array | int) -> RepeatedObject:
        """One arrangement, the same in all tiles."""
        return self.replace(tile=self.tile.configuration(index))

    def transmission(self, interaction_parameter: float) -> Array:
        """Transmission function of every slice [slice ny nx], all tiles."""
        return jnp.tile(self.tile.transmission(interaction_parameter), (1, *self.repeats))


def make_repeated(tile: Any, repeats: tuple[int, int]) -> RepeatedObject:
    """A tile repeated along y and x, checked.

    Args:
        tile: A periodic specimen.
        repeats: How often along y and x, each at least once.

    Raises:
        InputError: The tile does not repeat, or is asked for less than once.

    >>> import numpy as np
    >>> from stemjax.specimen.objects import make_potential_object
    >>> tile = make_potential_object(np.zeros((2, 8, 8)), 2.0, Grid((8, 8), (0.2, 0.2)))
    >>> make_repeated(tile, (2, 3)).transmission(1e-3).shape
    (2, 16, 24)
    """
    if len(repeats) != 2 or min(repeats) < 1:
        raise InputError(f"repeats {tuple(repeats)} must be two whole numbers from 1, such as (3, 4) along y and x")
    if not tile.periodic:
        raise InputError("the tile does not repeat; make it with periodic=True, from a cell whose borders fit together")
    return RepeatedObject(tile, (int(repeats[0]), int(repeats[1])))
