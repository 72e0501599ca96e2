"""Columns against the formula of a rotated Gaussian, and their image against finite differences and its own sum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

import stemjax as sj
from stemjax.forward.column_image import scene_positions, with_reach
from stemjax.specimen.columns import WIDTHS, inverse_covariance, within_reach


def rotated_gaussian(y, x, height, major, minor, theta):
    """Eq. (1) of Kalinin, Ophus et al. (2022) in its usual form: three coefficients of a quadratic form."""
    a = np.cos(theta) ** 2 / (2 * major**2) + np.sin(theta) ** 2 / (2 * minor**2)
    b = np.sin(2 * theta) / (4 * major**2) - np.sin(2 * theta) / (4 * minor**2)
    c = np.sin(theta) ** 2 / (2 * major**2) + np.cos(theta) ** 2 / (2 * minor**2)
    return height * np.exp(-(a * x**2 + 2 * b * x * y + c * y**2))


def stretched(major, minor, theta):
    """Width and stretch of a column with these axes."""
    ratio = np.log(major / minor)
    return np.sqrt(major * minor), (ratio * np.cos(2 * theta), ratio * np.sin(2 * theta))


axes = st.floats(0.2, 1.0), st.floats(1.05, 3.0), st.floats(-1.5, 1.5)


@given(*axes)
def test_a_column_is_the_rotated_gaussian_of_the_review(minor, ratio, theta):
    width, stretch = stretched(ratio * minor, minor, theta)
    columns = sj.make_columns([[0.3, -0.2]], amplitude=7.0, width=width, stretch=stretch, background=2.0)
    places = np.random.default_rng(0).normal(0.0, 1.0, (30, 2))
    expected = rotated_gaussian(*(places - [0.3, -0.2]).T, 7.0, ratio * minor, minor, theta) + 2.0
    np.testing.assert_allclose(sj.column_intensity(columns, jnp.asarray(places)), expected, rtol=1e-12)


@given(*axes)
def test_principal_widths_are_the_axes(minor, ratio, theta):
    width, stretch = stretched(ratio * minor, minor, theta)
    found = sj.principal_widths(sj.make_columns([[0.0, 0.0]], width=width, stretch=stretch))
    np.testing.assert_allclose([float(f[0]) for f in found], [ratio * minor, minor, theta], rtol=1e-9, atol=1e-12)


def test_round_columns_have_finite_axes_and_slopes():
    columns = sj.make_columns([[0.0, 0.0]], width=0.5)
    for which in range(3):
        slope = jax.grad(lambda c, n=which: sj.principal_widths(c)[n][0])(columns)
        assert all(np.isfinite(np.asarray(v)).all() for v in jax.tree.leaves(slope))


@pytest.mark.parametrize("size", [0.0, 1e-9, 0.9999e-3, 1.0001e-3, 0.3])
def test_the_shape_is_smooth_where_a_column_is_round(size):
    # Both sides of the radius inside which a series replaces the hyperbolic functions, and the centre itself.
    stretch = size * np.array([0.6, 0.8])

    @jax.jit
    def elements(e):
        return jnp.stack(inverse_covariance(jnp.array(0.7), e))

    def exact(e):
        full = scipy.linalg.inv(0.7**2 * scipy.linalg.expm(np.array([[-e[0], e[1]], [e[1], e[0]]])))  # (y, x)
        return np.array([full[0, 0], full[0, 1], full[1, 1]])

    np.testing.assert_allclose(elements(jnp.asarray(stretch)), exact(stretch), rtol=1e-10, atol=1e-14)
    step = 1e-3
    moves = step * np.eye(2)
    slope = np.stack([(exact(stretch + m) - exact(stretch - m)) / (2 * step) for m in moves], axis=-1)
    np.testing.assert_allclose(jax.jit(jax.jacfwd(elements))(jnp.asarray(stretch)), slope, atol=1e-5)
    bend = np.stack([(exact(stretch + m) - 2 * exact(stretch) + exact(stretch - m)) / step**2 for m in moves], axis=-1)
    second = np.asarray(jax.jit(jax.hessian(elements))(jnp.asarray(stretch)))
    np.testing.assert_allclose(np.stack([second[:, i, i] for i in range(2)], axis=-1), bend, atol=1e-4)


def scene_of_all_leaves(reach=True):
    """Two elliptical columns in a pair of frames with every distortion that a scan has."""
    pair = sj.make_pair(
        lambda angle: sj.make_raster((12, 14), 0.3, rotation=angle, dwell=1e-3, flyback=5e-3), pause=0.1
    )
    rng = np.random.default_rng(1)
    knots = np.linspace(0.0, float(pair.times[-1]), 6)
    scan = sj.with_walk(sj.with_drift(pair, (0.2, -0.1)), rng.normal(0, 0.05, (6, 2)), knots)
    scan = sj.with_coils(sj.with_jitter(scan, rng.normal(0, 0.03, (24, 2))), sj.coil_matrix((1.01, 0.99), shear=0.02))
    columns = sj.make_columns(
        [[1.2, 1.3], [2.0, 2.6]], amplitude=np.array([20.0, 30.0]), width=np.array([0.3, 0.35]),
        stretch=np.array([[0.2, 0.1], [0.0, 0.0]]), background=2.0,
    )  # fmt: skip
    scene = sj.ColumnScene(columns, scan, offsets=jnp.array([[0.05, -0.1]]))
    return with_reach(scene, 0.3) if reach else scene


def test_near_columns_alone_give_the_image_of_all():
    all_of_them, near = scene_of_all_leaves(reach=False), scene_of_all_leaves()
    image = jax.jit(sj.ColumnImage())
    full, short = (np.asarray(image(s)) for s in (all_of_them, near))
    assert 0 < near.near.shape[1] < full.size
    np.testing.assert_allclose(short, full, atol=30.0 * np.exp(-0.5 * WIDTHS**2))


@pytest.mark.parametrize("path", ["columns", "scan.walk", "scan.velocity", "scan.affine", "scan.jitter", "offsets"])
def test_the_image_differentiates_in_every_leaf(path):
    scene = scene_of_all_leaves()
    known = sj.select(scene, [path])
    weights = jnp.asarray(np.random.default_rng(2).normal(size=336))

    @jax.jit
    def total(values):
        return jnp.sum(weights * sj.ColumnImage()(sj.replace(scene, values)))

    slope = jax.jit(jax.grad(total))(known)
    rng, step = np.random.default_rng(3), 1e-5
    for name, value in known.items():
        move = {name: jnp.asarray(rng.normal(size=value.shape))}
        there, back = ({**known, name: value + s * step * move[name]} for s in (1, -1))
        along = (float(total(there)) - float(total(back))) / (2 * step)
        forward = jax.jvp(total, (known,), ({k: move.get(k, jnp.zeros_like(v)) for k, v in known.items()},))[1]
        assert float(jnp.sum(slope[name] * move[name])) == pytest.approx(along, rel=1e-6), name
        assert float(forward) == pytest.approx(along, rel=1e-6), name


def test_a_column_holds_the_volume_of_its_gaussian():
    width, stretch = stretched(0.5, 0.3, 0.4)
    columns = sj.make_columns([[4.0, 4.1]], amplitude=11.0, width=width, stretch=stretch, background=0.5)
    image = sj.ColumnImage()(with_reach(sj.ColumnScene(columns, sj.make_raster((80, 80), 0.1))))
    volume = 2 * np.pi * 0.5 * 0.3 * 11.0 / 0.1**2
    beyond = volume * np.exp(-0.5 * WIDTHS**2)  # what a round Gaussian of the longer axis holds outside its reach
    assert float(image.sum()) == pytest.approx(volume + 6400 * 0.5, abs=beyond)


def test_reach_is_what_distances_say():
    columns = sj.make_columns([[1.0, 1.0], [4.0, 4.0], [30.0, 30.0]], width=np.array([0.1, 0.2, 0.1]))
    places = np.asarray(sj.make_raster((30, 30), 0.2).positions)
    near = np.asarray(within_reach(columns, places, 0.3))
    away = np.linalg.norm(places[None] - np.asarray(columns.positions)[:, None], axis=-1)
    for row, distances, width in zip(near, away, (0.1, 0.2, 0.1), strict=True):
        within = np.flatnonzero(distances <= WIDTHS * width + 0.3)
        assert row[: len(within)].tolist() == within.tolist()
        assert (row[len(within) :] == len(places)).all()  # the third column sees no place at all


def test_memory_grows_with_reach_and_not_with_the_image():
    rng = np.random.default_rng(0)
    columns = sj.make_columns(rng.uniform(0, 40, (400, 2)), width=0.3, amplitude=5.0)
    scene = sj.ColumnScene(columns, sj.make_raster((200, 200), 0.2))

    def memory(scene):
        slope = jax.jit(jax.grad(lambda c, s: jnp.sum(sj.ColumnImage()(s.replace(columns=c)) ** 2)))
        return slope.lower(scene.columns, scene).compile().memory_analysis().temp_size_in_bytes

    near = with_reach(scene)
    assert memory(near) < 8 * near.near.size * 10 + 4 * 200 * 200 * 8  # ten numbers a pair and a few a pixel
    assert memory(near) < memory(scene) / 10


def test_wrong_scenes_are_refused():
    scene = scene_of_all_leaves()
    with pytest.raises(sj.InputError, match="one for every frame after the first"):
        scene_positions(scene.replace(offsets=jnp.zeros((2, 2))))
    with pytest.raises(sj.InputError, match="for 2 columns"):
        sj.make_columns([[0.0, 0.0], [1.0, 1.0]], width=np.ones(3))
    with pytest.raises(sj.InputError, match="give positive numbers"):
        sj.make_columns([[0.0, 0.0]], amplitude=-1.0)
