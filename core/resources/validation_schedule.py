"""Validation by budget: which epochs are scored on which part of the validation split.

The budget is counted in images, not in seconds, so that runs are reproducible. An epoch of the
paper's NIH 1% task trains on 785 images and validates on 11,219. With a budget, epochs are selected
by successive halving (Jamieson and Talwalkar 2016): each epoch is scored on a small part of the
validation split; after the last epoch, the best ones are scored on larger and larger parts, and the
best of those on the whole split.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from core.config.defaults import FROZEN_BACKBONE

STEP_PASSES, PROBE_PASSES = 3.0, 1.0
"""Cost of training on one image, in forward passes: the forward pass, the gradients of the
activations, and those of the weights with the optimizer's update. A linear probe on augmented
images needs the forward pass alone."""
PARTS_SHARE, WHOLE_SHARE = 1 / 3, 0.45
"""Share of the budget for the part scored in training, and the largest share for the whole split;
the larger parts in between use the rest."""
MAX_MIDDLE_ROUNDS = 2
"""Largest number of rounds between the first part and the whole split.

Measured over ten seeds (10 to 19) of LoRA on 400 phantoms with 1,600 to validate, 20 epochs, and a
hundred draws of the parts per seed: compared with the best of all epochs, two rounds lose 0.19
points of AUROC, one round 0.22, three or four about as much as two. Scoring only the epochs 10, 16
and 20 on the whole split loses 1.13.
"""
LEAST_PART, LEAST_PARTS = 32, 5
"""Studies of the smallest part, and how many times a short run scores it at least. More epochs on a
small part lose less than fewer epochs on a larger one."""
MIN_GROWTH = 1.5
"""Smallest factor between the sizes of successive parts for which a round is worthwhile."""


@dataclass(frozen=True)
class ValidationRound:
    """A round between the first part and the whole split.

    Attributes:
        epochs: Candidate epochs that are scored.
        studies: Size of the part, including the studies of the round before.
    """

    epochs: int
    studies: int


@dataclass(frozen=True)
class ValidationRounds:
    """The rounds of validation by budget.

    Attributes:
        part: Studies of the first part, scored during training.
        every: Epochs between two scores on the first part.
        middle: The rounds on larger parts.
        full: Epochs that are scored on the whole split.
    """

    part: int
    every: int
    middle: tuple[ValidationRound, ...]
    full: int

    @property
    def kept(self) -> int:
        """Candidate epochs that are selected on the first part."""
        return self.middle[0].epochs if self.middle else self.full

    def scores(self, epoch: int, epochs: int) -> bool:
        """Whether an epoch, counted from 1, is scored on the first part."""
        return epoch == epochs or epoch % self.every == 0

    def studies(self, epochs: int, validation: int) -> int:
        """Total number of predictions of studies."""
        total, seen = math.ceil(epochs / self.every) * self.part, self.part
        for stage in (*self.middle, ValidationRound(self.full, validation)):
            # A candidate's predictions of the rounds before are reused.
            total += stage.epochs * (stage.studies - seen)
            seen = stage.studies
        return total


def validation_rounds(
    *, images: int, epochs: int, validation: int, share: float, method: str
) -> ValidationRounds | None:
    """Plan the rounds of validation so that they fit the budget.

    Training costs ``images × epochs`` images of three forward passes each. Validation may use
    ``share / (1 - share)`` of that. A third of the budget goes to the first part; as many epochs
    are scored on it as leave it at least ``LEAST_PART`` studies. The whole split is scored as
    often as ``WHOLE_SHARE`` of the budget allows, at least once. From round to round in between,
    the number of candidates shrinks and the part grows by constant factors, as far as the rest of
    the budget allows.

    If not even one score of the whole split fits, the run exceeds its budget: by that score, which
    the selected epoch needs in any case, and by ``LEAST_PARTS`` scores of the smallest part.

    Args:
        images: Training images per epoch.
        epochs: Number of epochs of the run.
        validation: Studies of the validation split.
        share: Share of a run's work that validation may use, in (0, 1).
        method: Name of the tuning method.

    Returns:
        The rounds; None if the whole split can be scored after each epoch, or if rounds would save
        nothing.
    """
    passes = PROBE_PASSES if method in FROZEN_BACKBONE else STEP_PASSES
    budget = share / (1 - share) * passes * images * epochs
    if validation * epochs <= budget or validation <= LEAST_PART:
        return None
    for_parts = min(budget * PARTS_SHARE, max(budget - validation, 0))
    scored = max(min(epochs, LEAST_PARTS), min(epochs, int(for_parts // LEAST_PART)))
    every = math.ceil(epochs / scored)
    scored = math.ceil(epochs / every)
    part = min(validation, max(LEAST_PART, int(for_parts // scored)))
    if part == validation:
        return None
    rounds = _later_rounds(budget, scored, every, part, validation)
    return rounds if rounds.studies(epochs, validation) < validation * epochs else None


def _later_rounds(
    budget: float, scored: int, every: int, part: int, validation: int
) -> ValidationRounds:
    """Add rounds to the first part, with as many scores of the whole split as the budget allows.

    Fewer scores of the whole split leave more for the rounds in between. The search starts with the
    most scores of the whole split and the most rounds, and takes the first plan whose parts grow
    fast enough to be worthwhile.
    """
    left = budget - scored * part
    for full in range(max(1, min(scored, round(WHOLE_SHARE * budget / validation))), 0, -1):
        for count in range(MAX_MIDDLE_ROUNDS, 0, -1):
            # From ``scored`` to ``full`` candidates in ``count + 1`` equal factors.
            shrink = (full / scored) ** (1 / (count + 1))
            epochs = [round(scored * shrink**i) for i in range(1, count + 1)]
            if any(before <= after for before, after in itertools.pairwise([*epochs, full])):
                continue
            growth = _growth(left, epochs, full, part, validation)
            if growth >= MIN_GROWTH:
                sizes = [int(part * growth**i) for i in range(1, count + 1)]
                middle = tuple(ValidationRound(*pair) for pair in zip(epochs, sizes, strict=True))
                return ValidationRounds(part, every, middle, full)
        affordable = min(scored, int(left // (validation - part)))
        if affordable > full:  # all candidates can be scored on the whole split at once
            return ValidationRounds(part, every, (), affordable)
    return ValidationRounds(part, every, (), 1)


def _growth(left: float, epochs: Sequence[int], full: int, part: int, validation: int) -> float:
    """The largest affordable factor between successive parts; 0 if the last would be the split."""

    def cost(factor: float) -> float:
        total, seen = 0.0, float(part)
        for candidates in epochs:
            total += candidates * seen * (factor - 1)
            seen *= factor
        return total + full * (validation - seen)

    # The cost rises with the factor: bisection finds the factor that uses up the budget.
    low, high = 1.0, float(validation / part) ** (1 / len(epochs))
    if cost(high) <= left:
        return 0.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(middle) <= left else (low, middle)
    return low
