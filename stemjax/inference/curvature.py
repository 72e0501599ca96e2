r"""How sharply the data and the priors hold the unknowns: Fisher information as an operator and as a matrix.

.. math:: F = \sum_i J_i^\mathsf{T} I_i J_i, \qquad J_i = \partial \mu_i / \partial z, \quad
    I_i = \mathrm{E} (\partial_\mu \log p)^2

The Gauss-Newton matrix of the likelihood with expected instead of observed weights (Fisher scoring): positive whatever
the counts, and the inverse of the Cramér-Rao bound at the truth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from stemjax.core.typing import Array
from stemjax.inference import problem as statement
from stemjax.inference.batches import every_record, lane_count
from stemjax.inference.data_sets import DataSet, Group, expected, groups, lanes_of, masked, noise_of, part_of
from stemjax.inference.problem import Problem, Unconstrained
from stemjax.inference.vector import Layout, layout

Operator = Callable[[Unconstrained], Unconstrained]
"""A symmetric matrix as what it does to a direction."""


def fisher(problem: Problem, z: Unconstrained) -> Operator:
    """The Fisher information of the data about the unknowns, as an operator; no Jacobian is formed.

    Args:
        problem: The problem; its counts are not looked at, but for masks.
        z: Unconstrained values.

    Returns:
        From a direction to its product with F. Built once and called in a loop, inside one `jax.jit`.
    """
    parts = [_of_group(problem, group, z) for group in groups(problem)]

    def product(direction: Unconstrained) -> Unconstrained:
        total = jax.tree.map(jnp.zeros_like, z)
        for part in parts:
            total = jax.tree.map(jnp.add, total, part(direction))
        return total

    return product


def prior_curvature(problem: Problem, z: Unconstrained, *, slope: bool = False) -> Operator:
    """The second derivative of minus the log-density of the priors, as an operator.

    Args:
        problem: The problem.
        z: Unconstrained values.
        slope: Count the volume change of the bijectors (a density of z, not of the leaves).
    """
    downhill = jax.grad(lambda z: -statement.log_prior(problem, z, slope=slope))
    return lambda direction: jax.jvp(downhill, (z,), (direction,))[1]


def posterior_curvature(problem: Problem, z: Unconstrained, *, slope: bool = False) -> Operator:
    """Fisher information of the data plus the curvature of the priors, as an operator."""
    data, prior = fisher(problem, z), prior_curvature(problem, z, slope=slope)
    return lambda direction: jax.tree.map(jnp.add, data(direction), prior(direction))


def matrix(operator: Operator, shape: Layout) -> Array:
    """An operator as a symmetric matrix [unknown unknown], one column after the other.

    >>> matrix(lambda v: {"a": 2.0 * v["a"]}, Layout({"a": (2,)}, 2)).tolist()
    [[2.0, 0.0], [0.0, 2.0]]
    """

    def column(unit: Array) -> Array:
        return shape.ravel(operator(shape.unravel(unit)))

    full = jax.lax.map(column, jnp.eye(shape.size))
    return 0.5 * (full + full.T)


@jax.jit
def fisher_matrix(problem: Problem, z: Unconstrained) -> Array:
    """The Fisher information as a matrix [unknown unknown], in the order of `layout`; for small problems."""
    return matrix(fisher(problem, z), layout(problem))


def fisher_by_columns(problem: Problem, z: Unconstrained) -> Array:
    """The Fisher information as a matrix [unknown unknown], from the Jacobian, which is written out.

    A few times cheaper than `fisher_matrix` where there are few unknowns and what is recorded is small beside what is
    computed (an image beside the waves behind it); most of all where it is differentiated again.
    """
    shape, total = layout(problem), jnp.zeros(())
    vector = shape.ravel(z)
    for group in groups(problem):
        loose = _loose_leaves(problem, group)

        def seen(vector: Array, group: Group = group, loose: tuple[str, ...] = loose) -> Any:
            values = _seen(group, statement.insert(problem, shape.unravel(vector)), loose)
            return values, values

        columns, values = jax.jacfwd(seen, has_aux=True)(vector)
        part = part_of(statement.insert(problem, z), group.part)
        for name, data in group.sets.items():
            weight = _weights(data, part, values[name], loose).ravel()
            each = columns[name].reshape(-1, shape.size)
            total = total + each.T @ (weight[:, None] * each)
    return total


def _of_group(problem: Problem, group: Group, z: Unconstrained) -> Operator:
    def model_of(z: Unconstrained) -> Any:
        return part_of(statement.insert(problem, z), group.part)

    loose = _loose_leaves(problem, group)
    if hasattr(group.forward, "fisher") and set(group.sets) == {""}:
        data = group.sets[""]
        lanes = lanes_of(data, lane_count(statement.devices_of(group.forward), data.records))
        index, weight = every_record(data.records, jax.tree.leaves(lanes)[0].shape[0])
        standard = _standardised(loose) if loose else None
        weigh = _information(data, loose)
        return group.forward.fisher(model_of, z, weigh, lanes, index, jnp.asarray(weight), seen=standard)

    def seen(z: Unconstrained) -> dict[str, Array]:
        return _seen(group, statement.insert(problem, z), loose)

    values, push = jax.linearize(seen, z)
    pull = jax.linear_transpose(push, z)
    weights = {n: _weights(d, model_of(z), values[n], loose) for n, d in group.sets.items()}

    def product(direction: Unconstrained) -> Unconstrained:
        (turned,) = pull({name: weights[name] * move for name, move in push(direction).items()})
        return turned

    return product


def _loose_leaves(problem: Problem, group: Group) -> tuple[str, ...]:
    """Leaves of the camera that are unknown and shape the scatter of its counts; their information is joint."""
    camera = getattr(part_of(problem.experiment, group.part), "camera", None)
    if camera is None or all(data.noise is not None for data in group.sets.values()):
        return ()
    moving = {*problem.free, *(leaf for leaf, tie in problem.ties if tie.source in problem.free)}
    names = getattr(camera, "law_leaves", ())
    return tuple(name for name in names if ".".join((*group.part, "camera", name)) in moving)


def _seen(group: Group, model: Any, loose: tuple[str, ...]) -> dict[str, Array]:
    """What the counts of every data set depend on: expectations, or all parameters of their law, standardised."""
    values = expected(group, model)
    for name, data in group.sets.items():
        if loose and data.noise is None:
            camera = part_of(model, group.part).camera
            values[name] = camera.standardised(values[name], loose)
    return values


def _weights(data: DataSet, part: Any, values: Array, loose: tuple[str, ...]) -> Array:
    """Information of every element of what `_seen` returns."""
    if loose and data.noise is None:
        return jax.vmap(lambda one: masked(data, one))(jnp.ones_like(values))
    return masked(data, noise_of(data, part).information(values))


def _standardised(loose: tuple[str, ...]) -> Callable[..., Array]:
    """All parameters of the law of a record's counts, as the operator of a forward model takes them."""

    def seen(values: Array, camera: Any, table: Any = None) -> Array:
        return camera.standardised(values, loose, table)

    return seen


def _information(data: DataSet, loose: tuple[str, ...]) -> Callable[..., Array]:
    """Information of every element of one record, as the operator of a forward model takes it."""

    def weigh(values: Array, datum: Any, camera: Any = None, table: Any = None) -> Array:
        mask = datum[1] if data.mask_by_record else data.mask
        if loose:
            each = jnp.ones_like(values)
            mask = None if mask is None else mask[None]
        else:
            each = data.noise.information(values) if data.noise is not None else camera.information(values, table)
        return each if mask is None else mask * each

    return weigh
