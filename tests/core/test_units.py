"""Units against their definitions, and refusals that say what is wanted."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemjax.core.errors import InputError
from stemjax.core.units import UNITS, parse_unit, to_unit

# Definitions: 1 nm = 10 Å, 1 rad = 1000 mrad, a full turn = 2π rad = 360 degrees, 1 Å² = 0.01 nm².
DEFINITIONS = [
    ("80 keV", "eV", 80e3),
    ("300kV", "eV", 300e3),
    ("0.2 MeV", "eV", 2e5),
    ("1.2 um", "Å", 12e3),
    ("1.2 µm", "Å", 12e3),
    ("1.2 μm", "Å", 12e3),
    ("0.5 Å", "Å", 0.5),
    ("0.5 \u212b", "Å", 0.5),
    ("0.5A", "Å", 0.5),
    ("3 angstroms", "Å", 3.0),
    ("50 pm", "Å", 0.5),
    ("-10 nm", "Å", -100.0),
    ("−10 nm", "Å", -100.0),
    ("1 mm", "Å", 1e7),
    ("20 mrad", "mrad", 20.0),
    ("0.02 rad", "mrad", 20.0),
    ("180 deg", "mrad", 1e3 * math.pi),
    ("90 deg", "degree", 90.0),
    ("90°", "degree", 90.0),
    ("0.5 rad", "degree", math.degrees(0.5)),
    ("1e4 e/Å^2", "e/Å^2", 1e4),
    ("1e4 e/Å²", "e/Å^2", 1e4),
    ("1e4 e-/A2", "e/Å^2", 1e4),
    ("1e4 e/nm^2", "e/Å^2", 100.0),
    ("1e4 electrons per nm^2", "e/Å^2", 100.0),
    ("100 e Å^-2", "e/Å^2", 100.0),
    ("1e4 electrons", "electron", 1e4),
    ("1.5 e/count", "electron/count", 1.5),
    ("2 min", "s", 120.0),
    ("1e-3", "Å", 1e-3),
    (".5", "1", 0.5),
    ("5 %", "1", 0.05),
    ("1_000", "Å", 1000.0),
]


@pytest.mark.parametrize(("text", "unit", "value"), DEFINITIONS)
def test_definitions(text, unit, value):
    assert to_unit(text, unit) == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        ("80 nm", "eV", ["'80 nm' is a length", "an energy", "80 keV"]),
        ("80 keV", "Å", ["is an energy", "a length", "nm"]),
        ("80 e/Å^2", "electron", ["is a dose", "electrons"]),
        ("20 mrad", "Å", ["is an angle", "a length"]),
        ("80 kEw", "eV", ["unknown unit 'kEw'", "80 keV"]),
        ("5 mev", "eV", ["unknown unit 'mev'", "nearest: 'meV'"]),
        ("1,5 nm", "Å", ["comma", "1.5 nm"]),
        ("ten", "Å", ["'ten'", "a length", "1.2 nm"]),
        ("", "Å", ["''", "a length"]),
        ("5 nm nm", "Å", ["an area", "1.2 nm"]),
        ("5 nm^99", "Å", ["exponent"]),
        ("1.5.2 nm", "Å", ["1.5.2 nm", "1.2 nm"]),
        ("1e400", "Å", ["not finite"]),
        (float("nan"), "Å", ["not finite"]),
        (10**400, "Å", ["not finite"]),
        (None, "Å", ["no value", "a length"]),
        (True, "Å", ["True", "a length"]),
        ([1], "Å", ["[1]", "a length"]),
    ],
)
def test_refusals_say_what_is_wanted(value, unit, words):
    with pytest.raises(InputError) as error:
        to_unit(value, unit)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


@given(st.floats(-1e12, 1e12), st.sampled_from(sorted(UNITS)))
def test_a_unit_undone_gives_the_number_back(number, symbol):
    assert to_unit(f"{number!r} {symbol}", symbol) == pytest.approx(number, rel=1e-12, abs=1e-300)


@given(st.sampled_from(sorted(UNITS)), st.sampled_from(sorted(UNITS)))
def test_sizes_multiply(first, second):
    product = parse_unit(f"{first}*{second}^2")
    assert product.size == pytest.approx(UNITS[first][1] * UNITS[second][1] ** 2)
    assert parse_unit(f"{first}/{first}").dimension == ()


@given(st.one_of(st.text(max_size=30), st.floats(), st.integers(), st.none(), st.booleans()))
def test_anything_is_a_finite_number_or_refused(value):
    try:
        number = to_unit(value, "Å")
    except InputError:
        number = 0.0
    assert math.isfinite(number)
