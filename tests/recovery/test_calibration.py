"""Error bars of every named problem, over truths drawn from what it believes: they hold them as often as they say."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.calibration import CASES, TRUTHS, calibration
from stemjax.inference.trust.coverage import LEVELS

ROOT = Path(__file__).resolve().parents[2]

QUICK = {"columns": 25, "drift": 20, "aberrations": 12, "ptychography": 12}
"""Truths in a quick run. The chance of a false alarm is one in a hundred however few; that of seeing a fault is not:
so few truths show gross faults only, such as error bars of half their size. The slow form and the recorded tables see
five parts in a hundred."""

BIAS = {("ptychography", "probe.aberrations.C10"): 0.25, ("drift", "columns.width"): 0.2}
"""Biases that are known, in standard deviations: the most probable value is not the mean, neither of the defocus of a
blind problem nor of the width of columns whose jitter is unknown. Elsewhere a tenth is allowed: heights are positive,
so their densities lean."""


def test_every_named_problem_has_a_calibration():
    folder = ROOT / "stemjax" / "problems"
    recipes = {path.stem for path in folder.glob("*.py") if "\ndef make_" in path.read_text()}
    recipes = {name for name in recipes if f"\ndef make_{name.rstrip('s')}" in (folder / f"{name}.py").read_text()}
    recipes |= {path.parent.name for path in folder.glob("*/__init__.py")}
    assert recipes <= set(CASES)
    assert set(QUICK) == set(CASES)


SLOWER = ("aberrations", "ptychography")
"""Problems whose quick run takes a quarter of a minute; the recorded tables would show gross faults as well."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOWER else n for n in CASES])
def test_error_bars_are_true(name):
    found = calibration(CASES[name], QUICK[name], seed=100)
    assert found.calibrated, found.verdict
    assert not found.failures


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_error_bars_are_true_over_many_truths(name):
    found = calibration(CASES[name], TRUTHS, seed=200)
    assert len(found.failures) <= 0.02 * TRUTHS
    for quantity in found.quantities.values():
        bias, error = quantity.bias
        assert abs(bias) < max(4.0 * error, BIAS.get((name, quantity.name), 0.1)), quantity
        # One fit in 500 is 0.2 %: a single number's scatter is known to 3 %, its 95 % coverage to 1 %.
        scatter, error = quantity.scatter
        assert abs(scatter - 1.0) < max(0.05, 3.0 * error), quantity
        share, error = quantity.coverage(0.95)
        assert abs(share - 0.95) < max(0.02, 3.0 * error), quantity
        assert quantity.p_value > 0.01 / len(found.quantities)


def test_tables_of_all_problems_are_kept():
    record = json.loads((ROOT / "benchmarks" / "results" / "calibration.json").read_text())
    assert set(record["cases"]) == set(CASES)
    for case in record["cases"].values():
        for run in case["runs"]:
            assert run["fits"] + len(run["failures"]) == TRUTHS
            for quantity in run["quantities"].values():
                assert set(quantity["coverage"]) == {f"{level:g}" for level in LEVELS}
                assert np.isfinite([quantity["z_std"], quantity["chi_square_p"]]).all()


@pytest.mark.parametrize("name", CASES)
def test_recorded_error_bars_are_true_over_all_repeats(name):
    runs = json.loads((ROOT / "benchmarks" / "results" / "calibration.json").read_text())["cases"][name]["runs"]
    assert sum(len(run["failures"]) for run in runs) <= 0.02 * TRUTHS * len(runs)

    def pooled(figures):
        """Mean over repeats of (value, error) pairs, and its error."""
        return np.mean([v for v, _ in figures]), np.sqrt(np.sum([e**2 for _, e in figures])) / len(figures)

    for quantity in runs[0]["quantities"]:
        found = [run["quantities"][quantity] for run in runs]
        bias, error = pooled([(q["z_mean"], q["z_mean_error"]) for q in found])
        assert abs(bias) < max(4.0 * error, BIAS.get((name, quantity), 0.1)), (quantity, bias, error)
        scatter, error = pooled([(q["z_std"], q["z_std_error"]) for q in found])
        assert abs(scatter - 1.0) < max(0.05, 3.0 * error), (quantity, scatter)
        share, error = pooled([(q["coverage"]["0.95"], q["coverage_error"]["0.95"]) for q in found])
        assert abs(share - 0.95) < max(0.02, 3.0 * error), (quantity, share)
        assert min(q["chi_square_p"] for q in found) > 0.01 / len(found) / len(runs[0]["quantities"]), quantity
