"""What a pixel tells, against sums over all counts with scipy's own probabilities, and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from scipy import stats

import stemjax as sj
from stemjax.core.errors import InputError
from stemjax.core.typing import Array
from stemjax.detect.camera import Camera, make_camera
from stemjax.inference.curvature import fisher_matrix
from stemjax.inference.problem import start

CAMERAS = {
    "sharp": {"gain": 8.0, "dark": 20.0, "readout": 1.2},
    "counts of one electron": {"gain": 1.0, "dark": 0.3, "readout": 0.3},
    "full": {"gain": 3.0, "dark": 40.0, "readout": 4.5, "saturation": 75.0},
    "analogue": {"gain": 4.0, "dark": 20.0, "readout": 3.0, "integer": False},
}
SLOW = {"sharp", "counts of one electron", "analogue"}
NAMES = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in CAMERAS]
MEANS = np.array([1e-3, 0.1, 0.7, 3.3, 9.0, 14.0, 27.0])


def by_enumeration(camera, mean):
    """[4 4] by the sum over all counts, or by quadrature, with the probability of every electron number from scipy."""
    gain, dark, noise = (float(leaf) for leaf in (camera.gain, camera.dark, camera.readout))
    numbers = np.arange(int(mean + 14 * np.sqrt(mean) + 30))
    weights = stats.poisson.pmf(numbers, mean)
    low, high = dark - 10 * noise, gain * numbers[-1] + dark + 10 * noise
    if camera.integer:
        counts, width = np.arange(np.floor(low), np.ceil(high)), 1.0
        counts = counts if camera.saturation is None else counts[counts < camera.saturation]
    else:
        counts, width = np.linspace(low, high, 40001, retstep=True)
    off = (counts[None] - gain * numbers[:, None] - dark) / noise
    if camera.integer:
        lower, upper = off - 0.5 / noise, off + 0.5 / noise
        tails = stats.norm.sf(lower) - stats.norm.sf(upper), stats.norm.cdf(upper) - stats.norm.cdf(lower)
        cell = np.where(lower > 0, *tails)
        rise, fall = stats.norm.pdf(lower), stats.norm.pdf(upper)
        by_dark, by_noise = (rise - fall) / noise, (lower * rise - upper * fall) / noise
    else:
        cell = stats.norm.pdf(off) / noise
        by_dark, by_noise = off / noise * cell, (off**2 - 1) / noise * cell
    chance = weights @ cell
    many = numbers[:, None]
    slopes = np.stack([weights @ s for s in ((many / mean - 1) * cell, many * by_dark, by_dark, by_noise)])
    some = chance > 1e-280
    found = width * (slopes[:, some] / chance[some]) @ slopes[:, some].T
    full = 1.0 - chance.sum()
    if camera.saturation is not None and full > 1e-12:
        found = found + np.outer(slopes.sum(axis=1), slopes.sum(axis=1)) / full
    return found


@pytest.mark.parametrize("name", NAMES)
def test_information_is_the_sum_over_all_counts(name):
    camera = make_camera(**CAMERAS[name])
    means = jnp.asarray(MEANS) - camera.stray
    table = jax.jit(camera.tabulated)()
    found = np.asarray(camera.information(means, table))
    eta = jax.jit(jax.jacfwd(lambda leaves, m: camera.replace(**leaves).standardised(m, table=table)))
    leaves = {leaf: getattr(camera, leaf) for leaf in ("stray", "gain", "dark", "readout")}
    slopes = np.stack([np.asarray(v) for v in eta(leaves, means).values()])
    joint = np.einsum("ipm,jpm->ijm", slopes, slopes)
    for i, mean in enumerate(MEANS):
        exact = by_enumeration(camera, mean)
        # Near saturation what is left is small beside what the pixel could tell.
        unit = np.sqrt(np.diag(by_enumeration(camera.replace(saturation=None), mean)))
        assert abs(found[i] - exact[0, 0]) < 1e-6 * unit[0] ** 2
        # eta's leaves come in alphabetical order: dark, gain, readout, stray; stray electrons are electrons.
        order = [3, 1, 0, 2]
        np.testing.assert_allclose(joint[np.ix_(order, order)][..., i] / np.outer(unit, unit),
                                   exact / np.outer(unit, unit), atol=1e-5)  # fmt: skip


@pytest.mark.slow
def test_high_means_are_extrapolated_to_the_limit():
    camera = make_camera(gain=1.0, dark=50.0, readout=2.0)
    table = jax.jit(camera.tabulated)()
    for mean in (300.0, 3000.0):
        exact = by_enumeration(camera, mean)[0, 0]
        assert float(camera.information(jnp.array(mean) - camera.stray, table)) == pytest.approx(exact, rel=1e-6)
    # Beyond every table: noise of s electrons besides those that shoot.
    assert float(camera.information(jnp.array(1e6), table)) == pytest.approx(1.0 / (1e6 + 4.0 + 1 / 12), rel=1e-9)


def test_the_slope_of_the_information_is_its_own():
    camera = make_camera(**CAMERAS["counts of one electron"])
    table = jax.jit(camera.tabulated)()

    def value(mean):
        return camera.information(mean, table)

    slope = jax.grad(lambda m: value(m).sum())(jnp.asarray(MEANS))
    step = 1e-4 * MEANS
    by_difference = (value(jnp.asarray(MEANS + step)) - value(jnp.asarray(MEANS - step))) / (2 * step)
    np.testing.assert_allclose(slope, by_difference, rtol=1e-4)


def test_a_pixel_without_electrons_tells_what_noise_lets_through():
    # p = (1 - µ) N(0) + µ N(g): the mean square of N(g)/N(0) - 1 is exp(g²/r²) - 1.
    camera = make_camera(gain=4.0, dark=20.0, readout=5.0, integer=False).replace(stray=jnp.zeros(()))
    found = float(jax.jit(lambda m: camera.information(m))(jnp.zeros(())))
    assert found == pytest.approx(np.expm1((4.0 / 5.0) ** 2), rel=1e-5)


def test_a_counter_tells_one_over_the_mean_until_it_is_full():
    means = jnp.asarray(MEANS)
    open_one = make_camera().replace(stray=jnp.zeros(()))
    np.testing.assert_allclose(open_one.information(means), 1.0 / MEANS, rtol=1e-12)
    shallow = make_camera(saturation=6.0).replace(stray=jnp.zeros(()))
    for mean, found in zip(MEANS, shallow.information(means), strict=True):
        n = np.arange(6)
        below = (stats.poisson.pmf(n, mean) * (n / mean - 1) ** 2).sum()
        exact = below + stats.poisson.pmf(5, mean) ** 2 / stats.poisson.sf(5, mean)
        assert float(found) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("mean", [0.01, 5.0, 200.0])
def test_much_noise_leaves_mean_and_variance(mean):
    camera = make_camera(gain=1.0, dark=100.0, readout=12.0)
    exact = by_enumeration(camera, mean)[0, 0]
    assert float(camera.information(jnp.array(mean) - camera.stray)) == pytest.approx(exact, rel=2e-5)


def test_maps_and_dead_pixels():
    readout = np.array([[1.2, 2.0], [4.0, 1.2]])
    dead = np.array([[0.0, 0.0], [0.0, 1.0]])
    camera = make_camera(gain=8.0, dark=20.0, readout=readout, dead=dead)
    found = np.asarray(camera.information(jnp.full((2, 2), 3.0 - 1e-3)))
    for place in ((0, 0), (0, 1), (1, 0)):
        plain = make_camera(gain=8.0, dark=20.0, readout=float(readout[place]))
        assert found[place] == pytest.approx(by_enumeration(plain, 3.0)[0, 0], rel=1e-7)
    assert found[1, 1] == 0.0


class Flat(struct.PyTreeNode):
    """Pixels lit evenly, by several fluxes, and the camera that counts them."""

    flux: Array
    camera: Camera


class Lit:
    def __call__(self, model, index=None):
        values = jnp.broadcast_to(model.flux[:, None, None], (3, 4, 5))
        return values if index is None else values[index]


def lit_problem(camera, free, mask=None):
    model = Flat(jnp.array([0.5, 2.0, 7.0]), camera)
    return sj.make_problem(
        model,
        sj.Measurement(np.ones((3, 4, 5)), mask),
        forward=Lit(),
        noise=None,
        free=free,
        priors={path: sj.Positive(1.0) for path in ("camera.gain", "camera.readout") if path in free},
    )


@pytest.mark.slow
def test_leaves_of_the_camera_have_their_own_information():
    camera = make_camera(**CAMERAS["full"])
    mask = np.ones((4, 5))
    mask[0] = 0.0
    free = ["camera.dark", "camera.gain", "camera.readout", "camera.stray", "flux"]
    problem = lit_problem(camera, free, jnp.asarray(mask))
    found = np.asarray(fisher_matrix(problem, start(problem)))
    exact = np.zeros((7, 7))
    for i, flux in enumerate((0.5, 2.0, 7.0)):
        one = by_enumeration(camera, flux + float(camera.stray))
        # Alphabetical: dark, gain, readout, stray, flux 0 to 2; the softplus of the priors has slope one to 1e-2.
        to = np.zeros((4, 7))
        to[2, 0] = 1.0
        to[1, 1], to[3, 2] = (1.0 - np.exp(-float(v)) for v in (camera.gain, camera.readout))
        to[0, 3] = to[0, 4 + i] = 1.0
        exact += 15 * to.T @ one @ to
    unit = np.sqrt(np.diag(exact))
    np.testing.assert_allclose(found / np.outer(unit, unit), exact / np.outer(unit, unit), atol=1e-5)


def test_levels_of_a_counter_are_refused_and_stray_electrons_are_not():
    problem = lit_problem(make_camera(), ["camera.gain", "flux"])
    with pytest.raises(InputError, match="gain cannot be found where electrons are counted without noise"):
        fisher_matrix(problem, start(problem))
    problem = lit_problem(make_camera(), ["camera.stray"])
    exact = sum(20.0 / (flux + 1e-3) for flux in (0.5, 2.0, 7.0))
    assert float(fisher_matrix(problem, start(problem))[0, 0]) == pytest.approx(exact, rel=1e-12)
