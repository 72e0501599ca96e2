"""What follows from the unknowns (a distance, a strain, a resolution), with the uncertainty that follows with it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.typing import Array
from stemjax.inference import problem as statement
from stemjax.inference.gaussian import Gaussian
from stemjax.inference.problem import Problem, Unconstrained
from stemjax.inference.result import Named
from stemjax.inference.vector import layout

MOST = 10**8
"""Most elements of a derivative that is written out; beyond it the delta method runs along draws."""

FEW = 64
"""Most elements of a quantity whose standard deviations are worth a solve each."""

PROBES = 200
"""Draws for the delta method where the derivative is too large: standard deviations are then known to 5 %."""


@dataclass(frozen=True)
class Derived:
    """A quantity that a model implies.

    Args:
        function: From the model to an array; a named function, so that programs are not compiled again.
        unit: Its unit.
        long_name: What a person calls it.

    >>> Derived(lambda model: model["a"] ** 2, "Å²").function({"a": 3.0})
    9.0
    """

    function: Callable[[Any], Array]
    unit: str = "1"
    long_name: str = ""


def derive(problem: Problem, derived: Mapping[str, Derived], z: Unconstrained) -> dict[str, Named]:
    """Derived quantities at some unconstrained values, by name."""
    values = _values(problem, z, _plain(problem, derived))
    return {name: named_derived(name, what, values[name]) for name, what in derived.items()}


def derive_draws(problem: Problem, derived: Mapping[str, Derived], draws: Unconstrained) -> dict[str, Named]:
    """Derived quantities of every draw, [draw ...].

    Args:
        problem: The problem.
        derived: The quantities by name.
        draws: Unconstrained values [draw ...] by path.
    """
    values = _values_of_draws(problem, draws, _plain(problem, derived))
    return {name: named_derived(name, what, values[name], ("draw",)) for name, what in derived.items()}


def derived_deviations(
    problem: Problem,
    derived: Mapping[str, Derived],
    posterior: Gaussian,
    deviations: Callable[[Array], Array] | None = None,
) -> dict[str, Named]:
    r"""Standard deviations of derived quantities by the delta method.

    .. math:: \sigma_f^2 = \nabla f^\mathsf{T}\, \Sigma\, \nabla f

    Args:
        problem: The problem.
        derived: The quantities by name.
        posterior: The Gaussian; derivatives are taken at its mean.
        deviations: From gradients [function unknown] to standard deviations, where there is something dearer and
            better than the form of the posterior; asked where a quantity has few elements.
    """
    rows = derived_slopes(problem, derived, posterior.mean)
    found = {}
    for name, what in derived.items():
        if name in rows:
            shape = np.shape(_values(problem, posterior.mean, _plain(problem, derived))[name])
            flat = rows[name].reshape(-1, rows[name].shape[-1])
            better = posterior.deviations if deviations is None or len(flat) > FEW else deviations
            spread = np.asarray(better(flat)).reshape(shape)
        else:
            spread = np.asarray(_along_draws(problem, posterior, name, what))
        found[name] = named_derived(f"standard deviation of {name}", what, spread)
    return found


def derived_slopes(problem: Problem, derived: Mapping[str, Derived], z: Unconstrained) -> dict[str, Array]:
    """Derivatives of derived quantities by every unknown [... unknown], in the order of `layout`.

    Quantities whose derivative has more than 1e8 elements are left out.
    """
    size = layout(problem).size
    values = jax.eval_shape(lambda z: _evaluated(problem, z, tuple(derived.items())), z)
    small = {name: what for name, what in derived.items() if np.prod(values[name].shape) * size <= MOST}
    return _slopes(problem, z, _plain(problem, small)) if small else {}


def named_derived(name: str, what: Derived, value: Any, lead: tuple[str, ...] = ()) -> Named:
    """A derived quantity as a named array, after some leading axes."""
    array = np.asarray(value)
    axes = tuple(f"axis{i}" for i in range(array.ndim - len(lead)))
    about = name if not what.long_name else what.long_name
    return Named(array, what.unit, (*lead, *axes), about)


Plain = tuple[tuple[str, Derived], ...]


def _plain(problem: Problem, derived: Mapping[str, Derived]) -> Plain:
    """Derived quantities as a static argument."""
    for name in derived:
        if name in problem.free:
            raise InputError(f"a derived quantity '{name}' has the name of a free leaf; choose another name")
    return tuple(derived.items())


def _evaluated(problem: Problem, z: Unconstrained, derived: Plain) -> dict[str, Array]:
    model = statement.insert(problem, z)
    return {name: jnp.asarray(what.function(model)) for name, what in derived}


_values = jax.jit(_evaluated, static_argnums=2)


@functools.partial(jax.jit, static_argnums=2)
def _values_of_draws(problem: Problem, draws: Unconstrained, derived: Plain) -> dict[str, Array]:
    return jax.lax.map(lambda z: _evaluated(problem, z, derived), draws)


@functools.partial(jax.jit, static_argnums=2)
def _slopes(problem: Problem, z: Unconstrained, derived: Plain) -> dict[str, Array]:
    shape = layout(problem)

    def values(vector: Array) -> dict[str, Array]:
        return _evaluated(problem, shape.unravel(vector), derived)

    vector = shape.ravel(z)
    outputs = sum(int(np.prod(v.shape)) for v in jax.eval_shape(values, vector).values())
    return jax.jacrev(values)(vector) if outputs < shape.size else jax.jacfwd(values)(vector)


def _along_draws(problem: Problem, posterior: Gaussian, name: str, what: Derived) -> Array:
    draws = posterior.draw(jax.random.key(0), PROBES)
    return _spread_along(problem, posterior.mean, draws, ((name, what),))


@functools.partial(jax.jit, static_argnums=3)
def _spread_along(problem: Problem, mean: Unconstrained, draws: Unconstrained, derived: Plain) -> Array:
    ((name, _),) = derived

    def along(total: Array, draw: Unconstrained) -> tuple[Array, None]:
        step = jax.tree.map(jnp.subtract, draw, mean)
        move = jax.jvp(lambda z: _evaluated(problem, z, derived)[name], (mean,), (step,))[1]
        return total + move**2, None

    start = jnp.zeros_like(_evaluated(problem, mean, derived)[name])
    return jnp.sqrt(jax.lax.scan(along, start, draws)[0] / PROBES)
