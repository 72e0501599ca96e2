"""Segmented detectors: rings cut into sectors, and differential phase contrast from them."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.core.typing import Annotated, Array, Float, Scalar, real, typed
from stemjax.detect.annular import AnnularDetector, annular_response, detector_angles
from stemjax.optics.electron import wavelength


class SegmentedDetector(struct.PyTreeNode):
    """Concentric rings, each cut into sectors; made by `make_segmented_detector`.

    Channels run ring by ring from the inside, within a ring by azimuth from x towards y: channel
    `ring * sectors + sector` where all rings have the same number of sectors. Sector 0 begins at `rotation`.

    Args:
        edges: Radii of the rings [ring + 1], ascending [mrad].
        rotation: Azimuth at which sector 0 of every ring begins, from x towards y [degree].
        offset: Centre of the rings (y, x) against the optic axis [mrad].
        sectors: Number of sectors of every ring.
        soft: Whether edges are one reciprocal pixel wide (differentiable) or sharp.
    """

    edges: Annotated[Array, "mrad"]
    rotation: Annotated[Array, "degree"]
    offset: Annotated[Array, "mrad"]
    sectors: tuple[int, ...] = struct.field(pytree_node=False)
    soft: bool = struct.field(pytree_node=False, default=False)

    @property
    def reach(self) -> float:
        """Largest angle against the optic axis [mrad]."""
        return float(self.edges[-1]) + math.hypot(*map(float, self.offset))

    def response(self, grid: Grid, energy: float) -> Array:
        """Weights of the reciprocal grid's pixels [channel ny nx]."""
        return segmented_response(self, grid, energy)


def make_segmented_detector(
    edges: tuple[float, ...] | list[float],
    sectors: int | tuple[int, ...] = 4,
    *,
    rotation: Annotated[float, "degree"] = 0.0,
    offset: Annotated[tuple[float, float], "mrad"] = (0.0, 0.0),
    soft: bool = False,
) -> SegmentedDetector:
    """A segmented detector, checked.

    Args:
        edges: Radii of the rings, ascending; n + 1 for n rings, the first 0 for a disk [mrad].
        sectors: Sectors of every ring; one number for all.
        rotation: Azimuth at which sector 0 begins, from x towards y [degree].
        offset: Centre (y, x) [mrad].
        soft: Soft edges, needed for gradients in the leaves.

    Raises:
        InputError: The radii do not ascend, or the numbers of sectors do not fit the rings.

    >>> make_segmented_detector([0.0, 20.0, 40.0], (1, 4)).sectors
    (1, 4)
    """
    radii = np.asarray(edges, dtype=float)
    if radii.ndim != 1 or radii.size < 2 or radii[0] < 0 or not (np.diff(radii) > 0).all():
        raise InputError(f"ring edges {edges} mrad do not ascend from 0 or more; give n + 1 for n rings: (0, 20, 40)")
    rings = radii.size - 1
    counts = (sectors,) * rings if isinstance(sectors, int) else tuple(int(s) for s in sectors)
    if len(counts) != rings or min(counts) < 1:
        raise InputError(
            f"{sectors} sectors for {rings} rings; give one positive number, or one a ring: {(4,) * rings}"
        )
    return SegmentedDetector(real(radii), real(rotation), real(offset), counts, soft)


def make_quadrant_detector(
    inner: Annotated[float, "mrad"], outer: Annotated[float, "mrad"], *, rotation: Annotated[float, "degree"] = 0.0
) -> SegmentedDetector:
    """Four quadrants A, B, C, D, centred on +x, +y, −x, −y (turned by `rotation`): A − C sees x, B − D sees y.

    Args:
        inner: Inner angle [mrad].
        outer: Outer angle [mrad].
        rotation: Azimuth of the centre of A, from x towards y [degree].

    >>> make_quadrant_detector(0.0, 30.0).sectors
    (4,)
    """
    return make_segmented_detector([inner, outer], 4, rotation=rotation - 45.0)


@typed
def segmented_response(
    detector: SegmentedDetector, grid: Grid, energy: Annotated[float, "eV"]
) -> Float[Array, "channel ny nx"]:
    """Response of every segment on the reciprocal grid; those of a ring sum to the ring's `annular_response`.

    Args:
        detector: The detector.
        grid: Real-space grid of the wave.
        energy: Beam energy [eV].

    Returns:
        Weights between 0 and 1, ring by ring, zero frequency in the corner. A pixel on a sharp border of two sectors
        belongs to the one that begins there; the pixel in the centre is shared by all. With soft edges a pixel is
        shared by azimuth, as if it were an arc one pixel long.

    >>> segmented_response(make_segmented_detector([0.0, 20.0]), Grid((8, 8), (0.5, 0.5)), 80e3).shape
    (4, 8, 8)
    """
    y, x = detector_angles(grid, energy, detector.offset)
    square = y**2 + x**2
    centre = square < 1e-8
    # The azimuth has no slope in the centre, where the pixel is shared by all sectors.
    azimuth = jnp.arctan2(jnp.where(centre, 0.0, y), jnp.where(centre, 1.0, x)) - jnp.deg2rad(detector.rotation)
    step = max(grid.angular_sampling(wavelength(energy)))
    arc = jnp.where(centre, 2 * np.pi, jnp.minimum(step / jnp.sqrt(jnp.where(centre, 1.0, square)), 2 * np.pi))
    channels = []
    for ring, count in enumerate(detector.sectors):
        shape = AnnularDetector(detector.edges[ring], detector.edges[ring + 1], detector.offset, detector.soft)
        whole = annular_response(shape, grid, energy)
        share = _soft_share if detector.soft else _sharp_share
        channels += [whole * share(azimuth, arc, centre, s, count) for s in range(count)]
    return jnp.stack(channels)


def _sharp_share(azimuth: Array, arc: Array, centre: Array, sector: int, count: int) -> Array:  # noqa: ARG001
    """1 inside a sector; the small turn settles what rounding would decide on a border."""
    turn = jnp.mod(azimuth + 2e-6, 2 * np.pi) * (count / (2 * np.pi))
    inside = jnp.minimum(jnp.floor(turn), count - 1) == sector
    return jnp.where(centre, 1.0 / count, jnp.where(inside, 1.0, 0.0))


def _soft_share(azimuth: Array, arc: Array, centre: Array, sector: int, count: int) -> Array:  # noqa: ARG001
    """Part of the arc about an azimuth that lies in a sector; the parts of all sectors sum to one."""
    width = 2 * np.pi / count

    def covered(end: Array) -> Array:
        """Length of the sector and its images from the sector's begin to `end`."""
        turns = jnp.floor(end / (2 * np.pi))
        return turns * width + jnp.clip(end - turns * 2 * np.pi, 0.0, width)

    start = azimuth - sector * width
    return (covered(start + arc / 2) - covered(start - arc / 2)) / arc


def segment_directions(detector: SegmentedDetector) -> Float[Array, "channel 2"]:
    """Unit vectors (y, x) through the middle of every segment.

    >>> segment_directions(make_quadrant_detector(0.0, 30.0)).round(6).tolist()[0]
    [0.0, 1.0]
    """
    middle = [(s + 0.5) * 360.0 / count for count in detector.sectors for s in range(count)]
    azimuth = jnp.deg2rad(real(middle) + detector.rotation)
    return jnp.stack([jnp.sin(azimuth), jnp.cos(azimuth)], axis=1)


def quadrant_differences(signals: Array) -> Array:
    """Differences (B − D, A − C) of four quadrants: along y and x where A looks along x.

    Args:
        signals: Signals of A, B, C, D [4 ...].

    Returns:
        Differences [2 ...].

    >>> quadrant_differences(jnp.array([3.0, 5.0, 1.0, 1.0])).tolist()
    [4.0, 2.0]
    """
    return jnp.stack([signals[1] - signals[3], signals[0] - signals[2]])


@typed
def segment_deflection(
    signals: Float[Array, "channel ..."],
    detector: SegmentedDetector,
    semiangle: Annotated[Scalar, "mrad"],
    beam: Annotated[Scalar, "electron"] = 1.0,
) -> Annotated[Array, "mrad"]:
    r"""Deflection of the bright-field disk from the signals of the ring that holds the disk's edge.

    .. math:: \theta = \frac{\pi \alpha}{n \sin(\pi / n)} \frac{1}{I_0} \sum_s \hat u_s I_s

    with n sectors in directions û. Exact to first order for an evenly filled disk of semi-angle α that moves as a
    whole by less than its distance from the ring's edges; where the phase bends inside the probe, use the centre of
    mass of patterns (`stemjax.detect.moments`). Rings that the disk's edge does not cross must be left out or see no
    change: inside an even disk a shift moves as many electrons in as out.

    Args:
        signals: Signals of all segments [channel ...].
        detector: The detector; all rings have the same number of sectors, at least three.
        semiangle: Semi-angle α of the disk [mrad].
        beam: Electrons I₀ of the beam, in the unit of the signals.

    Returns:
        Deflection (y, x) [2 ...] [mrad].

    Raises:
        InputError: Rings differ in their sectors, or there are fewer than three.

    >>> quadrants = make_quadrant_detector(0.0, 30.0)
    >>> segment_deflection(jnp.array([0.3, 0.25, 0.2, 0.25]), quadrants, 20.0).round(3).tolist()
    [0.0, 2.221]
    """
    counts = set(detector.sectors)
    if len(counts) != 1 or min(counts) < 3:
        raise InputError(f"a deflection needs rings of one number of sectors, 3 or more; these have {detector.sectors}")
    count = counts.pop()
    moment = jnp.einsum("cv,c...->v...", segment_directions(detector), signals)
    return moment * (np.pi * semiangle / (count * math.sin(np.pi / count) * beam))
