"""The camera: one model that samples and scores, against sums, scipy, and finite differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from stemjax.core.errors import InputError
from stemjax.detect.camera import make_camera
from stemjax.detect.noise import Poisson
from stemjax.detect.point_spread import make_point_spread, spread_out, transfer
from stemjax.detect.poisson_gaussian import Counting, Matched, Mixture

# Gain, dark, readout, saturation, integer: a counter, fine and coarse noise, a well that fills, and large noise.
CAMERAS = {
    "counter": {},
    "shallow counter": {"saturation": 6.0},
    "sharp": {"gain": 8.0, "dark": 20.0, "readout": 1.2},
    "blunt": {"gain": 3.0, "dark": 40.0, "readout": 4.5, "saturation": 75.0},
    "analogue": {"gain": 4.0, "dark": 20.0, "readout": 5.0, "integer": False, "saturation": 60.0},
    "noisy": {"gain": 1.0, "dark": 100.0, "readout": 12.0},
}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("shallow counter", "sharp")]
EVERY = ["counter", "blunt", "analogue", "noisy", *SLOW]
LEAVES = ("gain", "dark", "readout", "stray")


def camera_of(name):
    return make_camera(**CAMERAS[name])


def exact(counts, electrons, camera):
    """Probability of a count by the sum over all electron numbers in double precision."""
    n = np.arange(int(electrons + 12 * np.sqrt(electrons) + 40))
    centre = float(camera.gain) * n + float(camera.dark)
    noise = float(camera.readout)
    weights = stats.poisson.pmf(n, electrons)
    counts = np.asarray(counts, float)[:, None]
    if noise == 0:
        return (weights * (counts == centre)).sum(axis=1)
    if not camera.integer:
        return (weights * stats.norm.pdf(counts, centre, noise)).sum(axis=1)
    # From whichever side has the small numbers.
    lower, upper = (counts - 0.5 - centre) / noise, (counts + 0.5 - centre) / noise
    cell = np.where(
        lower > 0, stats.norm.sf(lower) - stats.norm.sf(upper), stats.norm.cdf(upper) - stats.norm.cdf(lower)
    )
    return (weights * cell).sum(axis=1)


SIZE = 2048
"""Every score is computed on so many pixels, so that each camera is compiled once."""


@functools.cache
def compiled(name):
    """log_prob of flat counts and expectations with one set of leaves a pixel, and its slopes in all of them."""
    camera = camera_of(name)

    def total(values, counts):
        leaves = {leaf: value for leaf, value in values.items() if leaf != "expected"}
        value = camera.replace(**leaves).log_prob(counts, values["expected"])
        return value.sum(), value

    return jax.jit(jax.value_and_grad(total, has_aux=True))


def score(name, counts, expected, **leaves):
    """log_prob and its slopes {leaf: [...]} for counts and expectations that broadcast against each other."""
    camera = camera_of(name)
    counts, expected = np.broadcast_arrays(np.asarray(counts, float), np.asarray(expected, float))
    values, slopes = np.empty(counts.size), {}
    for first in range(0, counts.size, SIZE):
        place = np.minimum(np.arange(first, first + SIZE), counts.size - 1)
        flat = {leaf: np.full(SIZE, leaves.get(leaf, float(getattr(camera, leaf)))) for leaf in LEAVES}
        (_, value), slope = compiled(name)({**flat, "expected": expected.ravel()[place]}, counts.ravel()[place])
        stop = min(SIZE, counts.size - first)
        values[first : first + stop] = value[:stop]
        for leaf, array in slope.items():
            slopes.setdefault(leaf, np.empty(counts.size))[first : first + stop] = array[:stop]
    return values.reshape(counts.shape), {leaf: array.reshape(counts.shape) for leaf, array in slopes.items()}


@functools.cache
def drawn_from(name, mean):
    """16,384 counts."""
    return np.asarray(camera_of(name).sample(jax.random.key(12), jnp.full((128, 128), mean)))


def distribution(name, mean):
    """Whole counts and their probabilities; a density is summed over the interval of a count."""
    camera = camera_of(name)
    top = float(camera.dark + camera.gain * 45 + 8 * camera.readout)
    low = np.floor(float(camera.dark - 8 * camera.readout))
    counts = np.arange(low, np.ceil(top) if camera.saturation is None else camera.saturation + 1)
    if camera.integer:
        return counts, np.exp(score(name, counts, mean)[0])
    fine = counts[:, None] + (np.arange(8)[None] + 0.5) / 8 - 0.5
    full = np.inf if camera.saturation is None else camera.saturation
    chance = (np.exp(score(name, np.minimum(fine, full - 1e-9), mean)[0]) * (fine < full)).mean(axis=1)
    return counts, chance + (counts == full) * np.exp(score(name, counts, mean)[0])


@pytest.mark.parametrize("name", EVERY)
def test_probabilities_sum_to_one_and_samples_follow_them(name):
    # Chi-square; the seed is fixed, and one in a thousand would fail. Sixty seeds gave evenly spread p-values.
    for mean in (0.3, 4.0):
        counts, chance = distribution(name, mean)
        # Censored counts rest on a saddle point; the rest is exact.
        assert abs(chance.sum() - 1) < (2e-3 if camera_of(name).saturation is not None else 1e-7)
        drawn = np.round(drawn_from(name, mean))
        seen = np.array([(drawn == c).sum() for c in counts])
        assert seen.sum() == drawn.size
        common = chance * drawn.size > 10
        expected = np.append(chance[common], chance[~common].sum()) * drawn.size
        observed = np.append(seen[common], seen[~common].sum())[expected > 2]
        expected = expected[expected > 2]
        statistic = ((observed - expected) ** 2 / expected).sum()
        assert statistic < stats.chi2.ppf(0.999, len(expected) - 1)


@pytest.mark.parametrize("name", ["counter", "blunt", "analogue", SLOW[1]])
def test_scores_are_the_full_sum_however_unlikely(name):
    camera = camera_of(name)
    counts = np.concatenate([np.arange(0.0, 20.0, 3.0), np.arange(20.0, 59.0, 4.0)])
    means = np.array([0.01, 1.0, 7.0, 60.0])
    found = score(name, counts[:, None], means[None])[0]
    assert np.isfinite(found).all()
    for column, mean in enumerate(means):
        with np.errstate(divide="ignore"):
            truth = np.log(exact(counts, mean + float(camera.stray), camera))
        seen = truth > -400
        np.testing.assert_allclose(found[seen, column], truth[seen], rtol=1e-6, atol=1e-6)


def test_without_noise_it_is_poisson_and_little_noise_changes_little():
    counts, means = np.arange(12.0)[:, None], np.array([0.2, 2.0, 5.0])[None]
    truth = stats.poisson.logpmf(counts, means + 1e-3)
    np.testing.assert_allclose(score("counter", counts, means)[0], truth, rtol=1e-10)
    np.testing.assert_allclose(score("blunt", 40 + 3 * counts, means, readout=0.02)[0], truth, rtol=1e-9)
    # The protocol's Poisson model differs by a term of the counts alone.
    difference = truth - np.asarray(Poisson().log_prob(counts, means))
    np.testing.assert_allclose(difference, difference[:, :1] + np.zeros((1, 3)), atol=1e-12)
    residuals = jax.jit(lambda c, m: (make_camera().residual(c, m), Poisson().residual(c, m)))(counts, means)
    np.testing.assert_allclose(*residuals, atol=2e-4)


def test_a_normal_law_takes_over_where_the_sum_would_be_long():
    camera = camera_of("noisy")
    assert camera.law == Matched()
    ratio = float(camera.readout / camera.gain)
    # What is missing is the skewness of μ electrons among noise, which is greatest at μ = 2 (r/g)².
    for mean in (0.5, 20.0, 60.0, 2.0 * ratio**2):
        spread = float(np.sqrt(camera.gain**2 * mean + camera.readout**2))
        counts = float(camera.mean(jnp.asarray(mean))) + spread * np.linspace(-4.0, 4.0, 33)
        counts = np.round(counts) if camera.integer else counts
        found, truth = np.exp(score("noisy", counts, mean)[0]), exact(counts, mean + 1e-3, camera)
        error = np.abs(found - truth).max() / truth.max()
        assert error < 0.09 / ratio
    assert error > 0.05 / ratio


@pytest.mark.parametrize("name", ["blunt", "analogue", "noisy", SLOW[1]])
def test_the_expected_slope_at_the_truth_is_zero(name):
    # In every leaf that decides the counts, and the expectation itself: what it samples is what it scores.
    for leaf, slope in score(name, drawn_from(name, 4.0), 4.0)[1].items():
        assert np.isfinite(slope).all()
        assert abs(slope.mean()) < 4 * slope.std() / np.sqrt(slope.size), leaf


@pytest.mark.parametrize("name", EVERY)
def test_moments_are_those_of_the_samples(name):
    camera = camera_of(name)
    for mean in (0.3, 4.0):
        drawn = drawn_from(name, mean)
        expected, variance = float(camera.mean(jnp.asarray(mean))), float(camera.variance(jnp.asarray(mean)))
        if camera.saturation is None:
            assert abs(drawn.mean() - expected) < 4 * drawn.std() / np.sqrt(drawn.size)
            square = (drawn - drawn.mean()) ** 2
            assert abs(square.mean() - variance) < 4 * square.std() / np.sqrt(drawn.size)
        else:  # clipping a normal law in place of the true one
            assert abs(drawn.mean() - expected) < 0.1 * drawn.std()
            assert abs(drawn.std() / np.sqrt(variance) - 1) < 0.1


@pytest.mark.parametrize(
    "name", ["counter", "blunt", "noisy", pytest.param("analogue", marks=pytest.mark.slow), SLOW[1]]
)
def test_nothing_is_likelier_than_the_best_and_the_residual_tells_by_how_much(name):
    camera = camera_of(name)
    counts = np.arange(0.0 if camera.law == Counting() else 8.0, 61.0, 1.0 if camera.law == Counting() else 3.0)[
        :, None
    ]
    means = np.concatenate([np.zeros(1), np.geomspace(1e-3, 60.0, 60)])[None]

    @jax.jit
    def run(counts, means):
        residual, pull = jax.vjp(lambda m: camera.residual(counts, m), means)
        return camera.best(counts), residual, pull(jnp.ones_like(residual))[0]

    best, residual, slope = run(*np.broadcast_arrays(counts, means))
    gap = np.asarray(best) - score(name, counts, means)[0]
    assert gap.min() > -1e-7
    np.testing.assert_allclose(residual**2 / 2, gap, rtol=1e-3, atol=1e-6)
    # Too little expected gives a negative residual, too much a positive one.
    assert (np.diff(residual, axis=1) > -1e-4).all()
    assert np.isfinite(np.asarray(slope)).all()


@pytest.mark.parametrize("name", EVERY)
def test_slopes_are_finite_everywhere_and_those_of_differences(name):
    counts = np.array([0.0, 1.0, 17.0, 25.0, 60.0, 70.0, 200.0])[:, None]
    means = np.array([0.0, 1e-6, 0.5, 8.0, 300.0])[None]
    assert all(np.isfinite(slope).all() for slope in score(name, counts, means)[1].values())
    camera, means = camera_of(name), means + 0.05
    slopes = score(name, counts, means)[1]
    # A counter's readout noise is none, and its threshold jumps from one electron to the next.
    free = ["stray", "expected"] if camera.law == Counting() else [*LEAVES, "expected"]
    for leaf in free:
        step = 1e-6 if leaf == "stray" else 1e-5
        if leaf == "expected":
            ends = [score(name, counts, means + s)[0] for s in (step, -step)]
        else:
            ends = [score(name, counts, means, **{leaf: float(getattr(camera, leaf)) + s})[0] for s in (step, -step)]
        np.testing.assert_allclose((ends[0] - ends[1]) / (2 * step), slopes[leaf], rtol=1e-4, atol=1e-5, err_msg=leaf)


@pytest.mark.parametrize("name", ["blunt", pytest.param("analogue", marks=pytest.mark.slow)])
def test_single_precision_agrees_with_double(name):
    counts, means = np.broadcast_arrays(
        np.array([0.0, 5.0, 30.0, 58.0, 70.0])[:, None], np.array([0.0, 0.5, 9.0, 40.0])[None]
    )
    camera = jax.tree.map(lambda a: a.astype(jnp.float32), camera_of(name))
    run = jax.jit(
        jax.value_and_grad(lambda m: (camera.log_prob(counts, m).sum(), camera.log_prob(counts, m)), has_aux=True)
    )
    (_, value), slope = run(jnp.asarray(means, jnp.float32))
    assert value.dtype == jnp.float32
    double, slopes = score(name, counts, means)
    np.testing.assert_allclose(value, double, rtol=3e-5, atol=3e-5)
    np.testing.assert_allclose(slope, slopes["expected"], rtol=2e-3, atol=1e-3)


def test_dead_pixels_weigh_nothing():
    dead = np.zeros((128, 128), bool)
    dead[1, 2] = True
    camera = make_camera(gain=3.0, dark=10.0, dead=dead, sensitivity=np.ones(dead.shape))
    expected = jnp.full(dead.shape, 100.0)
    counts = camera.sample(jax.random.key(0), expected)
    assert float(counts[1, 2]) == 10.0
    assert float(counts[0, 0]) > 100.0

    @jax.jit
    def run(expected):
        value, pull = jax.vjp(lambda e: camera.log_prob(counts, e), expected)
        return value, camera.residual(counts, expected), pull(jnp.ones_like(value))[0]

    for found in run(expected * 2):
        assert float(found[1, 2]) == 0.0
        assert float(found[0, 0]) != 0.0


@pytest.mark.parametrize("tail", [0.0, 0.2])
def test_collecting_keeps_every_electron_and_stays_positive(tail):
    rng = np.random.default_rng(0)
    pattern = jnp.asarray(rng.random((3, 12, 17)) ** 8)
    spread = make_point_spread(0.8, tail=tail, tail_rms=5.0)
    out = jax.jit(spread_out)(pattern, spread)
    np.testing.assert_allclose(out.sum(axis=(1, 2)), pattern.sum(axis=(1, 2)), rtol=1e-12)
    assert float(out.min()) > 0
    low = jax.jit(spread_out)(1e6 * pattern.astype(jnp.float32), jax.tree.map(lambda a: a.astype(jnp.float32), spread))
    np.testing.assert_allclose(low, 1e6 * out, rtol=1e-5)


def test_the_point_spread_is_a_gaussian_over_pixels():
    pattern = jnp.zeros((31, 32)).at[0, 0].set(1.0)  # the zero frequency, in the middle of the chip
    out = np.fft.fftshift(np.asarray(spread_out(pattern, make_point_spread(1.3))))
    edge = np.arange(-16, 17) - 0.5
    cell = np.diff(stats.norm.cdf(edge, scale=np.sqrt(1.3**2 + 1e-4)))
    np.testing.assert_allclose(out[15], cell * cell[16], rtol=1e-6, atol=1e-12)
    # Along an axis its transform is the transfer and what of it folds back at the pixels.
    frequency = np.fft.fftfreq(32)[1:5]
    line = np.abs(np.fft.fft(out.sum(axis=0)))[1:5]
    folded = sum(
        np.asarray(transfer(make_point_spread(1.3), jnp.asarray(frequency + m))) * np.cos(np.pi * m)
        for m in (-2, -1, 0, 1, 2)
    )
    np.testing.assert_allclose(line, np.abs(folded), rtol=2e-3)


def test_nothing_wraps_around_the_chip():
    pattern = jnp.zeros((16, 16)).at[8, 0].set(1.0)  # the first row of the chip
    out = np.fft.fftshift(np.asarray(spread_out(pattern, make_point_spread(1.5))))
    assert out[0].sum() > 0.3
    assert out[8:].sum() < 1e-4


def test_collecting_is_differentiable_and_linear():
    rng = np.random.default_rng(1)
    pattern, weight = jnp.asarray(rng.random((2, 9, 10)))
    camera = make_camera(blur=make_point_spread(0.7, tail=0.1, tail_rms=3.0), sensitivity=rng.random((9, 10)))

    def signal(camera, pattern):
        return jnp.sum(weight * camera.collect(pattern))

    run, slope = jax.jit(signal), jax.jit(jax.grad(signal, argnums=(0, 1)))(camera, pattern)
    assert abs(float(jnp.sum(slope[1] * pattern) / run(camera, pattern)) - 1) < 1e-12
    for leaf in ("rms", "tail", "tail_rms"):
        value = getattr(camera.blur, leaf)
        ends = [
            float(run(camera.replace(blur=camera.blur.replace(**{leaf: value + s})), pattern)) for s in (1e-5, -1e-5)
        ]
        assert abs((ends[0] - ends[1]) / 2e-5 - float(getattr(slope[0].blur, leaf))) < 1e-7
    np.testing.assert_allclose(slope[0].sensitivity, weight * camera.collect(pattern) / camera.sensitivity)
    narrow = jax.jit(jax.grad(signal))(camera.replace(blur=camera.blur.replace(rms=jnp.asarray(0.0))), pattern)
    assert np.isfinite(float(narrow.blur.rms))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gain": 0.0}, "give a positive one"),
        ({"readout": -1.0}, "noise from 0 on"),
        ({"dark": 10.0, "saturation": 10.5}, "leaves no room"),
        ({"sensitivity": np.array([[-1.0]])}, "not negative"),
        ({"gain": np.ones((3, 3)), "dead": np.zeros((3, 4))}, "of one shape"),
        ({"readout": np.array([[0.0, 1.0]])}, "some have none"),
        ({"blur": -1.0}, "give positive widths"),
    ],
)
def test_impossible_cameras_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        make_camera(**arguments)


def test_the_law_suits_the_noise():
    assert make_camera(readout=0.5).law == Mixture(6)
    assert make_camera(gain=np.array([[1.0, 4.0]]), readout=2.0).law == Mixture(18)
    assert make_camera(blur=0.0).blur is None
