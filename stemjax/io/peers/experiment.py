"""From the state of any program to an experiment of stemjax, whose patterns can be compared with data."""

from __future__ import annotations

import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.grid import make_grid
from stemjax.core.typing import real
from stemjax.forward.experiment import Experiment, make_experiment
from stemjax.io.peers.state import Reconstruction
from stemjax.optics.aberrations import make_aberrations
from stemjax.optics.probe import Probe
from stemjax.optics.scan import make_scan
from stemjax.specimen.objects import make_object

STRONG = 1e4
"""Strength of the pixels against the aperture's amplitude of 1, which is then lost in the rounding."""


def as_experiment(state: Reconstruction) -> Experiment:
    """The experiment that a state stands for: every pixel of the probe as it is, no lens.

    Its patterns are those of the program that found the state: `Diffraction(limit=None)(as_experiment(state))`.

    Args:
        state: The state, with its energy.

    Raises:
        InputError: The energy is missing, or object and probe have different pixels.

    >>> from stemjax.forward.diffraction import Diffraction
    >>> from stemjax.io.peers.state import make_reconstruction
    >>> state = make_reconstruction(np.ones((12, 12)), np.ones((8, 8)), [[1.2, 1.2]], (0.2, 0.2), energy=8e4, dose=50.0)
    >>> patterns = Diffraction(limit=None)(as_experiment(state))
    >>> patterns.shape, round(float(patterns.sum()), 3)  # a flat wave: all of it at zero frequency, in the corner
    ((1, 8, 8), 50.0)
    """
    if state.energy is None:
        raise InputError("the state has no beam energy; give it: dataclasses.replace(state, energy=80e3)")
    if not np.allclose(state.sampling, state.probe_sampling, rtol=1e-5):
        raise InputError(
            f"object pixels of {state.sampling} Å and probe pixels of {state.probe_sampling} Å; resample one of them"
        )
    phase, modulus = np.angle(state.transmission), np.abs(state.transmission)
    specimen = make_object(
        make_grid(state.transmission.shape[1:], state.sampling),
        thickness=state.thickness,
        phase=phase,
        log_amplitude=np.log(np.maximum(modulus, 1e-12)),
    )
    return make_experiment(
        pixel_probe(state, specimen.grid.sampling),
        specimen,
        make_scan(state.positions),
        dose=1.0 if state.dose is None else state.dose,
        tilt=(0.0, 0.0) if state.tilt is None else np.asarray(state.tilt),
    )


def pixel_probe(state: Reconstruction, sampling: tuple[float, float]) -> Probe:
    """A probe whose free pixels are the waves of the state; its aperture is so wide that it stops nothing."""
    waves = np.fft.fft2(np.fft.ifftshift(state.probe, axes=(-2, -1)), norm="ortho")
    grid = make_grid(waves.shape[1:], sampling)
    pixels = STRONG * np.stack([waves.real, waves.imag], axis=1) * np.sqrt(waves[0].size)
    pixels[0, 0] -= 1.0  # what the aperture adds to the first mode
    return Probe(
        aberrations=make_aberrations(),
        semiangle=real(1e6),
        centre=real((0.0, 0.0)),
        pixels=real(pixels),
        energy=float(state.energy or 0.0),
        grid=grid,
    )
