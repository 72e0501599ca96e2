"""Calibration: exact posteriors pass, wrong ones are caught and named."""

import functools
import json
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats
from flax import struct

import stemjax as sj
from stemjax.core.annotations import Annotated
from stemjax.inference.batches import deal
from stemjax.inference.data_sets import Dealt, groups
from stemjax.inference.joint import join
from stemjax.inference.priors.images import Ridge
from stemjax.inference.result import Named, Result, named_leaves
from stemjax.inference.trust.calibrate import calibrate
from stemjax.inference.trust.coverage import LEVELS, Quantity
from stemjax.inference.trust.ranks import share_below
from stemjax.inference.trust.simulate import draw_values, model_of, simulate_data

NOISE = 0.5
DESIGN = np.random.default_rng(3).normal(size=(12, 4))
DESIGN[:, 2] = 0.9 * DESIGN[:, 1] + 0.2 * DESIGN[:, 2]
DESIGN[:, 3] = 0.9 * DESIGN[:, 0] + 0.3 * DESIGN[:, 3]
SPREADS = np.array([1.0, 0.5, 0.5, 2.0])


class Plane(struct.PyTreeNode):
    """Unknowns of a linear model: one number and three that the data confuse."""

    offset: Annotated[Any, "Å"]
    slopes: Any


class Counts(struct.PyTreeNode):
    counts: Any
    mask: Any = None


def forward(model, index=None):
    theta = jnp.concatenate([model.offset[None], model.slopes])
    return (jnp.asarray(DESIGN) @ theta)[:, None]


def linear_problem(priors=None):
    if priors is None:
        priors = {"offset": dist.Normal(0.0, 1.0), "slopes": dist.Normal(jnp.zeros(3), jnp.asarray(SPREADS[1:]))}
    guess = Plane(jnp.array(0.3), jnp.zeros(3))
    return sj.make_problem(
        guess,
        Counts(jnp.zeros((12, 1))),
        forward=forward,
        noise=sj.Gaussian(NOISE, 0.0),
        free=["offset", "slopes"],
        priors=priors,
    )


class Normal(struct.PyTreeNode):
    """The exact posterior of the linear problem, or one that is made wrong."""

    mean: Any
    root: Any

    def draw(self, key, count):
        return drawn(self.mean, self.root, key, count)


@functools.partial(jax.jit, static_argnums=3)
def drawn(mean, root, key, count):
    theta = mean[None] + jax.random.normal(key, (count, 4)) @ root.T
    return {"offset": theta[:, 0], "slopes": theta[:, 1:]}


@jax.jit
def conjugate(counts):
    """Mean and covariance of the posterior, from the normal equations."""
    precision = DESIGN.T @ DESIGN / NOISE**2 + jnp.diag(1.0 / SPREADS**2)
    covariance = jnp.linalg.inv(precision)
    return covariance @ (DESIGN.T @ counts[:, 0]) / NOISE**2, covariance


def exact(problem, *, stretch=1.0, shift=0.0, correlated=True, outlier=0.0, fail=0.0):
    """The exact solver, with what may be wrong with it."""
    counts = jnp.asarray(problem.measurement.counts)
    mean, covariance = (np.asarray(a) for a in conjugate(counts))
    covariance = stretch**2 * (covariance if correlated else np.diag(np.diag(covariance)))
    spread = np.sqrt(np.diag(covariance))
    chance = np.random.default_rng(abs(int(1e6 * float(counts[0, 0]))))
    mean = mean + shift * spread + (20.0 * spread if chance.random() < outlier else 0.0)
    if chance.random() < fail:
        raise sj.InputError("lost its way")
    values = {"offset": mean[0], "slopes": mean[1:]}
    return Result(
        "exact",
        named_leaves(problem.experiment, values),
        named_leaves(problem.experiment, {"offset": spread[0], "slopes": spread[1:]}),
        posterior=Normal(mean, np.linalg.cholesky(covariance)),
        status="solved",
    )


@pytest.fixture(scope="module")
def honest():
    return calibrate(linear_problem(), exact, truths=500, seed=1)


def test_exact_posterior_is_calibrated(honest):
    assert honest.calibrated, honest.verdict
    assert honest.fits == 500
    assert not honest.failures
    for quantity in honest.quantities.values():
        assert quantity.p_value > 0.01
        # Three numbers a fit are never better than three fits, nor worse than one.
        assert abs(quantity.scatter[0] - 1.0) < 3.5 / np.sqrt(2 * 500)
        for level in LEVELS:
            assert abs(quantity.coverage(level)[0] - level) < 3.5 * np.sqrt(level * (1 - level) / 500)
    assert honest.quantities["offset"].unit == "Å"
    assert honest.quantities["slopes"].p_joint > 0.01
    assert honest.p_joint > 0.01
    assert "calibrated, as far as 500 fits can tell" in str(honest)


def test_ranks_are_those_of_the_chi_square_test(honest):
    quantity = honest.quantities["offset"]
    counted, _ = np.histogram(quantity.ranks, bins=quantity.bins, range=(0.0, 1.0))
    assert quantity.bins == 16
    assert quantity.p_value == pytest.approx(scipy.stats.chisquare(counted).pvalue)


def test_standard_deviations_that_are_too_small_are_caught():
    found = calibrate(linear_problem(), functools.partial(exact, stretch=0.7), truths=300)
    assert not found.calibrated
    for quantity in found.quantities.values():
        assert quantity.p_value < 1e-4
        scatter, error = quantity.scatter
        assert abs(scatter - 1 / 0.7) < 4 * error
        # An interval of 1.96 × 0.7 standard deviations holds what the normal law says.
        share, error = quantity.coverage(0.95)
        assert abs(share - (1 - 2 * scipy.stats.norm.sf(1.96 * 0.7))) < 4 * error
    assert "standard deviations of offset are too small by a factor of 1." in found.verdict


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"stretch": 1.5}, "standard deviations of slopes are too large by a factor of 1."),
        ({"shift": 0.5}, "estimates of offset are too high by 0."),
        ({"shift": -0.5}, "estimates of offset are too low by 0."),
        ({"outlier": 0.02}, "fits of offset are wrong by more than 6 of their standard deviations"),
    ],
)
def test_other_faults_are_named(wrong, words):
    assert words in calibrate(linear_problem(), functools.partial(exact, **wrong), truths=200).verdict


def test_wrong_correlations_are_caught_where_every_error_bar_is_right():
    found = calibrate(linear_problem(), functools.partial(exact, correlated=False), truths=500)
    slopes = found.quantities["slopes"]
    assert abs(slopes.scatter[0] - 1.0) < 4 * slopes.scatter[1]
    assert slopes.p_value > 1e-3
    assert slopes.p_joint < 1e-5
    assert "correlations" in found.verdict
    assert found.quantities["offset"].p_joint is None


def test_wrong_correlations_between_leaves_are_caught():
    def severed(problem):
        result = exact(problem)
        root = np.array(result.posterior.root)
        covariance = root @ root.T
        covariance[0, 1:] = covariance[1:, 0] = 0.0
        return replace(result, posterior=Normal(result.posterior.mean, jnp.linalg.cholesky(jnp.asarray(covariance))))

    found = calibrate(linear_problem(), severed, truths=500)
    assert not any(quantity.complaints(1e-4) for quantity in found.quantities.values())
    assert found.p_joint < 1e-4
    assert "between leaves" in found.verdict


def test_failures_are_counted_and_said():
    found = calibrate(linear_problem(), functools.partial(exact, fail=0.2), truths=100)
    assert found.fits + len(found.failures) == 100
    assert 5 < len(found.failures) < 40
    assert f"{len(found.failures)} of 100 fits failed" in found.verdict
    assert "lost its way" in found.verdict
    assert not found.calibrated
    with pytest.raises(sj.InputError, match=r"20 of 20 fits failed, the first with: lost its way"):
        calibrate(linear_problem(), functools.partial(exact, fail=1.0), truths=20)


def test_status_of_a_solver_without_success_is_kept():
    def lame(problem):
        result = exact(problem)
        bad = float(problem.measurement.counts[0, 0]) > 1.0
        spread = {**result.uncertainty, "offset": Named(np.array(0.0), "Å", (), "offset")}
        good = float(problem.measurement.counts[0, 0]) > -1.0
        return Result(
            "lame", result.estimate, result.uncertainty if good else spread, success=not bad, status="ran out of steps"
        )

    found = calibrate(linear_problem(), lame, truths=60, seed=4)
    assert set(found.failures.values()) == {
        "ran out of steps",
        "the standard deviation of 'offset' is zero or not finite",
    }


def test_derived_quantities_use_the_posterior_of_all_leaves_together():
    class Sum:
        unit = "Å"

        @staticmethod
        def function(model):
            return model.offset + jnp.sum(model.slopes)

    def run(**wrong):
        solver = functools.partial(exact, **wrong)
        return calibrate(linear_problem(), solver, truths=300, derived={"sum": Sum}, paths=["offset"])

    good, bad = run(), run(correlated=False)
    assert list(good.quantities) == ["offset", "sum"]
    assert good.calibrated, good.verdict
    # The sum of confused slopes is better known than its terms: errors that ignore this are too large.
    weights = np.ones(4)
    covariance = np.asarray(conjugate(jnp.zeros((12, 1)))[1])
    expected = np.sqrt(weights @ covariance @ weights / np.diag(covariance).sum())
    scatter, error = bad.quantities["sum"].scatter
    assert abs(scatter - expected) < 4 * error
    assert "standard deviations of sum are too large" in bad.verdict


def test_draws_and_plain_standard_deviations_serve_too():
    def sampler(problem):
        result = exact(problem)
        drawn = result.posterior.draw(jax.random.key(int(1e6 * abs(float(problem.measurement.counts[0, 0])))), 400)
        chains = {p: np.asarray(v).reshape(4, 100, *v.shape[1:]) for p, v in drawn.items()}
        dims = {"offset": ("chain", "draw"), "slopes": ("chain", "draw", "axis0")}
        samples = {p: Named(v, "1", dims[p], p) for p, v in chains.items()}
        return Result("sampler", result.estimate, samples=samples)

    def bars(problem):
        result = exact(problem)
        return Result("bars", result.estimate, result.uncertainty)

    for solver in (sampler, bars):
        found = calibrate(linear_problem(), solver, truths=200, paths=["offset"])
        assert found.calibrated, found.verdict
    assert "scatter" not in calibrate(linear_problem(), bars, truths=30).numbers()
    with pytest.raises(sj.InputError, match="derived quantities need draws"):
        calibrate(linear_problem(), bars, truths=3, derived={"sum": Sum()})
    with pytest.raises(sj.InputError, match="no uncertainty of 'offset'"):
        calibrate(linear_problem(), lambda p: Result("none", exact(p).estimate), truths=3)


class Sum:
    unit = "Å"

    def function(self, model):
        return model.offset


def test_programs_are_compiled_once():
    traced = []

    def counted(model, index=None):
        traced.append(1)
        return forward(model)

    problem = linear_problem().replace(forward=counted)
    calibrate(problem, exact, truths=2)
    before = len(traced)
    calibrate(problem, exact, truths=20, seed=7)
    assert len(traced) == before


def test_a_solver_that_knows_the_problem_compiles_nothing_anew():
    @jax.jit
    def fit(problem):
        return sj.log_density(problem, sj.start(problem))

    def solver(problem):
        fit(problem)
        return exact(problem)

    problem = linear_problem()
    for counts in (np.zeros((12, 1)), jnp.zeros((12, 1)), jax.device_put(jnp.zeros((12, 1)), jax.devices()[0])):
        same = problem.replace(measurement=Counts(counts))
        solver(same)
        before = fit._cache_size()
        calibrate(same, solver, truths=3)
        assert fit._cache_size() == before


def test_numbers_are_plain_and_hold_the_table(honest):
    numbers = json.loads(json.dumps(honest.numbers()))
    assert numbers["quantities"]["slopes"]["elements"] == 3
    assert numbers["quantities"]["offset"]["coverage"]["0.95"] == pytest.approx(
        honest.quantities["offset"].coverage(0.95)[0], abs=1e-4
    )
    assert numbers["calibrated"] is True


def test_pooled_elements_of_one_fit_are_not_taken_for_independent():
    random = np.random.default_rng(0)
    # A hundred equal elements a fit tell as much as one.
    same = np.repeat(random.normal(size=(200, 1)), 100, axis=1)
    quantity = Quantity("a", "1", same, scipy.stats.norm.cdf(same), scipy.stats.norm.cdf(same[:, 0]))
    assert quantity.bias[1] == pytest.approx(1 / np.sqrt(200), rel=0.2)
    assert quantity.scatter[1] == pytest.approx(1 / np.sqrt(2 * 200), rel=0.3)
    assert quantity.coverage(0.9)[1] == pytest.approx(np.sqrt(0.09 / 200), rel=0.3)


def test_false_alarms_are_as_rare_as_promised():
    random = np.random.default_rng(5)
    blamed = 0
    for _ in range(400):
        z = random.normal(size=(80, 1))
        u = scipy.stats.norm.cdf(z)
        blamed += bool(Quantity("a", "1", z, u, u[:, 0]).complaints(0.01 / 6))
    # 400 times at most 1 %: seven and more happen by chance once in ten thousand.
    assert blamed < scipy.stats.binom.isf(1e-4, 400, 0.01)


def test_share_below_is_even_under_ties_of_few_draws():
    random = np.random.default_rng(6)
    u = np.array([share_below(random.normal(size=(7, 1)), random.normal(size=1), random)[0] for _ in range(2000)])
    assert scipy.stats.kstest(u, "uniform").pvalue > 1e-3


def test_truths_follow_the_priors():
    problem = linear_problem({"offset": dist.LogNormal(0.5, 0.2), "slopes": Ridge(0.3, jnp.array([1.0, 2.0, 3.0]))})
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = jax.vmap(lambda key: draw_values(problem, key))(keys)
    assert scipy.stats.kstest(np.log(drawn["offset"]), scipy.stats.norm(0.5, 0.2).cdf).pvalue > 1e-3
    assert scipy.stats.kstest(drawn["slopes"][:, 1], scipy.stats.norm(2.0, 0.3).cdf).pvalue > 1e-3
    correlations = np.corrcoef(np.asarray(drawn["slopes"]).T) - np.eye(3)
    assert np.abs(correlations).max() < 4 / np.sqrt(4000)


@pytest.mark.parametrize(
    ("priors", "draw", "words"),
    [
        ({"offset": dist.Normal(0.0, 1.0)}, None, "'slopes' has no prior.*draw={'slopes'"),
        (
            {"offset": dist.Normal(0.0, 1.0), "slopes": dist.ImproperUniform(dist.constraints.real, (), ())},
            None,
            "Improper",
        ),
        ({"offset": dist.Normal(0.0, 1.0), "slopes": Ridge()}, None, "cannot be drawn from"),
        (None, {"slope": None}, "not free; nearest: 'slopes'"),
        (None, {"slopes": lambda key, model: jnp.zeros(2)}, r"shape \(2,\); the leaf has \(3,\)"),
    ],
)
def test_truths_that_cannot_be_drawn_are_refused(priors, draw, words):
    problem = linear_problem()
    if priors is not None:
        problem = problem.replace(priors=priors)
    with pytest.raises(sj.InputError, match=words):
        calibrate(problem, exact, truths=3, draw=draw)


def test_a_draw_of_ones_own_stands_for_a_missing_prior():
    problem = linear_problem({"offset": dist.Normal(0.0, 1.0)})
    draw = {"slopes": lambda key, model: model.slopes + jnp.asarray(SPREADS[1:]) * jax.random.normal(key, (3,))}
    assert calibrate(problem, exact, truths=200, draw=draw).calibrated


# simulated data


def test_counts_have_the_moments_of_the_noise_and_keep_the_mask():
    model = {"a": jnp.array([3.0, 50.0])}

    def spread(model, index=None):
        return jnp.broadcast_to(model["a"][None], (4000, 2))

    mask = jnp.array([1.0, 0.0])
    guess = {"a": jnp.ones(2)}
    for noise, variance in ((sj.Poisson(0.0), [3.0, 50.0]), (sj.Gaussian(2.0, 1.0), [7.0, 54.0])):
        problem = sj.make_problem(
            guess, sj.Measurement(np.ones((4000, 2), np.float32), mask), forward=spread, noise=noise, free=["a"]
        )
        simulated = simulate_data(problem, model, jax.random.key(1))
        counts = np.asarray(simulated.measurement.counts)
        assert counts.dtype == np.float32
        error = np.sqrt(np.array(variance) / 4000)
        assert (np.abs(counts.mean(axis=0) - [3.0, 50.0]) < 4 * error).all()
        np.testing.assert_allclose(counts.var(axis=0), variance, rtol=4 * np.sqrt(2.2 / 4000) + 0.01)
        assert simulated.measurement.mask is mask
        assert simulated.experiment is guess


def test_every_data_set_of_a_joint_problem_is_drawn_from_its_own_noise():
    def many(model, index=None):
        return {"dim": jnp.full((3000,), model["a"]), "bright": jnp.full((3000, 2), 100.0 * model["a"])}

    def one(model, index=None):
        return jnp.full((3000,), model["a"])

    sets = {"dim": sj.Measurement(np.zeros(3000)), "bright": sj.Measurement(np.zeros((3000, 2)))}
    noise = {"dim": sj.Gaussian(1.0, 0.0), "bright": sj.Poisson()}
    first = sj.make_problem({"a": jnp.array(2.0)}, sets, forward=many, noise=noise, free=["a"])
    second = sj.make_problem(
        {"a": jnp.array(2.0)}, sj.Measurement(np.zeros(3000)), forward=one, noise=sj.Gaussian(3.0, 0.0), free=["a"]
    )
    joint = join({"x": first, "y": second}, shared=["a"])
    model = model_of(joint, {"x.a": jnp.array(5.0)})
    found = simulate_data(joint, model, jax.random.key(2)).measurement
    for counts, mean, deviation in (
        (found["x"]["dim"].counts, 5.0, 1.0),
        (found["x"]["bright"].counts, 500.0, np.sqrt(500.0)),
        (found["y"].counts, 5.0, 3.0),
    ):
        size = counts.size
        assert abs(float(counts.mean()) - mean) < 4 * deviation / np.sqrt(size)
        assert float(counts.std()) == pytest.approx(deviation, rel=4 / np.sqrt(2 * size))
    # Equal expectations under different keys: no two data sets share their noise.
    assert abs(np.corrcoef(found["x"]["dim"].counts, found["y"].counts)[0, 1]) < 4 / np.sqrt(3000)


def test_dealt_records_are_drawn_into_their_lanes():
    problem, key = linear_problem(), jax.random.key(3)
    plain = simulate_data(problem, problem.experiment, key).measurement.counts
    lanes = problem.replace(measurement=Counts(Dealt(deal(np.zeros((12, 1)), 5), 12)))
    dealt = simulate_data(lanes, problem.experiment, key)
    assert dealt.measurement.counts.lanes.shape == (5, 3, 1)
    (group,) = groups(dealt)
    np.testing.assert_array_equal(group.sets[""].flat, plain)


class Lit(struct.PyTreeNode):
    """A camera in even light."""

    dose: Any
    camera: Any


def test_a_camera_draws_its_own_counts():
    camera = sj.make_camera(gain=10.0, dark=100.0, readout=5.0)

    def even(model, index=None):
        return model.camera.collect(jnp.full((50, 20, 20), model.dose))

    problem = sj.make_problem(
        Lit(jnp.array(7.0), camera),
        sj.Measurement(np.full((50, 20, 20), 170.0)),
        forward=even,
        noise=None,
        free=["dose"],
    )
    counts = np.asarray(simulate_data(problem, problem.experiment, jax.random.key(4)).measurement.counts)
    # Gain 10, seven electrons and a thousandth of a stray one, over a dark level of 100; rounding adds a twelfth.
    mean, variance = 10.0 * 7.001 + 100.0, 100.0 * 7.001 + 25.0 + 1 / 12
    assert abs(counts.mean() - mean) < 4 * np.sqrt(variance / counts.size)
    assert counts.var() == pytest.approx(variance, rel=4 * np.sqrt(2.2 / counts.size))
    assert (counts == np.round(counts)).all()


def test_data_without_noise_are_refused():
    problem = linear_problem().replace(noise=None)
    with pytest.raises(sj.InputError, match="nothing says how data set 'data' is noisy"):
        simulate_data(problem, problem.experiment, jax.random.key(0))
