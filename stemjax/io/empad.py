"""Raw files of the EMPAD detector: frames of 130 x 128 single-precision numbers, of which 128 x 128 are the pattern."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np

from stemjax.core.errors import InputError
from stemjax.forward.recording import Recording
from stemjax.io.failures import existing_file, reading
from stemjax.io.raster import arranged, products

ROWS, SIDE = 130, 128
FRAME = ROWS * SIDE * 4
"""Bytes of a frame; its last two rows are no pixels."""


def is_empad(path: Path) -> bool:
    """Whether a file is a raw recording of an EMPAD or the XML beside it."""
    if path.suffix.lower() == ".xml":
        with path.open("rb") as file:
            return b"<raw_file" in file.read(2**20)
    return path.suffix.lower() == ".raw"


def read_empad(
    path: Path,
    *,
    key: str | None = None,
    scan_shape: tuple[int, int] | None = None,
    axes: str | None = None,
    lazy: bool = False,
) -> Recording:
    """Read `scan_x<nx>_y<ny>.raw`, or the XML file beside it.

    The shape of the scan is taken from the argument, else from the XML, else from the file's name, else from the size
    where that is a square number of frames. From the XML come the energy, the scan's step and rotation. Pixels are in
    units of the analogue readout, not in electrons: give `electrons_per_count` (the detector's calibration at that
    energy) for a likelihood in electrons. Source: the EMPAD files of software 0.51 and 1.2.2.

    Args:
        path: The raw file or the XML file.
        key: Not used: a raw file holds one array.
        scan_shape: Number of scan positions (y, x).
        axes: Refused: the order is known.
        lazy: Leave the counts on the disk.
    """
    if key is not None or axes is not None:
        raise InputError(f"{path}: key and axes have no meaning for EMPAD files; leave data.key and data.axes out")
    raw, described = pair(path)
    size = raw.stat().st_size
    if size % FRAME or size == 0:
        raise InputError(
            f"{raw} has {size} bytes, no whole number of EMPAD frames of {FRAME}; it is cut short "
            f"({size // FRAME} whole frames) or not of an EMPAD"
        )
    info = scan_information(described) if described else {}
    shape = raster(raw, size // FRAME, scan_shape, info)
    with reading(raw, "EMPAD raw data"):
        frames = np.memmap(raw, "<f4", mode="r", shape=(size // FRAME, ROWS, SIDE))[:, :SIDE]
        counts = arranged(frames, str(raw), scan_shape=shape, lazy=lazy)
    fields = optics(info, shape)
    return Recording(counts=counts, source={"path": str(raw), "key": "", "format": "EMPAD"}, **fields)


def pair(path: Path) -> tuple[Path, Path | None]:
    """The raw file and its XML, given either."""
    if path.suffix.lower() == ".xml":
        raw = path.with_name(Path(scan_information(path)["raw_file"]).name)
        if not raw.exists():
            raise InputError(f"{path} describes {raw.name}, which is not beside it; put both into one folder")
        return existing_file(raw), path
    for candidate in sorted(path.parent.glob("*.[xX][mM][lL]")):
        with candidate.open("rb") as file:
            if f'"{path.name}"'.encode() in file.read(2**20):
                return path, candidate
    return path, None


def scan_information(path: Path) -> dict[str, Any]:
    """Leaves of the XML file, by tag; the acquisition's scan parameters win over the search's."""
    with reading(path, "the XML of an EMPAD"):
        text = path.read_bytes()
        if b"<!ENTITY" in text:  # nested entities are how a small XML file fills the memory
            raise InputError(f"{path} defines XML entities, which no EMPAD file does; export it again")
        tree = ElementTree.fromstring(text)
        info: dict[str, Any] = {e.tag: (e.text or "").strip() for e in tree.iter() if len(e) == 0}
        view = tree.find("iom_measurements/full_scan_field_of_view")
        if view is not None:
            info["field_of_view"] = [float(view.findtext(t, "nan")) for t in ("y", "x")]
            info["field_of_view_factor"] = float(view.findtext("scale_factor", "1"))
        raw = tree.find("raw_file")
        if raw is None or not raw.get("filename"):
            raise InputError(f"{path} names no raw file; give the .raw file itself")
        info["raw_file"] = str(raw.get("filename"))
    return info


def raster(raw: Path, frames: int, given: tuple[int, int] | None, info: dict[str, Any]) -> tuple[int, int]:
    """The shape of the scan (y, x): given, from the XML, from the name, from a square number of frames."""
    if given is not None:
        return given
    named = re.search(r"x(\d+)_y(\d+)", str(info.get("raw_file", ""))) or re.search(r"x(\d+)_y(\d+)", raw.name)
    shapes = [(int(named[2]), int(named[1]))] if named else []
    if str(info.get("pix_x", "")).isdigit() and str(info.get("pix_y", "")).isdigit():
        shapes.insert(0, (int(info["pix_y"]), int(info["pix_x"])))
    for shape in shapes:
        if shape[0] * shape[1] == frames:
            return shape
    side = round(frames**0.5)
    if shapes:
        raise InputError(
            f"{raw} holds {frames} frames, but is described as a scan of {shapes[0][0]} x {shapes[0][1]} (y, x); it "
            f"may be cut short: give scan_shape (y, x) (data.scan_shape), fitting: {products(frames)}"
        )
    if side * side != frames:
        raise InputError(
            f"{raw} holds {frames} frames; give scan_shape (y, x) (data.scan_shape), fitting: {products(frames)}"
        )
    return side, side


def optics(info: dict[str, Any], shape: tuple[int, int]) -> dict[str, Any]:
    """Energy, step and rotation out of the XML; the rest becomes metadata.

    The diffraction calibration in these files comes in two numbers that disagree, so neither is taken.
    """
    fields: dict[str, Any] = {"metadata": {k: v for k, v in info.items() if not isinstance(v, str) or len(v) < 200}}
    energy = number(info.get("high_voltage", info.get("source.get_voltage")))
    rotation = number(info.get("scan_rotation", info.get("column.get_scanrotation")))
    if energy:
        fields["energy"] = energy
    if rotation is not None:
        fields["scan_rotation"] = rotation
    step = scan_step(info, shape)
    if step and min(step) > 0 and np.isfinite(step).all():
        fields["scan_step"] = step
    return fields


def scan_step(info: dict[str, Any], shape: tuple[int, int]) -> tuple[float, float] | None:
    """Step (y, x) [Å] from the field of view.

    Software 1.2 writes the field of view of the longer side, already multiplied by a factor that does not belong there;
    older software a pair in metres, one for each axis.
    """
    if "field_of_view" in info:
        step = info["field_of_view"][0] / info["field_of_view_factor"] / max(shape)
        return (1e10 * step,) * 2
    text = str(info.get("optics.get_full_scan_field_of_view", ""))
    if re.fullmatch(r"\[[-+.eE\d, ]+\]", text):
        pair = ast.literal_eval(text)
        if len(pair) == 2:
            return 1e10 * pair[0] / shape[0], 1e10 * pair[1] / shape[1]
    return None


def number(text: Any) -> float | None:
    """A finite number written as text, or None."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if np.isfinite(value) else None
