"""Read one radiograph of any common format as grey levels, black = air."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from core.errors import DataError

VERSION = 2
"""Raised whenever ``read_image`` would give other pixels for the same file."""

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
"""Formats read by Pillow. No others: some of its plugins start programs (EPS) or follow links."""

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom"})
"""File names that a data set's folder is searched for, in lower case."""

MAX_PIXELS = 80_000_000
"""A radiograph has up to about 30 million; more is a damaged header or a decompression bomb."""

MAX_ASPECT = 8.0
"""Longer over shorter side; beyond it a resized copy would be huge, and no radiograph is like it.
"""

TAILS = (0.001, 0.999)
"""Shares of the pixels between which grey levels of more than 8 bits are stretched where the file
gives no window: a dead pixel or a burnt-in marker must not darken the whole picture."""


def read_image(source: Path | str | bytes, short_side: int | None = None) -> NDArray[np.uint8]:
    """Read a PNG, JPEG, TIFF, BMP or DICOM file.

    Colour becomes luminance, transparency is ignored, EXIF rotation is carried out. Grey levels of
    more than 8 bits are mapped by the window of the file, or stretched between ``TAILS``.

    Args:
        source: A path, or the file's content.
        short_side: Resize so that the shorter side has this many pixels; None keeps the size.

    Returns:
        Grey levels of shape (height, width), 0 to 255, black is air.

    Raises:
        DataError: The file is missing, damaged, too large, or not a single picture.
    """
    if isinstance(source, bytes):
        name, suffix, content = "The picture", "", source
    else:
        path = Path(source)
        name, suffix, content = path.name, path.suffix.lower(), _content(path)
    if not content:
        raise DataError(f"{name} is empty (0 bytes).", "Copy or download the file again.")
    if content[128:132] == b"DICM" or suffix in {".dcm", ".dicom"}:
        from core.data.images import dicom  # pydicom loads when it is needed

        picture = dicom.read_dicom(name, content, short_side)
        return picture if short_side is None else resize(picture, short_side)
    # Resized before it becomes an array: copying a whole picture to and fro takes as long again.
    shown = _read_with_pillow(name, content, short_side)
    return np.asarray(shown if short_side is None else _smaller(shown, short_side))


def resize(picture: NDArray[np.uint8], short_side: int) -> NDArray[np.uint8]:
    """Resize so that the shorter side has ``short_side`` pixels (bicubic, antialiased).

    From four times the size on, blocks of pixels are averaged first: in a third of the time, and by
    a grey level at most in the mean of a radiograph's pixels.

    Args:
        picture: Shape (height, width).
        short_side: Pixels wanted.

    Returns:
        A picture of the same aspect ratio, to the nearest pixel.
    """
    if min(picture.shape) == short_side:
        return picture
    return np.asarray(_smaller(Image.fromarray(picture), short_side))


def _smaller(picture: Image.Image, short_side: int) -> Image.Image:
    scale = short_side / min(picture.size)
    size = (round(picture.width * scale), round(picture.height * scale))
    if size == picture.size:
        return picture
    return picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)


def stretch(values: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Map grey levels of up to 16 bits to 0..255, linearly between the quantiles ``TAILS``."""
    lowest = int(values.min())
    places = values.astype(np.int64) - lowest
    low, high = quantiles(np.bincount(places.ravel()))
    table = ramp(np.arange(places.max() + 1), float(low), float(high))
    found: NDArray[np.uint8] = table[places]
    return found


def quantiles(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the quantiles ``TAILS`` of a histogram lie, as indices of its bins."""
    share = np.cumsum(counts) / counts.sum()
    return np.searchsorted(share, TAILS)


def ramp(values: NDArray[np.generic], low: float, high: float) -> NDArray[np.uint8]:
    """Map ``low`` to 0 and ``high`` to 255, linearly, and what lies beyond to these; black if the
    two are equal.
    """
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    share = (values.astype(np.float64) - low) / (high - low)
    return np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"There is no file {path}.", "Check the path, or restore it.") from error
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}).", "Check that it is a file you may read."
        ) from error


def refuse_size(name: str, width: int, height: int) -> None:
    """Refuse what cannot be a radiograph by its size alone, before its pixels are decoded.

    Raises:
        DataError: Too many pixels, none, or too narrow.
    """
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{name} claims {width} × {height} pixels; at most {MAX_PIXELS:,} are read.",
            "Export it at a smaller size; radiographs have up to 30 million pixels.",
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise DataError(
            f"{name} has {width} × {height} pixels: no radiograph is that narrow.",
            "Choose the picture itself, not a strip or a line of it.",
        )


def _read_with_pillow(name: str, content: bytes, short_side: int | None) -> Image.Image:
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            refuse_size(name, *opened.size)
            if getattr(opened, "n_frames", 1) > 1:
                raise DataError(
                    f"{name} holds {getattr(opened, 'n_frames', 1)} pictures.",
                    "Save the frontal radiograph as a file of its own.",
                )
            if short_side is not None and opened.format == "JPEG":
                # The decoder drops to a half, quarter or eighth itself, far faster than a resize.
                opened.draft(None, (2 * short_side, 2 * short_side))
            return _grey(opened)
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(
            f"{name} is not a picture: its content is none of {', '.join(FORMATS)} or DICOM.",
            "Choose a PNG, JPEG, TIFF or DICOM file; a changed file name does not convert it.",
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(
            f"{name} claims more than {MAX_PIXELS:,} pixels.",
            "Export it at a smaller size; radiographs have up to 30 million pixels.",
        ) from error
    except Exception as error:  # Pillow's parsers raise whatever a damaged file makes them meet
        raise DataError(
            f"{name} is damaged or cut off ({error}).", "Copy or download the file again."
        ) from error


def _grey(opened: Image.Image) -> Image.Image:
    upright: Image.Image = ImageOps.exif_transpose(opened)
    if upright.mode.startswith("I"):
        return Image.fromarray(stretch(np.asarray(upright)))
    if upright.mode == "F":
        values = np.nan_to_num(np.asarray(upright), nan=0.0, posinf=0.0, neginf=0.0)
        return Image.fromarray(ramp(values, *np.quantile(values, TAILS).tolist()))
    if upright.mode in {"CMYK", "YCbCr", "LAB", "HSV", "P", "PA"}:
        upright = upright.convert("RGB")
    return upright if upright.mode == "L" else upright.convert("L")
