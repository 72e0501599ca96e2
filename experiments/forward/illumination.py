"""Shaped and partially coherent beams: vortex, Bessel, Gaussian and MIDI beams, and a real gun, against closed forms.

python experiments/forward/illumination.py -o illumination.png
"""

from __future__ import annotations

import argparse
import time

import jax
import numpy as np

import stemjax as sj

ENERGY, SEMIANGLE = 300e3, 20.0
WINDOW = sj.make_grid(1024, 0.1)
VIEW = 4.0
"""Half width of the panels [Å]."""

PLATES = {
    "vortex, m = 1": lambda: sj.make_vortex_plate(1),
    "Bessel, 18 to 20 mrad": lambda: sj.make_hollow_cone_plate(18.0),
    "Gaussian, 6 mrad": lambda: sj.make_gaussian_plate(6.0),
    "MIDI, 20 rings 0, π/2": lambda: sj.make_ring_plate(20),
}


def real_space(probe: sj.Probe) -> np.ndarray:
    """Waves in real space [mode y x] [1/Å], the probe in the middle of its window."""
    grid = probe.grid
    waves = np.fft.ifft2(np.asarray(jax.jit(sj.probe_waves)(probe)))
    return np.fft.fftshift(waves, axes=(1, 2)) * np.sqrt(np.prod(grid.shape) / np.prod(grid.sampling))


def shaped_beams() -> dict[str, np.ndarray]:
    """One wave a plate, in focus."""
    return {
        name: real_space(sj.make_probe(WINDOW, energy=ENERGY, semiangle=SEMIANGLE, plate=make()))[0]
        for name, make in PLATES.items()
    }


def axis(grid: sj.Grid) -> np.ndarray:
    """Distance from the middle of the window along x [Å]."""
    return (np.arange(grid.shape[1]) - grid.shape[1] // 2) * grid.sampling[1]


def angular_momentum(wave: np.ndarray) -> float:
    """Mean orbital angular momentum ⟨−i ∂/∂φ⟩ of a wave [ħ], by the gradient in Fourier space."""
    x = axis(WINDOW)[None, :]
    y = x.T
    ky, kx = WINDOW.frequencies()
    transform = np.fft.fft2(np.fft.ifftshift(wave))
    slope_y, slope_x = (np.fft.fftshift(np.fft.ifft2(2j * np.pi * k * transform)) for k in (ky, kx))
    inside = np.hypot(y, x) < 20.0
    return float(
        ((wave.conj() * -1j * (x * slope_y - y * slope_x))[inside].sum() / (abs(wave[inside]) ** 2).sum()).real
    )


def check_shapes(beams: dict[str, np.ndarray]) -> list[str]:
    """Lines of figures, each against its closed form."""
    length = sj.wavelength(ENERGY)
    x = axis(WINDOW)
    vortex, bessel, gaussian, _ = beams.values()
    row = bessel[WINDOW.shape[0] // 2].real
    right = x >= 0
    first = np.argmax(row[right] * row[right][0] < 0)
    a, b = row[right][first - 1 : first + 1]
    zero = x[right][first - 1] + WINDOW.sampling[1] * a / (a - b)
    density = abs(gaussian[WINDOW.shape[0] // 2]) ** 2
    waist = 2 * np.sqrt((density * x**2).sum() / density.sum())
    expected = length / (np.pi * np.sqrt(2) * 6e-3)
    core = abs(vortex[WINDOW.shape[0] // 2, WINDOW.shape[1] // 2]) ** 2 / (abs(vortex) ** 2).max()
    return [
        f"vortex: ⟨L⟩ = {angular_momentum(vortex):.4f} ħ (1 expected), density of the core {core:.1e} of the peak",
        f"Bessel: first zero at {zero:.3f} Å (2.405 / 2πk₀ = {2.4048 * length / (2 * np.pi * 19e-3):.3f} Å)",
        f"Gaussian: waist {waist:.3f} Å (λ / πθ = {expected:.3f} Å)",
    ]


def partial_coherence() -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], list[str]]:
    """Profiles (position, density) of a probe at 80 kV without and with source and focal spread."""
    energy, semiangle, source = 80e3, 25.0, sj.rms_of_fwhm(0.8)
    grid = sj.make_grid(256, 0.1)
    gun = sj.make_coherence(energy, semiangle, source_size=source, chromatic=1.2e7, energy_spread=0.15, error=1e-3)
    colour = sj.make_coherence(energy, semiangle, chromatic=1.2e7, energy_spread=0.15, error=1e-6)
    ideal, full, focus = (
        sj.make_probe(grid, energy=energy, semiangle=semiangle, coherence=c) for c in (None, gun, colour)
    )
    few = sj.condensed_probe(full, lost=1e-3)
    densities = {
        "coherent": (abs(real_space(ideal)) ** 2).sum(axis=0),
        "focal spread": (abs(real_space(focus)) ** 2).sum(axis=0),
        "source and focal spread": (abs(real_space(full)) ** 2).sum(axis=0),
        "the same in few modes": (abs(real_space(few)) ** 2).sum(axis=0),
    }
    exact = np.asarray(sj.blur_image(densities["focal spread"], grid.sampling, source))
    peak = densities["coherent"].max()
    nodes, few_nodes = (
        abs(densities[name] - exact).max() / peak for name in ("source and focal spread", "the same in few modes")
    )
    waves = gun.source_nodes[0] * gun.source_nodes[1] * gun.focal_nodes
    parts = [
        f"80 kV, 25 mrad, source of 0.8 Å FWHM, focal spread of {float(sj.focal_spread(gun, energy)):.1f} Å rms:",
        f"  {waves} waves of the quadratures, error {nodes:.1e} of the coherent peak (at most 1e-3 asked)",
        f"  {len(few.pixels)} modes hold all but 1e-3 of the beam, error {few_nodes:.1e} of the coherent peak",
    ]
    middle = grid.shape[0] // 2
    return {name: (axis(grid), density[middle]) for name, density in densities.items()}, parts


def draw(beams: dict[str, np.ndarray], profiles: dict[str, tuple[np.ndarray, np.ndarray]], path: str) -> None:
    """Intensity and phase of every beam, and the profiles."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(14.5, 6.2), layout="constrained")
    panels = figure.add_gridspec(2, 6, width_ratios=[1, 1, 1, 1, 0.05, 1.75])
    x = axis(WINDOW)
    extent = (x[0] - 0.05, x[-1] + 0.05, x[-1] + 0.05, x[0] - 0.05)  # y grows downwards
    for column, (name, wave) in enumerate(beams.items()):
        density, phase = abs(wave) ** 2, np.angle(wave)
        top, bottom = (figure.add_subplot(panels[row, column]) for row in (0, 1))
        top.imshow((density / density.max()) ** 0.5, cmap="inferno", extent=extent, vmin=0.0, vmax=1.0)
        top.set_title(name, fontsize=11)
        # A phase has no meaning where there is no beam: it fades to black with the amplitude.
        drawn = bottom.imshow(
            phase, cmap="hsv", extent=extent, vmin=-np.pi, vmax=np.pi,
            alpha=np.clip(abs(wave) / abs(wave).max() * 8, 0, 1), interpolation="none",
        )  # fmt: skip
        bottom.set_facecolor("k")
        for axes in (top, bottom):
            axes.set(xlim=(-VIEW, VIEW), ylim=(VIEW, -VIEW), xticks=[-4, 0, 4], yticks=[-4, 0, 4])
        bottom.set_xlabel("x [Å]")
        if column == 0:
            top.set_ylabel("square root of intensity\ny [Å]")
            bottom.set_ylabel("phase\ny [Å]")
    scale = figure.colorbar(drawn, cax=figure.add_subplot(panels[1, 4]), ticks=[-np.pi, 0, np.pi])
    scale.ax.set_yticklabels(["−π", "0", "π"])
    scale.solids.set_alpha(1.0)
    draw_profiles(figure.add_subplot(panels[:, 5]), profiles)
    figure.suptitle("Beams at 300 kV, 20 mrad, in focus (left); partial coherence at 80 kV, 25 mrad (right)")
    figure.savefig(path, dpi=130)


def draw_profiles(axes: object, profiles: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Density across the middle of each probe."""
    styles = ({"color": "0.6"}, {"color": "tab:blue"}, {"color": "tab:red", "lw": 2.5}, {"color": "k", "ls": ":"})
    for (name, (x, density)), style in zip(profiles.items(), styles, strict=True):
        axes.semilogy(x, density, label=name, **style)
    axes.set(xlim=(-6, 6), ylim=(1e-5, 30.0), xlabel="x [Å]", ylabel="electrons / Å²")
    axes.legend(loc="upper right", fontsize=9)


def main() -> None:
    """Compute, print and draw."""
    sj.setup()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", default="illumination.png")
    path = parser.parse_args().output
    start = time.perf_counter()
    beams = shaped_beams()
    profiles, lines = partial_coherence()
    print("Claim: shaped beams and partially coherent probes agree with their closed forms")
    print("\n".join([*check_shapes(beams), *lines]))
    draw(beams, profiles, path)
    print(f"{path} written after {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
