"""Downloads of the Saliency page: raw maps, and DICOM Secondary Captures."""

from __future__ import annotations

import io
import json
import re
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.data.images.radiograph import Radiograph
from core.errors import DataError
from core.formatting import DISCLAIMER
from core.saliency.dicom_export import Legend, overlay, secondary_capture
from core.saliency.explain import LIMITS
from core.saliency.methods.registry import SALIENCY_METHODS
from explorer.components.study_views import RunView

if TYPE_CHECKING:
    from core.saliency.request import ExplainedStudy  # loads PyTorch

KINDS = {"npy": "raw maps (.npy)", "dcm": "as DICOM"}
"""Kinds of download, with the text of the button."""


def pack(
    kind: str, run_views: Sequence[RunView], radiograph: Radiograph, study: str | None, folder: Path
) -> Path:
    """Write the maps that are shown into one zip file.

    Args:
        kind: A key of ``KINDS``.
        run_views: The results of the runs; those without a map are skipped.
        radiograph: The radiograph.
        study: Id of the study; None for an uploaded image, whose name is not written.
        folder: The file is written to a new folder in it.

    Raises:
        DataError: No run has a map, or the file cannot be written.
    """
    explained = [(result, result.explained) for result in run_views if result.explained is not None]
    if not explained:
        raise DataError("There is no map to save.", "Choose a run that has a map.")
    name = f"{study or 'picture'}-{explained[0][0].run.id[:6]}-{kind}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = Path(tempfile.mkdtemp(dir=folder)) / f"{_file_name(name)}.zip"
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for i, (result, own) in enumerate(explained, start=1):
                stem = _file_name(f"{i}-{result.run.name}-{result.run.id[:6]}")
                if kind == "npy":
                    archive.writestr(f"{stem}.npy", _raw_map(own))
                    archive.writestr(f"{stem}.json", _description(result, own, study))
                else:
                    content = _capture(result, own, radiograph, clean=study is not None)
                    archive.writestr(f"{stem}.dcm", content)
    except OSError as error:
        raise DataError(
            f"The file cannot be written ({error.strerror}).",
            "Free some disk space, then save again.",
        ) from error
    return file


def _raw_map(explained: ExplainedStudy) -> bytes:
    raw = io.BytesIO()
    np.save(raw, explained.explanation.map, allow_pickle=False)
    return raw.getvalue()


def _description(result: RunView, explained: ExplainedStudy, study: str | None) -> str:
    explanation = explained.explanation
    caller = result.callers.get(explanation.finding)
    return json.dumps(
        {
            "study": study,
            "run": result.run.id,
            "name": result.run.name,
            "finding": explanation.finding,
            "probability": explanation.probability,
            "operating_point": caller.threshold if caller else None,
            "call": caller.word(explanation.probability) if caller else None,
            "method": explanation.method,
            "layer": explanation.layer,
            "grid": list(explanation.grid),
            "unit": SALIENCY_METHODS[explanation.method].unit,
            "shape": list(explanation.map.shape),
            "notes": [*explanation.notes, LIMITS, f"{DISCLAIMER}."],
        },
        indent=2,
    )


def _capture(
    result: RunView, explained: ExplainedStudy, radiograph: Radiograph, *, clean: bool
) -> bytes:
    explanation = explained.explanation
    method = SALIENCY_METHODS[explanation.method]
    legend = Legend(
        model=result.run.name,
        finding=explanation.finding,
        probability=explanation.probability,
        method=method.title,
        layer=explanation.layer,
        unit=method.unit,
        peak=explanation.peak,
    )
    colours = overlay(radiograph.grey, explanation.map, legend.lines())
    return secondary_capture(colours, legend, clean=clean)


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text)[:80]
