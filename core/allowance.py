"""What validation may cost, counted in pictures and not in seconds, so that runs can be repeated.

An epoch of the study's NIH 1% task trains on 785 pictures and validates 11,219. Under a budget, a
run is cut into stretches of epochs. One epoch of each is scored on the whole validation split: the
one that was best on a part of it, or, where there are no parts, the last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

A_STEP, A_PROBE = 3.0, 1.0
"""Forward passes that a picture costs in training: forward, gradients of activations, of weights
with what the optimizer does. A linear probe on augmented pictures has the first alone."""
FOR_THE_WHOLE = 2 / 3
"""Share of a budget that goes to the whole split, where parts take the rest."""
LEAST_PART, LEAST_PARTS = 128, 5
"""Studies of the smallest part, and how often a short run scores it at least. Fewer studies would
not tell one epoch from another."""
LEAST_WHOLES = 2
"""Scores of the whole split from which on a run needs no parts."""
GROWTH = 0.6
"""Stretch k of n ends after this power of k/n of the epochs: with three, after 52%, 78% and 100%.
Over ten seeds of 20 epochs (LoRA on 80 pictures of ``phantom-5`` when it was easier; the README has
what came of it since) three of equal length lost 0.21 points against the best of all epochs, and
these 0.10."""
LEAST_STRETCH = 5
"""Epochs of a stretch that are worth telling apart by parts."""


@dataclass(frozen=True)
class Rounds:
    """How a run validates within a budget.

    Attributes:
        part: Most studies of the part; 0 if none is scored.
        every: Epochs from one score of the part to the next.
        full: Stretches, in each of which one epoch is scored on the whole split.
    """

    part: int
    every: int
    full: int

    def ends(self, epochs: int) -> list[int]:
        """The last epoch of each stretch, counted from 1, rising to the run's own last.

        Stretches grow shorter (``GROWTH``): the early epochs are rarely a run's best.

        Args:
            epochs: Length of the run, at least as many as there are stretches.
        """
        found = [epochs]
        for k in range(self.full - 1, 0, -1):
            found.append(max(k, min(found[-1] - 1, round(epochs * (k / self.full) ** GROWTH))))
        return found[::-1]

    def studies(self, epochs: int, validation: int) -> int:
        """Studies that are predicted in all.

        Args:
            epochs: Length of the run.
            validation: Studies of the validation split.
        """
        return -(-epochs // self.every) * self.part + self.full * validation


def rounds(
    *, images: int, epochs: int, validation: int, share: float, method: str
) -> Rounds | None:
    """Divide what a run can afford for validation between the whole split and parts of it.

    A run of ``images × epochs`` pictures, each as dear as three forward passes, can afford
    ``share / (1 - share)`` of that in forward passes of validation. Two thirds go to the whole
    split and the rest to a part that is scored after each epoch. Where such parts would be too
    small to tell anything, or the stretches too short, all goes to the whole split; where it could
    not be scored twice, a part is scored now and then, and the whole once at the end.

    That last kind of run alone may exceed its budget: by the one score of the whole split, which
    any chosen epoch needs, and by ``LEAST_PARTS`` of the smallest parts.

    Args:
        images: Training pictures an epoch.
        epochs: Length of the run.
        validation: Studies of the validation split.
        share: Share of a run's work that validation may take, in (0, 1).
        method: How the backbone is tuned.

    Returns:
        The division; None if the whole split can be scored after each epoch, or if parts of it
        would save nothing.
    """
    a_picture = A_PROBE if method == "linear" else A_STEP
    afford = share / (1 - share) * a_picture * images * epochs
    whole = validation * epochs
    if whole <= afford:
        return None
    full = int(afford * FOR_THE_WHOLE // validation)
    part = int((afford - full * validation) // epochs)
    found = Rounds(part, 1, full)
    if full < LEAST_WHOLES or part < LEAST_PART or full * LEAST_STRETCH > epochs:
        found = _without_parts(afford, epochs, validation)
    saves = found.part < validation and found.studies(epochs, validation) < whole
    return found if saves else None


def _without_parts(afford: float, epochs: int, validation: int) -> Rounds:
    full = int(afford // validation)
    if full >= LEAST_WHOLES:
        return Rounds(0, 1, full)
    scored = max(min(epochs, LEAST_PARTS), int((afford - validation) // LEAST_PART))
    return Rounds(LEAST_PART, math.ceil(epochs / scored), 1)
