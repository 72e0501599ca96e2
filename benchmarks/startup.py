"""How long a person waits before anything happens: imports, --help, a second run of the same shapes (P7, U1)."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

IMPORTS = {"jax and flax": "import jax, flax", "stemjax": "import jax, flax, stemjax", "python": "pass"}


def run(repeats: int) -> dict:
    """Measure whole processes, in turn.

    Args:
        repeats: Rounds.

    Returns:
        Seconds, medians; and the time from the command to the end of the first epoch, without and with a cache.
    """
    rounds = [{name: seconds([sys.executable, "-c", code]) for name, code in IMPORTS.items()} for _ in range(repeats)]
    found = {name: round(statistics.median(r[name] for r in rounds), 3) for name in IMPORTS}
    added = statistics.median(r["stemjax"] - r["jax and flax"] for r in rounds)
    command = [str(Path(sys.executable).with_name("stemjax")), "--help"]
    return {
        "import_seconds": found,
        "stemjax_adds_seconds": round(added, 3),
        "help_seconds": round(statistics.median(seconds(command) for _ in range(repeats)), 3),
        "first_epoch_seconds": first_epochs(repeats),
    }


def seconds(command: list[str]) -> float:
    """Wall time of one process."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def first_epochs(repeats: int) -> dict:
    """Time from the command to the end of the first epoch of the demonstration: cache empty, then filled."""
    import stemjax
    from stemjax.app.config import load_config
    from stemjax.app.demo import EXAMPLES
    from stemjax.app.simulation.run import simulate

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("simulation", "ptychography"):
            (folder / f"{part}.yaml").write_text((EXAMPLES / f"demo-small-{part}.yaml").read_text())
        stemjax.setup(cache=folder / "other")
        simulate(load_config(folder / "simulation.yaml"), folder / "recording.h5")  # type: ignore[arg-type]
        cold = [first_epoch(folder, folder / f"cache{i}") for i in range(repeats)]
        warm = [first_epoch(folder, folder / "cache0") for _ in range(repeats)]
    return {"cache_empty": round(statistics.median(cold), 2), "cache_filled": round(statistics.median(warm), 2)}


def first_epoch(folder: Path, cache: Path) -> float:
    """Seconds until one epoch is logged."""
    import json
    import os
    import shutil

    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    program = str(Path(sys.executable).with_name("stemjax"))
    words = [program, "run", str(folder / "ptychography.yaml"), "-o", str(out)]
    words += ["-s", "solver.epochs=1", "-s", "output.report=false"]
    start = time.time()
    subprocess.run(words, check=True, capture_output=True, env={**os.environ, "STEMJAX_CACHE": str(cache)})
    events = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return next(e["time"] for e in events if e["event"] == "epoch") - start
