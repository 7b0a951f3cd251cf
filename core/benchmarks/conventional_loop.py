"""Baseline: a conventional training loop, which decodes every PNG in every epoch.

It is written like the published code of the field: torchvision's transforms, a DataLoader with one
worker per core, mixed precision, LoRA by peft, and a full validation after every epoch.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from core.benchmarks import png_folder
from core.benchmarks.measurement import peak_bytes
from core.benchmarks.png_folder import Shape
from core.data.transforms import SCALE
from core.hardware import precision
from core.models.backbones.build import build_backbone
from core.models.backbones.registry import backbone_card


class Radiographs(Dataset[tuple[Tensor, Tensor]]):
    """Data set of PNG files and labels with torchvision's transforms."""

    def __init__(self, root: Path, split: str, shape: Shape) -> None:
        self.files, self.labels, self.findings = png_folder.read(root, split)
        card = backbone_card(shape.backbone)
        self.mode = "L" if card.channels == 1 else "RGB"
        geometry: list[Any] = [transforms.Resize(round(shape.size * 8 / 7)),
                               transforms.CenterCrop(shape.size)]  # fmt: skip
        if split == "train":
            crop = transforms.RandomResizedCrop(shape.size, scale=SCALE)
            geometry = [crop, transforms.RandomHorizontalFlip()]
        statistics = [card.mean] * card.channels, [card.std] * card.channels
        self.change = transforms.Compose(
            [*geometry, transforms.ToTensor(), transforms.Normalize(*statistics)]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        with Image.open(self.files[i]) as file:
            return self.change(file.convert(self.mode)), torch.from_numpy(self.labels[i])


def model(shape: Shape, findings: int) -> nn.Module:
    """The same pre-trained network as in this software's run, with peft's LoRA."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(shape.seed)
    card = backbone_card(shape.backbone)
    plain, _ = build_backbone(card, findings, input_size=shape.size)
    chosen = LoraConfig(
        r=shape.rank, lora_alpha=32, lora_dropout=0.1, target_modules=["qkv"],
        modules_to_save=["head"],
    )  # fmt: skip
    adapted: nn.Module = get_peft_model(plain, chosen)
    return adapted


def score(labels: NDArray[np.float32], logits: NDArray[np.float32]) -> float:
    """Mean AUROC over the findings with both labels."""
    scored = [i for i in range(labels.shape[1]) if 0 < labels[:, i].sum() < len(labels)]
    return float(np.mean([roc_auc_score(labels[:, i], logits[:, i]) for i in scored]))


def train(root: Path, shape: Shape) -> dict[str, Any]:
    """Train and validate on a folder of PNG files.

    Returns:
        Total ``seconds``, ``epochs`` with the seconds of each, best ``auroc``, ``peak_bytes``.
    """
    started = time.perf_counter()
    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    half = (
        torch.bfloat16 if precision.resolve_precision("auto", gpu=gpu) == "bf16" else torch.float16
    )
    mixed = gpu or precision.multiplies_bf16()
    parts = {name: Radiographs(root, name, shape) for name in ("train", "val")}
    loaders = {
        name: DataLoader(part, shape.batch, shuffle=name == "train", num_workers=shape.workers,
                         pin_memory=gpu, persistent_workers=shape.workers > 0)
        for name, part in parts.items()
    }  # fmt: skip
    network = model(shape, len(parts["train"].findings)).to(device)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=shape.lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, shape.lr, shape.epochs * len(loaders["train"]), pct_start=0.1
    )
    scaler = torch.amp.GradScaler(device.type, enabled=mixed and half == torch.float16)
    criterion = nn.BCEWithLogitsLoss()
    times, best = [], 0.0
    for _ in range(shape.epochs):
        begun, total = time.perf_counter(), 0.0
        network.train()
        for images, labels in loaders["train"]:
            with torch.autocast(device.type, half, enabled=mixed):
                loss = criterion(network(images.to(device)).float(), labels.to(device))
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            schedule.step()
            total += loss.item()
        network.eval()
        with torch.no_grad(), torch.autocast(device.type, half, enabled=mixed):
            logits = [network(images.to(device)).float().cpu() for images, _ in loaders["val"]]
        best = max(best, score(parts["val"].labels, torch.cat(logits).numpy()))
        times.append(time.perf_counter() - begun)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "epochs": times, "auroc": best, "peak_bytes": peak_bytes()}
