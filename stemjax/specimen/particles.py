"""Nanoparticles, free and on a film."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stemjax.core.errors import InputError
from stemjax.core.typing import Annotated
from stemjax.specimen.assemblies import atomic_number, united
from stemjax.specimen.structure import Structure, make_structure

if TYPE_CHECKING:
    from ase import Atoms


def nanoparticle(
    symbol: str,
    diameter: Annotated[float, "Å"],
    *,
    zone_axis: tuple[int, int, int] = (0, 0, 1),
    angle: Annotated[float, "degree"] = 0.0,
    energies: Sequence[float] = (1.0, 1.15, 1.3),
) -> Atoms:
    """A Wulff particle of a cubic metal, turned so that a zone axis lies along the beam.

    Args:
        symbol: A metal whose crystal ase knows as fcc or bcc.
        diameter: Diameter of the sphere of the same volume [Å].
        zone_axis: Direction [uvw] along +z.
        angle: Further turn about the beam, from x towards y [degree].
        energies: Surface energies of {111}, {100} and {110}, in any unit.

    Returns:
        The atoms, their middle at the origin; any other cluster of `ase.cluster` serves as well.

    Raises:
        InputError: ase knows no cubic crystal of the element, or the diameter holds no particle.

    >>> len(nanoparticle("Au", 20.0, zone_axis=(1, 1, 0)))
    225
    """
    from ase import Atoms
    from ase.cluster import wulff_construction
    from ase.data import reference_states

    state: dict = reference_states[atomic_number(symbol)] or {}
    if state.get("symmetry") not in ("fcc", "bcc"):
        raise InputError(f"ase knows no fcc or bcc crystal of {symbol}; build the particle with ase.cluster yourself")
    count = round(np.pi / 6.0 * (diameter / state["a"]) ** 3 * (4 if state["symmetry"] == "fcc" else 2))
    if count < 13:
        raise InputError(f"a particle of {diameter:g} Å holds {count} atoms; make it larger, such as 20 Å")
    surfaces = [(1, 1, 1), (1, 0, 0), (1, 1, 0)]
    particle = wulff_construction(symbol, surfaces, list(energies), count, state["symmetry"], rounding="closest")
    places = particle.positions - particle.positions.mean(axis=0)
    turned = Atoms(numbers=particle.numbers, positions=places @ _frame(zone_axis).T)
    turned.rotate(angle, "z")
    return turned


def _frame(zone_axis: tuple[int, int, int]) -> np.ndarray:
    """Rotation matrix [3 3] that brings a direction of a cubic crystal to z, and one normal to it to x."""
    along = np.asarray(zone_axis, float)
    if along.shape != (3,) or not along.any():
        raise InputError(f"zone axis {zone_axis} is no direction; give [uvw], such as (1, 1, 0)")
    x = np.cross(along, np.eye(3)[np.argmin(np.abs(along))])
    rows = np.array([x, np.cross(along, x), along])
    return rows / np.linalg.norm(rows, axis=1)[:, None]


def nanoparticle_on_film(
    particle: Atoms,
    film: Structure,
    *,
    position: Annotated[tuple[float, float] | None, "Å"] = None,
    gap: Annotated[float, "Å"] = 2.0,
    vacuum: Annotated[float, "Å"] = 2.0,
    rms_displacement: npt.ArrayLike = 0.0,
    below: bool = False,
) -> Structure:
    """A particle on a film, on the side where the beam comes in.

    Args:
        particle: A free particle (`nanoparticle`, or anything of `ase.cluster`); its directions are (x, y, z).
        film: The support (`stemjax.specimen.amorphous.amorphous_film`), wider than the particle.
        position: Where the middle of the particle comes to lie (y, x) [Å]; None for the middle of the film.
        gap: Distance along z between the nearest planes of particle and film [Å].
        vacuum: Vacuum between the particle and the end of the cell [Å].
        rms_displacement: Displacement of the particle's atoms [Å].
        below: Put it on the other side, where the beam goes out.

    Returns:
        The structure; its cell is as wide as the film.

    Raises:
        InputError: The particle is wider than the film.

    >>> from stemjax.specimen.amorphous import amorphous_film
    >>> film = amorphous_film("C", 2.0, (24.0, 24.0), 10.0, seed=1)
    >>> both = nanoparticle_on_film(nanoparticle("Au", 12.0), film)
    >>> len(both.numbers) > len(film.numbers), bool(both.cell[0] > 20.0)
    (True, True)
    """
    places = np.array(particle.positions, float)[:, ::-1].copy()
    size, edges = np.ptp(places, axis=0), np.asarray(film.cell, float)
    if (size[1:] > edges[1:] - gap).any():
        wanted = (size[1:] + gap).round(1).tolist()
        raise InputError(f"the particle needs a film of {wanted} Å (y, x), which has {edges[1:].round(1).tolist()} Å")
    middle = np.asarray(position if position is not None else edges[1:] / 2.0, float)
    places[:, 1:] += middle - (places[:, 1:].min(axis=0) + size[1:] / 2.0)
    floor = np.asarray(film.positions, float)
    room = vacuum + size[0] + gap
    if below:
        top = floor[:, 0].max() + gap
        depth, lift = max(edges[0], top + size[0] + vacuum), 0.0
    else:
        lift = max(room - floor[:, 0].min(), 0.0)
        top, depth = lift + floor[:, 0].min() - gap - size[0], edges[0] + lift
    places[:, 0] += top - places[:, 0].min()
    cell = np.array([depth, *edges[1:]])
    alone = make_structure(np.mod(places, cell), particle.numbers, cell, rms_displacement=rms_displacement)
    return united([alone, film], [np.asarray(alone.positions, float), floor + np.array([lift, 0.0, 0.0])], cell)
