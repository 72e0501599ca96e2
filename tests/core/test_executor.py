"""The executor against plain Python sums: value and every gradient, for any layout, padding and weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemjax.core.errors import InputError
from stemjax.core.executor import Batch, Execution, map_probes, plan, replicate, shard, sum_probes

FIELD, WINDOW = (6, 7), (3, 4)
LAYOUTS = [Execution(devices, chunk) for devices in (1, 2) for chunk in (1, 4)]
layouts = st.sampled_from(LAYOUTS)


def score(shared, patch, item, datum):
    """A scalar that is not linear in anything, of pytrees in every place."""
    wave = patch["t"][0] * jnp.exp(1j * shared["phase"]) + item["place"][0]
    inside = shared["gain"] * jnp.abs(wave) ** 2 + item["place"][1] * patch["t"][1].real
    return jnp.sum(jnp.sin(inside) * datum) + jnp.sum(inside**2)


def problem(lanes, probes, stored, seed):
    """Shared arrays, a field and a batch with repeated records, overlapping windows and some weights of zero."""
    rng = np.random.default_rng(seed)
    shared = {"phase": jnp.asarray(rng.normal(size=WINDOW)), "gain": jnp.asarray(1.3)}
    t = rng.normal(size=(2, *FIELD)) + 1j * rng.normal(size=(2, *FIELD))
    weight = rng.uniform(0.5, 2.0, (lanes, probes)) * (rng.random((lanes, probes)) < 0.8)
    corners = np.stack([rng.integers(0, f - w + 1, (lanes, probes)) for f, w in zip(FIELD, WINDOW, strict=True)], -1)
    batch = Batch(
        {"place": jnp.asarray(rng.normal(size=(lanes, probes, 2)))},
        jnp.asarray(corners),
        jnp.asarray(rng.normal(size=(lanes, stored, *WINDOW))),
        jnp.asarray(rng.integers(0, stored, (lanes, probes))),
        jnp.asarray(weight),
    )
    return shared, {"t": jnp.asarray(t)}, batch


@jax.jit
def plain_sum(shared, field, items, batch):
    """The sum as one would write it down."""
    total = 0.0
    for lane, probe in np.ndindex(batch.weight.shape):
        y, x = batch.corners[lane, probe]
        rows, columns = y + jnp.arange(WINDOW[0]), x + jnp.arange(WINDOW[1])
        patch = {"t": field["t"][:, rows[:, None], columns[None]]}
        item = {"place": items["place"][lane, probe]}
        datum = batch.data[lane, batch.which[lane, probe]]
        total = total + batch.weight[lane, probe] * score(shared, patch, item, datum)
    return total


@functools.partial(jax.jit, static_argnums=4)
def executed_sum(shared, field, items, batch, execution):
    return sum_probes(score, shared, field, batch._replace(items=items), WINDOW, execution)


@functools.partial(jax.jit, static_argnums=(0, 5))
def with_gradients(function, shared, field, items, batch, execution=None):
    """The sum and its gradients in everything that has one."""
    layout = () if execution is None else (execution,)
    return jax.value_and_grad(function, argnums=(0, 1, 2))(shared, field, items, batch, *layout)


def assert_close(found, expected, tolerance=1e-12):
    """Every leaf equal to a part of its largest value."""
    for a, b in zip(*(map(np.asarray, jax.tree.leaves(tree)) for tree in (found, expected)), strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= tolerance * (1 + np.abs(b).max())


@pytest.mark.parametrize("execution", LAYOUTS, ids=str)
@pytest.mark.parametrize(("lanes", "probes", "stored"), [(2, 3, 5), (4, 2, 1), (2, 1, 2)])
def test_sum_and_all_gradients_are_those_of_a_plain_sum(execution, lanes, probes, stored):
    shared, field, batch = problem(lanes, probes, stored, seed=lanes + probes)
    reference = with_gradients(plain_sum, shared, field, batch.items, batch)
    found = with_gradients(executed_sum, shared, field, batch.items, batch, execution)
    assert_close(found, reference)
    assert_close(executed_sum(shared, field, batch.items, batch, execution), reference[0])
    assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(found[1]))


@settings(max_examples=8, deadline=None)
@given(layouts, st.sampled_from([2, 4]), st.integers(1, 3), st.integers(0, 2**31))
def test_any_batch_sums_as_it_should(execution, lanes, probes, seed):
    shared, field, batch = problem(lanes, probes, 3, seed)
    reference = plain_sum(shared, field, batch.items, batch)
    assert_close(executed_sum(shared, field, batch.items, batch, execution), reference)


def test_devices_and_chunks_do_not_change_the_result():
    shared, field, batch = problem(4, 3, 3, seed=11)
    results = [with_gradients(executed_sum, shared, field, batch.items, batch, layout) for layout in LAYOUTS]
    for other in results[1:]:
        assert_close(other, results[0])


def test_weight_zero_counts_nothing():
    shared, field, batch = problem(2, 3, 3, seed=5)
    batch = batch._replace(weight=jnp.array([[1.0, 2.0, 0.0], [0.0, 0.5, 0.0]]))
    wild = {"place": batch.items["place"].at[0, 2].set(1e3).at[1, 0].set(-1e3)}
    value, (_, _, grads) = with_gradients(executed_sum, shared, field, wild, batch, Execution(2, 1))
    assert_close(value, executed_sum(shared, field, batch.items, batch, Execution(2, 1)))
    assert float(jnp.abs(grads["place"][batch.weight == 0]).max()) == 0.0


def test_a_cotangent_scales_every_gradient():
    shared, field, batch = problem(2, 2, 3, seed=6)
    value, (once, _, _) = with_gradients(executed_sum, shared, field, batch.items, batch, Execution())
    squared = jax.grad(lambda s: executed_sum(s, field, batch.items, batch, Execution()) ** 2)(shared)
    assert_close(squared, jax.tree.map(lambda a: 2 * value * a, once))


def test_no_field_is_no_window():
    batch = Batch(jnp.arange(4.0).reshape(2, 2), jnp.zeros((2, 2, 2), int), jnp.ones((2, 1)), jnp.zeros((2, 2), int),
                  jnp.ones((2, 2)))  # fmt: skip
    found = sum_probes(lambda s, patch, x, d: s * x**2 * d, jnp.asarray(2.0), None, batch, (1, 1), Execution(2, 4))
    assert float(found) == 2.0 * (0 + 1 + 4 + 9)


@pytest.mark.parametrize("execution", LAYOUTS, ids=str)
@pytest.mark.parametrize("count", [1, 5, 8])
def test_map_is_a_plain_loop(execution, count):
    rng = np.random.default_rng(count)
    shared, items = jnp.asarray(rng.normal(size=(3, 4))), jnp.asarray(rng.normal(size=(count, 4)))

    def one(shared, item):
        return {"a": jnp.tanh(shared @ item), "b": item[0] ** 2}

    def loss(function):
        return lambda s, i: sum(jnp.sum(jnp.cos(leaf)) for leaf in jax.tree.leaves(function(s, i)))

    def plain(s, i):
        return jax.tree.map(lambda *rows: jnp.stack(rows), *[one(s, item) for item in i])

    def mapped(s, i):
        return map_probes(one, s, i, execution)

    assert_close(mapped(shared, items), plain(shared, items))
    gradients = [jax.grad(loss(f), argnums=(0, 1))(shared, items) for f in (mapped, plain)]
    assert_close(gradients[0], gradients[1])


def test_plan_refuses_devices_that_are_not_there():
    assert plan() == Execution(len(jax.devices()), 1)
    for devices in (0, 99):
        with pytest.raises(InputError, match=f"{devices} devices asked for; this process sees"):
            plan(devices=devices)


def test_arrays_lie_where_they_are_put():
    halves = shard(jnp.arange(8.0).reshape(4, 2), Execution(2))
    assert [s.data.shape for s in halves.addressable_shards] == [(2, 2), (2, 2)]
    copies = replicate(jnp.arange(3.0), Execution(2))
    assert [s.data.shape for s in copies.addressable_shards] == [(3,), (3,)]
