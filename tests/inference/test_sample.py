"""Draws against closed forms and grids: what NUTS returns is the posterior, and bad chains are called bad."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.diagnostics
import numpyro.distributions as dist
import pytest
import scipy.stats
from flax import struct

import stemjax as sj
from stemjax.core.errors import InputError
from stemjax.core.executor import Execution
from stemjax.inference.derived import Derived
from stemjax.inference.gaussian import Diagonal
from stemjax.inference.posteriors import chains as engine
from stemjax.inference.posteriors.chains import Nuts, chain_devices
from stemjax.inference.posteriors.convergence import Convergence, convergence, sentence
from stemjax.inference.posteriors.laplace import laplace
from stemjax.inference.posteriors.sample import sample
from stemjax.inference.result import Result


class Counts(struct.PyTreeNode):
    counts: Any
    mask: Any = None


X = np.linspace(-1.0, 2.0, 25)
NOISE = 0.5


@dataclass(frozen=True)
class Curve:
    """a + b x, one record a point."""

    execution: Execution = Execution()

    def __call__(self, model, index=None):
        values = model["a"] + model["b"] * model["x"]
        return values if index is None else values[index]


def straight(*, seed=0, execution=Execution(), x=X):
    """A line with normal priors and normal noise: its posterior is normal, with a known mean and covariance."""
    counts = 1.0 + 2.0 * x + NOISE * np.random.default_rng(seed).normal(size=x.size)
    return sj.make_problem(
        {"a": jnp.array(0.5), "b": jnp.array(1.5), "x": jnp.asarray(x)}, Counts(counts), forward=Curve(execution),
        noise=sj.Gaussian(NOISE, 0.0), free=["a", "b"],
        priors={"a": dist.Normal(0.0, 200.0), "b": dist.Normal(1.0, 50.0)},
    )  # fmt: skip


def straight_posterior(problem):
    """Mean and covariance of (a, b) by linear algebra."""
    design = np.stack([np.ones(X.size), np.asarray(problem.experiment["x"])], axis=1)
    precision = design.T @ design / NOISE**2 + np.diag([1 / 200.0**2, 1 / 50.0**2])
    covariance = np.linalg.inv(precision)
    pull = design.T @ np.asarray(problem.measurement.counts) / NOISE**2 + np.array([0.0, 1.0 / 50.0**2])
    return covariance @ pull, covariance


@pytest.fixture(scope="module")
def drawn():
    """A problem and draws of its posterior, with a derived quantity."""
    problem = straight()
    return problem, sample(problem, warmup=100, derived={"root": Derived(_root, "Å", "zero of the line")})


def _root(model):
    return -model["a"] / model["b"]


def stacked(result, names):
    """Draws [draw leaf] of all chains."""
    return np.stack([np.asarray(result.samples[n].value).ravel() for n in names], axis=1)


def fewest(result):
    return min(result.diagnostics["worst"]["ess_bulk"], result.diagnostics["worst"]["ess_tail"])


def test_linear_gaussian_posterior_is_the_closed_form(drawn):
    problem, result = drawn
    mean, covariance = straight_posterior(problem)
    both, deviation = stacked(result, ["a", "b"]), np.sqrt(np.diag(covariance))
    effective = fewest(result)
    assert result.success, result.status
    assert np.abs((both.mean(axis=0) - mean) / deviation).max() < 4.0 / np.sqrt(effective)
    # A variance from n normal draws is known to sqrt(2/n), a correlation to (1 - r^2)/sqrt(n).
    assert np.abs(both.var(axis=0) / np.diag(covariance) - 1.0).max() < 4.0 * np.sqrt(2.0 / effective)
    wanted = covariance[0, 1] / deviation.prod()
    assert abs(np.corrcoef(both.T)[0, 1] - wanted) < 4.0 * (1.0 - wanted**2) / np.sqrt(effective)
    for place, name in enumerate("ab"):
        assert float(result.estimate[name].value) == pytest.approx(both[:, place].mean(), rel=1e-9)
        assert float(result.uncertainty[name].value) == pytest.approx(both[:, place].std(), rel=1e-9)


def test_poisson_line_is_the_grid():
    counts = np.random.default_rng(1).poisson(1.0 + 0.4 * (X + 1.0)).astype(float)
    problem = sj.make_problem(
        {"a": jnp.array(1.5), "b": jnp.array(0.3), "x": jnp.asarray(X)}, Counts(counts), forward=Curve(),
        noise=sj.Poisson(0.0), free=["a", "b"], priors={"a": dist.LogNormal(0.0, 1.0), "b": dist.Uniform(0.0, 1.0)},
    )  # fmt: skip
    result = sample(problem, warmup=100)
    assert np.asarray(result.samples["a"].value).min() > 0
    assert 0 < np.asarray(result.samples["b"].value).min() < np.asarray(result.samples["b"].value).max() < 1
    a, b = np.meshgrid(np.linspace(0.05, 5.0, 250), (np.arange(120) + 0.5) / 120, indexing="ij")
    mean = a[..., None] + b[..., None] * X
    score = np.where(
        (mean > 0).all(axis=-1), scipy.stats.poisson.logpmf(counts, np.maximum(mean, 1e-9)).sum(axis=-1), -np.inf
    )
    weight = np.exp(score - score.max()) * scipy.stats.lognorm.pdf(a, 1.0)
    weight /= weight.sum()
    for name, grid in (("a", a), ("b", b)):
        wanted = (weight * grid).sum()
        deviation = np.sqrt((weight * (grid - wanted) ** 2).sum())
        assert abs(float(result.estimate[name].value) - wanted) < 4.0 * deviation / np.sqrt(fewest(result))
        ratio = float(result.uncertainty[name].value) / deviation
        assert abs(ratio - 1.0) < 4.0 / np.sqrt(2.0 * fewest(result))


def test_funnel_is_reported():
    """Neal's funnel (Ann. Stat. 31 (2003) 705): steps that suit the wide part cannot enter the neck."""
    problem = sj.make_problem(
        {"v": jnp.array(0.0), "x": jnp.zeros(9)}, Counts(np.zeros(1)), forward=_funnel, noise=sj.Gaussian(1.0, 0.0),
        free=["v", "x"], priors={"v": dist.Normal(0.0, 3.0)},
    )  # fmt: skip
    at = Result("guess", {}, posterior=Diagonal({"v": jnp.array(0.0), "x": jnp.zeros(9)}, jnp.ones(10)))
    result = sample(problem, draws=400, warmup=100, at=at, nuts=Nuts(acceptance=0.6))
    assert not result.success
    assert result.diagnostics["divergences"] > 0
    assert f"{result.diagnostics['divergences']} divergences" in result.status
    assert "Nuts(acceptance=0.95)" in result.status


def _funnel(model, index=None):
    """What has half its square equal to minus the log-density of x given v, up to a constant."""
    energy = 0.5 * jnp.sum(model["x"] ** 2) * jnp.exp(-model["v"]) + 4.5 * model["v"] + 80.0
    return jnp.sqrt(2.0 * energy)[None]


def test_seed_decides_and_other_data_compile_nothing(drawn):
    problem, result = drawn
    before = engine.begin._cache_size(), engine.advance._cache_size()
    again, other, moved = sample(problem, warmup=100), sample(problem, warmup=100, seed=1), straight(seed=7)
    found = sample(moved, warmup=100)
    assert (engine.begin._cache_size(), engine.advance._cache_size()) == before
    np.testing.assert_array_equal(result.samples["a"].value, again.samples["a"].value)
    assert not np.allclose(result.samples["a"].value, other.samples["a"].value)
    assert not np.allclose(result.samples["a"].value[0], result.samples["a"].value[1])
    mean, covariance = straight_posterior(moved)
    away = (stacked(found, "ab").mean(axis=0) - mean) / np.sqrt(np.diag(covariance))
    assert np.abs(away).max() < 4.0 / np.sqrt(fewest(found))


def test_chains_over_two_devices_are_those_of_one(drawn):
    problem, apart = drawn
    alone = straight(execution=Execution(2, 1))
    assert (chain_devices(problem, 4), chain_devices(problem, 3), chain_devices(alone, 4)) == (2, 1, 1)
    together = sample(alone, warmup=100, at=laplace(problem))
    assert (apart.diagnostics["devices"], together.diagnostics["devices"]) == (2, 1)
    # Rounding grows along a trajectory, so the first draws are equal and all of them are in distribution.
    np.testing.assert_allclose(apart.samples["a"].value[:, :5], together.samples["a"].value[:, :5], rtol=1e-6)
    for name in "ab":
        scale = np.sqrt(2.0 / min(fewest(apart), fewest(together))) * float(apart.uncertainty[name].value)
        assert abs(float(apart.estimate[name].value) - float(together.estimate[name].value)) < 4.0 * scale


def test_chains_in_step_are_those_of_a_loop(drawn, monkeypatch):
    """What an accelerator does, here on the processor; another depth makes another program."""
    problem, one_by_one = drawn
    monkeypatch.setattr(engine, "_in_step", lambda: True)
    in_step = sample(problem, warmup=100, nuts=Nuts(depth=9), at=laplace(problem))
    np.testing.assert_allclose(
        one_by_one.samples["a"].value[:, :5], in_step.samples["a"].value[:, :5], rtol=1e-6
    )  # fmt: skip
    assert in_step.success, in_step.status


def test_patterns_take_chains_on_every_device():
    """A forward model that loops over probes runs inside the loop over chains, on the device of its chain."""
    path = "probe.aberrations.C10"
    grid = sj.make_grid(16, 0.5)
    lens = sj.make_probe(grid, energy=80e3, semiangle=21.4, aberrations=sj.make_aberrations(C10=60.0))
    bump = np.exp(-((np.arange(16) - 8.0) ** 2) / 8.0)
    thing = sj.make_object(grid, phase=(bump[:, None] * bump)[None], periodic=True)
    truth = sj.make_experiment(lens, thing, sj.make_raster((1, 3), 2.0, origin=(3.0, 3.0)), dose=3e4)
    counts = np.random.default_rng(0).poisson(np.asarray(sj.Diffraction(limit=None)(truth))).astype(float)
    problem = sj.make_problem(
        truth, sj.Measurement(counts), forward=sj.Diffraction(limit=None), noise=sj.Poisson(), free=[path],
        priors={path: dist.Normal(60.0, 100.0)},
    )  # fmt: skip
    at = Result("guess", {}, posterior=Diagonal({path: jnp.array(60.0)}, jnp.array([2.0])))
    result = sample(problem, draws=300, warmup=100, at=at)
    assert result.diagnostics["devices"] == 2
    assert (result.samples[path].units, result.samples[path].dims) == ("Å", ("chain", "draw"))
    defocus = np.linspace(40.0, 80.0, 400)
    density = jax.jit(lambda p, c: jax.lax.map(lambda c: sj.log_density(p, {path: c}), c))(problem, defocus)
    weight = np.exp(np.asarray(density) - float(density.max()))
    mean = (weight * defocus).sum() / weight.sum()
    deviation = np.sqrt((weight * (defocus - mean) ** 2).sum() / weight.sum())
    assert abs(float(result.estimate[path].value) - mean) < 4.0 * deviation / np.sqrt(fewest(result))
    assert abs(float(result.uncertainty[path].value) / deviation - 1.0) < 4.0 / np.sqrt(2.0 * fewest(result))


@pytest.mark.slow
def test_whitening_shortens_trajectories():
    """A line seen from afar: offset and slope have a correlation of 0.9997 and deviations that differ by 30."""
    problem = straight(x=30.0 + X)
    plain = Result("guess", {}, posterior=Diagonal({"a": jnp.array(1.0), "b": jnp.array(2.0)}, jnp.ones(2)))
    raw, white = (sample(problem, warmup=100, at=at) for at in (plain, None))
    assert white.diagnostics["gradients"] < 8.0 < 50.0 < raw.diagnostics["gradients"]
    assert white.diagnostics["depth"].max() < raw.diagnostics["depth"].min()


def test_derived_quantities_are_drawn(drawn):
    _, result = drawn
    a, b, root = (np.asarray(result.samples[n].value) for n in ("a", "b", "root"))
    np.testing.assert_allclose(root, -a / b, rtol=1e-9)
    assert (result.samples["root"].units, result.samples["root"].dims) == ("Å", ("chain", "draw"))
    assert float(result.estimate["root"].value) == pytest.approx(root.mean(), rel=1e-9)
    assert float(result.uncertainty["root"].value) == pytest.approx(root.std(), rel=1e-9)


def test_value_and_posterior_are_those_of_the_draws(drawn):
    _, result = drawn
    assert float(result.value["a"]) == pytest.approx(float(result.estimate["a"].value), rel=1e-9)
    again = result.posterior.draw(jax.random.key(0), 30)
    assert np.isin(np.asarray(again["a"]), np.asarray(result.samples["a"].value)).all()


def test_effective_draws_of_an_autoregression_are_the_closed_form():
    """x' = r x + noise has n (1 - r) / (1 + r) effective draws for its mean."""
    random, r, draws = np.random.default_rng(0), 0.6, 4000
    x = np.zeros((4, draws))
    x[:, 0] = random.normal(size=4)
    for i in range(1, draws):
        x[:, i] = r * x[:, i - 1] + np.sqrt(1 - r**2) * random.normal(size=4)
    found = convergence({"x": x})
    assert float(found.ess_bulk["x"]) == pytest.approx(4 * draws * (1 - r) / (1 + r), rel=0.1)
    assert float(found.ess_bulk["x"]) == pytest.approx(float(numpyro.diagnostics.effective_sample_size(x)), rel=0.05)
    assert float(found.r_hat["x"]) == pytest.approx(float(numpyro.diagnostics.split_gelman_rubin(x)), abs=2e-3)


def test_chains_that_disagree_or_stand_still_are_called_out():
    random = np.random.default_rng(0)
    apart = random.normal(size=(4, 300, 3))
    apart[2, :, 1] += 2.0
    found = convergence({"positions": apart})
    assert not found.converged
    assert "'positions[1]'" in sentence(found)
    assert not convergence({"x": np.zeros((4, 300))}).converged
    # A funnel's energy: a random walk explores little of its variance in a draw.
    slow = np.cumsum(random.normal(size=(4, 300)), axis=1)
    assert "E-BFMI" in sentence(convergence({"x": random.normal(size=(4, 300))}, energy=slow))
    good = convergence({"x": random.normal(size=(4, 300))}, energy=random.normal(size=(4, 300)))
    assert good.converged
    assert sentence(good).endswith("no divergences")
    assert isinstance(good, Convergence)


def test_errors_say_what_to_do():
    problem = straight()
    with pytest.raises(InputError, match="0 chains of 500 draws"):
        sample(problem, chains=0)
    other = Result("guess", {}, posterior=Diagonal({"c": jnp.array(0.0)}, jnp.ones(1)))
    with pytest.raises(InputError, match="the posterior to begin from is one of c"):
        sample(problem, at=other)
    with pytest.raises(InputError, match="4 draws or more"):
        convergence({"x": np.zeros((2, 3))})
    with pytest.raises(InputError, match="1 draws of 'x' are not finite"):
        convergence({"x": np.where(np.arange(20.0) == 3, np.nan, 1.0)[None]})
    broken = problem.replace(measurement=Counts(np.where(np.arange(25) == 3, np.nan, 1.0)))
    at = Result("guess", {}, posterior=Diagonal({"a": jnp.array(0.0), "b": jnp.array(0.0)}, jnp.ones(2)))
    with pytest.raises(InputError, match="counts are not finite"):
        sample(broken, chains=1, draws=4, warmup=1, at=at, nuts=Nuts())
