"""A whole run of the study's "NIH 1%" shape: from PNG files to the best epoch's AUROC."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from core.benchmarks import conventional_loop, hf_trainer, png_folder
from core.benchmarks.measurement import Row, apart, device, middle, peak_bytes
from core.benchmarks.png_folder import Shape
from core.config.run import RunSpec
from core.reporter import NullReporter

BASELINES = {"loop": conventional_loop.train, "trainer": hf_trainer.train}


class Clock(NullReporter):
    """Notes when epochs end, and how long pictures were prepared."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.preparing = 0.0
        self._phase, self._since = "", time.perf_counter()

    def metric(self, name: str, value: float, *, epoch: float, step: int) -> None:
        """An epoch is over when the last score is told that each has."""
        if name == "train/images_per_s":
            self.ends.append(time.perf_counter())

    def progress(self, fraction: float, seconds_left: float | None, phase: str) -> None:
        """Add up the time since the last call, if pictures were prepared in it."""
        now = time.perf_counter()
        if self._phase.startswith("preparing"):
            self.preparing += now - self._since
        self._phase, self._since = phase, now


WAYS = {"": "every-epoch", "/budget": "budget"}
"""How our side validates, by the ending of a row's name: as the baselines do, or by budget."""


def specification(root: Path, shape: Shape, validation: str = "every-epoch") -> RunSpec:
    """Our side of it."""
    return RunSpec.of(**{
        "data.name": "folder", "data.root": root, "data.label_fraction": 1.0,
        "model.backbone": shape.backbone, "model.input_size": shape.size,
        "adapter.method": "lora", "adapter.rank": shape.rank, "adapter.dropout": 0.1,
        "train.epochs": shape.epochs, "train.batch_size": shape.batch, "train.lr": shape.lr,
        "train.augmentation": "crop-flip", "train.validation": validation, "train.seed": shape.seed,
    })  # fmt: skip


def train(root: Path, shape: Shape, validation: str = "every-epoch") -> dict[str, Any]:
    """Our run, with the cache built inside the time; returns what the baselines do.

    Beside it ``cache_seconds``, what of the time went into decoding, once.
    """
    from core.training.loop import fine_tune

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        started = time.perf_counter()
        result = fine_tune(
            specification(root, shape, validation), place / "run", place / "cache", clock
        )
        seconds = time.perf_counter() - started
    between = [later - end for end, later in zip(clock.ends, clock.ends[1:], strict=False)]
    return {
        "seconds": seconds,
        "epochs": between,
        "auroc": result["best_auroc"],
        "peak_bytes": peak_bytes(),
        "cache_seconds": clock.preparing,
    }


def rows(shape: Shape) -> list[Row]:
    """Ours, by either way to validate, against each baseline: whole time, and the median epoch."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "png"
        png_folder.write(root, shape)
        ours = {ending: apart(train, root, shape, way) for ending, way in WAYS.items()}
        others = {name: apart(other, root, shape) for name, other in BASELINES.items()}
    found = []
    for ending, mine in ours.items():
        for name, theirs in others.items():
            shared = {
                "epochs": shape.epochs, "auroc": mine["auroc"], "baseline_auroc": theirs["auroc"],
                "peak_bytes": mine["peak_bytes"], "baseline_peak_bytes": theirs["peak_bytes"],
            }  # fmt: skip
            whole = {**shared, "cache_seconds": mine["cache_seconds"]}
            sides = mine["seconds"], theirs["seconds"]
            found.append(Row(f"end-to-end/{name}{ending}", *sides, "s", device(), more=whole))
            if mine["epochs"]:
                middling, spread = middle(mine["epochs"])
                others_middle, others_spread = middle(theirs["epochs"])
                told = {**shared, "spread": spread, "baseline_spread": others_spread}
                sides = middling, others_middle
                found.append(Row(f"epoch/{name}{ending}", *sides, "s", device(), more=told))
    return found
