"""The state of a ptychographic reconstruction, the same for every program: object, probe, positions, optics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from stemjax.core.errors import InputError, nearest
from stemjax.optics.aberrations import NAMES
from stemjax.optics.electron import check_energy


@dataclass(frozen=True)
class Reconstruction:
    """What a program found, in the conventions of stemjax; made by `make_reconstruction`.

    A wave is multiplied by `transmission[0]`, travels `thickness[0]`, is multiplied by `transmission[1]`, and so on;
    the
    pattern is the squared modulus of its discrete Fourier transform, summed over the modes of the probe.

    Args:
        transmission: Complex transmission function of every slice [slice ny nx].
        sampling: Size of an object pixel (y, x) [Å].
        thickness: Distance from every slice to the next [slice] [Å]; the last one changes no pattern.
        probe: Incoherent modes of the probe in real space at the entrance of the object [mode py px], its centre at
            pixel n // 2 of the window; |probe|² sums to 1 over all modes and pixels.
        probe_sampling: Size of a probe pixel (y, x) [Å].
        positions: Place of the probe's centre, from pixel (0, 0) of the object [pattern 2] (y, x) [Å].
        dose: Electrons in one pattern, or None where the program does not keep it.
        energy: Beam energy [eV], or None.
        semiangle: Convergence semi-angle [mrad], or None.
        aberrations: Krivanek's Cartesian coefficients by name (C10, C12a, ...) [Å], C10 > 0 for overfocus; what a
        program
            was told at the start where it refines the pixels of the probe. Empty where they are not known.
        tilt: Tilt of the specimen (y, x), or one a pattern [pattern 2] [mrad], or None: the factor exp(2πi Δz k·tan
        θ) of
            the propagators that act on `probe` as it stands (a disk off the detector's centre is not taken out).
        scan_shape: Shape (y, x) of the image that the patterns fill, x fastest, or None.
        source: Program and version.
        notes: What the file told that is not carried here, and choices that were made; a sentence each.
    """

    transmission: np.ndarray
    sampling: tuple[float, float]
    thickness: np.ndarray
    probe: np.ndarray
    probe_sampling: tuple[float, float]
    positions: np.ndarray
    dose: float | None = None
    energy: float | None = None
    semiangle: float | None = None
    aberrations: Mapping[str, float] = field(default_factory=dict)
    tilt: np.ndarray | None = None
    scan_shape: tuple[int, ...] | None = None
    source: str = ""
    notes: tuple[str, ...] = ()


def make_reconstruction(
    transmission: Any,
    probe: Any,
    positions: Any,
    sampling: Sequence[float],
    *,
    thickness: Any = 0.0,
    probe_sampling: Sequence[float] | None = None,
    tilt: Any = None,
    **about: Any,
) -> Reconstruction:
    """A state, checked and brought to its types; the probe is scaled to one electron.

    Args:
        transmission: Transmission functions [slice ny nx], or one [ny nx].
        probe: Modes in real space, centred [mode py px], or one [py px], of any strength.
        positions: The probe's centre from pixel (0, 0) of the object [pattern 2] (y, x) [Å].
        sampling: Size of an object pixel (y, x) [Å].
        thickness: Thickness of every slice [slice], or one for all [Å].
        probe_sampling: Size of a probe pixel (y, x) [Å]; that of the object unless given.
        tilt: Tilt (y, x), or one a pattern [pattern 2] [mrad].
        about: `dose`, `energy`, `semiangle`, `aberrations`, `scan_shape`, `source`, `notes` of `Reconstruction`.

    Raises:
        InputError: Shapes do not fit each other, numbers are not finite, or a quantity is impossible.

    >>> found = make_reconstruction(np.ones((1, 8, 8)), 3 * np.ones((4, 4)), [[0.8, 0.8]], (0.2, 0.2), energy=80e3)
    >>> found.transmission.shape, found.probe.shape, float((abs(found.probe) ** 2).sum())
    ((1, 8, 8), (1, 4, 4), 1.0)
    """
    field_, waves = stack("object", transmission, "slice"), stack("probe", probe, "mode")
    places = pairs("positions", positions)
    state = Reconstruction(
        transmission=field_,
        sampling=pixel("sampling", sampling),
        thickness=steps(thickness, len(field_)),
        probe=normalised(waves),
        probe_sampling=pixel("probe_sampling", sampling if probe_sampling is None else probe_sampling),
        positions=places,
        tilt=None if tilt is None else tilts(tilt, len(places)),
        **about,
    )
    check_fit(state)
    return checked_optics(state)


def stack(name: str, values: Any, axis: str) -> np.ndarray:
    """Complex images [slice or mode, y, x] out of one image or several."""
    images = np.asarray(values)
    if images.dtype.kind not in "biufc" or images.ndim not in (2, 3) or 0 in images.shape:
        raise InputError(f"{name} of shape {images.shape} and type {images.dtype}; wanted complex [{axis} y x]")
    images = images.reshape(-1, *images.shape[-2:]).astype(np.complex64)
    if not np.isfinite(images).all():
        raise InputError(f"{name} has {int((~np.isfinite(images)).sum())} values that are not finite; export it again")
    return images


def normalised(waves: np.ndarray) -> np.ndarray:
    """A probe whose squared modulus sums to one."""
    power = float((np.abs(waves.astype(np.complex128)) ** 2).sum())
    if not power > 0:
        raise InputError("the probe is zero everywhere; export it again")
    return (waves / math.sqrt(power)).astype(np.complex64)


def pairs(name: str, values: Any) -> np.ndarray:
    """Numbers [pattern 2] in double precision."""
    numbers = np.asarray(values, float)
    if numbers.ndim != 2 or numbers.shape[1] != 2 or not len(numbers):
        raise InputError(f"{name} of shape {numbers.shape}; wanted [pattern 2] (y, x)")
    if not np.isfinite(numbers).all():
        raise InputError(f"{name}: {int((~np.isfinite(numbers)).sum())} numbers are not finite; export them again")
    return numbers


def pixel(name: str, values: Any) -> tuple[float, float]:
    """A pixel size (y, x) [Å]."""
    numbers = np.asarray(values, float)
    if numbers.shape != (2,) or not np.isfinite(numbers).all() or not (numbers > 0).all():
        raise InputError(f"{name} {values!r}; wanted the size of a pixel (y, x) in Å")
    return float(numbers[0]), float(numbers[1])


def steps(values: Any, slices: int) -> np.ndarray:
    """A thickness for every slice [slice] [Å]."""
    numbers = np.atleast_1d(np.asarray(values, float))
    if numbers.shape not in ((1,), (slices,)) or not np.isfinite(numbers).all() or (numbers < 0).any():
        raise InputError(f"{numbers.size} thicknesses {numbers[:4]} for {slices} slices; wanted one each, in Å")
    return np.broadcast_to(numbers, (slices,)).copy()


def tilts(values: Any, patterns: int) -> np.ndarray:
    """A tilt (y, x), or one a pattern [pattern 2] [mrad]."""
    numbers = np.asarray(values, float)
    numbers = numbers[0] if numbers.shape == (1, 2) else numbers
    if numbers.shape not in ((2,), (patterns, 2)) or not np.isfinite(numbers).all():
        raise InputError(f"tilts of shape {numbers.shape} for {patterns} patterns; wanted [2] or [pattern 2] in mrad")
    return numbers


def check_fit(state: Reconstruction) -> None:
    """Refuse parts that do not belong to each other."""
    shape, window = state.transmission.shape[1:], state.probe.shape[1:]
    extent, room = (np.multiply(a, b) for a, b in ((shape, state.sampling), (window, state.probe_sampling)))
    if (room > extent * (1 + 1e-6)).any():
        raise InputError(
            f"the probe's window of {window} pixels is larger than the object of {shape}; were axes exchanged?"
        )
    outside = int(((state.positions < -1e-3) | (state.positions > extent + 1e-3)).any(axis=1).sum())
    if outside:
        raise InputError(
            f"{outside} of {len(state.positions)} positions lie beside the object of {extent[0]:.4g} × {extent[1]:.4g} Å; "  # noqa: E501
            "wanted Å from its pixel (0, 0)"
        )
    if state.scan_shape is not None and math.prod(state.scan_shape) != len(state.positions):
        raise InputError(f"scan shape {state.scan_shape} does not hold {len(state.positions)} positions; leave it out")


def checked_optics(state: Reconstruction) -> Reconstruction:
    """The state with its optics as plain numbers; refuses what no microscope has."""
    numbers = {name: value for name in ("dose", "semiangle") if (value := getattr(state, name)) is not None}
    for name, value in numbers.items():
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} {value:g}; wanted a positive number, or None where it is not known")
    unknown = [name for name in state.aberrations if name not in NAMES]
    if unknown:
        raise InputError(f"unknown aberration {unknown[0]!r}; {nearest(unknown[0], NAMES)}")
    if not all(math.isfinite(value) for value in state.aberrations.values()):
        raise InputError("an aberration is not finite; leave it out")
    return replace(
        state,
        **{name: float(value) for name, value in numbers.items()},  # type: ignore[arg-type]
        energy=None if state.energy is None else check_energy(float(state.energy)),
        aberrations={name: float(value) for name, value in state.aberrations.items()},
        scan_shape=None if state.scan_shape is None else tuple(int(n) for n in state.scan_shape),
        notes=tuple(state.notes),
    )
