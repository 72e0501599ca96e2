"""Units and axes are read from the classes themselves."""

import numpy as np

import stemjax as sj
from stemjax.core.annotations import axis_names, meanings
from stemjax.core.paths import leaves


def experiment():
    grid = sj.make_grid(16, 0.4)
    probe = sj.make_probe(grid, energy=80e3, semiangle=20.0, modes=2, free_pixels=True)
    specimen = sj.make_object(grid, phase=np.zeros((1, 16, 16)), periodic=True)
    detectors = {"ADF": sj.make_annular_detector(30.0, 60.0)}
    scan = sj.with_jitter(sj.make_raster((2, 2), 1.0, dwell=1e-5), np.zeros((2, 2)))
    camera = sj.make_camera(gain=2.0, readout=1.0, blur=0.5)
    return sj.make_experiment(probe, specimen, scan, dose=10.0, detectors=detectors, camera=camera)


def test_every_leaf_has_a_meaning_and_no_other_path_has():
    made = experiment()
    assert set(meanings(made)) == set(leaves(made))
    both = {"a": made, "b": [made, 1.0]}
    assert set(meanings(both)) == set(leaves(both))


def test_units_are_those_of_the_classes():
    found = meanings({"first": experiment()})
    units = {
        "probe.aberrations.C10": "Å",
        "probe.semiangle": "mrad",
        "specimen.phase": "rad",
        "scan.positions": "Å",
        "scan.jitter": "Å",
        "dose": "electron",
        "detectors.ADF.inner": "mrad",
        "camera.gain": "count/electron",
        "camera.blur.rms": "pixel",
        "scan.affine": "1",
    }
    assert {path: found[f"first.{path}"].unit for path in units} == units


def test_scales_are_marked():
    found = meanings(experiment())
    scales = {path for path, meaning in found.items() if meaning.positive}
    assert {"dose", "probe.semiangle", "camera.gain", "camera.readout"} <= scales
    assert not any("aberrations" in path or "positions" in path for path in scales)


def test_axes_come_from_the_annotation_where_they_fit():
    columns = sj.make_columns([[0.0, 0.0], [1.0, 1.0]])
    meaning = meanings(columns)["positions"]
    assert axis_names(meaning, (2, 2)) == ("column", "component")
    assert axis_names(meaning, (2,)) == ("axis0",)
