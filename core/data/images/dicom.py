"""DICOM radiographs: decode, rescale, window, photometric interpretation; sex, age and view.

This module loads pydicom; import it where a DICOM file is met. Nothing of a header but what
``Facts`` holds, and the pixels' spacing and scale, leaves it.
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

from core.data.images import dicom_display, grey
from core.data.images.radiograph import Radiograph
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
    with _faults_in_words(name), _quiet:
        header, stored = _decode_dicom(name, content, short_side)
        return dicom_display.present(name, header, stored)


def read_radiograph(name: str, content: bytes) -> Radiograph:
    """Decode one file with all its grey levels; see ``read_dicom``."""
    with _faults_in_words(name), _quiet:
        header, stored = _decode_dicom(name, content, None)
        shown = dicom_display.present(name, header, stored)
        return dicom_display.plate(header, stored, shown)


@contextlib.contextmanager
def _faults_in_words(name: str) -> Iterator[None]:
    try:
        yield
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
    grey.check_size(name, int(header.Columns), int(header.Rows))
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
