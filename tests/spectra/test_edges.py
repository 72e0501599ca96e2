"""Names, thresholds and fine structure of edges."""

import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.spectra.edges import make_edge, make_fine_structure, symbols, thresholds


# J. A. Bearden and A. F. Burr, Rev. Mod. Phys. 39 (1967) 125.
@pytest.mark.parametrize(
    ("name", "onset"),
    [
        ("C_K", 283.8),
        ("N_K", 401.6),
        ("O_K", 532.0),
        ("Si_K", 1838.9),
        ("Ti_L3", 455.5),
        ("Fe_L2", 721.1),
        ("Cu_K", 8978.9),
    ],
)
def test_thresholds_are_those_of_bearden_and_burr(name, onset):
    assert float(make_edge(name).onsets[0]) == pytest.approx(onset, abs=0.15)


def test_thresholds_rise_with_the_atomic_number_and_order_the_shells():
    assert len(symbols()) == 92
    for shell in ("K", "L1", "L2", "L3"):
        values = [thresholds(z)[shell] for z in range(13, 93)]
        assert np.all(np.diff(values) > 0), shell
    for z in range(13, 93):
        t = thresholds(z)
        assert t["K"] > t["L1"] > t["L2"] >= t["L3"]


@pytest.mark.parametrize("name", ["Ti_L3,2", "Ti L2,3", "Ti_L23", "Ti-L23"])
def test_one_edge_has_several_spellings(name):
    edge = make_edge(name)
    assert (edge.number, edge.shells, edge.electrons) == (22, ("L3", "L2"), (4, 2))


def test_an_onset_moves_all_shells_and_their_reference():
    edge = make_edge("Fe_L", onset=710.0)
    assert np.allclose(np.diff(edge.onsets), np.diff(make_edge("Fe_L").onsets))
    assert float(edge.lowest) == pytest.approx(710.0)
    assert float(make_edge("Fe_L1").lowest) == pytest.approx(708.1)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("H_L3", "thresholds: K 13.6 eV"),
        ("O_L3", "use O_K (532 eV)"),
        ("Fe_M5", "use Fe_K (7112 eV), Fe_L1"),
        ("Xx_K", "no element 'Xx'"),
        ("iron", "write element and shell"),
        ("He_L1", "He has no tabulated L1 edge"),
    ],
)
def test_an_edge_that_is_not_there_names_those_that_are(name, says):
    with pytest.raises(InputError) as error:
        make_edge(name)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_fine_structure_is_a_factor_near_the_onset():
    structure = make_fine_structure(np.log([1.0, 2.0, 1.0]), 3.0)
    assert np.allclose(structure.factor(jnp.array([-1.0, 0.0, 3.0, 6.0, 50.0])), [1, 1, 2, 1, 1])
