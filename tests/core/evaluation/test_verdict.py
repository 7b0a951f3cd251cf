"""The verdict on two groups of runs and its sentence."""

import math

import pytest

from core.config.run import RunSpec
from core.errors import DataError
from core.evaluation.verdict import (
    Group,
    Trial,
    counterpart,
    differing,
    grouped,
    same_but_seed,
    titles,
    verdict,
)


def spec(method: str = "lora", seed: int = 0, **fields) -> RunSpec:
    return RunSpec.of(**{"adapter.method": method, "train.seed": seed, **fields})


def groups(predict, skills: dict[str, list[float]]) -> list[Group]:
    """One group a method; the skill of each seed is given."""
    trials = []
    for m, (method, each) in enumerate(skills.items()):
        for seed, skill in enumerate(each):
            folder = predict(f"{method}-{seed}", skill=skill, seed=10 * m + seed)
            trials.append(Trial(f"{method}{seed}", spec(method, seed), folder))
    return grouped(trials)


def test_a_clear_difference_is_said_with_interval_and_seeds(predict) -> None:
    lora, full = groups(predict, {"lora": [2.0, 2.05, 1.95, 2.0], "full": [1.0, 1.05, 0.95, 1.0]})
    found = verdict(lora, full, draws=300)
    assert found.evidence == "above"
    assert found.sentence.startswith("LoRA r 4 is ")
    assert "points above full fine-tuning, 95% interval" in found.sentence
    assert found.sentence.endswith("4 seeds.")
    assert any("4 of 4 seeds" in note for note in found.notes)
    back = verdict(full, lora, draws=300)
    assert back.evidence == "below"
    assert back.sentence.startswith("Full fine-tuning is ")
    assert back.difference.value == pytest.approx(-found.difference.value)
    # Seen from the side that is ahead, both sentences carry the same bounds.
    assert back.sentence.split("95%")[1] == found.sentence.split("95%")[1]


def test_seeds_that_disagree_show_no_difference(predict) -> None:
    lora, full = groups(predict, {"lora": [1.0, 1.8, 1.2], "full": [1.5, 1.1, 1.5]})
    found = verdict(lora, full, draws=100)
    assert found.evidence == "unclear"
    assert found.sentence.startswith("No clear difference")
    assert any("five or more" in note for note in found.notes)


def test_a_small_test_split_holds_the_claim_back(predict) -> None:
    trials = []
    for method, skill, noise in (("lora", 1.0, 1), ("full", 1.0, 3)):
        for seed in range(5):
            # The noise is the method's own, so that seeds agree more than patients would.
            folder = predict(f"{method}-{seed}", skill + 0.003 * seed, seed=noise, studies=60)
            trials.append(Trial(method, spec(method, seed), folder))
    found = verdict(*grouped(trials), draws=200)
    assert found.difference.low > 0 or found.difference.high < 0
    assert found.over_patients.low < 0 < found.over_patients.high
    assert found.evidence == "unclear"
    assert "but not clearly so on other patients" in found.sentence
    assert any("has only" in note for note in found.notes)


def test_one_seed_is_not_decidable_however_large_the_gap(predict) -> None:
    lora, full = groups(predict, {"lora": [2.5], "full": [0.5]})
    found = verdict(lora, full, draws=100)
    assert found.evidence == "undecided"
    assert found.sentence.startswith("Not decidable with one seed: LoRA r 4 is ")
    assert found.over_patients.low > 0
    assert math.isnan(found.difference.low)


def test_groups_without_a_common_seed_are_not_paired(predict) -> None:
    trials = [
        Trial(f"{method}{seed}", spec(method, seed), predict(f"{method}{seed}", skill, seed))
        for method, skill, seeds in (("lora", 2.0, (0, 1)), ("full", 1.0, (2, 3, 4)))
        for seed in seeds
    ]
    found = verdict(*grouped(trials), draws=100)
    assert found.seeds.count == 2
    assert any("no seed in common" in note for note in found.notes)


def test_other_studies_are_refused(predict) -> None:
    one = Trial("a", spec(), predict("a", 1.0))
    other = Trial("b", spec("full"), predict("b", 1.0, studies=100))
    with pytest.raises(DataError):
        verdict(*grouped([one, other]))


def test_groups_hold_what_differs_only_in_the_seed(tmp_path) -> None:
    trials = [
        Trial("a", spec(seed=1), tmp_path),
        Trial("b", spec("full"), tmp_path),
        Trial("c", spec(seed=0), tmp_path),
        Trial("d", spec(seed=0, **{"train.device": "cpu"}), tmp_path),
        Trial("e", spec(seed=0, **{"adapter.rank": 8}), tmp_path),
        Trial("f", spec("full", **{"adapter.rank": 8}), tmp_path),
    ]
    found = grouped(trials)
    assert [[t.id for t in group.trials] for group in found] == [["d", "a"], ["f"], ["e"]]
    assert [group.title for group in found] == ["LoRA r 4", "full fine-tuning", "LoRA r 8"]


def test_a_subset_of_its_own_seed_is_another_setting() -> None:
    free, bound = spec(seed=1), spec(seed=1, **{"data.subset_seed": 0})
    assert same_but_seed(free) == same_but_seed(spec(seed=2))
    assert same_but_seed(free) == same_but_seed(free.resolved())
    assert same_but_seed(free) != same_but_seed(bound)


def test_titles_name_what_differs_and_nothing_else() -> None:
    assert titles(
        [
            spec(**{"data.label_fraction": 0.01}),
            spec(**{"data.label_fraction": 0.1}),
            spec("linear", **{"data.label_fraction": 0.1, "model.pretrained": False}),
        ]
    ) == [
        "LoRA r 4 · 1% labels",
        "LoRA r 4 · 10% labels",
        "linear probe · 10% labels · random weights",
    ]


def test_differing_settings_tell_choices_from_consequences() -> None:
    three = [spec(), spec("full", **{"train.epochs": 20}), spec(**{"adapter.rank": 8})]
    assert {one.path: one.values for one in differing(three)}["adapter.rank"] == ("4", "–", "8")
    found = {one.path: one for one in differing(three[:2])}
    assert "adapter.rank" not in found  # full fine-tuning has no such setting
    assert found["train.epochs"].given
    assert found["adapter.method"].given
    assert not found["train.lr"].given
    assert found["train.lr"].label == "learning rate"
    chosen = differing([spec(), spec(**{"train.lr": 0.01})])
    assert [one.path for one in chosen if one.given] == ["train.lr"]
    assert differing([spec(), spec("full")])[0].path == "adapter.method"
    assert differing([spec(), spec()]) == []


def test_a_counterpart_takes_its_own_rates_but_keeps_what_was_chosen() -> None:
    chosen = spec(seed=3, **{"train.weight_decay": 0.2, "data.label_fraction": 0.05})
    for one in (chosen, chosen.resolved()):
        full = counterpart(one, "full")
        assert full.adapter.method == "full"
        assert full.resolved().train.lr == spec("full").resolved().train.lr
        assert full.resolved().train.layer_decay == 0.65
        assert full.train.weight_decay == 0.2
        assert full.data.label_fraction == 0.05
        assert full.train.seed == 3
        assert full.resolved().data.subset_seed == 3
