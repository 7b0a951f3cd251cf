"""What validation may cost, counted in pictures and not in seconds, so that runs can be repeated.

An epoch of the study's NIH 1% task trains on 785 pictures and validates 11,219. Under a budget the
epochs race: each is scored on a small part of the validation split, the best of them at the end on
wider and wider parts, and the best of those on the whole.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

A_STEP, A_PROBE = 3.0, 1.0
"""Forward passes that a picture costs in training: forward, gradients of activations, of weights
with what the optimizer does. A linear probe on augmented pictures has the first alone."""
FOR_THE_PARTS, FOR_THE_WHOLE = 1 / 3, 0.45
"""Shares of a budget that go to the parts, and at most to the whole split; wider parts have the
rest."""
MIDDLE = 2
"""Rounds between the part and the whole split, at most. Over ten seeds (10 to 19) of LoRA on 400
phantoms, 1,600 to validate, 20 epochs, and a hundred draws of the parts each, two lost 0.19 points
against the best of all epochs, one 0.22, three or four about as much as two; the whole split of
epochs 10, 16 and 20 alone lost 1.13."""
LEAST_PART, LEAST_PARTS = 32, 5
"""Studies of the smallest part, and how often a short run scores it at least. More epochs on a
small part lost less than fewer on a larger one."""
WIDER = 1.5
"""How much wider than the one before a part has to be, to be worth it."""


@dataclass(frozen=True)
class ValidationRound:
    """One of the rounds between the part and the whole split.

    Attributes:
        epochs: How many are still in the race.
        studies: What they are scored on, those of the round before among them.
    """

    epochs: int
    studies: int


@dataclass(frozen=True)
class ValidationRounds:
    """How a run validates within a budget.

    Attributes:
        part: Studies of the part.
        every: Epochs from one score of the part to the next.
        middle: The rounds on wider parts.
        full: Epochs that are scored on the whole split.
    """

    part: int
    every: int
    middle: tuple[ValidationRound, ...]
    full: int

    @property
    def kept(self) -> int:
        """Epochs that go on from the part."""
        return self.middle[0].epochs if self.middle else self.full

    def scores(self, epoch: int, epochs: int) -> bool:
        """Whether an epoch, counted from 1, is scored on the part."""
        return epoch == epochs or epoch % self.every == 0

    def studies(self, epochs: int, validation: int) -> int:
        """Studies that are predicted in all.

        Args:
            epochs: Length of the run.
            validation: Studies of the validation split.
        """
        found, seen = math.ceil(epochs / self.every) * self.part, self.part
        for one in (*self.middle, ValidationRound(self.full, validation)):
            found += one.epochs * (one.studies - seen)
            seen = one.studies
        return found


def validation_rounds(
    *, images: int, epochs: int, validation: int, share: float, method: str
) -> ValidationRounds | None:
    """Divide what a run can afford for validation between the rounds of a race.

    A run of ``images × epochs`` pictures, each as dear as three forward passes, can afford
    ``share / (1 - share)`` of that in forward passes of validation. A third goes to the part, which
    as many epochs are scored on as give it ``LEAST_PART`` studies. The whole split is scored as
    often as ``FOR_THE_WHOLE`` of the budget allows, once at least. Between the two, from one round
    to the next, the epochs become fewer and their parts wider by the same factors, as far as the
    rest allows.

    A run that cannot afford the whole split once exceeds its budget: by that score, which any
    chosen epoch needs, and by ``LEAST_PARTS`` of the smallest parts.

    Args:
        images: Training pictures an epoch.
        epochs: Length of the run.
        validation: Studies of the validation split.
        share: Share of a run's work that validation may take, in (0, 1).
        method: How the backbone is tuned.

    Returns:
        The division; None if the whole split can be scored after each epoch, or if a race would
        save nothing.
    """
    a_picture = A_PROBE if method == "linear" else A_STEP
    afford = share / (1 - share) * a_picture * images * epochs
    if validation * epochs <= afford or validation <= LEAST_PART:
        return None
    spare = min(afford * FOR_THE_PARTS, max(afford - validation, 0))
    scored = max(min(epochs, LEAST_PARTS), min(epochs, int(spare // LEAST_PART)))
    every = math.ceil(epochs / scored)
    scored = math.ceil(epochs / every)
    part = min(validation, max(LEAST_PART, int(spare // scored)))
    if part == validation:
        return None
    found = _race(afford, scored, every, part, validation)
    return found if found.studies(epochs, validation) < validation * epochs else None


def _race(afford: float, scored: int, every: int, part: int, validation: int) -> ValidationRounds:
    """The later rounds, for as many whole scores as leave something for those between."""
    left = afford - scored * part
    for full in range(max(1, min(scored, round(FOR_THE_WHOLE * afford / validation))), 0, -1):
        for count in range(MIDDLE, 0, -1):
            fewer = (full / scored) ** (1 / (count + 1))
            epochs = [round(scored * fewer**i) for i in range(1, count + 1)]
            if any(one <= other for one, other in itertools.pairwise([*epochs, full])):
                continue
            wider = _wider(left, epochs, full, part, validation)
            if wider >= WIDER:
                sizes = [int(part * wider**i) for i in range(1, count + 1)]
                middle = tuple(ValidationRound(*one) for one in zip(epochs, sizes, strict=True))
                return ValidationRounds(part, every, middle, full)
        whole = min(scored, int(left // (validation - part)))
        if whole > full:  # all that go on can be scored on the whole
            return ValidationRounds(part, every, (), whole)
    return ValidationRounds(part, every, (), 1)


def _wider(left: float, epochs: Sequence[int], full: int, part: int, validation: int) -> float:
    """By what factor each part can be wider than the one before; 0 if the last would be whole."""

    def cost(factor: float) -> float:
        found, seen = 0.0, float(part)
        for one in epochs:
            found += one * seen * (factor - 1)
            seen *= factor
        return found + full * (validation - seen)

    low, high = 1.0, float(validation / part) ** (1 / len(epochs))
    if cost(high) <= left:
        return 0.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(middle) <= left else (low, middle)
    return low
