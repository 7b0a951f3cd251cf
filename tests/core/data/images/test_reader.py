"""Every format a radiograph comes in, and every fault."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from core.data.images import grey
from core.data.images.grey import MAX_PIXELS, resize
from core.data.images.reader import read_image
from core.errors import DataError
from tests.support.layouts import body_image, encoded

GREY = body_image(7)


def near(found: NDArray[np.uint8], expected: NDArray[np.uint8], tolerance: float = 0) -> bool:
    return found.shape == expected.shape and bool(
        np.abs(found.astype(int) - expected).max() <= tolerance
    )


def test_a_path_and_its_content_give_the_same(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(encoded(Image.fromarray(GREY)))
    assert np.array_equal(read_image(file), GREY)
    assert np.array_equal(read_image(str(file)), GREY)
    assert np.array_equal(read_image(file.read_bytes()), GREY)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_modes_of_grey_images_give_the_same_levels(mode: str, kind: str) -> None:
    assert near(read_image(encoded(Image.fromarray(GREY).convert(mode), kind)), GREY, 1)


def test_transparency_is_ignored() -> None:
    clear = Image.fromarray(GREY).convert("RGBA")
    clear.putalpha(0)
    assert near(read_image(encoded(clear)), GREY)


def test_a_palette_is_looked_up() -> None:
    indexed = Image.fromarray((GREY > 50).astype(np.uint8)).convert("P")
    indexed.putpalette([250, 250, 250, 10, 10, 10])
    assert near(read_image(encoded(indexed)), np.where(GREY > 50, 10, 250).astype(np.uint8))


def test_one_bit_images_become_black_and_white() -> None:
    found = read_image(encoded(Image.fromarray(GREY).convert("1", dither=Image.Dither.NONE)))
    assert set(np.unique(found)) == {0, 255}


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_luminance(kind: str) -> None:
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    content = encoded(Image.fromarray(GREY).convert("CMYK"), kind, **options)
    assert near(read_image(content), GREY, 4)


def test_colour_becomes_luminance() -> None:
    red = np.zeros((20, 20, 3), np.uint8)
    red[..., 0] = 200
    assert near(read_image(encoded(Image.fromarray(red))), np.full((20, 20), 60, np.uint8), 1)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_stretched_over_the_used_range(kind: str) -> None:
    twelve = (np.arange(4096, dtype=np.uint16) // 2 + 700).reshape(64, 64)
    found = read_image(encoded(Image.fromarray(twelve), kind))
    assert found.min() == 0
    assert found.max() == 255
    assert np.abs(found.astype(float) - np.arange(4096).reshape(64, 64) / 4095 * 255).max() < 2


def test_a_dead_pixel_does_not_darken_sixteen_bits() -> None:
    values = np.tile(np.arange(100, 3100, 10, dtype=np.uint16), (300, 1))
    plain = read_image(encoded(Image.fromarray(values)))
    values[5, 5] = 65535
    assert near(np.delete(read_image(encoded(Image.fromarray(values))), 5, 0),
                np.delete(plain, 5, 0), 2)  # fmt: skip


def test_a_constant_sixteen_bit_image_is_black() -> None:
    assert not read_image(encoded(Image.fromarray(np.full((20, 20), 900, np.uint16)))).any()


def test_floating_point_tiff_is_stretched_and_survives_nan() -> None:
    values = np.linspace(-1, 1, 400, dtype=np.float32).reshape(20, 20)
    values[3, 3] = np.nan
    found = read_image(encoded(Image.fromarray(values), "TIFF"))
    assert found.min() == 0
    assert found.max() == 255


@pytest.mark.parametrize(("orientation", "turned"), [
    (3, np.rot90(GREY, 2)), (6, np.rot90(GREY, -1)), (8, np.rot90(GREY)), (2, GREY[:, ::-1]),
])  # fmt: skip
def test_exif_rotation_is_applied(orientation: int, turned: NDArray[np.uint8]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert near(read_image(encoded(Image.fromarray(GREY), "PNG", exif=exif)), turned)
    assert near(
        read_image(encoded(Image.fromarray(GREY), "JPEG", exif=exif, quality=98)), turned, 8
    )


def test_a_jpeg_read_small_looks_like_one_resized() -> None:
    big = np.asarray(Image.fromarray(body_image(3, 800, 900)))
    content = encoded(Image.fromarray(big), "JPEG", quality=95)
    assert near(read_image(content, 64), resize(read_image(content), 64), 12)


def test_resizing_keeps_the_aspect_and_the_mean() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 400), dtype=np.uint8)
    small = resize(noise, 30)
    assert small.shape == (30, 40)
    assert small.mean() == pytest.approx(noise.mean(), abs=2)
    assert small.std() < noise.std() / 4, "not antialiased"
    assert resize(noise, 300) is noise


# --- faults --------------------------------------------------------------------------------------


def refused(content: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read_image(content)
    assert caught.value.remedy


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(DataError, match="cannot be read"):
        read_image(tmp_path)


def test_an_empty_file_is_refused() -> None:
    refused(b"", "empty")


@pytest.mark.parametrize("name", ["a.png", "a.dcm", "a.jpeg"])
def test_text_named_like_an_image_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("patient, finding\n1, none\n" * 20)
    with pytest.raises(DataError, match=r"is not (an image|a DICOM file)"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP"])
def test_a_cut_off_file_is_refused(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    whole = encoded(Image.fromarray(noise), kind)
    for share in (0.3, 0.6, 0.9):
        refused(whole[: int(len(whole) * share)], "damaged|not an image")


def test_other_formats_are_refused() -> None:
    refused(encoded(Image.fromarray(GREY), "GIF"), "not an image")
    refused(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not an image")


def test_a_file_of_several_images_is_refused() -> None:
    pages = [Image.fromarray(GREY)] * 3
    refused(encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:]), "contains 3 images")


def _bomb(side: int) -> bytes:
    """A PNG of a kilobyte that claims side² pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * 100_000, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_000, 12_000, 60_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(side: int) -> None:
    assert side**2 > MAX_PIXELS
    refused(_bomb(side), "claims")


def test_a_strip_is_refused() -> None:
    refused(encoded(Image.fromarray(np.zeros((4, 4000), np.uint8))), "too narrow for a radiograph")


@pytest.mark.parametrize("seed", range(4))
def test_mutated_files_are_read_or_rejected_with_an_explanation(seed: int) -> None:
    draw = np.random.default_rng(seed)
    sixteen = Image.fromarray(GREY.astype(np.uint16) * 200)
    whole = [
        encoded(Image.fromarray(GREY)), encoded(Image.fromarray(GREY), "JPEG"),
        encoded(Image.fromarray(GREY), "TIFF", compression="tiff_lzw"),
        encoded(Image.fromarray(GREY), "BMP"), encoded(sixteen),
    ]  # fmt: skip
    for _ in range(120):
        content = bytearray(whole[draw.integers(len(whole))])
        for place in draw.integers(0, len(content), draw.integers(1, 12)):
            content[place] = draw.integers(256)
        try:
            found = read_image(bytes(content), 32)
        except DataError:
            continue
        assert found.dtype == np.uint8
        assert min(found.shape) == 32


def test_stretching_negative_levels() -> None:
    levels = np.linspace(-1000, 1000, 900).astype(np.int16).reshape(30, 30)
    found = grey.stretch(levels)
    assert (found[0, 0], found[-1, -1]) == (0, 255)
    assert (np.diff(found.ravel().astype(int)) >= 0).all()
