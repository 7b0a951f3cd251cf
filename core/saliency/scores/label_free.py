"""Scores of maps that need no marked regions: faithfulness, stability and the sanity check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from core.classifier.trained import Trained
from core.errors import CoreError
from core.saliency.explain import explain
from core.saliency.methods.registry import SALIENCY_METHODS
from core.saliency.scores import sanity, stability
from core.saliency.scores.faithfulness import faithfulness
from core.saliency.scores.sanity import Sanity

SANITY_STEPS = 4
SANITY_STUDIES = 4

SCORES = ("insertion", "deletion", "road", "noise", "shift")


@dataclass(frozen=True)
class LabelFreeScores:
    """The scores of one run and method, as means over studies.

    Attributes:
        run: The run's name.
        method: The method.
        finding: The finding.
        studies: Number of studies.
        insertion: Area under the insertion curve, 0 to 1; high is good.
        deletion: Area under the deletion curve, 0 to 1; low is good.
        road: Least minus most salient pixels removed first, halved; above 0 is good.
        noise: Rank correlation with the maps of slightly noisy copies.
        shift: Rank correlation with the maps of copies shifted by a few pixels.
        sanity: Result of the sanity check; None for a baseline.
    """

    run: str
    method: str
    finding: str
    studies: int
    insertion: float
    deletion: float
    road: float
    noise: float
    shift: float
    sanity: Sanity | None

    @property
    def sentence(self) -> str:
        """The result of the sanity check in words."""
        if self.sanity is None:
            return "A baseline does not depend on a model, so the sanity check does not apply."
        return self.sanity.sentence(SALIENCY_METHODS[self.method].title)

    def as_json(self) -> dict[str, Any]:
        """The scores as plain values; an undefined score is None."""
        plain = asdict(self) | {"sanity_sentence": self.sentence}
        for name in SCORES:
            plain[name] = None if np.isnan(plain[name]) else plain[name]
        if self.sanity is not None:
            values = [None if np.isnan(value) else value for value in self.sanity.correlations]
            plain["sanity"] = dict(zip(self.sanity.steps, values, strict=True))
            plain["sanity_failed"] = self.sanity.failed
        return plain


def score(
    name: str,
    trained: Trained,
    images: Sequence[NDArray[np.uint8]],
    finding: str,
    method: str,
    *,
    seed: int = 0,
) -> LabelFreeScores:
    """Insertion, deletion, ROAD, stability and sanity of one method on a few images.

    Args:
        name: Name of the run.
        trained: The run's model.
        images: Greyscale images of any size. Faithfulness uses all of them, the slower stability
            and sanity scores the first ``SANITY_STUDIES``.
        finding: One of ``trained.findings``.
        method: A key of ``SALIENCY_METHODS`` that is not paired.
        seed: Seed of noise and random weights.

    Raises:
        CoreError: As ``core.saliency.explain.explain``.
    """
    index = trained.finding(finding)
    pixels: Tensor = trained.transform(images)

    def explain_model(model: nn.Module, batch: Tensor) -> NDArray[np.float32]:
        return explain(model, batch, index, method=method)

    def explain_own(batch: Tensor) -> NDArray[np.float32]:
        return explain_model(trained.model, batch)

    curves = [
        faithfulness(trained.model, image, values, index, seed=seed)
        for image, values in zip(pixels, explain_own(pixels), strict=True)
    ]
    few = pixels[:SANITY_STUDIES]
    check = None
    if not SALIENCY_METHODS[method].baseline:
        check = sanity.cascading_randomisation(
            trained.model, few, explain_model, max_steps=SANITY_STEPS, seed=seed
        )
    return LabelFreeScores(
        run=name,
        method=method,
        finding=finding,
        studies=len(images),
        insertion=float(np.mean([curve.insertion for curve in curves])),
        deletion=float(np.mean([curve.deletion for curve in curves])),
        road=float(np.mean([curve.road for curve in curves])),
        noise=_mean(stability.under_noise(explain_own, few, seed=seed)),
        shift=_mean(stability.under_shifts(explain_own, few)),
        sanity=check,
    )


def score_all(
    runs: dict[str, Trained],
    images: Mapping[str, Sequence[NDArray[np.uint8]]],
    methods: Sequence[str],
) -> tuple[list[LabelFreeScores], list[str]]:
    """Score every run and method that supports it and is not paired, on the images of each finding.

    Returns:
        The scores, and a sentence for each combination that failed.
    """
    scores: list[LabelFreeScores] = []
    notes: list[str] = []
    for name, trained in runs.items():
        for finding, some in images.items():
            for method in methods:
                skipped = SALIENCY_METHODS[method].paired or finding not in trained.findings
                if skipped or not some:
                    continue
                try:
                    scores.append(score(name, trained, some, finding, method))
                except CoreError as error:
                    notes.append(f"{SALIENCY_METHODS[method].title}, {name}: {error.cause}")
    return scores, list(dict.fromkeys(notes))


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
