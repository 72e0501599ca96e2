"""Averages over normal distributions: nodes, weights, and how many nodes an error asks for."""

from __future__ import annotations

import functools

import numpy as np

from stemjax.core.errors import InputError

MOST_NODES = 64
"""More nodes than this along one axis are refused: every node is a wave that has to be propagated."""


@functools.lru_cache(maxsize=128)
def normal_nodes(number: int) -> tuple[np.ndarray, np.ndarray]:
    r"""Gauss-Hermite nodes and weights of an average over the standard normal distribution.

    .. math:: \int \frac{e^{-x^2/2}}{\sqrt{2\pi}} f(x)\, dx \approx \sum_j w_j f(x_j), \qquad \sum_j w_j = 1

    exact for polynomials up to degree 2n − 1.

    Args:
        number: Number of nodes n.

    Returns:
        Nodes [node] in units of the standard deviation, ascending, and their weights [node]; double precision.
        Source: Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 25.4.46, for the weight exp(−x²/2).

    >>> nodes, weights = normal_nodes(3)
    >>> [round(float(x), 6) for x in nodes], [round(float(w), 6) for w in weights]
    ([-1.732051, 0.0, 1.732051], [0.166667, 0.666667, 0.166667])
    """
    if number < 1:
        raise InputError(f"a quadrature of {number} nodes averages nothing; give at least 1")
    nodes, weights = np.polynomial.hermite_e.hermegauss(number)
    nodes, weights = 0.5 * (nodes - nodes[::-1]), 0.5 * (weights + weights[::-1])
    weights = weights / weights.sum()
    # The arrays are cached, so nobody may write into them.
    nodes.flags.writeable = weights.flags.writeable = False
    return nodes, weights


def product_nodes(number: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Nodes [node 2] (y, x) and weights [node] of an average over two independent standard normal numbers.

    Args:
        number: Number of nodes along (y, x); x runs fastest.

    >>> nodes, weights = product_nodes((3, 1))
    >>> nodes.shape, round(float(weights.sum()), 12)
    ((3, 2), 1.0)
    """
    (y, weights_y), (x, weights_x) = (normal_nodes(n) for n in number)
    nodes = np.stack([np.repeat(y, len(x)), np.tile(x, len(y))], axis=1)
    return nodes, np.outer(weights_y, weights_x).ravel()


def quadrature_error(number: int, largest_phase: float) -> float:
    r"""Largest error of the average of a phase factor.

    .. math:: \epsilon_n(W) = \max_{|w| \le W} \Big| \sum_j w_j e^{i w x_j} - e^{-w^2/2} \Big|

    evaluated numerically, at 64 points a radian.

    Args:
        number: Number of nodes n.
        largest_phase: Largest rms phase W [rad].

    >>> round(quadrature_error(1, 1.0), 6)  # 1 − exp(−1/2)
    0.393469
    """
    nodes, weights = normal_nodes(number)
    phases = np.linspace(0.0, largest_phase, int(np.ceil(64 * largest_phase)) + 2)
    # The nodes are symmetric, so the sum is real.
    return float(np.abs(np.cos(phases[:, None] * nodes) @ weights - np.exp(-0.5 * phases**2)).max())


@functools.lru_cache(maxsize=128)
def nodes_for(error: float, largest_phase: float, name: str = "a Gaussian average") -> int:
    r"""The smallest number of nodes whose error stays below a bound for all phases up to the largest.

    Let every wave of an ensemble be ψ(k) exp(i p(k) x) with x standard normal. The mutual coherence is then

    .. math:: J(k_1, k_2) = \psi(k_1)\, \psi^*(k_2)\, \langle e^{i w x} \rangle, \qquad w = p(k_1) - p(k_2)

    and a quadrature over x changes each element by at most ε |ψ(k₁) ψ(k₂)| where ε = `quadrature_error(n, W)` and
    W = max |w| over the pairs in the beam. Every intensity is linear in J, so this bounds the error of any of them: an
    intensity I = Σ O(k₁, k₂) J(k₁, k₂) is off by at most ε Σ |O| |ψ| |ψ|. For a probe's profile that is ε times the
    peak of the same beam without aberrations, fully coherent. Several averages add their errors, because each factor
    is at most 1 in modulus.

    Args:
        error: Bound on the error ε.
        largest_phase: Largest rms phase W between two parts of the beam [rad].
        name: What is averaged, for the message.

    Returns:
        The number of nodes n, at most `MOST_NODES`.

    Raises:
        InputError: The error is not between 0 and 1, or more nodes would be needed.

    >>> nodes_for(1e-3, 0.0), nodes_for(1e-3, 1.0), nodes_for(1e-3, 3.0)
    (1, 4, 10)
    """
    if not 0.0 < error < 1.0:
        raise InputError(
            f"an error of {error:g} is none to ask of a quadrature; give one between 0 and 1, such as 1e-3"
        )
    if not (np.isfinite(largest_phase) and largest_phase >= 0.0):
        raise InputError(f"{name} over phases of {largest_phase:g} rad; give a finite size, 0 for none")
    for number in range(1, MOST_NODES + 1):
        # A cheap necessary condition first: the end of the range is where the error is usually largest.
        nodes, weights = normal_nodes(number)
        end = abs(float(np.cos(largest_phase * nodes) @ weights) - np.exp(-0.5 * largest_phase**2))
        if end <= error and quadrature_error(number, largest_phase) <= error:
            return number
    factor = _largest_phase(error) / largest_phase
    # Two digits, never more than the value: advice must work.
    unit = 10.0 ** (np.floor(np.log10(factor)) - 1)
    raise InputError(
        f"{name} mixes phases of up to {largest_phase:.3g} rad rms, more than {MOST_NODES} nodes carry at an error of "
        f"{error:.2g}; make it {np.floor(factor / unit) * unit:.2g} times as large or smaller"
    )


def _largest_phase(error: float) -> float:
    """Largest phase that `MOST_NODES` nodes carry at an error, by bisection."""
    low, high = 0.0, 4.0 * np.sqrt(MOST_NODES)
    for _ in range(30):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if quadrature_error(MOST_NODES, middle) <= error else (low, middle)
    return low
