"""Plans that cannot work are refused in one sentence, before anything runs."""

from typing import Any

import pytest

from core.config.run import RunSpec
from core.errors import ConfigurationError, CoreError
from core.experiments.tune import plan as plans
from core.experiments.tune.plan import Plan

CONVOLUTIONS = RunSpec.of(**{"model.backbone": "timm:test_resnet"})


def made(**fields: Any) -> Plan:
    return Plan(**{"base": RunSpec(), "methods": ("lora", "full")} | fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"methods": ()}, "No method"),
        ({"methods": ("lroa",)}, "Did you mean lora"),
        ({"trials": 0}, "cannot be tuned with 0 trials"),
        ({"trials": None}, "no budget"),
        ({"trials": None, "budget": 0.0}, "in no time"),
        ({"trials": None, "budget": float("nan")}, "in no time"),
        ({"seeds": ()}, "no tuning seeds"),
        ({"final_seeds": ()}, "no final seeds"),
        ({"seeds": (0, 3), "final_seeds": (3, 4)}, "for tuning and for the final runs: 3"),
        ({"search": ("depth",)}, "Unknown setting to search"),
        ({"given": ("train.lr",)}, "no free setting"),
        ({"given": ("train.seed",)}, "one seed is given"),
        (
            {"base": RunSpec.of(**{"model.backbone": "timm:test_resnet"}), "methods": ("vpt",)},
            "resnet|prompt|transformer",
        ),
        ({"base": RunSpec.of(**{"adapter.targets": "no_such_layer"})}, "no_such_layer"),
    ],
)
def test_what_cannot_work_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(CoreError, match=words) as caught:
        plans.check(made(**fields))
    assert caught.value.remedy


def test_a_plan_is_read_as_it_was_written() -> None:
    plan = made(seeds=(0, 1), final_seeds=(5, 6), search=("lr", "rank"), given=("train.epochs",))
    assert Plan.from_json(plan.as_json()) == plan
    assert Plan.from_json(plan.as_json()).name == plan.name
    assert made(trials=9).name != made().name
    assert plan.limit == "8 trials"
    assert made(trials=1).limit == "1 trial"


def test_fresh_seeds_are_no_tuning_seeds() -> None:
    assert plans.fresh_seeds(5, (0,)) == (1, 2, 3, 4, 5)
    assert plans.fresh_seeds(3, (1, 7)) == (0, 2, 3)
    assert plans.fresh_seeds(0, (0,)) == ()


def test_durations() -> None:
    assert [plans.seconds_of(text) for text in ("90", "90s", "1.5m", "2 h")] == [90, 90, 90, 7200]
    for text in ("soon", "-5m", "3 days", ""):
        with pytest.raises(ConfigurationError, match="not a duration"):
            plans.seconds_of(text)
