"""Which way through the specimen is cheapest, in how many blocks, and why; found on the host, before anything runs."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.executor import Execution
from stemjax.core.memory import SHARE, device_memory, largest_chunk, readable
from stemjax.core.typing import real_dtype
from stemjax.forward.diffraction import Diffraction
from stemjax.forward.experiment import Experiment
from stemjax.forward.prism import ROWS, Prism, choose_form
from stemjax.forward.prism_forms import Form, slice_count, slice_work
from stemjax.forward.prism_region import RegionForm
from stemjax.optics.probe import probe_waves

PRODUCT_SPEED = 6.0
"""Operations of a matrix product in the time of one of a Fourier transform: 150-200 against 30 Gflop/s on two cores."""

REGION_WORK = 3e10
"""Operations below which no basis is made for the scanned region: some seconds of one core."""

TRIAL_PROBES = 4
"""Probes that measure the error of an approximation."""


@dataclass(frozen=True)
class Estimate:
    """What one way would cost.

    Args:
        name: What a person calls it.
        propagation: The simulator, or None where the way is closed.
        work: Operations, in those of Fourier transforms.
        fixed: Bytes, whatever the number of probes in a block.
        block: Probes in one block.
        remark: Sizes that decided, or why the way is closed.
    """

    name: str
    propagation: Diffraction | Prism | None
    work: float = math.inf
    fixed: float = 0.0
    block: int = 0
    remark: str = ""


@dataclass(frozen=True)
class PropagationPlan:
    """A choice and its reasons; made by `choose_propagation`.

    Args:
        propagation: The simulator of the wave, for `ScannedImage`, `Signals`, or by itself.
        block: Probes to compute at once (`stemjax.forward.blocks.simulate_in_blocks`).
        probes: Probes of the scan.
        budget: Bytes that the plan may use.
        estimates: All ways that were looked at, the chosen one first.
    """

    propagation: Diffraction | Prism
    block: int
    probes: int
    budget: float
    estimates: tuple[Estimate, ...]

    def describe(self) -> str:
        """The choice and the reasons, a few lines."""
        chosen, *others = self.estimates
        blocks = -(-self.probes // self.block)
        lines = [
            f"{chosen.name}: {self.probes} probes in {blocks} block{'s' if blocks > 1 else ''} of {self.block}, "
            f"at least {readable(chosen.fixed)} of {readable(self.budget)} allowed ({chosen.remark})"
        ]
        for other in others:
            cost = f"{other.work / chosen.work:.3g} times the work" if other.propagation is not None else "not possible"
            lines.append(f"{other.name}: {cost} ({other.remark})")
        return "\n".join(lines)


def choose_propagation(
    experiment: Experiment,
    base: Diffraction = Diffraction(),
    *,
    kept_bytes: float | None = None,
    budget: float | None = None,
    error: float = 0.0,
) -> PropagationPlan:
    """The cheapest exact way through the specimen that fits the memory.

    Args:
        experiment: The experiment; its leaves are looked at and must not be traced.
        base: Detector, band limit, propagator and execution to be kept.
        kept_bytes: Bytes that are kept of every probe; a pattern of the base's detector if left out.
        budget: Bytes that may be used; a share of what is free if left out.
        error: Part of the beam that an approximation may put in the wrong place; 0 allows exact ways only.

    Returns:
        The plan.

    Raises:
        InputError: Not even one probe fits the memory, by any way.

    >>> from stemjax.core.grid import Grid
    >>> from stemjax.optics.probe import make_probe
    >>> from stemjax.optics.scan import make_raster
    >>> from stemjax.specimen.objects import make_object
    >>> from stemjax.forward.experiment import make_experiment
    >>> grid = Grid((64, 64), (0.2, 0.2))
    >>> lens = make_probe(grid, energy=80e3, semiangle=15.0)
    >>> thick = make_experiment(lens, make_object(grid, slices=40, periodic=True), make_raster((16, 16), 0.2))
    >>> type(choose_propagation(thick).propagation).__name__
    'Prism'
    """
    allowed = SHARE * device_memory() if budget is None else float(budget)
    scene = _scene(experiment, base, kept_bytes)
    ways = [_by_multislice(scene, base, allowed)]
    # PRISM takes slices as they are.
    if base.steps == 1:
        whole = _by_prism(scene, _prism(scene, base), "PRISM, exact", allowed)
        ways += [whole, *_by_region(scene, base, allowed, whole)]
    if base.steps == 1 and error > 0.0:
        ways.append(_by_interpolation(scene, base, allowed, error))
    open_ways = sorted((w for w in ways if w.propagation is not None), key=lambda w: w.work)
    if not open_ways:
        raise InputError(ways[0].remark)
    rest = [w for w in ways if w is not open_ways[0]]
    chosen = open_ways[0]
    assert chosen.propagation is not None
    return PropagationPlan(chosen.propagation, chosen.block, scene.probes, allowed, (chosen, *rest))


@dataclass(frozen=True)
class _Scene:
    """Sizes of an experiment: numbers of things, bytes of a complex number, bytes kept of a probe."""

    experiment: Experiment
    probes: int
    modes: int
    slices: int
    steps: int
    configurations: int
    pixels: int
    field: int
    item: int
    kept: float


def _scene(experiment: Experiment, base: Diffraction, kept_bytes: float | None) -> _Scene:
    window, whole = experiment.probe.grid.shape, experiment.specimen.grid.shape
    item = 2 * real_dtype().itemsize
    recorded = math.prod(window if base.detector is None else base.detector.shape)
    margin = window if experiment.specimen.periodic and window != whole else (0, 0)
    return _Scene(
        experiment=experiment,
        probes=experiment.scan.positions.shape[0],
        modes=jax.eval_shape(probe_waves, experiment.probe).shape[0],
        slices=slice_count(experiment),
        steps=experiment.specimen.thickness.shape[0],
        configurations=getattr(experiment.specimen, "configurations", 1),
        pixels=math.prod(window),
        field=math.prod(n + m for n, m in zip(whole, margin, strict=True)),
        item=item,
        kept=recorded * item / 2 if kept_bytes is None else float(kept_bytes),
    )


def _copies(execution: Execution) -> int:
    """Copies of what all devices share: the devices of one processor share one memory."""
    return execution.devices if jax.devices()[0].platform == "cpu" else 1


def _block(scene: _Scene, each: float, fixed: float, budget: float, name: str) -> tuple[int, str]:
    """Probes in a block, or 0 and the reason."""
    try:
        return largest_chunk(each, scene.probes, budget=budget, fixed=fixed, name=name), ""
    except InputError as refused:
        return 0, str(refused)


def _by_multislice(scene: _Scene, base: Diffraction, budget: float) -> Estimate:
    copies, execution = _copies(base.execution), base.execution
    # Transmission functions, once more while they are made, and twice more while they are band-limited.
    fields = scene.slices * scene.field * scene.item * (1 + copies + (2 if base.limit_transmission else 0))
    waves = 8 * scene.pixels * scene.item * scene.modes * execution.chunk * execution.devices
    fixed = fields + copies * scene.steps * scene.pixels * scene.item + waves
    # What is kept stands beside its copy in the order of the scan, and beside the sum over arrangements.
    each = scene.kept * (2 if scene.configurations == 1 else 4) + 64
    block, refused = _block(scene, each, fixed, budget, "one probe by multislice")
    runs = scene.probes * scene.modes * scene.slices * base.steps * scene.configurations
    remark = refused or f"{scene.probes} probes × {scene.modes} modes × {scene.slices} slices"
    if scene.configurations > 1 and not refused:
        remark += f" × {scene.configurations} arrangements"
    return Estimate("multislice", base if block else None, runs * slice_work(scene.pixels), fixed, block, remark)


def _prism(scene: _Scene, base: Diffraction, interpolation: tuple[int, int] = (1, 1)) -> Prism:
    shared = {f.name: getattr(base, f.name) for f in dataclasses.fields(base) if f.name not in ("reversible", "steps")}
    return Prism(**shared, interpolation=interpolation).fitted(scene.experiment)


def _by_region(scene: _Scene, base: Diffraction, budget: float, whole: Estimate) -> list[Estimate]:
    """Sending fewer waves than beams, where the scan covers a part of the specimen and the work is worth a basis."""
    tiled = getattr(scene.experiment.specimen, "tile", None) is not None
    if tiled or not REGION_WORK <= whole.work < math.inf:
        return []
    prism = _prism(scene, base).restricted(scene.experiment)
    if not isinstance(choose_form(prism, scene.experiment, scene.modes), RegionForm):
        return []
    return [_by_prism(scene, prism, "PRISM of the scanned region, exact", budget)]


def _by_prism(scene: _Scene, prism: Prism, name: str, budget: float) -> Estimate:
    try:
        form = choose_form(prism, scene.experiment, scene.modes)
    except InputError as refused:
        return Estimate(name, None, remark=str(refused))
    tiled = form.repeats is not None
    pixels = math.prod(form.grid.shape) // (math.prod(form.repeats) if form.repeats else 1)
    rows, fixed = _prism_memory(scene, prism, form, pixels, budget)
    each = scene.kept * (2 if scene.configurations == 1 else 4) + 64
    block, refused_text = _block(scene, each, fixed, budget, "the scattering matrix")
    # With several arrangements every block needs all their matrices again.
    times = scene.configurations * (1 if scene.configurations == 1 else -(-scene.probes // max(block, 1)))
    sent = times * form.sent * scene.slices * slice_work(pixels)
    products = 8.0 * form.product_size(scene.modes) * scene.probes * scene.configurations / PRODUCT_SPEED
    remark = refused_text or (
        f"{form.sent} {'waves' if isinstance(form, RegionForm) else 'beams'} × {scene.slices} slices on "
        f"{'a tile' if tiled else 'a grid'} of {pixels} pixels, matrix of {readable(_matrix_bytes(scene, form))}"
    )
    chosen = dataclasses.replace(prism, rows=rows) if block else None
    return Estimate("PRISM of the tile, exact" if tiled else name, chosen, sent + products, fixed, block, remark)


def _matrix_bytes(scene: _Scene, form: Form) -> float:
    return float(math.prod(form.matrix_shape)) * scene.item


def _prism_memory(scene: _Scene, prism: Prism, form: Form, pixels: int, budget: float) -> tuple[int, float]:
    """Rows of a product that fit, and the bytes that are needed whatever the number of probes."""
    copies = _copies(prism.execution)
    fields = scene.slices * pixels * scene.item * (1 + copies + (2 if prism.limit_transmission else 0))
    steps = copies * scene.steps * math.prod(form.grid.shape) * scene.item
    # Amplitudes of the beams and exit waves of one row, each in several forms, and what is kept of it.
    groups, beams, _ = form.matrix_shape
    exit_pixels = form.product_size(scene.modes) / scene.modes / beams
    row = 4.0 * (exit_pixels + groups * beams) * scene.item + 2.0 * scene.kept
    fixed = 2.0 * _matrix_bytes(scene, form) + fields + steps
    least = prism.execution.devices * scene.modes
    rows = int(max(min(ROWS, 0.5 * (budget - fixed) / row), least))
    return rows, fixed + rows * row


def _by_interpolation(scene: _Scene, base: Diffraction, budget: float, error: float) -> Estimate:
    window, whole = scene.experiment.probe.grid.shape, scene.experiment.specimen.grid.shape
    factors = tuple(m // n for m, n in zip(whole, window, strict=True))
    if max(factors) < 2 or any(f * n != m for f, n, m in zip(factors, window, whole, strict=True)):
        return Estimate("PRISM, interpolated", None, remark="the specimen is not whole windows wide")
    prism = _prism(scene, base, (factors[0], factors[1]))
    way = _by_prism(scene, prism, f"PRISM, interpolation {prism.interpolation}", budget)
    exact = _by_multislice(scene, base, budget)
    if way.propagation is None or way.work > 0.5 * exact.work:
        return way if way.propagation is None else dataclasses.replace(way, propagation=None, remark="saves too little")
    found = misplaced_beam(way.propagation, base, scene.experiment)
    remark = f"{100 * found:.2g} % of the beam in the wrong place, {100 * error:.2g} % allowed; {way.remark}"
    return dataclasses.replace(way, remark=remark, propagation=way.propagation if found <= error else None)


def misplaced_beam(propagation: Any, exact: Any, experiment: Experiment, probes: int = TRIAL_PROBES) -> float:
    r"""Largest part of the beam that one way puts elsewhere than another, over some probes of the scan.

    .. math:: \max_i \tfrac12 \sum_k | I_i(k) - I'_i(k) |

    No detector's error is larger.

    Args:
        propagation: The way under test.
        exact: What it is compared with.
        experiment: The experiment.
        probes: Number of probes, spread over the scan.
    """
    count = experiment.scan.positions.shape[0]
    index = jnp.asarray(np.unique(np.linspace(0, count - 1, min(probes, count)).astype(int)))

    def patterns(way: Any) -> np.ndarray:
        way = way.fitted(experiment) if isinstance(way, Prism) else way
        collected = jax.jit(lambda e, i: way.collect(e, lambda _, intensity: intensity, (), i))
        return np.asarray(collected(experiment, index))

    difference = patterns(propagation) - patterns(exact)
    return float(0.5 * np.abs(difference).sum(axis=(1, 2)).max())
