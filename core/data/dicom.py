"""DICOM radiographs: decode, rescale, window, photometric interpretation; sex, age and view.

This module loads pydicom; import it where a DICOM file is met. Nothing of a header but what
``Facts`` holds leaves it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.errors import InvalidDicomError
from pydicom.pixels import pixel_array
from pydicom.uid import UID, JPEGBaseline8Bit, UID_dictionary

from core.data import images
from core.errors import DataError

# Files in the wild break the standard in ways that do not matter here; no warning for each.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
# What pydicom still has to say quotes the header, and would stand in a run's log.
pydicom.config.logger.setLevel(logging.CRITICAL)


class _Quiet:
    """While a header is read, in whatever thread, no warning is shown: they quote headers, too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._former = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._former = warnings.catch_warnings()
                self._former.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._former.__exit__(None, None, None)


_quiet = _Quiet()


@dataclass(frozen=True)
class Facts:
    """What is taken from a header.

    Attributes:
        sex: ``M``, ``F`` or empty.
        age: In years, or None.
        view: ``PA``, ``AP``, ``LATERAL`` or empty.
    """

    sex: str = ""
    age: float | None = None
    view: str = ""


def read_facts(path: Path) -> Facts:
    """Read sex, age and view; nothing is known of a file that cannot be read."""
    wanted = ["PatientSex", "PatientAge", "ViewPosition"]
    try:
        with _quiet:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=wanted)
            sex, age, view = (str(header.get(one) or "").strip().upper() for one in wanted)
    except Exception:  # whatever a damaged header causes; the pixels will tell
        return Facts()
    return Facts(sex if sex in {"M", "F"} else "", _years(age), VIEWS.get(view, ""))


INTERPRETATIONS = frozenset(
    {"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "HSV", "ARGB", "CMYK", "XYB"}
    | {f"YBR_{one}" for one in ("FULL", "FULL_422", "PARTIAL_420", "PARTIAL_422", "ICT", "RCT")}
)
"""Photometric interpretations of the standard, past and present; no other word is repeated."""

VIEWS = {"PA": "PA", "AP": "AP", "LL": "LATERAL", "RL": "LATERAL", "LATERAL": "LATERAL"}


def _years(age: str) -> float | None:
    found = re.fullmatch(r"(\d{1,3})([YMWD]?)", age)
    if found is None:
        return None
    years = int(found[1]) / {"": 1, "Y": 1, "M": 12, "W": 52.18, "D": 365.25}[found[2]]
    return years if years <= 120 else None


def read_dicom(name: str, content: bytes, short_side: int | None = None) -> NDArray[np.uint8]:
    """Decode one file and carry out what it says on how to show it.

    Args:
        name: The file's name, for messages.
        content: The file.
        short_side: A shorter side that is enough, where reading a smaller copy is faster.

    Returns:
        Grey levels of shape (height, width), 0 to 255, black is air.

    Raises:
        DataError: It is damaged, no DICOM file, or not a single radiograph.
    """
    try:
        with _quiet:
            header, stored = _decode_dicom(name, content, short_side)
            return _present(name, header, stored)
    except DataError:
        raise
    except InvalidDicomError:
        raise DataError(
            f"{name} is not a DICOM file, whatever its name says.",
            "Choose a PNG, JPEG, TIFF or DICOM file; a changed file name does not convert it.",
        ) from None
    except Exception as error:  # pydicom and its decoders raise whatever a damaged file causes
        # Their words may quote the header, and what is raised from them ends up in logs.
        raise DataError(
            f"The DICOM file {name} is damaged or cut off ({type(error).__name__}).",
            "Copy or export the file again.",
        ) from None


def _decode_dicom(
    name: str, content: bytes, short_side: int | None
) -> tuple[Dataset, NDArray[np.integer]]:
    """The header and the stored values, of shape (height, width) or (height, width, 3)."""
    header = pydicom.dcmread(io.BytesIO(content))
    if "PixelData" not in header:
        raise DataError(
            f"The DICOM file {name} holds no picture.",
            "Choose the image object of the study, not a report or a presentation state.",
        )
    images.refuse_size(name, int(header.Columns), int(header.Rows))
    frames = int(header.get("NumberOfFrames") or 1)
    if frames > 1:
        raise DataError(
            f"The DICOM file {name} holds {frames} frames.",
            "Choose a single radiograph; sequences and volumes are not supported.",
        )
    bits = int(header.BitsStored)
    if bits > 16:
        raise DataError(
            f"The DICOM file {name} stores {bits} bits a pixel; up to 16 are read.",
            "Export it with 16 bits.",
        )
    syntax = header.file_meta.get("TransferSyntaxUID") if "file_meta" in header.__dict__ else None
    try:
        jpeg = _plain_jpeg(header, syntax, short_side)
        return header, np.asarray(pixel_array(header) if jpeg is None else jpeg)
    except (NotImplementedError, RuntimeError, AttributeError):
        raise DataError(
            f"The DICOM file {name} cannot be decoded: its transfer syntax is "
            f"{_syntax_name(syntax)}.",
            "Export it uncompressed (Explicit VR Little Endian) or as JPEG, "
            "or check that the file is whole.",
        ) from None


def _plain_jpeg(header: Dataset, syntax: object, short_side: int | None) -> Image.Image | None:
    """What RSNA's files hold, by Pillow: several times as fast as the decoders that read all."""
    plain = (header.get("SamplesPerPixel"), header.get("BitsStored"), header.PixelRepresentation)
    if syntax != JPEGBaseline8Bit or plain != (1, 8, 0):
        return None
    with contextlib.suppress(Exception):  # then the other decoders have their say
        frame = next(generate_frames(header.PixelData, number_of_frames=1))
        opened = Image.open(io.BytesIO(frame), formats=["JPEG"])
        if opened.mode == "L" and opened.size == (header.Columns, header.Rows):
            if short_side is not None:
                # The decoder drops to a half, quarter or eighth itself.
                opened.draft(None, (2 * short_side, 2 * short_side))
            opened.load()
            return opened
    return None


def _syntax_name(syntax: object) -> str:
    """Its name in the standard; others may tell where a file was made."""
    if not syntax:
        return "not given"
    found = UID(str(syntax))
    return found.name if found in UID_dictionary else "none of the standard"


def _present(name: str, header: Dataset, stored: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Carry out rescale, window and photometric interpretation (DICOM PS3.3 C.11, C.7.6.3.1.2)."""
    meaning = str(header.get("PhotometricInterpretation", "")).upper()
    if stored.ndim == 3 and (meaning == "RGB" or meaning.startswith("YBR")):
        colours = stored if stored.dtype == np.uint8 else images.stretch(stored)
        return np.asarray(Image.fromarray(colours).convert("L"))
    shown = meaning if meaning in INTERPRETATIONS else "unknown" if meaning else "none"
    if stored.ndim != 2 or meaning not in {"MONOCHROME1", "MONOCHROME2"}:
        raise DataError(
            f"The DICOM file {name} has the photometric interpretation “{shown}” "
            f"with {int(header.get('SamplesPerPixel') or 1)} sample(s) a pixel, which is no "
            "radiograph.",
            "Export it as MONOCHROME1 or MONOCHROME2.",
        )
    eight = stored.dtype == np.uint8
    lowest = 0 if eight else int(stored.min())
    levels = np.arange(lowest, 256 if eight else int(stored.max()) + 1, dtype=stored.dtype)

    def count() -> NDArray[np.int64]:
        if eight:
            return np.array(Image.fromarray(stored).histogram(), np.int64)
        return np.bincount((stored.astype(np.int64) - lowest).ravel(), minlength=len(levels))

    table = _grey_table(header, levels, count)
    if meaning == "MONOCHROME1":
        table = 255 - table
    table = np.where(_padding(header, levels), 0, table).astype(np.uint8)
    if eight and np.array_equal(table, levels):
        return stored.astype(np.uint8, copy=False)
    if eight:  # Pillow looks up bytes ten times as fast as NumPy
        return np.asarray(Image.fromarray(stored).point(table.tolist()))
    found: NDArray[np.uint8] = table[stored.astype(np.int64) - lowest]
    return found


def _grey_table(
    header: Dataset, levels: NDArray[np.integer], count: Callable[[], NDArray[np.int64]]
) -> NDArray[np.uint8]:
    """What is shown for each stored level; a table, since there are far fewer levels than pixels.

    Args:
        header: The file's attributes.
        levels: Stored values, ascending.
        count: Counts the pixels of each, where that is needed.
    """
    values = levels.astype(np.float64)
    if header.get("ModalityLUTSequence"):
        values = _looked_up(header.ModalityLUTSequence[0], header, values)[0]
    else:
        slope, intercept = header.get("RescaleSlope"), header.get("RescaleIntercept")
        values = values * float(slope or 1) + float(intercept or 0)
    if header.get("VOILUTSequence"):
        return images.ramp(*_looked_up(header.VOILUTSequence[0], header, values))
    window = _window(header)
    if window is not None:
        return _windowed(values, *window, str(header.get("VOILUTFunction") or "LINEAR").upper())
    if int(header.BitsStored) == 8 and np.array_equal(values, levels) and levels.min() >= 0:
        return levels.astype(np.uint8)
    counts = count()
    seen = np.where(_padding(header, levels), 0, counts)
    low, high = values[images.quantiles(seen if seen.any() else counts)]
    return images.ramp(values, min(low, high), max(low, high))


def _looked_up(
    item: Dataset, header: Dataset, values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float, float]:
    """What a table of a sequence gives for some values, and its range (DICOM PS3.3 C.11.1.1.1)."""
    count, first, bits = (int(one) for one in item.LUTDescriptor)
    count = count or 2**16
    if first >= 2**15 and int(header.PixelRepresentation) == 1:
        first -= 2**16  # stored as unsigned though the pixels are signed
    data = item.LUTData
    if isinstance(data, bytes):
        table = np.frombuffer(data, "<u2" if len(data) >= 2 * count else np.uint8)
    else:
        table = np.asarray(data)
    places = np.clip(np.rint(values) - first, 0, min(count, len(table)) - 1).astype(np.int64)
    return table[places].astype(np.float64), 0.0, float(2**bits - 1)


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
        return images.ramp(1 / (1 + np.exp(-4 * (values - centre) / width)), 0, 1)
    if function == "LINEAR_EXACT" or width == 1:
        return images.ramp(values, centre - width / 2, centre + width / 2)
    return images.ramp(values, centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2)


def _padding(header: Dataset, levels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which stored levels stand for "outside of the picture"."""
    value = header.get("PixelPaddingValue")
    if value is None or isinstance(value, bytes):
        return np.zeros(levels.shape, np.bool_)
    limit = header.get("PixelPaddingRangeLimit")
    other = value if limit is None or isinstance(limit, bytes) else limit
    low, high = sorted((int(value), int(other)))
    return (levels >= low) & (levels <= high)
