"""The paper's 18 transfer tasks as specifications, with the published AUROCs.

"Less Could Be Better: Parameter-efficient Fine-tuning Advances Medical Vision Foundation Models"
(Lian, Zhou, Yu, Wang; arXiv 2401.12215). ``MINIATURE`` repeats the grid with backbones and phantoms
that need no download, so that the claims can be examined on a laptop.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from core.config.model import ModelSpec
from core.config.run import AdapterSpec, Augmentation, DataSpec, RunSpec, TrainSpec
from core.data.datasets.registry import DATASETS
from core.errors import ConfigurationError, unknown_name
from core.models.backbones.registry import BACKBONES

TITLE = (
    "Less Could Be Better: Parameter-efficient Fine-tuning Advances Medical Vision Foundation "
    "Models"
)
REFERENCE = "Lian, Zhou, Yu, Wang · arXiv 2401.12215"
URL = "https://arxiv.org/abs/2401.12215"
UNPUBLISHED = "not published in a source available to us"

Kind = Literal["published", "assumed", "tuned"]
"""Whether a recipe is printed by the study, assumed here, or tuned here on validation data."""

PAPER_METHODS = ("lora", "full")
SPLIT = "paper"
"""Name of the paper's split into training, validation and test, for data sets that have several."""
BATCH = 64
WARMUP = 5.0

CLAIMS = {
    "wins": "LoRA beats full fine-tuning in 13 of 18 transfer tasks.",
    "gain": "It does so by at most 2.9 points of AUROC.",
    "share": "In the low-label tasks it tunes under 1% of the parameters.",
    "nih": "With 1% of the labels LoRA on MRM reaches a mean AUROC of 80.6% on NIH ChestX-ray14, "
    "where full fine-tuning is at 79.4%.",
}
"""The claims of the abstract, in our words. The paper used one seed and gives no intervals."""


@dataclass(frozen=True)
class Recipe:
    """Training recipe of one method on one task; None keeps the default of the specification.

    Attributes:
        optimizer: ``sgd`` or ``adamw``.
        lr: Peak learning rate for a batch size of ``batch``.
        base: Whether ``lr`` was published as a base rate for a batch size of 256.
        epochs: Number of epochs.
        rank: LoRA's rank; None for full fine-tuning.
        weight_decay: Weight decay of matrices.
        source: Source of the recipe, as a sentence.
        batch: Images per step.
        warmup: Epochs of linear warm-up.
        layer_decay: Layer-wise decay of the learning rate.
        augmentation: Augmentation of training images.
        kind: Whether it is published, assumed or tuned.
    """

    optimizer: Literal["sgd", "adamw"]
    lr: float | None
    base: bool
    epochs: int
    rank: int | None
    weight_decay: float | None
    source: str
    batch: int = BATCH
    warmup: float | None = WARMUP
    layer_decay: float | None = None
    augmentation: Augmentation | None = None
    kind: Kind = "assumed"

    def adapter(self, method: str) -> AdapterSpec:
        """Adapter section of a run with one of ``PAPER_METHODS``."""
        chosen: dict[str, Any] = {} if self.rank is None else {"rank": self.rank}
        return AdapterSpec(method=method, **chosen)

    def train(self, seed: int = 0) -> TrainSpec:
        """Training section of a run."""
        return TrainSpec(
            epochs=self.epochs,
            batch_size=self.batch,
            optimizer=self.optimizer,
            lr=self.lr,
            weight_decay=self.weight_decay,
            layer_decay=self.layer_decay,
            warmup_epochs=self.warmup,
            augmentation=self.augmentation,
            seed=seed,
        )


@dataclass(frozen=True)
class Task:
    """One transfer task: a backbone, a data set and a label fraction.

    Attributes:
        backbone: Name of the backbone.
        data: Name of the data set.
        fraction: Label fraction, in (0, 1].
        recipes: Recipe of each of ``PAPER_METHODS``.
        published: Published AUROC by method, 0 to 1; None where no source was available to us.
    """

    backbone: str
    data: str
    fraction: float
    recipes: dict[str, Recipe]
    published: dict[str, float | None]

    @property
    def name(self) -> str:
        """Name in addresses and files: ``mrm-nih-1``."""
        return f"{self.backbone}-{self.data}-{self.fraction * 100:g}"

    @property
    def gain(self) -> float | None:
        """Published LoRA minus full fine-tuning, 0 to 1; None unless both are known."""
        lora, full = (self.published[method] for method in PAPER_METHODS)
        return None if lora is None or full is None else lora - full

    def recipe(self, method: str) -> Recipe:
        """The paper's recipe for this task.

        Args:
            method: ``lora`` or ``full``.

        Raises:
            ConfigurationError: The paper has no recipe for the method.
        """
        if method not in self.recipes:
            raise ConfigurationError(
                f"The paper has no recipe for {method} on {self.name}.",
                f"It has recipes for {' and '.join(self.recipes)}; choose the recipe default, or "
                "another method.",
                field="adapter.method",
            )
        return self.recipes[method]

    def tuned(self, method: str, rate: float, source: str) -> Task:
        """The same task with a tuned learning rate for one method.

        Args:
            method: One of ``PAPER_METHODS``.
            rate: Peak learning rate for the recipe's batch size.
            source: How it was tuned, as a sentence.
        """
        recipe = replace(self.recipes[method], lr=rate, kind="tuned", source=source)
        return replace(self, recipes=self.recipes | {method: recipe})

    def spec(
        self,
        method: str = "lora",
        *,
        seed: int = 0,
        root: Path | None = None,
        weights: Path | None = None,
    ) -> RunSpec:
        """Specification of a run of this task.

        Args:
            method: ``lora`` or ``full``.
            seed: Seed of the labelled subset, the head, the order of images and the augmentation.
            root: Folder of the data set.
            weights: Checkpoint of the backbone.

        Raises:
            ConfigurationError: The paper has no such method.
        """
        if method not in PAPER_METHODS:
            raise unknown_name("method of the paper", method, PAPER_METHODS, field="adapter.method")
        entry = DATASETS.get(self.data)
        split = SPLIT if entry and SPLIT in entry.splits else None
        recipe = self.recipes[method]
        return RunSpec(
            data=DataSpec(name=self.data, root=root, split=split, label_fraction=self.fraction),
            model=ModelSpec(backbone=self.backbone, weights=weights),
            adapter=recipe.adapter(method),
            train=recipe.train(seed),
        )


LORA = "The paper's own recipe for this task."
FULL_PUBLISHED = "Published for this task."
FULL_DERIVED = (
    "Optimizer, learning rate and weight decay as published for the same backbone on NIH at 1%; "
    "epochs as for LoRA on this task, because the recipe of this task was not available to us."
)

# Data set, fraction, epochs, learning rate, rank. Learning rates of CXR-MAE are base rates.
MRM_LORA = (
    ("nih", 0.01, 100, 0.05, 4),
    ("nih", 0.1, 100, 0.05, 8),
    ("nih", 1.0, 100, 0.2, 32),
    ("chexpert", 0.01, 100, 0.02, 4),
    ("chexpert", 0.1, 100, 0.05, 16),
    ("chexpert", 1.0, 100, 0.01, 32),
    ("rsna", 0.01, 100, 0.01, 4),
    ("rsna", 0.1, 100, 0.01, 32),
    ("rsna", 1.0, 100, 0.01, 32),
)
CXR_MAE_LORA = (
    ("nih", 0.01, 400, 3e-3, 4),
    ("nih", 0.1, 200, 1e-3, 8),
    ("nih", 1.0, 100, 3e-3, 32),
    ("chexpert", 0.01, 400, 3e-3, 4),
    ("chexpert", 0.1, 100, 5e-3, 8),
    ("chexpert", 1.0, 100, 3e-3, 32),
    ("rsna", 0.01, 100, 3e-3, 4),
    ("rsna", 0.1, 100, 5e-3, 8),
    ("rsna", 1.0, 100, 5e-3, 32),
)
PUBLISHED: dict[tuple[str, str, float, str], float] = {
    ("mrm", "nih", 0.01, "lora"): 0.806,
    ("mrm", "nih", 0.01, "full"): 0.794,
    ("mrm", "nih", 0.1, "full"): 0.840,
    ("mrm", "nih", 1.0, "full"): 0.859,
    ("mrm", "chexpert", 0.01, "full"): 0.885,
    ("mrm", "chexpert", 0.1, "full"): 0.885,
    ("mrm", "chexpert", 1.0, "full"): 0.887,
    ("mrm", "rsna", 0.01, "full"): 0.913,
    ("mrm", "rsna", 0.1, "full"): 0.927,
    ("mrm", "rsna", 1.0, "full"): 0.933,
}
"""Mean test AUROC: LoRA from the paper's abstract, full fine-tuning of MRM from the MRM paper. The
others are not published in a source available to us."""


def _task(
    backbone: str, optimizer: Literal["sgd", "adamw"], row: tuple[str, float, int, float, int]
) -> Task:
    data, fraction, epochs, rate, rank = row
    adamw = optimizer == "adamw"
    scale = BATCH / 256 if adamw else 1.0
    published_full = (data, fraction) == ("nih", 0.01)
    full_epochs = {"mrm": 200, "cxr-mae": 400}[backbone] if published_full else epochs
    layer_decay, augmentation = (0.65, "randaugment") if adamw else (1.0, "crop-flip")
    common: dict[str, Any] = {"layer_decay": layer_decay, "augmentation": augmentation}
    lora = Recipe(
        optimizer, rate * scale, adamw, epochs, rank, None, LORA, kind="published", **common
    )
    full = Recipe(
        optimizer,
        5e-4 * scale if adamw else 0.01,
        adamw,
        full_epochs,
        None,
        0.05 if adamw else 0.0,
        FULL_PUBLISHED if published_full else FULL_DERIVED,
        kind="published" if published_full else "assumed",
        **common,
    )
    published = {
        method: PUBLISHED.get((backbone, data, fraction, method)) for method in PAPER_METHODS
    }
    return Task(backbone, data, fraction, {"lora": lora, "full": full}, published)


TASKS: tuple[Task, ...] = (
    *(_task("mrm", "sgd", row) for row in MRM_LORA),
    *(_task("cxr-mae", "adamw", row) for row in CXR_MAE_LORA),
)
"""The 18 tasks: two backbones, three data sets, three label fractions."""

EMBEDDED = tuple(name for name, card in BACKBONES.items() if card.source == "embedded")
"""Backbones shipped with the software, in place of the paper's two."""

MINIATURE_EPOCHS = {0.01: 8, 0.1: 3, 1.0: 1}
"""Epochs by label fraction, the same for both methods: about 320, 1,200 and 4,000 images. At 100%,
one epoch is the minimum that uses every label. The grid of 36 runs so takes about half an hour on
two cores."""

MINIATURE_SOURCE = (
    "No recipe is published for this backbone: learning rate, weight decay and schedule are "
    "defaults of this software, chosen on validation phantoms; with this number of epochs, a grid "
    "of 36 runs takes half an hour on two cores."
)


def _miniature_task(backbone: str, data: str, fraction: float) -> Task:
    recipes = {
        method: Recipe(
            "adamw",
            None,
            True,
            MINIATURE_EPOCHS[fraction],
            4 if method == "lora" else None,
            None,
            MINIATURE_SOURCE,
            batch=16,
            warmup=None,
        )
        for method in PAPER_METHODS
    }
    return Task(backbone, data, fraction, recipes, dict.fromkeys(PAPER_METHODS))


MINIATURE: tuple[Task, ...] = tuple(
    _miniature_task(backbone, data, fraction)
    for backbone in EMBEDDED
    for data in ("phantom-14", "phantom-5", "phantom-1")
    for fraction in MINIATURE_EPOCHS
)
"""The same tasks with embedded backbones and phantom radiographs; LoRA has rank 4."""


def find_task(name: str) -> Task:
    """Find a task by its name.

    Raises:
        ConfigurationError: There is no such task.
    """
    known = {task.name: task for task in (*TASKS, *MINIATURE)}
    if name not in known:
        raise unknown_name("task", name, known)
    return known[name]


def task_of(backbone: str, data: str, fraction: float) -> Task:
    """The paper's task with this backbone, data set and label fraction.

    Raises:
        ConfigurationError: The paper has no such task; ``field`` names the setting to change.
    """
    tasks: list[Task] = list(TASKS)
    criteria: tuple[tuple[str, str, str, str | float], ...] = (
        ("model.backbone", "backbone", "the backbone", backbone),
        ("data.name", "data", "the data set", data),
        ("data.label_fraction", "fraction", "a label fraction of", fraction),
    )
    for field, attribute, description, value in criteria:
        known = list(dict.fromkeys(getattr(task, attribute) for task in tasks))
        tasks = [task for task in tasks if getattr(task, attribute) == value]
        if not tasks:
            raise ConfigurationError(
                f"The paper has no task with {description} {value}.",
                f"It has: {', '.join(map(str, known))}.",
                field=field,
            )
    return tasks[0]
