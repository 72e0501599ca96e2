"""What follows from the calibration of a scan with a convergent beam."""

from __future__ import annotations

import math
from dataclasses import dataclass

from stemjax.optics.electron import wavelength
from stemjax.problems.ptychography.calibration import Calibration


@dataclass(frozen=True)
class Optics:
    """What follows from the calibration of a scan with a convergent beam.

    Args:
        wavelength: Wavelength [Å].
        pixel: Real-space pixel of the reconstruction (y, x) [Å].
        window: Side of the probe's window (y, x) [Å].
        depth_of_focus: Full width at half maximum along the axis [Å].
        probe_radius: Radius of the illuminated disk [Å].
        overlap: Overlap of neighbouring probes, 1 − step / diameter.
        largest_angle: Largest angle that the detector sees along both axes [mrad].
    """

    wavelength: float
    pixel: tuple[float, float]
    window: tuple[float, float]
    depth_of_focus: float
    probe_radius: float
    overlap: float
    largest_angle: float


def optics(known: Calibration, detector_shape: tuple[int, int], c10: float = 0.0) -> Optics:
    r"""What follows from a calibration.

    .. math:: d = \lambda / (N \Delta\alpha), \quad w = \lambda / \Delta\alpha, \quad
        r = \sqrt{(C_{10}\alpha)^2 + (0.61 \lambda/\alpha)^2}, \quad o = 1 - s / 2r

    The probe's radius joins the geometric disk of a defocused probe and the first zero of an Airy disk (Born & Wolf,
    Principles of Optics, 8.5.2) in quadrature.

    Args:
        known: The calibration.
        detector_shape: Pixels of the detector (y, x), after binning.
        c10: Defocus coefficient C10 [Å].

    >>> round(optics(Calibration(80e3, (0.5, 0.5), (1.6, 1.6), 20.0), (128, 128)).pixel[0], 4)
    0.2039
    """
    length, alpha = wavelength(known.energy), 1e-3 * known.semiangle
    window_y, window_x = (1e3 * length / angle for angle in known.detector_sampling)
    radius = math.hypot(c10 * alpha, 0.61 * length / alpha)
    return Optics(
        wavelength=length,
        pixel=(window_y / detector_shape[0], window_x / detector_shape[1]),
        window=(window_y, window_x),
        depth_of_focus=depth_of_focus(length, known.semiangle),
        probe_radius=radius,
        overlap=1.0 - max(known.scan_step) / (2.0 * radius),
        largest_angle=min(n * a / 2.0 for n, a in zip(detector_shape, known.detector_sampling, strict=True)),
    )


def depth_of_focus(wavelength: float, semiangle: float) -> float:
    r"""Full width at half maximum of an ideal probe's intensity along the axis.

    .. math:: I(z) \propto \mathrm{sinc}^2\!\left(\frac{z \alpha^2}{2 \lambda}\right), \quad
        \Delta z = 1.772\, \lambda / \alpha^2

    with sinc x = sin(πx)/(πx), the integral of exp(−iπzθ²/λ) over a round aperture.

    Args:
        wavelength: Wavelength [Å].
        semiangle: Convergence semi-angle [mrad].

    >>> round(depth_of_focus(0.0251, 20.0), 1)
    111.2
    """
    return 1.77179 * wavelength / (1e-3 * semiangle) ** 2
