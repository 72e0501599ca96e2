"""Energy-loss spectra against another program, against statistics, and against finite differences."""

import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemjax.core.typing import real
from stemjax.spectra.background import make_power_law
from stemjax.spectra.collection import Collection, make_collection
from stemjax.spectra.edges import make_edge
from stemjax.spectra.energy_axis import make_energy_axis
from stemjax.spectra.gain_loss import make_vibrations, temperature_from
from stemjax.spectra.hydrogenic import cross_section, differential_cross_section
from stemjax.spectra.low_loss import make_drude, make_low_loss
from stemjax.spectra.model import expected_spectrum, make_spectrometer, single_scattering
from stemjax.spectra.plural import plural_scattering, scattering_order

REFERENCE = json.loads((Path(__file__).resolve().parents[1] / "reference" / "exspy_edges.json").read_text())
SQUARE_ANGSTROM = 1e-8
"""A barn [Å²]."""
FEW = ("C_K", "Si_K", "Fe_L3")


def with_onsets(name):
    """The edge with exspy's onsets; like Egerton's program it lets both 2p shells begin at L3."""
    found = REFERENCE["edges"][name]
    edge = make_edge(name.replace("L3", "L"))
    onsets = [found["onset"]] * 2 + [found["L1"]] if "L1" in found else [found["onset"]]
    return edge.replace(onsets=real(onsets))


def worst_difference(name):
    """Largest relative difference to exspy in σ(β, Δ) and in dσ/dE."""
    edge = with_onsets(name)

    @jax.jit
    def ours(beam, beta, windows, losses):
        collection = Collection(beta, 0.0 * beta)
        areas = jax.lax.map(lambda w: cross_section(edge, w, beam, collection), windows)
        return areas, differential_cross_section(edge, edge.onsets[0] + losses, beam, collection)

    worst = 0.0
    arguments = [real(REFERENCE[k]) for k in ("windows_eV", "losses_eV")]
    for one in REFERENCE["edges"][name]["conditions"]:
        areas, density = ours(real(1e3 * one["beam_keV"]), real(one["beta_mrad"]), *arguments)
        for found, theirs in ((areas, one["sigma"]), (density, one["density"])):
            worst = max(worst, float(np.abs(np.asarray(found) / (SQUARE_ANGSTROM * np.array(theirs)) - 1).max()))
    return worst


@pytest.mark.parametrize("name", FEW)
def test_hydrogenic_cross_sections_are_those_of_exspy(name):
    # 5 % is wanted; both follow Egerton, and differ by his rounded constants.
    assert worst_difference(name) < 0.003


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(REFERENCE["edges"]) - set(FEW)))
def test_more_cross_sections_are_those_of_exspy(name):
    assert worst_difference(name) < 0.003


def test_plural_scattering_obeys_poisson():
    """Areas of the orders are (t/λ)^n e^(−t/λ)/n! to 1e-4, in a foil of aluminium and in single precision too."""
    foil = make_low_loss(make_drude(15.0, 1.0), 1500.0)
    spectrometer = make_spectrometer(make_energy_axis(-10.0, 0.25, 2000), 100e3, make_collection(10.0), low_loss=foil)

    @jax.jit
    def areas(spectrometer):
        orders = [expected_spectrum(spectrometer, 1.0, order=n).sum() for n in range(5)]
        return single_scattering(spectrometer), jnp.stack(orders)

    single, found = areas(spectrometer)
    thickness = float(single.sum())
    assert 1.0 < thickness < 2.5
    law = np.exp(-thickness) * np.array([thickness**n / math.factorial(n) for n in range(5)])
    assert np.allclose(found, law, rtol=1e-4)
    single = single.astype(jnp.float32)
    line = jnp.zeros(single.shape, jnp.float32).at[0].set(1.0)
    assert float(scattering_order(line, single, 2).sum()) == pytest.approx(law[2], rel=1e-4)


@pytest.mark.parametrize("temperature", [77.0, 300.0, 1000.0])
def test_detailed_balance_gives_the_temperature(temperature):
    """Areas of the gain and loss peaks after broadening by 20 meV: within 1 %."""
    energies = jnp.linspace(-0.4, 0.4, 1601)
    density = make_vibrations([0.15], [0.004], [0.05], temperature).density(energies)
    kernel = np.exp(-0.5 * (np.linspace(-0.1, 0.1, 401) / (0.02 / 2.3548)) ** 2)
    spectrum = np.convolve(np.asarray(density), kernel / kernel.sum(), mode="same")
    loss, gain = (spectrum[np.asarray(energies * sign) > 0.05].sum() for sign in (1, -1))
    found = float(temperature_from(jnp.array(gain), jnp.array(loss), 0.15))
    assert found == pytest.approx(temperature, rel=0.01)


def test_gradients_are_finite_differences():
    """Every leaf of a spectrometer with low loss, an edge and a background."""
    spectrometer = make_spectrometer(
        make_energy_axis(400.0, 1.0, 200),
        200e3,
        make_collection(20.0, 12.0),
        low_loss=make_low_loss(make_drude(15.0, 3.0), 600.0, cutoff=12.0),
        edges={"O_K": 15.0},
        background=make_power_law(2e-5, 3.0, 400.0),
    )
    leaves, structure = jax.tree.flatten(spectrometer)

    @jax.jit
    @jax.value_and_grad
    def total(leaves):
        return jnp.sum(jnp.log(expected_spectrum(structure.unflatten(leaves), 1e8)))

    value, slopes = total(leaves)
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(spectrometer)]
    rounding = 1e-12 * abs(float(value))
    for i, name in enumerate(names):
        step = 1e-5 * float(jnp.abs(leaves[i]).max()) or 1e-4
        values = [total([x + sign * step if j == i else x for j, x in enumerate(leaves)])[0] for sign in (1, -1)]
        numeric = float(values[0] - values[1]) / (2 * step)
        assert np.isfinite(numeric), name
        assert float(slopes[i].sum()) == pytest.approx(numeric, rel=2e-4, abs=rounding / step), name


@pytest.mark.realdata
def test_the_truth_of_a_set_simulated_elsewhere_gives_its_spectrum(data_folder):
    """Silicon, 100 nm, made with exspy: zero-loss peak and single scattering give the spectrum to its noise."""
    import h5py

    folder = data_folder / "eels-spectra"
    if not (folder / "measured.hspy").is_file():
        pytest.skip("no spectra in the folder of microscope data")

    def read(name):
        with h5py.File(folder / f"{name}.hspy") as file:
            found = next(iter(file["Experiments"].values()))
            return found["data"][()].astype(float), float(found["metadata/Simulation"].attrs["t_over_lambda"])

    (measured, thickness), (line, _), (once, _) = read("measured"), read("zlp"), read("ssd_ground_truth")
    zero = int(line.argmax())
    single = once[zero:] * thickness / once.sum()
    found = np.asarray(jax.jit(plural_scattering)(jnp.asarray(line), jnp.asarray(single)))
    noise = np.sqrt(np.maximum(found, 1.0))
    assert np.sum(((found - measured) / noise) ** 2) < 1.0  # Poisson noise would give one for each of the 6101 channels
    scale = found @ measured / (found @ found)
    assert scale == pytest.approx(1.0, abs=3e-4)
    assert np.abs(measured / scale - found).max() < 1e-5 * found.max()
