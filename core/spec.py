"""What a run is: one frozen, validated, serialisable description with a fingerprint.

The launch form, the command line, the stored JSON and the documentation all come from the fields
below. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from core.errors import ConfigurationError

LABEL_FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
"""The label fractions that the form offers; any other in (0, 1] may be typed."""

Optimizer = Literal["adamw", "sgd"]
Augmentation = Literal["none", "crop-flip", "randaugment"]
Targets = Literal["qv", "qkv", "attn", "mlp", "all"]

BASE_RATES: dict[tuple[str, str], float] = {
    ("lora", "adamw"): 3e-3,
    ("full", "adamw"): 5e-4,
    ("linear", "adamw"): 4e-3,
    ("lora", "sgd"): 0.2,
    ("full", "sgd"): 0.04,
    ("linear", "sgd"): 0.4,
}
"""Base learning rates for a batch of 256, by method and optimizer; ``lr = base × batch / 256``.

Those of ``lora`` and ``full`` are the published ones (AdamW: CXR-MAE; SGD: MRM, NIH 1%, given there
for batches of 64). The study has no linear probe; its rates were chosen here.
"""


EMBEDDED = "embedded-"
"""What the names of the shipped backbones begin with."""

EMBEDDED_RATES = {"lora": 0.032, "full": 0.016, "linear": 0.16}
"""Base learning rates of the embedded backbones with AdamW, for a batch of 256 as above.

Nothing is published for them. They were chosen on validation studies of ``phantom-14`` at 10% of
the labels, where the published rates had learnt next to nothing within a few hundred steps.
"""


DROPOUT = 0.1
"""Published dropout on an adapter's input. The embedded backbones take none, which makes its steps
a quarter faster on a processor (67 instead of 54 images a second on two cores)."""


OPTIONS = ("findings", "uncertainty", "views", "patient", "table", "columns", "labels")
"""Fields of ``DataSpec`` that some data sets heed; ``core.data.catalogue`` says which, and how."""


LATER = (*OPTIONS, "split_file", "called")
"""Fields of ``DataSpec`` that are left out of its JSON where they say nothing."""


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

    def options(self) -> dict[str, str]:
        """What was chosen of ``OPTIONS``, by name."""
        chosen = {name: getattr(self, name) for name in OPTIONS}
        return {name: value for name, value in chosen.items() if value is not None}

    def title(self) -> str:
        """A short name for people: ``nih 10%``, or ``nih train_1.txt`` where a list is given."""
        part = self.split_file.name if self.split_file else f"{self.label_fraction * 100:g}%"
        return f"{self.called or self.name} {part}"

    def source(self) -> DataSpec:
        """The same data set as a whole: equal for runs that draw different labels from it."""
        drawn = {"label_fraction": 1.0, "subset_seed": None, "split_file": None, "called": None}
        return self.model_copy(update=drawn)

    @model_serializer(mode="wrap")
    def _without_open_options(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Runs from before an option existed keep their JSON and with it their fingerprint.
        written: dict[str, Any] = write(self)
        closed = {k for k in LATER if written.get(k) is None}
        if not self.skip_bad:
            closed.add("skip_bad")
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
    targets: Targets = Field("qv", description="Projections that are adapted in every block.")
    imported: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{16}$",
        description="Hash of the adapter, made elsewhere, that the run is only tested with.",
        json_schema_extra={"chosen": False},
    )

    @model_serializer(mode="wrap")
    def _without_import(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Runs of one's own keep the JSON, and with it the fingerprint, that they always had.
        written: dict[str, Any] = write(self)
        return {k: v for k, v in written.items() if k != "imported" or v is not None}


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
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of subset, head, order, crops.")
    device: str = Field(
        "auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="Mixed precision; auto is bf16 on a GPU that has it, fp32 on a CPU."
    )

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
        base = BASE_RATES.get((method, train.optimizer), BASE_RATES["lora", train.optimizer])
        if embedded and adamw:
            base = EMBEDDED_RATES.get(method, EMBEDDED_RATES["lora"])
        chosen: dict[str, Any] = {
            "lr": base * train.batch_size / 256,
            "weight_decay": 0.05 if adamw else 0.0,
            "layer_decay": 0.65 if adamw and method == "full" else 1.0,
            "warmup_epochs": min(5.0, train.epochs / 10),
            "augmentation": "none" if embedded or method == "linear" else "crop-flip",
        }
        filled = {name: value for name, value in chosen.items() if getattr(train, name) is None}
        seed = self.data.subset_seed
        data = self.data.model_copy(update={"subset_seed": train.seed if seed is None else seed})
        adapter = self.adapter
        if adapter.dropout is None:
            dropout = 0.0 if embedded else DROPOUT
            adapter = adapter.model_copy(update={"dropout": dropout})
        train = train.model_copy(update=filled)
        return self.model_copy(update={"data": data, "adapter": adapter, "train": train})

    def fingerprint(self) -> str:
        """Hash of the resolved specification: 16 hexadecimal digits, equal for equal runs."""
        data = self.data.model_copy(update={"called": None})
        plain = self.model_copy(update={"data": data}).resolved()
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
        method = {"lora": f"LoRA r {adapter.rank}", "full": "Full", "linear": "Linear"}.get(
            adapter.method, f"{adapter.method} r {adapter.rank}"
        )
        start = self.model.backbone if self.model.pretrained else f"random {self.model.backbone}"
        if adapter.imported:
            return f"{method}, imported · {start} · {self.data.name}"
        return f"{method} · {start} · {self.data.title()} · seed {self.train.seed}"


@dataclass(frozen=True)
class Setting:
    """One field of ``RunSpec`` as a form or a command line offers it.

    Attributes:
        path: Dotted name, ``section.field``.
        option: Name on the command line, without dashes.
        annotation: Its type.
        default: Its default value.
        description: One sentence.
    """

    path: str
    option: str
    annotation: Any
    default: Any
    description: str


def settings() -> list[Setting]:
    """Every field of ``RunSpec``, in order; option names are unique across the sections."""
    found = []
    for section, outer in RunSpec.model_fields.items():
        assert isinstance(outer.default, _Frozen)
        for name, field in type(outer.default).model_fields.items():
            if isinstance(field.json_schema_extra, dict):
                continue  # nobody chooses it
            path = f"{section}.{name}"
            option = "data" if path == "data.name" else name.replace("_", "-")
            found.append(
                Setting(path, option, field.annotation, field.default, field.description or "")
            )
    return found


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
