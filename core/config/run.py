"""Specification of a run: an immutable, validated, serialisable object with a fingerprint.

The launch form, the command line, the stored JSON and the documentation are generated from the
fields of its sections. This module does not import torch.
"""

from __future__ import annotations

import hashlib
from typing import Any

from pydantic import ValidationError

from core.config.adapter import OWN, TARGETS, AdapterSpec
from core.config.data import LABEL_FRACTIONS, OPTIONS, DataSpec
from core.config.defaults import (
    BASE_RATES,
    CLOSED_FORM,
    DROPOUT,
    EMBEDDED,
    EMBEDDED_RATES,
    FROZEN_BACKBONE,
    RANKED,
    RATE_FACTORS,
    RATES_LIKE,
    WITHOUT_BACKBONE,
)
from core.config.model import ModelSpec
from core.config.section import Section
from core.config.train import SHARE, Augmentation, ResolvedTrainSpec, TrainSpec
from core.config.validation_errors import faults

__all__ = [
    "LABEL_FRACTIONS",
    "OPTIONS",
    "OWN",
    "TARGETS",
    "AdapterSpec",
    "Augmentation",
    "DataSpec",
    "ModelSpec",
    "ResolvedSpec",
    "RunSpec",
    "TrainSpec",
]


TITLES = {
    "lora": "LoRA", "full": "Full", "linear": "Linear", "attentive": "Attentive",
    "logistic": "Logistic", "knn": "k-NN", "pixels": "Pixels",
}  # fmt: skip
"""Names of methods in the title of a run; those of the others are used as they are."""

EFFECTIVE = ("seed", "device", "precision", "track")
"""Settings of the section ``train`` that also matter to a method in closed form."""


class RunSpec(Section):
    """All settings of a run."""

    data: DataSpec = DataSpec()
    model: ModelSpec = ModelSpec()
    adapter: AdapterSpec = AdapterSpec()
    train: TrainSpec = TrainSpec()

    def resolved(self) -> ResolvedSpec:
        """Fill in every setting that was left to its default, so that the store shows what ran.

        Settings without effect get their defaults: those of the optimizer and the epochs for a
        method in closed form, those of the backbone for a method without one.
        """
        train, method = self.train, self.adapter.method
        if method in CLOSED_FORM:
            train = _without_optimizer(train, precise=method in WITHOUT_BACKBONE)
        model = ModelSpec() if method in WITHOUT_BACKBONE else self.model
        adamw, embedded = train.optimizer == "adamw", model.backbone.startswith(EMBEDDED)
        rates_of = RATES_LIKE.get(method, method)
        base = BASE_RATES.get((rates_of, train.optimizer), BASE_RATES["lora", train.optimizer])
        if embedded and adamw:
            base = EMBEDDED_RATES.get(rates_of, EMBEDDED_RATES["lora"])
        base *= RATE_FACTORS.get(method, 1.0)
        plain = embedded or method in FROZEN_BACKBONE
        defaults: dict[str, Any] = {
            "lr": base * train.batch_size / 256,
            "weight_decay": 0.05 if adamw else 0.0,
            "layer_decay": 0.65 if adamw and method == "full" else 1.0,
            "warmup_epochs": min(5.0, train.epochs / 10),
            "augmentation": "none" if plain and train.augmented_copies is None else "crop-flip",
        }
        if not (train.crop or train.flip):
            defaults["augmentation"] = "none"
        filled = {name: value for name, value in defaults.items() if getattr(train, name) is None}
        # Switches without an effect get their default, so that equal runs have one fingerprint.
        augmentation = filled.get("augmentation", train.augmentation)
        if augmentation == "none":
            filled |= {"crop": True, "flip": True}
        if augmentation != "randaugment":
            filled["erase"] = True
        seed = self.data.subset_seed
        data = self.data.model_copy(update={"subset_seed": train.seed if seed is None else seed})
        adapter = self.adapter.filled()
        if adapter.dropout is None:
            dropout = 0.0 if embedded else DROPOUT
            adapter = adapter.model_copy(update={"dropout": dropout})
        # Every value was validated where it was given, so that no second validation is needed.
        return ResolvedSpec.model_construct(
            data=data,
            model=model,
            adapter=adapter,
            train=ResolvedTrainSpec.model_construct(**dict(train) | filled),
        )

    def without_effect(self) -> frozenset[str]:
        """Dotted names of the settings without effect for the method of this run.

        These are the settings of the optimizer and the epochs for a method in closed form, and
        those of the backbone for a method without one.
        """
        paths: set[str] = set()
        if self.adapter.method in CLOSED_FORM:
            paths |= {f"train.{name}" for name in TrainSpec.model_fields if name not in EFFECTIVE}
        if self.adapter.method in WITHOUT_BACKBONE:
            paths |= {f"model.{name}" for name in ModelSpec.model_fields}
        return frozenset(paths)

    def without(self, *paths: str) -> RunSpec:
        """The same specification with some settings, given by dotted names, left open again."""
        values = self.model_dump()
        for path in paths:
            section, _, name = path.partition(".")
            values[section].pop(name, None)
        return RunSpec.model_validate(values)

    def fingerprint(self) -> str:
        """Hash of the resolved specification: 16 hexadecimal digits, equal for equal runs.

        Runs on two editions of the phantoms have different fingerprints.
        """
        # Display names and trackers do not change what a run computes.
        ignored: dict[str, Any] = {"track": None}
        if self.train.validation == "every-epoch":
            ignored["validation_share"] = SHARE
        hashed = {
            "data": self.data.model_copy(update={"called": None}),
            "train": self.train.model_copy(update=ignored),
        }
        text = self.model_copy(update=hashed).resolved().to_json()
        edition = self.data.edition()
        if edition is not None:
            text += f" edition {edition}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """The specification as canonical JSON, which ``from_json`` reads."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str) -> RunSpec:
        """Read what ``to_json`` wrote.

        Raises:
            ConfigurationError: The text is not a valid specification; all errors are listed.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise faults(error) from error

    @classmethod
    def of(cls, **fields: Any) -> RunSpec:
        """Build a specification from dotted names, as the launch form and the command line do.

        Args:
            **fields: Values by dotted name (``{"data.name": "nih", "adapter.rank": 8}``).

        Raises:
            ConfigurationError: A value is not valid; all errors are listed, ``field`` is the first.
        """
        nested: dict[str, dict[str, Any]] = {}
        for dotted, value in fields.items():
            section, _, name = dotted.partition(".")
            nested.setdefault(section, {})[name] = value
        try:
            return cls.model_validate(nested)
        except ValidationError as error:
            raise faults(error) from error

    def title(self) -> str:
        """A short display name: ``LoRA r 4 · embedded-mae · phantom-14 10% · seed 0``."""
        adapter = self.adapter
        method = TITLES.get(adapter.method, adapter.method)
        if adapter.method in RANKED:
            method += f" r {adapter.rank}"
        if adapter.head is not None:
            method += f", {adapter.head} head"
        if adapter.method in WITHOUT_BACKBONE:
            return f"{method} · {self.data.title()} · seed {self.train.seed}"
        start = self.model.backbone if self.model.pretrained else f"random {self.model.backbone}"
        if adapter.combined:
            return f"{adapter.kind().capitalize()} runs · {start} · {self.data.title()}"
        if adapter.imported:
            return f"{method}, imported · {start} · {self.data.name}"
        return f"{method} · {start} · {self.data.title()} · seed {self.train.seed}"


def _without_optimizer(train: TrainSpec, *, precise: bool) -> TrainSpec:
    """The settings that matter to a method in closed form; the others get their defaults."""
    kept = {name: getattr(train, name) for name in EFFECTIVE}
    return TrainSpec(**kept | {"epochs": 1} | ({"precision": "fp32"} if precise else {}))


class ResolvedSpec(RunSpec):
    """A specification in which every default is filled in; made by ``RunSpec.resolved``.

    Its JSON and fingerprint are those of the specification it was made from.
    """

    train: ResolvedTrainSpec
