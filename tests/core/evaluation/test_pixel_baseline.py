"""Sentences on whether a method beats the baseline ``pixels``."""

from __future__ import annotations

import pytest

from core.config.run import RunSpec
from core.evaluation.groups import Group, Trial, same_but_seed
from core.evaluation.pixel_baseline import against_pixels, pixels_spec


@pytest.fixture
def group(predict):
    """Runs of one method with the same skill."""

    def make(method: str, skill: float, seeds: int = 5) -> Group:
        specs = [RunSpec.of(**{"adapter.method": method, "train.seed": s}) for s in range(seeds)]
        trials = [
            Trial(
                f"{method}{s}",
                spec,
                predict(f"{method}-{skill}-{s}", skill, seed=100 * s + len(method)),
            )
            for s, spec in enumerate(specs)
        ]
        return Group(
            {"lora": "LoRA r 4", "pixels": "ridge on pixels"}[method], specs[0], tuple(trials)
        )

    return make


def test_a_better_method_beats_the_pixels(group) -> None:
    text = against_pixels(group("lora", 3.0), group("pixels", 0.5))
    assert text.startswith("LoRA r 4 beats the ridge regression on 32 × 32 pixels by +")


def test_a_worse_method_does_not_beat_the_pixels(group) -> None:
    text = against_pixels(group("lora", 0.5), group("pixels", 3.0))
    assert text.startswith(
        "LoRA r 4 does not beat a ridge regression on 32 × 32 pixels, which uses no"
    )
    assert "no backbone: −" in text


def test_one_seed_shows_nothing(group) -> None:
    text = against_pixels(group("lora", 3.0, seeds=1), group("pixels", 0.5, seeds=1))
    assert text.startswith("LoRA r 4 is not shown to beat a ridge regression")
    assert text.endswith("points, which may be chance.")


def test_the_baseline_of_a_run_has_its_data_and_seed() -> None:
    run = RunSpec.of(
        **{"data.label_fraction": 0.01, "train.seed": 3, "model.backbone": "mrm", "train.epochs": 9}
    )
    baseline = pixels_spec(run)
    assert baseline.data == run.data
    other = pixels_spec(run.model_copy(update={"train": run.train.model_copy(update={"seed": 4})}))
    assert same_but_seed(baseline) == same_but_seed(other)
    assert baseline.resolved().data.subset_seed == 3
