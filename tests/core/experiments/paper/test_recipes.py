"""Recipes: what they set, what they leave to the user, and which there are."""

from __future__ import annotations

from typing import Any

import pytest

from core.config.run import RunSpec
from core.errors import ConfigurationError
from core.experiments.paper import recipes
from core.experiments.paper.tasks import PAPER_METHODS, TASKS, Task


def asked(**changes: Any) -> RunSpec:
    fields = {"model__backbone": "mrm", "data__name": "nih", "data__label_fraction": 0.01}
    return RunSpec.of(**{k.replace("__", "."): v for k, v in (fields | changes).items()})


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
@pytest.mark.parametrize("method", PAPER_METHODS)
def test_the_paper_s_recipe_is_the_paper_s_task(task: Task, method: str) -> None:
    spec = RunSpec.of(
        **{
            "model.backbone": task.backbone, "data.name": task.data,
            "data.label_fraction": task.fraction, "adapter.method": method, "train.seed": 3,
        }
    )  # fmt: skip
    found = recipes.follow("paper", spec)
    assert found.spec.resolved() == task.spec(method, seed=3).resolved()
    assert not found.kept
    assert task.name in str(found)


def test_what_was_given_is_kept_and_told() -> None:
    spec = asked(train__lr=0.1, train__epochs=100, adapter__rank=8)
    found = recipes.follow("paper", spec, {"train.lr", "train.epochs", "adapter.rank"})
    assert found.spec.train.lr == 0.1
    assert found.spec.adapter.rank == 8
    assert found.spec.train.optimizer == "sgd"
    assert set(found.kept) == {"train.lr", "adapter.rank"}  # epochs are the recipe's own
    assert "Your settings are kept: rank 8 instead of 4, lr 0.1 instead of 0.05." in str(found)


def test_what_was_not_given_is_set_even_where_it_stood_otherwise() -> None:
    assert recipes.follow("paper", asked(train__lr=0.1)).spec.train.lr == 0.05


def test_no_recipe_leaves_everything() -> None:
    spec = asked(train__lr=0.1)
    assert recipes.follow("default", spec).spec == spec


@pytest.mark.parametrize(
    ("changes", "field", "known"),
    [
        ({"model__backbone": "embedded-mae"}, "model.backbone", "mrm, cxr-mae"),
        ({"data__name": "phantom-14"}, "data.name", "nih, chexpert, rsna"),
        ({"data__label_fraction": 0.05}, "data.label_fraction", "0.01, 0.1, 1.0"),
        ({"adapter__method": "dora"}, "adapter.method", "lora and full"),
    ],
)
def test_an_unknown_combination_tells_which_exist(
    changes: dict[str, Any], field: str, known: str
) -> None:
    with pytest.raises(ConfigurationError, match="The paper has no") as caught:
        recipes.follow("paper", asked(**changes))
    assert caught.value.field == field
    assert known in caught.value.remedy


def test_an_unknown_recipe_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean paper"):
        recipes.follow("papers", asked())
