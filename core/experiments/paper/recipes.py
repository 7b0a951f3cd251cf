"""Recipes: settings that belong together, set at once for what a run names.

What a user gives himself always wins over the recipe, and is told.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from core.config.run import RunSpec
from core.errors import unknown_name
from core.experiments.paper import tasks

RECIPES = {
    "default": "values of the method and the backbone",
    "paper": "the paper's, for its backbones, data sets and label fractions",
}
"""Every recipe by name, with what it is."""

SETS = (
    "data.split",
    "adapter.rank",
    "adapter.alpha",
    "adapter.dropout",
    "adapter.targets",
    "train.epochs",
    "train.batch_size",
    "train.optimizer",
    "train.lr",
    "train.min_lr",
    "train.weight_decay",
    "train.momentum",
    "train.layer_decay",
    "train.warmup_epochs",
    "train.drop_path",
    "train.augmentation",
)
"""The settings that the paper's recipe decides."""


@dataclass(frozen=True)
class Followed:
    """A specification that follows a recipe.

    Attributes:
        spec: The specification.
        title: What the recipe is for: ``MRM …``; empty for the defaults.
        source: Where it comes from, as a sentence.
        values: What the recipe says, by the setting's path.
        kept: What the user gave instead: his value and the recipe's, by path.
    """

    spec: RunSpec
    title: str
    source: str
    values: dict[str, Any]
    kept: dict[str, tuple[Any, Any]]

    def __str__(self) -> str:
        """What was set, and what was not, in words."""
        if not self.values:
            return "No recipe is followed."
        told = ", ".join(
            f"{name(path)} {written(value)}"
            for path, value in self.values.items()
            if path not in self.kept
        )
        text = f"Recipe {self.title}: {told}. {self.source}"
        if self.kept:
            yours = ", ".join(
                f"{name(path)} {written(own)} instead of {written(its)}"
                for path, (own, its) in self.kept.items()
            )
            text += f" Yours is kept: {yours}."
        return text


def follow(recipe: str, spec: RunSpec, given: Collection[str] = ()) -> Followed:
    """Let a specification follow a recipe.

    Args:
        recipe: A key of ``RECIPES``.
        spec: What is asked for; backbone, data set, label fraction and method choose the recipe.
        given: Paths of the settings that the user gave himself; the recipe leaves them alone.

    Raises:
        ConfigurationError: There is no such recipe, or none for this combination; which there are
            is told.
    """
    if recipe not in RECIPES:
        raise unknown_name("recipe", recipe, RECIPES)
    if recipe == "default":
        return Followed(spec, "", "", {}, {})
    task, values = paper_values(
        spec.model.backbone, spec.data.name, spec.data.label_fraction, spec.adapter.method
    )
    kept = {
        path: (_value(spec, path), value)
        for path, value in values.items()
        if path in given and _value(spec, path) != value
    }
    sections: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        if path not in given:
            section, _, field = path.partition(".")
            sections.setdefault(section, {})[field] = value
    fields = spec.model_dump()
    changed = RunSpec.model_validate(
        {section: {**part, **sections.get(section, {})} for section, part in fields.items()}
    )
    source = task.recipes[spec.adapter.method].source
    title = f"paper ({spec.adapter.method} on {task.name})"
    return Followed(changed, title, source, values, kept)


def paper_values(
    backbone: str, data: str, fraction: float, method: str
) -> tuple[tasks.Task, dict[str, Any]]:
    """What the paper's recipe says for a combination, by the setting's path.

    Raises:
        ConfigurationError: The paper has no such task, or did not train it by this method.
    """
    task = tasks.task_of(backbone, data, fraction)
    tasks.recipe(task, method)
    spec = task.spec(method).resolved()
    unused = ("adapter.rank", "adapter.alpha", "adapter.dropout", "adapter.targets")
    return task, {
        path: _value(spec, path) for path in SETS if method == "lora" or path not in unused
    }


def name(path: str) -> str:
    """A setting's name for people."""
    return path.partition(".")[2].replace("_", " ")


def written(value: Any) -> str:
    """A setting's value for people."""
    if value is None:
        return "default"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _value(spec: RunSpec, path: str) -> Any:
    section, _, field = path.partition(".")
    return getattr(getattr(spec, section), field)
