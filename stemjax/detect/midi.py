"""The virtual detector of MIDI-STEM: sums over the rings of the plate in the aperture, with signs."""

from __future__ import annotations

import jax.numpy as jnp
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.grid import Grid
from stemjax.core.typing import Annotated, Array, Float, real, typed
from stemjax.optics.electron import wavelength
from stemjax.optics.plates import RingPlate, odd_rings
from stemjax.optics.probe import aperture


class MatchedRings(struct.PyTreeNode):
    """Weights of alternating sign on the rings of a MIDI-STEM plate; made by `make_matched_rings`.

    Args:
        semiangle: Outer edge of the last ring, the probe's convergence semi-angle [mrad].
        offset: Centre of the rings (y, x) [mrad].
        rings: Number of rings.
        soft: Whether the edges are one reciprocal pixel wide (differentiable) or sharp.
    """

    semiangle: Annotated[Array, "mrad"]
    offset: Annotated[Array, "mrad"]
    rings: int = struct.field(pytree_node=False)
    soft: bool = struct.field(pytree_node=False, default=True)

    def response(self, grid: Grid, energy: float) -> Array:
        """Weights of the reciprocal grid's pixels [ny nx]; what `stemjax.ScannedImage` asks of any detector."""
        return matched_response(self, grid, energy)


def make_matched_rings(
    plate: RingPlate, semiangle: float, *, offset: tuple[float, float] = (0.0, 0.0), soft: bool = True
) -> MatchedRings:
    """The detector that belongs to a plate of rings, checked.

    Args:
        plate: The plate in the aperture.
        semiangle: Convergence semi-angle of the probe [mrad].
        offset: Centre (y, x) [mrad]; the probe's `centre`.
        soft: Soft edges; as those of the probe's aperture.

    >>> from stemjax.optics.plates import make_ring_plate
    >>> make_matched_rings(make_ring_plate(), 20.0).rings
    20
    """
    if not semiangle > 0.0:
        raise InputError(f"rings out to {semiangle:g} mrad are empty; give the convergence semi-angle, such as 20 mrad")
    return MatchedRings(semiangle=real(semiangle), offset=real(offset), rings=plate.rings, soft=soft)


@typed
def matched_response(detector: MatchedRings, grid: Grid, energy: Annotated[float, "eV"]) -> Float[Array, "ny nx"]:
    r"""Response on the reciprocal grid: + on the retarded rings of the plate, − on the others, nothing outside.

    .. math:: w(k) = A(k) \left[ 2 z(k) - 1 - b \right], \qquad b = \frac{\sum_k A^3 (2z - 1)}{\sum_k A^3}

    with z the rings (`stemjax.optics.plates.odd_rings`) and A the aperture. The small balance b takes away what the
    rings differ in on a grid of pixels, so that vacuum gives zero. For a weak phase φ(r) whose frequencies are larger
    than the width of a ring and small against the aperture, a plate of depth β gives the fraction φ(r) sin β of the
    beam: linear in φ, and positive at atoms. Source: Ophus, Ciston, Pierce et al., Nat. Commun. 7 (2016) 10719.

    Args:
        detector: The detector.
        grid: Real-space grid of the wave.
        energy: Beam energy [eV].

    Returns:
        Weights between −1 and 1 (by the balance, a little beyond), [ny nx], zero frequency in the corner.

    >>> from stemjax.optics.plates import make_ring_plate
    >>> rings = make_matched_rings(make_ring_plate(2), 20.0)
    >>> weights = matched_response(rings, Grid((64, 64), (0.3, 0.3)), 80e3)
    >>> float(weights[0, 0]) < -0.9
    True
    """
    scale = 1e3 * wavelength(energy)
    y, x = (real(scale * k) - c for k, c in zip(grid.frequencies(), detector.offset, strict=True))
    inside = aperture(grid, energy, detector.semiangle, centre=detector.offset, soft=detector.soft)
    sign = 2.0 * odd_rings(y, x, detector.semiangle, detector.rings, soft=detector.soft) - 1.0
    balance = jnp.sum(inside**3 * sign) / jnp.maximum(jnp.sum(inside**3), 1e-20)
    return inside * (sign - balance)
