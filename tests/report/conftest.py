"""A result as a reconstruction of a MoS2 monolayer would give it, made by hand with a known truth."""

from dataclasses import replace

import numpy as np
import pytest

from stemjax.inference.result import Named, Result
from stemjax.metrics.truth import against_truth
from stemjax.optics.electron import wavelength

ENERGY, SEMIANGLE, LATTICE = 80e3, 21.4, 3.16
PIXEL, SHAPE, WINDOW = 0.2, (170, 190), 64


def monolayer(shape, sampling, width=0.38):
    """Phase of a MoS2 monolayer [rad]: Gaussian columns of Mo and S2, one S2 missing."""
    y, x = (np.arange(n) * sampling for n in shape)
    image = np.zeros(shape)
    height = np.sqrt(3) * LATTICE
    for i in range(-1, int(shape[0] * sampling / height) + 2):
        for j in range(-1, int(shape[1] * sampling / LATTICE) + 2):
            for dy, dx, phase in ((0, 0, 0.75), (1 / 2, 1 / 2, 0.75), (1 / 3, 0, 0.52), (5 / 6, 1 / 2, 0.52)):
                if (i, j, dy) == (3, 5, 1 / 3):
                    continue
                cy, cx = (i + dy) * height, (j + dx) * LATTICE
                gy, gx = (np.exp(-((u - c) ** 2) / (2 * width**2)) for u, c in ((y, cy), (x, cx)))
                image += phase * gy[:, None] * gx[None, :]
    return image


def probe_wave(defocus, astigmatism=0.0):
    """Centred probe (ny nx) behind an aperture, normalised to one electron."""
    k = np.fft.fftfreq(WINDOW, PIXEL)
    ky, kx = k[:, None], k[None, :]
    lam = wavelength(ENERGY)
    aperture = 1 / (1 + np.exp((np.hypot(ky, kx) * lam * 1e3 - SEMIANGLE) / 0.4))
    chi = np.pi * lam * (-defocus * (ky**2 + kx**2) + astigmatism * (kx**2 - ky**2))
    wave = np.fft.fftshift(np.fft.ifft2(aperture * np.exp(-1j * chi)))
    return wave / np.sqrt((np.abs(wave) ** 2).sum())


def expected_patterns(phase, modes, positions, dose):
    """Expected counts [n ky kx], zero frequency in the centre."""
    out = []
    for y, x in np.rint(positions / PIXEL).astype(int):
        patch = phase[y - WINDOW // 2 : y + WINDOW // 2, x - WINDOW // 2 : x + WINDOW // 2]
        waves = np.fft.fftshift(np.fft.fft2(modes * np.exp(1j * patch)), axes=(-2, -1)) / WINDOW
        out.append(dose * (np.abs(waves) ** 2).sum(axis=0))
    return np.array(out)


def make_result():
    rng = np.random.default_rng(7)
    true = monolayer(SHAPE, PIXEL)
    smooth = np.fft.ifft2(
        np.fft.fft2(rng.normal(size=SHAPE))
        * np.exp(-((np.hypot(*np.meshgrid(*(np.fft.fftfreq(n, PIXEL) for n in SHAPE), indexing="ij")) / 1.1) ** 4))
    ).real
    found = 0.96 * true + 0.05 * smooth / smooth.std()
    yy, xx = np.mgrid[: SHAPE[0], : SHAPE[1]]
    found += 0.4 + 0.0006 * yy - 0.0004 * xx
    raster = np.stack(np.meshgrid(np.arange(26) * 0.8 + 7, np.arange(30) * 0.8 + 7, indexing="ij"), -1).reshape(-1, 2)
    true_positions = raster + rng.normal(scale=0.12, size=raster.shape) + 0.15 * np.sin(raster[:, ::-1] / 4)
    positions = true_positions + rng.normal(scale=0.02, size=raster.shape) + 0.05
    modes = np.stack([np.sqrt(0.93) * probe_wave(108.0, 9.0), np.sqrt(0.07) * probe_wave(108.0, 9.0)])
    modes[1] *= np.sin(np.pi * (np.arange(WINDOW) - WINDOW // 2) / (WINDOW / 2))[:, None]
    modes[1] *= np.sqrt(0.07 / (np.abs(modes[1]) ** 2).sum())
    index = np.array([62, 200, 451, 700])
    measured = rng.poisson(expected_patterns(true, modes, true_positions[index], 2e4))
    modelled = expected_patterns(found, modes, positions[index], 2e4)
    pixels = {"sampling": (PIXEL, PIXEL)}
    layers = {"sampling": (3.0, PIXEL, PIXEL)}
    mrad = 1e3 * wavelength(ENERGY) / (WINDOW * PIXEL)

    def column(values, what):
        return Named(values, "Å", ("pattern",), what)

    epochs = np.arange(40)
    fine = monolayer((240, 270), 0.15)
    return Result(
        problem="ptychography",
        estimate={
            "object_phase": Named(found[None], "rad", ("slice", "y", "x"), "Object phase", **layers),
            "object_amplitude": Named(1 - 0.02 * true[None], "1", ("slice", "y", "x"), "Object amplitude", **layers),
            "probe": Named(modes, "1", ("mode", "y", "x"), "Probe", **pixels),
            "position_y": column(positions[:, 0], "Scan position y"),
            "position_x": column(positions[:, 1], "Scan position x"),
            "aberration_C10": Named(np.array(-108.2), "Å", (), "Defocus coefficient C10"),
            "aberration_C12a": Named(np.array(8.87), "Å", (), "Twofold astigmatism C12a"),
            "dose": Named(np.array(2.0e4), "electron", (), "Electrons in a pattern"),
        },
        uncertainty={
            "aberration_C10": Named(np.array(0.36), "Å", (), "Defocus coefficient C10"),
            "object_phase": Named(0.04 + 0.02 * true[None], "rad", ("slice", "y", "x"), "Object phase", **layers),
        },
        diagnostics={
            "loss": 5210.0 + 900 * np.exp(-epochs / 3) + 60 * np.exp(-epochs / 12),
            "held_out_loss": 5216.0 + 880 * np.exp(-epochs / 3) + 64 * np.exp(-epochs / 12),
            "epoch_time": np.full(40, 1.83),
            "initial": {
                "object_phase": np.zeros_like(found[None]),
                "probe": probe_wave(60.0)[None],
                "position_y": raster[:, 0],
                "position_x": raster[:, 1],
                "aberration_C10": -60.0,
                "aberration_C12a": 0.0,
            },
            "truth": {
                "object_phase": Named(
                    fine[None], "rad", ("slice", "y", "x"), "Object phase", sampling=(3.0, 0.15, 0.15)
                ),
                "position_y": true_positions[:, 0],
                "position_x": true_positions[:, 1],
                "aberration_C10": -108.0,
                "aberration_C12a": 9.0,
            },
            "patterns": {"measured": measured, "modelled": modelled, "index": index, "sampling": (mrad, mrad)},
        },
        status="Finished after 40 epochs; the loss still falls by 0.04 nat a pattern and epoch.",
        config={"problem": "ptychography", "data": {"energy": ENERGY, "semiangle": SEMIANGLE, "file": "mos2.h5"}},
        provenance={"versions": {"stemjax": "0.1"}, "seed": 0},
    )


def make_slices(result):
    """The same with ten slices."""
    named = result.estimate["object_phase"]
    rng = np.random.default_rng(8)
    weights = np.linspace(1.4, 0.6, 10)[:, None, None] / 10
    stack = weights * named.value + rng.normal(scale=0.01, size=(10, *SHAPE))
    thickness = Named(np.full(10, 4.0), "Å", ("slice",), "Slice thickness")
    estimate = {**result.estimate, "object_phase": replace(named, value=stack), "slice_thickness": thickness}
    return replace(result, estimate=estimate)


@pytest.fixture(scope="session")
def result():
    """Without the measures against the truth."""
    return make_result()


@pytest.fixture(scope="session")
def measured_result(result):
    """With the measures against the truth."""
    return replace(result, diagnostics={**result.diagnostics, "metrics": against_truth(result)})


@pytest.fixture(scope="session")
def sliced_result(measured_result):
    return make_slices(measured_result)
