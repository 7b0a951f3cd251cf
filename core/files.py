"""Atomic file writes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from core.errors import WriteError


def write_atomically(
    path: Path,
    content: bytes | Callable[[BinaryIO], object],
    remedy: str = "Free space on the disk of the workspace, then resume the run.",
) -> None:
    """Write a file so that after a crash it holds either the old or the new content, both whole.

    Args:
        path: The file.
        content: The new bytes, or a function that writes them to an open file.
        remedy: What the user can do if the file cannot be written.

    Raises:
        WriteError: The disk is full or the folder is not writable.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    errors: list[OSError] = []
    try:
        with partial.open("wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(_ErrorRecorder(file, errors))  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        why = getattr(next(iter(errors), error), "strerror", None) or str(error).splitlines()[0]
        raise WriteError(f"{path.name} cannot be written ({why}).", remedy) from error


class _ErrorRecorder:
    """File wrapper that records system errors, which ``torch.save`` turns into RuntimeErrors."""

    def __init__(self, file: BinaryIO, errors: list[OSError]) -> None:
        self._file, self._errors = file, errors

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self._errors.append(error)
            raise

    def flush(self) -> None:
        self._file.flush()
