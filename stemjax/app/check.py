"""`stemjax check`: what a configuration means for its data, before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from stemjax.app.config import load_config
from stemjax.app.derived_optics import Optics, depth_of_focus, optics
from stemjax.app.estimate import epoch_time, machine_memory, memory, memory_trouble, problem_size, processors
from stemjax.app.fit.settings import FitSettings
from stemjax.app.progress import duration
from stemjax.app.simulation.dose import electrons_of_pattern
from stemjax.app.simulation.settings import SimulationSettings
from stemjax.app.survey import refuse, survey, suspicions
from stemjax.core.errors import InputError
from stemjax.forward.recording import Recording
from stemjax.optics.electron import wavelength
from stemjax.problems.ptychography.calibration import Calibration, calibration, selected_shape
from stemjax.problems.ptychography.settings import PtychographySettings


def check_config(path: str | Path, overrides: Iterable[str] = ()) -> list[str]:
    """Check a configuration and its data.

    Returns:
        Lines "name: value unit" of what follows from it, and remarks on what looks wrong.

    Raises:
        InputError: The configuration or the data cannot be used.
    """
    settings = load_config(path, overrides)
    if isinstance(settings, FitSettings):
        return list(_fit(settings))
    if isinstance(settings, SimulationSettings):
        return _aligned([*simulation_table(settings), *built_table(settings)])
    return _aligned(list(_ptychography(settings)))


def _fit(settings: FitSettings) -> Iterator[str]:
    """What a fit finds from what, its data read or simulated."""
    from stemjax.app.fit.run import described, read_experiment, read_fit

    yield from _aligned(list(simulation_table(read_experiment(settings))))
    yield from described(read_fit(settings))


def simulation_table(settings: SimulationSettings) -> Iterator[tuple[str, str]]:
    """What follows from the configuration of a simulation."""
    beam, scan, potential = settings.probe, settings.scan, settings.potential
    length = wavelength(beam.energy)
    largest = 500 * length / potential.sampling
    yield "problem", "simulation"
    yield "wavelength", f"{length:.5f} Å"
    yield "depth of focus", f"{depth_of_focus(length, beam.semiangle):.1f} Å"
    frames = len(scan.angles) if scan.angles is not None else scan.frames
    times = f", {frames} frames" if frames > 1 else ""
    yield (
        "scan",
        f"{scan.path}, {scan.shape[0]} × {scan.shape[1]} positions, {scan.step[0]:g} × {scan.step[1]:g} Å{times}",
    )
    yield "grid", f"pixels of at most {potential.sampling:g} Å, angles up to {2 / 3 * largest:.0f} mrad (two thirds)"
    if settings.specimen.thickness is not None:
        yield "slices", f"at least {math.ceil(settings.specimen.thickness / potential.slice_thickness - 1e-9)}"
    if settings.specimen.phonons:
        yield "frozen phonons", f"{settings.specimen.phonons} configurations, each computed in full"
    if beam.coherence is not None:
        yield "coherence", _coherence_line(settings)
    members = len(settings.series.defoci) or (len(settings.series.depths) + 1 if settings.series.depths else 1)
    if members > 1:
        yield "series", f"{members} files"
    electrons = electrons_of_pattern(settings)
    yield "electrons per pattern", "no noise" if electrons is None else f"{electrons:.4g}"
    yield from (("remark", text) for text in simulation_remarks(settings, 2 / 3 * largest))


def built_table(settings: SimulationSettings) -> Iterator[tuple[str, str]]:
    """What is found by putting the simulation together: whatever `simulate` refuses is refused here too."""
    import numpy as np

    from stemjax.app.simulation.detectors import virtual_weights
    from stemjax.app.simulation.run import prepare_simulation

    made = prepare_simulation(settings.model_copy(update={"devices": "auto"}))
    if made.detector is not None:
        virtual_weights(settings, made.detector.shape)
    depth, *sides = np.asarray(made.built.structure.cell, float)
    shape = made.experiment.probe.grid.shape
    yield "atoms", f"{len(made.built.structure.numbers)} in {sides[0]:.1f} × {sides[1]:.1f} Å, {depth:.1f} Å deep"
    yield "grid of the wave", f"{shape[0]} × {shape[1]} pixels"
    yield "computed by", made.how


def _coherence_line(settings: SimulationSettings) -> str:
    """Nodes of the quadratures, and the focal spread that they stand for."""
    from stemjax.app.simulation.beam import build_coherence
    from stemjax.optics.coherence import focal_spread

    assert settings.probe.coherence is not None
    made = build_coherence(settings.probe.coherence, settings.probe)
    spread = float(focal_spread(made, settings.probe.energy))
    (y, x), focal = made.source_nodes, made.focal_nodes
    return f"{y} × {x} nodes of the source, {focal} of a focal spread of {spread:.3g} Å rms; computed in fewer modes"


def simulation_remarks(settings: SimulationSettings, largest: float) -> Iterator[str]:
    """What looks wrong in a simulation whose grid carries angles up to `largest` [mrad], and what to do about it."""
    remedy = "give a smaller potential.sampling"
    if largest < settings.probe.semiangle:
        yield f"the grid ends at {largest:.0f} mrad, inside the aperture; {remedy}"
    for name, (_, outer) in settings.detector.annular.items():
        if outer > largest:
            yield f"detector {name} reaches to {outer:g} mrad, the grid to {largest:.0f}; {remedy}"
    yield from thermal_remark(settings)
    size, scan = settings.specimen.size, settings.scan
    if size is not None and any((n - 1) * s > side for n, s, side in zip(scan.shape, scan.step, size, strict=True)):
        yield "the scan is wider than specimen.size; the specimen repeats beyond its border, give a larger size"


def thermal_remark(settings: SimulationSettings) -> Iterator[str]:
    """That a dark field lacks its thermal part, where atoms are told to vibrate and nothing scatters by it."""
    specimen = settings.specimen
    vibrating = specimen.rms_displacement or specimen.b_factors
    scattering = specimen.phonons or specimen.absorption or specimen.trajectory
    dark = [name for name, (inner, _) in settings.detector.annular.items() if inner >= settings.probe.semiangle]
    if vibrating and dark and not scattering:
        names = ", ".join(dark)
        yield f"{names}: elastic scattering only, often far too dark; add specimen.phonons: 8, or absorption: true"


def _ptychography(settings: PtychographySettings) -> Iterator[tuple[str, str]]:
    from stemjax.io import read_recording
    from stemjax.io.checks import check_order

    data = settings.data
    recording = read_recording(
        data.file,
        key=data.key,
        scan_shape=data.scan_shape,
        axes=data.axes,
        format=data.format,
        optics=data.optics(),
        lazy=True,
    )
    known, shape = calibration(recording, data), selected_shape(recording, data)
    if data.axes is None:
        check_order(recording.counts, Path(data.file).name)
    seen = survey(recording, data)
    refuse(seen, data, settings.solver.noise)
    check_scan(settings, shape)
    c10 = known_c10(settings, recording)
    derived = optics(known, shape[2:], c10 or 0.0)
    electrons = known.electrons_per_count * float(seen.pattern.sum())
    yield from _data_table(known, shape, electrons, gain_told=recording.electrons_per_count is not None)
    yield from _optics_table(derived, c10)
    yield from _cost_table(settings, known, shape)
    yield from (("remark", text) for text in remarks(known, derived, electrons, c10))
    yield from (("remark", text) for text in suspicions(seen, known, data))
    yield from (("remark", text) for text in idle(settings))
    if (trouble := memory_trouble(settings, known, shape, machine_memory())) is not None:
        yield "remark", f"{trouble}; stemjax run will refuse it"


def check_scan(settings: PtychographySettings, shape: tuple[int, ...]) -> None:
    """Refuse a scan that is too small for its orientation to be found."""
    if settings.orientation == "auto" and min(shape[:2]) < 3:
        raise InputError(
            f"a scan of {shape[0]} × {shape[1]} points is too small to find its orientation; set orientation: as-is"
        )


def idle(settings: PtychographySettings) -> Iterator[str]:
    """Unknowns that will never be free, because their first epoch is not reached."""
    epochs, refine = settings.solver.epochs, settings.refine
    entries = {name: getattr(refine, name) for name in type(refine).model_fields}
    entries |= {f"aberrations.{name}": entry for name, entry in refine.aberrations.items()}
    for name, entry in entries.items():
        if getattr(entry, "start", 0) >= max(epochs, 1):
            yield (
                f"refine.{name} begins after {entry.start} epochs, solver.epochs is {epochs}: it will not be refined; "
                "give more epochs or an earlier start"
            )


def known_c10(settings: PtychographySettings, recording: Recording) -> float | None:
    """C10 [Å] of the first guess; None where it will be estimated from the data."""
    written = {name: value for name, value in settings.probe.aberrations.items() if name in ("C10", "C1")}
    if written:
        return next(iter(written.values()))
    if settings.probe.defocus != "auto":
        return -settings.probe.defocus
    return None if recording.defocus is None else -recording.defocus


def _data_table(
    known: Calibration, shape: tuple[int, ...], electrons: float, *, gain_told: bool
) -> Iterator[tuple[str, str]]:
    step = known.scan_step
    yield "scan", f"{shape[0]} × {shape[1]} positions, {step[0]:g} × {step[1]:g} Å"
    yield "detector", f"{shape[2]} × {shape[3]} pixels"
    yield "energy", f"{known.energy / 1e3:g} keV"
    yield "semi-angle", f"{known.semiangle:g} mrad"
    yield "electrons per pattern", f"{electrons:.4g}" + ("" if gain_told else " (counts taken for electrons)")
    yield "dose", f"{electrons / (step[0] * step[1]):.4g} e/Å^2"


def _optics_table(derived: Optics, c10: float | None) -> Iterator[tuple[str, str]]:
    yield "wavelength", f"{derived.wavelength:.5f} Å"
    yield "real-space pixel", f"{derived.pixel[0]:.4f} × {derived.pixel[1]:.4f} Å"
    yield "window", f"{derived.window[0]:.1f} × {derived.window[1]:.1f} Å"
    yield "depth of focus", f"{derived.depth_of_focus:.1f} Å"
    focus = "in focus, defocus to be estimated" if c10 is None else f"defocus {-c10 or 0.0:g} Å"
    yield "probe radius", f"{derived.probe_radius:.2f} Å ({focus})"
    yield "overlap", f"{100 * derived.overlap:.0f} %"


def _cost_table(
    settings: PtychographySettings, known: Calibration, shape: tuple[int, int, int, int]
) -> Iterator[tuple[str, str]]:
    size, cores = problem_size(settings, known, shape), processors()
    devices = cores if settings.solver.devices == "auto" else settings.solver.devices
    needs = memory(size, settings.solver.batch, devices)
    seconds, used = epoch_time(size, min(cores, devices)), min(cores, devices)
    yield "object", f"{size.slices} × {size.object_shape[0]} × {size.object_shape[1]} pixels"
    yield "memory", ", ".join(f"{name} {_bytes(value)}" for name, value in needs.items())
    total = duration(seconds * settings.solver.epochs)
    yield "expected time", f"{duration(seconds)} an epoch, {total} in all on {used} CPU cores; a GPU takes less"


def remarks(known: Calibration, derived: Optics, electrons: float, c10: float | None) -> Iterator[str]:
    """What looks wrong, and what to do about it."""
    if known.semiangle > derived.largest_angle:
        yield f"the detector ends at {derived.largest_angle:.1f} mrad, inside the beam; check data.detector_sampling"
    if c10 is not None and 2 * derived.probe_radius > min(derived.window):
        yield "the probe is wider than the window; check data.detector_sampling and probe.defocus"
    if derived.overlap < 0:
        yield gap(known, derived, at_focus=c10 is None)
    elif c10 is not None and derived.overlap < 0.6:
        yield f"neighbouring probes overlap by {100 * derived.overlap:.0f} %; below 60 % the object is ill determined"
    if electrons < 50:
        yield f"{electrons:.3g} electrons a pattern are few; give a prior (prior.total_variation) and noise: poisson"


def gap(known: Calibration, derived: Optics, *, at_focus: bool = False) -> str:
    """What to say where neighbouring probes do not touch."""
    where = "in focus the probe" if at_focus else "the probe"
    return (
        f"{where} is {2 * derived.probe_radius:.3g} Å wide, less than the step of {max(known.scan_step):g} Å: patterns "
        "do not overlap and ptychography cannot join them; check data.scan_step, or record with more defocus"
    )


def _aligned(table: list[tuple[str, str]]) -> list[str]:
    width = max(len(name) for name, _ in table) + 2
    return [f"{name + ':':<{width}}{value}" for name, value in table]


def _bytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
