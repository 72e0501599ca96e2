"""What a solver gives back: named arrays with units, their uncertainty, and how the solution was reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Named:
    """An array that says what it is.

    Args:
        value: The numbers.
        units: Unit in plain text ("Å", "rad", "V Å", "electron", "1" for none).
        dims: Name of every axis ("slice", "y", "x", "mode", "pattern", ...).
        long_name: What a person calls it.
        sampling: Step along every axis in `sampling_units`, where the axes are regular; else None.
        sampling_units: Unit of `sampling`.
    """

    value: np.ndarray
    units: str
    dims: tuple[str, ...]
    long_name: str
    sampling: tuple[float, ...] | None = None
    sampling_units: str = "Å"


@dataclass(frozen=True)
class Result:
    """The outcome of a problem, in the form that files and reports take.

    Args:
        problem: Name of the recipe ("ptychography", ...).
        estimate: Best value of every named quantity.
        uncertainty: Standard deviations, under the names of `estimate`; empty where the solver gives none.
        samples: Draws of the posterior, axis `draw` first.
        diagnostics: Nested mapping of arrays, numbers and strings: `loss` [epoch], `epoch_time` [s],
            `initial/<name>` (values at the start, same names as `estimate`), `truth/<name>` where it is known,
            `patterns/measured`, `patterns/modelled` [n ky kx] (counts, zero frequency in the centre).
        status: A sentence for the person: how it ended.
        success: Whether the solver ended as it should.
        config: The resolved configuration.
        provenance: Versions, seed, machine, times, checksum of the input.
    """

    problem: str
    estimate: Mapping[str, Named]
    uncertainty: Mapping[str, Named] = field(default_factory=dict)
    samples: Mapping[str, Named] = field(default_factory=dict)
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    status: str = ""
    success: bool = True
    config: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
