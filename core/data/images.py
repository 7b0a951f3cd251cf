"""Read one radiograph of any common format as grey levels, black = air."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from core.errors import DataError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

VERSION = 1
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
        picture = _read_dicom(name, content)
    else:
        picture = _read_with_pillow(name, content, short_side)
    return picture if short_side is None else resize(picture, short_side)


def resize(picture: NDArray[np.uint8], short_side: int) -> NDArray[np.uint8]:
    """Resize so that the shorter side has ``short_side`` pixels (bicubic, antialiased).

    Args:
        picture: Shape (height, width).
        short_side: Pixels wanted.

    Returns:
        A picture of the same aspect ratio, to the nearest pixel.
    """
    height, width = picture.shape
    scale = short_side / min(height, width)
    size = (round(width * scale), round(height * scale))
    if size == (width, height):
        return picture
    small = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    return np.asarray(small)


def stretch(values: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Map grey levels of up to 16 bits to 0..255, linearly between the quantiles ``TAILS``."""
    lowest = int(values.min())
    counts = np.bincount((values.astype(np.int64) - lowest).ravel())
    low, high = (float(one) + lowest for one in _quantiles(counts))
    table = _ramp(np.arange(len(counts)) + lowest, low, high)
    found: NDArray[np.uint8] = table[values.astype(np.int64) - lowest]
    return found


def _quantiles(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    share = np.cumsum(counts) / counts.sum()
    return np.searchsorted(share, TAILS)


def _ramp(values: NDArray[np.generic], low: float, high: float) -> NDArray[np.uint8]:
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


def _refuse_size(name: str, width: int, height: int) -> None:
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


def _read_with_pillow(name: str, content: bytes, short_side: int | None) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            _refuse_size(name, *opened.size)
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


def _grey(opened: Image.Image) -> NDArray[np.uint8]:
    upright: Image.Image = ImageOps.exif_transpose(opened)
    if upright.mode.startswith("I"):
        return stretch(np.asarray(upright))
    if upright.mode == "F":
        values = np.nan_to_num(np.asarray(upright), nan=0.0, posinf=0.0, neginf=0.0)
        return _ramp(values, *np.quantile(values, TAILS).tolist())
    if upright.mode in {"CMYK", "YCbCr", "LAB", "HSV", "P", "PA"}:
        upright = upright.convert("RGB")
    return np.asarray(upright if upright.mode == "L" else upright.convert("L"))


def _read_dicom(name: str, content: bytes) -> NDArray[np.uint8]:
    from pydicom.errors import InvalidDicomError

    try:
        header, stored = _decode_dicom(name, content)
        return _present(name, header, stored)
    except DataError:
        raise
    except InvalidDicomError as error:
        raise DataError(
            f"{name} is not a DICOM file, whatever its name says.",
            "Choose a PNG, JPEG, TIFF or DICOM file; a changed file name does not convert it.",
        ) from error
    except Exception as error:  # pydicom and its decoders raise whatever a damaged file causes
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            f"The DICOM file {name} is damaged or cut off ({first}).",
            "Copy or export the file again.",
        ) from error


def _decode_dicom(name: str, content: bytes) -> tuple[Dataset, NDArray[np.integer]]:
    """The header and the stored values, of shape (height, width) or (height, width, 3)."""
    import pydicom
    from pydicom.pixels import pixel_array
    from pydicom.uid import UID

    # Files in the wild break the standard in ways that do not matter here; no warning for each.
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    header = pydicom.dcmread(io.BytesIO(content))
    if "PixelData" not in header:
        raise DataError(
            f"The DICOM file {name} holds no picture.",
            "Choose the image object of the study, not a report or a presentation state.",
        )
    _refuse_size(name, int(header.Columns), int(header.Rows))
    frames = int(header.get("NumberOfFrames") or 1)
    if frames > 1:
        raise DataError(
            f"The DICOM file {name} holds {frames} frames.",
            "Choose a single radiograph; sequences and volumes are not supported.",
        )
    if int(header.BitsStored) > 16:
        raise DataError(
            f"The DICOM file {name} stores {header.BitsStored} bits a pixel; up to 16 are read.",
            "Export it with 16 bits.",
        )
    syntax = header.file_meta.get("TransferSyntaxUID") if "file_meta" in header.__dict__ else None
    try:
        return header, np.asarray(pixel_array(header))
    except (NotImplementedError, RuntimeError, AttributeError) as error:
        known = UID(syntax).name if syntax else "none given"
        raise DataError(
            f"The DICOM file {name} cannot be decoded: its transfer syntax is {known}.",
            "Export it uncompressed (Explicit VR Little Endian) or as JPEG, "
            "or check that the file is whole.",
        ) from error


def _present(name: str, header: Dataset, stored: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Carry out rescale, window and photometric interpretation (DICOM PS3.3 C.11, C.7.6.3.1.2)."""
    meaning = str(header.get("PhotometricInterpretation", "")).upper()
    if stored.ndim == 3 and (meaning == "RGB" or meaning.startswith("YBR")):
        eight = stored if stored.dtype == np.uint8 else stretch(stored)
        return np.asarray(Image.fromarray(eight).convert("L"))
    if stored.ndim != 2 or meaning not in {"MONOCHROME1", "MONOCHROME2"}:
        raise DataError(
            f"The DICOM file {name} has the photometric interpretation “{meaning or 'none'}” "
            f"with {header.get('SamplesPerPixel', 1)} sample(s) a pixel, which is no radiograph.",
            "Export it as MONOCHROME1 or MONOCHROME2.",
        )
    lowest = int(stored.min())
    places = stored.astype(np.int64) - lowest
    levels = np.arange(lowest, int(stored.max()) + 1, dtype=stored.dtype)
    table = _grey_table(header, levels, np.bincount(places.ravel(), minlength=len(levels)))
    if meaning == "MONOCHROME1":
        table = 255 - table
    found: NDArray[np.uint8] = np.where(_padding(header, levels), 0, table).astype(np.uint8)[places]
    return found


def _grey_table(
    header: Dataset, levels: NDArray[np.integer], counts: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """What is shown for each stored level; a table, since there are far fewer levels than pixels.

    Args:
        header: The file's attributes.
        levels: Stored values, ascending.
        counts: Pixels of each.
    """
    from pydicom.pixels import apply_modality_lut, apply_voi

    values = np.asarray(apply_modality_lut(levels, header), np.float64)
    if header.get("VOILUTSequence"):
        shown = np.asarray(apply_voi(values.astype(np.int64), header), np.float64)
        bits = int(header.VOILUTSequence[0].LUTDescriptor[2])
        return _ramp(shown, 0, 2**bits - 1)
    window = _window(header)
    if window is not None:
        return _windowed(values, *window, str(header.get("VOILUTFunction") or "LINEAR").upper())
    if int(header.BitsStored) == 8 and np.array_equal(values, levels) and levels.min() >= 0:
        return levels.astype(np.uint8)
    seen = np.where(_padding(header, levels), 0, counts)
    low, high = values[_quantiles(seen if seen.any() else counts)]
    return _ramp(values, min(low, high), max(low, high))


def _window(header: Dataset) -> tuple[float, float] | None:
    """Centre and width of the first window, if the file has a usable one."""
    found = []
    for keyword in ("WindowCenter", "WindowWidth"):
        value = header.get(keyword)
        if value is None or value == "":
            return None
        found.append(float(value[0] if hasattr(value, "__getitem__") and not
                           isinstance(value, str) else value))  # fmt: skip
    return (found[0], found[1]) if np.isfinite(found).all() and found[1] >= 1 else None


def _windowed(
    values: NDArray[np.float64], centre: float, width: float, function: str
) -> NDArray[np.uint8]:
    """DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    if function == "SIGMOID":
        return _ramp(1 / (1 + np.exp(-4 * (values - centre) / width)), 0, 1)
    if function == "LINEAR_EXACT" or width == 1:
        return _ramp(values, centre - width / 2, centre + width / 2)
    return _ramp(values, centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2)


def _padding(header: Dataset, levels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which stored levels stand for "outside of the picture"."""
    value = header.get("PixelPaddingValue")
    if value is None or isinstance(value, bytes):
        return np.zeros(levels.shape, np.bool_)
    limit = header.get("PixelPaddingRangeLimit")
    other = value if limit is None or isinstance(limit, bytes) else limit
    low, high = sorted((int(value), int(other)))
    return (levels >= low) & (levels <= high)
