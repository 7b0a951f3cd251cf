"""A finished run's weights on disk, and the model they make again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.classifier.build import evaluation_transform, tuned, untuned
from core.classifier.weights import read_state
from core.config.run import RunSpec
from core.data.cache.image_cache import cache_side
from core.data.transforms import EvalTransform
from core.errors import DataError, ModelError
from core.models.backbones.card import BackboneCard
from core.models.tuning.apply import load_trainable_state
from core.workspace import BEST, RESULT, SPEC


@dataclass(frozen=True)
class Trained:
    """A model as a run left it at its best epoch, ready to predict.

    Attributes:
        model: In evaluation mode, on the CPU; logits of shape (studies, findings).
        card: The backbone's card.
        spec: The run's resolved specification.
        findings: Names of the outputs, in order.
        transform: Makes the model's input of pictures whose shorter side is ``side``.
        side: Shorter side, in pixels, of the pictures that ``transform`` expects.
    """

    model: nn.Module
    card: BackboneCard
    spec: RunSpec
    findings: tuple[str, ...]
    transform: EvalTransform
    side: int

    def finding(self, name: str) -> int:
        """The output that stands for a finding.

        Raises:
            DataError: The model has no such finding.
        """
        if name not in self.findings:
            raise DataError(
                f"This model does not know the finding “{name}”.",
                f"It knows: {', '.join(self.findings)}.",
            )
        return self.findings.index(name)

    def probabilities(self, images: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Predict pictures of any size.

        Args:
            images: Grey pictures of shape (height, width), 0 to 255.

        Returns:
            Probabilities of shape (pictures, findings).
        """
        with torch.inference_mode():
            logits: Tensor = self.model(self.transform(images))
        found: NDArray[np.float32] = torch.sigmoid(logits.float()).numpy()
        return found


def load_trained(folder: Path) -> Trained:
    """Build a run's model with the weights of its best epoch.

    Args:
        folder: The run's folder.

    Raises:
        ModelError: The run has no weights yet, or its backbone's weights have changed since.
    """
    if not ((folder / BEST).exists() and (folder / SPEC).exists()):
        raise ModelError(
            "This run has no weights yet.", "Wait for its first validation, or start it again."
        )
    spec = RunSpec.from_json((folder / SPEC).read_text())
    state, about = read_state(folder / BEST)
    findings = tuple(json.loads(about["findings"]))
    # Full fine-tuning saved every weight; fetching the pre-trained ones again would be for nothing.
    frozen_part = spec.adapter.method != "full"
    card, model, report = untuned(spec, len(findings), weights=frozen_part)
    if frozen_part and (report.sha256 or "") != about["backbone_sha256"]:
        raise ModelError(
            f"The weights of {card.title} have changed since this run was trained.",
            "Restore the former file or train the run again.",
        )
    model = tuned(model, spec, folder)
    load_trainable_state(model, state)
    model.eval()
    size = spec.model.input_size or card.input_size
    return Trained(model, card, spec, findings, evaluation_transform(card, size), cache_side(size))


def read_result(folder: Path) -> dict[str, Any]:
    """The scores and facts that a run wrote at its end.

    Raises:
        DataError: The run has not ended yet.
    """
    path = folder / RESULT
    if not path.exists():
        raise DataError("This run has no result yet.", "Wait until it has completed.")
    result: dict[str, Any] = json.loads(path.read_text())
    return result
