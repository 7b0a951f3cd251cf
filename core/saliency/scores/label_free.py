"""What can be said of maps without anybody's boxes, for one run and method on a few studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from core.classifier.trained import Trained
from core.errors import CoreError
from core.saliency import explain as methods
from core.saliency.methods.registry import SALIENCY_METHODS
from core.saliency.scores import sanity, stability
from core.saliency.scores.faithfulness import faithfulness
from core.saliency.scores.sanity import Sanity

SANITY_STEPS = 4
SANITY_STUDIES = 4

CHECKED = ("insertion", "deletion", "road", "noise", "shift")


@dataclass(frozen=True)
class Checked:
    """One run and method, by means over studies.

    Attributes:
        run: The run's name.
        method: The method.
        finding: The finding.
        studies: Studies it was checked on.
        insertion: Area under the insertion curve, 0 to 1, high is good.
        deletion: Area under the deletion curve, 0 to 1, low is good.
        road: Least minus most marked removed first, halved; above 0 is good.
        noise: Rank correlation with the maps of slightly noisy copies.
        shift: Rank correlation with the maps of copies shifted by a few pixels.
        sanity: What becomes of the maps when the model forgets; None for a baseline.
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
        """What the sanity check says, in words."""
        if self.sanity is None:
            return "A baseline: it knows no model, so there is nothing to forget."
        return self.sanity.sentence(SALIENCY_METHODS[self.method].title)

    def as_json(self) -> dict[str, Any]:
        """The same as plain values; what is not defined is None."""
        plain = asdict(self) | {"sanity_sentence": self.sentence}
        for name in CHECKED:
            plain[name] = None if np.isnan(plain[name]) else plain[name]
        if self.sanity is not None:
            values = [None if np.isnan(one) else one for one in self.sanity.correlations]
            plain["sanity"] = dict(zip(self.sanity.steps, values, strict=True))
            plain["sanity_failed"] = self.sanity.flagged
        return plain


def check(
    name: str,
    trained: Trained,
    images: Sequence[NDArray[np.uint8]],
    finding: str,
    method: str,
    *,
    seed: int = 0,
) -> Checked:
    """Insertion, deletion, ROAD, stability and sanity of one method on a few pictures.

    Args:
        name: What the run is called.
        trained: The run's model.
        images: Grey pictures of any size; all count for the curves, the first few for sanity.
        finding: One of ``trained.findings``.
        method: A key of ``SALIENCY_METHODS`` that needs no second picture.
        seed: Of noise and of random weights.

    Raises:
        CoreError: As ``methods.explain``.
    """
    index = trained.finding(finding)
    pixels: Tensor = trained.transform(images)

    def explain(model: nn.Module, batch: Tensor) -> NDArray[np.float32]:
        return methods.explain(model, batch, index, method=method)

    def own(batch: Tensor) -> NDArray[np.float32]:
        return explain(trained.model, batch)

    curves = [
        faithfulness(trained.model, picture, values, index, seed=seed)
        for picture, values in zip(pixels, own(pixels), strict=True)
    ]
    few = pixels[:SANITY_STUDIES]
    forgets = None
    if not SALIENCY_METHODS[method].baseline:
        forgets = sanity.cascade(trained.model, few, explain, most=SANITY_STEPS, seed=seed)
    return Checked(
        run=name,
        method=method,
        finding=finding,
        studies=len(images),
        insertion=float(np.mean([one.insertion for one in curves])),
        deletion=float(np.mean([one.deletion for one in curves])),
        road=float(np.mean([one.road for one in curves])),
        noise=_mean(stability.under_noise(own, few, seed=seed)),
        shift=_mean(stability.under_shifts(own, few)),
        sanity=forgets,
    )


def check_all(
    runs: dict[str, Trained],
    images: Mapping[str, Sequence[NDArray[np.uint8]]],
    asked: Sequence[str],
) -> tuple[list[Checked], list[str]]:
    """Check every run by every method that allows it, on the pictures of each finding.

    Args:
        runs: Models by name.
        images: Pictures by finding.
        asked: Keys of ``SALIENCY_METHODS``; those that need a second picture are passed over.

    Returns:
        What was found, and what could not be done, a sentence each.
    """
    found: list[Checked] = []
    notes: list[str] = []
    for name, trained in runs.items():
        for finding, pictures in images.items():
            for method in asked:
                skipped = SALIENCY_METHODS[method].paired or finding not in trained.findings
                if skipped or not pictures:
                    continue
                try:
                    found.append(check(name, trained, pictures, finding, method))
                except CoreError as error:
                    notes.append(f"{SALIENCY_METHODS[method].title}, {name}: {error.cause}")
    return found, list(dict.fromkeys(notes))


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
