"""Whether speed costs accuracy: the best AUROC of the same task by our run and by the baselines."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.benchmarks import png_folder, whole_run
from core.benchmarks.measurement import REPEATS, Row, apart, device
from core.benchmarks.png_folder import Shape
from core.metrics.seed_tests import seeds_paired

TASK = Shape(train=400, val=300, epochs=8, side=256, size=128, batch=16, lr=2e-3)
"""Small enough for several seeds, and long enough that every side learns something."""


def rows(task: Shape = TASK, seeds: int = REPEATS) -> list[Row]:
    """The mean best validation AUROC of ours against each baseline's.

    The pictures are the same throughout; a seed decides the new weights, the order and the crops.
    All sides validate after every epoch: what a budget costs, ``tests.benchmarks.validation``
    tells, and this task is so small that one would allow all of it.

    Args:
        task: What is trained.
        seeds: How many times.

    Returns:
        A row for each baseline; ``difference_spread`` is the 95% interval of
        ours − baseline over the seeds.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "png"
        png_folder.write(root, task)
        shapes = [replace(task, seed=seed) for seed in range(seeds)]

        def each(side: Any) -> list[float]:
            return [apart(side, root, shape)["auroc"] for shape in shapes]

        ours = each(whole_run.train)
        others = {name: each(side) for name, side in whole_run.BASELINES.items()}
    return [_row(f"auroc/{name}", ours, theirs) for name, theirs in others.items()]


def _row(name: str, mine: list[float], theirs: list[float]) -> Row:
    between = seeds_paired(mine, theirs).difference
    more = {
        "spread": (min(mine), max(mine)),
        "baseline_spread": (min(theirs), max(theirs)),
        "difference_spread": (between.low, between.high),
        "each": mine,
        "baseline_each": theirs,
    }
    means = sum(mine) / len(mine), sum(theirs) / len(theirs)
    return Row(name, *means, "AUROC", device(), "higher", more)
