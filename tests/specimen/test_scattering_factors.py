"""The tables against another one, against sum rules, and the two ways of evaluating them against each other."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.data import chemical_symbols

from stemjax.core.errors import InputError
from stemjax.specimen.scattering_factors import (
    BOHR_RADIUS,
    PARAMETRIZATIONS,
    POTENTIAL_PER_SCATTERING_FACTOR,
    coefficients,
    debye_waller,
    scattering_factor,
    table,
)

ALL = np.arange(1, 104)
# The part of f_e that Z - f_X is divided by: f_e = (Z - f_X) / (2 π² a0 k²), Mott and Bethe.
MOTT_BETHE = 2.0 * np.pi**2 * BOHR_RADIUS


def test_constant():
    """h² / (2π m0 e) = 2π a0² E_h / e with the Hartree energy E_h = 27.211386 eV, in the books 47.878 V Å²."""
    assert pytest.approx(2 * np.pi * BOHR_RADIUS**2 * 27.211386246, rel=1e-8) == POTENTIAL_PER_SCATTERING_FACTOR
    assert pytest.approx(47.878, abs=5e-4) == POTENTIAL_PER_SCATTERING_FACTOR


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
def test_tables_hold_every_element(parametrization):
    values = table(parametrization)
    assert values.shape[0] == 103
    assert np.isfinite(values).all()
    assert len(np.unique(values.reshape(103, -1), axis=0)) == 103
    assert (coefficients(parametrization, [[1, 2], [3, 4]]).shape)[:2] == (2, 2)


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
def test_positive_and_falling(parametrization):
    k = np.linspace(0.0, 12.0, 600)
    f = scattering_factor(parametrization, ALL, k)
    assert (f > 0).all()
    # Beyond k = 0.3 every atom's factor falls; below, Kirkland's fits of a few atoms ripple by a per mille.
    assert (np.diff(f[:, k > 0.3], axis=1) < 0).all()


def test_lobato_has_the_nuclear_limit():
    """Far out only the nucleus scatters: k² f -> Z / (2 π² a0). Lobato's fits were made to obey it."""
    k = 1e4
    limit = k**2 * scattering_factor("lobato", ALL, np.array(k))
    np.testing.assert_allclose(limit, ALL / MOTT_BETHE, rtol=2e-3)


def test_the_tables_agree():
    """Two independent fits: within 2 % where inner electrons scatter; below, the authors' valence states may differ."""
    k = np.linspace(0.1, 6.0, 60)
    lobato, kirkland = (scattering_factor(p, ALL, k) for p in ("lobato", "kirkland"))
    inner = k > 0.8
    assert (np.abs(lobato / kirkland - 1.0)[:, inner] < 0.02).all()
    worst = (np.abs(lobato - kirkland) / kirkland.max(axis=1, keepdims=True)).max(axis=1)
    assert np.median(worst) < 0.015
    assert (worst < 0.12).all()


@pytest.mark.realdata
@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
def test_mott_bethe_from_x_ray_factors(parametrization, data_folder):
    """Electron factors follow from the x-ray factors of D. Waasmaier and A. Kirfel, Acta Cryst. A51 (1995) 416."""
    x_ray = json.loads((data_folder / "ref-scattering-tables" / "waasmaier_kirfel.json").read_text())
    k = np.linspace(0.8, 6.0, 40)
    worst = {}
    for number in range(2, 99):
        if chemical_symbols[number] not in x_ray:
            continue
        p = np.array(x_ray[chemical_symbols[number]])
        f_x = p[:5] @ np.exp(-p[6:, None] * (k / 2) ** 2) + p[5]
        expected = (number - f_x) / (MOTT_BETHE * k**2)
        found = scattering_factor(parametrization, number, k)
        worst[chemical_symbols[number]] = float(np.abs(found / expected - 1).max())
    assert len(worst) > 90
    assert np.median(list(worst.values())) < 0.01, worst
    assert max(worst.values()) < 0.05, worst


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
def test_known_forward_values(parametrization):
    """P. A. Doyle and P. S. Turner, Acta Cryst. A24 (1968) 390, f(0) from Hartree-Fock wave functions [Å]."""
    known = {6: 2.509, 8: 1.983, 14: 5.828, 29: 5.600, 79: 10.573}
    found = scattering_factor(parametrization, list(known), np.array(0.0))
    np.testing.assert_allclose(found, list(known.values()), rtol=0.05)


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
def test_numpy_and_jax_agree(parametrization):
    k = np.linspace(0.0, 8.0, 50)
    double = scattering_factor(parametrization, [1, 6, 79], k)
    traced = jax.jit(lambda q: scattering_factor(parametrization, [1, 6, 79], q))(jnp.asarray(k))
    np.testing.assert_allclose(traced, double, rtol=1e-9)
    single = scattering_factor(parametrization, ALL, jnp.asarray(k, jnp.float32))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, scattering_factor(parametrization, ALL, k), rtol=3e-4)


def test_debye_waller_is_the_transform_of_a_gaussian():
    """The mean of exp(-2πi k x) over displacements of rms u."""
    x = np.random.default_rng(0).normal(0.0, 0.1, 400_000)
    mean = np.cos(2 * np.pi * 2.0 * x).mean()
    assert float(debye_waller(jnp.array(2.0), jnp.array(0.1))) == pytest.approx(mean, abs=5e-3)


def test_refuses_unknown_names_and_elements():
    with pytest.raises(InputError, match="nearest: 'kirkland'"):
        table("Kirklend")
    with pytest.raises(InputError, match="atomic number 104"):
        coefficients("lobato", [6, 104])
