"""Frozen phonons: Bragg beams are damped by the Debye-Waller factor, means converge as 1/√n, nothing is lost (T4)."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.core.fourier import shift_ramps
from stemjax.optics.electron import interaction_parameter, wavelength
from stemjax.optics.probe import make_probe, probe_waves
from stemjax.scatter.multislice import multislice
from stemjax.scatter.propagator import slice_propagators
from stemjax.specimen.atomic import make_atomic_specimen, with_phonons
from stemjax.specimen.builders import graphene, slab
from stemjax.specimen.scattering_factors import scattering_factor
from stemjax.specimen.structure import with_displacement

ENERGY = 300e3
SIGMA = interaction_parameter(ENERGY)


@jax.jit
def mean_transmission(specimen):
    """Mean over the configurations of the first slice [ny nx]: the coherent exit wave of a plane wave."""

    def add(total, index):
        return total + specimen.configuration(index).transmission(SIGMA)[0], None

    empty = jnp.zeros(specimen.grid.shape, complex)
    return jax.lax.scan(add, empty, jnp.arange(specimen.configurations))[0] / specimen.configurations


def damping_of_families(specimen, largest: float = 3.2):
    """Ratio of the coherent Bragg beams to those of atoms at rest, averaged over beams of one length; and |g|."""
    still = with_displacement(specimen.structure, 0.0)
    at_rest = make_atomic_specimen(still, specimen.grid, 1).transmission(SIGMA)[0]
    moving, rest = (np.fft.fft2(np.asarray(a)) for a in (mean_transmission(specimen), at_rest))
    ky, kx = specimen.grid.frequencies()
    k = np.hypot(ky, kx)
    bragg = (np.abs(rest) > 1e-3 * np.abs(rest[k > 0]).max()) & (k > 0) & (k < largest)
    return np.broadcast_to(ky, k.shape)[bragg], np.broadcast_to(kx, k.shape)[bragg], moving[bragg] / rest[bragg]


@pytest.fixture(scope="module")
def layer():
    return graphene((17.0, 17.0), rms_displacement=0.08)


def test_bragg_beams_are_damped_by_the_debye_waller_factor(layer):
    """T4: to 2 %, out to where the factor is 0.3, in a layer so thin that scattering is single."""
    ky, kx, ratio = damping_of_families(make_atomic_specimen(layer, 0.08, 1, phonons=512, seed=1))
    k = np.hypot(ky, kx)
    lengths = np.unique(k.round(5))
    assert len(lengths) > 12
    for length in lengths:
        family = np.isclose(k, length, atol=1e-4)
        expected = np.exp(-2 * np.pi**2 * 0.08**2 * length**2)
        assert ratio[family].mean() == pytest.approx(expected, rel=0.02)


def test_anisotropic_tensors_damp_each_direction_by_its_own_factor(layer):
    """exp(-2π² gᵀUg) with correlated components; every beam within five standard errors."""
    tensor = np.array([[0.01, 0.0, 0.0], [0.0, 0.012, 0.005], [0.0, 0.005, 0.004]])
    specimen = make_atomic_specimen(layer, 0.08, 1)
    specimen = with_phonons(specimen, 512, 3, covariance=np.tile(tensor, (len(layer.numbers), 1, 1)))
    ky, kx, ratio = damping_of_families(specimen, largest=2.2)
    expected = np.exp(-2 * np.pi**2 * (tensor[1, 1] * ky**2 + 2 * tensor[1, 2] * ky * kx + tensor[2, 2] * kx**2))
    error = np.sqrt((1 - expected**2) / (512 * len(layer.numbers)))
    assert (np.abs(ratio - expected) < 5 * error + 0.01 * expected).all()
    # Beams of one length on either side of the tilted ellipsoid differ.
    assert expected[ky * kx > 0].mean() < 0.95 * expected[ky * kx < 0].mean()


@lru_cache(maxsize=1)
def probe_patterns(configurations: int = 512):
    """Patterns of a probe on a column of SrTiO3, one a configuration [configuration ny nx]."""
    crystal = slab("SrTiO3", thickness=7.0, width=(7.5, 7.5), rms_displacement=0.09)
    specimen = make_atomic_specimen(crystal, 0.13, 4, phonons=configurations, seed=5)
    grid = specimen.grid
    wave = probe_waves(make_probe(grid, energy=ENERGY, semiangle=22.0))[0]
    ramp_y, ramp_x = shift_ramps(grid, jnp.asarray([1.9525, 1.9525]))
    propagators = slice_propagators(grid, specimen.thickness, ENERGY, jnp.zeros(2), limit=2 / 3)

    @jax.jit
    def run(specimen):
        def one(_, index):
            field = specimen.configuration(index).transmission(SIGMA)
            out = multislice(wave * ramp_y * ramp_x, field, propagators)
            return None, out.real**2 + out.imag**2

        return jax.lax.scan(one, None, jnp.arange(configurations))[1]

    ky, kx = grid.frequencies()
    return np.asarray(run(specimen)), 1e3 * wavelength(ENERGY) * np.hypot(ky, kx)


def test_means_converge_with_the_root_of_the_configurations():
    """T4: spread over groups of the mean of n patterns, over the diffuse pixels; the exponent is -1/2."""
    patterns, angle = probe_patterns()
    diffuse = patterns[:, (angle > 30.0) & (angle < 60.0)]
    sizes = np.array([4, 8, 16, 32, 64])
    spread = [np.sqrt(diffuse.reshape(512 // n, n, -1).mean(axis=1).var(axis=0, ddof=1).mean()) for n in sizes]
    exponent = np.polyfit(np.log(sizes), np.log(spread), 1)[0]
    assert exponent == pytest.approx(-0.5, abs=0.03)


def test_no_electron_is_lost():
    """What is missing from a pattern went beyond the band limit, at 76 mrad."""
    total = probe_patterns()[0].sum(axis=(1, 2))
    assert total.max() <= 1.0 + 1e-9
    assert total.min() > 0.995


def test_diffuse_intensity_is_that_of_independent_atoms(layer):
    """⟨|ψ|²⟩ - |⟨ψ⟩|² = N (σF/A)² (1 - exp(-4π²u²k²)) in a layer so thin that scattering is single, to 3 %."""
    specimen = make_atomic_specimen(layer, 0.08, 1, phonons=256, seed=2)

    @jax.jit
    def moments(specimen):
        def add(total, index):
            wave = jnp.fft.fft2(specimen.configuration(index).transmission(SIGMA)[0], norm="forward")
            return (total[0] + wave, total[1] + jnp.abs(wave) ** 2), None

        empty = jnp.zeros(specimen.grid.shape)
        return jax.lax.scan(add, (empty + 0j, empty), jnp.arange(256))[0]

    wave, intensity = (np.asarray(a) / 256 for a in moments(specimen))
    diffuse = 256 / 255 * (intensity - np.abs(wave) ** 2)
    ky, kx = specimen.grid.frequencies()
    k = np.hypot(ky, kx)
    amplitude = SIGMA * 47.87764 * np.asarray(scattering_factor("lobato", 6, k)) / np.prod(specimen.grid.extent)
    expected = len(layer.numbers) * amplitude**2 * (1 - np.exp(-4 * np.pi**2 * 0.08**2 * k**2))
    for low, high in ((0.3, 0.6), (0.6, 1.0), (1.0, 1.5), (1.5, 2.2), (2.2, 3.0), (3.0, 4.0)):
        ring = (k >= low) & (k < high)
        assert diffuse[ring].sum() == pytest.approx(expected[ring].sum(), rel=0.03)


@pytest.mark.slow
def test_gradient_of_a_mean_pattern_reaches_the_displacement(layer):
    """The derivative of a mean intensity by u, with the draws held fixed, is that of finite differences."""
    specimen = make_atomic_specimen(layer, 0.12, 1, phonons=4)
    u = specimen.structure.rms_displacement

    @jax.jit
    def value(scale):
        moved = specimen.replace(structure=specimen.structure.replace(rms_displacement=scale * u))
        waves = jnp.stack([moved.configuration(i).transmission(SIGMA)[0] for i in range(4)])
        return jnp.sum(jnp.abs(jnp.fft.fft2(waves))[:, 5:20, 5:20] ** 2)

    h = 1e-3
    numeric = np.array([float(value(1 + i * h)) for i in (-2, -1, 1, 2)]) @ np.array([1, -8, 8, -1]) / (12 * h)
    assert float(jax.jit(jax.grad(value))(1.0)) == pytest.approx(numeric, rel=1e-6)
