"""Every leaf of an experiment has a gradient, and it is the slope: reverse mode against central finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.core.executor import Execution
from stemjax.core.grid import Grid
from stemjax.core.paths import leaves
from stemjax.detect.annular import make_annular_detector
from stemjax.detect.pixelated import PixelatedDetector
from stemjax.forward.diffraction import Diffraction
from stemjax.forward.experiment import make_experiment
from stemjax.forward.image import ScannedImage
from stemjax.optics.aberrations import NAMES, make_aberrations
from stemjax.optics.probe import make_probe
from stemjax.optics.scan import make_scan
from stemjax.specimen.objects import make_object, make_potential_object
from stemjax.specimen.potential import cell_grid, project_exact, project_gridded
from stemjax.specimen.structure import make_structure
from tests.physics.slopes import finite_difference, wrong_slopes

ENERGY = 100e3
GRID, FIELD = Grid((16, 20), (0.3, 0.25)), Grid((24, 28), (0.3, 0.25))
# Positions off the middle between pixels, where a window jumps, and off whole pixels, where nothing is special.
POSITIONS = np.array([[2.43, 2.62], [3.81, 3.87], [3.12, 4.1]])
RNG = np.random.default_rng(3)


def probe():
    """A probe with two modes, all aberrations and free pixels everywhere."""
    values = {name: 0.05 * RNG.normal() / 0.02 ** int(name[1]) for name in NAMES}
    made = make_probe(
        GRID, energy=ENERGY, semiangle=21.3, aberrations=make_aberrations(values), modes=2, centre=(0.7, -0.4)
    )
    return made.replace(pixels=made.pixels + 0.1 * RNG.normal(size=made.pixels.shape))


def experiment(specimen):
    """An experiment with soft detectors and a distorted scan."""
    detectors = {
        "bf": make_annular_detector(0.0, 11.3, soft=True),
        "adf": make_annular_detector(21.1, 36.7, offset=(0.9, 0.3), soft=True),
    }
    made = make_experiment(probe(), specimen, make_scan(POSITIONS), dose=50.0, tilt=(3.0, -4.0), detectors=detectors)
    distorted = made.scan.affine + jnp.array([[0.01, -0.02], [0.015, 0.02]])
    return made.replace(scan=made.scan.replace(affine=distorted))


def pixelated(periodic):
    phase, absorption = 0.4 * RNG.normal(size=(3, *FIELD.shape)), -0.1 * RNG.random((3, *FIELD.shape))
    return make_object(
        FIELD, thickness=np.array([3.0, 4.0, 5.0]), phase=phase, log_amplitude=absorption, origin=(0.11, -0.07),
        periodic=periodic,
    )  # fmt: skip


def potential():
    return make_potential_object(200 * RNG.random((2, *FIELD.shape)), 4.0, FIELD, origin=(0.11, -0.07))


SPECIMENS = {"pixelated": pixelated(False), "periodic": pixelated(True), "potential": potential()}
EXPERIMENTS = {name: experiment(specimen) for name, specimen in SPECIMENS.items()}
SIMULATORS = {
    "diffraction": Diffraction(taper=0.1),
    "camera": Diffraction(PixelatedDetector((6, 8), (2, 2)), limit=None, exact=True, execution=Execution(2, 2)),
    "image": ScannedImage(Diffraction(limit_transmission=True)),
}
PAIRS = (
    ("pixelated", "diffraction"),
    ("periodic", "camera"),
    ("potential", "image"),
    ("pixelated", "camera"),
)
DETECTOR_LEAVES = tuple(f"detectors.{name}.{leaf}" for name in ("adf", "bf") for leaf in ("inner", "outer", "offset"))


def silent(kind: str, path: str) -> bool:
    """Leaves that the counts do not depend on: detectors of images, where patterns are recorded."""
    return path.startswith("detectors") and kind != "image"


@pytest.mark.parametrize(("name", "kind"), [*PAIRS[:3], pytest.param(*PAIRS[3], marks=pytest.mark.slow)])
def test_gradient_of_every_leaf_is_its_slope(kind, name):
    # A disk has no inner edge: zero is the end of the range, and no slope is claimed there.
    found = wrong_slopes(
        SIMULATORS[kind], EXPERIMENTS[name], silent=lambda path: silent(kind, path), skipped=["detectors.bf.inner"]
    )
    assert not found


def test_the_leaves_are_all_there():
    paths = leaves(EXPERIMENTS["pixelated"])
    assert {f"probe.aberrations.{name}" for name in NAMES} | set(DETECTOR_LEAVES) <= set(paths)
    for path in ("probe.semiangle", "probe.centre", "probe.pixels", "specimen.phase", "specimen.log_amplitude"):
        assert path in paths
    for path in (
        "specimen.thickness",
        "specimen.origin",
        "scan.positions",
        "scan.affine",
        "scan.centre",
        "dose",
        "tilt",
    ):
        assert path in paths
    assert "specimen.values" in leaves(EXPERIMENTS["potential"])
    assert all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in paths.values())


@pytest.mark.parametrize("method", [project_gridded, project_exact])
def test_dark_field_image_sees_an_atom_move(method):
    # From the atom through potential, multislice and detector, back to the atom.
    atoms = make_structure(
        [[1.0, 1.13, 2.21], [3.0, 3.07, 0.94], [3.1, 2.4, 2.6]], [38, 22, 8], [4.0, 4.0, 4.4], rms_displacement=0.09
    )
    grid = cell_grid(atoms, 0.2)
    optics = make_probe(grid, energy=ENERGY, semiangle=22.0, aberrations=make_aberrations(C10=-20.0))
    detectors = {"haadf": make_annular_detector(30.0, 60.0)}
    simulator = ScannedImage(Diffraction(limit_transmission=True))

    @jax.jit
    def signal(positions):
        made = method(atoms.replace(positions=positions), grid, 2)
        specimen = make_potential_object(made.values, made.thickness, grid)
        scan = make_scan(np.array([[1.0, 2.0], [3.2, 1.1]]))
        image = simulator(make_experiment(optics, specimen, scan, detectors=detectors))["haadf"]
        return image @ jnp.array([1.0, -0.6])

    gradient = jax.jit(jax.grad(signal))(atoms.positions)
    for atom, axis in ((0, 1), (0, 2), (1, 1), (2, 2)):
        direction = jnp.zeros((3, 3)).at[atom, axis].set(1.0)
        expected = finite_difference(signal, atoms.positions, direction, 1e-3)
        assert abs(expected) > 1e-6
        assert abs(float(gradient[atom, axis]) - expected) < 1e-6 * abs(expected) + 1e-12
    # An atom belongs whole to its slice, so its depth has no slope (stemjax.specimen.potential says so).
    assert float(jnp.abs(gradient[:, 0]).max()) == 0.0
