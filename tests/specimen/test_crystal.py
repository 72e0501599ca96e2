"""Oriented cells conserve what a rotation and a choice of edges conserve: density, distances, the zone axis."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, mx2
from ase.neighborlist import neighbor_list

from stemjax.core.errors import InputError
from stemjax.specimen.builders import crystal
from stemjax.specimen.crystal import orthogonal_cell
from stemjax.specimen.structure import from_ase


def bulk_mos2() -> Atoms:
    """A monolayer in a hexagonal cell with a height."""
    layer = mx2("MoS2", a=3.16, thickness=3.19)
    layer.center(vacuum=3.0, axis=2)
    layer.pbc = True
    return layer


def neighbours(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Sorted distances up to 5 Å of the pairs of elements, each with its number per atom of the crystal."""
    first, second, distance = neighbor_list("ijd", atoms, 5.0)
    pair = atoms.numbers[first] * 1000 + atoms.numbers[second]
    kinds, counts = np.unique(np.stack([pair, distance.round(4)]), axis=1, return_counts=True)
    return kinds, counts / len(atoms)


CASES = [
    (crystal("SrTiO3"), (0, 0, 1), (3.905, 3.905, 3.905)),
    (crystal("SrTiO3"), (1, 1, 0), (3.905, 3.905 * np.sqrt(2), 3.905 * np.sqrt(2))),
    (crystal("Si"), (1, 1, 0), (5.43 / np.sqrt(2), 5.43, 5.43 / np.sqrt(2))),
    (bulk("Si"), (0, 0, 1), (5.43 / np.sqrt(2), 5.43, 5.43 / np.sqrt(2))),
    (bulk("Au"), (1, 1, 1), (4.08 / np.sqrt(2), 4.08 * np.sqrt(1.5), 4.08 * np.sqrt(3))),
    (bulk_mos2(), (0, 0, 1), (3.16, 3.16 * np.sqrt(3), 3.19 + 6.0)),
    (crystal("GaN"), (0, 0, 0, 1), (3.19, 3.19 * np.sqrt(3), 5.189)),
    (crystal("GaN"), (1, 1, -2, 0), (5.189, 3.19 * np.sqrt(3), 3.19)),
]


@pytest.mark.parametrize(("atoms", "axis", "edges"), CASES)
def test_cell_of_known_size(atoms, axis, edges):
    """The edges are those that any textbook gives; the shorter one in the plane lies along x."""
    cell = orthogonal_cell(atoms, axis)
    np.testing.assert_allclose(cell.atoms.cell.lengths(), edges, rtol=1e-9)
    assert cell.strain < 1e-12


@pytest.mark.parametrize(("atoms", "axis", "edges"), CASES)
def test_density_and_neighbours_are_conserved(atoms, axis, edges):
    cell = orthogonal_cell(atoms, axis, thickness=9.0, min_width=(7.0, 8.0))
    assert (cell.atoms.cell.lengths() >= [8.0, 7.0, 9.0]).all()
    density, expected = (len(a) / a.get_volume() for a in (cell.atoms, atoms))
    assert density == pytest.approx(expected, rel=1e-12)
    assert sorted(set(cell.atoms.symbols)) == sorted(set(atoms.symbols))
    for found, wanted in zip(neighbours(cell.atoms), neighbours(atoms), strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-4)
    assert cell.atoms.get_scaled_positions(wrap=False).max() < 1.0
    assert from_ase(cell.atoms).positions.shape == (len(cell.atoms), 3)


def test_zone_axis_lies_along_z():
    """Atoms repeat along z at the period of [uvw], and the columns of Si [110] form the known dumb-bells of 1.36 Å."""
    cell = orthogonal_cell(crystal("Si"), (1, 1, 0)).atoms
    columns = np.unique(cell.positions[:, :2].round(6), axis=0)
    assert len(columns) == 4
    gaps = columns[:, None] - columns[None]
    lengths = np.diag(cell.cell.array)[:2]
    gaps -= lengths * np.round(gaps / lengths)
    distances = np.hypot(*np.moveaxis(gaps, -1, 0))
    assert distances[distances > 0].min() == pytest.approx(5.43 / 4, abs=1e-6)


def test_polar_axis_keeps_its_sense():
    """GaN [0001] runs from the nitrogen of a bilayer to gallium or back; [000-1] is its mirror image."""

    def next_nitrogen(axis):
        atoms = orthogonal_cell(crystal("GaN"), axis).atoms
        first, _, vector = neighbor_list("ijD", atoms, 2.2)
        straight = (atoms.numbers[first] == 31) & (np.hypot(vector[:, 0], vector[:, 1]) < 0.1)
        return np.sign(vector[straight, 2])

    assert (next_nitrogen((0, 0, 1)) == -next_nitrogen((0, 0, -1))).all()


def test_strain_is_the_least_that_is_allowed():
    """A triclinic crystal: a smaller cell costs more strain, the report is true to the cell that comes back."""
    lattice = np.array([[4.1, 0.0, 0.0], [0.7, 5.2, 0.0], [0.9, -0.4, 6.1]])
    atoms = Atoms("Au", cell=lattice, pbc=True)
    fine, coarse = (orthogonal_cell(atoms, (0, 0, 1), tolerance=t) for t in (0.005, 0.05))
    assert fine.strain < 0.005 < coarse.strain < 0.05
    assert len(fine.atoms) > len(coarse.atoms)
    for cell in (fine, coarse):
        gradient = np.linalg.solve(np.array(cell.edges) @ lattice, cell.atoms.cell.array)
        principal = np.sqrt(np.linalg.eigvalsh(gradient.T @ gradient)) - 1.0
        assert np.abs(principal).max() == pytest.approx(cell.strain)


def test_refusals_say_what_to_do():
    awkward = Atoms("Au", cell=[[4.1, 0, 0], [0.7, 5.2, 0], [0.9, -0.4, 6.1]], pbc=True)
    with pytest.raises(InputError, match="raise tolerance"):
        orthogonal_cell(awkward, (0, 0, 1), tolerance=1e-7)
    with pytest.raises(InputError, match="not all zero"):
        orthogonal_cell(bulk("Au"), (0, 0, 0))
    with pytest.raises(InputError, match="add up to zero"):
        orthogonal_cell(bulk("Ti"), (1, 1, 0, 0))
    with pytest.raises(InputError, match="no volume"):
        orthogonal_cell(Atoms("Au"))
