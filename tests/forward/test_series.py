"""Series by depth and by focus are the separate runs, and a focal series finds the depth of an atom."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.core.executor import Execution
from stemjax.core.grid import Grid
from stemjax.detect.annular import make_annular_detector
from stemjax.forward.diffraction import Diffraction
from stemjax.forward.experiment import make_experiment
from stemjax.forward.image import ScannedImage, Signals
from stemjax.forward.prism import Prism
from stemjax.forward.series import focal_series, thickness_series
from stemjax.optics.aberrations import make_aberrations
from stemjax.optics.probe import make_probe
from stemjax.optics.scan import make_scan
from stemjax.specimen.objects import make_potential_object

GRID, SLICES, STEP = Grid((24, 20), (0.3, 0.3)), 6, 3.0
DEFOCI = (0.0, 40.0, 90.0)


@functools.cache
def scene(slices=SLICES, C10=-20.0):
    values = np.random.default_rng(0).gamma(0.3, 60.0, size=(SLICES, *GRID.shape))[:slices]
    lens = make_aberrations(C10=C10, C30=1e4)
    probe = make_probe(GRID, energy=80e3, semiangle=20.0, aberrations=lens, modes=2)
    scan = make_scan(np.random.default_rng(1).uniform(0.0, 6.0, size=(3, 2)))
    detectors = {"ring": make_annular_detector(25.0, 50.0)}
    return make_experiment(
        probe, make_potential_object(values, STEP, GRID), scan, detectors=detectors, tilt=(2.0, 1.0), dose=10.0
    )


@pytest.mark.parametrize("propagation", [Diffraction(execution=Execution(2)), Prism()])
def test_depths_are_thinner_specimens(propagation):
    thick = scene()
    series = jax.jit(lambda: thickness_series(Signals(propagation), thick, (2, 5, 6)))()
    assert series["patterns"].shape == (3, 3, *GRID.shape)
    for depth, patterns, ring in zip((2, 5), series["patterns"], series["ring"], strict=False):
        thin = jax.jit(lambda e: Signals(Diffraction())(e))(scene(depth))
        assert np.allclose(patterns, thin["patterns"], atol=1e-12)
        assert np.allclose(ring, thin["ring"], atol=1e-12)


@pytest.mark.parametrize("propagation", [Diffraction(), Prism(execution=Execution(2))])
def test_foci_are_separate_runs(propagation):
    index, made = jnp.array([2, 0]), scene()
    series = jax.jit(lambda: focal_series(ScannedImage(propagation), made, DEFOCI, index))()["ring"]
    run = jax.jit(lambda e: ScannedImage(Diffraction())(e, index))
    for defocus, image in zip(DEFOCI, series, strict=True):
        assert np.allclose(image, run(scene(C10=-defocus))["ring"], atol=1e-12)
    assert np.ptp(np.asarray(series), axis=0).min() > 0.05 * float(series.max())


def test_a_focal_series_finds_the_depth_of_an_atom():
    # One strong atom in empty space, seen by a lens of 60 mrad: the ring is brightest where the crossover meets it.
    grid, below, step = Grid((64, 64), (0.1, 0.1)), 6, 5.0
    y, x = grid.coordinates()
    values = np.zeros((10, *grid.shape))
    values[below] = 2000.0 * np.exp(-((y - 3.2) ** 2 + (x - 3.2) ** 2) / (2 * 0.1**2))
    experiment = make_experiment(
        make_probe(grid, energy=200e3, semiangle=60.0),
        make_potential_object(values, step, grid),
        make_scan([[3.2, 3.2]]),
        detectors={"ring": make_annular_detector(65.0, 80.0)},
    )
    defoci = np.arange(0.0, 50.0, 2.5)
    ring = np.asarray(jax.jit(lambda: focal_series(ScannedImage(Prism()), experiment, defoci))()["ring"])[:, 0]
    assert defoci[ring.argmax()] == below * step
    # Twice the depth of focus away most of it is gone.
    assert ring[defoci == below * step - 15.0] < 0.5 * ring.max()


def test_what_makes_no_series_is_said():
    with pytest.raises(InputError, match=r"depths \(3, 2\) must rise"):
        thickness_series(Diffraction(), scene(), (3, 2))
    with pytest.raises(InputError, match="a depth of 7 slices in a specimen of 6"):
        thickness_series(Diffraction(), scene(), (2, 7))
    with pytest.raises(InputError, match="must be finite"):
        focal_series(Diffraction(), scene(), [np.nan])
    with pytest.raises(InputError, match="float cannot make a series"):
        focal_series(1.0, scene(), [0.0])
