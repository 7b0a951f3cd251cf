"""Comparison of a tuning method with the baseline ``pixels``, which uses no backbone."""

from __future__ import annotations

from core.config.run import AdapterSpec, RunSpec, TrainSpec
from core.evaluation.groups import Group
from core.evaluation.verdict import Verdict, verdict
from core.formatting import capitalized, points

PIXELS = "pixels"
"""Name of the method."""


def pixels_spec(spec: RunSpec) -> RunSpec:
    """The run of the baseline on the same labelled studies as a run.

    Args:
        spec: Any run.
    """
    return RunSpec(
        data=spec.data,
        adapter=AdapterSpec(method=PIXELS),
        train=TrainSpec(seed=spec.train.seed, device=spec.train.device),
    )


def against_pixels(group: Group, pixels: Group, split: str = "test") -> str:
    """Say whether a group of runs beats the baseline.

    Args:
        group: Runs of one method.
        pixels: Runs of the method ``pixels`` on the same data.
        split: ``test`` or ``val``.

    Raises:
        DataError: A run has no predictions, or the runs were not scored on the same studies.
    """
    return sentence(group.title, verdict(group, pixels, split))


def sentence(title: str, decided: Verdict) -> str:
    """A verdict on a method and the baseline as one sentence.

    Args:
        title: Title of the method.
        decided: The verdict, with the baseline as second group.
    """
    difference = decided.difference.value
    gap = f"{points(difference)} points"
    if decided.evidence == "above":
        return f"{capitalized(title)} beats the ridge regression on 32 × 32 pixels by {gap}."
    if difference <= 0 or decided.evidence == "below":
        return (
            f"{capitalized(title)} does not beat a ridge regression on 32 × 32 pixels, which uses "
            f"no backbone: {gap}."
        )
    return (
        f"{capitalized(title)} is not shown to beat a ridge regression on 32 × 32 pixels, which "
        f"uses no backbone: {gap}, which may be chance."
    )
