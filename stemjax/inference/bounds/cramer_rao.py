r"""The Cramér-Rao bound: how sharply the best unbiased estimator could know the unknowns, before anything is measured.

.. math:: \mathrm{cov}(\hat x) \ge B\, F^{-1} B^\mathsf{T}, \qquad F = \sum_i J_i^\mathsf{T} I_i J_i, \quad
    B = \partial x / \partial z

with F the Fisher information about the unconstrained unknowns z, from automatic differentiation of the forward model,
and I the information of one count about its expectation. Leaves that are held fixed count as known; tied ones follow.
With priors their curvature is added, the Bayesian bound at that point (van Trees, Detection, Estimation, and Modulation
Theory I (1968), section 2.4.3; there averaged over the prior, here where the model stands).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.errors import InputError
from stemjax.inference import problem as statement
from stemjax.inference.bounds.blind import (
    Place,
    Spectrum,
    Trade,
    blind_directions,
    place_of,
    spectrum,
    trades,
    weak_directions,
)
from stemjax.inference.bounds.directions import Direction, labelled
from stemjax.inference.curvature import Operator, fisher
from stemjax.inference.derived import Derived, derive, derived_slopes, named_derived
from stemjax.inference.entry import ready
from stemjax.inference.faults import fault
from stemjax.inference.problem import Problem, Unconstrained
from stemjax.inference.result import Named, Result, named_leaves, summary
from stemjax.inference.solvers.mode import Curvature, local_matrix, place
from stemjax.inference.vector import layout

DENSE = 2000
"""Most unknowns whose information is written out as a matrix, if nothing else is asked."""
LABELLED = 64
"""Most unknowns whose correlations are kept."""


@dataclass(frozen=True)
class Bounds:
    """What can be known of the unknowns of a problem, and what cannot; printed, it is a table.

    Args:
        values: Where the bound was taken: free leaves by path, and derived quantities by name.
        deviations: Least standard deviations under the same names; infinite for what the data do not see.
        labels: Unknowns of small leaves whose correlations are known.
        correlation: Their correlations [label label].
        blind: Directions that the data do not see.
        weak: Directions that are seen a hundred times less well than their parts.
        trades: Leaves that trade against each other, the worst first.
        status: A sentence on how the bound was found.
        solved: Relative change of the bounds over the last half of the iterations, where there were any.
    """

    values: Mapping[str, Named]
    deviations: Mapping[str, Named]
    labels: tuple[str, ...]
    correlation: np.ndarray
    blind: tuple[Direction, ...] = ()
    weak: tuple[Direction, ...] = ()
    trades: tuple[Trade, ...] = ()
    status: str = ""
    solved: float = field(default=0.0)

    def __str__(self) -> str:
        known = {name: self.values[name] for name in self.deviations}
        table = summary(Result("cramer_rao", known, self.deviations))
        said = [f"not seen: {one}" for one in self.blind] + [f"hardly seen: {one}" for one in self.weak]
        return "\n".join([table.rstrip("\n"), *said, *map(str, self.trades), self.status])


def cramer_rao(
    problem: Problem,
    *,
    at: Result | Any = None,
    derived: Mapping[str, Derived] | None = None,
    with_priors: bool = False,
    most: int = DENSE,
    iterations: int = 1000,
    probes: int = 0,
    seed: int = 0,
) -> Bounds:
    """The Cramér-Rao bound of every free leaf and of derived quantities.

    Up to `most` unknowns the information is a matrix. Beyond, large leaves are eliminated by conjugate gradients, and
    the bounds are those of small leaves and of derived quantities (`stemjax.inference.bounds.schur`).

    Args:
        problem: The problem; its counts are not looked at, but for masks.
        at: Where the truth is assumed: a result, or a whole model; the first guess if None.
        derived: What else is asked, by name.
        with_priors: Count what the priors tell as well.
        most: Most unknowns for a matrix.
        iterations: Most iterations for one small leaf's element or derived quantity, where there is no matrix.
        probes: Random draws for the bounds of large leaves where there is no matrix, whose standard error is then
            stated; none are given for 0.
        seed: Seed of the draws, and of the random signs that scale the iterations.

    Returns:
        The bounds, in the units of the leaves, with what the data cannot see and what trades in words. In single
        precision rounding hides correlations above 0.999; `stemjax.setup(double=True)` resolves them.

    Raises:
        InputError: The information is not finite; the message says why.

    >>> from flax import struct
    >>> from stemjax.detect.noise import Gaussian
    >>> class Counts(struct.PyTreeNode):
    ...     counts: Any
    >>> line = statement.make_problem(
    ...     {"a": jnp.array(2.0), "b": jnp.array(1.0)}, Counts(jnp.zeros(4)), noise=Gaussian(1.0, 0.0),
    ...     free=["a", "b"], forward=lambda m, i=None: m["a"] + m["b"] * jnp.array([-1.0, -1.0, 1.0, 1.0]))
    >>> print(cramer_rao(line))
    a  2.00 ± 0.50
    b  1.00 ± 0.50
    Cramér-Rao bound of 2 unknowns
    """
    problem = ready(problem, search=False) if with_priors else problem
    (problem, z), wanted = assumed(problem, at), dict(derived or {})
    curvature = informed if with_priors else fisher
    if layout(problem).size > most:
        from stemjax.inference.bounds.schur import Wide, wide_bounds

        return wide_bounds(problem, z, wanted, Wide(curvature, iterations, probes), seed)
    here, found = seen(problem, z, curvature)
    values, deviations = _named(problem, z, wanted, here, found)
    blind = blind_directions(found, here)
    labels, correlation = correlations(found, here)
    status = f"Cramér-Rao bound of {here.shape.size} unknowns{', priors counted' if with_priors else ''}"
    return Bounds(
        values, deviations, labels, correlation, blind, weak_directions(found, here), trades(found, here), status
    )


def informed(problem: Problem, z: Unconstrained) -> Operator:
    """Information of the data, and of the priors where the leaves stand: the curvature of the density of the leaves."""
    data, values = fisher(problem, z), statement.constrained(problem, z)
    maps = statement.bijectors(problem)
    slopes = {path: jax.jvp(maps[path].forward, (z[path],), (jnp.ones_like(z[path]),))[1] for path in z}

    def downhill(values: Unconstrained) -> Unconstrained:
        def total(values: Unconstrained) -> Any:
            each = (jnp.sum(prior.log_prob(values[path])) for path, prior in problem.priors.items())
            return -sum(each, start=jnp.zeros(()))

        return jax.grad(total)(values)

    def product(direction: Unconstrained) -> Unconstrained:
        moves = jax.tree.map(jnp.multiply, slopes, direction)
        turned = jax.jvp(downhill, (values,), (moves,))[1]
        return {path: part + slopes[path] * turned[path] for path, part in data(direction).items()}

    return product


def seen(problem: Problem, z: Unconstrained, curvature: Curvature = fisher) -> tuple[Place, Spectrum]:
    """The information as a matrix, where it was taken and with its eigenvalues.

    Raises:
        InputError: It is not finite.
    """
    information = np.asarray(local_matrix(problem, z, curvature), np.float64)
    if not np.isfinite(information).all():
        raise InputError(
            fault(problem, z)
            or "the Fisher information is not finite although density and gradient are; "
            "move the model off the singular point, or hold a leaf fixed"
        )
    here = place_of(problem, z)
    return here, spectrum(information, here)


def assumed(problem: Problem, at: Result | Any) -> tuple[Problem, Unconstrained]:
    """The problem with its model where the truth is assumed, and the free leaves there, unconstrained."""
    if isinstance(at, Result):
        return problem, place(problem, at)
    there = problem if at is None else problem.replace(experiment=at)
    return there, statement.start(there)


def root_of(found: Spectrum) -> np.ndarray:
    """R with R Rᵀ the inverse of the information, unconstrained; of its seen part [unknown seen]."""
    keep = found.values > found.tolerance
    return found.scale[:, None] * found.vectors[:, keep] / np.sqrt(found.values[keep])[None]


def correlations(found: Spectrum, here: Place) -> tuple[tuple[str, ...], np.ndarray]:
    """Correlations of small leaves, with their names."""
    root = root_of(found)
    chosen: list[int] = []
    for part in sorted(here.shape.slices().values(), key=lambda part: part.stop - part.start):
        if len(chosen) + part.stop - part.start <= LABELLED:
            chosen += range(part.start, part.stop)
    rows = root[sorted(chosen)]
    lengths = np.linalg.norm(rows, axis=1)
    rows = rows / np.where(lengths > 0, lengths, 1.0)[:, None]
    return tuple(labelled(here.shape, number) for number in sorted(chosen)), rows @ rows.T


def hidden_rows(found: Spectrum, rows: np.ndarray, other: np.ndarray | float = 0.0) -> np.ndarray:
    """Which linear functions of the unknowns change along a direction that is not seen [function].

    Args:
        found: The information.
        rows: Derivatives of the functions [function unknown].
        other: Standard deviations that they have anyhow, beside which a change is looked for [function].
    """
    scaled = rows * found.scale[None]
    length = np.maximum(np.linalg.norm(scaled, axis=1), other)
    blind = np.linalg.norm(scaled @ found.null, axis=1) > np.sqrt(found.tolerance) * length
    return blind | (np.abs(rows[:, found.scale == 0]) > 0).any(axis=1)


def _named(
    problem: Problem, z: Unconstrained, derived: Mapping[str, Derived], here: Place, found: Spectrum
) -> tuple[dict[str, Named], dict[str, Named]]:
    """Leaves and derived quantities, and their least standard deviations."""
    root = root_of(found)
    spread = np.where(found.hidden, np.inf, np.abs(here.slopes) * np.linalg.norm(root, axis=1))
    by_leaf = {p: spread[part].reshape(here.shape.shapes[p]) for p, part in here.shape.slices().items()}
    values = named_leaves(problem.experiment, here.values)
    deviations = named_leaves(problem.experiment, by_leaf, "least standard deviation")
    if derived:
        made = derive(problem, derived, z)
        for name, rows in derived_slopes(problem, derived, z).items():
            flat = np.asarray(rows, np.float64).reshape(-1, here.shape.size)
            each = np.where(hidden_rows(found, flat), np.inf, np.linalg.norm(flat @ root, axis=1))
            shaped = each.reshape(np.shape(made[name].value))
            deviations[name] = named_derived(f"least standard deviation of {name}", derived[name], shaped)
            values[name] = made[name]
    return values, deviations
