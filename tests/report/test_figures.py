"""Every figure names its units; what is drawn is what was given."""

import re
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from matplotlib import image
from matplotlib.colors import to_rgb

from stemjax.report import curves, field, gallery, object_plates, objects, patterns, probes, scans, style

UNIT = re.compile(r"\[.+\]")


@pytest.fixture(scope="module")
def all_plates(measured_result, sliced_result):
    return [*gallery.plates(measured_result), *(p for p in gallery.plates(sliced_result) if p.name == "object_slices")]


def shows_numbers(axis):
    """Whether an axis has tick labels that a reader sees."""
    return any(label.get_visible() and label.get_text() for label in axis.get_ticklabels())


def test_the_issue_names_these_figures(all_plates):
    wanted = {"object_phase", "object_truth", "object_slices", "object_amplitude", "object_uncertainty", "probe"}
    wanted |= {"patterns", "positions", "loss", "ring_correlation", "error_bars"}
    assert {plate.name for plate in all_plates} == wanted


def test_every_axis_with_numbers_has_a_label_with_a_unit(all_plates):
    for plate in all_plates:
        plate.figure.draw_without_rendering()
        for axes in plate.figure.axes:
            if axes.get_label() == "<colorbar>":  # only its long side has numbers
                assert UNIT.search(axes.get_xlabel() + axes.get_ylabel()), plate.name
                continue
            for axis in (axes.xaxis, axes.yaxis):
                if shows_numbers(axis):
                    assert UNIT.search(axis.get_label_text()), f"{plate.name}: {axis.get_label_text()!r}"


def test_every_real_space_map_has_a_scale_bar(all_plates):
    for plate in all_plates:
        for axes in plate.figure.axes:
            if axes.images and axes.images[0].get_cmap().name not in (style.DIFFERENCE, style.CYCLIC):
                shown = axes.images[0].get_array()
                if shown.ndim == 2 and axes.get_label() != "<colorbar>":
                    assert any(text.get_gid() == "scale bar" for text in axes.texts), plate.name


def test_no_text_overlaps(all_plates):
    for plate in all_plates:
        figure = plate.figure
        figure.draw_without_rendering()
        renderer = figure._get_renderer()
        boxes = []
        for axes in figure.axes:
            texts = [axes.title, axes.xaxis.label, axes.yaxis.label]
            boxes += [(t.get_text(), t.get_window_extent(renderer)) for t in texts if t.get_text() and t.get_visible()]
        for i, (first, a) in enumerate(boxes):
            for second, b in boxes[i + 1 :]:
                inner = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
                assert min(inner) <= 1.0, (plate.name, first, second)


def assert_nothing_is_clipped(figure):
    """The outermost pixels of the picture are paper."""
    pixels = image.imread(BytesIO(style.png(figure)))[..., :3]
    for edge in (pixels[:4], pixels[-4:], pixels[:, :4], pixels[:, -4:]):
        assert (edge == 1.0).all()


@pytest.mark.parametrize("shape", [(20, 100), pytest.param((60, 120), marks=pytest.mark.slow), (100, 20)])
def test_nothing_is_clipped_whatever_the_shape(shape):
    noise = np.random.default_rng(0).uniform(size=(5, *shape))
    assert_nothing_is_clipped(objects.object_image(noise[0], (0.2, 0.2)))
    assert_nothing_is_clipped(objects.found_and_true(noise[0], noise[1], (0.2, 0.2)))
    assert_nothing_is_clipped(objects.slice_montage(noise, (0.2, 0.2), np.arange(5.0)))
    assert_nothing_is_clipped(patterns.pattern_comparison(noise[:1], noise[1:2], titles=["pattern 1234"]))


def test_colour_maps_are_even_in_lightness():
    import matplotlib

    for name in (style.INTENSITY, style.AMPLITUDE, style.UNCERTAINTY):
        colours = np.array([to_rgb(c) for c in matplotlib.colormaps[name](np.linspace(0, 1, 64))])
        assert (np.diff(colours @ [0.2126, 0.7152, 0.0722]) > 0).all()


def test_the_scale_bar_is_as_long_as_it_says():
    figure = objects.object_image(np.random.default_rng(0).normal(size=(50, 80)), (0.3, 0.25))
    axes = figure.axes[0]
    label = next(text for text in axes.texts if text.get_gid() == "scale bar")
    bar = next(patch for patch in axes.patches if patch.get_width() > 0 and patch.get_fill())
    assert f"{bar.get_width():g} Å" == label.get_text()
    assert 0.1 * 20 < bar.get_width() < 0.3 * 20


def test_found_and_true_share_one_colour_range():
    figure = objects.found_and_true(np.random.default_rng(0).normal(size=(20, 20)), np.zeros((20, 20)), (0.2, 0.2))
    found, true, difference = (axes.images[0].get_clim() for axes in figure.axes[:3])
    assert found == true
    assert difference[0] == -difference[1]


def test_images_keep_their_orientation():
    """Row 0 is drawn at the top and column 0 at the left; pixel (0, 0) lies at the origin."""
    picture = np.zeros((40, 60))
    picture[0, 0] = 1.0
    axes = objects.object_image(picture, (1.0, 0.5), centre=False).axes[0]
    drawn = axes.images[0]
    left, right, bottom, top = drawn.get_extent()
    assert (left, right, bottom, top) == (-0.25, 29.75, 39.5, -0.5)
    assert drawn.origin == "upper"
    y, x = (axes.transData.transform((10.0, 30.0)) - axes.transData.transform((0.0, 0.0)))[::-1]
    assert x > 0 > y, "x grows to the right, y downwards"


def turned_field(angle=30.0, side=12.0, middle=(20.0, 25.0)):
    """Positions of a raster turned by an angle [degree], (pattern, 2) [Å]."""
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    line = np.linspace(-side / 2, side / 2, 13)
    raster = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    return raster @ np.array([[c, s], [-s, c]]).T + middle


def test_the_field_of_a_turned_scan_is_a_turned_square():
    hull = field.scan_hull(turned_field())
    y, x = hull.T
    area = 0.5 * abs(np.dot(y, np.roll(x, 1)) - np.dot(x, np.roll(y, 1)))
    assert area == pytest.approx(144.0)
    mask = field.inside((200, 250), (0.2, 0.2), hull)
    assert mask.sum() * 0.04 == pytest.approx(144.0, rel=0.02)
    assert field.scan_hull(np.stack([np.arange(5.0), np.arange(5.0)], 1)) is None, "a line has no area"


def test_the_object_is_cropped_to_the_field_and_fades_outside():
    """The colours are those of the field however strong the noise around it; the crop stays in place."""
    hull = field.scan_hull(turned_field())
    shape, pixel = (200, 250), (0.2, 0.2)
    mask = field.inside(shape, pixel, hull)
    rng = np.random.default_rng(4)
    picture = np.where(mask, rng.uniform(0.0, 1.0, shape), rng.normal(scale=50.0, size=shape))
    axes = objects.object_image(picture, pixel, hull=hull, margin=3.0, centre=False).axes[0]
    drawn = axes.images[0]
    assert drawn.get_clim() == pytest.approx((0.005, 0.995), abs=0.01)
    (top, left), (bottom, right) = hull.min(axis=0) - 3.0, hull.max(axis=0) + 3.0
    assert drawn.get_extent() == pytest.approx((left, right, bottom, top), abs=0.3)
    alpha = drawn.get_alpha()
    part = field.window(shape, pixel, hull, 3.0)
    assert (alpha[mask[part]] == 1.0).all()
    assert alpha[0, 0] < 0.2
    assert np.array_equal(np.asarray(drawn.get_array()), picture[part])


def test_probe_diameter_of_a_gaussian():
    """A Gaussian intensity of standard deviation s holds 80 % within s √(2 ln 5)."""
    y, x = np.mgrid[-64:64, -64:64] * 0.1
    wave = np.exp(-(y**2 + x**2) / (4 * 1.2**2)).astype(complex)
    assert field.probe_diameter(wave[None], (0.1, 0.1)) == pytest.approx(2 * 1.2 * np.sqrt(2 * np.log(5)), abs=0.1)


def test_no_amplitude_figure_of_a_pure_phase(result):
    amplitude = result.estimate["object_amplitude"]
    for spread, shown in ((3e-5, False), (3e-3, True)):
        values = 1.0 + spread * np.sin(np.arange(amplitude.value.size)).reshape(amplitude.value.shape)
        estimate = {**result.estimate, "object_amplitude": replace(amplitude, value=values)}
        assert (object_plates.object_amplitude(replace(result, estimate=estimate)) is not None) is shown


@pytest.mark.parametrize(("shape", "step"), [((40, 40), 0.5), ((100, 80), 0.2)])
def test_arrows_are_few_regular_and_long_enough_to_see(shape, step):
    start = step * np.stack(np.indices(shape), -1).reshape(-1, 2)
    found = start + np.random.default_rng(5).normal(scale=0.02, size=start.shape)
    axes = scans.position_map(found, start).axes[0]
    arrows = axes.collections[0]
    assert 200 <= len(arrows.U) <= 1.1 * scans.MOST_ARROWS
    gaps = np.diff(np.unique(np.round(arrows.X, 6)))
    assert np.ptp(gaps) == pytest.approx(0.0, abs=1e-5), "every few positions, in both directions"
    assert 0.3 * gaps[0] < np.median(np.hypot(arrows.U, arrows.V)) < 1.5 * gaps[0]
    factor = float(axes.get_title().split("×")[1])
    assert factor in [f * 10.0**n for n in range(-3, 6) for f in (1, 2, 5)]
    index = int(np.argmin(np.hypot(start[:, 1] - arrows.X[0], start[:, 0] - arrows.Y[0])))
    assert (arrows.V[0], arrows.U[0]) == pytest.approx(factor * scans.displacements(found, start)[index])


def test_poisson_residual_of_true_patterns_is_one_sigma():
    expected = np.random.default_rng(1).uniform(0.5, 50, (200, 200))
    counts = np.random.default_rng(2).poisson(expected)
    assert np.sqrt(np.mean(patterns.poisson_residual(counts, expected) ** 2)) == pytest.approx(1.0, abs=0.02)


def test_occupancies_and_the_aperture_of_a_plane_wave():
    modes = np.stack([np.full((8, 8), 3.0), np.full((8, 8), 4.0j)])
    assert probes.occupancies(modes) == pytest.approx([0.36, 0.64])
    assert np.abs(probes.aperture_wave(modes[0]))[4, 4] == pytest.approx(3.0 * 64)


def test_a_common_shift_is_no_displacement():
    start = np.random.default_rng(3).uniform(0, 10, (50, 2))
    assert np.allclose(scans.displacements(start + [1.0, -2.0], start), 0.0)


def test_arrows_point_where_the_positions_went():
    start = np.array([[0.0, 0.0], [0.0, 4.0], [4.0, 0.0], [4.0, 4.0]])
    move = np.array([[0.1, 0.0], [-0.1, 0.0], [0.0, 0.2], [0.0, -0.2]])
    arrows = scans.position_map(start + move, start).axes[0].collections[0]
    factor = arrows.U[2] / 0.2
    assert np.allclose(np.stack([arrows.V, arrows.U], 1), factor * move)


def test_loss_with_gaps_and_a_single_epoch():
    for values in ([3.0], [np.nan], [5.0, np.nan, 4.0], [2.0, 2.0]):
        assert style.png(curves.loss_curve(np.array(values))).startswith(b"\x89PNG")
