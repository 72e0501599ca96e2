"""Displacements: tables, draws and trajectories."""

import ase
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.io import write

from stemjax.core.errors import InputError
from stemjax.specimen.structure import make_structure
from stemjax.specimen.vibration import (
    b_from_displacement,
    displacement_from_b,
    displacement_from_covariance,
    displacements_of_elements,
    frozen_phonons,
    mean_atoms,
    trajectory_offsets,
)

ATOMS = make_structure(np.arange(12.0).reshape(4, 3) / 3, [38, 22, 8, 8], [4, 4, 4], rms_displacement=0.1)
TENSOR = np.array([[0.010, 0.004, -0.002], [0.004, 0.020, 0.003], [-0.002, 0.003, 0.015]])


def test_b_is_eight_pi_squared_u_squared():
    # Debye-Waller factors exp(-B s²) and exp(-2π²u²k²) with k = 2s are the same.
    u, s = 0.0886, 0.7
    assert np.exp(-float(b_from_displacement(u)) * s**2) == pytest.approx(np.exp(-2 * np.pi**2 * (u * 2 * s) ** 2))
    np.testing.assert_allclose(b_from_displacement(displacement_from_b([0.3, 1.2])), [0.3, 1.2])


def test_displacements_by_element():
    found = displacements_of_elements(ATOMS.numbers, {"O": 0.1, "Sr": displacement_from_b(0.62), "Ti": 0.0})
    np.testing.assert_allclose(found, [0.08861, 0.0, 0.1, 0.1], atol=1e-5)
    with pytest.raises(InputError, match="no displacement for Ti"):
        displacements_of_elements(ATOMS.numbers, {"O": 0.1, "Sr": 0.1})
    with pytest.raises(InputError, match="'Stronium'"):
        displacements_of_elements(ATOMS.numbers, {"Stronium": 0.1})


def test_more_configurations_add_to_those_one_had():
    few, many = frozen_phonons(ATOMS, 3, 8), frozen_phonons(ATOMS, 3, 32)
    np.testing.assert_array_equal(few, many[:8])
    np.testing.assert_array_equal(few, frozen_phonons(ATOMS, jax.random.key(3), 8))
    assert not np.allclose(few, frozen_phonons(ATOMS, 4, 8))
    assert len(np.unique(np.asarray(many))) == 32 * 12


def test_draws_are_independent_normal_numbers():
    draws = np.asarray(frozen_phonons(ATOMS, 0, 4000)).reshape(4000, 12)
    error = 5 / np.sqrt(4000)
    np.testing.assert_allclose(draws.mean(axis=0), 0.0, atol=error)
    np.testing.assert_allclose(np.cov(draws.T), np.eye(12), atol=1.5 * error)
    assert (draws**4).mean() == pytest.approx(3.0, abs=0.15)


def test_draws_follow_the_tensor():
    tensors = np.stack([TENSOR, np.diag([0.01, 0.0, 0.04]), TENSOR[::-1, ::-1], 1e-4 * np.eye(3)])
    draws = frozen_phonons(ATOMS, 1, 20000, covariance=tensors)
    moves = np.asarray(draws) * displacement_from_covariance(tensors)[None]
    found = np.einsum("cja,cjb->jab", moves, moves) / len(moves)
    scale = np.sqrt(np.einsum("jaa,jbb->jab", tensors, tensors)) + 1e-12
    np.testing.assert_allclose(found / scale, tensors / scale, atol=5 / np.sqrt(20000))
    assert not moves[:, 1, 1].any()


def test_refuses_what_is_no_tensor():
    with pytest.raises(InputError, match="one tensor"):
        frozen_phonons(ATOMS, 0, 1, covariance=np.eye(3))
    broken = np.stack([TENSOR] * 3 + [np.array([[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]])])
    with pytest.raises(InputError, match="atom 3"):
        frozen_phonons(ATOMS, 0, 1, covariance=broken)
    with pytest.raises(InputError, match="atom 0"):
        frozen_phonons(ATOMS, 0, 1, covariance=np.stack([np.triu(TENSOR)] * 4))
    with pytest.raises(InputError, match="at least one"):
        frozen_phonons(ATOMS, 0, 0)


def moved_frames():
    """Three atoms that vibrate about the corner of a box, so that they keep crossing its border."""
    rng = np.random.default_rng(2)
    home = np.array([[0.02, 0.0, 4.97], [2.0, 5.95, 0.01], [1.0, 2.0, 3.0]])
    moves = rng.normal(0.0, 0.1, (20, 3, 3))
    moves -= moves.mean(axis=0)
    frames = [ase.Atoms("SrTiO", positions=home + move, cell=[4, 6, 5], pbc=True) for move in moves]
    for frame in frames:
        frame.wrap()
    return frames, home, moves


def test_trajectory_gives_the_shortest_offsets(tmp_path):
    frames, home, moves = moved_frames()
    np.testing.assert_allclose(trajectory_offsets(frames), moves[:, :, ::-1], atol=1e-9)
    reference = ase.Atoms("SrTiO", positions=home + [0, 0, 0.05], cell=[4, 6, 5], pbc=True)
    expected = moves[:, :, ::-1] - [0.05, 0, 0]
    np.testing.assert_allclose(trajectory_offsets(frames, reference=reference), expected, atol=1e-9)
    offset = mean_atoms(frames).positions - home
    np.testing.assert_allclose(offset - [4, 6, 5] * np.round(offset / [4, 6, 5]), 0.0, atol=1e-9)
    path = tmp_path / "run.extxyz"
    write(path, frames)
    np.testing.assert_allclose(trajectory_offsets(path), moves[:, :, ::-1], atol=1e-6)


def test_refuses_broken_trajectories(tmp_path):
    frames, *_ = moved_frames()
    with pytest.raises(InputError, match="frame 1 holds"):
        trajectory_offsets([frames[0], frames[1][:2]])
    larger = frames[1].copy()
    larger.set_cell([4.1, 6, 5])
    with pytest.raises(InputError, match="constant volume"):
        trajectory_offsets([frames[0], larger])
    with pytest.raises(InputError, match="no frame"):
        trajectory_offsets([])
    with pytest.raises(InputError, match="no trajectory"):
        trajectory_offsets(tmp_path / "nothing.xyz")
    assert jnp.isfinite(trajectory_offsets(frames[:1])).all()
