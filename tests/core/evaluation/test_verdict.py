"""The verdict on two groups of runs and its sentence."""

import math

import numpy as np
import pytest

from core.config.run import RunSpec
from core.errors import DataError
from core.evaluation.groups import (
    Group,
    Trial,
    counterpart,
    differing,
    grouped,
    same_but_seed,
    titles,
)
from core.evaluation.verdict import about_chance, decide, measure, verdict
from core.metrics.intervals import holm
from core.metrics.patient_intervals import MIN_PATIENTS


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
    found = verdict(lora, full)
    assert found.evidence == "above"
    assert found.sentence.startswith("LoRA r 4 is ")
    assert "points above full fine-tuning, 95% interval" in found.sentence
    assert found.sentence.endswith("4 seeds.")
    assert any("4 of 4 seeds" in note for note in found.notes)
    back = verdict(full, lora)
    assert back.evidence == "below"
    assert back.sentence.startswith("Full fine-tuning is ")
    assert back.difference.value == pytest.approx(-found.difference.value)
    # Seen from the side that is ahead, both sentences carry the same bounds.
    assert back.sentence.split("95%")[1] == found.sentence.split("95%")[1]


def test_seeds_that_disagree_show_no_difference(predict) -> None:
    lora, full = groups(predict, {"lora": [1.0, 1.8, 1.2], "full": [1.5, 1.1, 1.5]})
    found = verdict(lora, full)
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
    found = verdict(*grouped(trials))
    seeds = found.test.seeds.difference
    assert seeds.low > 0 or seeds.high < 0
    assert found.difference.low < 0 < found.difference.high
    assert found.evidence == "unclear"
    assert found.sentence.startswith("No clear difference: ")
    assert any("has only" in note for note in found.notes)


def test_verdicts_that_are_shown_together_are_corrected(predict) -> None:
    names = {"full": 1.0, "lora": 1.0, "linear": 1.0, "bitfit": 1.6}
    each = groups(
        predict, {name: [skill + 0.02 * s for s in range(5)] for name, skill in names.items()}
    )
    measured = [measure(group, each[0]) for group in each[1:]]
    together, alone = decide(measured), [decide([one])[0] for one in measured]
    assert [v.p for v in together] == holm([v.p for v in alone]).tolist()
    assert [v.level for v in alone] == [0.95] * 3
    best = together[2]
    assert best.evidence == "above"
    assert best.level == pytest.approx(1 - 0.05 / 3)
    assert "98.3% interval" in best.sentence
    for v in together:
        excluded = not v.difference.low < 0 < v.difference.high
        assert excluded == (v.p < 0.05) == (v.evidence != "unclear")
    assert "Corrected for 3 comparisons" in about_chance(together)
    assert "0.2 of the 3" in about_chance(together)
    assert not about_chance(alone[:1])


def test_two_seeds_decide_nothing(predict) -> None:
    lora, full = groups(predict, {"lora": [2.5, 2.4], "full": [0.5, 0.4]})
    found = verdict(lora, full)
    assert found.evidence == "undecided"
    assert found.sentence.startswith("Not decidable with 2 seeds: LoRA r 4 is ")


def test_methods_without_a_seed_are_compared_over_patients(predict) -> None:
    folders = {"lora": predict("lora", 2.0, seed=1), "full": predict("full", 1.0, seed=2)}
    trials = [
        Trial(f"{name}{seed}", spec(name, seed), folder)
        for name, folder in folders.items()
        for seed in range(3)
    ]
    found = verdict(*grouped(trials))
    assert found.evidence == "above"
    assert found.difference == found.over_patients
    assert any("Neither depends on the seed" in note for note in found.notes)


def test_default_learning_rates_are_named_as_not_tuned(predict) -> None:
    trials = [
        Trial(name, one, predict(name, 1.0, seed=seed))
        for seed, (name, one) in enumerate(
            {
                "lora": spec(),
                "full": spec("full", **{"train.lr": 0.01}),
                "pixels": spec("pixels"),
            }.items()
        )
    ]
    lora, full, pixels = grouped(trials)
    (note,) = [note for note in verdict(lora, full).notes if "not tuned" in note]
    assert note.startswith("The learning rate of LoRA r 4")
    assert "and of" not in note
    assert not any("not tuned" in note for note in verdict(full, pixels).notes)


def test_findings_of_few_patients_are_left_out_and_named(predict) -> None:
    lora, full = groups(predict, {"lora": [2.0] * 3, "full": [1.0] * 3})
    for trial in (*lora.trials, *full.trials):
        file = trial.folder / "predictions" / "test.npz"
        with np.load(file) as stored:
            values = dict(stored)
        positive = sorted(values["ids"][values["labels"][:, 0] == 1])[: MIN_PATIENTS - 1]
        values["labels"][:, 0] = np.isin(values["ids"], positive)
        np.savez(file, **values)
    found = verdict(lora, full)
    name = str(values["findings"][0])
    assert any("Left out" in note and name in note for note in found.notes)
    assert not found.test.patients.findings[0]
    assert found.test.patients.findings[1]


def test_one_seed_is_not_decidable_however_large_the_gap(predict) -> None:
    lora, full = groups(predict, {"lora": [2.5], "full": [0.5]})
    found = verdict(lora, full)
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
    found = verdict(*grouped(trials))
    assert found.test.seeds.count == 2
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


def test_the_folds_of_a_seed_count_as_one_model(predict, tmp_path) -> None:
    trials, whole = [], []
    for method, skill in (("lora", 2.0), ("full", 1.0)):
        for seed in range(3):
            folder = predict(f"{method}-{seed}", skill=skill, seed=seed + 10 * (method == "full"))
            whole.append(Trial(f"{method}{seed}", spec(method, seed), folder))
            for k in (2, 1, 3):
                part = tmp_path / f"{method}-{seed}-{k}"
                for split in ("val", "test"):
                    with np.load(folder / "predictions" / f"{split}.npz") as file:
                        values = dict(file)
                    inside = np.array([int(p[1:]) % 3 == k - 1 for p in values["patients"]])
                    names = {name: v if name == "findings" else v[inside]
                             for name, v in values.items()}  # fmt: skip
                    (part / "predictions").mkdir(parents=True, exist_ok=True)
                    np.savez(part / "predictions" / f"{split}.npz", **names)
                fold = spec(method, seed, **{"data.fold": f"{k}/3"})
                trials.append(Trial(f"{method}{seed}{k}", fold, part))
    lora, full = joined = grouped(trials)
    assert [group.title for group in joined] == ["LoRA r 4", "full fine-tuning"]
    assert [[len(trial.folders) for trial in group.trials] for group in joined] == [[3] * 3] * 2
    assert [path.name for path in lora.trials[0].folders] == [f"lora-0-{k}" for k in (1, 2, 3)]
    folds, one = verdict(lora, full), verdict(*grouped(whole))
    assert folds.sentence == one.sentence
    assert folds.difference.value == pytest.approx(one.difference.value)
    assert "Out-of-fold predictions of 3 folds, joined per seed." in folds.notes
    assert not any("fold" in note for note in one.notes)
    # A seed without all folds is left out, and so is a group without such a seed.
    assert [len(group.trials) for group in grouped(trials[1:])] == [2, 3]
    assert [group.spec.adapter.method for group in grouped(trials[7:])] == ["full"]
