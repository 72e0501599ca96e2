"""Records dealt to lanes, and the minibatches of an epoch.

Record i lies in lane i mod L at place i div L, with L a fixed multiple of the devices: every device holds whole lanes,
every batch takes the same number from each, and so the batches do not depend on how many devices there are.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

LANES = 8
"""Lanes where the devices allow it."""


def lane_count(devices: int, records: int) -> int:
    """Number of lanes: a multiple of the devices, 8 where that is one and there are records enough.

    >>> lane_count(2, 100), lane_count(3, 100), lane_count(2, 5)
    (8, 24, 2)
    """
    return math.lcm(LANES, devices) if records >= 2 * math.lcm(LANES, devices) else devices


def deal(tree: Any, lanes: int) -> Any:
    """Arrays [record ...] as [lane stored ...]; missing records at the end repeat the last one.

    >>> deal(np.arange(5), 2).tolist()
    [[0, 2, 4], [1, 3, 4]]
    """

    def one(array: Any) -> Any:
        kind: Any = jnp if isinstance(array, jax.Array) else np
        missing = -array.shape[0] % lanes
        full = kind.concatenate([array, kind.repeat(array[-1:], missing, axis=0)]) if missing else array
        lanewise = full.reshape(-1, lanes, *array.shape[1:]).swapaxes(0, 1)
        return lanewise if kind is jnp else np.ascontiguousarray(lanewise)

    return jax.tree.map(one, tree)


def every_record(records: int, lanes: int) -> tuple[np.ndarray, np.ndarray]:
    """All records in one batch: place in the lane [lane stored] and weight [lane stored], 0 for padding.

    >>> place, weight = every_record(3, 2)
    >>> place.tolist(), weight.tolist()
    ([[0, 1], [0, 1]], [[1.0, 1.0], [1.0, 0.0]])
    """
    stored = -(-records // lanes)
    place = np.broadcast_to(np.arange(stored, dtype=np.int32), (lanes, stored)).copy()
    return place, (place * lanes + np.arange(lanes)[:, None] < records).astype(np.float32)


def batch_shape(records: int, lanes: int, size: int) -> tuple[int, int]:
    """Number of batches in an epoch and of records a lane gives to each.

    >>> batch_shape(100, 8, 32)
    (4, 4)
    """
    stored = -(-records // lanes)
    per_lane = max(1, min(stored, round(size / lanes)))
    return -(-stored // per_lane), per_lane


def shuffled(records: int, lanes: int, size: int, *, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """The batches of one epoch, every record once.

    Args:
        records: Number of records.
        lanes: Number of lanes.
        size: Records in a batch, rounded to a multiple of the lanes.
        seed: Seed of the run.
        epoch: Number of the epoch; with the seed it decides the order, so a resumed run goes on as it would have.

    Returns:
        Place in the lane [batch lane probe] and weight [batch lane probe], 0 for padding.

    >>> index, weight = shuffled(5, 2, 2, seed=0, epoch=0)
    >>> index.shape, float(weight.sum())
    ((3, 2, 1), 5.0)
    """
    count, per_lane = batch_shape(records, lanes, size)
    stored = -(-records // lanes)
    random = np.random.default_rng([seed, epoch])
    index = np.zeros((lanes, count * per_lane), np.int32)
    weight = np.zeros((lanes, count * per_lane), np.float32)
    for lane in range(lanes):
        order = random.permutation(stored)
        index[lane, :stored] = order
        weight[lane, :stored] = order * lanes + lane < records
    split = (lanes, count, per_lane)
    return index.reshape(split).swapaxes(0, 1).copy(), weight.reshape(split).swapaxes(0, 1).copy()


LEAST_HELD_OUT = 8
"""Records held out at least: the mean of fewer says too little."""


def held_out(records: int, share: float, *, seed: int) -> np.ndarray:
    """Which records are held out of a fit [record], the same in every epoch.

    Args:
        records: Number of records.
        share: Share of them; 0 for none. With fewer than `LEAST_HELD_OUT` / 0.1 records none are held out.
        seed: Seed of the run.

    >>> [int(held_out(records, 0.02, seed=0).sum()) for records in (1000, 100, 50)]
    [20, 8, 0]
    """
    chosen = np.zeros(records, bool)
    if share > 0.0 and records >= 10 * LEAST_HELD_OUT:
        number = max(round(share * records), LEAST_HELD_OUT)
        # A stream of its own: the order of the epochs does not depend on it.
        chosen[np.random.default_rng([seed, 1, records]).permutation(records)[:number]] = True
    return chosen


def without(chosen: np.ndarray, batches: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Batches [batch lane probe] with weight zero for chosen records.

    >>> index, weight = without(np.array([True, False]), shuffled(2, 1, 2, seed=0, epoch=0))
    >>> float(weight.sum())
    1.0
    """
    index, weight = batches
    lanes = index.shape[1]
    number = np.minimum(index * lanes + np.arange(lanes)[:, None], len(chosen) - 1)
    return index, np.where(chosen[number], np.float32(0.0), weight)


def batch_of(chosen: np.ndarray, lanes: int) -> tuple[np.ndarray, np.ndarray]:
    """Chosen records as one batch: place in the lane and weight [lane probe], padded to the fullest lane.

    >>> [part.tolist() for part in batch_of(np.array([True, False, True, True]), 2)]
    [[[0, 1], [1, 0]], [[1.0, 1.0], [1.0, 0.0]]]
    """
    records = np.flatnonzero(chosen)
    widest = max(int(np.bincount(records % lanes, minlength=lanes).max(initial=0)), 1)
    index, weight = np.zeros((lanes, widest), np.int32), np.zeros((lanes, widest), np.float32)
    for lane in range(lanes):
        places = records[records % lanes == lane] // lanes
        index[lane, : len(places)], weight[lane, : len(places)] = places, 1.0
    return index, weight
