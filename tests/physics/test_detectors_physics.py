"""What detectors see of thin specimens: Ehrenfest's theorem, integrated centre of mass, DPC of a long field."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stemjax as sj
from stemjax.core.grid import Grid
from stemjax.detect.annular import check_detectors, make_annular_detector
from stemjax.detect.integration import curl, integrated_phase, integrated_phase_periodic, scan_frame
from stemjax.detect.moments import deflection, make_moment_detector
from stemjax.detect.response_map import make_measured_detector
from stemjax.detect.segmented import make_quadrant_detector, make_segmented_detector, segment_deflection
from stemjax.optics.electron import wavelength

ENERGY, SEMIANGLE = 80e3, 21.0
GRID = Grid((48, 60), (0.25, 0.2))
LENGTH = wavelength(ENERGY)
# Frequencies (y, x) in whole periods, amplitudes [rad] and phases of a specimen that is anything but weak.
WAVES = [((1, 0), 0.9, 0.3), ((2, -3), 0.5, 1.1), ((0, 2), -0.7, 0.0), ((-3, -1), 0.2, 2.0)]


def specimen(at):
    """Phase and its gradient at points [... 2], in closed form."""
    phase, gradient = np.zeros(at.shape[:-1]), np.zeros(at.shape)
    for orders, height, start in WAVES:
        q = np.array(orders) / np.array(GRID.extent)
        angle = 2 * np.pi * at @ q + start
        phase += height * np.cos(angle)
        gradient += -height * np.sin(angle)[..., None] * 2 * np.pi * q
    return phase, gradient


def pixels():
    return np.stack(np.broadcast_arrays(*GRID.coordinates()), axis=-1)


def probe(**coefficients):
    lens = sj.make_aberrations(C10=60.0, C12=30.0, phi12=0.4, **coefficients)
    return sj.make_probe(GRID, energy=ENERGY, semiangle=SEMIANGLE, aberrations=lens)


def patterns_of(scan):
    thing = sj.make_object(GRID, phase=specimen(pixels())[0][None], periodic=True)
    run = sj.Diffraction(limit=None)
    return np.asarray(jax.jit(lambda e: run(e))(sj.make_experiment(probe(), thing, scan)))


def intensity_at(position):
    """Probe intensity in real space, of one electron, shifted to a position by a phase ramp."""
    ky, kx = GRID.frequencies()
    waves = np.asarray(sj.probe_waves(probe()))[0] * np.exp(-2j * np.pi * (ky * position[0] + kx * position[1]))
    return np.abs(np.fft.ifft2(waves, norm="ortho")) ** 2


def blurred_phase(positions):
    """∫ |ψ(r − r_p)|² φ(r) dr at positions [pattern 2]: every wave times the transform of the probe's intensity."""
    at, intensity = pixels(), intensity_at((0.0, 0.0))
    total = np.zeros(len(positions))
    for orders, height, start in WAVES:
        q = np.array(orders) / np.array(GRID.extent)
        transfer = (intensity * np.exp(2j * np.pi * at @ q)).sum()
        total += height * np.real(transfer * np.exp(1j * (2 * np.pi * positions @ q + start)))
    return total


def field_of(scan):
    """Deflection by the detector of moments [2 pattern] [mrad]."""
    patterns = patterns_of(scan)
    response = np.asarray(make_moment_detector().response(GRID, ENERGY))
    moments = np.einsum("cyx,nyx->cn", response, patterns)
    return deflection(jnp.asarray(moments), jnp.asarray(patterns.sum(axis=(1, 2))))


def test_centre_of_mass_is_the_gradient_that_the_probe_sees():
    # Ehrenfest: <k> = 1/2π ∫ |ψ|² ∇φ for a thin specimen of any strength.
    scan = sj.make_scan(np.random.default_rng(0).uniform(0, 12, (12, 2)))
    gradient = specimen(pixels())[1]
    expected = [np.einsum("yx,yxc->c", intensity_at(p), gradient) for p in np.asarray(scan.positions)]
    expected = 1e3 * LENGTH / (2 * np.pi) * np.transpose(expected)
    np.testing.assert_allclose(field_of(scan), expected, atol=1e-3 * np.abs(expected).max())
    assert np.abs(expected).max() > 2.0  # mrad: something is deflected


def test_integrated_centre_of_mass_is_the_phase_seen_through_the_probe():
    # Lazić, Bosch, Lazar, Ultramicroscopy 160 (2016) 265: iCoM = |ψ|² ⋆ φ, on a raster over one period.
    shape, step = (24, 30), (0.5, 0.4)
    scan = sj.make_raster(shape, step)
    field = field_of(scan).reshape(2, *shape)
    truth = blurred_phase(np.asarray(scan.positions)).reshape(shape)
    found = np.asarray(integrated_phase_periodic(field, step, ENERGY))
    np.testing.assert_allclose(found, truth - truth.mean(), atol=1e-3 * np.ptp(truth))
    assert np.abs(np.asarray(curl(field, step, periodic=True))).max() < 1e-3 * np.abs(np.asarray(field)).max()


def test_a_rotated_scan_that_ends_gives_the_same_phase():
    shape, step, rotation = (16, 20), (0.3, 0.25), 35.0
    scan = sj.make_raster(shape, step, rotation=rotation, origin=(2.0, 1.0))
    field = scan_frame(field_of(scan), rotation).reshape(2, *shape)
    truth = blurred_phase(np.asarray(scan.positions)).reshape(shape)
    found = np.asarray(integrated_phase(field, step, ENERGY))
    np.testing.assert_allclose(found, truth - truth.mean(), atol=1e-3 * np.ptp(truth))
    # Turned the wrong way, it is no gradient of anything.
    wrong = scan_frame(field, -2 * rotation)
    assert np.abs(np.asarray(curl(wrong, step))).max() > 10 * np.abs(np.asarray(curl(field, step))).max()


def test_quadrants_measure_a_long_field():
    # A phase ramp of one period across the cell moves the whole disk by λ/L.
    grid = Grid((128, 128), (0.3, 0.3))
    ramp = 2 * np.pi * np.arange(128)[:, None] / 128 * np.ones((1, 128))
    thing = sj.make_object(grid, phase=ramp[None], periodic=True)
    lens = sj.make_probe(grid, energy=ENERGY, semiangle=SEMIANGLE)
    scan = sj.make_raster((1, 1), 1.0)
    detector = make_quadrant_detector(8.0, 40.0, rotation=20.0)

    @jax.jit
    def run(experiment):
        pattern = sj.Diffraction(limit=None)(experiment)[0]
        signals = jnp.einsum("cyx,yx->c", detector.response(grid, ENERGY), pattern)
        return segment_deflection(signals, detector, SEMIANGLE)

    found = run(sj.make_experiment(lens, thing, scan))
    np.testing.assert_allclose(found, [1e3 * LENGTH / grid.extent[0], 0.0], atol=0.03)


@pytest.mark.parametrize("limit", [2 / 3, None])
def test_every_detector_beyond_the_grid_is_refused_by_name(limit):
    carried = 1e3 * LENGTH * GRID.nyquist * (1.0 if limit is None else limit)
    y, x = np.mgrid[-50:51, -50:51]
    ring = (np.hypot(y, x) > 10) & (np.hypot(y, x) <= 50)
    for outer, fits in ((0.98 * carried, True), (1.02 * carried, False)):
        for detector in (
            make_annular_detector(5.0, outer),
            make_segmented_detector([0.0, 5.0, outer]),
            make_moment_detector(outer),
            make_measured_detector(ring, outer / 50),
        ):
            if fits:
                check_detectors({"mine": detector}, GRID, ENERGY, limit)
            else:
                with pytest.raises(sj.InputError, match=r"mine reaches .* mrad, but a sampling of"):
                    check_detectors({"mine": detector}, GRID, ENERGY, limit)
    check_detectors({"all": make_moment_detector()}, GRID, ENERGY, limit)
