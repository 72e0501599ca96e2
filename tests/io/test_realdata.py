"""Files of microscopes and of other programs: each is read, described, or refused in one line."""

import zipfile

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemjax.core.errors import InputError
from stemjax.io import check_counts, check_optics, describe_file, read_recording

pytestmark = pytest.mark.realdata


def every_file(folder):
    return [p for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix not in (".md", ".txt", ".bin")]


def description(path, door=describe_file):
    """What a door gives for a file: a description, or the text of its `InputError`."""
    try:
        return door(path)
    except InputError as error:
        return str(error)


@pytest.mark.parametrize("part", ["readers", "eels-spectra", "eds", "graphene-si-haadf", "gb-cdte-twin", "abf-series"])
def test_every_file_is_described_or_refused(data_folder, part):
    found = {path.name: description(path) for path in every_file(data_folder / part)}
    refused = {name: text for name, text in found.items() if isinstance(text, str)}
    assert all("\n" not in text and name.split("__")[0] in text for name, text in refused.items())
    assert all(d["kind"] and d["format"] for name, d in found.items() if name not in refused)
    assert len(found) > len(refused)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("digitalmicrograph__2D__test_STEM_image.dm3", "image"),
        ("digitalmicrograph__3D__EELS_SI.dm4", "spectrum image"),
        ("emd__py4DSTEM_size2x3x4x5.h5", "4d-stem"),
        ("msa__example1.msa", "spectrum"),
        ("tia__new__128x128_TEM_acquire-sum1_1.ser", "image"),
        ("mrc__20241021_00405_movie.mrc", "stack"),
    ],
)
def test_kinds(data_folder, name, kind):
    assert describe_file(data_folder / "readers" / name)["kind"] == kind


def test_energy_out_of_a_makers_own_tags(data_folder):
    found = describe_file(data_folder / "readers" / "digitalmicrograph__3D__EELS_SI.dm4")
    assert found["optics"] == {"energy": 200e3, "semiangle": 21.0}


def test_every_reader_file_through_the_door(data_folder):
    for path in every_file(data_folder / "readers"):
        for lazy in (False, True):
            found = description(path, lambda p, lazy=lazy: read_recording(p, lazy=lazy).counts.shape)
            assert isinstance(found, str) or len(found) == 4


def test_py4dstem_calibration(data_folder):
    path = data_folder / "readers" / "emd__py4DSTEM_size2x3x4x5.h5"
    found = read_recording(path, optics={"energy": 300e3})
    with h5py.File(path) as file:
        np.testing.assert_array_equal(found.counts, file["datacube_root/datacube/data"][()])
    assert found.scan_step == pytest.approx((1.26796875,) * 2)
    # λ(300 keV) = 0.0196875 Å
    assert found.detector_sampling == pytest.approx((19.6875 * 0.044251566616087125,) * 2, rel=1e-5)


@pytest.mark.parametrize(("name", "detector"), [("001_4x2_6bit", (256, 256)), ("002_4x2_6bit_roi128", (128, 256))])
def test_merlin(data_folder, tmp_path, name, detector):
    archive = data_folder / "readers" / "quantumdetector__Merlin_navigation4x2_ROI.zip"
    with pytest.raises(InputError, match="unpack it"):
        read_recording(archive)
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path)
    whole = read_recording(tmp_path / f"{name}.mib").counts
    assert whole.shape == (2, 4, *detector)
    np.testing.assert_array_equal(read_recording(tmp_path / f"{name}.mib", lazy=True).counts[1, 2], whole[1, 2])
    assert describe_file(tmp_path / f"{name}.mib")["kind"] == "4d-stem"


def test_arina_stack_needs_its_filter_and_says_so(data_folder):
    path = data_folder / "readers" / "arina__test_00_data_000001.h5"
    with pytest.raises(InputError, match=r"hdf5plugin|give scan_shape"):
        read_recording(path)


def test_empad_description_without_its_data(data_folder):
    with pytest.raises(InputError, match=r"describes scan_x4_y4\.raw, which is not beside it"):
        read_recording(data_folder / "readers" / "empad__map4x4.xml")


def test_empad_description_of_software_1_2(data_folder, tmp_path):
    """32 x 64 positions; the field of view is that of the longer side and divided by its factor."""
    source = data_folder / "readers" / "empad__EMPAD_v1.2.2_x32_y64_size0.8.xml"
    (tmp_path / "a.xml").write_bytes(source.read_bytes())
    np.zeros((64 * 32, 130, 128), "<f4").tofile(tmp_path / "scan_x32_y64.raw")
    found = read_recording(tmp_path / "a.xml", lazy=True)
    assert found.counts.shape == (64, 32, 128, 128)
    assert (found.energy, found.scan_rotation) == (300e3, 0.0)
    step = 1.272412341559544e-06 / 0.72 / 64 * 1e10
    assert found.scan_step == pytest.approx((step, step))


@pytest.mark.parametrize(("name", "energy", "defocus"), [("mos2", 80e3, -80.0), ("sto", 200e3, -100.0)])
def test_simulated_by_another_program(data_folder, name, energy, defocus):
    found = read_recording(data_folder / f"sim-{name}-abtem" / f"{name}.h5")
    assert (found.energy, found.defocus, found.semiangle) == (energy, defocus, 21.4)
    check_counts(found)
    check_optics(found)
    total = {"mos2": 1e4, "sto": 1e5}[name]
    assert found.metadata["Ne"] == total
    assert found.counts.sum(axis=(2, 3)).mean() == pytest.approx(total, rel=0.01)
    with pytest.raises(InputError, match="look like a detector"):
        check_counts(type(found)(found.counts.transpose(2, 3, 0, 1)))


def test_measured_4d_data(data_folder):
    found = read_recording(data_folder / "4dstem-rotavirus" / "sub_A_r79-118_c2-41_bin2_96.h5")
    assert found.counts.shape == (40, 40, 96, 96)
    assert (found.energy, found.scan_step, found.scan_rotation) == (300e3, (31.25, 31.25), -126.0)
    assert found.detector_sampling is None
    check_counts(found)
    check_optics(found)


@pytest.mark.parametrize(
    "name",
    [
        *("digitalmicrograph__2D__test-1.dm4", "digitalmicrograph__3D__EELS_SI.dm4", "mrc__20241021_00405_movie.mrc"),
        *(
            "emd__py4DSTEM_size2x3x4x5.h5",
            "emd__fei_example_dpc_titles.emd",
            "tia__new__128x128_TEM_acquire-sum1_1.ser",
        ),
    ],
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_cut_and_flipped_vendor_files(data_folder, tmp_path, name, data):
    content = bytearray((data_folder / "readers" / name).read_bytes())
    content = content[: data.draw(st.integers(1, len(content)))]
    # Damaged HDF5 can crash the library itself: test_damaged.py flips its bytes in a process of its own.
    for _ in range(0 if content.startswith(b"\x89HDF") else data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, min(len(content), 4096) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path / name
    path.write_bytes(content)
    for door in (read_recording, describe_file):
        said = description(path, door)
        assert not isinstance(said, str) or "\n" not in said
