"""What a run is: one frozen, validated, serialisable description with a fingerprint.

The launch form, the command line, the stored JSON and the documentation all come from the fields
below. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from core.defaults import (
    BASE_RATES,
    DROPOUT,
    EMBEDDED,
    EMBEDDED_RATES,
    METHOD_DEFAULTS,
    RANKED,
    RATE_FACTORS,
    RATES_LIKE,
)
from core.errors import ConfigurationError

LABEL_FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
"""The label fractions that the form offers; any other in (0, 1] may be typed."""

Optimizer = Literal["adamw", "sgd"]
Augmentation = Literal["none", "crop-flip", "randaugment"]
PromptDepth = Literal["shallow", "deep"]
Validation = Literal["every-epoch", "budget"]

SHARE = 0.2
"""Share of a run's work that validation by budget takes by default."""

TARGETS = ("qv", "qkv", "attn", "mlp", "all")
"""The choices of layers that have a name; any other text is a pattern of their names."""

OPTIONS = ("findings", "uncertainty", "views", "patient", "table", "columns", "labels")
"""Fields of ``DataSpec`` that some data sets heed; ``core.data.catalogue`` says which, and how."""


LATER = (*OPTIONS, "split_file", "called")
"""Fields of ``DataSpec`` that are left out of its JSON where they say nothing."""


TRACKERS = ("tensorboard", "mlflow", "wandb", "trackio")
"""Programs that a run's curves can be mirrored to; ``core.tracking`` says how."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataSpec(_Frozen):
    """Which radiographs and labels a run learns from."""

    name: str = Field("phantom-14", description="Name of the data set.")
    root: Path | None = Field(
        None, description="Folder of the data set in its official layout; phantoms need none."
    )
    split: str | None = Field(
        None,
        description="Which split of the data set, where it has several; by default its own first.",
    )
    label_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1, description="Share of the training patients whose labels are used, in (0, 1]."
    )
    subset_seed: int | None = Field(
        None, ge=0, description="Seed that draws the labelled subset; by default the run's seed."
    )
    split_file: Path | None = Field(
        None,
        description="List of the labelled training studies (names alone, or with labels as in "
        "MED-PEFT's lists), such as subset.txt of an earlier run; fraction and subset seed then "
        "play no part.",
    )
    findings: str | None = Field(
        None, description="Which set of findings, where a data set has several, such as 5 or 14."
    )
    uncertainty: str | None = Field(
        None,
        description="What a label marked uncertain counts as, where a data set has such labels: "
        "mixed (the paper's rule), ones, zeros or ignore.",
    )
    views: str | None = Field(
        None, description="Which views, where a data set has lateral ones: all or frontal."
    )
    patient: str | None = Field(
        None,
        description="Regular expression that finds the patient in a picture's path, for a folder "
        "of one's own.",
    )
    table: str | None = Field(
        None, description="Name of the CSV file with the labels, in a folder of one's own."
    )
    columns: str | None = Field(
        None,
        description="Columns of that file by what they hold, where their names do not say it: "
        "path=File,patient=PatID,split=Fold (also sex, age, view, label).",
    )
    labels: str | None = Field(
        None,
        description="Columns or class folders that are findings, in a folder of one's own: "
        "Edema,Fx=Fracture; by default all that hold labels.",
    )
    called: str | None = Field(
        None, description="A name of the data set for people, such as that it is registered under."
    )

    skip_bad: bool = Field(
        False,
        description="Go on without pictures that are missing or cannot be read, and record which; "
        "otherwise they end the run.",
    )

    shuffle_labels: bool = Field(
        False,
        description="A control: train on labels that were shuffled among the studies, so that "
        "nothing can be learnt about the findings.",
    )

    def options(self) -> dict[str, str]:
        """What was chosen of ``OPTIONS``, by name."""
        chosen = {name: getattr(self, name) for name in OPTIONS}
        return {name: value for name, value in chosen.items() if value is not None}

    def title(self) -> str:
        """A short name for people: ``nih 10%``, or ``nih train_1.txt`` where a list is given."""
        part = self.split_file.name if self.split_file else f"{self.label_fraction * 100:g}%"
        return f"{self.called or self.name} {part}{', shuffled' if self.shuffle_labels else ''}"

    def source(self) -> DataSpec:
        """The same data set as a whole: equal for runs that draw different labels from it."""
        drawn = {"label_fraction": 1.0, "subset_seed": None, "split_file": None, "called": None}
        return self.model_copy(update={**drawn, "shuffle_labels": False})

    @model_serializer(mode="wrap")
    def _without_open_options(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Runs from before an option existed keep their JSON and with it their fingerprint.
        written: dict[str, Any] = write(self)
        closed = {k for k in LATER if written.get(k) is None}
        closed |= {one for one in ("skip_bad", "shuffle_labels") if not getattr(self, one)}
        return {k: v for k, v in written.items() if k not in closed}


class ModelSpec(_Frozen):
    """Which backbone a run starts from."""

    backbone: str = Field("embedded-mae", description="Name of the backbone.")
    weights: Path | None = Field(
        None, description="Local checkpoint, for backbones whose weights are not shipped."
    )
    pretrained: bool = Field(
        True, description="Start from the pre-trained weights; otherwise from random ones."
    )
    input_size: int | None = Field(
        None, ge=32, le=1024, description="Input side in pixels; by default the backbone's own."
    )


class AdapterSpec(_Frozen):
    """How the backbone is tuned. Full fine-tuning is a method by name, never the absence of one."""

    method: str = Field("lora", description="Name of the method: lora, full, linear, ….")
    rank: int = Field(4, ge=1, le=1024, description="Rank r of the low-rank update.")
    alpha: float = Field(32.0, gt=0, le=4096, description="Scale of the update is alpha / rank.")
    dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Dropout on the adapter's input; by default 0.1, as published, and 0 for the "
        "embedded backbones.",
    )
    targets: str = Field(
        "qv",
        description="Layers that are adapted in every block: qv (query and value), qkv, attn, mlp, "
        "all, or a regular expression that matches their whole names.",
    )
    blocks: str | None = Field(
        None, description="Blocks that are adapted, from 0: 8-11 or 0,2,5-7; by default all."
    )
    last_blocks: int | None = Field(
        None, ge=1, le=1000, description="last-k: how many of the last blocks train; by default 2."
    )
    rate_ratio: float | None = Field(
        None, gt=0, le=1000, description="lora+: learning rate of B over that of A; by default 16."
    )
    initial_rank: int | None = Field(
        None,
        ge=2,
        le=1024,
        description="adalora: rank of each layer at the start; by default half above the rank.",
    )
    orthogonality: float | None = Field(
        None,
        ge=0,
        le=100,
        description="adalora: weight of the penalty on factors that are not orthogonal; by default "
        "0.5.",
    )
    vectors: int | None = Field(
        None, ge=2, le=65_536, description="vblora: vectors in the shared bank; by default 90."
    )
    vector_length: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="vblora: length of a vector; by default the largest up to 256 that divides "
        "every width.",
    )
    block_size: int | None = Field(
        None,
        ge=2,
        le=1024,
        description="oft, boft: side of the rotated blocks; by default the largest up to 32 (boft: "
        "8) that fits every layer.",
    )
    butterflies: int | None = Field(
        None, ge=1, le=8, description="boft: butterfly factors of a rotation; by default 2."
    )
    frequencies: int | None = Field(
        None, ge=1, description="fourierft: coefficients that train in a layer; by default 1000."
    )
    scaling: float | None = Field(
        None, gt=0, le=100_000, description="fourierft: scale of the update; by default 150."
    )
    prompts: int | None = Field(
        None, ge=1, le=1000, description="vpt: prompt tokens of a block; by default 10."
    )
    prompt_depth: PromptDepth | None = Field(
        None,
        description="vpt: new prompts before every block (deep, the default) or before the first "
        "alone (shallow).",
    )

    imported: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{16}$",
        description="Hash of the adapter, made elsewhere, that the run is only tested with.",
        json_schema_extra={"chosen": False},
    )

    @field_validator("targets")
    @classmethod
    def _targets_can_match(cls, targets: str) -> str:
        try:
            re.compile(targets)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(
                f"these targets are none of {', '.join(TARGETS)} and no regular expression either "
                f"({error})"
            ) from error
        return targets

    @field_validator("blocks")
    @classmethod
    def _blocks_are_numbers(cls, blocks: str | None) -> str | None:
        if blocks is not None and not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", blocks):
            raise ValueError("blocks are numbers and ranges, such as 8-11 or 0,2,5-7")
        return blocks

    def own(self) -> dict[str, Any]:
        """What was chosen of the settings that only some methods heed, by name."""
        chosen = {name: getattr(self, name) for name in OWN}
        return {name: value for name, value in chosen.items() if value is not None}

    def filled(self) -> AdapterSpec:
        """The same, with each setting of the method that was left to a fixed default filled in."""
        defaults = METHOD_DEFAULTS.get(self.method, {})
        if self.method == "adalora":
            defaults = {**defaults, "initial_rank": min(1024, -(-3 * self.rank // 2))}
        return self.model_copy(update={**defaults, **self.own()})

    @model_serializer(mode="wrap")
    def _without_open_options(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Runs from before an option existed keep their JSON and with it their fingerprint.
        written: dict[str, Any] = write(self)
        return {k: v for k, v in written.items() if k in COMMON or v is not None}


COMMON = ("method", "rank", "alpha", "dropout", "targets")
OWN = tuple(name for name in AdapterSpec.model_fields if name not in (*COMMON, "imported"))
"""Fields of ``AdapterSpec`` that only some methods heed; ``core.models.methods`` says which."""


class TrainSpec(_Frozen):
    """How a run is optimised. ``None`` means: the published value for the method and optimizer."""

    epochs: int = Field(6, ge=1, le=10_000, description="Passes over the labelled subset.")
    batch_size: int = Field(16, ge=1, le=4096, description="Images a step.")
    optimizer: Optimizer = Field("adamw", description="AdamW (CXR-MAE) or SGD (MRM).")
    lr: float | None = Field(
        None, gt=0, le=10, description="Peak learning rate; by default base × batch / 256."
    )
    min_lr: float = Field(1e-6, ge=0, description="Learning rate at the end of the cosine.")
    weight_decay: float | None = Field(
        None, ge=0, le=1, description="Weight decay; by default 0.05 with AdamW, 0 with SGD."
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of SGD.")
    layer_decay: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Layer-wise decay of the rate; by default 0.65 for full with AdamW, else 1.",
    )
    warmup_epochs: float | None = Field(
        None, ge=0, description="Linear warm-up; by default 5, and at most a tenth of the epochs."
    )
    drop_path: float = Field(0.1, ge=0, lt=1, description="Stochastic depth of the backbone.")
    augmentation: Augmentation | None = Field(
        None,
        description="Random resized crop and flip, RandAugment on top, or none; by default "
        "crop-flip; none for linear, whose features are then computed once, and for the embedded "
        "backbones, whose few steps crops would cost more than they give.",
    )
    augmented_copies: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="Augmented copies of each training picture, which the epochs take in turn, so "
        "that a frozen part of the network is computed once a copy; by default each epoch draws "
        "new ones.",
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of subset, head, order, crops.")
    device: str = Field(
        "auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="Mixed precision; auto is bf16 where the GPU or processor has it."
    )

    accumulation: int = Field(
        1,
        ge=1,
        le=4096,
        description="Parts in which a batch goes through the network, one after the other, to save "
        "memory; the step is the whole batch's.",
    )
    activation_checkpointing: bool = Field(
        False,
        description="Keep only what enters each block and compute the rest again on the way back: "
        "far less memory, a third more work.",
    )
    compile: bool = Field(
        False,
        description="Compile the network with torch.compile, which takes up to a minute and pays "
        "in long runs.",
    )

    validation: Validation = Field(
        "every-epoch",
        description="every-epoch: the whole validation split after each epoch, the paper's way; "
        "budget: a fixed part of it, and the whole for those that may be the best, where the whole "
        "would take more than its share.",
    )
    validation_share: float = Field(
        SHARE,
        gt=0,
        le=0.9,
        description="Share of a run's work that validation by budget may take.",
    )

    track: str | None = Field(
        None,
        description="Mirror the curves to tensorboard, mlflow, wandb (offline) or trackio, where "
        "they are installed: names with commas between them.",
    )

    @field_validator("track")
    @classmethod
    def _trackers_are_known(cls, track: str | None) -> str | None:
        names = (track or "").replace(",", " ").split()
        unknown = [name for name in names if name not in TRACKERS]
        if unknown:
            raise ValueError(f"“{unknown[0]}” is none of {', '.join(TRACKERS)}")
        return ",".join(name for name in TRACKERS if name in names) or None

    @model_serializer(mode="wrap")
    def _without_later_options(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Runs from before an option existed keep their JSON and with it their fingerprint.
        written: dict[str, Any] = write(self)
        closed = {"track"} if self.track is None else set()
        for name in ("augmented_copies", "accumulation", "activation_checkpointing", "compile"):
            if written[name] == type(self).model_fields[name].default:
                closed.add(name)
        if self.validation == "every-epoch":
            closed.add("validation")
            if self.validation_share == SHARE:
                closed.add("validation_share")
        return {k: v for k, v in written.items() if k not in closed}

    @model_validator(mode="after")
    def _parts_fit(self) -> TrainSpec:
        if self.accumulation > self.batch_size:
            raise ValueError(
                f"a batch of {self.batch_size} has no {self.accumulation} parts; give a smaller "
                "accumulation or a larger batch size"
            )
        return self

    @model_validator(mode="after")
    def _copies_differ(self) -> TrainSpec:
        if self.augmented_copies is not None and self.augmentation == "none":
            raise ValueError(
                "without augmentation all augmented copies would be the same; choose an "
                "augmentation or leave out the copies"
            )
        return self

    @model_validator(mode="after")
    def _schedule_fits(self) -> TrainSpec:
        if self.warmup_epochs is not None and self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"{self.warmup_epochs:g} warm-up epochs leave none of {self.epochs} to train; "
                "give fewer warm-up epochs or more epochs"
            )
        return self


class RunSpec(_Frozen):
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


def faults(error: ValidationError) -> ConfigurationError:
    """Turn pydantic's report into one sentence a fault, the first one's field beside it."""
    sentences = []
    for fault in error.errors():
        where = ".".join(str(part) for part in fault["loc"]) or "specification"
        sentences.append(f"{where}: {_sentence(fault)}")
    first = ".".join(str(part) for part in error.errors()[0]["loc"])
    return ConfigurationError(
        "The settings are not valid. " + " ".join(sentences), field=first or None
    )


def _sentence(fault: Any) -> str:
    given, bounds = fault.get("input"), fault.get("ctx", {})
    limits = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    named = [f"{word} {bounds[key]}" for key, word in limits.items() if key in bounds]
    if named:
        return f"{given!r} is out of range; it must be {' and '.join(named)}."
    return f"{str(fault['msg']).removeprefix('Value error, ').rstrip('.')} (given: {given!r})."
