"""The report: one self-contained HTML file, and every figure also as a PNG beside it."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from stemjax.inference.result import Named, Result
from stemjax.report import changes, findings, gallery, style, tables
from stemjax.report.numbers import Row


def write_report(result: Result, folder: Path | str) -> Path:
    """Write `folder`/report/index.html and `folder`/report/*.png.

    The page needs no network, no script and no other file. Whatever a result lacks is left out of it. Text that comes
    from files or configurations is escaped.

    Args:
        result: The result to report; with `diagnostics["metrics"]` (see `stemjax.metrics.truth.against_truth`) the
            comparison with the truth is shown also.
        folder: Folder of the job; made if it does not exist.

    Returns:
        Path of the page.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_report(Result("ptychography", {}, status="Nothing was found."), folder).name
    'index.html'
    """
    target = Path(folder) / "report"
    target.mkdir(parents=True, exist_ok=True)
    figures = []
    for plate in gallery.plates(result):
        picture = style.png(plate.figure)
        _write(target / f"{plate.name}.png", picture)
        figures.append(_figure(plate, picture))
    _write(target / "index.html", page(result, figures).encode("utf-8"))
    return target / "index.html"


def _write(path: Path, content: bytes) -> None:
    """Write beside and rename, so that a reader never sees half a file."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def page(result: Result, figures: Iterable[str]) -> str:
    """The whole page as HTML.

    Args:
        result: What is reported.
        figures: The figures, each as a piece of HTML.
    """
    name = result.problem.replace("_", " ").strip() or "Result"
    parts = [
        _warnings(findings.warnings(result)),
        _section("Key numbers", _facts(tables.key_numbers(result))),
        _section("Compared with the truth", _facts(tables.against_truth(result))),
        _section("What was refined, and by how much", _table(changes.refined(result), REFINED)),
        "\n".join(figures),
        _details("Configuration", as_text(result.config)),
        _details("Provenance: versions, seed, machine, times, input", as_text(result.provenance)),
    ]
    return PAGE.substitute(
        title=escape(f"{name[:1].upper()}{name[1:]}"),
        mark="finished" if result.success else "not finished",
        kind="good" if result.success else "bad",
        status=escape(result.status or "No status was recorded."),
        body="\n".join(part for part in parts if part),
    )


def _figure(plate: gallery.Plate, picture: bytes) -> str:
    data = base64.b64encode(picture).decode("ascii")
    width = min(100.0, 100.0 * style.png_width(picture) / style.WIDTH)
    return (
        f'<section id="{plate.name}"><h2>{escape(plate.title)}</h2><figure>'
        f'<img alt="{escape(plate.title)}" style="width: {width:.1f}%" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(plate.caption)}</figcaption></figure></section>"
    )


def _warnings(texts: Sequence[str]) -> str:
    """A box above everything else, so that nobody reads the figures without it."""
    if not texts:
        return ""
    title = "Warning" if len(texts) == 1 else "Warnings"
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f'<section class="warnings" role="alert"><strong>{title}</strong><ul>{items}</ul></section>'


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def _facts(rows: Sequence[Row]) -> str:
    """A list of names and values."""
    cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in rows)
    return f'<dl class="facts">{cells}</dl>' if rows else ""


REFINED = ("Quantity", "Start", "Found", "Change", "Truth")


def _table(rows: Sequence[Row], header: Sequence[str]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _details(title: str, text: str) -> str:
    return f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>" if text else ""


def as_text(tree: Mapping[str, Any], indent: str = "") -> str:
    """A nested mapping as indented lines, long arrays by their shape.

    >>> print(as_text({"probe": {"defocus": 100.0, "modes": [1, 2]}}))
    probe:
      defocus: 100.0
      modes: [1, 2]
    """
    lines = []
    for key, value in tree.items():
        if isinstance(value, Mapping) and value and len(indent) < 16:
            lines += [f"{indent}{key}:", as_text(value, indent + "  ")]
        else:
            lines.append(f"{indent}{key}: {_short(value)}")
    return "\n".join(lines)


def _short(value: Any) -> str:
    if isinstance(value, Named):
        value = value.value
    if isinstance(value, np.ndarray) and value.size > 12:
        return f"array of shape {value.shape}"
    text = str(value.tolist() if isinstance(value, np.ndarray) else value)
    return text if len(text) <= 2000 else f"{text[:2000]} …"


PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title report</title>
<style>
:root { color-scheme: light dark; --ink: #1d2126; --dim: #5c6570; --paper: #fbfbfa; --line: #d9dcdf; --card: #f1f2f2;
  --good: #2a6f4e; --bad: #a33b2a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e6e8; --dim: #a0a8b0; --paper: #1b1e21; --line: #3a4046;
  --card: #25292d; --good: #7cc7a0; --bad: #ec9484; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1020px; padding: 2rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .4rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); }
.status { margin: 0; font-size: 1.05rem; overflow-wrap: anywhere; }
.mark { font-weight: 600; } .good { color: var(--good); } .bad { color: var(--bad); }
.warnings { margin: 1rem 0 0; padding: .6rem 1rem; border-left: 5px solid var(--bad); background: var(--card);
  color: var(--bad); overflow-wrap: anywhere; } .warnings ul { margin: .2rem 0 0; padding-left: 1.2rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: .15rem 2.5rem; margin: 0; }
.facts div { display: flex; justify-content: space-between; gap: 1rem; border-bottom: 1px dotted var(--line);
  padding: .2rem 0; }
dt { color: var(--dim); } dd { margin: 0; text-align: right; overflow-wrap: anywhere;
  font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .8rem; border-bottom: 1px solid var(--line); }
th { color: var(--dim); font-weight: 600; } th:first-child, td:first-child { text-align: left; padding-left: 0; }
figure { margin: 0; } figure img { display: block; margin: 0 auto; height: auto; background: #fff; border-radius: 3px; }
figcaption { color: var(--dim); font-size: .92rem; margin-top: .45rem; }
details { margin-top: 1.5rem; } summary { cursor: pointer; font-weight: 600; }
pre { background: var(--card); padding: .8rem 1rem; border-radius: 3px; font-size: .82rem; white-space: pre-wrap;
  overflow-wrap: anywhere; }
@media print { :root { --ink: #000; --dim: #444; --paper: #fff; --line: #bbb; --card: #f4f4f4; --good: #1c5a3c;
  --bad: #8c2a1a; } body { max-width: none; padding: 0; font-size: 10.5pt; } section { break-inside: avoid; }
  h2 { break-after: avoid; } }
</style>
</head>
<body>
<h1>$title</h1>
<p class="status"><span class="mark $kind">$mark</span> · $status</p>
$body
</body>
</html>
""")
