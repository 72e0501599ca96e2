"""From a YAML file to checked settings, and back; every refusal names the line, the key and the remedy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from stemjax.app.fit.settings import FitSettings
from stemjax.app.simulation.settings import SimulationSettings
from stemjax.app.yamlfile import Document, Key, read_document
from stemjax.core.errors import InputError, nearest
from stemjax.problems.ptychography.settings import PtychographySettings

AnySettings = PtychographySettings | SimulationSettings | FitSettings
PROBLEMS: Mapping[str, type[PtychographySettings] | type[SimulationSettings] | type[FitSettings]] = {
    "ptychography": PtychographySettings,
    "simulation": SimulationSettings,
    "fit": FitSettings,
}
"""The kinds of problem: what may stand behind `problem:`, and the model of the rest."""

FILE_KEYS: tuple[tuple[str, ...], ...] = (
    ("data", "file"),
    ("data", "mask"),
    ("data",),
    ("simulation",),
    ("specimen", "file"),
    ("specimen", "field", "electrostatic"),
    ("specimen", "field", "magnetic"),
    ("probe", "plate", "file"),
    ("detector", "response", "file"),
    ("detector", "virtual", "*"),
)
"""Keys that name a file which must exist; `*` stands for every key of a mapping."""


def load_config(path: str | Path, overrides: Iterable[str] = (), *, need_files: bool = True) -> AnySettings:
    """Read and check a configuration.

    Args:
        path: A YAML file.
        overrides: Texts "key.path=value" that win over the file; paths in them start at the current folder.
        need_files: Whether the files that the configuration names must exist.

    Returns:
        The settings of the problem that the file names, with absolute paths.

    Raises:
        InputError: One line for each mistake, with the place, the key and the remedy.
    """
    path = Path(path)
    return settings_of(read_document(path, overrides), path.resolve().parent, need_files=need_files)


def settings_of(document: Document, folder: Path, *, need_files: bool = True) -> AnySettings:
    """Check a document; relative paths in it start at `folder`."""
    model = _model(document)
    values = _resolve_paths(document, folder)
    try:
        settings = model.model_validate(values)
    except ValidationError as error:
        raise InputError("\n".join(_messages(error, document, model))) from None
    if need_files:
        _check_files(settings, document)
    return settings


def json_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of every configuration, for editors.

    >>> sorted(json_schema()["discriminator"]["mapping"])
    ['fit', 'ptychography', 'simulation']
    """
    schema = TypeAdapter(Annotated[AnySettings, Field(discriminator="problem")]).json_schema()
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "stemjax configuration"}
    return head | schema


def schema_text() -> str:
    """The JSON schema as text, as `configs/schema.json` has it."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


def reference_tables() -> str:
    """The tables of keys and their documentation in Markdown, as `docs/configuration.md` has them."""
    tables = []
    for problem, model in PROBLEMS.items():
        rows = [f"| `{key}` | {documentation} |" for key, documentation in known_keys(model).items()]
        tables.append("\n".join([f"### problem: {problem}", "", "| key | meaning |", "| --- | --- |", *rows]))
    return "\n\n".join(tables) + "\n"


def plain_settings(settings: BaseModel) -> dict[str, Any]:
    """Settings as nested plain values, complete, in the form that `load_config` takes."""
    return settings.model_dump(mode="json", by_alias=True)


def dump_yaml(settings: BaseModel) -> str:
    """Settings as YAML that `load_config` reads to equal settings; entries without a value are left out."""
    values = _without_none(plain_settings(settings))
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)


def known_keys(model: type[BaseModel], prefix: str = "") -> dict[str, str]:
    """Every dotted key of a model and its documentation, sections before what is in them.

    >>> known_keys(SimulationSettings)["scan.step"]
    'Step [Å], one number or [y, x].'
    """
    keys = {}
    for name, field in model.model_fields.items():
        keys[prefix + name] = field.description or ""
        for inner in _models_in(field.annotation):
            keys |= known_keys(inner, f"{prefix}{name}.")
    return keys


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _model(document: Document) -> type[PtychographySettings] | type[SimulationSettings] | type[FitSettings]:
    name = document.values.get("problem")
    if isinstance(name, str) and name in PROBLEMS:
        return PROBLEMS[name]
    if "problem" not in document.values:
        raise InputError(
            f"{document.source}: key 'problem' is missing; add 'problem: ptychography' (or simulation, fit)"
        )
    raise InputError(f"{document.place(('problem',))}: problem = {name!r} is not known; {nearest(str(name), PROBLEMS)}")


def _resolve_paths(document: Document, folder: Path) -> dict[str, Any]:
    """Paths in a file start at its folder, so that it works from everywhere; those typed in a shell at the shell's."""
    values = document.values
    for key in (*FILE_KEYS, ("output", "folder")):
        for path, text in _texts_at(values, key):
            start = Path.cwd() if document.place(path).startswith("-s ") else folder
            values = _with_value(values, path, str(start / Path(text).expanduser()))
    return values


def _texts_at(values: Any, key: tuple[str, ...], done: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """The texts that stand at a key, each with its path."""
    if not key:
        if isinstance(values, str) and values.strip():
            yield done, values
        return
    if isinstance(values, Mapping):
        for name in values if key[0] == "*" else (key[0],):
            yield from _texts_at(values.get(name), key[1:], (*done, str(name)))


def _with_value(values: Mapping[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A mapping with another value at a path; what lies beside the path is shared."""
    inner = value if len(path) == 1 else _with_value(values[path[0]], path[1:], value)
    return {**values, path[0]: inner}


def _check_files(settings: AnySettings, document: Document) -> None:
    values = settings.model_dump()
    for path, text in ((p, t) for key in FILE_KEYS for p, t in _texts_at(values, key)):
        if not Path(text).exists():
            hint = _beside(Path(text), path[0])
            raise InputError(f"{document.place(path)}: {'.'.join(path)}: no file {Path(text)}; {hint}")


def named_files(settings: AnySettings) -> list[str]:
    """Every file that a configuration names as an input."""
    values = settings.model_dump()
    return [text for key in FILE_KEYS for _, text in _texts_at(values, key)]


def _beside(path: Path, section: str) -> str:
    """What lies where a file was looked for: data beside data, else the nearest names."""
    if section == "data":
        from stemjax.io.failures import what_is_there

        return what_is_there(path)
    names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    return nearest(path.name, names) if names else f"there is no folder {path.parent}"


def _messages(error: ValidationError, document: Document, model: type[BaseModel]) -> list[str]:
    """One line for each mistake, in the order of the file."""
    known = known_keys(model)
    found = [(_key(entry["loc"]), entry) for entry in error.errors(include_url=False)]
    unknown = {_nearest_key(key, known) for key, entry in found if entry["type"] == "extra_forbidden"}
    order = list(document.places)
    found.sort(key=lambda pair: order.index(document.nearest(pair[0])))
    lines = []
    for key, entry in found:
        name = ".".join(map(str, key))
        # A misspelt key is also a missing one; one line for it is enough.
        if not (entry["type"] == "missing" and f"nearest: '{name}'" in unknown):
            lines.append(f"{document.place(key)}: {_explain(name, key, entry, known)}")
    return lines


def _key(location: tuple[int | str, ...]) -> Key:
    """The path that a person wrote: pydantic's names for the forms of a union, in angle brackets, are left out."""
    return tuple(part for part in location if not str(part).startswith("<"))


def _explain(name: str, key: Key, entry: Any, known: Mapping[str, str]) -> str:
    kind = entry["type"]
    inside = ", ".join(k.rpartition(".")[2] for k in known if k.rpartition(".")[0] == name)
    if kind == "extra_forbidden":
        return f"unknown key '{name}'; {_nearest_key(key, known)}"
    if kind == "missing":
        return f"key '{name}' is missing; add it{' with keys ' + inside if inside else ''}: {known.get(name, '')}"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"'{name}': {_short(entry['input'])} is not a mapping; give keys below it: {inside}"
    reason = str(entry["ctx"]["error"]) if kind == "value_error" else f"{entry['msg']}; give what is documented"
    # A rule between several keys names them itself.
    return f"'{name}': {reason}" if name and not reason.startswith(f"{key[0]}.") else reason


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _nearest_key(key: Key, known: Mapping[str, str]) -> str:
    """The keys that an unknown one may stand for: a neighbour with a like name, else a like name elsewhere."""
    section, last = ".".join(map(str, key[:-1])), str(key[-1])
    neighbours = {k.rpartition(".")[2]: k for k in known if k.rpartition(".")[0] == section}
    hint = nearest(last, neighbours)
    if hint.startswith("nearest"):
        return "nearest: " + " or ".join(f"'{neighbours[n]}'" for n in neighbours if f"'{n}'" in hint)
    elsewhere = {k.rpartition(".")[2]: k for k in known}
    other = nearest(last, elsewhere)
    if other.startswith("nearest"):
        return "nearest: " + " or ".join(f"'{k}'" for k in known if f"'{k.rpartition('.')[2]}'" in other)
    return hint


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return value
