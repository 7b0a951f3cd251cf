"""One saliency request from run to picture: read, explain, score, draw for print."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.classifier.trained import Trained
from core.data.base import Box, ChestDataset
from core.errors import ConfigurationError, DataError
from core.formatting import DISCLAIMER
from core.saliency.explain import LIMITS, Explanation, explain_study
from core.saliency.methods.registry import explainer
from core.saliency.scores import localisation
from core.saliency.scores.localisation import marked_region


@dataclass(frozen=True)
class Request:
    """A radiograph, where a model looks on it, and how well that agrees with what was marked.

    Attributes:
        title: Name of the study or the file.
        image: Grey picture of shape (height, width), 0 to 255.
        explanation: The map and the probabilities.
        boxes: Boxes of the finding, in pixels of the picture.
        scores: Agreement of the map with boxes or mask; None where nothing is marked.
        label: What the data set says of the finding: 1, 0, or None.
    """

    title: str
    image: NDArray[np.uint8]
    explanation: Explanation
    boxes: tuple[Box, ...] = ()
    scores: localisation.Scores | None = None
    label: float | None = None


def explain_study_of(
    trained: Trained,
    dataset: ChestDataset,
    study_id: str,
    finding: str,
    method: str = "grad-cam",
    layer: str | None = None,
) -> Request:
    """Explain one study of a data set and score the map against what is marked on it.

    Raises:
        DataError: No such study or finding, or its picture cannot be read.
        ConfigurationError: No such method.
    """
    study = dataset.study(study_id)
    image = dataset.read(study_id)
    without = None
    if explainer(method).paired:
        without = dataset.counterfactual(study_id, finding)
    explanation = explain_study(trained, image, finding, method, layer, without=without)
    boxes = tuple(box for box in study.boxes if box.finding == finding)
    region = marked_region(dataset, study_id, finding, (image.shape[0], image.shape[1]))
    label = study.findings.get(finding)
    return Request(
        title=study_id,
        image=image,
        explanation=explanation,
        boxes=boxes,
        scores=None if region is None else localisation.score(explanation.map, region),
        label=None if label is None or np.isnan(label) else label,
    )


def explain_run(
    folder: Path,
    finding: str,
    *,
    study: str | None = None,
    image: Path | None = None,
    method: str = "grad-cam",
) -> Request:
    """Explain a study of a run's own data set, or a picture of one's own.

    Args:
        folder: The run's folder.
        finding: One of the run's findings.
        study: Id of a study.
        image: A PNG, JPEG, TIFF or DICOM file.
        method: A key of ``SALIENCY_METHODS``.

    Raises:
        ConfigurationError: Neither or both of ``study`` and ``image``, or no such method.
        DataError: No such study or finding, or the picture cannot be read.
        ModelError: The run has no weights, or they do not fit.
    """
    from core.classifier.trained import load_trained
    from core.data.datasets.registry import open_data
    from core.data.images.reader import read_image

    if (study is None) == (image is None):
        raise ConfigurationError("Nothing to explain is named.", "Give either --study or --image.")
    explainer(method)
    trained = load_trained(folder)
    if study is not None:
        dataset = open_data(trained.spec.data)
        return explain_study_of(trained, dataset, study, finding, method)
    assert image is not None
    if not image.is_file():
        raise DataError(f"There is no file {image}.", "Give the path of a picture.")
    picture = read_image(image)
    found = explain_study(trained, picture, finding, method)
    return Request(title=image.name, image=picture, explanation=found)


def draw(request: Request, out: Path) -> None:
    """Write original, map and overlay side by side as a PNG, with colour bar and disclaimer.

    Raises:
        DataError: The file cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    found, image = request.explanation, request.image
    peak = found.peak if found.peak > 0 else 1.0
    figure = Figure(figsize=(10.5, 4.2), facecolor="black", layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    left.imshow(image, cmap="gray", vmin=0, vmax=255)
    shown = middle.imshow(found.map, cmap="inferno", vmin=0, vmax=peak)
    right.imshow(image, cmap="gray", vmin=0, vmax=255)
    share = np.clip(np.nan_to_num(found.map) / peak, 0, 1)
    right.imshow(found.map, cmap="inferno", vmin=0, vmax=peak, alpha=0.7 * share)
    for axes, title in zip(
        (left, middle, right), ("Original", explainer(found.method).title, "Overlay"),
        strict=True,
    ):  # fmt: skip
        axes.set_title(title, color="white", fontsize=10)
        axes.set_axis_off()
        for x, letter in ((0.02, "R"), (0.98, "L")):
            side = "left" if x < 0.5 else "right"
            axes.text(x, 0.98, letter, color="white", transform=axes.transAxes, ha=side, va="top")
    for box in request.boxes:
        for axes in (left, right):
            axes.add_patch(
                Rectangle((box.x, box.y), box.width, box.height, fill=False, edgecolor="#56B4E9")
            )
    bar = figure.colorbar(shown, ax=[left, middle, right], shrink=0.8)
    bar.set_label(f"{explainer(found.method).unit}, scale of this image", color="white")
    bar.ax.tick_params(colors="white")
    figure.suptitle(
        f"{request.title} · {found.finding}: probability {found.probability:.3f} · {found.layer}",
        color="white",
        fontsize=11,
    )
    figure.supxlabel(DISCLAIMER, color="#aaaaaa", fontsize=8)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, format="png", dpi=130)
    except OSError as error:
        raise DataError(
            f"{out} cannot be written ({error.strerror}).", "Choose another --out."
        ) from error


def as_json(request: Request) -> dict[str, Any]:
    """The figures of a request, without its pictures."""
    found, scores = request.explanation, request.scores
    return {
        "title": request.title,
        "finding": found.finding,
        "label": request.label,
        "probability": found.probability,
        "probabilities": found.probabilities,
        "method": found.method,
        "layer": found.layer,
        "grid": list(found.grid),
        "notes": list(found.notes),
        "pointing_hit": None if scores is None else bool(scores.hit),
        "energy_inside": None if scores is None else _number(scores.energy),
        "iou": None if scores is None else _number(scores.iou),
    }


def as_text(request: Request) -> str:
    """The figures of a request as a few lines for the terminal."""
    found, scores = request.explanation, request.scores
    lines = [
        f"{request.title} · {found.finding}: probability {found.probability:.3f}"
        + ("" if request.label is None else f", labelled {request.label:g}"),
        f"{explainer(found.method).title} at {found.layer}, "
        f"{found.grid[0]} × {found.grid[1]} cells",
    ]
    if scores is not None and not np.isnan(scores.energy):  # else a note says the map is zero
        hit = "inside" if scores.hit else "outside"
        lines.append(
            f"peak {hit} what was marked, {scores.energy:.0%} of the energy in it, "
            f"IoU {scores.iou:.2f}"
        )
    return "\n".join([*lines, *found.notes, LIMITS, DISCLAIMER + "."])


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
