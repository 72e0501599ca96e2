"""Displacements along the axes damp the potential along each by its own factor, by both methods."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.specimen.crystal import orthogonal_cell
from stemjax.specimen.potential import cell_grid, project_exact, project_factors, project_gridded
from stemjax.specimen.scattering_factors import POTENTIAL_PER_SCATTERING_FACTOR, scattering_factor
from stemjax.specimen.structure import from_ase, make_structure, site_classes, to_ase, with_displacement

METHODS = (project_gridded, project_exact)
GRID = Grid((60, 50), (0.08, 0.08))
U = {6: (0.3, 0.05, 0.15), 38: (0.2, 0.12, 0.0)}


def some_atoms():
    rng = np.random.default_rng(4)
    numbers = rng.choice([6, 38], 10)
    places = rng.uniform(0, 1, (10, 3)) * [4.0, 4.8, 4.0]
    return make_structure(places, numbers, [4.0, 4.8, 4.0], rms_displacement=[U[int(z)] for z in numbers])


@pytest.mark.parametrize("method", METHODS)
def test_each_axis_is_damped_by_its_own_displacement(method):
    structure = some_atoms()
    ky, kx = GRID.frequencies()
    inside = np.hypot(ky, kx) <= 2 / 3 * GRID.nyquist * (1 + 1e-9)
    expected = np.zeros(GRID.shape, complex)
    for number, (_, y, x) in zip(structure.numbers, np.asarray(structure.positions), strict=True):
        _, uy, ux = U[number]
        damping = np.exp(-2 * np.pi**2 * ((uy * ky) ** 2 + (ux * kx) ** 2))
        factor = scattering_factor("lobato", number, np.hypot(ky, kx))
        expected += factor * damping * np.exp(-2j * np.pi * (ky * y + kx * x))
    expected *= inside * POTENTIAL_PER_SCATTERING_FACTOR / (GRID.sampling[0] * GRID.sampling[1])
    found = np.fft.fft2(np.asarray(method(structure, GRID, 2).values.sum(0)))
    assert np.linalg.norm(found - expected) < 3e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize("method", METHODS)
def test_equal_displacements_along_all_axes_are_isotropic(method):
    one = with_displacement(some_atoms(), 0.1)
    three = with_displacement(one, np.full((10, 3), 0.1))
    assert three.rms_displacement.shape == (10, 3)
    np.testing.assert_allclose(method(three, GRID, 1).values, method(one, GRID, 1).values, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_gradient_of_each_axis(method):
    structure = some_atoms()
    cotangent = jnp.asarray(np.random.default_rng(0).normal(size=(1, 60, 50)))
    move = jnp.broadcast_to(jnp.array([0.7, 1.0, -0.4])[None], (10, 3))

    @jax.jit
    def value(t):
        moved = structure.replace(rms_displacement=structure.rms_displacement + t * move)
        return jnp.vdot(method(moved, GRID, 1).values, cotangent)

    h = 1e-3
    numeric = np.array([float(value(i * h)) for i in (-2, -1, 1, 2)]) @ np.array([1, -8, 8, -1]) / (12 * h)
    assert float(jax.jit(jax.grad(value))(0.0)) == pytest.approx(numeric, rel=1e-6)


def test_classes_tell_axes_apart():
    assert site_classes([6, 6, 6], [[0.1, 0.1, 0.1], [0.1, 0.1, 0.2], [0.1, 0.1, 0.1]]) == (0, 1, 0)


def test_round_trip_through_ase_keeps_the_axes():
    structure = some_atoms()
    atoms = to_ase(structure)
    # ase's columns are x, y, z.
    np.testing.assert_allclose(atoms.arrays["rms_displacement"][0], U[structure.numbers[0]][::-1])
    np.testing.assert_allclose(from_ase(atoms).rms_displacement, structure.rms_displacement)
    assert from_ase(atoms).sites == structure.sites


def test_refuses_wrong_shapes_and_turned_crystals():
    with pytest.raises(InputError, match="along \\(z, y, x\\)"):
        with_displacement(some_atoms(), np.zeros((10, 2)))
    with pytest.raises(InputError, match="not negative"):
        with_displacement(some_atoms(), np.full((10, 3), -0.1))
    with pytest.raises(InputError, match="do not turn"):
        orthogonal_cell(to_ase(some_atoms()), (0, 0, 1))


def test_any_radial_factor_is_summed_over_its_elements():
    """A Gaussian about the carbon atoms alone, against its closed form and its periodic images."""
    structure = with_displacement(some_atoms(), 0.0)
    width = 0.3

    def carbon(number, k):
        return np.exp(-2 * (np.pi * width * k) ** 2) if number == 6 else None

    found = np.asarray(jax.jit(lambda s: project_factors(s, GRID, 1, carbon))(structure)[0])
    y, x = GRID.coordinates()
    expected = np.zeros(GRID.shape)
    for number, (_, py, px) in zip(structure.numbers, np.asarray(structure.positions), strict=True):
        for i in (-1, 0, 1):
            for j in (-1, 0, 1):
                r2 = (y - py + i * 4.8) ** 2 + (x - px + j * 4.0) ** 2
                expected += (number == 6) * np.exp(-r2 / (2 * width**2)) / (2 * np.pi * width**2)
    np.testing.assert_allclose(found, expected, atol=3e-6 * expected.max())


def test_factors_of_the_potential_give_the_potential():
    structure = some_atoms()

    @jax.jit
    def sums(strength):
        def factor(number, k):
            return strength * POTENTIAL_PER_SCATTERING_FACTOR * np.asarray(scattering_factor("lobato", number, k))

        rest = project_factors(structure, GRID, (1.0, 3.0), factor, damped=False)
        return project_factors(structure, GRID, (1.0, 3.0), factor), rest

    damped, rest = sums(1.0)
    np.testing.assert_allclose(damped, project_gridded(structure, GRID, (1.0, 3.0)).values, rtol=1e-9, atol=1e-9)
    still = project_gridded(with_displacement(structure, 0.0), GRID, (1.0, 3.0)).values
    np.testing.assert_allclose(rest, still, rtol=1e-9, atol=1e-9)
    nothing = jax.jit(lambda s: project_factors(s, GRID, 2, lambda number, k: 0.0 * k))(structure)
    np.testing.assert_array_equal(nothing, np.zeros((2, 60, 50)))
    assert cell_grid(structure, 0.08).shape == GRID.shape
