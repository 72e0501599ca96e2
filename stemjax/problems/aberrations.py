r"""Aberrations of the probe from diffraction patterns (CBED, Ronchigrams, a 4D scan) of a known specimen.

What is known of every coefficient before is a normal density around the first guess. Its width is stated in Å, or left
to the phase that a coefficient may cause at the edge of the aperture:

.. math:: s_{nm} = \frac{(n+1)\, \lambda}{2\pi\, \alpha^{n+1}}\, \phi

With a thin unknown specimen, free its phase as well (`also={"specimen.phase": prior}`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from stemjax.core.errors import InputError, nearest
from stemjax.core.executor import plan
from stemjax.core.typing import Array
from stemjax.detect.noise import Poisson
from stemjax.forward.diffraction import Diffraction
from stemjax.forward.experiment import Experiment, Measurement
from stemjax.inference.derived import Derived
from stemjax.inference.problem import Problem, make_problem
from stemjax.inference.wells import Well
from stemjax.optics.aberrations import NAMES, ORDERS
from stemjax.optics.electron import wavelength
from stemjax.optics.probe import Probe

PHASE = math.pi
"""Phase at the edge of the aperture that a coefficient may have, one standard deviation, where nothing is stated."""

PREFIX = "probe.aberrations."


def make_aberration_problem(
    experiment: Experiment,
    counts: np.ndarray | Array,
    *,
    free: Iterable[str] | None = None,
    spreads: Mapping[str, float] | None = None,
    also: Mapping[str, Any] | None = None,
    mask: np.ndarray | Array | None = None,
    forward: Any = None,
    noise: Any = None,
) -> Problem:
    """The aberrations behind some diffraction patterns.

    Args:
        experiment: The first guess: probe with its aberrations, the specimen, positions of the probe, electrons in a
            pattern.
        counts: Electrons [pattern ky kx], zero frequency in the corner.
        free: Coefficients to find ("C10", "C12" for both of its parts, "C21a", ...); all to third order if left out.
        spreads: How well a coefficient is known, one standard deviation [Å], by the same names; from the phase at the
            edge of the aperture (`aberration_spreads`) where it is left out.
        also: Other leaves to find, with their priors: {"scan.positions": Normal(..., 0.5)}.
        mask: Weight of every pixel of a pattern.
        forward: The simulator; `Diffraction()` if left out, over all devices where the patterns can fill them.
        noise: The noise model; Poisson if left out.

    Returns:
        The problem. Where C10 is free, its false minima are searched before it is solved: they lie about a depth of
        focus λ/α² apart (`defocus_well`).

    Raises:
        InputError: A name is no coefficient, a spread is not positive or belongs to a coefficient that is not free.

    >>> import stemjax as sj
    >>> grid = sj.make_grid(16, 0.5)
    >>> lens = sj.make_probe(grid, energy=80e3, semiangle=21.4, aberrations=sj.make_aberrations(C10=80.0))
    >>> bump = np.exp(-((np.arange(16) - 8.0) ** 2) / 8.0)
    >>> thing = sj.make_object(grid, phase=(bump[:, None] * bump)[None], periodic=True)
    >>> guess = sj.make_experiment(lens, thing, sj.make_raster((1, 2), 2.0, origin=(4.0, 4.0)), dose=1e4)
    >>> problem = make_aberration_problem(guess, np.zeros((2, 16, 16)), free=["C10", "C12"], spreads={"C12": 20.0})
    >>> [path.split(".")[-1] for path in problem.free]
    ['C10', 'C12a', 'C12b']
    """
    names = coefficients(order_names(3) if free is None else free)
    widths = {**aberration_spreads(experiment.probe, names), **_stated(spreads or {}, names)}
    priors = {PREFIX + name: _normal(experiment.probe, name, width) for name, width in widths.items()}
    return make_problem(
        experiment,
        Measurement(counts, None if mask is None else jnp.asarray(mask)),
        forward=simulator(len(counts)) if forward is None else forward,
        noise=Poisson() if noise is None else noise,
        free=[*priors, *(also or {})],
        priors={**priors, **(also or {})},
        wells=[defocus_well(experiment.probe, widths["C10"])] if "C10" in names else [],
    )


def order_names(order: int) -> list[str]:
    """Names of all Cartesian coefficients up to an order.

    >>> order_names(2)
    ['C10', 'C12a', 'C12b', 'C21a', 'C21b', 'C23a', 'C23b']
    """
    return [name for name in NAMES if int(name[1]) <= order]


def coefficients(names: Iterable[str]) -> list[str]:
    """Cartesian names of coefficients; "C12" stands for its two parts.

    Raises:
        InputError: A name is no coefficient.

    >>> coefficients(["C10", "C12"])
    ['C10', 'C12a', 'C12b']
    """
    pairs = {f"C{n}{m}": [f"C{n}{m}a", f"C{n}{m}b"] for n, m in ORDERS if m}
    found = []
    for name in names:
        if name not in NAMES and name not in pairs:
            raise InputError(f"unknown aberration '{name}'; {nearest(name, [*NAMES, *pairs])}")
        found += pairs.get(name, [name])
    return list(dict.fromkeys(found))


def aberration_spreads(probe: Probe, names: Iterable[str] = NAMES, *, phase: float = PHASE) -> dict[str, float]:
    """Coefficients [Å] that cause some phase at the edge of the aperture, by name.

    Args:
        probe: The probe.
        names: Cartesian coefficients.
        phase: Phase at the edge [rad].

    >>> import stemjax as sj
    >>> probe = sj.make_probe(sj.make_grid(16, 0.5), energy=80e3, semiangle=20.0)
    >>> round(aberration_spreads(probe, ["C10"])["C10"], 1)  # λ/α²
    104.4
    """
    edge = 1e-3 * float(probe.semiangle)
    unit = wavelength(probe.energy) * phase / (2.0 * math.pi)
    return {name: (int(name[1]) + 1) * unit / edge ** (int(name[1]) + 1) for name in names}


def defocus_well(probe: Probe, spread: float) -> Well:
    """Where to look for C10: three standard deviations to both sides of the first guess, every half depth of focus.

    λ/α² of defocus turn the phase at the edge of the aperture by half a turn against the centre; minima of the misfit
    lie about so far apart, and patterns of opposite defocus resemble each other.

    Args:
        probe: The probe.
        spread: How well C10 is known [Å].
    """
    depth = wavelength(probe.energy) / (1e-3 * float(probe.semiangle)) ** 2
    guess = float(probe.aberrations.C10)
    return Well(PREFIX + "C10", guess - 3.0 * spread, guess + 3.0 * spread, depth)


def polar_aberrations(names: Iterable[str]) -> dict[str, Derived]:
    """Modulus and azimuth of coefficients as quantities derived from an experiment, for `laplace`, `sample`, ...

    The azimuth of a coefficient that is not told from zero has no error bar that means anything. Nor has its modulus
    the one that it gets from a Gaussian: it cannot be negative, so it comes out too large, and at zero ± 1.96 standard
    deviations hold it in 1 − exp(−1.96²/2) = 85 % instead of 95 %. Below some four standard deviations quote the pair
    of Cartesian coefficients, or quantiles of draws.

    Args:
        names: Coefficients with a direction ("C12", "C21", ...).

    >>> sorted(polar_aberrations(["C12"]))
    ['C12', 'phi12']
    """
    found = {}
    for name in names:
        pair = coefficients([name])
        if len(pair) == 1:
            raise InputError(f"'{name}' has no direction; it is its own modulus")
        found[name] = Derived(_modulus(pair), "Å", f"modulus of {name}")
        found["phi" + name[1:]] = Derived(_azimuth(pair), "rad", f"azimuth of {name}")
    return found


def simulator(patterns: int) -> Diffraction:
    """The simulator of some patterns: over all devices where each has several, else on one.

    Chains of a sampler take the devices that patterns leave free.
    """
    layout = plan()
    return Diffraction(execution=layout if patterns >= 4 * layout.devices else plan(devices=1))


def _modulus(pair: list[str]) -> Any:
    def modulus(experiment: Experiment) -> Array:
        first, second = (getattr(experiment.probe.aberrations, name) for name in pair)
        return jnp.hypot(first, second)

    return modulus


def _azimuth(pair: list[str]) -> Any:
    fold = int(pair[0][2])

    def azimuth(experiment: Experiment) -> Array:
        first, second = (getattr(experiment.probe.aberrations, name) for name in pair)
        return jnp.arctan2(second, first) / fold

    return azimuth


def _stated(spreads: Mapping[str, float], names: list[str]) -> dict[str, float]:
    found = {}
    for name, width in spreads.items():
        if not (np.isfinite(width) and width > 0):
            raise InputError(f"a spread of {width:g} Å for '{name}'; give a positive number of Å")
        for part in coefficients([name]):
            if part not in names:
                raise InputError(f"a spread for '{name}', which is not free; {nearest(name, names)}")
            found[part] = float(width)
    return found


def _normal(probe: Probe, name: str, width: float) -> Any:
    from numpyro.distributions import Normal

    return Normal(float(getattr(probe.aberrations, name)), width)
