"""What a job leaves behind when it is refused, interrupted, doubled, or runs out of disk; what `check` notices."""

import errno
import io
import json
import os
import platform
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest

from stemjax.app import check, epochs, estimate, folder, job, survey
from stemjax.app.checkpoint import load, save
from stemjax.app.config import load_config
from stemjax.app.interruption import Interrupted
from stemjax.app.job import CHECKPOINT, RESULT, run_job
from stemjax.app.main import main
from stemjax.app.misfit import ending, expected_misfit
from stemjax.app.progress import LineReporter
from stemjax.core.errors import InputError
from stemjax.detect.noise import Poisson
from stemjax.forward.recording import Recording
from stemjax.io import read_result, write_recording

CONFIG = """
problem: ptychography
data: {file: scan.h5}
orientation: as-is
probe: {defocus: 5 nm}
solver: {epochs: 3, batch: 16, devices: 1}
output: {report: false, checkpoint: 1}
"""


def patterns(scan=(5, 6), side=24):
    y, x = np.mgrid[:side, :side] - side // 2
    disk = 40.0 * (np.hypot(y, x) < 6.4)
    return np.random.default_rng(1).poisson(np.broadcast_to(disk, (*scan, side, side))).astype(np.uint16)


def write(path, counts):
    known = {"energy": 80e3, "scan_step": (0.6, 0.6), "detector_sampling": (3.0, 3.0), "semiangle": 20.0}
    write_recording(path, Recording(counts, **known))


@pytest.fixture
def work(tmp_path):
    write(tmp_path / "scan.h5", patterns())
    (tmp_path / "job.yaml").write_text(CONFIG)
    return tmp_path


class Killing(LineReporter):
    """Sends the process a signal after an epoch, or at a message that holds a word."""

    def __init__(self, after=None, word=None):
        super().__init__(io.StringIO())
        self.after, self.word, self.messages, self.epochs = after, word, [], 0

    def epoch(self, number, loss, **fields):
        self.epochs += 1
        if number == self.after:
            os.kill(os.getpid(), signal.SIGTERM)

    def message(self, text, **fields):
        self.messages.append(text)
        if self.word is not None and self.word in text:
            os.kill(os.getpid(), signal.SIGTERM)


def run(work, reporter=None, resume=False, overrides=(), **options):
    reporter = reporter or Killing()
    return run_job(load_config(work / "job.yaml", overrides), work / "out", resume, reporter, **options), reporter


def interrupted_checkpoint(work):
    with pytest.raises(Interrupted, match=r"holds epoch 2; go on from it with --resume") as caught:
        run(work, Killing(after=2))
    assert caught.value.status == 143
    return work / "out" / CHECKPOINT


def test_a_changed_number_in_a_checkpoint_is_noticed(work):
    path = interrupted_checkpoint(work)
    with h5py.File(path, "r+") as file:
        name = next(name for name in file["state"] if file[f"state/{name}"].size > 10)
        node = file[f"state/{name}"]
        values = node[()]
        values.flat[3] = np.nextafter(values.flat[3], np.inf)
        node[...] = values
    with pytest.raises(InputError, match=r"is damaged .* run without --resume"):
        run(work, resume=True)


def test_a_checkpoint_that_was_not_touched_is_read_back(work):
    path = interrupted_checkpoint(work)
    with h5py.File(path) as file:
        marks = file["fingerprint"].asstr()[()]
    again = path.with_name("again.h5")
    stored = load(path, marks)
    save(again, stored)
    assert load(again, marks).epochs == stored.epochs == 2


def test_a_signal_before_the_first_checkpoint_promises_no_resume(work, monkeypatch):
    def first_guess(*args, **options):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(job, "first_guess", first_guess)
    with pytest.raises(Interrupted) as caught:
        run(work)
    assert "--resume" not in str(caught.value)
    assert "no checkpoint" in str(caught.value)


def test_sigterm_has_one_line_and_its_own_status(work, monkeypatch, capsys):
    def first_guess(*args, **options):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(job, "first_guess", first_guess)
    monkeypatch.setattr("stemjax.app.main._setup", lambda *_: None)
    assert main(["run", str(work / "job.yaml"), "-o", str(work / "out")]) == 143
    assert capsys.readouterr().err.splitlines()[-1].startswith("stemjax: interrupted; no checkpoint")


def test_sigterm_ends_any_command_with_a_line(monkeypatch, capsys):
    monkeypatch.setattr("stemjax.app.inspect.inspect_file", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert main(["inspect", "a.h5"]) == 143
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_signal_during_the_report_says_that_the_result_is_complete(work, monkeypatch):
    def write_report(result, folder):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("stemjax.report.page.write_report", write_report)
    with pytest.raises(Interrupted, match=r"result.h5 is complete; `stemjax report .*out` writes the report"):
        run(work, overrides=["output.report=true"])
    assert read_result(work / "out" / RESULT).success
    monkeypatch.setattr("stemjax.report.page.write_report", lambda result, folder: folder / "page")
    again = run(work, resume=True, overrides=["output.report=true"])[1]
    assert again.epochs == 0
    assert any("only the report is written" in text for text in again.messages)
    with pytest.raises(InputError, match=r"belongs to another run \(solver\)"):
        run(work, resume=True, overrides=["solver.batch=8"])


def test_a_full_disk_at_a_checkpoint_warns_once_and_the_run_goes_on(work, monkeypatch):
    def full(path, checkpoint):
        raise InputError(f"cannot write {path}: {os.strerror(errno.ENOSPC)}")

    monkeypatch.setattr(epochs, "save", full)
    result, reporter = run(work)
    assert result.success
    assert sum("No space left" in text for text in reporter.messages) == 1


def test_a_report_that_cannot_be_written_names_the_file_and_the_result(work):
    (work / "out").mkdir()
    (work / "out" / "report").write_text("in the way")
    with pytest.raises(InputError, match=r"cannot write .*out/report: .*result.h5 is complete"):
        run(work, overrides=["output.report=true"])
    assert read_result(work / "out" / RESULT).success


def lock_of(work, process, host=None):
    (work / "out").mkdir()
    text = json.dumps({"process": process, "host": host or platform.node()})
    (work / "out" / folder.LOCK).write_text(text)


def test_two_runs_cannot_share_a_folder(work):
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        lock_of(work, other.pid)
        with pytest.raises(InputError, match=rf"another run \(process {other.pid} on .*\) writes to"):
            run(work)
    finally:
        other.communicate(b"\n")
    assert run(work)[0].success  # the process is dead: its lock is taken over
    assert not (work / "out" / folder.LOCK).exists()


def test_a_lock_of_another_host_is_respected(work):
    lock_of(work, 1, "elsewhere")
    with pytest.raises(InputError, match="on elsewhere"):
        run(work)


def test_a_finished_result_is_replaced_only_by_force(work, monkeypatch, capsys):
    monkeypatch.setattr("stemjax.app.main._setup", lambda *_: None)
    words = ["run", str(work / "job.yaml"), "-o", str(work / "out")]
    assert main(words) == 0
    before = (work / "out" / RESULT).read_bytes()
    assert main(words) == 2
    assert "--force" in capsys.readouterr().err.splitlines()[-1]
    assert (work / "out" / RESULT).read_bytes() == before
    assert main([*words, "--force"]) == 0


def test_a_refused_run_leaves_nothing(work, monkeypatch, capsys):
    monkeypatch.setattr("stemjax.app.main._setup", lambda *_: None)
    words = ["run", str(work / "job.yaml"), "-o", str(work / "a" / "b"), "-s", "data.key=nothing"]
    assert main(words) == 2
    assert "nothing" in capsys.readouterr().err
    assert sorted(p.name for p in work.iterdir()) == ["job.yaml", "scan.h5"]


def checked(work, *overrides):
    return " ".join(line for line in check.check_config(work / "job.yaml", overrides) if line.startswith("remark"))


def test_check_has_no_remark_on_good_data_but_few_points(work):
    assert checked(work) == ""


@pytest.mark.parametrize(
    ("spoil", "overrides", "words"),
    [
        (lambda c: c.__setitem__((3, 3, 0, 0), -1), (), "negative"),
        (lambda c: c.__setitem__((3, 3, 0, 0), np.nan), (), "nan"),
        (lambda c: c.__setitem__((3, 3, 0, 0), np.nan), ("data.replace_by=0",), None),
        (lambda c: c.__setitem__((3, 3, 0, 0), -1), ("data.clip=true",), None),
        (lambda c: c.__setitem__(..., 0), (), "no electrons"),
        (lambda c: None, ("orientation=auto", "data.crop={y: [0, 1], x: [0, 1]}"), "too small to find its orientation"),
    ],
)
def test_check_refuses_what_run_refuses(work, spoil, overrides, words):
    counts = patterns().astype(np.float32)
    spoil(counts)
    write(work / "scan.h5", counts)
    if words is None:
        checked(work, *overrides)
        return
    for command in (lambda: checked(work, *overrides), lambda: run(work, overrides=overrides)):
        with pytest.raises(InputError, match=words if words != "no electrons" else "no electrons|all counts are zero"):
            command()


def test_check_refuses_exchanged_axes_until_they_are_told(work):
    swapped = patterns((12, 12)).transpose(2, 3, 0, 1)
    write(work / "scan.h5", swapped)
    with pytest.raises(InputError, match=r"data\.axes: ky kx scan_y scan_x"):
        checked(work)
    table = check.check_config(work / "job.yaml", ["data.axes=ky kx scan_y scan_x"])
    assert any("12 × 12 positions" in line for line in table)
    with pytest.raises(InputError, match="no array under the key"):
        checked(work, "data.key=/other")
    with pytest.raises(InputError, match=r"scan shape \(2, 3\) given"):
        checked(work, "data.scan_shape=[2, 3]")


def test_check_remarks_on_hot_pixels_empty_patterns_gaps_and_late_starts(work):
    counts = patterns().astype(np.uint32)
    counts[..., 3, 4] = 60000
    counts[2] = 0
    write(work / "scan.h5", counts)
    said = checked(work, "refine={positions: after 9999}", "data.scan_step=30", "probe.defocus=0")
    for words in ("pixel (3, 4)", "6 of 30 patterns are empty", "refine.positions begins after 9999", "do not overlap"):
        assert words in said
    assert "memory" not in said


def test_the_disk_of_a_coarse_detector_is_not_hot():
    pattern = np.zeros((16, 16))
    pattern[7:9, 7:9] = 100.0
    assert survey.hot_pixel(pattern, 10.0, (9.0, 9.0)) is None


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["object.slices=10000000", "object.thickness=10 nm"], "object.slices"),
        pytest.param(["object.padding=1e9"], "object.padding", marks=pytest.mark.slow),
        pytest.param(["probe.modes=100000000"], "probe.modes", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_larger_than_the_memory_is_refused_with_what_fits(work, overrides, key):
    with pytest.raises(InputError, match=rf"{key} = .* at most \d+ fits") as caught:
        run(work, overrides=overrides)
    assert not (work / "out").exists()
    assert key in checked(work, *overrides)
    fits = str(caught.value).split("at most ")[1].split()[0]
    settings = load_config(work / "job.yaml", [*overrides, f"{key}={fits}"])
    recording = job.read_data(settings)
    known, shape = job.calibration(recording, settings.data), recording.counts.shape
    assert estimate.memory_trouble(settings, known, shape, estimate.machine_memory()) is None
    beyond = load_config(work / "job.yaml", [*overrides, f"{key}={int(1.02 * float(fits)) + 2}"])
    assert estimate.memory_trouble(beyond, known, shape, estimate.machine_memory()) is not None


def test_the_end_is_told_as_it_was():
    counts = np.full((2, 4, 4), 9.0)
    assert "rose from 4 to 8" in ending([4.0, 8.0], counts, "poisson")
    assert "from" not in ending([4.0], counts, "poisson")
    assert "1 epoch;" in ending([4.0], counts, "poisson")
    assert "does not explain the data" in ending([4000.0, 800.0], counts, "poisson")


def test_expected_misfit_is_the_mean_half_deviance_of_poisson_counts():
    mean = np.array([0.003, 0.1, 1.0, 15.0, 80.0])
    counts = np.random.default_rng(0).poisson(mean, (200000, 5)).astype(float)
    noise = Poisson(0.0)
    drawn = np.asarray(noise.best(counts) - noise.log_prob(counts, mean[None])).mean(axis=0)
    found = [expected_misfit(np.array([[m]]), "poisson") for m in mean]
    np.testing.assert_allclose(found, drawn, rtol=0.05)


def test_init_writes_no_path_through_the_whole_file_system(work, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert main(["init", "ptychography", str(work / "scan.h5"), "-o", "new.yaml"]) == 0
    with open("new.yaml") as file:
        text = file.read()
    assert "../" not in text
    assert str((work / "scan.h5").resolve()) in text


def test_a_missing_file_lists_at_most_five_files_of_data(work):
    for number in range(8):
        (work / f"recording{number}.npy").write_bytes(b"")
    (work / "notes.txt").write_text("")
    with pytest.raises(InputError) as caught:
        load_config(work / "job.yaml", [f"data.file={work / 'zzz.h5'}"])
    assert "notes.txt" not in str(caught.value)
    assert "job.yaml" not in str(caught.value).split("no file")[1]
    assert str(caught.value).count("recording") <= 5
