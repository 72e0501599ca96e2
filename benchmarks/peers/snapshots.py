"""What the ptychography scripts of this folder share: reading a task, writing snapshots. Needs numpy alone."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def arguments(program: str, more: Callable | None = None) -> argparse.Namespace:
    """The command line that all of them take."""
    parser = argparse.ArgumentParser(description=f"Reconstruct a task with {program}.")
    parser.add_argument("task", help="npz file of a task")
    parser.add_argument("folder", help="folder of the snapshots")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1e9, help="end after the first snapshot later than this [s]")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, help="learning rate of the object; the program's own if left out")
    parser.add_argument("--every", type=int, default=1, help="epochs between snapshots; the first four always")
    if more is not None:
        more(parser)
    return parser.parse_args()


def read_task(path: str) -> dict:
    """Counts [scan_y scan_x ky kx], zero frequency in the middle, and the optics as plain numbers."""
    with np.load(path) as file:
        return {"counts": file["counts"], **json.loads(str(file["optics"]))}


class Snapshots:
    """Writes the object and the seconds since the program was started, its own writing not counted.

    Args:
        asked: From `arguments`.
        started: `time.monotonic()` at the first line of the program.
    """

    def __init__(self, asked: argparse.Namespace, started: float) -> None:
        self.folder, self.every, self.limit = Path(asked.folder), asked.every, asked.seconds
        self.started, self.spent = started, 0.0
        self.folder.mkdir(parents=True, exist_ok=True)

    def seconds(self) -> float:
        """Seconds that the program had for its work."""
        return time.monotonic() - self.started - self.spent

    def over(self) -> bool:
        """Whether its time is used up."""
        return self.seconds() > self.limit

    def due(self, epoch: int) -> bool:
        """Whether a snapshot is wanted after this epoch, counted from 1."""
        return epoch <= 4 or epoch % self.every == 0

    def write(self, epoch: int, **arrays: np.ndarray) -> None:
        """Write `phase` [slice ny nx] [rad], `sampling` [Å], `positions` [pattern 2] from pixel (0, 0) [Å]."""
        begin, seconds = time.monotonic(), self.seconds()
        np.savez(self.folder / f"epoch_{epoch:04d}.npz", seconds=seconds, epoch=epoch, **arrays)
        print(f"epoch {epoch} {seconds:.2f} s", flush=True)
        self.spent += time.monotonic() - begin
