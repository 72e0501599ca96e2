"""T3: symmetries of the whole experiment: translation, periodicity, rotation, windows, incoherence."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.core.grid import Grid
from stemjax.forward.diffraction import Diffraction, exit_waves
from stemjax.forward.experiment import make_experiment
from stemjax.optics.aberrations import make_aberrations
from stemjax.optics.probe import aperture, make_probe
from stemjax.optics.scan import make_raster, make_scan
from stemjax.specimen.objects import make_object, make_potential_object

ENERGY = 100e3
GRID = Grid((32, 40), (0.2, 0.2))
PERIODIC = Diffraction(limit_transmission=True)


@functools.partial(jax.jit, static_argnums=0)
def patterns(simulator, experiment):
    """Compiled patterns [pattern ky kx]."""
    return simulator(experiment)


def potential(shape=(32, 40), slices=3, seed=2, strength=60.0):
    """A random smooth potential [slice ny nx] [V Å]."""
    ky, kx = Grid(shape, (0.2, 0.2)).frequencies()
    noise = np.random.default_rng(seed).normal(size=(slices, *shape))
    values = np.fft.ifft2(np.fft.fft2(noise) * (np.hypot(ky, kx) < 1.4)).real
    return strength * values / np.abs(values).max()


def experiment(values, positions, *, grid=GRID, centre=(0.0, 0.0), tilt=(0.0, 0.0), modes=1, origin=(0.0, 0.0)):
    """An experiment on a periodic potential with an aberrated probe."""
    aberrations = make_aberrations(C10=-30.0, C12=12.0, phi12=0.4, C21=200.0, phi21=1.0, C30=1e4)
    probe = make_probe(grid, energy=ENERGY, semiangle=22.0, aberrations=aberrations, centre=centre, modes=modes)
    specimen = make_potential_object(values, 4.0, Grid(values.shape[1:], (0.2, 0.2)), origin=origin)
    return make_experiment(probe, specimen, make_scan(np.asarray(positions)), tilt=tilt, dose=100.0)


def test_moving_specimen_and_probe_together_changes_nothing():
    positions = np.array([[1.0, 2.1], [3.37, 0.4]])
    still = patterns(PERIODIC, experiment(potential(), positions))
    moved = patterns(PERIODIC, experiment(np.roll(potential(), (3, -2), (1, 2)), positions + [0.6, -0.4]))
    assert float(jnp.abs(still - moved).max()) < 1e-12 * float(still.max())
    alone = patterns(PERIODIC, experiment(np.roll(potential(), (3, -2), (1, 2)), positions))
    assert float(jnp.abs(still - alone).max()) > 1e-2 * float(still.max())


def test_origin_of_the_specimen_is_where_its_first_pixel_lies():
    positions = np.array([[1.0, 2.1], [3.37, 0.4]])
    still = patterns(PERIODIC, experiment(potential(), positions))
    moved = patterns(PERIODIC, experiment(potential(), positions + [0.53, -0.21], origin=(0.53, -0.21)))
    assert float(jnp.abs(still - moved).max()) < 1e-12 * float(still.max())


@pytest.mark.parametrize("window", [(32, 40), (16, 24)])
def test_a_scan_a_period_further_sees_the_same(window):
    positions = np.array([[1.0, 2.1], [3.37, 7.4], [0.05, 0.05]])
    grid = Grid(window, GRID.sampling)
    here = patterns(PERIODIC, experiment(potential(), positions, grid=grid))
    for periods in ((1, 0), (-2, 3)):
        there = positions + np.array(periods) * GRID.extent
        found = patterns(PERIODIC, experiment(potential(), there, grid=grid))
        assert float(jnp.abs(found - here).max()) < 1e-11 * float(here.max())


def test_a_raster_over_a_period_gives_an_image_that_moves_with_the_specimen():
    # A step of two pixels: rolling the specimen by four rolls the bright-field image by two.
    raster = make_raster((16, 20), 0.4)
    bright = [
        np.asarray(patterns(PERIODIC, experiment(v, raster.positions))[:, 0, 0]).reshape(16, 20)
        for v in (potential(), np.roll(potential(), (4, 6), (1, 2)))
    ]
    assert np.abs(np.roll(bright[0], (2, 3), (0, 1)) - bright[1]).max() < 1e-11 * bright[0].max()
    assert np.ptp(bright[0]) > 0.02 * bright[0].max()


def column(shape, place, width=0.5):
    """Two slices with a column at a place of a periodic field of 0.2 Å pixels [2 ny nx] [V Å]."""
    y, x = ((np.arange(n) * 0.2 - c + n / 10) % (n / 5) - n / 10 for n, c in zip(shape, place, strict=True))
    return 120.0 * np.exp(-(y[None, :, None] ** 2 + x[None, None, :] ** 2) / (2 * width**2)).repeat(2, axis=0)


def gaussian_probe_on(values, place, pixels, waist=1.2):
    """A probe whose amplitude is exp(-r²/waist²), through the free pixels, in a square window on a column's field."""
    grid = Grid((pixels, pixels), (0.2, 0.2))
    probe = make_probe(grid, energy=ENERGY, semiangle=38.0, free_pixels=True)
    ky, kx = grid.frequencies()
    wanted = np.exp(-((np.pi * waist) ** 2) * (ky**2 + kx**2)) - np.asarray(aperture(grid, ENERGY, 38.0))
    probe = probe.replace(pixels=jnp.asarray(np.stack([wanted, 0 * wanted])[None]))
    specimen = make_potential_object(values, 4.0, Grid(values.shape[1:], (0.2, 0.2)))
    return make_experiment(probe, specimen, make_scan(np.array([place])), dose=100.0)


@pytest.mark.parametrize("place", [(9.6, 9.6), (9.51, 9.73), (0.1, 19.1)])
def test_a_window_shows_what_the_whole_field_does_where_the_probe_fits(place):
    # exp(-(6.4 / 1.2)²) is 4e-13; the Gaussian is cut by the aperture where it has fallen to 1e-7.
    values, simulator = column((96, 96), (place[0] + 0.4, place[1] - 0.3)), Diffraction(limit=None)
    whole = patterns(simulator, gaussian_probe_on(values, place, 96))[0]
    for pixels, accuracy in ((48, 1e-6), (64, 1e-6)):
        window = patterns(simulator, gaussian_probe_on(values, place, pixels))[0]
        assert abs(float(window.sum()) - 100.0) < 1e-9
        # Frequencies that both grids have: an integer number of steps of each.
        coarse, fine = window[:: pixels // 16, :: pixels // 16], whole[::6, ::6]
        density = (96 / pixels) ** 2
        assert float(jnp.abs(density * fine - coarse).max()) < accuracy * float(window.max())
    assert float(whole[6, 6]) > 1e-3 * float(whole.max())


def turned(values):
    """Images [... y x] on a square grid turned by 90° about pixel (0, 0): what stood at (y, x) comes to (x, -y)."""
    return np.roll(np.swapaxes(values, -1, -2)[..., ::-1], 1, axis=-1)


def test_turning_everything_turns_the_patterns():
    n = 36
    grid, values = Grid((n, n), (0.2, 0.2)), potential((36, 36))
    positions = np.array([[1.13, 2.1], [3.37, 0.4]])
    aberrations = {"C10": -30.0, "C12": 12.0, "phi12": 0.4, "C21": 200.0, "phi21": 1.0, "C34": 3e4, "phi34": 0.2}
    # (y, x) -> (x, -y): an azimuth atan2(y, x) grows by a quarter turn.
    rotated = {k: v + (np.pi / 2 if k.startswith("phi") else 0.0) for k, v in aberrations.items()}

    def run(values, positions, coefficients, tilt, centre):
        probe = make_probe(
            grid, energy=ENERGY, semiangle=22.0, aberrations=make_aberrations(coefficients), centre=centre
        )
        specimen = make_potential_object(values, 4.0, grid)
        return patterns(PERIODIC, make_experiment(probe, specimen, make_scan(positions), tilt=tilt))

    before = run(values, positions, aberrations, (3.0, -8.0), (1.0, 2.5))
    spun = np.stack([positions[:, 1], -positions[:, 0]], axis=1)
    after = run(turned(values), spun, rotated, (-8.0, -3.0), (2.5, -1.0))
    assert np.abs(turned(np.asarray(before)) - after).max() < 1e-12 * float(after.max())
    assert np.abs(np.asarray(before) - after).max() > 1e-2 * float(after.max())


def test_a_disk_off_the_centre_is_a_shifted_pattern():
    # The centre is where the camera stands, not how the beam goes: all of the pattern moves, nothing else happens.
    grid, simulator = GRID, Diffraction(limit=None)
    experiment_here = experiment(potential(), [[1.0, 2.1], [3.37, 0.4]])
    step_y, step_x = grid.angular_sampling(0.0370144)
    still = patterns(simulator, experiment_here)
    probe = experiment_here.probe.replace(centre=jnp.array([2 * step_y, -1 * step_x]))
    moved = patterns(simulator, experiment_here.replace(probe=probe))
    expected = jnp.roll(still, (2, -1), (1, 2))
    # tan θ against θ in the propagators, and the wave-length's rounding above, leave 1e-4.
    assert float(jnp.abs(moved - expected).max()) < 1e-3 * float(still.max())
    assert float(jnp.abs(moved - still).max()) > 0.1 * float(still.max())


def test_incoherent_modes_add():
    many = experiment(potential(), [[1.0, 2.1], [3.37, 0.4]], modes=3)
    total = patterns(PERIODIC, many)
    parts = 0.0
    for mode in range(3):
        pixels = jnp.zeros_like(many.probe.pixels).at[mode].set(many.probe.pixels[mode])
        parts = parts + many.dose * single_mode(many, pixels, mode)
    assert float(jnp.abs(total - parts).max()) < 1e-12 * float(total.max())


def single_mode(many, pixels, mode):
    """Intensities of one mode alone, in the normalisation of all."""
    shared, field, shifts, _ = PERIODIC.prepare(many)
    alone = shared._replace(waves=shared.waves[mode : mode + 1])
    return jnp.stack([jnp.abs(exit_waves(alone, field, s, many.probe.grid)[0]) ** 2 for s in shifts])


def test_modes_mixed_by_a_unitary_matrix_give_the_same_patterns():
    many = experiment(potential(), [[1.0, 2.1]], modes=3)
    shared, field, shifts, _ = PERIODIC.prepare(many)
    rng = np.random.default_rng(1)
    unitary = np.linalg.qr(rng.normal(size=(3, 3)) + 1j * rng.normal(size=(3, 3)))[0]
    mixed = shared._replace(waves=jnp.einsum("mn,nyx->myx", jnp.asarray(unitary), shared.waves))
    one, other = (jnp.abs(exit_waves(s, field, shifts[0], GRID)) ** 2 for s in (shared, mixed))
    assert float(jnp.abs(one.sum(0) - other.sum(0)).max()) < 1e-13
    assert float(jnp.abs(one[0] - other[0]).max()) > 1e-5


def test_empty_specimen_shows_the_dose_in_the_disk():
    grid = Grid((64, 64), (0.2, 0.2))
    empty = make_object(grid, slices=2, thickness=5.0, periodic=True)
    probe = make_probe(grid, energy=ENERGY, semiangle=22.0, aberrations=make_aberrations(C10=200.0))
    pattern = patterns(PERIODIC, make_experiment(probe, empty, make_scan(np.zeros((1, 2))), dose=500.0))[0]
    assert abs(float(pattern.sum()) - 500.0) < 1e-9
    ky, kx = grid.frequencies()
    angle = 1e3 * 0.0370144 * np.hypot(ky, kx)
    assert float(jnp.where(angle > 22.0 + 3.0, pattern, 0.0).max()) < 1e-20
    assert float(jnp.where(angle < 22.0 - 3.0, pattern, jnp.inf).min()) > 0.9 * float(pattern.max())
