"""The error for a person: what was given, what was wanted, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something that a person gave cannot be used; the message is one line and says what would be right."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A remedy for a misspelt name: the nearest known ones.

    >>> nearest("probe.abberations", ["probe.aberrations", "scan.positions"])
    "nearest: 'probe.aberrations'"
    """
    known = list(known)
    close = difflib.get_close_matches(name, known, n=2, cutoff=0.6)
    if close:
        return "nearest: " + " or ".join(repr(c) for c in close)
    return "known: " + ", ".join(repr(k) for k in known[:12]) + (", ..." if len(known) > 12 else "")
