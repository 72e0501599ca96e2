"""From where a solver ended to the result that it returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from stemjax.inference import problem as statement
from stemjax.inference.problem import Problem, Unconstrained
from stemjax.inference.result import Result, named_leaves


def at_point(
    problem: Problem,
    z: Unconstrained,
    solver: str,
    status: str,
    *,
    success: bool = True,
    history: Mapping[str, Any] | None = None,
    diagnostics: Mapping[str, Any] | None = None,
    state: Any = None,
) -> Result:
    """The result of a solver that ends at one point, without error bars.

    Args:
        problem: The problem.
        z: Where it ended, unconstrained.
        solver: Name of the solver.
        status: How it ended, a sentence.
        success: Whether it ended as it should.
        history: Arrays by name: `loss`, ...
        diagnostics: More of it.
        state: What the solver needs to go on.
    """
    values = {path: np.asarray(v) for path, v in statement.constrained(problem, z).items()}
    return Result(
        problem=solver,
        estimate=named_leaves(problem.experiment, values),
        history=dict(history or {}),
        diagnostics=dict(diagnostics or {}),
        status=status,
        success=success,
        value=jax.tree.map(np.asarray, statement.insert(problem, z)),
        state=state,
    )
