"""Which runs can be trained together: they may differ in what stands beside the frozen backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core.config.run import RunSpec
from core.errors import ConfigurationError
from core.hardware import available_memory
from core.resources import memory

JOINT_METHODS = ("lora", "rslora", "lora+")
"""Methods whose update is a product of two matrices beside a weight that all runs share."""

SAME = (
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
"""Settings that runs must have in common, beside their data set."""

WHOLE = {"accumulation": (None, 1), "activation_checkpointing": (False,), "compile": (False,)}
"""Settings of ``TrainSpec`` that save memory or time of one run, with what they may be."""


def check_compatible(specs: Sequence[RunSpec]) -> None:
    """Refuse runs that cannot be trained together.

    Args:
        specs: The runs.

    Raises:
        ConfigurationError: They differ in what they would share, their method has no adapters that
            can be stacked, or the device has too little memory; ``field`` names the setting.
    """
    plans = [spec.resolved() for spec in specs]
    for plan in plans:
        _check_one(plan)
    first = plans[0]
    for other in plans[1:]:
        if other.data.source() != first.data.source():
            raise ConfigurationError(
                f"Runs on {first.data.name} and {other.data.name}, or on differing parts or labels "
                "of them, cannot be trained together.",
                "Choose one data set with the same options; label fractions may differ.",
                field="data.name",
            )
        for path in SAME:
            ours, its = _value(first, path), _value(other, path)
            if ours != its:
                name = path.partition(".")[2].replace("_", " ")
                raise ConfigurationError(
                    f"Runs with the {name} {ours} and {its} cannot be trained together.",
                    "Together may differ ranks, alphas, dropout, seeds, learning rates, epochs, "
                    "optimizers and label fractions; queue the others apart.",
                    field=path,
                )
    _check_memory(plans)


def _check_memory(plans: Sequence[RunSpec]) -> None:
    needed, there = memory.predict_together(plans), available_memory.of(plans[0].train.device).total
    if needed is not None and needed > there:
        raise ConfigurationError(
            f"{len(plans)} runs together need about {memory.in_words(needed)} of memory; there are "
            f"{memory.in_words(there)}.",
            "Lower the batch size, train fewer together, or queue them one after the other.",
            field="train.batch_size",
        )


def _check_one(plan: RunSpec) -> None:
    if plan.adapter.method not in JOINT_METHODS or plan.adapter.imported is not None:
        raise ConfigurationError(
            f"Runs of the method {plan.adapter.method} cannot be trained together.",
            f"Choose {' or '.join(JOINT_METHODS)}, or queue them one after the other.",
            field="adapter.method",
        )
    if plan.train.precision == "fp16":
        raise ConfigurationError(
            "Runs in fp16 cannot be trained together: each would need a loss scale of its own.",
            "Choose the precision bf16 or fp32.",
            field="train.precision",
        )
    for name, fitting in WHOLE.items():
        if getattr(plan.train, name) not in fitting:
            option = name.replace("_", "-")
            raise ConfigurationError(
                f"Runs that are trained together do without --{option}.",
                f"Leave out --{option}, or queue the runs one after the other.",
                field=f"train.{name}",
            )
    if plan.train.track:
        raise ConfigurationError(
            "Curves of runs that are trained together are not mirrored: most trackers know one run "
            "a process.",
            "Leave out --track, or queue the runs one after the other.",
            field="train.track",
        )


def _value(spec: RunSpec, path: str) -> Any:
    section, _, field = path.partition(".")
    return getattr(getattr(spec, section), field)
