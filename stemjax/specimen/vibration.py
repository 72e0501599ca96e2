"""Thermal displacements of atoms: from tables, from a covariance, from a seed, from a trajectory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from stemjax.core.errors import InputError
from stemjax.core.typing import Annotated, Array, Float, PRNGKeyArray, real, real_dtype
from stemjax.specimen.structure import Structure

if TYPE_CHECKING:
    from ase import Atoms


def displacement_from_b(b: Annotated[npt.ArrayLike, "Å²"]) -> np.ndarray:
    r"""Displacement from a crystallographer's B.

    .. math:: u = \sqrt{B / 8 \pi^2}

    Args:
        b: Temperature factor B of exp(−B s²), s = sin(θ)/λ [Å²].

    Returns:
        One-dimensional rms displacement [Å], of the shape of `b`.

    Source: International Tables for Crystallography D (2013), section 1.9.

    >>> round(float(displacement_from_b(0.62)), 4)
    0.0886
    """
    values = np.asarray(b, float)
    if not np.isfinite(values).all() or values.min(initial=0.0) < 0:
        raise InputError(f"B holds {values.min():g}; every value must be finite and not negative, in Å²")
    return np.sqrt(values / (8.0 * np.pi**2))


def b_from_displacement(rms_displacement: Annotated[npt.ArrayLike, "Å"]) -> np.ndarray:
    """B = 8 π² u² [Å²] of a one-dimensional rms displacement [Å].

    >>> round(float(b_from_displacement(displacement_from_b(0.5))), 12)
    0.5
    """
    return 8.0 * np.pi**2 * np.asarray(rms_displacement, float) ** 2


def displacements_of_elements(
    numbers: Sequence[int], table: Mapping[str, float]
) -> Annotated[Float[np.ndarray, "atom"], "Å"]:
    """Displacement of every atom from that of its element.

    Args:
        numbers: Atomic numbers [atom].
        table: Displacement by chemical symbol [Å]; of B: `{"Sr": displacement_from_b(0.62), ...}`.

    Returns:
        One-dimensional rms displacement of every atom [Å].

    Raises:
        InputError: An element of the atoms is not in the table, or a symbol is none.

    >>> displacements_of_elements([38, 8, 8], {"Sr": 0.08, "O": 0.1}).tolist()
    [0.08, 0.1, 0.1]
    """
    from ase.data import atomic_numbers, chemical_symbols

    strange = [symbol for symbol in table if symbol not in atomic_numbers]
    if strange:
        raise InputError(f"no element {strange[0]!r}; give chemical symbols, such as 'Sr'")
    missing = sorted({chemical_symbols[z] for z in numbers} - set(table))
    if missing:
        raise InputError(f"no displacement for {', '.join(missing)}; add it to {sorted(table)}, 0 for atoms at rest")
    return np.array([float(table[chemical_symbols[z]]) for z in numbers])


def frozen_phonons(
    structure: Structure,
    seed: int | PRNGKeyArray,
    configurations: int,
    *,
    covariance: Annotated[npt.ArrayLike, "Å²"] | None = None,
) -> Float[Array, "configuration atom 3"]:
    r"""Independent displacements of all atoms, in units of their rms displacement.

    .. math:: \mathbf x_j = \mathbf u_j \circ \mathbf n_j, \qquad
        \langle n_{ja} n_{jb} \rangle = U_{j,ab} / \sqrt{U_{j,aa} U_{j,bb}}

    Every component has mean 0 and variance 1, so that the displacements keep the gradient of u. Configuration i
    depends on the seed and on i alone: more configurations add to those one had.

    Args:
        structure: Atoms.
        seed: A number or a jax key.
        configurations: How many.
        covariance: Tensor U of every atom, in the axes (z, y, x) [atom 3 3] [Å²]; it correlates the components. The
            structure must hold its diagonal (`displacement_from_covariance`). None for independent components.

    Returns:
        Draws n (z, y, x).

    Raises:
        InputError: No configuration is asked for, or a tensor is none.

    >>> from stemjax.specimen.structure import make_structure
    >>> s = make_structure([[0, 0, 0]], [6], [2, 2, 2], rms_displacement=0.1)
    >>> bool((frozen_phonons(s, 7, 2) == frozen_phonons(s, 7, 5)[:2]).all())
    True
    """
    if configurations < 1:
        raise InputError(f"{configurations} configurations; give at least one")
    key = jax.random.key(seed) if isinstance(seed, int | np.integer) else seed
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(configurations))
    shape = (len(structure.numbers), 3)
    draws = jax.vmap(lambda k: jax.random.normal(k, shape, real_dtype()))(keys)
    if covariance is None:
        return draws
    return jnp.einsum("jab,cjb->cja", real(_correlation_root(covariance, shape[0])), draws)


def displacement_from_covariance(covariance: Annotated[npt.ArrayLike, "Å²"]) -> np.ndarray:
    """Rms displacements along the axes [atom 3] [Å] from tensors U [atom 3 3] [Å²]: the roots of their diagonals.

    >>> displacement_from_covariance([np.diag([0.01, 0.04, 0.09])]).round(3).tolist()
    [[0.1, 0.2, 0.3]]
    """
    return np.sqrt(np.diagonal(np.asarray(covariance, float), axis1=-2, axis2=-1))


def _correlation_root(covariance: npt.ArrayLike, atoms: int) -> np.ndarray:
    """Cholesky factors [atom 3 3] of the correlations; a component that does not move has none."""
    tensors = np.asarray(covariance, float)
    if tensors.shape != (atoms, 3, 3):
        raise InputError(f"covariance has shape {tensors.shape} for {atoms} atoms; give one tensor [3 3] for each")
    scale = displacement_from_covariance(np.abs(tensors))
    scale = np.where(scale > 0, scale, 1.0)
    correlation = tensors / (scale[:, :, None] * scale[:, None, :])
    lowest = np.linalg.eigvalsh(correlation).min(axis=1)
    skew = np.abs(tensors - np.swapaxes(tensors, 1, 2)).max(axis=(1, 2), initial=0.0)
    wrong = ~((lowest > -1e-9) & (skew <= 1e-9))
    if wrong.any():
        atom = int(np.argmax(wrong))
        raise InputError(
            f"covariance of atom {atom} is {tensors[atom].tolist()}; give a symmetric, positive tensor in Å²"
        )
    return np.linalg.cholesky(correlation + 1e-12 * np.eye(3)[None])


def trajectory_offsets(
    frames: Sequence[Atoms] | str | PathLike, *, reference: Atoms | None = None
) -> Annotated[Float[np.ndarray, "configuration atom 3"], "Å"]:
    """Displacements of a molecular-dynamics trajectory from its mean positions, or from a reference.

    Args:
        frames: Frames in the order of their atoms, or a file that `ase.io.read` understands.
        reference: Atoms that the offsets count from; None for the mean over the frames, which `mean_atoms` gives.

    Returns:
        Offsets (z, y, x) of every atom in every frame, the shortest of their periodic images [Å].

    Raises:
        InputError: There is no frame, or atoms or cells differ.

    >>> from ase import Atoms
    >>> frames = [Atoms("C", positions=[[0, 0, z]], cell=[4, 4, 4], pbc=True) for z in (3.9, 0.1)]
    >>> trajectory_offsets(frames)[:, 0, 0].round(6).tolist()
    [-0.1, 0.1]
    """
    first, offsets = _unrolled(frames)
    if reference is None:
        return offsets - offsets.mean(axis=0)
    _check_frame(first, reference, "the reference")
    return offsets + _shortest(first.positions[:, ::-1] - reference.positions[:, ::-1], first)[None]


def mean_atoms(frames: Sequence[Atoms] | str | PathLike) -> Atoms:
    """The atoms of a trajectory at their mean positions.

    >>> from ase import Atoms
    >>> frames = [Atoms("C", positions=[[0, 0, z]], cell=[4, 4, 4], pbc=True) for z in (3.8, 0.0)]
    >>> mean_atoms(frames).positions.round(6).tolist()
    [[0.0, 0.0, 3.9]]
    """
    first, offsets = _unrolled(frames)
    mean = first.copy()
    mean.positions = mean.positions + offsets.mean(axis=0)[:, ::-1]
    return mean


def _unrolled(frames: Sequence[Atoms] | str | PathLike) -> tuple[Atoms, np.ndarray]:
    """The first frame, and the offsets of all frames from it (z, y, x) [configuration atom 3]."""
    every = _read(frames) if isinstance(frames, str | PathLike) else list(frames)
    if not every:
        raise InputError("the trajectory has no frame; give at least one")
    first = every[0]
    for i, frame in enumerate(every):
        _check_frame(first, frame, f"frame {i}")
    return first, np.stack([_shortest((f.positions - first.positions)[:, ::-1], first) for f in every])


def _read(path: str | PathLike) -> list[Atoms]:
    """All frames of a file."""
    from pathlib import Path

    from ase.io import read

    if not Path(path).exists():
        raise InputError(f"no trajectory {str(path)!r}; give a file that ase.io.read understands")
    frames = read(Path(path), index=":")
    return frames if isinstance(frames, list) else [frames]


def _shortest(offset: np.ndarray, atoms: Atoms) -> np.ndarray:
    """Offsets (z, y, x) less the whole cell edges in them, along the periodic axes."""
    edges, periodic = np.diag(np.asarray(atoms.cell.array, float))[::-1], np.asarray(atoms.pbc)[::-1]
    turns = np.where(periodic & (edges > 0), np.round(offset / np.where(edges > 0, edges, 1.0)), 0.0)
    return offset - turns * edges


def _check_frame(first: Atoms, frame: Atoms, name: str) -> None:
    """Refuse a frame whose atoms or cell are not those of the first."""
    if len(frame) != len(first) or (frame.numbers != first.numbers).any():
        raise InputError(
            f"{name} holds {len(frame)} atoms, frame 0 {len(first)}, or other elements; give the same in one order"
        )
    cell, wanted = np.asarray(frame.cell.array, float), np.asarray(first.cell.array, float)
    if np.abs(wanted - np.diag(np.diag(wanted))).max() > 1e-4 * np.abs(wanted).max():
        raise InputError("the trajectory's cell is not orthogonal along x, y, z; run it in an orthogonal cell")
    if np.abs(cell - wanted).max() > 1e-3:
        raise InputError(
            f"{name} has the cell {cell.round(3).tolist()}, frame 0 {wanted.round(3).tolist()}; "
            "give frames of constant volume"
        )
