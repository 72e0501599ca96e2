r"""The Gaussian at a mode where there are too many unknowns for a matrix: products with the precision H alone.

The unknowns are scaled so that the diagonal of H is near one, and those of small leaves (aberrations beside a million
pixels) are told from the rest. With s the small ones and b the rest,

.. math:: \Sigma = \begin{pmatrix} 0 & 0 \\ 0 & H_{bb}^{-1} \end{pmatrix}
    + C\, \Sigma_{ss}^{-1} C^\mathsf{T}, \qquad C = H^{-1} E_s

- C, the columns of the covariance that belong to the small leaves, is solved for by conjugate gradients: their
  variances and all their covariances are exact.
- Of H_bb the k eigenpairs farthest from the bulk are found by Lanczos' method and kept as they are.
- The variances of what is left are estimated from draws (`inverse_diagonal`), without bias and with a standard error.
  Correlations between unknowns that the k directions do not carry are left out of the posterior; its variances are not
  touched by that, neither upwards nor downwards. With as many directions as unknowns it is exact.

Source: Bui-Thanh, Ghattas, Martin, Stadler, SIAM J. Sci. Comput. 35 (2013) A2494, for the low-rank part.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.typing import Array, PRNGKeyArray, real_dtype
from stemjax.inference.gaussian import LowRank
from stemjax.inference.linear.conjugate_gradients import solve, solve_rows
from stemjax.inference.linear.lanczos import (
    Eigenpairs,
    InverseDiagonal,
    Product,
    eigenpairs,
    far_from_bulk,
    inverse_diagonal,
)
from stemjax.inference.problem import Problem, Unconstrained
from stemjax.inference.solvers.mode import CLIMBS, Curvature, descend, finite, trade
from stemjax.inference.vector import Layout, layout

SMALL = 32
"""Unknowns of small leaves, all together, whose variances are solved for."""

SIGNS = 16
"""Random signs for the diagonal of H: a scale only, which costs iterations where it is wrong."""

ITERATIONS = 1000
"""Most products for one column of the covariance."""

STEPS = 96
"""Products for one draw."""


class Wide(NamedTuple):
    """What products tell of a Gaussian.

    Args:
        scale: What makes the diagonal of H near one [unknown].
        columns: Scaled columns of the covariance of the small leaves [small unknown].
        residual: Share of its right-hand side that the worst column is left with.
        pairs: Eigenpairs of the scaled H of the other unknowns.
        rest: Diagonal of its inverse, with draws.
    """

    scale: Array
    columns: Array
    residual: Array
    pairs: Eigenpairs
    rest: InverseDiagonal


class Settings(NamedTuple):
    """How much is computed: eigenpairs, and draws for variances."""

    rank: int
    probes: int


def small_and_big(shape: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Places of the unknowns of small leaves and of the others.

    >>> small_and_big(Layout({"a": (), "b": (1000,)}, 1001))[0]
    array([0])
    """
    sizes = {path: part.stop - part.start for path, part in shape.slices().items()}
    chosen, total = set(), 0
    for path in sorted(sizes, key=lambda path: sizes[path]):
        total += sizes[path]
        if total <= SMALL:
            chosen.add(path)
    small = np.zeros(shape.size, bool)
    for path, part in shape.slices().items():
        small[part] = path in chosen
    return np.flatnonzero(small), np.flatnonzero(~small)


def climb_by_products(
    problem: Problem, z: Unconstrained, curvature: Curvature, key: PRNGKeyArray
) -> tuple[Unconstrained, Array, Array, int]:
    """The mode by Newton's method, every step by conjugate gradients.

    Returns:
        The mode; the scale there; the last step [unknown], which the mode is known better than; steps taken.
    """
    near = max(1e-5, 10.0 * float(np.sqrt(jnp.finfo(real_dtype()).eps)))
    here, climbs, length = finite(problem, z), 0, 1.0
    for _ in range(CLIMBS):
        # Far from the mode a rough step does as well as a good one.
        tolerance = float(np.clip(0.03 * length, _tolerance(), 0.03))
        scale, step = _newton(problem, z, here[1], jnp.asarray(tolerance, real_dtype()), key, curvature)
        new, value, slope = descend(problem, z, here, step)
        stuck, z, here, climbs = new is z, new, (value, slope), climbs + 1
        # The scale is the deviation of an unknown while the others rest: no greater than its own.
        length = float(jnp.max(jnp.abs(step / scale)))
        if length < near or (stuck and tolerance <= 10.0 * _tolerance()):
            break
        length = 0.0 if stuck else length
    return z, scale, step, climbs


def wide_gaussian(
    problem: Problem, z: Unconstrained, scale: Array, curvature: Curvature, settings: Settings, key: PRNGKeyArray
) -> tuple[LowRank, Wide]:
    """The Gaussian at a mode, with what its diagnostics need.

    Raises:
        InputError: The curvature is not positive.
    """
    wide = _wide(problem, z, scale, key, curvature, settings)
    shape = layout(problem)
    small, big = small_and_big(shape)
    _check(shape, wide, small, big)
    return _composed(z, wide, tuple(map(int, small))), wide


def _check(shape: Layout, wide: Wide, small: np.ndarray, big: np.ndarray) -> None:
    """Refuse a precision with a direction that nothing holds, as far as products can tell."""
    values, tiny = np.asarray(wide.pairs.values), 200.0 * float(jnp.finfo(real_dtype()).eps)
    if len(values) and not values.min() > tiny * max(1.0, float(values.max())):
        direction = np.zeros(shape.size)
        direction[big] = np.asarray(wide.pairs.vectors)[:, int(np.argmin(values))]
        raise InputError(trade(shape, direction))
    own = np.nan_to_num(np.asarray(wide.columns)[np.arange(len(small)), small], nan=np.inf, neginf=np.inf)
    if len(own) and not (own.min() > 0 and own.max() < 1.0 / tiny):
        worst = np.asarray(wide.columns)[int(np.argmax(np.where(own > 0, own, np.inf)))]
        raise InputError(trade(shape, np.nan_to_num(worst, nan=0.0, posinf=1e300, neginf=1e300)))


@functools.partial(jax.jit, static_argnums=3)
def scale_at(problem: Problem, z: Unconstrained, key: PRNGKeyArray, curvature: Curvature) -> Array:
    """The deviation of every unknown while the others rest [unknown]: one over the root of the diagonal of H."""
    return _scale(problem, z, key, curvature)


@functools.partial(jax.jit, static_argnums=(4, 5))
def slack_directions(
    problem: Problem, z: Unconstrained, scale: Array, key: PRNGKeyArray, curvature: Curvature, count: int
) -> Eigenpairs:
    """The directions that are held least [unknown pair], of unknowns in units of a scale; as far as they converged."""
    return eigenpairs(_scaled(problem, z, scale, curvature), scale.size, count, key, worth=lambda values, _: -values)


@functools.partial(jax.jit, static_argnums=5)
def _newton(
    problem: Problem, z: Unconstrained, slope: Array, tolerance: Array, key: PRNGKeyArray, curvature: Curvature
) -> tuple[Array, Array]:
    """The scale, and H⁻¹ g [unknown]."""
    scale = _scale(problem, z, key, curvature)
    product = _scaled(problem, z, scale, curvature)
    # Where the curvature is not positive, the way so far goes downhill.
    return scale, scale * solve(product, scale * slope, tolerance=tolerance, most=ITERATIONS).found


@functools.partial(jax.jit, static_argnums=(4, 5))
def _wide(
    problem: Problem, z: Unconstrained, scale: Array, key: PRNGKeyArray, curvature: Curvature, settings: Settings
) -> Wide:
    small, big = small_and_big(layout(problem))
    product = _scaled(problem, z, scale, curvature)
    ones = jnp.zeros((len(small), scale.size), scale.dtype).at[np.arange(len(small)), small].set(1.0)
    columns, residual = solve_rows(product, ones, _tolerance(), ITERATIONS) if len(small) else (ones, jnp.zeros(1))

    def among_big(vector: Array) -> Array:
        return product(jnp.zeros_like(scale).at[big].set(vector))[big]

    first, second = jax.random.split(key)
    pairs = _pairs(among_big, len(big), settings.rank, first)
    rest = _rest(among_big, pairs, second, settings.probes)
    return Wide(scale, columns, jnp.max(residual), pairs, rest)


@functools.partial(jax.jit, static_argnums=4)
def solved_deviations(problem: Problem, z: Unconstrained, scale: Array, rows: Array, curvature: Curvature) -> Array:
    """Standard deviations of linear functions of the unknowns, from their gradients [function unknown]."""
    scaled = scale[None] * rows
    found, _ = solve_rows(_scaled(problem, z, scale, curvature), scaled, _tolerance(), ITERATIONS)
    return jnp.sqrt(jnp.sum(scaled * found, axis=1))


def wide_draws(z: Unconstrained, wide: Wide, key: PRNGKeyArray, count: int) -> Unconstrained:
    """The draws that the variances were estimated from, completed by the small leaves: exact draws [draw ...]."""
    shapes = {path: tuple(np.shape(z[path])) for path in sorted(z)}
    shape = Layout(shapes, sum(int(np.prod(s)) for s in shapes.values()))
    return _completed(z, wide, key, shape.size, count)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _completed(z: Unconstrained, wide: Wide, key: PRNGKeyArray, size: int, count: int) -> Unconstrained:
    shape = Layout({path: tuple(z[path].shape) for path in sorted(z)}, size)
    small, big = small_and_big(shape)
    x = jnp.zeros((count, size), wide.scale.dtype).at[:, big].set(wide.rest.draws[:count])
    if len(small):
        own = _own(wide.columns, small)
        white = jax.random.normal(key, (len(small), count), wide.scale.dtype)
        moved = jnp.linalg.cholesky(own) @ white
        x = x + jnp.linalg.solve(own, moved).T @ wide.columns
    vectors = shape.ravel(z)[None] + wide.scale[None] * x
    return jax.vmap(shape.unravel)(vectors)


def _pairs(product: Product, size: int, rank: int, key: PRNGKeyArray) -> Eigenpairs:
    """The eigenpairs farthest from the bulk, as far as they converged; an empty vector stands for one that did not."""
    rank = min(rank, size)
    if not rank:
        return Eigenpairs(jnp.ones(0), jnp.zeros((size, 0)), jnp.zeros(0), jnp.asarray(jnp.nan))
    pairs = eigenpairs(product, size, rank, key, worth=far_from_bulk)
    good = (pairs.residuals < 1e-3 * jnp.abs(pairs.values)) | (pairs.values <= 0)
    return pairs._replace(values=jnp.where(good, pairs.values, 1.0), vectors=jnp.where(good[None], pairs.vectors, 0.0))


def _rest(product: Product, pairs: Eigenpairs, key: PRNGKeyArray, probes: int) -> InverseDiagonal:
    size = pairs.vectors.shape[0]
    if not size:
        return InverseDiagonal(jnp.zeros(0), jnp.zeros(0), jnp.zeros((probes, 0)), jnp.zeros(()))
    return inverse_diagonal(product, pairs, key, draws=probes, steps=min(STEPS, size))


@functools.partial(jax.jit, static_argnums=2)
def _composed(z: Unconstrained, wide: Wide, small: tuple[int, ...]) -> LowRank:
    """The parts of the covariance as one diagonal with directions.

    With S the diagonal, S⁻¹ Σ S⁻¹ − 1 = −V Vᵀ + (S⁻¹V) θ⁻¹ (S⁻¹V)ᵀ − E_s E_sᵀ + (S⁻¹C) Σ_ss⁻¹ (S⁻¹C)ᵀ.
    """
    size = wide.scale.size
    big = np.setdiff1d(np.arange(size), np.asarray(small, int))
    values, vectors = wide.pairs.values, wide.pairs.vectors
    share = 1.0 - jnp.sum(vectors**2, axis=1)
    left = wide.rest.values - (vectors**2) @ (1.0 / values)
    own = jnp.where(share > 1e-3, jnp.sqrt(jnp.maximum(left, 1e-12) / jnp.maximum(share, 1e-3)), 1.0)
    S = jnp.ones_like(wide.scale).at[big].set(own)
    V = jnp.zeros((size, values.size), S.dtype).at[big].set(vectors)
    E = jnp.zeros((size, len(small)), S.dtype).at[np.asarray(small, int), np.arange(len(small))].set(1.0)
    inverse = jnp.linalg.inv(_own(wide.columns, np.asarray(small, int))) if small else jnp.zeros((0, 0), S.dtype)
    basis = jnp.concatenate([V, V / S[:, None], E, wide.columns.T / S[:, None]], axis=1)
    core = jax.scipy.linalg.block_diag(-jnp.eye(values.size), jnp.diag(1.0 / values), -jnp.eye(len(small)), inverse)
    frame, corner = jnp.linalg.qr(basis)
    gain, turn = jnp.linalg.eigh(corner @ core @ corner.T)
    return LowRank(z, wide.scale * S, frame @ turn, jnp.maximum(gain, -1.0 + 1e-9))


def _own(columns: Array, small: np.ndarray) -> Array:
    """Covariance of the small leaves among themselves, scaled."""
    own = columns[:, small]
    return 0.5 * (own + own.T)


def _scaled(problem: Problem, z: Unconstrained, scale: Array, curvature: Curvature) -> Product:
    shape, operator = layout(problem), curvature(problem, z)
    return lambda vector: scale * shape.ravel(operator(shape.unravel(scale * vector)))


def _scale(problem: Problem, z: Unconstrained, key: PRNGKeyArray, curvature: Curvature) -> Array:
    """One over the root of the diagonal of H: of small leaves exactly, of others from random signs."""
    shape, operator = layout(problem), curvature(problem, z)
    small, big = small_and_big(shape)
    blank = jnp.zeros(shape.size, real_dtype())

    def along(number: Array) -> Array:
        """The product of v and H v, for an unknown of a small leaf or for random signs of all the others."""
        signs = jax.random.rademacher(jax.random.fold_in(key, number), (len(big),), blank.dtype)
        alone = blank.at[jnp.asarray(small, int)].set(jnp.arange(len(small)) == number)
        vector = jnp.where(number < len(small), alone, blank.at[big].set(signs))
        return vector * shape.ravel(operator(shape.unravel(vector)))

    each = jax.lax.map(along, jnp.arange(len(small) + SIGNS * (len(big) > 0)))
    diagonal, probes = jnp.sum(each[: len(small)], axis=0), each[len(small) :]
    if len(big):
        mean, noise = jnp.mean(probes, axis=0), jnp.var(probes, axis=0, ddof=1) / SIGNS
        calm = {path: _calmed(mean[part], noise[part]) for path, part in shape.slices().items()}
        flat = jnp.concatenate([calm[path] for path in shape.shapes])
        diagonal = jnp.where(np.isin(np.arange(shape.size), big), flat, diagonal)
    return 1.0 / jnp.sqrt(jnp.where(diagonal > 0, diagonal, 1.0))


def _calmed(diagonal: Array, noise: Array) -> Array:
    """The diagonal of one leaf, drawn to its mean as far as it scatters by noise (James & Stein), and positive.

    Half as much noise again is counted, so that a diagonal that is all the same is made so, and not nearly so.
    """
    middle = jnp.maximum(jnp.mean(diagonal), 1e-30)
    scatter = jnp.mean((diagonal - middle) ** 2)
    kept = jnp.clip(1.0 - 1.5 * jnp.mean(noise) / jnp.maximum(scatter, 1e-60), 0.0, 1.0)
    return jnp.maximum(middle + kept * (diagonal - middle), 0.02 * middle)


def _tolerance() -> float:
    return float(np.sqrt(jnp.finfo(real_dtype()).eps))
