"""Assembled specimens have the composition, density, distances and orientations that were asked for."""

import numpy as np
import pytest
from ase.build import bulk
from ase.neighborlist import neighbor_list

from stemjax.core.errors import InputError
from stemjax.specimen.amorphous import amorphous_film
from stemjax.specimen.assemblies import dope, stacked, vacancies
from stemjax.specimen.builders import MONOLAYERS, graphene, monolayer, mos2_monolayer
from stemjax.specimen.crystal import turned_cell
from stemjax.specimen.grains import grain_boundary
from stemjax.specimen.particles import nanoparticle, nanoparticle_on_film
from stemjax.specimen.structure import make_structure, to_ase, with_displacement

LAYER = mos2_monolayer((20.0, 20.0))


def nearest_distances(structure) -> np.ndarray:
    """Distance of the nearest neighbour of every atom [Å]."""
    i, d = neighbor_list("id", to_ase(structure), 4.0)
    return np.array([d[i == atom].min(initial=np.inf) for atom in range(len(structure.numbers))])


@pytest.mark.parametrize(
    ("name", "bond"), [("graphene", 1.42), ("hBN", 1.446), ("WS2", 2.41), ("MoSe2", 2.53), ("WSe2", 2.53)]
)
def test_monolayers_have_their_bonds(name, bond):
    """Bond lengths: graphite 1.42, hBN 1.446, W-S 2.405, Mo-Se 2.527, W-Se 2.526 Å in the papers of the lattices."""
    layer = monolayer(name, (12.0, 12.0))
    np.testing.assert_allclose(nearest_distances(layer), bond, atol=0.01)
    # Three bonds of every atom of a flat layer and of every chalcogen, six of a metal.
    bonds = np.bincount(neighbor_list("i", to_ase(layer), bond + 0.1), minlength=len(layer.numbers))
    np.testing.assert_array_equal(bonds, np.where(np.isin(layer.numbers, [42, 74]), 6, 3))


def test_monolayer_vacancies_and_names():
    assert len(graphene((12.0, 12.0)).numbers) - len(graphene((12.0, 12.0), vacancies=[(1, 1), (7, 7)]).numbers) == 2
    with pytest.raises(InputError, match="nearest: 'MoS2'"):
        monolayer("MoS", (3.0, 3.0))
    assert {"graphene", "hBN"} < set(MONOLAYERS)


def test_dopants_by_fraction():
    doped = dope(LAYER, "Re", fraction=0.1, replaces="Mo", rms_displacement=0.2, seed=3)
    metal = LAYER.numbers.count(42)
    assert doped.numbers.count(75) == round(0.1 * metal)
    assert doped.numbers.count(16) == LAYER.numbers.count(16)
    at = np.array(doped.numbers) == 75
    np.testing.assert_allclose(np.asarray(doped.rms_displacement)[at], 0.2)
    np.testing.assert_array_equal(doped.positions, LAYER.positions)
    assert dope(LAYER, "Re", fraction=0.1, replaces="Mo", seed=3).numbers == doped.numbers
    assert dope(LAYER, "Re", fraction=0.1, replaces="Mo", seed=4).numbers != doped.numbers


def test_dopants_and_vacancies_by_place():
    metal = np.flatnonzero(np.array(LAYER.numbers) == 42)[:2]
    points = np.asarray(LAYER.positions)[metal] + 0.2
    assert np.flatnonzero(np.array(dope(LAYER, "W", positions=points, replaces="Mo").numbers) == 74).tolist() == list(
        metal
    )
    columns = dope(LAYER, "W", positions=points[:, 1:] + np.asarray(LAYER.cell)[1:], replaces="Mo")
    assert columns.numbers == dope(LAYER, "W", positions=points, replaces="Mo").numbers
    holed = vacancies(LAYER, positions=points, element="Mo")
    assert len(LAYER.numbers) - len(holed.numbers) == 2
    kept = np.delete(np.asarray(LAYER.positions), metal, axis=0)
    np.testing.assert_array_equal(holed.positions, kept)
    half = vacancies(LAYER, fraction=0.5, element="S", seed=1)
    assert half.numbers.count(16) == LAYER.numbers.count(16) // 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"fraction": 1.5}, "between 0 and 1"),
        ({}, "either a fraction"),
        ({"fraction": 0.1, "positions": [[0, 0]]}, "either a fraction"),
        ({"fraction": 0.1, "replaces": "Fe"}, "holds no Fe"),
        ({"positions": [[1.0, 1.0], [1.0, 1.0]]}, "further apart"),
        ({"positions": [1.0, 1.0]}, "one row"),
    ],
)
def test_refuses_what_cannot_be_doped(wrong, message):
    with pytest.raises(InputError, match=message):
        dope(LAYER, "W", **wrong)


def test_refuses_unknown_elements_and_empty_specimens():
    with pytest.raises(InputError, match="no element 'Wo'"):
        dope(LAYER, "Wo", fraction=0.1)
    with pytest.raises(InputError, match="vacancies"):
        vacancies(LAYER, fraction=1.0)


@pytest.mark.parametrize(("symbol", "density", "distance"), [("C", 2.0, 1.4), ("Si", 2.3, 2.2), ("Ge", 5.3, 2.3)])
def test_amorphous_films_have_density_and_distance(symbol, density, distance):
    """Within one per cent, the mass of the atoms being that of the periodic table."""
    film = amorphous_film(symbol, density, (31.0, 24.0), 25.0, min_distance=distance, seed=5)
    mass = {"C": 12.011, "Si": 28.085, "Ge": 72.630}[symbol] * 1.66053907e-24
    found = len(film.numbers) * mass / (31.0 * 24.0 * 25.0 * 1e-24)
    assert found == pytest.approx(density, rel=0.01)
    assert nearest_distances(film).min() >= distance - 1e-5
    again = amorphous_film(symbol, density, (31.0, 24.0), 25.0, min_distance=distance, seed=5)
    np.testing.assert_array_equal(film.positions, again.positions)


def test_amorphous_film_is_uniform_beyond_its_neighbours():
    """Hard spheres at 14 % packing: no atom within the distance, the mean density beyond twice the distance."""
    film = amorphous_film("C", 2.0, (30.0, 30.0), 30.0, seed=1)
    distance = neighbor_list("d", to_ase(film), 5.0)
    density = len(film.numbers) / 30.0**3
    counts, edges = np.histogram(distance, [0.0, 1.4, 3.0, 4.0, 5.0])
    shells = 4 / 3 * np.pi * np.diff(edges**3) * density * len(film.numbers)
    ratio = counts / shells
    assert ratio[0] == 0
    np.testing.assert_allclose(ratio[2:], 1.0, atol=0.02)
    # The same along every axis: no pile-up at the borders.
    for axis in range(3):
        layers = np.histogram(np.asarray(film.positions)[:, axis], 8, (0, 30.0))[0]
        assert abs(layers / layers.mean() - 1.0).max() < 5 / np.sqrt(layers.mean())


def test_refuses_films_that_cannot_be():
    with pytest.raises(InputError, match="lower min_distance"):
        amorphous_film("C", 3.5, (20.0, 20.0), 10.0, min_distance=1.6)
    with pytest.raises(InputError, match="no element"):
        amorphous_film("Carbon", 2.0, (20.0, 20.0), 10.0)
    with pytest.raises(InputError, match="twice min_distance"):
        amorphous_film("C", 2.0, (20.0, 2.0), 10.0)


def test_stack_keeps_order_and_axes():
    one = make_structure([[1, 0, 0]], [6], [2, 4, 4], rms_displacement=0.1)
    two = with_displacement(one, [[0.1, 0.2, 0.3]])
    both = stacked([one, two], gap=1.0)
    np.testing.assert_allclose(both.rms_displacement, [[0.1, 0.1, 0.1], [0.1, 0.2, 0.3]])
    np.testing.assert_allclose(both.positions[:, 0], [1, 4])
    with pytest.raises(InputError, match="pad_cell"):
        stacked([one, LAYER])


@pytest.mark.parametrize("below", [False, True])
def test_particle_lies_on_the_film(below):
    film = amorphous_film("C", 2.0, (32.0, 30.0), 12.0, seed=1)
    particle = nanoparticle("Au", 18.0, zone_axis=(1, 1, 0), angle=20.0)
    both = nanoparticle_on_film(particle, film, position=(14.0, 15.0), below=below, rms_displacement=0.08)
    z, y, x = np.asarray(both.positions).T
    gold = np.array(both.numbers) == 79
    order = (z[~gold], z[gold]) if below else (z[gold], z[~gold])
    assert order[1].min() - order[0].max() == pytest.approx(2.0, abs=1e-5)
    assert [(a.max() + a.min()) / 2 for a in (y[gold], x[gold])] == pytest.approx([14.0, 15.0], abs=1e-5)
    assert z.min() >= 0
    assert z.max() <= both.cell[0]
    distance = neighbor_list("d", to_ase(both)[gold], 3.2)
    np.testing.assert_allclose(distance, 4.08 / np.sqrt(2), atol=1e-4)
    np.testing.assert_allclose(np.asarray(both.rms_displacement)[gold], 0.08)


def test_particle_has_its_zone_axis_along_the_beam():
    """Along [110] of an fcc metal the columns are a/√2 apart in depth; the particle is not turned inside out."""
    places = nanoparticle("Au", 25.0, zone_axis=(1, 1, 0)).positions
    depth = np.unique(places[:, 2].round(4))
    np.testing.assert_allclose(np.diff(depth), 4.08 / np.sqrt(2) / 2, atol=2e-4)
    with pytest.raises(InputError, match="film of"):
        nanoparticle_on_film(nanoparticle("Au", 25.0), amorphous_film("C", 2.0, (20.0, 20.0), 10.0))
    with pytest.raises(InputError, match="make it larger"):
        nanoparticle("Au", 3.0)
    with pytest.raises(InputError, match="fcc or bcc"):
        nanoparticle("Si", 30.0)


def test_turned_cell_turns_the_crystal():
    """A row of atoms along x is found again at the angle, from x towards y."""
    crystal = bulk("Cu", cubic=True)
    cell, turn = turned_cell(crystal, (0, 0, 1), 20.0, slack=2.0)
    assert turn == pytest.approx(20.0, abs=2.0)
    atoms = cell.atoms
    i, vectors = neighbor_list("iD", atoms, 2.6)
    flat = vectors[(i == 0) & (np.abs(vectors[:, 2]) < 0.1)]
    angle = np.degrees(np.arctan2(flat[:, 1], flat[:, 0]))
    # The reference cell has a nearest neighbour along x.
    assert np.abs(np.mod(angle - turn + 45, 90) - 45).max() < 1e-3
    np.testing.assert_allclose(np.bincount(neighbor_list("i", atoms, 2.7)), 12)


def test_sigma_five_boundary():
    """Copper Σ5 [001], 36.87 degrees: no strain, the period along the boundary is √5 edges."""
    copper = bulk("Cu", cubic=True)
    structure = grain_boundary(copper, (0, 0, 1), 36.87, size=(0.0, 20.0), min_distance=1.5)
    a = copper.cell[0, 0]
    assert float(structure.cell[0]) == pytest.approx(a, rel=1e-6)
    assert float(structure.cell[1]) / a == pytest.approx(np.sqrt(5.0), rel=1e-4)
    x = np.asarray(structure.positions)[:, 2]
    width = float(structure.cell[2])
    for grain, turn in ((0.25, 1), (0.75, -1)):
        middle = np.abs(x / width - grain) < 0.05
        i, vectors = neighbor_list("iD", to_ase(structure), 2.7)
        flat = vectors[middle[i] & (np.abs(vectors[:, 2]) < 0.1)]
        angle = np.degrees(np.arctan2(flat[:, 1], flat[:, 0]))
        assert np.abs(np.mod(angle - turn * 18.435 + 45, 90) - 45).max() < 0.1
    assert nearest_distances(structure).min() >= 1.5


def test_twin_boundary_is_coherent():
    """fcc (111) twin along [1-10]: 70.53 degrees between the grains; every atom keeps its nearest neighbours."""
    aluminium = bulk("Al", cubic=True)
    for angle in (70.53, 109.47):
        structure = grain_boundary(aluminium, (1, -1, 0), angle, size=(0.0, 15.0), min_distance=1.5)
        coordination = np.bincount(neighbor_list("i", to_ase(structure), 3.1), minlength=len(structure.numbers))
        if (coordination == 12).all():
            return
    pytest.fail(f"no coherent twin: coordinations {np.bincount(coordination)}")


def test_refuses_boundaries_that_do_not_fit():
    with pytest.raises(InputError, match="raise slack"):
        grain_boundary(bulk("Cu", cubic=True), (0, 0, 1), 0.5, tolerance=1e-6)
