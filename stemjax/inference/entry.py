"""What every solver does first: strengths that the data decide, and a look into all wells."""

from __future__ import annotations

from stemjax.inference.problem import Problem


def ready(problem: Problem, *, search: bool = True) -> Problem:
    """The problem as a solver takes it.

    Args:
        problem: The problem as stated.
        search: Look for the best of the false minima that the problem is known to have (`Problem.wells`); a solver
            that is given a place to start from does not.

    Returns:
        The problem with every strength of a prior settled, and its first guess in the best well.
    """
    from stemjax.inference.priors.strength import settle, unsettled
    from stemjax.inference.solvers.search import search_wells

    if unsettled(problem):
        problem = settle(problem)
    return search_wells(problem) if search and problem.wells else problem
