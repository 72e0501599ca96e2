"""Levenberg-Marquardt: against normal equations, scipy and the Cramér-Rao bound, with and without a matrix."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.optimize
import scipy.stats

import stemjax as sj
from stemjax.forward.column_image import ColumnImage, ColumnScene
from stemjax.inference import problem as statement
from stemjax.inference.curvature import fisher_matrix
from stemjax.inference.solvers import least_squares as solver
from stemjax.inference.vector import layout
from stemjax.problems.columns import make_columns_problem
from tests.inference.test_faults import Kink
from tests.inference.test_problem import FORWARD, Counts, Line, X, line_problem

FORMS = pytest.mark.parametrize("dense", [True, False], ids=["matrix", "products"])


# Linear problems: the normal equations.


class Linear:
    """Records that are linear in a number, a picture and a pair."""

    def __init__(self, matrix):
        self.matrix = np.asarray(matrix)

    def __call__(self, model, index=None):
        return jnp.asarray(self.matrix) @ jnp.concatenate([model["gain"][None], model["image"].ravel(), model["pair"]])


SHAPE, RECORDS = (7, 9), 110
LINEAR = Linear(np.random.default_rng(1).normal(size=(RECORDS, 66)))


def linear_problem(forward=LINEAR, seed=0):
    random = np.random.default_rng(seed)
    data, mask = 5.0 * random.normal(size=RECORDS), random.choice([0.0, 0.5, 1.0], RECORDS)
    model = {"gain": jnp.array(4.0), "image": jnp.ones(SHAPE), "pair": jnp.array([3.0, 0.5])}
    priors = {"image": sj.Smooth(0.5), "pair": sj.Normal(jnp.array([1.0, -2.0]), jnp.array([0.3, 2.0]))}
    return sj.make_problem(
        model, Counts(data, mask), forward=forward, noise=sj.Gaussian(2.0, 0.0), free=["*"], priors=priors
    )


def normal_equations(problem):
    """Solution and matrix of the normal equations; the image without a prior on its mean."""
    M, (data, mask) = problem.forward.matrix, (problem.measurement.counts, problem.measurement.mask)
    pixels = np.eye(63).reshape(63, *SHAPE)
    steps = np.concatenate([np.diff(pixels, axis=axis).reshape(63, -1) for axis in (1, 2)], axis=1)
    matrix, right = M.T @ (mask[:, None] * M) / 4.0, M.T @ (mask * data) / 4.0
    matrix[1:64, 1:64] += steps @ steps.T / 0.25
    matrix[64:, 64:] += np.diag(1 / np.array([0.3, 2.0]) ** 2)
    right[64:] += np.array([1.0, -2.0]) / np.array([0.3, 2.0]) ** 2
    return np.linalg.solve(matrix, right), matrix


def vector(result):
    return np.concatenate([np.ravel(result.estimate[path].value) for path in sorted(result.estimate)])


@FORMS
def test_a_linear_problem_ends_at_the_normal_equations(dense):
    problem = linear_problem()
    expected, matrix = normal_equations(problem)
    found = sj.least_squares(problem, dense=dense, tolerance=1e-13)
    assert found.success, found.status
    errors = (vector(found) - expected) / np.sqrt(np.diag(np.linalg.inv(matrix)))
    assert np.abs(errors).max() < 1e-5  # standard deviations; rounding of −log p ≈ 100 nat hides 1e-7
    assert found.history["loss"][-1] == pytest.approx(float(statement.objective(problem, leaves(found))), rel=1e-12)


def leaves(result):
    return {path: jnp.asarray(named.value) for path, named in result.estimate.items()}


@FORMS
@pytest.mark.parametrize("tolerance", [1e-1, 1e-3])
def test_what_is_left_to_gain_is_less_than_the_tolerance(dense, tolerance):
    problem = linear_problem()
    expected, matrix = normal_equations(problem)
    found = sj.least_squares(problem, dense=dense, tolerance=tolerance)
    off = vector(found) - expected
    assert found.success
    assert 0.5 * off @ matrix @ off < tolerance


def test_the_seed_of_the_preconditioner_decides_the_way_and_not_the_end():
    problem = linear_problem()
    ways = [sj.least_squares(problem, dense=False, tolerance=1e-12, seed=seed) for seed in (0, 5)]
    assert not np.array_equal(*(way.history["loss"][:3] for way in ways))
    np.testing.assert_allclose(*map(vector, ways), atol=1e-5)


# Counts of few electrons, bent models, bounded leaves: scipy.


def gaussian_columns(seed=0):
    """Three columns that overlap, positions, heights, widths, ellipticities and background unknown."""
    places = np.array([[0.9, 0.8], [0.9, 1.7], [1.9, 1.3]])
    columns = sj.make_columns(places, amplitude=np.array([30.0, 60.0, 40.0]), width=0.35, background=2.0)
    scene = ColumnScene(columns, sj.make_raster((18, 16), 0.16))
    image = np.random.default_rng(seed).poisson(np.asarray(ColumnImage()(scene))).reshape(18, 16).astype(float)
    near = places + np.random.default_rng(1).normal(0, 0.08, places.shape)
    return make_columns_problem(image, 0.16, near, free=["columns"])


def by_scipy(problem, density=statement.objective):
    """Where a quasi-Newton method finds the minimum, as a vector in the order of the layout, with its curvature."""
    shape = layout(problem)
    flat = jax.jit(jax.value_and_grad(lambda v, p: density(p, shape.unravel(v))))
    found = scipy.optimize.minimize(
        lambda v: tuple(map(np.asarray, flat(jnp.asarray(v), problem))),
        np.asarray(shape.ravel(statement.start(problem))),
        jac=True,
        method="BFGS",
        options={"gtol": 1e-6, "maxiter": 2000},
    )
    return found.x, np.sqrt(np.diag(found.hess_inv))


def unconstrained(problem, result):
    maps = statement.bijectors(problem)
    return layout(problem).ravel({path: maps[path].inverse(value) for path, value in leaves(result).items()})


def decrement(problem, z):
    """Twice what a full step would still gain [nat]: the length of the gradient in standard deviations, squared."""
    shape = layout(problem)
    gradient = shape.ravel(jax.jit(jax.grad(statement.objective, argnums=1))(problem, shape.unravel(z)))
    return float(gradient @ np.linalg.solve(fisher_matrix(problem, shape.unravel(z)), gradient))


@functools.cache
def columns_by_scipy():
    problem = gaussian_columns()
    return problem, *by_scipy(problem)


columns = pytest.fixture(scope="module", name="columns")(columns_by_scipy)


@FORMS
def test_columns_in_a_noisy_image_end_where_scipy_ends(columns, dense):
    problem, expected, spread = columns
    found = sj.least_squares(problem, dense=dense, tolerance=1e-12)
    assert found.success, found.status
    z = np.asarray(unconstrained(problem, found))
    assert np.abs(z - np.asarray(layout(problem).ravel(statement.start(problem)))).max() > 0.1
    assert (np.abs(z - expected) / spread).max() < 1e-4
    assert decrement(problem, z) < 1e-9


@FORMS
def test_the_loss_never_rises_on_a_long_way(dense):
    problem = gaussian_columns()
    guess = problem.experiment.columns
    far = guess.replace(amplitude=0.05 * guess.amplitude, width=2.5 * guess.width, background=30.0 * guess.background)
    problem = problem.replace(experiment=problem.experiment.replace(columns=far))
    found = sj.least_squares(problem, dense=dense)
    assert found.success
    assert len(found.history["loss"]) > 8
    assert (np.diff(found.history["loss"]) <= 0).all()


@pytest.mark.slow  # two seconds; a model that sums its records by itself is in the quick tests of joint problems
def test_aberrations_of_a_lens_end_where_scipy_ends():
    grid = sj.make_grid(16, 0.5)
    probe = sj.make_probe(grid, energy=80e3, semiangle=21.4, aberrations=sj.make_aberrations(C10=40.0, C12a=15.0))
    atoms = 0.5 * np.random.default_rng(0).normal(size=(1, 16, 16))
    thing = sj.make_object(grid, phase=atoms, periodic=True)
    truth = sj.make_experiment(probe, thing, sj.make_raster((2, 3), 1.3), dose=300.0)
    simulate = sj.Diffraction(limit=None)
    counts = np.random.default_rng(1).poisson(np.asarray(simulate(truth))).astype(float)
    guess = sj.replace(truth, {"probe.aberrations.C10": np.array(25.0), "probe.aberrations.C12a": np.array(0.0)})
    free = ["probe.aberrations.C10", "probe.aberrations.C12*"]
    problem = sj.make_problem(guess, sj.Measurement(counts), forward=simulate, noise=sj.Poisson(), free=free)
    expected, spread = by_scipy(problem)
    found = sj.least_squares(problem, tolerance=1e-12)
    assert found.success, found.status
    assert (np.abs(vector(found) - expected) / spread).max() < 1e-4


class Decay:
    """Counts that fall off in time onto a background."""

    times = np.linspace(0.0, 4.0, 30)

    def __call__(self, model, index=None):
        return model["background"] + model["amplitude"] * jnp.exp(-model["rate"] * jnp.asarray(self.times))


DECAY = Decay()


DECAYED = np.random.default_rng(3).poisson(1.0 + 8.0 * np.exp(-0.8 * Decay.times)).astype(float)


def decay_problem(upper=3.0):
    model = {"amplitude": jnp.array(3.0), "background": jnp.array(2.0), "rate": jnp.array(0.3)}
    priors = {
        "amplitude": sj.LogNormal(2.0, 0.5),
        "background": dist.HalfNormal(2.0),
        "rate": sj.Uniform(0.1, upper),
    }
    return sj.make_problem(model, Counts(DECAYED), forward=DECAY, noise=sj.Poisson(0.0), free=["*"], priors=priors)


@functools.cache
def decay_by_scipy(upper=3.0):
    """The most probable amplitude, background and rate from scipy's own densities, in their own units and bounds."""

    def cost(leaves):
        amplitude, background, rate = leaves
        expected = background + amplitude * np.exp(-rate * Decay.times)
        likelihood = scipy.stats.poisson.logpmf(DECAYED, expected).sum()
        prior = scipy.stats.lognorm.logpdf(amplitude, 0.5, scale=np.exp(2.0))
        return -likelihood - prior - scipy.stats.halfnorm.logpdf(background, scale=2.0)

    options = {"xatol": 1e-9, "fatol": 1e-13, "maxiter": 5000, "maxfev": 5000}
    bounds = [(1e-9, None), (1e-9, None), (0.1, upper)]
    return scipy.optimize.minimize(cost, [5.0, 1.0, 0.4], method="Nelder-Mead", bounds=bounds, options=options).x


@FORMS
def test_bounded_leaves_end_at_the_most_probable_leaves(dense):
    problem = decay_problem()
    expected = decay_by_scipy()
    found = sj.least_squares(problem, dense=dense, tolerance=1e-12)
    assert found.success
    np.testing.assert_allclose(vector(found), expected, rtol=1e-5)
    if not dense:
        return
    # The mode of the density of z, which counts the volume of the bijectors, lies elsewhere: this is a test of which.
    z, _ = by_scipy(problem, density=lambda p, z: -statement.log_density(p, z))
    other = statement.constrained(problem, layout(problem).unravel(jnp.asarray(z)))
    assert np.abs(vector(found) / layout(problem).ravel(other) - 1.0).min() > 1e-2


@FORMS
def test_a_bound_that_is_in_the_way_is_reached(dense):
    problem = decay_problem(upper=0.5)
    expected = decay_by_scipy(upper=0.5)
    assert expected[2] == pytest.approx(0.5, abs=1e-8)
    found = sj.least_squares(problem, dense=dense, tolerance=1e-8)
    assert found.success, found.status
    assert float(found.value["rate"]) <= 0.5
    np.testing.assert_allclose(vector(found), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("prior", "slope"),
    [(dist.TruncatedNormal(4.0, 1e-3, low=0.0), 0.5), (dist.StudentT(2.0, 4.0, 1e-4), 3.9)],
    ids=["of z below half the mean", "of heavy tails"],
)
@FORMS
def test_a_prior_that_curves_the_wrong_way_at_the_first_guess_is_climbed(prior, slope, dense):
    # As a function of z = log slope the normal density of the slope is not log-concave below half its mean.
    problem = line_problem(priors={"slope": prior}, slope=slope)
    found = sj.least_squares(problem, dense=dense, tolerance=1e-10)
    assert found.success, found.status
    # So narrow a prior decides the slope; the offset is then one number.
    assert float(found.value.slope) == pytest.approx(4.0, abs=1e-5)
    counts = problem.measurement.counts[:, 0]
    offset = scipy.optimize.brentq(lambda b: np.sum(counts / (4.0 * X + b) - 1.0), 0.0, 50.0, xtol=1e-12)
    assert float(found.value.offset) == pytest.approx(offset, abs=1e-4)


class Root:
    """Nothing is expected, and nothing defined, where the leaf is negative."""

    def __call__(self, model, index=None):
        return jnp.sqrt(model["a"]) * jnp.ones((40, 1))


@FORMS
def test_a_step_to_where_the_model_is_not_defined_is_taken_back(dense):
    counts = line_problem().measurement
    problem = sj.make_problem({"a": jnp.array(1e6)}, counts, forward=Root(), noise=sj.Poisson(0.0), free=["a"])
    found = sj.least_squares(problem, dense=dense, tolerance=1e-10)
    assert found.success
    assert 0.0 in np.diff(found.history["loss"])  # such a step was tried
    assert float(found.value["a"]) == pytest.approx(np.mean(counts.counts) ** 2, rel=1e-6)


# Several data sets, ties.


class Pair:
    """A line, and its slope once more by itself: two signals."""

    def __call__(self, model, index=None):
        return {"line": FORWARD(model)[:, 0], "slope": model.slope * jnp.ones(5)}


@FORMS
def test_several_data_sets_weigh_by_their_noise(dense):
    random = np.random.default_rng(0)
    data = {"line": Counts(10.0 + 4.0 * X + random.normal(size=40)), "slope": Counts(random.normal(5.0, 0.2, 5))}
    noise = {"line": sj.Gaussian(1.0, 0.0), "slope": sj.Gaussian(0.2, 0.0)}
    problem = sj.make_problem(
        Line(jnp.array(1.0), jnp.array(0.0)), data, forward=Pair(), noise=noise, free=["slope", "offset"]
    )
    found = sj.least_squares(problem, dense=dense, tolerance=1e-13)
    rows = np.r_[np.c_[np.ones(40), X], np.c_[np.zeros(5), np.full(5, 5.0)]]
    right = np.r_[data["line"].counts, 5.0 * data["slope"].counts]
    np.testing.assert_allclose(vector(found), np.linalg.lstsq(rows, right)[0], rtol=1e-7)


@FORMS
def test_a_tied_leaf_goes_along(dense):
    plain = line_problem()
    problem = sj.make_problem(
        plain.experiment, plain.measurement, forward=FORWARD, noise=sj.Poisson(0.0), free=["slope"],
        ties={"offset": sj.Scaled("slope", 2.0)},
    )  # fmt: skip
    found = sj.least_squares(problem, dense=dense, tolerance=1e-13)
    slope = plain.measurement.counts.sum() / (X + 2.0).sum()  # the closed form of a Poisson mean in proportion
    assert list(found.estimate) == ["slope"]
    assert float(found.value.slope) == pytest.approx(slope, rel=1e-8)
    assert float(found.value.offset) == pytest.approx(2.0 * slope, rel=1e-8)


# What the data cannot tell.


class Trading:
    """A line whose slope is the product, or the sum, of two leaves."""

    def __init__(self, kind):
        self.kind = kind

    def __call__(self, model, index=None):
        slope = model["a"] * model["b"] if self.kind == "product" else model["a"] + model["b"]
        return FORWARD(Line(slope, model["c"]))


@FORMS
@pytest.mark.parametrize("kind", ["product", "sum"])
def test_leaves_that_trade_come_to_rest_and_are_named(kind, dense):
    plain = line_problem()
    model = {"a": jnp.array(2.0), "b": jnp.array(1.0), "c": jnp.array(3.0)}
    problem = sj.make_problem(
        model, plain.measurement, forward=Trading(kind), noise=sj.Poisson(0.0), free=["a", "b", "c"]
    )
    found = sj.least_squares(problem, dense=dense, tolerance=1e-8)
    assert found.success, found.status
    line = by_scipy(plain)[0]  # offset, slope
    a, b, c = vector(found)
    assert (a * b if kind == "product" else a + b) == pytest.approx(line[1], rel=1e-5)
    assert c == pytest.approx(line[0], rel=1e-5)
    if dense:
        with pytest.raises(
            sj.InputError, match=r"'[ab]' and '[ab]' trade against each other.*give one of them a prior"
        ):
            sj.laplace(problem, at=found)
        bound = sj.cramer_rao(problem, at=found)
        assert [bool(np.isinf(bound.deviations[name].value)) for name in "abc"] == [True, True, False]
        assert "a" in str(bound.blind[0])
        assert "b" in str(bound.blind[0])


class Window:
    """A blurred view of the first pixels of a row; the others are outside."""

    def __init__(self, blur):
        places = np.arange(60)[:, None] - np.arange(200)[None]
        self.spread = np.exp(-0.5 * (places / blur) ** 2) * (np.arange(200)[None] < 60)

    def __call__(self, model, index=None):
        return jnp.asarray(self.spread) @ model["row"] + model["level"]


def window_problem(blur):
    data = np.random.default_rng(0).normal(size=60)
    model = {"row": jnp.full(200, 0.5), "level": jnp.array(0.0), "unused": jnp.array(7.0)}
    return sj.make_problem(
        model, Counts(data), forward=Window(blur), noise=sj.Gaussian(1.0, 0.0), free=["*"],
        priors={"level": sj.Normal(0.0, 1.0)},
    )  # fmt: skip


NORMAL = 0.5 * np.log(2.0 * np.pi)
"""−log p of a perfect fit: what is left is the constant of the normal prior of the level."""


@FORMS
def test_what_is_not_seen_stays_where_it_is_and_does_not_stop_the_rest(dense):
    found = sj.least_squares(window_problem(0.7), dense=dense)
    assert found.success, found.status
    np.testing.assert_array_equal(found.value["row"][60:], 0.5)
    assert float(found.value["unused"]) == 7.0
    # As many unknowns as data: the fit is perfect.
    assert found.history["loss"][-1] - NORMAL < 1e-3


def test_many_small_gains_are_not_taken_for_the_end():
    # Under a wide blur what is left to gain lies in many directions that are each seen badly.
    found = sj.least_squares(window_problem(1.2), dense=False, iterations=200)
    assert not found.success or found.history["loss"][-1] - NORMAL < 0.1


@FORMS
def test_data_that_depend_on_nothing_end_at_the_first_guess(dense):
    problem = line_problem().replace(forward=lambda model, index=None: jnp.full((40, 1), 20.0) + 0.0 * model.slope)
    found = sj.least_squares(problem, dense=dense)
    assert vector(found).tolist() == [3.0, 2.0]
    assert "came to rest" in found.status


# What a person reads.


def broken(**changed):
    problem = line_problem()
    if "counts" in changed:
        return problem.replace(measurement=Counts(changed["counts"]))
    return problem.replace(experiment=Line(jnp.array(changed["slope"]), jnp.array(3.0)))


NOT_FINITE = pytest.mark.parametrize(
    ("problem", "words"),
    [
        (lambda: broken(slope=np.nan), "'slope' are not finite; .* give it a prior"),
        (lambda: line_problem(slope=-1.0), "likelihood is not finite in 20 of 40 .* keep the expectation positive"),
        (lambda: broken(counts=np.full((40, 1), np.nan)), "counts are not finite in 40 of 40 .* mask or replace"),
        (lambda: line_problem(slope=0.0).replace(forward=Kink()), "gradient .* not finite .*'slope'.* move the first"),
    ],
    ids=["leaf", "likelihood", "counts", "gradient"],
)


@FORMS
@NOT_FINITE
def test_a_start_that_is_not_finite_is_explained(problem, words, dense):
    with pytest.raises(sj.InputError, match=words):
        sj.least_squares(problem(), dense=dense)


@FORMS
def test_too_few_steps_are_no_success_and_say_so(dense):
    found = sj.least_squares(line_problem(), dense=dense, iterations=1)
    assert not found.success
    assert "took 1 steps without coming to rest" in found.status
    assert len(found.history["loss"]) == 2
    none = sj.least_squares(line_problem(), dense=dense, iterations=0)
    assert not none.success
    assert vector(none).tolist() == [3.0, 2.0]


def bent(model, index=None):
    return (30.0 + jnp.abs(model.slope - 1.0) * jnp.asarray(X) + 0.0 * model.offset)[:, None]


def test_an_edge_that_stops_the_walk_is_no_success():
    # −log p has a kink at slope 1 and falls towards it: its slope never vanishes.
    problem = line_problem().replace(forward=bent, measurement=Counts(np.full((40, 1), 20.0)))
    found = sj.least_squares(problem, tolerance=1e-12)
    assert float(found.value.slope) == pytest.approx(1.0, abs=1e-3)
    assert not found.success
    assert "slope is not zero" in found.status


class Dark:
    """A model whose first guess expects next to nothing, where the linear model of a step is off by many powers."""

    def __call__(self, model, index=None):
        return jnp.exp(model["a"]) * jnp.ones(40)


@FORMS
def test_success_is_claimed_at_the_minimum_and_nowhere_else(dense):
    problem = sj.make_problem(
        {"a": jnp.array(-45.0)}, Counts(np.full(40, 100.0)), forward=Dark(), noise=sj.Poisson(0.0), free=["a"]
    )
    found = sj.least_squares(problem, dense=dense)
    assert found.success == (abs(float(found.value["a"]) - np.log(100.0)) < 1e-3)
    assert found.success or "stuck" in found.status


@FORMS
def test_history_and_reports_are_of_every_step(dense):
    problem, told = linear_problem(), []
    found = sj.least_squares(problem, dense=dense, products=3, report=lambda *step: told.append(step))
    loss, damping, products = (found.history[name] for name in ("loss", "damping", "products"))
    assert set(found.history) == {"loss", "damping", "products"}
    assert len(loss) - 1 == len(damping) == len(products) == len(told)
    assert told == list(enumerate(loss[1:].tolist()))
    assert loss[0] == pytest.approx(float(statement.objective(problem, statement.start(problem))), rel=1e-12)
    assert (damping > 0).all()
    # With a matrix a product for each of the 66 unknowns; without one, what was allowed.
    assert (products == 66).all() if dense else (products[1:] <= 3).all()


# Compilation, memory, precision.


@contextlib.contextmanager
def compilations():
    """Events of jax's compiler while this is open, traces too."""
    events = []

    def listen(event, duration, **about):
        if event.startswith("/jax/core/compile"):
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield events
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@FORMS
def test_one_program_serves_every_step_and_all_data_of_a_shape(dense):
    forward = Linear(LINEAR.matrix)  # no other test knows it
    with compilations() as events:
        sj.least_squares(linear_problem(forward), dense=dense, iterations=1)
    assert events
    other = linear_problem(forward, seed=7)
    guess = {"gain": jnp.array(1.0), "image": jnp.zeros(SHAPE), "pair": jnp.zeros(2)}
    other = other.replace(experiment=guess, priors=other.priors | {"image": sj.Smooth(0.7)})
    with compilations() as events:
        found = sj.least_squares(other, dense=dense, damping=0.1, tolerance=1e-5, seed=3)
    assert not events
    assert len(found.history["loss"]) > 2


def test_scalars_from_python_do_not_make_a_second_program():
    problem = line_problem().replace(forward=lambda model, index=None: FORWARD(model))
    sj.least_squares(problem, iterations=1)
    with compilations() as events:
        sj.least_squares(problem)
    assert not events


class Blurred:
    """A picture under a small kernel, times a gain."""

    def __call__(self, model, index=None):
        kernel = jnp.array([0.25, 0.5, 0.25])
        rows = jax.vmap(lambda row: jnp.convolve(row, kernel, mode="same"))(model["image"])
        return model["gain"] * jax.vmap(lambda row: jnp.convolve(row, kernel, mode="same"))(rows.T).T.ravel()


def largest(jaxpr):
    """Elements of the largest array that a program makes, in its loops and branches too."""
    sizes = [v.aval.size for equation in jaxpr.eqns for v in equation.outvars if hasattr(v.aval, "size")]
    inner = [part for equation in jaxpr.eqns for part in jax.tree.leaves(list(equation.params.values()), is_leaf=held)]
    return max([*sizes, *(largest(getattr(part, "jaxpr", part)) for part in inner if held(part))], default=0)


def held(part):
    return hasattr(part, "eqns") or hasattr(getattr(part, "jaxpr", None), "eqns")


def programs(monkeypatch, module):
    """Every compiled function of a solver with what it was first called with; filled as it runs."""
    calls = {}

    def recorded(name, function):
        def call(*given):
            calls.setdefault(name, (function, given))
            return function(*given)

        return call

    for name, function in list(vars(module).items()):
        if hasattr(function, "lower") and hasattr(function, "trace"):
            monkeypatch.setattr(module, name, recorded(name, function))
    return calls


def blurred_problem(side):
    counts = np.random.default_rng(0).poisson(20.0, side * side).astype(float)
    model = {"image": jnp.full((side, side), 10.0), "gain": jnp.array(1.0)}
    return sj.make_problem(
        model, Counts(counts), forward=Blurred(), noise=sj.Gaussian(1.0, 1.0), free=["*"],
        priors={"image": sj.Smooth(3.0), "gain": sj.Normal(1.0, 0.1)},
    )  # fmt: skip


def test_without_a_matrix_memory_is_a_few_vectors(monkeypatch):
    calls, unknowns = programs(monkeypatch, solver), 150 * 150 + 1
    found = sj.least_squares(blurred_problem(150), iterations=2)
    assert found.history["loss"][-1] < 0.5 * found.history["loss"][0]
    assert len(calls) >= 2
    for function, given in calls.values():
        # The probes of the diagonal are the most; unknowns or records times unknowns would be 22 501 vectors.
        assert largest(function.trace(*given).jaxpr.jaxpr) <= 16 * unknowns
        used = function.lower(*given).compile().memory_analysis().temp_size_in_bytes
        assert used < 100 * 8 * unknowns
    calls.clear()
    sj.least_squares(blurred_problem(10), iterations=1, dense=True)
    # The gauge sees a matrix where there is one.
    assert max(largest(function.trace(*given).jaxpr.jaxpr) for function, given in calls.values()) >= 101**2


def halved(leaf):
    array = np.asarray(leaf)
    return array.astype(np.float32) if array.dtype == np.float64 else array


@FORMS
def test_single_precision_ends_within_a_small_part_of_the_error_bar(columns, dense):
    problem, expected, spread = columns
    single = jax.tree.map(halved, problem)
    with jax.enable_x64(False):
        assert statement.start(single)["columns.positions"].dtype == jnp.float32
        found = sj.least_squares(single, dense=dense)
    assert found.success, found.status
    z = np.asarray(unconstrained(problem, found))
    assert (np.abs(z - expected) / spread).max() < 0.05


# Statistics.


@pytest.mark.slow
def test_errors_of_fits_to_noise_are_those_of_the_bound():
    places = np.array([[1.0, 1.0], [1.0, 2.0]])
    scan = sj.make_raster((16, 22), 0.14)
    truth = ColumnScene(sj.make_columns(places, amplitude=150.0, width=0.35, background=3.0), scan)
    guess = truth.replace(columns=sj.make_columns(places + 0.08, amplitude=100.0, width=0.45, background=6.0))
    expected = np.asarray(ColumnImage()(truth))
    wide = {f"columns.{name}": sj.LogNormal(1.0, 100.0) for name in ("amplitude", "width", "background")}
    free = [*wide, "columns.positions"]
    problem = sj.make_problem(
        guess, sj.Measurement(expected), forward=ColumnImage(), noise=sj.Poisson(0.0), free=free, priors=wide
    )
    draws, random = 60, np.random.default_rng(2)
    bound, at_truth = sj.cramer_rao(problem, at=truth), statement.start(problem.replace(experiment=truth))
    shape, matrix = layout(problem), np.asarray(fisher_matrix(problem, at_truth))
    errors = []
    for _ in range(draws):
        found = sj.least_squares(problem.replace(measurement=sj.Measurement(random.poisson(expected).astype(float))))
        assert found.success
        errors.append(np.asarray(unconstrained(problem, found) - shape.ravel(at_truth)))
        leaf = sj.select(found.value, free)
    errors = np.array(errors)
    # All unknowns with all their correlations: a sum of so many squares of standard normal numbers.
    squares = np.einsum("di,ij,dj->", errors, matrix, errors)
    assert abs(squares / (draws * shape.size) - 1.0) < 4.0 * np.sqrt(2.0 / (draws * shape.size))
    slopes = {path: float(np.mean(np.asarray(leaf[path]))) if path in wide else 1.0 for path in shape.shapes}
    for path, part in shape.slices().items():
        deviations = np.ravel(bound.deviations[path].value) / slopes[path]  # of a logarithm: relative
        ratio = np.sqrt(np.mean((errors[:, part] / deviations) ** 2))
        assert abs(ratio - 1.0) < 4.0 / np.sqrt(2.0 * draws), (path, ratio)
