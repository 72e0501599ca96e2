"""Shaped beams against closed forms: vortex, Bessel, Gaussian, rings with their detector, arrays; and the window."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special

from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.core.paths import leaves, replace
from stemjax.detect.annular import make_annular_detector
from stemjax.detect.midi import make_matched_rings
from stemjax.forward.diffraction import Diffraction
from stemjax.forward.experiment import make_experiment
from stemjax.forward.image import ScannedImage
from stemjax.optics import plates
from stemjax.optics.aberrations import make_aberrations
from stemjax.optics.coherence import FocalEnvelope, make_coherence
from stemjax.optics.probe import make_probe, probe_waves
from stemjax.optics.scan import make_scan
from stemjax.optics.window import check_window
from stemjax.specimen.objects import make_object
from tests.physics import closed_forms as forms

ENERGY, SEMIANGLE = 200e3, 20.0
LENGTH = forms.wavelength(ENERGY)
RIM = 1e-3 * SEMIANGLE / LENGTH
GRID = Grid((240, 256), (0.25, 0.25))


def waves_with(plate, grid=GRID, *, soft=True, **optics):
    """The wave of a probe behind a plate, reciprocal space [ny nx]."""
    lens = make_aberrations(optics)
    made = make_probe(grid, energy=ENERGY, semiangle=SEMIANGLE, aberrations=lens, plate=plate, soft=soft)
    return np.asarray(jax.jit(probe_waves)(made))[0]


def at(waves, y, x, grid=GRID):
    """The wave at any point of real space, by its Fourier sum; normalised to ∫|ψ|² = 1 [1/Å]."""
    ky, kx = grid.frequencies()
    rows = np.exp(2j * np.pi * np.ravel(y)[:, None] * ky[:, 0])
    columns = np.exp(2j * np.pi * np.ravel(x)[:, None] * kx[0])
    return np.einsum("py,px,yx->p", rows, columns, waves, optimize=True) / np.sqrt(np.prod(grid.extent))


@pytest.mark.parametrize("charge", [1, -1, 3, 0])
def test_vortex_carries_its_charge_as_angular_momentum(charge):
    waves = waves_with(plates.make_vortex_plate(charge))
    azimuth = 2 * np.pi * np.arange(32) / 32
    orders = np.arange(-16, 16)
    for radius in (0.5, 1.0, 1.6):
        ring = at(waves, radius * np.sin(azimuth), radius * np.cos(azimuth))
        parts = np.abs(np.exp(-1j * np.outer(orders, azimuth)) @ ring) ** 2
        assert abs((orders * parts).sum() / parts.sum() - charge) < 1e-3
        # ψ(r) = i^m e^{imφ} 2π ∫ J_m(2πkr) k dk / √(π k₀²); the ramp of the edge changes the norm by 1/6 pixel of 50.
        radial = integrate.quad(lambda k, r=radius: special.jv(charge, 2 * np.pi * k * r) * k, 0, RIM)[0]
        expected = 2 * np.sqrt(np.pi) / RIM * 1j**charge * radial * np.exp(1j * charge * azimuth)
        assert np.abs(ring - expected).max() < 0.01 * 2 * np.sqrt(np.pi) * RIM / 2
    core = np.abs(at(waves, [0.0], [0.0]))[0]
    assert core < 1e-10 if charge else core > 1.3


def test_hollow_cone_is_a_bessel_beam():
    inner = 19.0
    ring = waves_with(plates.make_hollow_cone_plate(inner))
    middle = 0.5 * (1 + inner / SEMIANGLE) * RIM
    radius = np.linspace(0.0, 2.0, 801)
    profile = at(ring, 0 * radius, radius).real
    zero = np.interp(0.0, -profile[:400], radius[:400]) if profile[0] > 0 else np.nan
    assert zero == pytest.approx(2.4048 / (2 * np.pi * middle), rel=5e-3)
    np.testing.assert_allclose(profile / profile[0], special.j0(2 * np.pi * middle * radius), atol=0.02)


def test_hollow_cone_stretches_the_depth_of_field():
    # On the axis ψ(z) = ∫ exp(−iπλzk²) dk², over k² from inner to outer: a sinc, with its first zero at 2/λ(k₂² − k₁²).
    for inner in (0.0, 15.0):
        plate = plates.make_hollow_cone_plate(inner) if inner else None
        area = RIM**2 * (1 - (inner / SEMIANGLE) ** 2)
        waves = waves_with(plate)
        ky, kx = GRID.frequencies()
        for part in (0.3, 0.6, 1.0):
            z = part * 2 / (LENGTH * area)
            moved = abs((waves * np.exp(-1j * np.pi * LENGTH * z * (ky**2 + kx**2))).sum() / waves.sum()) ** 2
            assert moved == pytest.approx(np.sinc(part) ** 2, abs=0.02)
            through_lens = abs(waves_with(plate, C10=z).sum() / waves.sum()) ** 2
            assert through_lens == pytest.approx(moved, abs=1e-9)


def test_gaussian_plate_makes_a_gaussian_beam():
    width = SEMIANGLE / 4.5
    waist = LENGTH / (np.pi * np.sqrt(2) * 1e-3 * width)  # w₀ = λ/πθ, θ = √2 w
    y, x = ((c + e / 2) % e - e / 2 for c, e in zip(GRID.coordinates(), GRID.extent, strict=True))
    for distance in (0.0, 150.0, -250.0):
        waves = waves_with(plates.make_gaussian_plate(width), C10=distance)
        found = np.fft.ifft2(waves) * np.sqrt(np.prod(GRID.shape) / np.prod(GRID.sampling))
        expected = forms.gaussian_wave(y**2 + x**2, distance, waist, LENGTH)
        assert np.abs(found - expected).max() < 2e-4 * np.abs(expected).max()


def test_array_plate_is_the_plate_that_was_sampled(tmp_path):
    # A vortex as a wrapped phase of 0.5 mrad pixels: bilinear in the complex factor, so the wrap does no harm.
    angles = (np.arange(96) - 48) * 0.5
    phase = np.mod(2 * np.arctan2(angles[:, None], angles), 2 * np.pi)
    np.save(tmp_path / "phase.npy", phase)
    np.save(tmp_path / "wave.npy", np.exp(1j * phase))
    expected = waves_with(plates.make_vortex_plate(2))
    for plate in (
        plates.make_array_plate(None, phase, 0.5),
        plates.read_array_plate(tmp_path / "phase.npy", 0.5),
        plates.read_array_plate(tmp_path / "wave.npy", (0.5, 0.5)),
    ):
        found = waves_with(plate)
        overlap = np.vdot(expected, found)
        assert abs(overlap - 1) < 3e-3
        assert overlap != 1.0


def test_array_plate_is_opaque_outside_and_keeps_its_axes():
    amplitude = np.ones((3, 5))
    plate = plates.make_array_plate(amplitude, np.broadcast_to(0.1 * np.arange(3)[:, None], (3, 5)), (4.0, 2.0))
    y, x = jnp.array([[-4.0], [0.0], [2.0], [9.0]]), jnp.array([[-4.0, 0.0, 3.9, 6.1]])
    found = np.asarray(plate.transmission(y, x, jnp.asarray(20.0)))
    np.testing.assert_allclose(np.angle(found[:3, 1]), [0.0, 0.1, 0.15], atol=1e-12)
    np.testing.assert_allclose(np.abs(found[:, 3]), 0.0, atol=1e-12)
    np.testing.assert_allclose(np.abs(found[3]), 0.0, atol=1e-12)


def test_plates_multiply():
    vortex, cone = plates.make_vortex_plate(1), plates.make_hollow_cone_plate(12.0)
    y, x = (jnp.asarray(1e3 * LENGTH * k) for k in GRID.frequencies())
    one, two, both = (
        np.asarray(p.transmission(y, x, jnp.asarray(SEMIANGLE)))
        for p in (vortex, cone, plates.make_product_plate(vortex, cone))
    )
    np.testing.assert_array_equal(both, one * two)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: plates.make_vortex_plate(0.5), "whole number"),
        (lambda path: plates.make_hollow_cone_plate(-1.0), "positive angle"),
        (lambda path: plates.make_gaussian_plate(0.0), "positive width"),
        (lambda path: plates.make_ring_plate(7), "even number"),
        (lambda path: plates.make_ring_plate(8, np.nan), "depth"),
        (lambda path: plates.make_array_plate(None, None, 1.0), "none"),
        (lambda path: plates.make_array_plate(np.ones((4, 4)), np.ones((4, 5)), 1.0), r"\(4, 5\)"),
        (lambda path: plates.make_array_plate(np.full((4, 4), np.nan), None, 1.0), "not finite"),
        (lambda path: plates.make_array_plate(np.ones((4, 4)), None, 0.0), "positive mrad"),
        (lambda path: plates.read_array_plate(path / "missing.npy", 1.0), "no plate in"),
        (lambda path: plates.make_product_plate(), "at least one"),
        (lambda path: make_matched_rings(plates.make_ring_plate(), 0.0), "semi-angle"),
    ],
)
def test_impossible_plates_are_refused(make, message, tmp_path):
    with pytest.raises(InputError, match=message):
        make(tmp_path)


@pytest.mark.parametrize("content", [np.array([{"a": 1}], dtype=object), np.array(["text"]), np.ones(4)])
def test_files_that_are_no_plate_are_refused(content, tmp_path):
    np.save(tmp_path / "it.npy", content, allow_pickle=True)
    with pytest.raises(InputError):
        plates.read_array_plate(tmp_path / "it.npy", 1.0)


# MIDI-STEM: 20 rings of 0 and π/2, and a sinusoidal phase grating.
# The outer rings are 0.5 mrad wide: 120 Å of window give them 2.4 pixels.
MIDI_GRID = Grid((400, 400), (0.3, 0.3))
POINTS = np.array([[0.0, 0.0], [3.0, 0.31]])


@functools.cache
def midi_signals(period: float, phase: float):
    """Matched and bright-field signals on a crest of the grating and beside it, {name: [2]}, MIDI plate or none."""
    x = np.broadcast_to(np.cos(2 * np.pi * MIDI_GRID.coordinates()[1] / period), MIDI_GRID.shape)
    thing = make_object(MIDI_GRID, phase=phase * x[None], periodic=True)
    plate = plates.make_ring_plate()
    detectors = {"midi": make_matched_rings(plate, SEMIANGLE), "bf": make_annular_detector(0.0, 0.6 * SEMIANGLE)}
    found = {}
    for name, inserted in (("midi", plate), ("bf", None)):
        probe = make_probe(MIDI_GRID, energy=ENERGY, semiangle=SEMIANGLE, plate=inserted)
        made = make_experiment(probe, thing, make_scan(POINTS), detectors=detectors)
        found[name] = np.asarray(image(made)[name])
    return found


@jax.jit
def image(made):
    return ScannedImage(Diffraction(limit=None))(made)


def midi_transfer(frequency, width, rings=20, depth=np.pi / 2, points=1000):
    """Signal per phase of a grating: 2 Σ w(k) A A' sin(θ(k) − θ(k − g)) / Σ A², edges with a width in units of the rim.

    From |ψ₀(k) + ½iφ ψ₀(k − g) + ½iφ ψ₀(k + g)|² to first order in φ, on a fine grid, with nothing of the code's own.
    """
    k = np.linspace(-1.0 - width, 1.0 + width, points)

    def beam(shift):
        radius = np.hypot(k[:, None], k - shift)
        edges = [np.clip((radius - np.sqrt(j / rings)) / max(width, 1e-9) + 0.5, 0, 1) for j in range(1, rings)]
        odd = sum(edges[::2]) - sum(edges[1::2])
        return odd, np.clip((1 - radius) / max(width, 1e-9) + 0.5, 0, 1)

    (odd, here), (other, there) = beam(0.0), beam(frequency / RIM)
    sign = 2 * odd - 1
    weight = here * (sign - (sign * here**3).sum() / (here**3).sum())
    return 2 * (weight * here * there * np.sin(depth * (odd - other))).sum() / (here**2).sum()


@pytest.mark.parametrize("period", [30.0, 7.5, 3.0, 2.0, 1.5])
def test_midi_contrast_is_the_transfer_of_its_rings(period):
    phase = 1e-4
    found = midi_signals(period, phase)["midi"] / phase
    pixel = 1 / (120.0 * RIM)
    assert found[0] == pytest.approx(midi_transfer(1 / period, pixel), rel=0.01, abs=0.002)
    # Edges of one pixel cost a tenth of the contrast of a perfect plate, where the outer rings are 2.4 pixels wide.
    assert 0.86 < found[0] / midi_transfer(1 / period, 0.0) < 0.93
    assert found[1] == pytest.approx(found[0] * np.cos(2 * np.pi * POINTS[1, 1] / period), abs=0.01)


def test_midi_is_linear_and_dark_in_vacuum():
    vacuum = midi_signals(3.0, 0.0)["midi"]
    assert np.abs(vacuum).max() < 1e-12
    one, two, minus = (midi_signals(3.0, phase)["midi"][0] for phase in (0.01, 0.02, -0.01))
    assert one > 3e-3
    assert two / one == pytest.approx(2.0, abs=0.02)
    assert minus / one == pytest.approx(-1.0, abs=0.02)


@pytest.mark.parametrize("period", [7.5, 3.0, 2.0])
def test_midi_sees_a_weak_phase_where_bright_field_in_focus_does_not(period):
    phase = 1e-3
    found, vacuum = midi_signals(period, phase), midi_signals(period, 0.0)
    assert abs(found["midi"][0]) > 0.3 * phase
    # Bright field in focus has no linear contrast: what is left is of second order in the phase.
    assert np.abs(found["bf"] - vacuum["bf"]).max() < 2 * phase**2


SMALL = Grid((36, 40), (0.3, 0.27))
# One aperture with everything in it: a plate's slope does not depend on its neighbours, and this compiles once.
STACK = plates.make_product_plate(
    plates.make_hollow_cone_plate(6.3),
    plates.make_gaussian_plate(19.0),
    plates.make_ring_plate(4, 1.3),
    plates.make_array_plate(
        np.random.default_rng(1).uniform(0.5, 1.0, (9, 11)), np.random.default_rng(2).normal(size=(9, 11)), (6.3, 5.1)
    ),
    plates.make_vortex_plate(2),
    FocalEnvelope(spread=jnp.asarray(20.0), wavelength=LENGTH),
)
WEIGHT = np.random.default_rng(7).normal(size=(3, *SMALL.shape))


@jax.jit
@jax.value_and_grad
def functional(parts):
    """A random linear functional of a plate's factor and of its detector's weights, without the lens around them."""
    plate, detector, semiangle, centre = parts
    y, x = (1e3 * LENGTH * k - c for k, c in zip(SMALL.frequencies(), centre, strict=True))
    factor = plate.transmission(y, x, semiangle)
    total = factor.real * WEIGHT[0] + factor.imag * WEIGHT[1] + detector.response(SMALL, ENERGY) * WEIGHT[2]
    return jnp.sum(total)


@pytest.mark.slow
def test_every_leaf_of_a_plate_has_its_slope():
    detector = make_matched_rings(plates.make_ring_plate(4), 19.2, offset=(0.2, -0.4))
    parts = (STACK, detector, jnp.asarray(19.7), jnp.array([0.31, -0.53]))
    found = leaves(functional(parts)[1])
    assert len(found) == 7 + 2 + 2
    for number, path in enumerate(found):
        leaf = leaves(parts)[path]
        direction = jnp.asarray(np.random.default_rng(number).uniform(0.3, 1.0, leaf.shape))
        step = 1e-6 * max(1.0, float(jnp.abs(leaf).max()))
        up, down = (functional(replace(parts, {path: leaf + s * direction}))[0] for s in (step, -step))
        expected = float(up - down) / (2 * step)
        assert abs(expected) > 1e-4, path
        assert abs(float(jnp.sum(found[path] * direction)) - expected) < 1e-6 * abs(expected) + 1e-8, path


def test_window_of_a_gaussian_beam():
    # Outside ±a lies 1 − erf(√2 a / w)² of a Gaussian beam of radius w.
    width = SEMIANGLE / 4.5
    waist = LENGTH / (np.pi * np.sqrt(2) * 1e-3 * width)
    grid = Grid((80, 80), (0.25, 0.25))
    for times in (3.0, 4.0):
        distance = times * np.pi * waist**2 / LENGTH
        radius = forms.gaussian_width(distance, waist, LENGTH)
        # The 65 pixels within the tenths reach to 8.125 Å.
        outside = 1 - special.erf(np.sqrt(2) * 8.125 / radius) ** 2
        probe = make_probe(
            grid, energy=ENERGY, semiangle=SEMIANGLE, plate=plates.make_gaussian_plate(width),
            aberrations=make_aberrations(C10=distance),
        )  # fmt: skip
        check_window(probe, lost=1.1 * outside)
        with pytest.raises(InputError, match="use a window of"):
            check_window(probe, lost=0.9 * outside)


def test_advised_window_is_wide_enough():
    coherence = make_coherence(80e3, 25.0, source_size=0.6, chromatic=1.2e7, energy_spread=0.5, error=0.1)
    lens = make_aberrations(C10=-400.0, C12=100.0)
    grid = Grid((64, 60), (0.25, 0.25))
    probe = make_probe(grid, energy=80e3, semiangle=25.0, aberrations=lens, coherence=coherence)
    with pytest.raises(InputError, match="C10 is -400 Å") as caught:
        check_window(probe)
    shape = tuple(int(n) for n in re.search(r"\((\d+) × (\d+) pixels\)", str(caught.value)).groups())
    check_window(probe.replace(grid=Grid(shape, grid.sampling)))
    # Wide enough, and not wasteful: half of it is too small.
    with pytest.raises(InputError):
        check_window(probe.replace(grid=Grid(tuple(n // 2 for n in shape), grid.sampling)))
