"""Configurations: what is read, and that every mistake is refused with its line, its key and a remedy."""

import copy
import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from stemjax.app.config import PROBLEMS, dump_yaml, known_keys, load_config, plain_settings, schema_text, settings_of
from stemjax.app.yamlfile import parse_document
from stemjax.core.errors import InputError
from stemjax.optics.aberrations import make_aberrations
from stemjax.problems.ptychography.aberration_settings import NAMES, lens_coefficients
from stemjax.problems.ptychography.refine_settings import UNKNOWNS

CONFIGS = Path(__file__).parents[2] / "configs"
FULL = {name: yaml.safe_load((CONFIGS / f"{name}-full.yaml").read_text()) for name in PROBLEMS}
# A measured detector needs a file, so the configuration that is ready to use has it behind a '#'.
FULL["simulation"]["detector"]["response"] = {"file": "map.npy", "pixel": "1.5 mrad", "name": "ADF", "centre": [3, 3]}

QUANTITY = ["3 parsec", "three", True, [], {"a": 1}, "1,5 nm"]
# The values that are wrong for a kind of entry: wrong types, wrong units, out of range.
WRONG = {
    "text": [3, True, [], {"a": 1}, ""],
    "length": [*QUANTITY, "3 keV", "1e400"],
    "size": [*QUANTITY, "3 mrad", -2, 0, "-1 nm"],
    "margin": [*QUANTITY, "3 mrad", -2, "-1 nm"],
    "energy": [*QUANTITY, "3 nm", 80, "-80 keV", "1 GV"],
    "angle": [*QUANTITY, "3 nm", -2, 0, "4 rad"],
    "turn": [*QUANTITY, "3 nm", 400, "7 rad"],
    "dose": [*QUANTITY, "3 e", -2, 0],
    "electrons": [*QUANTITY, "3 e/Å^2", -2, 0],
    "gain": [*QUANTITY, "3 e", -2, 0],
    "pair of sizes": ["3 parsec", True, [], [1, 2, 3], ["1 nm", "2 mrad"], [1, -1], {"a": 1}],
    "pair of angles": ["3 parsec", True, [], [1, 2, 3], ["1 nm", "2 mrad"], [1, 1e9], {"a": 1}],
    "pair of counts": ["many", True, [], [1, 2, 3], [0, 4], [1.5, 2], {"a": 1}],
    "number": ["many", True, [], {"a": 1}, "3 nm"],
    "positive": ["many", True, [], {"a": 1}, "3 nm", -1],
    "count": ["many", True, [], {"a": 1}, 0, -3, 2.5, "3 nm", 10**30],
    "seed": ["many", True, [], {"a": 1}, -3, 2.5, "3 nm", 10**30],
    "devices": ["many", True, [], 0, -3, 2.5],
    "share": ["half", True, [], -0.1, 0.9],
    "passes": ["many", True, [], -3, 2.5],
    "flag": ["maybe", 3, [], {"a": 1}],
    "choice": ["poison", 3, [], {"a": 1}],
    "range": ["3:4", 3, [1], [4, 2], [-1, 3], [0, 1.5]],
    "free": ["maybe", -3, 1.5, [], {"form": 3}, {"from": -1}, {"rate": 0}, {"rate": "fast"}],
    "free aberrations": ["maybe", -3, [], {"C13": True}, {"C10": "maybe"}],
    "aberrations": [
        3,
        [],
        {"C13": 1},
        {"C12": "3 mrad"},
        {"C10": {"C": 1, "angle": 2}},
        {"phi12": 3},
        {"C12": {"A": 1}},
    ]
    + [{"C12": 1, "C12a": 2}, {"A1": 1, "C12": 2}, {"C12": 1, "phi12": "3 nm"}, {"defocus": 1}],
    "rates": [3, [], {"objct": 1}, {"object": -1}, {"object": "fast"}],
    "checkpoint": ["often", True, [], 0, 1.5, "-3 s", "3 nm"],
    "axis": [3, [1, 1], [0, 0, 0], [1, 0.5, 0], ["a", "b", "c"]],
    "points": [3, [1, 2], [[1, 2, 3]], [["1 mrad", 2]]],
    "rings": [3, [], {"HAADF": 3}, {"HAADF": [200, 60]}, {"HAADF": [60, "2 nm"]}],
    "section": [3, "yes", [1]],
    "orientation": ["upside-down", 3, [1]],
    "problem": [3, "ptychografy", [], None],
    "displacement": [*QUANTITY[:4], "3 keV", -0.1, {"Xx": 0.1}, {"O": "3 mrad"}],
    "areas": [3, [], {"Xx": 0.1}, {"O": "3 mrad"}, {"O": -1}],
    "dopants": [3, [], {"La": 0.1}, {"La": {"replaces": "Sr"}}, {"La": {"replaces": "Q", "fraction": 0.1}}]
    + [{"La": {"replaces": "Sr", "fraction": 2}}],
    "segments": [3, [], {"DPC": 3}, {"DPC": {"rings": [20, 10]}}, {"DPC": {"rings": [1]}}]
    + [
        {"DPC": {"rings": [0, 9], "sectors": 0}},
        {"DPC": {"rings": [0, "9 nm"]}},
        {"DPC": {"rings": [0, 9], "turn": 3}},
    ],
    "masks": [3, [], {"mine": 3}, {"mine": ""}, {"a/b": "x.npy"}],
    "lengths": [3, ["three"], ["3 mrad"], {"a": 1}],
    "depths": [3, ["three"], ["3 mrad"], [-4], [0], {"a": 1}],
    "turns": [3, [], ["three"], ["3 nm"], [400], {"a": 1}],
    "words": [3, [3], {"a": 1}],
    "charge": ["many", True, [], {"a": 1}, 2.5, "3 nm", 10**30],
    "pair of speeds": ["3 parsec", True, [], [1, 2, 3], ["1 nm", 0], {"a": 1}],
    "pair of numbers": ["many", True, [], [1, 2, 3], [1, 0], {"a": 1}],
    "pair of signed angles": ["3 parsec", True, [], [1, 2, 3], ["1 nm", "2 mrad"], [1, 1e9], {"a": 1}],
    "time": [*QUANTITY, "3 mrad", 0, -1],
    "pause": [*QUANTITY, "3 mrad", -1],
    "current": [*QUANTITY, "3 mrad", 0, -1],
    "loss": [*QUANTITY, "3 mrad", "2 MeV"],
    "width": [*QUANTITY, "3 mrad", -1],
    "plain": ["many", True, [], {"a": 1}, "3 nm"],
    "above zero": ["many", True, [], {"a": 1}, 0, -1, "3 nm"],
    "angle from zero": [*QUANTITY, "3 nm", -2, "4 rad"],
    "changes": [3, [], {"dose": [1]}, {"dose": True}, {"dose": {"rns": 1}}, {"dose": None}],
    "beliefs": [3, [], {}, {"dose": [1]}, {"dose": "0 %"}, {"dose": {"unifrm": [1, 2]}}, {"dose": {"uniform": 3}}]
    + [{"dose": None}, {"dose": True}, {"dose": "-5 %"}],
    "pixel pair": ["three", [1, 2, 3], ["a", "b"]],
}

SIMULATION = (
    dict.fromkeys(["specimen", "specimen.field", "potential", "propagation", "probe", "probe.plate"], "section")
    | dict.fromkeys(["probe.coherence", "scan", "detector", "detector.pixelated", "detector.camera"], "section")
    | dict.fromkeys(["detector.response", "spectrum", "series", "dose", "output"], "section")
    | {"problem": "problem", "specimen.builder": "choice", "specimen.file": "text", "specimen.zone_axis": "axis"}
    | {"specimen.size": "pair of sizes", "specimen.thickness": "size", "specimen.vacancies": "points"}
    | {"specimen.dopants": "dopants", "specimen.rms_displacement": "displacement", "specimen.b_factors": "areas"}
    | {"specimen.phonons": "seed", "specimen.absorption": "flag", "specimen.trajectory": "flag"}
    | {"specimen.field.electrostatic": "text", "specimen.field.magnetic": "text", "specimen.field.flip": "flag"}
    | {"specimen.tilt": "pair of signed angles", "propagation.method": "choice", "propagation.interpolation": "count"}
    | {"potential.parametrization": "choice", "potential.sampling": "size", "potential.slice_thickness": "size"}
    | {"probe.energy": "energy", "probe.semiangle": "angle", "probe.defocus": "length"}
    | {"probe.aberrations": "aberrations", "probe.plate.vortex": "charge", "probe.plate.hollow": "angle from zero"}
    | {"probe.plate.gaussian": "angle", "probe.plate.rings": "count", "probe.plate.file": "text"}
    | {"probe.coherence.source_size": "margin", "probe.coherence.energy_spread": "width"}
    | {"probe.coherence.chromatic": "margin", "probe.coherence.error": "above zero"}
    | dict.fromkeys(["probe.coherence.voltage_instability", "probe.coherence.current_instability"], "positive")
    | {"scan.shape": "pair of counts", "scan.step": "pair of sizes", "scan.path": "choice", "scan.points": "count"}
    | {"scan.rotation": "turn", "scan.position_error": "margin", "scan.dwell": "time", "scan.flyback": "pause"}
    | {"scan.frames": "count", "scan.frame_pause": "pause", "scan.angles": "turns", "scan.drift": "pair of speeds"}
    | {"scan.drift_walk": "positive", "scan.jitter": "margin", "scan.scale": "pair of numbers", "scan.shear": "turn"}
    | {"detector.pixelated.shape": "pair of counts", "detector.pixelated.bin": "count", "detector.annular": "rings"}
    | {"detector.camera.gain": "above zero", "detector.camera.dark": "plain", "detector.camera.readout": "positive"}
    | {"detector.camera.blur": "positive", "detector.camera.saturation": "above zero"}
    | {"detector.segmented": "segments", "detector.moments": "angle", "detector.midi": "flag"}
    | {"detector.virtual": "masks", "detector.response.file": "text", "detector.response.pixel": "angle"}
    | {"detector.response.name": "text", "detector.response.centre": "pixel pair"}
    | {"spectrum.edges": "words", "spectrum.collection": "angle", "spectrum.offset": "pair of signed angles"}
    | {"spectrum.start": "loss", "spectrum.dispersion": "width", "spectrum.channels": "count"}
    | dict.fromkeys(["spectrum.zero_loss_width", "spectrum.plasmon", "spectrum.plasmon_width"], "width")
    | {"spectrum.window": "width", "spectrum.thickness_ratio": "positive", "spectrum.background": "positive"}
    | {"spectrum.background_exponent": "above zero", "series.depths": "depths", "series.defoci": "lengths"}
    | {"dose.per_area": "dose", "dose.per_pattern": "electrons", "dose.current": "current"}
    | {"output.emd": "flag", "output.hyperspy": "flag", "output.truth": "choice", "seed": "seed", "devices": "devices"}
)
SECTIONS = ["data", "data.crop", "probe", "object", "refine", "prior", "solver", "output"]
KINDS = {
    "ptychography": dict.fromkeys(SECTIONS, "section")
    | dict.fromkeys(["data.file", "data.key", "data.format", "data.axes", "data.mask", "output.folder"], "text")
    | {"problem": "problem", "orientation": "orientation", "orientation.rotation": "turn"}
    | dict.fromkeys(["orientation.transpose", "orientation.flip_y", "orientation.flip_x"], "flag")
    | {"data.scan_shape": "pair of counts", "data.energy": "energy", "data.scan_step": "pair of sizes"}
    | {"data.detector_sampling": "pair of angles", "data.semiangle": "angle", "data.electrons_per_count": "gain"}
    | {"data.offset": "number", "data.clip": "flag", "data.replace_by": "positive", "data.bin": "count"}
    | {"data.crop.y": "range", "data.crop.x": "range"}
    | {"probe.defocus": "length", "probe.aberrations": "aberrations", "probe.modes": "count"}
    | {"object.kind": "choice", "object.slices": "count", "object.thickness": "size", "object.padding": "margin"}
    | {"object.steps": "devices", "solver.lift": "passes", "solver.held_out": "share"}
    | {f"refine.{n}": "free" for n in UNKNOWNS if n != "aberrations"}
    | {"refine.aberrations": "free aberrations"}
    | dict.fromkeys(["prior.total_variation", "prior.smoothness", "prior.slice_smoothness"], "positive")
    | {"prior.positivity": "flag", "prior.position_std": "size", "prior.drift_step": "size"}
    | {"prior.descan_std": "angle", "prior.tilt_std": "angle"}
    | {"solver.epochs": "count", "solver.batch": "count", "solver.noise": "choice", "solver.rate": "rates"}
    | {"solver.seed": "seed", "solver.dtype": "choice", "solver.devices": "devices"}
    | {"output.checkpoint": "checkpoint", "output.report": "flag"},
    "simulation": SIMULATION,
    "fit": {"problem": "problem", "simulation": "text", "data": "text", "truth": "changes", "signals": "words"}
    | {"free": "beliefs", "solver": "section", "solver.method": "choice", "solver.iterations": "count"}
    | {"posterior": "section", "posterior.method": "choice", "posterior.draws": "count", "posterior.chains": "count"}
    | {"posterior.warmup": "count", "posterior.rank": "seed", "seed": "seed", "devices": "devices"},
}
REMEDY = re.compile(r"nearest: '|known: '|; (give|write|add|keep|drop) |, not ", re.IGNORECASE)


def changed(problem, path, value, *, rename=None):
    """A full configuration with one value or one name changed, as block YAML, and the line where that stands."""
    *sections, last = path.split(".")
    # Sections that the change does not touch only cost time.
    needed = {"problem", "data", "specimen", "probe", "scan", path.split(".")[0]}
    config = copy.deepcopy({k: v for k, v in FULL[problem].items() if k in needed or problem != "simulation"})
    inside = config
    for section in sections:
        inside = inside.setdefault(section, {})
    items = list(inside.items()) if last in inside else [*inside.items(), (last, None)]
    inside.clear()
    inside.update({(rename or k) if k == last else k: (v if rename else value) if k == last else v for k, v in items})
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    return text, line_of(text, [*sections, rename or last])


def line_of(text, keys):
    """The line of a key in block YAML, found by indents alone."""
    depth = 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("  " * depth + keys[depth] + ":"):
            depth += 1
            if depth == len(keys):
                return number
    raise AssertionError(f"no {keys}")


def misspelt(key):
    """Three slips of the finger: a letter too few, a letter twice, a letter for its neighbour."""
    if len(key) == 1:
        return [key + key]
    middle = len(key) // 2
    swapped = key[: middle - 1] + key[middle] + key[middle - 1] + key[middle + 1 :]
    return [key[:-1], key[:middle] + key[middle - 1] + key[middle:], swapped if swapped != key else key + "s"]


def misspellings():
    for problem, kinds in KINDS.items():
        for path in kinds:
            last = path.split(".")[-1]
            siblings = {k.split(".")[-1] for k in kinds if k.rpartition(".")[0] == path.rpartition(".")[0]}
            for name in misspelt(last):
                if name not in siblings:
                    yield problem, path, name


QUICK = 4
"""Wrong values of every key that every run tries; the rest of a kind, in turns from key to key, with the slow tests."""


def wrong_values():
    for problem, kinds in KINDS.items():
        for number, (path, kind) in enumerate(kinds.items()):
            for place, value in enumerate(WRONG[kind]):
                quick = (place + number) % len(WRONG[kind]) < QUICK
                yield pytest.param(problem, path, value, marks=() if quick else pytest.mark.slow)


def refusal(text, source="my.yaml"):
    with pytest.raises(InputError) as error:
        settings_of(parse_document(text, source), Path(), need_files=False)
    return str(error.value)


def test_more_than_two_hundred_wrong_configurations_are_tried():
    assert len(list(misspellings())) > 200
    assert len(list(wrong_values())) > 400


@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_key_has_its_wrong_values(problem):
    assert set(KINDS[problem]) == set(known_keys(PROBLEMS[problem]))


@pytest.mark.parametrize(("problem", "path", "name"), list(misspellings()))
def test_a_misspelt_key_is_refused_with_the_nearest(problem, path, name):
    text, line = changed(problem, path, None, rename=name)
    message = refusal(text)
    if path == "problem":
        assert "'problem' is missing; add 'problem: ptychography'" in message
        return
    wrong = ".".join([*path.split(".")[:-1], name])
    lines = [m for m in message.splitlines() if m.startswith(f"my.yaml, line {line}: unknown key '{wrong}'; nearest: ")]
    assert lines, message
    assert f"'{path}'" in lines[0]


@pytest.mark.parametrize(("problem", "path", "value"), list(wrong_values()))
def test_a_wrong_value_is_refused_with_line_key_and_remedy(problem, path, value):
    text, line = changed(problem, path, value)
    first = refusal(text).splitlines()[0]
    assert f"my.yaml, line {line}: " in first
    assert path in first
    assert REMEDY.search(first), first
    assert len(first) < 400


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["empty", "problem: ptychography"]),
        ("- a", ["line 1", "not a mapping"]),
        ("data: {file: a}", ["'problem' is missing"]),
        ("problem: ptychography", ["key 'data' is missing", "file"]),
        ("problem: ptychography\ndata: {}", ["line 2", "key 'data.file' is missing"]),
        ("problem: ptychography\ndata: {file: a}\nsemiangle: 3", ["line 3", "nearest: 'data.semiangle'"]),
        ("a: 1\na: 2", ["line 2", "'a'", "second time", "line 1"]),
        ("a: {b: 1,\n b: 2}", ["line 2", "'a.b'", "second time"]),
        ("a: &x 1\nb: *x", ["line 2", "alias"]),
        ("a: !!python/object/apply:os.getcwd []", ["line 1", "tag"]),
        ("a: !mine 3", ["line 1", "tag"]),
        ("\ta: 1", ["line 1", "spaces"]),
        ("a: b: c", ["line 1", "quotes"]),
        ("a: [1, 2", ["not YAML"]),
        ("a: 1\n---\nb: 2", ["line 2", "second document"]),
        ("? [a]\n: 1", ["line 1", "a key is a word"]),
        ("a: \x01", ["not YAML"]),
        ("[" * 5000, ["nested too deeply"]),
        ("problem: ptychography\ndata: {file: a}\nobject: {slices: 8}", ["line 3", "object.thickness", "add"]),
        ("problem: ptychography\ndata: {file: a}\nrefine: {thickness: true}", ["refine.thickness", "object.slices"]),
        (
            "problem: ptychography\ndata: {file: a}\nprobe: {defocus: 3, aberrations: {C10: 2}}",
            ["line 3", "probe.defocus", "probe.aberrations.C10", "keep one"],
        ),
        (
            "problem: ptychography\ndata: {file: a}\nrefine: {probe: {rate: 1}}\nsolver: {rate: {probe: 1}}",
            ["'probe'", "solver.rate", "refine", "keep one"],
        ),
        (
            "problem: simulation\nspecimen: {}\nprobe: {energy: 80 keV, semiangle: 20}",
            ["line 2", "specimen", "builder"],
        ),
    ],
)
def test_mistakes_in_the_file_as_a_whole(text, words):
    message = refusal(text)
    for word in words:
        assert word in message


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file():
    text = (
        "problem: ptychography\nsolver: {epochs: 0}\nprobe:\n  modes: 0\n  defocuss: 1\ndata: {file: a, energy: 80}\n"
    )
    lines = refusal(text).splitlines()
    assert [int(re.search(r"line (\d+)", line)[1]) for line in lines] == [2, 4, 5, 6]


@given(st.text(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_text_is_refused_politely(text):
    assert refusal(text)


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfea\0:\0", b"\x89HDF\r\n\x1a\n" + bytes(200), b"\0" * 50, b"a" * 2_000_000, "é: 1".encode("latin-1")],
)
def test_files_that_are_no_yaml_are_named(tmp_path, content):
    (tmp_path / "data.h5").write_bytes(content)
    with pytest.raises(InputError, match=r"^data\.h5"):
        load_config(tmp_path / "data.h5")


@given(st.sampled_from(sorted(PROBLEMS)), st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_file_is_read_or_refused(problem, data):
    text = (CONFIGS / f"{problem}-full.yaml").read_text()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(start + 40, len(text))))
    damaged = text[:start] + data.draw(st.text(max_size=8)) + text[end:]
    message = ""
    try:
        settings_of(parse_document(damaged, "my.yaml"), Path(), need_files=False)
    except InputError as error:
        message = str(error)
    assert all(line.startswith("my.yaml") for line in message.splitlines())


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda p: p.name)
def test_the_ready_configurations_load_and_come_back(path):
    loaded = load_config(path, need_files=False)
    again = settings_of(parse_document(dump_yaml(loaded), "again.yaml"), path.parent, need_files=False)
    assert again == loaded
    assert type(loaded).model_validate(plain_settings(loaded)) == loaded


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_minimal_configuration_is_short_and_the_full_one_has_every_key(problem):
    minimal = (CONFIGS / f"{problem}-minimal.yaml").read_text()
    assert len(minimal.splitlines()) <= 15
    text = (CONFIGS / f"{problem}-full.yaml").read_text()
    for key, documentation in known_keys(PROBLEMS[problem]).items():
        assert re.search(rf"\b{key.split('.')[-1]}:", text), key
        assert len(documentation) > 5, key


def test_the_schema_file_is_current():
    assert (CONFIGS / "schema.json").read_text() == schema_text(), (
        "write it again: stemjax schema > configs/schema.json"
    )
    definitions = json.loads(schema_text())["$defs"]
    energy = definitions["DataSettings"]["properties"]["energy"]
    assert "eV" in energy["description"]
    assert definitions["SolverSettings"]["additionalProperties"] is False


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_reference_in_the_documentation_has_every_key(problem):
    text = (CONFIGS.parent / "docs" / "configuration.md").read_text()
    for key, documentation in known_keys(PROBLEMS[problem]).items():
        assert f"| `{key}` | {documentation} |" in text, f"docs/configuration.md lacks {key}: stemjax schema --markdown"


def load(text, *overrides):
    document = parse_document(text, "my.yaml")
    from stemjax.app.yamlfile import override_document

    for override in overrides:
        document = override_document(document, override)
    return settings_of(document, Path("/folder"), need_files=False)


BASE = "problem: ptychography\ndata: {file: a.h5}\n"


def test_numbers_are_numbers_whatever_yaml_1_1_says():
    read = load(BASE + "solver: {epochs: 1e2, rate: {object: 1e-3}}\nprior: {smoothness: 012}\nrefine: {probe: no}")
    assert (read.solver.epochs, read.solver.rate["object"], read.prior.smoothness) == (100, 1e-3, 12.0)
    assert read.refine.probe is None


def test_the_language_of_refine():
    read = load(
        BASE + "refine: {probe: 5, positions: after 7, tilt: {from: 2, rate: 0.1}, defocus: off, object: false}"
    )
    refine = read.refine
    assert (refine.probe.start, refine.positions.start) == (5, 7)
    assert (refine.tilt.start, refine.tilt.rate) == (2, 0.1)
    assert (refine.defocus, refine.object) == (None, None)
    by_name = load(BASE + "refine: {aberrations: {C10: true, C12: after 5, C30: false}}").refine.aberrations
    assert {name: free.start for name, free in by_name.items()} == {"C10": 0, "C12": 5}
    assert list(load(BASE + "refine: {aberrations: true}").refine.aberrations) == ["all"]


def test_overrides_win_and_are_checked_like_the_file():
    read = load(
        BASE + "orientation: auto", "probe.defocus=10 nm", "orientation.rotation=0.5 rad", "solver.rate.object=1e-3"
    )
    assert (read.probe.defocus, read.solver.rate) == (100.0, {"object": 1e-3})
    assert read.orientation.rotation == pytest.approx(28.6478897565)
    for override, words in [
        ("probe.defocuss=1", ["-s probe.defocuss=1", "nearest: 'probe.defocus'"]),
        ("probe.modes=0", ["-s probe.modes=0", ">= 1"]),
        ("probe.modes", ["key.path=value"]),
        ("=3", ["key.path=value"]),
        ("probe.modes=[", ["-s probe.modes=["]),
    ]:
        with pytest.raises(InputError) as error:
            load(BASE, override)
        for word in words:
            assert word in str(error.value)


def test_paths_start_at_the_file_and_overridden_ones_at_the_shell(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    config = tmp_path / "configs" / "my.yaml"
    config.write_text(BASE)
    (tmp_path / "configs" / "a.h5").touch()
    (tmp_path / "b.h5").touch()
    monkeypatch.chdir(tmp_path)
    assert Path(load_config(config).data.file) == tmp_path / "configs" / "a.h5"
    assert Path(load_config(config, ["data.file=b.h5"]).data.file) == tmp_path / "b.h5"
    config.write_text(BASE.replace("a.h5", "aa.h5"))
    with pytest.raises(InputError, match=r"my\.yaml, line 2: data\.file: no file .*nearest: 'a\.h5'"):
        load_config(config)


def test_every_aberration_name_reaches_the_lens():
    for name in NAMES:
        owner = (
            name.replace("phi", "C", 1) if name.startswith("phi") and name[3].isdigit() else name.replace("phi", "", 1)
        )
        text = f"probe: {{aberrations: {{{owner}: 3 nm" + (f", {name}: 90 deg" if owner != name else "") + "}}"
        lens = make_aberrations(lens_coefficients(load(BASE + text).probe.aberrations))
        assert sum(abs(float(value)) for value in vars(lens).values()) > 0


def test_a_polar_pair_is_its_cartesian_pair():
    polar = load(BASE + "probe: {aberrations: {C12: {C: 2 nm, angle: 22.5 deg}}}").probe.aberrations
    lens = make_aberrations(lens_coefficients(polar))
    # C12a = C12 cos 2φ, C12b = C12 sin 2φ: equal at 22.5 degrees.
    assert float(lens.C12a) == pytest.approx(20.0 / 2**0.5)
    assert float(lens.C12b) == pytest.approx(20.0 / 2**0.5)


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        load(BASE).data.file = "b.h5"
