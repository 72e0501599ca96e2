"""The documentation is a program: its Python runs, its commands, keys, links and files exist.

The blocks of a page run in order in one process of its own, because `stemjax.setup` may be called once only.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer.main

from stemjax.app.config import AnySettings, json_schema, load_config
from stemjax.app.main import app
from stemjax.inference.result import Result
from stemjax.io import write_result

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
EXAMPLES = sorted(ROOT.glob("examples/*.py"))
# Its programs need files and arrays that they do not make; tests/io/test_documentation.py runs them.
RUN_ELSEWHERE = {"docs/file-format.md"}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(text: str, language: str) -> list[str]:
    """Fenced blocks of a language, also indented ones (in lists), without their indentation."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", body, flags=re.MULTILINE) for indent, body in found]


def with_python() -> list[Path]:
    return [page for page in PAGES if name(page) not in RUN_ELSEWHERE and blocks(page.read_text(), "python")]


def run(program: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder, in a new process that keeps compiled programs where the tests keep theirs."""
    environment = {**os.environ, "STEMJAX_CACHE": str(ROOT / ".cache" / "jax"), "PYTHONPATH": str(ROOT)}
    environment.pop("STEMJAX_TYPECHECK", None)
    # ase 3.29 sets shapes of arrays, which numpy 2.5 deprecates.
    warnings = ["-W", "error", "-W", "ignore::DeprecationWarning:ase.atoms"]
    return subprocess.run(
        [sys.executable, *warnings, str(program)], cwd=folder, env=environment, capture_output=True, text=True
    )


LONG = {"docs/spectra.md", "docs/forward.md", "docs/developer/principles.md", "docs/explanation/inference.md"}
"""Pages whose programs take half a minute; what they show has quick tests elsewhere."""


@pytest.mark.parametrize(
    "page", [pytest.param(p, id=name(p), marks=[pytest.mark.slow] if name(p) in LONG else []) for p in with_python()]
)
def test_the_python_of_a_page_runs(page, tmp_path):
    results = tmp_path / "results" / "first"
    results.mkdir(parents=True)
    kept = {"modelled": np.full((2, 4, 4), 3.0), "measured": np.full((2, 4, 4), 3.0)}
    write_result(results / "result.h5", Result("ptychography", {}, diagnostics={"patterns": kept}))
    program = tmp_path / "page.py"
    program.write_text("\n\n".join(blocks(page.read_text(), "python")))
    done = run(program, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("example", EXAMPLES, ids=name)
def test_an_example_runs(example, tmp_path):
    done = run(example, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), "an example says what it found"


def test_examples_use_the_public_interface_only():
    for example in EXAMPLES:
        inner = re.findall(r"^\s*(?:from|import) +stemjax\.\S+", example.read_text(), re.MULTILINE)
        assert not inner, f"{example.name}: {inner}"


def shown_commands(text: str) -> list[list[str]]:
    """Words of every `stemjax ...` line in code: fenced, indented, or inline beginning with the name."""
    lines = re.findall(r"^ {4,}(?:\$ )?(stemjax .*)$", text, re.MULTILINE) + re.findall(r"`(stemjax [^`]+)`", text)
    for fenced in re.findall(r"```(?:bash|sh|console)\n(.*?)```", text, re.DOTALL):
        lines += re.findall(r"^(?:\$ )?(stemjax .*)$", fenced, re.MULTILINE)
    return [shlex.split(line.replace(r"\|", "|").replace("...", ""), comments=True)[1:] for line in lines]


def complaints(words: list[str]) -> list[str]:
    """What is wrong with the words of a command: unknown command or option. Brackets of a synopsis are ignored."""
    words = [word.strip("[]") for word in words]
    root = typer.main.get_command(app)
    general = {option for parameter in root.params for option in parameter.opts} | {"--help", "-h"}
    if words[0].startswith("-"):
        return [f"no option {words[0]}"] if words[0] not in general else []
    command = root.commands.get(words[0])
    if command is None:
        return [f"no command {words[0]}"]
    known = general | {option for parameter in command.params for option in parameter.opts}
    options = [word.split("=")[0] for word in words[1:] if re.match(r"--?[a-z]", word)]
    return [f"{words[0]} has no option {option}" for option in options if option not in known]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_exist_with_their_options(page):
    for words in shown_commands(page.read_text()):
        if words:
            assert not complaints(words), f"stemjax {' '.join(words)}"


def test_a_wrong_command_or_option_is_found():
    lines = ["    stemjax runn my.yaml", "    stemjax run my.yaml -s solver.epochs=3 --resume"]
    text = "\n\n".join([*lines, "`stemjax run my.yaml --resumee`"])
    wrong = [complaints(words) for words in shown_commands(text)]
    assert wrong == [["no command runn"], [], ["run has no option --resumee"]]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_overrides_validate(page, tmp_path):
    (tmp_path / "my.yaml").write_text("problem: ptychography\ndata: {file: scan.h5}\n")
    for words in shown_commands(page.read_text()):
        values = [b for a, b in itertools.pairwise(words) if a in ("-s", "--set") and "key" not in b]
        load_config(tmp_path / "my.yaml", values, need_files=False)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_yaml_blocks_validate(page, tmp_path):
    for number, block in enumerate(blocks(page.read_text(), "yaml")):
        path = tmp_path / f"block-{number}.yaml"
        path.write_text(block)
        assert isinstance(load_config(path, need_files=False), AnySettings)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_keys_named_in_text_exist(page):
    """`solver.epochs` and the like in running text are keys of a configuration."""
    sections = {key.split(".")[0] for key in configuration_keys()} - {"problem"}
    for found in re.findall(r"`([a-z]+)\.([a-z_]+)`", page.read_text()):
        if found[0] in sections - {"scan", "specimen", "probe"}:
            assert ".".join(found) in configuration_keys(), ".".join(found)


@functools.cache
def configuration_keys() -> set[str]:
    """Dotted keys, two levels deep, from the JSON schema."""
    definitions = json_schema()["$defs"]
    keys = set()
    for problem in ("PtychographySettings", "SimulationSettings", "FitSettings"):
        for section, entry in definitions[problem]["properties"].items():
            keys.add(section)
            for target in re.findall(r"#/\$defs/(\w+)", str(entry)):
                keys |= {f"{section}.{key}" for key in definitions[target].get("properties", {})}
    return keys


def links(text: str) -> list[str]:
    without_code = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", without_code)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_resolve(page):
    for link in links(page.read_text()):
        if not re.match(r"https?://|mailto:", link):
            target, _, anchor = link.partition("#")
            path = (page.parent / target) if target else page
            assert path.exists(), link
            if anchor:
                assert anchor in anchors(path.read_text()), link


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ +(.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [*PAGES, *EXAMPLES, ROOT / "CITATION.cff"], ids=name)
def test_no_path_of_a_machine(page):
    assert not re.search(r"(?<![\w.])/(home|work|Users|root|tmp|mnt|opt)/", page.read_text())


def test_every_page_is_in_the_index():
    listed = {(ROOT / "docs" / link).resolve() for link in links((ROOT / "docs" / "index.md").read_text())}
    missing = [name(page) for page in ROOT.glob("docs/**/*.md") if page.name != "index.md" and page not in listed]
    assert not missing


def test_pictures_are_small():
    for picture in (ROOT / "docs" / "images").iterdir():
        assert picture.suffix == ".png"
        assert picture.stat().st_size < 300_000, picture.name


def test_the_citation_file_is_complete():
    import yaml

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "version", "license", "type"} <= set(citation)
    assert all(set(author) & {"name", "family-names"} for author in citation["authors"])


def test_the_speed_in_the_readme_is_the_measured_one():
    """Rows `| 256 × 256, 102 slices | 0.85 | 0.35 |` against the medians of the last benchmark."""
    record = ROOT / "benchmarks" / "results" / "multislice.json"
    row = r"^\| (\d+) × \d+, (\d+) slices \| (\S+) \| (\S+) \|$"
    rows = re.findall(row, (ROOT / "README.md").read_text(), re.MULTILINE)
    assert rows, "no row of speeds in README.md"
    assert record.is_file(), "README.md quotes speeds; run `python -m benchmarks multislice`"
    cases = json.loads(record.read_text())["cases"]
    for size, slices, *written in rows:
        case = cases[size]
        assert int(slices) == case["slices"]
        measured = [case.get(key, {}).get("median") for key in ("of_fftw_limit", "time_over_abtem")]
        assert written == ["-" if value is None else f"{value:.2f}" for value in measured], (
            f"README.md, {size} × {size}"
        )
