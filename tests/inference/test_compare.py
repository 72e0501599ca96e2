"""Held-out data and comparison of models: closed forms of linear models, and how many columns, slices and modes."""

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.optimize
import scipy.stats
from flax import struct

import stemjax as sj
from stemjax.inference.joint import join
from stemjax.inference.outcome import at_point
from stemjax.inference.priors.images import Ridge
from stemjax.inference.problem import insert, likelihood, objective, start
from stemjax.inference.result import Result
from stemjax.inference.trust.compare import Comparison, compare
from stemjax.inference.trust.held_out import (
    kept,
    leave_out_blocks,
    leave_out_elements,
    leave_out_records,
    left_out,
    pointwise,
    unit_scores,
)
from stemjax.inference.vector import layout

X = np.linspace(-1.0, 1.0, 60)
NOISE = 0.3


@dataclasses.dataclass(frozen=True)
class Power:
    """Polynomials of some degree; one record a point."""

    degree: int

    def __call__(self, model, index=None):
        return (jnp.asarray(np.vander(X, self.degree + 1)) @ model["a"])[:, None]


class Counts(struct.PyTreeNode):
    counts: Any
    mask: Any = None


def data(seed=0):
    truth = 1.0 + 2.0 * X - 1.5 * X**2
    return truth[:, None] + NOISE * np.random.default_rng(seed).normal(size=(60, 1))


def polynomial(degree, counts=None, noise=None):
    return sj.make_problem(
        {"a": jnp.zeros(degree + 1)},
        Counts(data() if counts is None else counts),
        forward=Power(degree),
        noise=sj.Gaussian(NOISE, 0.0) if noise is None else noise,
        free=["a"],
        priors={"a": dist.Normal(0.0, 10.0)},
    )


def normal_equations(problem):
    """Exact posterior of a polynomial: mean and covariance, with the mask as weights."""
    design = np.vander(X, problem.forward.degree + 1)
    counts, mask = (np.asarray(a)[:, 0] for a in (problem.measurement.counts, problem.measurement.mask))
    precision = (design.T * mask) @ design / NOISE**2 + np.eye(design.shape[1]) / 100.0
    covariance = np.linalg.inv(precision)
    return covariance @ (design.T @ (mask * counts)) / NOISE**2, covariance


def best(problem):
    mean, _ = normal_equations(problem)
    return at_point(problem, {"a": jnp.asarray(mean)}, "best", "solved")


class Normal(struct.PyTreeNode):
    mean: Any
    root: Any

    def draw(self, key, count):
        return {"a": self.mean[None] + jax.random.normal(key, (count, len(self.mean))) @ self.root.T}


def bayes(problem):
    mean, covariance = normal_equations(problem)
    found = best(problem)
    return dataclasses.replace(found, posterior=Normal(jnp.asarray(mean), jnp.linalg.cholesky(jnp.asarray(covariance))))


@jax.jit
def uphill(problem, vector):
    """Loss and slope of a vector of all unknowns."""
    shape = layout(problem)
    loss, slope = jax.value_and_grad(lambda z: objective(problem, z))(shape.unravel(vector))
    return loss, shape.ravel(slope)


def climbed(problem):
    """The most probable leaves, by a solver from elsewhere."""
    shape = layout(problem)
    found = scipy.optimize.minimize(
        lambda vector: tuple(map(np.asarray, uphill(problem, vector))),
        np.asarray(shape.ravel(start(problem))),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 60},
    )
    return at_point(problem, shape.unravel(jnp.asarray(found.x)), "climbed", str(found.message))


# what is left out


def test_every_record_is_left_out_once_and_only_there_scored():
    problem = polynomial(2)
    split = leave_out_records(problem, 4, seed=1)
    assert np.bincount(split.fold["data"]).tolist() == [15, 15, 15, 15]
    seen = np.zeros(60)
    for fold in range(4):
        inside, outside = kept(problem, split, fold), left_out(problem, split, fold)
        np.testing.assert_array_equal(inside.measurement.mask + outside.measurement.mask, np.ones((60, 1)))
        seen += np.asarray(outside.measurement.mask)[:, 0]
        z = start(problem)
        parts = [float(likelihood(p, insert(p, z))) for p in (inside, outside, problem)]
        assert parts[0] + parts[1] == pytest.approx(parts[2], rel=1e-12)
    assert (seen == 1).all()


def test_a_mask_of_the_data_stays_a_mask():
    mask = np.ones((60, 1))
    mask[10:20] = 0.0
    problem = polynomial(1).replace(measurement=Counts(data(), mask))
    split = leave_out_records(problem, 3)
    for fold in range(3):
        assert np.asarray(kept(problem, split, fold).measurement.mask)[10:20].max() == 0.0
        assert np.asarray(left_out(problem, split, fold).measurement.mask)[10:20].max() == 0.0


def test_blocks_hold_neighbours_and_elements_divide_a_single_record():
    places = np.stack(np.meshgrid(np.arange(12.0), np.arange(5.0), indexing="ij"), axis=-1).reshape(-1, 2)
    problem = polynomial(1)
    split = leave_out_blocks(problem, places, 3.0, 4)
    block, fold = split.unit["data"], split.fold["data"]
    assert block.max() + 1 == 4 * 2
    for number in range(block.max() + 1):
        members = places[block == number]
        assert (np.ptp(members, axis=0) < 3.0).all()
        assert len(set(fold[block == number])) == 1
    image = sj.make_problem(
        {"a": jnp.zeros(())},
        Counts(np.zeros((1, 6, 5))),
        forward=lambda m, i=None: jnp.full((1, 6, 5), m["a"]),
        noise=sj.Gaussian(1.0, 0.0),
        free=["a"],
    )
    split = leave_out_elements(image, 3)
    total = sum(np.asarray(left_out(image, split, fold).measurement.mask) for fold in range(3))
    np.testing.assert_array_equal(total, np.ones((1, 6, 5)))
    assert len(unit_scores(split, pointwise(image, image.experiment))) == 30


def test_units_of_all_data_sets_stand_side_by_side():
    joint = join({"one": polynomial(1), "two": polynomial(2)})
    split = leave_out_records(joint, 3)
    assert set(split.fold) == {"one", "two"}
    inside = kept(joint, split, 0)
    assert np.asarray(inside.measurement["two"].mask).sum() == 40
    scores = unit_scores(split, pointwise(joint, joint.experiment, split.whole))
    assert scores.shape == (120,)
    assert scores.sum() == pytest.approx(float(likelihood(joint, joint.experiment)))
    # Records of one and the other are chosen apart.
    assert (split.fold["one"] != split.fold["two"]).any()


# comparison


def test_plug_in_scores_are_those_of_the_normal_law():
    problem = polynomial(2)
    split = leave_out_records(problem, 5)
    found = compare({"line": polynomial(1), "parabola": problem}, best, split=split)
    by_hand = np.zeros(60)
    for fold in range(5):
        mean, _ = normal_equations(kept(problem, split, fold))
        out = split.fold["data"] == fold
        off = data()[out, 0] - np.vander(X, 3)[out] @ mean
        by_hand[out] = scipy.stats.norm.logpdf(off, 0.0, NOISE) - scipy.stats.norm.logpdf(0.0, 0.0, NOISE)
    np.testing.assert_allclose(found.scores["parabola"], by_hand, rtol=1e-9, atol=1e-12)
    differences = found.scores["parabola"] - found.scores["line"]
    gain, error = found.gain("parabola", "line")
    assert gain == pytest.approx(differences.sum())
    assert error == pytest.approx(np.sqrt(60) * differences.std(ddof=1))


def test_predictive_scores_are_those_of_the_predictive_law():
    problem = polynomial(2)
    split = leave_out_records(problem, 5)
    runs = [compare({"line": polynomial(1), "parabola": problem}, bayes, split=split, seed=s) for s in range(8)]
    by_hand = np.zeros(60)
    for fold in range(5):
        mean, covariance = normal_equations(kept(problem, split, fold))
        out = split.fold["data"] == fold
        design = np.vander(X, 3)[out]
        spread = np.sqrt(NOISE**2 + np.einsum("ij,jk,ik->i", design, covariance, design))
        law = scipy.stats.norm.logpdf(data()[out, 0], design @ mean, spread)
        by_hand[out] = law - scipy.stats.norm.logpdf(0.0, 0.0, NOISE)
    totals = np.array([run.scores["parabola"].sum() for run in runs])
    # An average of a hundred draws, eight times.
    assert abs(totals.mean() - by_hand.sum()) < 4 * totals.std(ddof=1) / np.sqrt(8) + 0.02
    assert totals.std() < 0.5


def test_the_degree_that_made_the_data_is_chosen():
    found = compare({f"degree {d}": polynomial(d) for d in (0, 1, 2, 3)}, best)
    assert found.chosen == "degree 2"
    assert found.better("degree 2", "degree 1")
    assert not found.better("degree 3", "degree 2")
    assert found.verdict.startswith("'degree 2': +")
    assert "nats over 'degree 1'" in found.verdict
    assert "'degree 3': " in found.verdict
    assert "not needed" in found.verdict
    assert "held-out log-likelihood" in str(found)
    numbers = json.loads(json.dumps(found.numbers()))
    assert numbers["chosen"] == "degree 2"
    assert numbers["units"] == 60


def test_standard_error_of_a_difference_is_that_over_repeated_data():
    gains, errors = [], []
    for seed in range(100):
        counts = data(seed)
        found = compare({"1": polynomial(1, counts), "2": polynomial(2, counts)}, best, seed=seed)
        gain, error = found.gain("2", "1")
        gains.append(gain)
        errors.append(error)
    # The error is an estimate of the scatter: from 60 units, with fits that share data, right to a third.
    assert np.mean(errors) == pytest.approx(np.std(gains), rel=0.33)


def test_folds_compile_nothing_anew():
    traced = []

    class Counted(Power):
        def __call__(self, model, index=None):
            traced.append(1)
            return super().__call__(model)

    problems = {"1": polynomial(1).replace(forward=Counted(1)), "2": polynomial(2).replace(forward=Counted(2))}
    compare(problems, best, folds=2)
    before = len(traced)
    compare(problems, best, folds=10, seed=3)
    assert len(traced) == before


def test_bad_ends_are_said_and_impossible_predictions_refused():
    def tired(problem):
        return dataclasses.replace(best(problem), success=False, status="ran out of steps")

    found = compare({"line": polynomial(1), "parabola": polynomial(2)}, {"line": best, "parabola": tired}, folds=3)
    assert "3 of 3 fits of 'parabola' did not end well (ran out of steps)" in found.verdict

    def lost(problem):
        return at_point(problem, {"a": jnp.full(problem.experiment["a"].shape, jnp.nan)}, "lost", "lost")

    with pytest.raises(sj.InputError, match="'line' gives 20 units that fold 0 leaves out no finite likelihood"):
        compare({"line": polynomial(1), "parabola": polynomial(2)}, lost, folds=3)
    with pytest.raises(sj.InputError, match="neither draws nor a model"):
        compare({"line": polynomial(1), "parabola": polynomial(2)}, lambda p: Result("none", {}))


@pytest.mark.parametrize(
    ("problems", "words"),
    [
        (lambda: {"line": polynomial(1)}, "nothing to compare"),
        (lambda: {"line": polynomial(1), "other": polynomial(2, data(1))}, "'data' of 'other' differs"),
        (lambda: {"line": polynomial(1), "other": polynomial(2, noise=sj.Gaussian(1.0, 0.0))}, "one noise model"),
        (lambda: {"line": polynomial(1), "both": join({"a": polynomial(1), "b": polynomial(2)})}, "data sets"),
        (
            lambda: {
                "line": polynomial(1),
                "other": polynomial(2).replace(measurement=Counts(data(), np.ones(1))),
            },
            "'data' of 'other' differs",
        ),
    ],
)
def test_models_of_different_data_are_refused(problems, words):
    with pytest.raises(sj.InputError, match=words):
        compare(problems(), best)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda p: leave_out_records(p, 61), "61 folds of 60 records of data set 'data'; give from 2 to 60"),
        (lambda p: leave_out_records(p, 1), "1 folds of 60"),
        (lambda p: leave_out_blocks(p, np.zeros((60, 2)), 1.0), "of 1 blocks of data set 'data'; there is nothing"),
        (lambda p: leave_out_blocks(p, np.zeros((59, 2)), 1.0), r"places of shape \(59, 2\) for 60 records"),
        (lambda p: leave_out_blocks(p, np.zeros((60, 2)), 0.0), "blocks of size 0"),
        (lambda p: leave_out_blocks(p, {"dat": np.zeros((60, 2))}, 1.0), "no places for data set 'data'"),
        (lambda p: kept(p.replace(measurement=NoMask(data())), leave_out_records(p), 0), "no field 'mask'"),
    ],
)
def test_impossible_splits_are_refused(call, words):
    with pytest.raises(sj.InputError, match=words):
        call(polynomial(1))


class NoMask(struct.PyTreeNode):
    counts: Any


def test_simplest_model_within_the_error_is_chosen():
    noise = np.random.default_rng(2).normal(size=(3, 400))
    scores = {"one": -1.0 + 0.1 * noise[0], "two": -0.9 + 0.1 * noise[1], "three": -0.8995 + 0.1 * noise[2]}
    found = Comparison(scores, 5)
    assert found.better("two", "one")
    assert found.chosen == "two"
    # Four nats are needed however sure they look.
    sure = Comparison({"one": np.zeros(50), "two": np.full(50, 0.05)}, 5)
    assert sure.best == "two"
    assert sure.chosen == "one"


# microscopes


def test_how_many_columns_stand_behind_a_blurred_peak():
    scan = sj.make_raster((16, 16), 0.25)
    places = {1: [[2.0, 2.0]], 2: [[1.8, 1.4], [2.2, 2.6]], 3: [[1.8, 1.4], [2.2, 2.6], [3.2, 1.0]]}
    truth = sj.ColumnScene(sj.make_columns(places[2], amplitude=20.0, width=0.45, background=2.0), scan)
    counts = np.random.default_rng(0).poisson(np.asarray(sj.ColumnImage()(truth))).astype(float)

    def columns(count):
        return sj.make_problem(
            sj.ColumnScene(sj.make_columns(places[count], amplitude=15.0, width=0.5, background=2.0), scan),
            sj.Measurement(counts),
            forward=sj.ColumnImage(),
            noise=sj.Poisson(),
            free=["columns.positions", "columns.amplitude", "columns.width", "columns.background"],
            priors={
                "columns.positions": sj.Normal(2.0, 1.5),
                "columns.amplitude": sj.LogNormal(2.5, 1.5),
                "columns.width": sj.LogNormal(-0.7, 0.5),
                "columns.background": sj.LogNormal(0.7, 0.5),
            },
        )

    problems = {f"{count} columns": columns(count) for count in (1, 2, 3)}
    blocks = leave_out_blocks(problems["1 columns"], np.asarray(scan.positions), 0.5, 5)
    found = compare(problems, climbed)
    assert found.chosen == "2 columns", found.verdict
    assert abs(found.gain("3 columns", "2 columns")[0]) < 10
    two = compare({name: problems[name] for name in ("1 columns", "2 columns")}, climbed, split=blocks)
    for each in (found, two):
        gain, error = each.gain("2 columns", "1 columns")
        assert gain > 3 * error


@pytest.mark.slow
def test_how_many_slices_a_thick_specimen_has():
    grid = sj.make_grid(12, 0.5)
    y, x = np.mgrid[:12, :12]

    def atom(cy, cx):
        apart = ((y - cy + 6) % 12 - 6) ** 2 + ((x - cx + 6) % 12 - 6) ** 2
        return 0.7 * np.exp(-apart / 3.0)

    def experiment(phase):
        return sj.make_experiment(
            sj.make_probe(grid, energy=80e3, semiangle=30.0, aberrations=sj.make_aberrations(C10=40.0)),
            sj.make_object(grid, phase=phase, thickness=120.0 / len(phase), periodic=True),
            sj.make_raster((5, 5), 1.2),
            dose=2e4,
        )

    truth = experiment(np.stack([atom(3, 4) + atom(9, 3), atom(6, 9) + atom(2, 10)]))
    forward = sj.Diffraction(limit=None)
    counts = np.random.default_rng(0).poisson(np.asarray(jax.jit(forward)(truth))).astype(float)
    problems = {
        f"{slices} slices": sj.make_problem(
            experiment(np.zeros((slices, 12, 12))),
            sj.Measurement(counts),
            forward=forward,
            noise=sj.Poisson(),
            free=["specimen.phase"],
            priors={"specimen.phase": Ridge(0.3)},
        )
        for slices in (1, 2, 3)
    }
    found = compare(problems, climbed, folds=3)
    assert found.chosen == "2 slices", found.verdict
    gain, error = found.gain("2 slices", "1 slices")
    assert gain > 3 * error
