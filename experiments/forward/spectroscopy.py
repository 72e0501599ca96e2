"""Energy-loss spectra with every order of scattering, and what they say of composition, temperature and place.

Claim: areal densities read from a core-loss spectrum of a thick foil are right to 1 % when plural scattering is in
the model, and wrong by tens of percent when it is left out; a phonon thermometer that treats the resolution is right
to 1 %.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import stemjax as sj

BEAM = 200e3  # eV
ELECTRONS = 1e10  # 160 pA for 10 s
STRONTIUM_TITANATE = ([6.0, 14.0, 26.0], [9.0, 17.0, 21.0], [3.0, 8.0, 12.0])  # eV; a likeness of its low loss, no fit
CELL_VOLUME = 3.905**3  # Å³


def core_loss(thickness: float, *, low_loss: bool = True) -> sj.Spectrometer:
    """SrTiO3 of a thickness [Å], 420 to 620 eV, on a falling background."""
    return sj.make_spectrometer(
        sj.make_energy_axis(420.0, 0.5, 400),
        BEAM,
        sj.make_collection(33.0, 30.0),
        zero_loss=sj.make_gaussian_peak(1.2),
        low_loss=sj.make_low_loss(sj.make_oscillators(*STRONTIUM_TITANATE), thickness, cutoff=12.0)
        if low_loss
        else None,
        edges={"Ti_L": thickness / CELL_VOLUME, "O_K": 3 * thickness / CELL_VOLUME},
        background=sj.make_power_law(2e-6 * thickness / 100.0, 3.0, 420.0),
    )


def fitted_densities(counts: np.ndarray, model: sj.Spectrometer) -> dict[str, float]:
    """Areal densities by weighted least squares [1/Å²]; the spectrum is nearly linear in them."""

    def spectrum(x: jax.Array) -> jax.Array:
        edges = {name: core.replace(density=x[i]) for i, (name, core) in enumerate(sorted(model.edges.items()))}
        background = model.background.replace(strength=x[2] * 1e-5, exponent=x[3])
        return sj.expected_spectrum(model.replace(edges=edges, background=background), ELECTRONS)

    names = sorted(model.edges)
    x = jnp.array([*(float(model.edges[n].density) for n in names), float(model.background.strength) * 1e5, 3.0]) * 0.8
    both = jax.jit(lambda x: (spectrum(x), jax.jacfwd(spectrum)(x)))
    weight = 1.0 / np.sqrt(counts + 1.0)
    for _ in range(6):
        now, slope = both(x)
        step = np.linalg.lstsq(np.asarray(slope) * weight[:, None], (counts - np.asarray(now)) * weight, rcond=None)[0]
        x = x + step
    return {name: float(x[i]) for i, name in enumerate(names)}


def show_core_loss(axes: Any, random: np.random.Generator) -> float:
    """Spectra and what a fit says of the densities; the worst error with plural scattering in the model [%]."""
    thickness = 800.0
    whole, thin = core_loss(thickness), core_loss(thickness, low_loss=False)
    counts = random.poisson(np.asarray(sj.expected_spectrum(whole, ELECTRONS))).astype(float)
    loss = np.asarray(whole.axis.energies())
    axes.plot(loss, counts / 1e3, color="0.6", lw=0.8, label="with noise")
    axes.plot(loss, np.asarray(sj.expected_spectrum(whole, ELECTRONS)) / 1e3, label="all orders")
    axes.plot(loss, np.asarray(sj.expected_spectrum(thin, ELECTRONS)) / 1e3, label="single scattering")
    truth = {name: float(core.density) for name, core in whole.edges.items()}
    lines, worst = [], 0.0
    for label, model in (("all orders", whole), ("single", thin)):
        found = fitted_densities(counts, model)
        errors = {name: 100 * (found[name] / truth[name] - 1) for name in truth}
        lines.append(f"{label}: " + ", ".join(f"{name} {error:+.1f} %" for name, error in errors.items()))
        worst = worst or max(abs(e) for e in errors.values())
    print("error of the fitted areal densities:", "; ".join(lines))
    axes.text(0.97, 0.04, "fitted densities\n" + "\n".join(lines), transform=axes.transAxes, ha="right", fontsize=7)
    axes.set(
        xlabel="energy loss (eV)",
        ylabel="10³ electrons per channel",
        ylim=(0, None),
        title="SrTiO$_3$, 80 nm: Ti L, O K",
    )
    axes.legend(fontsize=7)
    return worst


def show_low_loss(axes: Any) -> None:
    """Aluminium: how often the electrons were scattered."""
    foil = sj.make_low_loss(sj.make_drude(15.0, 0.7), 1200.0, cutoff=10.0)
    model = sj.make_spectrometer(
        sj.make_energy_axis(-5.0, 0.1, 700),
        BEAM,
        sj.make_collection(10.0),
        zero_loss=sj.make_gaussian_peak(0.6),
        low_loss=foil,
    )
    loss = np.asarray(model.axis.energies())
    axes.semilogy(loss, np.asarray(sj.expected_spectrum(model, 1e6)), "k", lw=1.4, label="all")
    for order in range(1, 4):
        part = np.asarray(sj.expected_spectrum(model, 1e6, order=order))
        axes.semilogy(loss, np.maximum(part, 1e-3), lw=0.9, label=f"{order} losses" if order > 1 else "1 loss")
    axes.annotate("surface\n10.6 eV", (10.6, 900), (2.5, 3.0), fontsize=7, arrowprops={"arrowstyle": "-", "lw": 0.6})
    axes.set(ylim=(1, 3e5), xlabel="energy loss (eV)", ylabel="electrons per channel", title="Al, 120 nm: plasmons")
    axes.legend(fontsize=7)


def show_temperature(axes: Any) -> float:
    """Gain and loss of a boron nitride-like phonon, and the temperature read from it; the worst error [%]."""
    axis, width = sj.make_energy_axis(-0.4, 0.0005, 1601), 0.03
    energies = np.asarray(axis.energies())
    sigma = width / 2.3548
    kernel = np.exp(-0.5 * ((energies[:, None] - energies[None, :]) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    given, found, naive = np.array([200.0, 300.0, 500.0, 800.0, 1200.0]), [], []
    for temperature in given:
        modes = sj.make_vibrations([0.10, 0.17], [0.02, 0.03], [0.01, 0.03], temperature)
        spectrum = kernel @ np.asarray(modes.density(axis.energies())) * 0.0005 + kernel[:, 800]
        found.append(float(sj.temperature_of(jnp.asarray(spectrum), axis, (0.10, 0.20), width=width)))
        pair = (np.interp(sign * 0.16, energies, spectrum) for sign in (-1, 1))
        naive.append(float(sj.temperature_from(*map(jnp.asarray, pair), 0.16)))
        if temperature in (300.0, 800.0):
            axes.semilogy(1e3 * energies, spectrum, label=f"{temperature:g} K")
    rows = "\n".join(f"{g:5.0f} K: {f:7.1f}  ({n:.0f})" for g, f, n in zip(given, found, naive, strict=True))
    axes.text(0.03, 0.62, "read (without δ)\n" + rows, transform=axes.transAxes, fontsize=6.5, family="monospace")
    axes.set(xlabel="energy loss (meV)", ylabel="1/eV per electron", title="phonon gain and loss, 30 meV resolution")
    axes.set(xlim=(-250, 250), ylim=(1e-6, 1e3))
    axes.legend(fontsize=7, loc="lower right")
    worst, plain = (100 * float(np.abs(np.array(t) / given - 1).max()) for t in (found, naive))
    print(f"temperature: worst error {worst:.2f} %; without the shift {plain:.0f} %")
    return worst


def show_momentum(axes: Any) -> None:
    """A plasmon that disperses, seen through a small aperture that is moved."""
    loss = jnp.linspace(10.0, 30.0, 201)
    plasmon = sj.make_dispersive_plasmon(15.0, 0.6, 500.0, dispersion=0.4, broadening=0.1)
    angles = np.linspace(0.3, 6.0, 40)
    aperture = sj.make_displaced_collection(0.25, (0.0, 1.0))
    seen = jax.jit(lambda offset: plasmon.density(loss, BEAM, aperture.replace(offset=offset)))
    rows = np.array([np.asarray(seen(jnp.array([0.0, a]))) for a in angles])
    momentum = 1e-3 * angles * float(sj.wavenumber(BEAM))
    axes.pcolormesh(momentum, np.asarray(loss), np.log10(rows / rows.max()).T, vmin=-4, shading="auto", cmap="magma")
    axes.plot(momentum, 15.0 + 0.4 * 7.62 * (2 * np.pi * momentum) ** 2, "w--", lw=0.8, label="$E_p + A ħ²q²/m$")
    axes.set(xlabel="momentum transfer (1/Å)", ylabel="energy loss (eV)", title="q-EELS: log$_{10}$ intensity")
    axes.set_ylim(10, 30)
    axes.legend(fontsize=7)


def show_trade(axes: Any) -> None:
    """What resolution in momentum costs: in intensity, and in the size of the probe."""
    loss = jnp.linspace(10.0, 30.0, 201)
    dispersive = sj.make_dispersive_plasmon(15.0, 0.6, 500.0, dispersion=0.4)
    flat = sj.make_dispersive_plasmon(15.0, 0.6, 500.0)
    semiangles = np.geomspace(0.1, 3.0, 14)
    base = sj.make_displaced_collection(1.0, (0.0, 4.0), convergence=0.1)
    for label, plasmon in (("dispersive", dispersive), ("not dispersive", flat)):
        seen = jax.jit(lambda b, p=plasmon: p.density(loss, BEAM, base.replace(semiangle=b)))
        spectra = np.array([np.asarray(seen(jnp.asarray(b))) for b in semiangles])
        width = spectra.sum(axis=1) * 0.1 / spectra.max(axis=1)
        axes.plot(semiangles, width / width[0], label=f"width of the peak, {label}")
    intensity = spectra.sum(axis=1) / spectra[-1].sum()
    axes.plot(semiangles, intensity, "k:", label="intensity, part of that at 3 mrad")
    apertures = [base.replace(semiangle=jnp.asarray(b)) for b in semiangles]
    resolution = np.array([sj.momentum_resolution(aperture, BEAM) for aperture in apertures])
    axes.plot(semiangles, 10 * resolution, "--", color="0.5", label="Δq (0.1/Å)")
    axes.set(xscale="log", yscale="log", xlabel="collection semi-angle (mrad)", ylabel="relative")
    axes.set_title("q-EELS at 4 mrad: what resolution costs")
    axes.legend(fontsize=7)


def show_delocalisation(axes: Any) -> None:
    """Width of the effective potentials against the rule of thumb."""
    edges = (("Al_L23", 20.0), ("Si_L23", 20.0), ("C_K", 30.0), ("O_K", 40.0), ("Cu_L23", 40.0), ("Si_K", 100.0))
    collection = sj.make_collection(30.0)
    for name, window in edges:
        edge = sj.make_edge(name)
        potential = sj.edge_factor(edge, BEAM, collection, window)
        axes.plot(float(edge.onsets[0]), 2 * sj.median_radius(potential), "o", color="C0", ms=5)
        axes.annotate(name.replace("_", " "), (float(edge.onsets[0]), 2 * sj.median_radius(potential)), fontsize=7,
                      textcoords="offset points", xytext=(-6, -12), ha="right")  # fmt: skip
    loss = np.geomspace(50.0, 2500.0, 60)
    axes.plot(loss, np.asarray(sj.delocalisation_length(loss, BEAM, 30.0)), "k--", lw=0.9, label="Egerton, Eq. 5.17a")
    axes.set(xscale="log", yscale="log", xlabel="onset (eV)", ylabel="diameter $d_{50}$ (Å)")
    axes.set_title("effective potentials: half of the losses within")
    axes.legend(fontsize=7)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("spectroscopy.png"))
    sj.setup()
    output, begin = parser.parse_args().output, time.perf_counter()
    figure, axes = plt.subplots(2, 3, figsize=(13.5, 8), layout="constrained")
    print(__doc__.split("\n\n")[1].replace("\n", " "))
    densities = show_core_loss(axes[0, 0], np.random.default_rng(1))
    show_low_loss(axes[0, 1])
    temperature = show_temperature(axes[0, 2])
    show_momentum(axes[1, 0])
    show_trade(axes[1, 1])
    show_delocalisation(axes[1, 2])
    figure.savefig(output, dpi=150)
    met = "met" if densities < 1.0 and temperature < 1.0 else "MISSED"
    print(f"areal densities to {densities:.2f} %, temperature to {temperature:.2f} %: {met}")
    print(f"{time.perf_counter() - begin:.0f} s; {output}")


if __name__ == "__main__":
    main()
