"""Priors against the normal densities of scipy and numpyro, their draws against their covariances, wrong uses."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.integrate
import scipy.stats
from flax import struct

import stemjax as sj
from stemjax.inference.priors.images import Positive, Product, Ridge, SliceSmooth, Smooth, Sparse, TotalVariation
from stemjax.inference.priors.kernels import Exponential, Matern32
from stemjax.inference.priors.lattice import (
    KnownLattice,
    StraightLattice,
    assign,
    make_known_lattice,
    make_straight_lattice,
)
from stemjax.inference.priors.paths import GaussianField, GaussianProcess, RandomWalk

RNG = np.random.default_rng(3)
TIMES = np.cumsum(RNG.uniform(0.1, 2.0, 9))


def matern32(r):
    return (1.0 + np.sqrt(3.0) * r) * np.exp(-np.sqrt(3.0) * r)


def rough(r):
    return np.exp(-r)


def distances(places):
    return np.abs(places[:, None] - places[None])


def field_covariance(kernel, ny, nx, length_y, length_x):
    return np.kron(kernel(distances(np.arange(ny)) / length_y), kernel(distances(np.arange(nx)) / length_x))


def walk_covariance(scale, start):
    return start**2 + scale**2 * np.minimum(TIMES[:, None] - TIMES[0], TIMES[None] - TIMES[0])


PROPER = {
    "walk": (RandomWalk(0.7, jnp.asarray(TIMES), 1.3), (9,), walk_covariance(0.7, 1.3)),
    "rough path": (
        GaussianProcess(0.8, 2.5, jnp.asarray(TIMES), Exponential()),
        (9,),
        0.64 * rough(distances(TIMES) / 2.5),
    ),
    "path": (GaussianProcess(0.8, 2.5, jnp.asarray(TIMES)), (9,), 0.64 * matern32(distances(TIMES) / 2.5)),
    "path by steps": (GaussianProcess(0.8, 6.0), (9,), 0.64 * matern32(distances(np.arange(9)) / 6.0)),
    "field": (GaussianField(0.8, 1.5, (0.5, 0.3)), (4, 5), 0.64 * field_covariance(matern32, 4, 5, 3.0, 5.0)),
    "rough field": (
        GaussianField(0.8, 1.5, (0.5, 0.3), Exponential()),
        (4, 5),
        0.64 * field_covariance(rough, 4, 5, 3.0, 5.0),
    ),
    "ridge": (Ridge(0.4), (6,), 0.16 * np.eye(6)),
    "lattice": (KnownLattice(0.4, jnp.zeros((3, 2))), (3, 2), 0.16 * np.eye(6)),
}


@pytest.mark.parametrize("name", PROPER)
def test_density_is_that_of_a_dense_normal(name):
    prior, shape, covariance = PROPER[name]
    normal = scipy.stats.multivariate_normal(np.zeros(len(covariance)), covariance)
    draws = RNG.normal(size=(3, len(covariance)))
    ours = np.asarray(jax.jit(jax.vmap(prior.log_prob))(jnp.asarray(draws.reshape(3, *shape))))
    # Densities are known up to a constant.
    np.testing.assert_allclose(ours - ours[0], normal.logpdf(draws) - normal.logpdf(draws[0]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", PROPER)
def test_draws_have_the_covariance(name):
    prior, shape, covariance = PROPER[name]
    count = 4000
    draws = jax.jit(jax.vmap(lambda key: prior.sample(key, shape)))(jax.random.split(jax.random.key(1), count))
    draws = np.asarray(draws).reshape(count, -1)
    found = draws.T @ draws / count
    # The standard error of a covariance: sqrt((c_ij^2 + c_ii c_jj) / count).
    error = np.sqrt((covariance**2 + np.outer(np.diag(covariance), np.diag(covariance))) / count)
    assert (np.abs(found - covariance) < 5.0 * error).all()


@pytest.mark.parametrize("name", ["rough path", "path", "field"])
def test_covary_is_the_covariance_matrix(name):
    prior, shape, covariance = PROPER[name]
    x = RNG.normal(size=shape)
    ours = np.asarray(jax.jit(prior.covary)(jnp.asarray(x))).ravel()
    np.testing.assert_allclose(ours, covariance @ x.ravel() / 0.64, rtol=1e-9, atol=1e-12)


def test_random_walk_is_that_of_numpyro():
    walk = jnp.asarray(np.cumsum(RNG.normal(size=8)))
    theirs, other = dist.GaussianRandomWalk(0.6, num_steps=8), jnp.zeros(8)
    ours = RandomWalk(0.6, start=0.6)
    assert float(ours.log_prob(walk) - ours.log_prob(other)) == pytest.approx(
        float(theirs.log_prob(walk) - theirs.log_prob(other)), rel=1e-10
    )


def test_columns_of_a_leaf_are_paths_of_their_own():
    x = jnp.asarray(RNG.normal(size=(9, 2)))
    for name in ("walk", "rough path", "path"):
        prior = PROPER[name][0]
        log_prob = jax.jit(prior.log_prob)
        alone = log_prob(x[:, 0]) + log_prob(x[:, 1])
        assert float(log_prob(x)) == pytest.approx(float(alone), rel=1e-12)


@pytest.mark.parametrize("kernel", [Exponential(), Matern32()])
def test_kernels_invert_themselves_at_any_step(kernel):
    white = jnp.asarray(np.random.default_rng(0).normal(size=(7, 2)))
    back = jax.jit(lambda steps: kernel.whiten(kernel.colour(white, steps), steps))
    for step in (1e-4, 1e-2, 0.3, 1.0, 10.0):
        # Whitening divides by what a step adds, the step to the power 3/2 at least: so many digits are lost.
        np.testing.assert_allclose(back(jnp.full(6, step)), white, rtol=0, atol=1e-14 / min(step, 1.0) ** 2)


def test_single_precision_keeps_a_smooth_path():
    # The forecast of a Matern path with small steps is off by a step to the power 3/2: next to nothing.
    steps, white = np.full(40, 1e-3), np.random.default_rng(0).normal(size=41)
    colour = jax.jit(Matern32().colour)
    double = np.asarray(colour(jnp.asarray(white), jnp.asarray(steps)))
    single = np.asarray(colour(jnp.asarray(white, jnp.float32), jnp.asarray(steps, jnp.float32)))
    assert np.abs(np.diff(double)).max() < 0.01
    np.testing.assert_allclose(single, double, atol=2e-5)


def test_gradients_reach_scale_and_length():
    x = jnp.asarray(RNG.normal(size=9))
    for turn in (lambda s: GaussianProcess(s, 2.0), lambda s: GaussianProcess(1.0, s), lambda s: RandomWalk(s)):
        value = jax.jit(lambda s, turn=turn: turn(s).log_prob(x))
        slope, by_hand = jax.grad(value)(1.3), (value(1.3 + 1e-6) - value(1.3 - 1e-6)) / 2e-6
        assert float(slope) == pytest.approx(float(by_hand), rel=1e-6)


def test_sparse_is_a_laplace_density_rounded_at_its_edge():
    x = np.array([0.5, -2.0, 7.0])
    theirs = scipy.stats.laplace(scale=2.0).logpdf(x).sum() - 3 * scipy.stats.laplace(scale=2.0).logpdf(0.0)
    # sqrt(x^2 + e^2) - e differs from |x| by at most e, here 1 % of the scale.
    assert float(Sparse(2.0).log_prob(jnp.asarray(x))) == pytest.approx(theirs, abs=0.03)
    slope = jax.grad(Sparse(2.0).log_prob)(jnp.zeros(3))
    assert slope.tolist() == [0.0, 0.0, 0.0]


def test_draws_of_sparse_have_its_density():
    prior, count = Sparse(2.0, 1.0), 4000
    draws = np.asarray(prior.sample(jax.random.key(2), (count,)))
    grid = np.concatenate([-np.geomspace(80.0, 1e-4, 4000), [0.0], np.geomspace(1e-4, 80.0, 4000)])
    density = np.exp(-(np.sqrt(grid**2 + 0.02**2) - 0.02) / 2.0)
    share = scipy.integrate.cumulative_trapezoid(density, grid, initial=0.0)
    found = scipy.stats.kstest(draws, lambda x: np.interp(x - 1.0, grid, share / share[-1]))
    assert found.pvalue > 0.01


@pytest.mark.parametrize(
    ("prior", "shape"),
    [
        (TotalVariation(0.3), (2, 4, 5)),
        (Smooth(0.3), (2, 4, 5)),
        (SliceSmooth(0.3), (3, 2, 2)),
        (Ridge(0.3), (2, 3)),
        (Sparse(0.3), (5,)),
        (RandomWalk(0.3), (6, 2)),
        (GaussianProcess(0.3, 2.0, kernel=Exponential()), (6, 2)),
        (GaussianField(0.3, 2.0, kernel=Exponential()), (2, 4, 5)),
        (KnownLattice(0.3, jnp.zeros((6, 2)), floating=True), (6, 2)),
        (StraightLattice(0.3, jnp.asarray(np.linalg.qr(RNG.normal(size=(7, 3)))[0])), (7, 2)),
    ],
)
def test_rank_is_the_number_of_directions_in_which_the_density_falls(prior, shape):
    def all_deviations(x):
        return jnp.concatenate([d.ravel() for d in prior.deviations(x.reshape(shape))])

    slopes = np.asarray(jax.jit(jax.jacobian(all_deviations))(jnp.zeros(int(np.prod(shape)))))
    assert prior.rank(shape) == np.linalg.matrix_rank(slopes)


SQUARE = np.array([[3.9, 0.1], [-0.05, 4.1]])
CELLS = np.stack(np.meshgrid(np.arange(5), np.arange(4), indexing="ij"), -1).reshape(-1, 2)


def test_positions_find_their_sites_whatever_the_origin():
    motif = [(0.0, 0.0), (0.5, 0.5)]
    true = np.concatenate([(CELLS + m) @ SQUARE for m in motif]) + np.array([1.7, -0.6])
    noisy = true + 0.1 * RNG.normal(size=true.shape)
    prior = make_known_lattice(noisy, SQUARE, motif=motif, scale=0.1)
    # The origin is the mean of what is left: known to 0.1 / sqrt(40).
    assert np.abs(np.asarray(prior.sites) - true).max() < 4 * 0.1 / np.sqrt(len(true))
    shifted = assign(noisy, SQUARE, origin=(1.7, -0.6), motif=motif)
    np.testing.assert_allclose(shifted.places, true, atol=1e-12)


def test_a_lattice_without_origin_does_not_take_the_guess_for_known():
    true = CELLS @ SQUARE + np.array([1.7, -0.6])
    recorded = true + 0.01 * RNG.normal(size=true.shape)
    guess = true + 0.05 * RNG.normal(size=true.shape) + 0.2
    prior = make_known_lattice(guess, SQUARE, scale=0.005)
    problem = sj.make_problem(
        {"positions": jnp.asarray(guess)}, Counts(recorded), forward=lambda m, i=None: m["positions"],
        noise=sj.Gaussian(0.01, 0.0), free=["positions"], priors={"positions": prior},
    )  # fmt: skip
    found = sj.laplace(problem)
    mean = np.asarray(found.value["positions"]).mean(axis=0)
    np.testing.assert_allclose(mean, recorded.mean(axis=0), atol=1e-8)
    # Of a position the data know the shared part to σ/√N, the rest goes by both: normal equations in closed form.
    count, own = len(true), 1.0 / (1.0 / 0.01**2 + 1.0 / 0.005**2)
    expected = np.sqrt(0.01**2 / count + own * (1.0 - 1.0 / count))
    np.testing.assert_allclose(found.uncertainty["positions"].value, expected, rtol=1e-6)


def test_straight_lattice_sees_only_what_no_lattice_explains():
    motif = [(0.0, 0.0), (0.4, 0.5)]
    true = np.concatenate([(CELLS + m) @ SQUARE for m in motif])
    prior = make_straight_lattice(true + 0.1 * RNG.normal(size=true.shape), SQUARE, motif=motif, scale=0.2)
    moved = true @ np.array([[1.01, 0.02], [-0.01, 0.98]]) + np.array([3.0, 1.0])
    assert float(prior.log_prob(jnp.asarray(moved))) == pytest.approx(0.0, abs=1e-12)
    noisy = true + 0.1 * RNG.normal(size=true.shape)
    # Least squares over both origins and both vectors, by numpy.
    kind = np.repeat(np.eye(2), len(CELLS), axis=0)
    design = np.concatenate([kind, np.tile(CELLS, (2, 1))], axis=1)
    left = noisy - design @ np.linalg.lstsq(design, noisy, rcond=None)[0]
    assert float(prior.log_prob(jnp.asarray(noisy))) == pytest.approx(-0.5 * (left**2).sum() / 0.04, rel=1e-10)


class Counts(struct.PyTreeNode):
    counts: jax.Array
    mask: jax.Array | None = None


def stated(prior, shape=(4, 4)):
    guess = {"leaf": jnp.ones(shape)}
    return sj.make_problem(
        guess,
        Counts(np.ones(shape)),
        forward=lambda model, index=None: model["leaf"],
        noise=sj.Gaussian(1.0, 0.0),
        free=["leaf"],
        priors={"leaf": prior},
    )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Smooth().log_prob(jnp.ones((3, 3))), "Smooth has no scale yet.*settle"),
        (lambda: RandomWalk(start=1.0).sample(jax.random.key(0), (3,)), "no scale yet"),
        (lambda: RandomWalk(1.0).sample(jax.random.key(0), (3,)), "give it a start"),
        (lambda: stated(Smooth(-1.0)), "Smooth with a scale of -1; give a positive one"),
        (lambda: stated(Product((Positive(), Ridge(0.0)))), "Ridge with a scale of 0"),
        (lambda: stated(TotalVariation(1.0), (4,)), r"no prior for 'leaf' of shape \(4,\): .* axes \(y, x\) last"),
        (lambda: stated(GaussianField(1.0, 2.0), (4,)), r"no prior for 'leaf'.*axes \(y, x\) last"),
        (lambda: stated(SliceSmooth(1.0)), r"no prior for 'leaf'.*axes \(z, y, x\) last"),
        (lambda: stated(RandomWalk(1.0, jnp.arange(3.0))), "no prior for 'leaf'.*3 times for 4 values"),
        (lambda: stated(RandomWalk(1.0, jnp.zeros(4))), "times of RandomWalk do not rise"),
        (lambda: stated(GaussianProcess(1.0)), "GaussianProcess has no length"),
        (lambda: stated(GaussianProcess(1.0, -2.0)), "length of -2; give a positive one"),
        (lambda: stated(KnownLattice(1.0, jnp.zeros((3, 2)))), r"no prior for 'leaf'.*made for \(3,\) positions"),
        (lambda: make_known_lattice(CELLS @ SQUARE, [[1.0, 0.0], [2.0, 0.0]]), "span no cell"),
        (lambda: make_known_lattice(RNG.uniform(0, 99, (200, 2)), SQUARE), "from their nearest sites"),
        (lambda: make_known_lattice([1.0, 2.0], SQUARE), "give .column 2."),
        (lambda: make_straight_lattice([[0.0, 0.0], [4.0, 0.0]], SQUARE), "2 positions do not fix a lattice"),
    ],
)
def test_wrong_uses_are_refused(call, words):
    with pytest.raises(sj.InputError, match=words):
        call()


def test_a_scale_that_is_left_out_is_no_obstacle_to_a_statement():
    assert stated(Product((Positive(), Smooth()))).priors["leaf"].factors[1].scale is None
