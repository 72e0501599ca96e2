"""L-BFGS: against normal equations, scipy, closed forms, and Levenberg-Marquardt, which walks another way."""

import jax.numpy as jnp
import numpy as np
import pytest

import stemjax as sj
from stemjax.inference import problem as statement
from stemjax.inference.solvers import lbfgs as solver
from tests.inference.test_least_squares import (
    LINEAR,
    NOT_FINITE,
    SHAPE,
    Linear,
    Pair,
    Root,
    Trading,
    blurred_problem,
    by_scipy,
    columns_by_scipy,
    compilations,
    decay_by_scipy,
    decay_problem,
    decrement,
    largest,
    linear_problem,
    normal_equations,
    programs,
    unconstrained,
    vector,
)
from tests.inference.test_problem import Counts, Line, X, line_problem


@pytest.fixture(scope="module")
def columns():
    problem, *expected = columns_by_scipy()
    return problem, expected, sj.lbfgs(problem, tolerance=1e-12)


def test_a_linear_problem_ends_at_the_normal_equations():
    problem = linear_problem()
    expected, matrix = normal_equations(problem)
    found = sj.lbfgs(problem, tolerance=1e-13, iterations=1000)
    assert found.success, found.status
    errors = (vector(found) - expected) / np.sqrt(np.diag(np.linalg.inv(matrix)))
    assert np.abs(errors).max() < 1e-5


def test_columns_end_where_scipy_and_least_squares_end(columns):
    problem, (expected, spread), found = columns
    assert found.success, found.status
    z = np.asarray(unconstrained(problem, found))
    assert (np.abs(z - expected) / spread).max() < 1e-4
    assert decrement(problem, z) < 1e-8
    other = np.asarray(unconstrained(problem, sj.least_squares(problem, tolerance=1e-12)))
    assert (np.abs(z - other) / spread).max() < 1e-4


def test_bounded_leaves_end_at_the_most_probable_leaves():
    problem = decay_problem()
    found = sj.lbfgs(problem, tolerance=1e-12)
    assert found.success
    np.testing.assert_allclose(vector(found), decay_by_scipy(), rtol=1e-5)


def test_a_bound_that_is_in_the_way_is_reached():
    problem = decay_problem(upper=0.5)
    found = sj.lbfgs(problem, tolerance=1e-8)
    assert found.success, found.status
    assert float(found.value["rate"]) <= 0.5
    np.testing.assert_allclose(vector(found), decay_by_scipy(upper=0.5), rtol=1e-4)


def test_several_data_sets_weigh_by_their_noise():
    random = np.random.default_rng(0)
    data = {"line": Counts(10.0 + 4.0 * X + random.normal(size=40)), "slope": Counts(random.normal(5.0, 0.2, 5))}
    noise = {"line": sj.Gaussian(1.0, 0.0), "slope": sj.Gaussian(0.2, 0.0)}
    problem = sj.make_problem(
        Line(jnp.array(1.0), jnp.array(0.0)), data, forward=Pair(), noise=noise, free=["slope", "offset"]
    )
    found = sj.lbfgs(problem, tolerance=1e-13)
    rows = np.r_[np.c_[np.ones(40), X], np.c_[np.zeros(5), np.full(5, 5.0)]]
    right = np.r_[data["line"].counts, 5.0 * data["slope"].counts]
    np.testing.assert_allclose(vector(found), np.linalg.lstsq(rows, right)[0], rtol=1e-5)


def test_leaves_that_trade_come_to_rest_and_are_named():
    plain = line_problem()
    model = {"a": jnp.array(2.0), "b": jnp.array(1.0), "c": jnp.array(3.0)}
    problem = sj.make_problem(
        model, plain.measurement, forward=Trading("product"), noise=sj.Poisson(0.0), free=["a", "b", "c"]
    )
    found = sj.lbfgs(problem, tolerance=1e-10)
    assert found.success, found.status
    offset, slope = by_scipy(plain)[0]
    a, b, c = vector(found)
    assert a * b == pytest.approx(slope, rel=1e-4)
    assert c == pytest.approx(offset, rel=1e-4)
    with pytest.raises(sj.InputError, match=r"'[ab]' and '[ab]' trade against each other"):
        sj.laplace(problem, at=found)


def test_data_that_depend_on_nothing_end_at_the_first_guess():
    problem = line_problem().replace(forward=lambda model, index=None: jnp.full((40, 1), 20.0) + 0.0 * model.slope)
    found = sj.lbfgs(problem)
    assert vector(found).tolist() == [3.0, 2.0]
    assert len(found.history["loss"]) < 5  # and does not go on about it


def test_a_step_to_where_the_model_is_not_defined_is_taken_back():
    counts = line_problem().measurement
    problem = sj.make_problem({"a": jnp.array(1e6)}, counts, forward=Root(), noise=sj.Poisson(0.0), free=["a"])
    found = sj.lbfgs(problem, tolerance=1e-10, iterations=500)
    assert found.success
    assert float(found.value["a"]) == pytest.approx(np.mean(counts.counts) ** 2, rel=1e-5)


@NOT_FINITE
def test_a_start_that_is_not_finite_is_explained(problem, words):
    with pytest.raises(sj.InputError, match=words):
        sj.lbfgs(problem())


def test_too_few_steps_are_no_success_and_say_so():
    found = sj.lbfgs(line_problem(), iterations=1)
    assert not found.success
    assert "took 1 steps without coming to rest" in found.status
    assert len(found.history["loss"]) == 2
    none = sj.lbfgs(line_problem(), iterations=0)
    assert not none.success
    assert vector(none).tolist() == [3.0, 2.0]


def test_history_and_reports_are_of_every_step_and_never_rise(columns):
    problem, _, found = columns
    loss, told = found.history["loss"], []
    assert set(found.history) == {"loss"}
    assert len(loss) > 10
    assert (np.diff(loss) <= 0).all()
    assert loss[0] == pytest.approx(float(statement.objective(problem, statement.start(problem))), rel=1e-12)
    again = sj.lbfgs(problem, iterations=4, report=lambda *step: told.append(step))
    np.testing.assert_array_equal(again.history["loss"], loss[:5])
    assert told == list(enumerate(loss[1:5].tolist()))


def test_one_program_serves_every_step_and_all_data_of_a_shape():
    forward = Linear(LINEAR.matrix)  # no other test knows it
    with compilations() as events:
        sj.lbfgs(linear_problem(forward), iterations=1)
    assert events
    other = linear_problem(forward, seed=7)
    guess = {"gain": jnp.array(1.0), "image": jnp.zeros(SHAPE), "pair": jnp.zeros(2)}
    other = other.replace(experiment=guess, priors=other.priors | {"image": sj.Smooth(0.7)})
    with compilations() as events:
        found = sj.lbfgs(other, tolerance=1e-6)
    assert not events
    assert len(found.history["loss"]) > 3


@pytest.mark.slow
def test_memory_is_that_of_the_steps_it_remembers(monkeypatch):
    calls, unknowns = programs(monkeypatch, solver), 150 * 150 + 1
    found = sj.lbfgs(blurred_problem(150), iterations=3)
    assert found.history["loss"][-1] < 0.5 * found.history["loss"][0]
    assert len(calls) == 2
    most = max(largest(function.trace(*given).jaxpr.jaxpr) for function, given in calls.values())
    assert unknowns <= most <= solver.MEMORY * unknowns
