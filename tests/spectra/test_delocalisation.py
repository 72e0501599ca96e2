"""The effective potential of an edge: scale, symmetry of the closed form, range."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.specimen.potential import cell_grid, project_factors
from stemjax.specimen.structure import make_structure
from stemjax.spectra.collection import make_collection
from stemjax.spectra.delocalisation import (
    delocalisation_length,
    edge_factor,
    effective_potential,
    enclosed,
    median_radius,
    step_integral,
)
from stemjax.spectra.edges import make_edge
from stemjax.spectra.hydrogenic import cross_section

COLLECTION = make_collection(30.0, 20.0)


@jax.jit
def sigma_of(edge):
    """σ within 40 eV at 200 keV."""
    return cross_section(edge, 40.0, 200e3, COLLECTION)


@pytest.fixture(scope="module")
def oxygen():
    return edge_factor(make_edge("O_K"), 200e3, COLLECTION, 40.0)


def test_the_closed_form_is_the_integral_over_the_plane():
    """∫ d²q [q·(q−k) + e] / [(q² + e)(|q−k|² + e)] over a ring of q by brute force."""
    least, k = 0.02, 0.7
    v = jnp.array([0.05 + least, 3.0 + least])
    closed = float(jnp.diff(step_integral(v, jnp.array(least), jnp.array(k)))[0])
    u, w = np.polynomial.legendre.leggauss(400)
    q2 = 0.05 + (3.0 - 0.05) * 0.5 * (u + 1)
    phi = 2 * np.pi * np.arange(720) / 720
    dot = np.sqrt(q2)[:, None] * k * np.cos(phi)
    shifted = q2[:, None] + k * k - 2 * dot + least
    values = (q2[:, None] - dot + least) / ((q2[:, None] + least) * shifted)
    numeric = 0.5 * 2.95 * np.sum(w * values.mean(axis=1))  # ∫ d²q / π
    assert closed == pytest.approx(numeric, rel=1e-6)


def test_without_structure_it_is_the_logarithm():
    v = jnp.array([0.01, 4.0])
    for k in (0.0, 1e-6):
        assert float(jnp.diff(step_integral(v, jnp.array(0.01), jnp.array(k)))[0]) == pytest.approx(
            np.log(400.0), rel=1e-5
        )


def test_its_integral_is_the_cross_section(oxygen):
    sigma = sigma_of(make_edge("O_K"))
    assert float(oxygen(8, np.zeros(1))[0]) == pytest.approx(float(sigma), rel=1e-9)
    assert float(oxygen(22, np.zeros(1))[0]) == 0.0


def test_uniform_illumination_gives_cross_section_times_atoms_per_area(oxygen):
    """Through the sum over atoms that a multislice calculation uses."""
    atoms = make_structure([[1.0, 1.0, 1.0], [1.0, 2.5, 3.0], [3.0, 2.0, 2.0]], [8, 38, 8], [4.0, 4.0, 4.0])
    grid = cell_grid(atoms, 0.1)
    potential = jax.jit(lambda: project_factors(atoms, grid, 2, oxygen))()
    wave = jnp.ones(grid.shape) / np.sqrt(grid.shape[0] * grid.shape[1])  # Σ |ψ|² = 1
    sigma = sigma_of(make_edge("O_K"))
    probability = float(jnp.sum(wave[None] ** 2 * potential))
    assert probability == pytest.approx(2 * float(sigma) / 16.0, rel=1e-5)
    place = np.unravel_index(int(jnp.argmax(potential[0])), grid.shape)
    assert np.allclose(np.array(place) * 0.1, [1.0, 1.0], atol=0.06)


def test_losses_come_from_ever_nearer_with_energy_as_egerton_says():
    """d50 of the potential against Eq. 5.17a of Egerton's book, 3rd ed., itself a rule of thumb to tens of percent."""
    found, rule = [], []
    for name, window in (("Al_L23", 20.0), ("C_K", 30.0), ("Si_K", 100.0)):
        edge = make_edge(name)
        potential = edge_factor(edge, 100e3, make_collection(20.0), window)
        found.append(2 * median_radius(potential))
        rule.append(float(delocalisation_length(edge.onsets[0] + window / 3, 100e3, 20.0)))
    assert np.all(np.diff(found) < 0)
    assert np.allclose(found, rule, rtol=0.25)


def test_the_enclosed_part_grows_to_one(oxygen):
    part = enclosed(oxygen, np.geomspace(0.05, 100.0, 30))
    assert np.all(np.diff(part) > -2e-3)
    assert part[-1] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.slow
def test_it_has_slopes_in_angle_and_onset():
    edge, k = make_edge("O_K"), jnp.array([0.0, 0.3, 1.0])

    def total(beta, onset):
        moved = edge.replace(onsets=onset[None])
        return jnp.sum(effective_potential(moved, 200e3, COLLECTION.replace(semiangle=beta), 40.0, k))

    both = jax.jit(jax.value_and_grad(total, argnums=(0, 1)))
    found = both(jnp.array(28.0), jnp.array(532.0))[1]
    for i, step in enumerate((0.01, 0.1)):
        moved = [[28.0, 532.0], [28.0, 532.0]]
        moved[0][i] += step
        moved[1][i] -= step
        high, low = (both(*map(jnp.array, m))[0] for m in moved)
        assert float(found[i]) == pytest.approx(float(high - low) / (2 * step), rel=1e-4)
