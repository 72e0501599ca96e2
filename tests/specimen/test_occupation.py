"""Mixed sites: exclusive, with the right odds, the same for the same seed."""

import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.specimen.occupation import draw_occupation, shared_sites
from stemjax.specimen.structure import make_structure


def alloy(sites: int = 50):
    """In, Ga and nothing on every metal site with 0.3, 0.6 and 0.1; a full arsenic sublattice and a half-filled one."""
    rng = np.random.default_rng(0)
    metal, rest = rng.uniform(0, 20, (sites, 3)), rng.uniform(0, 20, (2 * sites, 3))
    # An atom on the border shares its site with one at the other border.
    metal[0], other = [0.0, 3.0, 3.0], metal.copy()
    other[0] = [20.0, 3.0, 3.0]
    numbers = [49] * sites + [31] * sites + [33] * sites + [7] * sites
    occupancy = [0.3] * sites + [0.6] * sites + [1.0] * sites + [0.5] * sites
    return make_structure(np.concatenate([metal, other, rest]), numbers, [20, 20, 20], occupancy=occupancy)


def test_sites_are_found_across_the_border():
    site = shared_sites(alloy())
    np.testing.assert_array_equal(site[:50], site[50:100])
    assert len(np.unique(site)) == 150


def test_draws_are_exclusive_and_have_the_right_odds():
    draws = np.asarray(draw_occupation(alloy(), 4, 400)).reshape(400, 4, 50)
    assert set(np.unique(draws)) == {0.0, 1.0}
    assert (draws[:, 0] + draws[:, 1]).max() == 1.0
    assert draws[:, 2].min() == 1.0
    count = 400 * 50
    for kind, odds in enumerate((0.3, 0.6, 1.0, 0.5)):
        assert draws[:, kind].mean() == pytest.approx(odds, abs=5 * np.sqrt(odds * (1 - odds) / count) + 1e-12)
    # Sites are independent of each other and of the configuration before.
    indium = draws[:, 0] - 0.3
    error = 5 * 0.21 / np.sqrt(count)
    assert abs((indium[:, 1:] * indium[:, :-1]).mean()) < error
    assert abs((indium[1:] * indium[:-1]).mean()) < error


def test_more_configurations_add_to_those_one_had():
    np.testing.assert_array_equal(draw_occupation(alloy(), 1, 3), draw_occupation(alloy(), 1, 9)[:3])
    assert not np.array_equal(draw_occupation(alloy(), 1, 3), draw_occupation(alloy(), 2, 3))


def test_a_full_site_is_never_empty():
    thirds = make_structure(np.zeros((3, 3)), [6, 7, 8], [2, 2, 2], occupancy=1.0 / 3.0)
    assert np.asarray(draw_occupation(thirds, 0, 3000)).sum(axis=1).min() == 1.0


def test_refuses_sites_that_are_more_than_full():
    crowded = make_structure(np.zeros((2, 3)), [31, 49], [2, 2, 2], occupancy=[0.7, 0.6])
    with pytest.raises(InputError, match=r"atoms \[0, 1\] on one site add up to 1.3"):
        draw_occupation(crowded, 0, 1)
    with pytest.raises(InputError, match="at least one"):
        draw_occupation(alloy(), 0, 0)
