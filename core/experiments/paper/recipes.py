"""Recipes: sets of hyperparameters, chosen by backbone, data set, label fraction and method.

Settings that the user gave are never changed by a recipe, and are reported.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from core.config.run import RunSpec
from core.errors import unknown_name
from core.experiments.paper.tasks import Task, task_of

RECIPES = {
    "default": "defaults of the method and the backbone",
    "paper": "the paper's settings, for its backbones, data sets and label fractions",
}
"""Description of each recipe by name."""

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
"""Settings that the paper's recipe determines."""


@dataclass(frozen=True)
class Followed:
    """A specification that follows a recipe.

    Attributes:
        spec: The specification.
        title: The recipe and its task: ``paper (lora on mrm-nih-1)``; empty for the defaults.
        source: Source of the recipe, as a sentence.
        values: Values of the recipe, by the path of the setting.
        kept: Settings that the user gave instead: the user's value and the recipe's, by path.
    """

    spec: RunSpec
    title: str
    source: str
    values: dict[str, Any]
    kept: dict[str, tuple[Any, Any]]

    def __str__(self) -> str:
        """Text that lists the settings of the recipe and those of the user."""
        if not self.values:
            return "No recipe is used."
        changed = ", ".join(
            f"{name(path)} {written(value)}"
            for path, value in self.values.items()
            if path not in self.kept
        )
        text = f"Recipe {self.title}: {changed}. {self.source}"
        if self.kept:
            kept = ", ".join(
                f"{name(path)} {written(own)} instead of {written(recommended)}"
                for path, (own, recommended) in self.kept.items()
            )
            text += f" Your settings are kept: {kept}."
        return text


def follow(recipe: str, spec: RunSpec, given: Collection[str] = ()) -> Followed:
    """Set the values of a recipe in a specification.

    Args:
        recipe: A key of ``RECIPES``.
        spec: The specification; backbone, data set, label fraction and method select the recipe.
        given: Paths of the settings that the user gave; the recipe does not change them.

    Raises:
        ConfigurationError: There is no such recipe, or none for this combination; the message
            lists those that exist.
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
    title = f"paper ({spec.adapter.method} on {task.name})"
    return Followed(changed, title, task.recipe(spec.adapter.method).source, values, kept)


def paper_values(
    backbone: str, data: str, fraction: float, method: str
) -> tuple[Task, dict[str, Any]]:
    """Task and settings of the paper's recipe for a combination, by the path of the setting.

    Raises:
        ConfigurationError: The paper has no such task, or no recipe for the method.
    """
    task = task_of(backbone, data, fraction)
    task.recipe(method)  # raises an error for other methods
    spec = task.spec(method).resolved()
    unused = ("adapter.rank", "adapter.alpha", "adapter.dropout", "adapter.targets")
    return task, {
        path: _value(spec, path) for path in SETS if method == "lora" or path not in unused
    }


def name(path: str) -> str:
    """Name of a setting, for display."""
    return path.partition(".")[2].replace("_", " ")


def written(value: Any) -> str:
    """Value of a setting, for display."""
    if value is None:
        return "default"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _value(spec: RunSpec, path: str) -> Any:
    section, _, field = path.partition(".")
    return getattr(getattr(spec, section), field)
