"""Aberrations from a few diffraction patterns of a known crystal, found again within their error bars.

Truths are drawn from the priors and counts from the noise, so that the errors in units of the posterior's covariance
have a chi-square distribution, whatever the problem: that of the Cramér-Rao bound with the priors as further data.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats

import stemjax as sj
from stemjax.core.errors import InputError
from stemjax.inference.curvature import fisher_matrix
from stemjax.inference.outcome import at_point
from stemjax.inference.posteriors.laplace import laplace
from stemjax.inference.posteriors.marginals import standard_deviations
from stemjax.inference.posteriors.sample import sample
from stemjax.inference.problem import start
from stemjax.inference.solvers.search import search
from stemjax.inference.trust.simulate import draw_values, model_of, simulate_data
from stemjax.optics.aberrations import polar
from stemjax.problems.aberrations import (
    aberration_spreads,
    coefficients,
    make_aberration_problem,
    order_names,
    polar_aberrations,
)

pytestmark = pytest.mark.slow  # until each has a quick form

SIZE, EXTENT = 32, 12.0


def crystal(grid):
    """Two slices with two kinds of atoms in a cell of 4 Å."""
    along = np.arange(SIZE) * EXTENT / SIZE
    total = np.zeros((SIZE, SIZE))
    for y in np.arange(0, EXTENT, 4.0):
        for x in np.arange(0, EXTENT, 4.0):
            for shift, height in ((1.0, 400.0), (3.0, 200.0)):
                away = [(along - c - shift + EXTENT / 2) % EXTENT - EXTENT / 2 for c in (y, x)]
                total += height * np.exp(-0.5 * (away[0][:, None] ** 2 + away[1] ** 2) / 0.4**2)
    return sj.make_potential_object(np.stack([total, total]), 5.0, grid)


def blank(*, order=4, phase=0.7, dose=1e5):
    """All coefficients to an order and the places of two patterns: 22 unknowns at fourth order. Without counts yet."""
    grid = sj.make_grid(SIZE, EXTENT / SIZE)
    lens = sj.make_probe(grid, energy=80e3, semiangle=25.0, aberrations=sj.make_aberrations(C10=100.0))
    places = sj.make_scan(np.array([[2.2, 1.3], [3.4, 3.1]]))
    guess = sj.make_experiment(lens, crystal(grid), places, dose=dose)
    names = order_names(order)
    return make_aberration_problem(
        guess, np.zeros((2, SIZE, SIZE)), free=names,
        spreads=aberration_spreads(lens, names, phase=phase) | {"C10": 100.0},
        also={"scan.positions": dist.Normal(guess.scan.positions, 0.3)},
    )  # fmt: skip


def simulated(problem, seed):
    """Truth by path, and the problem with the counts that it gave; the first guess stays the centre of the priors."""
    first, second = jax.random.split(jax.random.key(seed))
    truth = draw_values(problem, first)
    return truth, simulate_data(problem, model_of(problem, truth), second)


def chi_square(result, truth):
    """Squared distance of the truth from the mean in units of the covariance; the leaves are unconstrained here."""
    shape = result.posterior.shape
    away = shape.ravel({p: jnp.asarray(v) for p, v in truth.items()}) - shape.ravel(result.posterior.mean)
    return float(jnp.sum(result.posterior.whitened(away) ** 2))


def gaussian(problem, **more):
    """The Gaussian posterior at the best of the wells."""
    return laplace(problem, at=search(problem) if problem.wells else at_point(problem, start(problem), "", ""), **more)


def test_twenty_two_unknowns_within_their_error_bars():
    problem = blank()
    found = []
    for seed in range(4):
        truth, seen = simulated(problem, seed)
        found.append(chi_square(gaussian(seen), truth))
    size = sum(int(np.size(v)) for v in truth.values())
    assert size == 22
    assert max(found) < scipy.stats.chi2.isf(1e-4, size)
    low, high = (scipy.stats.chi2.ppf(p, size * len(found)) for p in (1e-3, 1 - 1e-3))
    assert low < sum(found) < high


def test_error_bars_are_the_bound_where_priors_are_wide():
    """At a high dose the posterior's deviation is that of the Fisher information alone."""
    problem = blank(phase=20.0, dose=1e8).replace(wells=())
    seen = simulate_data(problem, problem.experiment, jax.random.key(0))
    result = gaussian(seen)
    information = np.asarray(fisher_matrix(seen, start(seen)), np.float64)
    scale = np.sqrt(np.diag(information))
    bound = np.sqrt(np.diag(np.linalg.inv(information / scale[:, None] / scale))) / scale
    ours = np.concatenate([np.ravel(standard_deviations(seen, result.posterior)[p]) for p in sorted(seen.free)])
    np.testing.assert_allclose(ours, bound, rtol=0.02)


def test_polar_form_follows():
    names, pairs = order_names(4), ("C12", "C21", "C23")
    truth, seen = simulated(blank(), 3)
    result = gaussian(seen, derived=polar_aberrations(pairs))
    wanted = polar(sj.make_aberrations({n: float(result.estimate[f"probe.aberrations.{n}"].value) for n in names}))
    for name in pairs:
        assert float(result.estimate[name].value) == pytest.approx(wanted[name][0], rel=1e-6)
        assert float(result.estimate["phi" + name[1:]].value) == pytest.approx(wanted[name][1], abs=1e-6)
    right = polar(sj.make_aberrations({n: float(truth[f"probe.aberrations.{n}"]) for n in names}))
    assert abs(wanted["C12"][0] - right["C12"][0]) < 4.0 * float(result.uncertainty["C12"].value)
    assert (result.estimate["C12"].units, result.estimate["phi12"].units) == ("Å", "rad")


def test_spreads_are_phases_at_the_edge():
    """Each coefficient alone, as wide as its spread, turns the phase at the aperture's edge by what was asked."""
    lens = blank().experiment.probe
    edge = jnp.array(0.025)
    for name, width in aberration_spreads(lens, phase=1.5).items():
        only = sj.make_aberrations({name: width})
        around = jnp.linspace(0.0, 2.0 * jnp.pi, 721)
        turned = sj.phase_error(only, edge * jnp.sin(around), edge * jnp.cos(around), sj.wavelength(80e3))
        assert float(jnp.abs(turned).max()) == pytest.approx(1.5, rel=1e-3)


def test_statement():
    problem = blank()
    (well,) = problem.wells
    assert (well.path, well.low, well.high) == ("probe.aberrations.C10", -200.0, 400.0)
    assert well.spacing == pytest.approx(sj.wavelength(80e3) / 0.025**2)
    assert coefficients(["C12", "C12a", "C30"]) == ["C12a", "C12b", "C30"]
    guess = problem.experiment
    counts = np.zeros((2, SIZE, SIZE))
    assert len(make_aberration_problem(guess, counts).free) == 12  # to third order
    assert make_aberration_problem(guess, counts, free=["C12"]).wells == ()
    with pytest.raises(InputError, match=r"unknown aberration 'C13'; nearest"):
        make_aberration_problem(guess, counts, free=["C13"])
    with pytest.raises(InputError, match="a spread for 'C30', which is not free"):
        make_aberration_problem(guess, counts, free=["C10"], spreads={"C30": 1e4})
    with pytest.raises(InputError, match="give a positive number of Å"):
        make_aberration_problem(guess, counts, free=["C10"], spreads={"C10": 0.0})
    with pytest.raises(InputError, match="has no direction"):
        polar_aberrations(["C10"])


@pytest.mark.slow
def test_many_truths_have_the_distribution_of_chi_square():
    problem = blank()
    kept, lost = [], 0
    for seed in range(40):
        truth, seen = simulated(problem, 100 + seed)
        result = gaussian(seen)
        value = chi_square(result, truth)
        far = value > scipy.stats.chi2.isf(1e-6, 22)
        # Other coefficients than C10 have false minima too, and no wells; whoever ends in one is told.
        assert far == ("does not describe these data" in result.status)
        lost += far
        if not far:
            kept.append(value)
    assert lost <= 4
    assert scipy.stats.kstest(kept, scipy.stats.chi2(22).cdf).pvalue > 0.01


@pytest.mark.slow
def test_draws_are_those_of_the_laplace_approximation_where_it_holds():
    problem = blank()
    truth, seen = simulated(problem, 1)
    mode = laplace(seen)
    result = sample(seen, at=mode, chains=4, draws=500, warmup=200)
    assert result.success, result.status
    for path in seen.free:
        ratio = result.uncertainty[path].value / mode.uncertainty[path].value
        np.testing.assert_allclose(ratio, 1.0, atol=0.2)
        away = (result.estimate[path].value - np.asarray(truth[path])) / result.uncertainty[path].value
        assert np.abs(away).max() < 4.5
