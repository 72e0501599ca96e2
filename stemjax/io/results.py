"""One file format for the result of every problem (docs/file-format.md)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stemjax.core.errors import InputError
from stemjax.inference.result import Named, Result
from stemjax.io.atomic import atomic_hdf5
from stemjax.io.failures import existing_file
from stemjax.io.hdf5_tree import is_hdf5, open_hdf5
from stemjax.io.json_text import from_json, to_json
from stemjax.io.tree import read_value, write_value

if TYPE_CHECKING:
    import h5py

FORMAT = "stemjax-result"
VERSION = "1"
NAMED = ("estimate", "uncertainty", "samples")


def write_result(path: str | os.PathLike, result: Result) -> None:
    """Write a result as HDF5, whole or not at all.

    Args:
        path: The file; an older one is replaced only when the new one is complete.
        result: What a solver gave back.

    Raises:
        InputError: It cannot be written (no space, no permission, a value of a kind that files do not hold).

    >>> import tempfile, numpy as np
    >>> phase = Named(np.zeros((4, 4)), "rad", ("y", "x"), "Phase", (0.1, 0.1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_result(f"{folder}/r.h5", Result("ptychography", {"phase": phase}, config={"seed": 1}))
    ...     back = read_result(f"{folder}/r.h5")
    >>> back.estimate["phase"].sampling, back.config
    ((0.1, 0.1), {'seed': 1})
    """
    with atomic_hdf5(path) as file:
        file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
        file.attrs["problem"], file.attrs["success"] = result.problem, bool(result.success)
        file["status"] = result.status
        for name in NAMED:
            write_named_group(file, name, getattr(result, name))
        for name in ("history", "diagnostics"):
            write_value(file, name, getattr(result, name))
        for name in ("config", "provenance"):
            entries = getattr(result, name)
            file[name] = to_json(entries)
            file[name].attrs["content"] = "JSON"
            file[name].attrs.update(short_entries(entries))


def write_named_group(file: h5py.File, name: str, entries: Mapping[str, Named]) -> None:
    """One of the groups that hold nothing but arrays with units."""
    for key, value in entries.items():
        if not isinstance(value, Named):
            raise InputError(f"cannot write {name}/{key} of type {type(value).__name__}; wrap the array in `Named`")
    write_value(file, name, entries)


def short_entries(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers and short texts, which also become attributes: `h5dump -A` shows them."""
    kinds = (str, bool, int, float)
    found = {str(k): v for k, v in entries.items() if isinstance(v, kinds) and k and k != "content"}
    return {k: v for k, v in found.items() if fits_attribute(k, v)}


def fits_attribute(name: str, value: Any) -> bool:
    """Whether HDF5 takes an entry as an attribute (short, proper Unicode, 64-bit integers)."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return False
    text = name + (value if isinstance(value, str) else "")
    return len(text) < 2000 and "\0" not in text and text.isprintable()


def read_result(path: str | os.PathLike) -> Result:
    """Read what `write_result` wrote.

    Args:
        path: The file.

    Returns:
        The result, all of it in memory.

    Raises:
        InputError: No such file, another format, a newer version, or damaged.
    """
    file = existing_file(path)
    if not is_hdf5(file):
        raise InputError(f"{file} is no HDF5 file; give a result file of stemjax (.h5)")
    with open_hdf5(file, "a result of stemjax") as hdf5:
        check_format(hdf5, str(file))
        parts = {name: read_value(hdf5[name]) for name in (*NAMED, "history", "diagnostics") if name in hdf5}
        if "estimate" not in parts:
            raise InputError(f"{file} has no group `estimate`; it is damaged, or was written by another program")
        texts = {name: from_json(hdf5[name].asstr()[()]) for name in ("config", "provenance") if name in hdf5}
        return Result(
            problem=str(hdf5.attrs["problem"]),
            success=bool(hdf5.attrs["success"]),
            status=hdf5["status"].asstr()[()] if "status" in hdf5 else "",
            **parts,
            **texts,
        )


def check_format(file: h5py.File, path: str) -> None:
    """Refuse what is no result, or one of a version that this code does not know."""
    declared = str(file.attrs.get("format", ""))
    if declared != FORMAT:
        what = f"its format is {declared!r}" if declared else "it has no attribute `format`"
        raise InputError(f"{path} is no result of stemjax: {what}; wanted {FORMAT!r}")
    version = str(file.attrs.get("version", "?"))
    if version != VERSION:
        raise InputError(f"{path} has version {version} of {FORMAT}; this stemjax reads {VERSION}: update stemjax")
