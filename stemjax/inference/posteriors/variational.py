r"""A Gaussian fitted to the whole posterior, not to its mode: stochastic variational inference.

.. math:: q^* = \arg\min_q \mathrm{KL}(q\, \|\, p) = \arg\max_q \mathrm{E}_q [\log p(z, n) - \log q(z)]

The fit starts at the most probable leaves with the width of the curvature there (`evidence_bound`). A
mean-field fit (rank zero) cannot turn: for a Gaussian posterior of precision Λ its variances are 1/Λᵢᵢ, those of every
unknown while the others rest, so it says too little where unknowns trade. `diagnostics["pareto_k"]` tells.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.typing import Array
from stemjax.inference import problem as statement
from stemjax.inference.derived import Derived
from stemjax.inference.entry import ready
from stemjax.inference.faults import fault
from stemjax.inference.gaussian import Gaussian
from stemjax.inference.misfit import judged
from stemjax.inference.outcome import at_point
from stemjax.inference.posteriors.evidence_bound import AVERAGED, Fit, fit_by_adam, gaussian_of, start_from_curvature
from stemjax.inference.posteriors.marginals import with_posterior
from stemjax.inference.problem import Problem, Unconstrained
from stemjax.inference.result import Result
from stemjax.inference.solvers.mode import FAR, finite, place
from stemjax.inference.vector import layout

TRUSTED = 0.7
"""Pareto k above which importance weights, and the fit behind them, are not to be trusted (Vehtari et al. 2024)."""


def variational(
    problem: Problem,
    *,
    at: Result | None = None,
    rank: int = 0,
    steps: int = 2000,
    particles: int = 4,
    draws: int = 1000,
    derived: Mapping[str, Derived] | None = None,
    seed: int = 0,
) -> Result:
    """The Gaussian of greatest evidence bound.

    Args:
        problem: The problem.
        at: A result to start from; the most probable leaves are found first if None.
        rank: Directions in which unknowns may vary together; 0 for none (mean field).
        steps: Steps of Adam.
        particles: Draws a step, in pairs.
        draws: Draws to return; they also tell how far the fit can be trusted.
        derived: What else is wanted with its standard deviation, by name.
        seed: Seed.

    Returns:
        `estimate` is the mean of z, mapped; `history["elbo"]` the bound at every step, up to the constants of the
        densities; `diagnostics`: `elbo` over the last quarter of the steps and its standard error, `pull` (how far, in
        deviations, the bound still draws a mean or a width), `pareto_k` and `effective_draws` of the importance
        weights of the draws. `success` says whether the fit has settled.

    Raises:
        InputError: The density is not finite, or there are too few steps or draws.
    """
    if steps < 8 or draws < 100:
        raise InputError(f"{steps} steps and {draws} draws make no fit; give at least 8 steps and 100 draws")
    problem = ready(problem, search=at is None)
    z = place(problem, at)
    finite(problem, z)
    first, second, third = jax.random.split(jax.random.key(seed), 3)
    frame, first_guess = start_from_curvature(problem, z, min(rank, layout(problem).size), first, second)
    fit = fit_by_adam(problem, frame, first_guess, third, (steps, particles))
    if not np.isfinite(np.asarray(fit.elbo)).all():
        raise InputError(fault(problem, z) or _ran_away(np.asarray(fit.elbo)))
    posterior = gaussian_of(z, frame, fit.parameters)
    drawn = posterior.draw(jax.random.key(seed), draws)
    return _result(problem, posterior, fit, drawn, derived or {})


def _result(
    problem: Problem, posterior: Gaussian, fit: Fit, drawn: Unconstrained, derived: Mapping[str, Derived]
) -> Result:
    elbo = np.asarray(fit.elbo)
    known = _settled(elbo) | {"pull": float(fit.pull)} | _trust(problem, posterior, drawn)
    good = known["pull"] <= FAR
    said = f"evidence bound {known['elbo']:.6g} ± {known['elbo_error']:.1g} after {len(elbo)} steps"
    if not good:
        said += f"; not settled, the mean or a width is off by about {known['pull']:.2g} deviations: give more steps"
    if known["pareto_k"] > TRUSTED:
        said += (
            f"; the posterior is not of this form (Pareto k {known['pareto_k']:.2g}, wanted {TRUSTED}): standard "
            "deviations may be too small; give a rank, or use laplace or sample"
        )
    point = at_point(
        problem, posterior.mean, "variational", said, success=good, history={"elbo": elbo}, diagnostics=known
    )
    point = judged(point, problem, posterior.mean)
    return with_posterior(point, problem, posterior, draws=drawn, derived=derived)


def _settled(elbo: np.ndarray) -> dict[str, float]:
    """The bound over the last part of the steps, and its standard error."""
    last = elbo[-(len(elbo) // AVERAGED) :]
    return {"elbo": float(last.mean()), "elbo_error": float(np.std(last, ddof=1) / np.sqrt(len(last)))}


def _trust(problem: Problem, posterior: Gaussian, draws: Unconstrained) -> dict[str, float]:
    """Pareto's k of the importance weights of draws and their effective number."""
    from arviz_stats.base import array_stats

    weights = np.asarray(_log_weights(problem, posterior, draws), np.float64)
    weights = np.where(np.isfinite(weights), weights, -1e30)
    if np.ptp(weights) < 1e-9:
        return {"pareto_k": 0.0, "effective_draws": float(len(weights))}
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        smooth, k = array_stats.psislw(-(weights - weights.max()))
    # Weights so unequal that no tail can be fitted to them are the worst there are.
    smooth, k = (smooth, float(k)) if np.isfinite(k) and np.isfinite(smooth).all() else (weights, np.inf)
    share = np.exp(np.asarray(smooth) - np.max(smooth))
    return {"pareto_k": k, "effective_draws": float(share.sum() ** 2 / np.sum(share**2))}


@jax.jit
def _log_weights(problem: Problem, posterior: Gaussian, draws: Unconstrained) -> Array:
    return jax.lax.map(lambda z: statement.log_density(problem, z) - posterior.log_prob(z), draws)


def _ran_away(elbo: np.ndarray) -> str:
    step = int(np.argmax(~np.isfinite(elbo)))
    return (
        f"the evidence bound was not finite in step {step}: a draw fell where the model is not defined; give a prior "
        "with bounds to the leaf that may not go there, or start from a better place"
    )
