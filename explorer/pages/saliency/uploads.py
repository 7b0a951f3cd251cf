"""Uploaded images: in memory, one per page, deleted when the page is closed.

A page has a token, never a path; the token is valid in its own session only.
"""

from __future__ import annotations

import io
import secrets
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.data.images.grey import FORMATS
from core.data.images.radiograph import Radiograph
from core.data.images.reader import read_radiograph
from core.errors import DataError


@dataclass(frozen=True, eq=False)
class Upload:
    """An uploaded image.

    Attributes:
        token: Identifies it for the page.
        radiograph: Its grey levels. The file's name is not kept: it may contain a patient's name.
        coloured: Whether the file is in colour, which no radiograph is.
        folders: Folders of files for download that were made from it; they are deleted with it.
    """

    token: str
    radiograph: Radiograph
    coloured: bool = False
    folders: list[Path] = field(default_factory=list)


class Uploads:
    """The last uploaded image of each session."""

    def __init__(self) -> None:
        self._uploads: dict[str, Upload] = {}
        self._lock = threading.Lock()

    def take(self, session: str, file: Path) -> Upload:
        """Read an image into memory and delete its file, also after an error.

        Raises:
            DataError: The file is not a single radiograph of a supported format.
        """
        try:
            content = file.read_bytes()
            upload = Upload(secrets.token_hex(8), read_radiograph(content), is_coloured(content))
        except OSError as error:
            raise DataError(
                f"The upload failed ({error.strerror}).", "Open the image again."
            ) from error
        finally:
            file.unlink(missing_ok=True)
        self.forget(session)
        with self._lock:
            self._uploads[session] = upload
        return upload

    def get(self, session: str, token: str) -> Upload:
        """Return the image of a token.

        Raises:
            DataError: It was deleted, or belongs to another session.
        """
        with self._lock:
            upload = self._uploads.get(session)
        if upload is None or upload.token != token:
            raise DataError(
                "The image is no longer in memory, since its page was closed.", "Open it again."
            )
        return upload

    def forget(self, session: str) -> None:
        """Delete a session's image and the files that were made from it."""
        with self._lock:
            upload = self._uploads.pop(session, None)
        for folder in upload.folders if upload else ():
            shutil.rmtree(folder, ignore_errors=True)


def is_coloured(content: bytes) -> bool:
    """Whether a file is in colour, and not grey in three channels; False for DICOM."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            if opened.mode not in {"RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV"}:
                return False
            # Reduced first: single coloured pixels are noise of JPEG, not colour.
            small: NDArray[np.int16] = np.asarray(opened.convert("RGB").resize((64, 64)), np.int16)
    except OSError:  # not a format of Pillow: a DICOM file
        return False
    return bool(np.quantile(small.max(axis=2) - small.min(axis=2), 0.9) > 12)


def keep(upload: Upload, folder: Path) -> Path:
    """Write the pixels of an image, and nothing else of its file, as PNG.

    Raises:
        DataError: The file cannot be written.
    """
    path = folder / f"picture-{upload.token}.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(upload.radiograph.levels).save(path)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error.strerror}).", "Free some disk space, then try again."
        ) from error
    return path
