"""The detectors of a simulation, checked against the angles that the grid carries."""

from __future__ import annotations

from typing import Any

import numpy as np

from stemjax.app.simulation.arrays import read_array
from stemjax.app.simulation.detector_settings import ResponseSettings
from stemjax.app.simulation.settings import SimulationSettings
from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.detect.annular import check_reach, make_annular_detector
from stemjax.detect.camera import Camera, make_camera
from stemjax.detect.midi import make_matched_rings
from stemjax.detect.moments import make_moment_detector
from stemjax.detect.pixelated import PixelatedDetector, make_pixelated_detector
from stemjax.detect.response_map import make_response_map, read_detector_image
from stemjax.detect.segmented import make_segmented_detector
from stemjax.optics.probe import Probe

MOMENTS, DISK = "CoM", "CoM_electrons"
"""Names of the first moments and of the electrons that they are divided by."""


def build_detectors(settings: SimulationSettings, grid: Grid, probe: Probe) -> dict[str, Any]:
    """Every integrating detector of a configuration by name."""
    choice, energy = settings.detector, settings.probe.energy
    found: dict[str, Any] = {}
    for name, (inner, outer) in choice.annular.items():
        check_reach(outer, grid, energy, name=f"detector.annular.{name}")
        found[name] = make_annular_detector(inner, outer)
    for name, entry in choice.segmented.items():
        check_reach(entry["rings"][-1], grid, energy, name=f"detector.segmented.{name}")
        found[name] = make_segmented_detector(entry["rings"], entry["sectors"], rotation=entry["rotation"])
    if choice.moments is not None:
        check_reach(choice.moments, grid, energy, name="detector.moments")
        found[MOMENTS] = make_moment_detector(choice.moments)
        found[DISK] = make_annular_detector(0.0, choice.moments)
    if choice.midi:
        found["MIDI"] = make_matched_rings(probe.plate, settings.probe.semiangle)
    if choice.response is not None:
        found[choice.response.name] = _measured(choice.response, grid, energy)
    return found


def _measured(choice: ResponseSettings, grid: Grid, energy: float) -> Any:
    """A measured detector from the image of its response."""
    image = read_detector_image(choice.file)
    if image.ndim != 2:
        raise InputError(f"detector.response.file: an array of shape {image.shape}; give an image [y, x]")
    if choice.centre is not None and not all(0 <= c < n for c, n in zip(choice.centre, image.shape, strict=True)):
        raise InputError(f"detector.response.centre {list(choice.centre)} lies outside the map of {image.shape} pixels")
    made = make_response_map(image, choice.pixel, centre=choice.centre)
    check_reach(made.reach, grid, energy, name=f"detector.response ({choice.file})")
    return made


def build_pixelated(settings: SimulationSettings, grid: Grid) -> PixelatedDetector | None:
    """The detector of patterns, inside what the grid carries without aliases."""
    choice = settings.detector.pixelated
    if choice is None:
        return None
    bin = (choice.bin, choice.bin)
    carried = tuple(int(n * 2 / 3) // choice.bin for n in grid.shape)
    if min(carried) < 1:
        raise InputError(
            f"detector.pixelated.bin {choice.bin} leaves no pixel of the {list(grid.shape)} of the grid; give less"
        )
    shape = choice.shape or carried
    if any(n > m for n, m in zip(shape, carried, strict=True)):
        fine = settings.potential.sampling * min(m / n for n, m in zip(shape, carried, strict=True))
        raise InputError(
            f"detector.pixelated.shape {list(shape)} with bin {choice.bin} reaches beyond the {list(carried)} pixels "
            f"that a sampling of {settings.potential.sampling:g} Å carries without aliasing; use "
            f"potential.sampling: {fine:.3g}"
        )
    return make_pixelated_detector(grid, shape=shape, bin=bin)  # type: ignore[arg-type]


def build_camera(settings: SimulationSettings) -> Camera | None:
    """The camera of a configuration; None for an ideal counter."""
    choice = settings.detector.camera
    if choice is None:
        return None
    made = make_camera(
        gain=choice.gain, dark=choice.dark, readout=choice.readout, blur=choice.blur, saturation=choice.saturation
    )
    # The stray electrons that keep a score finite are no part of a simulation.
    return made.replace(stray=0.0 * made.stray)


def virtual_weights(settings: SimulationSettings, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """Weights of the virtual detectors on the pixels of the pixelated one, zero frequency in the centre."""
    found = {}
    for name, path in settings.detector.virtual.items():
        key = f"detector.virtual.{name}"
        weights = read_array(path, key, "weights of the pixels, zero frequency in the centre")
        if weights.shape != shape:
            raise InputError(f"{key}: weights of {weights.shape} for patterns of {shape}; give one weight a pixel")
        found[name] = weights
    return found
