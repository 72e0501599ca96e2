"""Rules of the house that no single tool checks."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
AXES = {
    "beam",
    "probe",
    "shape",
    "signal",
    "radius",
    "pattern",
    "slice",
    "mode",
    "ny",
    "nx",
    "ky",
    "kx",
    "atom",
    "energy",
    "draw",
    "axis",
    "batch",
    "step",
    "steps",
}
UNITS = {"Å", "mrad", "rad", "eV", "electron", "degree", "pixel", "count", "pA", "µs", "s", "K", "V", "T"}


def test_every_name_is_defined():
    # The linter's own rule is off, because it takes the axes and units in annotations for names.
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821", "--output-format", "json"]
    found = json.loads(subprocess.run([*command, "stemjax"], cwd=ROOT, capture_output=True, text=True).stdout)
    names = {(re.search(r"`(.+?)`", f["message"])[1], f["filename"], f["location"]["row"]) for f in found}
    known = AXES | UNITS | {"point", "node", "power", "member", "chunk", "k", "column", "place"}
    assert not [n for n in names if n[0] not in known]


def test_importing_sets_no_flag_and_adds_no_heavy_package():
    code = """
import sys, jax
before = dict(jax.config.values)
import stemjax
assert dict(jax.config.values) == before
heavy = {"matplotlib", "h5py", "ase", "numpyro", "scipy", "pydantic", "typer", "rsciio", "beartype"} & set(sys.modules)
assert not heavy, heavy
"""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=environment)


def test_every_public_name_exists_and_is_documented():
    import stemjax

    for name in stemjax.__all__:
        assert (getattr(stemjax, name).__doc__ or "").strip(), name


@pytest.mark.parametrize("path", sorted(ROOT.glob("stemjax/**/*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_files_stay_small(path):
    assert len(path.read_text().splitlines()) <= 400, "a file has grown past its purpose; divide it"


def test_no_file_holds_a_path_of_a_machine_or_executes_data():
    forbidden = re.compile(r"/work/|/root/|/home/\w|pickle\.load|\beval\(|yaml\.load\(|allow_pickle=True")
    for path in [*ROOT.glob("stemjax/**/*.py"), *ROOT.glob("configs/**/*.[jxy]*"), *ROOT.glob("docs/**/*.md")]:
        hit = forbidden.search(path.read_text())
        assert hit is None, f"{path.relative_to(ROOT)}: {hit[0]}"
