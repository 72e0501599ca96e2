"""Plural scattering against explicit convolutions, and without a circle."""

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.spectra.plural import convolve_losses, plural_scattering, scattering_order


def compound_poisson(single: np.ndarray) -> np.ndarray:
    """exp(s − Σs) as a power series, by its differential equation n p_n = Σ j s_j p_(n−j): nothing wraps around."""
    p = np.zeros_like(single)
    p[0] = np.exp(single[0] - single.sum())
    for n in range(1, len(p)):
        p[n] = np.arange(1, n + 1) * single[1 : n + 1] @ p[n - 1 :: -1][:n] / n
    return p


def spectrum(channels=300):
    loss = np.arange(channels) * 0.5
    single = 4.0 / ((loss - 15.0) ** 2 + 4.0) * loss / 15.0
    line = np.exp(-0.5 * ((np.arange(channels) - 20.0) / 2.0) ** 2)
    return jnp.asarray(line / line.sum()), jnp.asarray(1.7 * single / single.sum())


def test_it_is_the_compound_poisson_law_to_the_end_of_the_axis():
    # The axis ends at 150 eV, and with t/λ = 1.7 much of the spectrum lies beyond: a circle would bring it back.
    line, single = spectrum()
    exact = np.convolve(line, compound_poisson(np.asarray(single)))[: len(line)]
    found = np.asarray(plural_scattering(line, single))
    assert np.abs(found - exact).max() < 1e-10 * exact.max()
    assert np.abs(found - exact)[50:].max() < 1e-9 * exact[50:].min()


def test_single_precision_stays_within_its_rounding():
    line, single = spectrum()
    found = plural_scattering(line.astype(jnp.float32), single.astype(jnp.float32))
    exact = np.convolve(line, compound_poisson(np.asarray(single)))[: len(line)]
    assert found.dtype == jnp.float32
    assert np.abs(found - exact).max() < 1e-6 * exact.max()


def test_orders_are_convolutions_and_add_up():
    line, single = spectrum()
    none = np.asarray(line) * np.exp(-float(single.sum()))
    once = np.convolve(none, single)[: len(line)]
    twice = np.convolve(once, single)[: len(line)] / 2
    for n, exact in enumerate((none, once, twice)):
        assert np.allclose(scattering_order(line, single, n), exact, atol=1e-12)
    added = sum(scattering_order(line, single, n) for n in range(16))
    assert np.allclose(added, plural_scattering(line, single), atol=1e-9)


def test_an_edge_behind_the_low_loss_is_a_plain_convolution():
    line, _ = spectrum()
    edge = jnp.where(jnp.arange(300) > 200, 1e-4, 0.0)
    assert np.allclose(convolve_losses(line, edge), np.convolve(line, edge)[:300], atol=1e-15)


def test_its_slope_is_that_of_finite_differences():
    line, single = spectrum(64)
    total = jax.jit(lambda s: jnp.sum(jnp.sqrt(jnp.abs(plural_scattering(line, s)) + 1e-6)))
    slope = jax.jit(jax.grad(total))(single)
    for j in (0, 30, 60):
        step = 1e-5 * jnp.eye(64)[j]
        numeric = float(total(single + step) - total(single - step)) / 2e-5
        assert abs(float(slope[j]) - numeric) < 1e-6 * abs(numeric) + 1e-9
