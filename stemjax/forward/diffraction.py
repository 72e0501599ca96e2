"""From an experiment to its diffraction patterns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.executor import Batch, Execution, curvature_probes, map_probes, sum_probes
from stemjax.core.fourier import band_limit, shift_ramps
from stemjax.core.grid import Grid
from stemjax.core.typing import Array, real
from stemjax.detect.pixelated import PixelatedDetector, record
from stemjax.forward.experiment import Experiment
from stemjax.forward.moves import Moves, common_tilt, descanned, moves, tilted
from stemjax.forward.propagation import as_one_program, average_configurations
from stemjax.optics.electron import interaction_parameter
from stemjax.optics.probe import Probe, probe_waves
from stemjax.optics.scan import probe_positions
from stemjax.scatter.multislice import multislice, reversible_multislice
from stemjax.scatter.propagator import slice_propagators


class Shared(NamedTuple):
    """What all probes share: waves [mode ny nx], propagators [step ny nx] over distances [step] [Å], dose, camera."""

    waves: Array
    propagators: Array
    distances: Array
    dose: Array
    camera: Any = None


@dataclass(frozen=True)
class Diffraction:
    r"""Simulator of diffraction patterns, one for every scan position; hashable, holds no arrays.

    .. math:: \mu_i(k) = D \left\langle \sum_m | \hat M_c [ e^{-2\pi i k r_i} \psi_m(k) ] |^2 \right\rangle_c

    with \hat M_c the multislice operator of the specimen's window around r_i in one arrangement c of its atoms (frozen
    phonons; most specimens have one) and D the electrons in a pattern. Where the experiment has a camera, its blur and
    sensitivity act last.

    Args:
        detector: What is recorded of the reciprocal grid; all of it if None.
        limit: Band limit as a fraction of Nyquist, on propagators and (with `limit_transmission`) on transmission
            functions; None for none. 2/3 suits simulations, None single-slice reconstruction.
        taper: Width of the limit's soft edge as a fraction of Nyquist.
        limit_transmission: Also band-limit the transmission functions; only for a periodic specimen.
        exact: Non-paraxial propagator.
        reversible: Gradients store no wave but walk it back up (`stemjax.scatter.multislice`); saves one wave a slice
            and mode, which pays with several modes. Exact only for a pure phase object without band limit.
        steps: Equal steps that the wave takes through every slice of a pixelated object: few slices to be found, many
            steps to be accurate.
        execution: Where the probes run.
    """

    detector: PixelatedDetector | None = None
    limit: float | None = 2.0 / 3.0
    taper: float = 0.0
    limit_transmission: bool = False
    exact: bool = False
    reversible: bool = False
    steps: int = 1
    execution: Execution = Execution()

    @as_one_program
    def __call__(self, experiment: Experiment, index: Array | None = None) -> Array:
        """Expected counts of some patterns (all if `index` is None), [pattern ky kx], zero frequency in the corner."""
        return self.collect(experiment, self.kept, (experiment.dose, experiment.camera), index)

    def kept(self, extra: tuple[Array, Any], intensity: Array) -> Array:
        """Expected counts [ky kx] from the intensity of one probe and (dose, camera)."""
        dose, camera = extra
        pattern = dose * (intensity if self.detector is None else record(self.detector, intensity))
        return pattern if camera is None else camera.collect(pattern)

    def collect(self, experiment: Experiment, keep: Callable, extra: Any, index: Array | None = None) -> Any:
        """Apply `keep(extra, intensity)` to every probe's intensity (`stemjax.forward.propagation.Propagation`)."""
        grid = experiment.probe.grid

        def through(specimen: Any) -> Any:
            shared, field, items, corners = self.prepare(experiment.replace(specimen=specimen))
            chosen = (items, corners) if index is None else jax.tree.map(lambda a: a[index], (items, corners))

            def one(common: tuple[Shared, Array, Any], probe: tuple[Array, Array]) -> Any:
                shared, field, extra = common
                item, corner = probe
                return keep(extra, self.intensity(shared, window(field, corner, grid.shape), item, grid))

            return map_probes(one, (shared, field, extra), chosen, self.execution)

        return average_configurations(experiment.specimen, through)

    def total(self, experiment: Experiment, score: Callable, data: Any, index: Array, weight: Array) -> Array:
        """Weighted sum over patterns of `score(expected, datum)`, differentiated at constant memory.

        Args:
            experiment: The experiment.
            score: Scalar function of one expected pattern [ky kx] and its record; where the experiment has a camera,
                of the camera too.
            data: Records in lanes [lane stored ...] (`stemjax.inference.batches`).
            index: Patterns of the sum [lane probe]: position within the lane.
            weight: Weight of every pattern [lane probe].
        """
        shared, field, items, corners = self.prepare(experiment)
        lanes = index.shape[0]
        number = jnp.minimum(index * lanes + jnp.arange(lanes)[:, None], corners.shape[0] - 1)
        items = jax.tree.map(lambda a: a[number], items)
        batch = Batch(items, corners[number], data, index, weight)
        grid = experiment.probe.grid

        def one(shared: Shared, patch: Array, item: Array, datum: Any) -> Array:
            expected = self.kept((shared.dose, shared.camera), self.intensity(shared, patch, item, grid))
            return score(expected, datum) if shared.camera is None else score(expected, datum, shared.camera)

        return sum_probes(one, shared, field, batch, grid.shape, self.execution)

    def fisher(
        self,
        model_of: Callable,
        at: Any,
        weigh: Callable,
        data: Any,
        index: Array,
        weight: Array,
        *,
        seen: Callable | None = None,
    ) -> Callable[[Any], Any]:
        """Fisher information of the patterns as an operator, at the memory of one pattern.

        Args:
            model_of: From the unknowns, a pytree, to the experiment.
            at: The unknowns.
            weigh: Information `weigh(expected, datum)` of every pixel about its expectation; where the experiment has
                a camera, of the camera and its table (`Camera.tabulated`) too.
            data: Records in lanes [lane stored ...].
            index: Patterns of the sum [lane probe]: position within the lane.
            weight: Weight of every pattern [lane probe].
            seen: What `weigh` takes in place of the expected counts: `seen(expected, camera, table)`.

        Returns:
            From a direction, a tree like the unknowns, to its product with the information.
        """
        experiment = model_of(at)
        grid, corners = experiment.probe.grid, self.prepare(experiment)[3]
        table = None if experiment.camera is None else experiment.camera.tabulated()
        number = jnp.minimum(index * index.shape[0] + jnp.arange(index.shape[0])[:, None], corners.shape[0] - 1)

        def prepared(unknowns: Any) -> tuple[Shared, Array, Array]:
            shared, field, items, _ = self.prepare(model_of(unknowns))
            return shared, field, jax.tree.map(lambda a: a[number], items)

        def expected(shared: Shared, patch: Array, item: Array) -> Array:
            values = self.kept((shared.dose, shared.camera), self.intensity(shared, patch, item, grid))
            return values if seen is None else seen(values, shared.camera, table)

        def weights(shared: Shared, values: Array, datum: Any) -> Array:
            return weigh(values, datum) if shared.camera is None else weigh(values, datum, shared.camera, table)

        (shared, field, items), push = jax.linearize(prepared, at)
        pull = jax.linear_transpose(push, at)
        batch = Batch(items, corners[number], data, index, weight)

        def product(direction: Any) -> Any:
            moves = push(direction)
            (turned,) = pull(
                curvature_probes(expected, weights, shared, field, batch, grid.shape, self.execution, moves)
            )
            return turned

        return product

    def prepare(self, experiment: Experiment) -> tuple[Shared, Array, Array | Moves, Array]:
        """What is computed once, not for every probe: shared arrays, transmission, moves and corners [pixel].

        The transmission is [slice ny nx], or [configuration slice ny nx] where atoms have several arrangements.
        """
        probe, specimen = experiment.probe, thinned(experiment.specimen, self.steps)
        field = self.field(specimen, probe)
        # A disk off the detector's centre is no tilted beam: the propagators take its drift out again.
        tilt = common_tilt(experiment) + probe.centre
        propagators = slice_propagators(
            probe.grid, specimen.thickness, probe.energy, tilt,
            limit=self.limit, taper=self.taper, exact=self.exact,
        )  # fmt: skip
        positions = probe_positions(experiment.scan) - specimen.origin[None]
        corners, shifts = _place(positions, specimen.grid, probe.grid.shape, specimen.periodic)
        shared = Shared(probe_waves(probe), propagators, specimen.thickness, experiment.dose, experiment.camera)
        return shared, field, moves(experiment, shifts), corners

    def field(self, specimen: Any, probe: Probe) -> Array:
        """Transmission of a specimen, band-limited where asked, and with a margin for windows that reach over."""
        if getattr(specimen, "configurations", 1) > 1:
            numbers = jnp.arange(specimen.configurations, dtype=jnp.int32)
            return jax.lax.map(lambda i: self.field(specimen.configuration(i), probe), numbers)
        if hasattr(specimen, "configuration"):
            specimen = specimen.configuration(0)
        field = specimen.transmission(interaction_parameter(probe.energy))
        if self.limit_transmission and self.limit is not None:
            mask = real(band_limit(specimen.grid, self.limit, self.taper))
            field = jnp.fft.ifft2(jnp.fft.fft2(field) * mask[None])
        return with_margin(field, specimen, probe)

    def intensity(self, shared: Shared, patch: Array, item: Array | Moves, grid: Grid) -> Array:
        """Intensity [ny nx] of one probe, displaced in its window by [Å], or by `Moves`; the mean over arrangements."""
        if patch.ndim == 4:
            # Without the checkpoint the gradient would keep the waves of all arrangements at once.
            one = jax.checkpoint(lambda field: self.intensity(shared, field, item, grid))
            total = jax.lax.scan(lambda sum_, field: (sum_ + one(field), None), jnp.zeros(grid.shape), patch)[0]
            return total / patch.shape[0]
        waves = exit_waves(shared, patch, item, grid, reversible=self.reversible, steps=self.steps)
        return jnp.sum(waves.real**2 + waves.imag**2, axis=0)


def thinned(specimen: Any, steps: int) -> Any:
    """The specimen of which every slice is one of `steps` equal ones.

    Raises:
        InputError: The specimen is not made of pixels.
    """
    if steps == 1:
        return specimen
    if not hasattr(specimen, "thinned"):
        raise InputError(f"{type(specimen).__name__} has slices of its own; give it thinner ones in place of steps")
    return specimen.thinned(steps)


def exit_waves(
    shared: Shared, patch: Array, item: Array | Moves, grid: Grid, *, reversible: bool = False, steps: int = 1
) -> Array:
    """Exit waves of all modes of one probe in reciprocal space [mode ny nx]."""
    ramp_y, ramp_x = shift_ramps(grid, item.shift if isinstance(item, Moves) else item)
    propagators = shared.propagators
    if isinstance(item, Moves):
        propagators = tilted(propagators, item, shared.distances, grid)

    def one(wave: Array) -> Array:
        if reversible:
            out = reversible_multislice(wave * ramp_y * ramp_x, *repeated(patch, propagators, steps))
        else:
            out = multislice(wave * ramp_y * ramp_x, patch, propagators, steps=steps)
        return descanned(out, item, grid) if isinstance(item, Moves) else out

    # A single mode stays free of a batch axis, which XLA's CPU code handles better.
    return one(shared.waves[0])[None] if shared.waves.shape[0] == 1 else jax.vmap(one)(shared.waves)


def repeated(patch: Array, propagators: Array, steps: int) -> tuple[Array, Array]:
    """Slices and propagators, each as often as the wave meets it."""
    if steps == 1:
        return patch, propagators
    several = propagators.shape[0] > 1
    return jnp.repeat(patch, steps, axis=0), jnp.repeat(propagators, steps, axis=0) if several else propagators


def _place(positions: Array, grid: Grid, window: tuple[int, int], periodic: bool) -> tuple[Array, Array]:
    """First corner of every probe's window [pattern 2] and the probe's place in it [pattern 2] [Å]."""
    sampling = jnp.asarray(grid.sampling, dtype=positions.dtype)[None]
    if periodic and window == grid.shape:
        return jnp.zeros(positions.shape, int), positions
    half = np.array(window)[None] // 2
    corners = jnp.floor(jax.lax.stop_gradient(positions) / sampling + 0.5).astype(int) - half
    shifts = positions - corners.astype(positions.dtype) * sampling
    shape = np.array(grid.shape)[None]
    if periodic:
        return jnp.mod(corners, shape), shifts
    inside = jnp.clip(corners, 0, shape - np.array(window)[None])
    return inside, shifts + (corners - inside).astype(positions.dtype) * sampling


def with_margin(field: Array, specimen: Any, probe: Probe) -> Array:
    """A field [... ny nx] over a periodic specimen, continued so that every window of the probe lies inside."""
    if not specimen.periodic or probe.grid.shape == specimen.grid.shape:
        return field
    margins = [(0, 0)] * (field.ndim - 2) + [(0, n) for n in probe.grid.shape]
    return jnp.pad(field, margins, mode="wrap")


def window(field: Array, corner: Array, shape: tuple[int, int]) -> Array:
    """The window [... ny nx] of a field whose first corner is a pixel (y, x)."""
    lead = field.shape[:-2]
    start: list[Any] = [*(0 for _ in lead), corner[0], corner[1]]
    return jax.lax.dynamic_slice(field, start, (*lead, *shape))
