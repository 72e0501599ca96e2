"""Every leaf of the full forward model has a gradient: coherence, plates, atoms, drift, detectors, camera, spectra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.core.paths import leaves
from stemjax.detect.annular import make_annular_detector
from stemjax.detect.camera import make_camera
from stemjax.detect.moments import make_moment_detector
from stemjax.detect.response_map import make_measured_detector
from stemjax.detect.segmented import make_segmented_detector
from stemjax.forward.diffraction import Diffraction
from stemjax.forward.experiment import Measurement, make_experiment
from stemjax.forward.image import Signals
from stemjax.forward.spectrum import SpectrumImage
from stemjax.inference.priors.images import Positive
from stemjax.inference.problem import log_density, make_problem, start
from stemjax.optics.aberrations import make_aberrations
from stemjax.optics.coherence import make_coherence
from stemjax.optics.distortion import coil_matrix, with_coils, with_drift, with_jitter, with_walk
from stemjax.optics.plates import make_gaussian_plate, make_hollow_cone_plate, make_product_plate, make_vortex_plate
from stemjax.optics.probe import make_probe
from stemjax.optics.scan import make_raster
from stemjax.specimen.atomic import make_atomic_specimen
from stemjax.specimen.fields import make_field_object
from stemjax.specimen.objects import make_object
from stemjax.specimen.potential import cell_grid
from stemjax.specimen.structure import make_structure
from stemjax.spectra.background import make_power_law
from stemjax.spectra.collection import make_collection
from stemjax.spectra.energy_axis import make_energy_axis
from stemjax.spectra.lineshapes import make_gaussian_peak
from stemjax.spectra.low_loss import make_drude, make_low_loss
from stemjax.spectra.model import make_spectrometer
from tests.physics.slopes import steps, wrong_slopes

ENERGY = 100e3
RNG = np.random.default_rng(5)
ATOMS = make_structure(
    [[1.0, 1.13, 2.21], [3.0, 3.07, 0.94], [3.1, 2.4, 2.6]], [38, 22, 8], [4.0, 4.0, 4.4],
    rms_displacement=[0.06, 0.07, 0.09], occupancy=[1.0, 0.9, 0.8],
)  # fmt: skip
GRID = cell_grid(ATOMS, 0.25)


def scan():
    raster = make_raster((2, 2), 0.9, origin=(1.1, 1.3), dwell=0.1, flyback=0.3)
    raster = with_coils(raster, coil_matrix((1.01, 0.98), shear=0.02, rotation=1.0))
    raster = with_drift(raster, (0.3, -0.2))
    raster = with_walk(raster, 0.05 * RNG.normal(size=(3, 2)), np.array([-0.05, 0.25, 0.7]))
    return with_jitter(raster, 0.05 * RNG.normal(size=(2, 2)))


def probe(**options):
    lens = make_aberrations(C10=-20.0, C12a=8.0, C30=3e4)
    return make_probe(GRID, energy=ENERGY, semiangle=22.3, aberrations=lens, **options)


def detectors():
    sensitivity = 1.0 + 0.3 * RNG.random((24, 24))
    return {
        "adf": make_annular_detector(21.1, 36.7, soft=True),
        "dpc": make_segmented_detector([3.1, 14.2, 23.9], 3, rotation=17.0, offset=(0.3, 0.2), soft=True),
        "com": make_moment_detector(31.3, soft=True),
        "measured": make_measured_detector(sensitivity, 3.37, centre=(11.3, 12.1), rotation=7.0),
    }


def beams_and_atoms():
    """Shaped and partially coherent beam, frozen phonons, a field, a drifting scan, detectors, camera."""
    plate = make_product_plate(make_vortex_plate(1), make_gaussian_plate(17.0), make_hollow_cone_plate(4.3))
    coherence = make_coherence(
        ENERGY, 22.3, source_size=(0.1, 0.15), chromatic=1e7, energy_spread=0.4,
        voltage_instability=1e-6, current_instability=1e-6, error=0.3,
    )  # fmt: skip
    atoms = make_atomic_specimen(ATOMS, GRID, 2, phonons=2, seed=3)
    specimen = make_field_object(atoms, electrostatic=RNG.normal(size=GRID.shape), magnetic=RNG.normal(size=GRID.shape))
    camera = make_camera(gain=3.0, dark=2.0, readout=1.0, blur=0.6, sensitivity=1 + 0.1 * RNG.random(GRID.shape))
    return make_experiment(
        probe(plate=plate, coherence=coherence), specimen, scan(), dose=50.0, tilt=(3.0, -4.0),
        detectors=detectors(), camera=camera,
    )  # fmt: skip


def order(path):
    """Power of the angle that a coefficient belongs to: 2 for C10, 6 for C56a."""
    return 1 + int(path.rpartition(".C")[2][0])


def step(path, leaf):
    """Steps for leaves whose natural size is far from one."""
    if "instability" in path:
        return 1e-8
    if path.startswith("detectors.measured"):
        return 1e-5  # between the pixels of the map the response is piecewise linear
    if path.startswith("probe.aberrations."):
        # As much as turns the phase at the edge of the aperture by a hundredth.
        return 0.01 * 0.037 * order(path) / (2 * np.pi * 0.022 ** order(path))
    return steps(leaf) if float(np.abs(leaf).max()) > 1e-3 else 1e-6


@pytest.mark.slow
def test_gradient_of_every_leaf_of_beams_atoms_scans_and_detectors():
    made = beams_and_atoms()
    # What only scores counts does not change the expected electrons.
    scoring = ("camera.gain", "camera.dark", "camera.readout", "camera.stray")
    # Nothing is known yet of how a slab's depth moves its atoms: they stay in their slices.
    skipped = [p for p in leaves(made) if p.endswith("structure.cell")]
    found = wrong_slopes(Signals(Diffraction()), made, silent=lambda p: p in scoring, skipped=skipped, step=step)
    assert not found
    paths = leaves(made)
    assert {"probe.coherence.source_size", "probe.coherence.energy_spread", "scan.walk", "scan.jitter"} <= set(paths)
    assert all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in paths.values())


def spectra():
    """A spectrum image of two elements, with everything that a spectrometer has."""
    spectrometer = make_spectrometer(
        make_energy_axis(430.0, 4.0, 48), ENERGY, make_collection(27.0, 22.3),
        zero_loss=make_gaussian_peak(9.0), low_loss=make_low_loss(make_drude(22.0, 6.0), 400.0, cutoff=15.0),
        edges={"Ti_L3": 1.0, "O_K": 1.0}, background=make_power_law(1e-5, 3.0, 430.0),
    )  # fmt: skip
    specimen = make_atomic_specimen(ATOMS, GRID, 2)
    return make_experiment(probe(), specimen, scan(), dose=1e6, spectrometer=spectrometer)


def wide_step(path, leaf):
    """Steps that stand out of the rounding of a spectrum, where a leaf is zero and its own size tells nothing."""
    zero = {"tilt": 1e-2, "probe.centre": 1e-2, "specimen.origin": 1e-3, "spectrometer.zero_loss.position": 1e-2}
    return zero.get(path) or step(path, leaf)


@pytest.mark.slow
def test_gradient_of_every_leaf_of_a_spectrum_image():
    made = spectra()
    # The wave decides how many atoms an edge sees, the experiment's probe how wide the cone and how fast the beam is.
    silent = {f"spectrometer.edges.{name}.density" for name in ("Ti_L3", "O_K")} | {"spectrometer.energy"}
    # Far before the axis nothing starts; a metal's oscillator stands at zero energy, which comes in squared.
    silent |= {"spectrometer.background.start", "spectrometer.low_loss.oscillators.energies"}
    skipped = [p for p in leaves(made) if p.endswith("structure.cell")]
    found = wrong_slopes(
        SpectrumImage(Diffraction(), 40.0), made, silent=lambda p: p in silent, skipped=skipped, step=wide_step,
        # The zero-loss peak of 1e6 electrons passes the same transforms as the edges' hundred.
        rounding=1e-9,
    )  # fmt: skip
    assert not found


def test_a_camera_can_be_free():
    camera = make_camera(gain=3.0, dark=2.0, readout=1.0, blur=0.6)
    thing = make_object(GRID, phase=0.3 * RNG.normal(size=(1, *GRID.shape)), periodic=True)
    made = make_experiment(probe(), thing, make_raster((2, 2), 0.9), dose=50.0, camera=camera)
    simulator = Diffraction()
    counts = np.asarray(jax.jit(lambda e: e.camera.sample(jax.random.key(1), simulator(e)))(made))
    problem = make_problem(
        made,
        Measurement(counts),
        forward=simulator,
        noise=None,
        free=["camera.gain", "camera.dark", "camera.blur"],
        priors={"camera.gain": Positive(1.0)},
    )
    z = start(problem)
    density = jax.jit(lambda z: log_density(problem, z))
    gradient = jax.jit(jax.grad(density))(z)
    for path, value in z.items():
        h = 1e-5
        slope = (density({**z, path: value + h}) - density({**z, path: value - h})) / (2 * h)
        assert abs(float(jnp.sum(gradient[path])) - float(slope)) < 1e-5 * abs(float(slope)) + 1e-4, path
