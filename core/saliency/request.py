"""One saliency request: read the radiograph, explain it, score the map, draw a figure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.classifier.trained import Trained, load_trained
from core.data.base import Box, ChestDataset
from core.data.datasets.registry import open_data
from core.data.images.reader import read_image
from core.errors import ConfigurationError, DataError
from core.formatting import DISCLAIMER
from core.saliency.explain import LIMITS, Explanation, explain_study
from core.saliency.methods.registry import saliency_method
from core.saliency.scores.localisation import Scores, marked_region, score


@dataclass(frozen=True)
class ExplainedStudy:
    """A radiograph, where a model looks on it, and how well that agrees with what is marked.

    Attributes:
        title: Name of the study or the file.
        image: Greyscale image of shape (height, width), 0 to 255.
        explanation: The map and the probabilities.
        boxes: Boxes of the finding, in pixels of the image.
        scores: Agreement of the map with boxes or mask; None if nothing is marked.
        label: The data set's label of the finding: 1, 0, or None if it is not known.
    """

    title: str
    image: NDArray[np.uint8]
    explanation: Explanation
    boxes: tuple[Box, ...] = ()
    scores: Scores | None = None
    label: float | None = None


def explain_study_of(
    trained: Trained,
    dataset: ChestDataset,
    study_id: str,
    finding: str,
    method: str = "grad-cam",
    layer: str | None = None,
    *,
    image: NDArray[np.uint8] | None = None,
) -> ExplainedStudy:
    """Explain one study of a data set and score the map against what is marked on it.

    Args:
        trained: The run's model.
        dataset: The data set.
        study_id: One of its studies.
        finding: One of ``trained.findings``.
        method: A key of ``SALIENCY_METHODS``.
        layer: The layer to compute the map from; None selects the default.
        image: The study's image, if it has been decoded before; otherwise it is read.

    Raises:
        DataError: There is no such study or finding, or its image cannot be read.
        ConfigurationError: There is no such method.
    """
    study = dataset.study(study_id)
    if image is None:
        image = dataset.read(study_id)
    without = None
    if saliency_method(method).paired:
        without = dataset.counterfactual(study_id, finding)
    explanation = explain_study(trained, image, finding, method, layer, without=without)
    region = marked_region(dataset, study_id, finding, (image.shape[0], image.shape[1]))
    label = study.findings.get(finding)
    return ExplainedStudy(
        title=study_id,
        image=image,
        explanation=explanation,
        boxes=tuple(box for box in study.boxes if box.finding == finding),
        scores=None if region is None else score(explanation.map, region),
        label=None if label is None or np.isnan(label) else label,
    )


def explain_run(
    folder: Path,
    finding: str,
    *,
    study: str | None = None,
    image: Path | None = None,
    method: str = "grad-cam",
) -> ExplainedStudy:
    """Explain a study of a run's own data set, or an image file.

    Args:
        folder: The run's folder.
        finding: One of the run's findings.
        study: Id of a study.
        image: A PNG, JPEG, TIFF or DICOM file.
        method: A key of ``SALIENCY_METHODS``.

    Raises:
        ConfigurationError: Neither or both of ``study`` and ``image`` are given, or there is no
            such method.
        DataError: There is no such study or finding, or the image cannot be read.
        ModelError: The run has no weights, or they do not fit.
    """
    if (study is None) == (image is None):
        raise ConfigurationError("There is nothing to explain.", "Give either --study or --image.")
    saliency_method(method)  # an unknown name is reported before the model is loaded
    trained = load_trained(folder)
    if study is not None:
        dataset = open_data(trained.spec.data)
        return explain_study_of(trained, dataset, study, finding, method)
    assert image is not None
    if not image.is_file():
        raise DataError(f"The file {image} does not exist.", "Give the path of an image file.")
    grey = read_image(image)
    explanation = explain_study(trained, grey, finding, method)
    return ExplainedStudy(title=image.name, image=grey, explanation=explanation)


def draw(explained: ExplainedStudy, out: Path) -> None:
    """Write original, map and overlay side by side as a PNG, with colour bar and disclaimer.

    Raises:
        DataError: The file cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    explanation, image = explained.explanation, explained.image
    method = saliency_method(explanation.method)
    peak = explanation.peak if explanation.peak > 0 else 1.0
    figure = Figure(figsize=(10.5, 4.2), facecolor="black", layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    left.imshow(image, cmap="gray", vmin=0, vmax=255)
    heat = middle.imshow(explanation.map, cmap="inferno", vmin=0, vmax=peak)
    right.imshow(image, cmap="gray", vmin=0, vmax=255)
    share = np.clip(np.nan_to_num(explanation.map) / peak, 0, 1)
    right.imshow(explanation.map, cmap="inferno", vmin=0, vmax=peak, alpha=0.7 * share)
    titles = ("Original", method.title, "Overlay")
    for axes, title in zip((left, middle, right), titles, strict=True):
        axes.set_title(title, color="white", fontsize=10)
        axes.set_axis_off()
        for x, letter, align in ((0.02, "R", "left"), (0.98, "L", "right")):
            axes.text(x, 0.98, letter, color="white", transform=axes.transAxes, ha=align, va="top")
    for box in explained.boxes:
        for axes in (left, right):
            axes.add_patch(
                Rectangle((box.x, box.y), box.width, box.height, fill=False, edgecolor="#56B4E9")
            )
    bar = figure.colorbar(heat, ax=[left, middle, right], shrink=0.8)
    bar.set_label(f"{method.unit}, scale of this image", color="white")
    bar.ax.tick_params(colors="white")
    title = f"{explained.title} · {explanation.finding}: probability {explanation.probability:.3f}"
    figure.suptitle(f"{title} · {explanation.layer}", color="white", fontsize=11)
    figure.supxlabel(DISCLAIMER, color="#aaaaaa", fontsize=8)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, format="png", dpi=130)
    except OSError as error:
        raise DataError(
            f"{out} cannot be written ({error.strerror}).", "Choose another --out."
        ) from error


def as_json(explained: ExplainedStudy) -> dict[str, Any]:
    """The numbers of an explained study, without image and map."""
    explanation, scores = explained.explanation, explained.scores
    return {
        "title": explained.title,
        "finding": explanation.finding,
        "label": explained.label,
        "probability": explanation.probability,
        "probabilities": explanation.probabilities,
        "method": explanation.method,
        "layer": explanation.layer,
        "grid": list(explanation.grid),
        "notes": list(explanation.notes),
        "pointing_hit": None if scores is None else bool(scores.hit),
        "energy_inside": None if scores is None else _finite(scores.energy),
        "iou": None if scores is None else _finite(scores.iou),
    }


def as_text(explained: ExplainedStudy) -> str:
    """The numbers of an explained study as a few lines for the terminal."""
    explanation, scores = explained.explanation, explained.scores
    rows, columns = explanation.grid
    lines = [
        f"{explained.title} · {explanation.finding}: probability {explanation.probability:.3f}"
        + ("" if explained.label is None else f", label {explained.label:g}"),
        f"{saliency_method(explanation.method).title} at {explanation.layer}, "
        f"{rows} × {columns} cells",
    ]
    if scores is not None and not np.isnan(scores.energy):  # else a note says that the map is zero
        hit = "inside" if scores.hit else "outside"
        lines.append(
            f"peak {hit} the marked region, {scores.energy:.0%} of the energy inside, "
            f"IoU {scores.iou:.2f}"
        )
    return "\n".join([*lines, *explanation.notes, LIMITS, DISCLAIMER + "."])


def _finite(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
