"""A job from end to end: it finds the truth, survives interruption, counts its compilations, refuses what is wrong."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest

from stemjax.app.config import load_config
from stemjax.app.job import CHECKPOINT, RESULT, run_job
from stemjax.app.progress import LineReporter
from stemjax.app.simulation.run import simulate
from stemjax.core.errors import InputError
from stemjax.io import read_result

SIMULATION = """
problem: simulation
specimen: {builder: mos2_monolayer, size: 20 Å, vacancies: [[10, 10]]}
potential: {sampling: 0.15 Å}
probe: {energy: 80 keV, semiangle: 21.4 mrad, defocus: -8 nm}
scan: {shape: [12, 12], step: 0.6 Å, position_error: 0.1 Å}
detector: {pixelated: {shape: [48, 48]}}
dose: {per_area: 3e5 e/Å^2}
"""
RECONSTRUCTION = """
problem: ptychography
data: {file: recording.h5}
orientation: as-is
probe: {defocus: -6 nm}
refine: {defocus: true, positions: after 4}
solver: {epochs: 8, batch: 32, devices: 1}
output: {report: false, checkpoint: 1}
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    (folder / "simulation.yaml").write_text(SIMULATION)
    (folder / "job.yaml").write_text(RECONSTRUCTION)
    simulate(load_config(folder / "simulation.yaml"), folder / "recording.h5")
    return folder


class Silent(LineReporter):
    """Keeps what it is told; ends the job after some epochs, as a signal would."""

    def __init__(self, stop_after=None):
        super().__init__(io.StringIO())
        self.losses, self.messages, self.stop_after = [], [], stop_after

    def epoch(self, number, loss, **fields):
        self.losses.append(loss)
        if number == self.stop_after:
            os.kill(os.getpid(), signal.SIGTERM)

    def message(self, text, **fields):
        self.messages.append(text)


def job(work, folder, resume=False, overrides=(), stop_after=None, truth=None):
    reporter = Silent(stop_after)
    result = run_job(load_config(work / "job.yaml", overrides), folder, resume, reporter, truth=truth)
    return result, reporter


def test_job_finds_defocus_positions_and_object(work, tmp_path):
    settings = ["solver.epochs=30", "output.checkpoint='60 s'"]
    result, _ = job(work, tmp_path, overrides=settings, truth=work / "recording.truth.h5")
    # The layer stands in the middle of a cell of 7.19 Å: there the beam is that much further from its focus.
    assert abs(float(result.estimate["aberration_C10"].value) - (80.0 + 0.5 * 7.19)) < 2.0
    metrics = result.diagnostics["metrics"]
    assert metrics["phase_error"]["correlation"] > 0.97
    assert metrics["position_error"]["rms"] < 0.4 * metrics["position_error"]["start_rms"]
    assert not (tmp_path / CHECKPOINT).exists()


def test_interrupted_job_resumes_to_the_same_bits(work, tmp_path):
    whole, _ = job(work, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        job(work, tmp_path / "cut", stop_after=5)
    assert not (tmp_path / "cut" / RESULT).exists()
    again, reporter = job(work, tmp_path / "cut", resume=True)
    assert len(reporter.losses) == 3
    for name, value in whole.estimate.items():
        np.testing.assert_array_equal(again.estimate[name].value, value.value, err_msg=name)
    np.testing.assert_array_equal(again.diagnostics["loss"], whole.diagnostics["loss"])


def test_checkpoint_of_another_configuration_is_refused(work, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        job(work, tmp_path, stop_after=2)
    with pytest.raises(InputError, match=r"belongs to another run .*solver"):
        job(work, tmp_path, resume=True, overrides=["solver.batch=16"])


def test_damaged_checkpoint_is_refused(work, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        job(work, tmp_path, stop_after=2)
    raw = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(raw[: len(raw) // 2])
    with pytest.raises(InputError, match="without --resume"):
        job(work, tmp_path, resume=True)


def test_divergence_keeps_the_last_good_state(work, tmp_path):
    result, _ = job(work, tmp_path, overrides=["solver.rate={object: 1e30}"])
    assert not result.success
    assert "diverged" in result.status
    stored = read_result(tmp_path / RESULT)
    assert np.isfinite(stored.estimate["object_phase"].value).all()


def test_a_run_compiles_at_most_three_programs(work, tmp_path):
    code = f"""
import jax
jax.config.update("jax_enable_compilation_cache", False)
import jax.monitoring
count = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, *a, **k: count.append(name) if name == "/jax/core/compile/backend_compile_duration" else None)
from pathlib import Path
from stemjax.app.config import load_config
from stemjax.app.job import run_job
from stemjax.app.progress import LineReporter
import io
settings = load_config(Path({str(work / "job.yaml")!r}), ["refine.probe=after 4", "refine.positions=after 4"])
run_job(settings, Path({str(tmp_path)!r}), False, LineReporter(io.StringIO()))
print(len(count))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) <= 3, done.stdout


def test_result_does_not_depend_on_the_number_of_devices(work, tmp_path):
    assert len(jax.devices()) >= 2
    one, _ = job(work, tmp_path / "one")
    two, _ = job(work, tmp_path / "two", overrides=["solver.devices=2"])
    np.testing.assert_allclose(
        two.estimate["object_phase"].value, one.estimate["object_phase"].value, rtol=0, atol=1e-6
    )


def test_result_file_is_readable_without_stemjax(work, tmp_path):
    job(work, tmp_path, overrides=["solver.epochs=1"])
    with h5py.File(tmp_path / RESULT) as file:
        phase = file["estimate/object_phase"]
        assert phase.attrs["units"] == "rad"
        assert [str(d) for d in phase.attrs["dims"]] == ["slice", "y", "x"]
        assert file["estimate/probe"].ndim == 3
        assert file["estimate/position_x"].shape == (144,)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("probe.defocus='2 um'", "window"),
        ("data.crop={y: [0, 40]}", "beyond the scan"),
        ("data.bin=99", "larger than the detector"),
        ("refine.object=false", None),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(work, tmp_path, override, words):
    if words is None:
        override_list = ["refine={object: false}"]
        words = "nothing is free"
    else:
        override_list = [override]
    with pytest.raises(InputError, match=words):
        job(work, tmp_path, overrides=override_list)
    assert not Path(tmp_path, RESULT).exists()
