"""Counts and optics that cannot be are refused with what would be right; good ones pass."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemjax.core.errors import InputError
from stemjax.forward.recording import Recording
from stemjax.io import check_counts, check_optics, corrected_counts
from stemjax.io.blocks import blocks
from stemjax.io.checks import count_summary
from stemjax.io.suspicions import looks_misshapen, looks_transposed


def disk_data(scan=(12, 10), detector=(24, 32), seed=0, mean=20.0):
    """Poisson patterns of a bright disk, as a thin specimen gives them."""
    y, x = np.mgrid[: detector[0], : detector[1]]
    disk = np.hypot(y - detector[0] / 2, x - detector[1] / 2) < detector[0] / 4
    rng = np.random.default_rng(seed)
    return rng.poisson(mean * disk * rng.uniform(0.8, 1.2, (*scan, 1, 1))).astype(np.uint16)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint64, np.float32, np.float64, bool])
def test_good_counts_pass(dtype):
    check_counts(Recording(disk_data().astype(dtype)))


def test_largest_unsigned_numbers_are_not_negative():
    counts = disk_data().astype(np.uint64)
    counts[0, 0, 0, 0] = 2**64 - 1
    check_counts(Recording(counts))


def test_nan_is_counted():
    counts = disk_data().astype(np.float32)
    counts[3, 2, :2, 0] = np.nan
    counts[4, 4, 4, 4] = np.inf
    with pytest.raises(InputError, match=r"^recording: 3 \(0\.0033 %\) of the counts are NaN or infinite .* 369 kB"):
        check_counts(Recording(counts))
    check_counts(corrected_counts(Recording(counts), replace_by=0.0))


def test_readout_noise_is_told_from_an_offset():
    rng = np.random.default_rng(0)
    noisy = disk_data() + rng.normal(0, 0.5, disk_data().shape).astype(np.float32)
    with pytest.raises(InputError, match=r"4\d %\) of the counts are negative, the least is -2.*clip=True"):
        check_counts(Recording(noisy))
    check_counts(corrected_counts(Recording(noisy), clip=True))
    dark = disk_data().astype(np.float32) - 7.0
    with pytest.raises(InputError, match=r"the least is -7 .* dark offset of about -7 .*offset=-7"):
        check_counts(Recording(dark))
    fixed = corrected_counts(Recording(dark), offset=-7.0)
    check_counts(fixed)
    np.testing.assert_allclose(fixed.counts, disk_data(), atol=1e-5)
    assert fixed.metadata["corrected_counts"]["offset"] == -7.0


def test_overflowed_integers_are_told():
    counts = np.full((2, 2, 4, 4), 200, np.uint8).view(np.int8)
    counts[0, 0, 0, 0] = -128
    with pytest.raises(InputError, match="read them as uint8"):
        check_counts(Recording(counts))


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        (np.zeros((2, 2, 4, 4)), "all counts are zero"),
        (np.ones((2, 2, 4, 4), complex), "real numbers are wanted"),
        (np.full((2, 2, 4, 4), "a"), "real numbers are wanted"),
        (np.ones((2, 4, 4)), r"wanted \[scan_y scan_x ky kx\]"),
        (np.ones((2, 0, 4, 4)), r"wanted \[scan_y scan_x ky kx\]"),
    ],
)
def test_useless_counts(counts, words):
    with pytest.raises(InputError, match=words):
        check_counts(Recording(counts))


def test_exchanged_axes_are_suspected_and_can_be_accepted():
    good = disk_data()
    bad = good.transpose(2, 3, 0, 1)
    assert not looks_transposed(good)
    with pytest.raises(InputError, match=r"\(24, 32\) look like a detector and the last two \(12, 10\) like a scan"):
        check_counts(Recording(bad))
    check_counts(Recording(bad), suspicions=False)


def test_detector_inside_the_disk_and_empty_scans_are_not_suspected():
    flat = np.random.default_rng(0).poisson(20.0, (16, 16, 32, 32))
    assert not looks_transposed(flat)
    particle = disk_data(scan=(32, 32)) * (np.hypot(*np.mgrid[-16:16, -16:16]) < 5)[:, :, None, None]
    assert not looks_transposed(particle)


def lattice_data(ny, nx, dose, seed=0):
    """Patterns whose total and place follow a lattice of atoms."""
    y, x = np.mgrid[:ny, :nx]
    wave = np.sin(2 * np.pi * (0.11 * x + 0.02 * y)) * np.cos(2 * np.pi * 0.09 * y)
    ky, kx = np.mgrid[-8:8, -8:8]
    place = kx - 2 * wave[:, :, None, None]
    pattern = np.exp(-(ky**2 + place**2) / 12) * (1 + 0.3 * wave[:, :, None, None])
    return np.random.default_rng(seed).poisson(pattern * dose / 38)


@pytest.mark.parametrize("dose", [100, 1e4])
@pytest.mark.parametrize("shape", [(32, 48), (20, 64), (40, 24), (17, 19)])
def test_exchanged_numbers_of_the_scan_shape_are_suspected(shape, dose):
    good = lattice_data(*shape, dose)
    assert not looks_misshapen(good)
    bad = good.reshape(shape[1], shape[0], 16, 16)
    with pytest.raises(InputError, match=rf"with \({shape[0]}, {shape[1]}\) it does"):
        check_counts(Recording(bad))
    check_counts(Recording(bad), suspicions=False)


@pytest.mark.parametrize("seed", range(20))
def test_featureless_and_even_scans_are_not_suspected(seed):
    assert not looks_misshapen(np.random.default_rng(seed).poisson(3.0, (16, 24, 8, 8)))
    wedge = np.linspace(1, 2, 24)[None, :, None, None] * np.ones((16, 1, 8, 8))
    assert not looks_misshapen(np.random.default_rng(seed).poisson(20 * wedge))


@pytest.mark.parametrize("shape", [(20, 33), (33, 20), (16, 24), (24, 17), (10, 40)])
@pytest.mark.parametrize("step", [0.1, 0.24, 0.5, 0.77])
@pytest.mark.parametrize("angle", [0.0, 0.3, np.pi / 4])
def test_good_scans_of_a_lattice_are_not_suspected(shape, step, angle):
    """Steps from a tenth of the lattice to most of it, in any direction: a periodic image must not fool the test."""
    y, x = np.mgrid[: shape[0], : shape[1]] * step * 2 * np.pi
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    image = 20 * (3 + np.cos(u) + np.cos(v))
    assert not looks_misshapen(np.random.default_rng(0).poisson(image[:, :, None, None] * np.ones((4, 4))))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_summary_in_pieces_equals_the_whole(rows, columns, seed):
    rng = np.random.default_rng(seed)
    counts = rng.normal(1.0, 1.0, (rows, columns, 3, 4))
    counts[rng.random(counts.shape) < 0.05] = np.nan
    import stemjax.io.blocks as module

    before, module.BLOCK = module.BLOCK, 500
    try:
        summary, pieces = count_summary(counts), list(blocks(counts))
    finally:
        module.BLOCK = before
    np.testing.assert_array_equal(np.concatenate(pieces), counts)
    assert summary["not_finite"] == np.isnan(counts).sum()
    assert summary["negative"] == (counts < 0).sum()
    if np.isfinite(counts).any():
        assert (summary["minimum"], summary["maximum"]) == (np.nanmin(counts), np.nanmax(counts))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"energy": 80.0}, "80 keV is 80e3 eV"),
        ({"energy": 300.0}, "300 keV is 300e3 eV"),
        ({"energy": 0.0}, "wanted the beam energy in eV"),
        ({"energy": np.nan}, "wanted the beam energy in eV"),
        ({"energy": 3e8}, "wanted the beam energy in eV"),
        ({"semiangle": 0.0214}, "was it given in rad"),
        ({"semiangle": -21.0}, "was it given in rad"),
        ({"scan_step": (0.5, 0.0)}, "scan_step 0 Å"),
        ({"scan_step": (-0.5, 0.5)}, "scan_step -0.5 Å"),
        ({"detector_sampling": (1.0, np.inf)}, "angle of one detector pixel"),
        ({"defocus": np.nan}, "a length"),
        ({"electrons_per_count": 0.0}, "positive detector gain"),
    ],
)
def test_impossible_optics(fields, words):
    with pytest.raises(InputError, match=words):
        check_optics(Recording(np.ones((1, 1, 2, 2)), **fields))


@pytest.mark.parametrize("energy", [20e3, 60e3, 80e3, 200e3, 300e3, 1.2e6])
def test_real_optics_pass(energy):
    check_optics(
        Recording(
            np.ones((1, 1, 2, 2)),
            energy=energy,
            scan_step=(0.1, 31.25),
            detector_sampling=(0.02, 1.6),
            semiangle=1.03,
            defocus=-135000.0,
            scan_rotation=-126.0,
        )
    )
