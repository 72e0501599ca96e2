"""Several steps through one slice are what as many thin slices are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.core.grid import make_grid
from stemjax.forward.diffraction import Diffraction
from stemjax.forward.experiment import make_experiment
from stemjax.optics.probe import make_probe
from stemjax.optics.scan import make_raster
from stemjax.specimen.objects import make_object, make_potential_object
from stemjax.specimen.slab import make_slab, sliced

GRID, WHOLE = make_grid((32, 32), (0.3, 0.3)), make_grid((48, 48), (0.3, 0.3))
PROBE = make_probe(GRID, energy=100e3, semiangle=15.0)
SCAN = make_raster((2, 2), 1.3)
PHASE = 0.4 * np.random.default_rng(5).random((2, 48, 48))


def patterns(specimen, **how):
    """Patterns of a specimen."""
    scan = SCAN.replace(positions=SCAN.positions + 7.0)
    return Diffraction(limit=None, **how)(make_experiment(PROBE, specimen, scan, dose=1e4))


def thick(phase, thickness):
    """A phase object [slice ny nx] of slices so thick."""
    return make_object(WHOLE, phase=phase, thickness=thickness, log_amplitude=-0.1 * phase)


@pytest.mark.parametrize("thickness", [pytest.param(30.0, marks=pytest.mark.slow), np.array([30.0, 12.0])])
def test_steps_are_thin_slices(thickness):
    thin = thick(np.repeat(PHASE / 3, 3, axis=0), np.repeat(np.broadcast_to(thickness, 2) / 3, 3))
    np.testing.assert_allclose(patterns(thick(PHASE, thickness), steps=3), patterns(thin), rtol=1e-9)


def test_steps_of_a_reversible_gradient_are_thin_slices():
    def total(phase, **how):
        specimen = make_object(WHOLE, phase=PHASE, thickness=20.0).replace(phase=phase)
        return (patterns(specimen, steps=2, **how) ** 2).sum()

    one, other = (jax.grad(lambda p, r=r: total(p, reversible=r))(jnp.asarray(PHASE)) for r in (False, True))
    np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9 * float(jnp.abs(one).max()))


@pytest.mark.slow
def test_a_potential_takes_steps():
    specimen = make_potential_object(100 * PHASE, 30.0, WHOLE, periodic=False)
    thin = make_potential_object(np.repeat(50 * PHASE, 2, axis=0), 15.0, WHOLE, periodic=False)
    np.testing.assert_allclose(patterns(specimen, steps=2), patterns(thin), rtol=1e-9)


def test_a_slab_is_a_stack_of_equal_slices():
    slab = make_slab(WHOLE, 60.0).replace(
        real=jnp.asarray(np.cos(PHASE[:1]) - 1.0), imaginary=jnp.asarray(np.sin(PHASE[:1]))
    )
    stack = sliced(slab, 6, 6)
    np.testing.assert_allclose(patterns(slab, steps=6), patterns(stack), rtol=1e-9)
    np.testing.assert_allclose(sliced(slab, 6, 2).phase[0], 3 * PHASE[0], rtol=1e-9)


def test_atoms_take_no_steps():
    class Atoms:
        """Something with slices of its own."""

    with pytest.raises(InputError, match="Atoms has slices of its own"):
        Diffraction(steps=2).prepare(
            make_experiment(PROBE, make_object(WHOLE), SCAN, dose=1.0).replace(specimen=Atoms())
        )
