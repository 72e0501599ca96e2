"""The Fisher information as an operator: against explicit Jacobians, over devices, within memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stemjax as sj
from stemjax.inference import problem as statement
from stemjax.inference.curvature import fisher, fisher_matrix, matrix, posterior_curvature, prior_curvature
from stemjax.inference.solvers.optimise import distribute
from stemjax.inference.vector import layout
from tests.inference.test_problem import X, line_problem

EXECUTIONS = [sj.Execution(1, 1), sj.Execution(2, 1), sj.Execution(1, 5)]


def scan_problem(execution=EXECUTIONS[0], mask=None, noise=None, camera=None, slices=2):
    grid = sj.make_grid(16, 0.5)
    probe = sj.make_probe(grid, energy=80e3, semiangle=21.4, aberrations=sj.make_aberrations(C10=60.0))
    phase = 0.3 * np.random.default_rng(0).normal(size=(slices, 24, 24))
    thing = sj.make_object(sj.make_grid(24, 0.5), phase=phase, thickness=5.0)
    scan = sj.make_raster((3, 5), 0.9, origin=(4.5, 4.5))
    truth = sj.make_experiment(probe, thing, scan, dose=1e3, camera=camera)
    simulate = sj.Diffraction(limit=None, execution=execution)
    counts = np.random.default_rng(1).poisson(np.asarray(simulate(truth))).astype(float)
    return sj.make_problem(
        truth,
        sj.Measurement(counts, mask),
        forward=simulate,
        noise=noise or (None if camera is not None else sj.Poisson()),
        free=["probe.aberrations.C1*", "probe.semiangle", "scan.positions", "tilt", "dose"],
        priors={"dose": sj.Positive(50.0), "probe.semiangle": sj.LogNormal(3.0, 0.1)},
    )


def by_hand(problem, weight):
    z, shape = statement.start(problem), layout(problem)
    expected = jax.jit(lambda v: problem.forward(statement.insert(problem, shape.unravel(v))))
    J = np.asarray(jax.jit(jax.jacfwd(expected))(shape.ravel(z))).reshape(-1, shape.size)
    return J.T @ (np.asarray(weight(np.asarray(expected(shape.ravel(z))))).reshape(-1, 1) * J)


@pytest.mark.parametrize("execution", [*EXECUTIONS[:2], pytest.param(EXECUTIONS[2], marks=pytest.mark.slow)])
def test_operator_of_patterns_is_the_jacobian_s_product(execution):
    problem = scan_problem(execution)
    found, expected = fisher_matrix(problem, statement.start(problem)), by_hand(problem, lambda m: 1 / (m + 1e-3))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize("by_record", [pytest.param(False, marks=pytest.mark.slow), True])
def test_masks_take_their_pixels_out(by_record):
    mask = (np.random.default_rng(2).random((15, 16, 16) if by_record else (16, 16)) < 0.7).astype(float)
    problem = scan_problem(EXECUTIONS[1], mask=jnp.asarray(mask))
    found, z = fisher_matrix(problem, statement.start(problem)), statement.start(problem)
    expected = by_hand(problem, lambda m: mask / (m + 1e-3))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())
    # The likelihood leaves out the same pixels, and dealing the records to lanes changes nothing.
    model = statement.insert(problem, z)
    counts, mean = np.asarray(problem.measurement.counts), np.asarray(problem.forward(model))
    noise = sj.Poisson()
    value = float(np.sum(mask * np.asarray(noise.log_prob(counts, mean) - noise.best(counts))))
    assert float(statement.likelihood(problem, model)) == pytest.approx(value, rel=1e-10)
    if not by_record:
        dealt = distribute(problem, EXECUTIONS[1])
        assert float(statement.likelihood(dealt, model)) == pytest.approx(value, rel=1e-10)
        np.testing.assert_allclose(fisher_matrix(dealt, z), expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def test_plain_forward_models_have_the_same_operator():
    problem = line_problem()
    z = {"slope": jnp.array(4.0), "offset": jnp.array(10.0)}
    mean = 4.0 * X + 10.0
    by_formula = [[(1 / mean).sum(), (X / mean).sum()], [(X / mean).sum(), (X * X / mean).sum()]]
    np.testing.assert_allclose(fisher_matrix(problem, z), by_formula, rtol=1e-12)


def test_fisher_information_is_the_mean_curvature_of_the_likelihood():
    # E over counts of the second derivative: exact, since that of a Poisson likelihood is linear in the counts.
    problem = line_problem()
    z = {"slope": jnp.array(4.0), "offset": jnp.array(10.0)}
    mean = problem.replace(
        measurement=problem.measurement.replace(counts=problem.forward(statement.insert(problem, z)))
    )
    shape = layout(problem)
    hessian = jax.hessian(lambda v: -sj.log_density(mean, shape.unravel(v)))(shape.ravel(z))
    np.testing.assert_allclose(fisher_matrix(problem, z), hessian, rtol=1e-10)


def test_curvature_of_priors_is_their_second_derivative():
    problem = line_problem(priors={"slope": sj.LogNormal(1.0, 0.5), "offset": sj.Normal(3.0, 2.0)})
    z, shape = statement.start(problem), layout(problem)
    found = matrix(prior_curvature(problem, z), shape)
    # In z = log slope the log-normal density of the leaf is -(z-1)^2/2s^2 - z, that of z itself lacks the -z.
    np.testing.assert_allclose(found, np.diag([1 / 4.0, 1 / 0.25]), rtol=1e-10)
    both = matrix(posterior_curvature(problem, z), shape)
    np.testing.assert_allclose(both, found + fisher_matrix(problem, z), rtol=1e-12)


def temporary(records):
    problem = scan_problem()
    made = problem.experiment.replace(scan=sj.make_raster((records // 5, 5), (9.0 / records, 0.9), origin=(4.5, 4.5)))
    counts = np.zeros((records, 16, 16))
    problem = problem.replace(experiment=made, measurement=sj.Measurement(counts))
    z = statement.start(problem)
    compiled = jax.jit(lambda p, z, v: fisher(p, z)(v)).lower(problem, z, z).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_memory_does_not_grow_with_the_records():
    # What grows are positions and their shifts: a few numbers a record, far below one pattern (2 kB).
    few, many = temporary(50), temporary(500)
    assert many - few < 450 * 400
