"""The limit set by FFTW on this machine: pairs of complex64 2-D transforms per second at 128, 256 and 512."""

from __future__ import annotations

from benchmarks.machine import cores
from benchmarks.peer import run_peer


def run(repeats: int) -> dict:
    """Measure with pyFFTW in the environment of the peers.

    Args:
        repeats: Repetitions; the median is reported.

    Returns:
        Pairs per second by size, by layout, and every run.
    """
    return run_peer("fftw", "--repeats", repeats, "--threads", cores())
