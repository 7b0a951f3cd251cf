"""What validation may cost, counted in pictures and not in seconds, so that runs can be repeated.

An epoch of the study's NIH 1% task trains on 785 pictures and validates 11,219. Under a budget the
epochs race: each is scored on a small part of the validation split, the best of them at the end on
a wider part, and the best of those on the whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

A_STEP, A_PROBE = 3.0, 1.0
"""Forward passes that a picture costs in training: forward, gradients of activations, of weights
with what the optimizer does. A linear probe on augmented pictures has the first alone."""
FOR_THE_PARTS, FOR_THE_WHOLE = 1 / 3, 0.45
"""Shares of a budget that go to the parts, and at most to the whole split; the wider part has the
rest. Over ten seeds (10 to 19) of LoRA on 400 phantoms, 1,600 to validate, 20 epochs, and twelve
draws of the parts each, it lost 0.21 points against the best of all epochs, where the whole split
of epochs 10, 16 and 20 alone lost 1.13; a part of 75 or of 150 lost 0.26 and 0.38, and halving the
epochs in three or four rounds about as much as this."""
LEAST_PART, LEAST_PARTS = 32, 5
"""Studies of the smallest part, and how often a short run scores it at least. More epochs on a
small part lost less than fewer on a larger one."""
WIDER = 1.5
"""How much wider than the part the wider one has to be, to be worth it."""


@dataclass(frozen=True)
class Rounds:
    """How a run validates within a budget.

    Attributes:
        part: Studies of the part.
        every: Epochs from one score of the part to the next.
        entrants: Epochs that are scored on the wider part.
        wider: Studies of it, those of the part among them.
        full: Epochs of those that are scored on the whole split.
    """

    part: int
    every: int
    entrants: int
    wider: int
    full: int

    def scores(self, epoch: int, epochs: int) -> bool:
        """Whether an epoch, counted from 1, is scored on the part."""
        return epoch == epochs or epoch % self.every == 0

    def studies(self, epochs: int, validation: int) -> int:
        """Studies that are predicted in all.

        Args:
            epochs: Length of the run.
            validation: Studies of the validation split.
        """
        first = math.ceil(epochs / self.every) * self.part
        second = self.entrants * (self.wider - self.part)
        return first + second + self.full * (validation - self.wider)


def rounds(
    *, images: int, epochs: int, validation: int, share: float, method: str
) -> Rounds | None:
    """Divide what a run can afford for validation between the rounds of a race.

    A run of ``images × epochs`` pictures, each as dear as three forward passes, can afford
    ``share / (1 - share)`` of that in forward passes of validation. A third goes to the part, which
    as many epochs are scored on as give it ``LEAST_PART`` studies. The whole split is scored as
    often as ``FOR_THE_WHOLE`` of the budget allows, once at least; between the two as many epochs
    as lie between, by their geometric mean, are scored on as wide a part as the rest allows.

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
    found = _race(afford, scored, every, part, validation)
    saves = part < validation and found.studies(epochs, validation) < validation * epochs
    return found if saves else None


def _race(afford: float, scored: int, every: int, part: int, validation: int) -> Rounds:
    """The last rounds, for as many whole scores as leave something for the wider part."""
    left = afford - scored * part
    for full in range(max(1, min(scored, round(FOR_THE_WHOLE * afford / validation))), 0, -1):
        entrants = round(math.sqrt(scored * full))
        if entrants > full:
            wider = int((left + entrants * part - full * validation) / (entrants - full))
            if wider >= validation:  # all that go on can be scored on the whole
                entrants = min(scored, int(left // (validation - part)))
                return Rounds(part, every, entrants, part, entrants)
            if wider >= WIDER * part:
                return Rounds(part, every, entrants, wider, full)
    return Rounds(part, every, 1, part, 1)
