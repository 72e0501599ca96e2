"""The yardsticks themselves against textbook numbers and against each other, before anything is measured with them."""

import numpy as np
import pytest
from scipy import integrate, special

from tests.physics import aberration_functions as aberrations
from tests.physics import bloch_waves as bloch
from tests.physics import closed_forms as forms
from tests.reference.lobato import POTENTIAL_CONSTANT, scattering_factor
from tests.reference.structure_factors import projected_potential


@pytest.mark.parametrize("energy", sorted(forms.WAVELENGTHS))
def test_wavelength_is_the_published_one(energy):
    assert abs(forms.wavelength(energy) - forms.WAVELENGTHS[energy]) < 6e-6


@pytest.mark.parametrize("energy", sorted(forms.INTERACTION_PARAMETERS))
def test_interaction_parameter_is_the_published_one(energy):
    assert abs(forms.interaction_parameter(energy) - forms.INTERACTION_PARAMETERS[energy]) < 6e-8


def test_airy_amplitude_is_the_hankel_transform_of_the_aperture():
    wavelength, semiangle = 0.02508, 25.0
    cutoff = 1e-3 * semiangle / wavelength
    for radius in (0.0, 0.2, 0.7, 1.9):
        area = np.pi * cutoff**2

        def ring(k, radius=radius):
            return 2 * np.pi * k * special.j0(2 * np.pi * k * radius)

        expected = integrate.quad(ring, 0, cutoff, epsabs=1e-13)[0] / np.sqrt(area)
        assert abs(forms.airy_amplitude(np.array(radius), semiangle, wavelength) - expected) < 1e-10


def test_airy_intensity_integrates_to_the_encircled_fraction():
    def ring(r):
        return 2 * np.pi * r * forms.airy_amplitude(np.array(r), 20.0, 0.02508) ** 2

    inside = integrate.quad(ring, 0, 1.3, epsabs=1e-12)[0]
    assert abs(inside - forms.airy_encircled(1.3, 20.0, 0.02508)) < 1e-9


def test_gaussian_wave_obeys_free_space():
    n, pixel, wavelength, waist, distance = 256, 0.1, 0.025, 1.1, 150.0
    x = (np.arange(n) - n // 2) * pixel
    r2 = x[:, None] ** 2 + x[None, :] ** 2
    k = np.fft.fftfreq(n, pixel)
    free = np.exp(-1j * np.pi * wavelength * distance * (k[:, None] ** 2 + k[None, :] ** 2))
    moved = np.fft.ifft2(free * np.fft.fft2(forms.gaussian_wave(r2, 0.0, waist, wavelength)))
    assert np.abs(moved - forms.gaussian_wave(r2, distance, waist, wavelength)).max() < 1e-9
    deviation = np.sqrt((np.abs(moved) ** 2 * x[None, :] ** 2).sum() * pixel**2)
    assert abs(2 * deviation / forms.gaussian_width(distance, waist, wavelength) - 1) < 1e-9


def test_scherzer_defocus_turns_the_plateau_by_a_quarter_wave():
    # Scherzer (1949): C10 = −√(Cs λ) puts the minimum of χ at −π/2, at the angle √(−C10 / Cs).
    cs, wavelength = 1e7, 0.02508
    defocus = -np.sqrt(cs * wavelength)
    angle = np.sqrt(-defocus / cs)
    chi = aberrations.krivanek_chi({"C10": defocus, "C30": cs}, angle, 0.3, wavelength)
    assert abs(chi + np.pi / 2) < 1e-9


def test_the_two_notations_of_aberrations_agree_term_by_term():
    rng = np.random.default_rng(7)
    alpha, phi = rng.uniform(0, 0.04, 50), rng.uniform(-np.pi, np.pi, 50)
    for name in ("10", "12", "21", "23", "30", "32", "34", "41", "43", "45", "50", "52", "54", "56"):
        c = {f"C{name}": 10.0 ** (2 * int(name[0]) + 1), f"phi{name}": rng.uniform(-3, 3) / max(int(name[1]), 1)}
        haider = aberrations.haider_from_krivanek(c)
        expected = aberrations.krivanek_chi(c, alpha, phi, 0.025)
        assert np.ptp(expected) > 0.01, name
        np.testing.assert_allclose(aberrations.haider_chi(haider, alpha * np.exp(1j * phi), 0.025), expected, atol=1e-9)


@pytest.mark.parametrize(("indices2", "factor", "published"), [(8, 8.0, 757.0), (3, 8 / np.sqrt(2), 602.0)])
def test_extinction_distances_of_silicon_are_the_published_ones(indices2, factor, published):
    # Si 220 and 111 at 100 kV: Hirsch et al. (1965), from other scattering factors, hence 3 %.
    side = 5.431
    f = scattering_factor(14, np.array([indices2 / side**2]))[0]
    coefficient = POTENTIAL_CONSTANT * factor * f / side**3
    assert abs(np.pi / (forms.interaction_parameter(100e3) * coefficient) / published - 1) < 0.03


def test_two_bloch_waves_are_the_two_beam_formula():
    cell, volts, energy = (4.0, 4.0), 5.0, 100e3
    coefficients = np.zeros((8, 8), complex)
    coefficients[0, 1] = coefficients[0, -1] = volts
    extinction = np.pi / (forms.interaction_parameter(energy) * volts)
    beams = np.array([[0, 0], [0, 1]])
    for shift in (0.0, 0.02):
        matrix = bloch.structure_matrix(coefficients, beams, cell, energy, (0.0, -1 / (2 * 4.0) + shift))
        # s = (|k_t|² − |g + k_t|²) λ / 2 = −λ shift / a
        deviation = -forms.wavelength(energy) * shift / 4.0
        for thickness in (40.0, 130.0, 333.0):
            intensity = np.abs(bloch.beam_amplitudes(matrix, np.array([thickness]))[0, 1]) ** 2
            assert abs(intensity - forms.two_beam_intensity(thickness, extinction, deviation)) < 1e-9


def multislice_beams(projected, cell, thickness, energy, slices):
    """Amplitudes of the beams behind a crystal with the potential spread evenly along the beam."""
    ky, kx = (np.fft.fftfreq(n, a / n) for n, a in zip(projected.shape, cell, strict=True))
    step = np.exp(
        -1j * np.pi * forms.wavelength(energy) * thickness / slices * (ky[:, None] ** 2 + kx[None, :] ** 2) / 2
    )
    phase = np.exp(1j * forms.interaction_parameter(energy) * projected / slices)
    wave = np.ones(projected.shape, complex)
    for _ in range(slices):
        wave = np.fft.ifft2(step * np.fft.fft2(wave))
        wave = np.fft.ifft2(step * np.fft.fft2(phase * wave))
    return np.fft.fft2(wave) / wave.size


def thermal_average(projected, cell, rms):
    """A projected potential blurred by the vibration of the atoms, rms displacement along one axis [Å]."""
    ky, kx = (np.fft.fftfreq(n, a / n) for n, a in zip(projected.shape, cell, strict=True))
    damping = np.exp(-2 * np.pi**2 * rms**2 * (ky[:, None] ** 2 + kx[None, :] ** 2))
    return np.fft.ifft2(damping * np.fft.fft2(projected)).real


@pytest.mark.parametrize("thickness", [50.0, 100.0])
def test_bloch_waves_agree_with_fine_multislice(thickness):
    # SrTiO3 [001] at 100 keV with 0.1 Å of vibration, without which the beams converge slowly.
    side, energy = 3.905, 100e3
    sites = np.array([[0.0, 0.0], [0.5, 0.5], [0.5, 0.0], [0.0, 0.5], [0.5, 0.5]]) * side
    projected = projected_potential(np.array([38, 22, 8, 8, 8]), sites, (48, 48), (side / 48, side / 48))
    projected = thermal_average(projected, (side, side), 0.1)
    beams = bloch.choose_beams((48, 48), (side, side), 3.0)
    coefficients = bloch.fourier_coefficients(projected, side)
    matrix = bloch.structure_matrix(coefficients, beams, (side, side), energy)
    amplitudes = bloch.beam_amplitudes(matrix, np.array([thickness]))[0]
    assert abs((np.abs(amplitudes) ** 2).sum() - 1) < 1e-10
    expected = multislice_beams(projected * thickness / side, (side, side), thickness, energy, round(4 * thickness))
    found = np.array([expected[hy, hx] for hy, hx in beams])
    assert np.sort(np.abs(amplitudes))[-9:].min() > 0.05
    assert np.abs(amplitudes - found).max() < 1e-3
