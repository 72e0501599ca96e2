"""Minibatch optimisation: batches, gates, transformations, the optimum itself."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

import stemjax as sj
from stemjax.inference.batches import batch_of, deal, held_out, lane_count, shuffled, without
from stemjax.inference.solvers import optimise as solver
from tests.inference.test_problem import Counts, Line, Straight, X, line_problem


@given(st.integers(1, 200), st.integers(1, 4), st.integers(1, 64), st.integers(0, 5))
def test_every_record_comes_once_an_epoch(records, devices, size, epoch):
    lanes = lane_count(devices, records)
    index, weight = shuffled(records, lanes, size, seed=3, epoch=epoch)
    number = index * lanes + np.arange(lanes)[None, :, None]
    np.testing.assert_array_equal(np.sort(number[weight > 0]), np.arange(records))
    stored = deal(np.arange(records), lanes)
    lane = np.broadcast_to(np.arange(lanes)[None, :, None], index.shape)
    np.testing.assert_array_equal(stored[lane, index][weight > 0], number[weight > 0])


def test_batches_do_not_depend_on_the_number_of_devices():
    one, two = (shuffled(100, lane_count(d, 100), 16, seed=0, epoch=1) for d in (1, 2))
    np.testing.assert_array_equal(one[0], two[0])


def test_epochs_differ_and_repeat_by_seed():
    first, again, other = (shuffled(64, 8, 16, seed=0, epoch=e)[0] for e in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def full_optimum(problem):
    z = {k: jnp.asarray(v) for k, v in (("slope", 4.0), ("offset", 10.0))}
    gradient = jax.jit(jax.grad(lambda z: -sj.log_density(problem, z)))
    hessian = jax.jit(jax.hessian(lambda z: -sj.log_density(problem, z)))
    for _ in range(20):
        g, h = gradient(z), hessian(z)
        names = ["slope", "offset"]
        step = np.linalg.solve(
            np.array([[float(h[a][b]) for b in names] for a in names]), np.array([float(g[a]) for a in names])
        )
        z = {a: z[a] - step[i] for i, a in enumerate(names)}
    return {a: float(v) for a, v in z.items()}


@pytest.mark.parametrize(
    "transform", [optax.scale_by_adam(), pytest.param(optax.scale_by_yogi(), marks=pytest.mark.slow)]
)
def test_any_transformation_reaches_the_maximum_likelihood(transform):
    problem = line_problem(slope=3.0, offset=8.0)
    rates = {
        name: (lambda e, r=r: r * 0.5 * (1 + np.cos(np.pi * e / 2000)))
        for name, r in (("slope", 0.01), ("offset", 0.05))
    }
    plan = sj.Plan(rates=rates, batch=len(X), transform=transform)
    found = sj.optimise(problem, plan, 2000)
    best = full_optimum(problem)
    assert found.success
    # Within a tenth of the statistical error of either parameter.
    assert abs(float(found.value.slope) - best["slope"]) < 0.05
    assert abs(float(found.value.offset) - best["offset"]) < 0.15


def test_leaf_at_rate_zero_rests_and_then_starts_fresh():
    problem = line_problem()
    plan = sj.Plan(rates={"slope": lambda e: 0.05 if e >= 3 else 0.0, "offset": 0.1}, batch=8)
    spread = solver.distribute(problem, plan.execution)
    state = solver.initial(spread, plan)
    for number in range(3):
        state, _ = solver.epoch(spread, state, plan, number)
    assert float(state.z["slope"]) == 2.0
    assert int(state.memory["slope"].count) == 0
    state, _ = solver.epoch(spread, state, plan, 3)
    assert float(state.z["slope"]) != 2.0
    assert int(state.memory["slope"].count) == 5


@given(st.integers(80, 400), st.integers(1, 4), st.floats(0.01, 0.5), st.integers(0, 3))
def test_what_is_held_out_has_no_weight_in_any_batch_and_comes_once_in_its_own(records, devices, share, seed):
    lanes, chosen = lane_count(devices, records), held_out(records, share, seed=seed)
    index, weight = without(chosen, shuffled(records, lanes, 16, seed=seed, epoch=0))
    number = index * lanes + np.arange(lanes)[None, :, None]
    np.testing.assert_array_equal(np.sort(number[weight > 0]), np.flatnonzero(~chosen))
    place, given_ = batch_of(chosen, lanes)
    held = place * lanes + np.arange(lanes)[:, None]
    np.testing.assert_array_equal(np.sort(held[given_ > 0]), np.flatnonzero(chosen))


class LongLine(Straight):
    """A line of 400 points."""

    x = np.linspace(1.0, 5.0, 400)

    def __call__(self, model, index=None):
        values = model.slope * jnp.asarray(self.x) + model.offset
        return (values if index is None else values[index])[:, None]

    def total(self, model, score, data, index, weight):
        lanes = index.shape[0]
        number = jnp.minimum(index * lanes + jnp.arange(lanes)[:, None], len(self.x) - 1)
        records = data[jnp.arange(lanes)[:, None], index]
        return jnp.sum(weight * jax.vmap(jax.vmap(score))(self(model)[number], records))


def test_held_out_records_are_scored_and_not_fitted():
    counts = np.random.default_rng(3).poisson(4.0 * LongLine.x + 10.0)[:, None].astype(float)
    guess = Line(jnp.array(2.0), jnp.array(3.0))
    problem = sj.make_problem(
        guess, Counts(counts), forward=LongLine(), noise=sj.Poisson(0.0), free=["slope", "offset"]
    )
    plan = sj.Plan(rates={"slope": 0.05, "offset": 0.05}, batch=100, held_out=0.1)
    chosen = held_out(400, 0.1, seed=0)
    found = sj.optimise(problem, plan, 3)
    mean, seen = float(found.value.slope) * LongLine.x[chosen] + float(found.value.offset), counts[chosen, 0]
    expected = np.mean(scipy.special.xlogy(seen, seen / mean) - seen + mean)
    np.testing.assert_allclose(found.history["held_out"][-1], expected, rtol=1e-6)
    # Whatever the held-out records say, the fit is the same.
    spoilt = np.asarray(problem.measurement.counts).copy()
    spoilt[chosen] = 7.0
    other = sj.optimise(problem.replace(measurement=problem.measurement.replace(counts=jnp.asarray(spoilt))), plan, 3)
    np.testing.assert_array_equal(found.value.slope, other.value.slope)
    assert other.history["held_out"][-1] != found.history["held_out"][-1]


def test_missing_and_unknown_rates_are_refused():
    problem = line_problem()
    with pytest.raises(sj.InputError, match="no rate for the free leaf 'offset'"):
        solver.rates_at(sj.Plan(rates={"slope": 0.1}), problem.free, 0)
    with pytest.raises(sj.InputError, match="nearest: 'slope'"):
        solver.rates_at(sj.Plan(rates={"slop": 0.1, "slope": 0.1, "offset": 0.1}), problem.free, 0)


def test_divergence_returns_the_last_good_state():
    problem = line_problem()
    plan = sj.Plan(rates={"slope": lambda e: 1e8 if e == 2 else 0.01, "offset": 0.01}, batch=8)
    found = sj.optimise(problem, plan, 6)
    assert not found.success
    assert "diverged in epoch 3" in found.status
    assert abs(float(found.value.slope)) < 10.0
    assert len(found.history["loss"]) == 2


def test_prior_pulls_by_its_weight_in_all_records():
    import numpyro.distributions as dist

    tight = line_problem(priors={"slope": dist.Normal(2.0, 1e-3)})
    rates = {"slope": lambda e: 0.02 * (1 - e / 300), "offset": lambda e: 0.1 * (1 - e / 300)}
    found = sj.optimise(tight, sj.Plan(rates=rates, batch=len(X)), 300)
    assert abs(float(found.value.slope) - 2.0) < 5e-3
