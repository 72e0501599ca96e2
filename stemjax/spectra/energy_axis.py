"""The axis of energy loss of a spectrum, with its calibration as free numbers."""

from __future__ import annotations

import jax.numpy as jnp
from flax import struct

from stemjax.core.errors import InputError
from stemjax.core.typing import Annotated, Array, real


class EnergyAxis(struct.PyTreeNode):
    """Channels of a spectrometer; made by `make_energy_axis`.

    Args:
        offset: Energy loss at the centre of the first channel [eV].
        dispersion: Width of a channel [eV].
        channels: Number of channels.
    """

    offset: Annotated[Array, "eV"]
    dispersion: Annotated[Array, "eV"]
    channels: int = struct.field(pytree_node=False)

    def energies(self) -> Annotated[Array, "eV"]:
        """Energy loss at the centre of every channel [energy]."""
        return self.offset + self.dispersion * jnp.arange(self.channels, dtype=self.dispersion.dtype)

    def edges(self) -> Annotated[Array, "eV"]:
        """Borders of the channels [energy + 1]."""
        steps = jnp.arange(self.channels + 1, dtype=self.dispersion.dtype) - 0.5
        return self.offset + self.dispersion * steps


def make_energy_axis(offset: float, dispersion: float, channels: int) -> EnergyAxis:
    """An axis, checked.

    Args:
        offset: Energy loss at the centre of the first channel [eV].
        dispersion: Width of a channel [eV].
        channels: Number of channels.

    >>> make_energy_axis(-5.0, 0.5, 4).energies().tolist()
    [-5.0, -4.5, -4.0, -3.5]
    """
    if not dispersion > 0:
        raise InputError(f"dispersion {dispersion:g} eV is not that of a spectrum; give eV per channel, such as 0.25")
    if channels < 2:
        raise InputError(f"a spectrum of {channels} channels has no axis; give 2 or more, such as 2048")
    return EnergyAxis(real(offset), real(dispersion), channels=int(channels))
