"""Images at full depth: what the eye gets is what models get, with more levels behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from core.data.images.grey import ramp
from core.data.images.radiograph import Radiograph
from core.data.images.reader import read_image, read_radiograph
from core.errors import DataError
from tests.support.layouts import body_image, save_dicom

RAMP = np.tile(np.arange(0, 4096, 16, dtype=np.uint16), (64, 1))


def windowed(plate: Radiograph) -> NDArray[np.int64]:
    """What the viewer shows at first."""
    top = 255 if plate.levels.dtype == np.uint8 else 65535
    return ramp(plate.levels, *(plate.window or (0, top))).astype(int)


def plate_of(tmp_path: Path, pixels: Any, **options: Any) -> Radiograph:
    save_dicom(tmp_path / "a.dcm", pixels, **options)
    return read_radiograph(tmp_path / "a.dcm")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"inverted": True},
        {"WindowCenter": 2000, "WindowWidth": 1000},
        {"WindowCenter": 2000, "WindowWidth": 1000, "inverted": True},
        {"WindowCenter": 300, "WindowWidth": 900, "RescaleSlope": 0.5, "RescaleIntercept": -700},
        {"WindowCenter": 2000, "WindowWidth": 900, "VOILUTFunction": "SIGMOID"},
    ],
)
def test_the_first_window_shows_what_models_get(tmp_path: Path, options: dict[str, Any]) -> None:
    found = plate_of(tmp_path, RAMP, **options)
    assert found.levels.dtype == np.uint16
    assert len(np.unique(found.levels)) >= 250
    np.testing.assert_array_equal(found.grey, read_image(tmp_path / "a.dcm"))
    assert np.abs(windowed(found) - found.grey).max() <= 1


@pytest.mark.parametrize("meaning", ["MONOCHROME1", "MONOCHROME2"])
def test_signed_twelve_bits_with_rescale_keep_their_values(tmp_path: Path, meaning: str) -> None:
    stored = np.tile(np.arange(-2048, 2048, 16, dtype=np.int16), (64, 1))
    options = {"RescaleSlope": 2, "RescaleIntercept": 100, "PhotometricInterpretation": meaning}
    found = plate_of(tmp_path, stored, BitsStored=12, HighBit=11, **options)
    assert found.bits == 12
    assert found.levels.max() - found.levels.min() == 4080
    np.testing.assert_allclose(found.levels * found.slope + found.intercept, stored * 2.0 + 100)
    brightest = 0 if meaning == "MONOCHROME1" else -1
    assert found.levels[0, brightest] == found.levels.max()
    assert np.abs(windowed(found) - found.grey).max() <= 1


def test_eight_bits_stay_eight(tmp_path: Path) -> None:
    grey = body_image(3)
    for inverted in (False, True):
        found = plate_of(tmp_path, grey, inverted=inverted)
        assert (found.levels.dtype, found.bits) == (np.uint8, 8)
        np.testing.assert_array_equal(windowed(found), found.grey)
    Image.fromarray(grey).save(tmp_path / "a.png")
    found = read_radiograph(tmp_path / "a.png")
    assert found.window is None
    np.testing.assert_array_equal(found.levels, grey)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bit_files_keep_all_levels(tmp_path: Path, name: str) -> None:
    Image.fromarray(RAMP * 16).save(tmp_path / name)
    found = read_radiograph((tmp_path / name).read_bytes())
    np.testing.assert_array_equal(found.levels, RAMP * 16)
    assert np.abs(windowed(found) - found.grey).max() <= 1


def test_padding_is_air_and_widens_no_window(tmp_path: Path) -> None:
    pixels = RAMP.astype(np.int16) + 1000
    pixels[:8] = -2000
    found = plate_of(tmp_path, pixels, PixelPaddingValue=-2000)
    assert (found.levels[:8] == 0).all()
    assert (found.grey[:8] == 0).all()
    assert np.abs(windowed(found)[8:] - found.grey[8:]).max() <= 1


@pytest.mark.parametrize(
    ("options", "spacing", "at_detector"),
    [
        ({"PixelSpacing": [0.2, 0.1]}, (0.2, 0.1), True),
        ({"ImagerPixelSpacing": [0.143, 0.143]}, (0.143, 0.143), True),
        ({"PixelSpacing": [1, 1], "PixelSpacingCalibrationType": "FIDUCIAL"}, (1, 1), False),
        ({"PixelSpacing": [0, 0]}, None, False),
        ({}, None, False),
    ],
)  # fmt: skip
def test_spacing_is_reported_with_where_it_holds(
    tmp_path: Path, options: dict[str, Any], spacing: Any, at_detector: bool
) -> None:
    found = plate_of(tmp_path, RAMP, **options)
    assert (found.spacing, found.at_detector) == (spacing, at_detector)


def test_what_is_no_image_is_rejected_with_an_explanation() -> None:
    with pytest.raises(DataError, match="not an image"):
        read_radiograph(b"GIF89a, or so")
