"""T3: multislice against conservation laws, reciprocity, perturbation theory, Bloch waves and geometry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.core.fourier import fourier_shift
from stemjax.core.grid import Grid
from stemjax.optics.aberrations import make_aberrations
from stemjax.optics.electron import interaction_parameter, wavelength
from stemjax.optics.probe import make_probe, probe_waves
from stemjax.scatter.multislice import multislice, reversal_error, reversible_multislice
from stemjax.scatter.prism import waves_at_depths
from stemjax.scatter.propagator import exact_propagator, fresnel_propagator, slice_propagators
from stemjax.specimen.objects import transmission
from stemjax.specimen.potential import project_potential
from stemjax.specimen.structure import make_structure
from tests.physics import bloch_waves as bloch

ENERGY = 100e3
LENGTH = wavelength(ENERGY)
GRID = Grid((32, 40), (0.2, 0.16))


def below_every_slice(wave, transmission, propagators, every=1):
    depths = tuple(range(every, transmission.shape[0] + 1, every))
    return jax.jit(lambda w, t, p: waves_at_depths(w, t, p, depths))(wave, transmission, propagators)


def smooth_phase(slices: int, strength: float, seed: int = 1, cutoff: float = 0.6, grid: Grid = GRID) -> np.ndarray:
    """Random phases [slice ny nx] of a largest size [rad], without frequencies beyond a cut-off [1/Å]."""
    ky, kx = grid.frequencies()
    noise = np.random.default_rng(seed).normal(size=(slices, *grid.shape))
    phase = np.fft.ifft2(np.fft.fft2(noise) * (np.hypot(ky, kx) < cutoff)).real
    return strength * phase / np.abs(phase).max()


def some_probe(grid: Grid = GRID):
    """A probe of unit norm in reciprocal space, out of focus."""
    aberrations = make_aberrations(C10=-40.0, C12=15.0, phi12=0.3)
    return probe_waves(make_probe(grid, energy=ENERGY, semiangle=20.0, aberrations=aberrations))[0]


def steps(thickness, limit=None, grid: Grid = GRID, **options):
    """Propagators of equal slices [1 ny nx]."""
    return slice_propagators(grid, jnp.array([thickness]), ENERGY, limit=limit, **options)


def norms(waves):
    """Sum of intensities of every wave."""
    return np.sum(np.abs(np.asarray(waves)) ** 2, axis=(-2, -1))


def relative(found, expected) -> float:
    """Norm of the difference over the norm of what is expected."""
    return float(jnp.linalg.norm(found - expected) / jnp.linalg.norm(expected))


@pytest.mark.parametrize("exact", [pytest.param(False, marks=pytest.mark.slow), True])
def test_norm_is_conserved_exactly_without_a_band_limit(exact):
    # |t| = 1 in real space and |H| = 1 in reciprocal space: nothing else is needed, whatever the strength.
    t = transmission(jnp.asarray(smooth_phase(200, 2.0, cutoff=9.0)))
    series = norms(below_every_slice(some_probe(), t, steps(2.0, exact=exact), every=20))
    assert np.abs(series - 1).max() < 1e-12


def test_norm_is_conserved_within_the_band():
    # With a band limit the norm lost is what is scattered beyond it; a smooth, weak object sends almost nothing there.
    t = transmission(jnp.asarray(smooth_phase(200, 0.02)))
    series = norms(below_every_slice(some_probe(), t, steps(2.0, limit=2 / 3), every=20))
    assert abs(series[-1] - 1) < 1e-5
    strong = norms(below_every_slice(some_probe(), t**40, steps(2.0, limit=2 / 3), every=20))
    assert strong[-1] < 0.9
    assert (np.diff(strong) <= 1e-14).all()


def test_absorption_removes_what_it_should():
    # A uniform slab of amplitude exp(-a) a slice: intensity exp(-2 a n), whatever the phases.
    slices, a = 12, 0.03
    t = transmission(jnp.asarray(smooth_phase(slices, 0.5)), jnp.full((slices, *GRID.shape), -a))
    series = norms(below_every_slice(some_probe(), t, steps(2.0)))
    np.testing.assert_allclose(series, np.exp(-2 * a * np.arange(1, slices + 1)), rtol=1e-12)


def symmetric_amplitude(phases, entering, leaving, limit):
    """Amplitude from one plane wave into another through slices centred in their thickness [orders of ky, kx]."""
    half = fresnel_propagator(GRID, 1.0, ENERGY)
    wave = jnp.zeros(GRID.shape, complex).at[entering].set(1.0) * half
    out = multislice(wave, transmission(jnp.asarray(phases)), steps(2.0, limit=limit)) / half
    return complex(out[leaving])


@pytest.mark.parametrize("limit", [None, 2 / 3])
def test_reciprocity(limit):
    # Source and detector exchanged, the specimen met from the other side: the same complex amplitude.
    phases = smooth_phase(9, 0.8, cutoff=2.0)
    for (sy, sx), (dy, dx) in (((0, 0), (3, -2)), ((2, 5), (-4, 1)), ((1, -3), (1, 6))):
        forth = symmetric_amplitude(phases, (sy, sx), (dy, dx), limit)
        back = symmetric_amplitude(phases[::-1], (-dy, -dx), (-sy, -sx), limit)
        assert abs(forth) > 1e-4
        assert abs(forth - back) < 1e-13
        assert abs(forth - symmetric_amplitude(phases, (-dy, -dx), (-sy, -sx), limit)) > 1e-5


def test_weak_phase_limit_is_first_order_perturbation():
    # One scattering event at any depth: ψ(k) = H^S [δ(k) + i Σ_s F φ_s(k) H^(-s)], the next order being φ².
    phases, thickness = smooth_phase(5, 1.0, cutoff=2.0), 3.0
    h = np.asarray(fresnel_propagator(GRID, thickness, ENERGY))
    plane = np.fft.fft2(np.ones(GRID.shape))
    scattered = sum(1j * np.fft.fft2(phase) * h ** (5 - s) for s, phase in enumerate(phases))
    errors = []
    for strength in (4e-3, 2e-3, 1e-3):
        found = multislice(jnp.asarray(plane), transmission(jnp.asarray(strength * phases)), steps(thickness))
        errors.append(np.linalg.norm(found - plane - strength * scattered))
    assert errors[0] < 1e-2 * 4e-3 * np.linalg.norm(scattered)
    np.testing.assert_allclose(np.array(errors[:-1]) / errors[1:], 4.0, rtol=0.01)


def through_slab(phase, thickness, slices, centred):
    """Exit wave of a slab whose phase is spread over equal slices, each at the top or the middle of its own."""
    step = thickness / slices
    t = jnp.broadcast_to(transmission(jnp.asarray(phase / slices)), (slices, *GRID.shape))
    if not centred:
        return multislice(some_probe(), t, steps(step))
    half = fresnel_propagator(GRID, step / 2, ENERGY)
    return multislice(some_probe() * half, t, steps(step)) / half


@pytest.mark.parametrize(("centred", "order"), [(False, 1), (True, 2)])
def test_thinner_slices_converge_at_the_order_of_the_splitting(centred, order):
    # exp(A) exp(B) is of first order, exp(B/2) exp(A) exp(B/2) of second (Strang): halving gives 1/2^order.
    phase = smooth_phase(1, 6.0, cutoff=1.5)
    best = through_slab(phase, 60.0, 2048, True)
    errors = [relative(through_slab(phase, 60.0, n, centred), best) for n in (64, 128, 256)]
    ratios = np.array(errors[:-1]) / errors[1:]
    np.testing.assert_allclose(ratios, 2.0**order, rtol=0.08)


@pytest.mark.parametrize("thickness", [50.0, 100.0])
def test_bloch_waves_of_strontium_titanate(thickness):
    # The vibration of 0.1 Å keeps the potential within the beams of the eigenvalue problem; slices of 0.98 Å.
    side, slices = 3.905, 4
    sites = np.array([[0, 0], [0.5, 0.5], [0.5, 0.0], [0.0, 0.5], [0.5, 0.5]]) * side
    places = np.column_stack([np.full(5, 1.0), sites])
    crystal = make_structure(places, [38, 22, 8, 8, 8], [side] * 3, rms_displacement=0.1)
    grid = Grid((48, 48), (side / 48, side / 48))
    projected = project_potential(crystal, grid, 1).values[0]
    count = round(thickness / side * slices)
    phase = interaction_parameter(ENERGY) * projected / slices
    t = jnp.broadcast_to(transmission(phase[None]), (count, *grid.shape))
    plane = jnp.zeros(grid.shape, complex).at[0, 0].set(1.0)
    found = np.abs(multislice(plane, t, steps(side / slices, limit=2 / 3, grid=grid))) ** 2

    beams = bloch.choose_beams(grid.shape, (side, side), 3.0)
    coefficients = bloch.fourier_coefficients(np.asarray(projected), side)
    matrix = bloch.structure_matrix(coefficients, beams, (side, side), ENERGY)
    expected = np.abs(bloch.beam_amplitudes(matrix, np.array([count * side / slices]))[0]) ** 2
    intensity = np.array([found[hy, hx] for hy, hx in beams])
    main = expected > 0.02
    assert main.sum() >= 5
    np.testing.assert_allclose(intensity[main], expected[main], rtol=0.01)


def test_exact_propagator_becomes_fresnel_at_small_angles():
    # The next term of the root is -π λ³ k⁴ Δz / 4 in phase.
    grid, distance = Grid((64, 64), (0.5, 0.5)), 50.0
    ky, kx = grid.frequencies()
    square = ky**2 + kx**2
    ratio = exact_propagator(grid, distance, ENERGY) / fresnel_propagator(grid, distance, ENERGY)
    expected = -np.pi / 4 * LENGTH**3 * square**2 * distance
    # ... and the one after that is smaller by λ² k² / 2 < 0.0014.
    np.testing.assert_allclose(np.angle(ratio), expected, rtol=2e-3, atol=1e-12)
    assert np.abs(expected).max() > 1e-3


def test_exact_propagator_carries_a_plane_wave_at_a_large_angle():
    # At the angle θ the phase along the axis is 2π z cos θ / λ; the carrier 2π z / λ is left out.
    grid, distance = Grid((16, 200), (0.1, 0.1)), 31.0
    found = exact_propagator(grid, distance, ENERGY)
    for order in (40, 80, -95):
        sine = LENGTH * order / grid.extent[1]
        expected = np.exp(2j * np.pi * distance / LENGTH * (np.sqrt(1 - sine**2) - 1))
        assert abs(found[0, order] - expected) < 1e-9
        assert abs(fresnel_propagator(grid, distance, ENERGY)[0, order] - expected) > 1e-2


def test_evanescent_waves_are_cut_off():
    grid = Grid((8, 400), (0.5, 0.01))
    ky, kx = grid.frequencies()
    modulus = np.abs(np.asarray(exact_propagator(grid, 3.0, ENERGY)))
    np.testing.assert_allclose(modulus, np.hypot(ky, kx) < 1 / LENGTH, atol=1e-12)
    assert 0 < modulus.mean() < 1


@pytest.mark.parametrize("exact", [False, True])
def test_tilt_is_a_displacement_of_the_slices(exact):
    # A slice at the depth z stands z tan θ further along the tilt; behind the slab the whole frame has moved with it.
    phases, thickness = smooth_phase(6, 0.7, cutoff=2.0), 3.0
    # Whole pixels a slice: a displacement of the Nyquist frequency by less is no displacement.
    shift = np.array([2 * GRID.sampling[0], -1 * GRID.sampling[1]]) / thickness
    tilt = jnp.asarray(1e3 * np.arctan(shift))
    t = transmission(jnp.asarray(phases))
    leaning = jnp.stack([fourier_shift(s, GRID, jnp.asarray(i * thickness * shift)) for i, s in enumerate(t)])
    found = multislice(some_probe(), t, steps(thickness, tilt=tilt, exact=exact))
    expected = multislice(some_probe(), leaning, steps(thickness, exact=exact))
    back = jnp.fft.fft2(fourier_shift(jnp.fft.ifft2(expected), GRID, jnp.asarray(-6 * thickness * shift)))
    assert relative(found, back) < 1e-10
    assert relative(multislice(some_probe(), t, steps(thickness, exact=exact)), back) > 0.1


def test_waves_at_depths_end_with_the_exit_wave():
    t = transmission(jnp.asarray(smooth_phase(7, 0.9)))
    each = slice_propagators(GRID, jnp.linspace(1.0, 3.0, 7), ENERGY)
    for propagators in (steps(2.0, limit=2 / 3), each):
        series = below_every_slice(some_probe(), t, propagators)
        assert relative(series[-1], multislice(some_probe(), t, propagators)) < 1e-14
        front = propagators if propagators.shape[0] == 1 else propagators[:3]
        assert relative(series[2], multislice(some_probe(), t[:3], front)) < 1e-14


def gradients(function, phases, propagators):
    """Gradients of a distance between intensities in the phases, the wave and the propagators."""
    target = jnp.asarray(np.random.default_rng(9).uniform(0, 1e-3, GRID.shape))

    def loss(phases, wave, propagators):
        waves = function(wave[0] + 1j * wave[1], transmission(phases), propagators[0] + 1j * propagators[1])
        return jnp.sum((jnp.abs(waves) ** 2 - target) ** 2)

    parts = [jnp.stack([a.real, a.imag]) for a in (some_probe(), propagators)]
    return jax.grad(loss, argnums=(0, 1, 2))(jnp.asarray(phases), *parts)


@pytest.mark.slow
def test_reversible_gradient_is_exact_where_every_step_is_unitary():
    phases = smooth_phase(20, 0.5, cutoff=9.0)
    for propagators in (steps(2.0), slice_propagators(GRID, jnp.linspace(1, 3, 20), ENERGY, limit=None)):
        plain = gradients(multislice, phases, propagators)
        reversible = gradients(reversible_multislice, phases, propagators)
        assert all(relative(r, p) < 1e-10 for r, p in zip(reversible, plain, strict=True))
        assert float(reversal_error(some_probe(), transmission(jnp.asarray(phases)), propagators)) < 1e-10


def test_reversal_error_tells_the_error_of_the_gradient():
    # The stronger the scattering beyond the band, the more is lost; the gradient's error follows within ten times.
    propagators, warned, made = steps(2.0, limit=2 / 3), [], []
    for strength in (0.1, 0.2, 0.4):
        phases = smooth_phase(20, strength, cutoff=1.5)
        plain, reversible = (gradients(f, phases, propagators)[0] for f in (multislice, reversible_multislice))
        warned.append(float(reversal_error(some_probe(), transmission(jnp.asarray(phases)), propagators)))
        made.append(relative(reversible, plain))
    assert min(made) > 1e-8
    assert (np.diff(made) > 0).all()
    assert (np.diff(warned) > 0).all()
    ratio = np.array(made) / np.array(warned)
    assert 0.1 < ratio.min() <= ratio.max() < 10.0
