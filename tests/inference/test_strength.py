"""Strengths found from data: against exact evidence, Stein's closed form, and the strength that errs least."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from flax import struct

import stemjax as sj
from stemjax.forward.column_image import ColumnImage, ColumnScene
from stemjax.inference.priors import evidence
from stemjax.inference.priors.discrepancy import by_discrepancy, expected_deviance
from stemjax.inference.priors.images import Positive, Product, Ridge, Smooth, Sparse, TotalVariation
from stemjax.inference.priors.lattice import make_known_lattice
from stemjax.inference.priors.most_probable import most_probable
from stemjax.inference.priors.paths import GaussianProcess, RandomWalk
from stemjax.inference.priors.strength import settle, strengths, unsettled
from stemjax.optics.scan import make_raster
from stemjax.specimen.columns import make_columns


class Counts(struct.PyTreeNode):
    counts: Any
    mask: Any = None


def seen(model, index=None):
    """The leaf itself, in the unit of the data."""
    return model["unit"] * model["leaf"]


NOISE = sj.Gaussian(1.0, 0.0)


def denoising(data, prior, unit=1.0, noise=NOISE):
    guess = {"leaf": jnp.asarray(data) / unit, "unit": jnp.asarray(unit)}
    data = Counts(data, np.ones_like(data))
    return sj.make_problem(guess, data, forward=seen, noise=noise, free=["leaf"], priors={"leaf": prior})


def found_scale(problem):
    prior = problem.priors["leaf"]
    return prior.factors[-1].scale if isinstance(prior, Product) else prior.scale


def precision(prior, shape):
    """D^T D of a prior at scale one."""
    size = int(np.prod(shape))
    slopes = jax.jit(jax.jacobian(lambda x: jnp.concatenate([d.ravel() for d in prior.deviations(x.reshape(shape))])))
    d = np.asarray(slopes(jnp.zeros(size)))
    return d.T @ d


def best_scale(prior, data, noise=1.0):
    """The most probable log-scale of values seen with normal noise, scales even beforehand; in the eigenbasis."""
    values, vectors = np.linalg.eigh(precision(prior, data.shape))
    held = values > 1e-9 * values.max()
    power = (vectors.T @ data.ravel())[held] ** 2

    def misfit(log_scale):
        variance = noise**2 + np.exp(2.0 * log_scale) / values[held]
        return 0.5 * np.sum(power / variance + np.log(variance)) - log_scale

    grid = np.linspace(-6.0, 6.0, 121)
    middle = grid[np.argmin([misfit(g) for g in grid])]
    return np.exp(scipy.optimize.minimize_scalar(misfit, bounds=(middle - 0.1, middle + 0.1), method="bounded").x)


@pytest.mark.slow
@pytest.mark.parametrize("size", [0.5, 0.1])
def test_error_bars_are_true_where_the_scale_is_from_the_data(size):
    # Paths that begin near zero: their first value has a density of its own, which their scale leaves alone. Steps of
    # a tenth of the noise hardly show: the scale of greatest evidence is then often zero, and intervals too narrow.
    walk = RandomWalk(times=jnp.asarray(TIMES), start=1.0)
    true = walk.replace(scale=size)
    table = sj.calibrate(
        denoising(np.zeros((50, 2)), walk), sj.laplace, truths=150,
        draw={"leaf": lambda key, model: true.sample(key, (50, 2))},
    )  # fmt: skip
    share, error = table.quantities["leaf"].coverage(0.95)
    assert abs(share - 0.95) < 0.015 + 2.0 * error
    assert error < 0.01


def rough_image(ny, nx, seed=0):
    return 0.4 * np.cumsum(np.cumsum(np.random.default_rng(seed).normal(size=(ny, nx)), 0), 1)


TIMES = np.cumsum(np.random.default_rng(5).uniform(0.2, 2.0, 50))


def walk_data(seed, scale=0.5):
    draw, noise = np.random.default_rng(seed), np.random.default_rng(seed + 1000)
    steps = scale * np.sqrt(np.diff(TIMES, prepend=TIMES[0]))[:, None] * draw.normal(size=(50, 2))
    return np.cumsum(steps, axis=0) + noise.normal(size=(50, 2))


@pytest.mark.parametrize(
    ("prior", "data"),
    [
        (RandomWalk(times=jnp.asarray(TIMES)), walk_data(0)),
        pytest.param(
            GaussianProcess(length=8.0),
            np.random.default_rng(2).normal(size=40) + 2.0 * np.sin(np.arange(40.0) / 6.0),
            marks=pytest.mark.slow,
        ),
        (Smooth(), rough_image(11, 12) + np.random.default_rng(1).normal(size=(11, 12))),
    ],
)
def test_few_unknowns_get_the_most_probable_scale(prior, data):
    # Normal data and prior: Laplace's approximation is exact, and so are the traces.
    assert found_scale(settle(denoising(data, prior))) == pytest.approx(best_scale(prior, data), rel=0.01)


def test_many_unknowns_get_it_within_the_error_of_random_signs():
    data = rough_image(22, 23) + 2.0 * np.random.default_rng(1).normal(size=(22, 23))
    problem = denoising(data, Smooth(), noise=sj.Gaussian(2.0, 0.0))
    assert data.size > evidence.DENSE
    assert found_scale(settle(problem)) == pytest.approx(best_scale(Smooth(), data, 2.0), rel=0.05)


def test_scale_is_the_true_one_on_the_mean():
    found = [
        found_scale(settle(denoising(walk_data(seed), RandomWalk(times=jnp.asarray(TIMES))))) for seed in range(12)
    ]
    off = np.log(found) - np.log(0.5)
    assert abs(off.mean()) < 3.0 * off.std(ddof=1) / np.sqrt(len(off))
    assert off.std() < 0.5


def test_two_priors_on_one_leaf_share_its_directions():
    data = rough_image(9, 10) + np.random.default_rng(1).normal(size=(9, 10))
    smooth, ridge = precision(Smooth(), data.shape), np.eye(data.size)

    def misfit(logs):
        prior = smooth * np.exp(-2.0 * logs[0]) + ridge * np.exp(-2.0 * logs[1])
        covariance = np.linalg.inv(prior) + np.eye(data.size)
        return 0.5 * (data.ravel() @ np.linalg.solve(covariance, data.ravel()) + np.linalg.slogdet(covariance)[1])

    best = np.exp(scipy.optimize.minimize(misfit, [0.0, 1.0], method="Nelder-Mead").x)
    found = settle(denoising(data, Product((Smooth(), Ridge())))).priors["leaf"].factors
    np.testing.assert_allclose([f.scale for f in found], best, rtol=0.05)


@pytest.mark.slow
def test_columns_of_an_image_tell_how_far_they_lie_off_their_lattice():
    random = np.random.default_rng(4)
    vectors, cells = np.array([[2.5, 0.0], [0.0, 2.5]]), np.stack(np.mgrid[1:5, 1:5], -1).reshape(-1, 2)
    true = cells @ vectors + 0.12 * random.normal(size=(16, 2))
    heights = 60.0 + 15.0 * random.normal(size=16)
    columns = make_columns(true, amplitude=heights, width=0.5, background=1.0)
    image = ColumnImage()(ColumnScene(columns, make_raster((42, 42), 0.3)))
    guess = ColumnScene(
        columns.replace(positions=jnp.asarray(cells @ vectors), amplitude=jnp.full(16, 60.0)),
        make_raster((42, 42), 0.3),
    )
    problem = sj.make_problem(
        guess,
        Counts(random.poisson(np.asarray(image)).astype(float)),
        forward=ColumnImage(),
        noise=sj.Poisson(),
        free=["columns.positions", "columns.amplitude"],
        priors={
            "columns.positions": make_known_lattice(cells @ vectors, vectors, origin=(0.0, 0.0)),
            "columns.amplitude": Product((Positive(1.0), Ridge(centre=60.0))),
        },
    )
    assert unsettled(problem)
    settled = settle(problem)
    assert not unsettled(settled)
    # 32 displacements and 16 heights, each seen far better than it scatters: relative errors of 1 / sqrt(2 n).
    lattice = settled.priors["columns.positions"].scale
    assert abs(lattice / np.sqrt(np.mean((true - cells @ vectors) ** 2)) - 1.0) < 0.1
    assert abs(lattice / 0.12 - 1.0) < 3.0 / np.sqrt(64)
    assert abs(settled.priors["columns.amplitude"].factors[1].scale / 15.0 - 1.0) < 3.0 / np.sqrt(32)
    assert strengths(settled) == {
        "columns.positions": f"KnownLattice {lattice:.4g} Å",
        "columns.amplitude": f"Ridge {settled.priors['columns.amplitude'].factors[1].scale:.4g} electron",
    }


def spikes():
    random = np.random.default_rng(6)
    return np.where(random.random(600) < 0.1, 6.0 * random.normal(size=600), 0.0) + random.normal(size=600)


@pytest.mark.parametrize(
    ("prior", "data"), [(RandomWalk(times=jnp.asarray(TIMES)), walk_data(3)), (Sparse(), spikes())]
)
def test_a_unit_a_thousand_times_smaller_gives_a_scale_a_thousand_times_greater(prior, data):
    scales = [found_scale(settle(denoising(data, prior, unit=unit))) for unit in (1.0, 1e-3)]
    assert scales[1] / scales[0] == pytest.approx(1e3, rel=0.02)


def test_sparse_values_get_the_threshold_of_least_estimated_risk():
    data = spikes()
    # The most probable values are the data drawn to zero by 1 / scale; Stein's estimate of their risk in closed form
    # (Donoho & Johnstone, J. Am. Stat. Assoc. 90 (1995) 1200).
    thresholds = np.linspace(0.2, 4.0, 400)
    risks = [np.sum(np.minimum(data**2, t**2)) + 2.0 * np.sum(np.abs(data) > t) for t in thresholds]
    ours = 1.0 / found_scale(settle(denoising(data, Sparse())))
    at_ours = np.sum(np.minimum(data**2, ours**2)) + 2.0 * np.sum(np.abs(data) > ours)
    # The estimate jumps wherever a threshold crosses a value, by two; the minimum is met within a few such jumps.
    assert at_ours < min(risks) + 10.0


SIZE = 48


def blocks(peak, size=SIZE):
    y, x = np.mgrid[:SIZE, :SIZE]
    image = np.full((SIZE, SIZE), 0.2)
    image[8:22, 9:30], image[27:42, 6:18] = 1.0, 0.6
    image[(y - 31) ** 2 + (x - 33) ** 2 < 70] = 0.8
    return peak * image[:size, :size]


def lattice_image(peak, size=SIZE):
    y, x = np.mgrid[:size, :size]
    each = [np.exp(-((y - a) ** 2 + (x - b) ** 2) / 18.0) for a in range(5, size, 10) for b in range(5, size, 10)]
    return peak * (0.2 + sum(each))


POISSON = sj.Poisson()


def counted(image, kind, seed=3):
    counts = np.random.default_rng(seed).poisson(image).astype(float)
    problem = denoising(np.maximum(counts, 0.5 * counts.mean()), Product((Positive(1.0), kind)), noise=POISSON)
    return problem.replace(measurement=Counts(counts, np.ones_like(counts)))


def error_of(problem, scale, image, z=None):
    """Error of the most probable image at a scale, and that image."""
    factors = problem.priors["leaf"].factors
    stated = problem.replace(priors={"leaf": Product((factors[0], factors[1].replace(scale=float(scale))))})
    z, _ = most_probable(stated, sj.start(stated) if z is None else z, jax.random.key(0))
    return float(np.sqrt(np.mean((np.asarray(jax.nn.softplus(z["leaf"])) - image) ** 2))), z


@pytest.mark.parametrize(
    ("kind", "image", "peak", "size", "most"),
    [
        # So small an image scatters: 0.99 to 1.14 over four draws of its counts.
        pytest.param(TotalVariation, lattice_image, 5.0, 30, 1.25, marks=pytest.mark.slow),
        (Smooth, blocks, 30.0, SIZE, 1.1),
        pytest.param(TotalVariation, lattice_image, 5.0, SIZE, 1.1, marks=pytest.mark.slow),
        pytest.param(TotalVariation, blocks, 30.0, SIZE, 1.1, marks=pytest.mark.slow),
        pytest.param(Smooth, lattice_image, 5.0, SIZE, 1.1, marks=pytest.mark.slow),
    ],
)
def test_image_is_near_the_best_that_any_scale_gives(kind, image, peak, size, most):
    truth = image(peak, size)
    problem = counted(truth, kind())
    scale = found_scale(settle(problem))
    chosen, z = error_of(problem, scale, truth)
    others = [error_of(problem, scale * share, truth, z)[0] for share in np.geomspace(0.4, 2.5, 5)]
    assert chosen < most * min(others)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [TotalVariation, Smooth])
@pytest.mark.parametrize("image", [blocks, lattice_image])
@pytest.mark.parametrize("peak", [5.0, 30.0, 300.0])
def test_image_is_near_the_best_at_any_dose(kind, image, peak):
    truth, ratios = image(peak), []
    for seed in range(4):
        problem = counted(truth, kind(), seed)
        scale = found_scale(settle(problem))
        chosen, z = error_of(problem, scale, truth)
        ratios.append(chosen / min(error_of(problem, scale * s, truth, z)[0] for s in np.geomspace(0.2, 5.0, 17)))
    assert np.mean(ratios) < 1.1


def test_discrepancy_meets_the_deviance_of_noise():
    problem = by_discrepancy(counted(blocks(5.0), Smooth()))
    z, _ = most_probable(problem, sj.start(problem), jax.random.key(0))
    ours, mean = map(float, expected_deviance(problem, z, jax.random.key(7), 64))
    # Poisson deviance at the model, summed over all counts that can occur, in numpy.
    expected = np.asarray(jax.nn.softplus(z["leaf"])) + POISSON.floor
    n = np.arange(60.0)[:, None, None]
    deviance = 2.0 * (n * np.log(np.where(n > 0, n, 1.0) / expected) - n + expected)
    share = scipy.stats.poisson.pmf(n, expected)
    each = np.sum(share * deviance, axis=0)
    exact, spread = float(each.sum()), float(np.sqrt(np.sum(share * deviance**2) - np.sum(each**2)))
    assert abs(mean - exact) < 4.0 * spread / np.sqrt(64)
    assert abs(ours - exact) < 0.2 * spread
    # That many counts are few: their deviance is not one a pixel.
    assert abs(exact / SIZE**2 - 1.0) > 0.05


def test_second_search_compiles_nothing():
    walk = RandomWalk(times=jnp.asarray(TIMES))
    settle(denoising(walk_data(0), walk))
    before = most_probable._cache_size(), evidence.sums._cache_size(), evidence.spreads._cache_size()
    settle(denoising(walk_data(1), walk))
    assert (most_probable._cache_size(), evidence.sums._cache_size(), evidence.spreads._cache_size()) == before


def test_scales_that_are_numbers_stay():
    problem = denoising(walk_data(0), RandomWalk(0.3))
    assert not unsettled(problem)
    assert settle(problem) is problem
    assert strengths(problem) == {"leaf": "RandomWalk 0.3"}
    timed = denoising(walk_data(0), RandomWalk(times=jnp.asarray(TIMES)))
    assert strengths(timed) == {"leaf": "RandomWalk, from the data"}


def test_no_deviation_at_all_ends_the_search():
    flat = np.full((11, 12), 3.0)
    # The data are smoother than noise allows: the scale falls until they hardly see what it allows.
    assert 0.0 < best_scale(Smooth(), flat) < 0.2
    assert found_scale(settle(denoising(flat, Smooth()))) == pytest.approx(best_scale(Smooth(), flat), rel=0.02)


class Nameless(struct.PyTreeNode):
    """A prior that does not say what its scale measures."""

    scale: Any = None

    def log_prob(self, x):
        return -jnp.sum(x**2) / (1.0 if self.scale is None else self.scale)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: settle(denoising(np.ones((3, 2)), Nameless())), "Nameless of 'leaf' has no scale and no"),
        (lambda: settle(denoising(walk_data(0), RandomWalk(times=jnp.asarray(TIMES))).replace(
            experiment={"leaf": jnp.ones((50, 2)), "unit": jnp.array(0.0)})), "data do not see 'leaf'"),
        (lambda: by_discrepancy(denoising(np.ones((3, 2)), RandomWalk(1.0))), "chooses one scale and 0 are left out"),
        (lambda: by_discrepancy(denoising(np.ones((3, 3)), Product((Smooth(), Ridge())))), "and 2 are left out"),
        (lambda: by_discrepancy(denoising(np.zeros((11, 12)), Smooth())), "met within noise however strong"),
    ],
)  # fmt: skip
def test_what_the_data_cannot_choose_is_refused(call, words):
    with pytest.raises(sj.InputError, match=words):
        call()


@pytest.mark.slow
def test_misfit_that_no_prior_mends_is_told():
    one = sj.make_problem(
        {"leaf": jnp.ones(()), "unit": jnp.ones(40)},
        Counts(10.0 * np.random.default_rng(0).normal(size=40)),
        forward=seen,
        noise=NOISE,
        free=["leaf"],
        priors={"leaf": Ridge()},
    )
    with pytest.raises(sj.InputError, match="missed by more than noise however weak the prior"):
        by_discrepancy(one)


def test_scale_of_deviations_that_the_data_see_once_has_no_end():
    problem = sj.make_problem(
        {"leaf": jnp.zeros(5)},
        Counts(np.array([3.0])),
        forward=lambda model, index=None: jnp.mean(model["leaf"])[None],
        noise=NOISE,
        free=["leaf"],
        priors={"leaf": Ridge()},
    )
    with pytest.raises(sj.InputError, match="see too little of 'leaf' to choose the scale"):
        settle(problem)


def test_broken_data_are_named():
    problem = denoising(walk_data(0), RandomWalk(times=jnp.asarray(TIMES)))
    broken = problem.replace(measurement=Counts(np.full((50, 2), np.nan), np.ones((50, 2))))
    with pytest.raises(sj.InputError, match="counts are not finite"):
        settle(broken)


def test_masked_pixels_choose_nothing():
    data = walk_data(0)
    spoilt = np.where(np.arange(50)[:, None] == 20, 1e3, data)
    mask = np.where(np.arange(50)[:, None] == 20, 0.0, np.ones_like(data))
    walk = RandomWalk(times=jnp.asarray(TIMES))
    problem = denoising(data, walk)
    clean, other = (settle(problem.replace(measurement=Counts(d, mask))).priors["leaf"].scale for d in (data, spoilt))
    assert clean == pytest.approx(other, rel=1e-3)
