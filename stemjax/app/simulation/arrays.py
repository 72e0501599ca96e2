"""Arrays that a simulation's configuration names."""

from __future__ import annotations

import numpy as np

from stemjax.core.errors import InputError


def read_array(path: str, key: str, wanted: str) -> np.ndarray:
    """A finite real array [y x] from a .npy file.

    Args:
        path: The file.
        key: Key of the configuration that names it.
        wanted: What the array should hold, for the message.

    Raises:
        InputError: The file is no array, or the array is not two-dimensional, real and finite.
    """
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = str(error) or "the file is empty"
        raise InputError(f"{key}: {path} is no array ({reason}); give a .npy file of {wanted}") from None
    if (
        not isinstance(values, np.ndarray)
        or values.dtype.kind not in "biuf"
        or values.ndim != 2
        or min(values.shape) < 2
    ):
        kind = f"{values.dtype} of shape {values.shape}" if isinstance(values, np.ndarray) else "several arrays"
        raise InputError(f"{key}: {path} holds {kind}; give real numbers [y, x]: {wanted}")
    values = values.astype(float)
    if not np.isfinite(values).all():
        raise InputError(f"{key}: {int((~np.isfinite(values)).sum())} values of {path} are not finite; give {wanted}")
    return values
