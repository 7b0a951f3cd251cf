"""Load the classifier that a finished run trained, and its result."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.classifier.build import build_classifier, evaluation_transform
from core.classifier.weights import read_state
from core.config.run import ResolvedSpec, RunSpec
from core.data.cache.image_cache import cache_side
from core.data.transforms import EvalTransform
from core.errors import DataError, ModelError
from core.models.backbones.card import BackboneCard
from core.models.tuning.apply import load_trainable_state
from core.workspace import BEST, RESULT, SPEC


@dataclass(frozen=True)
class Trained:
    """The model of a run at its best epoch, ready to predict.

    Attributes:
        model: In evaluation mode, on the CPU; logits of shape (studies, findings).
        card: The backbone's card.
        spec: The run's resolved specification.
        findings: Names of the outputs, in order.
        transform: Turns images whose shorter side is ``side`` into the model's input.
        side: Shorter side, in pixels, of the images that ``transform`` expects.
    """

    model: nn.Module
    card: BackboneCard
    spec: ResolvedSpec
    findings: tuple[str, ...]
    transform: EvalTransform
    side: int

    def finding(self, name: str) -> int:
        """The index of a finding's output.

        Raises:
            DataError: The model has no such finding.
        """
        if name not in self.findings:
            raise DataError(
                f"This model has no finding “{name}”.",
                f"Its findings are: {', '.join(self.findings)}.",
            )
        return self.findings.index(name)

    def probabilities(self, images: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Predict images of any size.

        Args:
            images: Greyscale images of shape (height, width), 0 to 255.

        Returns:
            Probabilities of shape (images, findings), 0 to 1.
        """
        with torch.inference_mode():
            logits: Tensor = self.model(self.transform(images))
        probabilities: NDArray[np.float32] = torch.sigmoid(logits.float()).numpy()
        return probabilities


def load_trained(folder: Path) -> Trained:
    """Load the model in a run's folder with the weights of its best epoch.

    Raises:
        ModelError: The run has no weights yet, or its backbone's weights have changed since.
    """
    spec_file = folder / SPEC
    if spec_file.exists() and not (folder / BEST).exists():
        members = RunSpec.from_json(spec_file.read_text()).adapter.members()
        if members:
            raise ModelError(
                "This run is an ensemble: it has predictions, but no weights of its own.",
                f"Choose one of its members: {', '.join(members)}.",
            )
    if not ((folder / BEST).exists() and (folder / SPEC).exists()):
        raise ModelError(
            "This run has no weights yet.", "Wait for its first validation, or start it again."
        )
    spec = RunSpec.from_json((folder / SPEC).read_text()).resolved()
    state, metadata = read_state(folder / BEST)
    findings = tuple(json.loads(metadata["findings"]))
    # Full fine-tuning saved every weight, so that the pre-trained ones are not needed.
    frozen = spec.adapter.method != "full"
    classifier = build_classifier(spec, len(findings), folder, weights=frozen)
    model, card = classifier.model, classifier.card
    if frozen and (classifier.loaded.sha256 or "") != metadata["backbone_sha256"]:
        raise ModelError(
            f"The weights of {card.title} have changed since this run was trained.",
            "Restore the former file or train the run again.",
        )
    load_trainable_state(model, state)
    model.eval()
    size = spec.model.input_size or card.input_size
    return Trained(model, card, spec, findings, evaluation_transform(card, size), cache_side(size))


def read_result(folder: Path) -> dict[str, Any]:
    """Read the scores and measurements that a run wrote when it completed.

    Raises:
        DataError: The run has not completed yet.
    """
    path = folder / RESULT
    if not path.exists():
        raise DataError("This run has no result yet.", "Wait until it has completed.")
    result: dict[str, Any] = json.loads(path.read_text())
    return result
