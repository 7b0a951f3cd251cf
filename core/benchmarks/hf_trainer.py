"""Baseline: Hugging Face's ``Trainer`` with peft and timm, as in its documentation."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.benchmarks.conventional_loop import Radiographs, model, score
from core.benchmarks.measurement import peak_bytes
from core.benchmarks.png_folder import Shape
from core.errors import ConfigurationError
from core.hardware import precision


class Classifier(nn.Module):
    """A network that returns its loss, as ``Trainer`` expects."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixel_values: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Loss and logits of a batch."""
        logits = self.network(pixel_values)
        loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), labels)
        return {"loss": loss, "logits": logits}


def collate(rows: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """A batch with the names of ``Classifier``'s arguments."""
    images, labels = zip(*rows, strict=True)
    return {"pixel_values": torch.stack(images), "labels": torch.stack(labels)}


def train(root: Path, shape: Shape) -> dict[str, Any]:
    """Train and validate; arguments and result as for ``conventional_loop.train``.

    Raises:
        ConfigurationError: transformers is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise ConfigurationError(
            "This baseline needs transformers, which is not installed.",
            'Install it with pip install "transformers>=5".',
        ) from error
    started = time.perf_counter()
    times: list[float] = []
    scores: list[float] = []

    class Clock(transformers.TrainerCallback):  # type: ignore[misc]
        """Records the end of each epoch, including its validation."""

        def on_evaluate(self, *_: Any, metrics: dict[str, float], **__: Any) -> None:
            scores.append(metrics["eval_auroc"])
            times.append(time.perf_counter())

    gpu = torch.cuda.is_available()
    mixed = precision.resolve_precision("auto", gpu=gpu)
    parts = {name: Radiographs(root, name, shape) for name in ("train", "val")}
    steps = shape.epochs * -(-len(parts["train"]) // shape.batch)
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            folder, num_train_epochs=shape.epochs, learning_rate=shape.lr, weight_decay=0.05,
            per_device_train_batch_size=shape.batch, per_device_eval_batch_size=shape.batch,
            lr_scheduler_type="cosine", warmup_steps=max(1, steps // 10), eval_strategy="epoch",
            save_strategy="epoch", save_total_limit=1, load_best_model_at_end=True,
            metric_for_best_model="auroc", dataloader_num_workers=shape.workers,
            dataloader_persistent_workers=shape.workers > 0,
            dataloader_pin_memory=gpu, report_to=[],
            bf16=mixed == "bf16", fp16=mixed == "fp16", use_cpu=not gpu, seed=shape.seed,
            remove_unused_columns=False, disable_tqdm=True, label_names=["labels"],
        )  # fmt: skip
        trainer = transformers.Trainer(
            Classifier(model(shape, len(parts["train"].findings))), arguments,
            data_collator=collate, train_dataset=parts["train"], eval_dataset=parts["val"],
            compute_metrics=lambda output: {"auroc": score(output.label_ids, output.predictions)},
            callbacks=[Clock()],
        )  # fmt: skip
        begun = time.perf_counter()
        trainer.train()
    seconds = time.perf_counter() - started
    ends = [begun, *times]
    return {
        "seconds": seconds,
        "epochs": [ends[i + 1] - ends[i] for i in range(len(times))],
        "auroc": max(scores),
        "peak_bytes": peak_bytes(),
    }
