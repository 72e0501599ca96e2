"""What is in a file, without reading all of it (`stemjax inspect`)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from stemjax.core.errors import InputError
from stemjax.forward.recording import Recording
from stemjax.io.checks import check_optics, check_values
from stemjax.io.describe_signals import describe_conditions, describe_images, describe_signals
from stemjax.io.failures import existing_file, reading
from stemjax.io.hdf5_native import UNITS
from stemjax.io.hdf5_tree import attributes, is_hdf5, listing, open_hdf5
from stemjax.io.read import READERS, RESULT, found_format, with_optics
from stemjax.io.results import check_format
from stemjax.io.suspicions import looks_transposed

NEEDED = ("energy", "scan_step", "detector_sampling", "semiangle", "defocus")
"""What a reconstruction asks for; the rest has a usual value."""


def describe_file(path: str | os.PathLike, *, patterns: int = 16) -> dict[str, Any]:
    """Format, arrays, optics, and what is missing, of any file that stemjax can open.

    Args:
        path: The file: 4D data, a result, an image, a spectrum, a structure-less HDF5 file, ...
        patterns: How many patterns, spread over the scan, the statistics look at.

    Returns:
        `path`, `bytes`, `format`, `kind` ("4d-stem", "result", "image", "spectrum", "arrays", ...), and by kind:
        `shape`, `dtype`, `memory` [byte], `optics`, `missing`, `statistics`, `warnings`, `arrays` (by path, shape and
        type), `metadata`; for a result `problem`, `status`, `success`, `estimate`, `provenance`.

    Raises:
        InputError: The file is missing, corrupt, or of no known format.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/a.npy", np.ones((2, 3, 8, 8), np.uint8))
    ...     found = describe_file(f"{folder}/a.npy")
    >>> found["kind"], found["shape"], found["missing"][:2]
    ('4d-stem', [2, 3, 8, 8], ['energy', 'scan_step'])
    """
    file = existing_file(path)
    head = {"path": str(file), "bytes": file.stat().st_size}
    if is_hdf5(file) and is_result(file):
        return head | describe_result(file)
    try:
        recording = read_unchecked(file)
    except InputError as error:
        return head | describe_other(file, error)
    return head | describe_recording(recording, patterns)


def is_result(path: Path) -> bool:
    """Whether an HDF5 file says that it is a result of stemjax."""
    with open_hdf5(path) as file:
        return str(file.attrs.get("format", "")) == RESULT


def read_unchecked(path: Path) -> Recording:
    """The recording with its counts on the disk, impossible optics left in place for the warnings."""
    name = found_format(path)
    with reading(path, name):
        recording = READERS[name](path, lazy=True)
    try:
        return with_optics(recording, {})
    except InputError:  # an energy that makes no sense gives no angles; `warnings` will say it
        return recording


def describe_recording(recording: Recording, patterns: int) -> dict[str, Any]:
    """Shape, optics, statistics and warnings of 4D data."""
    counts = recording.counts
    shape = [int(n) for n in counts.shape]
    optics = {name: getattr(recording, name) for name in UNITS if getattr(recording, name) is not None}
    statistics, warnings = sampled_statistics(recording, patterns)
    found = {
        "format": recording.source.get("format", ""),
        "key": recording.source.get("key", ""),
        "kind": "4d-stem",
        "shape": shape,
        "dims": ["scan_y", "scan_x", "ky", "kx"],
        "dtype": str(counts.dtype),
        "memory": int(np.prod(shape, dtype=object)) * np.dtype(counts.dtype).itemsize,
        "optics": optics,
        "units": {name: UNITS[name] for name in optics},
        "missing": [name for name in NEEDED if name not in optics],
        "statistics": statistics,
        "warnings": [*optics_warnings(recording), *warnings],
        "metadata": dict(recording.metadata),
    }
    return found | describe_conditions(recording) | describe_signals(recording)


def sampled_statistics(recording: Recording, patterns: int) -> tuple[dict[str, Any], list[str]]:
    """Extremes and totals of a few patterns spread over the scan, and what looks wrong in them."""
    counts, name = recording.counts, str(recording.source.get("path", ""))
    if np.dtype(counts.dtype).kind not in "biuf":
        return {}, [f"{name}: counts of type {counts.dtype}; real numbers are wanted"]
    scan_y, scan_x = counts.shape[:2]
    places = np.unique(np.linspace(0, scan_y * scan_x - 1, max(1, patterns)).astype(int))
    sample = np.stack([np.asarray(counts[int(p // scan_x), int(p % scan_x)]) for p in places])
    finite = np.isfinite(sample)
    values = sample[finite]
    summary: dict[str, Any] = {
        "shape": tuple(counts.shape),
        "dtype": str(counts.dtype),
        "size": sample.size,
        "nbytes": sample.nbytes,
        "not_finite": int(sample.size - finite.sum()),
        "negative": int(np.count_nonzero(values < 0)),
        "minimum": float(values.min()) if values.size else 0.0,
        "maximum": float(values.max()) if values.size else 0.0,
    }
    total = sample.reshape(len(places), -1).sum(axis=1, dtype=float)
    statistics = {
        "patterns": len(places),
        "minimum": summary["minimum"],
        "maximum": summary["maximum"],
        "mean": float(values.mean()) if values.size else 0.0,
        "counts_per_pattern": float(np.mean(total)),
        "negative": summary["negative"] / sample.size,
        "not_finite": summary["not_finite"] / sample.size,
    }
    return statistics, sample_warnings(summary, counts, name)


def sample_warnings(summary: dict[str, Any], counts: Any, name: str) -> list[str]:
    """The lines with which `check_counts` would refuse the sampled patterns."""
    warnings = []
    try:
        check_values(summary, name)
    except InputError as error:
        warnings.append(f"in {summary['size']} sampled pixels: {error}")
    # Rows of the scan are what the test reads; a file far larger than the sample is not read for a suspicion.
    if int(np.prod(counts.shape, dtype=object)) <= 2**27 and looks_transposed(counts):
        warnings.append(f"{name}: the first two axes look like a detector and the last two like a scan; see axes")
    return warnings


def optics_warnings(recording: Recording) -> list[str]:
    """The line with which `check_optics` would refuse the file's optics."""
    try:
        check_optics(recording)
    except InputError as error:
        return [str(error)]
    return []


def describe_result(path: Path) -> dict[str, Any]:
    """Names, shapes and units of a result, how it ended, and where it came from."""
    with open_hdf5(path, "a result of stemjax") as file:
        check_format(file, str(path))
        estimate = {
            k.removeprefix("/estimate/"): {
                "shape": [int(n) for n in v.shape],
                "dtype": str(v.dtype),
                **{a: attributes(v).get(a, "") for a in ("units", "dims", "long_name")},
            }
            for k, v in listing(file).items()
            if k.startswith("/estimate/")
        }
        return {
            "format": RESULT,
            "kind": "result",
            "problem": str(file.attrs.get("problem", "")),
            "success": bool(file.attrs.get("success", False)),
            "status": file["status"].asstr()[()] if "status" in file else "",
            "estimate": estimate,
            "arrays": arrays_of(listing(file)),
            "provenance": attributes(file["provenance"]) if "provenance" in file else {},
            "warnings": [],
        }


def describe_other(path: Path, error: InputError) -> dict[str, Any]:
    """A file that is no 4D data but can be opened; else the error that reading it gave."""
    name = found_format(path)
    if name == "stemjax" and (signals := describe_images(path)):
        return signals
    if name in ("hdf5", "py4dstem", "stemjax"):
        with open_hdf5(path) as file:
            found = listing(file)
            if not found:
                raise error
            return other("HDF5", "arrays", arrays_of(found), {"metadata": attributes(file), "reason": str(error)})
    if name == "numpy":
        return describe_numpy(path, error)
    if name == "rosettasciio":
        return describe_vendor(path, error)
    raise error


def other(format: str, kind: str, arrays: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """The description of a file that is not 4D; `shape` and `dtype` where there is one array."""
    only = next(iter(arrays.values())) if len(arrays) == 1 else {}
    return {"format": format, "kind": kind, **only, "arrays": arrays, "warnings": [], **more}


def arrays_of(found: dict[str, Any]) -> dict[str, Any]:
    """Shape and type of arrays by path."""
    return {k: {"shape": [int(n) for n in v.shape], "dtype": str(v.dtype)} for k, v in found.items()}


def describe_numpy(path: Path, error: InputError) -> dict[str, Any]:
    """A numpy file that is no 4D data."""
    import zipfile

    from stemjax.io.numpy_files import archive_headers, open_array

    with reading(path, "a numpy file"):
        if zipfile.is_zipfile(path):
            return other("npz", "arrays", arrays_of(dict(archive_headers(path))), {"reason": str(error)})
        array = open_array(path)
    kind = {1: "line", 2: "image", 3: "stack"}.get(array.ndim, "arrays")
    return other("npy", kind, arrays_of({"": array}), {"reason": str(error)})


def describe_vendor(path: Path, error: InputError) -> dict[str, Any]:
    """Images and spectra of a maker's format, with their axes."""
    from stemjax.io.rosetta import signals, title
    from stemjax.io.rosetta_optics import flat, instrument_fields, mapped_metadata

    try:
        found, name = signals(path, lazy=True)
    except InputError:
        raise error from None
    arrays = {
        f"{n}: {title(s)}": {"shape": [int(v) for v in s["data"].shape], "dtype": str(s["data"].dtype), "axes": axes(s)}
        for n, s in enumerate(found)
    }
    metadata = mapped_metadata(found[0])
    optics = {k: v for k, v in instrument_fields(metadata).items() if k != "metadata"}
    more = {"optics": optics, "metadata": flat(metadata), "reason": str(error)}
    return other(name, kind_of(found[0]), arrays, more)


def axes(signal: dict[str, Any]) -> list[str]:
    """Every axis in words: name, step, unit."""
    return [
        f"{a.get('name') or '-'} {float(a.get('scale', 1)):g} {a.get('units') or ''}".strip() for a in signal["axes"]
    ]


def kind_of(signal: dict[str, Any]) -> str:
    """Image, spectrum, spectrum image, ... of a vendor's array."""
    units = [str(a.get("units", "")).lower() for a in signal.get("axes") or []]
    count = signal["data"].ndim
    if any(u in ("ev", "kev") for u in units):
        return {1: "spectrum", 2: "spectrum line", 3: "spectrum image"}.get(count, "arrays")
    return {1: "line", 2: "image", 3: "stack"}.get(count, "arrays")
