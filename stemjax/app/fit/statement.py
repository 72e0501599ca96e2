"""From the settings of a fit to a problem: the simulated experiment, its data, what is free and believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from stemjax.app.fit.beliefs import changed, prior_of, read_belief
from stemjax.app.fit.settings import FitSettings
from stemjax.app.simulation.detectors import MOMENTS, build_camera
from stemjax.app.simulation.dose import electrons_of_pattern
from stemjax.app.simulation.files import recording_of
from stemjax.app.simulation.run import prepare_simulation
from stemjax.app.simulation.settings import SimulationSettings
from stemjax.app.simulation.signals import stored_order
from stemjax.core.annotations import Meaning, meanings
from stemjax.core.errors import InputError, nearest
from stemjax.core.executor import plan
from stemjax.core.paths import leaves, matching, replace
from stemjax.core.typing import real
from stemjax.detect.camera import STRAY
from stemjax.detect.noise import Poisson
from stemjax.detect.pixelated import cornered
from stemjax.forward.diffraction import Diffraction
from stemjax.forward.experiment import Experiment, Measurement
from stemjax.forward.image import PATTERNS, ScannedImage, Signals
from stemjax.forward.recording import Dataset, Recording
from stemjax.inference.problem import Problem, make_problem
from stemjax.inference.wells import Well
from stemjax.optics.electron import wavelength

FOCUS = "probe.aberrations.C10"


@dataclass(frozen=True)
class Fit:
    """A problem, and the experiment behind simulated data (None for real ones)."""

    problem: Problem
    truth: Experiment | None
    source: str
    """Where the data come from, in words."""


def state_fit(settings: FitSettings, experiment_settings: SimulationSettings, data: Dataset | None) -> Fit:
    """The problem of a fit.

    Args:
        settings: The fit.
        experiment_settings: The simulation that describes the experiment as first guessed.
        data: The recording; None simulates one.

    Raises:
        InputError: A path, a unit, a signal or a shape does not fit.
    """
    guess, forward = _experiment(settings, experiment_settings)
    names = _signals(settings, guess, forward)
    forward = _reduced(forward, names)
    guess = guess.replace(detectors={n: d for n, d in guess.detectors.items() if n in names})
    noise = {n: None if n == PATTERNS and guess.camera is not None else Poisson() for n in names}
    if data is not None:
        _check_conditions(settings, experiment_settings, data.recording, guess, names)
        truth, measured = None, _read(data, names, guess)
    else:
        truth = _truth(settings, guess)
        measured = _simulated(truth, forward, noise, settings.seed)
    alone = names == [PATTERNS]
    beliefs = _beliefs(settings, guess)
    problem = make_problem(
        guess,
        measured[PATTERNS] if alone else measured,
        forward=forward,
        noise=noise[PATTERNS] if alone else noise,
        free=list(beliefs),
        priors={path: prior for path, prior in beliefs.items() if prior is not None},
        wells=_wells(beliefs, guess),
    )
    return Fit(problem, truth, _source(settings))


def _source(settings: FitSettings) -> str:
    if settings.data is not None:
        return f"from {settings.data}"
    return (
        "simulated with truth" if settings.truth else "simulated from the first guess itself: no data, no truth given"
    )


def _experiment(settings: FitSettings, choice: SimulationSettings) -> tuple[Experiment, Signals]:
    """The experiment in electrons, with its camera, and a simulator of all its signals."""
    if choice.series.depths or choice.series.defoci or choice.spectrum is not None or choice.specimen.absorption:
        raise InputError(
            "simulation: a fit takes one scan of patterns or images; drop series, spectrum and specimen.absorption "
            "there"
        )
    electrons = electrons_of_pattern(choice)
    if electrons is None:
        raise InputError("simulation: a fit needs electrons; add 'dose: {per_pattern: 1e4}' there")
    atoms = any("structure" in path.split(".") for path in (*settings.free, *settings.truth))
    made = prepare_simulation(choice, atoms=atoms)
    camera = build_camera(choice)
    if camera is not None:
        camera = camera.replace(stray=real(STRAY))
    devices = None if settings.devices == "auto" else settings.devices
    simulator = Diffraction(made.detector, limit_transmission=True, execution=plan(devices))
    experiment = made.experiment.replace(dose=real(electrons), camera=camera if made.detector is not None else None)
    return experiment, Signals(simulator)


def _signals(settings: FitSettings, guess: Experiment, forward: Signals) -> list[str]:
    """Names of the signals that are fitted."""
    grid, energy = guess.probe.grid, guess.probe.energy
    counted = [PATTERNS] if forward.diffraction.detector is not None else []
    for name, detector in guess.detectors.items():
        response = np.asarray(detector.response(grid, energy), float)
        if name != MOMENTS and response.min() >= -1e-9 and response.max() <= 1.0 + 1e-9:
            counted.append(name)
    for name in settings.signals:
        if name not in counted:
            raise InputError(
                f"signals: '{name}' is no signal of the simulation that counts electrons; {nearest(name, counted)}"
            )
    if settings.signals:
        return list(dict.fromkeys(settings.signals))
    # Images beside patterns are the same electrons twice; they would count twice.
    return [PATTERNS] if PATTERNS in counted else counted


def _reduced(forward: Signals, names: list[str]) -> Any:
    """The simulator of no more than what is fitted."""
    if names == [PATTERNS]:
        return forward.diffraction
    return forward if PATTERNS in names else ScannedImage(forward.diffraction)


def _truth(settings: FitSettings, guess: Experiment) -> Experiment:
    """The experiment behind simulated data."""
    known, meaning = leaves(guess), meanings(guess)
    random, values = np.random.default_rng([settings.seed, 7]), {}
    for pattern, change in settings.truth.items():
        for path in _matching(known, pattern, "truth"):
            try:
                values[path] = real(changed(known[path], change, meaning.get(path, Meaning()).unit, random))
            except InputError as error:
                raise InputError(f"truth.{pattern}: {error}") from None
    return replace(guess, values)


def _simulated(truth: Experiment, forward: Any, noise: dict[str, Any], seed: int) -> dict[str, Measurement]:
    """Counts of every signal."""
    values = jax.jit(lambda e: forward(e))(truth)
    values = values if isinstance(values, dict) else {PATTERNS: values}
    found, keys = {}, jax.random.split(jax.random.key(seed), len(noise))
    for key, (name, model) in zip(keys, noise.items(), strict=True):
        counter = truth.camera if model is None else model
        found[name] = Measurement(np.asarray(counter.sample(key, values[name])))
    return found


def _check_conditions(
    settings: FitSettings, choice: SimulationSettings, found: Recording, guess: Experiment, names: list[str]
) -> None:
    """Refuse a recording that was taken otherwise than the simulation describes; what is free may differ."""
    free, conditions = set(_free(settings, guess)), found.conditions
    ours = recording_of(guess, choice, None, None, stored_order(guess.scan)[0])
    told = [
        ("energy", "probe.energy", "eV", found.energy, ours.energy),
        ("semi-angle", "probe.semiangle", "mrad", found.semiangle, ours.semiangle),
        ("step", None, "Å", found.scan_step, ours.scan_step),
        ("electrons a pattern", "dose", "electron", conditions.dose, ours.conditions.dose),
        ("electrons a count", "camera.gain", "electron", found.electrons_per_count, ours.electrons_per_count),
    ]
    if PATTERNS in names:
        told.append(("detector pixel", None, "mrad", found.detector_sampling, ours.detector_sampling))
    for name, path, unit, theirs, expected in told:
        if theirs is None or expected is None or path in free:
            continue
        if not np.allclose(theirs, expected, rtol=1e-3, atol=0.0):
            raise InputError(
                f"data: the file says {name} {_in_words(theirs)} {unit}, the simulation {_in_words(expected)} {unit}; "
                "use the configuration that describes these data"
            )


def _in_words(value: Any) -> str:
    return " × ".join(f"{v:.6g}" for v in np.ravel(value))


def _read(data: Dataset, names: list[str], guess: Experiment) -> dict[str, Measurement]:
    """The recorded signals in the order of the scan."""
    order, shape = stored_order(guess.scan)
    found = {}
    for name in names:
        stored = _stored(data, name)
        rows = _rows(data, name)
        if stored.shape[0] != len(order) or rows != (len(order) // shape[-1], shape[-1]):
            raise InputError(
                f"data: '{name}' has {_in_words(rows)} positions, the simulation's scan {_in_words(shape)}; "
                "use the configuration that describes these data"
            )
        counts = np.empty_like(stored)
        counts[order] = stored
        found[name] = Measurement(counts)
    return found


def _rows(data: Dataset, name: str) -> tuple[int, int]:
    """Rows (those of all frames) and columns that a signal was stored as."""
    if name == PATTERNS:
        return data.recording.scan_shape
    shape = np.shape(data.images[_channels(data, name)[0]].values)
    return int(np.prod(shape[:-1])), shape[-1]


def _channels(data: Dataset, name: str) -> list[str]:
    found = [key for key in data.images if key == name or key.rpartition("_")[0] == name]
    if not found:
        raise InputError(f"data: the file holds no image '{name}'; {nearest(name, data.images)}")
    return found


def _stored(data: Dataset, name: str) -> np.ndarray:
    if name == PATTERNS:
        counts = np.asarray(data.recording.counts)
        if not counts.size:
            raise InputError("data: the file holds no patterns; name the detectors that are fitted in signals")
        return cornered(counts.reshape(-1, *counts.shape[2:]).astype(float))
    channels = _channels(data, name)
    images = [np.asarray(data.images[key].values, float).ravel() for key in channels]
    return images[0] if channels == [name] else np.stack(images, axis=1)


def _beliefs(settings: FitSettings, guess: Experiment) -> dict[str, Any]:
    """Prior of every free leaf; of two patterns that name a leaf the later one holds."""
    known, meaning = leaves(guess), meanings(guess)
    found: dict[str, Any] = {}
    for pattern, entry in settings.free.items():
        for path in _matching(known, pattern, "free"):
            found[path] = prior_of(path, read_belief(entry), known[path], meaning.get(path, Meaning()))
    return found


def _free(settings: FitSettings, guess: Experiment) -> list[str]:
    known = leaves(guess)
    return [path for pattern in settings.free for path in _matching(known, pattern, "free")]


def _matching(known: dict[str, Any], pattern: str, key: str) -> list[str]:
    try:
        return matching(known, [pattern])
    except InputError as error:
        raise InputError(f"{key}: {error}") from None


def _wells(beliefs: dict[str, Any], guess: Experiment) -> list[Well]:
    """A focus that is known to less than a depth of focus λ/α² may lie in the wrong minimum."""
    prior = beliefs.get(FOCUS)
    spread = float(np.max(np.asarray(getattr(prior, "scale", 0.0))))
    depth = float(wavelength(guess.probe.energy) / (1e-3 * float(guess.probe.semiangle)) ** 2)
    if spread <= 0.5 * depth:
        return []
    centre = float(guess.probe.aberrations.C10)
    return [Well(FOCUS, centre - 3.0 * spread, centre + 3.0 * spread, depth)]
