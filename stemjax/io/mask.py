"""Masks of detector pixels: a beam stop, dead and hot pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stemjax.core.errors import InputError
from stemjax.io.failures import reading


def read_mask(path: str | Path, shape: tuple[int, int]) -> np.ndarray:
    """The mask of a file: which pixels of a pattern are used.

    Args:
        path: A numpy file (.npy) [ky kx], of the detector as the file of the patterns has it; true or 1 where a pixel
            is used, false or 0 where it is hidden, dead or hot.
        shape: Number of detector pixels (y, x).

    Returns:
        Weights 0 or 1 [ky kx], float32.

    Raises:
        InputError: The file is none, of another shape, holds other values, or uses less than a tenth of the detector.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"no mask {path}; give data.mask the path of a .npy file [ky kx], 0 where a pixel is not used")
    with reading(path, "a numpy array"):
        values = np.load(path, allow_pickle=False)
    if values.shape != shape:
        raise InputError(f"{path} has the shape {values.shape}, the detector {shape}; give one value a detector pixel")
    if not np.isin(values, (0, 1)).all():
        raise InputError(f"{path} holds other values than 0 and 1; give 0 where a pixel is not used, 1 where it is")
    share = float(np.mean(values))
    if share < 0.1:
        raise InputError(f"{path} uses {100 * share:.2g} % of the detector; is it inverted? 1 is a pixel that is used")
    return values.astype(np.float32)
