"""What a key of `refine` frees, what is believed of it, and how fast it moves: one table for all unknowns.

| key | leaf | belief unless written otherwise | natural rate |
| --- | --- | --- | --- |
| object | `specimen.phase`, `.log_amplitude` or `.values` | as `prior` says | 0.02 rad |
| probe | `probe.pixels` | none | 1 % of an aperture's amplitude |
| aberrations, defocus | `probe.aberrations.*` | none | 0.05 rad at the aperture's edge |
| semiangle | `probe.semiangle` | what is written, within 2 % | 2e-4 of it |
| positions | `scan.positions` | `position_std` about the raster, where written | 1 % of λ/2α |
| affine | `scan.affine` | none | 2 % of λ/α at the edge of the scan |
| lines | `scan.jitter` | `position_std`, else 10 % of λ/2α | as positions |
| drift | `scan.walk` at every line | a random walk, `drift_step` a line, else 2 % of λ/2α | as positions |
| descan | `scan.descan` | `descan_std`, else half a detector pixel | 3 % of a detector pixel |
| tilt | `tilt` for all patterns | none | 0.05 mrad |
| tilts | `tilt` of every pattern | `tilt_std`, else 2 mrad | 0.05 mrad |
| thickness | `specimen.thickness` | none | 2 % of λ/α² over the slices |
| (a mask) | `dose` | what the unhidden part of the disk tells, within 50 % | 0.2 % of it |
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from stemjax.core.errors import InputError
from stemjax.forward.experiment import Experiment
from stemjax.inference.priors.images import Positive, Product, Ridge, SliceSmooth, Smooth, TotalVariation
from stemjax.inference.priors.paths import RandomWalk
from stemjax.optics.aberrations import NAMES
from stemjax.optics.electron import interaction_parameter, wavelength
from stemjax.problems.ptychography.settings import PtychographySettings

SOFT_ZERO = 0.3
"""A phase that is kept positive starts here, and feels the constraint below it [rad]."""

SEMIANGLE_SPREAD = 0.02
"""Relative standard deviation of a convergence semi-angle that somebody wrote down."""

DOSE_SPREAD = 0.5
"""Relative standard deviation of the electrons in a pattern, where a mask hides some of them."""

LINE_SPREAD, DRIFT_STEP = 0.1, 0.02
"""Standard deviation of a line's displacement and of the drift from line to line, over the resolution λ/2α."""

DESCAN_SPREAD, TILT_SPREAD = 0.5, 2.0
"""Standard deviation of the descan over a detector pixel, and of the tilt of single patterns [mrad]."""

PLAIN = {
    "semiangle": "probe.semiangle",
    "probe": "probe.pixels",
    "positions": "scan.positions",
    "affine": "scan.affine",
    "lines": "scan.jitter",
    "drift": "scan.walk",
    "descan": "scan.descan",
    "thickness": "specimen.thickness",
    "tilt": "tilt",
    "tilts": "tilt",
    "defocus": "probe.aberrations.C10",
}
"""Keys of `refine` that free one leaf each."""


def free_leaves(settings: PtychographySettings) -> dict[str, tuple[str, int, float | None]]:
    """Free leaves by path: the kind of unknown, the first epoch, the rate that was written beside it."""
    refine, kind = settings.refine, settings.object.kind
    table: dict[str, tuple[str, int, float | None]] = {}
    if refine.object is not None:
        leaves = ["specimen.values"] if kind == "potential" else ["specimen.phase"]
        leaves += ["specimen.log_amplitude"] if kind == "complex" else []
        table |= {leaf: ("object", refine.object.start, refine.object.rate) for leaf in leaves}
    for name, entry in _free_aberrations(settings).items():
        table[f"probe.aberrations.{name}"] = ("aberrations", entry.start, entry.rate)
    for name, leaf in PLAIN.items():
        if (entry := getattr(refine, name)) is not None:
            table[leaf] = (name, entry.start, entry.rate)
    if settings.data.mask is not None and table:
        # Electrons under a beam stop are not counted: how many there were is found as well.
        table["dose"] = ("dose", 0, None)
    if not table:
        raise InputError("nothing is free: every line of 'refine' is false; set refine.object: true")
    return table


def _free_aberrations(settings: PtychographySettings) -> Mapping[str, Any]:
    """Cartesian leaves that are free; "all" and the name of a pair stand for their parts."""
    named = settings.refine.aberrations
    found = {}
    for leaf in NAMES:
        for key in ("all", leaf[:3], leaf):
            if key in named:
                found[leaf] = named[key]
    return found


def priors(settings: PtychographySettings, experiment: Experiment) -> dict[str, Any]:
    """Priors by path; strengths of the configuration are inverse scales of the densities."""
    found: dict[str, Any] = {}
    if factors := _object_factors(settings, experiment):
        leaf = "specimen.values" if settings.object.kind == "potential" else "specimen.phase"
        found[leaf] = factors[0] if len(factors) == 1 else Product(tuple(factors))
    return found | _scan_priors(settings, experiment) | _optics_priors(settings, experiment)


def _object_factors(settings: PtychographySettings, experiment: Experiment) -> list[Any]:
    choice = settings.prior
    # Strengths are written for a phase in radians; a potential is that phase over σ.
    unit = 1.0
    if settings.object.kind == "potential":
        unit = 1.0 / interaction_parameter(experiment.probe.energy)
    factors: list[Any] = [Positive(SOFT_ZERO * unit)] if choice.positivity else []
    if choice.total_variation:
        factors.append(TotalVariation(unit / choice.total_variation, 1e-3 * unit))
    if choice.smoothness:
        factors.append(Smooth(unit * choice.smoothness**-0.5))
    if choice.slice_smoothness and settings.object.slices > 1:
        factors.append(SliceSmooth(unit * choice.slice_smoothness**-0.5))
    return factors


def _scan_priors(settings: PtychographySettings, experiment: Experiment) -> dict[str, Any]:
    choice, refine = settings.prior, settings.refine
    found: dict[str, Any] = {}
    if choice.position_std is not None and refine.positions is not None:
        found["scan.positions"] = Ridge(choice.position_std, np.asarray(experiment.scan.positions))
    if refine.lines is not None:
        found["scan.jitter"] = Ridge(choice.position_std or LINE_SPREAD * resolution(experiment))
    if refine.drift is not None:
        step = choice.drift_step or DRIFT_STEP * resolution(experiment)
        # The first line stands still: a drift of all lines alike is a shift of the object.
        found["scan.walk"] = RandomWalk(step, start=step)
    return found


def _optics_priors(settings: PtychographySettings, experiment: Experiment) -> dict[str, Any]:
    from numpyro.distributions import LogNormal

    choice, refine = settings.prior, settings.refine
    found: dict[str, Any] = {}
    if refine.semiangle is not None:
        found["probe.semiangle"] = LogNormal(math.log(float(experiment.probe.semiangle)), SEMIANGLE_SPREAD)
    if settings.data.mask is not None:
        found["dose"] = LogNormal(math.log(float(experiment.dose)), DOSE_SPREAD)
    if refine.descan is not None:
        found["scan.descan"] = Ridge(choice.descan_std or DESCAN_SPREAD * detector_pixel(experiment))
    if refine.tilts is not None:
        found["tilt"] = Ridge(choice.tilt_std or TILT_SPREAD)
    return found


def resolution(experiment: Experiment) -> float:
    """λ/2α [Å]."""
    return wavelength(experiment.probe.energy) / (2e-3 * float(experiment.probe.semiangle))


def detector_pixel(experiment: Experiment) -> float:
    """Size of a pixel of the detector, the mean of both axes [mrad]."""
    return float(np.mean(experiment.probe.grid.angular_sampling(wavelength(experiment.probe.energy))))


def natural_rate(leaf: str, experiment: Experiment) -> float:
    """Step of a leaf that changes the pattern by a few hundredths of a radian: the default learning rate.

    An aberration of order n moves the phase at the edge of the aperture by 2π α^(n+1) C / (λ (n+1)); positions move by
    a hundredth of the resolution λ/2α.

    Args:
        leaf: Path of the leaf.
        experiment: The experiment, for its optics.

    Returns:
        Rate in the unit of the leaf.
    """
    alpha = 1e-3 * float(experiment.probe.semiangle)
    length = wavelength(experiment.probe.energy)
    extent = float(np.ptp(np.asarray(experiment.scan.positions), axis=0).max()) + 1e-9
    if leaf.startswith("probe.aberrations."):
        order = int(leaf.rsplit(".", 1)[1][1])
        return 0.05 * length * (order + 1) / (2 * math.pi * alpha ** (order + 1))
    return {
        "specimen.phase": 0.02,
        "specimen.log_amplitude": 0.01,
        "specimen.values": 0.02 / interaction_parameter(experiment.probe.energy),
        "probe.pixels": 0.01,
        "scan.positions": 0.01 * length / (2 * alpha),
        "scan.jitter": 0.01 * length / (2 * alpha),
        "scan.walk": 0.01 * length / (2 * alpha),
        "scan.descan": 0.03 * detector_pixel(experiment),
        # The unconstrained values are logarithms.
        "probe.semiangle": 2e-4,
        "dose": 2e-3,
        "scan.affine": 0.02 * length / alpha / extent,
        "specimen.thickness": 0.02 * length / alpha**2 / max(np.shape(jax.tree.leaves(experiment.specimen)[0])[0], 1),
        "tilt": 0.05,
    }[leaf]
