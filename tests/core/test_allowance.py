"""What validation may cost: the budget is kept, or exceeded by no more than is said."""

import itertools
from typing import Any

import pytest

from core import allowance
from core.allowance import Rounds


def rounds(**changes: Any) -> Rounds | None:
    settings: dict[str, Any] = {
        "images": 785, "epochs": 200, "validation": 11_219, "share": 0.2, "method": "lora",
    }  # fmt: skip
    return allowance.rounds(**settings | changes)


def test_a_run_that_can_afford_the_whole_split_every_epoch_has_no_parts() -> None:
    edge = 11_219 * 4 / 3
    assert rounds(images=int(edge) + 1) is None
    assert rounds(images=int(edge) - 1) is not None
    assert rounds(validation=100, images=2, epochs=3) is None, "parts would be larger"


def test_the_study_s_smallest_task_scores_a_part_each_epoch_and_some_in_full() -> None:
    found = rounds()
    assert found is not None
    assert (found.every, found.full) == (1, 6)
    assert found.part > 200
    afford = 0.25 * 3 * 785 * 200
    assert 0.99 * afford < found.studies(200, 11_219) <= afford


def test_short_stretches_and_small_parts_give_way_to_the_whole_split() -> None:
    assert rounds(images=120, epochs=20, validation=440) == Rounds(0, 1, 4)
    short = rounds(images=11_000, epochs=20)
    assert short is not None
    assert (short.part, short.full) == (0, 14)


def test_a_very_short_run_scores_parts_and_the_whole_split_once() -> None:
    assert rounds(epochs=6) == Rounds(128, 2, 1)
    assert rounds(images=40, epochs=30, validation=700) == Rounds(128, 6, 1)


@pytest.mark.parametrize("epochs", [1, 2, 5, 7, 20, 200])
def test_each_stretch_ends_once_later_ones_are_shorter_and_the_last_epoch_ends_one(
    epochs: int,
) -> None:
    for full in range(1, min(epochs, 30) + 1):
        ends = Rounds(128, 1, full).ends(epochs)
        assert len(set(ends)) == full
        assert ends == sorted(ends)
        assert ends[-1] == epochs
        lengths = [b - a for a, b in itertools.pairwise([0, *ends])]
        assert min(lengths) >= 1
        assert all(b <= a + 1 for a, b in itertools.pairwise(lengths)), "but for rounding"
    assert Rounds(0, 1, 3).ends(20) == [10, 16, 20]


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_the_budget_is_kept_or_exceeded_by_what_is_said(share: float) -> None:
    kept, smallest = 0, allowance.LEAST_PARTS * allowance.LEAST_PART
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
        assert 1 <= found.full <= epochs
        assert found.part == 0 or allowance.LEAST_PART <= found.part < validation
        assert found.part or found.full >= allowance.LEAST_WHOLES
        assert studies <= max(afford, smallest + validation)
        kept += studies <= afford
    assert kept > 10
