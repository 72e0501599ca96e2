"""The state of a run on disk: written atomically, read back to the last bit."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import jax
import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.paths import leaves
from stemjax.inference.solvers.optimise import State
from stemjax.io import atomic_hdf5

FORMAT = "stemjax-checkpoint"


class Checkpoint(NamedTuple):
    """Where a run stands.

    Args:
        state: Leaves and optimiser, as numpy arrays.
        epochs: Epochs done.
        loss: Loss of every epoch done.
        held_out: Loss of what is held out, after every epoch done; nan where nothing is.
        times: Seconds of every epoch done.
        fingerprint: What must agree for a run to go on (configuration, input), as text.
        guess: What the first guess found, so that it is not looked for again.
    """

    state: State
    epochs: int
    loss: list[float]
    held_out: list[float]
    times: list[float]
    fingerprint: str
    guess: dict[str, Any]


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all."""
    with atomic_hdf5(path) as file:
        file.attrs["format"] = FORMAT
        file.attrs["epochs"] = checkpoint.epochs
        file["fingerprint"] = checkpoint.fingerprint
        file["guess"] = json.dumps(checkpoint.guess)
        for name in ("loss", "held_out", "times"):
            file[name] = np.array(getattr(checkpoint, name))
        for name, leaf in leaves(checkpoint.state).items():
            file[f"state/{name}"] = np.asarray(leaf)
        file.attrs["sha256"] = digest(file)


def digest(file: h5py.File) -> str:
    """SHA-256 over name, type, shape and bytes of every array of a checkpoint, and over the number of epochs."""
    found: dict[str, h5py.Dataset] = {}
    file.visititems(lambda name, node: found.update({name: node}) if isinstance(node, h5py.Dataset) else None)
    total = hashlib.sha256(f"{FORMAT} {int(file.attrs['epochs'])}".encode())
    for name in sorted(found):
        value = found[name][()]
        data = value if isinstance(value, bytes) else np.ascontiguousarray(value).tobytes()
        total.update(f"{name} {found[name].dtype.str} {found[name].shape} {len(data)}".encode() + data)
    return total.hexdigest()


def load(path: Path, fingerprint: str) -> Checkpoint:
    """Read a checkpoint; its state is a flat mapping until `restore` gives it the shape of the run.

    Raises:
        InputError: It is damaged, or belongs to another configuration or input.
    """
    try:
        with h5py.File(path) as file:
            if file.attrs.get("format") != FORMAT:
                raise InputError(f"{path} is no checkpoint of stemjax; run without --resume")
            if file.attrs.get("sha256") != digest(file):
                raise ValueError("its checksum does not fit its contents")
            stored = file["fingerprint"].asstr()[()]
            if (other := difference(stored, fingerprint)) is not None:
                raise InputError(f"{path} belongs to another run ({other}); run without --resume")
            flat: dict[str, np.ndarray] = {}
            file["state"].visititems(
                lambda name, node: flat.update({name: node[()]}) if isinstance(node, h5py.Dataset) else None
            )
            return Checkpoint(
                state=flat,  # type: ignore[arg-type]
                epochs=int(file.attrs["epochs"]),
                loss=[float(v) for v in file["loss"][()]],
                held_out=[float(v) for v in file["held_out"][()]],
                times=[float(v) for v in file["times"][()]],
                fingerprint=stored,
                guess=json.loads(file["guess"].asstr()[()]),
            )
    except InputError:
        raise
    except Exception as error:  # the HDF5 library raises nearly anything when the bytes are wrong
        raise InputError(f"{path} is damaged ({error}); run without --resume") from None


def restore(template: State, checkpoint: Checkpoint) -> State:
    """The state of a checkpoint in the shape of a run's own.

    Raises:
        InputError: The shapes differ.
    """
    names, flat = list(leaves(template)), checkpoint.state
    found = []
    for name, leaf in zip(names, jax.tree.leaves(template), strict=True):
        value = flat.get(name)  # type: ignore[attr-defined]
        if value is None or value.shape != np.shape(leaf) or value.dtype != leaf.dtype:
            raise InputError(f"the checkpoint does not fit this run: {name} differs; run without --resume")
        found.append(value)
    return jax.tree.unflatten(jax.tree.structure(template), found)


def difference(stored: str, wanted: str) -> str | None:
    """Which entries of two fingerprints differ; None where they agree."""
    if stored == wanted:
        return None
    try:
        old, new = json.loads(stored), json.loads(wanted)
        return ", ".join(sorted(k for k in {*old, *new} if old.get(k) != new.get(k)))[:200] or "other contents"
    except (ValueError, AttributeError):
        return "other contents"
