"""A crash or a hang of a reader happens in the child, and comes back as one line."""

import sys

import h5py
import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.io.probe import probe, run_child


def test_crash_and_hang_are_one_line(tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(b"x")
    with pytest.raises(InputError, match=r"crashes its reader \(signal 6\)"):
        run_child([sys.executable, "-c", "import os; os.abort()"], path, 30.0)
    with pytest.raises(InputError, match=r"still being looked into after 0\.2 s"):
        run_child([sys.executable, "-c", "import time; time.sleep(60)"], path, 0.2)
    run_child([sys.executable, "-c", "raise SystemExit(3)"], path, 30.0)


def test_whole_and_unreadable_files_pass(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((2, 2, 4, 4)))
    probe(tmp_path / "a.npy")
    (tmp_path / "b.h5").write_text("no HDF5")
    probe(tmp_path / "b.h5")
    with pytest.raises(InputError, match="no file"):
        probe(tmp_path / "c.h5")


@pytest.mark.slow
def test_damaged_heap_of_texts(tmp_path):
    """HDF5 2.0 dies on some damaged heaps (texts of variable length); whichever do, this process lives."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["data"] = np.ones((2, 2, 4, 4))
        file.attrs["note"] = "a text of variable length"
    content = path.read_bytes()
    heap = content.index(b"GCOL")
    for offset in range(4, 40, 4):
        damaged = bytearray(content)
        damaged[heap + offset] = 0xFF
        path.write_bytes(damaged)
        try:
            probe(path)
        except InputError as error:
            said = str(error)
        else:
            said = ""
        assert "\n" not in said
