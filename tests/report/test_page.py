"""The page stands alone, escapes what strangers wrote, and leaves out what a result lacks."""

from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from stemjax.inference.result import Named, Result
from stemjax.report import changes, findings, numbers, tables
from stemjax.report.page import write_report

EVIL = '<script>alert("x")</script><img src=http://evil.example/a.png onerror=a()> $x^{ ${title} &amp; \\'


class Reader(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def report(measured_result, tmp_path_factory):
    return write_report(measured_result, tmp_path_factory.mktemp("job"))


def read(path):
    return Reader(path.read_text(encoding="utf-8"))


def assert_stands_alone(reader):
    for tag, attributes in reader.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form"), tag
        for name, value in attributes.items():
            assert not name.startswith("on"), name
            if name in ("src", "href", "srcset", "action", "poster"):
                assert value.startswith("data:image/png;base64,")


def test_page_and_pictures_are_there(report):
    assert report.name == "index.html"
    assert report.parent.name == "report"
    pictures = {path.name for path in report.parent.iterdir()} - {"index.html"}
    shown = [attributes for tag, attributes in read(report).tags if tag == "img"]
    assert len(pictures) == len(shown) == 10
    assert all(name.endswith(".png") for name in pictures), "no temporary file is left"


def test_page_stands_alone(report):
    reader = read(report)
    assert_stands_alone(reader)
    assert "://" not in report.read_text(encoding="utf-8")


def test_page_says_what_a_person_looks_for(report):
    text = read(report).text
    for words in (
        "Finished after 40 epochs",
        "80 keV",
        "21.4 mrad",
        "60 Å → 108.20 ± 0.36 Å (truth 108 Å)",
        "1 min 13 s",
    ):
        assert words in text
    assert "Compared with the truth" in text
    assert "Twofold astigmatism C12a" in text


def test_strangers_text_is_escaped(result, tmp_path):
    named = replace(result.estimate["aberration_C10"], long_name=EVIL, units=EVIL)
    hostile = Result(
        problem=EVIL,
        estimate={"aberration_C10": named, EVIL: named},
        diagnostics={"initial": {"aberration_C10": 1.0, EVIL: 2.0}, EVIL: EVIL},
        status=EVIL,
        config={EVIL: {EVIL: [EVIL]}},
        provenance={EVIL: EVIL},
    )
    path = write_report(hostile, tmp_path)
    assert_stands_alone(read(path))
    assert {tag for tag, _ in read(path).tags}.isdisjoint({"script", "img"})
    assert EVIL in read(path).text, "the text itself is kept"


def test_hostile_result_with_pictures(result, tmp_path):
    estimate = {name: replace(named, long_name=EVIL, units=EVIL) for name, named in result.estimate.items()}
    path = write_report(replace(result, problem=EVIL, estimate=estimate, config={EVIL: EVIL}), tmp_path)
    assert_stands_alone(read(path))


def phase(values, sampling=(0.2, 0.2)):
    return Named(np.asarray(values), "rad", ("slice", "y", "x"), "Object phase", sampling=sampling)


def column(values):
    return Named(np.asarray(values, float), "Å", ("pattern",), "Position")


def test_degenerate_results_do_not_crash(tmp_path):
    flat, one = np.zeros((1, 8, 8)), {"position_y": column([1.0]), "position_x": column([2.0])}
    line = {"position_y": column([1.0, 1.0, 1.0]), "position_x": column([0.0, 1.0, 2.0])}
    moved = {"position_y": [1.0, 1.1, 1.0], "position_x": [0.1, 1.0, 2.0]}
    results = {
        "empty": Result("ptychography", {}),
        "one pattern": Result("p", {"object_phase": phase(flat), **one}, diagnostics={"loss": np.array([np.nan])}),
        "one pixel": Result("p", {"object_phase": phase(np.ones((1, 1, 1)))}, diagnostics={"loss": 3.0}),
        "no sampling": Result("p", {"object_phase": phase(flat, sampling=None)}),
        "NaN": Result("p", {"object_phase": phase(np.full((2, 8, 8), np.nan)), "probe": phase(np.nan * flat)}),
        "slices of unknown depth": Result("p", {"object_phase": phase(np.ones((3, 8, 8)))}),
        "line scan": Result("p", line, diagnostics={"initial": moved}),
        "no probe": Result("p", {"probe": phase(flat + 0j)}, config={"energy": 3.0, "semiangle": "x"}),
        "no aperture": Result("p", {"probe": phase(np.ones((3, 8, 8)) + 0j)}),
        "dark": Result("p", {}, diagnostics={"patterns": {"measured": flat, "modelled": flat}}),
        "unlike": Result("p", {}, diagnostics={"patterns": {"measured": flat, "modelled": flat[:, :4]}}),
        "not done": Result("p", {}, success=False, status="Stopped by the person."),
        "text": Result(
            "p", {}, diagnostics={"loss": "none", "truth": {"object_phase": "?"}, "epoch_time": np.array([])}
        ),
    }
    for name, result in results.items():
        assert_stands_alone(read(write_report(result, tmp_path / name)))
    assert "not finished" in read(tmp_path / "not done" / "report" / "index.html").text


def test_missing_pieces_are_left_out(result, tmp_path):
    only = replace(result, estimate={"object_phase": result.estimate["object_phase"]}, diagnostics={}, uncertainty={})
    folder = write_report(only, tmp_path).parent
    assert {path.name for path in folder.iterdir()} == {"index.html", "object_phase.png"}


def test_truth_without_measures_is_shown_unaligned(result, tmp_path):
    folder = write_report(result, tmp_path).parent
    assert (folder / "object_truth.png").exists()
    assert not (folder / "ring_correlation.png").exists()


def test_a_second_report_replaces_the_first(result, tmp_path):
    few = replace(result, estimate={}, diagnostics={}, uncertainty={})
    write_report(replace(few, status="first"), tmp_path)
    assert "second" in read(write_report(replace(few, status="second"), tmp_path)).text


@pytest.mark.parametrize(
    ("value", "sigma", "text"),
    [
        (-103.237, 0.41, "−103.24 ± 0.41 Å"),
        (1.2e7, 3.1e5, "1.2e+07 ± 3.1e+05 Å"),
        (0.0, 0.0, "0 Å"),
        (np.inf, 1.0, "not a number"),
    ],
)
def test_numbers_are_written_to_their_uncertainty(value, sigma, text):
    assert numbers.formatted(value, "Å", sigma) == text


def test_refined_table_says_by_how_much(result):
    rows = {row[0]: row[1:] for row in changes.refined(result)}
    assert rows["Defocus coefficient C10"] == ("−60 Å", "−108.20 ± 0.36 Å", "−48.2 Å", "−108 Å")
    start = np.asarray(result.diagnostics["initial"]["position_y"])
    moved = np.sqrt(np.mean((result.estimate["position_y"].value - start) ** 2))
    assert rows["Scan position y"][2] == f"{moved:.4g} Å rms"
    assert "Electrons in a pattern" not in rows


def test_aberrations_that_start_at_zero_are_listed(result):
    """An estimate has them, `initial` has not; those that were free are listed even where they did not move."""
    initial = {name: value for name, value in result.diagnostics["initial"].items() if name != "aberration_C12a"}
    still = Named(np.array(500.0), "Å", (), "Spherical aberration C30")
    told = replace(
        result,
        estimate={**result.estimate, "aberration_C30": still},
        diagnostics={**result.diagnostics, "initial": {**initial, "aberration_C30": 500.0}},
    )
    rows = {row[0]: row[1:] for row in changes.refined(told)}
    assert rows["Twofold astigmatism C12a"] == ("0 Å", "8.87 Å", "8.87 Å", "9 Å")
    assert "Spherical aberration C30" not in rows
    free = replace(told, config={"refine": {"aberrations": {"C12": "after 3", "C30": {"from": 2, "rate": 0.1}}}})
    assert {row[0]: row[1:] for row in changes.refined(free)}["Spherical aberration C30"][2] == "0 Å"


def test_the_object_is_listed_by_its_change_in_the_field(result):
    """The object of the fixture starts flat, told or not; noise far outside the scan does not count."""
    named = result.estimate["object_phase"]
    noisy = named.value.copy()
    noisy[:, :20] += 100.0
    start = {name: value for name, value in result.diagnostics["initial"].items() if name != "object_phase"}
    told = replace(
        result,
        estimate={**result.estimate, "object_phase": replace(named, value=noisy)},
        diagnostics={**result.diagnostics, "initial": start},
    )
    row = {row[0]: row[1:] for row in changes.refined(told)}["Object phase"]
    field = named.value[0, 40:130, 40:140]
    assert row[0] == "flat"
    assert float(row[2].split(" rad")[0]) == pytest.approx(np.sqrt(np.mean(field**2)), rel=0.1)


def test_the_wave_of_the_probe_is_listed_where_its_pixels_were_free(result):
    wave = replace(result.estimate["probe"], value=result.estimate["probe"].value[:1])
    told = replace(result, estimate={**result.estimate, "probe": wave})
    for free in (False, True):
        rows = [row[0] for row in changes.refined(replace(told, config={"refine": {"probe": free}}))]
        assert ("Probe" in rows) is free


CURLS = {"curl": 0.0912, "curl_if_transposed": 0.384}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            {"orientation": {"rotation": 12.34, "transposed": True}, **CURLS},
            "scan turned by 12.3°, transposed; found from the data, curl 0.09 against 0.38 if not transposed",
        ),
        (
            {
                "orientation": {"rotation": 0.0, "transposed": False},
                "curl": 0.3,
                "curl_if_transposed": 0.33,
                "trials": 8,
            },
            "scan not turned, not transposed; found from the data by 8 trial reconstructions: "
            "the curls, 0.30 and 0.33, do not decide",
        ),
        (
            {"orientation": {"rotation": -30.0, "transposed": False, "flip_y": True, "flip_x": False}},
            "scan turned by −30°, not transposed, flipped in y; by the configuration",
        ),
        ({"orientation": "as-is"}, "as on file, by the configuration"),
    ],
)
def test_orientation_in_words(found, words):
    assert dict(findings.findings(Result("p", {}, diagnostics={"findings": found})))["Orientation"] == words


@pytest.mark.parametrize("evidence", ["heavy atoms", ["heavy atoms"], {"skewness": 1.2, "seen": "heavy atoms"}])
def test_evidence_of_any_form_is_shown(evidence):
    rows = findings.findings(Result("p", {}, diagnostics={"findings": {"sign_evidence": evidence}}))
    assert "heavy atoms" in dict(rows)["Sign of the phase"]


def test_warnings_stand_above_everything_else(result, tmp_path):
    found = {"warning": "the disk is too large", "warnings": np.array(["the sign is not certain", EVIL])}
    few = replace(result, estimate={}, uncertainty={}, diagnostics={"findings": found})
    reader = read(write_report(few, tmp_path))
    assert_stands_alone(reader)
    for words in (*found["warnings"], found["warning"]):
        assert -1 < reader.text.index(words) < reader.text.index("Key numbers")
    assert ("section", {"class": "warnings", "role": "alert"}) in reader.tags
    assert 'class="warnings"' not in write_report(replace(few, diagnostics={}), tmp_path).read_text(encoding="utf-8")


def test_one_time_from_start_to_finish(result):
    times = {"started": "2026-01-01T10:00:00+0000", "finished": "2026-01-01T10:02:30+0000"}
    rows = dict(tables.key_numbers(replace(result, provenance=times)))
    assert rows["Time from start to finish"] == "2 min 30 s"
    assert rows["Epochs took"] == "1 min 13 s, 1.83 s each (median)"
    for unusable in ({}, {**times, "finished": "2026-01-01T10:00:09+0000"}, {**times, "started": "yesterday"}):
        assert "Time from start to finish" not in dict(tables.key_numbers(replace(result, provenance=unusable)))


@pytest.mark.parametrize(("limited", "words"), [(True, "better than 0.61 Å (limit of the pixels)"), (False, "0.61 Å")])
def test_resolution_that_the_pixels_limit_is_said_to_be_so(limited, words):
    rings = {"resolution": 0.61, "resolution_limited_by_pixels": limited}
    rows = tables.against_truth(Result("p", {}, diagnostics={"metrics": {"ring_correlation": rings}}))
    assert rows == [("Resolution, correlation with the truth above 0.5", words)]
