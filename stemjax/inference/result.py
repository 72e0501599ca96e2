"""What a solver gives back: named arrays with units, their uncertainty, and how the solution was reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stemjax.core.annotations import Meaning, axis_names, meanings


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
    """The outcome of a problem: what every solver returns, and what files and reports take.

    A solver names quantities by the paths of the free leaves (`probe.aberrations.C10`); the result of a recipe has the
    names that its users expect.

    Args:
        problem: Name of the recipe ("ptychography", ...), or of the solver where there is none.
        estimate: Best value of every named quantity.
        uncertainty: Standard deviations, under the names of `estimate`; empty where the solver gives none.
        samples: Draws of the posterior, axis `draw` first (`chain` before it where there are several).
        history: What the solver saw on its way, an array a name: `loss` [epoch or step], ...
        diagnostics: Nested mapping of arrays, numbers and strings: `loss` [epoch], `epoch_time` [s],
            `initial/<name>` (values at the start, same names as `estimate`), `truth/<name>` where it is known,
            `patterns/measured`, `patterns/modelled` [n ky kx] (counts, zero frequency in the centre).
        status: A sentence for the person: how it ended.
        success: Whether the solver ended as it should.
        config: The resolved configuration.
        provenance: Versions, seed, machine, times, checksum of the input.
        value: The model with the free leaves as found; not written to files.
        posterior: What draws from the posterior (`stemjax.inference.gaussian`), or None; not written to files.
        state: What the solver needs to go on, or None; not written to files.
    """

    problem: str
    estimate: Mapping[str, Named]
    uncertainty: Mapping[str, Named] = field(default_factory=dict)
    samples: Mapping[str, Named] = field(default_factory=dict)
    history: Mapping[str, np.ndarray] = field(default_factory=dict)
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    status: str = ""
    success: bool = True
    config: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    value: Any = None
    posterior: Any = None
    state: Any = None

    def __str__(self) -> str:
        return summary(self)


def summary(result: Result, most: int = 40) -> str:
    """A table of the numbers of a result with their standard deviations and units, arrays by their range.

    >>> found = Result("laplace", {"a": Named(np.array(2.0), "Å", (), "a")}, status="done",
    ...                uncertainty={"a": Named(np.array(0.13), "Å", (), "a")})
    >>> print(summary(found))
    a  2.00 ± 0.13 Å
    done
    """
    width = max((len(name) for name in list(result.estimate)[:most]), default=0)
    lines = [
        f"{name:<{width}}  {_line(named, result.uncertainty.get(name))}" for name, named in result.estimate.items()
    ]
    more = [f"... and {len(lines) - most} more"] if len(lines) > most else []
    return "\n".join([*lines[:most], *more, result.status])


def _line(named: Named, spread: Named | None) -> str:
    unit = "" if named.units == "1" else f" {named.units}"
    value, error = np.asarray(named.value), None if spread is None else np.asarray(spread.value)
    if value.size == 1:
        return (f"{float(value.ravel()[0]):.6g}" if error is None else with_error(value, error)) + unit
    text = f"{value.shape}: {value.min():.4g} to {value.max():.4g}"
    return text + ("" if error is None else f", each ± {float(np.median(error)):.2g} (median)") + unit


def with_error(value: Any, error: Any) -> str:
    """A number and its standard deviation, to two digits of the latter.

    >>> with_error(123.456, 1.234), with_error(5.0, 0.0)
    ('123.5 ± 1.2', '5 ± 0')
    """
    value, error = float(np.asarray(value).ravel()[0]), float(np.asarray(error).ravel()[0])
    if not (np.isfinite(error) and error > 0):
        return f"{value:.6g} ± {error:g}"
    digits = max(0, 1 - int(np.floor(np.log10(error))))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def named_leaves(model: Any, values: Mapping[str, Any], about: str = "") -> dict[str, Named]:
    """Arrays by path as named quantities with the units and axes of the model's leaves.

    Args:
        model: The model that the paths belong to.
        values: Array by path.
        about: What the numbers are ("standard deviation"), put before the path.

    >>> named_leaves({"a": np.zeros(3)}, {"a": np.ones(3)})["a"].dims
    ('axis0',)
    """
    meaning = meanings(model)
    found = {}
    for path, value in values.items():
        array, what = np.asarray(value), meaning.get(path, Meaning())
        found[path] = Named(array, what.unit, axis_names(what, array.shape), f"{about} of {path}" if about else path)
    return found
