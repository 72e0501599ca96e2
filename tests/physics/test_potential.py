"""Projected potentials against closed forms in real space, structure factors, symmetry and finite differences (T1)."""

import itertools
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, interpolate, special

from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.specimen.potential import cell_grid, project_exact, project_gridded, project_potential
from stemjax.specimen.scattering_factors import BOHR_RADIUS, coefficients, scattering_factor
from stemjax.specimen.structure import Structure, make_structure, pad_cell

METHODS = (project_gridded, project_exact)
# h² / (2π m0 e) = 2π a0 · e / (4π ε0), the Hartree energy times the Bohr radius being 14.39964548 V Å.
SCALE = 2.0 * np.pi * BOHR_RADIUS * 14.39964548


def some_atoms(displacement: float = 0.0, count: int = 12, seed: int = 3) -> Structure:
    """Light and heavy atoms anywhere in a small oblong cell, some beyond its borders."""
    rng = np.random.default_rng(seed)
    cell = np.array([4.0, 4.8, 4.0])
    positions = rng.uniform(-0.3, 1.3, (count, 3)) * cell
    numbers = rng.choice([6, 8, 38, 79], count)
    return make_structure(
        positions, numbers, cell, occupancy=rng.uniform(0.3, 1.0, count), rms_displacement=displacement
    )


def closed_form(parametrization: str, number: int, radius: np.ndarray) -> np.ndarray:
    """Projected potential of one atom at rest [V Å], from Bessel functions; it diverges at the nucleus."""
    c = coefficients(parametrization, number)[..., None]
    if parametrization == "kirkland":
        a, b, height, width = c
        bessel = 2 * np.pi * a * special.k0(2 * np.pi * np.sqrt(b) * radius)
        return SCALE * (bessel + height * np.pi / width * np.exp(-((np.pi * radius) ** 2) / width)).sum(0)
    a, b = c
    inverse, argument = 1 / b, 2 * np.pi * radius / np.sqrt(b)
    terms = 2 * np.pi * inverse * special.k0(argument) + 2 * np.pi**2 * radius * inverse**1.5 * special.k1(argument)
    return SCALE * (a * terms).sum(0)


def vibrating_closed_form(parametrization: str, number: int, displacement: float, radius: np.ndarray) -> np.ndarray:
    """The closed form convolved with the Gaussian of the vibration, by quadrature over the distance of the atom."""
    step, weight = special.roots_legendre(400)

    def at(r: float) -> float:
        # Substituting s = t^3 takes the logarithm at the nucleus out of the integrand.
        low, high = max(r - 9 * displacement, 0.0) ** (1 / 3), (r + 9 * displacement) ** (1 / 3)
        t = 0.5 * (high - low) * step + 0.5 * (high + low)
        s = t**3
        ring = special.ive(0, r * s / displacement**2) * np.exp(-((r - s) ** 2) / (2 * displacement**2))
        density = ring * s / displacement**2 * 3 * t**2
        return 0.5 * (high - low) * np.sum(weight * density * closed_form(parametrization, number, s))

    return np.array([at(r) for r in radius])


@lru_cache(maxsize=2)
def direct_sum(parametrization: str, grid: Grid, displacement: float, reach: float = 20.0) -> np.ndarray:
    """Sum over `some_atoms` and their periodic images within a reach, pixel by pixel in real space [ny nx]."""
    structure = some_atoms(displacement)
    y, x = grid.coordinates()
    total = np.zeros(grid.shape)
    radius = np.concatenate([np.linspace(0, 2, 400), np.linspace(2, reach, 400)[1:]])
    positions = np.asarray(structure.positions, float)
    for number in sorted(set(structure.numbers)):
        values = vibrating_closed_form(parametrization, number, displacement, radius)
        profile = interpolate.CubicSpline(radius, values)
        for atom in np.flatnonzero(np.asarray(structure.numbers) == number):
            weight = float(structure.occupancy[atom])
            for distance in image_distances(positions[atom, 1:], grid, y, x, reach):
                total += weight * np.where(distance < reach, profile(np.minimum(distance, reach)), 0.0)
    return total


def image_distances(place, grid, y, x, reach):
    """Distance of every pixel from every periodic image of a point that comes within reach."""
    dy, dx = y - place[0], x - place[1]
    ly, lx = grid.extent
    dy, dx = dy - ly * np.round(dy / ly), dx - lx * np.round(dx / lx)
    ny, nx = int(reach / ly) + 2, int(reach / lx) + 2
    for i in range(-ny, ny + 1):
        for j in range(-nx, nx + 1):
            yield np.hypot(dy + i * ly, dx + j * lx)


def single(structure: Structure) -> Structure:
    """The structure in single precision."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), structure)


def coefficients_in_band(values, grid: Grid, band_limit: float = 2 / 3) -> tuple[np.ndarray, np.ndarray]:
    """Fourier coefficients of the slices over the whole plane, and which of them lie in the band."""
    ky, kx = grid.frequencies()
    inside = np.hypot(ky, kx) <= band_limit * grid.nyquist * (1 + 1e-9)
    return np.fft.fft2(np.asarray(values, float)) / np.prod(grid.shape), inside


def structure_factors(parametrization: str, structure: Structure, grid: Grid) -> np.ndarray:
    """Coefficients of the potential of the whole cell, summed atom by atom in double precision."""
    ky, kx = grid.frequencies()
    k = np.hypot(ky, kx)
    total = np.zeros(grid.shape, complex)
    for number, place, weight, u in zip(
        structure.numbers,
        np.asarray(structure.positions, float),
        np.asarray(structure.occupancy, float),
        np.asarray(structure.rms_displacement, float),
        strict=True,
    ):
        phase = np.exp(-2j * np.pi * (ky * place[1] + kx * place[2]) - 2 * np.pi**2 * u**2 * k**2)
        total += weight * scattering_factor(parametrization, number, k) * phase
    return SCALE * total / np.prod(grid.extent)


@pytest.mark.parametrize("parametrization", ["lobato", "kirkland"])
@pytest.mark.parametrize("method", METHODS)
def test_equals_direct_sum_of_closed_forms(method, parametrization):
    """T1. The vibration of 0.15 Å leaves less than 1e-8 beyond the band, so that nothing has to be cut from the sum."""
    structure, grid = some_atoms(0.15), Grid((96, 80), (0.05, 0.05))
    expected = direct_sum(parametrization, grid, 0.15)
    found = np.asarray(method(single(structure), grid, 3, parametrization=parametrization).values)
    assert found.dtype == np.float32
    assert np.linalg.norm(found.sum(0) - expected) < 1e-4 * np.linalg.norm(expected)
    assert np.abs(found.sum(0) - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("parametrization", ["lobato", "kirkland"])
@pytest.mark.parametrize("number", [1, 6, 8, 38, 79])
def test_closed_form_and_scattering_factor_are_a_hankel_pair(parametrization, number):
    """The potential of an atom at rest is the transform of its scattering factor, term by term."""
    for k in (0.1, 0.7, 2.0):

        def integrand(r, k=k):
            return (
                2 * np.pi * r * special.j0(2 * np.pi * k * r) * closed_form(parametrization, number, np.array([r]))[0]
            )

        pieces = np.concatenate([[0, 1e-3, 1e-2, 0.1], np.arange(0.25, 40, 0.25)])
        value = sum(integrate.quad(integrand, a, b)[0] for a, b in itertools.pairwise(pieces))
        assert value == pytest.approx(SCALE * float(scattering_factor(parametrization, number, np.array(k))), rel=2e-6)


@pytest.mark.parametrize("parametrization", ["lobato", "kirkland"])
@pytest.mark.parametrize(("method", "tolerance"), [(project_gridded, 2e-6), (project_exact, 1e-8)])
def test_equals_structure_factors_in_band(method, tolerance, parametrization):
    """P4's accuracy, of atoms at rest, in double precision: what is left is the kernel's error."""
    structure, grid = some_atoms(count=40), Grid((60, 48), (0.08, 4.0 / 48))
    found, inside = coefficients_in_band(
        method(structure, grid, 2, parametrization=parametrization).values.sum(0), grid
    )
    expected = structure_factors(parametrization, structure, grid) * inside
    assert np.linalg.norm(found - expected) < tolerance * np.linalg.norm(expected)


@pytest.mark.parametrize(("method", "tolerance"), [(project_gridded, 1e-5), (project_exact, 1e-5)])
def test_single_precision_meets_target(method, tolerance):
    structure, grid = some_atoms(0.05, count=60), Grid((240, 200), (0.02, 0.02))
    structure = single(structure)
    found, inside = coefficients_in_band(jax.jit(lambda s: method(s, grid, 2).values)(structure).sum(0), grid)
    expected = structure_factors("lobato", structure, grid) * inside
    assert np.linalg.norm(found - expected) < tolerance * np.linalg.norm(expected)


def test_exact_method_fills_the_whole_band():
    structure, grid = some_atoms(0.05), Grid((31, 27), (4.8 / 31, 4.0 / 27))
    found, _ = coefficients_in_band(project_exact(structure, grid, 1, band_limit=None).values[0], grid)
    expected = structure_factors("lobato", structure, grid)
    np.testing.assert_allclose(found, expected, atol=1e-12 * np.abs(expected).max())


def test_exact_method_gives_each_atom_its_displacement():
    structure, grid = some_atoms(), Grid((60, 50), (0.08, 0.08))
    structure = structure.replace(rms_displacement=jnp.linspace(0.0, 0.2, 12))
    found, inside = coefficients_in_band(project_exact(structure, grid, 1).values[0], grid)
    expected = structure_factors("lobato", structure, grid) * inside
    np.testing.assert_allclose(found, expected, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("leaf", ["positions", "occupancy", "rms_displacement"])
def test_gradient_equals_finite_differences(method, leaf):
    """T1: to 1e-6 in double precision, along a random direction; z moves nothing."""
    structure, grid = some_atoms(0.08), Grid((60, 50), (0.08, 0.08))
    rng = np.random.default_rng(0)
    cotangent = jnp.asarray(rng.normal(size=(2, 60, 50)))
    # Atoms of one class move their displacement together, which the gridded method asks for.
    move = jnp.asarray(rng.normal(size=getattr(structure, leaf).shape))
    move = jnp.ones_like(move) if leaf == "rms_displacement" else move
    move = move.at[:, 0].set(0.0) if leaf == "positions" else move

    @jax.jit
    def value(t):
        moved = structure.replace(**{leaf: getattr(structure, leaf) + t * move})
        values = method(moved, grid, 2).values
        return jnp.sum(values**2) + jnp.vdot(values, cotangent)

    h = 1e-3
    steps = np.array([float(value(i * h)) for i in (-2, -1, 1, 2)])
    numeric = steps @ np.array([1, -8, 8, -1]) / (12 * h)
    assert float(jax.grad(value)(0.0)) == pytest.approx(numeric, rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_gradient_is_continuous_across_the_border(method):
    """An atom that leaves the cell comes in at the other side: value and gradient are those of its image."""
    grid = Grid((50, 50), (0.08, 0.08))
    neighbour = method(make_structure([[1, 0.3, 3.8]], [8], [2, 4, 4]), grid, 1).values

    @jax.jit
    @jax.value_and_grad
    def overlap(place):
        structure = make_structure([[1, 0, 0]], [8], [2, 4, 4]).replace(positions=place[None, :])
        return jnp.vdot(method(structure, grid, 1).values, neighbour)

    for inside, outside in (([1, 3.999, 0.001], [1, -0.001, 4.001]), ([1, 0.01, 0.0], [1, 4.01, 8.0])):
        here, there = overlap(jnp.array(inside, float)), overlap(jnp.array(outside, float))
        np.testing.assert_allclose(here[0], there[0], rtol=1e-9)
        np.testing.assert_allclose(here[1], there[1], rtol=1e-7, atol=1e-7 * np.abs(here[1]).max())
    before, after = (overlap(jnp.array([1.0, y, 4.0]))[1] for y in (-1e-9, 1e-9))
    np.testing.assert_allclose(before, after, atol=1e-4 * np.abs(before).max())


@pytest.mark.parametrize("on_pixels", [False, True])
def test_gridded_gradient_is_that_of_the_exact_sum(on_pixels):
    """To 1e-4 for a white cotangent, which weighs the edge of the band most, also where all kernels change pixels."""
    rng, grid = np.random.default_rng(5), Grid((50, 50), (0.08, 0.08))
    places = rng.integers(0, 50, (20, 2)) * 0.08 if on_pixels else rng.uniform(0, 4, (20, 2))
    structure = make_structure(np.c_[np.ones(20), places], [6, 38] * 10, [2, 4, 4])
    cotangent = jnp.asarray(rng.normal(size=(1, 50, 50)))

    def loss(positions, method):
        return jnp.vdot(method(structure.replace(positions=positions), grid, 1).values, cotangent)

    gradient = jax.jit(jax.grad(loss), static_argnums=1)
    found, exact = (gradient(structure.positions, method) for method in METHODS)
    assert np.linalg.norm(found - exact) < 1e-4 * np.linalg.norm(exact)


@pytest.mark.parametrize("parametrization", ["lobato", "kirkland"])
@pytest.mark.parametrize("method", METHODS)
def test_integral_is_forward_scattering(method, parametrization):
    structure, grid = some_atoms(0.1), Grid((48, 40), (0.1, 0.1))
    integral = float(method(structure, grid, 4, parametrization=parametrization).values.sum()) * 0.1**2
    forward = scattering_factor(parametrization, structure.numbers, np.array(0.0))
    assert integral == pytest.approx(SCALE * float(np.dot(np.asarray(structure.occupancy), forward)), rel=3e-6)


@pytest.mark.parametrize("method", METHODS)
def test_translation_by_whole_and_half_pixels(method):
    structure, grid = some_atoms(), Grid((48, 40), (0.1, 0.1))
    values = method(structure, grid, 1).values[0]
    moved = structure.replace(positions=structure.positions + jnp.array([0.0, 0.7, -0.25])[None, :])
    ky, kx = grid.frequencies()
    ramp = np.exp(-2j * np.pi * (ky * 0.7 + kx * -0.25))
    expected = np.fft.ifft2(np.fft.fft2(np.asarray(values)) * ramp).real
    np.testing.assert_allclose(method(moved, grid, 1).values[0], expected, atol=1e-5 * np.abs(expected).max())


def test_transposing_the_specimen_transposes_the_potential():
    structure, grid = some_atoms(), Grid((48, 40), (0.1, 0.1))
    turned = structure.replace(positions=structure.positions[:, [0, 2, 1]], cell=structure.cell[jnp.array([0, 2, 1])])
    found = project_potential(turned, Grid((40, 48), (0.1, 0.1)), 1).values[0].T
    np.testing.assert_allclose(found, project_potential(structure, grid, 1).values[0], atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_atoms_fall_into_the_slice_that_holds_them(method):
    """One atom a slice: equal slices, unequal ones, planes on a border although rounding puts them short of it."""
    z = np.array([0.0, 1.0 - 1e-7, 2.0, 3.9])
    structure = make_structure(np.stack([z, z, z], 1), [6, 7, 8, 9], [4, 4, 4])
    grid = Grid((40, 40), (0.1, 0.1))
    forward = SCALE * scattering_factor("lobato", np.array([6, 7, 8, 9]), np.array(0.0))
    sums = np.asarray(method(structure, grid, 4).values.sum((1, 2))) * 0.01
    np.testing.assert_allclose(sums, [forward[0], forward[1], forward[2], forward[3]], rtol=1e-5)
    unequal = method(structure, grid, (0.5, 2.0, 1.5))
    np.testing.assert_allclose(
        unequal.values.sum((1, 2)) * 0.01, [forward[0], forward[1] + forward[2], forward[3]], rtol=1e-5
    )
    np.testing.assert_allclose(unequal.thickness, [0.5, 2.0, 1.5])


def test_padding_leaves_an_atom_alone():
    """In a padded cell the potential is that of the isolated atom, so that more padding changes nothing."""
    atom = make_structure([[1, 1, 1]], [8], [2, 2, 2], rms_displacement=0.1)
    near, far = pad_cell(atom, (0, 6.5, 6.5)), pad_cell(atom, (0, 9.0, 9.0))
    first, second = (project_potential(s, cell_grid(s, 0.1), 1).values[0] for s in (near, far))
    assert (first.shape, second.shape) == ((150, 150), (200, 200))
    np.testing.assert_allclose(first, second[25:-25, 25:-25], atol=2e-3 * float(first.max()))


def test_gridding_shares_the_displacement_of_a_class():
    """The gradient with respect to a displacement that the atoms share is the exact method's, summed."""
    structure, grid = some_atoms(0.1), Grid((48, 40), (0.1, 0.1))

    def loss(u, method):
        shared = structure.replace(rms_displacement=jnp.broadcast_to(u, (12,)))
        return jnp.sum(method(shared, grid, 1).values ** 2)

    gradient = jax.jit(jax.grad(loss), static_argnums=1)
    found, exact = (float(gradient(0.1, method)) for method in METHODS)
    assert found == pytest.approx(exact, rel=1e-5)


def test_curvature_exists_on_the_pixels():
    """Second derivatives at the place where the kernel's closed form has none: an atom exactly on a pixel."""
    grid = Grid((40, 40), (0.1, 0.1))
    atom = make_structure([[1, 2.0, 2.0]], [8], [2, 4, 4], rms_displacement=0.1)
    neighbour = project_exact(atom.replace(positions=jnp.array([[1.0, 2.1, 1.7]])), grid, 1).values

    def overlap(place, method):
        return jnp.vdot(method(atom.replace(positions=place[None, :]), grid, 1).values, neighbour)

    hessian = jax.jit(jax.hessian(overlap), static_argnums=1)
    found, exact = (hessian(atom.positions[0], method) for method in METHODS)
    np.testing.assert_allclose(found, exact, atol=5e-3 * np.abs(exact).max())


def test_refuses_what_does_not_fit():
    structure, grid = some_atoms(), Grid((48, 40), (0.1, 0.1))
    with pytest.raises(InputError, match="cell_grid"):
        project_potential(structure, Grid((48, 48), (0.1, 0.1)), 1)
    with pytest.raises(InputError, match="add up"):
        project_potential(structure, grid, (1.0, 1.0))
    with pytest.raises(InputError, match="at least one"):
        project_potential(structure, grid, 0)
    with pytest.raises(InputError, match="project_exact"):
        project_gridded(structure, grid, 1, band_limit=0.9)
    with pytest.raises(InputError, match="nearest: 'lobato'"):
        project_potential(structure, grid, 1, parametrization="lobatto")
