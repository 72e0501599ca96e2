"""Masks of detector pixels from files."""

import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.io.mask import read_mask


def written(tmp_path, values):
    """A file of these values."""
    np.save(tmp_path / "mask.npy", values)
    return tmp_path / "mask.npy"


@pytest.mark.parametrize("kind", [bool, np.uint8, float])
def test_a_mask_is_read(tmp_path, kind):
    values = np.ones((8, 8), kind)
    values[2, 3] = 0
    mask = read_mask(written(tmp_path, values), (8, 8))
    assert mask.dtype == np.float32
    assert mask.sum() == 63
    assert mask[2, 3] == 0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.ones((4, 8)), r"shape \(4, 8\), the detector \(8, 8\)"),
        (np.full((8, 8), 0.5), "other values than 0 and 1"),
        (np.full((8, 8), np.nan), "other values than 0 and 1"),
        (np.eye(8)[:, :1] * np.zeros(8), "inverted"),
        (np.array([{"a": 1}], dtype=object), "numpy array"),
    ],
)
def test_what_is_no_mask_is_refused(tmp_path, values, words):
    with pytest.raises(InputError, match=words):
        read_mask(written(tmp_path, values), (8, 8))


def test_a_missing_or_foreign_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"give data\.mask the path"):
        read_mask(tmp_path / "none.npy", (8, 8))
    (tmp_path / "text.npy").write_text("not an array")
    with pytest.raises(InputError, match=r"text\.npy"):
        read_mask(tmp_path / "text.npy", (8, 8))
