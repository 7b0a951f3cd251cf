"""The model card of an export: data, scores, licences, limits and how to load the model."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from core.classifier.trained import Trained
from core.data.datasets.registry import DATASETS
from core.formatting import DISCLAIMER
from core.models.backbones.card import BackboneCard
from core.models.tuning.registry import TUNING_METHODS

FILE = "README.md"
BACKBONE = "backbone.safetensors"
LIBRARY = {"peft": "peft", "merged": "timm", "onnx": "onnx"}
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]+")
"""A licence identifier of the Hugging Face Hub, such as apache-2.0."""
_HUB = "https://huggingface.co/"


def model_card(
    folder: Path, trained: Trained, about: dict[str, Any], result: dict[str, Any]
) -> str:
    """The card in Markdown, with the header of the Hugging Face Hub.

    Args:
        folder: The export's folder, complete except for the card.
        trained: The run's model.
        about: The content of the export's ``export.json``.
        result: The run's result.
    """
    spec = trained.spec
    comparison = "the logits are equal"
    if about["difference"] > 0:
        comparison = f"the logits differ by at most {about['difference']:.1g}"
    parts = [
        _header(trained.card, about["format"]),
        f"# {spec.title()}\n\n> {DISCLAIMER}.\n",
        _model(trained, result),
        _loading(folder, trained, about),
        _data(trained, result),
        _scores(trained, result),
        _terms(folder, trained),
        f"## Provenance\n\nRun `{about['run']}` of CXR PEFT Explorer. This folder was loaded as "
        f"shown above and compared with the run's model on random input: {comparison}.\n\n"
        f"```json\n{json.dumps(_settings(trained), indent=2)}\n```\n",
    ]
    return "\n".join(parts)


def per_channel(value: float | tuple[float, ...], channels: int) -> tuple[float, ...]:
    """A mean or standard deviation with one value per channel."""
    return value if isinstance(value, tuple) else (value,) * channels


def _settings(trained: Trained) -> dict[str, Any]:
    """The run's settings, with file names instead of local paths."""
    settings: dict[str, Any] = json.loads(trained.spec.to_json())
    for section, name in (("data", "root"), ("data", "split_file"), ("model", "weights")):
        if settings[section].get(name):
            settings[section][name] = Path(settings[section][name]).name
    return settings


def _header(card: BackboneCard, format: str) -> str:
    licence = card.licence if _LICENCE.fullmatch(card.licence) else "other"
    if card.source == "embedded":
        licence = "mit"
    base = f"base_model: {card.url.removeprefix(_HUB)}\n" if card.url.startswith(_HUB) else ""
    return (
        f"---\nlibrary_name: {LIBRARY[format]}\nlicense: {licence}\n{base}"
        f"tags:\n- chest-radiograph\n- {LIBRARY[format]}\n---\n"
    )


def _model(trained: Trained, result: dict[str, Any]) -> str:
    spec, card = trained.spec, trained.card
    method = TUNING_METHODS.get(spec.adapter.method)
    tuning = f"{method.title}. {method.sentence} {method.paper}" if method else spec.adapter.method
    share = result["trainable"] / result["total"]
    lines = [
        f"- Backbone: {card.title} (`{card.architecture}`). {card.pretraining}",
        f"- Tuning method: {tuning}".rstrip(),
        f"- Trained: {result['trainable']:,} of {result['total']:,} parameters ({share:.3%}); "
        + (
            "trained elsewhere, imported and tested"
            if spec.adapter.imported
            else f"best epoch {result['best_epoch']} of {spec.train.epochs}"
        ),
        f"- Outputs: one logit for each of {', '.join(trained.findings)}, in this order; their "
        "sigmoids are not calibrated probabilities.",
    ]
    if not spec.model.pretrained:
        lines.insert(1, "- It started from random weights: a control, not a model to use.")
    return "## Model\n\n" + "\n".join(lines) + "\n"


def _loading(folder: Path, trained: Trained, about: dict[str, Any]) -> str:
    card, transform = trained.card, trained.transform
    mean, std = (per_channel(value, card.channels) for value in (card.mean, card.std))
    size = transform.input_size
    text = (
        "Run the code in this folder. Input: the grey radiograph with values from 0 to 1, resized "
        f"to a shorter side of {transform.resize} px (bicubic), cropped to the central {size} px "
        f"square, repeated to {card.channels} channels, and normalised with mean "
        f"{_numbers(mean)} and standard deviation {_numbers(std)}.\n"
    )
    if (folder / BACKBONE).exists():
        text += (
            f"\n`{BACKBONE}` contains the backbone's weights before tuning; "
            "`adapter_model.safetensors` contains the adapter and the classifier.\n"
        )
    code = {"peft": _peft_code, "merged": _merged_code, "onnx": _onnx_code}[about["format"]]
    example = f"{card.channels}, {size}, {size}"
    return f"## Loading\n\n{text}\n```python\n{code(folder, about, example)}```\n"


def _peft_code(folder: Path, about: dict[str, Any], example: str) -> str:
    arguments = "".join(f", {name}={value!r}" for name, value in about["arguments"].items())
    with_weights = (folder / BACKBONE).exists()
    arguments += "" if with_weights else ", pretrained=True"
    lines = [
        "import peft\nimport timm\nimport torch",
        *(["from safetensors.torch import load_file"] if with_weights else []),
        "",
        f'model = timm.create_model("{about["architecture"]}"{arguments})',
        *([f'model.load_state_dict(load_file("{BACKBONE}"))'] if with_weights else []),
        'model = peft.PeftModel.from_pretrained(model, ".").eval()',
        f"pixels = torch.zeros(1, {example})  # radiographs, prepared as above",
        f"logits = model(pixels)  # one row per radiograph, {len(about['findings'])} findings",
    ]
    return "\n".join(lines) + "\n"


def _merged_code(folder: Path, about: dict[str, Any], example: str) -> str:
    return (
        "import timm\nimport torch\n\n"
        'model = timm.create_model("local-dir:.", pretrained=True).eval()\n'
        f"pixels = torch.zeros(1, {example})  # radiographs, prepared as above\n"
        f"logits = model(pixels)  # one row per radiograph, {len(about['findings'])} findings\n"
    )


def _onnx_code(folder: Path, about: dict[str, Any], example: str) -> str:
    return (
        "import numpy\nimport onnxruntime\n\n"
        'session = onnxruntime.InferenceSession("model.onnx")\n'
        f"pixels = numpy.zeros((1, {example}), numpy.float32)  # radiographs, prepared as above\n"
        '(logits,) = session.run(None, {"pixels": pixels})'
        f"  # one row per radiograph, {len(about['findings'])} findings\n"
    )


def _data(trained: Trained, result: dict[str, Any]) -> str:
    data = trained.spec.data
    entry = DATASETS.get(data.name)
    title = f"{entry.title if entry else data.name}, split {result['split']}"
    counts = ", ".join(f"{name} {count:,}" for name, count in result["positives"].items())
    subset = f"{data.label_fraction:.3%} of the training patients, seed {data.subset_seed}"
    if data.split_file is not None:
        subset = f"those listed in {data.split_file.name}"
    lines = [
        f"- Data set: {title}",
        f"- {result['images']:,} labelled training images: {subset}",
        f"- Positive images: {counts}",
    ]
    if trained.spec.adapter.imported:
        lines = [f"- Not known: the adapter was trained elsewhere. Tested on {title}."]
    if trained.card.leaks:
        lines.append(f"- What the backbone has seen in pre-training: {trained.card.leaks}")
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
    note = "One seed; the epoch was chosen on the validation split."
    if trained.spec.adapter.imported:
        note = "Its training may have included these images."
    means = " | ".join(_score(scores[split]["auroc"]) for split in splits)
    rows.append(f"| **mean** | {means} |")
    return (
        "## Scores\n\n" + "\n".join(rows) + f"\n\n{note} Its scores on other data are not known.\n"
    )


def _terms(folder: Path, trained: Trained) -> str:
    entry, card = DATASETS.get(trained.spec.data.name), trained.card
    lines = [f"- The backbone's weights: {card.licence} {card.url}".rstrip()]
    if entry:
        lines.append(f"- The training images: {entry.licence}")
    if (folder / BACKBONE).exists() and card.source != "embedded":
        lines.append(f"- Before you share this folder, check whether you may share `{BACKBONE}`.")
    return "## Licences\n\n" + "\n".join(lines) + "\n"


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _numbers(values: tuple[float, ...]) -> str:
    equal = len(set(values)) == 1
    return f"{values[0]:g}" if equal else ", ".join(f"{value:g}" for value in values)
