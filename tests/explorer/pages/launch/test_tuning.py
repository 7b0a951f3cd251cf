"""The tuning group of the launch form: what it offers, and the values of a recipe."""

from __future__ import annotations

from typing import Any

import pytest

from core.config.run import RunSpec
from core.experiments.paper import recipes
from core.models.tuning.registry import TUNING_METHODS
from explorer.pages.launch import form, method_table, tuning


def filled(**changed: Any) -> dict[str, Any]:
    values, _ = form.values_of(RunSpec())
    return {**values, **{path.replace("__", "."): value for path, value in changed.items()}}


PAPER = {"model__backbone": "mrm", "data__name": "nih", "data__label_fraction": 0.01}


@pytest.mark.parametrize("method", TUNING_METHODS)
def test_a_method_shows_only_its_own_settings(method: str) -> None:
    properties = tuning.option_properties(method)
    shown = {path for path in properties if properties[path]["visible"]}
    supported = {f"adapter.{name}" for name in TUNING_METHODS[method].options}
    assert shown == supported & set(tuning.PATHS)


@pytest.mark.slow
def test_only_applicable_methods_and_targets_are_offered() -> None:
    methods, targets, table = tuning.applicable(
        filled(model__backbone="timm:densenet121", model__input_size=64)
    )
    names = [name for _, name in methods["choices"]]
    assert "lora" in names
    assert not {"pissa", "vpt", "fourierft"} & set(names)
    assert [name for _, name in targets["choices"]] == ["all"]
    assert targets["value"] == "all"
    assert "PiSSA cannot tune" in table
    assert 'data-method="lora"' in table
    assert 'data-method="pissa"' not in table


def test_a_typed_pattern_is_kept() -> None:
    _, targets, _ = tuning.applicable(filled(adapter__targets=r"blocks.*\.proj"))
    assert "value" not in targets


def test_an_unknown_backbone_changes_nothing() -> None:
    assert tuning.applicable(filled(model__backbone="mrn"))[2] == ""


def test_the_paper_s_recipe_fills_the_form() -> None:
    set_to = dict(
        zip(recipes.SETS, tuning.recipe_values("paper", filled(**PAPER), None), strict=True)
    )
    assert (set_to["train.epochs"], set_to["train.optimizer"]) == (100, "sgd")
    values = {**filled(**PAPER), **set_to}
    spec = form.spec_of(values, None)
    task, _ = recipes.paper_values("mrm", "nih", 0.01, "lora")
    assert spec.resolved() == task.spec("lora").resolved()
    note = tuning.recipe_note("paper", values, None)
    assert "Set for mrm-nih-1" in note
    assert "Your values" not in note
    assert "Your values replace: epochs 100" in tuning.recipe_note(
        "paper", {**values, "train.epochs": 7}, None
    )


def test_without_a_matching_recipe_the_form_lists_those_it_has() -> None:
    note = tuning.recipe_note("paper", filled(), None)
    assert "It has: mrm, cxr-mae." in note
    assert tuning.recipe_note("default", filled(), None) == ""
    assert {type(value) for value in tuning.recipe_values("paper", filled(), None)} != {int}


def test_leaving_a_recipe_restores_the_defaults() -> None:
    values = {**filled(**PAPER), **dict(zip(recipes.SETS, tuning.default_values(), strict=True))}
    start, _ = form.values_of(RunSpec())
    assert {path: values[path] for path in recipes.SETS if path != "train.augmentation"} == {
        path: start[path] for path in recipes.SETS if path != "train.augmentation"
    }


def test_a_method_is_described_with_its_paper() -> None:
    note = method_table.note("dora")
    assert 'href="https://arxiv.org/abs/2402.09353"' in note
    assert "cannot be merged" in method_table.note("vpt")
