"""Incoherent modes of a probe: how strong they are, and the fewest that make up a beam."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.errors import InputError
from stemjax.core.typing import Array, real
from stemjax.optics.coherence import node_factors
from stemjax.optics.probe import SUPPORT, Probe, aperture, probe_phase, probe_waves

SMALL = 3000
"""Waves, or pixels, up to which all modes are computed at once; beyond only the strongest are looked for."""


def mode_occupancy(waves: Array) -> Array:
    """Share of the beam in every mode [mode], largest first once the modes are made orthogonal.

    >>> mode_occupancy(jnp.ones((1, 4, 4)) + 0j)
    Array([1.], dtype=float...)
    """
    power = jnp.sum(jnp.abs(waves) ** 2, axis=(-2, -1))
    return power / power.sum()


def orthogonal_modes(waves: Array) -> Array:
    """The same mixed state in mutually orthogonal modes, the strongest first.

    Modes are defined up to a unitary mixing; the singular vectors are the one choice that is orthogonal and ordered
    (Thibault & Menzel, Nature 494 (2013) 68).

    Args:
        waves: Modes [mode ny nx].

    Returns:
        Orthogonal modes [mode ny nx] with the same density matrix.

    >>> w = orthogonal_modes(jnp.stack([jnp.ones((4, 4)), jnp.ones((4, 4))]) + 0j)
    >>> round(float(jnp.abs(w[1]).max()), 6)
    0.0
    """
    flat = waves.reshape(waves.shape[0], -1)
    _, singular, vectors = jnp.linalg.svd(flat, full_matrices=False)
    return (singular[:, None] * vectors).reshape(waves.shape)


def condensed_probe(probe: Probe, *, lost: float = 1e-3) -> Probe:
    r"""The same beam in as few modes as it needs: hundreds of nodes become a few dozen waves.

    .. math:: \sum_j |\psi_j\rangle\langle\psi_j| = \sum_m |\phi_m\rangle\langle\phi_m|, \qquad
        \langle\phi_m|\phi_n\rangle = 0 \ (m \ne n)

    The strongest orthogonal modes are kept until no more than a fraction `lost` of the beam is left out, and given the
    rest of it. They become free pixels; plate and coherence are then part of them, and no longer leaves. A step on the
    host, before a simulation; what any detector sees, through any specimen, changes by at most `lost` of the beam.

    Args:
        probe: A probe with coherence, plate or modes.
        lost: Fraction of the beam that may be left out.

    Raises:
        InputError: `lost` is not between 0 and 1.

    >>> from stemjax.optics.coherence import make_coherence
    >>> from stemjax.core.grid import Grid
    >>> from stemjax.optics.probe import make_probe
    >>> source = make_coherence(80e3, 20.0, source_size=0.2)
    >>> wide = make_probe(Grid((32, 32), (0.25, 0.25)), energy=80e3, semiangle=20.0, coherence=source)
    >>> probe_waves(wide).shape[0], probe_waves(condensed_probe(wide)).shape[0]
    (25, 6)
    """
    if not 0.0 < lost < 1.0:
        raise InputError(f"a loss of {lost:g} of the beam is not one; give a fraction, such as 1e-3")
    ideal, support = (
        np.asarray(aperture(probe.grid, probe.energy, edge, centre=probe.centre, soft=probe.soft))
        for edge in (probe.semiangle, SUPPORT * probe.semiangle)
    )
    seen = support > 0
    flat = np.asarray(jax.jit(probe_waves)(probe.replace(coherence=None)))[:, seen].astype(complex)
    if probe.coherence is not None:
        # Only the pixels of the aperture: all nodes on the whole grid may be too much for the memory.
        k = (real(np.broadcast_to(f, probe.grid.shape)[seen][None]) for f in probe.grid.frequencies())
        factors = np.asarray(jax.jit(node_factors, static_argnums=3)(probe.coherence, *k, probe.energy, probe.centre))
        flat = (flat[:, None] * factors[:, 0]).reshape(-1, flat.shape[1])
    power, waves = _strongest(flat, lost)
    kept = len(power)
    # In units of the aperture's amplitude, as free pixels are; the whole is normalised again.
    unit = np.exp(1j * np.asarray(probe_phase(probe))[seen]) * np.sqrt((ideal**2).sum() / power.sum())
    modes = np.zeros((kept, *probe.grid.shape), complex)
    modes[:, seen] = waves * unit / support[seen]
    modes[0, seen] -= ideal[seen] / support[seen]
    return probe.replace(pixels=real(np.stack([modes.real, modes.imag], axis=1)), plate=None, coherence=None)


def _strongest(flat: np.ndarray, lost: float) -> tuple[np.ndarray, np.ndarray]:
    """Powers [mode] and waves [mode pixel] of the strongest orthogonal modes of waves [wave pixel], but for `lost`."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    count, pixels = flat.shape
    wanted = (1.0 - lost) * float((np.abs(flat) ** 2).sum())
    size = min(count, pixels)
    if size <= SMALL:
        # The smaller of the two matrices of overlaps: of the waves, or of the pixels.
        overlaps = flat.conj() @ flat.T if count <= pixels else flat.T @ flat.conj()
        power, vectors = (a[..., ::-1] for a in np.linalg.eigh(overlaps))
        kept = int(np.argmax(np.cumsum(power) >= wanted)) + 1
        chosen = vectors[:, :kept].T
        waves = chosen @ flat if count <= pixels else np.sqrt(np.maximum(power[:kept], 0.0))[:, None] * chosen
        return power[:kept], waves
    density = LinearOperator((pixels, pixels), matvec=lambda v: flat.T @ (flat.conj() @ v), dtype=flat.dtype)
    number = 32
    while True:
        # A fixed start: the same beam gives the same modes.
        power, vectors = eigsh(density, k=min(number, size - 1), v0=np.ones(pixels, flat.dtype))
        power, vectors = power[::-1], vectors[:, ::-1]
        enough = np.cumsum(power) >= wanted
        if enough.any() or number >= size - 1:
            kept = int(np.argmax(enough)) + 1 if enough.any() else len(power)
            return power[:kept], np.sqrt(np.maximum(power[:kept], 0.0))[:, None] * vectors[:, :kept].T
        number *= 2
