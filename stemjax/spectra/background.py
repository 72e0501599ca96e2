"""The falling background under an edge."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.typing import Annotated, Array, real
from stemjax.spectra.energy_axis import EnergyAxis

# Three points integrate a power law over a channel to 1e-7 of its counts where the channel is a tenth of the loss.
_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(3)


class PowerLaw(struct.PyTreeNode):
    r"""A power law in the energy loss; made by `make_power_law`.

    .. math:: B(E) = A \left( E / E_r \right)^{-r}

    The strength is that at a reference energy, so that A and r are free of each other's scale.

    Args:
        strength: A, per incident electron [1/eV].
        exponent: r.
        reference: E_r [eV].
        start: Loss below which there is none [eV].
    """

    strength: Annotated[Array, "1/eV"]
    exponent: Array
    reference: Annotated[Array, "eV"]
    start: Annotated[Array, "eV"]

    def channels(self, axis: EnergyAxis) -> Array:
        """Electrons in every channel of an axis, per incident electron [energy]."""
        borders = axis.edges()
        lower = jnp.clip(self.start, borders[:-1], borders[1:])
        half = 0.5 * (borders[1:] - lower)
        points, weights = real(_POINTS)[:, None], real(_WEIGHTS)[:, None]
        loss = (lower + half)[None, :] + half[None, :] * points
        safe = jnp.maximum(loss, 0.5 * self.start)  # channels below the start hold nothing, whatever stands here
        density = self.strength * (safe / self.reference) ** -self.exponent
        return jnp.sum(weights * half[None, :] * density, axis=0)


def make_power_law(strength: float, exponent: float, reference: float, *, start: float | None = None) -> PowerLaw:
    """A power-law background, checked.

    Args:
        strength: Density at the reference energy, per incident electron [1/eV].
        exponent: Exponent r; 2 to 5 as a rule.
        reference: Reference energy, for instance where a spectrum begins [eV].
        start: Loss below which there is none [eV]; None for half of the reference.

    >>> from stemjax.spectra.energy_axis import make_energy_axis
    >>> make_power_law(1e-5, 3.0, 400.0).channels(make_energy_axis(400.0, 1.0, 4)).shape
    (4,)
    """
    if not strength >= 0:
        raise InputError(f"background strength {strength:g} is negative; give electrons per eV, such as 1e-5")
    start = 0.5 * reference if start is None else start
    if not (reference > 0 and start > 0):
        raise InputError(
            f"a power law at {min(reference, start):g} eV has no value; give a positive loss, such as 400 eV"
        )
    return PowerLaw(real(strength), real(exponent), real(reference), real(start))
