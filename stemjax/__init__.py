"""Differentiable simulation and reconstruction for scanning transmission electron microscopy.

A STEM experiment is a pytree, one differentiable function turns it into expected counts, and an inverse problem is a
statement about which leaves are free. Importing stemjax sets no jax flag; `setup` does, once, before anything computes.
"""

from __future__ import annotations

import importlib
from typing import Any

from stemjax.core.setup import setup

__version__ = "0.1.0.dev0"

_HOME = {
    "core.errors": ("InputError",),
    "core.executor": ("Execution", "plan"),
    "core.grid": ("Grid", "make_grid"),
    "core.paths": ("leaves", "replace", "select"),
    "detect.annular": ("AnnularDetector", "make_annular_detector"),
    "detect.noise": ("Amplitude", "Gaussian", "Poisson"),
    "detect.pixelated": ("PixelatedDetector", "make_pixelated_detector"),
    "forward.diffraction": ("Diffraction",),
    "forward.experiment": ("Experiment", "Measurement", "make_experiment"),
    "forward.image": ("ScannedImage",),
    "forward.recording": ("Recording",),
    "inference.optimise": ("Plan", "Solution", "optimise"),
    "inference.priors": ("Positive", "Product", "Ridge", "SliceSmooth", "Smooth", "TotalVariation"),
    "inference.problem": ("Problem", "insert", "log_density", "make_problem", "residual", "start"),
    "inference.result": ("Named", "Result"),
    "io": ("describe_file", "read_recording", "read_result", "write_recording", "write_result"),
    "optics.aberrations": ("Aberrations", "make_aberrations", "phase_error"),
    "optics.electron": ("interaction_parameter", "wavelength"),
    "optics.probe": ("Probe", "make_probe", "probe_waves"),
    "optics.scan": ("Scan", "make_raster", "make_scan", "probe_positions"),
    "scatter.multislice": ("multislice", "thickness_series"),
    "scatter.propagator": ("exact_propagator", "fresnel_propagator"),
    "specimen.builders": ("mos2_monolayer", "slab"),
    "specimen.crystal": ("orthogonal_cell",),
    "specimen.objects": ("PixelatedObject", "PotentialObject", "make_object", "make_potential_object"),
    "specimen.potential": ("Potential", "cell_grid", "project_potential"),
    "specimen.structure": ("Structure", "from_ase", "make_structure", "to_ase"),
}
"""Public names by the module that defines them; each module is imported when a name of it is first used."""

_DISTRIBUTIONS = ("HalfNormal", "LogNormal", "Normal", "Uniform")
"""Priors that are numpyro's own distributions."""

_WHERE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [*_WHERE, *_DISTRIBUTIONS, "setup"]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"stemjax.{_WHERE[name]}"), name)
    if name in _DISTRIBUTIONS:
        return getattr(importlib.import_module("numpyro.distributions"), name)
    raise AttributeError(f"module 'stemjax' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
