"""What a run is: one frozen, validated, serialisable description with a fingerprint.

The launch form, the command line, the stored JSON and the documentation all come from the fields
of its sections. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
from typing import Any

from pydantic import ValidationError

from core.config.adapter import OWN, TARGETS, AdapterSpec
from core.config.data import LABEL_FRACTIONS, OPTIONS, DataSpec
from core.config.defaults import (
    BASE_RATES,
    DROPOUT,
    EMBEDDED,
    EMBEDDED_RATES,
    RANKED,
    RATE_FACTORS,
    RATES_LIKE,
)
from core.config.model import ModelSpec
from core.config.section import Section
from core.config.train import SHARE, Augmentation, TrainSpec
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
    "RunSpec",
    "TrainSpec",
    "faults",
]


class RunSpec(Section):
    """Everything that decides what a run computes."""

    data: DataSpec = DataSpec()
    model: ModelSpec = ModelSpec()
    adapter: AdapterSpec = AdapterSpec()
    train: TrainSpec = TrainSpec()

    def resolved(self) -> RunSpec:
        """Fill in each value that was left to its default, so that the store says what ran."""
        train, method = self.train, self.adapter.method
        adamw, embedded = train.optimizer == "adamw", self.model.backbone.startswith(EMBEDDED)
        like = RATES_LIKE.get(method, method)
        base = BASE_RATES.get((like, train.optimizer), BASE_RATES["lora", train.optimizer])
        if embedded and adamw:
            base = EMBEDDED_RATES.get(like, EMBEDDED_RATES["lora"])
        base *= RATE_FACTORS.get(method, 1.0)
        plain = embedded or method == "linear"
        chosen: dict[str, Any] = {
            "lr": base * train.batch_size / 256,
            "weight_decay": 0.05 if adamw else 0.0,
            "layer_decay": 0.65 if adamw and method == "full" else 1.0,
            "warmup_epochs": min(5.0, train.epochs / 10),
            "augmentation": "none" if plain and train.augmented_copies is None else "crop-flip",
        }
        filled = {name: value for name, value in chosen.items() if getattr(train, name) is None}
        seed = self.data.subset_seed
        data = self.data.model_copy(update={"subset_seed": train.seed if seed is None else seed})
        adapter = self.adapter.filled()
        if adapter.dropout is None:
            dropout = 0.0 if embedded else DROPOUT
            adapter = adapter.model_copy(update={"dropout": dropout})
        train = train.model_copy(update=filled)
        return self.model_copy(update={"data": data, "adapter": adapter, "train": train})

    def fingerprint(self) -> str:
        """Hash of the resolved specification: 16 hexadecimal digits, equal for equal runs."""
        unheeded: dict[str, Any] = {"track": None}
        if self.train.validation == "every-epoch":
            unheeded["validation_share"] = SHARE
        told = {
            "data": self.data.model_copy(update={"called": None}),
            "train": self.train.model_copy(update=unheeded),
        }  # what a run is called, and who is told of it, changes nothing that it computes
        plain = self.model_copy(update=told).resolved()
        return hashlib.sha256(plain.to_json().encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """The specification as canonical JSON, which ``from_json`` reads."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str) -> RunSpec:
        """Read what ``to_json`` wrote.

        Raises:
            ConfigurationError: The text is not a valid specification; all faults are listed.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise faults(error) from error

    @classmethod
    def of(cls, **fields: Any) -> RunSpec:
        """Build a specification from flat ``section.field`` names, as a form or a shell gives them.

        Args:
            **fields: Values by dotted name (``{"data.name": "nih", "adapter.rank": 8}``).

        Raises:
            ConfigurationError: All faults at once; ``field`` names the first.
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
        """A short name for people: ``LoRA r 4 · embedded-mae · phantom-14 10% · seed 0``."""
        adapter = self.adapter
        names = {"lora": "LoRA", "full": "Full", "linear": "Linear"}
        method = names.get(adapter.method, adapter.method)
        if adapter.method in RANKED:
            method += f" r {adapter.rank}"
        start = self.model.backbone if self.model.pretrained else f"random {self.model.backbone}"
        if adapter.imported:
            return f"{method}, imported · {start} · {self.data.name}"
        return f"{method} · {start} · {self.data.title()} · seed {self.train.seed}"
