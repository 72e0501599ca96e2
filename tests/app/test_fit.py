"""`problem: fit`: from a configuration to values with error bars, and inputs that cannot be fitted."""

from pathlib import Path

import numpy as np
import pytest

from stemjax.app.config import load_config
from stemjax.app.fit.run import bounds_of, read_fit, run_fit
from stemjax.app.main import main
from stemjax.app.progress import LineReporter
from stemjax.app.simulation.run import simulate
from stemjax.core.errors import InputError
from stemjax.inference.problem import start
from stemjax.io import read_result

EXPERIMENT = """
problem: simulation
specimen: {builder: graphene, size: [10 Å, 10 Å]}
potential: {sampling: 0.33 Å, slice_thickness: 5 Å}
probe: {energy: 80 keV, semiangle: 25 mrad, defocus: -4 nm}
scan: {shape: [3, 3], step: 0.9 Å}
detector: {pixelated: {}, annular: {ADF: [30, 42]}, moments: 40 mrad}
dose: {per_pattern: 2e4 electrons}
devices: 1
"""
FIT = """
problem: fit
simulation: experiment.yaml
devices: 1
"""
LENS = "free: {probe.aberrations.C10: 30 Å, probe.aberrations.C12*: 20 Å}\n"


def settings(tmp_path, text, experiment=EXPERIMENT):
    (tmp_path / "experiment.yaml").write_text(experiment)
    (tmp_path / "fit.yaml").write_text(FIT + text)
    return load_config(tmp_path / "fit.yaml")


class Quiet(LineReporter):
    def __init__(self):
        self.lines = []

    def message(self, text, **fields):
        self.lines.append(text)

    def finish(self, text, **fields):
        self.lines.append(text)


def fitted(tmp_path, text):
    folder = tmp_path / "out"
    folder.mkdir(exist_ok=True)
    return run_fit(settings(tmp_path, text), folder, Quiet()), folder


def test_a_lens_is_found_with_its_error_bar_and_written(tmp_path):
    text = "truth: {probe.aberrations.C10: 55 Å, probe.aberrations.C12a: {add: 6 Å}}\n" + LENS
    result, folder = fitted(tmp_path, text)
    assert result.success
    found, spread = result.estimate["probe.aberrations.C10"], result.uncertainty["probe.aberrations.C10"]
    assert found.units == spread.units == "Å"
    assert 0.05 < float(spread.value) < 5.0
    assert abs(float(found.value) - 55.0) < 4.0 * float(spread.value)
    astigmatism = result.estimate["probe.aberrations.C12a"].value, result.uncertainty["probe.aberrations.C12a"].value
    assert abs(float(astigmatism[0]) - 6.0) < 4.0 * float(astigmatism[1])
    back = read_result(folder / "result.h5")
    assert float(back.uncertainty["probe.aberrations.C10"].value) == float(spread.value)
    assert float(back.diagnostics["truth"]["probe.aberrations.C10"].value) == 55.0
    assert back.samples["probe.aberrations.C10"].value.shape == (500,)
    assert (folder / "report" / "error_bars.png").is_file()
    with pytest.raises(InputError, match="--force"):
        run_fit(settings(tmp_path, text), folder, Quiet())


def test_a_file_that_was_simulated_is_fitted(tmp_path):
    (tmp_path / "experiment.yaml").write_text(EXPERIMENT)
    moved = EXPERIMENT.replace("defocus: -4 nm", "defocus: -5 nm")
    (tmp_path / "truth.yaml").write_text(moved)
    simulate(load_config(tmp_path / "truth.yaml"), tmp_path / "data.h5")
    for signals in ("[patterns]", "[ADF]"):
        fit = read_fit(settings(tmp_path, f"data: data.h5\nsignals: {signals}\n{LENS}"))
        assert fit.truth is None
        # In the order of the scan and of the detector: what is read is what the truth expects, within its noise.
        truth = fit.problem.experiment.replace(probe=fit.problem.experiment.probe.replace(
            aberrations=fit.problem.experiment.probe.aberrations.replace(C10=np.array(50.0))))  # fmt: skip
        expected, measured = fit.problem.forward(truth), fit.problem.measurement
        if signals == "[ADF]":
            expected, measured = expected["ADF"], measured["ADF"]
        expected, counts = np.asarray(expected), np.asarray(measured.counts)
        assert counts.shape == expected.shape
        bright = expected > 0.5
        share = ((counts - expected)[bright] ** 2 / expected[bright]).mean()
        # The variance of (n - µ)²/µ is 2 + 1/µ.
        assert share == pytest.approx(1.0, abs=5.0 * np.sqrt(4.0 / bright.sum()))
        assert counts[~bright].sum() == pytest.approx(expected[~bright].sum(), abs=5.0 * np.sqrt(counts.sum()))


def test_bounds_are_told_without_a_fit(tmp_path):
    lines = bounds_of(settings(tmp_path, LENS))
    assert any(line.startswith("probe.aberrations.C10") and "±" in line for line in lines)


def test_beliefs_become_priors(tmp_path):
    text = """
free:
  probe.aberrations.C10: 10 nm
  probe.semiangle: 2 %
  dose: flat
  detectors.ADF.inner: {uniform: [25, 40 mrad]}
  scan.positions: 0.1 Å
signals: [ADF]
"""
    problem = read_fit(settings(tmp_path, text)).problem
    priors = problem.priors
    assert float(priors["probe.aberrations.C10"].scale) == 100.0
    assert type(priors["probe.semiangle"]).__name__ == "LogNormal"
    assert float(priors["probe.semiangle"].scale) == pytest.approx(0.02)
    assert type(priors["dose"]).__name__ == "Positive"
    assert (float(priors["detectors.ADF.inner"].low), float(priors["detectors.ADF.inner"].high)) == (25.0, 40.0)
    assert start(problem)["scan.positions"].shape == (9, 2)
    assert [well.path for well in problem.wells] == ["probe.aberrations.C10"]


def test_atoms_can_be_free(tmp_path):
    problem = read_fit(settings(tmp_path, "free: {specimen.structure.positions: 0.05 Å}\n")).problem
    assert problem.free == ("specimen.structure.positions",)
    assert problem.experiment.specimen.structure.positions.shape[1] == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("free: {probe.abberations.C10: 3 Å}", "free: no parameter at path .*nearest: 'probe.aberrations.C10'"),
        ("free: {probe.aberrations.C10: 3 mrad}", "free.probe.aberrations.C10: '3 mrad' is an angle, not a length"),
        ("free: {probe.aberrations.C12a: 5 %}", "free.probe.aberrations.C12a: the first guess is zero there"),
        ("free: {probe.aberrations.C10: -5 Å}", "free.probe.aberrations.C10: a spread of -5; give a positive one"),
        ("free: {probe.semiangle: {uniform: [30, 20]}}", r"free.probe.semiangle: uniform: \[30, 20\] is empty"),
        ("truth: {dose: 3 Å}\n" + LENS, "truth.dose: '3 Å' is a length, not a number of electrons"),
        ("truth: {doze: 3}\n" + LENS, "truth: no parameter at path 'doze'; nearest: 'dose'"),
        ("signals: [HAADF]\n" + LENS, "signals: 'HAADF' is no signal .*ADF"),
        ("signals: [CoM]\n" + LENS, "signals: 'CoM' is no signal of the simulation that counts electrons"),
    ],
)
def test_what_cannot_be_fitted_is_refused(tmp_path, text, words):
    with pytest.raises(InputError, match=words):
        read_fit(settings(tmp_path, text))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("dose: {per_pattern: 2e4 electrons}", ""), "a fit needs electrons; add 'dose"),
        (("devices: 1", "series: {defoci: [0, 10]}"), "drop series"),
    ],
)
def test_experiments_that_cannot_be_fitted_are_refused(tmp_path, change, words):
    with pytest.raises(InputError, match=words):
        read_fit(settings(tmp_path, LENS, EXPERIMENT.replace(*change)))


def test_other_configurations_are_sent_to_their_command(tmp_path, capsys):
    (tmp_path / "experiment.yaml").write_text(EXPERIMENT)
    assert main(["bounds", str(tmp_path / "experiment.yaml")]) == 2
    assert "no fit; give a configuration with problem: fit" in capsys.readouterr().err
    (tmp_path / "fit.yaml").write_text(FIT.replace("experiment", "fit") + LENS)
    assert main(["check", str(tmp_path / "fit.yaml")]) == 2
    assert "is no simulation" in capsys.readouterr().err


OTHERWISE = [
    ("shape: [3, 3]", "shape: [3, 4]", "has 3 × 4 positions, the simulation's scan 3 × 3"),
    ("shape: [3, 3]", "shape: [1, 9]", "has 1 × 9 positions, the simulation's scan 3 × 3"),
    ("energy: 80 keV", "energy: 60 keV", "the file says energy 60000 eV, the simulation 80000 eV"),
    ("semiangle: 25", "semiangle: 24", "the file says semi-angle"),
    ("step: ", "step: 1", "the file says step"),
    ("per_pattern: ", "per_pattern: 1", "the file says electrons a pattern"),
]


@pytest.mark.parametrize(("ours", "theirs", "message"), OTHERWISE)
def test_data_that_were_taken_otherwise_are_refused(tmp_path, ours, theirs, message):
    assert ours in EXPERIMENT
    (tmp_path / "truth.yaml").write_text(EXPERIMENT.replace(ours, theirs))
    simulate(load_config(tmp_path / "truth.yaml"), tmp_path / "data.h5")
    with pytest.raises(InputError, match=message):
        read_fit(settings(tmp_path, "data: data.h5\n" + LENS))


def test_what_is_free_may_differ_from_the_file(tmp_path):
    (tmp_path / "truth.yaml").write_text(EXPERIMENT.replace("per_pattern: ", "per_pattern: 1"))
    simulate(load_config(tmp_path / "truth.yaml"), tmp_path / "data.h5")
    assert "dose" in read_fit(settings(tmp_path, "data: data.h5\nfree: {dose: flat}\n")).problem.free


def test_the_ready_configurations_name_a_ready_experiment():
    folder = Path(__file__).parents[2] / "configs"
    for path in folder.glob("fit-m*.yaml"):
        assert read_fit(load_config(path, ["devices=1"])).problem.free
