"""Coherence: the focal spread by hand, node counts, refusals, and the blur of an image."""

import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.core.quadrature import quadrature_error
from stemjax.optics.coherence import blur_image, focal_spread, make_coherence, momentum_factor, rms_of_fwhm
from tests.physics import closed_forms as forms

CC = 1.2e7


def spread(energy=200e3, **widths):
    return float(focal_spread(make_coherence(energy, 20.0, chromatic=CC, **widths), energy))


def test_focal_spread_by_hand():
    # 200 kV, Cc = 1.2 mm, 0.3 eV rms: γ = (1 + 200/511)/(1 + 200/1022) = 1.16367; 1.2e7 Å γ 0.3/200000 = 20.946 Å.
    assert spread(energy_spread=0.3) == pytest.approx(20.946, abs=1e-3)
    assert spread(voltage_instability=1e-6) == pytest.approx(13.964, abs=1e-3)
    assert spread(current_instability=1e-6) == pytest.approx(24.0, abs=1e-9)  # f ~ 1/I², no relativity
    together = spread(energy_spread=0.3, voltage_instability=1e-6, current_instability=1e-6)
    assert together == pytest.approx(np.sqrt(20.946**2 + 13.964**2 + 24.0**2), abs=1e-3)


@pytest.mark.parametrize("energy", [20e3, 80e3, 300e3, 1e6])
def test_relativity_is_that_of_the_momentum(energy):
    # p = h/λ, so d ln p² = −2 d ln λ.
    slope = -2 * np.log(forms.wavelength(energy * 1.0001) / forms.wavelength(energy * 0.9999)) / np.log(1.0001 / 0.9999)
    assert momentum_factor(energy) == pytest.approx(slope, rel=1e-6)


def test_width_at_half_maximum():
    x = 0.5 / rms_of_fwhm(1.0)
    assert np.exp(-(x**2) / 2) == pytest.approx(0.5, rel=1e-12)


@pytest.mark.parametrize("error", [1e-1, 1e-3, 1e-6])
def test_shares_of_the_error_add_up(error):
    made = make_coherence(80e3, 30.0, source_size=(0.1, 0.3), chromatic=CC, energy_spread=0.3, error=error)
    cutoff = 0.03 / forms.wavelength(80e3)
    phases = [4 * np.pi * cutoff * s for s in (0.1, 0.3)]
    phases.append(np.pi * forms.wavelength(80e3) * cutoff**2 * float(focal_spread(made, 80e3)))
    counts = (*made.source_nodes, made.focal_nodes)
    assert sum(quadrature_error(n, p) for n, p in zip(counts, phases, strict=True)) <= error
    assert counts[1] > counts[0] > 1


def test_a_perfect_beam_is_one_node():
    made = make_coherence(80e3, 30.0, chromatic=CC)
    assert (made.source_nodes, made.focal_nodes) == ((1, 1), 1)
    assert make_coherence(80e3, 30.0, source_size=(0.0, 0.3)).source_nodes[0] == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"source_size": -0.1}, "source size"),
        ({"source_size": (0.1, np.nan)}, "source size"),
        ({"energy_spread": np.inf}, "energy spread"),
        ({"semiangle": 0.0}, "semi-angle"),
        ({"source_size": 20.0}, "a source of 20 Å rms along y at 20 mrad.*times as large"),
        ({"source_size": 0.2, "error": 2.0}, "between 0 and 1"),
    ],
)
def test_impossible_beams_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        make_coherence(**{"energy": 200e3, "semiangle": 20.0, **given})


def gaussian(shape, step, sigma, centre):
    y, x = (np.arange(n) * s - c for n, s, c in zip(shape, step, centre, strict=True))
    return np.exp(-(y[:, None] ** 2) / (2 * sigma[0] ** 2) - x**2 / (2 * sigma[1] ** 2)) / (
        2 * np.pi * sigma[0] * sigma[1]
    )


@pytest.mark.parametrize("periodic", [True, False])
def test_blur_adds_variances(periodic):
    shape, step = (60, 50), (0.2, 0.3)
    sharp, size = (0.5, 0.6), (0.7, 0.4)
    wide = tuple(np.hypot(a, b) for a, b in zip(sharp, size, strict=True))
    centre = (6.1, 7.3)
    found = blur_image(jnp.asarray(gaussian(shape, step, sharp, centre)), step, size, periodic=periodic)
    np.testing.assert_allclose(found, gaussian(shape, step, wide, centre), atol=1e-8)


def test_mirrored_edges_keep_the_mean_and_do_not_wrap():
    image = np.zeros((40, 30))
    image[:, 0] = 1.0
    mirrored, wrapped = (np.asarray(blur_image(jnp.asarray(image), 0.5, 1.0, periodic=p)) for p in (False, True))
    assert mirrored.mean() == pytest.approx(image.mean(), rel=1e-12)
    assert wrapped.mean() == pytest.approx(image.mean(), rel=1e-12)
    assert abs(mirrored[:, -1]).max() < 1e-12
    assert wrapped[:, -1].min() > 0.1
    # A line at the mirror is two lines: the tail is twice as high as in the wrapped image, whose other half went round.
    np.testing.assert_allclose(mirrored[:, 0], wrapped[:, 0] + wrapped[:, 1], atol=1e-12)
