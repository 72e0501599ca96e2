"""Which of two conjugate solutions is the specimen: the one whose atoms are positive."""

from __future__ import annotations

import numpy as np

from stemjax.forward.experiment import Experiment
from stemjax.optics.electron import wavelength
from stemjax.optics.probe import probe_waves
from stemjax.optics.scan import probe_positions
from stemjax.problems.ptychography.gauge import skewness
from stemjax.problems.ptychography.patterns import Patterns

DARK = 1.15
"""Electrons beyond this multiple of the semi-angle count as scattered."""


def sign_of_phase(patterns: Patterns, experiment: Experiment) -> tuple[int, str]:
    r"""Sign that the phase of a trial must take.

    A single slice is fitted as well by its conjugate under a scan turned by 180° with every aberration reversed.
    Atoms scatter electrons out of the beam where the probe stands on them, and their phase is positive: the number of
    scattered electrons and the phase under the probe must rise together,

    .. math:: s = \operatorname{sign} \operatorname{corr}_i \left( \sum_{|\alpha| > 1.15 \alpha_0} n_i,\;
        \int |\psi(r - r_i)|^2 \varphi(r) \, d^2 r \right)

    Where that correlation is within two of its standard errors, the skewness of the phase decides: heavy atoms on a
    dark ground make it positive, but low resolution can turn it. Weak or conflicting evidence is called uncertain.

    Args:
        patterns: The piece of the scan that was tried, zero frequency in the corner.
        experiment: What the trial found.

    Returns:
        +1 or −1, and the evidence in words ("uncertain ..." where it is weak).
    """
    scattered, under = _scattered(patterns, experiment), _phase_under_probe(experiment)
    spread = scattered.std() * under.std()
    correlation = (
        float(np.mean((scattered - scattered.mean()) * (under - under.mean())) / spread) if spread > 0 else 0.0
    )
    error = 1.0 / np.sqrt(max(len(scattered) - 3, 1))
    skew = skewness(experiment)
    if abs(correlation) > 2 * error:
        doubt = "uncertain: " if abs(correlation) < 3 * error or (correlation * skew < 0 and abs(skew) > 0.3) else ""
        words = f"{doubt}scattered electrons follow the phase, correlation {abs(correlation):.2f} ± {error:.2f}"
        return (1 if correlation > 0 else -1), words
    doubt = "uncertain: " if abs(skew) < 1.0 else ""
    return (1 if skew >= 0 else -1), (
        f"{doubt}scattered electrons tell nothing (correlation {correlation:.2f} ± {error:.2f}), "
        f"skewness of the phase {abs(skew):.2f}"
    )


def _scattered(patterns: Patterns, experiment: Experiment) -> np.ndarray:
    """Electrons beyond the disk [pattern]."""
    grid = experiment.probe.grid
    ky, kx = grid.frequencies()
    alpha = 1e3 * wavelength(experiment.probe.energy) * np.hypot(ky, kx)
    dark = alpha > DARK * float(experiment.probe.semiangle)
    return patterns.counts[:, dark].sum(axis=1, dtype=float)


def _phase_under_probe(experiment: Experiment) -> np.ndarray:
    """Phase averaged over the probe's intensity at every position [pattern]."""
    from scipy.ndimage import map_coordinates
    from scipy.signal import fftconvolve

    waves = np.fft.ifft2(np.asarray(probe_waves(experiment.probe)))
    intensity = np.fft.fftshift((np.abs(waves) ** 2).sum(axis=0))
    phase = np.asarray(experiment.specimen.phase).sum(axis=0)
    # The intensity's middle lies at n // 2; mirrored, convolution becomes correlation.
    blurred = fftconvolve(phase, intensity[::-1, ::-1] / intensity.sum(), mode="same")
    positions = np.asarray(probe_positions(experiment.scan)) - np.asarray(experiment.specimen.origin)
    return map_coordinates(
        blurred, (positions / np.asarray(experiment.specimen.grid.sampling)).T, order=1, mode="nearest"
    )
