"""The scattering matrix of arrays: free space, unitarity, reciprocity, and classes of beams that never mix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.core.fourier import fourier_shift
from stemjax.core.grid import Grid
from stemjax.scatter.lattice_prism import class_matrix, class_of_pixels, class_propagators
from stemjax.scatter.multislice import multislice
from stemjax.scatter.prism import beam_phases, combine, scattering_matrix, waves_at_depths
from stemjax.scatter.propagator import slice_propagators

GRID = Grid((12, 10), (0.3, 0.35))
ENERGY = 80e3
PIXELS = GRID.shape[0] * GRID.shape[1]


def stack(shape=GRID.shape, slices=3, seed=0):
    phase = np.random.default_rng(seed).uniform(-1.0, 1.0, size=(slices, *shape))
    return jnp.exp(1j * jnp.asarray(phase))


def propagators(grid=GRID, limit=None):
    return slice_propagators(grid, jnp.array([4.0]), ENERGY, jnp.array([5.0, -8.0]), limit=limit)


@pytest.fixture(scope="module")
def matrix():
    """The whole matrix without band limit [beam pixel]."""
    return np.asarray(jax.jit(lambda t: scattering_matrix(t, propagators(), np.arange(PIXELS)))(stack()))


def test_free_space_gives_every_beam_its_phase_alone():
    nothing = jnp.ones((3, *GRID.shape)) + 0j
    found = scattering_matrix(nothing, propagators(), np.arange(PIXELS))
    assert np.allclose(found, np.diag(np.asarray(propagators()[0]).ravel() ** 3), atol=1e-12)


def test_without_losses_the_matrix_is_unitary(matrix):
    assert np.allclose(matrix @ matrix.conj().T, np.eye(PIXELS), atol=1e-12)
    # It is no trivial one: hardly anything stays in its beam.
    assert np.abs(np.diag(matrix)).max() < 0.8


def test_reciprocity():
    # The way back through the stack upside down, from −q to −b, has the same amplitude. Every slice is followed by its
    # propagator, so that one of them moves from one end to the other.
    flat = slice_propagators(GRID, jnp.array([4.0]), ENERGY, limit=None)
    run = jax.jit(lambda t: scattering_matrix(t, flat, np.arange(PIXELS)))
    there, back = np.asarray(run(stack())), np.asarray(run(stack()[::-1]))
    rows, columns = np.divmod(np.arange(PIXELS), GRID.shape[1])
    minus = (-rows % GRID.shape[0]) * GRID.shape[1] + (-columns % GRID.shape[1])
    step = np.asarray(flat[0]).ravel()
    assert np.allclose(there, back[minus][:, minus].T * step[None] / step[:, None], atol=1e-12)
    assert not np.allclose(there, back, atol=0.1)


def test_any_wave_is_a_sum_of_beams(matrix):
    parts = np.random.default_rng(2).normal(size=(2, *GRID.shape))
    wave = parts[0] + 1j * parts[1]
    expected = multislice(jnp.asarray(wave), stack(), propagators())
    assert np.allclose(wave.ravel() @ matrix, np.asarray(expected).ravel(), atol=1e-10)


def test_kept_pixels_are_those_asked_for(matrix):
    beams, pixels = np.array([3, 50]), np.array([0, 7, 119])
    found = scattering_matrix(stack(), propagators(), beams, pixels)
    assert np.allclose(found, matrix[beams][:, pixels], atol=1e-12)


def test_depths_are_shorter_stacks():
    wave, own = (
        stack(slices=1)[0],
        jnp.broadcast_to(propagators(), (3, *GRID.shape)) * jnp.arange(1.0, 4.0)[:, None, None],
    )
    for steps in (propagators(), own):
        found = waves_at_depths(wave, stack(), steps, (1, 3))
        for depth, out in zip((1, 3), found, strict=True):
            expected = multislice(wave, stack()[:depth], steps if len(steps) == 1 else steps[:depth])
            assert np.allclose(out, expected, atol=1e-12)


def test_phases_move_a_wave():
    place = np.array([[0.7, -1.3]])
    wave = np.zeros(GRID.shape)
    wave[2, 3] = 1.0
    moved = fourier_shift(jnp.asarray(wave), GRID, jnp.asarray(place[0]))
    phases = beam_phases(GRID, np.arange(PIXELS).reshape(GRID.shape), jnp.asarray(place))[0]
    # At the Nyquist frequency the real shift keeps the real part only.
    inside = np.ones(GRID.shape, bool)
    inside[GRID.shape[0] // 2] = inside[:, GRID.shape[1] // 2] = False
    ratio = np.fft.fft2(np.asarray(moved)) / np.fft.fft2(wave)
    assert np.allclose(np.asarray(phases)[inside], ratio[inside], atol=1e-12)


def test_the_real_product_is_the_complex_one():
    rng = np.random.default_rng(4)
    parts = rng.normal(size=(2, 3, 4, 5))
    coefficients, table = parts[0] + 1j * parts[1], rng.normal(size=(3, 5, 2, 2, 6))
    real, imaginary = combine(jnp.asarray(coefficients), jnp.asarray(table))
    expected = np.einsum("grb,gbdp->grdp", coefficients, table[:, :, :, 0] + 1j * table[:, :, :, 1])
    assert np.allclose(real + 1j * imaginary, expected, atol=1e-10)


def test_classes_of_a_repeated_tile_never_mix_and_each_lives_on_the_tile():
    repeats, tile = (2, 3), (6, 5)
    grid = Grid((12, 15), (0.3, 0.35))
    small, steps = stack(tile), propagators(grid, 2 / 3)
    whole = np.asarray(jax.jit(lambda t: scattering_matrix(t, steps, np.arange(180)))(jnp.tile(small, (1, *repeats))))
    classes, places = (a.ravel() for a in class_of_pixels(grid.shape, repeats))
    assert np.abs(whole[classes[:, None] != classes[None]]).max() < 1e-12
    apart = class_propagators(steps, repeats, np.arange(6))
    for number in (0, 5):
        members = np.flatnonzero(classes == number)
        alone = class_matrix(small, apart[number], jnp.asarray(places[members]), (3,), batch=10)
        alone = np.asarray(alone).reshape(30, 30)[:, places[members]]
        assert np.allclose(alone, whole[members][:, members], atol=1e-12)
        assert np.abs(alone).max() > 0.1
