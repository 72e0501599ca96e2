"""What a scan does that it should not: drift, random walk, jitter of lines, errors of the scan coils."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.typing import Annotated, Array, Float, PRNGKeyArray, Scalar, real, typed
from stemjax.optics.scan import Numbers, Scan, times_of


@typed
def coil_matrix(
    scale: tuple[Scalar, Scalar] | Float[Array, "2"] = (1.0, 1.0),
    *,
    shear: Scalar = 0.0,
    rotation: Annotated[Scalar, "degree"] = 0.0,
) -> Float[Array, "2 2"]:
    r"""Linear error of the scan coils, for the leaf `affine` of a scan.

    .. math:: A = \begin{pmatrix} \cos\rho & \sin\rho \\ -\sin\rho & \cos\rho \end{pmatrix}
              \begin{pmatrix} 1 & 0 \\ h & 1 \end{pmatrix} \begin{pmatrix} s_y & 0 \\ 0 & s_x \end{pmatrix}

    Args:
        scale: Gain of the coils (y, x).
        shear: Displacement h along x for a unit along y: the tangent of the error of a right angle.
        rotation: Angle ρ from x towards y [degree].

    Returns:
        A [2 2], acting on (y, x).

    >>> coil_matrix((1.0, 2.0), rotation=90.0).round(6).tolist()
    [[0.0, 2.0], [-1.0, 0.0]]
    """
    angle = jnp.deg2rad(real(rotation))
    c, s, one = jnp.cos(angle), jnp.sin(angle), jnp.ones_like(angle)
    turn = jnp.stack([jnp.stack([c, s]), jnp.stack([-s, c])])
    slant = jnp.stack([jnp.stack([one, 0.0 * one]), jnp.stack([real(shear), one])])
    return turn @ slant @ jnp.diag(jnp.stack([real(scale[0]), real(scale[1])]))


@typed
def drift_matrix(
    velocity: Annotated[Float[Array, "2"] | tuple[Scalar, Scalar], "Å/s"],
    *,
    step: Annotated[tuple[float, float] | float, "Å"],
    dwell: Annotated[float, "s"],
    line_time: Annotated[float, "s"],
    rotation: Annotated[float, "degree"] = 0.0,
) -> Float[Array, "2 2"]:
    r"""The linear distortion that a steady drift makes of a raster: r = M p + const.

    Row y is reached at y/s_y line times, column x at x/s_x dwell times later, so

    .. math:: M = 1 + v \otimes T (T_{line}/s_y,\ \tau/s_x)

    with T the rotation of the scan. What is periodic with a in the specimen is periodic with M⁻¹a in the image.

    Args:
        velocity: Velocity v of the probe over the specimen (y, x) [Å/s].
        step: Step of the raster (y, x) [Å].
        dwell: Time τ from a point to the next [s].
        line_time: Time T_line from a row to the next, flyback included [s].
        rotation: Angle of the scan [degree].

    Returns:
        M [2 2], acting on nominal positions (y, x).

    >>> drift_matrix((0.0, 2.0), step=0.5, dwell=1e-6, line_time=0.01).round(3).tolist()
    [[1.0, 0.0], [0.04, 1.0]]
    """
    step_y, step_x = (step, step) if isinstance(step, int | float) else step
    times = jnp.array([line_time / step_y, dwell / step_x], real(0.0).dtype)
    direction = coil_matrix(rotation=rotation) @ times
    return jnp.eye(2, dtype=direction.dtype) + jnp.outer(jnp.stack([real(v) for v in velocity]), direction)


def random_walk(
    key: PRNGKeyArray,
    knots: Annotated[np.ndarray | Array, "s"],
    diffusion: Annotated[Scalar, "Å/√s"],
) -> Annotated[Float[Array, "knot 2"], "Å"]:
    r"""A Brownian drift at some times, zero at the first.

    .. math:: \langle |w_c(t) - w_c(t')|^2 \rangle = d^2\,|t - t'| = 2 D |t - t'|, \qquad c = y, x

    Args:
        key: Random key.
        knots: Times [knot] [s], increasing.
        diffusion: Strength d = √(2D): the rms displacement along one axis after a second [Å/√s].

    Returns:
        Displacement [knot 2] (y, x) [Å], differentiable in the diffusion.

    >>> random_walk(jax.random.key(0), np.linspace(0.0, 1.0, 5), 0.3).shape
    (5, 2)
    """
    knots = real(knots)
    steps = jax.random.normal(key, (knots.shape[0] - 1, 2), knots.dtype) * jnp.sqrt(jnp.diff(knots))[:, None]
    return real(diffusion) * jnp.concatenate([jnp.zeros((1, 2), knots.dtype), jnp.cumsum(steps, axis=0)])


def line_jitter(
    key: PRNGKeyArray,
    lines: int,
    rms: Annotated[Scalar | tuple[Scalar, Scalar], "Å"],
    correlation: Scalar = 0.0,
) -> Annotated[Float[Array, "line 2"], "Å"]:
    r"""A displacement of every line, each like the one before to a degree.

    .. math:: j_0 = \sigma n_0, \qquad j_l = c\,j_{l-1} + \sigma\sqrt{1 - c^2}\,n_l

    so that every line has the variance σ² and lines m apart the correlation c^m.

    Args:
        key: Random key.
        lines: Number of lines.
        rms: Root mean square σ, (y, x) or one for both [Å].
        correlation: Correlation c of neighbouring lines, above -1 and below 1.

    Returns:
        Displacement [line 2] (y, x) [Å], differentiable in rms and correlation.

    >>> line_jitter(jax.random.key(0), 4, (0.0, 0.2)).shape
    (4, 2)
    """
    if isinstance(correlation, int | float) and not -1 < correlation < 1:
        raise InputError(f"a correlation of {correlation:g} between lines; give one above -1 and below 1, such as 0.5")
    pair = jnp.stack([real(r) for r in (rms if isinstance(rms, tuple) else (rms, rms))])
    c = real(correlation)
    noise = jax.random.normal(key, (lines, 2), c.dtype)

    def following(before: Array, fresh: Array) -> tuple[Array, Array]:
        after = c * before + jnp.sqrt(1 - c**2) * fresh
        return after, after

    _, rest = jax.lax.scan(following, noise[0], noise[1:])
    return pair[None] * jnp.concatenate([noise[:1], rest])


def with_drift(scan: Scan, velocity: Annotated[tuple[float, float] | np.ndarray | Array, "Å/s"]) -> Scan:
    """The scan with a steady drift.

    Args:
        scan: A scan with times.
        velocity: Velocity of the probe over the specimen (y, x) [Å/s].

    >>> from stemjax.optics.scan import make_raster, probe_positions
    >>> probe_positions(with_drift(make_raster((2, 1), 1.0, dwell=2.0), (0.0, 0.1)))[1].tolist()
    [1.0, 0.2]
    """
    times_of(scan)
    velocity = velocity if isinstance(velocity, jax.Array) else np.asarray(velocity, float)
    if velocity.shape != (2,):
        raise InputError(f"a velocity of shape {velocity.shape}; give (y, x) in Å/s")
    return scan.replace(velocity=real(velocity))


def with_walk(scan: Scan, walk: Array | np.ndarray, knots: Array | np.ndarray) -> Scan:
    """The scan with a drift given at knots; see `random_walk`.

    Args:
        scan: A scan with times.
        walk: Displacement at the knots [knot 2] (y, x) [Å].
        knots: Times [knot] [s], increasing.
    """
    times_of(scan)
    if np.ndim(walk) != 2 or np.shape(walk)[1] != 2 or np.shape(knots) != np.shape(walk)[:1] or len(walk) < 2:
        raise InputError(
            f"a walk of shape {np.shape(walk)} at knots {np.shape(knots)}; give [knot 2] and [knot], two knots at least"
        )
    if not isinstance(knots, jax.core.Tracer) and not (np.diff(np.asarray(knots, float)) > 0).all():
        raise InputError("knots of a walk that do not increase; give times in s in rising order")
    return scan.replace(walk=real(walk), knots=real(knots))


def with_jitter(scan: Scan, jitter: Array | np.ndarray) -> Scan:
    """The scan with a displacement of every line; see `line_jitter`.

    Args:
        scan: A scan whose lines are known: a raster, serpentine or sparse one, or of shape (y, x), (frame, y, x).
        jitter: Displacement [line 2] (y, x) [Å].
    """
    line = scan.line
    if line is None and scan.shape is not None and scan.pixel is None:
        rows = int(np.prod(scan.shape[:-1]))
        line = Numbers(np.repeat(np.arange(rows), scan.shape[-1]))
    if line is None:
        raise InputError("jitter for a scan without lines; give make_scan their numbers (line)")
    lines = int(line.values.max()) + 1
    if np.shape(jitter) != (lines, 2):
        raise InputError(f"jitter of shape {np.shape(jitter)} for {lines} lines; give ({lines}, 2)")
    return scan.replace(jitter=real(jitter), line=line)


def with_coils(scan: Scan, matrix: Array | np.ndarray) -> Scan:
    """The scan with a linear error of its coils about its centre; see `coil_matrix`.

    Args:
        scan: Any scan.
        matrix: Linear distortion [2 2], acting on (y, x).
    """
    if np.shape(matrix) != (2, 2):
        raise InputError(f"a coil matrix of shape {np.shape(matrix)}; give [2 2], see coil_matrix")
    return scan.replace(affine=real(matrix))
