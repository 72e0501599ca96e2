"""Where probes run: which device takes which, how many at a time, and how sums over them are differentiated.

Physics functions take one probe. On a CPU, XLA runs the Fourier transforms of a compiled program on one core, so every
core is made a device of its own (`stemjax.setup`) and takes one probe at a time; on a GPU chunks of probes are
vectorised. The same code serves a cluster: more devices on the one mesh axis, named `probe`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from stemjax.core.errors import InputError

AXIS = "probe"


@dataclass(frozen=True)
class Execution:
    """How a loop over probes is laid out; hashable, so that it can be static.

    Args:
        devices: Number of devices on the axis `probe`.
        chunk: Probes that one device computes at once: 1 on a CPU (its cache holds one), more on a GPU.
    """

    devices: int = 1
    chunk: int = 1


def plan(devices: int | None = None, chunk: int | None = None) -> Execution:
    """The layout for the machine at hand.

    Args:
        devices: Devices to use; all if left out.
        chunk: Probes at once on one device; 1 on a CPU and 64 elsewhere if left out.

    Raises:
        InputError: More devices are asked for than there are.

    >>> plan(devices=1).devices
    1
    """
    available = jax.devices()
    count = len(available) if devices is None else devices
    if not 1 <= count <= len(available):
        raise InputError(f"{count} devices asked for; this process sees {len(available)} ({available[0].platform})")
    return Execution(count, chunk or (1 if available[0].platform == "cpu" else 64))


@functools.cache
def mesh(execution: Execution) -> Mesh:
    """The mesh of the first devices, one axis `probe`."""
    return jax.make_mesh(
        (execution.devices,), (AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices()[: execution.devices]
    )


def shard(tree: Any, execution: Execution) -> Any:
    """Put arrays on the devices, split along their first axis.

    >>> shard(jnp.zeros((4, 2)), Execution()).shape
    (4, 2)
    """
    return jax.device_put(tree, NamedSharding(mesh(execution), P(AXIS)))


def replicate(tree: Any, execution: Execution) -> Any:
    """Put a copy of arrays on every device.

    >>> replicate(jnp.zeros(3), Execution()).shape
    (3,)
    """
    return jax.device_put(tree, NamedSharding(mesh(execution), P()))


def map_probes(function: Callable, shared: Any, items: Any, execution: Execution) -> Any:
    """Apply a function of one probe to many, over all devices.

    Args:
        function: `function(shared, item) -> output`, any pytrees of arrays.
        shared: What all probes have in common; on every device.
        items: What differs, stacked along the first axis [probe ...].
        execution: The layout.

    Returns:
        Outputs stacked along the first axis. Differentiable; its gradient stores what every probe needs. For sums
        over probes use `sum_probes`, whose memory does not grow with their number.

    >>> map_probes(lambda s, i: s * i, 2.0, jnp.arange(3.0), Execution()).tolist()
    [0.0, 2.0, 4.0]
    """
    count = jax.tree.leaves(items)[0].shape[0]
    per_device = -(-count // execution.devices)
    chunk = min(execution.chunk, per_device)
    padded = execution.devices * chunk * -(-per_device // chunk)
    # The last probe is repeated to fill the last chunk: a real probe, so nothing undefined enters the arithmetic.
    items = jax.tree.map(lambda a: jnp.concatenate([a, jnp.repeat(a[-1:], padded - count, axis=0)]), items)

    def local(shared: Any, items: Any) -> Any:
        each = functools.partial(function, shared)
        if chunk == 1:
            return jax.lax.map(each, items)
        chunks = jax.tree.map(lambda a: a.reshape(-1, chunk, *a.shape[1:]), items)
        out = jax.lax.map(jax.vmap(each), chunks)
        return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), out)

    spread = _spread(local, execution, (P(), P(AXIS)), P(AXIS))
    return jax.tree.map(lambda a: a[:count], spread(shared, items))


class Batch(NamedTuple):
    """The probes of one sum, dealt to lanes: the first axis is split over the devices.

    Args:
        items: What differs from probe to probe and may be differentiated, [lane probe ...].
        corners: Pixel (y, x) of the first corner of every probe's window in the fields [lane probe 2], integers.
        data: What was recorded, [lane stored ...]; not differentiated.
        which: Which stored record each probe compares with, [lane probe].
        weight: Weight of every probe in the sum [lane probe]; 0 for padding.
    """

    items: Any
    corners: jax.Array
    data: Any
    which: jax.Array
    weight: jax.Array


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 4, 5))
def sum_probes(
    function: Callable, shared: Any, field: Any, batch: Batch, window: tuple[int, int], execution: Execution
) -> jax.Array:
    r"""Weighted sum over probes of a scalar function, with value and gradient from one pass.

    .. math:: L = \sum_i w_i f(s, F|_{c_i}, x_i, d_i)

    Differentiated, every probe is sent forwards and backwards before the next one starts, and its part of the gradient
    is added in place; memory then depends on one chunk of probes, not on the batch.

    Args:
        function: `function(shared, patch, item, datum) -> scalar`.
        shared: Pytree of floating arrays that all probes share.
        field: Pytree of arrays [... ny nx] of which every probe sees a window, or None.
        batch: The probes.
        window: Shape (ny, nx) of the window.
        execution: The layout.

    Returns:
        The sum, a scalar. Reverse mode only (a custom VJP).

    >>> batch = Batch(jnp.ones((1, 2)), jnp.zeros((1, 2, 2), int), jnp.array([[3.0, 4.0]]),
    ...               jnp.array([[0, 1]]), jnp.ones((1, 2)))
    >>> f = lambda s, patch, x, d: s * x * d * patch.sum()
    >>> float(sum_probes(f, jnp.array(2.0), jnp.ones((2, 2)), batch, (1, 1), Execution()))
    14.0
    >>> float(jax.grad(lambda s: sum_probes(f, s, jnp.ones((2, 2)), batch, (1, 1), Execution()))(jnp.array(2.0)))
    7.0
    """

    def local(shared: Any, field: Any, batch: Batch) -> jax.Array:
        def body(total: jax.Array, chunk: Any) -> tuple[jax.Array, None]:
            items, corners, place, weight = chunk
            data = _records(batch.data, place)
            return total + _weighted(function, shared, _windows(field, corners, window), items, data, weight), None

        total, _ = jax.lax.scan(body, jnp.zeros(()), _chunks(batch, execution.chunk))
        return _over_devices(total, execution)

    return _spread(local, execution, (P(), P(), P(AXIS)), P())(shared, field, batch)


def _sum_forward(
    function: Callable, shared: Any, field: Any, batch: Batch, window: tuple[int, int], execution: Execution
) -> tuple[jax.Array, Any]:
    def local(shared: Any, field: Any, batch: Batch) -> Any:
        def body(carry: Any, chunk: Any) -> tuple[Any, Any]:
            total, ct_shared, ct_field = carry
            items, corners, place, weight = chunk
            data = _records(batch.data, place)
            value, pull = jax.vjp(
                lambda s, f, x: _weighted(function, s, f, x, data, weight),
                shared, _windows(field, corners, window), items,
            )  # fmt: skip
            add_shared, add_window, ct_items = pull(jnp.ones_like(value))
            ct_shared = jax.tree.map(jnp.add, ct_shared, add_shared)
            return (total + value, ct_shared, _add_windows(ct_field, add_window, corners, window)), ct_items

        start = jnp.zeros(()), jax.tree.map(jnp.zeros_like, shared), jax.tree.map(jnp.zeros_like, field)
        (total, ct_shared, ct_field), ct_items = jax.lax.scan(body, start, _chunks(batch, execution.chunk))
        return _over_devices((total, ct_shared, ct_field), execution), _unchunked(ct_items, batch)

    spread = _spread(local, execution, (P(), P(), P(AXIS)), (P(), P(AXIS)))
    (total, ct_shared, ct_field), ct_items = spread(shared, field, batch)
    return total, (ct_shared, ct_field, ct_items)


def _sum_backward(
    _function: Callable, _window: tuple[int, int], _execution: Execution, saved: Any, cotangent: jax.Array
) -> tuple[Any, Any, Any]:
    ct_shared, ct_field, ct_items = jax.tree.map(lambda g: cotangent.astype(g.dtype) * g, saved)
    return ct_shared, ct_field, Batch(ct_items, None, None, None, None)  # type: ignore[arg-type]


sum_probes.defvjp(_sum_forward, _sum_backward)


def curvature_probes(
    function: Callable, weigh: Callable, shared: Any, field: Any, batch: Batch,
    window: tuple[int, int], execution: Execution, directions: tuple[Any, Any, Any],
) -> tuple[Any, Any, Any]:  # fmt: skip
    r"""Product of a direction with the Gauss-Newton matrix of all probes, one probe after the other.

    .. math:: \sum_i w_i J_i^\mathsf{T} W_i J_i\, v, \qquad J_i = \partial f(s, F|_{c_i}, x_i) / \partial (s, F, x_i)

    Args:
        function: `function(shared, patch, item) -> array`, such as expected counts.
        weigh: `weigh(shared, value, datum) -> array`, the diagonal W, such as an inverse variance.
        shared: Pytree of floating arrays that all probes share.
        field: Pytree of arrays [... ny nx] of which every probe sees a window, or None.
        batch: The probes.
        window: Shape (ny, nx) of the window.
        execution: The layout.
        directions: v: trees like `shared`, `field` and `batch.items`.

    Returns:
        Trees like `shared`, `field` and `batch.items`. No Jacobian is formed; memory is that of one chunk.

    >>> batch = Batch(jnp.ones((1, 2)), jnp.zeros((1, 2, 2), int), jnp.ones((1, 2, 1, 1)), jnp.array([[0, 1]]),
    ...               jnp.ones((1, 2)))
    >>> f, one = (lambda s, patch, x: s * x * patch), (lambda s, value, d: d)
    >>> v = (jnp.array(1.0), jnp.zeros((2, 2)), jnp.zeros((1, 2)))
    >>> float(curvature_probes(f, one, jnp.array(2.0), jnp.ones((2, 2)), batch, (1, 1), Execution(), v)[0])
    2.0
    """

    def local(shared: Any, field: Any, batch: Batch, directions: Any) -> Any:
        along, across, each = directions
        both = batch._replace(items=(batch.items, each))

        def body(carry: Any, chunk: Any) -> tuple[Any, Any]:
            (items, moves), corners, place, weight = chunk
            data = _records(batch.data, place)
            patches, steps = (_windows(f, corners, window) for f in (field, across))

            def values(s: Any, f: Any, x: Any) -> Any:
                return _each(function, s, (f, x), weight.shape[0])

            value, push = jax.linearize(values, shared, patches, items)
            weights = _each(weigh, shared, (value, data), weight.shape[0])
            scale = weight.reshape(-1, *(1 for _ in range(value.ndim - 1))).astype(value.dtype)
            pull = jax.linear_transpose(push, shared, patches, items)
            add_shared, add_window, add_items = pull(scale * weights * push(along, steps, moves))
            sum_shared, sum_field = carry
            sum_shared = jax.tree.map(jnp.add, sum_shared, add_shared)
            return (sum_shared, _add_windows(sum_field, add_window, corners, window)), add_items

        start = jax.tree.map(jnp.zeros_like, shared), jax.tree.map(jnp.zeros_like, field)
        (sum_shared, sum_field), items = jax.lax.scan(body, start, _chunks(both, execution.chunk))
        return _over_devices((sum_shared, sum_field), execution), _unchunked(items, batch)

    split = (P(), P(), P(AXIS))
    spread = _spread(local, execution, (*split, split), ((P(), P()), P(AXIS)))
    (sum_shared, sum_field), items = spread(shared, field, batch, directions)
    return sum_shared, sum_field, items


def _spread(local: Callable, execution: Execution, in_specs: Any, out_specs: Any) -> Callable:
    """A function of what one device holds as a function of all; inside another loop over devices, itself.

    Compiled as a whole: called outside of any jit, jax would compile every operation of a `shard_map` by itself.
    Chains of a sampler lie on devices of their own, and each runs its probes where it is; jax nests no mesh in a mesh.
    """
    if execution.devices == 1 and not jax.sharding.get_abstract_mesh().empty:
        return local
    return jax.jit(jax.shard_map(local, mesh=mesh(execution), in_specs=in_specs, out_specs=out_specs, check_vma=False))


def _over_devices(sums: Any, execution: Execution) -> Any:
    return sums if execution.devices == 1 else jax.lax.psum(sums, AXIS)


def _each(function: Callable, shared: Any, items: tuple[Any, ...], count: int) -> Any:
    """A function of every probe of a chunk [chunk ...]; a chunk of one stays free of a batch axis inside."""
    if count == 1:
        value = function(shared, *(jax.tree.map(lambda a: a[0], item) for item in items))
        return jax.tree.map(lambda a: a[None], value)
    return jax.vmap(lambda *item: function(shared, *item))(*items)


def _unchunked(items: Any, batch: Batch) -> Any:
    """Arrays [chunks chunk ...] as [lane probe ...], padding left out."""
    lanes, probes = batch.weight.shape

    def one(array: jax.Array) -> jax.Array:
        return array.reshape(-1, *array.shape[2:])[: lanes * probes].reshape(lanes, probes, *array.shape[2:])

    return jax.tree.map(one, items)


def _weighted(function: Callable, shared: Any, windows: Any, items: Any, data: Any, weight: jax.Array) -> jax.Array:
    """Weighted sum over one chunk; a chunk of one stays free of a batch axis, which XLA's CPU code handles better."""
    if weight.shape[0] == 1:
        one = jax.tree.map(lambda a: a[0], (windows, items, data))
        return weight[0] * function(shared, *one)
    values = jax.vmap(lambda f, x, d: function(shared, f, x, d))(windows, items, data)
    return jnp.sum(weight * values)


def _chunks(batch: Batch, chunk: int) -> Any:
    """Items, corners, places of records, weights of the local probes [chunks chunk ...]; padding weighs zero."""
    lanes, probes = batch.weight.shape
    lane = jnp.broadcast_to(jnp.arange(lanes)[:, None], (lanes, probes))
    count = lanes * probes
    size = min(chunk, count)
    padding = -count % size

    def split(a: jax.Array, fill: bool = True) -> jax.Array:
        flat = a.reshape(count, *a.shape[2:])
        tail = jnp.repeat(flat[-1:], padding, axis=0) if fill else jnp.zeros((padding, *flat.shape[1:]), flat.dtype)
        return jnp.concatenate([flat, tail]).reshape(-1, size, *flat.shape[1:])

    return (*jax.tree.map(split, (batch.items, batch.corners, (lane, batch.which))), split(batch.weight, fill=False))


def _records(data: Any, place: tuple[jax.Array, jax.Array]) -> Any:
    """The records [chunk ...] at (lane, which), taken when they are needed: a batch of them is never copied."""
    lane, which = place
    if lane.shape[0] > 1:
        return jax.tree.map(lambda d: d[lane, which], data)

    def one(array: jax.Array) -> jax.Array:
        start: list[Any] = [lane[0].astype(int), which[0].astype(int), *(0 for _ in array.shape[2:])]
        return jax.lax.dynamic_slice(array, start, (1, 1, *array.shape[2:]))[0]

    return jax.tree.map(one, data)


def _slice(array: jax.Array, corner: jax.Array, window: tuple[int, int]) -> jax.Array:
    lead = array.shape[:-2]
    start: list[Any] = [*(0 for _ in lead), corner[0], corner[1]]
    return jax.lax.dynamic_slice(array, start, (*lead, *window))


def _windows(field: Any, corners: jax.Array, window: tuple[int, int]) -> Any:
    """The windows [chunk ... ny nx] of a field at the corners [chunk 2]."""
    if corners.shape[0] == 1:
        return jax.tree.map(lambda a: _slice(a, corners[0], window)[None], field)
    return jax.tree.map(lambda a: jax.vmap(lambda c: _slice(a, c, window))(corners), field)


def _add_windows(field: Any, windows: Any, corners: jax.Array, window: tuple[int, int]) -> Any:
    """Add windows [chunk ... ny nx] into the field where they were taken."""
    if corners.shape[0] > 1:
        pull = jax.linear_transpose(lambda f: _windows(f, corners, window), field)
        return jax.tree.map(jnp.add, field, pull(windows)[0])

    def add(array: jax.Array, patch: jax.Array) -> jax.Array:
        flat = array.reshape(-1, *array.shape[-2:])
        layers = patch.reshape(flat.shape[0], *window)

        # One layer after the other: adding a whole stack at once would hold it three times.
        def layer(index: jax.Array, field: jax.Array) -> jax.Array:
            start = (index, corners[0, 0], corners[0, 1])
            there = jax.lax.dynamic_slice(field, start, (1, *window))
            return jax.lax.dynamic_update_slice(field, there + layers[index][None], start)

        return jax.lax.fori_loop(0, flat.shape[0], layer, flat).reshape(array.shape)

    return jax.tree.map(add, field, windows)
