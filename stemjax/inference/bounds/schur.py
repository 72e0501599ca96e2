r"""Bounds where there are too many unknowns for a matrix: large leaves are eliminated by products with the information.

.. math:: F_{s|b} = F_{ss} - F_{sb} F_{bb}^{-1} F_{bs}

is what the data tell of the small leaves s (aberrations) while the large ones b (a million pixels) are unknown too. The
solves run by conjugate gradients; they succeed although F_bb is singular, as long as what is asked does not depend on
what the data do not see. An unfinished solve leaves too much information, so bounds rise towards their limit; the
change over the last half of the iterations says how far they are from it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.sparse.linalg import cg

from stemjax.core.errors import InputError
from stemjax.core.typing import Array, PRNGKeyArray, real_dtype
from stemjax.inference.bounds.blind import (
    Place,
    Spectrum,
    blind_directions,
    place_of,
    spectrum,
    tolerance,
    trades,
    weak_directions,
)
from stemjax.inference.bounds.cramer_rao import Bounds, correlations, hidden_rows, root_of
from stemjax.inference.bounds.directions import Direction, coordinates
from stemjax.inference.derived import Derived, derive, derived_slopes, named_derived
from stemjax.inference.linear.lanczos import Eigenpairs, Product, inverse_diagonal
from stemjax.inference.posteriors.matrix_free import scale_at, small_and_big
from stemjax.inference.problem import Problem, Unconstrained
from stemjax.inference.result import Named, named_leaves
from stemjax.inference.solvers.mode import Curvature
from stemjax.inference.vector import Layout, layout

MOST_ROWS = 64
"""Most elements of derived quantities that are solved for."""
LOOSE = 0.02
"""Change over the last half of the iterations from which on more of them are asked for."""


class Eliminated(NamedTuple):
    """What is left when the large leaves are eliminated; all about unconstrained values.

    Args:
        information: F_{s|b} after half of the iterations and after all [2 small small].
        follow: Change of the large leaves with the small ones that hides it best, F_bb⁻¹ F_bs [small big].
        rows: Derivatives of derived quantities by the small leaves, while the large ones follow [row small].
        squares: Their variances if the small leaves were known, after half of the iterations and after all [2 row].
        left: What the solve for each left of its right-hand side, as a share [row].
    """

    information: Any
    follow: Any
    rows: Any
    squares: Any
    left: Any


class Wide(NamedTuple):
    """How the bounds of a large problem are asked for.

    Args:
        curvature: The information, as a function that makes an operator.
        iterations: Most iterations of a solve.
        probes: Random draws for the bounds of large leaves; none are given for 0.
    """

    curvature: Curvature
    iterations: int
    probes: int


def wide_bounds(problem: Problem, z: Unconstrained, derived: Mapping[str, Derived], wide: Wide, seed: int) -> Bounds:
    """Bounds of small leaves and of derived quantities, and of large leaves if probes are asked for.

    Args:
        problem: The problem.
        z: Where the truth is assumed, unconstrained.
        derived: What else is asked, by name; at most 64 elements altogether.
        wide: How.
        seed: Seed of random signs and draws.

    Raises:
        InputError: There is nothing to bound, or too much.
    """
    first, second = jax.random.split(jax.random.key(seed))
    rows = _rows(problem, z, derived, wide)
    scale = scale_at(problem, z, first, wide.curvature)
    done = _eliminated(problem, z, scale, jnp.asarray(rows, scale.dtype), wide)
    done = Eliminated(*(np.asarray(part, np.float64) for part in done))
    here = _small_place(problem, z)
    # What the solves leave of a direction that is not seen is far above rounding.
    alone = 1.0 / np.asarray(scale, np.float64)[small_and_big(layout(problem))[0]] ** 2
    half, whole = (spectrum(one, here, floor=1e2 * _near(), alone=alone) for one in done.information)
    deviations, change = _deviations(problem, derived, z, (half, whole), done)
    told = [_followed(problem, z, one, done, scale) for one in blind_directions(whole, here)]
    told += _of_shapes(problem, z, scale, wide)
    status = _status(problem, here, change)
    if wide.probes and not told:
        large, error = _of_large(problem, z, scale, second, wide)
        deviations, status = deviations | large, f"{status}; bounds of large leaves known to {100 * error:.1f} %"
    values = named_leaves(problem.experiment, place_of(problem, z).values) | derive(problem, derived, z)
    labels, correlation = correlations(whole, here)
    weak = weak_directions(whole, here)
    return Bounds(values, deviations, labels, correlation, tuple(told), weak, trades(whole, here), status, change)


def _rows(problem: Problem, z: Unconstrained, derived: Mapping[str, Derived], wide: Wide) -> np.ndarray:
    """Derivatives of derived quantities, one under the other [row unknown]."""
    shape = layout(problem)
    slopes = derived_slopes(problem, derived, z) if derived else {}
    rows = [np.asarray(slopes[name], np.float64).reshape(-1, shape.size) for name in derived]
    found = np.concatenate([np.zeros((0, shape.size)), *rows])
    if len(found) > MOST_ROWS:
        raise InputError(f"derived quantities of {len(found)} elements need a solve each; ask for {MOST_ROWS} at most")
    if not len(small_and_big(shape)[0]) and not len(found) and not wide.probes:
        raise InputError(
            f"all free leaves are large ({', '.join(shape.shapes)}), and bounds without a matrix are those of small "
            "leaves and derived quantities; ask for a derived quantity or for `probes`, or raise `most`"
        )
    return found


@functools.partial(jax.jit, static_argnums=4)
def _eliminated(problem: Problem, z: Unconstrained, scale: Array, rows: Array, wide: Wide) -> Eliminated:
    small, big = small_and_big(layout(problem))
    product, own, count = _scaled(problem, z, scale, wide), scale[small], len(small)
    units = jnp.zeros((count, scale.size), scale.dtype).at[np.arange(count), small].set(1.0)
    columns, rows = jax.lax.map(product, units), rows * scale[None]

    def among_big(vector: Array) -> Array:
        return product(jnp.zeros_like(scale).at[big].set(vector))[big]

    right = jnp.concatenate([columns[:, big], rows[:, big]])
    (half, half_turned), (whole, whole_turned) = jax.lax.map(
        functools.partial(_solved, among_big, wide.iterations), right
    )

    def gram(found: Array, turned: Array) -> Array:
        """Of the right-hand sides in the inverse; errors of the solves count only squared."""
        mixed = right @ found.T
        return mixed + mixed.T - found @ turned.T

    grams = jnp.stack([gram(half, half_turned), gram(whole, whole_turned)])
    information = columns[:, small][None] - grams[:, :count, :count]
    length = jnp.linalg.norm(right, axis=1)
    left = jnp.linalg.norm(whole_turned - right, axis=1) / jnp.where(length > 0, length, 1.0)
    return Eliminated(
        information=0.5 * (information + jnp.swapaxes(information, 1, 2)) / (own[:, None] * own[None])[None],
        follow=whole[:count] * scale[big][None] / own[:, None],
        rows=(rows[:, small] - rows[:, big] @ whole[:count].T) / own[None],
        squares=jnp.diagonal(grams[:, count:, count:], axis1=1, axis2=2),
        left=left[count:],
    )


def _solved(product: Product, iterations: int, right: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """A solution after half of the iterations and after all, each with its product."""
    half, _ = cg(product, right, tol=_near(), maxiter=iterations // 2)
    whole, _ = cg(product, right, x0=half, tol=_near(), maxiter=iterations - iterations // 2)
    return (half, product(half)), (whole, product(whole))


def _near() -> float:
    """Share of a right-hand side that a solve may leave."""
    return float(jnp.finfo(real_dtype()).eps) ** 0.65


def _scaled(problem: Problem, z: Unconstrained, scale: Array, wide: Wide) -> Product:
    shape, operator = layout(problem), wide.curvature(problem, z)
    return lambda vector: scale * shape.ravel(operator(shape.unravel(scale * vector)))


def _small_place(problem: Problem, z: Unconstrained) -> Place:
    """The small leaves alone."""
    full, shape = place_of(problem, z), layout(problem)
    small = small_and_big(shape)[0]
    shapes = {path: shape.shapes[path] for path, part in shape.slices().items() if part.start in small}
    values = {path: full.values[path] for path in shapes}
    return Place(Layout(shapes, len(small)), values, full.slopes[small], full.model)


def _deviations(
    problem: Problem,
    derived: Mapping[str, Derived],
    z: Unconstrained,
    found: tuple[Spectrum, Spectrum],
    done: Eliminated,
) -> tuple[dict[str, Named], float]:
    """Least standard deviations of small leaves and derived quantities, and how much they still changed."""
    here, roots = _small_place(problem, z), [root_of(one) for one in found]
    half, whole = (np.abs(here.slopes) * np.linalg.norm(root, axis=1) for root in roots)
    by_leaf = _spread(here, np.where(found[1].hidden, np.inf, whole))
    deviations = named_leaves(problem.experiment, by_leaf, "least standard deviation")
    squares = [done.squares[i] + np.sum((done.rows @ roots[i]) ** 2, axis=1) for i in (0, 1)]
    # A quantity that changes along what the data do not see: its solve has no end, and the variance grows.
    endless = (done.left > 1e-3) & (done.squares[1] > 4.0 * done.squares[0]) | ~(squares[1] > 0)
    endless |= hidden_rows(found[1], done.rows, np.sqrt(np.abs(done.squares[1])))
    each, first = np.where(endless, np.inf, np.sqrt(np.abs(squares[1]))), 0
    for name, made in (derive(problem, derived, z) if derived else {}).items():
        shape, size = np.shape(made.value), int(np.size(made.value))
        about = f"least standard deviation of {name}"
        deviations[name] = named_derived(about, derived[name], each[first : first + size].reshape(shape))
        first += size
    ratios = [whole[~found[1].hidden] / half[~found[1].hidden], np.sqrt(np.abs(squares[1] / squares[0]))[~endless]]
    change = np.abs(np.concatenate(ratios) - 1.0)
    return deviations, float(change.max()) if change.size else 0.0


def _spread(here: Place, vector: np.ndarray) -> dict[str, np.ndarray]:
    return {path: vector[part].reshape(here.shape.shapes[path]) for path, part in here.shape.slices().items()}


def _followed(problem: Problem, z: Unconstrained, one: Direction, done: Eliminated, scale: Array) -> Direction:
    """A direction of small leaves with what large leaves do meanwhile."""
    full, here = place_of(problem, z), _small_place(problem, z)
    small, big = small_and_big(full.shape)
    change = np.concatenate([one.parts.get(p, np.zeros(s)).ravel() for p, s in here.shape.shapes.items()]) / here.slopes
    moves = np.zeros(full.shape.size)
    moves[big] = -(change @ done.follow)
    least = 1e-3 * np.linalg.norm(change / np.asarray(scale)[small])
    parts = {
        path: (moves * full.slopes)[part].reshape(full.shape.shapes[path])
        for path, part in full.shape.slices().items()
        if np.linalg.norm((moves / np.asarray(scale))[part]) > least
    }
    if not parts:
        return one
    return replace(one, parts={**one.parts, **parts}, words=f"{one.words} ({', '.join(parts)} would follow)")


def _of_shapes(problem: Problem, z: Unconstrained, scale: Array, wide: Wide) -> list[Direction]:
    """Simple changes of large leaves (everywhere, tilted, in proportion) that the data do not see."""
    full = place_of(problem, z)
    big = small_and_big(full.shape)[1]
    paths = [path for path, part in full.shape.slices().items() if part.start in big]
    if not paths:
        return []
    known = [one for one in coordinates(full.model, full.values, full.shape)[0] if one.path in paths]
    rows = np.zeros((len(known), full.shape.size))
    for row, one in zip(rows, known, strict=True):
        row[full.shape.slices()[one.path]] = one.change.ravel()
    frame = np.linalg.qr((rows / (full.slopes * np.asarray(scale, np.float64))[None]).T)[0].T
    gram = np.asarray(_gram(problem, z, scale, jnp.asarray(frame, scale.dtype), wide), np.float64)
    values, turn = np.linalg.eigh(0.5 * (gram + gram.T))
    null = frame.T @ turn[:, values < 1e3 * tolerance(len(values))]
    found = Spectrum(np.asarray(scale, np.float64), np.zeros(null.shape[1]), null, tolerance(len(values)))
    return list(blind_directions(found, full))


@functools.partial(jax.jit, static_argnums=4)
def _gram(problem: Problem, z: Unconstrained, scale: Array, frame: Array, wide: Wide) -> Array:
    """Information along some directions [row row]."""
    return jax.lax.map(_scaled(problem, z, scale, wide), frame) @ frame.T


def _of_large(
    problem: Problem, z: Unconstrained, scale: Array, key: PRNGKeyArray, wide: Wide
) -> tuple[dict[str, Named], float]:
    """Bounds of large leaves from draws, and their relative standard error (median)."""
    full = place_of(problem, z)
    big = small_and_big(full.shape)[1]
    square, error = (np.asarray(part, np.float64) for part in _diagonal(problem, z, scale, key, wide))
    spread = _spread(full, full.slopes * np.asarray(scale, np.float64) * np.sqrt(square))
    large = {path: spread[path] for path, part in full.shape.slices().items() if part.start in big}
    relative = float(np.median(0.5 * error[big] / square[big]))
    return named_leaves(problem.experiment, large, "least standard deviation"), relative


@functools.partial(jax.jit, static_argnums=4)
def _diagonal(problem: Problem, z: Unconstrained, scale: Array, key: PRNGKeyArray, wide: Wide) -> tuple[Array, Array]:
    none = Eigenpairs(jnp.ones(0), jnp.zeros((scale.size, 0), scale.dtype), jnp.zeros(0), jnp.asarray(jnp.nan))
    product, steps = _scaled(problem, z, scale, wide), min(wide.iterations, scale.size)
    found = inverse_diagonal(product, none, key, draws=2 * (-(-wide.probes // 2)), steps=steps)
    return found.values, found.error


def _status(problem: Problem, here: Place, change: float) -> str:
    shape = layout(problem)
    gone = [path for path in shape.shapes if path not in here.shape.shapes]
    said = f"Cramér-Rao bound of {here.shape.size} of {shape.size} unknowns, {', '.join(gone)} eliminated"
    if change > LOOSE:
        return f"{said}; bounds still grew by {100 * change:.0f} % over the last half of the iterations: allow more"
    return f"{said}; {'converged' if change < 1e-6 else f'known to {100 * change:.1g} %'}"
