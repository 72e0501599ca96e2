"""A file appears whole or not at all, whatever fails."""

import errno
import os
import subprocess
import sys
import textwrap
import time

import h5py
import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.io import atomic as module
from stemjax.io import atomic_file, atomic_hdf5, read_result, write_atomically


def fill(path, failure=None):
    """Two large arrays, then a failure of the caller's."""
    with atomic_hdf5(path) as file:
        file["x"] = np.arange(10**5, dtype=float)
        file["y"] = np.arange(10**5, dtype=float)
        if failure is not None:
            raise failure


def test_text_and_bytes_are_written_exactly(tmp_path):
    write_atomically(tmp_path / "a.txt", "Å µ\n")
    assert (tmp_path / "a.txt").read_bytes() == "Å µ\n".encode()
    assert os.listdir(tmp_path) == ["a.txt"]


def test_permissions_follow_the_umask_as_with_open(tmp_path):
    (tmp_path / "plain").write_text("")
    write_atomically(tmp_path / "atomic", "")
    assert (tmp_path / "plain").stat().st_mode == (tmp_path / "atomic").stat().st_mode


def test_a_link_keeps_pointing_at_its_file(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_atomically(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


@pytest.mark.parametrize("failure", [ValueError("in the middle"), KeyboardInterrupt()])
def test_an_exception_leaves_the_old_file_alone(tmp_path, failure):
    path = tmp_path / "a.h5"
    path.write_text("old")
    with pytest.raises(type(failure)):
        fill(path, failure)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.h5"]


@pytest.mark.parametrize("room", [0, 100, 5000, 400_000])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_one_line_and_nothing_is_left(tmp_path, monkeypatch, room, code):
    path = tmp_path / "a.h5"
    path.write_text("old")
    written = 0
    real = os.write

    def write(descriptor, data):
        nonlocal written
        if written >= room:
            raise OSError(code, os.strerror(code))
        done = real(descriptor, data[: room - written])  # a short write, as a nearly full disk makes
        written += done
        return done

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(InputError) as caught:
        fill(path)
    monkeypatch.undo()
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert os.strerror(code) in message
    assert "MB needed" in message
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.h5"]


def test_short_writes_are_completed(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:1000]))
    values = np.random.default_rng(0).normal(size=20_000)
    with atomic_hdf5(tmp_path / "a.h5") as file:
        file["x"] = values
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["x"][()], values)


def test_limit_of_the_system_on_the_file_size(tmp_path):
    """A real failure of the operating system, in a process of its own, which must end quietly."""
    script = f"""
        import resource, numpy as np
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        from stemjax.inference.result import Named, Result
        from stemjax.io import write_result
        from stemjax.core.errors import InputError
        phase = Named(np.random.default_rng(0).normal(size=(100, 100)), "rad", ("y", "x"), "Phase")
        try:
            write_result({str(tmp_path / "r.h5")!r}, Result("test", {{"phase": phase}}))
        except InputError as error:
            print("refused:", error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("refused: cannot write")
    assert os.strerror(errno.EFBIG) in done.stdout
    assert done.stderr == ""
    assert os.listdir(tmp_path) == []


def test_failed_synchronisation_is_a_failure(tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.ENOSPC, "delayed")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(InputError, match="nothing was changed"):
        write_atomically(tmp_path / "a", "text")
    assert os.listdir(tmp_path) == []


def test_failed_renaming_is_a_failure(tmp_path, monkeypatch):
    def fail(source, target):
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(InputError, match="no permission"):
        write_atomically(tmp_path / "a", "text")
    assert os.listdir(tmp_path) == []


def test_more_than_the_disk_has_is_refused_at_once(tmp_path):
    with pytest.raises(InputError, match=r"needed, .* free"), atomic_file(tmp_path / "a", needed=10**18):
        pytest.fail("the body must not run")
    assert os.listdir(tmp_path) == []


def test_wrong_targets_are_named(tmp_path):
    with pytest.raises(InputError, match="it is a folder"):
        write_atomically(tmp_path, "x")
    with pytest.raises(InputError, match="there is no folder"):
        write_atomically(tmp_path / "none" / "a", "x")


def test_no_permission_is_named(tmp_path, monkeypatch):
    def refuse(*args):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(module.os, "open", refuse)
    with pytest.raises(InputError, match="no permission"):
        write_atomically(tmp_path / "a", "x")


def test_a_reader_never_sees_half_a_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_file(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_killed_in_the_middle_a_file_is_old_or_new(tmp_path):
    """A process that writes without end is killed at arbitrary moments; what stands under the name is always whole."""
    script = f"""
        import numpy as np
        from stemjax.inference.result import Named, Result
        from stemjax.io import write_result
        number = 0
        while True:
            value = Named(np.full((300, 300), float(number)), "1", ("y", "x"), "Number")
            write_result({str(tmp_path / "r.h5")!r}, Result("test", {{"value": value}}, status=str(number)))
            print(number, flush=True)
            number += 1
    """
    for moment in (0.0, 0.003, 0.007, 0.011, 0.017):
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"
        time.sleep(moment)
        process.kill()
        process.communicate()
        found = read_result(tmp_path / "r.h5")
        np.testing.assert_array_equal(found.estimate["value"].value, float(found.status))
