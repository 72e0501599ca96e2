"""Mixed and partly filled sites: who sits there, configuration by configuration."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.typing import Annotated, Array, Float, PRNGKeyArray, real, real_dtype
from stemjax.specimen.structure import Structure

SAME_PLACE = 0.05
"""Atoms closer than this share a site [Å]."""


def shared_sites(structure: Structure, *, distance: Annotated[float, "Å"] = SAME_PLACE) -> np.ndarray:
    """Number of the site of every atom; atoms at one place, periodic images included, share it.

    Args:
        structure: Atoms.
        distance: Atoms closer than this share a site [Å].

    >>> from stemjax.specimen.structure import make_structure
    >>> shared_sites(make_structure([[0, 0, 0], [1, 1, 1], [2, 2, 1.99]], [31, 33, 49], [2, 2, 2])).tolist()
    [0, 1, 0]
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    cell = np.asarray(structure.cell, float)
    places = np.mod(np.asarray(structure.positions, float), cell)
    # Rounding may leave a remainder equal to the edge, which the tree refuses.
    places = np.where(places >= cell, 0.0, places)
    first, second = cKDTree(places, boxsize=cell).query_pairs(distance, output_type="ndarray").T
    count = len(places)
    links = coo_matrix((np.ones(len(first)), (first, second)), shape=(count, count))
    return connected_components(links, directed=False)[1].astype(int)


def draw_occupation(
    structure: Structure,
    seed: int | PRNGKeyArray,
    configurations: int,
    *,
    distance: Annotated[float, "Å"] = SAME_PLACE,
) -> Float[Array, "configuration atom"]:
    """Draw who sits on every site: at most one of the atoms at one place, each with its occupancy as the probability.

    Where the occupancies of a site add up to less than one, it stays empty with what is missing. Sites are
    independent: there is no short-range order. Configuration i depends on the seed and on i alone.

    Args:
        structure: Atoms with their occupancies.
        seed: A number or a jax key.
        configurations: How many.
        distance: Atoms closer than this share a site [Å].

    Returns:
        1 for an atom that is there, else 0.

    Raises:
        InputError: The occupancies of a site add up to more than one, or no configuration is asked for.

    >>> from stemjax.specimen.structure import make_structure
    >>> alloy = make_structure([[0, 0, 0], [0, 0, 0]], [31, 49], [2, 2, 2], occupancy=[0.3, 0.7])
    >>> draw_occupation(alloy, 0, 4).sum(axis=1).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    if configurations < 1:
        raise InputError(f"{configurations} configurations; give at least one")
    low, high, site = _shares(structure, distance)
    key = jax.random.key(seed) if isinstance(seed, int | np.integer) else seed
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(configurations))
    chance = jax.vmap(lambda k: jax.random.uniform(k, (int(site.max()) + 1,), real_dtype()))(keys)[:, site]
    return real((chance >= real(low)[None]) & (chance < real(high)[None]))


def _shares(structure: Structure, distance: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The part of [0, 1) that belongs to every atom of a site, from and to [atom], and the site of every atom."""
    site = shared_sites(structure, distance=distance)
    occupancy = np.asarray(structure.occupancy, float)
    total = np.bincount(site, occupancy)
    if total.max() > 1.0 + 1e-5:
        worst = int(np.argmax(total))
        atoms = np.flatnonzero(site == worst).tolist()
        raise InputError(
            f"the occupancies of atoms {atoms} on one site add up to {total[worst]:.4g}; they must not exceed 1"
        )
    low = np.zeros(len(site))
    filled = np.zeros(len(total))
    for atom, where in enumerate(site):
        low[atom], filled[where] = filled[where], filled[where] + occupancy[atom]
    high = low + occupancy
    # Rounding must not leave a sliver of a full site empty.
    return low, np.where(high > 1.0 - 1e-5, 1.0, high), site
