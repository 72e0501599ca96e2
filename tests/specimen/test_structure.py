"""Structures: the round trip through ase, the axes, wrong input."""

import ase
import jax
import numpy as np
import pytest
from ase.build import bulk, graphene

from stemjax.core.errors import InputError
from stemjax.specimen.structure import from_ase, make_structure, pad_cell, to_ase, with_displacement


def orthorhombic() -> ase.Atoms:
    """Three atoms in a box with three different edges."""
    return ase.Atoms("CSiAu", positions=[[0.1, 0.2, 0.3], [1, 2, 3], [-0.5, 9.0, 4.5]], cell=[4, 5, 6], pbc=True)


def test_axes_are_z_y_x():
    structure = from_ase(orthorhombic())
    np.testing.assert_allclose(structure.cell, [6, 5, 4])
    np.testing.assert_allclose(structure.positions[1], [3, 2, 1])
    np.testing.assert_allclose(structure.positions[2], [4.5, 4.0, 3.5])
    assert structure.numbers == (6, 14, 79)


def test_round_trip_through_ase():
    atoms = orthorhombic()
    atoms.wrap()
    atoms.set_array("occupancies", np.array([1.0, 0.5, 0.25]))
    structure = from_ase(atoms, rms_displacement=[0.1, 0.2, 0.0])
    back = to_ase(structure)
    np.testing.assert_allclose(back.positions, atoms.positions, atol=1e-12)
    np.testing.assert_allclose(back.cell.array, atoms.cell.array)
    again = from_ase(back)
    assert jax.tree.structure(again) == jax.tree.structure(structure)
    for leaf, expected in zip(jax.tree.leaves(again), jax.tree.leaves(structure), strict=True):
        np.testing.assert_allclose(leaf, expected, atol=1e-12)


def test_every_array_is_a_leaf():
    structure = from_ase(orthorhombic())
    assert len(jax.tree.leaves(structure)) == 4
    moved = jax.tree.map(lambda leaf: leaf + 1.0, structure)
    assert moved.numbers == structure.numbers


def test_sites_follow_element_and_displacement():
    structure = make_structure(np.zeros((4, 3)), [8, 38, 8, 8], [1, 1, 1], rms_displacement=[0.1, 0.1, 0.2, 0.1])
    assert structure.sites == (0, 2, 1, 0)
    assert with_displacement(structure, 0.1).sites == (0, 1, 0, 0)


def test_padding_keeps_distances():
    structure = from_ase(orthorhombic())
    padded = pad_cell(structure, (1.0, 2.0, 3.0))
    np.testing.assert_allclose(padded.cell, [8, 9, 10])
    np.testing.assert_allclose(padded.positions - structure.positions, np.tile([[1.0, 2.0, 3.0]], (3, 1)))


@pytest.mark.parametrize("atoms", [bulk("Si"), bulk("Ti")])
def test_refuses_oblique_cells(atoms):
    with pytest.raises(InputError, match="orthogonal_cell"):
        from_ase(atoms)


def test_refuses_a_cell_without_volume():
    with pytest.raises(InputError, match="cell has edges"):
        from_ase(graphene())
    with pytest.raises(InputError, match="cell has edges"):
        from_ase(ase.Atoms("C"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions": [1.0, 2.0, 3.0]}, "one row"),
        ({"numbers": [6, 6]}, "2 atomic numbers for 1"),
        ({"numbers": [0]}, "1 to 103"),
        ({"cell": [1.0, 1.0, -1.0]}, "positive edge lengths"),
        ({"positions": [[np.nan, 0.0, 0.0]]}, "atom 0"),
        ({"occupancy": -0.5}, "not negative"),
        ({"rms_displacement": [0.1, 0.1]}, "for 1 atoms"),
    ],
)
def test_refuses_what_is_no_structure(change, message):
    good = {"positions": [[0.0, 0.0, 0.0]], "numbers": [6], "cell": [1.0, 1.0, 1.0]}
    with pytest.raises(InputError, match=message):
        make_structure(**(good | change))
