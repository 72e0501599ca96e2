"""The wave through a thick specimen, slice by slice, and its bounded-memory gradient."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from stemjax.core.typing import Array, Complex, typed


@typed
def multislice(
    wave: Complex[Array, "ny nx"],
    transmission: Complex[Array, "slice ny nx"],
    propagators: Complex[Array, "steps ny nx"],
    *,
    steps: int = 1,
) -> Complex[Array, "ny nx"]:
    r"""Send a wave through a stack of slices.

    .. math:: \hat\psi_{s+1} = H_s \cdot \mathcal{F}[\, t_s \cdot \mathcal{F}^{-1} \hat\psi_s ]

    The wave lives in reciprocal space between slices, so a slice costs two Fourier transforms and the result is the
    diffraction amplitude.

    Args:
        wave: Incoming wave in reciprocal space, zero frequency in the corner; modes by `jax.vmap`.
        transmission: Transmission function of every slice, in real space.
        propagators: Propagator of every slice, or one for all [1 ny nx].
        steps: How often the wave meets every slice and its propagator: a thick slice of equal thin ones.

    Returns:
        Exit wave in reciprocal space, propagated through the last slice as well. Source: Cowley & Moodie, Acta Cryst.
        10 (1957) 609; Kirkland, Advanced Computing in Electron Microscopy, 2nd ed., section 6.4.

    >>> wave = jnp.ones((4, 4)) + 0j
    >>> bool(jnp.allclose(multislice(wave, jnp.ones((3, 4, 4)) + 0j, jnp.ones((1, 4, 4)) + 0j), wave))
    True
    """
    if propagators.shape[0] == 1:
        return jax.lax.scan(lambda psi, t: (_steps(psi, t, propagators[0], steps), None), wave, transmission)[0]
    return jax.lax.scan(lambda psi, tp: (_steps(psi, *tp, steps), None), wave, (transmission, propagators))[0]


def _steps(wave: Array, transmission: Array, propagator: Array, steps: int) -> Array:
    if steps == 1:
        return _step(wave, transmission, propagator)
    return jax.lax.scan(lambda psi, _: (_step(psi, transmission, propagator), None), wave, None, length=steps)[0]


def _step(wave: Array, transmission: Array, propagator: Array) -> Array:
    return propagator * jnp.fft.fft2(transmission * jnp.fft.ifft2(wave))


@jax.custom_vjp
def reversible_multislice(wave: Array, transmission: Array, propagators: Array) -> Array:
    """`multislice` whose gradient stores no slice: the adjoint pass walks the wave back up through the specimen.

    Each step is undone by dividing by the transmission function and the propagator. That is exact where both have
    modulus one: a pure phase object, and propagators without band limit. With a band limit (or absorption) what was
    cut off is lost, and the gradient is an approximation whose error must be measured for the case at hand
    (`reversal_error`).

    >>> wave, t = jnp.ones((4, 4)) + 0j, jnp.ones((3, 4, 4)) + 0j
    >>> reversible_multislice(wave, t, t[:1]).shape
    (4, 4)
    """
    return multislice(wave, transmission, propagators)


def _reversible_forward(wave: Array, transmission: Array, propagators: Array) -> tuple[Array, tuple[Array, ...]]:
    out = multislice(wave, transmission, propagators)
    return out, (out, transmission, propagators)


def _reversible_backward(saved: tuple[Array, ...], cotangent: Array) -> tuple[Array, Array, Array]:
    out, transmission, propagators = saved
    shared = propagators.shape[0] == 1
    steps = jnp.broadcast_to(propagators, transmission.shape)

    def step(carry: tuple[Array, Array], pair: tuple[Array, Array]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        psi, ct = carry
        t, p = pair
        psi = undo(psi, t, p)
        _, pull = jax.vjp(_step, psi, t, p)
        ct, ct_t, ct_p = pull(ct)
        return (psi, ct), (ct_t, ct_p)

    (_, ct_wave), (ct_t, ct_p) = jax.lax.scan(step, (out, cotangent), (transmission, steps), reverse=True)
    return ct_wave, ct_t, ct_p.sum(axis=0, keepdims=True) if shared else ct_p


reversible_multislice.defvjp(_reversible_forward, _reversible_backward)


def undo(wave: Array, transmission: Array, propagator: Array) -> Array:
    """One slice backwards: the wave before a slice from the wave behind it; zero where the band limit cut.

    >>> w = jnp.arange(16.0).reshape(4, 4) + 1j
    >>> t = jnp.exp(1j * w.real)
    >>> bool(jnp.allclose(undo(_step(w, t, t), t, t), w, atol=1e-4))
    True
    """
    inside = jnp.abs(propagator) > 1e-3
    divided = jnp.where(inside, wave / jnp.where(inside, propagator, 1.0), 0.0)
    return jnp.fft.fft2(jnp.fft.ifft2(divided) / transmission)


def reversal_error(wave: Array, transmission: Array, propagators: Array) -> Array:
    """Relative error of the wave walked down and back up again, the measure of what `reversible_multislice` loses.

    >>> t = jnp.exp(1j * jnp.ones((3, 4, 4)))
    >>> bool(reversal_error(jnp.ones((4, 4)) + 0j, t, t[:1]) < 1e-5)
    True
    """
    steps = jnp.broadcast_to(propagators, transmission.shape)
    out = multislice(wave, transmission, propagators)
    back, _ = jax.lax.scan(lambda psi, tp: (undo(psi, *tp), None), out, (transmission, steps), reverse=True)
    return jnp.linalg.norm(back - wave) / jnp.linalg.norm(wave)
