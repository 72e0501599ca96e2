"""False minima: a local solver ends in the wrong one, a search in the right one, and says how sure it is."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.optimize

import stemjax as sj
from stemjax.core.errors import InputError
from stemjax.forward.column_image import ColumnImage, ColumnScene
from stemjax.inference.entry import ready
from stemjax.inference.problem import objective, start
from stemjax.inference.solvers import descent, tempering
from stemjax.inference.solvers.search import search, search_wells, trial_values
from stemjax.inference.solvers.tempering import anneal
from stemjax.inference.vector import layout
from stemjax.inference.wells import Well
from stemjax.problems.aberrations import make_aberration_problem
from stemjax.specimen.columns import make_columns

C10 = "probe.aberrations.C10"


def tilted(model, index=None):
    """A double well in a, tilted, with a bystander b."""
    return jnp.stack([model["a"] ** 2, 0.3 * model["a"], model["b"]])


def double_well(*, third=-0.3, noise=1.0, priors=None):
    return sj.make_problem(
        {"a": jnp.array(1.8), "b": jnp.array(0.0)}, sj.Measurement(np.array([4.0, third, 2.0])), forward=tilted,
        noise=sj.Gaussian(noise, 0.0), free=["a", "b"], priors=priors, wells=[sj.Well("a", -3.0, 3.0, 2.0)],
    )  # fmt: skip


def local(problem):
    """What a local solver finds, here that of scipy: the loss and the leaves by path."""
    bare, shape = problem.replace(wells=()), layout(problem)
    value = jax.jit(jax.value_and_grad(lambda p, x: objective(p, shape.unravel(x * scale)), argnums=1))
    scale = np.array([max(1.0, abs(float(x))) for x in shape.ravel(start(bare))])
    found = scipy.optimize.minimize(
        lambda x: tuple(map(np.asarray, value(bare, jnp.asarray(x)))), np.asarray(shape.ravel(start(bare))) / scale,
        jac=True, method="BFGS",
    )  # fmt: skip
    return float(found.fun), {p: np.asarray(v) for p, v in shape.unravel(found.x * scale).items()}


def test_double_well_is_the_lower_root():
    problem = double_well()
    stuck, _ = local(problem)
    result = search(problem)

    def misfit(a):
        return 0.5 * ((a**2 - 4.0) ** 2 + (0.3 * a + 0.3) ** 2)

    right = scipy.optimize.minimize_scalar(misfit, bracket=(-2.2, -1.8), tol=1e-12)
    wrong = scipy.optimize.minimize_scalar(misfit, bracket=(1.7, 2.2), tol=1e-12)
    assert stuck == pytest.approx(wrong.fun, rel=1e-6)
    assert float(result.estimate["a"].value) == pytest.approx(right.x, rel=1e-5)
    assert float(result.estimate["b"].value) == pytest.approx(2.0, rel=1e-5)
    assert result.diagnostics["advantage"] == pytest.approx(wrong.fun - right.fun, rel=1e-4)
    np.testing.assert_allclose(result.diagnostics["minima"]["a"], [right.x, wrong.x], rtol=1e-4)


def test_minima_that_are_as_good_are_named():
    problem = double_well(third=0.0)
    result = search(problem)
    assert not result.success
    assert result.diagnostics["advantage"] == pytest.approx(0.0, abs=1e-6)
    assert "hardly tell 'a' =" in result.status
    with pytest.warns(UserWarning, match="hardly tell 'a'"):
        search_wells(problem)
    # The same data with less noise and a tilt: now one of them wins.
    assert search(double_well(noise=0.1)).success


def test_solvers_search_wells_once():
    problem = double_well(noise=0.1)
    moved = ready(problem)
    assert (moved.wells, float(moved.experiment["a"]) < 0) == ((), True)
    assert ready(moved) is moved
    assert ready(problem, search=False).wells == problem.wells


def test_one_program_serves_all_starts():
    before = descent._descents._cache_size()
    search(double_well(noise=0.1))
    assert descent._descents._cache_size() <= before + 1
    before = descent._descents._cache_size()
    search(double_well(noise=0.1, third=-0.4), steps=7, polish_steps=50, trials={"a": np.linspace(-2.5, 2.5, 6)})
    assert descent._descents._cache_size() == before


def test_starts_are_a_grid_or_a_hypercube():
    problem = sj.make_problem(
        {"a": jnp.zeros(2), "b": jnp.array(0.0)}, sj.Measurement(np.zeros(3)), noise=sj.Gaussian(1.0, 0.0),
        forward=lambda m, i=None: jnp.concatenate([m["a"], m["b"][None]]), free=["a", "b"],
        wells=[sj.Well("a", 0.0, 4.0, 2.0), sj.Well("b", -1.0, 1.0, 2.0)],
    )  # fmt: skip
    grid = trial_values(problem, 64, 0)
    assert (grid["a"].shape, grid["b"].shape) == ((4 * 4 * 2, 2), (4 * 4 * 2,))
    assert len(np.unique(np.column_stack([grid["a"], grid["b"]]), axis=0)) == 32
    cube = trial_values(problem, 16, 0)
    # One value in each sixteenth of every range.
    for values, low, high in ((cube["a"][:, 0], 0, 4), (cube["a"][:, 1], 0, 4), (cube["b"], -1, 1)):
        assert sorted(np.floor(16 * (values - low) / (high - low)).astype(int)) == list(range(16))


def test_starts_outside_the_support_lose():
    problem = sj.make_problem(
        {"a": jnp.array(1.0)}, sj.Measurement(np.array([2.0])), forward=lambda m, i=None: m["a"][None],
        noise=sj.Gaussian(0.1, 0.0), free=["a"], priors={"a": dist.LogNormal(0.0, 1.0)},
        wells=[sj.Well("a", -4.0, 4.0, 2.0)],
    )  # fmt: skip
    result = search(problem)
    assert np.isinf(result.diagnostics["loss"][:4]).all()
    assert float(result.estimate["a"].value) == pytest.approx(2.0, abs=0.02)


def bumps(size=24, sampling=0.5):
    """Potential of two slices with two kinds of atoms in a cell of 4 Å [slice ny nx]."""
    along, extent = np.arange(size) * sampling, size * sampling
    total = np.zeros((size, size))
    for y in np.arange(0, extent, 4.0):
        for x in np.arange(0, extent, 4.0):
            for dy, dx, height in ((1.0, 1.0, 400.0), (3.0, 3.0, 200.0)):
                away = [(along - c + extent / 2) % extent - extent / 2 for c in (y + dy, x + dx)]
                total += height * np.exp(-0.5 * (away[0][:, None] ** 2 + away[1] ** 2) / 0.4**2)
    return np.stack([total, total])


def cbed_problem(*, true, guess, spread, seed=0):
    """Two patterns of a known crystal, the first guess of the defocus far away."""
    grid = sj.make_grid(24, 0.5)
    specimen = sj.make_potential_object(bumps(), 5.0, grid)
    scan = sj.make_scan(np.array([[2.2, 1.3], [3.4, 3.1]]))

    def at(c10, c12a):
        lens = sj.make_probe(grid, energy=80e3, semiangle=25.0, aberrations=sj.make_aberrations(C10=c10, C12a=c12a))
        return sj.make_experiment(lens, specimen, scan, dose=3e4)

    counts = np.random.default_rng(seed).poisson(np.asarray(sj.Diffraction()(at(true, 20.0)))).astype(float)
    return make_aberration_problem(
        at(guess, 0.0), counts, free=["C10", "C12"], spreads={"C10": spread, "C12": 30.0}
    )  # fmt: skip


@pytest.mark.parametrize(("true", "guess"), [pytest.param(80.0, -160.0, marks=pytest.mark.slow), (-60.0, 175.0)])
def test_defocus_far_from_its_guess_needs_the_search(true, guess):
    problem = cbed_problem(true=true, guess=guess, spread=120.0)
    loss, alone = local(problem)
    result = search(problem)
    error = 1.0 / np.sqrt(float(jax.jit(_information)(problem, jnp.array(true))))
    assert abs(alone[C10] - true) > 30.0  # the local solver is lost
    assert loss - result.diagnostics["minima"]["loss"][0] > 100.0  # and the data say so
    assert abs(float(result.estimate[C10].value) - true) < 4.0 * error
    assert result.success
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert abs(float(ready(problem).experiment.probe.aberrations.C10) - true) < 4.0 * error


def _information(problem, true):
    """Fisher information about C10 at the true value of the others, by finite differences of the patterns."""
    centre = problem.experiment.probe.aberrations

    def patterns(c10):
        lens = problem.experiment.probe.replace(aberrations=centre.replace(C10=c10, C12a=jnp.array(20.0)))
        return problem.forward(problem.experiment.replace(probe=lens))

    low, high = patterns(true - 1.0), patterns(true + 1.0)
    mean = 0.5 * (high + low)
    return jnp.sum(jnp.where(mean > 1e-9, (0.5 * (high - low)) ** 2 / jnp.where(mean > 1e-9, mean, 1.0), 0.0))


def test_columns_one_spacing_off_need_the_search():
    """A patch of a lattice, the guess moved by one spacing: every column but the last row finds a neighbour."""
    sites = np.stack(np.meshgrid(np.arange(3), np.arange(3), indexing="ij"), axis=-1).reshape(-1, 2) * 2.0 + 4.0
    scan = sj.make_raster((24, 24), 0.5)
    heights = np.linspace(50.0, 290.0, 9)
    truth = ColumnScene(make_columns(sites, amplitude=heights, width=0.45, background=2.0), scan)
    counts = np.random.default_rng(0).poisson(np.asarray(ColumnImage()(truth))).astype(float)
    off = truth.replace(columns=truth.columns.replace(positions=truth.columns.positions + jnp.array([[2.0, 0.0]])))
    path = "columns.positions"
    problem = sj.make_problem(
        off, sj.Measurement(counts), forward=ColumnImage(), noise=sj.Poisson(), free=[path],
        priors={path: dist.Normal(off.columns.positions, 3.0)},
    )  # fmt: skip
    _, alone = local(problem)
    steps = np.stack(np.meshgrid(*[[-2.0, 0.0, 2.0]] * 2, indexing="ij"), axis=-1).reshape(-1, 1, 2)
    result = search(problem, trials={path: np.asarray(off.columns.positions) + steps})
    error = 0.45 / np.sqrt(2 * np.pi * 0.45**2 * heights / 0.25)  # of a column alone, Poisson, no background
    found = np.abs(result.estimate[path].value - sites) / error[:, None]
    assert np.abs(alone[path] - sites).max() > 1.0
    assert found.max() < 5.0
    assert np.sqrt(np.mean(found**2)) < 1.4
    assert result.success


def squared(model, index=None):
    """Two values of a leaf that differ in sign look almost alike."""
    return jnp.stack([model["a"] ** 2, 0.2 * model["a"]])


def test_counts_that_a_program_left_on_one_device_are_searched_on_all():
    tied = jax.device_put(jnp.array([2.0, -0.28]), jax.devices()[0])
    assert tied.committed
    assert len(jax.devices()) > 1
    problem = sj.make_problem(
        {"a": jnp.array(1.5)}, sj.Measurement(tied), noise=sj.Gaussian(0.1, 0.0), free=["a"], forward=squared,
        wells=[Well("a", -2.0, 2.0, 2.0)],
    )  # fmt: skip
    assert float(search(problem).estimate["a"].value) == pytest.approx(-np.sqrt(2.0), abs=0.02)


def ripples(model, index=None):
    """A bowl in six dimensions with a ripple along each: 7⁶ minima."""
    return jnp.concatenate([1.5 * (model["x"] - 1.0), 1.2 * (1.0 - jnp.cos(2.0 * jnp.pi * (model["x"] - 1.0)))])


@pytest.mark.slow
def test_tempering_finds_one_well_in_a_hundred_thousand():
    problem = sj.make_problem(
        {"x": jnp.linspace(-2.0, 2.6, 6)}, sj.Measurement(np.zeros(12)), forward=ripples, free=["x"],
        noise=sj.Gaussian(0.7, 0.0), wells=[sj.Well("x", -3.0, 4.0, 1.0)],
    )  # fmt: skip
    _, alone = local(problem)
    assert np.abs(alone["x"] - 1.0).max() > 0.5
    for seed in range(3):
        direct, result = search(problem, starts=128, seed=seed), anneal(problem, seed=seed)
        assert np.abs(direct.estimate["x"].value - 1.0).max() > 0.5  # 128 starts cannot visit 7⁶ wells
        np.testing.assert_allclose(result.estimate["x"].value, 1.0, atol=1e-3)
    weights = result.diagnostics["weights"]
    assert (weights[0], weights[-1]) == (0.0, 1.0)
    assert (np.diff(weights) > 0).all()
    again = anneal(problem, seed=2)
    np.testing.assert_array_equal(again.diagnostics["taken"], result.diagnostics["taken"])


@pytest.mark.slow
def test_tempered_population_is_the_posterior():
    """Before the descent the models are draws of the posterior: here a normal, with a known mean and variance."""
    problem = sj.make_problem(
        {"x": jnp.zeros(2)}, sj.Measurement(np.array([1.0, 3.0])), forward=lambda m, i=None: m["x"],
        noise=sj.Gaussian(0.5, 0.0), free=["x"], priors={"x": dist.Normal(0.0, 2.0)},
        wells=[sj.Well("x", -9.0, 9.0, 9.0)],
    )  # fmt: skip
    begun = tempering._begun(problem, 1000, jax.random.key(0))
    cooled, _ = tempering._cooled(problem, begun, 6, jax.random.key(1))
    z = np.asarray(cooled.z)
    variance = 1.0 / (1.0 / 0.25 + 1.0 / 4.0)
    # Copies of one model are alike: a quarter of the models count as draws.
    assert np.abs(z.mean(axis=0) - variance * np.array([1.0, 3.0]) / 0.25).max() < 4.0 * np.sqrt(variance / 250)
    assert np.abs(z.var(axis=0) / variance - 1.0).max() < 4.0 * np.sqrt(2.0 / 250)


def test_errors_say_what_to_do():
    problem = double_well()
    with pytest.raises(InputError, match="names no wells and there are no trials"):
        search(problem.replace(wells=()))
    with pytest.raises(InputError, match=r"trials for \['c'\]"):
        search(problem, trials={"c": np.zeros(3)})
    nothing = problem.replace(measurement=sj.Measurement(np.full(3, np.nan)))
    with pytest.raises(InputError, match="counts are not finite"):
        search(nothing)
