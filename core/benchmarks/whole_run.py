"""A whole run of the size of the paper's NIH 1% task: from PNG files to the best epoch's AUROC."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from core.benchmarks import conventional_loop, hf_trainer, png_folder
from core.benchmarks.measurement import Row, device_name, in_new_process, median, peak_bytes
from core.benchmarks.png_folder import Shape
from core.config.run import RunSpec
from core.reporter import NullReporter

BASELINES = {"loop": conventional_loop.train, "trainer": hf_trainer.train}


class Clock(NullReporter):
    """Records the end of each epoch, and the time spent on preparing images."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.preparing = 0.0
        self._phase, self._since = "", time.perf_counter()

    def metric(self, name: str, value: float, *, epoch: float, step: int) -> None:
        """The last value of each epoch marks its end."""
        if name == "train/images_per_s":
            self.ends.append(time.perf_counter())

    def progress(self, fraction: float, seconds_left: float | None, phase: str) -> None:
        """Add the time since the last call if images were prepared in it."""
        now = time.perf_counter()
        if self._phase.startswith("preparing"):
            self.preparing += now - self._since
        self._phase, self._since = phase, now


VALIDATION = {"": "every-epoch", "/budget": "budget"}
"""Validation of this software's runs, by row suffix: like the baselines, or by budget."""


def specification(root: Path, shape: Shape, validation: str = "every-epoch") -> RunSpec:
    """Specification of this software's run."""
    return RunSpec.of(**{
        "data.name": "folder", "data.root": root, "data.label_fraction": 1.0,
        "model.backbone": shape.backbone, "model.input_size": shape.size,
        "adapter.method": "lora", "adapter.rank": shape.rank, "adapter.dropout": 0.1,
        "train.epochs": shape.epochs, "train.batch_size": shape.batch, "train.lr": shape.lr,
        "train.augmentation": "crop-flip", "train.validation": validation, "train.seed": shape.seed,
    })  # fmt: skip


def train(root: Path, shape: Shape, validation: str = "every-epoch") -> dict[str, Any]:
    """This software's run; the measured time includes the decoding of the images.

    Returns:
        The same as the baselines, and ``cache_seconds``, the time spent on decoding.
    """
    from core.training.loop import fine_tune

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        started = time.perf_counter()
        result = fine_tune(
            specification(root, shape, validation), base / "run", base / "cache", clock
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
    """Compare total time and median epoch with each baseline, for both kinds of validation."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "png"
        png_folder.write(root, shape)
        ours = {
            suffix: in_new_process(train, root, shape, validation)
            for suffix, validation in VALIDATION.items()
        }
        baselines = {name: in_new_process(side, root, shape) for name, side in BASELINES.items()}
    table = []
    for suffix, own in ours.items():
        for name, baseline in baselines.items():
            more = {
                "epochs": shape.epochs, "auroc": own["auroc"], "baseline_auroc": baseline["auroc"],
                "peak_bytes": own["peak_bytes"], "baseline_peak_bytes": baseline["peak_bytes"],
            }  # fmt: skip
            whole = {**more, "cache_seconds": own["cache_seconds"]}
            sides = own["seconds"], baseline["seconds"]
            table.append(Row(f"end-to-end/{name}{suffix}", *sides, "s", device_name(), more=whole))
            if own["epochs"]:
                epoch, spread = median(own["epochs"])
                baseline_epoch, baseline_spread = median(baseline["epochs"])
                spreads = {"spread": spread, "baseline_spread": baseline_spread}
                sides = epoch, baseline_epoch
                table.append(
                    Row(f"epoch/{name}{suffix}", *sides, "s", device_name(), more=more | spreads)
                )
    return table
