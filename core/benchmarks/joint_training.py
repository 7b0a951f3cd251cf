"""Four ranks of LoRA trained together, against one after the other."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from core.benchmarks.measurement import REPEATS, Row, apart, device, middle
from core.config.run import RunSpec
from core.reporter import NullReporter

RANKS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Sweep:
    """What is trained with each rank.

    Attributes:
        backbone: Name of a backbone, with random weights: they cost the same.
        size: Side of the input in pixels.
        train: Pictures of the training split.
        held: Pictures of the validation and of the test split, each.
        epochs: Length of each run.
        batch: Pictures a step.
        repeats: Times that each side is measured.
    """

    backbone: str
    size: int = 224
    train: int = 128
    held: int = 32
    epochs: int = 2
    batch: int = 16
    repeats: int = REPEATS


def seconds(folder: Path, shape: Sweep, together: bool) -> list[float]:
    """Times of all runs from opening the data set to the test AUROC; the pictures are prepared.

    Args:
        folder: Where the runs and the cache are written.
        shape: What is trained.
        together: Whether in the same forward passes, or one after the other.
    """
    from core.data.datasets.write_folder import save
    from core.data.phantoms.dataset import Phantom
    from core.runs.joint_worker import Member
    from core.training.loop import fine_tune
    from core.training.joint.run import run_together

    root, cache = folder / "pictures", folder / "cache"
    counts = {"train": shape.train, "val": shape.held, "test": shape.held}
    save(Phantom("phantom-14", size=128, **counts), root)
    # Ranks of one seed share their frozen weights; what each adapter and head starts from, too.
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
    for turn in range(shape.repeats + 1):  # the first prepares the pictures and does not count
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
    """Ours is all ranks together, the baseline one after the other."""
    found = []
    for name, shape in shapes.items():
        sides = []
        for together in (True, False):
            with tempfile.TemporaryDirectory() as folder:
                sides.append(middle(apart(seconds, Path(folder), shape, together)))
        (mine, spread), (theirs, others_spread) = sides
        told = {"spread": spread, "baseline_spread": others_spread}
        found.append(Row(f"together/{name}/4", mine, theirs, "s", device(), more=told))
    return found
