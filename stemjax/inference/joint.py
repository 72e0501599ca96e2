"""Several problems in one: a focal series, an image and patterns of one specimen, a pair at 0 and 90 degrees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from stemjax.core.errors import InputError, nearest
from stemjax.core.paths import leaves, matching
from stemjax.inference.data_sets import Together
from stemjax.inference.problem import Problem, checked
from stemjax.inference.ties import make_ties


def join(
    problems: Mapping[str, Problem], *, shared: Iterable[str] = (), ties: Mapping[str, Any] | None = None
) -> Problem:
    """One problem of several, which share leaves.

    The model of the joint problem is a mapping of the models by name, so a path begins with the name of its part:
    `first.probe.aberrations.C10`. Shared leaves are unknowns of the first part that has them; in the other parts they
    follow it, and priors there are dropped, so that no belief counts twice.

    Args:
        problems: The problems by name.
        shared: Paths, inner nodes or patterns inside a part (`specimen.phase`) whose leaves are the same in all parts
            that have them.
        ties: Further ties, by whole paths: {"second.probe.aberrations.C10": Offset("first.probe.aberrations.C10", 50)}.

    Raises:
        InputError: A name is empty or holds a point, or a shared path is in fewer than two parts or nowhere free.

    >>> import jax.numpy as jnp
    >>> from flax import struct
    >>> from stemjax.detect.noise import Gaussian
    >>> from stemjax.inference.problem import make_problem
    >>> class Counts(struct.PyTreeNode):
    ...     counts: Any
    >>> line = make_problem({"a": jnp.array(1.0)}, Counts(jnp.ones(3)), noise=Gaussian(1.0, 0.0), free=["a"],
    ...                     forward=lambda m, i=None: m["a"] * jnp.ones(3))
    >>> join({"one": line, "two": line}, shared=["a"]).free
    ('one.a',)
    """
    for name in problems:
        if not name or not name.replace("_", "").isalnum():
            raise InputError(f"'{name}' cannot name a part of a joint problem; use letters, digits and underscores")
    model = {name: problem.experiment for name, problem in problems.items()}
    wanted = _inherited(problems) | _shared(problems, list(shared)) | dict(ties or {})
    tied = make_ties(model, wanted)
    follows = dict(tied)
    free = tuple(f"{name}.{path}" for name, p in problems.items() for path in p.free if f"{name}.{path}" not in follows)
    if not free:
        raise InputError("nothing is free in the joint problem: every free leaf follows another")
    priors = {f"{name}.{path}": prior for name, p in problems.items() for path, prior in p.priors.items()}
    joint = Problem(
        experiment=model,
        measurement={name: p.measurement for name, p in problems.items()},
        priors={path: prior for path, prior in priors.items() if path in free},
        forward=Together(tuple((name, p.forward) for name, p in problems.items())),
        noise=tuple((name, p.noise) for name, p in problems.items()),
        free=free,
        ties=tied,
        wells=tuple(
            replace(well, path=f"{name}.{well.path}")
            for name, p in problems.items()
            for well in p.wells
            if f"{name}.{well.path}" in free
        ),
    )
    return checked(joint)


def _inherited(problems: Mapping[str, Problem]) -> dict[str, Any]:
    """Ties inside the parts, by whole paths."""
    return {
        f"{name}.{leaf}": replace(tie, source=f"{name}.{tie.source}")
        for name, problem in problems.items()
        for leaf, tie in problem.ties
    }


def _shared(problems: Mapping[str, Problem], paths: list[str]) -> dict[str, str]:
    """Ties of shared leaves to the first part that frees them, else to the first that has them."""
    known = {name: list(leaves(problem.experiment)) for name, problem in problems.items()}
    everywhere = list(dict.fromkeys(leaf for names in known.values() for leaf in names))
    found: dict[str, str] = {}
    for path in paths:
        for leaf in matching(everywhere, [path]):
            owners = [name for name in problems if leaf in known[name]]
            if len(owners) < 2:
                raise InputError(f"'{leaf}' is in part '{owners[0]}' alone and cannot be shared; {_hint(leaf, known)}")
            first = next((name for name in owners if leaf in problems[name].free), owners[0])
            found |= {f"{name}.{leaf}": f"{first}.{leaf}" for name in owners if name != first}
    return found


def _hint(leaf: str, known: Mapping[str, list[str]]) -> str:
    others = [other for names in known.values() if leaf not in names for other in names]
    return nearest(leaf, others)
