"""Gaussian averages: moments, phase factors, and the number of nodes that an error asks for."""

import re

import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.core.quadrature import MOST_NODES, nodes_for, normal_nodes, product_nodes, quadrature_error


@pytest.mark.parametrize("number", [1, 2, 5, 12, 40])
def test_moments_of_the_normal_distribution(number):
    nodes, weights = normal_nodes(number)
    moment = 1.0
    for order in range(0, min(2 * number, 20), 2):
        assert abs(weights @ nodes**order / moment - 1) < 1e-11  # (order − 1)!!, up to degree 2n − 1
        assert abs(weights @ nodes ** (order + 1)) < 1e-9 * moment
        moment *= order + 1
    assert (weights > 0).all()


def test_average_of_a_function_that_is_no_polynomial():
    # <exp(a x)> = exp(a²/2), the closed form with a real exponent.
    nodes, weights = normal_nodes(20)
    np.testing.assert_allclose(weights @ np.exp(1.3 * nodes), np.exp(0.5 * 1.3**2), rtol=1e-12)


def test_two_independent_numbers():
    nodes, weights = product_nodes((4, 3))
    y, x = nodes.T
    assert (nodes.shape, abs(weights.sum() - 1) < 1e-14) == ((12, 2), True)
    np.testing.assert_allclose(
        [weights @ (y**6 * x**4), weights @ (y * x), weights @ (y**2 * x**2)], [45, 0, 1], atol=1e-12
    )


def largest_error(number, largest_phase):
    """The same bound from numpy's other Gauss-Hermite rule, weight exp(−x²), on a fine grid of phases."""
    nodes, weights = np.polynomial.hermite.hermgauss(number)
    phases = np.linspace(-largest_phase, largest_phase, 4001)
    sums = np.exp(1j * np.sqrt(2) * phases[:, None] * nodes) @ weights / np.sqrt(np.pi)
    return np.abs(sums - np.exp(-(phases**2) / 2)).max()


@pytest.mark.parametrize("error", [3e-2, 1e-3, 1e-6])
@pytest.mark.parametrize("largest_phase", [0.2, 1.0, 2.7, 6.0, 9.0])
def test_nodes_are_as_few_as_the_error_allows(error, largest_phase):
    number = nodes_for(error, largest_phase)
    assert largest_error(number, largest_phase) <= error * (1 + 1e-9) + 1e-14
    assert number == 1 or largest_error(number - 1, largest_phase) > error * (1 - 1e-3)
    assert abs(quadrature_error(number, largest_phase) - largest_error(number, largest_phase)) < 1e-3 * error


def test_nothing_to_average_is_one_node():
    assert nodes_for(1e-9, 0.0) == 1


def test_too_large_an_average_names_what_would_work():
    with pytest.raises(InputError, match=f"source.*{MOST_NODES} nodes") as caught:
        nodes_for(1e-3, 30.0, "a source of 9 Å")
    factor = float(re.search(r"make it (\S+) times", str(caught.value))[1])
    assert 0.2 < factor < 1.0
    assert nodes_for(1e-3, 30.0 * factor) <= MOST_NODES


@pytest.mark.parametrize("error", [0.0, 1.0, -1e-3, np.nan])
def test_an_error_is_a_fraction(error):
    with pytest.raises(InputError, match="between 0 and 1"):
        nodes_for(error, 1.0)


@pytest.mark.parametrize("phase", [-1.0, np.inf, np.nan])
def test_a_phase_is_finite(phase):
    with pytest.raises(InputError, match="finite size"):
        nodes_for(1e-3, phase)
    with pytest.raises(InputError, match="at least 1"):
        normal_nodes(0)
