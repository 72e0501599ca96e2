"""From expected electrons to what is recorded: noise, and images with names and units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from stemjax.app.simulation.detectors import DISK, MOMENTS
from stemjax.app.simulation.settings import SimulationSettings
from stemjax.core.typing import Array
from stemjax.detect.camera import Camera
from stemjax.detect.integration import integrated_phase, scan_frame
from stemjax.detect.moments import MomentDetector, deflection
from stemjax.detect.virtual import make_virtual_detector
from stemjax.forward.experiment import Experiment
from stemjax.forward.recording import RecordedImage
from stemjax.optics.scan import Scan
from stemjax.optics.scan_paths import image_order

VARIANCE = " variance"
"""Ending of the name of a hidden detector that weighs with the square of another one's response."""


def with_variances(experiment: Experiment, noisy: bool) -> Experiment:
    """The experiment with a hidden detector for the shot noise of each whose response is no probability.

    A response between zero and one is the probability that an electron is counted, and leaves Poisson counts. Electrons
    weighted by any other R have the variance Σ R² μ; first moments get their second ones.
    """
    if not noisy:
        return experiment
    grid, energy = experiment.probe.grid, experiment.probe.energy
    hidden: dict[str, Any] = {}
    for name, detector in experiment.detectors.items():
        response = np.asarray(detector.response(grid, energy), float)
        if isinstance(detector, MomentDetector):
            hidden[name + VARIANCE] = detector.replace(order=2)
        elif response.min() < 0.0 or response.max() > 1.0:
            hidden[name + VARIANCE] = make_virtual_detector(response**2)
    return experiment.replace(detectors={**experiment.detectors, **hidden})


def noisy_values(values: Mapping[str, np.ndarray], electrons: float | None, seed: list[int]) -> dict[str, np.ndarray]:
    """Recorded values of every detector: counts where it counts electrons, else a normal law of the same variance.

    Args:
        values: Expected values for one electron a pattern, {name: [pattern] or [pattern channel]}.
        electrons: Electrons in one pattern; None for no noise.
        seed: Seed of the noise.
    """
    shown = {name: np.asarray(v, float) for name, v in values.items() if not name.endswith(VARIANCE)}
    if electrons is None:
        return shown
    random, found = np.random.default_rng(seed), {}
    for name, value in shown.items():
        spread = values.get(name + VARIANCE)
        if name == MOMENTS:
            continue  # the same electrons as in its disk: drawn together below
        if spread is None:
            found[name] = random.poisson(electrons * np.maximum(value, 0.0)).astype(float)
        else:
            sigma = np.sqrt(electrons * np.maximum(np.asarray(spread, float), 0.0))
            found[name] = electrons * value + sigma * random.standard_normal(value.shape)
    if MOMENTS in shown:
        found[MOMENTS] = _noisy_moments(shown, values[MOMENTS + VARIANCE], found[DISK], random)
    return found


def _noisy_moments(
    shown: Mapping[str, np.ndarray], second: np.ndarray, counted: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """First moments [pattern 2] of the electrons that were counted in the disk: a sum of so many independent angles."""
    inside = np.maximum(shown[DISK], 1e-12)[:, None]
    mean, square = shown[MOMENTS] / inside, np.asarray(second, float) / inside
    yy, xx = (np.maximum(square[:, i] - mean[:, i] ** 2, 0.0) for i in (0, 1))
    yx = square[:, 2] - mean[:, 0] * mean[:, 1]
    # The root of the covariance [[yy, yx], [yx, xx]] of one electron's angle.
    first = np.sqrt(yy)
    cross = yx / np.maximum(first, 1e-12)
    last = np.sqrt(np.maximum(xx - cross**2, 0.0))
    one, other = random.standard_normal((2, len(mean)))
    noise = np.stack([first * one, cross * one + last * other], axis=1)
    return counted[:, None] * mean + np.sqrt(counted)[:, None] * noise


def noisy_patterns(mean: np.ndarray, electrons: float | None, camera: Camera | None, seed: list[int]) -> np.ndarray:
    """Recorded patterns: what the camera makes of them, or Poisson counts, or the expectation."""
    if camera is None:
        return mean.astype(np.float32) if electrons is None else np.random.default_rng(seed).poisson(electrons * mean)
    expected = camera.collect(jax.numpy.asarray((1.0 if electrons is None else electrons) * mean))
    if electrons is None:
        return np.asarray(camera.mean(expected), np.float32)
    key = jax.random.key(int(np.random.default_rng(seed).integers(2**31)))
    return np.asarray(camera.sample(key, expected))


def electrons_in(counts: np.ndarray, camera: Camera | None) -> np.ndarray:
    """Electrons from counts: (C − D) / G."""
    if camera is None:
        return counts
    return (np.asarray(counts, float) - float(camera.dark)) / float(camera.gain)


def counts_dtype(electrons: float | None, camera: Camera | None) -> np.dtype:
    """The smallest type that holds any count."""
    if electrons is None:
        return np.dtype(np.float32)
    if camera is not None:
        return np.dtype(np.int32)
    largest = electrons + 10.0 * np.sqrt(electrons) + 10.0
    return np.dtype(np.uint8 if largest < 256 else np.uint16 if largest < 65536 else np.uint32)


def stored_order(scan: Scan) -> tuple[np.ndarray, tuple[int, ...]]:
    """Which pattern comes at which place of an image, and the shape of the image; (1, n) for free points."""
    if scan.shape is None:
        count = scan.positions.shape[0]
        return np.arange(count), (1, count)
    return image_order(scan).ravel(), scan.shape


def named_images(
    values: Mapping[str, np.ndarray], shape: tuple[int, ...], raster: bool, settings: SimulationSettings, unit: str
) -> dict[str, RecordedImage]:
    """Images [y x] or [frame y x] of all detectors, channels apart; the centre of mass as an angle, and integrated.

    Args:
        values: Recorded values in stored order, {name: [pattern] or [pattern channel]}.
        shape: Shape of an image.
        raster: Whether neighbours in an image are neighbours on the specimen.
        settings: The configuration.
        unit: Unit of what is recorded.
    """
    step = settings.scan.step if raster else None
    rings, found = settings.detector.annular, {}
    for name, value in values.items():
        if name in (MOMENTS, DISK):
            continue
        channels = [value] if value.ndim == 1 else list(np.moveaxis(value, 1, 0))
        for number, channel in enumerate(channels):
            label = name if value.ndim == 1 else f"{name}_{number}"
            found[label] = RecordedImage(channel.reshape(shape), step, rings.get(name), unit, f"{label} image")
    if MOMENTS in values:
        found |= _centre_of_mass(values, shape, settings, step)
    return found


def _centre_of_mass(
    values: Mapping[str, np.ndarray],
    shape: tuple[int, ...],
    settings: SimulationSettings,
    step: tuple[float, float] | None,
) -> dict[str, RecordedImage]:
    field = np.asarray(deflection(jax.numpy.asarray(values[MOMENTS].T), jax.numpy.asarray(values[DISK])))
    y, x = (part.reshape(shape) for part in field)
    found = {
        f"{MOMENTS}_{axis}": RecordedImage(part, step, None, "mrad", f"Centre of mass along {axis}")
        for axis, part in (("y", y), ("x", x))
    }
    if step is not None and len(shape) == 2 and min(shape) >= 6:
        along: Array = scan_frame(jax.numpy.stack([jax.numpy.asarray(y), jax.numpy.asarray(x)]), settings.scan.rotation)
        phase = integrated_phase(along, step, settings.probe.energy)
        found["iCoM"] = RecordedImage(np.asarray(phase), step, None, "rad", "Integrated centre of mass")
    return found


def pattern_images(patterns: np.ndarray, weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Sums of recorded patterns [pattern ky kx] with the weights of virtual detectors."""
    return {name: np.einsum("pyx,yx->p", patterns.astype(float), weight) for name, weight in weights.items()}
