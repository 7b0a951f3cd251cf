"""Read one radiograph of any common format as grey levels; black is air."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from core.data.images.grey import (
    FORMATS,
    MAX_PIXELS,
    TAILS,
    check_size,
    quantiles,
    ramp,
    resize,
    resize_pillow,
    stretch,
)
from core.data.images.radiograph import Radiograph, from_grey
from core.errors import DataError

VERSION = 2
"""Raised whenever ``read_image`` would return other pixels for the same file."""

DICOM_SUFFIXES = frozenset({".dcm", ".dicom"})
SUFFIXES = DICOM_SUFFIXES | {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"}
"""Suffixes of image files in a data set's folder, in lower case."""


def read_image(source: Path | str | bytes, short_side: int | None = None) -> NDArray[np.uint8]:
    """Read a PNG, JPEG, TIFF, BMP or DICOM file.

    Colour becomes luminance, transparency is ignored, and the EXIF rotation is applied. More than 8
    bits are mapped to 8 by the window of the file, or linearly between the quantiles ``TAILS``.

    Args:
        source: A path, or the file's content.
        short_side: Resize so that the shorter side has this many pixels; None keeps the size.

    Returns:
        Grey levels of shape (height, width), 0 to 255; black is air.

    Raises:
        DataError: The file is missing, damaged, too large, or not a single image.
    """
    name, content = _named_content(source)
    if _is_dicom(name, content):
        from core.data.images import dicom  # pydicom takes 0.4 s to load

        image = dicom.read_dicom(name, content, short_side)
        return image if short_side is None else resize(image, short_side)
    # Resized before it becomes an array: copying the full-size image takes as long again.
    with _errors_explained(name), _opened(name, content) as file:
        if short_side is not None and file.format == "JPEG":
            # The decoder itself reduces to a half, quarter or eighth, far faster than a resize.
            file.draft(None, (2 * short_side, 2 * short_side))
        grey = _grey(ImageOps.exif_transpose(file))
    return np.asarray(grey if short_side is None else resize_pillow(grey, short_side))


def read_radiograph(source: Path | bytes) -> Radiograph:
    """Read a PNG, JPEG, TIFF, BMP or DICOM file with all its grey levels.

    Args:
        source: A path, or the file's content.

    Raises:
        DataError: As ``read_image``.
    """
    name, content = _named_content(source)
    if _is_dicom(name, content):
        from core.data.images import dicom  # pydicom takes 0.4 s to load

        return dicom.read_radiograph(name, content)
    with _errors_explained(name), _opened(name, content) as file:
        upright: Image.Image = ImageOps.exif_transpose(file)
        grey = np.asarray(_grey(upright))
        if not (upright.mode.startswith("I") or upright.mode == "F"):
            return from_grey(grey)
        levels = _sixteen_bits(upright)
    low, high = quantiles(np.bincount(levels.ravel()))
    return Radiograph(levels, grey, bits=16, window=(float(low), float(high)))


def _named_content(source: Path | str | bytes) -> tuple[str, bytes]:
    """Return a name for messages, and the bytes of the file."""
    if isinstance(source, bytes):
        name, content = "The image", source
    else:
        path = Path(source)
        name, content = path.name, _content(path)
    if not content:
        raise DataError(f"{name} is empty (0 bytes).", "Copy or download the file again.")
    return name, content


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(
            f"The file {path} does not exist.", "Check the path, or restore the file."
        ) from error
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}).",
            "Check that it is a file and that you may read it.",
        ) from error


def _is_dicom(name: str, content: bytes) -> bool:
    return content[128:132] == b"DICM" or Path(name).suffix.lower() in DICOM_SUFFIXES


@contextlib.contextmanager
def _opened(name: str, content: bytes) -> Iterator[Image.Image]:
    """Open one image of a size that a radiograph may have; its pixels are not decoded yet."""
    with Image.open(io.BytesIO(content), formats=FORMATS) as file:
        check_size(name, *file.size)
        frames = getattr(file, "n_frames", 1)
        if frames > 1:
            raise DataError(
                f"{name} contains {frames} images.",
                "Save the frontal radiograph as a file of its own.",
            )
        yield file


@contextlib.contextmanager
def _errors_explained(name: str) -> Iterator[None]:
    """Turn the errors of Pillow into ``DataError`` with cause and remedy."""
    try:
        yield
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(
            f"{name} is not an image: its content is none of {', '.join(FORMATS)} or DICOM.",
            "Choose a PNG, JPEG, TIFF or DICOM file. Renaming a file does not convert it.",
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(
            f"{name} claims to have more than {MAX_PIXELS:,} pixels.",
            "Export it at a smaller size; radiographs have up to 30 million pixels.",
        ) from error
    except Exception as error:  # Pillow's parsers raise many types of error for a damaged file
        raise DataError(
            f"{name} is damaged or incomplete ({error}).", "Copy or download the file again."
        ) from error


def _grey(upright: Image.Image) -> Image.Image:
    """Convert an image of any mode to 8-bit grey."""
    if upright.mode.startswith("I"):
        return Image.fromarray(stretch(np.asarray(upright)))
    if upright.mode == "F":
        values = np.nan_to_num(np.asarray(upright), nan=0.0, posinf=0.0, neginf=0.0)
        return Image.fromarray(ramp(values, *np.quantile(values, TAILS).tolist()))
    if upright.mode in {"CMYK", "YCbCr", "LAB", "HSV", "P", "PA"}:
        upright = upright.convert("RGB")
    return upright if upright.mode == "L" else upright.convert("L")


def _sixteen_bits(upright: Image.Image) -> NDArray[np.uint16]:
    """Levels of an image of more than 8 bits, scaled to 16 bits where they do not fit."""
    values = np.nan_to_num(np.asarray(upright).astype(np.float64))
    low, high = float(values.min()), float(values.max())
    if upright.mode == "F" or low < 0 or high > 65535:
        values = (values - low) * (65535 / max(high - low, 1e-12))
    return np.rint(values).clip(0, 65535).astype(np.uint16)
