"""What a user takes away from the Saliency page: raw maps, and DICOM Secondary Captures."""

from __future__ import annotations

import io
import json
import re
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from core.data.images.radiograph import Radiograph
from core.errors import DataError
from core.formatting import DISCLAIMER
from core.saliency.dicom_export import Legend, overlay, secondary_capture
from core.saliency.explain import LIMITS
from core.saliency.methods.registry import SALIENCY_METHODS
from explorer.components.study_views import RunView

KINDS = {
    "npy": "raw maps (.npy)",
    "dcm": "as DICOM",
}
"""What is offered: kind → words on its button."""


def pack(
    kind: str, readings: Sequence[RunView], plate: Radiograph, study: str | None, place: Path
) -> Path:
    """Write what is shown into one zip file.

    Args:
        kind: A key of ``KINDS``.
        readings: The runs' readings; those without a map are left out.
        plate: The picture.
        study: Id of the study of a data set; None for a picture of the user's own, of which no name
            is written anywhere.
        place: Folder for it; it gets a new one within.

    Raises:
        DataError: No run has a map, or the file cannot be written.
    """
    answered = [one for one in readings if one.request is not None]
    if not answered:
        raise DataError("There is no map to save.", "Choose a run that answers.")
    name = f"{study or 'picture'}-{answered[0].run.id[:6]}-{kind}"
    try:
        place.mkdir(parents=True, exist_ok=True)
        file = Path(tempfile.mkdtemp(dir=place)) / f"{_plain(name)}.zip"
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for i, one in enumerate(answered, start=1):
                stem = _plain(f"{i}-{one.run.name}-{one.run.id[:6]}")
                for suffix, content in _contents(kind, one, plate, study).items():
                    archive.writestr(f"{stem}.{suffix}", content)
    except OSError as error:
        raise DataError(
            f"The file cannot be written ({error.strerror}).", "Free some space, then save again."
        ) from error
    return file


def _contents(
    kind: str, reading: RunView, plate: Radiograph, study: str | None
) -> dict[str, bytes]:
    assert reading.request is not None
    found = reading.request.explanation
    one = SALIENCY_METHODS[found.method]
    if kind == "npy":
        raw = io.BytesIO()
        np.save(raw, found.map, allow_pickle=False)
        about = {
            "study": study,
            "run": reading.run.id,
            "name": reading.run.name,
            "finding": found.finding,
            "probability": found.probability,
            "operating_point": reading.thresholds.get(found.finding),
            "method": found.method,
            "layer": found.layer,
            "grid": list(found.grid),
            "unit": one.unit,
            "shape": list(found.map.shape),
            "notes": [*found.notes, LIMITS, f"{DISCLAIMER}."],
        }
        return {"npy": raw.getvalue(), "json": json.dumps(about, indent=2).encode()}
    legend = Legend(
        model=reading.run.name,
        finding=found.finding,
        probability=found.probability,
        method=one.title,
        layer=found.layer,
        unit=one.unit,
        peak=found.peak,
    )
    colours = overlay(plate.grey, found.map, legend.lines())
    return {"dcm": secondary_capture(colours, legend, clean=study is not None)}


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)[:80]
