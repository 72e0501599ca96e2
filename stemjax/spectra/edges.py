"""Inner-shell edges: their names, thresholds and electrons."""

from __future__ import annotations

import csv
import re
from functools import lru_cache
from importlib.resources import files

import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.errors import InputError, nearest
from stemjax.core.typing import Annotated, Array, Float, real

SHELLS = ("K", "L1", "L2", "L3", "M1", "M2", "M3", "M4", "M5")
"""Shells of the table of thresholds."""
FAMILIES = {"K": ("K",), "L": ("L3", "L2", "L1"), "L23": ("L3", "L2")}
"""Shells that a name stands for, lowest threshold first."""
ELECTRONS = {"K": 2, "L1": 2, "L2": 2, "L3": 4}
"""Electrons in a full shell."""
FIRST_L = 13
"""Aluminium: the lightest element whose L shell the hydrogen-like theory has been fitted to."""
_NAME = re.compile(r"([A-Z][a-z]?)[\s_-]*([KLMN])[\s_-]*([1-5](?:,?[1-5])*)?", re.ASCII)


class Edge(struct.PyTreeNode):
    """One or several shells of an element that are excited together; made by `make_edge`.

    Args:
        onsets: Threshold of each shell, lowest first [eV].
        number: Atomic number.
        shells: Names of the shells.
    """

    onsets: Annotated[Array, "eV"]
    number: int = struct.field(pytree_node=False)
    shells: tuple[str, ...] = struct.field(pytree_node=False)

    @property
    def electrons(self) -> tuple[int, ...]:
        """Electrons in each shell."""
        return tuple(1 if self.number == 1 else ELECTRONS[shell] for shell in self.shells)

    @property
    def lowest(self) -> Annotated[Array, "eV"]:
        """Threshold of the K shell or, wherever the shells of this edge were moved, of the L3 shell with them [eV]."""
        family = "K" if self.shells[0] == "K" else "L3"
        table = thresholds(self.number)
        return self.onsets[0] - (table[self.shells[0]] - table[family])


def make_edge(name: str, *, onset: float | None = None) -> Edge:
    """An edge by its name.

    Args:
        name: Element and shell: "O_K", "Ti_L3", "Ti L2,3", "Fe_L" (L3, L2 and L1 together).
        onset: Threshold of the lowest of its shells [eV]; the others keep their distance from it. None for that of the
            free element.

    Raises:
        InputError: No such element or edge; the message names those that there are.

    >>> make_edge("Ti L2,3").shells, float(make_edge("O_K", onset=531.0).onsets[0])
    (('L3', 'L2'), 531.0)
    """
    number, shells = parse_edge(name)
    table = thresholds(number)
    onsets = np.array([table[shell] for shell in shells])
    if onset is not None:
        if not 0.0 < onset < 1e6:
            raise InputError(f"onset {onset:g} eV of {name} is no threshold; give one in eV, such as {onsets[0]:g}")
        onsets = onsets + (onset - onsets[0])
    return Edge(real(onsets), number=number, shells=shells)


def parse_edge(name: str) -> tuple[int, tuple[str, ...]]:
    """Atomic number and shells of an edge's name.

    >>> parse_edge("Ti_L23"), parse_edge("C K")
    ((22, ('L3', 'L2')), (6, ('K',)))
    """
    match = _NAME.fullmatch(name.strip())
    if match is None:
        raise InputError(f"'{name}' names no edge; write element and shell as in 'O_K', 'Ti_L3' or 'Ti L2,3'")
    symbol, family, digits = match[1], match[2], (match[3] or "").replace(",", "")
    if symbol not in symbols():
        raise InputError(f"no element '{symbol}' in the table of thresholds; {nearest(symbol, symbols())}")
    number = symbols().index(symbol) + 1
    table = thresholds(number)
    if not digits and family in FAMILIES:
        wanted = FAMILIES[family]
    else:
        wanted = tuple(sorted((family + d for d in digits), key=lambda shell: table.get(shell, 0.0)))
    possible = _served(number)
    if not wanted or not set(wanted) <= set(possible):
        raise InputError(_refusal(symbol, "".join((family, digits)), wanted, table, possible))
    return number, wanted


def _served(number: int) -> list[str]:
    """Shells of an element that have a threshold and a cross-section here."""
    return [s for s in thresholds(number) if s == "K" or (s[0] == "L" and number >= FIRST_L)]


def _refusal(symbol: str, shell: str, wanted: tuple[str, ...], table: dict, possible: list[str]) -> str:
    """Why an edge cannot be had, and which can."""
    edges = ", ".join(f"{symbol}_{s} ({table[s]:g} eV)" for s in possible)
    if not wanted or not set(wanted) <= set(table):
        known = ", ".join(f"{s} {table[s]:g} eV" for s in table)
        return f"{symbol} has no tabulated {shell} edge (thresholds: {known}); use {edges}"
    return f"no cross-section for {symbol}_{shell}: the hydrogen-like theory serves K, and L from Al on; use {edges}"


@lru_cache(maxsize=1)
def _table() -> tuple[tuple[str, ...], tuple[dict[str, float], ...]]:
    """Symbols and thresholds of all elements, in the order of the atomic number."""
    text = files("stemjax.spectra").joinpath("tables", "binding_energies.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    return tuple(r["symbol"] for r in rows), tuple({s: float(r[s]) for s in SHELLS if r[s]} for r in rows)


def symbols() -> tuple[str, ...]:
    """Symbols of the elements in the table, from hydrogen on.

    >>> symbols()[7]
    'O'
    """
    return _table()[0]


def thresholds(number: int) -> dict[str, float]:
    """Tabulated thresholds of an element by shell [eV].

    >>> thresholds(8)["K"]
    532.0
    """
    if not 1 <= number <= len(symbols()):
        raise InputError(f"no thresholds for atomic number {number}; the table holds Z = 1 to {len(symbols())}")
    return dict(_table()[1][number - 1])


class FineStructure(struct.PyTreeNode):
    """Free factor on an edge above its onset; made by `make_fine_structure`.

    Args:
        values: Natural logarithm of the factor at nodes from the onset on [node]; 0 beyond the last.
        spacing: Distance of the nodes [eV].
    """

    values: Array
    spacing: Annotated[Array, "eV"]

    def factor(self, above: Annotated[Float[Array, "..."], "eV"]) -> Array:
        """The factor at energies above the onset [eV]; 1 outside of the nodes."""
        place = above / self.spacing
        nodes = jnp.arange(self.values.shape[0], dtype=place.dtype)
        return jnp.exp(jnp.interp(place, nodes, self.values.astype(place.dtype), left=0.0, right=0.0))


def make_fine_structure(values: object, spacing: float) -> FineStructure:
    """A free factor near an edge, checked.

    Args:
        values: Logarithm of the factor at equidistant nodes, the first on the onset; zeros for none.
        spacing: Distance of the nodes [eV].

    >>> float(make_fine_structure(np.zeros(4), 2.0).factor(jnp.array(3.0)))
    1.0
    """
    nodes = real(values)
    if nodes.ndim != 1 or nodes.shape[0] < 2:
        raise InputError(f"fine structure of shape {nodes.shape} has no range; give the values of at least 2 nodes")
    if not spacing > 0:
        raise InputError(f"nodes of a fine structure {spacing:g} eV apart do not rise; give a distance such as 2 eV")
    return FineStructure(nodes, real(spacing))
