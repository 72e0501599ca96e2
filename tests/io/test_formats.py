"""Each format against files written by another library, byte by byte where there is none."""

import h5py
import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.forward.recording import Recording
from stemjax.io import read_recording, sha256, write_recording


@pytest.fixture
def counts() -> np.ndarray:
    return np.random.default_rng(0).poisson(2.0, (4, 6, 16, 12)).astype(np.uint16)


def test_own_format_keeps_everything(tmp_path, counts):
    recording = Recording(
        counts,
        energy=80e3,
        scan_step=(0.5, 0.25),
        detector_sampling=(1.6, 1.5),
        semiangle=21.4,
        defocus=-80.0,
        scan_rotation=-126.0,
        electrons_per_count=0.9,
        metadata={"operator": "N. N.", "shape": (1, 2), "nested": {"a": None}},
    )
    for compress in (True, False):
        write_recording(tmp_path / "a.h5", recording, compress=compress)
        back = read_recording(tmp_path / "a.h5")
        np.testing.assert_array_equal(back.counts, counts)
        assert back.counts.dtype == counts.dtype
        for field in (
            *("energy", "scan_step", "detector_sampling", "semiangle", "defocus", "scan_rotation"),
            *("electrons_per_count", "metadata"),
        ):
            assert getattr(back, field) == getattr(recording, field), field


def test_own_format_through_plain_h5py(tmp_path, counts):
    write_recording(tmp_path / "a.h5", Recording(counts, energy=80e3, scan_step=(0.5, 0.25)))
    with h5py.File(tmp_path / "a.h5") as file:
        node = file["counts"]
        np.testing.assert_array_equal(node[...], counts)
        assert file.attrs["format"] == "stemjax-4d"
        assert list(node.attrs["dims"]) == ["scan_y", "scan_x", "ky", "kx"]
        assert (node.attrs["energy"], node.attrs["energy_units"]) == (80e3, "eV")
        np.testing.assert_array_equal(node.attrs["scan_step"], (0.5, 0.25))
        assert "semiangle" not in node.attrs


def test_own_format_copies_from_the_disk_to_the_disk(tmp_path, counts):
    write_recording(tmp_path / "a.h5", Recording(counts))
    write_recording(tmp_path / "b.h5", read_recording(tmp_path / "a.h5", lazy=True))
    np.testing.assert_array_equal(read_recording(tmp_path / "b.h5").counts, counts)
    # onto itself: the old file is open while the new one is written
    write_recording(tmp_path / "b.h5", read_recording(tmp_path / "b.h5", lazy=True))
    np.testing.assert_array_equal(read_recording(tmp_path / "b.h5").counts, counts)


def test_a_result_is_no_recording(tmp_path):
    from stemjax.inference.result import Result
    from stemjax.io import write_result

    write_result(tmp_path / "r.h5", Result("p", {}))
    with pytest.raises(InputError, match="a result of stemjax and holds no patterns"):
        read_recording(tmp_path / "r.h5")


def emd(path, counts, q_units="A^-1", r_units="nm", cubes=("datacube",), calibrated=True):
    """The layout that emdfile 1.0 writes, by h5py alone."""
    with h5py.File(path, "w") as file:
        file.attrs.update({"emd_group_type": "file", "version_major": 1, "version_minor": 0})
        root = file.create_group("datacube_root")
        root.attrs.update({"emd_group_type": "root", "python_class": "Root"})
        for name in cubes:
            cube = root.create_group(name)
            cube.attrs.update({"emd_group_type": "array", "python_class": "DataCube"})
            cube["data"] = counts
            cube["data"].attrs["units"] = "pixel intensity"
            for axis, (label, step, units) in enumerate(
                [("Rx", 0.05, r_units), ("Ry", 0.05, r_units), ("Qx", 0.04, q_units), ("Qy", 0.04, q_units)]
            ):
                cube[f"dim{axis}"] = np.array([0.0, step])
                cube[f"dim{axis}"].attrs.update({"name": label, "units": units})
        if calibrated:
            entries = root.create_group("metadatabundle/calibration")
            entries.attrs.update({"emd_group_type": "metadata", "python_class": "Calibration"})
            for name, value in {
                "Q_pixel_size": 0.04,
                "Q_pixel_units": q_units,
                "R_pixel_size": 0.05,
                "R_pixel_units": r_units,
                "QR_rotation": np.pi / 6,
                "QR_flip": False,
            }.items():
                entries[name] = value
    return path


@pytest.mark.parametrize("calibrated", [True, False])
def test_py4dstem(tmp_path, counts, calibrated):
    found = read_recording(emd(tmp_path / "a.h5", counts, calibrated=calibrated), optics={"energy": 200e3})
    np.testing.assert_array_equal(found.counts, counts)
    assert found.scan_step == pytest.approx((0.5, 0.5))
    assert found.detector_sampling == pytest.approx((0.0250793 * 40, 0.0250793 * 40), rel=1e-5)
    assert found.source["key"] == "/datacube_root/datacube/data"
    if calibrated:
        assert found.scan_rotation == pytest.approx(30.0)


def test_py4dstem_in_pixels_tells_nothing(tmp_path, counts):
    found = read_recording(emd(tmp_path / "a.h5", counts, "pixels", "pixels"), optics={"energy": 200e3})
    assert (found.scan_step, found.detector_sampling) == (None, None)
    found = read_recording(emd(tmp_path / "b.h5", counts, "mrad", "A"))
    assert (found.scan_step, found.detector_sampling) == ((0.05, 0.05), (0.04, 0.04))


def test_py4dstem_with_several_cubes(tmp_path, counts):
    path = emd(tmp_path / "a.h5", counts, cubes=("first", "second"))
    with pytest.raises(InputError, match=r"2 data cubes; give key \(data.key\)"):
        read_recording(path)
    for key in ("datacube_root/second", "/datacube_root/second/data"):
        assert read_recording(path, key=key).source["key"] == "/datacube_root/second/data"


XML = """<root name="a"><pix_x>{nx}</pix_x><pix_y>{ny}</pix_y><raw_file filename="scan_x{nx}_y{ny}.raw"/>
<scan_parameters mode="acquire"><scan_size>0.5</scan_size></scan_parameters>
<iom_measurements><column.get_scanrotation>15.0</column.get_scanrotation>
<source.get_voltage>300000.0</source.get_voltage>
<optics.get_full_scan_field_of_view>[{fov}, {fov}]</optics.get_full_scan_field_of_view></iom_measurements></root>"""


def empad(folder, ny, nx, name=None, xml=True):
    """Frames as the detector writes them: 130 rows of 128 single-precision numbers, the last two rows no pixels."""
    frames = np.random.default_rng(1).normal(100, 5, (ny * nx, 130, 128)).astype("<f4")
    frames[:, 128:] = -1e30
    raw = folder / (name or f"scan_x{nx}_y{ny}.raw")
    frames.tofile(raw)
    if xml:
        (folder / "acquisition.xml").write_text(XML.format(nx=nx, ny=ny, fov=12e-10))
    return raw, frames[:, :128].reshape(ny, nx, 128, 128)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("by_xml", [False, True])
def test_empad(tmp_path, lazy, by_xml):
    raw, expected = empad(tmp_path, 3, 4)
    found = read_recording(tmp_path / "acquisition.xml" if by_xml else raw, lazy=lazy)
    np.testing.assert_array_equal(found.counts[:], expected)
    assert (found.energy, found.scan_rotation) == (300e3, 15.0)
    assert found.scan_step == pytest.approx((4.0, 3.0))
    assert (found.detector_sampling, found.electrons_per_count) == (None, None)


def test_empad_without_its_xml(tmp_path):
    raw, expected = empad(tmp_path, 3, 4, xml=False)
    np.testing.assert_array_equal(read_recording(raw).counts, expected)
    raw, expected = empad(tmp_path, 3, 4, name="unnamed.raw", xml=False)
    with pytest.raises(InputError, match="holds 12 frames; give scan_shape"):
        read_recording(raw)
    assert read_recording(raw, scan_shape=(2, 6)).counts.shape == (2, 6, 128, 128)
    raw, expected = empad(tmp_path, 3, 3, name="square.raw", xml=False)
    assert read_recording(raw).counts.shape == (3, 3, 128, 128)


def test_empad_cut_short(tmp_path):
    raw, _ = empad(tmp_path, 3, 4)
    data = raw.read_bytes()
    raw.write_bytes(data[:-1000])
    with pytest.raises(InputError, match=r"cut short \(11 whole frames\)"):
        read_recording(raw)
    raw.write_bytes(data[: -130 * 128 * 4])
    with pytest.raises(InputError, match=r"11 frames, but is described as a scan of 3 x 4"):
        read_recording(raw)
    raw.unlink()
    with pytest.raises(InputError, match="which is not beside it"):
        read_recording(tmp_path / "acquisition.xml")


def test_empad_xml_is_read_without_entities(tmp_path):
    (tmp_path / "a.xml").write_text('<!DOCTYPE r [<!ENTITY a "aa">]><root><raw_file filename="&a;"/></root>')
    with pytest.raises(InputError, match="defines XML entities"):
        read_recording(tmp_path / "a.xml")


def test_archive_of_numpy(tmp_path, counts):
    np.savez(tmp_path / "a.npz", patterns=counts, energy_kV=80, image=np.zeros((4, 4)))
    found = read_recording(tmp_path / "a.npz")
    np.testing.assert_array_equal(found.counts, counts)
    assert found.energy == 80e3
    np.savez_compressed(tmp_path / "b.npz", one=counts, two=counts)
    with pytest.raises(InputError, match=r"give key \(data.key\), one of: one, two"):
        read_recording(tmp_path / "b.npz")
    np.testing.assert_array_equal(read_recording(tmp_path / "b.npz", key="two").counts, counts)
    with pytest.raises(InputError, match="no array 'tow'; nearest: 'two'"):
        read_recording(tmp_path / "b.npz", key="tow")


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_nothing_in_a_numpy_file_is_executed(tmp_path):
    sprung = tmp_path / "sprung"
    np.save(tmp_path / "a.npy", np.array([Trap(sprung)], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", data=np.array([Trap(sprung)], dtype=object))
    for name in ("a.npy", "a.npz"):
        with pytest.raises(InputError):
            read_recording(tmp_path / name, key="data" if name.endswith("z") else None)
    assert not sprung.exists()


@pytest.mark.parametrize("units", [("nm", "1/nm"), ("Å", "mrad"), ("", "")])
def test_rosettasciio_units(tmp_path, counts, units):
    """A file that rosettasciio itself writes, in hyperspy's layout."""
    from rsciio.hspy import file_writer

    axes = [
        {
            "name": name,
            "units": unit,
            "scale": scale,
            "offset": 0.0,
            "size": counts.shape[n],
            "index_in_array": n,
            "navigate": n < 2,
        }
        for n, (name, unit, scale) in enumerate(
            [("y", units[0], 0.05), ("x", units[0], 0.04), ("ky", units[1], 0.4), ("kx", units[1], 0.4)]
        )
    ]
    metadata = {
        "General": {"title": "scan"},
        "Signal": {"signal_type": ""},
        "Acquisition_instrument": {"TEM": {"beam_energy": 200.0, "convergence_angle": 21.4}},
    }
    signal = {"data": counts, "axes": axes, "metadata": metadata, "original_metadata": {}, "learning_results": {}}
    signal |= {
        "package_info": {"package": "test", "package_version": "0"},
        "models": {},
        "attributes": {"_lazy": False, "ragged": False},
        "tmp_parameters": {},
    }
    file_writer(str(tmp_path / "a.hspy"), signal)
    found = read_recording(tmp_path / "a.hspy")
    np.testing.assert_array_equal(found.counts, counts)
    assert (found.energy, found.semiangle) == (200e3, 21.4)
    step = {"nm": (0.5, 0.4), "Å": (0.05, 0.04), "": None}[units[0]]
    angle = {"1/nm": 0.0250793 * 40, "mrad": 0.4, "": None}[units[1]]
    assert found.scan_step == (None if step is None else pytest.approx(step))
    assert found.detector_sampling == (None if angle is None else pytest.approx((angle, angle), rel=1e-5))
    np.testing.assert_array_equal(read_recording(tmp_path / "a.hspy", lazy=True).counts[1:3], counts[1:3])


def test_checksum_is_that_of_the_system(tmp_path):
    import hashlib

    data = np.random.default_rng(0).bytes(3_000_000)
    (tmp_path / "a").write_bytes(data)
    assert sha256(tmp_path / "a") == hashlib.sha256(data).hexdigest()
