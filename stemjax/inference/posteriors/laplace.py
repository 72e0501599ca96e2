r"""The Gaussian posterior at the most probable unknowns: mean at the mode of the density of z, precision its curvature.

.. math:: p(z | n) \approx N(\hat z, H^{-1}), \qquad \hat z = \arg\max \log p(z | n), \quad
    H = -\nabla^2 \log p(z | n)\big|_{\hat z}

Source: Tierney & Kadane, J. Am. Stat. Assoc. 81 (1986) 82. Which curvature: the observed one (`observed_curvature`) is
the posterior's own, and given the data it makes the better standard deviation (Efron & Hinkley, Biometrika 65 (1978)
457). The expected one (`expected_curvature`) has the Fisher information in place of the data's own curvature: it is
never negative, and agrees with the other where counts are many or the model is nearly linear. Matrices are made of the
first, products of the second, if nothing else is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.typing import Array
from stemjax.inference.derived import Derived
from stemjax.inference.entry import ready
from stemjax.inference.gaussian import dense_gaussian
from stemjax.inference.misfit import judged
from stemjax.inference.outcome import at_point
from stemjax.inference.posteriors.marginals import with_posterior
from stemjax.inference.posteriors.matrix_free import (
    Settings,
    Wide,
    climb_by_products,
    small_and_big,
    solved_deviations,
    wide_draws,
    wide_gaussian,
)
from stemjax.inference.problem import Problem, Unconstrained
from stemjax.inference.result import Result
from stemjax.inference.solvers.mode import FAR, Curvature, climb, expected_curvature, observed_curvature, place
from stemjax.inference.vector import layout

DENSE = 2000
"""Most unknowns whose curvature is written out as a matrix."""

RANK = 32
"""Directions of a large problem, if nothing else is asked."""

LOOSE = 0.02
"""Share that an iteration may leave before the status says so."""


def laplace(
    problem: Problem,
    *,
    at: Result | None = None,
    rank: int | None = None,
    draws: int = 0,
    derived: Mapping[str, Derived] | None = None,
    curvature: Curvature | None = None,
    probes: int = 32,
    seed: int = 0,
) -> Result:
    """The Gaussian posterior at the mode.

    Up to 2000 unknowns it is exact (all covariances, as a matrix). Beyond, or with a `rank`, it is found by products
    with the curvature: variances of small leaves exact, those of the others with a standard error that the diagnostics
    state, correlations along `rank` directions (`stemjax.inference.posteriors.matrix_free`).

    Args:
        problem: The problem.
        at: A result to start from; the most probable leaves are found first if None.
        rank: Directions; None for a matrix where it is small enough, else 32.
        draws: Draws to return.
        derived: What else is wanted with its standard deviation, by name.
        curvature: `observed_curvature`, `expected_curvature`, or a function like them.
        probes: Draws that variances of large leaves are estimated from; their standard deviations are then known to
            1/sqrt(2 probes) at worst. More if `draws` asks for more.
        seed: Seed.

    Returns:
        `estimate` is the mode, `uncertainty` the standard deviation of every leaf in its unit, `posterior` the Gaussian
        of z; `diagnostics`: `misfit` (deviance of the data beside that of noise alone, where the noise model tells it),
        `step` (the last step to the mode, in standard deviations), `interval` (95 %, ends by path), `weakest` (the
        unknowns that trade most); without a matrix `error` (relative standard error of every standard deviation, by
        path), `pairs` (directions found), `residual` and `change` (what solves and draws were left with).

    Raises:
        InputError: The density is not finite, or neither data nor priors hold some direction; the message names it.
    """
    if probes < 16:
        raise InputError(f"{probes} probes tell neither a variance nor its error; give at least 16")
    if draws < 0:
        raise InputError(f"{draws} draws are too few; give 0 for none, or more")
    problem = ready(problem, search=at is None)
    z, size = place(problem, at), layout(problem).size
    if rank is None and size <= DENSE:
        return _by_matrix(problem, z, curvature or observed_curvature, draws, derived or {}, seed)
    settings = Settings(RANK if rank is None else rank, 2 * (-(-max(probes, draws) // 2)))
    return _by_products(problem, z, curvature or expected_curvature, settings, draws, derived or {}, seed)


def _by_matrix(
    problem: Problem, z: Unconstrained, curvature: Curvature, draws: int, derived: Mapping[str, Derived], seed: int
) -> Result:
    peak = climb(problem, z, curvature)
    posterior = dense_gaussian(peak.z, peak.precision)
    known = {"climbs": peak.climbs, "weakest": {"eigenvalue": peak.least, "unknowns": ", ".join(peak.weakest)}}
    about = f"Gaussian at the mode, all covariances of {layout(problem).size} unknowns"
    point = _at_mode(problem, peak.z, about, peak.step, known, curvature)
    drawn = posterior.draw(jax.random.key(seed), draws) if draws else None
    return with_posterior(point, problem, posterior, draws=drawn, derived=derived)


def _by_products(
    problem: Problem, z: Unconstrained, curvature: Curvature, settings: Settings, draws: int,
    derived: Mapping[str, Derived], seed: int,
) -> Result:  # fmt: skip
    first, second, third = jax.random.split(jax.random.key(seed), 3)
    z, scale, step, climbs = climb_by_products(problem, z, curvature, first)
    posterior, wide = wide_gaussian(problem, z, scale, curvature, settings, second)
    spread = np.sqrt(np.asarray(posterior.variances()))
    known, said = _quality(problem, wide, spread)
    last = float(np.max(np.abs(np.asarray(step)) / spread))
    about = f"Gaussian at the mode of {len(spread)} unknowns, correlations along {known['pairs']} directions; {said}"
    point = _at_mode(problem, z, about, last, {"climbs": climbs} | known, curvature)
    drawn = wide_draws(z, wide, third, draws) if draws else None

    def solved(rows: Array) -> Array:
        return solved_deviations(problem, z, scale, rows, curvature)

    return with_posterior(point, problem, posterior, draws=drawn, derived=derived, deviations=solved)


def _at_mode(
    problem: Problem, z: Unconstrained, about: str, step: float, known: Mapping[str, Any], curvature: Curvature
) -> Result:
    """The mode as a result, with what is known of it."""
    found = step <= FAR
    status = about if found else f"{about}; the mode is not found: the last step was {step:.2g} standard deviations"
    diagnostics = {"step": step, "curvature": getattr(curvature, "__name__", "its own"), **known}
    point = at_point(problem, z, "laplace", status, success=found, diagnostics=diagnostics)
    return judged(point, problem, z)


def _quality(problem: Problem, wide: Wide, spread: np.ndarray) -> tuple[dict[str, Any], str]:
    """How good the variances of a large problem are, in numbers and words."""
    shape = layout(problem)
    _, big = small_and_big(shape)
    error = np.zeros(shape.size)
    error[big] = 0.5 * np.asarray(wide.rest.error) * np.asarray(wide.scale)[big] ** 2 / spread[big] ** 2
    by_leaf = {path: error[part].reshape(shape.shapes[path]) for path, part in shape.slices().items()}
    known: dict[str, Any] = {
        "error": by_leaf,
        "residual": float(wide.residual),
        "change": float(wide.rest.change),
        "pairs": int(np.sum(np.any(np.asarray(wide.pairs.vectors) != 0, axis=0))),
    }
    said = (
        f"standard deviations of large leaves known to {100 * max(float(np.median(e)) for e in by_leaf.values()):.1f} %"
    )
    if max(known["residual"], known["change"]) > LOOSE:
        said += ", and to less where the unknowns hang together over many others: the solves did not converge"
    return known, said
