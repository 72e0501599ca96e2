"""T3: the probe against closed forms (Airy, Gaussian), written-out aberration functions and conservation laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemjax.core.grid import Grid
from stemjax.optics.aberrations import NAMES, ORDERS, make_aberrations, phase_error, phase_error_gradient, polar
from stemjax.optics.electron import wavelength
from stemjax.optics.modes import orthogonal_modes
from stemjax.optics.probe import aperture, make_probe, probe_waves
from stemjax.scatter.propagator import fresnel_propagator
from tests.physics import closed_forms as forms
from tests.physics.aberration_functions import HAIDER_NAMES, haider_chi, krivanek_chi

ENERGY, SEMIANGLE = 200e3, 20.0
LENGTH = wavelength(ENERGY)
# A coefficient of order n that turns the wave by tens of radians at 20 mrad.
SIZE = {n: 3.0 * LENGTH / 0.02 ** (n + 1) for n in range(1, 6)}
QUICK = settings(max_examples=15, deadline=None)
part = st.floats(-1.0, 1.0)


def distance_from_origin(grid: Grid) -> np.ndarray:
    """Distance of the pixels from the origin of a periodic grid [ny nx] [Å]."""
    y, x = ((c + e / 2) % e - e / 2 for c, e in zip(grid.coordinates(), grid.extent, strict=True))
    return np.hypot(y, x)


def real_space(waves: np.ndarray, grid: Grid) -> np.ndarray:
    """Waves of unit norm in real space [1/Å] from reciprocal ones whose squares sum to one."""
    return np.fft.ifft2(np.asarray(waves)) * np.sqrt(np.prod(grid.shape) / np.prod(grid.sampling))


def random_aberrations(values: list[float]):
    """Aberrations from 25 numbers in [-1, 1], each scaled to its order."""
    return make_aberrations({name: value * SIZE[int(name[1])] for name, value in zip(NAMES, values, strict=True)})


@pytest.mark.parametrize("soft", [True, False])
def test_focused_probe_is_the_airy_amplitude(soft):
    # In a box of 102 Å the aperture is 164 reciprocal pixels wide, and the tails that wrap around are below 1e-3.
    grid = Grid((512, 512), (0.2, 0.2))
    waves = probe_waves(make_probe(grid, energy=ENERGY, semiangle=SEMIANGLE, soft=soft))
    amplitude = real_space(waves[0], grid)
    radius = distance_from_origin(grid)
    expected = forms.airy_amplitude(radius, SEMIANGLE, forms.wavelength(ENERGY))
    near = radius < 5.0
    if soft:
        # A ramp of the amplitude over one pixel carries 1/6 pixel less intensity around an edge of R pixels, and the
        # normalisation hands that to the rest; the shape is the Airy disk's.
        pixels = SEMIANGLE / grid.angular_sampling(LENGTH)[0]
        expected = expected / np.sqrt(1 - 1 / (3 * pixels))
    # The hard edge has the noise of a circle drawn in pixels; the soft one is an anti-aliased circle.
    assert np.abs(amplitude - expected)[near].max() < (1e-3 if soft else 5e-3) * expected.max()
    fraction = (np.abs(amplitude[radius < 2.0]) ** 2).sum() * np.prod(grid.sampling)
    assert abs(fraction - forms.airy_encircled(2.0, SEMIANGLE, LENGTH)) < 5e-3


@pytest.mark.parametrize("soft", [True, False])
def test_aperture_has_the_area_of_its_disk(soft):
    grid = Grid((256, 320), (0.15, 0.12))
    area = np.prod(grid.angular_sampling(LENGTH)) * float(aperture(grid, ENERGY, 31.4, soft=soft).sum())
    assert abs(area / (np.pi * 31.4**2) - 1) < (1e-3 if soft else 5e-3)


@settings(max_examples=6, deadline=None)
@given(st.lists(part, min_size=25, max_size=25), st.integers(1, 3), st.integers(0, 2**31))
def test_beam_is_one_electron_whatever_the_optics(values, modes, seed):
    grid = Grid((48, 40), (0.2, 0.25))
    probe = make_probe(grid, energy=ENERGY, semiangle=17.3, aberrations=random_aberrations(values), modes=modes)
    if probe.pixels is not None:
        probe = probe.replace(pixels=jax.random.normal(jax.random.key(seed), probe.pixels.shape))
    waves = probe_waves(probe.replace(centre=jnp.array([3.1, -2.2])))
    assert waves.shape == (modes, 48, 40)
    assert abs(float((jnp.abs(waves) ** 2).sum()) - 1) < 1e-12


def test_gaussian_beam_spreads_as_in_free_space():
    grid, waist = Grid((192, 256), (0.12, 0.1)), 1.1
    squared = distance_from_origin(grid) ** 2
    start = np.fft.fft2(forms.gaussian_wave(squared, 0.0, waist, forms.wavelength(ENERGY)))
    for distance in (150.0, -80.0):
        moved = np.fft.ifft2(start * np.asarray(fresnel_propagator(grid, distance, ENERGY)))
        expected = forms.gaussian_wave(squared, distance, waist, forms.wavelength(ENERGY))
        assert np.abs(moved - expected).max() < 1e-8


def test_travelling_downstream_adds_to_the_defocus():
    grid, distance = Grid((64, 72), (0.2, 0.18)), 37.0
    start = {"C10": -50.0, "C12": 20.0, "phi12": 0.4, "C30": 1e5}
    here, there = (
        probe_waves(make_probe(grid, energy=ENERGY, semiangle=SEMIANGLE, aberrations=make_aberrations(c)))[0]
        for c in (start, {**start, "C10": -50.0 + distance})
    )
    moved = here * fresnel_propagator(grid, distance, ENERGY)
    assert float(jnp.abs(moved - there).max()) < 1e-12
    assert float(jnp.abs(here - there).max()) > 1e-2


@QUICK
@given(st.lists(part, min_size=14, max_size=14), st.lists(st.floats(-3.0, 3.0), min_size=14, max_size=14))
def test_aberration_function_is_the_written_out_one(moduli, angles):
    named = {}
    for (n, m), modulus, angle in zip(ORDERS, moduli, angles, strict=True):
        named[f"C{n}{m}"] = modulus * SIZE[n]
        if m:
            named[f"phi{n}{m}"] = angle
    y, x = sample_angles(5)
    found = phase_error(make_aberrations(named), jnp.asarray(y), jnp.asarray(x), LENGTH)
    expected = krivanek_chi(named, np.hypot(y, x), np.arctan2(y, x), LENGTH)
    np.testing.assert_allclose(found, expected, atol=1e-10)


@QUICK
@given(st.lists(part, min_size=14, max_size=14), st.lists(st.floats(-3.0, 3.0), min_size=14, max_size=14))
def test_haider_names_are_haiders_aberrations(moduli, angles):
    named, coefficients = {}, {}
    for (n, m), name, modulus, angle in zip(ORDERS, HAIDER_NAMES, moduli, angles, strict=True):
        # The angle is the azimuth of Krivanek's term; B2, S3, ... stand beside ω's higher power, hence their conjugate.
        turn = np.exp(1j * m * angle * (1 if name.startswith("A") else -1)) if m else 1.0
        named[name] = modulus * SIZE[n]
        named |= {f"phi{name}": angle} if m else {}
        coefficients[name] = named[name] * turn
    y, x = sample_angles(6)
    found = phase_error(make_aberrations(named), jnp.asarray(y), jnp.asarray(x), LENGTH)
    np.testing.assert_allclose(found, haider_chi(coefficients, x + 1j * y, LENGTH), atol=1e-9)


def sample_angles(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Forty random angles (y, x) within 20 mrad [rad]."""
    return tuple(np.random.default_rng(seed).uniform(-0.014, 0.014, (2, 40)))


def test_every_haider_name_stands_for_its_order():
    # The zip above pairs names with orders by position; the Krivanek coefficient that appears proves the pairing.
    for (n, m), name in zip(ORDERS, HAIDER_NAMES, strict=True):
        table = polar(make_aberrations({name: 1.0}))
        assert [k for k, (modulus, _) in table.items() if modulus > 0] == [f"C{n}{m}"]


def test_defocus_and_cs_are_aliases():
    a = make_aberrations(defocus=120.0, Cs=1e7, C5=3e7)
    assert (float(a.C10), float(a.C30), float(a.C50)) == (-120.0, 1e7, 3e7)


def test_polar_form_returns_what_was_given():
    table = polar(make_aberrations(C12=12.0, phi12=0.7, C23=200.0, phi23=-0.9, C30=1e4))
    assert table["C12"] == pytest.approx((12.0, 0.7))
    assert table["C23"] == pytest.approx((200.0, -0.9))
    assert table["C30"] == (1e4, 0.0)


@settings(max_examples=6, deadline=None)
@given(st.lists(part, min_size=25, max_size=25))
def test_gradient_of_the_aberration_function_is_its_slope(values):
    aberrations = random_aberrations(values)
    y, x = (jnp.asarray(a) for a in sample_angles(8))
    found = phase_error_gradient(aberrations, y, x, LENGTH)
    step = 1e-6
    for axis, direction in enumerate(((step, 0.0), (0.0, step))):
        up, down = (phase_error(aberrations, y + s * direction[0], x + s * direction[1], LENGTH) for s in (1, -1))
        slope = LENGTH / (2 * np.pi) * (up - down) / (2 * step)
        scale = float(jnp.abs(slope).max()) + 1e-9
        assert float(jnp.abs(found[axis] - slope).max()) < 1e-6 * scale


def test_orthogonal_modes_keep_the_density_matrix():
    rng = np.random.default_rng(4)
    waves = jnp.asarray(rng.normal(size=(4, 6, 7)) + 1j * rng.normal(size=(4, 6, 7)))
    flat, turned = (np.asarray(w).reshape(4, -1) for w in (waves, orthogonal_modes(waves)))
    np.testing.assert_allclose(turned.T @ turned.conj(), flat.T @ flat.conj(), atol=1e-12)
    overlap = turned @ turned.conj().T
    np.testing.assert_allclose(overlap, np.diag(np.diag(overlap)), atol=1e-12)
    assert (np.diff(np.diag(overlap).real) < 0).all()
