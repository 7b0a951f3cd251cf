"""A folder of PNG files in the shape of the study's smallest task, drawn by the phantoms."""

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
"""Deviation of the noise that gives a PNG of 1024 px the size of NIH ChestX-ray14's, 400 kB."""


@dataclass(frozen=True)
class Shape:
    """How much there is to do; by default a tenth of the study's 785 and 11,219 NIH pictures.

    Attributes:
        train: Training pictures.
        val: Validation pictures.
        epochs: Passes over the training pictures; the study has 100.
        side: Side of the PNG files in pixels.
        size: Side of the model's input in pixels.
        batch: Pictures a step.
        backbone: The model that all sides begin with.
        rank: Of LoRA.
        lr: Peak learning rate.
        workers: Processes of the baselines' loaders, by default one a core.
        seed: Of the new weights, the order of the pictures and their crops.
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
    """Write the pictures and their table, ``labels.csv``.

    Besides training and validation there are 16 test pictures, since a folder without any has some
    drawn from its training part.
    """
    drawn = Phantom("phantom-14", seed=91, train=shape.train, val=shape.val, test=16)
    (root / "images").mkdir(parents=True)
    ids = list(drawn.table.index)
    parts = [(drawn, root, shape.side, ids[i :: cores()]) for i in range(cores())]
    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(_write, parts))
    table = drawn.table.reset_index(names="path")
    table["path"] = [f"images/{one}.png" for one in ids]
    wanted = ["path", "patient", "split", *drawn.findings]
    table[wanted].to_csv(root / "labels.csv", index=False)


def read(root: Path, split: str) -> tuple[list[Path], NDArray[np.float32], tuple[str, ...]]:
    """Files, labels of shape (pictures, findings) and findings of one split."""
    table = pd.read_csv(root / "labels.csv")
    findings = tuple(one for one in table.columns if one not in ("path", "patient", "split"))
    part = table[table["split"] == split]
    return [root / one for one in part["path"]], part[list(findings)].to_numpy(np.float32), findings


def _write(part: tuple[Phantom, Path, int, list[str]]) -> None:
    drawn, root, side, ids = part
    for one in ids:
        random = np.random.default_rng([7, *one.encode()])
        small = Image.fromarray(drawn.read(one))
        large = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC), np.float32)
        noisy = np.clip(large + random.normal(0, NOISE, large.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(root / "images" / f"{one}.png", compress_level=3)
