"""Electric and magnetic phases against the Lorentz force, the flux quantum and the turned specimen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.specimen.atomic import make_atomic_specimen
from stemjax.specimen.fields import (
    FieldObject,
    electrostatic_phase,
    flipped,
    magnetic_phase,
    make_field_object,
    separated_phases,
)
from stemjax.specimen.objects import make_object, make_potential_object
from stemjax.specimen.repeated import make_repeated
from stemjax.specimen.structure import make_structure
from tests.physics.closed_forms import ELECTRON, LIGHT, MASS, PLANCK, interaction_parameter, wavelength

ENERGY = 200e3
GRID = Grid((64, 48), (12.0, 10.0))


def lorentz_deflection(field_y: float, field_x: float, thickness: float) -> np.ndarray:
    """Angle (y, x) [rad] of an electron of charge -e after a field, from F = q v × B in SI units, z downstream."""
    gamma = 1 + ELECTRON * ENERGY / (MASS * LIGHT**2)
    speed = LIGHT * np.sqrt(1 - gamma**-2)
    force = -ELECTRON * np.cross([0.0, 0.0, speed], [field_x, field_y, 0.0])
    momentum = force * (thickness * 1e-10 / speed)
    return momentum[1::-1] / (gamma * MASS * speed)


def deflection(phase) -> np.ndarray:
    """Mean angle (y, x) [rad] of a Gaussian probe in the middle behind a phase, from its centre of mass."""
    y, x = GRID.coordinates()
    y, x = y - y.mean(), x - x.mean()
    probe = np.exp(-(y**2 + x**2) / (2 * 60.0**2)) * np.exp(1j * np.asarray(phase))
    intensity = np.abs(np.fft.fft2(probe)) ** 2
    ky, kx = GRID.frequencies()
    return wavelength(ENERGY) * np.array([(k * intensity).sum() for k in (ky, kx)]) / intensity.sum()


@pytest.mark.parametrize("field", [(0.7, 0.0), (0.0, 0.7), (-0.3, 0.5)])
def test_uniform_field_deflects_as_the_lorentz_force(field):
    thickness = 400.0
    specimen = make_field_object(
        make_object(GRID, slices=3, thickness=100.0),
        magnetic=magnetic_phase(np.full(GRID.shape, field[0]), np.full(GRID.shape, field[1]), thickness, GRID),
    )
    found = deflection(np.angle(np.asarray(specimen.transmission(0.0)).prod(axis=0)))
    expected = lorentz_deflection(*field, thickness)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    size = ELECTRON * np.hypot(*field) * thickness * wavelength(ENERGY) * 1e-20 / PLANCK
    assert np.hypot(*found) == pytest.approx(size, rel=1e-6)


def test_flux_quantum_gives_half_a_turn():
    """A strip of field carrying h/2e between two points shifts their phases by π (Aharonov and Bohm)."""
    grid = Grid((4, 400), (10.0, 10.0))
    x = grid.coordinates()[1][0]
    strips = np.where(np.abs(x - 1000) < 205, 1.0, 0.0) - np.where(np.abs(x - 3000) < 205, 1.0, 0.0)
    field, thickness = np.tile(strips, (4, 1)), 500.0
    flux = 41 * 10.0 * thickness * 1e-20
    phase = np.asarray(magnetic_phase(field * (PLANCK / (2 * ELECTRON)) / flux, 0 * field, thickness, grid))
    # The strip of By > 0 lies between; the phase grows along x there.
    assert phase[0, 200] - phase[0, 0] == pytest.approx(np.pi, rel=2e-3)


def test_field_of_a_known_phase_gives_it_back():
    """A phase, its field by the Lorentz force, the phase again; a divergence of the maps changes nothing."""
    y, x = (2 * np.pi * axis / length for axis, length in zip(GRID.coordinates(), GRID.extent, strict=True))
    ly, lx = (2 * np.pi / length for length in GRID.extent)
    phase = 0.4 * np.sin(2 * y) * np.cos(x) + 0.1 * np.cos(3 * x + y)
    slope_y = ly * (0.8 * np.cos(2 * y) * np.cos(x) - 0.1 * np.sin(3 * x + y))
    slope_x = lx * (-0.4 * np.sin(2 * y) * np.sin(x) - 0.3 * np.sin(3 * x + y))
    per_field = 1e-20 * 2 * np.pi * ELECTRON / PLANCK * 300.0
    field_y, field_x = slope_x / per_field, -slope_y / per_field
    find = jax.jit(lambda fy, fx: magnetic_phase(fy, fx, 300.0, GRID))
    np.testing.assert_allclose(find(field_y, field_x), phase - phase.mean(), atol=1e-9)
    grad_y, grad_x = -ly * np.cos(x) * np.sin(y), -lx * np.sin(x) * np.cos(y)
    np.testing.assert_allclose(find(field_y + grad_y, field_x + grad_x), phase - phase.mean(), atol=1e-9)


def test_electrostatic_phase_and_its_spread_over_the_depth():
    sigma = interaction_parameter(ENERGY)
    phase = electrostatic_phase(np.full(GRID.shape, 17.0), 300.0, sigma)
    np.testing.assert_allclose(phase, 17.0 * 300.0 * 0.7288e-3, rtol=2e-4)
    specimen = make_field_object(
        make_object(GRID, slices=3, thickness=np.array([100.0, 150.0, 50.0])), electrostatic=phase
    )
    angles = np.angle(np.asarray(specimen.transmission(sigma))[:, 0, 0])
    expected = np.exp(1j * float(phase[0, 0]) * np.array([2, 3, 1]) / 6)
    np.testing.assert_allclose(np.exp(1j * angles), expected, atol=1e-12)
    with pytest.raises(InputError, match="magnetic of shape"):
        make_field_object(make_object(GRID), magnetic=np.zeros((4, 4)))
    with pytest.raises(InputError, match="field_x of shape"):
        magnetic_phase(np.zeros(GRID.shape), np.zeros((4, 4)), 1.0, GRID)


def test_flipping_mirrors_both_and_reverses_the_magnetic_phase():
    rng = np.random.default_rng(0)
    electric, (field_y, field_x) = rng.normal(size=GRID.shape), rng.normal(size=(2, *GRID.shape))
    # Of white maps the part without divergence is a field, and only that counts.
    magnetic = magnetic_phase(field_y, field_x, 200.0, GRID)
    thing = make_field_object(make_object(GRID, slices=2), electrostatic=electric, magnetic=magnetic)
    turned = flipped(thing)
    np.testing.assert_allclose(turned.electrostatic, electric[:, ::-1])
    # The field turned with the specimen about y: By stays, Bx changes sign, both are mirrored.
    again = magnetic_phase(field_y[:, ::-1], -field_x[:, ::-1], 200.0, GRID)
    np.testing.assert_allclose(turned.magnetic, again, atol=1e-9)
    before, after = thing.electrostatic + thing.magnetic, turned.electrostatic + turned.magnetic
    for found, expected in zip(separated_phases(before, after), (electric, magnetic), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_the_same_field_turned_over_deflects_the_other_way():
    field = (0.4, 0.6)
    uniform = magnetic_phase(np.full(GRID.shape, field[0]), np.full(GRID.shape, field[1]), 400.0, GRID)
    thing = make_field_object(make_object(GRID), magnetic=uniform)
    # By turned about y is what it was; Bx points the other way.
    for specimen, fields in ((thing, field), (flipped(thing), (field[0], -field[1]))):
        found = deflection(np.angle(np.asarray(specimen.transmission(0.0))[0]))
        np.testing.assert_allclose(found, lorentz_deflection(*fields, 400.0), rtol=1e-6)


def atoms(slices):
    """Atoms in the middle of slices and on their borders."""
    rng = np.random.default_rng(3)
    places = rng.uniform(0, 1, (9, 3)) * [6.0, 4.8, 4.0]
    places[:4, 0] = [0.0, 2.0, 4.0, 1.0]
    structure = make_structure(places, [38, 22, 8] * 3, [6.0, 4.8, 4.0], rms_displacement=rng.uniform(0, 0.1, (9, 3)))
    return make_atomic_specimen(structure, Grid((48, 40), (0.1, 0.1)), slices, phonons=2)


@pytest.mark.parametrize("slices", [3, pytest.param((2.0, 1.0, 3.0), marks=pytest.mark.slow)])
def test_atoms_turned_over_are_their_slices_turned_over(slices):
    specimen = atoms(slices)
    compare = jax.jit(lambda s: (s.transmission(7e-4), s.configuration(1).transmission(7e-4)))
    turned = flipped(specimen)
    for found, before in zip(compare(turned), compare(specimen), strict=True):
        np.testing.assert_allclose(found, np.asarray(before)[::-1, :, ::-1], atol=2e-6)
    np.testing.assert_allclose(turned.thickness, specimen.thickness[::-1])
    back = flipped(turned)
    moved = np.asarray(back.structure.positions - specimen.structure.positions) / np.asarray(specimen.structure.cell)
    np.testing.assert_allclose(moved, np.round(moved), atol=1e-9)
    np.testing.assert_array_equal(back.draws, specimen.draws)


def test_every_kind_of_specimen_can_be_turned_over():
    values = np.random.default_rng(1).normal(size=(3, 8, 6))
    grid = Grid((8, 6), (0.2, 0.2))
    thing = make_potential_object(values, np.array([1.0, 2.0, 3.0]), grid)
    plain = make_object(grid, phase=values, log_amplitude=-(values**2), thickness=np.array([1.0, 2.0, 3.0]))
    tiles = make_repeated(thing, (2, 3))
    for specimen in (thing, plain, tiles):
        np.testing.assert_array_equal(
            flipped(specimen).transmission(0.1), np.asarray(specimen.transmission(0.1))[::-1, :, ::-1]
        )
        np.testing.assert_array_equal(flipped(specimen).thickness, [3.0, 2.0, 1.0])
    assert isinstance(flipped(make_field_object(tiles)), FieldObject)
    with pytest.raises(InputError, match="cannot be turned over"):
        flipped(grid)


def test_both_phases_are_leaves():
    thing = make_field_object(make_object(GRID), magnetic=np.zeros(GRID.shape))
    slope = jax.grad(lambda t: jnp.sum(t.transmission(1e-3).imag))(thing)
    np.testing.assert_allclose(slope.magnetic, 1.0)
    np.testing.assert_allclose(slope.electrostatic, 1.0)
