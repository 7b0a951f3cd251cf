"""Pictures that users opened: in memory, one a page, gone when the page is closed.

A page holds a token, never a path; the token is good for the session it was given to.
"""

from __future__ import annotations

import secrets
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.data.images.radiograph import Radiograph
from core.data.images.reader import read_radiograph
from core.errors import DataError


@dataclass(frozen=True, eq=False)
class Upload:
    """A picture that a user opened.

    Attributes:
        token: What the page knows it by.
        plate: Its grey levels. Its file's name is not kept: it may name a patient.
        coloured: Whether the file shows colours, which no radiograph has.
        folders: What was made of it for download, deleted with it.
    """

    token: str
    plate: Radiograph
    coloured: bool = False
    folders: list[Path] = field(default_factory=list)


class Uploads:
    """The last picture that each session opened."""

    def __init__(self) -> None:
        self._kept: dict[str, Upload] = {}
        self._lock = threading.Lock()

    def take(self, session: str, file: Path) -> Upload:
        """Read a picture into memory and delete its file, whatever comes of it.

        Raises:
            DataError: It is no single radiograph in a known format.
        """
        try:
            content = file.read_bytes()
            found = Upload(secrets.token_hex(8), read_radiograph(content), coloured(content))
        except OSError as error:
            raise DataError(
                f"The picture did not arrive ({error.strerror}).", "Open it again."
            ) from error
        finally:
            file.unlink(missing_ok=True)
        self.forget(session)
        with self._lock:
            self._kept[session] = found
        return found

    def get(self, session: str, token: str) -> Upload:
        """The picture of a token.

        Raises:
            DataError: It is not there any more, or was another session's.
        """
        with self._lock:
            found = self._kept.get(session)
        if found is None or found.token != token:
            raise DataError(
                "The picture is not kept any more.", "Open it again; the page was closed meanwhile."
            )
        return found

    def forget(self, session: str) -> None:
        """Drop a session's picture and what was made of it."""
        with self._lock:
            found = self._kept.pop(session, None)
        for folder in found.folders if found else ():
            shutil.rmtree(folder, ignore_errors=True)


def coloured(content: bytes) -> bool:
    """Whether a file that Pillow reads shows colours, and not grey in three channels."""
    import io

    from core.data.images.grey import FORMATS

    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            if opened.mode not in {"RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV"}:
                return False
            small: NDArray[np.int16] = np.asarray(opened.convert("RGB").resize((64, 64)), np.int16)
    except OSError:  # a DICOM file
        return False
    return bool(np.quantile(small.max(axis=2) - small.min(axis=2), 0.9) > 12)


def keep(upload: Upload, folder: Path) -> Path:
    """Write a picture's pixels, and nothing else of its file, as PNG.

    Args:
        upload: The picture.
        folder: Where to.

    Raises:
        DataError: It cannot be written.
    """
    path = folder / f"picture-{upload.token}.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(upload.plate.levels).save(path)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error.strerror}).", "Free space, or choose another disk."
        ) from error
    return path
