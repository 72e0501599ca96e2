"""From an experiment to its diffraction patterns by way of the scattering matrix (PRISM)."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from stemjax.core.errors import InputError
from stemjax.core.executor import AXIS, Execution, mesh
from stemjax.core.fourier import band_limit
from stemjax.core.typing import Array, real
from stemjax.detect.pixelated import PixelatedDetector, record
from stemjax.forward.beams import aperture_beams, reach_of
from stemjax.forward.experiment import Experiment
from stemjax.forward.moves import refuse_moves
from stemjax.forward.prism_forms import Form, slice_count, slice_work, whole_form
from stemjax.forward.prism_interpolated import interpolated_form
from stemjax.forward.prism_region import Region, check_region, region_form
from stemjax.forward.prism_tile import lattice_form
from stemjax.forward.propagation import average_configurations
from stemjax.optics.electron import interaction_parameter
from stemjax.optics.probe import probe_waves
from stemjax.optics.scan import probe_positions
from stemjax.scatter.propagator import slice_propagators

ROWS = 256
"""Rows of one matrix product: enough to reuse the matrix in the cache, few enough for the memory."""


@dataclass(frozen=True)
class Prism:
    r"""Simulator of diffraction patterns through the scattering matrix; hashable, holds no arrays.

    .. math:: \mu_i(q) = D \sum_m \Big| \sum_b S_{bq}\, e^{-2\pi i k_b r_i} \psi_m(b) \Big|^2

    Every beam b of the aperture is sent through the slices once; a probe position is then a matrix product. That pays
    where the probes outnumber the beams. If the probe's window is the whole specimen (interpolation 1), the result is
    that of `stemjax.Diffraction` to rounding. For a `RepeatedObject` the beams travel on the grid of one tile, which is
    as exact and far cheaper; the window must then be a whole number of tiles.

    With an interpolation f only every f-th pixel of the aperture is sent through a specimen f times larger than the
    window, and the exit wave is cropped to the window around the probe: an approximation. ADF images of 5 nm SrTiO3,
    23 Å wide, were wrong by 2, 3 and 7 % (rms) at f = 2, 3 and 4 (experiments/forward/propagation.py).

    Args:
        detector: What is recorded of the reciprocal grid; all of it if None.
        limit: Band limit as a fraction of Nyquist; None for none.
        taper: Width of the limit's soft edge as a fraction of Nyquist.
        limit_transmission: Also band-limit the transmission functions; only for a periodic specimen.
        exact: Non-paraxial propagator.
        execution: Where beams and probes run.
        interpolation: Pixels of the specimen's reciprocal grid from beam to beam (y, x); 1 is exact.
        reach: Largest angle of a beam [mrad]; needed where the aperture is traced, inside jit or grad (`fitted`).
        region: Bounds (y0, x0, y1, x1) of the scan, from the specimen's pixel (0, 0) [Å], or None. Where the scan
            covers a part of the specimen, its probes are made of fewer waves than there are beams, and those are sent
            (`stemjax.forward.prism_region`): nothing is lost beyond rounding. Positions must stay within.
        rows: Probes × modes in one matrix product.

    Source: Ophus, Adv. Struct. Chem. Imaging 3 (2017) 13.
    """

    detector: PixelatedDetector | None = None
    limit: float | None = 2.0 / 3.0
    taper: float = 0.0
    limit_transmission: bool = False
    exact: bool = False
    execution: Execution = Execution()
    interpolation: tuple[int, int] = (1, 1)
    reach: float | None = None
    region: Region | None = None
    rows: int = ROWS

    def __call__(self, experiment: Experiment, index: Array | None = None) -> Array:
        """Expected counts of some patterns (all if `index` is None), [pattern ky kx], zero frequency in the corner."""
        return self.collect(experiment, self.kept, (experiment.dose, experiment.camera), index)

    def fitted(self, experiment: Experiment) -> Prism:
        """The same with the reach of an experiment's probe, for use inside jit and grad."""
        return self if self.reach is not None else dataclasses.replace(self, reach=reach_of(experiment.probe))

    def restricted(self, experiment: Experiment, margin: float = 0.05) -> Prism:
        """The same for an experiment's probe and for probes within the bounds of its scan only, which can be cheaper.

        Args:
            experiment: The experiment; its probe and scan must not be traced.
            margin: How much farther the region reaches than the scan [Å].
        """
        places = np.asarray(_places(experiment))
        (y0, x0), (y1, x1) = (tuple(map(float, p)) for p in (places.min(axis=0) - margin, places.max(axis=0) + margin))
        return dataclasses.replace(self.fitted(experiment), region=(y0, x0, y1, x1))

    def kept(self, extra: tuple[Array, Any], intensity: Array) -> Array:
        """Expected counts [ky kx] from the intensity of one probe and (dose, camera)."""
        dose, camera = extra
        pattern = dose * (intensity if self.detector is None else record(self.detector, intensity))
        return pattern if camera is None else camera.collect(pattern)

    def collect(self, experiment: Experiment, keep: Callable, extra: Any, index: Array | None = None) -> Any:
        """Apply `keep(extra, intensity)` to the intensity of every probe (`stemjax.forward.propagation`)."""
        waves = probe_waves(experiment.probe)[None]
        kept = self.collect_series(experiment, waves, None, keep, extra, index)
        return jax.tree.map(lambda a: a[:, 0, 0], kept)

    def collect_series(
        self,
        experiment: Experiment,
        waves: Array,
        depths: tuple[int, ...] | None,
        keep: Callable,
        extra: Any,
        index: Array | None = None,
    ) -> Any:
        """`collect` for several probes of one aperture and at several depths, with one scattering matrix.

        Args:
            experiment: The experiment.
            waves: Probes in reciprocal space [state mode ny nx]; modes of a state are added incoherently.
            depths: Numbers of slices passed, rising; all slices if None.
            keep: As for `collect`.
            extra: As for `collect`.
            index: Which probe positions.

        Returns:
            What was kept [pattern state depth ...].
        """
        form = choose_form(self, experiment, waves.shape[0] * waves.shape[1])

        def one(specimen: Any) -> Any:
            matrix = self._matrix(form, experiment, specimen, waves, depths)
            return self._reduce(form, matrix, experiment, waves, keep, extra, index)

        return average_configurations(experiment.specimen, one)

    def matrix(self, experiment: Experiment, depths: tuple[int, ...] | None = None) -> Array:
        """The scattering matrix, to be used again and again by `reduce` (other blocks of a scan, another focus).

        Args:
            experiment: The experiment; of its specimen's arrangements the first is meant.
            depths: Numbers of slices passed, rising; all slices if None.

        Returns:
            Real array [group beam depth 2 pixel], its pixels (for a tile: its groups) split over the devices.
        """
        specimen = experiment.specimen
        at_rest = specimen.configuration(0) if hasattr(specimen, "configuration") else specimen
        waves = probe_waves(experiment.probe)[None]
        return self._matrix(choose_form(self, experiment, waves.shape[1]), experiment, at_rest, waves, depths)

    def reduce(
        self, matrix: Array, experiment: Experiment, keep: Callable, extra: Any, index: Array | None = None
    ) -> Any:
        """`collect` with a scattering matrix made before for the same specimen, aperture and tilt.

        Args:
            matrix: From `matrix`, one depth.
            experiment: The experiment; scan and dose may differ from that of the matrix, and without a `region` the
                probe may, but for its aperture.
            keep: As for `collect`.
            extra: As for `collect`.
            index: Which probe positions.
        """
        waves = probe_waves(experiment.probe)[None]
        kept = self._reduce(
            choose_form(self, experiment, waves.shape[1]), matrix, experiment, waves, keep, extra, index
        )
        return jax.tree.map(lambda a: a[:, 0, 0], kept)

    def _matrix(
        self, form: Form, experiment: Experiment, specimen: Any, waves: Array, depths: tuple[int, ...] | None
    ) -> Array:
        field = self._field(experiment, specimen, form)
        steps = depths or (field.shape[0],)

        def local(field: Array, propagators: Array, waves: Array, items: Any) -> Array:
            return form.matrix(field, propagators, waves, items, steps, self.execution)

        spread = jax.shard_map(
            local, mesh=mesh(self.execution), in_specs=(P(), P(), P(), form.items_spread),
            out_specs=form.matrix_spread, check_vma=False,
        )  # fmt: skip
        return spread(field, self._propagators(experiment, form), waves, form.items)

    def _reduce(
        self, form: Form, matrix: Array, experiment: Experiment, waves: Array, keep: Callable, extra: Any,
        index: Array | None,
    ) -> Any:  # fmt: skip
        """What is kept of all probes [pattern state depth ...]; a device holds the matrix of some pixels, all beams."""
        places = _places(experiment) if index is None else _places(experiment)[index]
        (states, modes), devices = waves.shape[:2], self.execution.devices
        count = places.shape[0]
        chunk = devices * max(1, min(self.rows // (devices * states * modes), -(-count // devices)))
        filled = jnp.concatenate([places, jnp.repeat(places[-1:], -count % chunk, axis=0)]).reshape(-1, chunk, 2)

        def local(matrix: Array, items: Any, waves: Array, filled: Array, extra: Any) -> Any:
            each = functools.partial(_chunk, form, (states, devices), matrix, form.prepare(waves, items), keep, extra)
            return jax.lax.map(jax.checkpoint(each), filled)

        specs = (form.matrix_spread, form.items_spread, P(), P(), P())
        spread = jax.shard_map(
            local, mesh=mesh(self.execution), in_specs=specs, out_specs=P(None, AXIS), check_vma=False
        )
        kept = spread(matrix, form.items, waves, filled, extra)
        return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:count], kept)

    def total(self, experiment: Experiment, score: Callable, data: Any, index: Array, weight: Array) -> Array:
        """Weighted sum over patterns of `score(expected, datum)`, as `stemjax.Diffraction.total`.

        The expected patterns of the whole sum are in memory at once.
        """
        lanes = index.shape[0]
        lane = jnp.broadcast_to(jnp.arange(lanes)[:, None], index.shape)
        number = jnp.minimum(index * lanes + lane, experiment.scan.positions.shape[0] - 1)
        expected = self(experiment, number.ravel())
        records = jax.tree.map(lambda d: d[lane.ravel(), index.ravel()], data)
        camera = () if experiment.camera is None else (experiment.camera,)
        return jnp.sum(weight.ravel() * jax.vmap(lambda mean, datum: score(mean, datum, *camera))(expected, records))

    def _propagators(self, experiment: Experiment, form: Form) -> Array:
        refuse_moves(experiment, "PRISM")
        # A disk off the detector's centre is no tilted beam: the propagators take its drift out again.
        tilt = experiment.tilt + experiment.probe.centre
        return slice_propagators(
            form.grid, experiment.specimen.thickness, experiment.probe.energy, tilt,
            limit=self.limit, taper=self.taper, exact=self.exact,
        )  # fmt: skip

    def _field(self, experiment: Experiment, specimen: Any, form: Form) -> Array:
        """Transmission functions, of the whole specimen or of its tile."""
        unit = specimen.tile if form.repeats is not None else specimen
        field = unit.transmission(interaction_parameter(experiment.probe.energy))
        if not self.limit_transmission or self.limit is None:
            return field
        mask = band_limit(form.grid, self.limit, self.taper)
        if form.repeats is not None:
            mask = mask[:: form.repeats[0], :: form.repeats[1]]
        return jnp.fft.ifft2(jnp.fft.fft2(field) * real(mask)[None])


def _chunk(
    form: Form, sizes: tuple[int, int], matrix: Array, prepared: Any, keep: Callable, extra: Any, places: Array
) -> Any:
    """What is kept of some probes [probe state depth ...]: a product on all devices, a share finished by each."""
    intensity = form.intensity(form.products(matrix, prepared, places), places, *sizes)
    every = jax.vmap(jax.vmap(jax.vmap(keep, (None, 0)), (None, 0)), (None, 0))
    return every(extra, intensity)


def _places(experiment: Experiment) -> Array:
    """Probe positions from the specimen's pixel (0, 0) [pattern 2] [Å]."""
    return probe_positions(experiment.scan) - experiment.specimen.origin[None]


def choose_form(prism: Prism, experiment: Experiment, waves: int = 1) -> Form:
    """The form for a specimen and a probe of some waves (states × modes), or an error that says what would fit.

    Raises:
        InputError: Window, specimen and interpolation do not fit together.
    """
    specimen, window = experiment.specimen, experiment.probe.grid
    beams = aperture_beams(experiment.probe, prism.reach)
    tile, factors = getattr(specimen, "tile", None), prism.interpolation
    if tile is not None and factors == (1, 1):
        return lattice_form(window, tile.grid, beams, prism)
    if tuple(f * n for f, n in zip(factors, window.shape, strict=True)) != specimen.grid.shape:
        raise InputError(_remedy(specimen.grid.shape, window.shape, factors))
    if factors == (1, 1):
        slices = slice_count(experiment)
        whole = whole_form(window, beams, prism, slices)
        if prism.region is None:
            return whole
        check_region(prism.region, _places(experiment))
        return region_form(whole, prism.region, waves, prism, slices * slice_work(math.prod(window.shape)))
    return interpolated_form(specimen.grid, window, beams, prism, slice_count(experiment))


def _remedy(specimen: tuple[int, int], window: tuple[int, int], factors: tuple[int, int]) -> str:
    ratio = [m / n for m, n in zip(specimen, window, strict=True)]
    other = f", or interpolation=({ratio[0]:.0f}, {ratio[1]:.0f}), an approximation"
    whole = all(r == round(r) for r in ratio) and max(ratio) > 1
    return (
        f"PRISM with interpolation {factors} sends waves through a specimen of {factors} times the probe's window of "
        f"{window} pixels, but the specimen has {specimen}; use a window of {specimen} pixels (exact)"
        f"{other if whole else ''}, or Diffraction"
    )
