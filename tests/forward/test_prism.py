"""The scattering matrix against multislice: the same physics summed in another order must give the same patterns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.core.executor import Execution
from stemjax.core.grid import Grid
from stemjax.detect.annular import make_annular_detector
from stemjax.detect.pixelated import PixelatedDetector
from stemjax.forward.beams import aperture_beams, reach_of
from stemjax.forward.diffraction import Diffraction
from stemjax.forward.experiment import make_experiment
from stemjax.forward.image import ScannedImage
from stemjax.forward.prism import Prism, choose_form
from stemjax.optics.aberrations import make_aberrations
from stemjax.optics.coherence import make_coherence
from stemjax.optics.probe import make_probe
from stemjax.optics.scan import make_scan
from stemjax.specimen.objects import make_object, make_potential_object
from stemjax.specimen.repeated import make_repeated

SAMPLING = (0.3, 0.25)
SHAPE = (24, 32)
TILE = (12, 16)
SLICES = 4
EXACT, SINGLE = 1e-10, 1e-5


def values(shape=SHAPE, slices=SLICES, seed=0):
    """Projected potentials as strong and as spotty as those of atoms [V Å]."""
    return np.random.default_rng(seed).gamma(0.3, 60.0, size=(slices, *shape))


def experiment(specimen, window=SHAPE, probes=5, tilt=(4.0, -3.0), **optics):
    lens = make_aberrations(C10=-40.0, C12=15.0, phi12=0.4, C30=1e4)
    chosen = {"energy": 80e3, "semiangle": 20.0, "aberrations": lens, "centre": (1.0, -2.0)} | optics
    positions = np.random.default_rng(1).uniform(0.0, 6.0, size=(probes, 2))
    probe = make_probe(Grid(window, SAMPLING), **chosen)
    return make_experiment(probe, specimen, make_scan(positions), tilt=tilt, dose=100.0)


def patterns(simulator, experiment):
    """A whole simulation as one compiled program; the experiment is closed over, its aperture known."""
    return np.asarray(jax.jit(lambda: simulator(experiment))())


def error(found, expected) -> float:
    return float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())


class Shaken:
    """Three arrangements of a specimen, each with an own potential."""

    configurations = 3
    periodic = True
    grid, origin, thickness = Grid(SHAPE, SAMPLING), jnp.zeros(2), jnp.full(1, 2.0)

    def configuration(self, index):
        return make_potential_object(jnp.asarray(values()) * (1.0 + 0.3 * index), 2.0, self.grid)

    def transmission(self, interaction_parameter):
        return self.configuration(0).transmission(interaction_parameter)


def phase_and_absorption():
    damping = -0.3 * np.random.default_rng(3).random((SLICES, *SHAPE))
    thickness = np.array([1.0, 2.0, 3.0, 1.5])
    return make_object(
        Grid(SHAPE, SAMPLING), phase=0.02 * values(), log_amplitude=damping, thickness=thickness, origin=(-2.0, -1.0)
    )


CASES = {
    "potential, tilt, aberrations, disk off the centre": (
        lambda: experiment(make_potential_object(values(), 2.0, Grid(SHAPE, SAMPLING), origin=(0.3, -0.2))),
        {"limit_transmission": True},
    ),
    "absorption, unequal slices, does not repeat": (lambda: experiment(phase_and_absorption()), {"limit": None}),
    "modes, partial coherence and a hard aperture, exact propagator": (
        lambda: experiment(
            make_potential_object(values(), 2.0, Grid(SHAPE, SAMPLING)),
            modes=2,
            soft=False,
            coherence=make_coherence(80e3, 20.0, source_size=0.2, chromatic=1e7, energy_spread=0.3, error=0.1),
        ),
        {"exact": True, "taper": 0.1},
    ),
    "frozen phonons": (lambda: experiment(Shaken()), {"detector": PixelatedDetector((10, 14), (2, 2))}),
}


FIRST = "potential, tilt, aberrations, disk off the centre"


@functools.cache
def case(name):
    """An experiment, and its patterns by multislice and by PRISM."""
    make, options = CASES[name]
    made = make()
    return made, patterns(Diffraction(**options), made), patterns(Prism(**options), made)


@pytest.mark.parametrize("name", CASES)
def test_factor_one_is_multislice(name):
    _, expected, found = case(name)
    assert np.ptp(expected) > 0.1 * expected.max()
    assert error(found, expected) < EXACT


def test_single_precision():
    make, options = CASES[FIRST]
    _, expected, _ = case(FIRST)
    with jax.enable_x64(False):
        found = patterns(Prism(**options), make())
    assert found.dtype == np.float32
    assert error(found, expected) < SINGLE


@functools.cache
def crystal(repeats=(2, 3), **options):
    """A tile repeated, as a repeated object and spelt out, with the same probe and scan."""
    tile = make_potential_object(values(TILE), 2.0, Grid(TILE, SAMPLING), origin=(0.4, 0.1))
    shape = tuple(n * r for n, r in zip(TILE, repeats, strict=True))
    whole = make_potential_object(np.tile(values(TILE), (1, *repeats)), 2.0, Grid(shape, SAMPLING), origin=(0.4, 0.1))
    return experiment(make_repeated(tile, repeats), shape, **options), experiment(whole, shape, **options)


@functools.cache
def crystal_patterns(execution=Execution(), limited=True):
    """Patterns of the tile that repeats."""
    return patterns(Prism(limit_transmission=limited, execution=execution), crystal()[0])


def test_a_repeated_tile_is_the_crystal():
    expected = patterns(Diffraction(limit_transmission=True), crystal()[1])
    assert error(crystal_patterns(), expected) < EXACT
    with jax.enable_x64(False):
        assert error(patterns(Prism(limit_transmission=True), crystal.__wrapped__()[0]), expected) < SINGLE


@pytest.mark.slow
def test_a_repeated_tile_without_limits():
    for options in ({"limit": None}, {"limit_transmission": False, "taper": 0.2}):
        tiled, whole = crystal(modes=2)
        assert error(patterns(Prism(**options), tiled), patterns(Diffraction(**options), whole)) < EXACT


@pytest.mark.parametrize(("execution", "rows"), [(Execution(2, 1), 4), (Execution(1, 64), 256)])
def test_devices_and_chunks_change_nothing(execution, rows):
    made, alone, _ = case(FIRST)
    simulator = Prism(execution=execution, rows=rows, limit_transmission=True)
    assert error(patterns(simulator, made), alone) < EXACT


def test_devices_share_the_groups_of_a_tile():
    assert error(crystal_patterns(Execution(2)), crystal_patterns()) < EXACT


def test_images_by_either_way():
    made = case(FIRST)[0]
    made = made.replace(detectors={"ring": make_annular_detector(25.0, 50.0), "disk": make_annular_detector(0.0, 15.0)})
    by_multislice = jax.jit(lambda: ScannedImage(Diffraction())(made))()
    by_prism = jax.jit(lambda: ScannedImage(Prism())(made, jnp.array([3, 0])))()
    for name, image in by_multislice.items():
        assert error(by_prism[name], np.asarray(image)[[3, 0]]) < EXACT


def test_interpolation_is_exact_where_the_specimen_repeats_with_the_window():
    # Each beam then sees one window only, and the crop is a whole period.
    tiled, whole = crystal((2, 3))
    one = experiment(tiled.specimen.tile, TILE)
    cropped = one.replace(specimen=whole.specimen)
    expected = patterns(Diffraction(), one)
    assert error(patterns(Prism(interpolation=(2, 3), execution=Execution(2)), cropped), expected) < EXACT


def test_gradients_in_every_leaf_are_those_of_multislice():
    made = case(FIRST)[0]
    weight = jnp.asarray(np.random.default_rng(5).random((5, *SHAPE)))

    def slope(simulator):
        return jax.jit(jax.grad(lambda e: jnp.sum(weight * jnp.sqrt(simulator(e) + 1.0))))(made)

    expected = slope(Diffraction())
    found = slope(Prism(reach=reach_of(made.probe), execution=Execution(2)))
    named = jax.tree_util.tree_leaves_with_path(expected)
    for (path, leaf), mine in zip(named, jax.tree.leaves(found), strict=True):
        scale = max(float(jnp.abs(leaf).max()), 1e-9)
        assert float(np.abs(np.asarray(mine) - np.asarray(leaf)).max()) < 1e-8 * scale, jax.tree_util.keystr(path)


@pytest.mark.slow
def test_gradient_through_a_tile():
    tiled, whole = crystal()
    reach = reach_of(tiled.probe)

    def slope(simulator, made):
        return jax.jit(jax.grad(lambda e: jnp.sum(jnp.sqrt(simulator(e) + 1.0))))(made)

    mine, expected = slope(Prism(reach=reach), tiled), slope(Diffraction(), whole)
    folded = expected.specimen.values.reshape(SLICES, 2, TILE[0], 3, TILE[1]).sum(axis=(1, 3))
    assert error(mine.specimen.tile.values, np.asarray(folded)) < 1e-8
    assert error(mine.specimen.tile.thickness, np.asarray(expected.specimen.thickness)) < 1e-8
    assert error(mine.tilt, np.asarray(expected.tilt)) < 1e-8


def gradient_memory(probes: int, slices: int) -> int:
    """Temporary bytes of the compiled gradient in everything."""
    specimen = make_potential_object(values(SHAPE, slices), 2.0, Grid(SHAPE, SAMPLING))
    made = experiment(specimen, probes=probes)
    simulator = Prism(reach=reach_of(made.probe), rows=8)

    def loss(e):
        return jnp.sum(simulator.collect(e, lambda _, intensity: jnp.sum(jnp.sqrt(intensity + 1e-3)), ()))

    return jax.jit(jax.grad(loss)).lower(made).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.slow
def test_memory_of_the_gradient_grows_neither_with_probes_nor_with_beams_times_slices():
    wave = 16 * SHAPE[0] * SHAPE[1]
    # A probe more costs its place and its result, not a wave; a slice more some waves of one beam, not those of all
    # fifty beams.
    assert gradient_memory(64, 24) - gradient_memory(16, 4) < 48 * 100 + 20 * 10 * wave


def test_the_aperture_must_be_known():
    made = case(FIRST)[0]
    with pytest.raises(InputError, match=r"Prism\(\)\.fitted"):
        jax.jit(lambda e: Prism()(e))(made)
    with pytest.raises(InputError, match=r"reach of 3 mrad is too small for this probe, whose beams go to"):
        Prism(reach=3.0)(made)
    # Phases may be traced: they move no beam.
    lens = made.probe.aberrations
    slope = jax.jit(
        jax.grad(lambda c: Prism()(made.replace(probe=made.probe.replace(aberrations=lens.replace(C10=c))))[0, 0, 0])
    )
    assert np.isfinite(float(slope(lens.C10)))


def test_windows_that_do_not_fit_are_refused_with_what_would():
    small = experiment(case(FIRST)[0].specimen, TILE)
    with pytest.raises(InputError, match=r"use a window of \(24, 32\) pixels \(exact\), or interpolation=\(2, 2\)"):
        Prism()(small)
    tiled, _ = crystal()
    with pytest.raises(
        InputError,
        match=r"window of \(24, 30\) pixels is not a whole number of tiles of \(12, 16\); use a window of \(24, 32\)",
    ):
        Prism()(experiment(tiled.specimen, (24, 30)))


SMALL = (1.0, 1.5, 2.5, 3.0)
"""Bounds (y0, x0, y1, x1) of a scan over a part of the specimen [Å]."""


def part_of_the_specimen(shape=(40, 48)):
    made = experiment(make_potential_object(values(shape), 2.0, Grid(shape, SAMPLING)), shape, semiangle=25.0)
    corners = np.array([[SMALL[0], SMALL[1]], [SMALL[2], SMALL[3]], [1.7, 2.9], [SMALL[2], SMALL[1]]])
    return made.replace(scan=make_scan(corners))


def test_a_part_of_the_specimen_needs_fewer_waves_and_loses_nothing():
    made = part_of_the_specimen()
    simulator = Prism(execution=Execution(2)).restricted(made)
    form = choose_form(simulator, made)
    assert form.sent < 0.75 * len(aperture_beams(made.probe))
    expected = patterns(Diffraction(), made)
    assert error(patterns(simulator, made), expected) < EXACT
    with jax.enable_x64(False):
        single = part_of_the_specimen()
        assert choose_form(simulator, single).sent < 0.75 * form.sent
        assert error(patterns(simulator, single), expected) < SINGLE


def test_probes_outside_their_region_are_refused():
    made = part_of_the_specimen()
    with pytest.raises(InputError, match=r"1 of 4 probes lie outside the region .* use region=\(1, 1.5, 2.5, 3\)"):
        choose_form(Prism(region=(1.0, 1.5, 2.5, 2.95)).fitted(made), made)


@pytest.mark.slow
def test_gradients_through_a_region():
    made = part_of_the_specimen()

    def slope(simulator):
        return jax.jit(jax.grad(lambda e: jnp.sum(jnp.sqrt(simulator(e) + 1.0))))(made)

    found, expected = slope(Prism().restricted(made)), slope(Diffraction())
    for mine, leaf in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert float(jnp.abs(mine - leaf).max()) < 1e-7 * max(float(jnp.abs(leaf).max()), 1e-9)


@pytest.mark.slow
def test_error_of_interpolation_grows_with_the_factor():
    shape, detector = (96, 96), make_annular_detector(30.0, 60.0)
    specimen = make_potential_object(values(shape, 8), 3.0, Grid(shape, SAMPLING))
    found = {}
    for factor in (1, 2, 4):
        made = experiment(specimen, (96 // factor, 96 // factor), probes=8, centre=(0.0, 0.0))
        made = made.replace(detectors={"ring": detector})
        found[factor] = np.asarray(ScannedImage(Prism(interpolation=(factor, factor)))(made)["ring"])
    errors = [error(found[f], found[1]) for f in (2, 4)]
    assert errors[0] < errors[1] < 0.5
    assert errors[0] < 0.1
