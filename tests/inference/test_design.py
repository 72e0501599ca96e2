"""The best experiment: against closed forms, finite differences, and estimators."""

import jax.numpy as jnp
import numpy as np
import pytest

import stemjax as sj
from stemjax.core.errors import InputError
from stemjax.forward.column_image import ColumnImage, ColumnScene
from stemjax.inference.bounds.ascent import Question, ascend, settings_at, value_at
from stemjax.inference.bounds.ascent import _value_and_slope as value_and_slope
from stemjax.inference.bounds.design import Knob, _asked, _ranges, design
from stemjax.inference.curvature import fisher, fisher_by_columns, fisher_matrix
from stemjax.inference.derived import Derived
from stemjax.inference.problem import start
from stemjax.specimen.columns import make_columns
from tests.inference.test_bounds import deviation, made, object_problem


def decay(model):
    return model["dose"] * jnp.exp(-model["time"] / model["life"])[None]


MODEL = {"dose": jnp.array(400.0), "life": jnp.array(2.5), "time": jnp.array(0.7)}


@pytest.mark.parametrize(("noise", "best"), [(sj.Gaussian(1.0, 0.0), 2.5), (sj.Poisson(0.0), 5.0)])
def test_the_time_to_look_at_a_decay(noise, best):
    # (∂μ/∂τ)² ~ t² exp(-2t/τ) is greatest at τ; of counts, (∂μ/∂τ)²/μ ~ t² exp(-t/τ), at 2τ.
    found = design(made(decay, MODEL, noise=noise, free=["life"]), over={"time": (0.1, 20.0)}, about="life")
    assert float(found.best["time"].value) == pytest.approx(best, rel=1e-3)
    power = 1.0 if best == 2.5 else 0.5

    def exact(time):
        return 1.0 / (time * np.exp(-power * time / 2.5))

    assert found.gains["life"] == pytest.approx(exact(0.7) / exact(best), rel=1e-6)
    times, bounds = found.curves["time"]
    np.testing.assert_allclose(bounds / bounds[0], exact(times) / exact(times[0]), rtol=1e-6)
    assert float(found.problem.experiment["time"]) == float(found.best["time"].value)
    assert "time: 0.7 -> " in str(found)


def line(model):
    return model["offset"] + model["slope"] * model["places"]


LINE = {"offset": jnp.array(1.0), "places": jnp.array([-0.3, 0.1, 0.2, 0.5]), "slope": jnp.array(2.0)}


def test_the_slope_of_a_line_is_measured_at_its_ends():
    problem = made(line, LINE, noise=sj.Gaussian(0.1, 0.0), free=["offset", "slope"])
    found = design(problem, over={"places": (-1.0, 2.0)}, about="slope")
    places = np.sort(np.asarray(found.best["places"].value))
    np.testing.assert_allclose(places, [-1.0, -1.0, 2.0, 2.0], atol=1e-6)
    # Two at either end: σ(slope) = σ/√Σ(x - mean)² = 0.1/3.
    assert float(deviation(found.after, "slope")) == pytest.approx(0.1 / 3.0, rel=1e-9)
    assert "at the end of its range: places" in found.status
    # Asked about the value at 0.5, in the middle, any places with that mean will do: σ/√4.
    middle = Derived(lambda model: model["offset"] + 0.5 * model["slope"], "1")
    centred = design(problem, over={"places": (-1.0, 2.0)}, about="middle", derived={"middle": middle})
    assert float(deviation(centred.after, "middle")) == pytest.approx(0.1 / 2.0, rel=1e-4)


def two_images(model):
    return jnp.stack([model["first"]["dose"] * model["height"], model["second"]["dose"] * (9.0 - model["height"])])


def test_a_dose_is_divided_and_its_total_kept():
    # Var of a height h from counts D₁h and D₂(9-h): information D₁/h + D₂/(9-h); all belongs where 1/h is greatest.
    model = {"first": {"dose": jnp.array(300.0)}, "second": {"dose": jnp.array(700.0)}, "height": jnp.array(3.0)}
    problem = made(two_images, model, free=["height"])
    over = {"first.dose": (1.0, 100.0), "second.dose": (1.0, 100.0)}
    found = design(problem, over=over, about="height")
    doses = [float(found.best[name].value) for name in over]
    assert sum(doses) == pytest.approx(1000.0, rel=1e-9)
    assert doses[0] / doses[1] == pytest.approx(100.0, rel=1e-6)
    information = doses[0] / 3.0 + doses[1] / 6.0
    assert float(deviation(found.after, "height")) == pytest.approx(information**-0.5, rel=1e-9)
    # A single dose is refused; it may grow if that is meant.
    with pytest.raises(InputError, match="more is always better"):
        design(problem, over={"first.dose": (1.0, 500.0)}, about="height")
    free = design(problem, over={"first.dose": (1.0, 500.0)}, about="height", keep=())
    assert float(free.best["first.dose"].value) == pytest.approx(500.0)


def test_slopes_of_the_information_are_finite_differences():
    # Through the operator of patterns.
    problem = object_problem(["probe.aberrations.C12*", "dose"], priors={"dose": sj.Positive(1.0)})
    settings, ranges = _ranges(problem, {"probe.aberrations.C10": (0.0, 200.0), "probe.semiangle": (20.0, 28.0)})
    question = Question(settings, _asked(problem, "probe.aberrations.C12*", {}), (), fisher)
    share = np.array([0.41, 0.53])
    value, slope = value_and_slope(problem, question, ranges, jnp.asarray(share))
    assert float(value) == pytest.approx(value_at(problem, question, ranges, share), rel=1e-12)
    for i, step in enumerate(2e-5 * np.eye(2)):
        # To fourth order: the information has narrow features where intensities go through zero.
        at = {n: value_at(problem, question, ranges, share + n * step) for n in (-2, -1, 1, 2)}
        assert float(slope[i]) == pytest.approx((8 * (at[1] - at[-1]) - (at[2] - at[-2])) / 24e-5, rel=1e-6)


@pytest.mark.slow
def test_information_by_columns_is_the_same():
    problem = object_problem(["probe.aberrations.C1*", "dose"], priors={"dose": sj.Positive(1.0)})
    z = start(problem)
    np.testing.assert_allclose(fisher_by_columns(problem, z), fisher_matrix(problem, z), rtol=1e-9, atol=1e-6)


def wider(scene, factor):
    return scene.replace(scan=scene.scan.replace(affine=factor * jnp.eye(2)))


def column_problem(step):
    """One column, of known height and width, in an image of few pixels on a background."""
    columns = make_columns([[0.0, 0.0]], amplitude=100.0, width=0.5, background=20.0)
    side = step * 5
    scan = sj.make_raster((6, 6), step, origin=(-side / 2, -side / 2))
    return sj.make_problem(
        ColumnScene(columns, scan),
        sj.Measurement(np.ones(36)),
        forward=ColumnImage(),
        noise=sj.Poisson(0.0),
        free=["columns.positions", "columns.background"],
        priors={"columns.background": sj.LogNormal(3.0, 1.0)},
    )


def test_the_step_of_a_scan_is_chosen_and_fits_keep_what_the_bound_promises():
    knob = Knob(0.2, 3.0, 1.0, wider)
    found = design(column_problem(0.8), over={"step": knob}, about="columns.positions", starts=8)
    # By hand: the bound of a position on a grid of steps, 36 pixels of fixed dose.
    steps = np.linspace(0.2, 3.0, 2801) * 0.8

    def by_hand(step):
        y, x = np.meshgrid(*[(np.arange(6) - 2.5) * step] * 2, indexing="ij")
        peak = 100.0 * np.exp(-(y**2 + x**2) / 0.5)
        slope = peak * y / 0.25
        # Odd in y, so that the background, even, does not enter.
        return (slope**2 / (peak + 20.0)).sum() ** -0.5

    exact = np.array([by_hand(step) for step in steps])
    assert float(found.best["step"].value) * 0.8 == pytest.approx(steps[np.argmin(exact)], abs=2e-3)
    assert found.gains["columns.positions"] == pytest.approx(by_hand(0.8) / exact.min(), rel=1e-6)
    assert found.gains["columns.positions"] > 1.5
    # Fits: Fisher scoring of the two coordinates and the background on 3000 noise draws of either image.
    for problem, bounds in ((column_problem(0.8), found.before), (found.problem, found.after)):
        spread = spread_of_fits(np.asarray(sj.probe_positions(problem.experiment.scan)))
        np.testing.assert_allclose(spread / deviation(bounds, "columns.positions")[0], 1.0, atol=0.05)


def spread_of_fits(places, draws=3000):
    def parts(found):
        offset = places[None] - found[:, None, :2]
        peak = 100.0 * np.exp(-(offset**2).sum(axis=2) / 0.5)
        slopes = [peak * offset[..., 0] / 0.25, peak * offset[..., 1] / 0.25, np.ones_like(peak)]
        return peak + found[:, 2:], np.stack(slopes, axis=2)

    truth = np.tile([0.0, 0.0, 20.0], (draws, 1))
    counts = np.random.default_rng(0).poisson(parts(truth)[0])
    found = truth
    for _ in range(6):
        mean, slopes = parts(found)
        information = np.einsum("dx,dxi,dxj->dij", 1.0 / mean, slopes, slopes)
        score = np.einsum("dx,dxi->di", counts / mean - 1.0, slopes)
        found = found + np.linalg.solve(information, score[..., None])[..., 0]
    return found[:, :2].std(axis=0)


def wave(model):
    # Maxima of the information at phases of about π, 3π, ... 19π, each a little higher than the one before.
    return model["signal"] * (1.0 - jnp.cos(model["phase"]))[None] * (1.0 + 0.02 * model["phase"])


def test_the_highest_of_many_maxima_is_found():
    model = {"signal": jnp.array(1.0), "phase": jnp.array(3.0)}
    problem = made(wave, model, noise=sj.Gaussian(1.0, 0.0), free=["signal"])
    found = design(problem, over={"phase": (0.1, 62.0)}, about="signal", starts=32)
    phases = np.linspace(0.1, 62.0, 1000001)
    best = phases[np.argmax((1.0 - np.cos(phases)) * (1.0 + 0.02 * phases))]
    assert best == pytest.approx(19 * np.pi, abs=0.1)
    assert float(found.best["phase"].value) == pytest.approx(best, abs=1e-3)


@pytest.mark.parametrize(
    ("over", "about", "words"),
    [
        ({}, "life", "no setting is to be chosen"),
        ({"tme": (0.0, 1.0)}, "life", "no setting at path 'tme'; nearest: 'time'"),
        ({"life": (0.0, 1.0)}, "life", "'life' is free"),
        ({"time": (2.0, 1.0)}, "life", "the range of 'time' from 2 to 1 is empty"),
        ({"time": (0.1, 1.0)}, "lfe", "no free leaf or derived; nearest: 'life'"),
        ({"time": (0.1, 1.0)}, {"life": 0.0}, "positive weights"),
    ],
)
def test_questions_without_sense_are_refused(over, about, words):
    with pytest.raises(InputError, match=words):
        design(made(decay, MODEL, free=["life"]), over=over, about=about)


def test_several_quantities_share_the_ascent():
    problem = made(line, LINE, noise=sj.Gaussian(0.1, 0.0), free=["offset", "slope"])
    settings, ranges = _ranges(problem, {"places": (-1.0, 2.0)})
    asked = _asked(problem, {"slope": 1.0, "offset": 3.0}, {})
    question = Question(settings, asked, (), fisher)
    best = ascend(problem, question, ranges, 16, 0)[0]
    places = np.asarray(settings_at(question, ranges, jnp.asarray(best.share)))
    covariance = 0.01 * np.linalg.inv([[4.0, places.sum()], [places.sum(), (places**2).sum()]])
    exact = (3.0 * 0.5 * np.log(covariance[0, 0]) + 0.5 * np.log(covariance[1, 1])) / 4.0
    assert best.value == pytest.approx(exact, rel=1e-6)
    # No other places on a fine lattice are better.
    grid = np.linspace(-1.0, 2.0, 7)
    trial = np.stack(np.meshgrid(*[grid] * 4, indexing="ij"), -1).reshape(-1, 4)
    total, square = trial.sum(axis=1), (trial**2).sum(axis=1)
    determinant = np.maximum(4.0 * square - total**2, 1e-9)
    offset, slope = 0.01 * np.maximum(square, 1e-9) / determinant, 0.04 / determinant
    values = (3.0 * 0.5 * np.log(offset) + 0.5 * np.log(slope)) / 4.0
    assert best.value <= values.min() + 1e-6
