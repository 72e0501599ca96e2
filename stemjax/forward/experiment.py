"""The experiment as one pytree, and what was recorded of it."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.typing import POSITIVE, Annotated, Array, Scalar, real
from stemjax.optics.probe import Probe
from stemjax.optics.scan import Scan, probe_positions


class Experiment(struct.PyTreeNode):
    """Everything that decides the expected counts; made by `make_experiment`.

    Args:
        probe: The probe.
        specimen: A `PixelatedObject`, a `PotentialObject` or anything with their `transmission`.
        scan: Where the probe goes.
        dose: Electrons in one pattern.
        tilt: Small tilt of the specimen (y, x), or one a pattern [pattern 2] [mrad].
        detectors: Detectors of a scanned image by name; a pixelated detector belongs to the simulator.
        camera: How electrons on the pixelated detector become counts (`stemjax.Camera`); None for an ideal one.
        spectrometer: What an energy-loss spectrum is made of (`stemjax.spectra.model`); None if there is none.
    """

    probe: Probe
    specimen: Any
    scan: Scan
    dose: Annotated[Array, "electron", POSITIVE]
    tilt: Annotated[Array, "mrad"]
    detectors: dict[str, Any] = struct.field(default_factory=dict)
    camera: Any = None
    spectrometer: Any = None


def make_experiment(
    probe: Probe,
    specimen: Any,
    scan: Scan,
    *,
    dose: Annotated[Scalar, "electron"] = 1.0,
    tilt: Annotated[Any, "mrad"] = (0.0, 0.0),
    detectors: dict[str, Any] | None = None,
    camera: Any = None,
    spectrometer: Any = None,
) -> Experiment:
    """An experiment whose parts fit together.

    Args:
        probe: The probe.
        specimen: The specimen; its pixels must be those of the probe's window.
        scan: The scan.
        dose: Electrons in one pattern; 1 gives intensities as fractions of the beam.
        tilt: Specimen tilt (y, x) [mrad], or one a pattern [pattern 2] where it is bent.
        detectors: Detectors of scanned images by name.
        camera: How electrons become counts on a pixelated detector.
        spectrometer: What an energy-loss spectrum is made of.

    Raises:
        InputError: Samplings differ, the window is larger than the specimen, or the scan leaves a specimen that does
            not repeat.
    """
    grid = specimen.grid
    if not np.allclose(grid.sampling, probe.grid.sampling, rtol=1e-6):
        raise InputError(
            f"specimen pixels of {grid.sampling} Å and probe pixels of {probe.grid.sampling} Å differ; use one sampling"
        )
    if any(n > m for n, m in zip(probe.grid.shape, grid.shape, strict=True)):
        raise InputError(
            f"the probe's window of {probe.grid.shape} pixels is larger than the specimen's {grid.shape}; "
            "repeat or pad the specimen, or use a smaller window"
        )
    _check_positions(specimen, scan)
    _check_moves(scan, tilt)
    return Experiment(
        probe=probe,
        specimen=specimen,
        scan=scan,
        dose=real(dose),
        tilt=real(tilt),
        detectors=dict(detectors or {}),
        camera=camera,
        spectrometer=spectrometer,
    )


def _check_moves(scan: Scan, tilt: Any) -> None:
    """Refuse a tilt or a descan that is neither one for all nor one a pattern."""
    for name, shape, common in (
        ("tilt", np.shape(tilt), True),
        ("descan", () if scan.descan is None else np.shape(scan.descan), scan.descan is None),
    ):
        if not ((common and shape in ((2,), ())) or shape == scan.positions.shape):
            each = f"[{scan.positions.shape[0]} 2]"
            raise InputError(f"a {name} of shape {shape}; give (y, x) in mrad{', or' if common else ' as'} {each}")


def _check_positions(specimen: Any, scan: Scan) -> None:
    """Refuse probes beside a specimen that ends; traced values cannot be looked at and are taken on trust."""
    if specimen.periodic or any(isinstance(a, jax.core.Tracer) for a in jax.tree.leaves((scan, specimen.origin))):
        return
    # A scan without distortion is looked at as it is: to compute positions would compile programs.
    drifts = any(part is not None for part in (scan.velocity, scan.walk, scan.jitter))
    plain = not drifts and np.array_equal(np.asarray(scan.affine), np.eye(2))
    positions = scan.positions if plain else probe_positions(scan)
    places = (np.asarray(positions) - np.asarray(specimen.origin)) / np.asarray(specimen.grid.extent)
    outside = int(((places < 0) | (places > 1)).any(axis=1).sum())
    if outside:
        raise InputError(
            f"{outside} of {len(places)} scan positions lie beside the specimen of {specimen.grid.extent[0]:.4g} × "
            f"{specimen.grid.extent[1]:.4g} Å; move its origin, enlarge it, or make it periodic"
        )


class Measurement(struct.PyTreeNode):
    """What was recorded, ready for comparison.

    Args:
        counts: Electrons [pattern ...]; patterns have their zero frequency in the corner.
        mask: Weight of every pixel of a pattern [...], 0 where the detector is dead or hidden; or None.
    """

    counts: Annotated[Array | np.ndarray, "electron"]
    mask: Array | np.ndarray | None = None
