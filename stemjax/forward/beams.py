"""Which plane waves a probe consists of: known before anything is traced, because it decides the shapes of arrays."""

from __future__ import annotations

import jax
import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.core.typing import Array
from stemjax.optics.aberrations import make_aberrations
from stemjax.optics.electron import wavelength
from stemjax.optics.probe import SUPPORT, Probe, aperture, probe_waves


def aperture_beams(probe: Probe, reach: float | None = None) -> np.ndarray:
    """Flat indices of the reciprocal pixels that the probe's waves occupy.

    Args:
        probe: The probe. With `reach`, only its grid and energy are looked at, and its leaves may be traced.
        reach: Largest angle of a beam [mrad]; taken from the probe itself if left out.

    Raises:
        InputError: The aperture is traced and no reach is given, or the reach is too small for the aperture.

    >>> from stemjax.optics.probe import make_probe
    >>> len(aperture_beams(make_probe(Grid((16, 16), (0.5, 0.5)), energy=80e3, semiangle=8.0)))
    13
    """
    support = _support(probe)
    if reach is None and support is None:
        raise InputError(
            "the probe's aperture is traced (inside jit or grad), so its beams cannot be counted; tell the "
            "largest angle of a beam, as Prism().fitted(experiment) does outside"
        )
    if reach is None:
        assert support is not None
        return np.flatnonzero(support)
    within = _angle(probe.grid, probe.energy) <= reach * (1 + 1e-6)
    if support is not None and (support & ~within).any():
        raise InputError(
            f"a reach of {reach:g} mrad is too small for this probe, whose beams go to {reach_of(probe):.4g} mrad"
        )
    return np.flatnonzero(within)


def reach_of(probe: Probe) -> float:
    """Largest angle from the optic axis that the probe's waves reach [mrad]; its leaves must not be traced.

    >>> from stemjax.optics.probe import make_probe
    >>> round(reach_of(make_probe(Grid((16, 16), (0.5, 0.5)), energy=80e3, semiangle=8.0)), 2)
    10.44
    """
    support = _support(probe)
    if support is None:
        raise InputError("the probe's aperture is traced; call reach_of outside of jit and grad")
    return float(_angle(probe.grid, probe.energy)[support].max())


def _support(probe: Probe) -> np.ndarray | None:
    """Where any wave of the probe is not zero, or could become so [ny nx]; None where the leaves are traced.

    Aberrations and coherence change the waves' phases and weights only: they may be traced.
    """
    with jax.ensure_compile_time_eval():
        still = probe.replace(aberrations=make_aberrations(), coherence=None)
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(still)):
            return None
        found = np.asarray(np.abs(_waves(still)) > 0).any(axis=0)
        if probe.pixels is not None:
            found |= np.asarray(_free(still)) > 0
    return np.asarray(found)


_waves = jax.jit(probe_waves)
"""Compiled as a whole: operation by operation it would take seconds."""


@jax.jit
def _free(probe: Probe) -> Array:
    """Where the probe's free pixels may live [ny nx]."""
    edge = SUPPORT * probe.semiangle
    return aperture(probe.grid, probe.energy, edge, centre=probe.centre, soft=probe.soft)


def _angle(grid: Grid, energy: float) -> np.ndarray:
    ky, kx = grid.frequencies()
    return 1e3 * wavelength(energy) * np.hypot(ky, kx)
