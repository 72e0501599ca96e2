"""The specimen of a simulation: atoms from a name or a file, what moves them, and what the beam goes through."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from stemjax.app.simulation.arrays import read_array
from stemjax.app.simulation.settings import SimulationSettings
from stemjax.app.simulation.specimen_settings import LAYERS
from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.specimen.assemblies import dope, vacancies
from stemjax.specimen.atomic import make_atomic_specimen, with_trajectory
from stemjax.specimen.builders import graphene, mos2_monolayer, slab
from stemjax.specimen.fields import flipped
from stemjax.specimen.objects import make_potential_object
from stemjax.specimen.potential import cell_grid
from stemjax.specimen.repeated import RepeatedObject
from stemjax.specimen.structure import Structure, from_ase, with_displacement, wrapped
from stemjax.specimen.vibration import (
    displacement_from_b,
    displacements_of_elements,
    mean_atoms,
    trajectory_offsets,
)

if TYPE_CHECKING:
    from ase import Atoms

MARGIN = 4.0
"""Room around the scanned area, beyond the geometric probe [Å]."""

SLABS = {
    "srtio3": ("SrTiO3", (0, 0, 1)),
    "si110": ("Si", (1, 1, 0)),
    "au": ("Au", (0, 0, 1)),
    "gan": ("GaN", (0, 0, 1)),
}
"""Crystal and default zone axis by the name of a builder."""


@dataclass(frozen=True)
class Built:
    """A specimen and what it is made of: the atoms of the whole field, and how often its smallest tile stands in it."""

    specimen: Any
    structure: Structure
    repeats: tuple[int, int]


def build_specimen(settings: SimulationSettings, *, atoms: bool = False) -> Built:
    """The specimen of a configuration; one that repeats and stands still is kept as its tile.

    Args:
        settings: The configuration.
        atoms: Keep every atom as a leaf.
    """
    structure, repeats = build_structure(settings)
    repeats = repeats if _perfect(settings) and not atoms else (1, 1)
    tile = _tile(structure, repeats)
    grid = cell_grid(tile, settings.potential.sampling)
    slices = max(1, math.ceil(float(structure.cell[0]) / settings.potential.slice_thickness - 1e-6))
    choice = settings.specimen
    thing: Any = make_atomic_specimen(
        tile, grid, slices,
        phonons=choice.phonons, seed=settings.seed, absorption=choice.absorption,
        parametrization=settings.potential.parametrization,
    )  # fmt: skip
    if choice.trajectory:
        thing = with_trajectory(thing, trajectory_offsets(choice.file or ""))
    if thing.configurations == 1 and not (choice.absorption or atoms) and settings.spectrum is None:
        potential = jax.jit(lambda a: a.potential())(thing)
        thing = make_potential_object(potential.values, float(structure.cell[0]) / slices, grid)
    if repeats != (1, 1):
        thing = RepeatedObject(thing, repeats)
    if choice.field is not None and choice.field.flip:
        structure = flipped(make_atomic_specimen(structure, grid, slices)).structure
    return Built(_with_field(thing, settings), structure, repeats)


def _perfect(settings: SimulationSettings) -> bool:
    """Whether nothing disturbs the repetition of the tile."""
    choice = settings.specimen
    disturbed = choice.phonons or choice.trajectory or choice.absorption or choice.vacancies or choice.dopants
    return not (disturbed or choice.field or settings.spectrum)


def _tile(structure: Structure, repeats: tuple[int, int]) -> Structure:
    """The atoms of the first tile of a structure that is `repeats` of it, (y, x)."""
    if repeats == (1, 1):
        return structure
    cell = np.asarray(structure.cell, float) / (1, *repeats)
    inside = (np.asarray(structure.positions, float)[:, 1:] < cell[1:] - 1e-6).all(axis=1)
    kept = np.flatnonzero(inside)
    chosen = jax.tree.map(lambda a: a if a.shape == (3,) else a[kept], structure)
    numbers, sites = (tuple(t[i] for i in kept) for t in (structure.numbers, structure.sites))
    return chosen.replace(cell=structure.cell / np.asarray((1, *repeats)), numbers=numbers, sites=sites)


def build_structure(settings: SimulationSettings) -> tuple[Structure, tuple[int, int]]:
    """The atoms, built by name or read, wide enough for the scan; and how often their tile repeats (y, x)."""
    choice = settings.specimen
    size = choice.size or default_size(settings)
    repeats = (1, 1)
    if choice.builder == "mos2_monolayer":
        structure = mos2_monolayer(size, vacancies=choice.vacancies)
    elif choice.builder == "graphene":
        structure = graphene(size, vacancies=choice.vacancies)
    elif choice.builder is not None:
        name, axis = SLABS[choice.builder]
        structure = slab(name, choice.zone_axis or axis, thickness=choice.thickness or 1.0, width=size)
        repeats = _repeats(structure, slab(name, choice.zone_axis or axis, thickness=choice.thickness or 1.0))
    else:
        structure, repeats = _from_file(settings, size)
    if choice.vacancies and choice.builder not in LAYERS:
        structure = vacancies(structure, positions=np.asarray(choice.vacancies))
    return _vibrating(_disturbed(structure, settings), settings), repeats


def _repeats(structure: Structure, tile: Structure) -> tuple[int, int]:
    ratio = np.asarray(structure.cell, float)[1:] / np.asarray(tile.cell, float)[1:]
    return round(float(ratio[0])), round(float(ratio[1]))


def _from_file(settings: SimulationSettings, size: tuple[float, float]) -> tuple[Structure, tuple[int, int]]:
    from stemjax.specimen.crystal import orthogonal_cell

    choice = settings.specimen
    atoms = mean_atoms(choice.file or "") if choice.trajectory else read_atoms(choice.file or "")
    if choice.trajectory:
        if choice.zone_axis or choice.thickness or choice.size:
            raise InputError("a trajectory is taken as it is; drop specimen.zone_axis, thickness and size")
        return wrapped(from_ase(atoms)), (1, 1)
    if choice.zone_axis is None and choice.thickness is None:
        return _repeated_file(atoms, size)
    axis = choice.zone_axis or (0, 0, 1)
    thickness = choice.thickness or float(atoms.cell.lengths()[2])
    whole = from_ase(orthogonal_cell(atoms, axis, thickness=thickness, min_width=size).atoms)
    return whole, _repeats(whole, from_ase(orthogonal_cell(atoms, axis, thickness=thickness).atoms))


def _repeated_file(atoms: Atoms, size: tuple[float, float]) -> tuple[Structure, tuple[int, int]]:
    """The atoms of a file as they are, beside each other until they are as wide as asked."""
    try:
        tile = from_ase(atoms)
    except InputError as error:
        raise InputError(f"specimen.file: {str(error).split('; ')[0]}; give specimen.zone_axis: [0, 0, 1]") from None
    edges = np.asarray(tile.cell, float)[1:]
    ny, nx = (max(1, math.ceil(want / edge - 1e-6)) for want, edge in zip(size, edges, strict=True))
    return wrapped(from_ase(atoms * (nx, ny, 1))), (ny, nx)


def read_atoms(path: str) -> Atoms:
    """One set of atoms from a file, the last of several."""
    from ase.io import read

    try:
        atoms = read(path, index=-1)
    # ase's readers raise whatever their parsers stumble over.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"ase cannot read atoms from {path}: {reason}; give a cif, xyz, ... file") from None
    if isinstance(atoms, list):
        raise InputError(f"{path} holds {len(atoms)} sets of atoms where one is wanted")
    return atoms


def _disturbed(structure: Structure, settings: SimulationSettings) -> Structure:
    """The atoms with dopants put in."""
    for number, (element, entry) in enumerate(settings.specimen.dopants.items()):
        seed = settings.seed + 101 * number
        structure = dope(structure, element, replaces=entry["replaces"], fraction=entry["fraction"], seed=seed)
    return structure


def _vibrating(structure: Structure, settings: SimulationSettings) -> Structure:
    """The atoms with their thermal displacements."""
    choice = settings.specimen
    given: Any = choice.rms_displacement
    if choice.b_factors:
        given = {element: float(displacement_from_b(b)) for element, b in choice.b_factors.items()}
    if given is None:
        return structure
    return with_displacement(
        structure, displacements_of_elements(structure.numbers, given) if isinstance(given, dict) else given
    )


def default_size(settings: SimulationSettings) -> tuple[float, float]:
    """Scan, geometric probe and a margin [Å]."""
    scan, beam = settings.scan, settings.probe
    defocus = max([abs(beam.defocus), *(abs(d) for d in settings.series.defoci)])
    probe = 2e-3 * beam.semiangle * defocus + 2 * MARGIN
    sizes = [(n * s) for n, s in zip(scan.shape, scan.step, strict=True)]
    reach = np.zeros(2)
    for turn in scan.angles or (0.0,):
        angle = math.radians(scan.rotation + turn)
        c, s = abs(math.cos(angle)), abs(math.sin(angle))
        reach = np.maximum(reach, (c * sizes[0] + s * sizes[1], c * sizes[1] + s * sizes[0]))
    return float(reach[0] + probe), float(reach[1] + probe)


def _with_field(specimen: Any, settings: SimulationSettings) -> Any:
    """The specimen with projected fields on top, and turned over where asked."""
    choice = settings.specimen.field
    if choice is None:
        return specimen
    from stemjax.specimen.fields import make_field_object

    phases = {
        name: _phase(path, specimen.grid, f"specimen.field.{name}")
        for name, path in (("electrostatic", choice.electrostatic), ("magnetic", choice.magnetic))
        if path is not None
    }
    if not phases:
        raise InputError("specimen.field wants electrostatic or magnetic; give a .npy file of a phase in rad")
    made = make_field_object(specimen, **phases)
    return flipped(made) if choice.flip else made


def _phase(path: str, grid: Grid, key: str) -> np.ndarray:
    """A phase [y x] brought onto the grid of the specimen, which it spans."""
    from scipy.ndimage import zoom

    values = read_array(path, key, "a phase in rad over the specimen")
    if values.shape == grid.shape:
        return values
    scale = [n / m for n, m in zip(grid.shape, values.shape, strict=True)]
    return zoom(values, scale, order=1, mode="nearest", grid_mode=True)
