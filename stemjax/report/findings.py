"""What was found from the data before anything was refined, in words: orientation, sign, first defocus, warnings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stemjax.inference.result import Result
from stemjax.report import contents
from stemjax.report.numbers import Row, formatted

DECISIVE = 1.5
"""Ratio of the two curls from which on the curl alone tells the handedness."""


def warnings(result: Result) -> list[str]:
    """Whatever a person should know before trusting the result.

    >>> warnings(Result("ptychography", {}, diagnostics={"findings": {"warning": "a", "warnings": ["a", "b"]}}))
    ['a', 'b']
    """
    said: list[str] = []
    for tree in (result.diagnostics, contents.entry(result.diagnostics, "findings")):
        if isinstance(tree, Mapping):
            said += [text for name in ("warning", "warnings") for text in _texts(tree.get(name))]
    return list(dict.fromkeys(said))


def _texts(value: Any) -> list[str]:
    if isinstance(value, np.ndarray):
        value = value.ravel().tolist()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        return [value.strip()] if value.strip() else []
    return [text for item in value for text in _texts(item)] if isinstance(value, list | tuple) else []


def findings(result: Result) -> list[Row]:
    """What was found from the data, or taken from the configuration: (name, value in words).

    >>> found = {"orientation": {"rotation": -90.0, "transposed": False}, "curl": 0.0912, "curl_if_transposed": 0.384}
    >>> findings(Result("ptychography", {}, diagnostics={"findings": found}))[0][1]
    'scan turned by −90°, not transposed; found from the data, curl 0.09 against 0.38 if transposed'
    """
    found = contents.entry(result.diagnostics, "findings")
    if not isinstance(found, Mapping):
        return []
    rows: list[Row] = []
    orientation = found.get("orientation")
    if isinstance(orientation, Mapping):
        rows.append(("Orientation", f"{_turned(orientation)}; {_source(found, orientation)}"))
    elif isinstance(orientation, str):
        rows.append(("Orientation", "as on file, by the configuration" if orientation == "as-is" else orientation))
    evidence = _evidence(found.get("sign_evidence"))
    if evidence:
        rows.append(("Sign of the phase", evidence))
    guessed = contents.number(found.get("guessed_C10"))
    if guessed is not None and contents.number(found.get("trials")):
        rows.append(("Defocus guessed from the data", f"{formatted(-guessed, 'Å')}, best of {_trials(found)}"))
    return rows


def _turned(orientation: Mapping[str, Any]) -> str:
    """What was done to the scan's axes."""
    angle = contents.number(orientation.get("rotation")) or 0.0
    # Angles are found to a few tenths of a degree.
    turn = f"scan turned by {round(angle, 1):g}°".replace("-", "−") if round(angle, 1) else "scan not turned"
    flips = [f"flipped in {axis}" for axis in "yx" if contents.flag(orientation, f"flip_{axis}")]
    return ", ".join([turn, "transposed" if contents.flag(orientation, "transposed") else "not transposed", *flips])


def _source(found: Mapping[str, Any], orientation: Mapping[str, Any]) -> str:
    """From where the orientation is known, and how surely."""
    curl, other = (contents.number(found.get(name)) for name in ("curl", "curl_if_transposed"))
    if curl is None or other is None:
        return "by the configuration"
    # The file names the second curl after the case that the first one is not transposed.
    case = "if not transposed" if contents.flag(orientation, "transposed") else "if transposed"
    if other > DECISIVE * curl or not contents.number(found.get("trials")):
        return f"found from the data, curl {curl:.2f} against {other:.2f} {case}"
    return f"found from the data by {_trials(found)}: the curls, {curl:.2f} and {other:.2f}, do not decide"


def _trials(found: Mapping[str, Any]) -> str:
    return f"{contents.number(found.get('trials')) or 0:.0f} trial reconstructions"


def _evidence(value: Any, depth: int = 2) -> str:
    """Evidence in whatever form: a sentence, a number, or names with either."""
    if isinstance(value, Mapping):
        parts = [(str(name).replace("_", " "), _evidence(item, depth - 1)) for name, item in value.items() if depth]
        return ", ".join(f"{name} {text}" for name, text in parts if text)
    amount = None if isinstance(value, str) else contents.number(value)
    return formatted(amount) if amount is not None else ", ".join(_texts(value))
