"""Ptychography of data that another program simulated, against the truth that came with them."""

import h5py
import numpy as np
import pytest

from stemjax.app.config import load_config
from stemjax.app.job import run_job
from stemjax.app.progress import LineReporter
from stemjax.metrics.phase_error import phase_error
from stemjax.metrics.truth import scanned_region

CONFIG = """
problem: ptychography
data: {{file: {file}, crop: {{y: [16, 48], x: [16, 48]}}}}
probe: {{defocus: {defocus}}}
refine: {{defocus: true}}
solver: {{epochs: 20}}
output: {{report: false}}
"""


@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.parametrize("defocus", ["-60 Å", "-100 Å"])
def test_monolayer_at_low_dose_comes_out_at_its_full_phase(data_folder, tmp_path, defocus):
    import io

    folder = data_folder / "sim-mos2-abtem"
    (tmp_path / "job.yaml").write_text(CONFIG.format(file=folder / "mos2.h5", defocus=defocus))
    result = run_job(load_config(tmp_path / "job.yaml"), tmp_path / "out", False, LineReporter(io.StringIO()))
    with h5py.File(folder / "mos2_truth.h5") as file:
        truth, sampling = file["phase"][()].astype(float), float(file.attrs["phase_sampling_A"])
        origin = float(file.attrs["scan_origin_A"]) + 16 * 0.5
    positions = np.stack([result.estimate[f"position_{axis}"].value for axis in "yx"], axis=1)
    phase = result.estimate["object_phase"]
    image, pixel = phase.value.sum(axis=0), phase.sampling[-2:]
    error = phase_error(
        image,
        truth,
        sampling=pixel,
        true_sampling=(sampling, sampling),
        mask=scanned_region(image.shape, pixel, positions),
        near=tuple(positions.min(axis=0) - origin),
        max_shift=1.0,
    )
    # 1e4 electrons a pattern; the truth is the projected phase of a specimen that is 3 Å thick.
    assert abs(float(result.estimate["aberration_C10"].value) - 80.0) < 6.0
    assert error.correlation > 0.95
    assert 0.85 < error.slope < 1.1
