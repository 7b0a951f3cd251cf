"""Difficulty of the phantoms: a linear probe on pixels, and a network trained on many of them.

Run with ``python -m tests.benchmarks.phantoms --images 16000 --epochs 8 --lr 2e-3``. The aims, as
mean AUROC over the findings of the test split: the probe is at most 0.75 with 4,000 images, the
network is at least 0.90 with 16,000, and at least 0.80 for each finding. With ``--data phantom-5``
or ``phantom-1`` the training images are the 4,000 of the data set; ``--epochs 0`` runs the probe
only. The network is a ResNet with random initial weights, which
learns from the images and labels only; ``--network embedded-mae`` uses an embedded backbone
instead. With ``--masks`` a ResNet also learns the location of the findings; it is tested without.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.data.base import ChestDataset
from core.data.phantoms.dataset import Phantom
from core.hardware import precision
from core.metrics.auroc import macro, per_finding
from core.models.backbones import bf16_attention
from core.models.backbones.build import build_backbone
from core.models.backbones.registry import BACKBONES, backbone_card
from core.models.tuning.pixel_ridge import small_images
from core.pretraining import collect_images
from core.training.closed_form.ridge import fit_ridge
from core.training.closed_form.selection import Studies
from core.workspace import open_workspace
from tests.benchmarks import localizer

SIDE = 128
BATCH = 64

Each = NDArray[np.float64]
"""One number per finding."""


def pixel_probe(
    train: tuple[NDArray[np.uint8], NDArray[np.float32]],
    val: tuple[NDArray[np.uint8], NDArray[np.float32]],
    test: tuple[NDArray[np.uint8], NDArray[np.float32]],
) -> Each:
    """Test AUROC per finding of the method ``pixels``."""

    def studies(part: tuple[NDArray[np.uint8], NDArray[np.float32]]) -> Studies:
        grey = torch.from_numpy(part[0])[:, None].float() / 255
        return Studies(small_images(grey).numpy(), part[1])

    model, _ = fit_ridge(studies(train), studies(val), lambda done, total: None)
    return per_finding(test[1], model.scores(studies(test).features))


def augmented(
    images: NDArray[np.uint8], where: NDArray[np.uint16] | None, random: np.random.Generator
) -> tuple[Tensor, NDArray[np.uint16] | None]:
    """Crop a random square, and vary brightness and contrast.

    Args:
        images: Shape (studies, side, side).
        where: Masks of half that side, cropped in the same way.
        random: Source of randomness.
    """
    room = (images.shape[1] - SIDE) // 2 + 1
    corners = 2 * random.integers(0, room, (len(images), 2))
    cut = np.stack([
        one[y : y + SIDE, x : x + SIDE] for one, (y, x) in zip(images, corners, strict=True)
    ])  # fmt: skip
    if where is not None:
        half = SIDE // 2
        where = np.stack([
            one[y : y + half, x : x + half]
            for one, (y, x) in zip(where, corners // 2, strict=True)
        ])  # fmt: skip
    batch = normalised(cut)
    gain = torch.from_numpy(random.uniform(0.85, 1.15, (len(batch), 1, 1, 1)).astype(np.float32))
    lift = torch.from_numpy(random.uniform(-0.1, 0.1, (len(batch), 1, 1, 1)).astype(np.float32))
    return batch * gain + lift, where


def normalised(images: NDArray[np.uint8]) -> Tensor:
    """Pixels of shape (studies, 1, side, side), about -2 to 2."""
    middle = (images.shape[1] - SIDE) // 2
    cut = images[:, middle : middle + SIDE, middle : middle + SIDE]
    return (torch.from_numpy(cut.copy())[:, None].float() / 255 - 0.5) / 0.25


def network(name: str, findings: int, masks: bool) -> nn.Module:
    """A classifier of grey images: an embedded backbone, or a timm model with random weights."""
    if masks:
        return localizer.Localizer(name, findings).to(memory_format=torch.channels_last)
    if name in BACKBONES:
        card = backbone_card(name)
        found, _ = build_backbone(card, findings)
        bf16_attention.install(found)
        return nn.Sequential(Repeat(card.channels), found)
    model: nn.Module = timm.create_model(name, in_chans=1, num_classes=findings)
    return model.to(memory_format=torch.channels_last)


class Repeat(nn.Module):
    """Repeats the grey channel for a network with several input channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """Shape (studies, channels, side, side)."""
        return x.expand(-1, self.channels, -1, -1)


def predict(model: nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits of shape (studies, findings)."""
    model.eval()
    with torch.inference_mode():
        found = [model(normalised(images[i : i + 256])) for i in range(0, len(images), 256)]
    return torch.cat([one[0] if isinstance(one, tuple) else one for one in found]).numpy()


def listed(findings: Sequence[str], each: Each) -> str:
    """AUROC of each finding, for the log."""
    return ", ".join(f"{name} {auroc:.3f}" for name, auroc in zip(findings, each, strict=True))


def log(line: str) -> None:
    """Print a line on standard error at once."""
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Print the AUROCs as JSON, and one line per epoch on standard error."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="phantom-14")
    parser.add_argument("--images", type=int, default=16_000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--masks", action="store_true")
    parser.add_argument("--workspace", type=Path)
    given = parser.parse_args()
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    cache = open_workspace(given.workspace).cache
    shipped = Phantom(given.data)
    many = collect_images.phantoms(given.images) if given.data == "phantom-14" else shipped

    def split(dataset: ChestDataset, name: str) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        ids = dataset.ids(name)
        return collect_images.gather(dataset, ids, cache, SIDE), dataset.labels(ids)

    train, val, test = split(many, "train"), split(shipped, "val"), split(shipped, "test")
    probe = pixel_probe(train, val, test)
    log(f"pixel probe {macro(probe):.4f}: {listed(shipped.findings, probe)}")
    if not given.epochs:
        return

    where = None
    if given.masks:
        ids, side = many.ids("train"), train[0].shape[1] // 2
        where = localizer.masks(
            many, ids, side, cache / f"masks-{many.name}-{many.reader_version}-{len(ids)}.npy"
        )
    model = network(given.network, len(shipped.findings), given.masks)
    steps = given.epochs * (len(train[0]) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=given.lr, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, given.lr, total_steps=steps)
    fast = precision.multiplies_bf16()
    each = np.zeros(len(shipped.findings))
    for epoch in range(given.epochs):
        model.train()
        started, losses = time.monotonic(), []
        order = random.permutation(len(train[0]))[: len(train[0]) // BATCH * BATCH]
        for part in order.reshape(-1, BATCH):
            inputs, shown = augmented(
                train[0][part], None if where is None else where[part], random
            )
            with torch.autocast("cpu", torch.bfloat16, enabled=fast):
                found = model(inputs.contiguous(memory_format=torch.channels_last))
            logits = found if shown is None else found[0]
            loss = nn.functional.binary_cross_entropy_with_logits(
                logits.float(), torch.from_numpy(train[1][part])
            )
            if shown is not None:
                loss = loss + localizer.place_loss(found[1], shown)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        each = per_finding(test[1], predict(model, test[0]))
        val_auroc = macro(per_finding(val[1], predict(model, val[0])))
        log(
            f"epoch {epoch + 1}: loss {np.mean(losses):.4f}, validation {val_auroc:.4f}, "
            f"test {macro(each):.4f}, {time.monotonic() - started:.0f} s: "
            f"{listed(shipped.findings, each)}"
        )
    print(json.dumps({
        "training images": len(train[0]),
        "pixel probe": round(macro(probe), 4),
        given.network + (" with masks" if given.masks else ""): round(macro(each), 4),
        "per finding": {
            name: [round(float(a), 3), round(float(b), 3)]
            for name, a, b in zip(shipped.findings, probe, each, strict=True)
        },
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
