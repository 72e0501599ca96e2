"""The Cramér-Rao bound: against closed forms, scipy, estimators, and itself by another road."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from flax import struct

import stemjax as sj
from stemjax.core.errors import InputError
from stemjax.forward.column_image import ColumnImage, ColumnScene
from stemjax.inference import problem as statement
from stemjax.inference.bounds.cramer_rao import cramer_rao
from stemjax.inference.curvature import fisher_matrix
from stemjax.inference.derived import Derived
from stemjax.specimen.columns import make_columns
from tests.inference.test_problem import X, line_problem


class Counts(struct.PyTreeNode):
    counts: Any
    mask: Any = None


class Made:
    """A forward model from a function of a mapping."""

    def __init__(self, function):
        self.function = function

    def __call__(self, model, index=None):
        values = self.function(model)
        return values if index is None else values[index]


def made(function, model, noise=None, **more):
    forward = Made(function)
    counts = np.ones(jax.eval_shape(forward, model).shape)
    return sj.make_problem(
        model, Counts(counts), forward=forward, noise=sj.Poisson(0.0) if noise is None else noise, **more
    )


def deviation(bounds, name):
    return np.asarray(bounds.deviations[name].value)


def test_position_of_a_spot_is_known_to_its_width_over_the_root_of_its_electrons():
    # Thompson, Larson, Webb, Biophys. J. 82 (2002) 2775: σ/√N per coordinate, for pixels that are small.
    width, peak, step = 0.5, 400.0, 0.1
    scan = sj.make_raster((64, 64), step)
    scene = ColumnScene(make_columns([[3.1, 3.23]], amplitude=peak, width=width, background=1e-9), scan)
    problem = sj.make_problem(
        scene,
        sj.Measurement(np.ones(64 * 64)),
        forward=ColumnImage(),
        noise=sj.Poisson(0.0),
        free=["columns.positions", "columns.amplitude", "columns.width"],
        priors={"columns.amplitude": sj.Positive(1.0), "columns.width": sj.Positive(0.01)},
    )
    bounds = cramer_rao(problem)
    electrons = 2 * np.pi * width**2 * peak / step**2
    np.testing.assert_allclose(deviation(bounds, "columns.positions"), width / np.sqrt(electrons), rtol=1e-6)
    # Of N electrons in two dimensions, σ is known to σ/√(4N); amplitude and width share it, with N to 1/√N.
    np.testing.assert_allclose(deviation(bounds, "columns.width"), width / np.sqrt(4 * electrons), rtol=1e-6)
    share = np.sqrt(1 / electrons + 4 / (4 * electrons))
    np.testing.assert_allclose(deviation(bounds, "columns.amplitude"), peak * share, rtol=1e-6)
    assert bounds.deviations["columns.positions"].units == "Å"
    assert not bounds.blind


def test_line_has_the_bound_of_weighted_least_squares():
    problem = line_problem(slope=4.0, offset=10.0)
    weight = 1.0 / (4.0 * X + 10.0)
    design = np.stack([np.ones_like(X), X], axis=1)
    covariance = scipy.linalg.inv(design.T @ (weight[:, None] * design))
    total = Derived(lambda model: model.slope * 3.0 + model.offset, "electron", "value at three")
    bounds = cramer_rao(problem, derived={"at three": total})
    np.testing.assert_allclose(deviation(bounds, "offset") ** 2, covariance[0, 0], rtol=1e-9)
    np.testing.assert_allclose(deviation(bounds, "slope") ** 2, covariance[1, 1], rtol=1e-9)
    along = np.array([1.0, 3.0])
    np.testing.assert_allclose(deviation(bounds, "at three") ** 2, along @ covariance @ along, rtol=1e-9)
    correlation = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    assert bounds.labels == ("offset", "slope")
    np.testing.assert_allclose(bounds.correlation[0, 1], correlation, rtol=1e-9)
    assert "at three" in str(bounds)


def test_life_of_a_decay_is_known_to_itself_over_the_root_of_the_counts():
    # N decays binned finely until all is gone: σ(τ) = τ/√N, and N is known to √N.
    edges = np.linspace(0.0, 40.0, 20001)

    def decay(model):
        return -model["counts"] * jnp.diff(jnp.exp(-edges / model["life"]))

    priors = {"life": sj.LogNormal(0.0, 1.0), "counts": sj.Positive(1.0)}
    problem = made(decay, {"counts": jnp.array(500.0), "life": jnp.array(1.3)}, free=["**"], priors=priors)
    bounds = cramer_rao(problem)
    assert float(deviation(bounds, "life")) == pytest.approx(1.3 / np.sqrt(500.0), rel=1e-6)
    assert float(deviation(bounds, "counts")) == pytest.approx(np.sqrt(500.0), rel=1e-6)


def test_autodiff_fisher_is_the_analytic_one_of_overlapping_columns():
    places = np.array([[2.0, 2.2], [2.0, 3.4], [3.3, 2.9]])
    columns = make_columns(places, amplitude=np.array([80.0, 50.0, 120.0]), width=0.45, background=3.0)
    scene = ColumnScene(columns, sj.make_raster((24, 24), 0.22))
    problem = sj.make_problem(
        scene,
        sj.Measurement(np.ones(24 * 24)),
        forward=ColumnImage(),
        noise=sj.Poisson(0.0),
        free=["columns.positions", "columns.background"],
        priors={"columns.background": sj.LogNormal(1.0, 1.0)},
    )
    r = np.asarray(scene.scan.positions)
    offset = r[:, None] - places[None]
    peaks = np.array([80.0, 50.0, 120.0]) * np.exp(-(offset**2).sum(axis=2) / (2 * 0.45**2))
    mean = 3.0 + peaks.sum(axis=1)
    J = np.concatenate([3.0 * np.ones((len(r), 1)), (peaks[..., None] * offset / 0.45**2).reshape(len(r), 6)], axis=1)
    exact = J.T @ (J / mean[:, None])
    np.testing.assert_allclose(fisher_matrix(problem, statement.start(problem)), exact, rtol=1e-6, atol=1e-9)
    spread = np.sqrt(np.diag(scipy.linalg.inv(exact)))[1:].reshape(3, 2)
    np.testing.assert_allclose(deviation(cramer_rao(problem), "columns.positions"), spread, rtol=1e-6)


def test_bound_does_not_depend_on_how_a_leaf_is_constrained():
    plain = cramer_rao(line_problem(slope=4.0, offset=10.0))
    inside = {"slope": sj.LogNormal(1.0, 0.5), "offset": sj.Uniform(0.0, 30.0)}
    mapped = cramer_rao(line_problem(slope=4.0, offset=10.0, priors=inside))
    for name in ("slope", "offset"):
        np.testing.assert_allclose(deviation(mapped, name), deviation(plain, name), rtol=1e-9)


def test_priors_add_their_curvature_where_the_leaves_stand():
    priors = {"slope": sj.Normal(3.0, 0.2), "offset": sj.LogNormal(2.0, 0.3)}
    bounds = cramer_rao(line_problem(slope=4.0, offset=10.0, priors=priors), with_priors=True)
    weight = 1.0 / (4.0 * X + 10.0)
    design = np.stack([np.ones_like(X), X], axis=1)
    information = design.T @ (weight[:, None] * design)
    # -d²/dx² of -(log x - m)²/2s² - log x.
    curve = (1.0 - (np.log(10.0) - 2.0)) / (0.3**2 * 100.0) - 1.0 / 100.0
    covariance = scipy.linalg.inv(information + np.diag([curve, 1 / 0.2**2]))
    np.testing.assert_allclose(deviation(bounds, "offset") ** 2, covariance[0, 0], rtol=1e-9)
    np.testing.assert_allclose(deviation(bounds, "slope") ** 2, covariance[1, 1], rtol=1e-9)
    assert "priors counted" in bounds.status


def test_tied_leaves_are_no_unknowns_and_masks_hide_pixels():
    def two(model):
        return jnp.concatenate([jnp.full(5, model["a"]), jnp.full(3, model["b"])])

    model = {"a": jnp.array(4.0), "b": jnp.array(8.0)}
    tied = made(two, model, free=["a"], ties={"b": sj.Scaled("a", 2.0)})
    information = 5 / 4.0 + 4 * 3 / 8.0
    assert float(deviation(cramer_rao(tied), "a")) == pytest.approx(information**-0.5, rel=1e-12)
    masked = tied.replace(measurement=Counts(np.ones(8), np.array([1.0] * 5 + [0.0] * 3)))
    assert float(deviation(cramer_rao(masked), "a")) == pytest.approx((5 / 4.0) ** -0.5, rel=1e-12)


def test_a_model_or_a_result_says_where_the_truth_is():
    problem = line_problem()
    truth = problem.experiment.replace(slope=jnp.array(4.0), offset=jnp.array(10.0))
    there = cramer_rao(line_problem(slope=4.0, offset=10.0))
    from_model = cramer_rao(problem, at=truth)
    from_result = cramer_rao(problem, at=sj.Result("", {k: v for k, v in there.values.items()}))
    for name in ("slope", "offset"):
        np.testing.assert_allclose(deviation(from_model, name), deviation(there, name), rtol=1e-12)
        np.testing.assert_allclose(deviation(from_result, name), deviation(there, name), rtol=1e-12)


def test_an_estimator_reaches_the_bound():
    # Fisher scoring from the truth, 4000 noise draws; the standard error of a standard deviation is 1.1 %.
    problem = line_problem(slope=4.0, offset=10.0)
    bounds = cramer_rao(problem)
    counts = np.random.default_rng(3).poisson(4.0 * X + 10.0, size=(4000, len(X)))
    found = np.tile([10.0, 4.0], (4000, 1))
    design = np.stack([np.ones_like(X), X], axis=1)
    for _ in range(5):
        mean = found @ design.T
        information = np.einsum("dx,xi,xj->dij", 1 / mean, design, design)
        score = np.einsum("dx,xi->di", counts / mean - 1, design)
        found = found + np.linalg.solve(information, score[..., None])[..., 0]
    spread = found.std(axis=0) / [deviation(bounds, "offset"), deviation(bounds, "slope")]
    np.testing.assert_allclose(spread, 1.0, atol=0.035)


def object_problem(free, side=10, priors=None):
    window = sj.make_grid(8, 0.7)
    probe = sj.make_probe(window, energy=80e3, semiangle=24.0, aberrations=sj.make_aberrations(C10=60.0, C12a=20.0))
    phase = 0.3 * np.random.default_rng(0).normal(size=(1, side, side))
    thing = sj.make_object(sj.make_grid(side, 0.7), phase=phase, thickness=5.0)
    scan = sj.make_raster((4, 5), 0.7, origin=(2.4, 2.1))
    truth = sj.make_experiment(probe, thing, scan, dose=1e4)
    return sj.make_problem(
        truth,
        sj.Measurement(np.ones((20, 8, 8))),
        forward=sj.Diffraction(limit=None),
        noise=sj.Poisson(),
        free=free,
        priors=priors or {},
    )


SITES, PLACES = np.linspace(0.0, 6.0, 40), np.linspace(-1.0, 7.0, 160)


def blurred_problem(free, priors=None, width=0.3):
    """Peaks on a line, nearer than they are wide, on a slope that is unknown too: many unknowns that hang together."""
    heights = 5.0 + np.random.default_rng(2).random(len(SITES))

    def image(model):
        distance = (PLACES[:, None] - SITES[None] - model["shift"]) / model["width"]
        peaks = jnp.exp(-0.5 * distance**2) @ model["heights"]
        return model["level"] + peaks + (model["first"] - model["second"]) * jnp.asarray(0.1 * PLACES)

    model = {
        "first": jnp.array(1.0), "heights": jnp.asarray(heights), "level": jnp.array(4.0), "second": jnp.array(0.0),
        "shift": jnp.array(0.0), "width": jnp.array(width),
    }  # fmt: skip
    return made(image, model, free=free, priors=priors)


def first_height(model):
    return model["heights"][4]


def contrast(model):
    return model["heights"][4] - model["heights"][5] + 10.0 * model["level"]


def test_without_a_matrix_the_bounds_are_the_same():
    problem = blurred_problem(["heights", "level", "shift", "width"], width=0.2)
    derived = {"contrast": Derived(contrast, "electron"), "height": Derived(first_height, "electron")}
    dense, wide = (cramer_rao(problem, derived=derived, most=most) for most in (1000, 20))
    assert wide.status == "Cramér-Rao bound of 3 of 43 unknowns, heights eliminated; converged"
    for name in wide.deviations:
        np.testing.assert_allclose(deviation(wide, name), deviation(dense, name), rtol=1e-6)
    place = [dense.labels.index(label) for label in wide.labels]
    np.testing.assert_allclose(wide.correlation, dense.correlation[np.ix_(place, place)], atol=1e-6)
    assert "heights" not in wide.deviations
    assert not wide.blind


def test_without_a_matrix_what_is_not_seen_is_found_too():
    # The level is a sum of all peaks, but for the ends; so let the peaks be pixels.
    def image(model):
        return model["level"] + model["pixels"] + (model["first"] - model["second"]) * PLACES

    model = {
        "first": jnp.array(0.1), "level": jnp.array(4.0), "pixels": jnp.full(len(PLACES), 3.0), "second": jnp.array(0.0)
    }  # fmt: skip
    noise = sj.Gaussian(1.0, 0.0)
    derived = {"first pixel": Derived(first_pixel, "1"), "bend": Derived(bend, "1")}
    problem = made(image, model, noise=noise, free=["**"])
    wide, dense = (cramer_rao(problem, derived=derived, most=most) for most in (20, 1000))
    for bounds in (wide, dense):
        assert np.isinf([deviation(bounds, name) for name in ("first", "level", "second", "first pixel")]).all()
        # Neither a level nor a slope changes a second difference: 1 - 2 + 1 of independent pixels.
        assert float(deviation(bounds, "bend")) == pytest.approx(np.sqrt(6.0), rel=1e-6)
        assert len(bounds.blind) == 3
    assert "(pixels would follow)" in str(wide)
    for one in wide.blind:
        moved = one.parts.get("level", 0.0) + one.parts.get("pixels", np.zeros(len(PLACES)))
        moved = moved + (one.parts.get("first", 0.0) - one.parts.get("second", 0.0)) * PLACES
        np.testing.assert_allclose(moved, 0.0, atol=1e-6 * max(np.abs(part).max() for part in one.parts.values()))


def first_pixel(model):
    return model["pixels"][0]


def bend(model):
    return model["pixels"][3] - 2.0 * model["pixels"][4] + model["pixels"][5]


def test_unfinished_solves_say_so():
    problem = blurred_problem(["heights", "level", "width"], width=0.2)
    wide = cramer_rao(problem, most=20, iterations=4)
    assert wide.solved > 0.02
    assert "allow more" in wide.status
    # Too much information is left, so the bound is below the true one.
    assert float(deviation(wide, "level")) < float(deviation(cramer_rao(problem), "level"))


def test_an_unknown_object_leaves_less_about_the_lens():
    free = ["probe.aberrations.C1*", "dose"]
    known = cramer_rao(object_problem(free, priors={"dose": sj.Positive(1.0)}))
    unknown = cramer_rao(object_problem([*free, "specimen.phase"], priors={"dose": sj.Positive(1.0)}))
    for name in ("probe.aberrations.C10", "probe.aberrations.C12a"):
        assert deviation(known, name) < deviation(unknown, name) < np.inf


def test_large_leaves_are_bounded_by_draws_with_a_stated_error():
    problem = blurred_problem(["heights", "level"], priors={"heights": sj.Ridge(3.0)})
    dense = deviation(cramer_rao(problem, with_priors=True), "heights")
    wide = cramer_rao(problem, with_priors=True, most=20, probes=400)
    error = float(wide.status.split("known to ")[-1].split(" %")[0]) / 100
    ratio = deviation(wide, "heights") / dense - 1.0
    assert 0.3 * error < np.sqrt(np.mean(ratio**2)) < 2.0 * error < 0.2


def test_bounds_without_anything_small_are_refused():
    with pytest.raises(InputError, match="ask for a derived quantity or for `probes`, or raise `most`"):
        cramer_rao(object_problem(["specimen.phase"]), most=50)


def test_information_that_is_not_finite_is_explained():
    problem = made(lambda model: jnp.sqrt(model["a"]) * jnp.ones(3), {"a": jnp.array(0.0)}, free=["a"])
    with pytest.raises(InputError, match="finite"):
        cramer_rao(problem)


def test_a_second_call_compiles_nothing():
    problem = object_problem(["probe.aberrations.C1*"])
    cramer_rao(problem)
    with jax.log_compiles(), pytest.MonkeyPatch.context() as patch:
        seen = []
        patch.setattr("jax._src.interpreters.pxla.logger.log", lambda *args: seen.append(args))
        cramer_rao(problem, at=problem.experiment.replace(dose=2.0 * problem.experiment.dose))
    assert not [args for args in seen if "Compiling" in str(args[1])]
