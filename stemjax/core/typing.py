"""Array types for signatures, and the switch that checks them.

A signature carries shape and unit: ``positions: Annotated[Float[Array, "pattern 2"], "Å"]``. The shapes are checked at
run time by beartype where the environment variable STEMJAX_TYPECHECK is set (the tests set it), and cost nothing
otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated, TypeVar

import jax
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, Int, PRNGKeyArray, jaxtyped

__all__ = [
    "POSITIVE",
    "Annotated",
    "Array",
    "Bool",
    "Complex",
    "Float",
    "Int",
    "PRNGKeyArray",
    "Scalar",
    "real",
    "real_dtype",
    "typed",
]

Scalar = Float[Array, ""] | float | int
"""A real number: a Python number or an array of no axes."""


class _Positive:
    """See `POSITIVE`."""

    def __repr__(self) -> str:
        return "POSITIVE"


POSITIVE = _Positive()
"""Marks a leaf that is a scale, beside its unit: ``dose: Annotated[Array, "electron", POSITIVE]``. It cannot be freed
without a prior that keeps it above zero."""

F = TypeVar("F", bound=Callable)


def typed(function: F) -> F:
    """Check shapes and types of arguments and result when STEMJAX_TYPECHECK is set; otherwise return the function."""
    if not os.environ.get("STEMJAX_TYPECHECK"):
        return function
    from beartype import beartype

    return jaxtyped(typechecker=beartype)(function)


def real_dtype() -> jax.numpy.dtype:
    """The float type in force: float64 where jax's x64 mode is on, else float32."""
    return jax.numpy.result_type(float)


def real(value: object) -> Array:
    """A real array of the float type in force.

    Host values are converted on the host, which compiles nothing; traced ones stay traced.

    >>> real([1, 2]).dtype == real_dtype()
    True
    """
    if isinstance(value, jax.Array):
        return value.astype(real_dtype())
    return jax.device_put(np.asarray(value, dtype=real_dtype()))
