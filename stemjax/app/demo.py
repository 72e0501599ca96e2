"""The demonstration: simulate a recording with a grain of trouble, reconstruct it, report against the truth."""

from __future__ import annotations

import shutil
from pathlib import Path

from stemjax.app.config import PtychographySettings, load_config
from stemjax.app.job import run_job
from stemjax.app.log import open_log
from stemjax.app.progress import Reporting
from stemjax.app.simulation.run import simulate
from stemjax.app.simulation.settings import SimulationSettings
from stemjax.core.errors import InputError

EXAMPLES = Path(__file__).resolve().parent / "examples"
"""Configurations that come with the package; `configs/` of the repository describes more."""


def demo(folder: Path, size: str = "small") -> Path:
    """Simulate a monolayer of MoS2 with a sulphur vacancy and reconstruct it.

    The reconstruction is told a wrong defocus and the scan without its random errors; it refines both.

    Args:
        folder: Where everything goes; made if it does not exist.
        size: "small" (minutes on a laptop) or "large".

    Returns:
        Path of the report.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("simulation", "ptychography"):
        shutil.copyfile(EXAMPLES / f"demo-{size}-{name}.yaml", folder / f"{name}.yaml")
    settings = load_config(folder / "simulation.yaml")
    if not isinstance(settings, SimulationSettings):
        raise InputError(f"{folder / 'simulation.yaml'} is no simulation")
    with open_log(folder / "log.jsonl") as log, Reporting(log=log) as reporter:
        reporter.message("simulating a 4D-STEM scan of MoS2 with a sulphur vacancy")
        truth = simulate(settings, folder / "recording.h5").truth
        job = load_config(folder / "ptychography.yaml")
        if not isinstance(job, PtychographySettings):
            raise InputError(f"{folder / 'ptychography.yaml'} is no reconstruction")
        run_job(job, folder, resume=False, reporter=reporter, truth=truth)
    return folder / "report" / "index.html"
