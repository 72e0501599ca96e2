"""Linear algebra by products: against numpy's on matrices that can be written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.inference.linear.conjugate_gradients import solve_rows
from stemjax.inference.linear.lanczos import (
    Eigenpairs,
    eigenpairs,
    far_from_bulk,
    inverse_diagonal,
    inverse_root,
)

KEY = jax.random.key(3)


def with_spectrum(values, seed=0):
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))
    return turn * np.asarray(values) @ turn.T


def chain(size, stiffness):
    """A chain of unknowns held to zero and to their neighbours, with a unit diagonal."""
    edge = np.eye(size) - np.eye(size, k=1)
    matrix = np.eye(size) + stiffness * edge[:-1].T @ edge[:-1]
    scale = 1 / np.sqrt(np.diag(matrix))
    return scale[:, None] * matrix * scale[None, :]


def product_of(matrix):
    matrix = jnp.asarray(matrix)
    return lambda vector: matrix @ vector


def no_pairs(size):
    return Eigenpairs(jnp.ones(0), jnp.zeros((size, 0)), jnp.zeros(0), jnp.asarray(jnp.nan))


def test_eigenpairs_are_those_of_numpy():
    # Three values stand apart below and above a crowd of ones.
    values = np.concatenate([[0.01, 0.02, 0.1], np.ones(90), [20.0, 50.0, 50.0]])
    matrix = with_spectrum(values)
    found = jax.jit(lambda: eigenpairs(product_of(matrix), 96, 6, KEY, worth=far_from_bulk))()
    np.testing.assert_allclose(np.sort(found.values), np.sort(values[values != 1]), rtol=1e-10)
    vectors = np.asarray(found.vectors)
    np.testing.assert_allclose(matrix @ vectors, np.asarray(found.values) * vectors, atol=1e-8)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(6), atol=1e-10)
    assert float(found.left) == pytest.approx(1.0)


@pytest.mark.parametrize("values", [np.ones(30), np.repeat([1.0, 2.0, 3.0], 10), np.linspace(0.1, 5.0, 30)])
def test_equal_eigenvalues_are_all_found(values):
    found = jax.jit(lambda: eigenpairs(product_of(with_spectrum(values)), 30, 30, KEY))()
    np.testing.assert_allclose(np.sort(found.values), values, rtol=1e-10)
    np.testing.assert_allclose(found.vectors @ found.vectors.T, np.eye(30), atol=1e-9)


def test_residuals_say_how_well_a_pair_has_converged():
    matrix = with_spectrum(np.linspace(0.1, 5.0, 200))
    found = jax.jit(lambda: eigenpairs(product_of(matrix), 200, 10, KEY, steps=30))()
    vectors = np.asarray(found.vectors)
    left = np.linalg.norm(matrix @ vectors - np.asarray(found.values) * vectors, axis=0)
    assert left.max() > 1e-3
    np.testing.assert_allclose(found.residuals, left, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("stiffness", [0.0, 10.0])
def test_inverse_root_and_inverse_are_those_of_the_matrix(stiffness):
    matrix, b = chain(80, stiffness), np.random.default_rng(1).normal(size=80)
    values, vectors = np.linalg.eigh(matrix)
    root, turned, change = jax.jit(inverse_root, static_argnums=(0, 2))(product_of(matrix), jnp.asarray(b), 70)
    np.testing.assert_allclose(root, vectors @ ((vectors.T @ b) / np.sqrt(values)), atol=1e-8)
    np.testing.assert_allclose(turned, vectors @ ((vectors.T @ b) * np.sqrt(values)), atol=1e-8)
    assert float(change) < 1e-8
    rows = jnp.asarray(np.stack([b, np.eye(80)[3]]))
    found, left = jax.jit(lambda: solve_rows(product_of(matrix), rows, 1e-12, 200))()
    np.testing.assert_allclose(found, np.linalg.solve(matrix, np.stack([b, np.eye(80)[3]]).T).T, atol=1e-9)
    assert float(left.max()) < 1e-10


def test_an_inverse_root_says_how_far_it_is_from_done():
    matrix, b = chain(400, 1e4), np.random.default_rng(1).normal(size=400)
    values, vectors = np.linalg.eigh(matrix)
    true = vectors @ ((vectors.T @ b) / np.sqrt(values))
    for steps in (20, 60):
        root, turned, change = jax.jit(inverse_root, static_argnums=(0, 2))(product_of(matrix), jnp.asarray(b), steps)
        np.testing.assert_allclose(turned, matrix @ np.asarray(root), rtol=0, atol=1e-9)
        wrong = np.linalg.norm(root - true) / np.linalg.norm(true)
        assert wrong > 1e-3
        assert wrong / 10 < float(change) < 10 * wrong


@pytest.mark.parametrize("stiffness", [0.1, 10.0])
def test_diagonal_of_the_inverse_is_known_as_well_as_it_says(stiffness):
    matrix, size = chain(1000, stiffness), 1000
    true, values = np.diag(np.linalg.inv(matrix)), jnp.asarray(np.diag(matrix, 1))

    def product(vector):
        return vector.at[1:].add(values * vector[:-1]).at[:-1].add(values * vector[1:])

    run = jax.jit(lambda: inverse_diagonal(product, no_pairs(size), KEY, draws=64, steps=60))
    found = run()
    wrong = np.asarray(found.values) - true
    # Some 1000 / 10 independent errors: their mean square is the stated one within 2.5 x sqrt(2 / 100).
    assert np.mean(wrong**2) == pytest.approx(np.mean(np.asarray(found.error) ** 2), rel=0.35)
    # The relative variance that the docstring states, with unit diagonal r = (A^-1)_ii.
    stated = np.mean(2 * (true - 1) / (true + 1) / 64)
    measured = np.mean((np.asarray(found.values) / true - 1) ** 2)
    assert measured < 1.5 * stated + 5e-4
    # The draws have the covariance of the inverse: the variance of their sum is that of the matrix.
    total = np.asarray(found.draws).sum(axis=1)
    expected = np.ones(size) @ np.linalg.solve(matrix, np.ones(size))
    assert (total @ total) / 64 == pytest.approx(expected, rel=4 * np.sqrt(2 / 64))


def test_independent_unknowns_leave_no_error():
    diagonal = jnp.asarray(np.random.default_rng(0).uniform(0.5, 2.0, 50))
    found = jax.jit(lambda: inverse_diagonal(lambda v: diagonal * v, no_pairs(50), KEY, draws=32, steps=50))()
    np.testing.assert_allclose(found.values, 1 / diagonal, rtol=1e-4)


def test_known_eigenpairs_take_their_part_of_the_error_away():
    matrix = with_spectrum(np.concatenate([[1e-3, 2e-3, 1e-2], np.linspace(0.9, 1.1, 197)]))
    product, true = product_of(matrix), np.diag(np.linalg.inv(matrix))
    pairs = jax.jit(lambda: eigenpairs(product, 200, 3, KEY, worth=far_from_bulk))()
    errors = {}
    for name, known in (("with", pairs), ("without", no_pairs(200))):
        found = jax.jit(lambda known=known: inverse_diagonal(product, known, KEY, draws=32, steps=40))()
        errors[name] = float(np.sqrt(np.mean((np.asarray(found.values) / true - 1) ** 2)))
    assert errors["without"] > 0.1
    assert errors["with"] < 0.01
