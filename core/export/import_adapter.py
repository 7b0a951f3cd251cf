"""An adapter that was made elsewhere, as a run: tested here, to be compared with others."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from core.classifier.build import build_classifier, encoder_digest
from core.config.run import AdapterSpec, RunSpec
from core.data.datasets.registry import open_data
from core.errors import ModelError
from core.models.peft_files import attach as attaching
from core.models.peft_files import read as foreign
from core.models.peft_files.read import ForeignAdapter
from core.models.tuning.targets import PARTS
from core.resources import preflight
from core.workspace import ADAPTER

NO_NORM = (
    "The adapter holds no fc_norm: its classifier gets the mean of the patch tokens, normalised "
    "without scale and shift. If it was trained on another pooling, its scores here mean nothing."
)


def prepare(source: Path, spec: RunSpec) -> tuple[RunSpec, list[str]]:
    """Check an adapter against data set and backbone, and describe the run it makes.

    Args:
        source: The adapter's folder.
        spec: Data, backbone and device of the run.

    Returns:
        The whole specification, and what the user has to know.

    Raises:
        ModelError: The adapter cannot be read, or was made for another backbone or for other
            findings.
        CoreError: Whatever is wrong with data set and backbone.
    """
    preflight.check(spec)
    adapter = foreign.read(source)
    findings = open_data(spec.data).findings
    _check_other_findings(adapter, findings)
    classifier = build_classifier(spec, len(findings), adapted=False)
    card, model = classifier.card, classifier.model
    digest = encoder_digest(model)
    attaching.attach(model, adapter)
    if adapter.encoder not in (None, digest):
        raise ModelError(
            "The adapter was made for another backbone: it was exported with other weights than "
            f"those of {card.title} here.",
            f"Name those it came with: --weights {source}/backbone.safetensors.",
            field="model.weights",
        )
    size = spec.model.input_size or card.input_size
    generator = torch.Generator().manual_seed(0)
    example = torch.randn(2, card.channels, size, size, generator=generator)
    attaching.check_supported_modules(model, example)
    notes = []
    if getattr(model, "fc_norm", None) is not None and "fc_norm.weight" not in adapter.rest:
        notes.append(NO_NORM)
    if adapter.findings is None:
        notes.append(f"Its outputs are taken for {', '.join(findings)}, in this order.")
    tuning = AdapterSpec(
        method=adapter.method,
        rank=adapter.rank,
        alpha=adapter.alpha,
        dropout=0.0,
        targets=_targets(adapter),
        imported=adapter.identity,
    )
    train = spec.train.model_copy(update={"epochs": 1, "warmup_epochs": 0.0})
    data = spec.data.model_copy(update={"label_fraction": 1.0})
    return RunSpec(data=data, model=spec.model, adapter=tuning, train=train), notes


def keep(source: Path, folder: Path) -> None:
    """Copy an adapter's files into a run's folder.

    Raises:
        OSError: A file cannot be read or written.
    """
    (folder / ADAPTER).mkdir(parents=True, exist_ok=True)
    for name in foreign.FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / ADAPTER / name)


def _check_other_findings(adapter: ForeignAdapter, findings: tuple[str, ...]) -> None:
    if adapter.findings is not None and adapter.findings != tuple(findings):
        raise ModelError(
            f"The adapter's outputs are {', '.join(adapter.findings)}; the data set's findings "
            f"are {', '.join(findings)}.",
            "Name a data set with the same findings in the same order.",
            field="data.name",
        )


def _targets(adapter: ForeignAdapter) -> str:
    """The choice of layers that comes nearest."""
    names = {name.rpartition(".")[2] for name in adapter.layers}
    found: set[str] = set()
    for ends, parts in (
        ({"qkv"}, "qkv"), ({"q_proj"}, "q"), ({"k_proj"}, "k"), ({"v_proj"}, "v"),
        ({"proj"}, ("proj",)), ({"fc1", "fc2", "fc1_g", "fc1_x"}, ("mlp",)),
    ):  # fmt: skip
        if names & ends:
            found |= set(parts)
    return next((one for one, parts in PARTS.items() if found == set(parts)), "qkv")
