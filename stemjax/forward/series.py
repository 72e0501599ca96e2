"""Series of one scan: at several depths of the specimen, and at several foci of the lens.

A series is itself a propagation whose patterns are those of every depth, or every focus, one after the other;
simulators of images work with it unchanged. `thickness_series` and `focal_series` put the axis of the series in front.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.executor import map_probes
from stemjax.core.fourier import shift_ramps
from stemjax.core.typing import Array, real
from stemjax.forward.diffraction import Diffraction, Shared, window
from stemjax.forward.experiment import Experiment
from stemjax.forward.moves import refuse_moves
from stemjax.forward.prism import Prism
from stemjax.forward.prism_forms import slice_count
from stemjax.forward.propagation import average_configurations
from stemjax.optics.probe import Probe, probe_waves
from stemjax.scatter.prism import waves_at_depths


@dataclass(frozen=True)
class DepthSeries:
    """What leaves the specimen after some of its slices: one pass of every probe for all depths.

    Args:
        diffraction: A `Diffraction` or a `Prism`.
        depths: Numbers of slices passed, rising.
    """

    diffraction: Diffraction | Prism
    depths: tuple[int, ...]

    def __call__(self, experiment: Experiment, index: Array | None = None) -> Array:
        """Expected counts [depth·pattern ky kx]."""
        return self.collect(experiment, self.kept, (experiment.dose, experiment.camera), index)

    def kept(self, extra: tuple[Array, Any], intensity: Array) -> Array:
        """Expected counts [ky kx] from an intensity."""
        return self.diffraction.kept(extra, intensity)

    def collect(self, experiment: Experiment, keep: Callable, extra: Any, index: Array | None = None) -> Any:
        """Apply `keep` to the intensity of every probe at every depth [depth·pattern ...]."""
        waves = probe_waves(experiment.probe)[None]
        kept = _collect_series(self.diffraction, experiment, waves, self.depths, keep, extra, index)
        return jax.tree.map(lambda a: _in_front(a[:, 0]), kept)


@dataclass(frozen=True)
class FocalSeries:
    """A scan at several foci of the lens; with PRISM one scattering matrix serves all of them.

    Args:
        diffraction: A `Diffraction` or a `Prism`.
        defoci: Values of the defocus, −C10, in place of the probe's own [Å]; positive for underfocus.
    """

    diffraction: Diffraction | Prism
    defoci: tuple[float, ...]

    def __call__(self, experiment: Experiment, index: Array | None = None) -> Array:
        """Expected counts [focus·pattern ky kx]."""
        return self.collect(experiment, self.kept, (experiment.dose, experiment.camera), index)

    def kept(self, extra: tuple[Array, Any], intensity: Array) -> Array:
        """Expected counts [ky kx] from an intensity."""
        return self.diffraction.kept(extra, intensity)

    def collect(self, experiment: Experiment, keep: Callable, extra: Any, index: Array | None = None) -> Any:
        """Apply `keep` to the intensity of every probe at every focus [focus·pattern ...]."""
        waves = focal_waves(experiment.probe, real(self.defoci))
        kept = _collect_series(self.diffraction, experiment, waves, None, keep, extra, index)
        return jax.tree.map(lambda a: _in_front(a[:, :, 0]), kept)


def focal_waves(probe: Probe, defoci: Array) -> Array:
    """Waves of a probe at several defoci [Å], in reciprocal space [focus mode ny nx].

    >>> from stemjax.core.grid import Grid
    >>> from stemjax.optics.probe import make_probe
    >>> lens = make_probe(Grid((8, 8), (0.5, 0.5)), energy=80e3, semiangle=8.0)
    >>> focal_waves(lens, jnp.array([0.0, 50.0])).shape
    (2, 1, 8, 8)
    """
    lens = probe.aberrations
    return jax.vmap(lambda defocus: probe_waves(probe.replace(aberrations=lens.replace(C10=-defocus))))(defoci)


def thickness_series(simulator: Any, experiment: Experiment, depths: Sequence[int], index: Array | None = None) -> Any:
    """What a simulator gives after some of the specimen's slices.

    Args:
        simulator: A `Diffraction`, a `Prism`, or a simulator of images that holds one as `diffraction`.
        experiment: The experiment, its specimen as thick as the deepest.
        depths: Numbers of slices passed, rising: 1 is below the first slice.
        index: Which probes; all if left out.

    Returns:
        What the simulator returns, with a first axis for the depths: [depth pattern ...].

    Raises:
        InputError: The depths do not rise, or the specimen has fewer slices.
    """
    wanted = tuple(int(d) for d in depths)
    slices = slice_count(experiment)
    if not wanted or wanted[0] < 1 or any(b <= a for a, b in itertools.pairwise(wanted)):
        raise InputError(f"depths {wanted} must rise from 1 slice on; such as ({max(slices // 2, 1)}, {slices})")
    if wanted[-1] > slices:
        raise InputError(f"a depth of {wanted[-1]} slices in a specimen of {slices}; give at most {slices}")
    return _run(simulator, lambda propagation: DepthSeries(propagation, wanted), experiment, index, len(wanted))


def focal_series(simulator: Any, experiment: Experiment, defoci: Sequence[float], index: Array | None = None) -> Any:
    """What a simulator gives at several foci, such as for sectioning a specimen by depth.

    The crossover of a probe with defocus d lies d below the entrance surface.

    Args:
        simulator: A `Diffraction`, a `Prism`, or a simulator of images that holds one as `diffraction`.
        experiment: The experiment; its C10 is not used.
        defoci: Values of the defocus, −C10 [Å].
        index: Which probes; all if left out.

    Returns:
        What the simulator returns, with a first axis for the foci: [focus pattern ...].

    Raises:
        InputError: There is no focus, or one is not finite.
    """
    wanted = tuple(float(d) for d in defoci)
    if not wanted or not np.isfinite(wanted).all():
        raise InputError(f"defoci {wanted} must be finite numbers in Å, at least one; such as (0.0, 50.0, 100.0)")
    return _run(simulator, lambda propagation: FocalSeries(propagation, wanted), experiment, index, len(wanted))


def _run(simulator: Any, series: Callable, experiment: Experiment, index: Array | None, count: int) -> Any:
    if isinstance(simulator, Diffraction | Prism):
        wrapped = series(simulator)
    elif dataclasses.is_dataclass(simulator) and hasattr(simulator, "diffraction"):
        wrapped = dataclasses.replace(simulator, diffraction=series(simulator.diffraction))  # type: ignore[type-var]
    else:
        raise InputError(
            f"{type(simulator).__name__} cannot make a series; give Diffraction(), Prism() or ScannedImage(...)"
        )
    return jax.tree.map(lambda a: a.reshape(count, -1, *a.shape[1:]), wrapped(experiment, index))


def _in_front(kept: Array) -> Array:
    """[pattern series ...] as [series·pattern ...]."""
    return jnp.moveaxis(kept, 1, 0).reshape(-1, *kept.shape[2:])


def _collect_series(
    propagation: Diffraction | Prism, experiment: Experiment, waves: Array, depths: tuple[int, ...] | None,
    keep: Callable, extra: Any, index: Array | None,
) -> Any:  # fmt: skip
    """What is kept [pattern state depth ...] of probes [state mode ny nx] after some slices, or after all of them."""
    if isinstance(propagation, Prism):
        return propagation.collect_series(experiment, waves, depths, keep, extra, index)
    refuse_moves(experiment, "a series")
    grid = experiment.probe.grid

    def through(specimen: Any) -> Any:
        shared, field, items, corners = propagation.prepare(experiment.replace(specimen=specimen))
        chosen = (items, corners) if index is None else jax.tree.map(lambda a: a[index], (items, corners))
        steps = depths or (field.shape[0],)

        def one(common: tuple[Shared, Array, Array, Any], probe: tuple[Array, Array]) -> Any:
            shared, field, waves, extra = common
            item, corner = probe
            ramp_y, ramp_x = shift_ramps(grid, item)
            patch = window(field, corner, grid.shape)

            def mode(wave: Array) -> Array:
                out = waves_at_depths(wave * ramp_y * ramp_x, patch, shared.propagators, steps)
                return out.real**2 + out.imag**2

            def state(modes: Array) -> Any:
                intensity = jnp.sum(jax.lax.map(mode, modes), axis=0)
                return jax.vmap(keep, (None, 0))(extra, intensity)

            return jax.lax.map(state, waves)

        return map_probes(one, (shared, field, waves, extra), chosen, propagation.execution)

    return average_configurations(experiment.specimen, through)
