"""A folder of PNG files, drawn as phantoms, with the size of the paper's smallest task."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from core.benchmarks.measurement import cores
from core.data.phantoms.dataset import Phantom

NOISE = 1.0
"""Standard deviation of the noise, so that a PNG of 1024 px has 400 kB as in NIH ChestX-ray14."""


@dataclass(frozen=True)
class Shape:
    """Size of a task; by default a tenth of the paper's 785 and 11,219 NIH images.

    Attributes:
        train: Training images.
        val: Validation images.
        epochs: Passes over the training images; the paper has 100.
        side: Side of the PNG files in pixels.
        size: Side of the model's input in pixels.
        batch: Images per step.
        backbone: Backbone of all sides.
        rank: Rank of LoRA.
        lr: Peak learning rate.
        workers: Worker processes of the baselines' loaders, by default one per core.
        seed: Seed of the new weights, the order of the images and their crops.
    """

    train: int = 78
    val: int = 1122
    epochs: int = 10
    side: int = 1024
    size: int = 224
    batch: int = 64
    backbone: str = "embedded-mae"
    rank: int = 4
    lr: float = 1e-3
    workers: int = field(default_factory=cores)
    seed: int = 0


def write(root: Path, shape: Shape) -> None:
    """Write the images and their table, ``labels.csv``.

    There are also 16 test images: without a test split, one would be drawn from the training
    images.
    """
    drawn = Phantom("phantom-14", seed=91, train=shape.train, val=shape.val, test=16)
    (root / "images").mkdir(parents=True)
    ids = list(drawn.table.index)
    parts = [(drawn, root, shape.side, ids[i :: cores()]) for i in range(cores())]
    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(_write, parts))
    table = drawn.table.reset_index(names="path")
    table["path"] = [f"images/{study}.png" for study in ids]
    columns = ["path", "patient", "split", *drawn.findings]
    table[columns].to_csv(root / "labels.csv", index=False)


def read(root: Path, split: str) -> tuple[list[Path], NDArray[np.float32], tuple[str, ...]]:
    """Files, labels of shape (images, findings) and findings of one split."""
    table = pd.read_csv(root / "labels.csv")
    findings = tuple(name for name in table.columns if name not in ("path", "patient", "split"))
    part = table[table["split"] == split]
    return (
        [root / path for path in part["path"]],
        part[list(findings)].to_numpy(np.float32),
        findings,
    )


def _write(part: tuple[Phantom, Path, int, list[str]]) -> None:
    drawn, root, side, ids = part
    for study in ids:
        random = np.random.default_rng([7, *study.encode()])
        small = Image.fromarray(drawn.read(study))
        large = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC), np.float32)
        noisy = np.clip(large + random.normal(0, NOISE, large.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(root / "images" / f"{study}.png", compress_level=3)
