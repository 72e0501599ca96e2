r"""Chains of the No-U-Turn sampler in whitened coordinates, side by side on the devices.

.. math:: z = m + R x, \qquad R R^\mathsf{T} \approx \mathrm{cov}(z)

In x the posterior is nearly a unit normal, so that few long steps cross it. The kernel is numpyro's (Hoffman & Gelman,
J. Mach. Learn. Res. 15 (2014) 1593); problem and frame are arguments of the compiled program, which is one for warm-up
and draws.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P

from stemjax.core.typing import Array
from stemjax.inference import problem as statement
from stemjax.inference.data_sets import groups
from stemjax.inference.gaussian import Gaussian
from stemjax.inference.problem import Problem, Unconstrained

AXIS = "chain"


@dataclass(frozen=True)
class Nuts:
    """How the sampler steps.

    Args:
        acceptance: Mean acceptance that the warm-up aims its step at; nearer to 1 the steps are smaller and fewer
            trajectories run away.
        depth: A trajectory has at most 2^depth − 1 steps.
        scales: Let the warm-up also learn the widths along the whitened axes; for posteriors far from normal.
    """

    acceptance: float = 0.8
    depth: int = 10
    scales: bool = False


class Trace(NamedTuple):
    """What every draw leaves behind [chain draw ...].

    Args:
        x: Whitened coordinates [chain draw unknown].
        diverging: Whether its trajectory ran away.
        steps: Gradients that it took.
        acceptance: Mean acceptance along it.
        energy: Potential and kinetic energy.
    """

    x: Array
    diverging: Array
    steps: Array
    acceptance: Array
    energy: Array


def potential(problem: Problem, frame: Gaussian) -> Callable[[Array], Array]:
    """Minus the log-density as a function of whitened coordinates, up to a constant."""
    return lambda x: -statement.log_density(problem, placed(frame, x))


def placed(frame: Gaussian, x: Array) -> Unconstrained:
    """Unconstrained leaves of whitened coordinates [unknown]."""
    return jax.tree.map(jnp.add, frame.mean, frame.shape.unravel(frame.coloured(x)))


def chain_devices(problem: Problem, chains: int) -> int:
    """Devices over which chains spread: several where the forward models need but one and can run beside themselves.

    >>> _divisor(4, 2), _divisor(3, 2), _divisor(9, 4)
    (2, 1, 3)
    """
    own = max(statement.devices_of(group.forward) for group in groups(problem))
    devices = _divisor(chains, len(jax.devices())) if own == 1 else 1
    return devices if devices == 1 or _nests(problem, devices) else 1


def unbound(tree: Any) -> Any:
    """Arrays that are tied to one device of several, let loose: chains take them to devices of their own.

    What a compiled program of one device returned, simulated counts for one, is tied to it.

    >>> tied = jax.device_put(jnp.ones(2), jax.devices()[0])
    >>> tied.committed, unbound(tied).committed or len(jax.devices()) == 1
    (True, False)
    """
    if len(jax.devices()) == 1:
        return tree

    def one(leaf: Any) -> Any:
        tied = isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer) and leaf.committed
        return jnp.asarray(np.asarray(leaf)) if tied and len(leaf.sharding.device_set) == 1 else leaf

    return jax.tree.map(one, tree)


def _divisor(chains: int, devices: int) -> int:
    """The most devices that take the same number of chains each."""
    return max(n for n in range(1, devices + 1) if chains % n == 0)


def _nests(problem: Problem, devices: int) -> bool:
    """Whether the density can be traced inside a loop over devices; a model that lays out its own devices cannot."""
    z = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (devices, *leaf.shape)), statement.start(problem))
    try:
        _densities.eval_shape(problem, z, devices)
    except (ValueError, NotImplementedError):
        return False
    return True


@functools.partial(jax.jit, static_argnums=2)
def _densities(problem: Problem, z: Unconstrained, devices: int) -> Array:
    """Log-density of one place a device: under jit, so that problems of the same shapes are traced once."""
    return side_by_side(statement.log_density, devices)(problem, z)


@functools.partial(jax.jit, static_argnames=("warmup", "draws", "nuts", "devices"))
def begin(
    problem: Problem, frame: Gaussian, starts: Array, keys: Array, *, warmup: int, draws: int, nuts: Nuts, devices: int
) -> tuple[Any, Trace]:
    """State of every chain and room for its draws.

    Args:
        problem: The problem.
        frame: The coordinates.
        starts: Whitened coordinates [chain unknown].
        keys: A random key a chain [chain].
        warmup: Steps of warm-up.
        draws: Draws that are kept.
        nuts: How the sampler steps.
        devices: Devices over which the chains spread.
    """
    from numpyro.infer.util import ParamInfo

    def one(given: tuple[Problem, Gaussian], start: Array, key: Array) -> tuple[Any, Trace]:
        problem, frame = given
        value, slope = jax.value_and_grad(potential(problem, frame))(start)
        first, _ = _kernels(problem, frame, warmup, nuts)
        room = Trace(*(jnp.zeros((draws, *s), t) for s, t in _kept(start, value)))
        return first(ParamInfo(start, value, slope), key), room

    return side_by_side(one, devices)((problem, frame), starts, keys)


def started(state: Any) -> Array:
    """Which chains begin where the density and its gradient are finite [chain]."""
    return jnp.isfinite(state.potential_energy) & jnp.isfinite(state.z_grad).all(axis=-1)


@functools.partial(jax.jit, static_argnames=("warmup", "nuts", "devices"), donate_argnames=("state", "trace"))
def advance(
    problem: Problem, frame: Gaussian, state: Any, trace: Trace, last: Array, *, warmup: int, nuts: Nuts, devices: int
) -> tuple[Any, Trace]:
    """Take every chain to a step.

    Args:
        problem: The problem.
        frame: The coordinates.
        state: State of every chain.
        trace: Draws so far; those of the warm-up are overwritten.
        last: Number of the step before which to stop, counted from the start of the warm-up.
        warmup: Steps of warm-up.
        nuts: How the sampler steps.
        devices: Devices over which the chains spread.
    """

    def one(given: tuple[Problem, Gaussian, Array], state: Any, trace: Trace) -> tuple[Any, Trace]:
        problem, frame, last = given
        _, step = _kernels(problem, frame, warmup, nuts)

        def body(carry: tuple[Any, Trace]) -> tuple[Any, Trace]:
            state, trace = carry
            place = jnp.maximum(state.i - warmup, 0)
            state = step(state)
            found = Trace(state.z, state.diverging, state.num_steps, state.accept_prob, state.energy)
            kept = jax.tree.map(lambda room, new: room.at[place].set(new.astype(room.dtype)), trace, found)
            return state, kept

        return jax.lax.while_loop(lambda carry: carry[0].i < last, body, (state, trace))

    return side_by_side(one, devices)((problem, frame, last), state, trace)


def _kernels(problem: Problem, frame: Gaussian, warmup: int, nuts: Nuts) -> tuple[Callable, Callable]:
    """numpyro's kernels: from a start to the state of a chain, and from one state to the next."""
    from numpyro.infer.hmc import hmc

    start, step = hmc(potential_fn_gen=lambda *given: potential(*given), algo="NUTS")

    def first(begin: Any, key: Array) -> Any:
        return start(
            begin, warmup, adapt_mass_matrix=nuts.scales, target_accept_prob=nuts.acceptance,
            max_tree_depth=nuts.depth, model_args=(problem, frame), rng_key=key,
        )  # fmt: skip

    def following(state: Any) -> Any:
        # The kernel learns its settings where a chain begins; nothing of this call is computed.
        zero = jax.tree.map(jnp.zeros_like, state)
        from numpyro.infer.util import ParamInfo

        first(ParamInfo(zero.z, zero.potential_energy, zero.z_grad), state.rng_key)
        return step(state, (problem, frame))

    return first, following


def _kept(start: Array, value: Array) -> list[tuple[tuple[int, ...], Any]]:
    """Shape and type of what a draw leaves behind, in the order of `Trace`."""
    return [(start.shape, start.dtype), ((), bool), ((), jnp.int32), ((), value.dtype), ((), value.dtype)]


def side_by_side(function: Callable, devices: int) -> Callable:
    """`function(shared, *one chain)` of all chains: over devices, on each of them one after the other.

    On an accelerator the chains of a device go in step, vectorised.
    """

    def local(shared: Any, *own: Any) -> Any:
        if _in_step():
            return jax.vmap(lambda *chain: function(shared, *chain))(*own)
        return jax.lax.map(lambda chain: function(shared, *chain), own)

    if devices == 1:
        return local

    def spread(shared: Any, *own: Any) -> Any:
        parts = (P(), *(P(AXIS) for _ in own))
        return jax.shard_map(local, mesh=_mesh(devices), in_specs=parts, out_specs=P(AXIS), check_vma=False)(
            shared, *own
        )

    return spread


def _in_step() -> bool:
    """Whether the chains of a device go in step: on an accelerator, which one chain does not fill."""
    return jax.devices()[0].platform != "cpu"


@functools.cache
def _mesh(devices: int) -> Mesh:
    return jax.make_mesh((devices,), (AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
