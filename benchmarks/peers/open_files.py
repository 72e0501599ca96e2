"""Open files of stemjax with hyperspy, py4DSTEM and emdfile, and compare with the file in stemjax's own layout.

Arguments: scan.h5 (own layout, read with h5py alone), then scan.hspy and/or scan.emd of the same data. Runs in an
environment that has hyperspy (with exspy) or py4DSTEM, without stemjax. Prints JSON: the program, its version, what was
compared; the exit status is 1 where something differs.
"""

import json
import math
import sys
import warnings

import h5py
import numpy as np

PLANCK, LIGHT, MASS, CHARGE = 6.62607015e-34, 299792458.0, 9.1093837139e-31, 1.602176634e-19


def wavelength(energy):
    """Relativistic de Broglie wavelength [Å] of electrons of an energy [eV], from the constants of nature."""
    kinetic = energy * CHARGE
    return 1e10 * PLANCK / math.sqrt(2 * MASS * kinetic * (1 + kinetic / (2 * MASS * LIGHT**2)))


class Comparison:
    """Named comparisons, each true or false."""

    def __init__(self, program, version):
        self.report = {"program": program, "version": version, "compared": {}, "differ": []}

    def same(self, name, found, wanted, tolerance=1e-9):
        """Note whether two numbers, arrays or texts agree."""
        if isinstance(wanted, str):
            good = str(found) == wanted
        else:
            found, wanted = np.asarray(found), np.asarray(wanted)
            good = found.shape == wanted.shape and bool(np.allclose(found, wanted, rtol=tolerance, atol=1e-12))
        self.report["compared"][name] = str(found) if np.size(found) < 6 else f"array {np.shape(found)}"
        if not good:
            self.report["differ"].append(f"{name}: {found} instead of {wanted}")


def compare_axes(check, name, signal, wanted):
    """Axes of a hyperspy signal in the order of the array: (scale, offset, unit)."""
    for axis, (scale, offset, unit) in zip(signal.axes_manager._axes, wanted, strict=True):
        check.same(f"{name} {axis.name} scale", axis.scale, scale)
        check.same(f"{name} {axis.name} offset", axis.offset, offset)
        check.same(f"{name} {axis.name} unit", axis.units, unit)


def open_hyperspy(native, path):
    """The signals of a .hspy file against the arrays of the own layout."""
    import hyperspy
    import hyperspy.api as hs

    hs.set_log_level("ERROR")
    check = Comparison("hyperspy", hyperspy.__version__)
    loaded = hs.load(path)
    signals = {s.metadata.General.title: s for s in (loaded if isinstance(loaded, list) else [loaded])}
    counts = native["counts"]
    patterns, attributes = signals.pop("patterns"), counts.attrs
    check.same("patterns values", patterns.data, counts[...])
    check.same("patterns class", type(patterns).__name__, "Signal2D")
    check.same("patterns navigation", patterns.axes_manager.navigation_shape, counts.shape[1::-1])
    zero = [-(n // 2) * s for n, s in zip(counts.shape[2:], attributes["detector_sampling"], strict=True)]
    wanted = [(s, 0.0, "Å") for s in attributes["scan_step"]]
    wanted += [(s, z, "mrad") for s, z in zip(attributes["detector_sampling"], zero, strict=True)]
    compare_axes(check, "patterns", patterns, wanted)
    compare_microscope(check, patterns.metadata, native)
    compare_hyperspy_signals(check, signals, native)
    for lazy in hs.load(path, lazy=True) if isinstance(loaded, list) else [hs.load(path, lazy=True)]:
        name = lazy.metadata.General.title
        check.same(f"{name} lazily", float(lazy.data.sum().compute()), float(loaded_sum(loaded, name)))
    return check.report


def loaded_sum(loaded, name):
    """Sum of a loaded signal by its title."""
    return next(
        s.data.sum() for s in (loaded if isinstance(loaded, list) else [loaded]) if s.metadata.General.title == name
    )


def compare_microscope(check, metadata, native):
    """Energy, angles and current in hyperspy's units, and a few entries under stemjax's names."""
    attributes, conditions = native["counts"].attrs, native["conditions"].attrs
    microscope = metadata.Acquisition_instrument.TEM
    check.same("beam_energy keV", microscope.beam_energy, attributes["energy"] / 1e3)
    check.same("convergence_angle mrad", microscope.convergence_angle, attributes["semiangle"])
    if "beam_current" in conditions:
        check.same("beam_current nA", microscope.beam_current, conditions["beam_current"] / 1e3)
    for name in ("defocus", "scan_rotation", "electrons_per_count"):
        if name in attributes:
            check.same(f"stemjax.{name}", metadata.get_item(f"stemjax.{name}"), attributes[name])
    for name in ("dose", "dwell_time"):
        if name in conditions:
            check.same(f"stemjax.{name}", metadata.get_item(f"stemjax.{name}"), conditions[name])


def compare_hyperspy_signals(check, signals, native):
    """Images and spectra: class, values, axes, collection angle."""
    for name, node in native.get("images", {}).items():
        check.same(f"{name} values", signals[name].data, node[...])
        check.same(f"{name} class", type(signals[name]).__name__, "Signal2D")
        axes = zip(node.attrs["sampling"], node.attrs["offset"], node.attrs["sampling_units"], strict=True)
        compare_axes(check, name, signals[name], list(axes))
    for name, node in native.get("spectra", {}).items():
        signal = signals[name]
        check.same(f"{name} values", signal.data, node[...])
        check.same(f"{name} class", type(signal).__name__, "EELSSpectrum")
        axes = zip(node.attrs["sampling"], node.attrs["offset"], node.attrs["sampling_units"], strict=True)
        compare_axes(check, name, signal, list(axes))
        if "collection_semiangle" in node.attrs:
            angle = signal.metadata.Acquisition_instrument.TEM.Detector.EELS.collection_angle
            check.same(f"{name} collection angle", angle, node.attrs["collection_semiangle"])


def open_py4dstem(native, path):
    """The data cube, its calibration, the arrays below it, and the sense of the rotation."""
    import py4DSTEM
    from py4DSTEM.process.calibration.rotation import get_Qvector_from_Rvector

    check = Comparison("py4DSTEM", py4DSTEM.__version__)
    counts = native["counts"]
    attributes = counts.attrs
    cube = py4DSTEM.read(path)
    check.same("class", type(cube).__name__, "DataCube")
    check.same("values", cube.data[...], counts[...])
    check.same("R_pixel_size", cube.calibration.get_R_pixel_size(), np.sqrt(np.prod(attributes["scan_step"])))
    check.same("R_pixel_units", cube.calibration.get_R_pixel_units(), "A")
    angle = np.sqrt(np.prod(attributes["detector_sampling"])) / 1e3
    # 1e-7: the constants here are those of CODATA 2022, the program's may be older
    check.same("Q_pixel_size", cube.calibration.get_Q_pixel_size(), angle / wavelength(attributes["energy"]), 1e-7)
    check.same("Q_pixel_units", cube.calibration.get_Q_pixel_units(), "A^-1")
    rho = attributes.get("scan_rotation")
    if rho is not None:
        check.same("QR_rotation degree", np.degrees(cube.calibration.get_QR_rotation()), rho)
        # stemjax: r_detector = T r_scan on (y, x); the program's x is the row
        turned = get_Qvector_from_Rvector(0.0, 1.0, np.degrees(cube.calibration.get_QR_rotation()))[2:]
        check.same("scan's x axis on the detector", turned, (math.sin(math.radians(rho)), math.cos(math.radians(rho))))
    check.same("energy", cube.metadata["stemjax"]["energy"], attributes["energy"])
    for kind in ("images", "spectra"):
        for name, node in native.get(kind, {}).items():
            check.same(f"{name} values", cube.tree(name).data[...], node[...])
            last = cube.tree(name).dims[-1]
            check.same(
                f"{name} last axis", last[:2], node.attrs["offset"][-1] + node.attrs["sampling"][-1] * np.arange(2)
            )
    return check.report


def open_emdfile(native, path):
    """The same file through emdfile alone: the tree is a valid EMD 1.0 tree."""
    import emdfile

    check = Comparison("emdfile", emdfile.__version__)
    node = emdfile.read(path, tree=True)
    check.same("values", node.data[...], native["counts"][...])
    names = sorted(name for kind in ("images", "spectra") for name in native.get(kind, {}))
    check.same("arrays below the cube", ", ".join(sorted(node._branch._dict)), ", ".join(names))
    return check.report


def main():
    warnings.simplefilter("ignore")
    own, *others = sys.argv[1:]
    openers = {"hspy": (open_hyperspy,), "emd": (open_py4dstem, open_emdfile)}
    reports = []
    with h5py.File(own) as native:
        for path in others:
            for opener in openers[path.rsplit(".", 1)[-1]]:
                reports.append(opener(native, path))
    print(json.dumps(reports, indent=1, ensure_ascii=False))
    return 1 if any(r["differ"] for r in reports) else 0


if __name__ == "__main__":
    sys.exit(main())
