"""`stemjax simulate`: every ready configuration, what is written, and inputs that cannot be simulated."""

from pathlib import Path

import numpy as np
import pytest

from stemjax.app.config import load_config
from stemjax.app.main import main
from stemjax.app.simulation.run import prepare_simulation, simulate
from stemjax.core.errors import InputError
from stemjax.io import read_dataset, read_truth
from stemjax.optics.scan import make_raster

READY = sorted((Path(__file__).parents[2] / "configs" / "simulate").glob("*.yaml"))
SMALL = """
problem: simulation
specimen: {builder: graphene, size: [14 Å, 14 Å], rms_displacement: 0.06 Å}
potential: {sampling: 0.25 Å, slice_thickness: 5 Å}
probe: {energy: 80 keV, semiangle: 25 mrad}
scan: {shape: [6, 6], step: 0.4 Å}
devices: 1
"""


def small(tmp_path, text="", overrides=()):
    (tmp_path / "small.yaml").write_text(SMALL + text)
    return load_config(tmp_path / "small.yaml", overrides)


def simulated(tmp_path, text="", overrides=()):
    """The data and what was written."""
    path = tmp_path / "data.h5"
    written = simulate(small(tmp_path, text, overrides), path)
    return read_dataset(written.files[0]), written


@pytest.mark.parametrize("path", READY, ids=lambda p: p.stem)
def test_a_ready_configuration_is_checked(path):
    settings = load_config(path)
    assert settings.problem == "simulation"


@pytest.mark.slow
@pytest.mark.parametrize("path", READY, ids=lambda p: p.stem)
def test_a_ready_configuration_runs(path, tmp_path):
    settings = load_config(path, ["scan.shape=[8, 8]"])
    written = simulate(settings, tmp_path / "data.h5")
    data = read_dataset(written.files[0])
    signals = [image.values for image in data.images.values()] + [s.values for s in data.spectra.values()]
    signals += [np.asarray(data.recording.counts)] if data.recording.counts.size else []
    assert signals
    for values in signals:
        assert np.isfinite(values).all()
        assert np.ptp(values) > 0


def test_images_are_sums_over_the_patterns(tmp_path):
    text = "detector: {pixelated: {}, annular: {BF: [0, 12]}, virtual: {mine: mask.npy}}"
    whole = prepare_simulation(small(tmp_path, "detector: {pixelated: {}}")).detector
    mask = np.zeros(whole.shape)
    y, x = (np.arange(n) - n // 2 for n in whole.shape)
    steps = prepare_simulation(small(tmp_path, "detector: {pixelated: {}}")).experiment.probe.grid.reciprocal_sampling
    alpha = [12.398 / np.sqrt(80 * (80 + 2 * 510.999)) * k * s for k, s in zip((y, x), steps, strict=True)]
    mask[np.hypot(1e3 * alpha[0][:, None], 1e3 * alpha[1][None, :]) < 12.0 - 1e-3] = 1.0
    np.save(tmp_path / "mask.npy", mask)
    data, _ = simulated(tmp_path, text)
    np.testing.assert_allclose(data.images["BF"].values, data.images["mine"].values, rtol=1e-5)
    np.testing.assert_allclose(data.recording.counts.sum(axis=(2, 3)), 1.0, atol=0.02)


def test_a_dose_gives_counts_of_its_size(tmp_path):
    text = "detector: {pixelated: {}, annular: {BF: [0, 25]}, moments: 40}\ndose: {current: 20 pA}"
    data, _ = simulated(tmp_path, text, ["scan.dwell=1 ms", "scan.shape=[8, 8]"])
    electrons = 20e-12 * 1e-3 / 1.602176634e-19
    counts = np.asarray(data.recording.counts)
    assert counts.dtype == np.uint32
    assert abs(counts.sum(axis=(2, 3)).mean() / electrons - 1.0) < 0.02
    assert data.recording.conditions.dose == pytest.approx(electrons)
    # The image is drawn apart from the patterns: shot noise of both, and nothing else, lies between them.
    assert np.ptp(data.images["BF"].values) > 0
    assert data.images["iCoM"].units == "rad"
    assert set(data.images) == {"BF", "CoM_y", "CoM_x", "iCoM"}


def test_a_camera_counts_with_gain_dark_level_and_limit(tmp_path):
    text = "detector: {pixelated: {}, camera: {gain: 10, dark: 50, readout: 2, saturation: 4000}}"
    text += "\ndose: {per_pattern: 2e4}"
    data, _ = simulated(tmp_path, text)
    counts = np.asarray(data.recording.counts, float)
    assert counts.max() <= 4000
    corner = counts[:, :, 0, 0]
    assert abs(corner.mean() - 50.0) < 2.0
    assert data.recording.electrons_per_count == pytest.approx(0.1)
    total = (counts - 50.0).sum(axis=(2, 3)).mean() / 10.0
    assert total < 2e4 * 1.01
    assert data.recording.conditions.vacuum_probe.shape == counts.shape[2:]


def test_a_series_of_frames_drifts_as_it_is_told(tmp_path):
    text = "detector: {annular: {BF: [0, 12]}}"
    drift = ["scan.angles=[0, 90]", "scan.drift=[3 Å/s, 1 Å/s]", "scan.dwell=10 ms", "scan.jitter=0.05 Å"]
    data, written = simulated(tmp_path, text, drift)
    truth = read_truth(written.truth)
    assert data.images["BF"].values.shape == (2, 6, 6)
    assert truth["scan_velocity"].value.tolist() == [3.0, 1.0]
    assert truth["scan_jitter"].value.shape == (12, 2)
    places = np.stack([truth["position_y"].value, truth["position_x"].value], axis=1)
    nominal = np.asarray(make_raster((6, 6), 0.4).positions)
    jitter = np.repeat(truth["scan_jitter"].value[:6], 6, axis=0)
    moved = places[:36] - nominal - jitter
    expected = np.arange(36)[:, None] * 0.01 * np.array([3.0, 1.0])
    np.testing.assert_allclose(moved - moved[0], expected - expected[0], atol=2e-3)


@pytest.mark.parametrize("path", ["serpentine", "spiral"])
def test_other_paths_are_stored_as_images_or_lists(path, tmp_path):
    points = ["scan.points=40"] if path == "spiral" else []
    data, _ = simulated(tmp_path, "detector: {annular: {BF: [0, 12]}}", [f"scan.path={path}", *points])
    raster, _ = simulated(tmp_path, "detector: {annular: {BF: [0, 12]}}")
    if path == "serpentine":
        np.testing.assert_allclose(data.images["BF"].values, raster.images["BF"].values, rtol=1e-5)
    else:
        assert data.images["BF"].values.shape == (1, 40)
        assert data.recording.conditions.positions.shape == (40, 2)


def test_a_focal_series_writes_a_file_a_member(tmp_path):
    data, written = simulated(tmp_path, "detector: {annular: {BF: [0, 12]}}\nseries: {defoci: [0, 40 Å]}")
    names = [f.name for f in written.files]
    assert names == ["data.000.h5", "data.000.truth.h5", "data.001.h5", "data.001.truth.h5"]
    assert float(read_truth(written.files[3])["aberration_C10"].value) == -40.0
    other = read_dataset(written.files[2])
    assert np.abs(other.images["BF"].values - data.images["BF"].values).max() > 1e-4


def test_copies_for_other_programs_and_truth_inside(tmp_path):
    text = "detector: {pixelated: {}}\noutput: {emd: true, hyperspy: true, truth: inside}\ndose: {per_pattern: 1000}"
    data, written = simulated(tmp_path, text)
    assert [f.name for f in written.files] == ["data.h5", "data.emd.h5", "data.hspy"]
    assert written.truth is None
    assert "atom_position" in read_truth(tmp_path / "data.h5")
    from stemjax.io import read_recording

    for name in ("data.emd.h5", "data.hspy"):
        np.testing.assert_array_equal(read_recording(tmp_path / name).counts, data.recording.counts)


CRYSTAL = ["specimen.builder=srtio3", "specimen.thickness=8 Å", "specimen.size=null", "potential.sampling=0.2 Å"]
WRONG = {
    "a detector beyond the grid": (
        ["detector.annular={HAADF: [60, 200]}"],
        r"carries only .* use a sampling of 0\.\d+ Å",
    ),
    "a segment beyond the grid": (["detector.segmented={D: {rings: [0, 300]}}"], "detector.segmented.D reaches"),
    "a probe wider than its box": (["probe.defocus=150 nm"], "wraps around.*use a window of"),
    "an edge without a threshold": (
        [*CRYSTAL, "spectrum={edges: [O_L3], collection: 20}", "detector.annular={B: [0, 9]}"],
        "O.*K",
    ),
    "an edge of no atom": (
        [*CRYSTAL, "spectrum={edges: [Fe_L3], collection: 20}", "detector.annular={B: [0, 9]}"],
        "has no Fe; its elements: O, Sr, Ti",
    ),
    "a spiral of too few points": (["scan.path=spiral", "scan.points=3"], "at least 5"),
    "a Hilbert curve that fills no square": (["scan.path=hilbert", "scan.shape=[4, 8]"], "fills squares"),
    "a Hilbert curve of a wrong side": (["scan.path=hilbert", "scan.shape=[6, 6]"], "nearest is"),
    "jitter without lines": (["scan.path=spiral", "scan.points=40", "scan.jitter=0.1 Å"], "has none; drop it"),
    "phonons without vibration": (["specimen.rms_displacement=null", "specimen.phonons=3"], "need vibration"),
    "an element without a displacement": (["specimen.rms_displacement={O: 0.1}"], "no displacement for C"),
    "two images of one name": (["detector={annular: {A: [0, 9]}, segmented: {A: {rings: [0, 9]}}}"], "two images"),
    "a layer with a thickness": (["specimen.thickness=5 nm"], "is one layer"),
    "depths of spectra": (["series.depths=[5]", "spectrum={edges: [C_K], collection: 20}"], "do not go together"),
    "a bin that leaves nothing": (["detector.pixelated={bin: 200}"], "leaves no"),
    "rings too fine for the grid": (["probe.plate={rings: 20}"], "rings: [0-9]+$|specimen.size"),
    "a dopant for nothing": (["specimen.dopants={N: {replaces: Si, fraction: 0.1}}"], "Si"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_simulated_is_refused_with_a_remedy(name, tmp_path):
    overrides, message = WRONG[name]
    with pytest.raises(InputError, match=message) as refusal:
        prepare_simulation(small(tmp_path, "", overrides))
    assert "\n" not in str(refusal.value)


def test_a_file_is_repeated_until_the_scan_fits(tmp_path):
    from ase import Atoms
    from ase.io import write

    write(tmp_path / "a.xyz", Atoms("C", positions=[[5, 5, 1]], cell=[10, 10, 2], pbc=True))
    text = SMALL.replace("builder: graphene, size: [14 Å, 14 Å]", "file: a.xyz")
    (tmp_path / "small.yaml").write_text(text)
    structure = prepare_simulation(load_config(tmp_path / "small.yaml")).built.structure
    # 2.4 Å of scan and a margin of 4 Å around it need two cells of 10 Å along each side.
    assert structure.numbers == (6,) * 4
    assert structure.cell.tolist() == [2.0, 20.0, 20.0]


def test_the_configuration_is_not_written_over(tmp_path):
    small(tmp_path, "detector: {annular: {BF: [0, 9]}}")
    before = (tmp_path / "small.yaml").read_text()
    assert main(["simulate", str(tmp_path / "small.yaml"), "-o", str(tmp_path / "small.yaml")]) == 2
    assert (tmp_path / "small.yaml").read_text() == before


def test_blur_reaches_the_counts_and_nothing_stray_does(tmp_path):
    text = "detector: {pixelated: {}, camera: {gain: 1, blur: 2}}"
    blurred, _ = simulated(tmp_path, text)
    sharp, _ = simulated(tmp_path, "detector: {pixelated: {}}")
    one, other = (np.asarray(d.recording.counts)[0, 0] for d in (blurred, sharp))
    assert abs(one.sum() / other.sum() - 1.0) < 1e-4
    assert np.abs(one - other).sum() > 0.05 * other.sum()
    np.testing.assert_allclose(blurred.recording.conditions.vacuum_probe.sum(), 1.0, atol=1e-4)


def test_centre_of_mass_of_few_electrons_stays_in_its_disk(tmp_path):
    text = "detector: {moments: 40}\ndose: {per_pattern: 4000}"
    data, _ = simulated(tmp_path, text, ["scan.shape=[12, 12]"])
    exact, _ = simulated(tmp_path, "detector: {moments: 40}", ["scan.shape=[12, 12]"])
    noise = data.images["CoM_x"].values - exact.images["CoM_x"].values
    # A disk of 25 mrad of even brightness has the variance 25²/4 along an axis.
    assert abs(noise.std() / (25.0 / 2.0 / np.sqrt(4000)) - 1.0) < 0.25


def test_vacancies_are_taken_out_of_crystals_too(tmp_path):
    crystal = ["specimen.builder=srtio3", "specimen.thickness=8 Å", "specimen.size=null"]
    whole = prepare_simulation(small(tmp_path, "", crystal)).built.structure
    holed = prepare_simulation(small(tmp_path, "", [*crystal, "specimen.vacancies=[[4, 4]]"])).built.structure
    assert len(whole.numbers) - len(holed.numbers) == 1
