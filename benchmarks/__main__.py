"""Run a benchmark and write what it measured to benchmarks/results/NAME.json.

::

    python -m benchmarks list
    python -m benchmarks NAME [--repeats N] [--only CASE]
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.machine import describe_machine, versions

FOLDER = Path(__file__).resolve().parent


def names() -> list[str]:
    """Names of the benchmarks: the modules of this folder that have a `run`, found without importing them.

    >>> "fftw_limit" in names()
    True
    """
    return sorted(path.stem for path in FOLDER.glob("[!_]*.py") if "\ndef run(" in path.read_text())


def record(name: str, repeats: int, only: str | None = None) -> dict:
    """Run one benchmark and put the machine, the versions and the command beside its figures."""
    before, chosen = describe_machine(), {} if only is None else {"only": only}
    measured = importlib.import_module(f"benchmarks.{name}").run(repeats, **chosen)
    return {
        "benchmark": name,
        "command": f"python -m benchmarks {name} --repeats {repeats}" + (f" --only {only}" if only else ""),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": before,
        "versions": versions() | measured.pop("versions", {}),
        "repeats": repeats,
        **measured,
    }


def arguments(words: list[str]) -> argparse.Namespace:
    """What the person asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure stemjax against its peers.")
    parser.add_argument("name", help="a benchmark, or 'list'")
    parser.add_argument("--repeats", type=int, default=5, help="repetitions; medians are reported (default 5)")
    parser.add_argument("--only", help="one case of a long benchmark; the others stay as they were measured before")
    return parser.parse_args(words)


def main(words: list[str]) -> int:
    """Run what was asked for; 2 if that benchmark does not exist or its peer is not installed."""
    asked = arguments(words)
    if asked.name == "list":
        print("\n".join(names()))
        return 0
    if asked.name not in names():
        print(f"no benchmark {asked.name!r}; known: {', '.join(names())}", file=sys.stderr)
        return 2
    if asked.repeats < 1:
        print(f"--repeats {asked.repeats} measures nothing; give 1 or more", file=sys.stderr)
        return 2
    try:
        result = record(asked.name, asked.repeats, asked.only)
    except (FileNotFoundError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2
    text = json.dumps(result, indent=1, ensure_ascii=False)
    path = FOLDER / "results" / f"{asked.name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
