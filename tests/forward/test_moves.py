"""Tilt and descan of single patterns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.core.grid import make_grid
from stemjax.forward.diffraction import Diffraction
from stemjax.forward.experiment import make_experiment
from stemjax.forward.prism import Prism
from stemjax.optics.probe import make_probe
from stemjax.optics.scan import make_raster
from stemjax.specimen.objects import make_object

GRID, WHOLE = make_grid((48, 48), (0.2, 0.2)), make_grid((64, 64), (0.2, 0.2))
PROBE = make_probe(GRID, energy=100e3, semiangle=18.0)
RASTER = make_raster((2, 2), 1.1)
SCAN = RASTER.replace(positions=RASTER.positions + 5.8)
PIXEL = np.array(GRID.angular_sampling(0.0370143))  # λ at 100 keV [Å]
THIN, THICK = (
    make_object(WHOLE, phase=0.4 * np.random.default_rng(7).random((n, 64, 64)), thickness=25.0) for n in (1, 3)
)
PLAIN = Diffraction(limit=None)


def moved(specimen=THICK, tilt=(0.0, 0.0), descan=None, **how):
    """Patterns with tilt and descan."""
    scan = SCAN if descan is None else SCAN.replace(descan=jnp.asarray(descan))
    return np.asarray(Diffraction(limit=None, **how)(make_experiment(PROBE, specimen, scan, dose=1e4, tilt=tilt)))


@pytest.mark.parametrize("steps", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_the_same_tilt_for_each_is_one_tilt_for_all(steps):
    tilt = (3.0, -5.0)
    np.testing.assert_allclose(moved(tilt=np.tile(tilt, (4, 1)), steps=steps), moved(tilt=tilt, steps=steps), rtol=1e-8)


def test_each_pattern_has_its_own_tilt():
    tilts = np.array([[3.0, -5.0], [0.0, 0.0], [1.0, 2.0], [-4.0, 0.5]])
    together = moved(tilt=tilts)
    for number, tilt in enumerate(tilts):
        np.testing.assert_allclose(together[number], moved(tilt=tuple(tilt))[number], rtol=1e-8)


@pytest.mark.parametrize("specimen", [THIN, pytest.param(THICK, marks=pytest.mark.slow)])
def test_descan_by_whole_pixels_moves_the_pattern(specimen):
    pixels = np.array([[2, 0], [0, -3], [1, 1], [0, 0]])
    patterns, still = moved(specimen, descan=pixels * PIXEL), moved(specimen)
    for number, (y, x) in enumerate(pixels):
        np.testing.assert_allclose(patterns[number], np.roll(still[number], (y, x), axis=(0, 1)), atol=2e-6 * 1e4)


def test_descan_by_parts_of_a_pixel_moves_the_centre_of_mass():
    frequency = np.fft.fftfreq(48, 1.0 / 48)
    shift, (y, x) = np.array([0.3, -0.4]), np.indices((64, 64)) * 0.2
    # Smooth, so that nothing is scattered to the edge of the detector, where it would come in again on the other side.
    smooth = make_object(WHOLE, phase=0.5 * (np.cos(0.9 * y) * np.sin(0.7 * x + 0.3))[None])
    patterns, still = moved(smooth, descan=np.tile(shift * PIXEL, (4, 1))), moved(smooth)
    for axis, moves in enumerate(shift):
        along = [(p.sum(axis=(2, 1)[axis]) * frequency).sum(axis=1) / 1e4 for p in (patterns, still)]
        np.testing.assert_allclose(along[0] - along[1], moves, atol=0.01)


def test_gradients_of_tilt_and_descan_are_finite_differences():
    weight = np.random.default_rng(1).random((4, 48, 48))

    def total(tilt, descan):
        experiment = make_experiment(PROBE, THICK, SCAN, dose=1e2)
        return (weight * PLAIN(experiment.replace(tilt=tilt, scan=SCAN.replace(descan=descan)))).sum()

    at = [jnp.asarray(np.random.default_rng(n).standard_normal((4, 2))) for n in (2, 3)]
    along = [np.random.default_rng(n).standard_normal((4, 2)) for n in (4, 5)]
    slopes = jax.grad(total, argnums=(0, 1))(*at)
    for which in (0, 1):
        step = [1e-4 * a if i == which else 0.0 for i, a in enumerate(along)]
        finite = (total(at[0] + step[0], at[1] + step[1]) - total(at[0] - step[0], at[1] - step[1])) / 2e-4
        assert float((slopes[which] * along[which]).sum()) == pytest.approx(float(finite), rel=1e-5)


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match=r"tilt of shape \(3, 2\).*\[4 2\]"):
        moved(tilt=np.zeros((3, 2)))
    with pytest.raises(InputError, match=r"descan of shape \(2,\).*\[4 2\]"):
        moved(descan=np.zeros(2))
    small = make_object(GRID, phase=np.zeros((3, 48, 48)), thickness=25.0, periodic=True)
    bent = make_experiment(PROBE, small, SCAN, tilt=np.zeros((4, 2)))
    with pytest.raises(InputError, match="PRISM takes one tilt"):
        Prism(limit=None)(bent)
