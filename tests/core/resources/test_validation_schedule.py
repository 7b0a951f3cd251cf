"""Validation by budget: the budget is kept, or exceeded only as documented."""

import itertools
from typing import Any

import pytest

from core.resources import validation_schedule
from core.resources.validation_schedule import ValidationRound, ValidationRounds


def rounds(**changes: Any) -> ValidationRounds | None:
    settings: dict[str, Any] = {
        "images": 785, "epochs": 200, "validation": 11_219, "share": 0.2, "method": "lora",
    }  # fmt: skip
    return validation_schedule.validation_rounds(**settings | changes)


def test_a_run_that_can_afford_the_whole_split_every_epoch_has_no_parts() -> None:
    edge = 11_219 * 4 / 3
    assert rounds(images=int(edge) + 1) is None
    assert rounds(images=int(edge) - 1) is not None
    assert rounds(validation=32, images=2, epochs=3) is None, "a part would be as large"


def test_the_study_s_smallest_task_scores_a_part_each_epoch_and_the_best_in_full() -> None:
    found = rounds(epochs=100)
    assert found == ValidationRounds(
        part=196, every=1, middle=(ValidationRound(27, 618), ValidationRound(7, 1_951)), full=2
    )
    afford = 0.25 * 3 * 785 * 100
    assert 0.99 * afford < found.studies(100, 11_219) <= afford


def test_small_parts_are_scored_now_and_then() -> None:
    found = rounds(images=80, epochs=20, validation=400)
    assert found == ValidationRounds(
        part=40, every=2, middle=(ValidationRound(5, 106), ValidationRound(2, 281)), full=1
    )
    assert [epoch for epoch in range(1, 8) if found.scores(epoch, 7)] == [2, 4, 6, 7]


def test_a_very_short_run_scores_parts_and_the_whole_split_once() -> None:
    assert rounds(epochs=6) == ValidationRounds(part=32, every=2, middle=(), full=1)
    assert rounds(images=40, epochs=30, validation=700) == ValidationRounds(
        33, 5, (ValidationRound(2, 67),), 1
    )


def test_a_split_hardly_larger_than_the_smallest_part_is_scored_whole() -> None:
    afford = 0.25 * 3 * 34 * 20
    assert afford < 33 * 20, "the whole split after each epoch is too much"
    assert rounds(images=34, epochs=20, validation=33) is None


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_the_budget_is_kept_or_exceeded_by_what_is_said(share: float) -> None:
    kept, smallest = 0, validation_schedule.LEAST_PARTS * validation_schedule.LEAST_PART
    for images, epochs, validation, method in itertools.product(
        (1, 7, 40, 200, 785, 8000), (1, 2, 6, 30, 400), (129, 300, 2000, 11_219), ("linear", "lora")
    ):
        found = rounds(
            images=images, epochs=epochs, validation=validation, method=method, share=share
        )
        passes = 1 if method == "linear" else 3
        afford = share / (1 - share) * passes * images * epochs
        if found is None:
            assert validation * epochs <= max(afford, smallest + validation)
            continue
        studies = found.studies(epochs, validation)
        assert studies < validation * epochs
        left = [-(-epochs // found.every), *(one.epochs for one in found.middle), found.full]
        sizes = [found.part, *(one.studies for one in found.middle), validation]
        assert left == sorted(left, reverse=True)
        assert left[-1] >= 1
        assert sizes == sorted(set(sizes))
        assert found.part >= validation_schedule.LEAST_PART
        assert studies <= max(afford, smallest + validation)
        kept += studies <= afford
    assert kept > 10
