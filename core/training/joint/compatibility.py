"""Check whether runs can be trained jointly: everything but adapter and optimizer must be equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core.config.run import ResolvedSpec, RunSpec
from core.errors import ConfigurationError
from core.formatting import gigabytes
from core.hardware import available_memory
from core.resources import memory

JOINT_METHODS = ("lora", "rslora", "lora+")
"""Methods whose update is a product of two matrices added to a frozen, shared weight."""

SHARED = (
    "model.backbone",
    "model.weights",
    "model.pretrained",
    "model.input_size",
    "adapter.method",
    "adapter.targets",
    "adapter.blocks",
    "train.batch_size",
    "train.precision",
    "train.device",
    "train.augmentation",
)
"""Settings that must be equal in all runs, apart from the data set."""

UNSUPPORTED = {"accumulation": (None, 1), "activation_checkpointing": (False,), "compile": (False,)}
"""Settings of ``TrainSpec`` that joint training does not support, with their permitted values."""


def check_compatible(specs: Sequence[RunSpec]) -> None:
    """Refuse runs that cannot be trained jointly.

    Raises:
        ConfigurationError: They differ in a shared setting, their adapters cannot be stacked, or
            the device has too little memory; ``field`` is the setting.
    """
    runs = [spec.resolved() for spec in specs]
    for run in runs:
        _check_run(run)
    first = runs[0]
    for other in runs[1:]:
        if other.data.source() != first.data.source():
            raise ConfigurationError(
                f"Runs on {first.data.name} and {other.data.name}, or on different splits or "
                "labels of a data set, cannot be trained together.",
                "Choose one data set with the same options. Label fractions may differ.",
                field="data.name",
            )
        for path in SHARED:
            value, different = _value(first, path), _value(other, path)
            if value != different:
                name = path.partition(".")[2].replace("_", " ")
                raise ConfigurationError(
                    f"Runs with the {name} {value} and {different} cannot be trained together.",
                    "Runs trained together may differ in rank, alpha, dropout, seed, learning "
                    "rate, epochs, optimizer and label fraction. Queue other runs separately.",
                    field=path,
                )
    _check_memory(runs)


def _check_run(run: ResolvedSpec) -> None:
    if run.adapter.head is not None:
        raise ConfigurationError(
            "Runs with an attentive head cannot be trained together.",
            "Leave out --head, or queue them one after the other.",
            field="adapter.head",
        )
    if run.adapter.method not in JOINT_METHODS or run.adapter.imported is not None:
        raise ConfigurationError(
            f"Runs of the method {run.adapter.method} cannot be trained together.",
            f"Choose {' or '.join(JOINT_METHODS)}, or queue them one after the other.",
            field="adapter.method",
        )
    if run.train.precision == "fp16":
        raise ConfigurationError(
            "Runs in fp16 cannot be trained together: each needs its own loss scale.",
            "Choose the precision bf16 or fp32.",
            field="train.precision",
        )
    for name, permitted in UNSUPPORTED.items():
        if getattr(run.train, name) not in permitted:
            option = name.replace("_", "-")
            raise ConfigurationError(
                f"Runs that are trained together do not support --{option}.",
                f"Leave out --{option}, or queue the runs one after the other.",
                field=f"train.{name}",
            )
    if run.train.track:
        raise ConfigurationError(
            "Runs that are trained together do not support --track: most trackers allow only one "
            "run per process.",
            "Leave out --track, or queue the runs one after the other.",
            field="train.track",
        )


def _check_memory(runs: Sequence[ResolvedSpec]) -> None:
    needed, total = memory.predict_together(runs), available_memory.of(runs[0].train.device).total
    if needed is not None and needed > total:
        raise ConfigurationError(
            f"{len(runs)} runs together need about {gigabytes(needed)} of memory; this device has "
            f"{gigabytes(total)}.",
            "Lower the batch size, train fewer runs together, or queue them one after the other.",
            field="train.batch_size",
        )


def _value(spec: RunSpec, path: str) -> Any:
    section, _, field = path.partition(".")
    return getattr(getattr(spec, section), field)
