"""Pictures of one's own: read, checked, and gone with the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.data.images.reader import read_image
from core.errors import DataError
from explorer.pages.saliency import uploads
from explorer.pages.saliency.uploads import Uploads, coloured

GREY = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (48, 1))


def file_of(folder: Path, name: str = "Jane_Doe.png", pixels: np.ndarray = GREY) -> Path:
    path = folder / name
    Image.fromarray(pixels).save(path)
    return path


def test_a_picture_is_read_and_its_file_deleted(tmp_path: Path) -> None:
    held, path = Uploads(), file_of(tmp_path)
    found = held.take("one", path)
    assert not path.exists()
    np.testing.assert_array_equal(found.plate.grey, GREY)
    assert held.get("one", found.token) is found
    assert "Jane" not in repr(found)


def test_what_cannot_be_read_is_a_sentence_and_its_file_is_deleted_too(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(b"no picture at all")
    with pytest.raises(DataError, match="not an image"):
        Uploads().take("one", path)
    assert not path.exists()
    with pytest.raises(DataError, match="did not arrive"):
        Uploads().take("one", path)


def test_a_token_is_good_for_its_own_session_until_the_page_is_closed(tmp_path: Path) -> None:
    held = Uploads()
    found = held.take("one", file_of(tmp_path))
    made = tmp_path / "made"
    made.mkdir()
    found.folders.append(made)
    with pytest.raises(DataError, match="not kept any more"):
        held.get("two", found.token)
    held.forget("one")
    assert not made.exists()
    with pytest.raises(DataError, match="not kept any more"):
        held.get("one", found.token)
    held.forget("one")


def test_the_next_picture_takes_the_place_of_the_last(tmp_path: Path) -> None:
    held = Uploads()
    first = held.take("one", file_of(tmp_path))
    second = held.take("one", file_of(tmp_path))
    assert held.get("one", second.token) is second
    with pytest.raises(DataError):
        held.get("one", first.token)


def test_sixteen_bits_are_kept_as_pixels_alone_when_asked(tmp_path: Path) -> None:
    held = Uploads()
    deep = GREY.astype(np.uint16) * 250
    found = held.take("one", file_of(tmp_path, "b.png", deep))
    path = uploads.keep(found, tmp_path / "kept")
    with Image.open(path) as opened:
        np.testing.assert_array_equal(np.asarray(opened), deep)
        assert not opened.info
    np.testing.assert_array_equal(read_image(path), found.plate.grey)
    (tmp_path / "full").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        uploads.keep(found, tmp_path / "full")


def test_colour_is_told_from_grey_in_three_channels(tmp_path: Path) -> None:
    three = np.repeat(GREY[..., None], 3, axis=2)
    bright = three.copy()
    bright[..., 2] //= 2
    for pixels, expected in ((three, False), (bright, True), (GREY, False)):
        assert coloured(file_of(tmp_path, "c.png", pixels).read_bytes()) is expected
    assert not coloured(b"a DICOM file, say")
