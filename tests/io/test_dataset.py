"""The file of everything: round trips, old and later versions, streams, the truth apart, what is refused."""

import os
from dataclasses import replace

import h5py
import numpy as np
import pytest
from scipy import constants

from stemjax.core.errors import InputError
from stemjax.forward.recording import Conditions, Dataset, RecordedImage, RecordedSpectrum, Recording, electrons
from stemjax.inference.result import Named
from stemjax.io import (
    PatternStream,
    describe_file,
    read_dataset,
    read_recording,
    read_truth,
    write_dataset,
    write_emd,
    write_hyperspy,
    write_recording,
)
from stemjax.io.hdf5_native import UNITS

SHAPE = (3, 4, 8, 6)


def conditions(random) -> Conditions:
    """Every condition, each with a value of its own."""
    return Conditions(
        beam_current=10.0,
        dose=62.4,
        dwell_time=1e-6,
        flyback_time=2e-3,
        tilt=(1.5, -2.5),
        aberrations={"C10": -80.0, "C12a": 3.0, "C30": 1e4},
        source_size=(0.3, 0.25),
        chromatic=1.2e7,
        energy_spread=0.35,
        temperature=293.0,
        thickness=120.0,
        times=np.arange(12) * 1e-6,
        positions=random.random((12, 2)),
        vacuum_probe=random.random(SHAPE[2:]),
        title="Ein Versuch, 80 kV",
        sample="MoS₂",
        instrument="none",
        authors="N. N.",
        date="2026-11-24T18:30:00+01:00",
        licence="CC-BY-4.0",
    )


@pytest.fixture
def dataset() -> Dataset:
    random = np.random.default_rng(0)
    counts = random.poisson(3.0, SHAPE).astype(np.uint16)
    recording = Recording(
        counts,
        80e3,
        (0.5, 0.25),
        (1.6, 1.7),
        21.4,
        80.0,
        -35.0,
        1.0,
        {"simulated": True},
        conditions=conditions(random),
    )
    images = {
        "haadf": RecordedImage(random.random((3, 4)), (0.5, 0.25), (60.0, 200.0), "electron", "HAADF"),
        "series/1": RecordedImage(random.random((2, 3, 4)).astype(np.float32), (0.5, 0.25), units="1"),
    }
    spectra = {
        "core loss": RecordedSpectrum(random.random((3, 4, 50)), 0.5, 280.0, (0.5, 0.25), 30.0),
        "zero loss": RecordedSpectrum(random.poisson(9.0, 20).astype(np.uint32), 0.05, -0.5),
    }
    return Dataset(recording, images, spectra)


def assert_same(found, wanted):
    """Two recordings, images or spectra agree to the last bit, types included."""
    assert type(found) is type(wanted)
    for name in wanted.__dataclass_fields__:
        a, b = getattr(found, name), getattr(wanted, name)
        if name == "source":
            continue
        if isinstance(b, np.ndarray):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
        elif isinstance(b, Conditions):
            assert_same(a, b)
        else:
            assert a == b, name


def test_everything_comes_back(tmp_path, dataset):
    assert write_dataset(tmp_path / "a.h5", dataset) is None
    found = read_dataset(tmp_path / "a.h5")
    assert_same(found.recording, dataset.recording)
    for kind in ("images", "spectra"):
        assert list(getattr(found, kind)) == sorted(getattr(dataset, kind))
        for name, signal in getattr(dataset, kind).items():
            assert_same(getattr(found, kind)[name], signal)
    assert_same(read_recording(tmp_path / "a.h5"), dataset.recording)
    lazy = read_dataset(tmp_path / "a.h5", lazy=True).recording.counts
    np.testing.assert_array_equal(lazy[1, 2], dataset.recording.counts[1, 2])


def test_every_condition_is_covered_by_these_tests():
    told = conditions(np.random.default_rng(0)).told()
    assert set(told) == set(Conditions.__dataclass_fields__)


def test_every_number_has_a_unit_in_the_file(tmp_path, dataset):
    write_dataset(tmp_path / "a.h5", dataset)
    with h5py.File(tmp_path / "a.h5") as file:
        found = file["conditions"].attrs
        assert (found["beam_current"], found["beam_current_units"]) == (10.0, "pA")
        assert (found["dwell_time"], found["dwell_time_units"]) == (1e-6, "s")
        assert (list(found["tilt"]), found["tilt_units"]) == ([1.5, -2.5], "mrad")
        lens = file["conditions/aberrations"].attrs
        assert (lens["C12a"], lens["C12a_units"]) == (3.0, "Å")
        assert file["conditions/times"].attrs["units"] == "s"
        assert file["vacuum_probe"].shape == SHAPE[2:]
        ring = file["images/haadf"].attrs
        assert (list(ring["detector_angles"]), ring["detector_angles_units"]) == ([60.0, 200.0], "mrad")
        spectrum = file["spectra/core loss"].attrs
        assert (spectrum["dispersion"], spectrum["dispersion_units"]) == (0.5, "eV")
        assert (spectrum["energy_offset"], spectrum["collection_semiangle"]) == (280.0, 30.0)
        assert list(spectrum["dims"]) == ["y", "x", "energy"]
        assert list(spectrum["sampling_units"]) == ["Å", "Å", "eV"]
        for node in (file["conditions"], file["counts"], file["images/haadf"], file["spectra/core loss"]):
            texts = {"units", "dims", "kind", "long_name", "sampling", "sampling_units", "offset"}
            texts |= {"title", "sample", "instrument", "authors", "date", "licence"}
            numbers = [n for n in node.attrs if not n.endswith("_units") and n not in texts]
            assert all(f"{n}_units" in node.attrs for n in numbers)


def test_files_of_the_first_release_are_read_as_before(tmp_path, dataset):
    """The layout as it was before there were conditions: counts with attributes, and metadata."""
    counts = dataset.recording.counts
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file.attrs["format"], file.attrs["version"] = "stemjax-4d", "1"
        file["counts"] = counts
        file["counts"].attrs.update({"energy": 80e3, "energy_units": "eV", "scan_step": (0.5, 0.25)})
        file["metadata"] = '{"a": 1}'
    found = read_recording(tmp_path / "old.h5")
    np.testing.assert_array_equal(found.counts, counts)
    assert (found.energy, found.scan_step, found.metadata) == (80e3, (0.5, 0.25), {"a": 1})
    assert found.conditions == Conditions()
    assert read_dataset(tmp_path / "old.h5").images == {}


def test_later_versions(tmp_path, dataset):
    """What only adds is read, entries that are not known are passed over; what changes the meaning is refused."""
    path = tmp_path / "a.h5"
    write_dataset(path, dataset)
    with h5py.File(path, "a") as file:
        file.attrs["version"] = "1.7"
        file["conditions"].attrs["colour"] = "blue"
        file["holograms/first"] = np.zeros(3)
        file["images/haadf"].attrs["mood"] = 3
    assert_same(read_dataset(path).recording, dataset.recording)
    assert_same(read_recording(path), dataset.recording)
    with h5py.File(path, "a") as file:
        file.attrs["version"] = "2"
    for read in (read_recording, read_dataset):
        with pytest.raises(InputError, match="version 2 of stemjax-4d; this stemjax reads 1: update"):
            read(path)


def test_images_alone_need_no_patterns(tmp_path, dataset):
    path = tmp_path / "a.h5"
    alone = replace(dataset, recording=replace(dataset.recording, counts=Recording().counts, detector_sampling=None))
    write_dataset(path, replace(alone, recording=replace(alone.recording, conditions=Conditions(dose=3.0))))
    found = read_dataset(path)
    assert found.recording.counts.size == 0
    assert (found.recording.energy, found.recording.semiangle, found.recording.conditions.dose) == (80e3, 21.4, 3.0)
    shown = describe_file(path)
    assert (shown["kind"], shown["optics"]["energy"]) == ("images", 80e3)
    assert shown["images"]["haadf"]["shape"] == [3, 4]
    with pytest.raises(InputError, match=r"no array under the key '/counts'; arrays in it: .*images/haadf"):
        read_recording(path)


def test_description_shows_conditions_and_signals(tmp_path, dataset):
    write_dataset(tmp_path / "a.h5", dataset, truth={"depth": Named(np.array(3.0), "Å", (), "d")}, truth_inside=True)
    shown = describe_file(tmp_path / "a.h5")
    assert shown["kind"] == "4d-stem"
    assert shown["conditions"]["beam_current"] == 10.0
    assert shown["condition_units"]["beam_current"] == "pA"
    assert shown["conditions"]["positions"] == "array 12 × 2"
    assert shown["images"]["haadf"]["detector_angles"] == [60.0, 200.0]
    assert shown["spectra"]["core loss"]["dispersion"] == 0.5
    assert shown["truth"] == ["depth"]
    assert set(UNITS) == set(shown["optics"])


def test_the_truth_is_kept_apart_unless_asked_for(tmp_path, dataset):
    truth = {"object_phase": Named(np.arange(6.0).reshape(2, 3), "rad", ("y", "x"), "Phase", (0.1, 0.1))}
    beside = write_dataset(tmp_path / "a.h5", dataset, truth=truth)
    assert beside == tmp_path / "a.truth.h5"
    with h5py.File(tmp_path / "a.h5") as file:
        assert "truth" not in file
    np.testing.assert_array_equal(read_truth(beside)["object_phase"].value, truth["object_phase"].value)
    with pytest.raises(InputError, match=r"holds no truth; look for a\.truth\.h5"):
        read_truth(tmp_path / "a.h5")
    assert write_dataset(tmp_path / "b.h5", dataset, truth=truth, truth_inside=True) is None
    found = read_truth(tmp_path / "b.h5")["object_phase"]
    assert (found.units, found.sampling) == ("rad", (0.1, 0.1))
    assert sorted(os.listdir(tmp_path)) == ["a.h5", "a.truth.h5", "b.h5"]


def parts(counts, sizes):
    """The patterns in blocks of some sizes, one after the other."""
    flat, start = counts.reshape(-1, *counts.shape[2:]), 0
    for size in sizes:
        yield flat[start : start + size]
        start += size


WRITERS = {
    "h5": lambda path, recording: write_recording(path, recording),
    "emd": lambda path, recording: write_emd(path, Dataset(recording)),
    "hspy": lambda path, recording: write_hyperspy(path, Dataset(recording)),
}


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize("sizes", [[12], [5, 5, 2], [1] * 12, [4, 8]])
def test_streams_of_blocks_are_the_array(tmp_path, dataset, ending, sizes):
    counts = dataset.recording.counts
    stream = PatternStream(parts(counts.astype(float), sizes), SHAPE, np.dtype("uint16"))
    WRITERS[ending](tmp_path / f"a.{ending}", Recording(stream, energy=80e3))
    found = read_recording(tmp_path / f"a.{ending}").counts
    np.testing.assert_array_equal(found, counts)
    assert found.dtype == np.uint16


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize(
    ("sizes", "factor", "message"),
    [
        ([5, 5], 1, r"hold 10 patterns, the scan \(3, 4\) has 12"),
        ([12, 4], 1, "hold more than the 12 patterns"),
        ([12], 1e4, "do not fit uint8; give a wider dtype"),
        ([12], -1.0, "do not fit uint8"),
    ],
)
def test_streams_that_do_not_fit_leave_nothing_behind(tmp_path, dataset, ending, sizes, factor, message):
    path = tmp_path / f"a.{ending}"
    path.write_text("old")
    counts = np.concatenate([dataset.recording.counts, dataset.recording.counts]) * factor
    with pytest.raises(InputError, match=message):
        WRITERS[ending](path, Recording(PatternStream(parts(counts, sizes), SHAPE, np.dtype("uint8"))))
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == [path.name]


def test_a_stream_is_never_in_memory_as_a_whole(tmp_path):
    """64 MB of patterns go through in blocks of 1 MB; the peak of what Python holds stays far below."""
    import tracemalloc

    shape = (64, 64, 64, 64)
    blocks = (np.full((64, 64, 64), n % 7, np.uint32) for n in range(64))
    tracemalloc.start()
    write_recording(tmp_path / "a.h5", Recording(PatternStream(blocks, shape, np.dtype("uint32"))))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6
    assert read_recording(tmp_path / "a.h5", lazy=True).counts[63, 0].max() == 0


@pytest.mark.parametrize("ending", WRITERS)
def test_what_cannot_be_written_is_said(tmp_path, dataset, ending):
    with pytest.raises(InputError, match="there is no folder"):
        WRITERS[ending](tmp_path / "none" / f"a.{ending}", dataset.recording)


@pytest.mark.parametrize("ending", WRITERS)
def test_a_full_disk_leaves_the_old_file(tmp_path, dataset, monkeypatch, ending):
    path = tmp_path / f"a.{ending}"
    path.write_text("old")

    def full(descriptor, data):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(InputError, match="No space left"):
        WRITERS[ending](path, dataset.recording)
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == [path.name]


def test_electrons_are_current_times_time():
    assert electrons(1.0, 1.0) == pytest.approx(1e-12 / constants.e, rel=1e-9)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"dose": 100.0, "beam_current": 10.0, "dwell_time": 1e-6}, "62.4 electron; correct one"),
        ({"dwell_time": -1.0}, r"dwell_time -1 s; give it in s"),
        ({"dwell_time": 1e6}, "10 µs is 1e-5"),
        ({"chromatic": 1e12}, "1 mm is 1e7 Å"),
        ({"aberrations": {"C11": 1.0}}, "no aberration 'C11'; nearest: 'C1"),
        ({"aberrations": {"C10": np.nan}}, "C10 is nan"),
        ({"times": np.zeros(3)}, r"times of shape \(3,\); wanted \(12,\)"),
        ({"positions": np.zeros((12, 3))}, r"wanted \(12, 2\)"),
        ({"positions": np.full((12, 2), np.inf)}, "not finite"),
        ({"vacuum_probe": np.zeros((6, 8))}, r"wanted that of a pattern, \(8, 6\)"),
    ],
)
def test_conditions_that_cannot_be_are_refused(tmp_path, dataset, entries, message):
    bad = replace(dataset, recording=replace(dataset.recording, conditions=Conditions(**entries)))
    for write in (write_dataset, write_emd, write_hyperspy):
        with pytest.raises(InputError, match=message):
            write(tmp_path / "a.h5", bad)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("signals", "message"),
    [
        ({"images": {"a": RecordedImage(np.zeros(3))}}, r"image 'a' of shape \(3,\)"),
        ({"images": {"a": RecordedImage(np.zeros((3, 3)), detector=(90.0, 20.0))}}, "from 90 to 20 mrad"),
        ({"spectra": {"a": RecordedSpectrum(np.zeros(3), 0.0)}}, "positive dispersion"),
        ({"spectra": {"a": RecordedSpectrum(np.zeros((1, 1, 1, 1, 1)), 1.0)}}, "energy last"),
    ],
)
def test_signals_that_cannot_be_are_refused(tmp_path, dataset, signals, message):
    for write in (write_dataset, write_emd, write_hyperspy):
        with pytest.raises(InputError, match=message):
            write(tmp_path / "a.h5", replace(dataset, **signals))
    assert os.listdir(tmp_path) == []


def test_other_files_are_no_datasets(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 2)))
    with pytest.raises(InputError, match="no HDF5 file"):
        read_dataset(tmp_path / "a.npy")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = 1.0
    with pytest.raises(InputError, match="format of another program"):
        read_dataset(tmp_path / "a.h5")
