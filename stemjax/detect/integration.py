r"""From the deflection of the beam to the phase of the specimen: integrated centre of mass and DPC, curl, charge.

The gradient of the phase turns the beam by λ/2π ∇φ. Fields are [2 ny nx], (y, x), in mrad, on a raster whose axes are
those of the field; `scan_frame` turns a field from the detector's axes into a rotated raster's. All functions are
differentiable.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.typing import Annotated, Array, Float, Scalar, real, typed
from stemjax.optics.electron import interaction_parameter, wavelength

VACUUM_PERMITTIVITY = 5.526_349_4e-3
"""ε₀ [e/(V Å)]; CODATA 2022."""

Field = Float[Array, "2 ny nx"]
Step = tuple[float, float] | float


@typed
def integrated_phase(
    field: Annotated[Field, "mrad"],
    step: Annotated[Step, "Å"],
    energy: Annotated[float, "eV"],
    *,
    highpass: Annotated[float, "1/Å"] = 0.0,
) -> Annotated[Float[Array, "ny nx"], "rad"]:
    r"""Phase whose gradient fits a deflection best on a raster that ends, without any assumption about its outside.

    .. math:: \min_\phi \sum_{edges} \left[ \phi_{j+1} - \phi_j - \tfrac{2\pi}{\lambda}
        \int_j^{j+1} \theta\, ds \right]^2 / s^2 + (2 \pi q_h)^2 \sum_j \phi_j^2

    The integrals between neighbours come from the polynomial through six samples along the raster's axis, the normal
    equations (a Poisson equation with Neumann borders) from a cosine transform. Polynomials up to the sixth power are
    found exactly; a wave of a quarter (half) of the Nyquist frequency comes out 0.07 % (3.5 %) too weak.

    Args:
        field: Deflection (y, x) [2 ny nx] [mrad].
        step: Step of the raster (y, x) [Å].
        energy: Beam energy [eV].
        highpass: Frequency q_h below which the phase is damped, by q²/(q² + q_h²), as far as borders allow [1/Å].

    Returns:
        Phase [rad], mean zero. For a thin specimen it is the specimen's phase, blurred by the probe's intensity
        (Lazić, Bosch, Lazar, Ultramicroscopy 160 (2016) 265).

    Raises:
        InputError: The raster has fewer than two points on an axis.

    >>> ramp = jnp.stack([jnp.ones((4, 5)), jnp.zeros((4, 5))])  # 1 mrad along y
    >>> phase = integrated_phase(ramp, 0.5, 80e3)
    >>> bool(jnp.allclose(jnp.diff(phase, axis=0), 2 * np.pi / wavelength(80e3) * 1e-3 * 0.5, rtol=1e-4))
    True
    """
    shape = field.shape[1:]
    if min(shape) < 2:
        raise InputError(f"a field on {shape[0]} × {shape[1]} points has no phase; it takes two points on each axis")
    size = _steps(step)
    slope = 2e-3 * math.pi / wavelength(energy) * field
    along = [_edges(slope[axis], axis) * size[axis] for axis in (0, 1)]
    parts = [_divergence_of_edges(along[axis], axis) / size[axis] ** 2 for axis in (0, 1)]
    order = [np.arange(n) * (math.pi / n) for n in shape]
    y, x = ((2.0 - 2.0 * np.cos(k)) / s**2 for k, s in zip(order, size, strict=True))
    return _solved(parts[0] + parts[1], y[:, None] + x[None, :], highpass)


def _steps(step: Step) -> tuple[float, float]:
    sy, sx = (step, step) if isinstance(step, int | float) else step
    if not min(sy, sx) > 0:
        raise InputError(f"a raster of step ({sy:g}, {sx:g}) Å; give positive steps")
    return float(sy), float(sx)


def _quadrature(count: int) -> np.ndarray:
    """Weights [count - 1, count] of the integral between neighbours, of unit step, through the six nearest samples."""
    points = min(count, 6)
    weights = np.zeros((count - 1, count))
    power = np.arange(points)
    for edge in range(count - 1):
        first = min(max(edge + 1 - points // 2, 0), count - points)
        place = np.arange(points) + first - edge - 0.5  # the edge runs from -1/2 to 1/2
        moments = np.where(power % 2 == 0, 0.5**power / (power + 1.0), 0.0)
        weights[edge, first : first + points] = np.linalg.solve(place[None, :] ** power[:, None], moments)
    return weights


def _edges(slope: Array, axis: int) -> Array:
    """Integrals of a sampled slope between neighbours along an axis, for unit step."""
    weights = real(_quadrature(slope.shape[axis]))
    with jax.default_matmul_precision("highest"):
        return weights @ slope if axis == 0 else slope @ weights.T


def _divergence_of_edges(along: Array, axis: int) -> Array:
    """The transpose of the difference of neighbours, applied to what the differences should be."""
    pad = [(0, 0), (0, 0)]
    pad[axis] = (1, 1)
    padded = jnp.pad(along, pad)
    return -jnp.diff(padded, axis=axis)


def _solved(source: Array, eigenvalues: np.ndarray, highpass: float) -> Array:
    """Solution of the Neumann problem; the constant, that no gradient tells, is left out."""
    damped = eigenvalues + (2 * math.pi * highpass) ** 2
    damped[0, 0] = np.inf
    # Cosine transforms as matrices: quick to compile, and never a cost beside the patterns that the field came from.
    rows, columns = (real(_cosines(n)) for n in source.shape)
    with jax.default_matmul_precision("highest"):
        return rows.T @ ((rows @ source @ columns.T) * real(1.0 / damped)) @ columns


def _cosines(count: int) -> np.ndarray:
    """The orthogonal cosine transform [order, place], whose vectors are even about both ends."""
    matrix = np.cos(np.pi / count * np.outer(np.arange(count), np.arange(count) + 0.5)) * math.sqrt(2.0 / count)
    matrix[0] /= math.sqrt(2.0)
    return matrix


@typed
def integrated_phase_periodic(
    field: Annotated[Field, "mrad"],
    step: Annotated[Step, "Å"],
    energy: Annotated[float, "eV"],
    *,
    highpass: Annotated[float, "1/Å"] = 0.0,
) -> Annotated[Float[Array, "ny nx"], "rad"]:
    r"""Phase whose gradient fits a deflection best on a raster that covers whole periods of the specimen.

    .. math:: \hat\phi(q) = \frac{2\pi}{\lambda} \frac{-i\, q \cdot \hat\theta(q)}{2\pi (q^2 + q_h^2)}

    Args:
        field: Deflection (y, x) [2 ny nx] [mrad]; its mean, which no periodic phase has, is dropped.
        step: Step of the raster (y, x) [Å].
        energy: Beam energy [eV].
        highpass: Frequency q_h below which the phase is damped, by q²/(q² + q_h²) [1/Å].

    Returns:
        Phase [rad], mean zero; exact for a field that the raster resolves.

    >>> wave = jnp.cos(2 * np.pi * jnp.arange(8) / 8)
    >>> field = jnp.stack([jnp.zeros((8, 8)), jnp.tile(wave, (8, 1))])
    >>> round(float(integrated_phase_periodic(field, 1.0, 80e3).max() * 1e3 * wavelength(80e3)), 4)
    8.0
    """
    qy, qx = _frequencies(field.shape[1:], step)
    square = qy**2 + qx**2
    damped = np.where(square > 0, square + highpass**2, np.inf)
    spectrum = jnp.fft.fft2(field)
    flux = real(qy / damped) * spectrum[0] + real(qx / damped) * spectrum[1]
    return jnp.fft.ifft2(-1j * flux).real * (1e-3 / wavelength(energy))


def _frequencies(shape: tuple[int, ...], step: Step) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies (ny, 1) and (1, nx) [1/Å] of a derivative: that at Nyquist has no sign and counts as zero."""
    size = _steps(step)
    axes = [np.where(2 * np.arange(n) == n, 0.0, np.fft.fftfreq(n, s)) for n, s in zip(shape, size, strict=True)]
    return axes[0][:, None], axes[1][None, :]


def _derivative(image: Array, step: float, axis: int, periodic: bool) -> Array:
    """∂/∂y or ∂/∂x: from the Fourier transform, or from central differences, one-sided of second order at the ends."""
    if periodic:
        q = _frequencies(image.shape, step)[axis]
        return jnp.fft.ifft2(jnp.fft.fft2(image) * (2j * math.pi * q)).real
    matrix = real(_differences(image.shape[axis], step))
    return matrix @ image if axis == 0 else image @ matrix.T


def _differences(count: int, step: float) -> np.ndarray:
    if count < 3:
        raise InputError(f"{count} points on an axis have no derivative; it takes three")
    return np.asarray(np.gradient(np.eye(count), step, axis=0, edge_order=2))


@typed
def divergence(
    field: Float[Array, "2 ny nx"], step: Annotated[Step, "Å"], *, periodic: bool = False
) -> Annotated[Float[Array, "ny nx"], "mrad/Å"]:
    r"""Divergence of a deflection, ∂θ_y/∂y + ∂θ_x/∂x.

    Args:
        field: Deflection (y, x) [2 ny nx] [mrad].
        step: Step of the raster (y, x) [Å].
        periodic: The raster covers whole periods: derivatives by Fourier transform instead of central differences.

    >>> y, x = jnp.mgrid[:4, :4] * 0.5
    >>> bool(jnp.allclose(divergence(jnp.stack([2.0 * y, 3.0 * x]), 0.5), 5.0))
    True
    """
    size = _steps(step)
    return _derivative(field[0], size[0], 0, periodic) + _derivative(field[1], size[1], 1, periodic)


@typed
def curl(
    field: Float[Array, "2 ny nx"], step: Annotated[Step, "Å"], *, periodic: bool = False
) -> Annotated[Float[Array, "ny nx"], "mrad/Å"]:
    r"""Curl of a deflection, ∂θ_y/∂x − ∂θ_x/∂y: zero for a thin phase object, so that it shows noise, a wrong rotation
    of the scan, and thick specimens.

    Args:
        field: Deflection (y, x) [2 ny nx] [mrad].
        step: Step of the raster (y, x) [Å].
        periodic: The raster covers whole periods: derivatives by Fourier transform instead of central differences.

    >>> y, x = jnp.mgrid[:4, :4] * 0.5
    >>> bool(jnp.allclose(curl(jnp.stack([x, -y]), 0.5), 2.0))
    True
    """
    size = _steps(step)
    return _derivative(field[0], size[1], 1, periodic) - _derivative(field[1], size[0], 0, periodic)


def charge_density(
    field: Float[Array, "2 ny nx"],
    step: Annotated[Step, "Å"],
    energy: Annotated[float, "eV"],
    *,
    periodic: bool = False,
) -> Annotated[Float[Array, "ny nx"], "e/Å²"]:
    r"""Projected charge density, blurred by the probe: nuclei positive.

    .. math:: \rho = -\varepsilon_0 \nabla^2 V = -\frac{\varepsilon_0}{\sigma} \frac{2\pi}{\lambda} \nabla \cdot \theta

    Source: Müller-Caspary et al., Ultramicroscopy 178 (2017) 62; Gauss's law. Holds for a thin specimen.

    Args:
        field: Deflection (y, x) [2 ny nx] [mrad].
        step: Step of the raster (y, x) [Å].
        energy: Beam energy [eV].
        periodic: As in `divergence`.

    Returns:
        Charge per area [e/Å²], e the elementary charge.

    >>> y, x = jnp.mgrid[:4, :4] * 0.5
    >>> bool((charge_density(jnp.stack([-y, -x]), 0.5, 80e3) > 0).all())  # towards a centre: a nucleus
    True
    """
    factor = VACUUM_PERMITTIVITY / interaction_parameter(energy) * 2e-3 * math.pi / wavelength(energy)
    return -factor * divergence(field, step, periodic=periodic)


@typed
def scan_frame(field: Float[Array, "2 ..."], rotation: Annotated[Scalar, "degree"] = 0.0) -> Float[Array, "2 ..."]:
    r"""Turn a field from the detector's axes into those of a rotated raster.

    .. math:: \theta_{scan} = T^T \theta_{detector}, \qquad
        T = \begin{pmatrix} \cos\rho & \sin\rho \\ -\sin\rho & \cos\rho \end{pmatrix}

    with T as in `stemjax.make_raster`: positions are T times what a raster without rotation has. For a transposed or
    mirrored raster use `field_along` with its matrix.

    Args:
        field: Deflection (y, x) in the detector's axes [2 ...].
        rotation: Angle of the scan's x axis against the detector's x axis, from x towards y [degree].

    Returns:
        Deflection (y, x) along the scan's axes [2 ...].

    >>> scan_frame(jnp.array([1.0, 0.0]), 90.0).round(6).tolist()
    [0.0, 1.0]
    """
    angle = jnp.deg2rad(real(rotation))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return field_along(field, jnp.stack([jnp.stack([cos, sin]), jnp.stack([-sin, cos])]))


@typed
def field_along(field: Float[Array, "2 ..."], matrix: Float[Array, "2 2"]) -> Float[Array, "2 ..."]:
    """Turn a field into the axes of a raster that is turned, transposed or mirrored by an orthogonal matrix.

    Args:
        field: Deflection (y, x) in the detector's axes [2 ...].
        matrix: What turns scan positions (y, x) into detector positions [2 2].

    >>> field_along(jnp.array([1.0, 2.0]), jnp.array([[0.0, 1.0], [1.0, 0.0]])).tolist()
    [2.0, 1.0]
    """
    return jnp.einsum("ij,i...->j...", matrix, field)
