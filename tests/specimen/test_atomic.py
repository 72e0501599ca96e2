"""Specimens of atoms: what a configuration is, what the mean is, and that every leaf has its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.specimen.atomic import make_atomic_specimen, with_occupation, with_phonons, with_trajectory
from stemjax.specimen.fields import FieldObject, make_field_object
from stemjax.specimen.objects import PixelatedObject, PotentialObject, make_object, make_potential_object
from stemjax.specimen.potential import project_exact, project_potential
from stemjax.specimen.repeated import RepeatedObject, make_repeated
from stemjax.specimen.structure import make_structure, with_displacement, wrapped

GRID = Grid((48, 40), (0.1, 0.1))
SIGMA = 0.7288e-3


def some_atoms(u=0.1):
    rng = np.random.default_rng(5)
    places = rng.uniform(0.05, 0.95, (6, 3)) * [4.0, 4.8, 4.0]
    return make_structure(places, [6, 38, 8, 38, 6, 8], [4.0, 4.8, 4.0], rms_displacement=u)


def test_mean_is_the_damped_potential():
    specimen = make_atomic_specimen(some_atoms(), GRID, 2)
    expected = np.exp(1j * SIGMA * np.asarray(project_potential(some_atoms(), GRID, 2).values))
    np.testing.assert_allclose(specimen.transmission(SIGMA), expected, atol=1e-12)
    moving = make_atomic_specimen(some_atoms(), GRID, 2, phonons=3)
    np.testing.assert_allclose(moving.transmission(SIGMA), expected, atol=1e-12)
    assert (specimen.configurations, moving.configurations) == (1, 3)
    assert specimen.configuration(0).structure is not None


def test_a_configuration_is_the_displaced_atoms_at_rest():
    u = np.random.default_rng(0).uniform(0.0, 0.2, (6, 3))
    specimen = make_atomic_specimen(some_atoms(u), GRID, 2, phonons=4, seed=7)
    # The index is traced, as in a loop over configurations.
    found = jax.jit(lambda s, i: s.configuration(i).transmission(SIGMA))(specimen, 2)
    moved = np.asarray(some_atoms().positions) + u * np.asarray(specimen.draws[2]) * [0.0, 1.0, 1.0]
    still = make_structure(moved, some_atoms().numbers, [4.0, 4.8, 4.0])
    expected = np.exp(1j * SIGMA * np.asarray(project_exact(still, GRID, 2).values))
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert specimen.configuration(2).configurations == 1


def test_trajectory_moves_atoms_and_sets_the_mean():
    offsets = np.random.default_rng(1).normal(0, 0.1, (400, 6, 3)) * [1.0, 0.5, 2.0]
    specimen = with_trajectory(make_atomic_specimen(some_atoms(0.0), GRID, 1), offsets)
    at = specimen.configuration(17)
    np.testing.assert_allclose(at.structure.positions, np.asarray(some_atoms().positions) + offsets[17], atol=1e-12)
    assert not np.asarray(at.structure.rms_displacement).any()
    np.testing.assert_allclose(specimen.structure.rms_displacement, np.tile([0.1, 0.05, 0.2], (6, 1)), rtol=0.1)


def test_drawn_occupations_replace_the_mean():
    specimen = make_atomic_specimen(some_atoms(), GRID, 1, phonons=2)
    there = np.array([[1, 1, 0, 0, 1, 1], [1.0, 0, 1, 1, 1, 0]])
    at = with_occupation(specimen, there).configuration(1)
    np.testing.assert_array_equal(at.structure.occupancy, there[1])
    with pytest.raises(InputError, match="draw as many"):
        with_occupation(specimen, there[:1])
    # Without displacements drawn, the atoms keep their Debye-Waller factor.
    only = with_occupation(make_atomic_specimen(some_atoms(), GRID, 1), there).configuration(0)
    np.testing.assert_allclose(only.structure.rms_displacement, 0.1)


def test_tensors_set_the_displacement():
    tensors = np.tile(np.diag([0.01, 0.04, 0.0025]), (6, 1, 1))
    specimen = with_phonons(make_atomic_specimen(some_atoms(), GRID, 1), 5, 0, covariance=tensors)
    np.testing.assert_allclose(specimen.structure.rms_displacement[3], [0.1, 0.2, 0.05])
    assert specimen.configurations == 5


def test_thickness_of_equal_and_unequal_slices():
    np.testing.assert_allclose(make_atomic_specimen(some_atoms(), GRID, 4).thickness, [1.0])
    np.testing.assert_allclose(make_atomic_specimen(some_atoms(), 0.1, (1.0, 3.0)).thickness, [1.0, 3.0])


@pytest.mark.parametrize("leaf", ["positions", "occupancy", "rms_displacement"])
def test_gradient_of_a_configuration_reaches_every_leaf(leaf):
    specimen = make_atomic_specimen(some_atoms(), GRID, 2, phonons=2)
    rng = np.random.default_rng(0)
    move = rng.normal(size=getattr(specimen.structure, leaf).shape)
    if leaf == "positions":
        move[:, 0] = 0.0
    weight = jnp.asarray(rng.normal(size=(2, 48, 40)))

    @jax.jit
    def value(t):
        moved = specimen.structure.replace(**{leaf: getattr(specimen.structure, leaf) + t * jnp.asarray(move)})
        wave = specimen.replace(structure=moved).configuration(1).transmission(SIGMA)
        return jnp.sum(weight * wave.imag)

    h = 1e-3
    numeric = np.array([float(value(i * h)) for i in (-2, -1, 1, 2)]) @ np.array([1, -8, 8, -1]) / (12 * h)
    assert float(jax.jit(jax.grad(value))(0.0)) == pytest.approx(numeric, rel=1e-6)


def test_single_precision_stays_single():
    absorbing = make_atomic_specimen(some_atoms(), GRID, 2, phonons=2, absorption=True)
    single = jax.tree.map(lambda a: a.astype(jnp.float32), absorbing)
    both = jax.jit(lambda s: (s.transmission(SIGMA), s.configuration(1).transmission(SIGMA)))
    for found, expected in zip(both(single), both(absorbing), strict=True):
        assert found.dtype == jnp.complex64
        np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("kind", [PixelatedObject, PotentialObject, RepeatedObject, FieldObject])
def test_plain_specimens_are_one_configuration(kind):
    plain = {
        PixelatedObject: lambda: make_object(GRID),
        PotentialObject: lambda: make_potential_object(np.ones((2, 48, 40)), 1.0, GRID),
        RepeatedObject: lambda: make_repeated(make_potential_object(np.ones((2, 48, 40)), 1.0, GRID), (1, 2)),
        FieldObject: lambda: make_field_object(make_object(GRID)),
    }[kind]()
    assert plain.configurations == 1
    np.testing.assert_array_equal(plain.configuration(0).transmission(SIGMA), plain.transmission(SIGMA))
    assert all(hasattr(plain, name) for name in ("grid", "origin", "thickness", "periodic"))


def test_containers_pass_configurations_on():
    atoms = make_atomic_specimen(some_atoms(), GRID, 2, phonons=3)
    both = make_field_object(make_repeated(atoms, (2, 1)), magnetic=np.full((96, 40), 0.1))
    assert both.configurations == 3
    alone = np.asarray(atoms.configuration(1).transmission(SIGMA))
    found = jax.jit(lambda s, i: s.configuration(i).transmission(SIGMA))(both, 1)
    np.testing.assert_allclose(found, np.tile(alone, (1, 2, 1)) * np.exp(0.05j), atol=1e-12)
    assert both.grid.shape == (96, 40)
    assert both.thickness.shape == (1,)
    with pytest.raises(InputError, match="does not repeat"):
        make_repeated(make_object(GRID), (2, 2))
    with pytest.raises(InputError, match="whole numbers"):
        make_repeated(atoms, (0, 2))


def test_refuses_atoms_outside_and_atoms_at_rest():
    outside = make_structure([[1.0, 5.0, 1.0]], [6], [4.0, 4.8, 4.0], rms_displacement=0.1)
    with pytest.raises(InputError, match="wrapped"):
        make_atomic_specimen(outside, GRID, 1)
    assert make_atomic_specimen(wrapped(outside), GRID, 1).configurations == 1
    with pytest.raises(InputError, match="with_displacement"):
        make_atomic_specimen(
            with_displacement(outside.replace(positions=outside.positions * 0), 0.0), GRID, 1, phonons=2
        )
    with pytest.raises(InputError, match="parametrisation"):
        make_atomic_specimen(some_atoms(), GRID, 1, parametrization="doyle")
    with pytest.raises(InputError, match="cell_grid"):
        make_atomic_specimen(some_atoms(), Grid((40, 40), (0.1, 0.1)), 1)
    with pytest.raises(InputError, match="configuration atom 3"):
        with_trajectory(make_atomic_specimen(some_atoms(), GRID, 1), np.zeros((3, 5, 3)))
