r"""Long-range electric and magnetic fields in and around a specimen, and the specimen turned over.

The frame is (x, y, z) with x to the right and y down in images and z along the beam: right-handed. An electron has the
charge −e and the momentum h k, so the phase grows towards where it is deflected. The Aharonov-Bohm phase of a vector
potential A and its gradient are

.. math::
    \varphi_m = -\frac{e}{\hbar} \int A_z\, dz, \qquad
    \nabla \varphi_m = \frac{e t}{\hbar} (B_y, -B_x) = \frac{e t}{\hbar}\, \mathbf B \times \hat z

along (x, y), which is the Lorentz force −e v × B over the time t/v. Source: Y. Aharonov, D. Bohm, Phys. Rev. 115 (1959)
485; M. Mankos, M. R. Scheinfein, J. M. Cowley, Adv. Imaging Electron Phys. 98 (1996) 323.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.core.typing import Annotated, Array, Float, Scalar, real
from stemjax.specimen.atomic import AtomicSpecimen
from stemjax.specimen.objects import PixelatedObject, PotentialObject
from stemjax.specimen.repeated import RepeatedObject
from stemjax.specimen.scattering_factors import ELEMENTARY_CHARGE, PLANCK
from stemjax.specimen.slicing import BORDER

CHARGE_PER_ACTION = 1e-20 * 2.0 * np.pi * ELEMENTARY_CHARGE / PLANCK
"""e/ħ, 1.5193e-5 rad/(T Å²)."""


class FieldObject(struct.PyTreeNode):
    """A specimen with the phases of an electric and of a magnetic field on top; made by `make_field_object`.

    Args:
        specimen: What carries the field; `make_object` gives an empty one.
        electrostatic: Phase of the electric field, for electrons of the energy in use [ny nx] [rad].
        magnetic: Phase of the magnetic field, the same for every energy [ny nx] [rad].
    """

    specimen: Any
    electrostatic: Annotated[Array, "rad"]
    magnetic: Annotated[Array, "rad"]

    @property
    def grid(self) -> Grid:
        """Grid of the specimen."""
        return self.specimen.grid

    @property
    def origin(self) -> Annotated[Array, "Å"]:
        """Position of pixel (0, 0) in the frame of the scan (y, x) [Å]."""
        return self.specimen.origin

    @property
    def thickness(self) -> Annotated[Array, "Å"]:
        """Distance from every slice to the next [Å]."""
        return self.specimen.thickness

    @property
    def periodic(self) -> bool:
        """Whether the specimen repeats beyond its borders."""
        return self.specimen.periodic

    @property
    def configurations(self) -> int:
        """Number of arrangements of the specimen's atoms."""
        return self.specimen.configurations

    def configuration(self, index: Array | int) -> FieldObject:
        """One arrangement of the atoms in the same field."""
        return self.replace(specimen=self.specimen.configuration(index))

    def transmission(self, interaction_parameter: float) -> Array:
        """Transmission function of every slice [slice ny nx]; the fields' phase is spread evenly over the depth."""
        slices = self.specimen.transmission(interaction_parameter)
        phase = self.electrostatic + self.magnetic
        steps = jnp.broadcast_to(self.thickness, (slices.shape[0],))
        depth = jnp.sum(steps)
        share = jnp.where(depth > 0, steps / jnp.where(depth > 0, depth, 1.0), 1.0 / slices.shape[0])
        angle = share[:, None, None] * phase[None]
        return slices * (jnp.cos(angle) + 1j * jnp.sin(angle))


def make_field_object(
    specimen: Any,
    *,
    electrostatic: Annotated[np.ndarray | Array, "rad"] | None = None,
    magnetic: Annotated[np.ndarray | Array, "rad"] | None = None,
) -> FieldObject:
    """A specimen in a field, checked.

    Args:
        specimen: Any specimen; `stemjax.make_object(grid)` for none.
        electrostatic: Phase of the electric field [ny nx] [rad] (`electrostatic_phase`), or None.
        magnetic: Phase of the magnetic field [ny nx] [rad] (`magnetic_phase`), or None.

    Raises:
        InputError: A map does not have the specimen's pixels.

    >>> from stemjax.specimen.objects import make_object
    >>> field = make_field_object(make_object(Grid((8, 8), (0.2, 0.2)), slices=2), magnetic=np.full((8, 8), 0.3))
    >>> round(float(jnp.angle(field.transmission(1e-3).prod(axis=0))[0, 0]), 6)
    0.3
    """
    shape = specimen.grid.shape
    for name, values in (("electrostatic", electrostatic), ("magnetic", magnetic)):
        if values is not None and tuple(values.shape) != shape:
            raise InputError(f"{name} of shape {tuple(values.shape)} does not fit the specimen's pixels {shape} (y, x)")
    empty = np.zeros(shape)
    return FieldObject(
        specimen, real(empty if electrostatic is None else electrostatic), real(empty if magnetic is None else magnetic)
    )


def electrostatic_phase(
    potential: Annotated[Float[Array, "ny nx"] | np.ndarray | Scalar, "V"],
    thickness: Annotated[Float[Array, "ny nx"] | np.ndarray | Scalar, "Å"],
    interaction_parameter: Annotated[Scalar, "rad/(V Å)"],
) -> Annotated[Array, "rad"]:
    r"""Phase of an electrostatic potential that is constant along the beam.

    .. math:: \varphi_e = \sigma V t

    Args:
        potential: V, such as a mean inner potential or that of a junction [V].
        thickness: t [Å].
        interaction_parameter: σ of the electrons (`stemjax.interaction_parameter(energy)`) [rad/(V Å)].

    Returns:
        Phase [rad], of the shape of both.

    >>> round(float(electrostatic_phase(17.0, 100.0, 0.7288e-3)), 3)
    1.239
    """
    return real(potential) * real(thickness) * interaction_parameter


def magnetic_phase(
    field_y: Annotated[Float[Array, "ny nx"] | np.ndarray, "T"],
    field_x: Annotated[Float[Array, "ny nx"] | np.ndarray, "T"],
    thickness: Annotated[Float[Array, "ny nx"] | np.ndarray | Scalar, "Å"],
    grid: Grid,
) -> Annotated[Float[Array, "ny nx"], "rad"]:
    r"""Phase of a magnetic field, by a Fourier solution of

    .. math:: \nabla^2 \varphi = \frac{e}{\hbar}\big(\partial_x (t B_y) - \partial_y (t B_x)\big)

    for what varies over the grid, periodic, and a ramp about the middle for the mean field, which is not. A projected
    field has no divergence; what the maps have of it drops out.

    Args:
        field_y: B_y averaged along the beam [T].
        field_x: B_x averaged along the beam [T].
        thickness: Thickness of the field, a number or a map [Å].
        grid: Grid of the maps.

    Returns:
        Phase of mean zero [rad].

    Raises:
        InputError: A map does not fit the grid.

    >>> grid = Grid((8, 8), (10.0, 10.0))
    >>> phase = magnetic_phase(np.ones((8, 8)), np.zeros((8, 8)), 1000.0, grid)
    >>> round(float((phase[0, 1] - phase[0, 0]) / 10.0), 6)
    0.015193
    """
    for name, values in (("field_y", field_y), ("field_x", field_x)):
        if tuple(values.shape) != grid.shape:
            raise InputError(f"{name} of shape {tuple(values.shape)} does not fit the grid {grid.shape} (y, x)")
    depth = jnp.broadcast_to(real(thickness), grid.shape)
    slope_y, slope_x = -CHARGE_PER_ACTION * depth * real(field_x), CHARGE_PER_ACTION * depth * real(field_y)
    ky, kx = (real(2.0 * np.pi * k) for k in grid.frequencies())
    square = ky**2 + kx**2
    divergence = 1j * (ky * jnp.fft.fft2(slope_y) + kx * jnp.fft.fft2(slope_x))
    # The lone Nyquist rows have no sign; a real field leaves an imaginary rest there, which the real part drops.
    periodic = jnp.fft.ifft2(jnp.where(square > 0, -divergence / jnp.where(square > 0, square, 1.0), 0.0)).real
    y, x = (real(axis - axis.mean()) for axis in grid.coordinates())
    return periodic + jnp.mean(slope_y) * y + jnp.mean(slope_x) * x


@singledispatch
def flipped(specimen: Any) -> Any:
    """A specimen turned over about the y axis through the middle of its pixels: x and z change direction.

    Slices come in reverse order and every map is mirrored. An electric field keeps its sign, the phase of a magnetic
    field changes it, since B turns with the specimen and the beam does not.

    Args:
        specimen: Any specimen of this package; the pixels keep their place.

    Returns:
        A specimen of the same kind; flipped again it is what it was.

    Raises:
        InputError: The specimen is of a kind that is not known here.

    >>> from stemjax.specimen.objects import make_object
    >>> field = make_field_object(make_object(Grid((1, 3), (1.0, 1.0))), magnetic=np.array([[0.0, 1.0, 2.0]]))
    >>> flipped(field).magnetic.tolist()
    [[-2.0, -1.0, -0.0]]
    """
    raise InputError(f"a {type(specimen).__name__} cannot be turned over; give an object, atoms, tiles or a field")


@flipped.register
def _(specimen: PixelatedObject) -> PixelatedObject:
    return specimen.replace(
        phase=specimen.phase[::-1, :, ::-1],
        log_amplitude=specimen.log_amplitude[::-1, :, ::-1],
        thickness=specimen.thickness[::-1],
    )


@flipped.register
def _(specimen: PotentialObject) -> PotentialObject:
    return specimen.replace(values=specimen.values[::-1, :, ::-1], thickness=specimen.thickness[::-1])


@flipped.register
def _(specimen: RepeatedObject) -> RepeatedObject:
    return specimen.replace(tile=flipped(specimen.tile))


@flipped.register
def _(specimen: FieldObject) -> FieldObject:
    return FieldObject(flipped(specimen.specimen), specimen.electrostatic[:, ::-1], -specimen.magnetic[:, ::-1])


@flipped.register
def _(specimen: AtomicSpecimen) -> AtomicSpecimen:
    structure, last = specimen.structure, (specimen.grid.shape[1] - 1) * specimen.grid.sampling[1]
    z, y, x = structure.positions.T
    # A plane on a border belongs to the slice below it; twice the margin puts its image below the mirrored border.
    places = jnp.stack([structure.cell[0] - z - 2.0 * BORDER, y, last - x], axis=1)
    turn = real([-1.0, 1.0, -1.0])[None, None]
    return specimen.replace(
        structure=structure.replace(positions=jnp.mod(places, structure.cell[None])),
        draws=None if specimen.draws is None else turn * specimen.draws,
        offsets=None if specimen.offsets is None else turn * specimen.offsets,
        slices=specimen.slices if isinstance(specimen.slices, int) else specimen.slices[::-1],
    )


def separated_phases(
    phase: Annotated[Float[Array, "ny nx"], "rad"], turned: Annotated[Float[Array, "ny nx"], "rad"]
) -> tuple[Annotated[Array, "rad"], Annotated[Array, "rad"]]:
    """Electrostatic and magnetic phase of a specimen seen before and after it was turned over about the y axis.

    Args:
        phase: Phase before.
        turned: Phase after `flipped`, as recorded (mirrored).

    >>> before, after = jnp.array([[1.0, 2.0, 4.0]]), jnp.array([[2.0, 2.0, 1.0]])
    >>> [part.tolist() for part in separated_phases(before, after)]
    [[[1.0, 2.0, 3.0]], [[0.0, 0.0, 1.0]]]
    """
    mirrored = turned[:, ::-1]
    return 0.5 * (phase + mirrored), 0.5 * (phase - mirrored)
