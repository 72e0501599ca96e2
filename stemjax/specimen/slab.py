"""A specimen that is the same at every depth, with a transmission that is free in the complex plane."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.grid import Grid
from stemjax.core.typing import Annotated, Array, real
from stemjax.specimen.objects import AtRest, PixelatedObject, make_object


class Slab(AtRest, struct.PyTreeNode):
    r"""A specimen that is the same at every depth; made by `make_slab`.

    One step through it multiplies the wave by 1 + real + i·imaginary: a plane, not a circle. A reconstruction of a
    thick crystal that starts from a blank phase object stalls, because a column that is found as its own negative would
    have to pass through a blank to mend it. In the plane there is a way round: it may absorb for a while.

    Args:
        real: Real part of the transmission of one step, less 1 [1 ny nx].
        imaginary: Imaginary part of the transmission of one step [1 ny nx].
        thickness: Thickness of the whole [1] [Å].
        origin: Position of pixel (0, 0) in the frame of the scan (y, x) [Å].
        grid: Grid of the pixels.
        periodic: Whether the specimen repeats beyond its borders.
    """

    real: Array
    imaginary: Array
    thickness: Annotated[Array, "Å"]
    origin: Annotated[Array, "Å"]
    grid: Grid = struct.field(pytree_node=False)
    periodic: bool = struct.field(pytree_node=False, default=False)

    def transmission(self, interaction_parameter: float) -> Array:  # noqa: ARG002 - the values hold it already
        """Transmission function of one step [1 ny nx]."""
        return 1.0 + self.real + 1j * self.imaginary

    def thinned(self, steps: int) -> Slab:
        """One of so many equal steps; the transmission is that of a step already."""
        return self.replace(thickness=self.thickness / steps)


def make_slab(grid: Grid, thickness: float, *, origin: tuple[float, float] = (0.0, 0.0)) -> Slab:
    """A slab of vacuum, to be filled.

    Args:
        grid: Grid of the pixels.
        thickness: Thickness [Å].
        origin: Position of pixel (0, 0) in the frame of the scan (y, x) [Å].

    >>> make_slab(Grid((4, 4), (0.2, 0.2)), 200.0).transmission(1e-3).shape
    (1, 4, 4)
    """
    blank = real(jnp.zeros((1, *grid.shape)))
    return Slab(blank, blank, real(np.array([thickness])), real(np.array(origin)), grid)


def sliced(slab: Slab, steps: int, slices: int) -> PixelatedObject:
    r"""The phase object nearest to a slab, in slices.

    .. math:: \varphi = \frac{n_\mathrm{steps}}{n_\mathrm{slices}} \arg(1 + \mathrm{real} + i\,\mathrm{imaginary})

    Steps must be so many that the phase of one stays below π; that of a slice need not.

    Args:
        slab: The slab.
        steps: Steps that the wave took through it.
        slices: Slices of the object.

    Returns:
        The object, without absorption.

    >>> slab = make_slab(Grid((4, 4), (0.2, 0.2)), 200.0)
    >>> sliced(slab.replace(imaginary=slab.imaginary + 1.0), 20, 10).phase.shape
    (10, 4, 4)
    """
    step = np.arctan2(np.asarray(slab.imaginary), 1.0 + np.asarray(slab.real))
    phase = np.repeat(step * (steps / slices), slices, axis=0)
    origin = np.asarray(slab.origin)
    thickness = float(np.asarray(slab.thickness).sum()) / slices
    return make_object(slab.grid, phase=phase, thickness=thickness, origin=(float(origin[0]), float(origin[1])))
