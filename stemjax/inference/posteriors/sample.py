"""Draws of the posterior by the No-U-Turn sampler, several chains side by side."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.annotations import Meaning, axis_names, meanings
from stemjax.core.errors import InputError
from stemjax.core.paths import replace
from stemjax.core.typing import Array, PRNGKeyArray
from stemjax.inference import problem as statement
from stemjax.inference.derived import Derived, derive_draws
from stemjax.inference.entry import ready
from stemjax.inference.faults import fault
from stemjax.inference.gaussian import Gaussian
from stemjax.inference.misfit import judged
from stemjax.inference.posteriors.chains import Nuts, Trace, advance, begin, chain_devices, placed, started, unbound
from stemjax.inference.posteriors.convergence import Convergence, convergence, sentence
from stemjax.inference.problem import Problem, Unconstrained
from stemjax.inference.result import Named, Result
from stemjax.inference.ties import follow
from stemjax.inference.vector import layout


class Draws(struct.PyTreeNode):
    """A posterior as draws of it.

    Args:
        z: Unconstrained leaves by path [draw ...], the chains one after the other.
    """

    z: Unconstrained

    def draw(self, key: PRNGKeyArray, count: int) -> Unconstrained:
        """Some of the draws, chosen at random, [draw ...]."""
        number = jax.random.choice(key, next(iter(self.z.values())).shape[0], (count,))
        return {path: values[number] for path, values in self.z.items()}


def sample(
    problem: Problem,
    *,
    chains: int = 4,
    draws: int = 500,
    warmup: int = 300,
    at: Result | None = None,
    derived: Mapping[str, Derived] | None = None,
    nuts: Nuts | None = None,
    seed: int = 0,
) -> Result:
    r"""Draw from the posterior with the No-U-Turn sampler, in coordinates whitened by the Laplace approximation.

    .. math:: z = m + R x, \qquad R R^\mathsf{T} = \left(F + P\right)^{-1}

    with m the most probable unconstrained leaves, F their Fisher information and P the curvature of the priors. Where
    the forward model needs one device (`Execution(1, 1)`) the chains spread over all devices; else they run one after
    the other. The same seed gives the same draws on any number of devices.

    Args:
        problem: The problem.
        chains: Number of chains; they begin at draws of the Laplace approximation.
        draws: Draws that each keeps.
        warmup: Steps before them in which each finds its step size.
        at: A result to begin from; the coordinates are those of its `posterior` where that is a Gaussian. The mode is
            found first if left out.
        derived: Quantities that follow from the model, drawn with it.
        nuts: How the sampler steps; `Nuts()` if left out. Where the posterior is nearly normal
            `Nuts(acceptance=0.7, depth=2)` needs half the gradients.
        seed: Seed of starts and chains.

    Returns:
        The result: posterior means and standard deviations of the leaves, `samples` [chain draw ...], and in
        `diagnostics` R-hat, effective draws, divergences, acceptance, step sizes, gradients a draw, seconds. Its
        `success` is that of `convergence`: R-hat at most 1.01, 100 effective draws a chain, no divergences (Vehtari
        et al., Bayesian Analysis 16 (2021) 667).

    Raises:
        InputError: A number of chains or draws is too small, or the density is not finite at the mode.

    Source: Hoffman & Gelman, J. Mach. Learn. Res. 15 (2014) 1593.
    """
    _check(chains, draws, warmup)
    problem, nuts = ready(unbound(problem), search=at is None), nuts or Nuts()
    frame = _frame(problem, at)
    devices = chain_devices(problem, chains)
    first, rest = jax.random.split(jax.random.key(seed))
    origin = frame.shape.ravel(frame.mean)
    starts = jax.random.normal(first, (chains, origin.size), origin.dtype)
    keys = jax.random.split(rest, chains)
    state, trace = _begun(problem, frame, starts, keys, (warmup, draws, nuts, devices))
    # Steps to number 0 are none: this call compiles, and the times of the others are those of the chains.
    seconds = []
    for last in (0, warmup, warmup + draws):
        began = time.perf_counter()
        state, trace = advance(
            problem, frame, state, trace, jnp.asarray(last), warmup=warmup, nuts=nuts, devices=devices
        )
        jax.block_until_ready(trace)
        seconds.append(time.perf_counter() - began)
    z = _unconstrained(frame, trace.x)
    about = {"step_size": np.asarray(state.adapt_state.step_size), "devices": devices}
    return judged(_result(problem, z, trace, derived or {}, {**about, **_times(seconds)}), problem, frame.mean)


def _begun(
    problem: Problem, frame: Gaussian, starts: Array, keys: Array, how: tuple[int, int, Nuts, int]
) -> tuple[Any, Trace]:
    """Chains at their starts, or at the mode where a start has no density."""
    warmup, draws, nuts, devices = how
    for _ in range(2):
        state, trace = begin(problem, frame, starts, keys, warmup=warmup, draws=draws, nuts=nuts, devices=devices)
        good = np.asarray(started(state))
        if good.all():
            return state, trace
        starts = jnp.where(good[:, None], starts, 0.0)
    raise InputError(fault(problem, frame.mean) or "the log-density is not finite where the chains begin; give priors")


def _frame(problem: Problem, at: Result | None) -> Gaussian:
    from stemjax.inference.posteriors.laplace import laplace

    if at is not None and isinstance(at.posterior, Gaussian):
        if at.posterior.shape.shapes != layout(problem).shapes:
            raise InputError(
                f"the posterior to begin from is one of {', '.join(at.posterior.shape.shapes)}; give a result of this "
                "problem, or none"
            )
        return at.posterior
    return laplace(problem, at=at).posterior


def _result(
    problem: Problem, z: Unconstrained, trace: Trace, derived: Mapping[str, Derived], about: Mapping[str, Any]
) -> Result:
    values = {path: np.asarray(v) for path, v in _constrained(problem, z).items()}
    samples = _named_draws(problem, values) | _derived_draws(problem, z, derived)
    found = convergence({path: v for path, v in values.items() if v.size}, divergences=np.asarray(trace.diverging),
                        energy=np.asarray(trace.energy))  # fmt: skip
    means = {name: _over_draws(np.mean, named) for name, named in samples.items()}
    centre = replace(problem.experiment, {path: jnp.asarray(means[path].value) for path in problem.free})
    return Result(
        problem="sample",
        estimate=means,
        uncertainty={name: _over_draws(np.std, named) for name, named in samples.items()},
        samples=samples,
        history={name: np.asarray(getattr(trace, name)) for name in ("energy", "acceptance", "steps", "diverging")},
        diagnostics=_diagnostics(found, trace, about),
        status=sentence(found),
        success=found.converged,
        value=jax.tree.map(np.asarray, follow(centre, problem.ties)),
        posterior=Draws({path: v.reshape(-1, *v.shape[2:]) for path, v in z.items()}),
    )


def _diagnostics(found: Convergence, trace: Trace, about: Mapping[str, Any]) -> dict[str, Any]:
    steps = np.asarray(trace.steps, float)
    r_hat, bulk, tail = found.worst
    return {
        "r_hat": dict(found.r_hat),
        "ess_bulk": dict(found.ess_bulk),
        "ess_tail": dict(found.ess_tail),
        "worst": {"r_hat": r_hat, "ess_bulk": bulk, "ess_tail": tail},
        "divergences": found.divergences,
        "missing_information": found.missing_information,
        "acceptance": float(np.mean(np.asarray(trace.acceptance))),
        "gradients": float(steps.mean()),
        "depth": np.log2(steps + 1.0).mean(axis=1),
        "seconds_per_effective_draw": about["seconds"] / max(min(bulk, tail), 1e-9),
        **about,
    }


def _times(seconds: list[float]) -> dict[str, float]:
    return dict(zip(("compile_seconds", "warmup_seconds", "seconds"), seconds, strict=True))


@jax.jit
def _unconstrained(frame: Gaussian, x: Array) -> Unconstrained:
    """Unconstrained leaves [chain draw ...] of whitened coordinates [chain draw unknown]."""
    return jax.lax.map(lambda chain: jax.lax.map(lambda one: placed(frame, one), chain), x)


@jax.jit
def _constrained(problem: Problem, z: Unconstrained) -> dict[str, Array]:
    """Leaves [chain draw ...]."""
    return jax.lax.map(lambda chain: jax.lax.map(lambda one: statement.constrained(problem, one), chain), z)


def _named_draws(problem: Problem, values: Mapping[str, np.ndarray]) -> dict[str, Named]:
    meaning = meanings(problem.experiment)
    found = {}
    for path, array in values.items():
        what = meaning.get(path, Meaning())
        dims = ("chain", "draw", *axis_names(what, array.shape[2:]))
        found[path] = Named(array, what.unit, dims, f"draws of {path}")
    return found


def _derived_draws(problem: Problem, z: Unconstrained, derived: Mapping[str, Derived]) -> dict[str, Named]:
    if not derived:
        return {}
    chains, draws = next(iter(z.values())).shape[:2]
    flat = {path: v.reshape(-1, *v.shape[2:]) for path, v in z.items()}
    found = {}
    for name, named in derive_draws(problem, derived, flat).items():
        array = named.value.reshape(chains, draws, *named.value.shape[1:])
        found[name] = Named(array, named.units, ("chain", *named.dims), named.long_name)
    return found


def _over_draws(reduce: Any, draws: Named) -> Named:
    """A mean or a standard deviation over chains and draws."""
    array = np.asarray(reduce(np.asarray(draws.value, np.float64), axis=(0, 1)))
    return Named(
        array.astype(draws.value.dtype), draws.units, draws.dims[2:], draws.long_name.removeprefix("draws of ")
    )


def _check(chains: int, draws: int, warmup: int) -> None:
    if chains < 1 or draws < 4 or warmup < 1:
        raise InputError(
            f"{chains} chains of {draws} draws after {warmup} steps of warm-up; give 1 chain, 4 draws and 1 step or "
            "more, such as 4, 500 and 300"
        )
