"""P3 and P13: what the compiled gradient of a whole experiment allocates, and that devices exchange sums only."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.core.executor import Execution
from stemjax.core.grid import Grid
from stemjax.forward.diffraction import Diffraction
from stemjax.forward.experiment import make_experiment
from stemjax.optics.aberrations import make_aberrations
from stemjax.optics.probe import make_probe
from stemjax.optics.scan import make_raster
from stemjax.specimen.objects import make_object

GRID, FIELD, SLICES = Grid((64, 64), (0.2, 0.2)), Grid((80, 80), (0.2, 0.2)), 20
WAVE = 16 * 64 * 64
"""Bytes of one complex wave in double precision."""


@functools.cache
def compiled_gradient(probes: int, lanes: int, execution: Execution, slices: int = SLICES):
    """The compiled value and gradient in all leaves, for a number of probes dealt to lanes."""
    probe = make_probe(GRID, energy=80e3, semiangle=20.0, aberrations=make_aberrations(C10=-50.0))
    specimen = make_object(FIELD, slices=slices, thickness=2.0)
    scan = make_raster((8, 8), 0.4, origin=(6.4, 6.4))
    experiment = make_experiment(probe, specimen, scan, dose=1e3)
    simulator = Diffraction(execution=execution)

    def loss(experiment, data, index, weight):
        return simulator.total(experiment, lambda mu, n: jnp.sum((mu - n) ** 2), data, index, weight)

    per_lane = probes // lanes
    data = jnp.zeros((lanes, per_lane, *GRID.shape))
    index = jnp.tile(jnp.arange(per_lane)[None], (lanes, 1))
    program = jax.jit(jax.value_and_grad(loss)).lower(experiment, data, index, jnp.ones((lanes, per_lane)))
    return program.compile()


def temporary(probes: int, slices: int = SLICES) -> int:
    """Temporary bytes of the gradient; the batch's records are never copied, so nothing is taken off."""
    return compiled_gradient(probes, 2, Execution(1), slices).memory_analysis().temp_size_in_bytes


def test_memory_does_not_grow_with_the_number_of_probes():
    # A position, a corner and their gradients a probe: a hundred bytes each, not a wave.
    assert abs(temporary(64) - temporary(16)) < 48 * 1000


def test_memory_of_the_gradient_is_six_waves_a_slice_of_one_probe():
    # Measured: 6.04 waves a slice of the probe's window, and 2.33 of the whole object (its transmission function, the
    # sum of the gradient, work arrays). What does not grow with the slices: probe, propagator, pattern.
    each = (temporary(16, 20) - temporary(16, 10)) / 10
    field = 16 * np.prod(FIELD.shape)
    assert each < 6.1 * WAVE + 2.5 * field
    assert temporary(16, 20) - 20 * each < 30 * WAVE


@pytest.mark.parametrize("chunk", [1, 4])
def test_devices_exchange_sums_and_nothing_else(chunk):
    text = compiled_gradient(16, 2, Execution(2, chunk)).as_text()
    assert "all-reduce" in text
    for word in ("all-gather", "all-to-all", "collective-permute"):
        assert word not in text
