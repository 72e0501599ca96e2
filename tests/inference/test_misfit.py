"""A result says when its model is not that of the data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import stemjax as sj
from stemjax.detect.deviance import amplitude_deviance, poisson_deviance
from stemjax.inference import problem as statement
from stemjax.inference.misfit import misfit
from tests.inference.test_curvature import EXECUTIONS, scan_problem
from tests.inference.test_problem import FORWARD, Counts, Line, line_problem


@pytest.mark.parametrize("mean", [1e-4, 0.03, 0.7, 5.0, 200.0])
def test_deviance_of_noise_is_the_mean_over_random_counts(mean):
    counts = scipy.stats.poisson.rvs(mean, size=2_000_000, random_state=3).astype(float)
    for noise, (first, second) in (
        (sj.Poisson(0.0), poisson_deviance(jnp.asarray(mean))),
        (sj.Amplitude(0.0), amplitude_deviance(jnp.asarray(mean))),
    ):
        values = np.asarray(jax.jit(lambda n, noise=noise: noise.residual(n, jnp.full(n.shape, mean)) ** 2)(counts))
        error = values.std() / np.sqrt(values.size)
        assert abs(float(first) - values.mean()) < 4.0 * error + 1e-3 * float(first)
        assert float(second) == pytest.approx(values.var(), rel=0.05)


@pytest.mark.parametrize("electrons", [0.05, 1.0, 50.0])
def test_a_right_model_misses_by_noise_alone(electrons):
    model = Line(jnp.asarray(0.3 * electrons), jnp.asarray(electrons))
    mean = np.asarray(FORWARD(model))
    off = []
    for seed in range(200):
        counts = np.random.default_rng(seed).poisson(mean).astype(float)
        problem = sj.make_problem(model, Counts(counts), forward=FORWARD, noise=sj.Poisson(0.0), free=["slope"])
        found = misfit(problem, statement.start(problem))
        off.append((found.deviance - found.expected) / found.spread)
    assert abs(np.mean(off)) < 4.0 / np.sqrt(200)
    assert np.std(off) == pytest.approx(1.0, abs=0.25)


@pytest.mark.parametrize("execution", EXECUTIONS[:2])
def test_patterns_one_by_one_give_what_all_at_once_give(execution):
    mask = jnp.asarray((np.random.default_rng(2).random((16, 16)) < 0.7).astype(float))
    problem = scan_problem(execution, mask=mask)
    z = statement.start(problem)
    whole = problem.replace(forward=lambda model: problem.forward(model))
    one, other = misfit(problem, z), misfit(whole, z)
    assert (one.deviance, one.expected, one.spread) == pytest.approx(
        (other.deviance, other.expected, other.spread), rel=1e-9
    )


def image(scale=1.0, smooth=False, second=0.0):
    """A column, or two of which the problem knows one."""
    scan = sj.make_raster((24, 32), 0.15)
    places = [[1.8, 1.8], [1.8, 2.8]]
    truth = sj.make_columns(places, amplitude=np.array([60.0, max(second, 1e-9)]), width=0.4, background=2.0)
    mean = np.asarray(sj.ColumnImage()(sj.ColumnScene(truth, scan)))
    counts = mean if smooth else np.random.default_rng(1).poisson(mean)
    return sj.make_columns_problem(scale * counts.reshape(24, 32), scan, places[:1])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, ""),
        ({"scale": 4.0}, "does not describe these data: they miss it by 4"),
        ({"scale": 1.0 / 60.0}, "scatter less than counts of electrons can"),
        ({"smooth": True}, "scatter less than counts of electrons can"),
        ({"second": 30.0}, "does not describe these data"),
    ],
)
def test_a_status_says_when_the_model_is_not_that_of_the_data(given, words):
    found = sj.laplace(image(**given))
    assert words in found.status
    if not words:
        assert found.status.startswith("Gaussian at the mode")
        assert "data" not in found.status
        assert found.diagnostics["misfit"]["ratio"] == pytest.approx(1.0, abs=0.2)


def test_all_kinds_of_posteriors_are_judged():
    problem = line_problem()
    best = sj.least_squares(problem)
    for found in (sj.laplace(problem, at=best), sj.variational(problem, at=best, steps=50)):
        assert set(found.diagnostics["misfit"]) == {"deviance", "expected", "spread", "ratio"}
    found = sj.sample(problem, at=best, chains=1, draws=20, warmup=20)
    assert found.diagnostics["misfit"]["ratio"] < 2.0
