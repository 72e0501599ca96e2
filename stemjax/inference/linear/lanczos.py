r"""Symmetric matrices that are known by their products alone: eigenpairs, root, diagonal of the inverse.

Lanczos' recurrence turns products with A into a small tridiagonal matrix T and orthonormal vectors Q,

.. math:: A Q = Q T + \beta_m q_{m+1} e_m^\mathsf{T}, \qquad f(A)\, b \approx |b|\, Q f(T)\, e_1

Source: Golub & Van Loan, Matrix Computations (4th ed. 2013), section 10.1; Higham, Functions of Matrices (2008), 13.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.typing import Array, PRNGKeyArray

Product = Callable[[Array], Array]
"""A symmetric matrix as what it does to a vector."""


class Tridiagonal(NamedTuple):
    """What Lanczos' recurrence leaves.

    Args:
        basis: Q [step unknown].
        diagonal: Diagonal of T [step].
        beside: Beside the diagonal [step]; the last couples to the step that would come next.
    """

    basis: Array
    diagonal: Array
    beside: Array

    def eigen(self) -> tuple[Array, Array]:
        """Eigenvalues and eigenvectors of T."""
        beside = self.beside[:-1]
        return jnp.linalg.eigh(jnp.diag(self.diagonal) + jnp.diag(beside, 1) + jnp.diag(beside, -1))


class Eigenpairs(NamedTuple):
    """Some eigenvalues with their vectors.

    Args:
        values: Eigenvalues [pair], those first that were asked for first.
        vectors: Orthonormal columns [unknown pair].
        residuals: |A v − λ v| of every pair [pair].
        left: The next eigenvalue estimate, which is not among them.
    """

    values: Array
    vectors: Array
    residuals: Array
    left: Array


def tridiagonal(product: Product, begin: Array, steps: int, key: PRNGKeyArray) -> Tridiagonal:
    """Lanczos' recurrence with full reorthogonalisation.

    Where the space that A spans from the first vector is exhausted, a random vector opens another, so that equal
    eigenvalues are found as often as there are.

    Args:
        product: The matrix.
        begin: First vector [unknown].
        steps: Steps, at most as many as unknowns.
        key: Random key.
    """
    steps = min(steps, begin.size)
    small = 100.0 * float(jnp.finfo(begin.dtype).eps)

    def apart(vector: Array, basis: Array) -> Array:
        """A vector without its parts along the basis; twice is enough."""
        for _ in range(2):
            vector = vector - (basis @ vector) @ basis
        return vector

    def step(number: int, state: Tridiagonal) -> Tridiagonal:
        basis, diagonal, beside = state
        turned = product(basis[number])
        along = basis[number] @ turned
        rest = apart(turned, basis)
        length = jnp.linalg.norm(rest)
        ended = length <= small * jnp.linalg.norm(turned)
        fresh = jax.random.normal(jax.random.fold_in(key, number), begin.shape, begin.dtype)
        following = jax.lax.cond(ended, lambda: apart(fresh, basis), lambda: rest)
        following = following / jnp.maximum(jnp.linalg.norm(following), jnp.finfo(begin.dtype).tiny)
        return Tridiagonal(
            basis.at[number + 1].set(following, mode="drop"),
            diagonal.at[number].set(along),
            beside.at[number].set(jnp.where(ended, 0.0, length)),
        )

    first = jnp.zeros((steps, begin.size), begin.dtype).at[0].set(begin / jnp.linalg.norm(begin))
    blank = jnp.zeros(steps, begin.dtype)
    return jax.lax.fori_loop(0, steps, step, Tridiagonal(first, blank, blank))


Worth = Callable[[Array, Array], Array]
"""How much eigenvalues are wanted, from them and the shares of the spectrum that they stand for."""


def modulus(values: Array, shares: Array) -> Array:  # noqa: ARG001 - one of several worths
    """The greatest first."""
    return jnp.abs(values)


def far_from_bulk(values: Array, shares: Array) -> Array:
    """Those farthest from the median of the spectrum first, by their ratio to it."""
    logarithm = jnp.log(jnp.maximum(values, 1e-30))
    order = jnp.argsort(logarithm)
    middle = jnp.searchsorted(jnp.cumsum(shares[order]), 0.5)
    return jnp.abs(logarithm - logarithm[order[jnp.minimum(middle, len(values) - 1)]])


def eigenpairs(
    product: Product,
    size: int,
    count: int,
    key: PRNGKeyArray,
    *,
    steps: int | None = None,
    worth: Worth = modulus,
) -> Eigenpairs:
    """The eigenpairs of greatest worth of a symmetric matrix.

    Args:
        product: The matrix.
        size: Number of unknowns.
        count: Number of pairs.
        key: Random key.
        steps: Products with the matrix; 2 count + 40 if None. Pairs at the ends of the spectrum converge first.
        worth: Of eigenvalues, from them and from the share of the spectrum that each stands for.

    >>> found = eigenpairs(lambda v: jnp.array([1.0, 5.0, 3.0]) * v, 3, 2, jax.random.key(0))
    >>> found.values.round(4).tolist()
    [5.0, 3.0]
    """
    first, second = jax.random.split(key)
    count = min(count, size)
    begin = jax.random.normal(first, (size,))
    run = tridiagonal(product, begin, max(count, min(size, steps or 2 * count + 40)), second)
    values, vectors = run.eigen()
    order = jnp.argsort(-worth(values, vectors[0] ** 2))
    chosen = order[:count]
    left = values[order[count]] if len(values) > count else jnp.asarray(jnp.nan, values.dtype)
    residuals = run.beside[-1] * jnp.abs(vectors[-1])
    return Eigenpairs(values[chosen], run.basis.T @ vectors[:, chosen], residuals[chosen], left)


class Root(NamedTuple):
    """The inverse root of a matrix times a vector.

    Args:
        found: A^{-1/2} b [unknown].
        turned: A times that [unknown].
        change: Share of its length by which the last quarter of the steps changed it.
    """

    found: Array
    turned: Array
    change: Array


def inverse_root(product: Product, vector: Array, steps: int) -> Root:
    r"""A^{-1/2} b: a draw from the Gaussian of precision A, where b is one of independent standard normal numbers.

    Args:
        product: A positive definite matrix.
        vector: b [unknown].
        steps: Products with the matrix.

    Source: Simpson, Turner, Pettitt, Lanczos approximations of matrix functions for Gaussian fields (2008); the
    recurrence is the plain one, whose rounding slows convergence but does not spoil the limit.
    """
    steps = min(steps, vector.size)
    small = 100.0 * float(jnp.finfo(vector.dtype).eps)
    length = jnp.linalg.norm(vector)

    def step(state: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], tuple[Array, ...]]:
        before, now, beside = state
        turned = product(now)
        along = now @ turned
        rest = turned - along * now - beside * before
        norm = jnp.linalg.norm(rest)
        alive = norm > small * jnp.maximum(jnp.linalg.norm(turned), 1e-30)
        following = jnp.where(alive, rest / jnp.where(alive, norm, 1.0), 0.0)
        # After the space is exhausted the steps are empty; a one on the diagonal keeps T positive.
        along = jnp.where(jnp.any(now != 0), along, 1.0)
        norm = jnp.where(alive, norm, 0.0)
        return (now, following, norm), (now, along, norm)

    first = vector / jnp.maximum(length, jnp.finfo(vector.dtype).tiny)
    start = (jnp.zeros_like(vector), first, jnp.zeros((), vector.dtype))
    (_, after, _), (basis, diagonal, beside) = jax.lax.scan(step, start, None, length=steps)
    early = max(1, (3 * steps) // 4)
    whole, part = (_root_of(diagonal[:n], beside[: n - 1]) for n in (steps, early))
    change = jnp.linalg.norm(whole - jnp.zeros_like(whole).at[:early].set(part)) / jnp.linalg.norm(whole)
    # A Q c = Q T c + what the last step leads out of the space: no further product.
    inner, links = diagonal * whole, beside[:-1]
    inner = inner.at[1:].add(links * whole[:-1]).at[:-1].add(links * whole[1:])
    return Root(length * (whole @ basis), length * (inner @ basis + beside[-1] * whole[-1] * after), change)


def _root_of(diagonal: Array, beside: Array) -> Array:
    """T^{-1/2} e₁."""
    values, vectors = jnp.linalg.eigh(jnp.diag(diagonal) + jnp.diag(beside, 1) + jnp.diag(beside, -1))
    values = jnp.maximum(values, jnp.finfo(values.dtype).eps * values[-1])
    return vectors @ (vectors[0] / jnp.sqrt(values))


class InverseDiagonal(NamedTuple):
    """A stochastic estimate of the diagonal of an inverse.

    Args:
        values: Diagonal of A⁻¹ [unknown].
        error: Its standard error [unknown].
        draws: Draws from the Gaussian of precision A [draw unknown].
        change: Greatest relative change of a draw over the last quarter of its steps.
    """

    values: Array
    error: Array
    draws: Array
    change: Array


def inverse_diagonal(
    product: Product, pairs: Eigenpairs, key: PRNGKeyArray, *, draws: int, steps: int
) -> InverseDiagonal:
    r"""The diagonal of A⁻¹ from draws x of the Gaussian of precision A.

    The part of the known eigenpairs is taken as it is. Of the rest, the mean of x² would be off by √(2/draws); the
    product x · Ax has a known mean π, 1 where there are no pairs, and is nearly proportional to x² where an unknown is
    held by itself, so that

    .. math:: (A^{-1})_{ii} \approx \overline{x_i^2} - c_i\, (\overline{x_i (A x)_i} - \pi_i), \qquad
        c_i = \frac{2 s_i \pi_i}{s_i A_{ii} + \pi_i^2}

    with s the estimate itself, taken from the other half of the draws. The relative variance is
    2 (r − 1)/(r + 1)/draws with r = A_ii (A⁻¹)_ii: nothing for a diagonal matrix, and at most that of the plain mean.

    Args:
        product: A positive definite matrix.
        pairs: Known eigenpairs, converged; or none (`count` zero).
        key: Random key.
        draws: Number of draws, an even one.
        steps: Products a draw.
    """
    vectors, size = pairs.vectors, pairs.vectors.shape[0]

    def apart(vector: Array) -> Array:
        return vector - vectors @ (vector @ vectors)

    def one(key: PRNGKeyArray) -> tuple[Array, Array, Array, Array]:
        white = jax.random.normal(key, (size,), vectors.dtype)
        root = inverse_root(lambda v: apart(product(v)), apart(white), steps)
        found, along = apart(root.found), vectors @ ((white @ vectors) / jnp.sqrt(pairs.values))
        change = root.change * jnp.linalg.norm(found) / jnp.linalg.norm(found + along)
        return found, apart(root.turned), along, change

    x, turned, along, change = jax.lax.map(one, jax.random.split(key, draws))
    share = 1.0 - jnp.sum(vectors**2, axis=1)
    known = (vectors**2) @ (1.0 / pairs.values)
    rest, error = _controlled(x**2, x * turned, turned**2, share)
    return InverseDiagonal(known + rest, error, x + along, jnp.max(change))


def _controlled(square: Array, mixed: Array, other: Array, share: Array) -> tuple[Array, Array]:
    """Mean of x² over draws [draw unknown] with the mixed product as a control variate, and its standard error."""
    count = square.shape[0]
    halves = slice(0, count // 2), slice(count // 2, None)
    corrected = []
    for mine, others in (halves, halves[::-1]):
        s, m, a = (jnp.mean(values[others], axis=0) for values in (square, mixed, other))
        weight = _weight(s, m, a, share)
        corrected.append(square[mine] - weight[None] * (mixed[mine] - share[None]))
    each = jnp.concatenate(corrected)
    mean, error = jnp.mean(each, axis=0), jnp.std(each, axis=0, ddof=1) / np.sqrt(count)
    # Never below a share of the plain mean, which is positive.
    return jnp.maximum(mean, 0.05 * jnp.mean(square, axis=0)), error


def _weight(square: Array, mixed: Array, other: Array, share: Array) -> Array:
    """The weight of the control variate, from means over draws.

    The weight needs s and A_ii, which are known better with the control variate than without: a few rounds of that.
    """
    s, a = square, other
    for _ in range(3):
        weight = 2.0 * share / (s * a + share**2)
        s, a = (jnp.maximum(mean - weight * v * (mixed - share), 0.05 * mean) for mean, v in ((square, s), (other, a)))
    return 2.0 * s * share / (s * a + share**2)
