"""The priors of a problem one by one: which leaf each belongs to, and which have no scale yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from stemjax.inference.priors.images import Positive, Product
from stemjax.inference.problem import Problem


class Part(NamedTuple):
    """A factor of the prior of a leaf."""

    path: str
    prior: Any


def parts(problem: Problem) -> dict[str, Part]:
    """All priors with a scale, by the path of their leaf and, where a leaf has several, their number."""
    found = {}
    for path, prior in problem.priors.items():
        each = list(factors(prior))
        for number, factor in enumerate(each):
            if hasattr(factor, "deviations"):
                found[path if len(each) == 1 else f"{path}#{number}"] = Part(path, factor)
    return found


def factors(prior: Any) -> Iterator[Any]:
    """The factors of a product, or the prior itself."""
    if isinstance(prior, Product):
        for factor in prior.factors:
            yield from factors(factor)
    else:
        yield prior


def sole(problem: Problem, path: str) -> bool:
    """Whether but one prior gives a leaf a density."""
    return sum(not isinstance(f, Positive) for f in factors(problem.priors[path])) == 1


def is_open(prior: Any) -> bool:
    """Whether the scale of a prior was left out.

    >>> is_open(Positive())
    False
    """
    return getattr(prior, "scale", 1.0) is None


def with_scales(problem: Problem, scales: Mapping[str, Any]) -> Problem:
    """The problem with some scales in place."""
    return problem.replace(priors={p: _placed(p, prior, scales) for p, prior in problem.priors.items()})


def _placed(path: str, prior: Any, scales: Mapping[str, Any]) -> Any:
    if not isinstance(prior, Product):
        return prior.replace(scale=scales[path]) if path in scales else prior
    each = enumerate(factors(prior))
    return Product(tuple(f.replace(scale=scales[n]) if (n := f"{path}#{i}") in scales else f for i, f in each))
