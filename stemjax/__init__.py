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
    "detect.annular": ("AnnularDetector", "annular_response", "check_detectors", "make_annular_detector"),
    "detect.camera": ("Camera", "make_camera"),
    "detect.integration": (
        "charge_density",
        "curl",
        "divergence",
        "integrated_phase",
        "integrated_phase_periodic",
        "scan_frame",
    ),
    "detect.midi": ("MatchedRings", "make_matched_rings"),
    "detect.moments": (
        "MomentDetector",
        "centre_of_mass",
        "deflection",
        "make_moment_detector",
        "position_average",
        "second_moments",
    ),
    "detect.noise": ("Amplitude", "Gaussian", "Poisson"),
    "detect.pixelated": ("PixelatedDetector", "centred", "make_pixelated_detector"),
    "detect.point_spread": ("PointSpread", "make_point_spread"),
    "detect.quantitative": (
        "Calibration",
        "active_area",
        "beam_electrons",
        "calibrate",
        "counts_of",
        "electrons_per_count",
        "fraction",
        "fraction_error",
        "make_calibration",
    ),
    "detect.response_map": (
        "MeasuredDetector",
        "flux_weighted_mean",
        "make_measured_detector",
        "make_response_map",
        "read_detector_image",
        "ring_geometry",
    ),
    "detect.segmented": (
        "SegmentedDetector",
        "make_quadrant_detector",
        "make_segmented_detector",
        "quadrant_differences",
        "segment_deflection",
    ),
    "detect.virtual": ("VirtualDetector", "make_virtual_detector", "pattern_grid", "rebin", "virtual_image"),
    "forward.blocks": ("in_blocks", "simulate_in_blocks"),
    "forward.channelling": ("Channelling", "ThermalImage", "make_thermal_image"),
    "forward.column_image": ("ColumnImage", "ColumnScene"),
    "forward.diffraction": ("Diffraction",),
    "forward.experiment": ("Experiment", "Measurement", "make_experiment"),
    "forward.image": ("ScannedImage", "Signals"),
    "forward.planner": ("PropagationPlan", "choose_propagation"),
    "forward.prism": ("Prism",),
    "forward.recording": (
        "Conditions",
        "Dataset",
        "RecordedImage",
        "RecordedSpectrum",
        "Recording",
        "electrons",
    ),
    "forward.spectrum": ("SpectrumImage", "check_edges"),
    "forward.series": ("DepthSeries", "FocalSeries", "focal_series", "thickness_series"),
    "inference.joint": ("join",),
    "inference.least_squares": ("least_squares",),
    "inference.optimise": ("Plan", "optimise"),
    "inference.priors": ("Positive", "Product", "Ridge", "SliceSmooth", "Smooth", "TotalVariation"),
    "inference.problem": ("Problem", "insert", "log_density", "make_problem", "residual", "start"),
    "inference.result": ("Named", "Result"),
    "inference.ties": ("Equal", "Follow", "Offset", "Scaled"),
    "inference.wells": ("Well",),
    "io": (
        "PatternStream",
        "describe_file",
        "read_dataset",
        "read_recording",
        "read_result",
        "read_truth",
        "write_dataset",
        "write_emd",
        "write_hyperspy",
        "write_recording",
        "write_result",
    ),
    "optics.aberrations": ("Aberrations", "make_aberrations", "phase_error"),
    "optics.coherence": (
        "Coherence",
        "FocalEnvelope",
        "blur_image",
        "focal_spread",
        "make_coherence",
        "make_focal_envelope",
        "rms_of_fwhm",
    ),
    "optics.distortion": (
        "coil_matrix",
        "drift_matrix",
        "line_jitter",
        "random_walk",
        "with_coils",
        "with_drift",
        "with_jitter",
        "with_walk",
    ),
    "optics.electron": ("interaction_parameter", "wavelength"),
    "optics.plates": (
        "ArrayPlate",
        "GaussianPlate",
        "HollowConePlate",
        "ProductPlate",
        "RingPlate",
        "VortexPlate",
        "make_array_plate",
        "make_gaussian_plate",
        "make_hollow_cone_plate",
        "make_product_plate",
        "make_ring_plate",
        "make_vortex_plate",
        "read_array_plate",
    ),
    "optics.modes": ("condensed_probe", "orthogonal_modes"),
    "optics.probe": ("Probe", "make_probe", "probe_waves"),
    "optics.scan": ("Scan", "make_raster", "make_scan", "probe_positions"),
    "optics.scan_paths": ("image_order", "make_hilbert", "make_serpentine", "make_spiral"),
    "optics.scan_points": ("make_random", "make_sparse", "make_sunflower", "spaced_pixels", "uniform_pixels"),
    "optics.scan_series": ("make_pair", "make_series", "make_series_rotated"),
    "optics.window": ("check_window",),
    "scatter.channelling": ("excited",),
    "scatter.multislice": ("multislice",),
    "scatter.prism": ("scattering_matrix", "waves_at_depths"),
    "scatter.propagator": ("exact_propagator", "fresnel_propagator"),
    "core.fourier": ("band_limit", "fourier_shift"),
    "specimen.absorption": ("absorptive_factor", "mean_wave", "thermal_detector_factor", "thermal_detector_potential"),
    "specimen.amorphous": ("amorphous_film",),
    "specimen.assemblies": ("dope", "stacked", "vacancies"),
    "specimen.atomic": (
        "AtomicSpecimen",
        "make_atomic_specimen",
        "with_occupation",
        "with_phonons",
        "with_trajectory",
    ),
    "specimen.builders": ("crystal", "graphene", "monolayer", "mos2_monolayer", "slab"),
    "specimen.columns": ("Columns", "column_intensity", "make_columns", "principal_widths"),
    "specimen.crystal": ("orthogonal_cell",),
    "specimen.fields": (
        "FieldObject",
        "electrostatic_phase",
        "flipped",
        "magnetic_phase",
        "make_field_object",
        "separated_phases",
    ),
    "specimen.grains": ("grain_boundary",),
    "specimen.objects": ("PixelatedObject", "PotentialObject", "make_object", "make_potential_object"),
    "specimen.occupation": ("draw_occupation", "shared_sites"),
    "specimen.particles": ("nanoparticle", "nanoparticle_on_film"),
    "specimen.potential": ("Potential", "cell_grid", "project_factors", "project_potential"),
    "specimen.repeated": ("RepeatedObject", "make_repeated"),
    "specimen.structure": (
        "Structure",
        "from_ase",
        "make_structure",
        "pad_cell",
        "to_ase",
        "with_displacement",
        "wrapped",
    ),
    "spectra.background": ("PowerLaw", "make_power_law"),
    "spectra.collection": ("Collection", "Retarded", "cone_overlap", "make_collection"),
    "spectra.delocalisation": (
        "EdgePotential",
        "delocalisation_length",
        "edge_factor",
        "effective_potential",
        "enclosed",
        "median_radius",
    ),
    "spectra.edges": ("Edge", "FineStructure", "make_edge", "make_fine_structure", "thresholds"),
    "spectra.energy_axis": ("EnergyAxis", "make_energy_axis"),
    "spectra.gain_loss": ("Vibrations", "make_vibrations", "temperature_from", "temperature_of"),
    "spectra.hydrogenic": ("channel_cross_section", "cross_section", "differential_cross_section"),
    "spectra.kinematics": (
        "characteristic_angle",
        "effective_energy",
        "least_transfer",
        "lorentz_factor",
        "momentum_transfer",
        "ridge_angle",
        "wavenumber",
    ),
    "spectra.lineshapes": ("GaussianPeak", "SkewedPeak", "make_gaussian_peak", "make_skewed_peak"),
    "spectra.low_loss": (
        "LowLoss",
        "Oscillators",
        "dielectric_function",
        "make_drude",
        "make_low_loss",
        "make_oscillators",
        "surface_density",
        "volume_density",
    ),
    "spectra.model": (
        "CoreLoss",
        "Spectrometer",
        "expected_spectrum",
        "make_core_loss",
        "make_spectrometer",
        "relative_thickness",
        "single_scattering",
    ),
    "spectra.momentum": (
        "DispersivePlasmon",
        "DisplacedCollection",
        "make_dispersive_plasmon",
        "make_displaced_collection",
        "momentum_resolution",
        "transfer_distribution",
    ),
    "spectra.plural": ("convolve_losses", "plural_scattering", "scattering_order"),
    "specimen.vibration": (
        "b_from_displacement",
        "displacement_from_b",
        "displacement_from_covariance",
        "displacements_of_elements",
        "frozen_phonons",
        "mean_atoms",
        "trajectory_offsets",
    ),
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
