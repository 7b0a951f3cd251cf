"""The card that goes with an exported model: data, scores, terms, limits, and how to load it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from core.classifier.trained import Trained
from core.data.datasets.registry import DATASETS
from core.formatting import DISCLAIMER
from core.models.backbones.registry import BackboneCard
from core.models.tuning.registry import TUNING_METHODS

FILE = "README.md"
BACKBONE = "backbone.safetensors"
LIBRARY = {"peft": "peft", "merged": "timm", "onnx": "onnx"}
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]+")
"""What a licence looks like that the hub has a name for, such as apache-2.0."""
_HUB = "https://huggingface.co/"


def write(folder: Path, trained: Trained, about: dict[str, Any], result: dict[str, Any]) -> str:
    """The card's Markdown, with the hub's header.

    Args:
        folder: The export, all but its card.
        trained: The run's model.
        about: What ``core.export.export`` says of the export.
        result: The run's scores and facts.
    """
    spec = trained.spec
    close = "the logits are equal"
    if about["difference"] > 0:
        close = f"the logits differ by at most {about['difference']:.1g}"
    parts = [
        _header(trained.card, about["format"]),
        f"# {spec.title()}\n\n> {DISCLAIMER}.\n",
        _model(trained, result),
        _loading(folder, trained, about),
        _data(trained, result),
        _scores(trained, result),
        _terms(folder, trained),
        f"## How it was made\n\nRun `{about['run']}` of CXR PEFT Explorer. This folder was loaded "
        f"again as above and compared with the run's own model on noise: {close}.\n\n"
        f"```json\n{json.dumps(_settings(trained), indent=2)}\n```\n",
    ]
    return "\n".join(parts)


def per_channel(value: float | tuple[float, ...], channels: int) -> tuple[float, ...]:
    """A mean or spread, one number a channel."""
    return value if isinstance(value, tuple) else (value,) * channels


def _settings(trained: Trained) -> dict[str, Any]:
    """The run's settings without the folders of the machine it was made on."""
    told: dict[str, Any] = json.loads(trained.spec.to_json())
    for section, name in (("data", "root"), ("data", "split_file"), ("model", "weights")):
        if told[section].get(name):
            told[section][name] = Path(told[section][name]).name
    return told


def _header(card: BackboneCard, format: str) -> str:
    known = _LICENCE.fullmatch(card.licence)
    licence = "mit" if card.source == "embedded" else card.licence if known else "other"
    base = f"base_model: {card.url.removeprefix(_HUB)}\n" if card.url.startswith(_HUB) else ""
    return (
        f"---\nlibrary_name: {LIBRARY[format]}\nlicense: {licence}\n{base}"
        f"tags:\n- chest-radiograph\n- {LIBRARY[format]}\n---\n"
    )


def _model(trained: Trained, result: dict[str, Any]) -> str:
    spec, card = trained.spec, trained.card
    method = TUNING_METHODS.get(spec.adapter.method)
    tuned = f"{method.title}. {method.sentence} {method.paper}" if method else spec.adapter.method
    share = result["trainable"] / result["total"]
    lines = [
        f"- Backbone: {card.title} (`{card.architecture}`). {card.pretraining}",
        f"- Tuned by: {tuned}".rstrip(),
        f"- Trained: {result['trainable']:,} of {result['total']:,} parameters ({share:.3%}); "
        + (
            "elsewhere, and tested here"
            if spec.adapter.imported
            else f"the best of {spec.train.epochs} epochs, number {result['best_epoch']}"
        ),
        f"- Outputs: one logit for each of {', '.join(trained.findings)}, in this order; their "
        "sigmoids are no calibrated probabilities.",
    ]
    if not spec.model.pretrained:
        lines.insert(1, "- It started from random weights: a control, not a model to use.")
    return "## Model\n\n" + "\n".join(lines) + "\n"


def _loading(folder: Path, trained: Trained, about: dict[str, Any]) -> str:
    card, transform = trained.card, trained.transform
    mean, std = (per_channel(value, card.channels) for value in (card.mean, card.std))
    size = transform.input_size
    told = (
        f"Run it in this folder. Input: the grey radiograph from 0 to 1, shorter side resized to "
        f"{transform.resize} px (bicubic), cut to its central {size} px square, repeated to "
        f"{card.channels} channels, mean {_numbers(mean)}, standard deviation {_numbers(std)}.\n"
    )
    if (folder / BACKBONE).exists():
        told += (
            f"\n`{BACKBONE}` are the backbone's weights as the run started from them; the adapter "
            "with the classifier is `adapter_model.safetensors`.\n"
        )
    code = {"peft": _peft_code, "merged": _merged_code, "onnx": _onnx_code}[about["format"]]
    example = f"{card.channels}, {size}, {size}"
    return f"## Loading\n\n{told}\n```python\n{code(folder, about, example)}```\n"


def _peft_code(folder: Path, about: dict[str, Any], example: str) -> str:
    words = "".join(f", {name}={value!r}" for name, value in about["arguments"].items())
    shipped = (folder / BACKBONE).exists()
    words += "" if shipped else ", pretrained=True"
    lines = [
        "import peft\nimport timm\nimport torch",
        *(["from safetensors.torch import load_file"] if shipped else []),
        "",
        f'model = timm.create_model("{about["architecture"]}"{words})',
        *([f'model.load_state_dict(load_file("{BACKBONE}"))'] if shipped else []),
        'model = peft.PeftModel.from_pretrained(model, ".").eval()',
        f"pixels = torch.zeros(1, {example})  # radiographs, prepared as above",
        f"logits = model(pixels)  # one row a radiograph, {len(about['findings'])} findings",
    ]
    return "\n".join(lines) + "\n"


def _merged_code(folder: Path, about: dict[str, Any], example: str) -> str:
    return (
        "import timm\nimport torch\n\n"
        'model = timm.create_model("local-dir:.", pretrained=True).eval()\n'
        f"pixels = torch.zeros(1, {example})  # radiographs, prepared as above\n"
        f"logits = model(pixels)  # one row a radiograph, {len(about['findings'])} findings\n"
    )


def _onnx_code(folder: Path, about: dict[str, Any], example: str) -> str:
    return (
        "import numpy\nimport onnxruntime\n\n"
        'session = onnxruntime.InferenceSession("model.onnx")\n'
        f"pixels = numpy.zeros((1, {example}), numpy.float32)  # radiographs, prepared as above\n"
        '(logits,) = session.run(None, {"pixels": pixels})'
        f"  # one row a radiograph, {len(about['findings'])} findings\n"
    )


def _data(trained: Trained, result: dict[str, Any]) -> str:
    data = trained.spec.data
    entry = DATASETS.get(data.name)
    title = f"{entry.title if entry else data.name}, split {result['split']}"
    counts = ", ".join(f"{name} {count:,}" for name, count in result["positives"].items())
    drawn = f"{data.label_fraction:.3%} of the training patients, seed {data.subset_seed}"
    if data.split_file is not None:
        drawn = f"those of the list {data.split_file.name}"
    lines = [
        f"- Data set: {title}",
        f"- {result['images']:,} labelled training images: {drawn}",
        f"- Positive images: {counts}",
    ]
    if trained.spec.adapter.imported:
        lines = [f"- Not known: it was tuned elsewhere. Tested on {title}."]
    if trained.card.leaks:
        lines.append(f"- What the backbone has seen: {trained.card.leaks}")
    return "## Training data\n\n" + "\n".join(lines) + "\n"


def _scores(trained: Trained, result: dict[str, Any]) -> str:
    scores = result["scores"]
    splits = [name for name in ("val", "test") if name in scores]
    rows = [f"| AUROC | {' | '.join(splits)} |", f"|---|{'---|' * len(splits)}"]
    rows += [
        f"| {finding.replace('_', ' ')} | "
        + " | ".join(_score(scores[split]["per_finding"].get(finding)) for split in splits)
        + " |"
        for finding in trained.findings
    ]
    chosen = "One seed; the epoch was chosen on the validation split."
    if trained.spec.adapter.imported:
        chosen = "It may have seen these pictures where it was tuned."
    means = " | ".join(_score(scores[split]["auroc"]) for split in splits)
    rows.append(f"| **mean** | {means} |")
    return (
        "## Scores\n\n" + "\n".join(rows) + f"\n\n{chosen} What it would score "
        "elsewhere is not known.\n"
    )


def _terms(folder: Path, trained: Trained) -> str:
    entry, card = DATASETS.get(trained.spec.data.name), trained.card
    lines = [f"- The backbone's weights: {card.licence} {card.url}".rstrip()]
    if entry:
        lines.append(f"- The pictures it was tuned on: {entry.licence}")
    if (folder / BACKBONE).exists() and card.source != "embedded":
        lines.append(f"- Before you pass this folder on: may you pass on `{BACKBONE}`?")
    return "## Terms\n\n" + "\n".join(lines) + "\n"


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _numbers(values: tuple[float, ...]) -> str:
    same = len(set(values)) == 1
    return f"{values[0]:g}" if same else ", ".join(f"{one:g}" for one in values)
