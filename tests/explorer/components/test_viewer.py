import base64
import json
import zlib

import numpy as np
import pytest

from core.data.base import Box
from core.data.images.radiograph import Radiograph
from core.errors import DataError
from core.formatting import DISCLAIMER
from explorer.components import viewer
from explorer.components.viewer import View


def unpacked(packed, dtype):
    steps = np.frombuffer(zlib.decompress(base64.b64decode(packed["data"])), dtype)
    return np.cumsum(steps.reshape(packed["height"], packed["width"]), axis=1, dtype=dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_images_are_packed_without_loss(dtype):
    top = np.iinfo(dtype).max
    image = np.random.default_rng(0).integers(0, top, (17, 31), dtype, endpoint=True)
    packed = viewer.pack_image(image[::-1, ::-1])
    assert packed["bits"] == 8 * image.itemsize
    np.testing.assert_array_equal(unpacked(packed, dtype), image[::-1, ::-1])


def test_a_map_keeps_its_scale_and_what_was_not_seen():
    values = np.linspace(0, 0.04, 64 * 48, dtype=np.float32).reshape(64, 48)
    values[:8], values[56:] = np.nan, np.nan
    packed = viewer.pack_map(values)
    levels = np.frombuffer(zlib.decompress(base64.b64decode(packed["data"])), np.uint8)
    levels = levels.reshape(64, 48)
    assert packed["seen"] == [0, 0.125, 1, 0.875]
    assert (levels[:8] == 0).all()
    back = (levels[8:56].astype(np.float32) - 1) / 254 * packed["peak"]
    np.testing.assert_allclose(back, values[8:56], atol=packed["peak"] / 500)


def test_a_difference_keeps_its_sign_and_zero_in_the_middle():
    values = np.linspace(-0.5, 0.25, 32 * 32, dtype=np.float32).reshape(32, 32)
    values[0, :8] = np.nan
    packed = viewer.pack_map(values)
    levels = np.frombuffer(zlib.decompress(base64.b64decode(packed["data"])), np.uint8)
    levels = levels.reshape(32, 32).astype(np.float32)
    assert (packed["signed"], packed["peak"]) == (True, float(-np.nanmin(values)))
    assert (levels[0, :8] == 0).all()
    seen = np.isfinite(values)
    np.testing.assert_allclose((levels[seen] - 128) / 127 * packed["peak"], values[seen], atol=2e-3)
    assert not viewer.pack_map(np.abs(values))["signed"]


def test_a_radiograph_has_its_window_scale_and_spacing():
    levels = np.arange(0, 4096, 16, dtype=np.uint16).reshape(16, 16)
    radiograph = Radiograph(
        levels, np.zeros((16, 16), np.uint8), 12, (100.0, 900.0), (0.2, 0.1), True, -2, 5
    )
    packed = viewer.pack_image(radiograph)
    np.testing.assert_array_equal(unpacked(packed, np.uint16), levels)
    assert (packed["depth"], packed["top"], packed["window"]) == (12, 4080, (100.0, 900.0))
    assert (packed["spacing"], packed["detector"]) == ((0.2, 0.1), True)
    assert (packed["slope"], packed["intercept"]) == (-2, 5)


def test_a_huge_image_is_reduced():
    levels = np.zeros((5000, 6001), np.uint16)
    levels[1000:3000, 3000:6000] = 60000
    packed = viewer.pack_image(levels)
    assert packed["full"] == [6001, 5000]
    assert (packed["width"], packed["height"]) == (3000, 2500)
    found = unpacked(packed, np.uint16)
    assert found[:500].max() == 0
    assert (found[500:1500, 1500:] == 60000).all()


def test_a_large_map_is_sampled_where_it_is():
    values = np.zeros((1000, 3000), np.float32)
    values[400:600, 2700:2900] = 2
    packed = viewer.pack_map(values, side=300)
    levels = np.frombuffer(zlib.decompress(base64.b64decode(packed["data"])), np.uint8)
    hot = np.argwhere(levels.reshape(packed["height"], packed["width"]) == 255)
    assert (packed["height"], packed["width"]) == (100, 300)
    assert hot.min(axis=0).tolist() == [40, 270]
    assert hot.max(axis=0).tolist() == [59, 289]


@pytest.mark.parametrize("fill", [0.0, np.nan])
def test_an_empty_map_packs(fill):
    packed = viewer.pack_map(np.full((8, 8), fill, np.float32))
    assert packed["peak"] == 0
    assert json.dumps(packed, allow_nan=False)


def test_an_outline_runs_along_the_pixels_edges():
    mask = np.zeros((20, 30), np.bool_)
    mask[4:9, 6:16] = True
    mask[15, 20] = True
    large, small = sorted(viewer.outlines(mask), key=len, reverse=True)
    xs, ys = np.transpose(large)
    assert (xs.min(), xs.max(), ys.min(), ys.max()) == (6, 16, 4, 9)
    assert large[0] == large[-1]
    assert np.mean(small[:-1], axis=0).tolist() == [20.5, 15.5]


def test_one_image_in_six_views_is_sent_once():
    image = np.zeros((8, 8), np.uint8)
    views = [View(image, title=str(i), map=np.ones((8, 8), np.float32)) for i in range(6)]
    value = json.loads(viewer.viewer_value([*views[:5], View(image.copy())], study="s"))
    assert len(value["images"]) == 2
    assert [view["image"] for view in value["views"]] == [0, 0, 0, 0, 0, 1]
    assert value["disclaimer"] == DISCLAIMER


def test_every_view_has_an_alternative_text():
    image = np.zeros((4, 4), np.uint8)
    plain, told, own = json.loads(
        viewer.viewer_value(
            [
                View(image),
                View(image, "LoRA", map=np.ones((4, 4), np.float32), facts=[("Mass", "0.7")]),
                View(image, alt="A radiograph of study 7"),
            ]
        )
    )["views"]
    assert plain["alt"] == "Radiograph"
    assert told["alt"] == "Frontal radiograph with saliency map. LoRA. Mass 0.7"
    assert own["alt"] == "A radiograph of study 7"


def test_a_differences_colours_are_bright_at_both_ends_and_dark_between():
    table = np.frombuffer(base64.b64decode(viewer.colours(viewer.SIGNED_COLOUR_MAP)), np.uint8)
    light = table.reshape(256, 3).mean(axis=1)
    assert light[[0, 255]].min() > 1.5 * light[128]
    assert np.abs(table.reshape(256, 3)[0].astype(int) - table.reshape(256, 3)[255]).max() > 100


def test_colours_are_perceptually_uniform_and_not_jet():
    table = np.frombuffer(base64.b64decode(viewer.colours()), np.uint8).reshape(256, 3) / 255
    linear = np.where(table <= 0.04045, table / 12.92, ((table + 0.055) / 1.055) ** 2.4)
    light = np.cbrt(linear @ [0.2126, 0.7152, 0.0722])
    assert (np.diff(light) > -2e-3).all()
    assert np.diff(light)[8:].max() < 4 * np.diff(light)[8:].mean()


def test_faults_are_said_in_words():
    image = np.zeros((4, 4), np.uint8)
    with pytest.raises(DataError, match="7 views do not fit"):
        viewer.viewer_value([View(image)] * 7)
    with pytest.raises(DataError, match="cannot be displayed"):
        viewer.viewer_value([View(np.zeros((4, 4, 3), np.uint8))])
    with pytest.raises(DataError, match=r"map has the shape \(2, 2\), its image \(4, 4\)"):
        viewer.viewer_value([View(image, map=np.ones((2, 2), np.float32))])
    with pytest.raises(DataError, match="Mass has the shape"):
        viewer.viewer_value([View(image, masks={"Mass": np.ones((3, 4), np.bool_)})])


def test_boxes_are_in_pixels_of_the_image():
    view = View(np.zeros((64, 48), np.uint8), boxes=[Box("Mass", 4.5, 6, 10, 12)])
    packed = json.loads(viewer.viewer_value([view]))["views"][0]
    assert packed["boxes"] == [{"finding": "Mass", "x": 4.5, "y": 6, "w": 10, "h": 12}]
