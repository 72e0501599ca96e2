"""`describe_file` tells what is there and what is missing, and reads little to do so."""

import h5py
import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.forward.recording import Recording
from stemjax.inference.result import Named, Result
from stemjax.io import describe_file, write_recording, write_result


def test_recording(tmp_path):
    counts = np.random.default_rng(0).poisson(3.0, (8, 9, 16, 12)).astype(np.uint16)
    write_recording(tmp_path / "a.h5", Recording(counts, energy=80e3, scan_step=(0.5, 0.5)))
    found = describe_file(tmp_path / "a.h5")
    assert found["kind"] == "4d-stem"
    assert found["shape"] == [8, 9, 16, 12]
    assert found["dtype"] == "uint16"
    assert found["memory"] == counts.nbytes
    assert found["optics"] == {"energy": 80e3, "scan_step": (0.5, 0.5)}
    assert found["missing"] == ["detector_sampling", "semiangle", "defocus"]
    assert found["statistics"]["counts_per_pattern"] == pytest.approx(3.0 * 16 * 12, rel=0.05)
    assert found["warnings"] == []


def test_what_would_be_refused_is_a_warning(tmp_path):
    counts = np.ones((4, 4, 8, 8), np.float32)
    counts[0, 0, 0, 0] = np.nan
    counts[-1, -1, 0, 0] = -1
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = counts
        file.attrs.update({"energy": 300.0, "dk_1_per_A": 0.05})
    found = describe_file(tmp_path / "a.h5")
    assert any("300 keV is 300e3 eV" in line for line in found["warnings"])
    assert any("NaN" in line for line in found["warnings"])


def test_only_a_few_patterns_are_read(tmp_path, monkeypatch):
    """Statistics of a file of a terabyte (of chunks never written) must not touch most of it."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("d", (5000, 5000, 256, 256), np.uint16, chunks=(1, 1, 256, 256))
    found = describe_file(tmp_path / "a.h5")
    assert found["memory"] == 5000**2 * 256**2 * 2
    assert found["statistics"]["patterns"] == 16
    assert any("all counts are zero" in line for line in found["warnings"])


def test_result(tmp_path):
    phase = Named(np.zeros((3, 4)), "rad", ("y", "x"), "Phase")
    result = Result("ptychography", {"specimen.phase": phase}, status="stopped early", success=False)
    write_result(tmp_path / "r.h5", result)
    found = describe_file(tmp_path / "r.h5")
    assert (found["kind"], found["problem"], found["success"]) == ("result", "ptychography", False)
    assert found["status"] == "stopped early"
    expected = {"shape": [3, 4], "dtype": "float64", "units": "rad", "dims": ["y", "x"], "long_name": "Phase"}
    assert found["estimate"] == {"specimen.phase": expected}


def test_files_that_are_not_4d(tmp_path):
    np.save(tmp_path / "image.npy", np.zeros((5, 6)))
    found = describe_file(tmp_path / "image.npy")
    assert (found["kind"], found["shape"], found["dtype"]) == ("image", [5, 6], "float64")
    np.save(tmp_path / "stack.npy", np.zeros((12, 5, 6)))
    assert "3 x 4" in describe_file(tmp_path / "stack.npy")["reason"]
    np.savez(tmp_path / "a.npz", one=np.zeros(3), two=np.zeros((2, 2)))
    assert set(describe_file(tmp_path / "a.npz")["arrays"]) == {"one", "two"}
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x/y"] = np.zeros((2, 3), np.float32)
    assert describe_file(tmp_path / "a.h5")["arrays"] == {"/x/y": {"shape": [2, 3], "dtype": "float32"}}
    with pytest.raises(InputError):
        describe_file(tmp_path / "none.h5")
