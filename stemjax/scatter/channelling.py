"""What the wave excites on its way through the specimen: effective potentials summed along the elastic wave."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from stemjax.core.typing import Annotated, Array, Complex, Float, typed


@typed
def excited(
    wave: Complex[Array, "ny nx"],
    transmission: Complex[Array, "slice ny nx"],
    propagators: Complex[Array, "steps ny nx"],
    potentials: Annotated[Float[Array, "signal slice ny nx"], "1"],
) -> tuple[Complex[Array, "ny nx"], Float[Array, "signal"]]:
    r"""Exit wave, and the probability that the electron causes an event described by a local effective potential.

    .. math:: P = \sum_s \int |\psi_s(\mathbf r)|^2\, W_s(\mathbf r)\, d^2 r

    with ψ_s the elastic wave in front of slice s. The elastic wave is not weakened by the events (they are rare, or
    already in the transmission as absorption), and what becomes of the electron afterwards is inside W.

    Args:
        wave: Incoming wave in reciprocal space, zero frequency in the corner, Σ|ψ(k)|² its number of electrons.
        transmission: Transmission function of every slice.
        propagators: Propagator of every slice, or one for all.
        potentials: Effective potential W of every signal and slice; ∫ W d²r of one atom is its cross section [Å²].

    Returns:
        Exit wave in reciprocal space (that of `stemjax.multislice`), and P of every signal [signal]. Source: local
        approximation of Allen, Findlay, Lupini, Oxley, Pennycook, Phys. Rev. Lett. 91 (2003) 105503, Eq. 2.

    >>> one = jnp.zeros((4, 4), complex).at[0, 0].set(1.0)  # a plane wave of one electron
    >>> _, p = excited(one, jnp.ones((3, 4, 4)) + 0j, jnp.ones((1, 4, 4)) + 0j, jnp.full((1, 3, 4, 4), 0.1))
    >>> [round(float(x), 6) for x in p]  # three slices, each with probability 0.1 everywhere
    [0.3]
    """
    steps = jnp.broadcast_to(propagators, transmission.shape)
    # Σ|ψ(k)|² = 1 makes Σ|ifft ψ|² = 1/N.
    pixels = wave.shape[0] * wave.shape[1]

    def step(carry: tuple[Array, Array], slab: tuple[Array, Array, Array]) -> tuple[tuple[Array, Array], None]:
        psi, total = carry
        t, propagator, weights = slab
        inside = jnp.fft.ifft2(psi)
        density = pixels * (inside.real**2 + inside.imag**2)
        total = total + jnp.einsum("syx,yx->s", weights, density)
        return (propagator * jnp.fft.fft2(t * inside), total), None

    start = wave, jnp.zeros(potentials.shape[0], potentials.dtype)
    (out, total), _ = jax.lax.scan(step, start, (transmission, steps, jnp.swapaxes(potentials, 0, 1)))
    return out, total
