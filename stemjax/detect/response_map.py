"""A measured detector: its uneven response from a scan of the beam over it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.core.typing import Annotated, Array, Float, real, typed
from stemjax.detect.annular import detector_angles
from stemjax.detect.quantitative import DetectorLevels, active_area, detector_levels


class MeasuredDetector(struct.PyTreeNode):
    """A detector with a map of its sensitivity; made by `make_response_map` or `make_measured_detector`.

    Args:
        sensitivity: Relative sensitivity [y x], mean 1 over the active area, 0 outside it.
        centre: Pixel (y, x) of the map that lies on the optic axis [pixel].
        rotation: Azimuth of the map's x axis on the detector plane, from x towards y [degree].
        scale: Size of a pixel of the map [mrad].
        samples: Points of interpolation along each side of a reciprocal pixel; their mean is its weight.
    """

    sensitivity: Array
    centre: Annotated[Array, "pixel"]
    rotation: Annotated[Array, "degree"]
    scale: Annotated[Array, "mrad"]
    samples: int = struct.field(pytree_node=False, default=1)

    @property
    def reach(self) -> float:
        """Largest angle of a sensitive pixel against the optic axis [mrad]."""
        y, x = np.nonzero(np.asarray(self.sensitivity))
        distance = np.hypot(y - float(self.centre[0]), x - float(self.centre[1]))
        return float(distance.max(initial=0.0)) * float(self.scale)

    def response(self, grid: Grid, energy: float) -> Array:
        """Weights of the reciprocal grid's pixels [ny nx]."""
        return measured_response(self, grid, energy)


class Geometry(NamedTuple):
    """Where a ring lies on a scan over it: centre of its hole (y, x), radii of hole and outer edge, all in pixels."""

    centre: tuple[float, float]
    inner: float
    outer: float


def make_measured_detector(
    sensitivity: np.ndarray,
    scale: Annotated[float, "mrad"],
    *,
    centre: Annotated[tuple[float, float] | None, "pixel"] = None,
    rotation: Annotated[float, "degree"] = 0.0,
    samples: int = 1,
) -> MeasuredDetector:
    """A detector from a map of its sensitivity, checked. The map is not normalised here.

    Args:
        sensitivity: Sensitivity [y x], in the orientation of the patterns (mirror the array if the scan mirrors it).
        scale: Size of a pixel of the map [mrad].
        centre: Pixel (y, x) on the optic axis; the middle of the map's hole if left out.
        rotation: Azimuth of the map's x axis, from x towards y [degree].
        samples: Points along each side of a reciprocal pixel. 1 where the map is coarser than the reciprocal grid;
            where it is finer, about the ratio of the two pixels.

    Raises:
        InputError: The map is no image, or the scale is not positive.

    >>> make_measured_detector(np.ones((8, 8)), 5.0, centre=(4.0, 4.0)).reach > 25.0
    True
    """
    values = np.asarray(sensitivity, dtype=float)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise InputError(f"a map of shape {values.shape}, or with numbers that are not finite; give an image [y x]")
    if not scale > 0 or samples < 1:
        raise InputError(f"a scale of {scale:g} mrad and {samples} samples; give a positive size and 1 or more samples")
    middle = ring_geometry(values > 0).centre if centre is None else centre
    return MeasuredDetector(real(values), real(middle), real(rotation), real(scale), int(samples))


def make_response_map(
    image: np.ndarray,
    scale: Annotated[float, "mrad"],
    *,
    centre: Annotated[tuple[float, float] | None, "pixel"] = None,
    rotation: Annotated[float, "degree"] = 0.0,
    levels: DetectorLevels | None = None,
    active: np.ndarray | None = None,
    samples: int = 1,
) -> MeasuredDetector:
    """A detector from the image of the beam scanned over it.

    Args:
        image: Counts [y x] as recorded, no background taken off.
        scale: Size of a pixel of the image [mrad]; from a known inner angle it is that angle over
            `ring_geometry(active_area(image)).inner`.
        centre: Pixel (y, x) on the optic axis; the middle of the hole if left out.
        rotation: Azimuth of the image's x axis, from x towards y [degree].
        levels: Dark and active level; from the image if left out.
        active: True on the detector [y x]; found by `active_area` if left out.
        samples: As in `make_measured_detector`.

    Returns:
        The detector. Its sensitivity has mean 1 over the active area, so that a simulated signal is what
        `stemjax.detect.quantitative.fraction` makes of recorded counts with the same levels. That mean takes all parts
        of the detector alike; more electrons fall near the inner edge, and `flux_weighted_mean` tells what that does.

    Raises:
        InputError: The image has one level only, or no hole where the centre is left out.

    >>> y, x = np.mgrid[-20:21, -20:21]
    >>> ring = 100.0 + 900.0 * ((np.hypot(y, x) > 5) & (np.hypot(y, x) < 15))
    >>> made = make_response_map(ring, 10.0)
    >>> made.centre.tolist(), float(made.sensitivity.max())
    ([20.0, 20.0], 1.0)
    """
    inside = active_area(image) if active is None else np.asarray(active, dtype=bool)
    sensitivity = relative_sensitivity(image, levels or detector_levels(image, active=inside), inside)
    return make_measured_detector(sensitivity, scale, centre=centre, rotation=rotation, samples=samples)


def read_detector_image(path: str | Path) -> np.ndarray:
    """The image of a detector from a file: .npy, or the one image in an HDF5 file (.hspy, .emd, .h5).

    Raises:
        InputError: The file cannot be read, or does not hold just one image.
    """
    import h5py

    path, images = Path(path), {}
    try:
        if path.suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False), dtype=float)
        with h5py.File(path) as file:
            names: list[str] = []
            file.visit(names.append)
            for name in names:
                node = file[name]
                if isinstance(node, h5py.Dataset) and node.dtype.kind in "iuf" and np.squeeze(node).ndim == 2:
                    images[name] = np.squeeze(np.asarray(node, dtype=float))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} holds no image ({error}); give a .npy or HDF5 (.hspy, .emd, .h5) file") from None
    if len(images) != 1:
        raise InputError(f"{path} holds {len(images)} images {list(images)}; save the one of the detector as .npy")
    return images.popitem()[1]


def relative_sensitivity(image: np.ndarray, levels: DetectorLevels, active: np.ndarray) -> np.ndarray:
    """Sensitivity of every pixel of a detector's image, (C − D)/(A − D) inside and 0 outside.

    Args:
        image: Counts [y x].
        levels: Dark and active level.
        active: True on the detector [y x].

    >>> from stemjax.detect.quantitative import make_detector_levels
    >>> relative_sensitivity(np.array([[1.0, 3.0]]), make_detector_levels(1.0, 2.0), np.array([[False, True]])).tolist()
    [[0.0, 2.0]]
    """
    dark, full = float(levels.dark), float(levels.active)
    return np.where(active, (np.asarray(image, dtype=float) - dark) / (full - dark), 0.0)


def flux_weighted_mean(sensitivity: np.ndarray | Array, flux: np.ndarray | Array) -> Array:
    r"""Mean sensitivity that electrons from a specimen meet: weighted by how many fall where.

    .. math:: \bar S = \frac{\sum_{S > 0} S f}{\sum_{S > 0} f}

    A measured signal divided by S̄ compares with a simulation of an even detector.
    Source: Martinez et al., Ultramicroscopy 159 (2015) 46.

    Args:
        sensitivity: Sensitivity, 0 outside the detector; a map, or a response on a reciprocal grid [ny nx].
        flux: Electrons on the same pixels, for instance a position-averaged pattern [ny nx].

    >>> float(flux_weighted_mean(np.array([0.0, 1.0, 3.0]), np.array([9.0, 3.0, 1.0])))
    1.5
    """
    sensitivity, flux = real(sensitivity), real(flux)
    return jnp.sum(sensitivity * flux) / jnp.sum(jnp.where(sensitivity > 0, flux, 0.0))


def ring_geometry(active: np.ndarray) -> Geometry:
    """Centre of the hole of a ring, and the radii of the disks of the areas of the hole and of ring and hole together.

    Args:
        active: True on the ring [y x].

    Raises:
        InputError: The area has no hole.

    >>> y, x = np.mgrid[:41, :41]
    >>> ring_geometry((np.hypot(y - 22, x - 19) > 5) & (np.hypot(y - 20, x - 20) < 15)).centre
    (22.0, 19.0)
    """
    from scipy.ndimage import binary_fill_holes, label

    active = np.asarray(active, dtype=bool)
    parts, count = label(binary_fill_holes(active) & ~active)
    if count == 0:
        raise InputError("the detector's image shows no hole inside the active area; give the centre and the scale")
    hole = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    y, x = np.nonzero(hole)
    ring, rings = label(active)
    largest = ring == 1 + int(np.argmax(np.bincount(ring.ravel())[1:])) if rings > 1 else active
    whole = float((largest | hole).sum())
    return Geometry(
        (float(y.mean()), float(x.mean())), float(np.sqrt(hole.sum() / np.pi)), float(np.sqrt(whole / np.pi))
    )


@typed
def measured_response(detector: MeasuredDetector, grid: Grid, energy: Annotated[float, "eV"]) -> Float[Array, "ny nx"]:
    r"""Response of a measured detector on the reciprocal grid, by bilinear interpolation; 0 beside the map.

    .. math:: p = p_0 + \tfrac1s R^T(\rho)\, \alpha

    with p the place on the map (y, x), p₀ its centre, s its scale, ρ its rotation and α the angle of a pixel.

    Args:
        detector: The detector.
        grid: Real-space grid of the wave.
        energy: Beam energy [eV].

    Returns:
        Weights [ny nx], zero frequency in the corner, differentiable in every leaf.

    >>> flat = make_measured_detector(np.ones((9, 9)), 10.0, centre=(4.0, 4.0))
    >>> float(measured_response(flat, Grid((8, 8), (0.5, 0.5)), 80e3).max())
    1.0
    """
    y, x = detector_angles(grid, energy)
    angle = jnp.deg2rad(detector.rotation)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    step_y, step_x = y[1 % len(y), 0] - y[0, 0], x[0, 1 % x.shape[1]] - x[0, 0]
    total = jnp.zeros(grid.shape, dtype=y.dtype)
    parts = (np.arange(detector.samples) + 0.5) / detector.samples - 0.5
    for part_y in parts:
        for part_x in parts:
            at_y, at_x = (y + part_y * step_y) / detector.scale, (x + part_x * step_x) / detector.scale
            row = detector.centre[0] + cos * at_y - sin * at_x
            column = detector.centre[1] + cos * at_x + sin * at_y
            total = total + jax.scipy.ndimage.map_coordinates(detector.sensitivity, [row, column], order=1)
    return total / detector.samples**2
