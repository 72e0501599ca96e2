"""A result comes back as it went in, and stands open to plain h5py."""

import json
import os

import h5py
import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemjax.core.errors import InputError
from stemjax.inference.result import Named, Result
from stemjax.io import read_result, write_result

KEEP = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def same(a, b):
    """Equality of nested values, types included."""
    assert type(a) is type(b), (a, b)
    if isinstance(a, Named):
        assert (a.units, a.dims, a.long_name, a.sampling_units) == (b.units, b.dims, b.long_name, b.sampling_units)
        assert a.sampling == b.sampling
        same(np.asarray(a.value), np.asarray(b.value))
    elif isinstance(a, dict):
        assert list(a) == list(b) or set(a) == set(b)
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype or a.dtype.kind == b.dtype.kind == "U"
        np.testing.assert_array_equal(a, b)
    else:
        np.testing.assert_equal(a, b)


def example() -> Result:
    rng = np.random.default_rng(1)
    phase = Named(rng.normal(size=(3, 90, 80)), "rad", ("slice", "y", "x"), "Phase", (10.0, 0.1, 0.1))
    probe = Named(
        (rng.normal(size=(2, 8, 8)) + 1j * rng.normal(size=(2, 8, 8))).astype(np.complex64),
        "1",
        ("mode", "ky", "kx"),
        "Probe",
        (1.0, 0.02, 0.02),
        "1/Å",
    )
    c10 = Named(np.asarray(-80.5), "Å", (), "C10")
    return Result(
        "ptychography",
        estimate={"specimen.phase": phase, "probe": probe, "probe.aberrations.C10": c10},
        uncertainty={"probe.aberrations.C10": Named(np.asarray(0.5), "Å", (), "C10")},
        samples={"probe.aberrations.C10": Named(rng.normal(size=(50,)), "Å", ("draw",), "C10")},
        diagnostics={
            "loss": np.geomspace(1, 1e-3, 20),
            "converged": True,
            "count": 12,
            "huge": 2**80,
            "rate": np.float32(0.1),
            "wave": 1 + 2j,
            "nothing": None,
            "note": "ended at Å\nline two",
            "empty": {},
            "shape": (64, 64),
            "list": [1, "two", None, 3.5, [True]],
            "mixed": (np.arange(3), "text", {"deep": (1.0,)}),
            "initial": {"phase": phase, "a/b": 1.0, "100%": 2.0},
            "names": np.array(["Mo", "Sé"]),
            "flags": np.array([True, False]),
            "none": np.zeros((0, 4)),
        },
        status="reached the tolerance after 20 epochs",
        success=False,
        config={"data": {"path": "a.h5", "step": 0.5}, "free": ["phase"], "shape": (2, 3), "off": None, "inf": np.inf},
        provenance={
            "stemjax": "0.1",
            "seed": 7,
            "sha256": "ab" * 32,
            "started": "2026-01-01T00:00:00Z",
            "commit": None,
        },
    )


def test_round_trip_of_everything(tmp_path):
    result = example()
    write_result(tmp_path / "r.h5", result)
    back = read_result(tmp_path / "r.h5")
    for field in ("problem", "estimate", "uncertainty", "samples", "diagnostics", "status", "success"):
        same(getattr(result, field), getattr(back, field))
    same(result.config, back.config)
    same(result.provenance, back.provenance)


def test_order_of_nested_diagnostics_is_kept(tmp_path):
    write_result(tmp_path / "r.h5", Result("p", {}, diagnostics={"z": 1, "a": {"q": 1, "b": 2}}))
    back = read_result(tmp_path / "r.h5")
    assert list(back.diagnostics) == ["z", "a"]
    assert list(back.diagnostics["a"]) == ["q", "b"]


def test_plain_h5py_reads_it(tmp_path):
    """The promise of docs/file-format.md, with nothing of the package."""
    result = example()
    write_result(tmp_path / "r.h5", result)
    with h5py.File(tmp_path / "r.h5") as file:
        assert file.attrs["format"] == "stemjax-result"
        assert file.attrs["version"] == "1"
        assert file.attrs["problem"] == "ptychography"
        phase = file["estimate/specimen.phase"]
        np.testing.assert_array_equal(phase[...], result.estimate["specimen.phase"].value)
        assert phase.attrs["units"] == "rad"
        assert list(phase.attrs["dims"]) == ["slice", "y", "x"]
        assert phase.attrs["long_name"] == "Phase"
        np.testing.assert_allclose(phase.attrs["sampling"], (10.0, 0.1, 0.1))
        assert file["estimate/probe"].dtype == np.complex64
        config = json.loads(file["config"].asstr()[()], parse_constant=pytest.fail)
        assert config["data"] == {"path": "a.h5", "step": 0.5}
        assert file["provenance"].attrs["seed"] == 7


plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
values = st.recursive(
    plain
    | st.complex_numbers(allow_nan=False)
    | arrays.arrays(
        st.sampled_from(["f4", "f8", "c8", "c16", "u1", "u2", "i8", "?"]), arrays.array_shapes(min_dims=0, min_side=0)
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=6).filter(lambda k: k.isprintable()), inner, max_size=3)
    ),
    max_leaves=8,
)


@KEEP
@given(diagnostics=st.dictionaries(st.text(max_size=6).filter(lambda k: k.isprintable()), values, max_size=4))
def test_round_trip_of_drawn_diagnostics(tmp_path, diagnostics):
    write_result(tmp_path / "r.h5", Result("p", {}, diagnostics=diagnostics))
    same(diagnostics, dict(read_result(tmp_path / "r.h5").diagnostics))


@pytest.mark.parametrize(
    ("value", "words"),
    [(object(), "type object"), ({1: 2.0}, "name is a int"), (np.array([object()]), "array of object")],
)
def test_values_that_no_file_holds_are_refused(tmp_path, value, words):
    write_result(tmp_path / "r.h5", Result("old", {}))
    with pytest.raises(InputError, match=words):
        write_result(tmp_path / "r.h5", Result("p", {}, diagnostics={"x": value}))
    assert read_result(tmp_path / "r.h5").problem == "old"
    assert os.listdir(tmp_path) == ["r.h5"]


def test_arrays_with_unnamed_axes_are_refused(tmp_path):
    with pytest.raises(InputError, match="name every axis"):
        write_result(tmp_path / "r.h5", Result("p", {"phase": Named(np.zeros((2, 2)), "rad", ("y",), "Phase")}))
    with pytest.raises(InputError, match="wrap the array"):
        write_result(tmp_path / "r.h5", Result("p", {"phase": np.zeros((2, 2))}))


def test_other_files_are_refused(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(InputError, match="no attribute `format`"):
        read_result(tmp_path / "other.h5")
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(InputError, match="no HDF5 file"):
        read_result(tmp_path / "text.h5")
    with pytest.raises(InputError, match="no file"):
        read_result(tmp_path / "none.h5")
    write_result(tmp_path / "r.h5", example())
    with h5py.File(tmp_path / "r.h5", "a") as file:
        file.attrs["version"] = "9"
    with pytest.raises(InputError, match="update stemjax"):
        read_result(tmp_path / "r.h5")


def test_damaged_bytes_in_an_array_are_found(tmp_path):
    """Packed arrays carry a checksum: a flipped byte inside the data is an error, not a wrong number."""
    path = tmp_path / "r.h5"
    phase = Named(np.random.default_rng(0).normal(size=(200, 200)), "rad", ("y", "x"), "Phase")
    write_result(path, Result("p", {"phase": phase}))
    with h5py.File(path) as file:
        place = file["estimate/phase"].id.get_chunk_info(0)
    data = bytearray(path.read_bytes())
    data[place.byte_offset + place.size // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(InputError, match="corrupt"):
        read_result(path)
