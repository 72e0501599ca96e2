"""Ties between leaves, several data sets in one problem, and problems joined."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.optimize
from jax.flatten_util import ravel_pytree

import stemjax as sj
from stemjax.core.paths import matching
from stemjax.inference import problem as statement
from stemjax.inference.curvature import fisher_matrix
from stemjax.inference.data_sets import groups
from tests.inference.test_problem import FORWARD, Counts, Line, line_problem


def best(problem):
    """The maximum of the log-density by scipy, and the standard errors from the Fisher information there."""
    flat, unflatten = ravel_pytree(statement.start(problem))
    cost = jax.jit(jax.value_and_grad(lambda v: -sj.log_density(problem, unflatten(v))))
    found = scipy.optimize.minimize(cost, flat, jac=True, method="BFGS", options={"gtol": 1e-6})
    spread = np.sqrt(np.diag(np.linalg.inv(fisher_matrix(problem, unflatten(jnp.asarray(found.x))))))
    return unflatten(jnp.asarray(found.x)), unflatten(jnp.asarray(spread))


@pytest.mark.parametrize(
    ("path", "hits"),
    [
        ("a", ["a.b", "a.c.b"]),
        ("a.*", ["a.b", "a.c.b"]),
        ("*.b", ["a.b"]),
        ("**.b", ["a.b", "a.c.b", "b"]),
        ("a.**.b", ["a.b", "a.c.b"]),
        ("d1*", ["d10", "d12"]),
    ],
)
def test_wildcards_select_what_they_say(path, hits):
    assert matching(["a.b", "a.c.b", "b", "d10", "d12", "d2"], [path]) == hits


def test_a_tied_leaf_is_no_unknown_and_follows():
    truth = Line(jnp.array(4.0), jnp.array(8.0))
    counts = np.random.default_rng(0).poisson(np.asarray(FORWARD(truth))).astype(float)
    problem = sj.make_problem(
        Line(jnp.array(2.0), jnp.array(3.0)),
        Counts(counts),
        forward=FORWARD,
        noise=sj.Poisson(0.0),
        free=["slope"],
        ties={"offset": sj.Scaled("slope", 2.0)},
    )
    assert set(statement.start(problem)) == {"slope"}
    # With offset = 2 slope the best slope is the ratio of counts to the sum of x + 2: the closed form.
    x = np.linspace(1.0, 5.0, 40)
    found, spread = best(problem)
    assert float(found["slope"]) == pytest.approx(counts.sum() / (x + 2.0).sum(), rel=1e-6)
    assert float(spread["slope"]) == pytest.approx(np.sqrt(float(found["slope"]) / (x + 2.0).sum()), rel=1e-6)
    model = statement.insert(problem, found)
    assert float(model.offset) == pytest.approx(2.0 * float(model.slope))


def test_two_data_sets_of_a_shared_leaf_weigh_like_all_their_counts():
    one, two = line_problem(seed=1), line_problem(seed=2)
    joint = sj.join({"one": one, "two": two}, shared=["slope", "offset"])
    assert joint.free == ("one.slope", "one.offset")
    found, spread = best(joint)
    # Sharing both leaves is the same as one line with the mean of the counts, measured twice as well.
    mean = one.replace(measurement=Counts(0.5 * (one.measurement.counts + two.measurement.counts)))
    alone, error = best(mean)
    for name in ("slope", "offset"):
        assert float(found[f"one.{name}"]) == pytest.approx(float(alone[name]), abs=1e-4)
        assert float(spread[f"one.{name}"]) == pytest.approx(float(error[name]) / np.sqrt(2.0), rel=1e-3)


def test_priors_of_a_shared_leaf_count_once():
    prior = {"slope": dist.Normal(4.0, 0.2)}
    one, two = line_problem(priors=prior), line_problem(priors=prior, seed=3)
    joint = sj.join({"one": one, "two": two}, shared=["slope"])
    assert list(joint.priors) == ["one.slope"]
    assert set(joint.free) == {"one.slope", "one.offset", "two.offset"}


def test_names_of_data_sets_and_residuals():
    joint = sj.join({"one": line_problem(seed=1), "two": line_problem(seed=2)}, shared=["slope"])
    nested = sj.join({"old": joint, "new": line_problem(seed=3)}, ties={"new.slope": "old.one.slope"})
    names = [data.name for group in groups(nested) for data in group.sets.values()]
    assert names == ["old.one", "old.two", "new"]
    z = statement.start(nested)
    residuals = sj.residual(nested, z)
    total = -0.5 * sum(float(jnp.sum(r**2)) for r in residuals.values())
    assert total == pytest.approx(float(sj.log_density(nested, z)), rel=1e-9)
    assert "old.two.slope" not in nested.free
    assert "new.slope" not in nested.free


def specimen_and_probe(pixels=24):
    grid = sj.make_grid(pixels, 0.4)
    y, x = np.mgrid[:pixels, :pixels] * 0.4
    atoms = 0.6 * np.exp(-((y % 3.2 - 1.6) ** 2 + (x % 3.2 - 1.6) ** 2) / 0.6)
    specimen = sj.make_object(grid, phase=atoms[None], periodic=True)
    return specimen, sj.make_probe(grid, energy=80e3, semiangle=21.4)


def test_patterns_and_images_of_one_scan_are_one_problem():
    specimen, probe = specimen_and_probe()
    rings = {"ADF": sj.make_annular_detector(25.0, 60.0)}
    truth = sj.make_experiment(probe, specimen, sj.make_raster((3, 3), 1.1), dose=1e4, detectors=rings)
    simulate = sj.Signals(sj.Diffraction())
    key = jax.random.key(0)
    data = {name: sj.Measurement(sj.Poisson().sample(key, value)) for name, value in simulate(truth).items()}
    guess = sj.replace(truth, {"probe.aberrations.C10": np.array(30.0)})
    common = {"forward": simulate, "free": ["probe.aberrations.C10"]}
    both = sj.make_problem(guess, data, noise=sj.Poisson(), **common)
    assert {d.name for g in groups(both) for d in g.sets.values()} == {"patterns", "ADF"}
    z = statement.start(both)
    parts = [
        sj.make_problem(guess, {name: data[name]}, noise={name: sj.Poisson()}, **common) for name in ("patterns", "ADF")
    ]
    together = float(sj.log_density(both, z))
    assert together == pytest.approx(sum(float(sj.log_density(p, z)) for p in parts), rel=1e-9)
    information = float(fisher_matrix(both, z)[0, 0])
    assert information == pytest.approx(sum(float(fisher_matrix(p, z)[0, 0]) for p in parts), rel=1e-9)


def focal_series(key):
    """Two scans of one unknown object at two foci, 100 Å apart, the second of them longer: a joint problem."""
    specimen, probe = specimen_and_probe(16)
    scan = sj.make_raster((5, 5), 1.28)
    problems, keys = {}, jax.random.split(key, 2)
    for name, C10, dose, k in (("near", -20.0, 2e4, keys[0]), ("far", 80.0, 4e4, keys[1])):
        lens = probe.replace(aberrations=sj.make_aberrations(C10=C10))
        truth = sj.make_experiment(lens, specimen, scan, dose=dose)
        simulate = sj.Diffraction(limit=None, execution=sj.Execution(2, 1))
        counts = sj.Poisson().sample(k, simulate(truth))
        guess = sj.replace(truth, {"probe.aberrations.C10": np.array(C10 + 15.0)})
        problems[name] = sj.make_problem(
            guess.replace(specimen=guess.specimen.replace(phase=0.5 * guess.specimen.phase)),
            sj.Measurement(counts),
            forward=simulate,
            noise=sj.Poisson(),
            free=["probe.aberrations.C10", "specimen.phase"],
            priors={"specimen.phase": sj.Ridge(1.0)},
        )
    return problems, specimen


def test_a_joint_problem_is_solved_end_to_end():
    problems, specimen = focal_series(jax.random.key(4))
    step = {"far.probe.aberrations.C10": sj.Offset("near.probe.aberrations.C10", 100.0)}
    joint = sj.join(problems, shared=["specimen.phase"], ties=step)
    assert set(joint.free) == {"near.probe.aberrations.C10", "near.specimen.phase"}
    found = sj.least_squares(joint)
    assert found.success, found.status
    value = found.value
    assert float(value["far"].probe.aberrations.C10 - value["near"].probe.aberrations.C10) == pytest.approx(100.0)
    np.testing.assert_array_equal(value["near"].specimen.phase, value["far"].specimen.phase)
    # The truth of the one lens parameter lies within its error bar; that of one data set alone is wider.
    z = {path: jnp.asarray(named.value) for path, named in found.estimate.items()}
    sigma = marginal(joint, z, "near.probe.aberrations.C10")
    assert abs(float(z["near.probe.aberrations.C10"]) + 20.0) < 4.0 * sigma
    assert sigma < 0.9 * marginal(problems["near"], statement.start(problems["near"]), "probe.aberrations.C10")
    phase, truth = np.asarray(value["near"].specimen.phase), np.asarray(specimen.phase)
    difference = (phase - phase.mean()) - (truth - truth.mean())
    assert difference.std() < 0.15 * truth.std()


@pytest.mark.slow
def test_every_part_of_a_joint_problem_has_its_own_camera():
    specimen, probe = specimen_and_probe()
    parts = {}
    for name, gain in (("one", 2.0), ("two", 7.0)):
        camera = sj.make_camera(gain=gain, dark=5.0, readout=1.5)
        made = sj.make_experiment(probe, specimen, sj.make_raster((2, 2), 1.1), dose=1e4, camera=camera)
        # `Signals` has no sum of its own: the general path, where the noise model is looked up for every data set.
        simulate = sj.Signals(sj.Diffraction())
        counts = camera.sample(jax.random.key(0), simulate(made)["patterns"])
        parts[name] = sj.make_problem(
            made, {"patterns": sj.Measurement(counts)}, forward=simulate, noise=None, free=["probe.aberrations.C10"]
        )
    joint = sj.join(parts)
    z = statement.start(joint)
    alone = sum(float(sj.log_density(p, statement.start(p))) for p in parts.values())
    assert float(sj.log_density(joint, z)) == pytest.approx(alone, rel=1e-9)
    residuals = sj.residual(joint, z)
    for name, problem in parts.items():
        np.testing.assert_allclose(
            residuals[f"{name}.patterns"], sj.residual(problem, statement.start(problem)), rtol=1e-9
        )


def marginal(problem, z, path):
    from stemjax.inference.curvature import matrix, posterior_curvature
    from stemjax.inference.vector import layout

    shape = layout(problem)
    whole = jax.jit(lambda p, z: matrix(posterior_curvature(p, z), shape))(problem, z)
    return float(np.sqrt(np.linalg.inv(np.asarray(whole))[shape.slices()[path]][:, shape.slices()[path]])[0, 0])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sj.join({"one": line_problem()}, shared=["slope"]), "in part 'one' alone"),
        (lambda: sj.join({"a.b": line_problem()}), "cannot name a part"),
        (lambda: sj.join({"a": line_problem(), "b": line_problem()}, shared=["slop"]), "nearest: 'slope'"),
        (lambda: tied({"offset": "slop"}), "nearest: 'slope'"),
        (lambda: tied({"offset": "offset"}), "cannot follow itself"),
        (lambda: tied({"offset": "slope"}, free=["slope", "offset"]), "cannot be free as well"),
        (lambda: tied({"offset": sj.Follow("slope", lambda v: jnp.stack([v, v]))}), r"would follow .* shape \(2,\)"),
    ],
)
def test_wrong_ties_and_joints_are_refused(call, words):
    with pytest.raises(sj.InputError, match=words):
        call()


def tied(ties, free=("slope",)):
    problem = line_problem()
    return sj.make_problem(
        problem.experiment, problem.measurement, forward=FORWARD, noise=sj.Poisson(0.0), free=free, ties=ties
    )
