"""Where a problem is known to have false minima, so that solvers look in all of them before they settle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stemjax.core.errors import InputError, nearest
from stemjax.core.typing import Array


@dataclass(frozen=True)
class Well:
    """A leaf along which a problem has false minima.

    Args:
        path: Path of the free leaf.
        low: Least value worth trying, in the unit of the leaf; for an array that of every element.
        high: Greatest value worth trying.
        spacing: Distance of neighbouring minima; a search that tries a value every half of it enters every well.

    >>> Well("probe.aberrations.C10", -300.0, 300.0, 90.0).trials
    14
    """

    path: str
    low: float
    high: float
    spacing: float

    @property
    def trials(self) -> int:
        """Values that a search along this leaf alone tries."""
        return max(2, int(np.ceil(2.0 * (self.high - self.low) / self.spacing)))

    def values(self) -> np.ndarray:
        """These values, evenly over the range."""
        edges = np.linspace(self.low, self.high, self.trials + 1)
        return 0.5 * (edges[1:] + edges[:-1])


def check_wells(wells: Iterable[Well], free: tuple[str, ...], known: Mapping[str, Array | Any]) -> tuple[Well, ...]:
    """The wells, if their leaves are free and their ranges make sense.

    Raises:
        InputError: A leaf is not free, a range is empty or a spacing is not positive.
    """
    found = tuple(wells)
    for well in found:
        if well.path not in free:
            raise InputError(f"false minima along '{well.path}', which is not free; {nearest(well.path, free)}")
        if not (well.high > well.low and well.spacing > 0):
            raise InputError(
                f"a search of '{well.path}' from {well.low:g} to {well.high:g} every {well.spacing:g} tries nothing; "
                "give a range that rises and a positive spacing"
            )
        if np.size(known[well.path]) == 0:
            raise InputError(f"'{well.path}' is empty; there is nothing to search")
    return found
