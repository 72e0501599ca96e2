"""Specimens from atoms up: built assemblies, thermal motion in a diffraction pattern, a magnetic domain turned over.

Claim: frozen phonons damp Bragg beams by the Debye-Waller factor; the absorptive model gives what they scatter onto a
ring in one pass, to some per cent; turning a specimen over tells its magnetic phase from its electrostatic one.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import stemjax as sj

ENERGY = 200e3  # eV
CONFIGURATIONS = 16
RING = (50.0, 90.0)  # mrad
DISPLACEMENT = 0.076  # Å, silicon at room temperature


def assemblies() -> dict[str, sj.Structure]:
    """Four built specimens."""
    film = sj.amorphous_film("C", 2.0, (44.0, 44.0), 30.0, seed=1)
    particle = sj.nanoparticle("Au", 26.0, zone_axis=(1, 1, 0), angle=20.0)
    layer = sj.dope(sj.monolayer("WS2", (40.0, 40.0)), "Mo", replaces="W", fraction=0.2, seed=2)
    return {
        "Au [110] on amorphous carbon": sj.nanoparticle_on_film(particle, film),
        "SrTiO$_3$ Σ5 [001] boundaries": sj.grain_boundary(
            sj.crystal("SrTiO3"), (0, 0, 1), 36.87, size=(36.0, 20.0), min_distance=1.6
        ),
        "W$_{0.8}$Mo$_{0.2}$S$_2$, 3 % S vacancies": sj.vacancies(layer, element="S", fraction=0.03, seed=3),
    }


def patterns(thickness: float) -> dict[str, Any]:
    """Patterns of silicon [001] in a nearly parallel beam: at rest, frozen phonons, absorbing mean potential."""
    import jax

    structure = sj.slab("Si", thickness=thickness, width=(27.0, 27.0), rms_displacement=DISPLACEMENT)
    slices = round(float(structure.cell[0]) / 1.3575)
    moving = sj.make_atomic_specimen(structure, 0.14, slices, phonons=CONFIGURATIONS, seed=1)
    absorbing = sj.make_atomic_specimen(structure, moving.grid, slices, absorption=True)
    still = sj.make_atomic_specimen(sj.with_displacement(structure, 0.0), moving.grid, slices)
    probe = sj.make_probe(moving.grid, energy=ENERGY, semiangle=1.5)
    centre = tuple(0.5 * e for e in moving.grid.extent)
    base = sj.make_experiment(probe, still, sj.make_raster((1, 1), 1.0, origin=centre))
    forward = sj.Diffraction()
    pattern = jax.jit(lambda specimen: forward(base.replace(specimen=specimen))[0])
    one = jax.jit(lambda specimen, i: forward(base.replace(specimen=specimen.configuration(i)))[0])
    frozen = np.mean([np.asarray(one(moving, i)) for i in range(CONFIGURATIONS)], axis=0)
    angle = 1e3 * sj.wavelength(ENERGY) * np.hypot(*moving.grid.frequencies())
    return {
        "angle": angle, "thickness": float(structure.cell[0]),
        "at rest": np.asarray(pattern(still)), "frozen phonons": frozen, "absorbing": np.asarray(pattern(absorbing)),
    }  # fmt: skip


def damping() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """|g| [1/Å] of the families of beams of graphene, damping of the coherent beams, and the Debye-Waller factor."""
    import jax
    import jax.numpy as jnp

    structure = sj.graphene((17.0, 17.0), rms_displacement=DISPLACEMENT)
    specimen = sj.make_atomic_specimen(structure, 0.08, 1, phonons=256, seed=1)
    sigma = sj.interaction_parameter(ENERGY)

    @jax.jit
    def mean(specimen: Any) -> Any:
        add = lambda total, i: (total + specimen.configuration(i).transmission(sigma)[0], None)  # noqa: E731
        return jax.lax.scan(add, jnp.zeros(specimen.grid.shape, complex), jnp.arange(256))[0] / 256

    rest = sj.make_atomic_specimen(sj.with_displacement(structure, 0.0), specimen.grid, 1).transmission(sigma)[0]
    moving, rest = np.fft.fft2(np.asarray(mean(specimen))), np.fft.fft2(np.asarray(rest))
    k = np.hypot(*specimen.grid.frequencies())
    bragg = (np.abs(rest) > 1e-3 * np.abs(rest[k > 0]).max()) & (k > 0) & (k < 3.6)
    lengths = np.unique(k[bragg].round(4))
    ratio = [(moving / np.where(bragg, rest, 1.0))[bragg & np.isclose(k, g, atol=1e-3)].mean().real for g in lengths]
    return lengths, np.array(ratio), np.exp(-2 * (np.pi * DISPLACEMENT * lengths) ** 2)


def ring_signals(thickness: float) -> dict[str, np.ndarray]:
    """Electrons on a ring behind a silicon column against the depth: frozen phonons, and the absorptive model."""
    import jax
    import jax.numpy as jnp

    structure = sj.slab("Si", thickness=thickness, width=(16.0, 16.0), rms_displacement=DISPLACEMENT)
    slices = round(float(structure.cell[0]) / 1.3575)
    moving = sj.make_atomic_specimen(structure, 0.085, slices, phonons=CONFIGURATIONS, seed=1)
    grid, sigma, length = moving.grid, sj.interaction_parameter(ENERGY), sj.wavelength(ENERGY)
    absorbing = sj.make_atomic_specimen(structure, grid, slices, absorption=True)
    place = np.asarray(structure.positions)[0, 1:]
    ky, kx = grid.frequencies()
    wave = sj.probe_waves(sj.make_probe(grid, energy=ENERGY, semiangle=21.0))[0]
    wave = wave * np.exp(-2j * np.pi * (ky * place[0] + kx * place[1]))
    step = sj.fresnel_propagator(grid, float(moving.thickness[0]), ENERGY) * sj.band_limit(grid, 2.0 / 3.0)
    angle = 1e3 * length * np.hypot(ky, kx)
    ring = (angle >= RING[0]) & (angle < RING[1])

    @jax.jit
    def behind(specimen: Any) -> Any:
        def one(psi: Any, field: Any) -> tuple[Any, Any]:
            out = step * jnp.fft.fft2(field * jnp.fft.ifft2(psi))
            return out, out

        return jax.lax.scan(one, wave + 0j, specimen.transmission(sigma))[1]

    @jax.jit
    def frozen(specimen: Any, index: Any) -> Any:
        return jnp.sum(jnp.abs(behind(specimen.configuration(index))) ** 2 * ring, axis=(1, 2))

    @jax.jit
    def fast(specimen: Any) -> Any:
        out = behind(specimen)
        before = jnp.fft.ifft2(jnp.concatenate([wave[None], out[:-1]]), norm="ortho")
        events = sj.thermal_detector_potential(
            specimen.structure, grid, specimen.slices, sigma, inner=RING[0], outer=RING[1], wavelength=length
        )
        thermal = jnp.cumsum(jnp.sum(jnp.abs(before) ** 2 * events, axis=(1, 2)))
        return thermal, jnp.sum(jnp.abs(out) ** 2 * ring, axis=(1, 2))

    found = np.stack([np.asarray(frozen(moving, i)) for i in range(CONFIGURATIONS)])
    thermal, elastic = (np.asarray(a) for a in fast(absorbing))
    depth = float(moving.thickness[0]) * (1 + np.arange(slices))
    return {
        "depth": depth, "frozen": found.mean(axis=0), "error": found.std(axis=0, ddof=1) / CONFIGURATIONS**0.5,
        "fast": thermal + elastic, "elastic": elastic,
    }  # fmt: skip


def domains() -> tuple[Any, sj.Grid]:
    """A film with a flux-closure vortex of 1 T and a thicker patch with a mean inner potential of 20 V."""
    grid = sj.make_grid(128, 40.0)
    y, x = (axis - axis.mean() for axis in grid.coordinates())
    radius = np.hypot(y, x) + 1e-9
    swirl = np.tanh(radius / 150.0) / (1.0 + np.exp((radius - 1700.0) / 120.0))
    magnetic = sj.magnetic_phase(swirl * x / radius, -swirl * y / radius, 300.0, grid)
    patch = 200.0 / (1.0 + np.exp((np.hypot(y - 500.0, x - 800.0) - 700.0) / 60.0))
    electric = sj.electrostatic_phase(20.0, patch, sj.interaction_parameter(ENERGY))
    return sj.make_field_object(sj.make_object(grid), electrostatic=electric, magnetic=magnetic), grid


def ring_profile(values: np.ndarray, angle: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Mean over rings of a pattern."""
    total, count = (np.histogram(angle, edges, weights=w)[0] for w in (values, np.ones_like(values)))
    return total / np.maximum(count, 1)


def draw_assemblies(axes: Any) -> None:
    """Projected potentials, brightness by the square root."""
    for ax, (name, structure) in zip(axes, assemblies().items(), strict=True):
        grid = sj.cell_grid(structure, 0.1)
        values = np.asarray(sj.project_potential(sj.with_displacement(structure, 0.08), grid, 1).values[0])
        extent = (0.0, grid.extent[1] / 10, grid.extent[0] / 10, 0.0)
        picture = ax.imshow(np.sqrt(np.maximum(values, 0.0)), cmap="inferno", extent=extent)
        bar = ax.figure.colorbar(picture, ax=ax, fraction=0.046, pad=0.03)
        bar.set_label("√(potential / V Å)", fontsize=7)
        ax.set_title(f"{name}\n{len(structure.numbers)} atoms", fontsize=8)
        ax.set(xlabel="x (nm)", ylabel="y (nm)")


def draw_patterns(axes: Any, found: dict[str, Any]) -> None:
    """Patterns with and without phonons, profiles over the angle, damping of Bragg beams."""
    angle = np.fft.fftshift(found["angle"])
    middle, limit = angle.shape[0] // 2, 60.0
    step = float(found["angle"][0, 1])
    reach = int(limit / step)
    crop = slice(middle - reach, middle + reach + 1)
    for ax, name in zip(axes[:2], ("at rest", "frozen phonons"), strict=True):
        values = np.fft.fftshift(found[name])[crop, crop]
        picture = ax.imshow(
            np.log10(values + 1e-9), vmin=-7.5, vmax=-2.5, cmap="magma", extent=(-limit, limit, limit, -limit)
        )
        ax.figure.colorbar(picture, ax=ax, fraction=0.046, pad=0.03).set_label(
            "log$_{10}$ electrons per pixel", fontsize=7
        )
        ax.set_title(f"Si [001], {found['thickness'] / 10:.0f} nm, {name}", fontsize=8)
        ax.set(xlabel="k$_x$ λ (mrad)", ylabel="k$_y$ λ (mrad)")
    edges = np.arange(2.0, 58.0, 1.0)
    for name in ("at rest", "frozen phonons", "absorbing"):
        label = "absorbing mean (elastic)" if name == "absorbing" else name
        axes[2].semilogy(edges[:-1] + 0.5, ring_profile(found[name], found["angle"], edges), label=label, lw=1.2)
    axes[2].set(xlabel="angle (mrad)", ylabel="mean electrons per pixel", ylim=(1e-9, 1e-2))
    axes[2].set_title("thermal diffuse background", fontsize=8)
    axes[2].legend(fontsize=7)


def draw_ring(ax: Any, found: dict[str, np.ndarray]) -> None:
    """Both ways to an annular signal against the depth."""
    depth = found["depth"] / 10
    low, high = (100 * (found["frozen"] + s * found["error"]) for s in (-2, 2))
    ax.fill_between(depth, low, high, alpha=0.4, label=f"frozen phonons, {CONFIGURATIONS} × multislice, ± 2σ")
    ax.plot(depth, 100 * found["fast"], "k", lw=1, label="absorptive model, one multislice")
    ax.plot(depth, 100 * found["elastic"], "k:", lw=1, label="of it elastic")
    ax.set(xlabel="depth (nm)", ylabel=f"electrons on {RING[0]:.0f}-{RING[1]:.0f} mrad (%)")
    ax.set_title("Si [001], probe on a column", fontsize=8)
    ax.legend(fontsize=7, loc="lower right", bbox_to_anchor=(1.0, 0.06))


def draw_damping(ax: Any, lengths: np.ndarray, ratio: np.ndarray, expected: np.ndarray) -> None:
    """Damping of the coherent beams of graphene on a logarithmic scale: a straight line in g²."""
    ax.semilogy(lengths**2, ratio, "o", ms=3, label="frozen phonons, 256 configurations")
    ax.semilogy(lengths**2, expected, lw=1, label="exp(−2π²u²g²)")
    ax.set(xlabel="g² (Å$^{-2}$)", ylabel="coherent amplitude / at rest")
    ax.set_title(f"graphene: Bragg damping, u = {DISPLACEMENT} Å", fontsize=8)
    ax.legend(fontsize=7)


def draw_domains(axes: Any, thing: Any, grid: sj.Grid) -> float:
    """Phase seen before and after turning over, its deflection, and the magnetic part told apart."""
    width = grid.extent[1] / 1e4
    shown = {
        "before": np.asarray(thing.electrostatic + thing.magnetic),
        "turned over about y": np.asarray(sj.flipped(thing).electrostatic + sj.flipped(thing).magnetic),
    }
    electric, magnetic = sj.separated_phases(*shown.values())
    shown |= {"electrostatic part": np.asarray(electric), "magnetic part": np.asarray(magnetic)}
    limit = max(np.abs(v).max() for v in shown.values())
    for ax, (name, phase) in zip(axes, shown.items(), strict=True):
        slope = np.stack(np.gradient(phase, *grid.sampling)) * 1e6 * sj.wavelength(ENERGY) / (2 * np.pi)
        picture = ax.imshow(phase, cmap="RdBu_r", vmin=-limit, vmax=limit, extent=(0, width, width, 0))
        place = (np.arange(8, 128, 16) + 0.5) * width / 128
        sub = slope[:, 8::16, 8::16]
        ax.quiver(place, place, sub[1], sub[0], angles="xy", scale=220.0, width=0.006, color="k")
        ax.figure.colorbar(picture, ax=ax, fraction=0.046, pad=0.03).set_label("phase (rad)", fontsize=7)
        ax.set_title(f"{name}, up to {np.hypot(*slope).max():.0f} µrad", fontsize=8)
        ax.set(xlabel="x (µm)", ylabel="y (µm)")
    return float(np.abs(np.asarray(magnetic - thing.magnetic)).max())


def main() -> None:
    """Draw everything and print the figures of merit."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("-o", "--output", type=Path, default=Path("specimen.png"))
    output = options.parse_args().output
    sj.setup()
    start = time.perf_counter()
    figure, axes = plt.subplots(3, 4, figsize=(16, 11.5), layout="constrained")
    draw_assemblies(axes[0, :3])
    lengths, ratio, expected = damping()
    draw_damping(axes[0, 3], lengths, ratio, expected)
    found = patterns(100.0)
    draw_patterns(axes[1, :3], found)
    signals = ring_signals(100.0)
    draw_ring(axes[1, 3], signals)
    thing, grid = domains()
    left = draw_domains(axes[2], thing, grid)
    figure.savefig(output, dpi=110)
    print(__doc__.split("\n\n")[1].replace("\n", " "))
    print(f"Bragg damping of graphene: {100 * np.abs(ratio / expected - 1).max():.1f} % from exp(-2π²u²g²) at worst")
    absorbed = 1.0 - found["absorbing"].sum()
    diffuse = (found["frozen phonons"] - found["absorbing"])[found["angle"] > 2.0].sum()
    print(
        f"silicon, {found['thickness']:.0f} Å: {100 * absorbed:.2f} % absorbed, {100 * diffuse:.2f} % seen as diffuse"
    )
    whole, spread = ((signals[name] / signals["frozen"])[-1] for name in ("fast", "error"))
    print(f"ring of {RING[0]:.0f}-{RING[1]:.0f} mrad: one pass / frozen phonons = {whole:.3f} ± {spread:.3f}")
    print(f"magnetic phase told apart to {left:.1e} rad; {time.perf_counter() - start:.0f} s on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
