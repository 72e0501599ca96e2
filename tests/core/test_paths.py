"""Dotted paths: every leaf is reached, and a slip is answered with the nearest name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.core.paths import leaves, replace, select
from stemjax.detect.annular import make_annular_detector
from stemjax.forward.experiment import make_experiment
from stemjax.optics.probe import make_probe
from stemjax.optics.scan import make_raster
from stemjax.specimen.objects import make_object

GRID = Grid((16, 16), (0.2, 0.2))


@pytest.fixture
def experiment():
    probe = make_probe(GRID, energy=80e3, semiangle=20.0)
    detectors = {"haadf": make_annular_detector(30.0, 60.0)}
    return make_experiment(probe, make_object(GRID), make_raster((2, 2), 0.3), detectors=detectors)


def test_paths_name_all_leaves_in_order(experiment):
    table = leaves(experiment)
    assert all(a is b for a, b in zip(table.values(), jax.tree.leaves(experiment), strict=True))
    assert {"probe.aberrations.C56b", "scan.positions", "detectors.haadf.inner", "dose"} <= set(table)


def test_an_inner_path_stands_for_its_leaves(experiment):
    chosen = select(experiment, ["probe.aberrations", "specimen.phase"])
    assert len(chosen) == 26
    assert next(iter(chosen)) == "probe.aberrations.C10"
    # A path ends at a dot, not in the middle of a name.
    assert "probe.aberrations.C12a" not in select(experiment, ["probe.aberrations.C10"])
    with pytest.raises(InputError):
        select(experiment, ["probe.aberrations.C1"])


def test_replace_changes_one_leaf_and_shares_the_rest(experiment):
    other = replace(experiment, {"scan.positions": jnp.ones((4, 2))})
    before, after = leaves(experiment), leaves(other)
    assert [path for path in before if before[path] is not after[path]] == ["scan.positions"]
    assert other.probe.grid == GRID
    assert float(replace(experiment, select(other, ["scan"])).scan.positions.sum()) == 8.0


def test_replace_works_on_traced_values(experiment):
    slope = jax.grad(lambda v: replace(experiment, {"dose": v}).dose ** 2)(3.0)
    assert float(slope) == 6.0


@pytest.mark.parametrize("function", [lambda e: select(e, ["probe.abberations"]),
                                      lambda e: replace(e, {"probe.aberrations.c10": 0.0})])  # fmt: skip
def test_a_misspelt_path_is_answered_with_the_nearest(experiment, function):
    with pytest.raises(InputError, match=r"no parameter at path .* nearest: 'probe\.aberrations"):
        function(experiment)


def test_a_value_of_another_shape_is_refused(experiment):
    with pytest.raises(InputError, match=r"shape \(3, 2\); the leaf there has \(4, 2\)"):
        replace(experiment, {"scan.positions": np.zeros((3, 2))})
