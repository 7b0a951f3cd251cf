"""Read one radiograph of any common format as grey levels, black = air."""

from __future__ import annotations

import io
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
"""Raised whenever ``read_image`` would give other pixels for the same file."""


SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom"})
"""File names that a data set's folder is searched for, in lower case."""


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
    return np.asarray(shown if short_side is None else resize_pillow(shown, short_side))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"There is no file {path}.", "Check the path, or restore it.") from error
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}).", "Check that it is a file you may read."
        ) from error


def _read_with_pillow(name: str, content: bytes, short_side: int | None) -> Image.Image:
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            check_size(name, *opened.size)
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


def read_radiograph(source: Path | bytes) -> Radiograph:
    """Read a PNG, JPEG, TIFF, BMP or DICOM file with all its grey levels.

    Args:
        source: A path, or the file's content.

    Raises:
        DataError: As ``images.read_image``.
    """
    image = read_image(source)
    name, content = (
        ("The picture", source) if isinstance(source, bytes) else (source.name, source.read_bytes())
    )
    if content[128:132] == b"DICM" or name.lower().endswith((".dcm", ".dicom")):
        from core.data.images import dicom  # pydicom loads when it is needed

        return dicom.read_radiograph(name, content)
    deep = _deep(content)
    if deep is None:
        return from_grey(image)
    counts = np.bincount(deep.ravel())
    low, high = quantiles(counts)
    return Radiograph(deep, image, bits=16, window=(float(low), float(high)))


def _deep(content: bytes) -> NDArray[np.uint16] | None:
    """Levels of a picture of more than 8 bits; None for others."""
    with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
        if not (opened.mode.startswith("I") or opened.mode == "F"):
            return None
        values = np.nan_to_num(np.asarray(ImageOps.exif_transpose(opened)).astype(np.float64))
    low, high = float(values.min()), float(values.max())
    if opened.mode == "F" or low < 0 or high > 65535:
        values = (values - low) * (65535 / max(high - low, 1e-12))
    return np.rint(values).clip(0, 65535).astype(np.uint16)
