"""The whole spectrum: what its parts must add up to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.core.errors import InputError
from stemjax.spectra.background import make_power_law
from stemjax.spectra.collection import make_collection
from stemjax.spectra.edges import make_fine_structure
from stemjax.spectra.energy_axis import make_energy_axis
from stemjax.spectra.hydrogenic import cross_section
from stemjax.spectra.lineshapes import make_gaussian_peak, make_skewed_peak
from stemjax.spectra.low_loss import make_drude, make_low_loss
from stemjax.spectra.model import (
    expected_spectrum,
    make_core_loss,
    make_spectrometer,
    relative_thickness,
    single_scattering,
)

LOW = make_low_loss(make_drude(15.0, 2.0), 800.0)
COLLECTION = make_collection(20.0, 10.0)


def spectrometer(axis, **parts):
    return make_spectrometer(axis, 200e3, COLLECTION, zero_loss=make_gaussian_peak(1.0), **parts)


# Compiled once: the same tree with other numbers serves every test below.
WHOLE = spectrometer(make_energy_axis(-20.0, 0.5, 1000), low_loss=LOW, edges={"C_K": 8.0})
EXPECTED = jax.jit(lambda s: expected_spectrum(s, 1e6))


def test_all_electrons_arrive():
    # The spectrum ends at 480 eV; the mean loss here is some 13 eV, so hardly any electron lies beyond.
    assert float(EXPECTED(WHOLE).sum()) == pytest.approx(1e6, rel=1e-3)


def test_the_zero_loss_peak_is_what_poisson_leaves():
    counts = EXPECTED(WHOLE)
    loss = np.asarray(WHOLE.axis.energies())
    unscattered = float(counts[np.abs(loss) < 2.0].sum()) / 1e6
    assert unscattered == pytest.approx(np.exp(-float(jax.jit(relative_thickness)(WHOLE))), rel=2e-3)


def test_a_spectrum_that_begins_at_an_edge_is_a_part_of_the_whole():
    part = spectrometer(make_energy_axis(250.0, 0.5, 460), low_loss=LOW, edges={"C_K": 8.0})
    counts, all_counts = EXPECTED(part), EXPECTED(WHOLE)
    begin = round((250.0 + 20.0) / 0.5)
    assert np.allclose(counts, all_counts[begin : begin + 460], rtol=1e-6)


def test_single_precision_is_good_to_a_part_of_the_dose():
    exact = np.asarray(EXPECTED(WHOLE))
    with jax.enable_x64(False):
        low_loss = make_low_loss(make_drude(15.0, 2.0), 800.0)
        collection = make_collection(20.0, 10.0)
        narrow = make_spectrometer(
            make_energy_axis(-20.0, 0.5, 1000), 200e3, collection, low_loss=low_loss, edges={"C_K": 8.0}
        )
        counts = expected_spectrum(narrow, 1e6)
        assert counts.dtype == jnp.float32
    assert np.abs(counts - exact).max() < 1e-4 * exact.max()
    assert np.abs(counts - exact)[600:].max() < 1e-8 * 1e6  # at the edge, far below the zero-loss peak


def test_the_edge_holds_its_cross_section():
    # The channel cross-sections of a thin specimen add up to density × σ(β, Δ).
    single = np.asarray(jax.jit(single_scattering)(WHOLE) - jax.jit(single_scattering)(without_edge()))
    loss = 0.5 * np.arange(len(single))
    onset = 283.8
    inside = single[loss < onset + 100.0 - 0.3].sum()  # channel j reaches from (j − ½) to (j + ½) dispersions
    window = loss[loss < onset + 100.0 - 0.3][-1] + 0.25 - onset
    sigma = jax.jit(lambda w: cross_section(WHOLE.edges["C_K"].edge, w, 200e3, COLLECTION))(window)
    assert inside == pytest.approx(8.0 * float(sigma), rel=1e-4)


def without_edge():
    core = WHOLE.edges["C_K"]
    return WHOLE.replace(edges={"C_K": core.replace(density=jnp.array(0.0))})


def test_an_onset_moves_smoothly_through_a_channel():
    total = jax.jit(lambda shift: single_scattering(moved(shift))[500:700].sum())
    slope = jax.jit(jax.grad(total))
    for shift in (0.03, 0.11, 0.3):  # the borders lie at 283.75 and 284.25
        numeric = (total(shift + 1e-3) - total(shift - 1e-3)) / 2e-3
        assert float(slope(shift)) == pytest.approx(float(numeric), rel=1e-5)


def moved(shift):
    core = WHOLE.edges["C_K"]
    return WHOLE.replace(edges={"C_K": core.replace(edge=core.edge.replace(onsets=core.edge.onsets + shift))})


def test_fine_structure_multiplies_its_part_of_the_edge():
    structure = make_fine_structure(np.log([1.0, 2.0, 2.0, 1.0]), 10.0)
    axis = make_energy_axis(270.0, 0.5, 200)
    one, two = (
        jax.jit(single_scattering)(spectrometer(axis, edges={"C_K": make_core_loss("C_K", 1.0, structure=s)}))
        for s in (None, structure)
    )
    ratio = np.asarray(two)[580:] / np.asarray(one)[580:]
    above = 0.5 * np.arange(len(one))[580:] - 283.8
    assert np.allclose(ratio[(above > 10.1) & (above < 19.9)], 2.0)
    assert np.allclose(ratio[above > 30.1], 1.0)


def test_the_background_is_a_power_law_beneath():
    axis = make_energy_axis(250.0, 0.5, 460)
    law = make_power_law(1e-5, 2.5, 250.0)
    counts = np.asarray(jax.jit(law.channels)(axis))
    borders = np.asarray(axis.edges())
    exact = 1e-5 * 250.0**2.5 * np.diff(borders**-1.5) / -1.5
    assert np.allclose(counts, exact, rtol=1e-7)
    assert float(jax.jit(law.channels)(make_energy_axis(0.0, 1.0, 100)).sum()) == 0.0  # none below its start


@pytest.mark.parametrize(
    "peak", [make_gaussian_peak(0.8, 0.1), make_skewed_peak(0.6, 1.0), make_skewed_peak(0.7, 0.9, lorentzian=1.0)]
)
def test_a_peak_has_area_one_and_its_width(peak):
    axis = make_energy_axis(-400.0, 0.01, 80_001)
    part = np.asarray(jax.jit(peak.channels)(axis))
    energies = np.asarray(axis.energies())
    assert part.sum() == pytest.approx(1.0, abs=1e-3)  # a Lorentzian leaves 1/(π 1000) beyond the axis
    above = energies[part >= 0.5 * part.max()]
    width = float(peak.width) if hasattr(peak, "width") else 0.5 * float(peak.rise + peak.fall)
    assert above[-1] - above[0] == pytest.approx(width, abs=0.025)
    assert energies[part.argmax()] == pytest.approx(float(peak.position), abs=0.011)


def test_what_cannot_be_a_spectrometer_is_refused():
    with pytest.raises(InputError, match="sees no loss"):
        make_spectrometer(make_energy_axis(-100.0, 0.5, 20), 200e3, COLLECTION)
    with pytest.raises(InputError, match="give eV"):
        make_spectrometer(make_energy_axis(0.0, 0.5, 20), 200.0, COLLECTION)
    with pytest.raises(InputError, match="atoms per Å²"):
        make_core_loss("O_K", -1.0)
