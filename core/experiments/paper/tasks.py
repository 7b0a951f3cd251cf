"""The study's 18 transfer tasks as specifications, with the figures that were published.

"Less Could Be Better: Parameter-efficient Fine-tuning Advances Medical Vision Foundation Models"
(Lian, Zhou, Yu, Wang; arXiv 2401.12215). ``MINIATURE`` repeats the grid with parts that need no
download, so that the claim can be looked at on a laptop.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from core.config.model import ModelSpec
from core.config.run import AdapterSpec, Augmentation, DataSpec, RunSpec, TrainSpec
from core.data.datasets.registry import DATASETS
from core.errors import ConfigurationError, unknown_name
from core.evaluation.verdict import Trial, same_but_seed
from core.models.backbones.registry import BACKBONES

TITLE = (
    "Less Could Be Better: Parameter-efficient Fine-tuning Advances Medical Vision Foundation "
    "Models"
)
REFERENCE = "Lian, Zhou, Yu, Wang · arXiv 2401.12215"
URL = "https://arxiv.org/abs/2401.12215"
UNPUBLISHED = "not published in a source we could read"

PAPER_METHODS = ("lora", "full")
SPLIT = "paper"
"""The split into training, validation and test that the study published, where it can be chosen."""
BATCH = 64
WARMUP = 5.0

CLAIMS = {
    "wins": "LoRA beats full fine-tuning in 13 of 18 transfer tasks.",
    "gain": "It does so by at most 2.9 points of AUROC.",
    "share": "In the low-label tasks it tunes under 1% of the parameters.",
    "nih": "With 1% of the labels LoRA on MRM reaches a mean AUROC of 80.6% on NIH ChestX-ray14, "
    "where full fine-tuning is at 79.4%.",
}
"""What the abstract claims, in our words; one seed, no intervals."""


@dataclass(frozen=True)
class Recipe:
    """How one method is trained on one task; None leaves a value to the specification's own.

    Attributes:
        optimizer: ``sgd`` or ``adamw``.
        lr: Peak learning rate of a batch of ``batch``.
        base: Whether ``lr`` was published as a base rate for a batch of 256.
        epochs: Length of the run.
        rank: LoRA's rank; None for full fine-tuning.
        weight_decay: Decay of matrices.
        source: Where the recipe comes from, as a sentence.
        batch: Images a step.
        warmup: Epochs of linear warm-up.
        layer_decay: Layer-wise decay of the rate.
        augmentation: How training pictures are changed.
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

    def adapter(self, method: str) -> AdapterSpec:
        """What is trained, by one of ``METHODS``."""
        chosen: dict[str, Any] = {} if self.rank is None else {"rank": self.rank}
        return AdapterSpec(method=method, **chosen)

    def train(self, seed: int = 0) -> TrainSpec:
        """How it is optimised."""
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
        recipes: How each of ``METHODS`` is trained.
        published: AUROC that the literature reports by method, 0 to 1; None where we could read
            no source.
    """

    backbone: str
    data: str
    fraction: float
    recipes: dict[str, Recipe]
    published: dict[str, float | None]

    @property
    def name(self) -> str:
        """A name for an address or a file: ``mrm-nih-1``."""
        return f"{self.backbone}-{self.data}-{self.fraction * 100:g}"

    @property
    def gain(self) -> float | None:
        """Published LoRA minus full fine-tuning, 0 to 1; None unless both are known."""
        lora, full = (self.published[method] for method in PAPER_METHODS)
        return None if lora is None or full is None else lora - full

    def spec(
        self,
        method: str = "lora",
        *,
        seed: int = 0,
        root: Path | None = None,
        weights: Path | None = None,
    ) -> RunSpec:
        """The run of this task with one of ``METHODS``.

        Args:
            method: ``lora`` or ``full``.
            seed: Seed of subset, head, order, crops.
            root: The data set's folder.
            weights: The backbone's checkpoint.

        Raises:
            ConfigurationError: The study has no such method.
        """
        if method not in PAPER_METHODS:
            raise unknown_name("method of the study", method, PAPER_METHODS, field="adapter.method")
        entry = DATASETS.get(self.data)
        split = SPLIT if entry and SPLIT in entry.splits else None
        told = self.recipes[method]
        return RunSpec(
            data=DataSpec(name=self.data, root=root, split=split, label_fraction=self.fraction),
            model=ModelSpec(backbone=self.backbone, weights=weights),
            adapter=told.adapter(method),
            train=told.train(seed),
        )

    def trials(self, method: str, completed: Iterable[Trial]) -> list[Trial]:
        """Those of the completed runs that carried out this task's recipe, whatever their seed."""
        key = recipe_key(self.spec(method))
        return [trial for trial in completed if recipe_key(trial.spec) == key]


def recipe_key(spec: RunSpec) -> str:
    """A key that is equal for runs of one recipe, whatever their seed and wherever files lie."""
    anywhere = spec.model_copy(update={"model": spec.model.model_copy(update={"weights": None})})
    return same_but_seed(anywhere)


LORA = "The study's own recipe for this task."
FULL_READ = "Published for this task."
FULL_LIKE = (
    "Optimizer, rate and decay as published for the same backbone on NIH at 1%; epochs as LoRA's "
    "on this task, because this task's own recipe was not to be read."
)

# Data set, fraction, epochs, learning rate, rank. Rates of CXR-MAE are base rates.
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
"""Mean AUROC on the test split: LoRA from the study's abstract, full fine-tuning of MRM from the
MRM paper. All others are not published in a source we could read."""


def _task(
    backbone: str, optimizer: Literal["sgd", "adamw"], row: tuple[str, float, int, float, int]
) -> Task:
    data, fraction, epochs, rate, rank = row
    adamw = optimizer == "adamw"
    scale = BATCH / 256 if adamw else 1.0
    read = (data, fraction) == ("nih", 0.01)
    full_epochs = {"mrm": 200, "cxr-mae": 400}[backbone] if read else epochs
    layers, pictures = (0.65, "randaugment") if adamw else (1.0, "crop-flip")
    common: dict[str, Any] = {"layer_decay": layers, "augmentation": pictures}
    lora = Recipe(optimizer, rate * scale, adamw, epochs, rank, None, LORA, **common)
    full = Recipe(
        optimizer,
        5e-4 * scale if adamw else 0.01,
        adamw,
        full_epochs,
        None,
        0.05 if adamw else 0.0,
        FULL_READ if read else FULL_LIKE,
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
"""Backbones that are shipped, which stand in for the study's two."""

MINIATURE_EPOCHS = {0.01: 8, 0.1: 3, 1.0: 1}
"""Passes over the labelled phantoms by label fraction, the same for both methods: some 320, 1,200
and 4,000 pictures seen. At 100% one pass over all is also the least that uses every label. So the
grid of 36 runs takes about half an hour on two cores."""

MINIATURE_SOURCE = (
    "Nothing is published for this backbone: rate, decay and schedule are this software’s, chosen "
    "on validation phantoms; the length fits a grid of 36 runs into half an hour on two cores."
)


def _small(backbone: str, data: str, fraction: float) -> Task:
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
    _small(backbone, data, fraction)
    for backbone in EMBEDDED
    for data in ("phantom-14", "phantom-5", "phantom-1")
    for fraction in MINIATURE_EPOCHS
)
"""The same questions with embedded backbones and phantom radiographs; LoRA of rank 4."""


def task(name: str) -> Task:
    """Find a task by its name.

    Raises:
        ConfigurationError: There is no such task.
    """
    known = {one.name: one for one in (*TASKS, *MINIATURE)}
    if name not in known:
        raise unknown_name("task", name, known)
    return known[name]


def recipe(task: Task, method: str) -> Recipe:
    """How the study trains one task by one method: the one source of ``--recipe paper``.

    Args:
        task: One of ``TASKS``; ``task_of`` finds it.
        method: ``lora`` or ``full``.

    Raises:
        ConfigurationError: The study has no recipe for it.
    """
    if method not in task.recipes:
        raise ConfigurationError(
            f"The study has no recipe of {method} for {task.name}.",
            f"It trained {' and '.join(task.recipes) or 'nothing'} there; choose the recipe "
            "default, or another method.",
            field="adapter.method",
        )
    return task.recipes[method]


def task_of(backbone: str, data: str, fraction: float) -> Task:
    """The study's task with this backbone, data set and label fraction.

    Raises:
        ConfigurationError: The study has no such task; ``field`` names the setting that has to
            change.
    """
    left: list[Task] = list(TASKS)
    wanted: tuple[tuple[str, str, str, str | float], ...] = (
        ("model.backbone", "backbone", "the backbone", backbone),
        ("data.name", "data", "the data set", data),
        ("data.label_fraction", "fraction", "a label fraction of", fraction),
    )
    for field, attribute, words, value in wanted:
        known = list(dict.fromkeys(getattr(one, attribute) for one in left))
        left = [one for one in left if getattr(one, attribute) == value]
        if not left:
            raise ConfigurationError(
                f"The study has no task with {words} {value}.",
                f"It has: {', '.join(map(str, known))}.",
                field=field,
            )
    return left[0]
