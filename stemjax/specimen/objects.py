"""Specimens as the beam meets them: complex transmission functions, slice by slice."""

from __future__ import annotations

from typing import Protocol, Self

import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.core.typing import Annotated, Array, Complex, Float, real, typed


class Specimen(Protocol):
    """What a specimen must tell: where it is, how its slices transmit, and how many arrangements of atoms it is.

    A specimen whose atoms move is a number of `configurations`; what is observed is the mean intensity over them. Every
    other specimen is one configuration, itself.
    """

    @property
    def grid(self) -> Grid:
        """Grid of the pixels."""
        ...

    @property
    def origin(self) -> Array:
        """Position of pixel (0, 0) in the frame of the scan (y, x) [Å]."""
        ...

    @property
    def thickness(self) -> Array:
        """Distance from every slice to the next, [slice], or one for all, [1] [Å]."""
        ...

    @property
    def periodic(self) -> bool:
        """Whether the specimen repeats beyond its borders."""
        ...

    @property
    def configurations(self) -> int:
        """Number of arrangements of the atoms; 1 for a specimen at rest."""
        ...

    def configuration(self, index: Array | int) -> Specimen:
        """One arrangement, a specimen at rest; `index` may be traced."""
        ...

    def transmission(self, interaction_parameter: float) -> Array:
        """Transmission function of every slice [slice ny nx]; of the mean potential where the atoms move."""
        ...


class AtRest:
    """A specimen of one configuration: what plain objects share."""

    @property
    def configurations(self) -> int:
        """Number of arrangements of the atoms: 1."""
        return 1

    def configuration(self, index: Array | int) -> Self:  # noqa: ARG002 - there is only one
        """The specimen itself."""
        return self


class PixelatedObject(AtRest, struct.PyTreeNode):
    """A specimen given by phase shift and absorption of every pixel; made by `make_object`.

    Args:
        phase: Phase shift of the wave [slice ny nx] [rad].
        log_amplitude: Logarithm of the transmitted amplitude [slice ny nx]; 0 for a pure phase object.
        thickness: Distance from every slice to the next [slice] or one for all [1] [Å].
        origin: Position of pixel (0, 0) in the frame of the scan (y, x) [Å].
        grid: Grid of the pixels.
        periodic: Whether the object repeats beyond its borders.
    """

    phase: Annotated[Array, "rad"]
    log_amplitude: Array
    thickness: Annotated[Array, "Å"]
    origin: Annotated[Array, "Å"]
    grid: Grid = struct.field(pytree_node=False)
    periodic: bool = struct.field(pytree_node=False, default=False)

    def transmission(self, interaction_parameter: float) -> Array:  # noqa: ARG002 - the phase holds it already
        """Transmission function exp(log_amplitude + i phase) [slice ny nx]."""
        return transmission(self.phase, self.log_amplitude)

    def thinned(self, steps: int) -> PixelatedObject:
        """The object of which every slice is one of so many equal steps through this one's."""
        share = 1.0 / steps
        return self.replace(
            phase=share * self.phase, log_amplitude=share * self.log_amplitude, thickness=share * self.thickness
        )


class PotentialObject(AtRest, struct.PyTreeNode):
    """A specimen given by its projected potential; made by `make_potential_object`.

    Args:
        values: Projected potential of every slice [slice ny nx] [V Å].
        thickness: Distance from every slice to the next [slice] or one for all [1] [Å].
        origin: Position of pixel (0, 0) in the frame of the scan (y, x) [Å].
        grid: Grid of the pixels.
        periodic: Whether the specimen repeats beyond its borders.
    """

    values: Annotated[Array, "V Å"]
    thickness: Annotated[Array, "Å"]
    origin: Annotated[Array, "Å"]
    grid: Grid = struct.field(pytree_node=False)
    periodic: bool = struct.field(pytree_node=False, default=True)

    def transmission(self, interaction_parameter: float) -> Array:
        """Transmission function exp(iσV) [slice ny nx]."""
        return transmission(interaction_parameter * self.values)

    def thinned(self, steps: int) -> PotentialObject:
        """The object of which every slice is one of so many equal steps through this one's."""
        return self.replace(values=self.values / steps, thickness=self.thickness / steps)


@typed
def transmission(
    phase: Annotated[Float[Array, "slice ny nx"], "rad"], log_amplitude: Float[Array, "slice ny nx"] | None = None
) -> Complex[Array, "slice ny nx"]:
    r"""Transmission function of thin slices.

    .. math:: t(r) = \exp(a(r) + i \varphi(r)), \qquad \varphi = \sigma V

    Args:
        phase: Phase shift [rad].
        log_amplitude: Logarithm of the amplitude; none for a pure phase object.

    >>> complex(transmission(jnp.full((1, 1, 1), jnp.pi))[0, 0, 0]).real
    -1.0
    """
    wave = jnp.cos(phase) + 1j * jnp.sin(phase)
    return wave if log_amplitude is None else jnp.exp(log_amplitude) * wave


def make_object(
    grid: Grid,
    *,
    slices: int = 1,
    thickness: Annotated[float | np.ndarray, "Å"] = 0.0,
    phase: np.ndarray | Array | None = None,
    log_amplitude: np.ndarray | Array | None = None,
    origin: Annotated[tuple[float, float], "Å"] = (0.0, 0.0),
    periodic: bool = False,
) -> PixelatedObject:
    """A pixelated object, empty unless told otherwise.

    Args:
        grid: Grid of the pixels.
        slices: Number of slices; taken from `phase` where it is given.
        thickness: Thickness of a slice [Å], one number or one a slice.
        phase: Phase shift [slice ny nx] [rad].
        log_amplitude: Logarithm of the amplitude [slice ny nx].
        origin: Position of pixel (0, 0) [Å].
        periodic: Whether the object repeats.

    >>> make_object(Grid((8, 8), (0.2, 0.2)), slices=3).phase.shape
    (3, 8, 8)
    """
    shape = (slices if phase is None else phase.shape[0], *grid.shape)
    for name, array in (("phase", phase), ("log_amplitude", log_amplitude)):
        if array is not None and tuple(array.shape) != shape:
            raise InputError(f"{name} of shape {tuple(array.shape)} does not fit the object's [slice ny nx] {shape}")
    steps = np.atleast_1d(np.asarray(thickness, dtype=float))
    if steps.size not in (1, shape[0]):
        raise InputError(f"{steps.size} slice thicknesses for {shape[0]} slices; give one, or one a slice")
    zeros = np.zeros(shape)
    return PixelatedObject(
        phase=real(zeros if phase is None else phase),
        log_amplitude=real(zeros if log_amplitude is None else log_amplitude),
        thickness=real(steps),
        origin=real(origin),
        grid=grid,
        periodic=periodic,
    )


def make_potential_object(
    values: np.ndarray | Array,
    thickness: np.ndarray | Array | float,
    grid: Grid,
    *,
    origin: tuple[float, float] = (0.0, 0.0),
    periodic: bool = True,
) -> PotentialObject:
    """A specimen from an array of projected potential [slice ny nx] [V Å].

    >>> make_potential_object(np.zeros((2, 8, 8)), 2.0, Grid((8, 8), (0.2, 0.2))).thickness.shape
    (1,)
    """
    if values.ndim != 3 or tuple(values.shape[1:]) != grid.shape:
        raise InputError(f"potential of shape {tuple(values.shape)} does not fit a grid of {grid.shape}")
    return PotentialObject(
        values=real(values),
        thickness=jnp.atleast_1d(real(thickness)),
        origin=real(origin),
        grid=grid,
        periodic=periodic,
    )
