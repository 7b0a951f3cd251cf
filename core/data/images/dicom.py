"""Read DICOM radiographs: pixels, and sex, age and view from the header.

This module loads pydicom, which takes 0.4 s: import it where a DICOM file is read. No header
attribute leaves it except those of ``StudyAttributes`` and the spacing and scale of the pixels.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import threading
import warnings
from collections.abc import Iterator
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

from core.data.images import dicom_display
from core.data.images.grey import check_size
from core.data.images.radiograph import Radiograph
from core.errors import DataError

# Many files violate the standard in ways that do not matter here; no warning for each.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
# The remaining messages of pydicom quote the header, which must not get into a run's log.
pydicom.config.logger.setLevel(logging.CRITICAL)


class _WarningsIgnored:
    """Hides warnings while any thread reads a header, since they quote it."""

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


_warnings_ignored = _WarningsIgnored()


@dataclass(frozen=True)
class StudyAttributes:
    """The attributes of a study that are read from a header.

    Attributes:
        sex: ``M``, ``F`` or empty.
        age: In years, or None.
        view: ``PA``, ``AP``, ``LATERAL`` or empty.
    """

    sex: str = ""
    age: float | None = None
    view: str = ""


def read_attributes(path: Path) -> StudyAttributes:
    """Read sex, age and view; they are unknown if the file cannot be read."""
    keywords = ["PatientSex", "PatientAge", "ViewPosition"]
    try:
        with _warnings_ignored:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=keywords)
            sex, age, view = (str(header.get(key) or "").strip().upper() for key in keywords)
    except Exception:  # a damaged header; reading the pixels reports it
        return StudyAttributes()
    return StudyAttributes(sex if sex in {"M", "F"} else "", _years(age), VIEWS.get(view, ""))


VIEWS = {"PA": "PA", "AP": "AP", "LL": "LATERAL", "RL": "LATERAL", "LATERAL": "LATERAL"}


def _years(age: str) -> float | None:
    """Convert a DICOM age such as ``018M`` to years; None if it is unknown or above 120."""
    match = re.fullmatch(r"(\d{1,3})([YMWD]?)", age)
    if match is None:
        return None
    years = int(match[1]) / {"": 1, "Y": 1, "M": 12, "W": 52.18, "D": 365.25}[match[2]]
    return years if years <= 120 else None


def read_dicom(name: str, content: bytes, short_side: int | None = None) -> NDArray[np.uint8]:
    """Decode one file and apply its rescale, window and photometric interpretation.

    Args:
        name: The file's name, for messages.
        content: The file.
        short_side: Shorter side that the caller needs: the result may be smaller than the stored
            image, but not smaller than this, where a reduced copy is faster to decode.

    Returns:
        Grey levels of shape (height, width), 0 to 255; black is air.

    Raises:
        DataError: The file is damaged, no DICOM file, or not a single radiograph.
    """
    with _errors_explained(name), _warnings_ignored:
        header, stored = _decode_dicom(name, content, short_side)
        return dicom_display.to_grey(name, header, stored)


def read_radiograph(name: str, content: bytes) -> Radiograph:
    """Decode one file with all its grey levels; see ``read_dicom``."""
    with _errors_explained(name), _warnings_ignored:
        header, stored = _decode_dicom(name, content, None)
        grey = dicom_display.to_grey(name, header, stored)
        return dicom_display.to_radiograph(header, stored, grey)


@contextlib.contextmanager
def _errors_explained(name: str) -> Iterator[None]:
    """Turn the errors of pydicom into ``DataError`` with cause and remedy, without header text."""
    try:
        yield
    except DataError:
        raise
    except InvalidDicomError:
        raise DataError(
            f"{name} is not a DICOM file, although its name says so.",
            "Choose a PNG, JPEG, TIFF or DICOM file. Renaming a file does not convert it.",
        ) from None
    except Exception as error:  # pydicom and its decoders raise many types of error
        # Their messages may quote the header, and messages are written to logs.
        raise DataError(
            f"The DICOM file {name} is damaged or incomplete ({type(error).__name__}).",
            "Copy or export the file again.",
        ) from None


def _decode_dicom(
    name: str, content: bytes, short_side: int | None
) -> tuple[Dataset, NDArray[np.integer]]:
    """Return the header and the stored values, of shape (height, width) or (height, width, 3)."""
    header = pydicom.dcmread(io.BytesIO(content))
    if "PixelData" not in header:
        raise DataError(
            f"The DICOM file {name} contains no image.",
            "Choose the image of the study, not a report or a presentation state.",
        )
    check_size(name, int(header.Columns), int(header.Rows))
    frames = int(header.get("NumberOfFrames") or 1)
    if frames > 1:
        raise DataError(
            f"The DICOM file {name} contains {frames} frames.",
            "Choose a single radiograph; sequences and volumes are not supported.",
        )
    bits = int(header.BitsStored)
    if bits > 16:
        raise DataError(
            f"The DICOM file {name} stores {bits} bits per pixel. At most 16 are supported.",
            "Export it with 16 bits.",
        )
    syntax = header.file_meta.get("TransferSyntaxUID") if "file_meta" in header.__dict__ else None
    try:
        jpeg = _baseline_jpeg(header, syntax, short_side)
        return header, np.asarray(pixel_array(header) if jpeg is None else jpeg)
    except (NotImplementedError, RuntimeError, AttributeError):
        raise DataError(
            f"The DICOM file {name} cannot be decoded: its transfer syntax is "
            f"{_syntax_name(syntax)}.",
            "Export it uncompressed (Explicit VR Little Endian) or as JPEG, "
            "or check that the file is complete.",
        ) from None


def _baseline_jpeg(header: Dataset, syntax: object, short_side: int | None) -> Image.Image | None:
    """Decode 8-bit baseline JPEG, as in RSNA's files, with Pillow: several times as fast.

    None for other files, and for those that Pillow cannot read: pydicom's decoders try them next.
    """
    layout = (header.get("SamplesPerPixel"), header.get("BitsStored"), header.PixelRepresentation)
    if syntax != JPEGBaseline8Bit or layout != (1, 8, 0):
        return None
    with contextlib.suppress(Exception):
        frame = next(generate_frames(header.PixelData, number_of_frames=1))
        opened = Image.open(io.BytesIO(frame), formats=["JPEG"])
        if opened.mode == "L" and opened.size == (header.Columns, header.Rows):
            if short_side is not None:
                # The decoder itself reduces to a half, quarter or eighth.
                opened.draft(None, (2 * short_side, 2 * short_side))
            opened.load()
            return opened
    return None


def _syntax_name(syntax: object) -> str:
    """The name of a transfer syntax in the standard. A private one may identify where a file was
    made, and is not repeated.
    """
    if not syntax:
        return "not given"
    uid = UID(str(syntax))
    return uid.name if uid in UID_dictionary else "not in the standard"
