"""Freedoms that the data cannot see, and how each is fixed.

| freedom | why the data cannot see it | what is done |
| --- | --- | --- |
| scale of probe and object | only their product is measured | the probe is normalised; `dose` is measured |
| constant of the phase | a global phase | the mean over the scanned area is set to zero |
| shift of object and scan | only their distance is measured | the scan keeps its mean; the object's origin moves |
| shift of the probe in its window | the same, seen from the probe | aberrations cannot shift it; free pixels may |
| ramp of the phase | a shift of the detector | the disk's centre is measured first, kept in `probe.centre` |
| mixing of the modes | intensities add up | modes are made orthogonal, the strongest first |
| depth of a thick object | defocus and depth shift trade against each other | reported, not fixed: see `depth_shift` |
| conjugate, turned by 180° | exact for one slice | atoms are positive: scattered electrons decide |
"""

from __future__ import annotations

import numpy as np

from stemjax.forward.experiment import Experiment


def scanned_area(experiment: Experiment) -> np.ndarray:
    """Which pixels of the object the centres of the probes span [ny nx]; outside them little is known."""
    grid = experiment.specimen.grid
    affine, centre = np.asarray(experiment.scan.affine), np.asarray(experiment.scan.centre)
    positions = centre + (np.asarray(experiment.scan.positions) - centre) @ affine.T
    pixels = (positions - np.asarray(experiment.specimen.origin)) / np.asarray(grid.sampling)
    inside = np.zeros(grid.shape, bool)
    y, x = np.clip(np.round(pixels).astype(int), 0, np.array(grid.shape) - 1).T
    inside[y, x] = True
    step = np.ceil(np.sqrt(np.prod(np.ptp(pixels, axis=0) + 1) / len(pixels))).astype(int)
    return _closed(inside, int(step) + 1)


def _closed(mask: np.ndarray, reach: int) -> np.ndarray:
    from scipy.ndimage import binary_closing

    padded = np.pad(mask, reach)
    return binary_closing(padded, np.ones((3, 3), bool), iterations=reach)[reach:-reach, reach:-reach]


def fix_gauge(experiment: Experiment, initial: Experiment) -> Experiment:
    """The same solution with its constant of the phase and its global shift fixed as the table of this module says.

    Args:
        experiment: The solution.
        initial: The first guess, whose mean scan position is kept.
    """
    moved = np.asarray(experiment.scan.positions) - np.asarray(initial.scan.positions)
    shift = moved.mean(axis=0)
    scan = experiment.scan.replace(positions=np.asarray(experiment.scan.positions) - shift)
    # Positions pass through the affine distortion; the object does not.
    seen = np.asarray(experiment.scan.affine) @ shift
    specimen = experiment.specimen.replace(origin=np.asarray(experiment.specimen.origin) - seen)
    area = scanned_area(experiment)
    name = "phase" if hasattr(specimen, "phase") else "values"
    values = np.asarray(getattr(specimen, name))
    if name == "phase" and area.any():
        values = values - values[:, area].mean(axis=1)[:, None, None]
    return experiment.replace(scan=scan, specimen=specimen.replace(**{name: values}))


def skewness(experiment: Experiment) -> float:
    """Skewness of the summed phase over the scanned area; positive where atoms are bright, as they must be."""
    specimen = experiment.specimen
    phase = np.asarray(specimen.phase if hasattr(specimen, "phase") else specimen.values).sum(axis=0)
    values = phase[scanned_area(experiment)]
    spread = values.std()
    return float(((values - values.mean()) ** 3).mean() / spread**3) if spread > 0 else 0.0


def depth_shift(experiment: Experiment) -> str:
    """A sentence on the gauge of depth, for thick objects; empty for one slice."""
    thickness = np.asarray(experiment.specimen.thickness)
    slices = (experiment.specimen.phase if hasattr(experiment.specimen, "phase") else experiment.specimen.values).shape[
        0
    ]
    if slices == 1:
        return ""
    step = float(thickness.mean())
    return (
        f"depth is known up to a shift: moving every slice down by one ({step:.1f} Å) while C10 falls by as much "
        "changes nothing but what leaves the stack at its ends"
    )
