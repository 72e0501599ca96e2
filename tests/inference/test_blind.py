"""What the data cannot see: known gauges are found, and said in words with the right numbers."""

import jax.numpy as jnp
import numpy as np
import pytest

import stemjax as sj
from stemjax.detect.camera import make_camera
from stemjax.inference.bounds.cramer_rao import cramer_rao
from tests.detect.test_information import lit_problem
from tests.inference.test_bounds import deviation, made, object_problem


def words(bounds):
    return "\n".join(map(str, bounds.blind))


def scan_problem(free):
    """Two slices, the first of them empty."""
    window = sj.make_grid(12, 0.6)
    probe = sj.make_probe(window, energy=80e3, semiangle=21.4, aberrations=sj.make_aberrations(C10=60.0, C12a=20.0))
    phase = np.zeros((2, 16, 16))
    phase[1] = 0.3 * np.random.default_rng(0).normal(size=(16, 16))
    thing = sj.make_object(sj.make_grid(16, 0.6), phase=phase, thickness=np.array([5.0, 5.0]))
    scan = sj.make_raster((3, 5), 0.8, origin=(4.0, 3.6))
    truth = sj.make_experiment(probe, thing, scan, dose=1e4)
    return sj.make_problem(
        truth,
        sj.Measurement(np.ones((15, 12, 12))),
        forward=sj.Diffraction(limit=None),
        noise=sj.Poisson(),
        free=free,
    )


def test_scale_of_probe_and_object_is_one_number():
    def image(model):
        return model["dose"] * model["gain"] * model["heights"]

    model = {"dose": jnp.array(50.0), "gain": jnp.array(2.0), "heights": jnp.array([1.0, 3.0, 2.0, 4.0, 1.5, 0.5])}
    bounds = cramer_rao(made(image, model, free=["dose", "gain"]))
    assert np.isinf([deviation(bounds, "dose"), deviation(bounds, "gain")]).all()
    (one,) = bounds.blind
    assert one.parts["dose"] / one.parts["gain"] == pytest.approx(-50.0 / 2.0, rel=1e-6)
    assert "while lowering" in one.words
    assert "hold one of them fixed, give one a prior" in one.words
    # With the heights free as well there are two, and each names no more leaves than it needs.
    both = cramer_rao(made(image, model, free=["dose", "gain", "heights"]))
    assert len(both.blind) == 2
    assert all(len(one.parts) == 2 for one in both.blind)
    assert "all of heights in proportion" in words(both)
    # A prior on one of them, and the other is known.
    priors = {"gain": sj.Normal(2.0, 0.1)}
    held = cramer_rao(made(image, model, free=["dose", "gain"], priors=priors), with_priors=True)
    share = np.sqrt((0.1 / 2.0) ** 2 + 1.0 / (100.0 * 12.0))
    assert float(deviation(held, "dose")) == pytest.approx(50.0 * share, rel=1e-6)
    assert not held.blind


@pytest.mark.slow
def test_a_camera_tells_its_gain_from_variance_against_mean():
    # Photon transfer: from 60 pixels of many electrons the gain is known to √(2/60) of itself, the dose being unknown.
    camera = make_camera(gain=2.0, dark=20.0, readout=6.0)
    problem = lit_problem(camera, ["camera.gain", "flux"])
    bounds = cramer_rao(problem, at=problem.experiment.replace(flux=jnp.array([900.0, 1000.0, 1100.0])))
    assert not bounds.blind
    assert float(deviation(bounds, "camera.gain")) == pytest.approx(2.0 * np.sqrt(2.0 / 60.0) * 1.009, rel=3e-3)
    # Were the dose known, every electron would count.
    alone = cramer_rao(problem.replace(free=("camera.gain",)), at=problem.experiment.replace(flux=jnp.full(3, 1000.0)))
    assert float(deviation(alone, "camera.gain")) == pytest.approx(2.0 / np.sqrt(60.0 * 1000.0), rel=2e-2)


def test_constant_phase_of_an_object_changes_nothing():
    bounds = cramer_rao(object_problem(["specimen.phase", "dose"], priors={"dose": sj.Positive(1.0)}))
    (one,) = [one for one in bounds.blind if "everywhere" in one.words]
    assert one.words.startswith("raising specimen.phase everywhere by")
    np.testing.assert_allclose(one.parts["specimen.phase"], one.parts["specimen.phase"].mean(), rtol=1e-5)
    assert np.isfinite(deviation(bounds, "dose"))


def test_scan_and_specimen_shift_together():
    bounds = cramer_rao(scan_problem(["scan.positions", "specimen.origin"]))
    assert len(bounds.blind) == 2
    for one, axis in zip(sorted(bounds.blind, key=lambda b: "origin[1]" in b.words), (0, 1), strict=True):
        origin, positions = one.parts["specimen.origin"], one.parts["scan.positions"]
        np.testing.assert_allclose(positions, np.broadcast_to(origin, (15, 2)), rtol=1e-5, atol=1e-7 * origin[axis])
        assert abs(origin[1 - axis]) < 1e-6 * abs(origin[axis])
        assert f"scan.positions[:,{axis}] everywhere" in one.words


def test_defocus_and_depth_are_one_length():
    bounds = cramer_rao(scan_problem(["probe.aberrations.C1*", "specimen.thickness"]))
    said = words(bounds)
    assert "raising probe.aberrations.C10 by 1 Å while lowering specimen.thickness[0] by 1 Å changes nothing" in said
    # What lies behind the last slice is not seen at all.
    assert "the data do not depend on specimen.thickness in 1 of 2 elements" in said
    assert np.isfinite([deviation(bounds, "probe.aberrations.C12a"), deviation(bounds, "probe.aberrations.C12b")]).all()


def test_scan_and_aberrations_of_shifted_images_are_one_matrix():
    # Tilted bright-field images shift by S⁻¹ C θ: C the second derivative of χ, S the scan's affine matrix.
    angles = np.array([[1.0, 0.0], [0.0, 1.0], [0.7, 0.7], [-0.5, 0.8]]) * 20e-3

    def shifts(model):
        a, b, c = model["C10"], model["C12a"], model["C12b"]
        # ω = αx + iαy: along y C10 - C12a, along x C10 + C12a.
        matrix = jnp.array([[a - b, c], [c, a + b]])
        return jnp.linalg.solve(model["affine"], matrix @ angles.T).T.ravel()

    model = {
        "C10": jnp.array(500.0), "C12a": jnp.array(60.0), "C12b": jnp.array(-30.0),
        "affine": jnp.array([[1.02, 0.01], [-0.03, 0.99]]),
    }  # fmt: skip
    noise = sj.Gaussian(0.1, 0.0)
    everything = cramer_rao(made(shifts, model, noise=noise, free=["**"]))
    # Seven unknowns, one matrix of four numbers.
    assert len(everything.blind) == 3
    assert all("affine" in one.words for one in everything.blind)
    rotation = np.zeros((2, 2))
    for one in everything.blind:
        # To first order S changes with C as dS S⁻¹ = dC C⁻¹.
        d_a, d_b, d_c = (float(one.parts.get(n, np.zeros(()))) for n in ("C10", "C12a", "C12b"))
        C = np.array([[500.0 - 60.0, -30.0], [-30.0, 560.0]])
        dC = np.array([[d_a - d_b, d_c], [d_c, d_a + d_b]])
        S = np.asarray(model["affine"])
        dS = one.parts.get("affine", rotation)
        np.testing.assert_allclose(dS, dC @ np.linalg.inv(C) @ S, atol=1e-5 * np.abs(dS).max())
    # Aberrations alone, or the scan alone, are known.
    assert not cramer_rao(made(shifts, model, noise=noise, free=["C10", "C12*"])).blind
    assert not cramer_rao(made(shifts, model, noise=noise, free=["affine"])).blind


def test_what_does_not_matter_is_named():
    def image(model):
        return model["a"] * jnp.ones(4) + 0.0 * model["idle"]

    bounds = cramer_rao(made(image, {"a": jnp.array(3.0), "idle": jnp.array(1.0)}, free=["**"]))
    (one,) = bounds.blind
    assert one.words == (
        "the data do not depend on idle; hold it fixed, give it a prior, or record data that depend on it"
    )
    assert float(deviation(bounds, "a")) == pytest.approx(np.sqrt(3.0 / 4.0), rel=1e-12)
    assert np.isinf(deviation(bounds, "idle"))


@pytest.mark.parametrize(("spread", "trade"), [(0.02, True), (3.0, False)])
def test_leaves_that_trade_are_told_with_their_correlation(spread, trade):
    places = np.linspace(1.0, 1.0 + spread, 30)

    def line(model):
        return model["offset"] + model["slope"] * places

    model = {"offset": jnp.array(10.0), "slope": jnp.array(4.0)}
    bounds = cramer_rao(made(line, model, noise=sj.Gaussian(1.0, 0.0), free=["**"]))
    # Of a line with equal weights the correlation is -mean(x)/rms(x).
    exact = -places.mean() / np.sqrt((places**2).mean())
    assert bool(bounds.trades) is trade
    if trade:
        (one,) = bounds.trades
        assert one.correlation == pytest.approx(exact, rel=1e-9)
        assert one.gain == pytest.approx(1.0 / np.sqrt(1.0 - exact**2), rel=1e-5)
        assert {one.first, one.second} == {"offset", "slope"}
        assert not bounds.blind
        # Below a ten-thousandth of the information of its parts, it is also said which way.
        assert "is seen" in bounds.weak[0].words


def test_a_detail_that_nothing_reaches_is_located():
    # Seven pixels, five sums of which are seen: what is left is no simple change of an array.
    seen = np.random.default_rng(1).normal(size=(5, 7))

    def sums(model):
        return jnp.asarray(seen) @ model["a"][:7]

    pixels = jnp.array([5.0, 1.0, 2.0, 3.0, 1.5, 9.0] * 3)
    bounds = cramer_rao(made(sums, {"a": pixels}, noise=sj.Gaussian(1.0, 0.0), free=["a"]))
    assert "the data do not depend on a in 11 of 18 elements" in words(bounds)
    assert "2 directions of detail in a (100 %) change nothing" in words(bounds)
    assert np.isinf(deviation(bounds, "a")).all()
    np.testing.assert_allclose(seen @ bounds.blind[-1].parts["a"][:7], 0.0, atol=1e-9)
