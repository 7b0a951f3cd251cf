"""Joint training of four LoRA ranks, compared with training one after the other."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from core.benchmarks.measurement import REPEATS, Row, device_name, in_new_process, median
from core.config.run import RunSpec
from core.reporter import NullReporter

RANKS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Sweep:
    """Size of the runs of the sweep.

    Attributes:
        backbone: Name of a backbone; its weights are random, which costs the same.
        size: Side of the input in pixels.
        train: Images of the training split.
        held: Images of the validation split, and of the test split.
        epochs: Epochs per run.
        batch: Images per step.
        repeats: Number of measurements per side.
    """

    backbone: str
    size: int = 224
    train: int = 128
    held: int = 32
    epochs: int = 2
    batch: int = 16
    repeats: int = REPEATS


def seconds(folder: Path, shape: Sweep, together: bool) -> list[float]:
    """Seconds of all runs, from opening the data set to the test AUROC, with decoded images.

    Args:
        folder: Folder for the runs and the cache.
        shape: Size of the runs.
        together: Train jointly; otherwise one after the other.
    """
    from core.data.datasets.write_folder import save
    from core.data.phantoms.dataset import Phantom
    from core.runs.joint_worker import Member
    from core.training.joint.run import run_together
    from core.training.loop import fine_tune

    root, cache = folder / "images", folder / "cache"
    counts = {"train": shape.train, "val": shape.held, "test": shape.held}
    save(Phantom("phantom-14", size=128, **counts), root)
    # Runs with one seed have the same random frozen weights, which joint training needs.
    specs = [
        RunSpec.of(**{
            "data.name": "folder", "data.root": root, "data.label_fraction": 1.0,
            "model.backbone": shape.backbone, "model.pretrained": False,
            "model.input_size": shape.size, "adapter.rank": rank, "train.epochs": shape.epochs,
            "train.batch_size": shape.batch, "train.augmentation": "none",
        }).resolved()
        for rank in RANKS
    ]  # fmt: skip
    times = []
    for turn in range(shape.repeats + 1):  # the first one decodes the images and is not measured
        places = [folder / f"{turn}-{spec.adapter.rank}" for spec in specs]
        started = time.perf_counter()
        if together:
            pairs = zip(specs, places, strict=True)
            for _, end in run_together(
                [Member(spec, at, NullReporter()) for spec, at in pairs], cache
            ):
                end()
        else:
            for spec, at in zip(specs, places, strict=True):
                fine_tune(spec, at, cache, NullReporter())
        times.append(time.perf_counter() - started)
    return times[1:]


def rows(shapes: dict[str, Sweep]) -> list[Row]:
    """Compare joint training of all ranks with training one after the other, the baseline."""
    table = []
    for name, shape in shapes.items():
        sides = []
        for together in (True, False):
            with tempfile.TemporaryDirectory() as folder:
                sides.append(median(in_new_process(seconds, Path(folder), shape, together)))
        (ours, spread), (baseline, baseline_spread) = sides
        more = {"spread": spread, "baseline_spread": baseline_spread}
        table.append(Row(f"together/{name}/4", ours, baseline, "s", device_name(), more=more))
    return table
