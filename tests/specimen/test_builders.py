"""Built specimens have the composition, the bonds and the vacancies that were asked for."""

import numpy as np
import pytest
from ase.neighborlist import neighbor_list

from stemjax.core.errors import InputError
from stemjax.specimen.builders import crystal, mos2_monolayer, slab
from stemjax.specimen.structure import to_ase


def bonds(structure, first: int, second: int, longest: float) -> np.ndarray:
    """Distances between two elements up to a length [Å]."""
    atoms = to_ase(structure)
    i, j, d = neighbor_list("ijd", atoms, longest)
    return d[(atoms.numbers[i] == first) & (atoms.numbers[j] == second)]


def test_mos2_has_six_bonds_of_the_known_length():
    layer = mos2_monolayer((12.0, 10.0))
    found = bonds(layer, 42, 16, 2.8)
    assert len(found) == 6 * layer.numbers.count(42)
    # Mo-S in the bulk crystal is 2.41 Å.
    np.testing.assert_allclose(found, 2.41, atol=0.02)
    np.testing.assert_allclose(bonds(layer, 42, 42, 3.3), 3.16, atol=1e-9)
    assert layer.numbers.count(16) == 2 * layer.numbers.count(42)


def test_vacancies_take_the_nearest_lower_sulphur():
    points = [(2.0, 2.0), (9.5, 6.0)]
    whole, holed = mos2_monolayer((12.0, 10.0)), mos2_monolayer((12.0, 10.0), vacancies=points)
    kept = {tuple(p) for p in np.asarray(holed.positions).round(6).tolist()}
    gone = np.array([p for p in np.asarray(whole.positions).round(6).tolist() if tuple(p) not in kept])
    assert len(gone) == 2
    middle = float(whole.cell[0]) / 2
    assert (gone[:, 0] > middle).all()
    lower = np.asarray(whole.positions)[(np.array(whole.numbers) == 16) & (np.asarray(whole.positions)[:, 0] > middle)]
    for point in points:
        offset = lower[:, 1:] - point
        offset -= np.asarray(whole.cell)[1:] * np.round(offset / np.asarray(whole.cell)[1:])
        nearest = lower[np.argmin(np.hypot(*offset.T))]
        assert np.abs(gone - nearest).sum(axis=1).min() < 1e-4


def test_one_sulphur_cannot_leave_twice():
    with pytest.raises(InputError, match="further apart"):
        mos2_monolayer((12.0, 10.0), vacancies=[(2.0, 2.0), (2.0, 2.01)])


@pytest.mark.parametrize(
    ("name", "axis", "per_cell"),
    [("SrTiO3", (0, 0, 1), 59.55 / 5), ("Si", (1, 1, 0), 160.1 / 8), ("Au", (0, 0, 1), 67.92 / 4)],
)
def test_slabs_have_the_volume_per_atom_of_the_crystal(name, axis, per_cell):
    structure = slab(name, axis, thickness=20.0, width=(10.0, 12.0), rms_displacement=0.08)
    edges = np.asarray(structure.cell)
    assert (edges >= [20.0, 10.0, 12.0]).all()
    assert edges.prod() / len(structure.numbers) == pytest.approx(per_cell, rel=1e-3)
    np.testing.assert_allclose(structure.rms_displacement, 0.08)


def test_gan_is_fourfold_coordinated():
    structure = slab("GaN", (0, 0, 0, 1), thickness=5.0, width=(8.0, 8.0))
    found = bonds(structure, 31, 7, 2.3)
    assert len(found) == 4 * structure.numbers.count(31)
    np.testing.assert_allclose(found, 1.95, atol=0.01)


def test_srtio3_has_oxygen_octahedra():
    structure = slab("SrTiO3", thickness=7.0, width=(7.0, 7.0))
    found = bonds(structure, 22, 8, 2.5)
    assert len(found) == 6 * structure.numbers.count(22)
    np.testing.assert_allclose(found, 3.905 / 2, atol=1e-9)


def test_unknown_crystal():
    with pytest.raises(InputError, match="nearest: 'SrTiO3'"):
        crystal("SrTi03")
