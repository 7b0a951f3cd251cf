"""Importing an adapter that was made elsewhere as a run that is only tested."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from core.classifier.build import build_classifier, encoder_digest
from core.config.run import AdapterSpec, RunSpec
from core.data.datasets.registry import open_data
from core.errors import ModelError
from core.models.peft_files.attach import attach_adapter, check_effect
from core.models.peft_files.read import FILES, ForeignAdapter, read_adapter
from core.models.tuning.targets import PARTS
from core.resources import preflight
from core.workspace import ADAPTER

NO_NORM = (
    "The adapter contains no fc_norm. Its classifier receives the mean of the patch tokens, "
    "normalised without scale and shift. If it was trained with another pooling, its scores are "
    "meaningless."
)


def prepare_import(source: Path, spec: RunSpec) -> tuple[RunSpec, list[str]]:
    """Check that an adapter fits a data set and a backbone, and describe the run.

    Args:
        source: The adapter's folder.
        spec: Data, backbone and device of the run.

    Returns:
        The complete specification of the run, and notes for the user.

    Raises:
        ModelError: The adapter cannot be read, or was made for another backbone or for other
            findings.
        CoreError: The data set or the backbone cannot be used.
    """
    preflight.check(spec)
    adapter = read_adapter(source)
    findings = open_data(spec.data).findings
    _check_findings(adapter, findings)
    classifier = build_classifier(spec, len(findings), adapted=False)
    card, model = classifier.card, classifier.model
    digest = encoder_digest(model)
    attach_adapter(model, adapter)
    if adapter.encoder not in (None, digest):
        raise ModelError(
            "The adapter was made for another backbone: it was exported with other weights than "
            f"those of {card.title}.",
            f"Give the weights of the export: --weights {source}/backbone.safetensors.",
            field="model.weights",
        )
    size = spec.model.input_size or card.input_size
    generator = torch.Generator().manual_seed(0)
    example = torch.randn(2, card.channels, size, size, generator=generator)
    check_effect(model, example)
    notes = []
    if getattr(model, "fc_norm", None) is not None and "fc_norm.weight" not in adapter.rest:
        notes.append(NO_NORM)
    if adapter.findings is None:
        notes.append(f"Its outputs are assumed to be {', '.join(findings)}, in this order.")
    tuning = AdapterSpec(
        method=adapter.method,
        rank=adapter.rank,
        alpha=adapter.alpha,
        dropout=0.0,
        targets=_closest_targets(adapter),
        imported=adapter.identity,
    )
    train = spec.train.model_copy(update={"epochs": 1, "warmup_epochs": 0.0})
    data = spec.data.model_copy(update={"label_fraction": 1.0})
    return RunSpec(data=data, model=spec.model, adapter=tuning, train=train), notes


def copy_adapter(source: Path, folder: Path) -> None:
    """Copy an adapter's files into a run's folder.

    Raises:
        OSError: A file cannot be read or written.
    """
    (folder / ADAPTER).mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / ADAPTER / name)


def _check_findings(adapter: ForeignAdapter, findings: tuple[str, ...]) -> None:
    if adapter.findings is not None and adapter.findings != tuple(findings):
        raise ModelError(
            f"The adapter's outputs are {', '.join(adapter.findings)}; the data set's findings "
            f"are {', '.join(findings)}.",
            "Give a data set with the same findings in the same order.",
            field="data.name",
        )


def _closest_targets(adapter: ForeignAdapter) -> str:
    """The named choice of targets that the adapter's layers correspond to; else ``qkv``."""
    names = {name.rpartition(".")[2] for name in adapter.layers}
    adapted: set[str] = set()
    for layer_names, parts in (
        ({"qkv"}, "qkv"), ({"q_proj"}, "q"), ({"k_proj"}, "k"), ({"v_proj"}, "v"),
        ({"proj"}, ("proj",)), ({"fc1", "fc2", "fc1_g", "fc1_x"}, ("mlp",)),
    ):  # fmt: skip
        if names & layer_names:
            adapted |= set(parts)
    return next((choice for choice, parts in PARTS.items() if adapted == set(parts)), "qkv")
