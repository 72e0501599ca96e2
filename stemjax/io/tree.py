"""Nested Python values as HDF5 groups and arrays, and back, each exactly as it went in.

Every array and group has the attribute `kind`: `array`, `text-array`, `named` (an array with units and axes), `scalar`
(a numpy number), `int`, `float`, `complex`, `bool`, `str`, `none`, `json` (a list or tuple of plain values, as text),
`mapping`, `list` or `tuple` (groups). `/` and `%` in a name are written `%2F` and `%25`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np

from stemjax.core.errors import InputError
from stemjax.inference.result import Named
from stemjax.io.json_text import from_json, to_json

if TYPE_CHECKING:
    import h5py

PACKED = 2**16
"""Arrays from this size [byte] are packed (gzip 4, shuffle) and carry a checksum that finds damaged bytes."""


def escaped(name: str) -> str:
    """A name that HDF5 takes as one level.

    >>> escaped("initial/phase"), escaped("specimen.phase"), escaped(".")
    ('initial%2Fphase', 'specimen.phase', '%2E')
    """
    if not isinstance(name, str):
        raise InputError(f"cannot write the entry {name!r}: its name is a {type(name).__name__}; names are texts")
    if name in ("", ".", ".."):
        return name.replace(".", "%2E") or "%"
    return name.replace("%", "%25").replace("/", "%2F").replace("\0", "%00")


def unescaped(name: str) -> str:
    """The name that `escaped` was given."""
    return "" if name == "%" else unquote(name)


def write_value(group: h5py.Group, name: str, value: Any) -> None:
    """Write one value of any supported kind under a name.

    Args:
        group: Where.
        name: Its name; every character is allowed.
        value: A mapping, `Named`, array, number, text, truth value, None, or a list or tuple of these.

    Raises:
        InputError: The value is of another kind; the message has its place.
    """
    node = escaped(name)
    if isinstance(value, Named):
        write_named(group, name, value)
    elif isinstance(value, Mapping):
        below = group.create_group(node, track_order=True)
        below.attrs["kind"] = "mapping"
        for key, entry in value.items():
            write_value(below, key, entry)
    elif isinstance(value, list | tuple):
        write_sequence(group, node, value)
    elif value is None or isinstance(value, bool | int | float | complex | str | np.generic):
        write_scalar(group, node, value)
    elif hasattr(value, "__array__"):
        write_array(group, node, np.asarray(value))
    else:
        raise InputError(
            f"cannot write {group.name.rstrip('/')}/{name} of type {type(value).__name__}; give arrays, numbers, "
            "texts, lists and mappings"
        )


def write_sequence(group: h5py.Group, node: str, value: list | tuple) -> None:
    """A list or tuple: as text where its entries are plain, else as a group with one entry a number."""
    kind = "tuple" if isinstance(value, tuple) else "list"
    if is_plain(value):
        group[node] = to_json(value, indent=None)
        group[node].attrs["kind"] = "json"
        return
    below = group.create_group(node)
    below.attrs["kind"] = kind
    for number, entry in enumerate(value):
        write_value(below, str(number), entry)


def is_plain(value: Any) -> bool:
    """Whether JSON text holds a value exactly."""
    if isinstance(value, list | tuple):
        return all(is_plain(v) for v in value)
    return value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, np.generic))


def write_scalar(group: h5py.Group, node: str, value: Any) -> None:
    """A number, text, truth value or None."""
    if isinstance(value, np.generic):
        write_array(group, node, np.asarray(value))
        group[node].attrs["kind"] = "scalar"
        return
    kind = "none" if value is None else type(value).__name__
    if value is None:
        group[node] = ""
    elif isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        group[node], kind = to_json(value), "json"
    elif isinstance(value, str) and ("\0" in value or not is_encodable(value)):
        group[node], kind = np.void(value.encode("utf-8", "surrogatepass") or b"\0"), "bytes"
    else:
        group[node] = value
    group[node].attrs["kind"] = kind


def is_encodable(text: str) -> bool:
    """Whether a text is proper Unicode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def write_array(group: h5py.Group, node: str, array: np.ndarray) -> None:
    """An array of numbers or texts; large ones are packed and carry a checksum."""
    import h5py

    kind = "array"
    if array.dtype.kind in "UT":
        array, kind = array.astype(object), "text-array"
    elif array.dtype.kind not in "biufc" or array.dtype.itemsize > 16:
        raise InputError(
            f"cannot write {group.name.rstrip('/')}/{node}: an array of {array.dtype}; give numbers or texts"
        )
    if kind == "text-array":
        data = group.create_dataset(node, array.shape, dtype=h5py.string_dtype())
        if array.size:
            data[...] = array
    elif array.nbytes >= PACKED:
        group.create_dataset(
            node, data=array, chunks=True, compression="gzip", compression_opts=4, shuffle=True, fletcher32=True
        )
    else:
        group.create_dataset(node, data=array)
    group[node].attrs["kind"] = kind


def write_named(group: h5py.Group, name: str, value: Named) -> None:
    """An array with what it is: attributes `units`, `dims`, `long_name` and, on a regular grid, `sampling`."""
    node = escaped(name)
    array = np.asarray(value.value)
    if len(value.dims) != array.ndim:
        raise InputError(
            f"cannot write {name!r}: {array.ndim} axes {array.shape}, but {len(value.dims)} names {value.dims}; "
            "name every axis"
        )
    write_array(group, node, array)
    attributes = group[node].attrs
    attributes["kind"] = "named"
    attributes["units"], attributes["long_name"] = value.units, value.long_name
    attributes["dims"] = np.array(value.dims, object) if value.dims else ""
    attributes["sampling_units"] = value.sampling_units
    if value.sampling is not None:
        attributes["sampling"] = np.asarray(value.sampling, float)


def read_value(node: Any) -> Any:
    """What `write_value` wrote; a group or array without `kind` (of another program) as a mapping or an array."""
    import h5py

    kind = str(node.attrs.get("kind", ""))
    if isinstance(node, h5py.Group):
        entries = {unescaped(name): read_value(node[name]) for name in node}
        if kind in ("list", "tuple"):
            ordered = [entries[str(n)] for n in range(len(entries))]
            return tuple(ordered) if kind == "tuple" else ordered
        return entries
    if kind == "named":
        return read_named(node)
    if kind == "text-array":
        return np.asarray(node.asstr()[...], dtype=str)
    if kind in ("str", "json"):
        text = node.asstr()[()]
        return from_json(text) if kind == "json" else text
    return read_number(node, kind)


def read_number(node: h5py.Dataset, kind: str) -> Any:
    """An array, or the Python value that a `kind` means."""
    if kind == "none":
        return None
    if kind == "bytes":
        return bytes(node[()].tobytes()).decode("utf-8", "surrogatepass")
    if kind in ("int", "float", "complex", "bool"):
        return {"int": int, "float": float, "complex": complex, "bool": bool}[kind](node[()])
    return node[()] if kind == "scalar" else np.asarray(node[...])


def read_named(node: h5py.Dataset) -> Named:
    """An array with its attributes; what another program left out is empty."""
    attributes = node.attrs
    dims = attributes.get("dims", "")
    sampling = attributes.get("sampling")
    return Named(
        value=np.asarray(node[...]),
        units=str(attributes.get("units", "")),
        dims=() if isinstance(dims, str) else tuple(str(d) for d in dims),
        long_name=str(attributes.get("long_name", "")),
        sampling=None if sampling is None else tuple(float(s) for s in np.atleast_1d(sampling)),
        sampling_units=str(attributes.get("sampling_units", "Å")),
    )
