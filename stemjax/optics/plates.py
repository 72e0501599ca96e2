"""Plates in the probe-forming aperture: what gives a beam its shape.

A plate is anything with `transmission(alpha_y, alpha_x, semiangle)`: angles [mrad] from the centre of the aperture as
(ny, 1) and (1, nx), or both [ny nx]; the result is complex [ny nx] and multiplies the aperture. Edges are one pixel of
those angles wide, like the aperture's own, and so have a slope.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.typing import Annotated, Array, real


@runtime_checkable
class Plate(Protocol):
    """What `make_probe` asks of a plate."""

    def transmission(self, alpha_y: Array, alpha_x: Array, semiangle: Array) -> Array:
        """Complex factor on the aperture [ny nx] at angles [mrad] from its centre."""


def _complex(values: Array) -> Array:
    return values.astype(jnp.result_type(complex))


def _radius(alpha_y: Array, alpha_x: Array) -> tuple[Array, Array]:
    """Distance from the centre and the width of a pixel in its direction, both [ny nx] [mrad]."""
    square = alpha_y**2 + alpha_x**2
    # The root is kept off zero, where its slope is infinite.
    alpha = jnp.sqrt(jnp.where(square > 0, square, 1.0))
    step_y, step_x = _step(alpha_y, 0), _step(alpha_x, 1)
    width = jnp.sqrt((alpha_y * step_y) ** 2 + (alpha_x * step_x) ** 2 + jnp.where(square > 0, 0.0, 1.0)) / alpha
    return jnp.where(square > 0, alpha, 0.0), jnp.maximum(width, 1e-6)


def _step(angles: Array, axis: int) -> Array:
    """Distance of the first two angles along an axis; none where there is only one."""
    if angles.shape[axis] < 2:
        return jnp.zeros((), angles.dtype)
    return jnp.abs(angles[1, 0] - angles[0, 0]) if axis == 0 else jnp.abs(angles[0, 1] - angles[0, 0])


def _rise(alpha: Array, edge: Array, width: Array) -> Array:
    """0 inside an edge, 1 outside, one pixel wide."""
    return jnp.clip((alpha - edge) / width + 0.5, 0.0, 1.0)


class VortexPlate(struct.PyTreeNode):
    r"""A spiral plate: the beam carries orbital angular momentum; made by `make_vortex_plate`.

    .. math:: t(\alpha, \varphi) = e^{i m \varphi}

    The pixel in the middle, where φ has no value, is dark unless m = 0. Source: Verbeeck, Tian, Schattschneider, Nature
    467 (2010) 301.

    Args:
        charge: Topological charge m, the angular momentum in units of ħ; φ runs from x towards y.
    """

    charge: int = struct.field(pytree_node=False)

    def transmission(self, alpha_y: Array, alpha_x: Array, semiangle: Array) -> Array:
        """Complex factor on the aperture [ny nx]."""
        del semiangle
        square = alpha_y**2 + alpha_x**2
        root = jnp.sqrt(jnp.where(square > 0, square, 1.0))
        turn = jax.lax.complex(*jnp.broadcast_arrays(alpha_x / root, alpha_y / root)) ** abs(self.charge)
        turn = jnp.where(square > 0, turn, 1.0 if self.charge == 0 else 0.0)
        return jnp.conj(turn) if self.charge < 0 else turn


def make_vortex_plate(charge: int) -> VortexPlate:
    """A vortex of some charge, checked.

    >>> make_vortex_plate(-2).charge
    -2
    """
    if charge != int(charge):
        raise InputError(f"a vortex of charge {charge:g} has a cut in its phase; give a whole number, such as 1")
    return VortexPlate(charge=int(charge))


class HollowConePlate(struct.PyTreeNode):
    r"""A central stop that leaves a ring: a Bessel beam; made by `make_hollow_cone_plate`.

    .. math:: t(\alpha) = 1 \text{ for } \alpha > \alpha_{inner}, \quad \text{else } 0

    A thin ring at k₀ gives ψ(r) ∝ J₀(2πk₀r), over a depth that grows as the ring gets thinner. Source: Durnin, Miceli,
    Eberly, Phys. Rev. Lett. 58 (1987) 1499.

    Args:
        inner: Angle where the ring begins [mrad]; it ends at the semi-angle.
    """

    inner: Annotated[Array, "mrad"]

    def transmission(self, alpha_y: Array, alpha_x: Array, semiangle: Array) -> Array:
        """Complex factor on the aperture [ny nx]."""
        del semiangle
        return _complex(_rise(*_of_edge(alpha_y, alpha_x, self.inner)))


def _of_edge(alpha_y: Array, alpha_x: Array, edge: Array) -> tuple[Array, Array, Array]:
    alpha, width = _radius(alpha_y, alpha_x)
    return alpha, edge, width


def make_hollow_cone_plate(inner: float) -> HollowConePlate:
    """A hollow cone, checked.

    Args:
        inner: Angle where the ring begins [mrad]; below the semi-angle.

    >>> float(make_hollow_cone_plate(19.0).inner)
    19.0
    """
    if not inner > 0.0:
        raise InputError(f"a hollow cone that begins at {inner:g} mrad has no hole; give a positive angle, or no plate")
    return HollowConePlate(inner=real(inner))


class GaussianPlate(struct.PyTreeNode):
    r"""A Gaussian amplitude: no side lobes; made by `make_gaussian_plate`.

    .. math:: t(\alpha) = e^{-\alpha^2 / 2 w^2}

    The beam's waist, where its amplitude has fallen to 1/e, is w₀ = λ / (πθ) with θ = √2 w the same of the angle, if
    the semi-angle leaves the Gaussian whole (3 w cuts at 1 % of the amplitude).

    Args:
        width: Standard deviation w of the amplitude [mrad].
    """

    width: Annotated[Array, "mrad"]

    def transmission(self, alpha_y: Array, alpha_x: Array, semiangle: Array) -> Array:
        """Complex factor on the aperture [ny nx]."""
        del semiangle
        return _complex(jnp.exp(-0.5 * (alpha_y**2 + alpha_x**2) / self.width**2))


def make_gaussian_plate(width: float) -> GaussianPlate:
    """A Gaussian plate, checked.

    Args:
        width: Standard deviation of the amplitude [mrad].

    >>> float(make_gaussian_plate(7.0).width)
    7.0
    """
    if not width > 0.0:
        raise InputError(f"a Gaussian of {width:g} mrad lets nothing through; give a positive width, such as 7 mrad")
    return GaussianPlate(width=real(width))


class RingPlate(struct.PyTreeNode):
    r"""Rings of equal area, the second, fourth, ... retarded: the plate of MIDI-STEM; made by `make_ring_plate`.

    .. math:: t(\alpha) = e^{i \phi z(\alpha)}, \qquad z = j \bmod 2 \ \text{ for } \
        \alpha_0 \sqrt{j/N} < \alpha < \alpha_0 \sqrt{(j+1)/N}

    Every ring is the reference of its neighbours, so that a weak phase gives a signal linear in it
    (`stemjax.detect.midi`). Source: Ophus, Ciston, Pierce et al., Nat. Commun. 7 (2016) 10719.

    Args:
        depth: Phase φ of the odd rings [rad].
        rings: Number of rings N.
    """

    depth: Annotated[Array, "rad"]
    rings: int = struct.field(pytree_node=False)

    def transmission(self, alpha_y: Array, alpha_x: Array, semiangle: Array) -> Array:
        """Complex factor on the aperture [ny nx]."""
        return jnp.exp(1j * self.depth * odd_rings(alpha_y, alpha_x, semiangle, self.rings))


def odd_rings(alpha_y: Array, alpha_x: Array, semiangle: Array, rings: int, *, soft: bool = True) -> Array:
    r"""1 on the odd of N rings of equal area, 0 on the even ones, the innermost among them.

    Args:
        alpha_y: Angles (ny, 1) from the centre [mrad].
        alpha_x: Angles (1, nx) [mrad].
        semiangle: Outer edge α₀ of the last ring [mrad]; what lies beyond counts as the last ring.
        rings: Number of rings N; ring j ends at α₀ √((j + 1)/N).
        soft: Edges one pixel wide, else sharp.

    Returns:
        Real array [ny nx].

    >>> odd_rings(jnp.zeros((1, 1)), jnp.array([[0.0, 13.0, 15.0]]), jnp.array(20.0), 2, soft=False).tolist()
    [[0.0, 0.0, 1.0]]
    """
    alpha, width = _radius(alpha_y, alpha_x)
    if not soft:
        width = jnp.full_like(width, 1e-6)
    ring = np.arange(1, rings)
    edges = semiangle * real(np.sqrt(ring / rings))[:, None, None]
    steps = _rise(alpha[None], edges, width[None])
    return jnp.sum(real(np.where(ring % 2, 1.0, -1.0))[:, None, None] * steps, axis=0)


def make_ring_plate(rings: int = 20, depth: float = np.pi / 2) -> RingPlate:
    """A plate of rings, checked.

    Args:
        rings: Number of rings; even, so that both kinds have the same area.
        depth: Phase of the odd rings [rad]; π/2 gives the strongest linear contrast.

    >>> make_ring_plate().rings
    20
    """
    if rings < 2 or rings % 2:
        raise InputError(f"{rings} rings do not halve the aperture; give an even number, such as 20")
    if not np.isfinite(depth):
        raise InputError(f"a phase of {depth} rad is no depth of a plate; give a number, such as 1.571")
    return RingPlate(depth=real(depth), rings=int(rings))


class ArrayPlate(struct.PyTreeNode):
    """Any plate, from arrays; made by `make_array_plate` or `read_array_plate`.

    Between the pixels the complex factor is interpolated bilinearly, so that a phase may wrap; where the phase changes
    by Δ from pixel to pixel the amplitude in between falls by up to 1 − cos(Δ/2). Outside the arrays it is opaque.

    Args:
        amplitude: Amplitude [y x], zero angle at index n // 2.
        phase: Phase [y x] [rad].
        sampling: Size of a pixel (y, x) [mrad].
    """

    amplitude: Array
    phase: Annotated[Array, "rad"]
    sampling: Annotated[Array, "mrad"]

    def transmission(self, alpha_y: Array, alpha_x: Array, semiangle: Array) -> Array:
        """Complex factor on the aperture [ny nx]."""
        del semiangle
        angles = jnp.broadcast_arrays(alpha_y, alpha_x)
        ny, nx = self.amplitude.shape
        index = [a / s + n // 2 for a, s, n in zip(angles, self.sampling, (ny, nx), strict=True)]
        parts = (self.amplitude * jnp.cos(self.phase), self.amplitude * jnp.sin(self.phase))
        sampled = (jax.scipy.ndimage.map_coordinates(part, index, order=1, mode="constant") for part in parts)
        return jax.lax.complex(*sampled)


def make_array_plate(
    amplitude: np.ndarray | Array | None,
    phase: np.ndarray | Array | None,
    sampling: Annotated[tuple[float, float] | float, "mrad"],
) -> ArrayPlate:
    """A plate from arrays, checked.

    Args:
        amplitude: Amplitude [y x], zero angle at index n // 2; None for one everywhere.
        phase: Phase [y x] [rad]; None for none.
        sampling: Size of a pixel, one number or (y, x) [mrad].

    Raises:
        InputError: There is no array, they differ in shape, or a number is not finite.

    >>> make_array_plate(None, np.zeros((8, 8)), 5.0).amplitude.shape
    (8, 8)
    """
    given = [np.asarray(a, dtype=float) for a in (amplitude, phase) if a is not None]
    if not given or any(a.ndim != 2 or a.shape != given[0].shape for a in given):
        shapes = " and ".join(str(a.shape) for a in given) or "none"
        raise InputError(f"a plate of arrays with shapes {shapes}; give amplitude or phase, or both, as [y x]")
    steps = np.broadcast_to(np.asarray(sampling, dtype=float), (2,))
    if not all(np.isfinite(a).all() for a in (*given, steps)) or not (steps > 0).all():
        raise InputError("a plate has values that are not finite or pixels of no size; give numbers and positive mrad")
    return ArrayPlate(
        amplitude=real(np.ones_like(given[0]) if amplitude is None else given[0]),
        phase=real(np.zeros_like(given[0]) if phase is None else given[-1]),
        sampling=real(steps),
    )


def read_array_plate(path: str | Path, sampling: Annotated[tuple[float, float] | float, "mrad"]) -> ArrayPlate:
    """A plate from a numpy file: complex numbers are its transmission, real ones its phase [rad].

    Args:
        path: A `.npy` file with an array [y x], zero angle at index n // 2.
        sampling: Size of a pixel, one number or (y, x) [mrad].

    Raises:
        InputError: The file cannot be read as an array of numbers.
    """
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"no plate in '{path}' ({error}); give a .npy file with a real or complex array") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "iufc":
        raise InputError(f"'{path}' holds no single array of numbers; give a .npy file with a real or complex array")
    if values.dtype.kind == "c":
        return make_array_plate(np.abs(values), np.angle(values), sampling)
    return make_array_plate(None, values, sampling)


class ProductPlate(struct.PyTreeNode):
    """Several plates in one aperture; made by `make_product_plate`.

    Args:
        plates: The plates; their factors are multiplied.
    """

    plates: tuple[Plate, ...]

    def transmission(self, alpha_y: Array, alpha_x: Array, semiangle: Array) -> Array:
        """Complex factor on the aperture [ny nx]."""
        total = self.plates[0].transmission(alpha_y, alpha_x, semiangle)
        for plate in self.plates[1:]:
            total = total * plate.transmission(alpha_y, alpha_x, semiangle)
        return total


def make_product_plate(*plates: Plate) -> ProductPlate:
    """Several plates as one.

    >>> len(make_product_plate(make_vortex_plate(1), make_hollow_cone_plate(15.0)).plates)
    2
    """
    if not plates or not all(isinstance(plate, Plate) for plate in plates):
        raise InputError("a product of plates needs at least one, each with a `transmission`")
    return ProductPlate(plates=tuple(plates))
