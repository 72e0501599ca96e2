"""The one door: formats are found, axes arranged, optics taken, and what does not fit is said in one line."""

import subprocess
import sys

import h5py
import numpy as np
import pytest
from scipy import constants

from stemjax.core.errors import InputError
from stemjax.io import read_recording
from stemjax.io.lazy_counts import LazyCounts
from stemjax.io.optics_names import SYNONYMS, optics_from, split_unit


@pytest.fixture
def counts() -> np.ndarray:
    """Four axes of different lengths, every number different."""
    return np.arange(3 * 4 * 5 * 6, dtype=np.uint16).reshape(3, 4, 5, 6)


def hdf5(path, arrays, **attributes):
    with h5py.File(path, "w") as file:
        for name, value in arrays.items():
            file[name] = value
        file.attrs.update(attributes)
    return path


def test_bare_array_with_the_names_of_others(tmp_path, counts):
    path = hdf5(tmp_path / "a.h5", {"data": counts}, energy_kV=300.0, scan_step_A=31.25, defocus_nm=-13500.0)
    found = read_recording(path)
    np.testing.assert_array_equal(found.counts, counts)
    assert (found.energy, found.scan_step, found.defocus) == (300e3, (31.25, 31.25), -135000.0)
    assert (found.semiangle, found.detector_sampling) == (None, None)
    assert found.source == {"path": str(path), "key": "/data", "format": "HDF5"}


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("energy", 80e3, "energy", 80e3),
        ("Beam Energy [keV]", 80, "energy", 80e3),
        ("accelerating_voltage_kV", 200, "energy", 200e3),
        ("kV", 300, "energy", 300e3),
        ("HighTension", 60e3, "energy", 60e3),
        ("step_A", 0.5, "scan_step", (0.5, 0.5)),
        ("scan_step", [0.5, 0.25], "scan_step", (0.5, 0.25)),
        ("Scan Step (nm)", 0.05, "scan_step", (0.5, 0.5)),
        ("step_size_pm", 50.0, "scan_step", (0.5, 0.5)),
        ("dk_mrad", 1.6, "detector_sampling", (1.6, 1.6)),
        ("angular_sampling_rad", 1.6e-3, "detector_sampling", (1.6, 1.6)),
        ("semiangle_mrad", 21.4, "semiangle", 21.4),
        ("convergence_angle", 21.4, "semiangle", 21.4),
        ("semiangle_cutoff", 21.4, "semiangle", 21.4),
        ("overfocus_A", 80.0, "defocus", -80.0),
        ("C10", 80.0, "defocus", -80.0),
        ("defocus [nm]", 8.0, "defocus", 80.0),
        ("scan_angle_deg", -126.0, "scan_rotation", -126.0),
        ("rotation_rad", np.pi / 2, "scan_rotation", 90.0),
        ("electrons_per_count", 0.5, "electrons_per_count", 0.5),
        ("ADU_per_electron", 4.0, "electrons_per_count", 0.25),
        ("energy", "80000", "energy", 80e3),
    ],
)
def test_every_documented_name_and_unit(tmp_path, name, value, field, expected):
    path = hdf5(tmp_path / "a.h5", {"data": np.ones((2, 2, 4, 4))}, **{name: value})
    assert getattr(read_recording(path), field) == pytest.approx(expected, rel=1e-12)


def test_synonyms_are_squeezed_and_belong_to_one_quantity():
    names = [n for _, _, group in SYNONYMS.values() for n in group]
    assert len(names) == len(set(names))
    assert all(split_unit(n)[0] == n for n in names)


def test_units_of_another_kind_are_not_taken():
    found = optics_from({"step_mrad": 1.0, "energy": "unknown", "semiangle": [1.0, 2.0], "defocus": np.nan})
    assert set(found) == {"metadata"}
    assert len(found["metadata"]) == 4


def test_the_nearest_attribute_wins(tmp_path, counts):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.attrs["energy"] = 60e3
        group = file.create_group("scan")
        group.attrs["energy"] = 80e3
        group["semiangle_mrad"] = 25.0  # a scalar beside the array counts as well
        group["data"] = counts
        group["data"].attrs["step_A"] = 0.3
    found = read_recording(path)
    assert (found.energy, found.semiangle, found.scan_step) == (80e3, 25.0, (0.3, 0.3))


def test_a_persons_optics_win(tmp_path, counts):
    path = hdf5(tmp_path / "a.h5", {"data": counts}, energy=300.0)
    with pytest.raises(InputError, match="300 keV is 300e3 eV"):
        read_recording(path)
    found = read_recording(path, optics={"energy": 300e3, "scan_step": 0.5, "semiangle": None})
    assert (found.energy, found.scan_step) == (300e3, (0.5, 0.5))
    with pytest.raises(InputError, match="nearest: 'energy'"):
        read_recording(path, optics={"enery": 300e3})
    with pytest.raises(InputError, match="in mrad"):
        read_recording(path, optics={"energy": 300e3, "semiangle": "wide"})


def test_calibration_in_reciprocal_units_becomes_an_angle(tmp_path, counts):
    """λk with λ from the constants of nature: p²c² = E² + 2 E mc²."""
    path = hdf5(tmp_path / "a.h5", {"data": counts}, dk_1_per_A=0.05)
    assert read_recording(path).detector_sampling is None
    energy = 200e3 * constants.e
    momentum = np.sqrt(energy**2 + 2 * energy * constants.m_e * constants.c**2) / constants.c
    angle = 1e3 * constants.h / momentum * 0.05e10
    found = read_recording(path, optics={"energy": 200e3})
    assert found.detector_sampling == pytest.approx((angle, angle), rel=1e-7)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("suffix", [".h5", ".npy"])
def test_stack_with_the_shape_of_the_scan(tmp_path, counts, suffix, lazy):
    path = tmp_path / f"a{suffix}"
    stack = counts.reshape(12, 5, 6)
    if suffix == ".h5":
        hdf5(path, {"dp": stack})
    else:
        np.save(path, stack)
    found = read_recording(path, scan_shape=(3, 4), lazy=lazy).counts
    assert found.shape == (3, 4, 5, 6)
    assert isinstance(found, LazyCounts) == lazy
    everything = (slice(None),) * 4
    for index in (
        everything,
        (1,),
        (slice(1, 3), slice(1, 3)),
        (2, 3),
        (slice(0, 3, 2),),
        (slice(None, None, -1), 1),
        (0, slice(None), 2, slice(1, 4)),
        (Ellipsis, 0),
        (slice(2, 2),),
    ):
        np.testing.assert_array_equal(found[index], counts[index])


def test_lazy_counts_are_an_array_to_numpy(tmp_path, counts):
    found = read_recording(hdf5(tmp_path / "a.h5", {"d": counts}), lazy=True).counts
    np.testing.assert_array_equal(np.asarray(found), counts)
    assert (len(found), found.ndim, found.size, found.nbytes, found.dtype) == (3, 4, 360, 720, np.uint16)
    assert np.asarray(found, np.float32).dtype == np.float32


def test_wrong_shapes_name_the_right_ones(tmp_path, counts):
    path = hdf5(tmp_path / "a.h5", {"dp": counts.reshape(12, 5, 6)})
    with pytest.raises(
        InputError, match=r"give scan_shape \(y, x\) \(data.scan_shape\), for example one of 3 x 4, 2 x 6, 1 x 12"
    ):
        read_recording(path)
    with pytest.raises(InputError, match="means 20 patterns, the file has 12; fitting: 3 x 4"):
        read_recording(path, scan_shape=(4, 5))
    with pytest.raises(InputError, match="two whole numbers"):
        read_recording(path, scan_shape=(4,))
    raster = hdf5(tmp_path / "b.h5", {"dp": counts})
    with pytest.raises(InputError, match=r"\(4, 3\) given, but the file has a raster \(3, 4\)"):
        read_recording(raster, scan_shape=(4, 3))


def test_other_orders_of_the_axes(tmp_path, counts):
    path = hdf5(tmp_path / "a.h5", {"dp": counts.transpose(2, 3, 0, 1)})
    np.testing.assert_array_equal(read_recording(path, axes="ky kx scan_y scan_x").counts, counts)
    stack = hdf5(tmp_path / "b.h5", {"dp": counts.reshape(12, 5, 6).transpose(2, 1, 0)})
    np.testing.assert_array_equal(read_recording(stack, axes="kx, ky, pattern", scan_shape=(3, 4)).counts, counts)
    with pytest.raises(InputError, match="name each once: scan_y scan_x ky kx"):
        read_recording(path, axes="y x ky kx")


def test_keys_are_listed_when_one_is_needed(tmp_path, counts):
    path = hdf5(tmp_path / "a.h5", {"one/data": counts, "two/data": counts, "image": np.zeros((7, 8))})
    with pytest.raises(
        InputError, match=r"2 arrays of 4 axes; give key \(data.key\), one of: /one/data \(3, 4, 5, 6\) uint16"
    ):
        read_recording(path)
    np.testing.assert_array_equal(read_recording(path, key="two/data").counts, counts)
    with pytest.raises(InputError, match=r"no array under the key 'tow/data'; .*nearest: '/two/data'"):
        read_recording(path, key="tow/data")
    with pytest.raises(InputError, match=r"an array \(7, 8\) is no 4D-STEM data"):
        read_recording(path, key="image")


def test_files_without_patterns_say_what_they_hold(tmp_path):
    with pytest.raises(InputError, match=r"arrays in it: /image \(7, 8\) float64"):
        read_recording(hdf5(tmp_path / "a.h5", {"image": np.zeros((7, 8))}))
    with pytest.raises(InputError, match="holds no arrays"):
        read_recording(hdf5(tmp_path / "b.h5", {}))
    with pytest.raises(InputError, match="counts are real numbers"):
        read_recording(hdf5(tmp_path / "c.h5", {"w": np.ones((2, 2, 3, 3), complex)}), key="w")
    with pytest.raises(InputError, match="holds no patterns"):
        read_recording(hdf5(tmp_path / "d.h5", {"w": np.ones((0, 2, 3, 3))}), key="w")


def test_other_mistakes_with_files(tmp_path, counts):
    np.save(tmp_path / "scan_01.npy", counts)
    with pytest.raises(InputError, match=r"no file .*scan_1\.npy; nearest: 'scan_01\.npy'"):
        read_recording(tmp_path / "scan_1.npy")
    with pytest.raises(InputError, match="there is no folder"):
        read_recording(tmp_path / "none" / "a.h5")
    with pytest.raises(InputError, match="is a folder"):
        read_recording(tmp_path)
    (tmp_path / "empty.h5").touch()
    with pytest.raises(InputError, match="is empty"):
        read_recording(tmp_path / "empty.h5")
    (tmp_path / "a.xyz").write_text("hello")
    with pytest.raises(InputError, match=r"no reader knows the extension '\.xyz'"):
        read_recording(tmp_path / "a.xyz")
    with pytest.raises(InputError, match="unknown format 'numpie'; nearest: 'numpy'"):
        read_recording(tmp_path / "scan_01.npy", format="numpie")
    (tmp_path / "a.h5").write_bytes((tmp_path / "scan_01.npy").read_bytes())
    np.testing.assert_array_equal(read_recording(tmp_path / "a.h5").counts, counts)  # content goes before the name


def test_more_than_the_memory_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:  # chunks that are never written take no room
        file.create_dataset("d", (10**5, 10**5, 64, 64), np.uint16, chunks=(1, 1, 64, 64))
    with pytest.raises(InputError, match=r"takes 81\.9 TB, the machine has .*lazy=True"):
        read_recording(path)
    assert read_recording(path, lazy=True).counts[3, 4].shape == (64, 64)


def test_numbers_arrive_in_native_order(tmp_path, counts):
    path = hdf5(tmp_path / "a.h5", {"d": counts.astype(">u2")})
    for lazy in (False, True):
        found = read_recording(path, lazy=lazy).counts[:]
        assert found.dtype.isnative
        np.testing.assert_array_equal(found, counts)


def test_external_links_are_followed_and_circles_are_not(tmp_path, counts):
    hdf5(tmp_path / "data.h5", {"stack": counts})
    with h5py.File(tmp_path / "master.h5", "w") as file:
        file["entry/data"] = h5py.ExternalLink("data.h5", "/stack")
        file["entry/self"] = h5py.SoftLink("/entry")
        file["entry/broken"] = h5py.ExternalLink("none.h5", "/x")
    for lazy in (False, True):
        np.testing.assert_array_equal(read_recording(tmp_path / "master.h5", lazy=lazy).counts[:], counts)


def test_a_file_that_another_program_writes_is_not_called_corrupt(tmp_path, counts):
    path = tmp_path / "a.h5"
    script = f"import h5py, sys; f = h5py.File({str(path)!r}, 'w'); print('open', flush=True); sys.stdin.read()"
    writer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    try:
        assert writer.stdout.readline() == "open\n"
        with pytest.raises(InputError) as caught:
            read_recording(path)
    finally:
        writer.communicate("")
    assert "being written by another program" in str(caught.value) or "is empty" in str(caught.value)
