"""T4: quadratures of source and focus meet their stated error, against closed forms and dense averages."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from stemjax.core.grid import Grid
from stemjax.core.paths import leaves, replace
from stemjax.detect.annular import make_annular_detector
from stemjax.forward.diffraction import Diffraction
from stemjax.forward.experiment import make_experiment
from stemjax.forward.image import ScannedImage
from stemjax.optics.aberrations import make_aberrations
from stemjax.optics.coherence import blur_image, focal_spread, make_coherence, make_focal_envelope, rms_of_fwhm
from stemjax.optics.modes import condensed_probe
from stemjax.optics.probe import make_probe, probe_waves
from stemjax.optics.scan import make_raster, make_scan
from stemjax.specimen.objects import make_object
from tests.physics import closed_forms as forms

ENERGY, SEMIANGLE = 200e3, 20.0
LENGTH = forms.wavelength(ENERGY)
GRID = Grid((48, 40), (0.25, 0.3))
OPTICS = {"C10": -25.0, "C12": 15.0, "phi12": 0.4, "C30": 2e5}
# An uncorrected-gun pair of widths: 0.7 Å and 0.4 Å of source, 42 Å of focal spread, twice a cold field emitter's.
WIDTHS = {"source_size": (0.3, 0.17), "chromatic": 1.2e7, "energy_spread": 0.6}
SPREAD = 1.2e7 * 0.6 / 200e3 * 1.16367


def waves_of(widths, error, grid=GRID, **optics):
    """Waves of a partially coherent probe [mode ny nx], as numpy."""
    coherence = make_coherence(ENERGY, SEMIANGLE, error=error, **widths) if widths else None
    return np.asarray(jax.jit(probe_waves)(probe_of(coherence, grid, **optics)))


def probe_of(coherence, grid=GRID, **changes):
    """A probe with some aberrations and a sharp aperture, so that every angle in it is below the semi-angle."""
    lens = make_aberrations(OPTICS)
    return make_probe(
        grid, energy=ENERGY, semiangle=SEMIANGLE, aberrations=lens, coherence=coherence, soft=False, **changes
    )


def mutual_coherence(waves, seen):
    """Σ ψ(k₁) ψ*(k₂) over the modes, between the pixels of the aperture [pixel pixel]."""
    inside = waves[:, seen]
    return inside.T @ inside.conj()


def damping(grid, seen, source_size, spread):
    """Closed form of the coherence between the pixels of the aperture: Gaussian in k₁ − k₂ and in k₁² − k₂²."""
    ky, kx = (np.broadcast_to(k, grid.shape)[seen] for k in grid.frequencies())
    k2 = ky**2 + kx**2
    phase = source_size[0] ** 2 * np.subtract.outer(ky, ky) ** 2 + source_size[1] ** 2 * np.subtract.outer(kx, kx) ** 2
    return np.exp(-2 * np.pi**2 * phase - 0.5 * (np.pi * LENGTH * spread * np.subtract.outer(k2, k2)) ** 2)


@pytest.mark.parametrize("error", [3e-2, 1e-3, 1e-5])
@pytest.mark.parametrize("kind", ["source", "focus", "both"])
def test_mutual_coherence_meets_the_stated_error(kind, error):
    names = {"source": ["source_size"], "focus": ["chromatic", "energy_spread"], "both": list(WIDTHS)}[kind]
    coherent = waves_of({}, error)[0]
    seen = np.abs(coherent) > 0
    found = mutual_coherence(waves_of({n: WIDTHS[n] for n in names}, error), seen)
    size = WIDTHS["source_size"] if kind != "focus" else (0.0, 0.0)
    ideal = np.outer(coherent[seen], coherent[seen].conj())
    expected = ideal * damping(GRID, seen, size, SPREAD if kind != "source" else 0.0)
    worst = (np.abs(found - expected) / np.abs(ideal)).max()
    # Above: the promise. Below: the nodes are not so many that the promise says nothing.
    assert 2e-3 * error < worst <= error


def test_profile_is_that_of_a_dense_average():
    # Brute force: 41 × 41 displaced and 41 defocused copies of the coherent probe, weighted by the normal density.
    error = 1e-4
    found = (np.abs(np.fft.ifft2(waves_of(WIDTHS, error))) ** 2).sum(axis=0)
    coherent = waves_of({}, error)[0]
    ky, kx = GRID.frequencies()
    points = np.linspace(-6.0, 6.0, 41)
    weights = np.exp(-(points**2) / 2) / np.exp(-(points**2) / 2).sum()
    defocused = [coherent * np.exp(-1j * np.pi * LENGTH * SPREAD * p * (ky**2 + kx**2)) for p in points]
    transform = np.fft.fft2(np.einsum("p,pyx->yx", weights, np.abs(np.fft.ifft2(defocused)) ** 2))
    for k, size in ((ky, 0.3), (kx, 0.17)):
        transform = transform * np.einsum("p,pyx->yx", weights, np.exp(-2j * np.pi * size * points[:, None, None] * k))
    expected = np.fft.ifft2(transform).real
    peak = np.abs(coherent).sum() ** 2 / GRID.shape[0] ** 2 / GRID.shape[1] ** 2
    assert np.abs(found - expected).max() < error * peak
    assert found.max() < 0.5 * peak  # the averages do something
    assert abs(found.sum() * np.prod(GRID.shape) - 1) < 1e-12


def grating(period, phase, grid):
    """A sinusoidal phase grating along x, one slice of no thickness."""
    x = np.broadcast_to(np.cos(2 * np.pi * grid.coordinates()[1] / period), grid.shape)
    return make_object(grid, phase=phase * x[None], periodic=True)


def grating_pattern(waves, period, phase, place, source, spread, grid):
    """CBED of a sinusoidal grating: beams i^n J_n(φ), each pair damped by its difference of k and of k² before it."""
    order = round(grid.extent[1] / period)
    beams = range(-4, 5)
    shifted = {n: np.roll(waves, n * order, axis=1) for n in beams}
    ky, kx = grid.frequencies()
    squared = {n: np.roll(ky**2 + kx**2, n * order, axis=1) for n in beams}
    pattern = np.zeros(grid.shape)
    for n in beams:
        for m in beams:
            amplitude = 1j ** (n - m) * special.jv(n, phase) * special.jv(m, phase)
            amplitude *= np.exp(2j * np.pi * (n - m) * place / period)
            coherence = np.exp(-2 * np.pi**2 * (source * (n - m) / period) ** 2)
            focus = np.exp(-0.5 * (np.pi * LENGTH * spread * (squared[n] - squared[m])) ** 2)
            pattern += (amplitude * shifted[n] * shifted[m].conj() * coherence * focus).real
    return pattern


def test_interference_of_disks_fades_as_the_closed_form():
    error, period, phase, source = 1e-4, 2.0, 0.7, 0.25
    grid, place = Grid((40, 40), (0.25, 0.2)), 0.37
    widths = {**WIDTHS, "source_size": source}
    coherence = make_coherence(ENERGY, SEMIANGLE, error=error, **widths)
    scan = make_scan(np.array([[1.1, place]]))
    made = make_experiment(probe_of(coherence, grid), grating(period, phase, grid), scan)
    found = np.asarray(jax.jit(Diffraction(limit=None))(made))[0]
    coherent = waves_of({}, error, grid)[0]
    expected = grating_pattern(coherent, period, phase, place, source, SPREAD, grid)
    unit = np.abs(coherent).max() ** 2
    # Each pair of beams is off by at most the error, and the beams' amplitudes sum to less than 2.
    assert np.abs(found - expected).max() < 4 * error * unit
    sharp = grating_pattern(coherent, period, phase, place, 0.0, 0.0, grid)
    assert np.abs(expected - sharp).max() > 0.1 * unit  # the fringes do fade


def test_blurred_image_is_that_of_the_source():
    # Exact for a periodic scan that is finer than λ / 4α = 0.31 Å: hundreds of nodes against one Fourier transform.
    grid, step = Grid((16, 16), (0.25, 0.25)), 0.25
    rows = np.cos(2 * np.pi * grid.coordinates()[0] / 4.0) * np.sin(2 * np.pi * grid.coordinates()[1] / 2.0 + 0.4)
    thing = make_object(grid, phase=0.8 * (rows + grating(2.0, 0.6, grid).phase[0])[None], periodic=True)
    scan, size = make_raster((16, 16), step), (0.2, 0.35)
    detectors = {"bf": make_annular_detector(0.0, 12.0), "adf": make_annular_detector(22.0, 45.0)}
    images = []
    for coherence in (make_coherence(ENERGY, SEMIANGLE, source_size=size, error=1e-9), None):
        made = make_experiment(probe_of(coherence, grid), thing, scan, detectors=detectors)
        images.append(jax.jit(ScannedImage(Diffraction(limit=None)))(made))
    for name in detectors:
        averaged, coherent = (np.asarray(image[name]).reshape(16, 16) for image in images)
        blurred = np.asarray(blur_image(jnp.asarray(coherent), step, size))
        assert np.abs(blurred - averaged).max() < 1e-8 * coherent.max()
        assert np.abs(coherent - averaged).max() > 1e-2 * coherent.max()


@pytest.mark.parametrize("widest", [0.1, 0.3, 1.0])
def test_envelope_errs_as_its_series_says(widest):
    # w = πλδ k_max² is set by the energy spread; the largest error is where both beams lie at the rim.
    cutoff = 1e-3 * SEMIANGLE / LENGTH
    energy_spread = widest / (np.pi * LENGTH * cutoff**2) / (1.2e7 * 1.16367) * ENERGY
    coherence = make_coherence(ENERGY, SEMIANGLE, chromatic=1.2e7, energy_spread=energy_spread)
    grid = Grid((96, 96), (0.25, 0.25))
    plate = make_focal_envelope(coherence, ENERGY)
    y, x = (jnp.asarray(1e3 * LENGTH * k) for k in grid.frequencies())
    amplitude = np.asarray(plate.transmission(y, x, jnp.asarray(SEMIANGLE))).real
    seen = np.hypot(y, x) <= SEMIANGLE
    exact = damping(grid, seen, (0.0, 0.0), float(focal_spread(coherence, ENERGY)))
    error = np.abs(np.outer(amplitude[seen], amplitude[seen]) - exact)
    axial = np.argmax(amplitude[seen])
    assert error[axial].max() < 1e-8  # interference with the axial beam is right
    assert abs(error.max() / (1 - np.exp(-(widest**2))) - 1) < 0.04


@pytest.mark.parametrize(
    ("energy_spread", "quick_error", "no_error"),
    [pytest.param(0.1, 0.009, 0.010, marks=pytest.mark.slow), (0.3, 0.065, 0.090)],
)
def test_envelope_of_a_real_gun_errs_as_documented(energy_spread, quick_error, no_error):
    # Cold field emitters at 200 kV, Cc = 1.2 mm, 20 mrad: w = 0.35 and 1.05; in parts of the peak.
    coherence = make_coherence(ENERGY, SEMIANGLE, chromatic=1.2e7, energy_spread=energy_spread, error=1e-6)
    grid = Grid((96, 96), (0.25, 0.25))
    y, x = ((c + e / 2) % e - e / 2 for c, e in zip(grid.coordinates(), grid.extent, strict=True))
    plate = make_focal_envelope(coherence, ENERGY)
    probes = (
        make_probe(grid, energy=ENERGY, semiangle=SEMIANGLE, **how)
        for how in ({}, {"coherence": coherence}, {"plate": plate})
    )
    ideal, exact, quick = ((np.abs(np.fft.ifft2(jax.jit(probe_waves)(probe))) ** 2).sum(axis=0) for probe in probes)
    assert np.abs(quick - exact).max() / exact.max() == pytest.approx(quick_error, rel=0.1)
    assert np.abs(ideal - exact).max() / exact.max() == pytest.approx(no_error, rel=0.1)
    tails = [profile[np.hypot(y, x) > 1.0].sum() / profile.sum() for profile in (quick, ideal, exact)]
    assert tails[0] < tails[1] < tails[2]


def test_few_modes_hold_what_the_nodes_give():
    widths = {"source_size": rms_of_fwhm(0.6), "chromatic": 1.2e7, "energy_spread": 0.3}
    grid, lost = Grid((40, 40), (0.25, 0.2)), 1e-3
    full = probe_of(make_coherence(ENERGY, SEMIANGLE, error=1e-2, **widths), grid, modes=2)
    many, few = (np.asarray(jax.jit(probe_waves)(probe)) for probe in (full, condensed_probe(full, lost=lost)))
    assert abs((np.abs(few) ** 2).sum() - 1) < 1e-12
    assert len(few) < 0.2 * len(many)
    thick = np.random.default_rng(3).normal(size=(2, *grid.shape))
    for phase in (0.0 * thick[0], 0.7 * thick[0], 2.0 * thick[1]):
        patterns = [
            (np.abs(np.fft.fft2(np.exp(1j * phase) * np.fft.ifft2(waves))) ** 2).sum(axis=0) for waves in (many, few)
        ]
        # Half the sum of moduli is the largest difference that any detector can see.
        assert 1e-3 * lost < 0.5 * np.abs(patterns[1] - patterns[0]).sum() < lost


@functools.cache
def scene():
    """A probe with coherence everywhere, two modes and a soft aperture, and a random weight for its profile."""
    instabilities = {"voltage_instability": 1e-6, "current_instability": 1.3e-6}
    coherence = make_coherence(ENERGY, SEMIANGLE, error=3e-2, **WIDTHS, **instabilities)
    probe = make_probe(
        Grid((20, 24), (0.3, 0.25)), energy=ENERGY, semiangle=SEMIANGLE, aberrations=make_aberrations(OPTICS),
        coherence=coherence, modes=2, centre=(0.7, -1.1),
    )  # fmt: skip
    return probe, np.random.default_rng(5).normal(size=probe.grid.shape)


@jax.jit
@jax.value_and_grad
def functional(probe):
    """A random linear functional of the profile."""
    profile = jnp.sum(jnp.abs(jnp.fft.ifft2(probe_waves(probe))) ** 2, axis=0)
    return 480.0 * jnp.sum(profile * scene()[1])


def shifted(probe, path, by):
    """The functional with one leaf moved."""
    return functional(replace(probe, {path: leaves(probe)[path] + by}))[0]


def test_gradients_in_the_widths_are_slopes():
    probe, _ = scene()
    found = leaves(functional(probe)[1])
    for path in [p for p in leaves(probe) if p.startswith("coherence")] + ["centre", "semiangle", "aberrations.C10"]:
        leaf = leaves(probe)[path]
        direction = jnp.asarray(np.linspace(0.6, 1.0, leaf.size)).reshape(leaf.shape) * float(jnp.abs(leaf).max())
        near, far = (
            (shifted(probe, path, s * direction) - shifted(probe, path, -s * direction)) / (2 * s) for s in (1e-4, 2e-4)
        )
        expected = float((4 * near - far) / 3)
        assert abs(expected) > 1e-4, path
        assert abs(float(jnp.sum(found[path] * direction)) - expected) < 1e-6 * abs(expected) + 1e-9, path


def test_slopes_stay_finite_where_a_width_is_zero():
    probe, _ = scene()
    zero = jax.tree.map(jnp.zeros_like, probe.coherence)
    value, found = functional(probe.replace(coherence=zero))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    # An even function of each width: no slope at zero.
    assert all(float(jnp.abs(leaf).max()) < 1e-12 for leaf in jax.tree.leaves(found.coherence))
    coherent, _ = functional(probe.replace(coherence=None))
    assert abs(float(value - coherent)) < 1e-10


def test_source_and_detector_centre_do_not_mix():
    # A displaced source only displaces: without specimen the pattern is the coherent one, wherever the disk lies.
    probe, _ = scene()
    patterns = [(np.abs(jax.jit(probe_waves)(p)) ** 2).sum(axis=0) for p in (probe, probe.replace(coherence=None))]
    np.testing.assert_allclose(*patterns, atol=1e-15)
