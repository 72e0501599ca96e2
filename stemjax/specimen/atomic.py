"""A specimen of atoms: its leaves are their positions, occupancies and displacements."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.core.typing import Annotated, Array, Float, real
from stemjax.specimen.absorption import mean_wave
from stemjax.specimen.objects import transmission
from stemjax.specimen.potential import BAND_LIMIT, Potential, cell_grid, project_potential
from stemjax.specimen.scattering_factors import coefficients
from stemjax.specimen.slicing import BORDER, Slices, checked_slices
from stemjax.specimen.structure import Structure, site_classes
from stemjax.specimen.vibration import displacement_from_covariance, frozen_phonons

_SIDEWAYS = np.array([0.0, 1.0, 1.0])


class AtomicSpecimen(struct.PyTreeNode):
    """A specimen given by its atoms; made by `make_atomic_specimen`.

    With `draws`, `offsets` or `occupied` it stands for several arrangements of the atoms; `configuration` gives one.
    Its own `transmission` is that of the mean potential: damped by the Debye-Waller factor, weighted by the occupancy.

    Args:
        structure: The atoms.
        origin: Position of pixel (0, 0) in the frame of the scan (y, x) [Å].
        draws: Displacements (z, y, x) in units of the rms displacement [configuration atom 3], or None.
        offsets: Displacements (z, y, x) of a trajectory [configuration atom 3] [Å], or None.
        occupied: Who is there [configuration atom], 0 or 1, in place of the mean occupancy; or None.
        grid: Grid of the pixels; it spans the cell.
        slices: Number of equal slices, or the thickness of each [Å].
        parametrization: Table of scattering factors.
        band_limit: Part of the Nyquist frequency that the potential is kept to.
        absorption: Whether the mean potential absorbs what it scatters thermally (`stemjax.specimen.absorption`).
        periodic: Whether the specimen repeats beyond its borders; atoms in a cell do.
    """

    structure: Structure
    origin: Annotated[Array, "Å"]
    draws: Float[Array, "configuration atom 3"] | None = None
    offsets: Annotated[Float[Array, "configuration atom 3"], "Å"] | None = None
    occupied: Float[Array, "configuration atom"] | None = None
    grid: Grid = struct.field(pytree_node=False, kw_only=True)
    slices: Slices = struct.field(pytree_node=False, kw_only=True)
    parametrization: str = struct.field(pytree_node=False, default="lobato")
    band_limit: float | None = struct.field(pytree_node=False, default=BAND_LIMIT)
    absorption: bool = struct.field(pytree_node=False, default=False)
    periodic: bool = struct.field(pytree_node=False, default=True)

    @property
    def thickness(self) -> Annotated[Array, "Å"]:
        """Distance from every slice to the next: [1] for equal slices, else [slice] [Å]."""
        depth = self.structure.cell[0]
        if isinstance(self.slices, int):
            return (depth / self.slices)[None]
        return jnp.asarray(self.slices, depth.dtype)

    @property
    def configurations(self) -> int:
        """Number of arrangements of the atoms; 1 where nothing is drawn."""
        drawn = [a.shape[0] for a in (self.draws, self.offsets, self.occupied) if a is not None]
        return drawn[0] if drawn else 1

    def configuration(self, index: Array | int) -> AtomicSpecimen:
        """The specimen with its atoms at rest where arrangement `index` has them; the index may be traced.

        Drawn displacements move atoms sideways only: along z they would do no more than put an atom of the top layer,
        which vibrates out of the cell, into the exit slice. Those of a trajectory stop at the faces of the cell.
        """
        structure = self.structure
        moved, occupancy, u = structure.positions, structure.occupancy, structure.rms_displacement
        if self.draws is not None:
            moved = (
                moved
                + (u if u.ndim == 2 else u[:, None]) * self.draws[index] * jnp.asarray(_SIDEWAYS, moved.dtype)[None, :]
            )
        if self.offsets is not None:
            moved = moved + self.offsets[index]
            moved = moved.at[:, 0].set(jnp.clip(moved[:, 0], 0.0, structure.cell[0] - 2.0 * BORDER))
        if self.occupied is not None:
            occupancy = self.occupied[index]
        structure = structure.replace(positions=moved, occupancy=occupancy)
        if self.draws is None and self.offsets is None:
            return self.replace(structure=structure, occupied=None)
        # Atoms at rest absorb nothing, and those of one element are one class again.
        sites = site_classes(structure.numbers, np.zeros(len(structure.numbers)))
        still = structure.replace(rms_displacement=jnp.zeros_like(u), sites=sites)
        return self.replace(structure=still, draws=None, offsets=None, occupied=None, absorption=False)

    def potential(self) -> Potential:
        """Projected mean potential of every slice."""
        return project_potential(
            self.structure, self.grid, self.slices, parametrization=self.parametrization, band_limit=self.band_limit
        )

    def transmission(self, interaction_parameter: float) -> Array:
        """Transmission function exp(a + iσV) of every slice of the mean potential [slice ny nx]; a = 0 if none absorbs.

        That of a drawn arrangement is `configuration(index).transmission(σ)`.
        """
        phase = interaction_parameter * self.potential().values
        if not self.absorption:
            return transmission(phase)
        loss, change = mean_wave(
            self.structure, self.grid, self.slices, interaction_parameter,
            parametrization=self.parametrization, band_limit=min(self.band_limit or BAND_LIMIT, BAND_LIMIT),
        )  # fmt: skip
        return transmission(phase + change, loss)


def make_atomic_specimen(
    structure: Structure,
    grid: Grid | float,
    slices: int | Sequence[float],
    *,
    phonons: int = 0,
    seed: int = 0,
    parametrization: str = "lobato",
    band_limit: float | None = BAND_LIMIT,
    absorption: bool = False,
) -> AtomicSpecimen:
    """A specimen of atoms, checked.

    Args:
        structure: Atoms inside their cell (`stemjax.specimen.structure.wrapped`).
        grid: Grid that spans the cell, or the largest size of a pixel [Å].
        slices: Number of equal slices, or the thickness of each [Å].
        phonons: Number of frozen-phonon configurations; 0 for the mean potential.
        seed: Seed of their displacements; configuration i depends on the seed and i only.
        parametrization: "lobato" or "kirkland".
        band_limit: Part of the Nyquist frequency that the potential is kept to; None for all.
        absorption: Take what is scattered thermally out of the mean potential's wave.

    Returns:
        The specimen, its pixel (0, 0) at the origin of the scan.

    Raises:
        InputError: Grid or slices do not fill the cell, atoms lie outside it, an element has no scattering factor, or
            phonons are asked of atoms at rest.

    >>> from stemjax.specimen.structure import make_structure
    >>> carbon = make_structure([[1.0, 2.0, 2.0]], [6], [2.0, 4.0, 4.0], rms_displacement=0.08)
    >>> moving = make_atomic_specimen(carbon, 0.2, 1, phonons=4)
    >>> moving.configurations, moving.configuration(2).transmission(1e-3).shape
    (4, (1, 20, 20))
    """
    pixels = grid if isinstance(grid, Grid) else cell_grid(structure, grid)
    whole = checked_slices(structure, pixels, slices)
    coefficients(parametrization, structure.numbers)
    _check_atoms(structure, phonons, absorption)
    return AtomicSpecimen(
        structure=structure,
        origin=real((0.0, 0.0)),
        draws=frozen_phonons(structure, seed, phonons) if phonons else None,
        grid=pixels,
        slices=whole,
        parametrization=parametrization,
        band_limit=band_limit,
        absorption=absorption,
    )


def _check_atoms(structure: Structure, phonons: int, absorption: bool) -> None:
    """Refuse atoms outside the cell, and thermal scattering of atoms at rest; traced values are taken on trust."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(structure)):
        return
    places, cell = np.asarray(structure.positions, float), np.asarray(structure.cell, float)
    outside = ((places < -1e-3) | (places > cell + 1e-3)).any(axis=1)
    if outside.any():
        atom = int(np.argmax(outside))
        raise InputError(
            f"{int(outside.sum())} atoms lie outside the cell {cell.round(3).tolist()} Å (z, y, x), atom {atom} at "
            f"{places[atom].round(3).tolist()}; enlarge the cell with pad_cell, or take their images with wrapped"
        )
    if phonons < 0:
        raise InputError(f"{phonons} frozen-phonon configurations; give a number from 1, or 0 for the mean potential")
    if (phonons or absorption) and not np.asarray(structure.rms_displacement).any():
        raise InputError(
            "thermal scattering of atoms at rest; give displacements with with_displacement(structure, 0.08)"
        )


def with_phonons(
    specimen: AtomicSpecimen, configurations: int, seed: int, *, covariance: npt.ArrayLike | None = None
) -> AtomicSpecimen:
    """The specimen with frozen phonons drawn, in place of those it had.

    Args:
        specimen: Atoms with their displacements.
        configurations: Number of configurations.
        seed: Seed of the draws.
        covariance: Tensor U of every atom, in the axes (z, y, x) [atom 3 3] [Å²]; its diagonal replaces the
            structure's displacements. None for independent components with those.

    >>> from stemjax.specimen.structure import make_structure
    >>> carbon = make_structure([[1.0, 2.0, 2.0]], [6], [2.0, 4.0, 4.0], rms_displacement=0.08)
    >>> with_phonons(make_atomic_specimen(carbon, 0.2, 1), 3, 0).configurations
    3
    """
    structure = specimen.structure
    draws = frozen_phonons(structure, seed, configurations, covariance=covariance)
    if covariance is not None:
        u = displacement_from_covariance(covariance)
        leaf = jnp.asarray(u, structure.rms_displacement.dtype)
        structure = structure.replace(rms_displacement=leaf, sites=site_classes(structure.numbers, u))
    _check_atoms(structure, configurations, specimen.absorption)
    return _agreeing(specimen.replace(structure=structure, draws=draws, offsets=None))


def with_trajectory(specimen: AtomicSpecimen, offsets: npt.ArrayLike) -> AtomicSpecimen:
    """The specimen with the displacements of a trajectory in place of drawn ones.

    The rms displacement of the mean potential becomes that of the trajectory, averaged over each class of atoms.

    Args:
        specimen: Atoms at the positions that the offsets count from.
        offsets: Displacements (z, y, x) [configuration atom 3] [Å] (`stemjax.specimen.vibration.trajectory_offsets`).

    >>> from stemjax.specimen.structure import make_structure
    >>> carbon = make_structure([[1.0, 2.0, 2.0]], [6], [2.0, 4.0, 4.0])
    >>> moved = with_trajectory(make_atomic_specimen(carbon, 0.2, 1), [[[0.0, 0.1, 0.0]], [[0.0, -0.1, 0.0]]])
    >>> moved.structure.rms_displacement.round(3).tolist()
    [[0.0, 0.1, 0.0]]
    """
    moves, structure = np.asarray(offsets, float), specimen.structure
    if moves.ndim != 3 or moves.shape[1:] != (len(structure.numbers), 3) or not len(moves):
        raise InputError(
            f"offsets of shape {moves.shape} for {len(structure.numbers)} atoms; give [configuration atom 3] in Å"
        )
    square, classes = (moves**2).mean(axis=0), np.asarray(structure.sites)
    mean = np.stack([square[classes == site].mean(axis=0) for site in range(classes.max() + 1)])
    u = jnp.asarray(np.sqrt(mean[classes]), structure.rms_displacement.dtype)
    return _agreeing(specimen.replace(structure=structure.replace(rms_displacement=u), draws=None, offsets=real(moves)))


def with_occupation(specimen: AtomicSpecimen, occupied: npt.ArrayLike) -> AtomicSpecimen:
    """The specimen with its mixed sites drawn (`stemjax.specimen.occupation.draw_occupation`).

    Args:
        specimen: Atoms, weighted by their occupancy where nothing is drawn.
        occupied: 1 for an atom that is there, else 0 [configuration atom].

    >>> from stemjax.specimen.structure import make_structure
    >>> carbon = make_structure([[1.0, 2.0, 2.0]], [6], [2.0, 4.0, 4.0], occupancy=0.5)
    >>> with_occupation(make_atomic_specimen(carbon, 0.2, 1), [[0.0], [1.0]]).configurations
    2
    """
    there = np.asarray(occupied, float)
    if there.ndim != 2 or there.shape[1] != len(specimen.structure.numbers) or not len(there):
        raise InputError(
            f"occupation of shape {there.shape} for {len(specimen.structure.numbers)} atoms; give [configuration atom]"
        )
    return _agreeing(specimen.replace(occupied=real(there)))


def _agreeing(specimen: AtomicSpecimen) -> AtomicSpecimen:
    """The specimen, if all that is drawn has the same number of configurations."""
    moves = specimen.draws if specimen.draws is not None else specimen.offsets
    if moves is not None and specimen.occupied is not None and len(moves) != len(specimen.occupied):
        raise InputError(
            f"{len(moves)} configurations of displacements and {len(specimen.occupied)} of occupations; "
            "draw as many of both"
        )
    return specimen
