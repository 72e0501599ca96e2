"""The programs in docs/file-format.md run, and its table of names is the one in the code."""

import re
import runpy
from pathlib import Path

import h5py
import numpy as np

from stemjax.forward.recording import CONDITION_UNITS
from stemjax.inference.result import Named, Result
from stemjax.io import read_recording, write_result
from stemjax.io.hdf5_native import UNITS
from stemjax.io.optics_names import SYNONYMS, squeezed

TEXT = (Path(__file__).parents[2] / "docs" / "file-format.md").read_text()


def run(number, folder, **names):
    """Run one of the page's programs as a script."""
    program = folder / "program.py"
    program.write_text(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)[number])
    runpy.run_path(str(program), init_globals=names)


def test_reading_a_result_without_stemjax(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    phase = Named(np.zeros((3, 4)), "rad", ("y", "x"), "Phase")
    write_result("result.h5", Result("ptychography", {"specimen.phase": phase}, config={"seed": 7}))
    run(0, tmp_path)
    shown = capsys.readouterr().out
    assert "specimen.phase (3, 4) rad ['y', 'x'] Phase" in shown
    assert "{'seed': 7}" in shown


def test_writing_a_recording_without_stemjax(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    counts = np.random.default_rng(0).poisson(3.0, (3, 4, 8, 8))
    run(2, tmp_path, counts=counts)
    found = read_recording("scan.h5")
    np.testing.assert_array_equal(found.counts, counts)
    assert (found.energy, found.scan_step, found.semiangle) == (80e3, (0.5, 0.5), 21.4)
    assert found.source["format"] == "stemjax-4d"
    with h5py.File("scan.h5") as file:
        assert "metadata" not in file


def test_writing_a_session_and_handing_it_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run(1, tmp_path)
    assert "(4, 6, 32, 32) (60.0, 200.0) 280.0" in capsys.readouterr().out
    run(3, tmp_path)
    for name in ("session.h5", "session.emd", "session.hspy"):
        found = read_recording(name)
        assert (found.counts.shape, found.energy, found.conditions.beam_current) == ((4, 6, 32, 32), 80e3, 10.0)


def test_the_tables_of_the_layout_are_complete():
    page = TEXT[TEXT.index("## Data: ") : TEXT.index("## Data for other programs")]
    for name in (*UNITS, *CONDITION_UNITS):
        assert f"`{name}`" in page or f"/{name}`" in page, name


def test_the_table_of_names_is_complete():
    table = squeezed(TEXT[TEXT.index("### Names of the optics") : TEXT.index("### What is refused")])
    for _, _, names in SYNONYMS.values():
        for name in names:
            assert name in table, name
