"""The data sets of a problem: what was recorded, what is expected there, and how it is noisy.

A forward model returns one array [record ...] or a mapping of arrays by name, and `Together` runs several models side
by side. Here all of that becomes a flat list of data sets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.errors import InputError, nearest
from stemjax.core.typing import Array
from stemjax.inference.batches import deal


class Dealt(struct.PyTreeNode):
    """Records dealt to lanes, and those split over devices (`stemjax.inference.batches`).

    Args:
        lanes: The records [lane stored ...].
        records: Number of records; what is stored beyond it repeats the last one.
    """

    lanes: Any
    records: int = struct.field(pytree_node=False)


@dataclass(frozen=True)
class Together:
    """Forward models side by side, each on its own part of a model that is a mapping; made by `stemjax.join`.

    Args:
        parts: Name of a part and its forward model.
    """

    parts: tuple[tuple[str, Callable], ...]

    def __call__(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """What every part expects, by name."""
        return {name: forward(model[name]) for name, forward in self.parts}


class Group(NamedTuple):
    """A forward model and the data sets that one call of it serves.

    Args:
        part: Names that lead from the whole model to the forward model's own part.
        forward: `forward(part of the model) -> expected`, an array or a mapping.
        sets: Data sets by name of the signal; the name is "" where the forward model returns one array.
    """

    part: tuple[str, ...]
    forward: Any
    sets: dict[str, DataSet]


class DataSet(NamedTuple):
    """One recorded array.

    Args:
        name: What a person calls it: the names of part and signal, joined by points; "data" where there is but one.
        counts: [record ...], or `Dealt`.
        mask: Weight of every element [...] or [record ...], or None.
        noise: Its noise model; None for the camera of the part's model.
    """

    name: str
    counts: Any
    mask: Any
    noise: Any

    @property
    def records(self) -> int:
        """Number of records."""
        return self.counts.records if isinstance(self.counts, Dealt) else self.counts.shape[0]

    @property
    def flat(self) -> Any:
        """The counts [record ...], whether dealt or not."""
        if not isinstance(self.counts, Dealt):
            return self.counts
        lanes = self.counts.lanes
        return jnp.swapaxes(lanes, 0, 1).reshape(-1, *lanes.shape[2:])[: self.counts.records]

    @property
    def mask_by_record(self) -> bool:
        """Whether every record has a mask of its own."""
        axes = self.counts.lanes.ndim - 1 if isinstance(self.counts, Dealt) else np.ndim(self.counts)
        return self.mask is not None and np.ndim(self.mask) == axes


def groups(problem: Any) -> list[Group]:
    """The data sets of a problem, those of one call of a forward model together."""
    return list(_groups(problem.forward, problem.measurement, problem.noise, ()))


def part_of(model: Any, part: tuple[str, ...]) -> Any:
    """The part of a model that a forward model sees."""
    for name in part:
        model = model[name]
    return model


def noise_of(data: DataSet, model: Any) -> Any:
    """The noise model of a data set: its own, or the camera of its part of the model (`part_of`)."""
    return getattr(model, "camera", None) if data.noise is None else data.noise


def expected(group: Group, model: Any) -> dict[str, Array]:
    """What a group expects of the whole model, by signal; differentiable in every way."""
    values = group.forward(part_of(model, group.part))
    return {"": values} if "" in group.sets else {name: values[name] for name in group.sets}


def masked(data: DataSet, values: Array) -> Array:
    """Values [record ...] times the mask."""
    if data.mask is None:
        return values
    return values * (data.mask if data.mask_by_record else jnp.asarray(data.mask)[None])


def log_likelihood(data: DataSet, model: Any, values: Array) -> Array:
    """Log-likelihood of every element [record ...] of a data set: minus half the deviance where the noise is fixed.

    Args:
        data: The data set.
        model: Its part of the model.
        values: What is expected [record ...].
    """
    noise = noise_of(data, model)
    score = noise.log_prob(data.flat, values)
    # A camera's own leaves change what a perfect model would score, so that term must stay in the density.
    return masked(data, score if data.noise is None else score - noise.best(data.flat))


def score(data: DataSet) -> Callable[..., Array]:
    """Log-likelihood of one record against its expectation, as the sum over records of a forward model takes it.

    Returns:
        `one(expected, datum, camera=None)`, the datum from `lanes_of`; minus half the deviance, 0 for a perfect model.
    """

    def one(values: Array, datum: Any, camera: Any = None) -> Array:
        counts, mask = datum if data.mask_by_record else (datum, data.mask)
        noise = camera if data.noise is None else data.noise
        each = noise.log_prob(counts, values) - (0.0 if data.noise is None else noise.best(counts))
        return jnp.sum(each if mask is None else mask * each)

    return one


def lanes_of(data: DataSet, lanes: int) -> Any:
    """Records [lane stored ...] as `score` takes them; dealt where they are not yet."""
    if isinstance(data.counts, Dealt):
        dealt, lanes = data.counts.lanes, data.counts.lanes.shape[0]
    else:
        dealt = deal(jnp.asarray(data.counts), lanes)
    return (dealt, deal(jnp.asarray(data.mask), lanes)) if data.mask_by_record else dealt


def check_data(problem: Any, model: Any) -> None:
    """Refuse data whose shape is not that of what the forward model returns; nothing is computed.

    Raises:
        InputError: A signal is missing, or shapes differ.
    """
    for group in groups(problem):
        shapes = jax.eval_shape(group.forward, part_of(model, group.part))
        given = {"": shapes} if "" in group.sets else shapes
        if "" in group.sets and isinstance(shapes, Mapping):
            names = ", ".join(f"'{name}'" for name in shapes)
            raise InputError(f"the forward model returns signals by name ({names}); give measurements by these names")
        for name, data in group.sets.items():
            if not isinstance(given, Mapping) or name not in given:
                known = list(given) if isinstance(given, Mapping) else []
                raise InputError(f"data set '{name}' is no signal of the forward model; {nearest(name, known)}")
            have, want = _shape(data.counts), given[name].shape
            if have != want:
                raise InputError(
                    f"data set '{data.name}' has shape {have}, the forward model expects {want}; the first axis counts "
                    "records, one for every scan position"
                )
            if data.mask is not None and np.shape(data.mask) not in (want, want[1:]):
                one = f"{want[1:]} for all records or " if want[1:] else ""
                raise InputError(
                    f"the mask of data set '{data.name}' has shape {np.shape(data.mask)}; give {one}{want} for each, "
                    "in the order of the scan"
                )
            _check_noise(data)
            _check_values(data)


def _check_noise(data: DataSet) -> None:
    noise = data.noise
    if noise is not None and (isinstance(noise, type) or not hasattr(noise, "log_prob")):
        raise InputError(
            f"the noise of data set '{data.name}' is {noise!r}; give a noise model, such as stemjax.Poisson()"
        )


def _check_values(data: DataSet) -> None:
    """Refuse values that no detector gives, where they are numbers already and not yet dealt to devices."""
    if data.mask is not None and not isinstance(data.mask, jax.core.Tracer):
        mask = np.asarray(data.mask)
        if not ((mask >= 0.0) & (mask <= 1.0)).all():
            raise InputError(
                f"the mask of data set '{data.name}' reaches from {mask.min():.4g} to {mask.max():.4g}; give weights "
                "from 0 (left out) to 1 (counted)"
            )
    if isinstance(data.counts, Dealt | jax.core.Tracer):
        return
    counts = np.asarray(data.counts)
    if np.iscomplexobj(counts):
        raise InputError(f"data set '{data.name}' holds complex numbers; give counts")
    if getattr(data.noise, "counted", False) and counts.size and counts.min() < 0:
        wrong = (counts < 0) & (np.broadcast_to(True if data.mask is None else np.asarray(data.mask) > 0, counts.shape))
        if wrong.any():
            raise InputError(
                f"{100 * wrong.mean():.2g} % of the counts of data set '{data.name}' are negative, the least "
                f"{counts.min():.4g}; counts of electrons are not: undo what was subtracted and free a background, "
                "mask them, or give Gaussian noise"
            )


def without_masked_gaps(measurement: Any) -> Any:
    """A measurement whose masked elements are zero where they were not finite: no weight makes a number of NaN."""
    if isinstance(measurement, Mapping):
        return {name: without_masked_gaps(one) for name, one in measurement.items()}
    counts, mask = measurement.counts, getattr(measurement, "mask", None)
    if mask is None or isinstance(counts, Dealt | jax.core.Tracer) or np.isfinite(np.sum(counts)):
        return measurement
    out = np.broadcast_to(np.asarray(mask) == 0, np.shape(counts))
    return replace(measurement, counts=np.where(out & ~np.isfinite(counts), 0.0, counts))


def _shape(counts: Any) -> tuple[int, ...]:
    return (counts.records, *counts.lanes.shape[2:]) if isinstance(counts, Dealt) else tuple(np.shape(counts))


def _groups(forward: Any, measurement: Any, noise: Any, part: tuple[str, ...]) -> Iterator[Group]:
    if isinstance(forward, Together):
        for name, one in forward.parts:
            yield from _groups(one, measurement[name], _named(noise, name), (*part, name))
    elif isinstance(measurement, Mapping):
        sets = {name: _data_set((*part, name), one, _named(noise, name)) for name, one in measurement.items()}
        yield Group(part, forward, sets)
    else:
        yield Group(part, forward, {"": _data_set(part, measurement, noise)})


def _data_set(names: tuple[str, ...], measurement: Any, noise: Any) -> DataSet:
    return DataSet(".".join(names) or "data", measurement.counts, getattr(measurement, "mask", None), noise)


def _named(noise: Any, name: str) -> Any:
    """The noise of one data set; one model stands for all, several are pairs of name and model."""
    return dict(noise)[name] if isinstance(noise, tuple) else noise
