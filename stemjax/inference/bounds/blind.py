r"""Directions that the data cannot see, and leaves that trade against each other, from the Fisher information.

The information is looked at with every unknown scaled to a diagonal of one, C = S F S with s = F_ii^(-1/2): unknowns
are then measured by what the data would tell if nothing else were unknown, whatever their units. An eigenvalue of C
that rounding cannot tell from zero is a direction that the data do not see; it is told by simple changes of leaves (a
number, an array everywhere, tilted, in proportion) as far as it consists of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.typing import real_dtype
from stemjax.inference import problem as statement
from stemjax.inference.bounds.directions import Coordinate, Direction, coordinates, labelled, remedy, sentence
from stemjax.inference.problem import Problem, Unconstrained
from stemjax.inference.vector import Layout, layout

TRADE = 0.95
"""Correlation from which on two leaves are said to trade against each other."""
WEAK = 1e-4
"""Information, against that of its parts, below which a direction is said to be weak."""
FEW = 16
"""Most elements of a leaf whose gain from another is looked at."""
UNLIT = 1e9
"""Standard deviation, in units of the leaf or of its value, from which on nothing is known of an unknown."""


@dataclass(frozen=True)
class Trade:
    """Two leaves that the data hardly tell apart.

    Args:
        first: The leaf, or element, that would gain.
        second: The leaf whose knowledge it would gain from.
        gain: How many times sharper the first would be if the second were known.
        correlation: Correlation of the two, where both are numbers; else None.
    """

    first: str
    second: str
    gain: float
    correlation: float | None = None

    def __str__(self) -> str:
        sign = "" if self.correlation is None else f" (correlation {self.correlation:+.4f})".replace("-", "−")
        return (
            f"{self.first} trades against {self.second}{sign}: were that known, this would be {self.gain:.3g} × sharper"
        )


class Place(NamedTuple):
    """Where the information was taken, in leaf units.

    Args:
        shape: Layout of the unknowns.
        values: The free leaves by path.
        slopes: Change of every leaf element with its unconstrained value [unknown].
        model: The model there.
    """

    shape: Layout
    values: dict[str, np.ndarray]
    slopes: np.ndarray
    model: Any


class Spectrum(NamedTuple):
    """Information in correlation form.

    Args:
        scale: s [unknown]; 0 where the data say nothing.
        values: Eigenvalues of C, rising [seen].
        vectors: Eigenvectors [unknown seen].
        tolerance: Eigenvalue that rounding cannot tell from zero.
    """

    scale: np.ndarray
    values: np.ndarray
    vectors: np.ndarray
    tolerance: float

    @property
    def null(self) -> np.ndarray:
        """Directions that are not seen [unknown direction]."""
        return self.vectors[:, self.values <= self.tolerance]

    @property
    def hidden(self) -> np.ndarray:
        """Which unknowns take part in a direction that is not seen, or are not seen at all [unknown]."""
        return (self.scale == 0) | (np.linalg.norm(self.null, axis=1) > np.sqrt(self.tolerance))


def place_of(problem: Problem, z: Unconstrained) -> Place:
    """Leaf values and slopes at some unconstrained values."""
    shape, maps = layout(problem), statement.bijectors(problem)
    slopes = {p: jax.jvp(maps[p].forward, (z[p],), (jnp.ones_like(z[p]),))[1] for p in shape.shapes}
    values = {path: np.asarray(value, np.float64) for path, value in statement.constrained(problem, z).items()}
    return Place(shape, values, np.asarray(shape.ravel(slopes), np.float64), problem.experiment)


def spectrum(information: np.ndarray, place: Place, *, floor: float = 0.0, alone: np.ndarray | None = None) -> Spectrum:
    """The eigenvalues of an information matrix [unknown unknown], scaled to a diagonal of one.

    Args:
        information: The matrix, about unconstrained values.
        place: Where it was taken.
        floor: Eigenvalue below which a direction is not seen, where that is more than rounding.
        alone: Information about every unknown if all others were known [unknown]; the diagonal if None.
    """
    diagonal, size = np.diag(information) if alone is None else alone, len(information)
    natural = np.maximum(np.concatenate([np.abs(place.values[p]).ravel() for p in place.shape.shapes]), 1.0)
    lit = diagonal * (UNLIT * natural) ** 2 > place.slopes**2
    scale = np.where(lit, 1.0 / np.sqrt(np.where(lit, diagonal, 1.0)), 0.0)
    chosen = np.flatnonzero(lit)
    scaled = (information * scale[:, None] * scale[None, :])[np.ix_(chosen, chosen)]
    values, inner = np.linalg.eigh(0.5 * (scaled + scaled.T))
    vectors = np.zeros((size, len(chosen)))
    vectors[chosen] = inner
    return Spectrum(scale, values, vectors, max(tolerance(size), floor))


def tolerance(size: int) -> float:
    """Eigenvalue of an information of unit diagonal that rounding cannot tell from zero, in the precision in force."""
    return 1e3 * max(10, size) * float(jnp.finfo(real_dtype()).eps)


def blind_directions(found: Spectrum, place: Place) -> tuple[Direction, ...]:
    """The directions that the data do not see, told by simple changes of leaves where they consist of such.

    Args:
        found: The information.
        place: Where it was taken.
    """
    told, null = list(_unlit(found, place)), found.null
    whole, single = coordinates(place.model, place.values, place.shape)
    for known in (whole, [*whole, *single]):
        simple, null = _intersection(null, known, found, place)
        told += [_direction(known, sizes, found, place) for sizes in simple]
    return (*told, *_rest(null, found, place))


def weak_directions(found: Spectrum, place: Place, most: int = 3) -> tuple[Direction, ...]:
    """Directions that are seen, but a hundred times less well than their parts; the weakest first."""
    whole, single = coordinates(place.model, place.values, place.shape)
    known = [*whole, *single]
    columns, lengths = _columns(known, found, place)
    told: list[Direction] = []
    for number in np.flatnonzero((found.values > found.tolerance) & (found.values < WEAK)):
        vector = found.vectors[:, number]
        sizes = np.linalg.lstsq(columns, vector, rcond=1e-9)[0]
        if len(told) < most and np.linalg.norm(columns @ sizes - vector) < 0.1:
            told.append(_direction(known, sizes / lengths, found, place, float(found.values[number])))
    return tuple(told)


def trades(found: Spectrum, place: Place) -> tuple[Trade, ...]:
    """Leaves that trade against each other, the worst first; what is not seen at all is left out."""
    keep = found.values > found.tolerance
    # Rows whose products are the covariances of the scaled unknowns.
    root = found.vectors[:, keep] / np.sqrt(found.values[keep])[None]
    rows = {}
    for path, part in place.shape.slices().items():
        seen = np.arange(part.start, part.stop)[~found.hidden[part]]
        rows[path] = (seen, root[seen])
    told: dict[frozenset[str], Trade] = {}
    for path, (seen, mine) in rows.items():
        for other, (_, theirs) in rows.items():
            if other == path or not 0 < len(seen) <= FEW or not len(theirs):
                continue
            gain = _gains(mine, theirs)
            best = int(np.argmax(gain))
            if gain[best] < 1.0 / np.sqrt(1.0 - TRADE**2):
                continue
            one = len(mine) == len(theirs) == 1
            trade = Trade(
                labelled(place.shape, int(seen[best])), other, gain[best], _cosine(mine, theirs) if one else None
            )
            key = frozenset((path, other))
            if key not in told or told[key].gain < trade.gain:
                told[key] = trade
    return tuple(sorted(told.values(), key=lambda trade: -trade.gain))


def _gains(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """How many times less every row of the first spreads, where the rows of the second are known."""
    onto = np.linalg.lstsq(theirs.T, mine.T, rcond=None)[0]
    left = np.sum((mine - (theirs.T @ onto).T) ** 2, axis=1)
    return np.sqrt(np.sum(mine**2, axis=1) / np.maximum(left, 1e-300))


def _cosine(mine: np.ndarray, theirs: np.ndarray) -> float:
    return float(mine[0] @ theirs[0] / np.linalg.norm(mine[0]) / np.linalg.norm(theirs[0]))


def _columns(known: list[Coordinate], found: Spectrum, place: Place) -> tuple[np.ndarray, np.ndarray]:
    """Scaled unit vectors of simple changes [unknown coordinate], and the length of each change of size one."""
    columns = np.zeros((len(found.scale), len(known)))
    parts, lit = place.shape.slices(), found.scale > 0
    for number, one in enumerate(known):
        columns[parts[one.path], number] = one.change.ravel()
    columns = np.where(lit[:, None], columns / (place.slopes * np.where(lit, found.scale, 1.0))[:, None], 0.0)
    lengths = np.linalg.norm(columns, axis=0)
    lengths = np.where(lengths > 0, lengths, 1.0)
    return columns / lengths[None], lengths


def _intersection(
    null: np.ndarray, known: list[Coordinate], found: Spectrum, place: Place
) -> tuple[list[np.ndarray], np.ndarray]:
    """The part of a null space that simple changes span, as sparse sets of sizes; and the rest of it."""
    if not null.shape[1] or not known:
        return [], null
    columns, lengths = _columns(known, found, place)
    frame, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    frame = frame[:, sizes > 1e-9 * max(sizes.max(), 1e-300)]
    _, cosines, turn = np.linalg.svd(frame.T @ null)
    within = int(np.sum(cosines > 1.0 - max(1e-9, 10.0 * found.tolerance)))
    simple, rest = null @ turn[:within].T, null @ turn[within:].T
    weights = np.linalg.lstsq(columns, simple, rcond=1e-9)[0].T
    return [row / lengths for row in _sparse(weights)], rest


def _sparse(rows: np.ndarray) -> np.ndarray:
    """The same span of rows with few entries each: Gauss-Jordan elimination, the greatest pivot first."""
    rows, used = rows.copy(), []
    for _ in range(len(rows)):
        free = [i for i in range(len(rows)) if i not in used]
        row, column = np.unravel_index(int(np.argmax(np.abs(rows[free]))), rows[free].shape)
        pivot = free[int(row)]
        used.append(pivot)
        rows[pivot] /= rows[pivot, column]
        others = np.arange(len(rows)) != pivot
        rows[others] -= rows[others, column][:, None] * rows[pivot][None]
    return np.where(np.abs(rows) > 1e-6, rows, 0.0)


def _direction(
    known: list[Coordinate], sizes: np.ndarray, found: Spectrum, place: Place, seen: float = 0.0
) -> Direction:
    """A direction that consists of simple changes."""
    _, lengths = _columns(known, found, place)
    parts: dict[str, np.ndarray] = {}
    for one, size in zip(known, sizes, strict=True):
        if size != 0:
            parts[one.path] = parts.get(one.path, np.zeros_like(one.change)) + size * one.change
    what, paths = sentence(known, sizes, 1.0 / lengths), list(parts)
    if seen > 0:
        words = f"{what} is seen {1.0 / np.sqrt(seen):.0f} times less well than its parts; {remedy(paths)}"
    else:
        words = f"{what} changes nothing in the data; {remedy(paths)}"
    return Direction(parts, seen, words)


def _unlit(found: Spectrum, place: Place) -> list[Direction]:
    """Unknowns that the data do not depend on, a leaf at a time."""
    told = []
    for path, part in place.shape.slices().items():
        dark = found.scale[part] == 0
        if not dark.any():
            continue
        where = "" if dark.all() else f" in {int(dark.sum())} of {dark.size} elements"
        words = f"the data do not depend on {path}{where}; {remedy([path])}"
        told.append(Direction({path: dark.astype(float).reshape(place.shape.shapes[path])}, 0.0, words))
    return told


def _rest(null: np.ndarray, found: Spectrum, place: Place) -> list[Direction]:
    """What is not seen and no simple change: where it lies."""
    if not null.shape[1]:
        return []
    change, parts, weight = null[:, 0] * found.scale * place.slopes, {}, {}
    for path, part in place.shape.slices().items():
        share = float(np.sum(null[part] ** 2) / null.shape[1])
        if share > 1e-6:
            parts[path], weight[path] = change[part].reshape(place.shape.shapes[path]), share
    order = sorted(parts, key=lambda path: -weight[path])
    listed = ", ".join(f"{path} ({100 * weight[path]:.0f} %)" for path in order[:5])
    most = labelled(place.shape, int(np.argmax(np.sum(null**2, axis=1))))
    one = null.shape[1] == 1
    count, does = ("one direction", "changes") if one else (f"{null.shape[1]} directions", "change")
    return [
        Direction(parts, 0.0, f"{count} of detail in {listed} {does} nothing, most of it in {most}; {remedy(order)}")
    ]
