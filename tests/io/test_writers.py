"""Files for other programs: the layouts they read, and round trips through this package's own readers.

That the programs themselves open them is checked by benchmarks/peers/open_files.py in their environments.
"""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from rsciio.hspy import file_reader

from stemjax.core.errors import InputError
from stemjax.forward.recording import Conditions, Dataset, RecordedImage, RecordedSpectrum, Recording
from stemjax.io import describe_file, read_recording, write_emd, write_hyperspy
from stemjax.optics.electron import wavelength


@pytest.fixture
def dataset() -> Dataset:
    random = np.random.default_rng(0)
    known = Conditions(
        beam_current=10.0,
        dwell_time=1e-6,
        tilt=(1.5, -2.5),
        aberrations={"C10": -80.0, "C12a": 3.0},
        source_size=(0.3, 0.3),
        times=np.arange(12) * 1e-6,
        positions=random.random((12, 2)),
        vacuum_probe=random.random((8, 6)),
        title="a test",
        sample="MoS₂",
        instrument="none",
        date="2026-11-24T18:30:00+01:00",
    )
    counts = random.poisson(3.0, (3, 4, 8, 6)).astype(np.uint16)
    recording = Recording(counts, 80e3, (0.5, 0.5), (1.6, 1.6), 21.4, 80.0, -35.0, 2.0, conditions=known)
    images = {"haadf": RecordedImage(random.random((3, 4)), (0.5, 0.5), (60.0, 200.0), long_name="HAADF")}
    spectra = {"core loss": RecordedSpectrum(random.random((3, 4, 50)), 0.5, 280.0, (0.5, 0.5), 30.0)}
    return Dataset(recording, images, spectra)


WRITERS = {"emd": write_emd, "hspy": write_hyperspy}


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize("square", [True, False])
@pytest.mark.parametrize("lazy", [True, False])
def test_optics_and_conditions_come_back(tmp_path, dataset, ending, square, lazy):
    wanted = dataset.recording
    if not square:
        wanted = replace(wanted, scan_step=(0.5, 0.25), detector_sampling=(1.6, 1.7))
    WRITERS[ending](tmp_path / f"a.{ending}", replace(dataset, recording=wanted))
    found = read_recording(tmp_path / f"a.{ending}", lazy=lazy)
    np.testing.assert_array_equal(found.counts, wanted.counts)
    for name in ("energy", "scan_step", "detector_sampling", "semiangle", "defocus", "scan_rotation"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), rel=1e-12), name
    assert found.electrons_per_count == 2.0
    told, expected = found.conditions.told(), wanted.conditions.told()
    assert set(told) == set(expected)
    for name, value in expected.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(told[name], value)
        else:
            assert told[name] == value
    assert describe_file(tmp_path / f"a.{ending}")["conditions"]["title"] == "a test"


@pytest.mark.parametrize("ending", WRITERS)
def test_what_is_not_known_stays_open(tmp_path, dataset, ending):
    WRITERS[ending](tmp_path / f"a.{ending}", Dataset(Recording(dataset.recording.counts)))
    found = read_recording(tmp_path / f"a.{ending}")
    for name in ("energy", "scan_step", "detector_sampling", "semiangle", "defocus", "scan_rotation"):
        assert getattr(found, name) is None, name
    assert found.conditions == Conditions()


def test_detector_without_an_energy_is_calibrated_in_mrad(tmp_path, dataset):
    write_emd(tmp_path / "a.emd", Dataset(replace(dataset.recording, energy=None)))
    assert read_recording(tmp_path / "a.emd").detector_sampling == (1.6, 1.6)


def typed_names(group):
    """Path and `type` of every entry of a group of metadata."""
    found = {}
    group.visititems(lambda name, node: found.update({name: str(node.attrs.get("type", ""))}))
    return found


def test_layout_of_emd(tmp_path, dataset):
    """As in files of py4DSTEM 0.14: attributes, axis vectors of two entries, metadata with types; rows first."""
    write_emd(tmp_path / "a.emd", dataset)
    with h5py.File(tmp_path / "a.emd") as file:
        assert (file.attrs["emd_group_type"], file.attrs["version_major"]) == ("file", 1)
        assert file["datacube_root"].attrs["python_class"] == "Root"
        cube = file["datacube_root/datacube"]
        assert (cube.attrs["emd_group_type"], cube.attrs["python_class"]) == ("array", "DataCube")
        np.testing.assert_allclose(cube["dim0"], [0.0, 0.5])
        np.testing.assert_allclose(cube["dim2"], [0.0, 1.6e-3 / wavelength(80e3)], rtol=1e-12)
        assert [cube[f"dim{n}"].attrs["name"] for n in range(4)] == ["Rx", "Ry", "Qx", "Qy"]
        calibration = file["datacube_root/metadatabundle/calibration"]
        assert calibration["Q_pixel_units"][()] == b"A^-1"
        assert calibration["QR_rotation"][()] == pytest.approx(np.radians(-35.0))
        types = typed_names(calibration)
        assert types["R_pixel_size"] == "number"
        assert (types["R_pixel_units"], types["QR_flip"], types["_target_paths"]) == (
            "string",
            "bool",
            "list_of_strings",
        )
        types = typed_names(cube["metadatabundle/stemjax"])
        assert (types["tilt"], types["times"], types["aberrations"]) == ("tuple", "array", "dict")
        haadf = cube["haadf"]
        assert haadf.attrs["python_class"] == "Array"
        np.testing.assert_array_equal(haadf["data"], dataset.images["haadf"].values)
        energy = cube["core loss/dim2"]
        assert (list(energy), energy.attrs["units"]) == ([280.0, 280.5], "eV")


@pytest.mark.realdata
def test_a_file_of_py4dstem_has_no_entry_that_ours_lacks(tmp_path, data_folder, dataset):
    """Paths, kinds of groups, `type` of metadata and names of axes of a file that py4DSTEM wrote are in ours."""

    def entries(path):
        found = {}
        keys = ("emd_group_type", "python_class", "type", "name")
        with h5py.File(path) as file:
            file.visititems(lambda name, node: found.update({name: [node.attrs.get(k) for k in keys]}))
        return found

    write_emd(tmp_path / "a.emd", dataset)
    ours = entries(tmp_path / "a.emd")
    theirs = entries(data_folder / "readers" / "emd__py4DSTEM_size2x3x4x5.h5")
    assert {name: ours.get(name) for name in theirs} == theirs


def test_a_data_cube_needs_patterns(tmp_path, dataset):
    with pytest.raises(InputError, match="no patterns for a data cube"):
        write_emd(tmp_path / "a.emd", replace(dataset, recording=Recording()))
    with pytest.raises(InputError, match="nothing to write"):
        write_hyperspy(tmp_path / "a.hspy", Dataset())


def by_title(path, lazy=False):
    """Signals of a file as the reader of hyperspy gives them, by title."""
    return {s["metadata"]["General"]["title"]: s for s in file_reader(str(path), lazy=lazy)}


def test_signals_of_hyperspy(tmp_path, dataset):
    write_hyperspy(tmp_path / "a.hspy", dataset)
    found = by_title(tmp_path / "a.hspy")
    assert set(found) == {"patterns", "haadf", "core loss"}
    axes = found["patterns"]["axes"]
    assert [(a["name"], a["navigate"], a["units"]) for a in axes] == [
        ("y", True, "Å"),
        ("x", True, "Å"),
        ("ky", False, "mrad"),
        ("kx", False, "mrad"),
    ]
    for axis, length in zip(axes[2:], (8, 6), strict=True):
        assert axis["offset"] + axis["scale"] * (length // 2) == pytest.approx(0.0)  # zero at index n // 2
    np.testing.assert_array_equal(found["haadf"]["data"], dataset.images["haadf"].values)
    spectra = found["core loss"]
    np.testing.assert_array_equal(spectra["data"], dataset.spectra["core loss"].values)
    energy = spectra["axes"][-1]
    assert (energy["scale"], energy["offset"], energy["units"], energy["navigate"]) == (0.5, 280.0, "eV", False)
    assert spectra["metadata"]["Signal"]["signal_type"] == "EELS"


def test_metadata_of_hyperspy_are_in_its_units(tmp_path, dataset):
    write_hyperspy(tmp_path / "a.hspy", dataset)
    found = by_title(tmp_path / "a.hspy")
    for signal in found.values():
        microscope = signal["metadata"]["Acquisition_instrument"]["TEM"]
        assert microscope["beam_energy"] == pytest.approx(80.0)  # keV
        assert microscope["convergence_angle"] == pytest.approx(21.4)  # mrad
        assert microscope["beam_current"] == pytest.approx(0.01)  # nA
        assert microscope["acquisition_mode"] == "STEM"
        assert signal["metadata"]["General"]["date"] == "2026-11-24"
        assert signal["metadata"]["General"]["time"] == "18:30:00"
    detector = found["core loss"]["metadata"]["Acquisition_instrument"]["TEM"]["Detector"]["EELS"]
    assert detector["collection_angle"] == pytest.approx(30.0)  # mrad
    assert tuple(found["haadf"]["metadata"]["stemjax"]["detector_angles"]) == (60.0, 200.0)
    assert "positions" in found["patterns"]["metadata"]["stemjax"]
    assert "positions" not in found["haadf"]["metadata"]["stemjax"]  # arrays are told once


def test_every_signal_loads_lazily(tmp_path, dataset):
    """The reader of hyperspy refuses to load arrays without chunks lazily."""
    write_hyperspy(tmp_path / "a.hspy", dataset)
    found = by_title(tmp_path / "a.hspy", lazy=True)
    for name, wanted in (("patterns", dataset.recording.counts), ("haadf", dataset.images["haadf"].values)):
        np.testing.assert_array_equal(np.asarray(found[name]["data"]), wanted)


@pytest.mark.parametrize("ending", WRITERS)
def test_names_that_meet_are_kept_apart(tmp_path, dataset, ending):
    image = dataset.images["haadf"]
    names = {"data": image, "patterns": image, "a/b": image}
    WRITERS[ending](
        tmp_path / f"a.{ending}", replace(dataset, images=names, spectra={"a/b": dataset.spectra["core loss"]})
    )
    np.testing.assert_array_equal(read_recording(tmp_path / f"a.{ending}").counts, dataset.recording.counts)
    with h5py.File(tmp_path / f"a.{ending}") as file:
        arrays = []
        file.visititems(
            lambda name, node: arrays.append(node.shape) if name.endswith("/data") and hasattr(node, "shape") else None
        )
    assert sorted(arrays) == [(3, 4), (3, 4), (3, 4), (3, 4, 8, 6), (3, 4, 50)]
