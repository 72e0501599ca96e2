"""Data that a fit does not see: records, blocks of records, or single elements, left out through masks.

What may be left out together depends on what the fit shall be asked. Probes of an overlapping scan see the same
specimen: the pattern that one of them would record is nearly known from its neighbours, so a fit that misses single
patterns scores better than one that misses a block. Both rank models fairly, as all models miss the same; blocks ask
the harder question, whether a model predicts where nothing was recorded, and the object there may rest on its prior
alone. Elements ask the easiest: a hundredth of all pixels says what the others leave open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from stemjax.core.errors import InputError, nearest
from stemjax.core.typing import Array
from stemjax.inference.data_sets import DataSet, Dealt, expected, groups, log_likelihood, part_of
from stemjax.inference.problem import Problem
from stemjax.inference.trust.simulate import put, where


@dataclass(frozen=True)
class Split:
    """Which part of the data each fold leaves out.

    Args:
        fold: By data set, the fold that leaves out each record [record], or each element [record ...].
        unit: By data set, the unit that each belongs to, in the same shape: what is independent of the rest (a record,
            a block, an element), counted from 0.
        folds: Number of folds.
    """

    fold: Mapping[str, np.ndarray]
    unit: Mapping[str, np.ndarray]
    folds: int

    @property
    def whole(self) -> frozenset[str]:
        """Data sets of which whole records are left out."""
        return frozenset(name for name, number in self.fold.items() if np.ndim(number) == 1)


def leave_out_records(problem: Problem, folds: int = 5, *, seed: int = 0) -> Split:
    """Records left out at random, each by one fold.

    Args:
        problem: The problem; its data sets are divided each by itself.
        folds: Number of folds, at least 2.
        seed: Seed of the choice.

    Raises:
        InputError: A data set has fewer records than there are folds.

    >>> from flax import struct
    >>> from stemjax.detect.noise import Poisson
    >>> from stemjax.inference.problem import make_problem
    >>> class Counts(struct.PyTreeNode):
    ...     counts: Any
    ...     mask: Any = None
    >>> problem = make_problem({"a": jnp.array(1.0)}, Counts(jnp.ones(6)), noise=Poisson(), free=["a"],
    ...                        forward=lambda m, i=None: m["a"] * jnp.ones(6))
    >>> np.bincount(leave_out_records(problem, 3).fold["data"]).tolist()
    [2, 2, 2]
    """
    random, fold, unit = np.random.default_rng(seed), {}, {}
    for name, data in _sets(problem).items():
        _check_folds(folds, data.records, f"records of data set '{name}'", "; of few records, leave out elements")
        fold[name] = random.permutation(np.arange(data.records) % folds)
        unit[name] = np.arange(data.records)
    return Split(fold, unit, folds)


def leave_out_elements(problem: Problem, folds: int = 5, *, seed: int = 0) -> Split:
    """Elements of records (pixels of patterns) left out at random, each by one fold; arguments of `leave_out_records`.

    For data of few records, such as one pattern. Masks then have the size of the data.
    """
    random, fold, unit = np.random.default_rng(seed), {}, {}
    for name, data in _sets(problem).items():
        shape = _shape(data)
        count = int(np.prod(shape))
        _check_folds(folds, count, f"elements of data set '{name}'")
        fold[name] = random.permutation(np.arange(count) % folds).reshape(shape)
        unit[name] = np.arange(count).reshape(shape)
    return Split(fold, unit, folds)


def leave_out_blocks(problem: Problem, places: Any, size: float, folds: int = 5, *, seed: int = 0) -> Split:
    """Square blocks of neighbouring records left out together.

    Args:
        problem: The problem.
        places: Where every record was taken [record 2], or such arrays by data set; records of a line or of a series
            [record 1].
        size: Side of the blocks, in the unit of the places: wider than a probe, so that the middle of a block is seen
            by no record that is kept.
        folds: Number of folds, at least 2; blocks are dealt to them at random.
        seed: Seed of the choice.

    Raises:
        InputError: Places do not fit the records, or there are fewer blocks than folds.
    """
    random, fold, unit = np.random.default_rng(seed), {}, {}
    sets = _sets(problem)
    given = places if isinstance(places, Mapping) else dict.fromkeys(sets, places)
    for name, data in sets.items():
        if name not in given:
            raise InputError(f"no places for data set '{name}'; {nearest(name, given)}")
        block = _blocks(name, np.asarray(given[name], float), data.records, size)
        count = int(block.max()) + 1
        _check_folds(folds, count, f"blocks of data set '{name}'")
        fold[name], unit[name] = random.permutation(np.arange(count) % folds)[block], block
    return Split(fold, unit, folds)


def kept(problem: Problem, split: Split, fold: int) -> Problem:
    """The problem without what a fold leaves out: masked, so that shapes and compiled programs stay."""
    return _weighted(problem, split, lambda number: number != fold)


def left_out(problem: Problem, split: Split, fold: int) -> Problem:
    """The problem with only what a fold leaves out."""
    return _weighted(problem, split, lambda number: number == fold)


def unit_scores(split: Split, values: Mapping[str, Any]) -> np.ndarray:
    """Sums over the units of all data sets, one after the other [unit], of what every record or element scores.

    Args:
        split: The split.
        values: By data set [record] or [record ...], as of `pointwise`.
    """
    sums = []
    for name, unit in split.unit.items():
        weights, count = np.asarray(values[name], float).ravel(), int(unit.max()) + 1
        sums.append(np.bincount(unit.ravel(), weights=weights, minlength=count))
    return np.concatenate(sums)


def pointwise(problem: Problem, model: Any, whole: frozenset[str] = frozenset()) -> dict[str, Array]:
    """Log-likelihood of every element of the data under a model, by data set [record ...]; masks hold.

    Args:
        problem: The problem; its log-likelihood is minus half the deviance where the noise is fixed.
        model: A model like `problem.experiment`.
        whole: Data sets whose elements are summed to records [record].
    """
    found = {}
    for group in groups(problem):
        values = expected(group, model)
        for name, data in group.sets.items():
            each = log_likelihood(data, part_of(model, group.part), values[name])
            found[data.name] = each.reshape(data.records, -1).sum(axis=1) if data.name in whole else each
    return found


def _sets(problem: Problem) -> dict[str, DataSet]:
    return {data.name: data for group in groups(problem) for data in group.sets.values()}


def _shape(data: DataSet) -> tuple[int, ...]:
    if isinstance(data.counts, Dealt):
        return (data.counts.records, *data.counts.lanes.shape[2:])
    return tuple(np.shape(data.counts))


def _check_folds(folds: int, count: int, what: str, hint: str = "") -> None:
    if not 2 <= folds <= count:
        most = f"give from 2 to {count} folds" if count > 1 else "there is nothing to divide"
        raise InputError(f"{folds} folds of {count} {what}; {most}{hint}")


def _blocks(name: str, places: np.ndarray, records: int, size: float) -> np.ndarray:
    """Number of the block of every record."""
    if places.ndim != 2 or len(places) != records:
        raise InputError(f"places of shape {places.shape} for {records} records of '{name}'; give [record 2]")
    if not size > 0:
        raise InputError(f"blocks of size {size:g} hold nothing; give a positive one, in the unit of the places")
    cells = np.floor((places - places.min(axis=0)) / size).astype(int)
    return np.unique(cells, axis=0, return_inverse=True)[1].ravel()


def _weighted(problem: Problem, split: Split, chosen: Callable[[np.ndarray], np.ndarray]) -> Problem:
    """The problem with masks [record ...] that are zero where a fold number is not chosen."""
    measurement = problem.measurement
    for group in groups(problem):
        for name, data in group.sets.items():
            if data.name not in split.fold:
                raise InputError(f"the split knows no data set '{data.name}'; {nearest(data.name, split.fold)}")
            number, shape = split.fold[data.name], _shape(data)
            share = chosen(number).astype(np.float32).reshape(*number.shape, *(1 for _ in shape[number.ndim :]))
            weight = np.broadcast_to(share, shape)
            old = np.asarray(1.0 if data.mask is None else data.mask)
            mask = weight * (old if data.mask_by_record or old.ndim == 0 else old[None])
            measurement = put(measurement, where(group, name), mask=jnp.asarray(mask))
    return problem.replace(measurement=measurement)
