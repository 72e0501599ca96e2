"""Whether a prior fits its leaf, found out before anything is solved."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stemjax.core.bijectors import Identity, bijector_of
from stemjax.core.errors import InputError


def check_prior(path: str, prior: Any, value: Any, *, scale: bool = False) -> None:
    """Refuse a prior that does not fit its leaf, and a scale that nothing keeps positive.

    Args:
        path: Path of the leaf, for the message.
        prior: The prior, or None.
        value: The first guess.
        scale: The leaf is a scale (`stemjax.core.typing.POSITIVE`).

    Raises:
        InputError: The prior has another shape than the leaf, numbers of its own that are not finite, or no density
            at the first guess; or a scale has no prior that keeps it positive.

    >>> import numpyro.distributions as dist
    >>> check_prior("a", dist.Normal(jnp.zeros(3), 1.0), jnp.zeros(2))
    Traceback (most recent call last):
    stemjax.core.errors.InputError: the prior of 'a' has shape (3,), ...
    """
    leaf = jnp.asarray(value)
    if scale and isinstance(bijector_of(prior), Identity):
        centre = max(float(np.mean(np.asarray(value))), 1e-3)
        raise InputError(
            f"'{path}' is a scale: zero and below mean nothing, and nothing keeps it above; give it a prior with "
            f"positive support, such as LogNormal(log({centre:.4g}), 0.1) or Positive({centre:.3g})"
        )
    if prior is None:
        return
    prior = _with_scale(prior)
    for number in jax.tree.leaves(prior):
        if not np.isfinite(np.asarray(number)).all():
            raise InputError(f"the prior of '{path}', {_name(prior)}, holds a number that is not finite; mend it")
    _check_shape(path, prior, leaf)
    if not _supports(path, prior, leaf):
        raise InputError(
            f"the first guess of '{path}' lies outside the support of its prior {_name(prior)}; move the guess or "
            "widen the prior"
        )


def _supports(path: str, prior: Any, leaf: jax.Array) -> bool:
    try:
        inside = np.isfinite(np.asarray(bijector_of(prior).inverse(leaf))).all()
        return bool(inside and np.isfinite(np.asarray(prior.log_prob(leaf))).all())
    except InputError as error:
        raise _of_leaf(path, error) from None


def _of_leaf(path: str, error: InputError) -> InputError:
    """A prior's own complaint, with the leaf that it belongs to."""
    said = str(error)
    return InputError(said if f"'{path}'" in said else f"the prior of '{path}': {said}")


def _check_shape(path: str, prior: Any, leaf: jax.Array) -> None:
    shape = tuple(getattr(prior, "batch_shape", ())) + tuple(getattr(prior, "event_shape", ()))
    try:
        fits = np.broadcast_shapes(shape, leaf.shape) == leaf.shape
        jax.eval_shape(prior.log_prob, leaf)
    except (ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise _of_leaf(path, error) from None
        if shape and not _broadcast(shape, leaf.shape):
            fits = False
        else:
            raise InputError(f"{_name(prior)} is no prior for '{path}' of shape {leaf.shape}: {error}") from None
    if not fits:
        raise InputError(
            f"the prior of '{path}' has shape {shape}, the leaf has {leaf.shape}; give one number for all elements or "
            "an array of the leaf's shape"
        )


def _with_scale(prior: Any) -> Any:
    """A prior whose scale is left to the data with some scale, so that the rest of it can be checked."""
    if hasattr(prior, "factors"):
        return prior.replace(factors=tuple(map(_with_scale, prior.factors)))
    return prior.replace(scale=1.0) if getattr(prior, "scale", 1.0) is None else prior


def _broadcast(shape: tuple[int, ...], leaf: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, leaf) == leaf
    except ValueError:
        return False


def _name(prior: Any) -> str:
    return type(prior).__name__
