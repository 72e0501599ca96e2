"""What a person reads when a statement is wrong or a density is not finite: which leaf, and what to do."""

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import stemjax as sj
from stemjax.inference import problem as statement
from stemjax.inference.faults import fault
from tests.inference.test_problem import FORWARD, Counts, Line, line_problem


class Root:
    """A forward model that is not defined for negative slopes."""

    def __call__(self, model, index=None):
        return jnp.sqrt(model.slope) * FORWARD(Line(jnp.ones(()), model.offset))


class Kink:
    """A forward model that is finite everywhere and has no slope at zero."""

    def __call__(self, model, index=None):
        return FORWARD(Line(jnp.sqrt(model.slope**2), model.offset))


def made(forward, **changed):
    problem = line_problem(**changed)
    return problem.replace(forward=forward)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: line_problem(priors={"slope": dist.Normal(jnp.zeros(3), 1.0)}),
            r"prior of 'slope' has shape \(3,\), the leaf has \(\)",
        ),
        (lambda: line_problem(priors={"slope": sj.TotalVariation(0.1)}), "no prior for 'slope' of shape"),
        (lambda: line_problem(priors={"slope": sj.Ridge(jnp.nan)}), "prior of 'slope', Ridge, holds a number"),
        (
            lambda: line_problem(priors={"slope": dist.Uniform(5.0, 6.0)}),
            "guess of 'slope' lies outside the support of its prior Uniform; move the guess or widen",
        ),
        (lambda: line_problem(slope=np.nan), "first guess of 'slope' is not finite"),
        (lambda: line_problem(free=("name",)), "no parameter at path 'name'"),
        (lambda: with_counts(np.ones((39, 1))), r"'data' has shape \(39, 1\), the forward model expects \(40, 1\)"),
        (lambda: with_counts(np.ones((40, 1)), np.ones(40)), r"mask of data set 'data' has shape \(40,\); give \(1,\)"),
        (
            lambda: with_counts(np.ones((40, 1)), -np.ones((40, 1))),
            "mask of data set 'data' reaches from -1 to -1; give w",
        ),
        (lambda: with_counts(np.ones((40, 1)), np.full((40, 1), 4)), "reaches from 4 to 4; give weights from 0"),
        (
            lambda: with_counts(np.r_[-np.ones((4, 1)), np.ones((36, 1))]),
            "10 % of the counts of data set 'data' are neg",
        ),
        (lambda: with_counts(1j * np.ones((40, 1))), "data set 'data' holds complex numbers"),
        (lambda: line_problem(noise="poisson"), "noise of data set 'data' is 'poisson'; give a noise model, such as"),
        (lambda: line_problem(noise=sj.Poisson), "noise of data set 'data' is .*Poisson"),
        (lambda: line_problem(free=()), "no leaf is free"),
        (lambda: sj.laplace(line_problem(), at=line_problem().experiment), "at is a Line; give the result of a solver"),
        (lambda: sj.laplace(line_problem(), draws=-1), "-1 draws are too few"),
        (lambda: free_dose(None), "'dose' is a scale.*LogNormal\\(log\\(100\\), 0.1\\)"),
        (lambda: free_dose(sj.Normal(100.0, 10.0)), "'dose' is a scale.*nothing keeps it above"),
    ],
)
def test_wrong_statements_name_the_leaf_and_the_remedy(call, words):
    with pytest.raises(sj.InputError, match=words):
        call()


def test_one_path_frees_one_leaf():
    assert line_problem(free="slope").free == ("slope",)


def test_counts_that_are_masked_may_be_anything():
    counts = np.asarray(line_problem().measurement.counts)
    mask = np.ones_like(counts)
    mask[[3, 7]] = 0.0
    damaged = counts.copy()
    damaged[3], damaged[7] = np.nan, -5.0
    found, expected = (sj.least_squares(with_counts(c, mask)).estimate["slope"].value for c in (damaged, counts))
    assert np.isfinite(found)
    assert float(found) == pytest.approx(float(expected), rel=1e-9)
    with pytest.raises(sj.InputError, match="counts are not finite in 1 of 40 elements"):
        sj.least_squares(with_counts(np.where(np.isnan(damaged), np.nan, counts)))


def test_a_scale_with_a_positive_prior_is_free():
    assert free_dose(sj.LogNormal(np.log(100.0), 0.1)).free == ("dose",)


@pytest.mark.parametrize(
    ("problem", "z", "words"),
    [
        (lambda: line_problem(), {"slope": jnp.inf, "offset": 3.0}, "elements of 'slope' are not finite"),
        (
            lambda: made(Root()),
            {"slope": -1.0, "offset": 3.0},
            "expects nan in 40 of 40 elements, first in record 0 of data set 'data'; 'slope' went where the model",
        ),
        (
            lambda: line_problem(),
            {"slope": -1.0, "offset": 3.0},
            "likelihood is not finite in 20 of 40 elements, first in record 20 of data set 'data', where the model exp",
        ),
        (
            lambda: made(Kink()),
            {"slope": 0.0, "offset": 3.0},
            "gradient of the log-density is not finite in 1 elements",
        ),
    ],
)
def test_a_density_that_is_not_finite_is_explained(problem, z, words):
    assert words in fault(problem(), {name: jnp.asarray(value) for name, value in z.items()})


def test_nothing_is_said_where_nothing_is_wrong():
    problem = line_problem(priors={"slope": dist.LogNormal(1.0, 1.0)})
    assert fault(problem, statement.start(problem)) == ""


def test_counts_that_are_not_finite_are_found():
    problem = line_problem()
    counts = np.array(problem.measurement.counts)
    counts[7] = np.nan
    broken = problem.replace(measurement=Counts(counts))
    words = "counts are not finite in 1 of 40 elements, first in record 7 of data set 'data'; mask or replace them"
    assert words in fault(broken, statement.start(problem))


def test_a_solver_says_it_before_it_starts():
    problem = line_problem(slope=-1.0)
    with pytest.raises(sj.InputError, match="likelihood is not finite in 20 of 40 elements"):
        sj.optimise(problem, sj.Plan(rates={"slope": 0.1, "offset": 0.1}, batch=40), 2)


def with_counts(counts, mask=None):
    problem = line_problem()
    return sj.make_problem(
        problem.experiment, Counts(counts, mask), forward=lambda m: FORWARD(m), noise=sj.Poisson(), free=["slope"]
    )


def free_dose(prior):
    grid = sj.make_grid(8, 0.5)
    probe = sj.make_probe(grid, energy=80e3, semiangle=21.4)
    thing = sj.make_object(grid, phase=np.zeros((1, 8, 8)), periodic=True)
    made = sj.make_experiment(probe, thing, sj.make_raster((1, 1), 1.0), dose=100.0)
    priors = None if prior is None else {"dose": prior}
    counts = sj.Measurement(np.ones((1, 8, 8)))
    return sj.make_problem(made, counts, forward=sj.Diffraction(), noise=sj.Poisson(), free=["dose"], priors=priors)
