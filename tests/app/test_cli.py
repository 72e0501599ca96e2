"""The command line: what it says, how it ends, and what it loads."""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from stemjax.app import check, derived_optics, estimate
from stemjax.app.config import settings_of
from stemjax.app.log import open_log, read_log
from stemjax.app.main import main
from stemjax.app.progress import Reporting
from stemjax.app.yamlfile import parse_document
from stemjax.core.errors import InputError
from stemjax.forward.recording import Recording
from stemjax.io import write_recording
from stemjax.problems.ptychography.calibration import Calibration, calibration, selected
from stemjax.problems.ptychography.settings import DataSettings

ROOT = Path(__file__).parents[2]
ENERGY, STEP, SAMPLING, SEMIANGLE, DEFOCUS = 80e3, 0.5, 1.6, 21.4, -100.0


def python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )


@pytest.fixture
def data(tmp_path):
    counts = np.random.default_rng(0).poisson(2.0, (6, 8, 16, 16)).astype(np.uint16)
    known = {"energy": ENERGY, "scan_step": (STEP, STEP), "detector_sampling": (SAMPLING, SAMPLING)}
    recording = Recording(counts, **known, semiangle=10.0, defocus=DEFOCUS)
    write_recording(tmp_path / "scan.h5", recording)
    return tmp_path / "scan.h5", counts


def write(path, text):
    path.write_text(text)
    return str(path)


def test_help_is_quick_and_loads_nothing_heavy():
    heavy = "{'jax', 'numpy', 'pydantic', 'h5py', 'yaml', 'scipy', 'ase', 'matplotlib', 'flax'}"
    code = f"import sys; from stemjax.app.main import main; main(['--help']); print({heavy} & set(sys.modules))"
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "set()"
    # Processor time of the whole process: what a person waits for on an idle machine, whatever else runs on this one.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    python("from stemjax.app.main import main; main(['--help'])")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


@pytest.mark.parametrize("command", ["demo", "init", "check", "run", "simulate", "inspect", "report", "schema"])
def test_every_command_has_help(command, capsys):
    assert main([command, "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


def test_version(capsys):
    import stemjax

    assert main(["--version"]) == 0
    assert capsys.readouterr().out.split() == ["stemjax", stemjax.__version__]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["chek", "a.yaml"], ["no command 'chek'", "nearest: 'check'"]),
        (["check"], ["Missing argument", "CONFIG"]),
        (["check", "a.yaml", "--overide", "b"], ["No such option"]),
        (["check", "missing.yaml"], ["cannot read", "missing.yaml", "give the path"]),
        (["check", "."], ["cannot read", "give the path"]),
        (["check", "unknown.yaml"], ["unknown.yaml, line 2", "'data.filee'", "nearest: 'data.file'"]),
        (["check", "unit.yaml"], ["unit.yaml, line 4", "'data.energy'", "is a length", "80 keV"]),
        (["check", "nodata.yaml"], ["nodata.yaml, line 3", "no file"]),
        (["run", "nodata.yaml"], ["nodata.yaml, line 3", "no file"]),
        (["run", "sim.yaml"], ["simulation", "stemjax simulate"]),
        (["simulate", "sim.yaml"], ["Missing option", "--output"]),
        (["check", "sim.yaml", "-s", "probe.energy=80"], ["-s probe.energy=80", "80 keV"]),
        (["inspect", "missing.h5"], ["missing.h5"]),
        (["report", "nowhere"], ["nowhere", "stemjax run"]),
        (["init", "ptycography", "unit.yaml"], ["unknown problem 'ptycography'", "nearest: 'ptychography'"]),
        (["init", "ptychography", "missing.h5"], ["no file missing.h5"]),
        (["init", "ptychography", "unit.yaml", "-o", "sim.yaml"], ["sim.yaml exists", "--force"]),
        (["init", "simulation", "unit.yaml"], ["no atoms", "cif"]),
        (["demo", "--size", "huge"], ["huge", "small"]),
    ],
)
def test_bad_input_is_one_line_and_status_2(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "unknown.yaml", "problem: ptychography\ndata: {filee: a.h5}\n")
    write(tmp_path / "unit.yaml", "problem: ptychography\ndata:\n  file: unit.yaml\n  energy: 80 nm\n")
    write(tmp_path / "nodata.yaml", "problem: ptychography\ndata:\n  file: a.h5\n")
    write(tmp_path / "sim.yaml", (ROOT / "configs" / "simulation-minimal.yaml").read_text())
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("stemjax: ")
    assert "Traceback" not in err
    for word in said:
        assert word in err


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (InputError("a; b"), 2, "a; b"),
        (PermissionError(13, "Permission denied", "/x"), 2, "/x: Permission denied"),
        (OSError(28, "No space left on device"), 2, "No space left"),
        (MemoryError(), 2, "not enough memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (RuntimeError("two\nlines"), 1, "RuntimeError: two lines; run again with --debug"),
    ],
)
def test_every_error_is_one_line_with_its_status(error, status, said, monkeypatch, capsys):
    def broken(*_):
        raise error

    monkeypatch.setattr("stemjax.app.inspect.inspect_file", broken)
    assert main(["inspect", "a.h5"]) == status
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1
    if not isinstance(error, KeyboardInterrupt):
        with pytest.raises(type(error)):
            main(["inspect", "a.h5", "--debug"])


def test_the_process_ends_with_the_status():
    done = subprocess.run(
        [sys.executable, "-m", "stemjax.app.main", "check", "missing.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_init_then_check_of_a_file_that_tells_all(data, tmp_path, monkeypatch, capsys):
    counts = data[1]
    monkeypatch.chdir(tmp_path)
    assert main(["init", "ptychography", "scan.h5", "-o", "my.yaml"]) == 0
    text = (tmp_path / "my.yaml").read_text()
    assert "# energy: 80 keV  # from the file" in text
    assert "# from the file: -100 Å" in text
    lines = [line for line in text.splitlines() if not line.strip().startswith("#")]
    assert len(lines) <= 15
    assert yaml.safe_load(text)["data"] == {"file": "scan.h5"}
    assert main(["check", "my.yaml"]) == 0
    said = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines() if not line.startswith("wrote"))
    assert said["wavelength"].strip() == "0.04176 Å"  # 80 keV, Kirkland's table
    assert said["scan"].strip() == "6 × 8 positions, 0.5 × 0.5 Å"
    electrons = float(said["electrons per pattern"].split()[0])
    assert electrons == pytest.approx(counts.sum() / 48, rel=1e-3)  # all 48 patterns are read
    assert float(said["dose"].split()[0]) == pytest.approx(electrons / STEP**2, rel=1e-3)


def test_init_asks_for_what_the_file_does_not_tell(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_recording(tmp_path / "bare.h5", Recording(np.ones((2, 2, 8, 8), np.uint16)))
    assert main(["init", "ptychography", "bare.h5"]) == 0
    assert "energy:  # needed" in (tmp_path / "ptychography.yaml").read_text()
    assert main(["check", "ptychography.yaml"]) == 2
    err = capsys.readouterr().err
    for key in ("data.energy", "data.scan_step", "data.detector_sampling", "data.semiangle", "energy: 80 keV"):
        assert key in err


def test_init_of_a_simulation_writes_what_check_takes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lattice = 'Lattice="4.08 0 0 0 4.08 0 0 0 4.08" Properties=species:S:1:pos:R:3 pbc="T T T"'
    write(tmp_path / "atom.xyz", f"1\n{lattice}\nAu 0 0 0\n")
    assert main(["init", "simulation", "atom.xyz", "-o", "s.yaml"]) == 0
    assert main(["check", "s.yaml"]) == 0
    out = capsys.readouterr().out
    assert "0.02508 Å" in out  # 200 keV
    assert "remark" not in out


def test_inspect_prints_shape_and_optics(data, capsys):
    assert main(["inspect", str(data[0])]) == 0
    out = capsys.readouterr().out
    assert "6 × 8 × 16 × 16" in out
    assert "80000" in out


def test_run_hands_settings_folder_and_reporter_to_the_job(data, tmp_path, monkeypatch, capsys):
    calls = []

    class Ended:
        success, status = False, "the loss is not finite; give a smaller rate"

    def run_job(settings, folder, resume, reporter, *, force):
        reporter.start("ptychography", 3)
        reporter.epoch(1, 2.5)
        reporter.finish("stopped")
        calls.append((settings, folder, resume))
        return Ended

    fake = type(sys)("stemjax.app.job")
    fake.run_job = run_job
    monkeypatch.setitem(sys.modules, "stemjax.app.job", fake)
    monkeypatch.setattr("stemjax.app.main._setup", lambda *_: None)
    config = write(tmp_path / "my.yaml", "problem: ptychography\ndata: {file: scan.h5}\n")
    assert main(["run", config, "-o", str(tmp_path / "out"), "--resume", "-s", "solver.epochs=3"]) == 1
    (settings, folder, resume) = calls[0]
    assert (settings.solver.epochs, folder, resume) == (3, tmp_path / "out", True)
    assert "the loss is not finite" in capsys.readouterr().err
    assert [event["event"] for event in read_log(tmp_path / "out" / "log.jsonl")] == ["start", "epoch", "finish"]


def test_a_pipe_that_closes_early_is_no_traceback():
    script = f"{sys.executable} -m stemjax.app.main schema | head -1"
    done = subprocess.run(script, shell=True, capture_output=True, text=True, cwd=ROOT, check=False)
    assert "Traceback" not in done.stderr


class Terminal:
    """A stream that says it is a terminal."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return True


def test_progress_has_loss_rate_and_time_left_on_a_terminal_and_is_quiet_elsewhere(tmp_path):
    def job(reporter):
        reporter.start("ptychography", 50)
        for number in range(1, 51):
            reporter.epoch(number, 1.0 / number)
        reporter.finish("done")

    terminal = Terminal()
    with Reporting(terminal) as reporter:
        job(reporter)
    for word in ("epoch 50/50", "loss 0.02", "epochs/s", "0.0 s left", "done"):
        assert word in terminal.text
    with (tmp_path / "quiet.txt").open("w") as stream, Reporting(stream) as reporter:
        job(reporter)
    lines = (tmp_path / "quiet.txt").read_text().splitlines()
    assert lines[0] == "ptychography: 50 epochs"
    assert len(lines) == 2
    assert "loss 0.02" in lines[1]


def test_the_log_is_strict_json_flushed_line_by_line(tmp_path):
    log = open_log(tmp_path / "new" / "log.jsonl")
    log.write("epoch", loss=np.float32("nan"), shape=np.array([1, 2]), path=Path("a"))
    line = (tmp_path / "new" / "log.jsonl").read_text()
    entry = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (entry["event"], entry["loss"], entry["shape"], entry["path"]) == ("epoch", None, [1, 2], "a")
    assert abs(entry["time"] - time.time()) < 60
    with pytest.raises(ValueError, match="boom"), log:
        raise ValueError("boom")
    with (tmp_path / "new" / "log.jsonl").open("a") as file:
        file.write('{"cut')
    assert [event["event"] for event in read_log(tmp_path / "new" / "log.jsonl")] == ["epoch", "error"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="choose another folder with -o"):
        open_log(tmp_path / "a" / "log.jsonl")


def test_depth_of_focus_is_the_half_width_of_the_axial_intensity():
    wavelength, semiangle = 0.0251, 20.0
    # On-axis amplitude of an ideal probe at a distance z, by summing the waves of the aperture.
    angles = (np.arange(20000) + 0.5) / 20000 * 1e-3 * semiangle

    def intensity(z):
        return abs(np.mean(np.exp(-1j * np.pi * z * angles**2 / wavelength) * angles)) ** 2

    half = derived_optics.depth_of_focus(wavelength, semiangle) / 2
    assert intensity(half) / intensity(0.0) == pytest.approx(0.5, abs=1e-4)


def test_derived_optics_agree_with_the_discrete_fourier_transform():
    known = Calibration(ENERGY, (STEP, 2 * STEP), (SAMPLING, SAMPLING), SEMIANGLE)
    derived = derived_optics.optics(known, (64, 128), c10=200.0)
    # A frequency step of dk = Δα/λ on N pixels is a real-space pixel of 1/(N dk).
    dk = 1e-3 * SAMPLING / derived.wavelength
    assert derived.pixel == pytest.approx((1 / (64 * dk), 1 / (128 * dk)))
    assert derived.window == pytest.approx((1 / dk, 1 / dk))
    assert derived.largest_angle == pytest.approx(32 * SAMPLING)
    geometric = 200.0 * 1e-3 * SEMIANGLE
    assert derived.probe_radius == pytest.approx(np.hypot(geometric, 0.61 * derived.wavelength / (1e-3 * SEMIANGLE)))
    assert derived.overlap == pytest.approx(1 - 2 * STEP / (2 * derived.probe_radius))


def test_a_simulation_is_checked_against_its_grid():
    text = (
        "problem: simulation\nspecimen: {builder: srtio3, thickness: 20 nm, size: 10}\nscan: {shape: 32, step: 1}\n"
        "probe: {energy: 200 keV, semiangle: 21}\npotential: {sampling: 0.5}\ndetector: {annular: {HAADF: [60, 200]}}\n"
        "dose: {per_area: 100}\n"
    )
    settings = settings_of(parse_document(text, "s.yaml"), Path())
    table = list(check.simulation_table(settings))
    said = dict(table)
    # The largest angle of a grid is λ/2d; two thirds of it are kept.
    assert "up to 17 mrad" in said["grid"]
    assert round(2 / 3 * 1e3 * 0.02508 / (2 * 0.5)) == 17
    assert said["slices"] == "at least 100"
    assert said["electrons per pattern"] == "100"
    remarks = " ".join(value for name, value in table if name == "remark")
    for word in ("inside the aperture", "HAADF reaches to 200", "wider than specimen.size"):
        assert word in remarks


def test_memory_counts_the_arrays():
    size = estimate.Size(patterns=10, detector=(16, 16), object_shape=(40, 50), slices=3, modes=2, channels=2)
    needs = estimate.memory(size, batch=4, devices=2)
    voxels = np.zeros((3, 40, 50, 2), np.float32).nbytes
    assert needs["data"] == np.zeros((10, 16, 16), np.float32).nbytes
    assert needs["object"] == 4 * voxels + np.zeros((3, 40, 50), np.complex64).nbytes
    waves = np.zeros((2, estimate.WAVES, 3, 2, 16, 16), np.complex64).nbytes
    assert needs["batch"] == np.zeros((4, 16, 16), np.float32).nbytes + waves
    assert needs["total"] == needs["data"] + needs["object"] + needs["batch"]


def test_a_configuration_wins_over_the_file_and_bins_keep_electrons(data):
    recording = Recording(data[1], ENERGY, (STEP, STEP), (SAMPLING, SAMPLING), SEMIANGLE)
    settings = DataSettings(file="a", energy="60 keV", bin=2, crop={"y": [1, 5]}, electrons_per_count=2)
    known = calibration(recording, settings)
    assert (known.energy, known.scan_step, known.electrons_per_count) == (60e3, (STEP, STEP), 2.0)
    assert known.detector_sampling == (2 * SAMPLING, 2 * SAMPLING)
    part = selected(recording, settings)
    assert part.counts.shape == (4, 8, 8, 8)
    assert part.counts.sum() == data[1][1:5].sum()
    assert part.counts[0, 0, 0, 0] == data[1][1, 0, :2, :2].sum()
    assert part.detector_sampling == known.detector_sampling
    with pytest.raises(InputError, match="goes beyond the scan of 6"):
        selected(recording, DataSettings(file="a", crop={"y": [1, 9]}))
    with pytest.raises(InputError, match="larger than the detector"):
        selected(recording, DataSettings(file="a", bin=32))


def test_remarks_on_what_looks_wrong():
    known = Calibration(ENERGY, (20.0, 20.0), (SAMPLING, SAMPLING), 30.0)
    derived = derived_optics.optics(known, (16, 16), c10=100.0)
    said = " ".join(check.remarks(known, derived, 10.0, 100.0))
    for word in ("inside the beam", "overlap", "electrons a pattern are few"):
        assert word in said
    good = Calibration(ENERGY, (0.5, 0.5), (SAMPLING, SAMPLING), 10.0)
    assert not list(check.remarks(good, derived_optics.optics(good, (128, 128), c10=100.0), 1e4, 100.0))
