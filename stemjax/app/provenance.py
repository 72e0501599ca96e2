"""Where a result comes from: versions, seed, machine, times, checksum of the input."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("stemjax", "jax", "jaxlib", "flax", "optax", "numpyro", "numpy", "scipy", "h5py")


def provenance(*, seed: int, source: Path | None = None) -> dict[str, Any]:
    """What is needed to make a result again, as plain values.

    Args:
        seed: Seed of the run.
        source: The input file, for its checksum.

    >>> provenance(seed=1)["seed"]
    1
    """
    import jax

    from stemjax.io import sha256

    return {
        "seed": seed,
        "versions": {name: _version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "host": platform.node(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "devices": [f"{d.platform}:{d.id} {d.device_kind}" for d in jax.devices()],
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "git_commit": _commit(),
        "input_name": source.name if source else None,
        "input_sha256": sha256(source) if source else None,
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str | None:
    """Commit of the checkout that stemjax runs from, if it runs from one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
