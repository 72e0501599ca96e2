"""Cut, flipped and foreign bytes: every reader answers with one line or with data, never with another exception."""

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemjax.core.errors import InputError
from stemjax.forward.recording import Recording
from stemjax.inference.result import Named, Result
from stemjax.io import describe_file, read_recording, read_result, write_recording, write_result

KEEP = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def bytes_of(path, make):
    make(path)
    return path.read_bytes()


def refusal(door, path):
    """What a door says of a file: the text of its `InputError`, or None where it takes the file."""
    try:
        door(path)
    except InputError as error:
        return str(error)
    return None


def tries(path):
    """Every door that a person could push this file through; the number of refusals, each one line with the path."""
    doors = (read_recording, describe_file, read_result, lambda p: read_recording(p, lazy=True).counts[:])
    said = [text for text in (refusal(door, path) for door in doors) if text is not None]
    assert all("\n" not in text and str(path) in text for text in said), said
    return len(said)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Whole files of every format that is written here, as bytes, by extension."""
    folder = tmp_path_factory.mktemp("whole")
    counts = np.random.default_rng(0).poisson(3.0, (4, 5, 16, 16)).astype(np.uint16)
    phase = Named(np.random.default_rng(0).normal(size=(120, 120)), "rad", ("y", "x"), "Phase")

    def bare(path):
        with h5py.File(path, "w") as file:
            file["data"] = counts
            file["data"].attrs["energy_kV"] = 80.0

    return {
        "own.h5": bytes_of(folder / "own.h5", lambda p: write_recording(p, Recording(counts, energy=80e3))),
        "bare.h5": bytes_of(folder / "bare.h5", bare),
        "result.h5": bytes_of(
            folder / "result.h5",
            lambda p: write_result(p, Result("p", {"phase": phase}, diagnostics={"a": [1, None]}, config={"x": 1})),
        ),
        "a.npy": bytes_of(folder / "a.npy", lambda p: np.save(p, counts)),
        "a.npz": bytes_of(folder / "a.npz", lambda p: np.savez_compressed(p, data=counts, energy=80e3)),
    }


NAMES = ("own.h5", "bare.h5", "result.h5", "a.npy", "a.npz")


@pytest.mark.parametrize("name", NAMES)
@KEEP
@given(data=st.data())
def test_cut_files_are_refused(whole, tmp_path, name, data):
    content = whole[name]
    path = tmp_path / name
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    assert tries(path) == 4


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
@KEEP
@given(data=st.data())
def test_flipped_bytes_are_refused_or_harmless(whole, tmp_path, name, data):
    content = bytearray(whole[name])
    last = data.draw(st.sampled_from([128, len(content)]))  # the header lies at the start
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, last - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / name
    path.write_bytes(content)
    tries(path)


FLIPS = """
import faulthandler, random, sys
from stemjax.core.errors import InputError
from stemjax.io import describe_file, read_recording, read_result
source, target, first, last = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
whole = open(source, "rb").read()
for seed in range(first, last):
    print(seed, flush=True)
    faulthandler.dump_traceback_later(8, exit=True)
    draw, content = random.Random(seed), bytearray(whole)
    end = min(len(content), draw.choice([512, 4096, len(content)]))
    for _ in range(draw.randint(1, 6)):
        content[draw.randrange(end)] = draw.randrange(256)
    open(target, "wb").write(content)
    for door in (read_recording, describe_file, read_result, lambda p: read_recording(p, lazy=True).counts[:]):
        try:
            door(target)
        except InputError as error:
            assert "\\n" not in str(error)
"""


@pytest.mark.parametrize("name", ["own.h5", "bare.h5", pytest.param("result.h5", marks=pytest.mark.slow)])
def test_flipped_bytes_in_hdf5(whole, tmp_path, name):
    """In a process of its own: the HDF5 library itself dies or hangs on a few damaged files, which `probe` is for.

    A death by a signal and a hang inside the library are the library's, and the run goes on behind them; another
    exception, or a hang in code of ours, fails the test.
    """
    (tmp_path / "whole.h5").write_bytes(whole[name])
    first, last, deaths = 0, 150, 0
    while first < last:
        command = [sys.executable, "-c", FLIPS, str(tmp_path / "whole.h5"), str(tmp_path / name), str(first), str(last)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        hung = done.stderr.startswith("Timeout")
        assert done.returncode <= 0 or (hung and "h5py" in done.stderr.split('File "')[1]), done.stderr
        deaths += done.returncode != 0
        first = int(done.stdout.split()[-1]) + 1
    assert deaths <= 5


@pytest.mark.parametrize(
    "suffix", [".h5", ".npy", ".npz", ".raw", ".xml", ".dm3", ".dm4", ".mib", ".emd", ".ser", ".mrc"]
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=600))
def test_random_bytes_are_refused(tmp_path, suffix, content):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    assert tries(path) == 4


def test_a_cut_file_says_how_much_is_there(whole, tmp_path):
    path = tmp_path / "own.h5"
    path.write_bytes(whole["own.h5"][:4000])
    with pytest.raises(InputError, match=f"cut short: 4000 of {len(whole['own.h5'])} bytes are there"):
        read_recording(path)


def test_result_with_a_broken_configuration(whole, tmp_path):
    path = tmp_path / "r.h5"
    path.write_bytes(whole["result.h5"])
    with h5py.File(path, "a") as file:
        del file["config"]
        file["config"] = "{not json"
    with pytest.raises(InputError, match="cannot be read as a result"):
        read_result(path)
    with h5py.File(path, "a") as file:
        del file["estimate"]
    with pytest.raises(InputError, match="no group `estimate`"):
        read_result(path)


def test_numpy_headers_are_never_evaluated(tmp_path):
    """A header that names a call instead of a dictionary."""
    header = b"__import__('os').abort()".ljust(117) + b"\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 64)
    assert tries(tmp_path / "a.npy") == 4


def test_text_that_calls_itself_data(tmp_path):
    for name in ("a.h5", "a.npy", "a.npz", "a.dm4", "a.json"):
        (tmp_path / name).write_text(json.dumps({"counts": [1, 2, 3]}))
        assert tries(tmp_path / name) == 4
