"""The polynomials of the hydrogen-like atom against the integral over the Coulomb wave that they came from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.spectra.oscillator_strength import coulomb_factor, strength_1s, strength_2p, strength_2s


def by_quadrature(q: float, k: float, state: str) -> float:
    """df/dW by Nordsieck's integral, summed over the direction of the ejected electron (atomic units, Z = 1).

    J(λ, q) = ∫ exp(−λr + iq·r) ψ_k* /r d³r ∝ A^(−1+i/k) B^(−i/k), A = |q−k|² + λ², B = q² − (k+iλ)². The bound states
    are derivatives of exp(−λr)/r: 1s −∂λ, 2s −∂λ − ∂λ²/2, 2p −∂λ (−i∂q).
    """
    lam = 1.0 if state == "1s" else 0.5
    x, weight = np.polynomial.legendre.leggauss(200)
    a, b = -1 + 1j / k, -1j / k
    A, B = q * q + k * k - 2 * q * k * x + lam**2, q * q - (k + 1j * lam) ** 2
    dA, dB = 2 * lam, -2j * (k + 1j * lam)
    first = a * dA / A + b * dB / B
    if state == "1s":
        amplitude, norm = abs(first) ** 2, 1.0
    elif state == "2s":
        second = first**2 + a * (2 / A - dA**2 / A**2) + b * (2 / B - dB**2 / B**2)
        amplitude, norm = abs(first + second / 2) ** 2, 1 / 8
    else:
        vector = [q * np.sqrt(1 - x * x), q * x]
        slopes = [(2 * vector[0], 2 * vector[0]), (2 * (vector[1] - k), 2 * vector[1])]
        amplitude = sum(
            abs((a * sA / A + b * sB / B) * first - a * dA * sA / A**2 - b * dB * sB / B**2) ** 2 for sA, sB in slopes
        )
        norm = 1 / 96
    integral = np.sum(weight * amplitude / A**2)
    energy = k * k + lam**2
    phase = np.exp(-2 / k * np.arctan2(2 * lam * k, q * q - k * k + lam**2)) / (1 - np.exp(-2 * np.pi / k))
    return 4 * norm * energy * integral / q**2 * phase


@pytest.mark.parametrize(("state", "strength"), [("1s", strength_1s), ("2s", strength_2s), ("2p", strength_2p)])
def test_the_polynomials_are_the_integral(state, strength):
    strength = jax.jit(strength)
    for q, k in [(0.1, 0.4), (0.7, 0.3), (1.0, 1.5), (2.0, 0.9), (0.4, 1.1)]:
        found = float(strength(jnp.array(q * q), jnp.array(k * k)))
        assert found == pytest.approx(by_quadrature(q, k, state), rel=1e-9), (q, k)


def test_the_optical_strength_of_hydrogen_is_the_published_one():
    # Photoionisation at threshold: σ = 6.304e-18 cm² (Bethe and Salpeter, section 71); σ = 109.761e-18 cm² eV · df/dE.
    at_threshold = float(strength_1s(jnp.array(1e-12), jnp.array(1e-9))) / 13.605693
    assert 109.7607 * at_threshold == pytest.approx(6.304, rel=2e-3)


@pytest.mark.parametrize("q", [0.3, 1.0, 3.0])
def test_bethe_sum_rule(q):
    """∫ df/dW over the continuum and the bound states is one at every momentum transfer; 1s → n in closed form."""
    # Bound part (Inokuti, Rev. Mod. Phys. 43 (1971) 297, Eq. 3.9) with Q = (q a0)².
    Q, n = q * q, np.arange(2, 4000, dtype=float)
    low, high = (1 - 1 / n) ** 2 + Q, (1 + 1 / n) ** 2 + Q
    bound = np.sum(256 * n**-3 * (1 - n**-2) * (Q + (1 - n**-2) / 3) * (low / high) ** (n - 3) / high**6)
    x, w = np.polynomial.legendre.leggauss(200)
    t = 0.5 * (x + 1)
    k2 = (t / (1 - t)) ** 2
    jacobian = 2 * t / (1 - t) ** 3
    values = np.asarray(jax.jit(strength_1s)(jnp.full(k2.shape, Q), jnp.asarray(k2)))
    assert bound + np.sum(0.5 * w * jacobian * values) == pytest.approx(1.0, abs=2e-5)


def test_below_the_threshold_of_hydrogen_it_goes_on_smoothly():
    excess = jnp.linspace(-0.05, 0.05, 201)
    values = jax.jit(jax.vmap(lambda k: coulomb_factor(jnp.array(0.2), k, 1.0)))(excess)
    slopes = jax.jit(jax.vmap(jax.grad(lambda k: coulomb_factor(jnp.array(0.2), k, 1.0))))(excess)
    # An analytic function: a polynomial of low degree through it leaves nothing, across both changes of the formula.
    fit = np.polynomial.Polynomial.fit(np.asarray(excess), np.asarray(values), 7)
    assert np.abs(fit(np.asarray(excess)) - values).max() < 1e-9 * float(values.max())
    assert np.abs(fit.deriv()(np.asarray(excess)) - slopes).max() < 1e-6 * float(jnp.abs(slopes).max())
